//! The folder that a run writes into: whose it is, and how files come to lie in it whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::interrupt;

/// Name of the file that says what a finished run did.
pub const MANIFEST: &str = "manifest.json";

/// Name of the file that marks a folder as written by this program, from the start of the first run on.
const MARK: &str = ".engine.json";

/// The content of the mark.
#[derive(Serialize, Deserialize)]
struct Mark {
    program: String,
    version: String,
    /// The scene that the folder's maps belong to.
    scene: PathBuf,
}

/// An output folder that this run may write into.
#[derive(Clone, Debug)]
pub struct OutputFolder {
    path: PathBuf,
}

impl OutputFolder {
    /// Creates the folder, or takes over one that is empty or that an earlier run on the same scene has left.
    ///
    /// # Errors
    /// A folder that cannot be created or written into; one that holds anything else, or the results of another
    /// scene, unless `force`.
    pub fn claim(path: &Path, scene: &Path, force: bool) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io("create the output folder", path))?;
        let scene = std::path::absolute(scene).map_err(Error::io("resolve the scene's path", scene))?;
        let scene = scene.canonicalize().unwrap_or(scene);
        let mut entries = std::fs::read_dir(path).map_err(Error::io("read the output folder", path))?;
        if entries.next().is_some() && !force {
            let place = format!("output folder {}", path.display());
            match read_mark(path) {
                None => {
                    return Err(Error::input(
                        place,
                        "it is not empty and was not made by engine",
                        "an empty or new folder (-o OUT), or --force to write into this one",
                    ));
                }
                Some(mark) if mark.scene != scene => {
                    return Err(Error::input(
                        place,
                        format!("it holds the results of another scene, {}", mark.scene.display()),
                        "an empty or new folder (-o OUT), or --force to replace them",
                    ));
                }
                Some(_) => {}
            }
        }
        let folder = Self { path: path.to_owned() };
        let mark = Mark { program: "engine".into(), version: env!("CARGO_PKG_VERSION").into(), scene };
        write_json(&folder.path.join(MARK), "write into the output folder", &mark)?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in a folder below, which is created where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub fn file(&self, folder: &str, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(folder);
        std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        Ok(folder.join(name))
    }
}

fn read_mark(path: &Path) -> Option<Mark> {
    let mark: Mark = serde_json::from_slice(&std::fs::read(path.join(MARK)).ok()?).ok()?;
    (mark.program == "engine").then_some(mark)
}

/// Where the results of `scene` go unless told otherwise: the folder `SCENE_engine` beside it.
///
/// # Errors
/// A scene that does not exist.
pub fn default_folder(scene: &Path) -> Result<PathBuf> {
    let full = scene.canonicalize().map_err(Error::io("open the scene", scene))?;
    let name = full.file_name().ok_or_else(|| {
        Error::input(scene.display().to_string(), "a folder without a name", "a place for the results: -o OUT")
    })?;
    let mut sibling = name.to_owned();
    sibling.push("_engine");
    // The path is kept as it was typed where that is possible: shorter to read in messages.
    Ok(match scene.file_name() {
        Some(typed) if typed == name => scene.with_file_name(sibling),
        _ => full.with_file_name(sibling),
    })
}

/// Writes a file under a temporary name in its folder and renames it: other programs see all of it or nothing.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write_whole(path: &Path, action: &'static str, bytes: &[u8]) -> Result<()> {
    let _guard = interrupt::writing();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Without this the file would be readable by its owner alone; the umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".engine-").tempfile_in(folder).map_err(Error::io(action, path))?;
    file.write_all(bytes).map_err(Error::io(action, path))?;
    file.persist(path).map_err(|e| e.error).map_err(Error::io(action, path))?;
    Ok(())
}

/// [`write_whole`] of a value as indented JSON.
///
/// # Errors
/// As [`write_whole`].
pub fn write_json(path: &Path, action: &'static str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::input(path.display().to_string(), e.to_string(), "values that JSON can hold"))?;
    text.push('\n');
    write_whole(path, action, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_lies_beside_the_scene() {
        let root = tempfile::tempdir().unwrap();
        let scene = root.path().join("bust");
        std::fs::create_dir(&scene).unwrap();
        assert_eq!(default_folder(&scene).unwrap(), root.path().join("bust_engine"));
        let dotted = default_folder(&scene.join(".")).unwrap();
        assert_eq!(dotted.file_name().unwrap(), "bust_engine");
        assert!(default_folder(&root.path().join("none")).is_err());
    }

    #[test]
    fn a_foreign_folder_and_another_scenes_results_are_not_mixed_with() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, out) = (root.path().join("a"), root.path().join("b"), root.path().join("out"));
        for folder in [&a, &b] {
            std::fs::create_dir(folder).unwrap();
        }
        OutputFolder::claim(&out, &a, false).unwrap();
        OutputFolder::claim(&out, &a, false).unwrap();
        let message = OutputFolder::claim(&out, &b, false).unwrap_err().to_string();
        assert!(message.contains("holds the results of another scene") && message.contains("--force"), "{message}");
        OutputFolder::claim(&out, &b, true).unwrap();

        let foreign = root.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
        let message = OutputFolder::claim(&foreign, &a, false).unwrap_err().to_string();
        assert!(message.contains("not empty and was not made by engine"), "{message}");
        OutputFolder::claim(&foreign, &a, true).unwrap();
        assert_eq!(std::fs::read_to_string(foreign.join("letter.txt")).unwrap(), "dear");
    }

    #[cfg(unix)]
    #[test]
    fn written_files_have_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let (ours, plain) = (root.path().join("ours"), root.path().join("plain"));
        write_whole(&ours, "write", b"x").unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
