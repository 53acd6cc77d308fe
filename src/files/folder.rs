//! The folder that a run writes into: whose it is, and how files come to lie in it whole or not at all.
//!
//! Every command that fills a folder claims it here. It marks the folder with a JSON file that says what the results in
//! it depend on; a later run of the command reads the mark and goes on, begins anew, or leaves the folder alone. What a
//! mark means is the command's own affair, and so are the files beside it.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::atomic::{TEMPORARY, write_whole};
use crate::files::input;
use crate::host::interrupt;

/// How the folders of one command are marked, and in what words they are refused.
pub struct FolderKind {
    /// Name of the file that marks a folder as the command's, from the start of the first run on.
    pub mark: &'static str,
    /// What a folder is called: `output folder`.
    pub called: &'static str,
    /// What is wrong with a folder of somebody else, and what is expected instead.
    pub foreign: (&'static str, &'static str),
    /// What the system did not let us do: list the folder, ...
    pub list: &'static str,
    /// ... create it, ...
    pub create: &'static str,
    /// ... and write the mark.
    pub write: &'static str,
    /// Names of files that a run leaves: a folder with nothing else is no foreign one, and a new run removes them.
    pub own: fn(&str) -> bool,
}

/// A folder that a command asks for.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The folder.
    pub path: &'a Path,
    /// Write into it whatever it holds.
    pub force: bool,
    /// The command's folders.
    pub kind: &'static FolderKind,
}

/// What a folder's mark says to a run that asks for the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An earlier run with the same options: its results stay.
    Same,
    /// An earlier run of no further use.
    Old,
    /// Not the mark of this command.
    Foreign,
}

/// A folder that a run may write into.
pub struct OutputFolder {
    path: PathBuf,
    kind: &'static FolderKind,
    mark: Value,
    goes_on: bool,
    /// Files of an earlier run that a claim removes.
    old: Vec<PathBuf>,
}

impl OutputFolder {
    /// Looks whether a run may write into the folder: it is missing or empty, or an earlier run has left it, as `judge`
    /// finds from the content of its mark. Changes nothing. `mark` will be the new mark.
    ///
    /// # Errors
    /// A folder that cannot be listed; unless forced, one that holds anything else, and what `judge` says.
    pub fn new(claim: Claim, mark: Value, judge: impl FnOnce(&[u8]) -> Result<Found>) -> Result<Self> {
        let Claim { path, force, kind } = claim;
        let mut folder = Self { path: path.to_owned(), kind, mark, goes_on: false, old: Vec::new() };
        let entries = match std::fs::read_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(folder),
            entries => entries.map_err(Error::io(kind.list, path))?,
        };
        let mut holds_others = false;
        for entry in entries {
            let entry = entry.map_err(Error::io(kind.list, path))?;
            match entry.file_name().to_str().is_some_and(kind.own) {
                true => folder.old.push(entry.path()),
                false => holds_others = true,
            }
        }
        let mark = path.join(kind.mark);
        let found = match mark.exists() {
            true => input::read(&mark, "read the mark").and_then(|bytes| judge(&bytes)),
            false => Ok(Found::Foreign),
        };
        match found {
            Ok(Found::Same) => folder.goes_on = true,
            Err(error) if !force => return Err(error),
            Ok(Found::Foreign) if holds_others && !force => {
                let (found, expected) = kind.foreign;
                return Err(Error::input(format!("{} {}", kind.called, path.display()), found, expected));
            }
            _ => {}
        }
        Ok(folder)
    }

    /// For the results of the scene in the folder `scene`, which may lie beside those of an earlier run on it. Where
    /// the options name no folder it is the `default` one.
    ///
    /// # Errors
    /// A scene that does not exist; what `default` says; as [`Self::new`].
    pub fn of_scene(options: &OutputOptions, default: impl FnOnce() -> Result<PathBuf>, scene: &Path) -> Result<Self> {
        let path = options.out.clone().map_or_else(default, Ok)?;
        let scene = scene.canonicalize().map_err(Error::io("open the scene", scene))?;
        let (scene, called) = (in_json(&scene)?, format!("{} {}", RESULTS.called, in_json(&path)?));
        let mark = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "scene": scene });
        Self::new(Claim { path: &path, force: options.force, kind: &RESULTS }, mark, |mark| {
            let found: Value = serde_json::from_slice(mark).unwrap_or_default();
            match found["scene"].as_str().filter(|_| found["program"] == "engine") {
                None => Ok(Found::Foreign),
                Some(same) if same == scene => Ok(Found::Same),
                Some(other) => Err(Error::input(
                    called,
                    format!("it holds the results of another scene, {other}"),
                    "an empty or new folder (-o OUT), or --force to replace them",
                )),
            }
        })
    }

    /// Creates the folder where it is missing, removes what is in the way and writes the mark.
    ///
    /// # Errors
    /// A folder that cannot be created or written into.
    pub fn claim(&self) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(Error::io(self.kind.create, &self.path))?;
        for file in &self.old {
            remove(file, "remove the file of an earlier run")?;
        }
        remove_leftovers(&self.path, 3);
        write_json(&self.path.join(self.kind.mark), self.kind.write, &self.mark)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an earlier run with the same options has left the folder.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }
}

/// Where the results of a scene go.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// The folder; `None`: one beside the scene, or beside the maps.
    pub out: Option<PathBuf>,
    /// Write into a folder that holds other things.
    pub force: bool,
}

/// Folders with results of a scene.
const RESULTS: FolderKind = FolderKind {
    mark: ".engine.json",
    called: "output folder",
    foreign: (
        "it is not empty and was not made by engine",
        "an empty or new folder (-o OUT), or --force to write into this one",
    ),
    list: "use this as the output folder",
    create: "create the output folder",
    write: "write into the output folder",
    own: |_| false,
};

/// A path as files and events in JSON hold it.
///
/// # Errors
/// A name that is not UTF-8.
pub fn in_json(path: &Path) -> Result<&str> {
    let expected = "a name in UTF-8, which the results' JSON files can hold";
    path.to_str().ok_or_else(|| Error::input(path.display().to_string(), "a name that is not UTF-8", expected))
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

/// Takes away the temporary files of a run that was killed in the middle of writing. Files that were written to within
/// the last minute are left: they may belong to another run that is at work.
pub fn remove_leftovers(folder: &Path, depth: usize) {
    const AT_WORK: Duration = Duration::from_secs(60);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            remove_leftovers(&entry.path(), depth - 1);
        }
        let is_temporary = entry.file_name().to_str().is_some_and(is_temporary);
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if kind.is_file() && is_temporary && age.is_some_and(|age| age > AT_WORK) {
            // What cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a file's name is that of one that is being written.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// Removes a file, where there is one. `action` completes "cannot ..." in the error.
///
/// # Errors
/// The system's reason where it stays.
pub fn remove(path: &Path, action: &'static str) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(action, path)(e)),
        _ => Ok(()),
    }
}

/// Makes the folder that a file will lie in.
///
/// # Errors
/// The system's reason where it cannot be made.
pub fn make_folder_of(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

/// Writes a file with `write`, making its folder. The process does not end meanwhile at a signal.
///
/// # Errors
/// The system's reason where the folder cannot be made; what `write` says.
pub fn write_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    make_folder_of(path)?;
    let _guard = interrupt::writing();
    write(path)
}

/// Writes a value as indented JSON, whole or not at all, making the file's folder.
///
/// # Errors
/// The system's reason where it cannot be written.
pub fn write_json(path: &Path, action: &'static str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::input(path.display().to_string(), e.to_string(), "values that JSON can hold"))?;
    text.push('\n');
    write_file(path, |path| write_whole(path, action, |file| file.write_all(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(out: &Path, scene: &Path, force: bool) -> Result<OutputFolder> {
        OutputFolder::of_scene(&OutputOptions { out: Some(out.to_owned()), force }, || default_folder(scene), scene)
    }

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
        let folder = folder(&out, &scene, false).unwrap();
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
        for scene in [&a, &b] {
            std::fs::create_dir(scene).unwrap();
        }
        for goes_on in [false, true] {
            let found = folder(&out, &a, false).unwrap();
            assert_eq!(found.goes_on(), goes_on);
            found.claim().unwrap();
        }
        let refusal = |out: &Path, scene: &Path| folder(out, scene, false).err().unwrap().to_string();
        let message = refusal(&out, &b);
        assert!(message.contains("holds the results of another scene") && message.contains("--force"), "{message}");
        assert!(!folder(&out, &b, true).unwrap().goes_on());

        let foreign = root.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
        let message = refusal(&foreign, &a);
        assert!(message.contains("not empty and was not made by engine"), "{message}");
        folder(&foreign, &a, true).unwrap().claim().unwrap();
        assert_eq!(std::fs::read_to_string(foreign.join("letter.txt")).unwrap(), "dear");
    }
}
