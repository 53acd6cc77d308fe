//! The folder that a run writes into: whose it is, and how files come to lie in it whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::atomic::{TEMPORARY, write_whole};
use crate::files::input;
use crate::host::interrupt;

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
    scene: PathBuf,
}

impl OutputFolder {
    /// Looks whether results of `scene` may go into the folder: it is missing or empty, or an earlier run on the same
    /// scene has left it. Changes nothing.
    ///
    /// # Errors
    /// A folder that cannot be read, or that holds anything else, unless `force`.
    pub fn new(path: &Path, scene: &Path, force: bool) -> Result<Self> {
        let scene = scene.canonicalize().map_err(Error::io("open the scene", scene))?;
        let folder = Self { path: path.to_owned(), scene };
        let mut entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(folder),
            Err(e) => return Err(Error::io("use this as the output folder", path)(e)),
        };
        if force || entries.next().is_none() {
            return Ok(folder);
        }
        let place = format!("output folder {}", path.display());
        match read_mark(path) {
            None => Err(Error::input(
                place,
                "it is not empty and was not made by engine",
                "an empty or new folder (-o OUT), or --force to write into this one",
            )),
            Some(mark) if mark.scene != folder.scene => Err(Error::input(
                place,
                format!("it holds the results of another scene, {}", mark.scene.display()),
                "an empty or new folder (-o OUT), or --force to replace them",
            )),
            Some(_) => Ok(folder),
        }
    }

    /// Creates the folder where it is missing and marks it as this scene's.
    ///
    /// # Errors
    /// A folder that cannot be created or written into.
    pub fn claim(&self) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(Error::io("create the output folder", &self.path))?;
        remove_leftovers(&self.path, 3);
        let mark =
            Mark { program: "engine".into(), version: env!("CARGO_PKG_VERSION").into(), scene: self.scene.clone() };
        write_json(&self.path.join(MARK), "write into the output folder", &mark)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes away the temporary files of a run that was killed in the middle of writing. Files that were written to within
/// the last minute are left: they may belong to another run that is at work.
pub fn remove_leftovers(folder: &Path, depth: usize) {
    const AT_WORK: Duration = Duration::from_secs(60);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            remove_leftovers(&entry.path(), depth - 1);
        }
        let name = entry.file_name();
        let is_temporary = name.to_str().is_some_and(|n| n.starts_with(TEMPORARY.0) && n.ends_with(TEMPORARY.1));
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if kind.is_file() && is_temporary && age.is_some_and(|age| age > AT_WORK) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn read_mark(path: &Path) -> Option<Mark> {
    let mark: Mark = serde_json::from_slice(&input::read(&path.join(MARK), "read the mark").ok()?).ok()?;
    (mark.program == "engine").then_some(mark)
}

/// Where the results of `scene` go unless told otherwise: the folder `SCENE_engine` beside it.
///
/// # Errors
/// A scene that does not exist.
pub fn default_folder(scene: &Path) -> Result<PathBuf> {
    sibling(scene, "_engine")
}

/// The folder beside `folder` whose name has `suffix` added.
///
/// # Errors
/// A folder that does not exist, or the root of a file system.
pub fn sibling(folder: &Path, suffix: &str) -> Result<PathBuf> {
    let full = folder.canonicalize().map_err(Error::io("open the folder", folder))?;
    let name = full.file_name().ok_or_else(|| {
        Error::input(folder.display().to_string(), "a folder without a name", "a place for the results: -o OUT")
    })?;
    let mut longer = name.to_owned();
    longer.push(suffix);
    // The path is kept as it was typed where that is possible: shorter to read in messages.
    Ok(match folder.file_name() {
        Some(typed) if typed == name => folder.with_file_name(longer),
        _ => full.with_file_name(longer),
    })
}

/// Makes the folder that a file will lie in.
///
/// # Errors
/// The system's reason where it cannot be made.
pub fn make_folder_of(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

/// Writes a value as indented JSON, whole or not at all, making the file's folder.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write_json(path: &Path, action: &'static str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::input(path.display().to_string(), e.to_string(), "values that JSON can hold"))?;
    text.push('\n');
    make_folder_of(path)?;
    let _guard = interrupt::writing();
    write_whole(path, action, |file| file.write_all(text.as_bytes()))
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
    fn what_a_killed_run_was_writing_is_taken_away_but_not_what_is_being_written() {
        let root = tempfile::tempdir().unwrap();
        let (scene, out) = (root.path().join("scene"), root.path().join("out"));
        std::fs::create_dir(&scene).unwrap();
        let folder = OutputFolder::new(&out, &scene, false).unwrap();
        folder.claim().unwrap();
        let maps = out.join("levels/0/depth");
        std::fs::create_dir_all(&maps).unwrap();
        for name in [".engine-old.part", ".engine-new.part", "old.pfm"] {
            let file = std::fs::File::create(maps.join(name)).unwrap();
            if name.contains("old") {
                file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
            }
        }
        folder.claim().unwrap();
        let left = [".engine-old.part", ".engine-new.part", "old.pfm"].map(|name| maps.join(name).exists());
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn a_foreign_folder_and_another_scenes_results_are_not_mixed_with() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, out) = (root.path().join("a"), root.path().join("b"), root.path().join("out"));
        for folder in [&a, &b] {
            std::fs::create_dir(folder).unwrap();
        }
        OutputFolder::new(&out, &a, false).unwrap().claim().unwrap();
        OutputFolder::new(&out, &a, false).unwrap().claim().unwrap();
        let message = OutputFolder::new(&out, &b, false).unwrap_err().to_string();
        assert!(message.contains("holds the results of another scene") && message.contains("--force"), "{message}");
        OutputFolder::new(&out, &b, true).unwrap();

        let foreign = root.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
        let message = OutputFolder::new(&foreign, &a, false).unwrap_err().to_string();
        assert!(message.contains("not empty and was not made by engine"), "{message}");
        OutputFolder::new(&foreign, &a, true).unwrap().claim().unwrap();
        assert_eq!(std::fs::read_to_string(foreign.join("letter.txt")).unwrap(), "dear");
    }
}
