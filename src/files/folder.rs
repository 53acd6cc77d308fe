//! The folder that a run writes into: whose it is, and how files come to lie in it whole or not at all.
//!
//! Every command that fills a folder claims it here. It marks the folder with a JSON file that says what the results in
//! it depend on; a later run of the command reads the mark and goes on, begins anew, or leaves the folder alone. What a
//! mark means is the command's own affair, and so are the files beside it. A run keeps the folder locked ([`lock`])
//! from before it looks at earlier results until it ends.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::atomic::{TEMPORARY, write_whole};
use crate::files::lock::{self, FolderLock, Mode};
use crate::files::names::{from_json, in_json};
use crate::files::{input, mirror};
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
    /// Names that a run leaves: a folder with nothing else is no foreign one. A run that does not go on from them
    /// removes them, but only if forced.
    pub own: fn(&str) -> bool,
    /// What is expected instead of a folder with such names and no run to go on with.
    pub own_left: &'static str,
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
    /// What an earlier run has left and a claim removes.
    old: Vec<PathBuf>,
    lock: Option<FolderLock>,
}

impl OutputFolder {
    /// Looks whether a run may write into the folder: it is missing or empty, or an earlier run has left it, as `judge`
    /// finds from the content of its mark. Such a folder is locked; a new or empty one, where nothing is to be found,
    /// is left as it is until [`Self::claim`]. `mark` will be the new mark.
    ///
    /// # Errors
    /// A folder that cannot be listed or that another run is at work in; unless forced, one that holds anything else,
    /// and what `judge` says.
    pub fn new(claim: Claim, mark: Value, judge: impl FnOnce(&[u8]) -> Result<Found>) -> Result<Self> {
        let Claim { path, force, kind } = claim;
        let mut folder = Self { path: path.to_owned(), kind, mark, goes_on: false, old: Vec::new(), lock: None };
        let entries = match std::fs::read_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(folder),
            entries => entries.map_err(Error::io(kind.list, path))?,
        };
        let (mut holds_others, mut left) = (false, Vec::new());
        for entry in entries {
            let entry = entry.map_err(Error::io(kind.list, path))?;
            match entry.file_name().to_str() {
                Some(lock::LOCK) => {}
                Some(name) if (kind.own)(name) => {
                    if name != kind.mark && !is_temporary(name) {
                        left.push(name.to_owned());
                    }
                    folder.old.push(entry.path());
                }
                // The mark of a run that is just beginning, under the name that it has until it is whole.
                Some(name) if is_temporary(name) => {}
                _ => holds_others = true,
            }
        }
        let mark_file = folder.mark_file();
        let read = || match mark_file.exists() {
            true => input::read(&mark_file, "read the mark").map(Some),
            false => Ok(None),
        };
        let before = read();
        let found = match &before {
            Ok(Some(mark)) => judge(mark),
            Ok(None) => Ok(Found::Foreign),
            Err(_) if force => Ok(Found::Old),
            Err(_) => return before.map(|_| folder),
        };
        let place = folder.place();
        let refuse = |found: String, expected: &str| Err(Error::input(&place, found, expected));
        match found {
            Ok(Found::Same) => folder.goes_on = true,
            Err(error) if !force => return Err(error),
            Ok(Found::Foreign) if holds_others && !force => return refuse(kind.foreign.0.into(), kind.foreign.1),
            _ if !left.is_empty() && !force => {
                left.sort();
                let found = format!("it holds {} of a run that cannot go on", left.join(", "));
                return refuse(found, kind.own_left);
            }
            _ => {}
        }
        if !holds_others && !matches!(before, Ok(Some(_))) {
            return Ok(folder);
        }
        folder.lock = Some(folder.locked()?);
        match (before, read()) {
            (Ok(before), Ok(now)) if before != now => Err(folder.taken()),
            _ => Ok(folder),
        }
    }

    fn mark_file(&self) -> PathBuf {
        self.path.join(self.kind.mark)
    }

    /// For messages.
    fn place(&self) -> String {
        format!("{} {}", self.kind.called, self.path.display())
    }

    fn locked(&self) -> Result<FolderLock> {
        FolderLock::acquire(&self.path, Mode::Alone, self.kind.called, self.kind.write)
    }

    /// Somebody was faster.
    fn taken(&self) -> Error {
        Error::input(self.place(), "another run has just begun in it", "the same command again, or another folder")
    }

    /// For the results of the scene in the folder `scene`, which may lie beside those of an earlier run on it. Where
    /// the options name no folder it is the `default` one.
    ///
    /// # Errors
    /// A scene that does not exist; what `default` says; as [`Self::new`].
    pub fn of_scene(options: &OutputOptions, default: impl FnOnce() -> Result<PathBuf>, scene: &Path) -> Result<Self> {
        let path = options.out.clone().map_or_else(default, Ok)?;
        let scene = dunce::canonicalize(scene).map_err(Error::io("open the scene", scene))?;
        Self::of_named(path, options.force, in_json(&scene))
    }

    /// As [`Self::of_scene`], for a scene that has a name but no folder.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_named(path: PathBuf, force: bool, scene: String) -> Result<Self> {
        let called = format!("{} {}", RESULTS.called, path.display());
        let mark = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "scene": scene });
        Self::new(Claim { path: &path, force, kind: &RESULTS }, mark, |mark| {
            let found: Value = serde_json::from_slice(mark).unwrap_or_default();
            match found["scene"].as_str().filter(|_| found["program"] == "engine") {
                None => Ok(Found::Foreign),
                Some(same) if same == scene => Ok(Found::Same),
                Some(other) => Err(Error::input(
                    called,
                    format!("it holds the results of another scene, {}", from_json(other).display()),
                    "an empty or new folder (-o OUT), or --force to replace them",
                )),
            }
        })
    }

    /// Creates and locks the folder where that is not done yet, removes what is in the way and writes the mark.
    ///
    /// # Errors
    /// A folder that cannot be created or written into, or that another run is at work in.
    pub fn claim(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(Error::io(self.kind.create, &self.path))?;
        if self.lock.is_none() {
            let lock = self.locked()?;
            if self.mark_file().exists() {
                return Err(self.taken());
            }
            self.lock = Some(lock);
        }
        for old in &self.old {
            match old.is_dir() {
                true => {
                    std::fs::remove_dir_all(old).map_err(Error::io("remove the folder of an earlier run", old))?;
                    mirror::removed(old)?;
                }
                false => remove(old, "remove the file of an earlier run")?,
            }
        }
        self.remove_leftovers();
        write_json(&self.mark_file(), self.kind.write, &self.mark)
    }

    /// Takes away the temporary files of a run that was killed in the middle of writing. Without a lock those that were
    /// written to within the last minute are left: they may belong to another run that is at work.
    pub fn remove_leftovers(&self) {
        const AT_WORK: Duration = Duration::from_secs(60);
        // OUT/levels/LEVEL/depth/SUBFOLDER is the deepest folder that is written into.
        const DEPTH: usize = 4;
        let locked = self.lock.as_ref().is_some_and(|lock| lock.missing.is_none());
        remove_temporary(&self.path, DEPTH, if locked { Duration::ZERO } else { AT_WORK });
    }

    /// Why nothing keeps other runs away, where that is so.
    pub fn note(&self) -> Option<String> {
        self.lock.as_ref()?.missing.clone()
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

/// The mark of folders with results of a scene.
pub const RESULTS_MARK: &str = ".engine.json";

/// The scene whose results a folder holds, if it is marked so.
pub fn scene_of_results(folder: &Path) -> Option<PathBuf> {
    let bytes = input::read(&folder.join(RESULTS_MARK), "read the mark").ok()?;
    let mark: Value = serde_json::from_slice(&bytes).ok()?;
    mark["scene"].as_str().filter(|_| mark["program"] == "engine").map(from_json)
}

/// Folders with results of a scene.
pub const RESULTS: FolderKind = FolderKind {
    mark: RESULTS_MARK,
    called: "output folder",
    foreign: (
        "it is not empty and was not made by engine",
        "an empty or new folder (-o OUT), or --force to write into this one",
    ),
    list: "use this as the output folder",
    create: "create the output folder",
    write: "write into the output folder",
    own: |_| false,
    own_left: "",
};

/// Where the results of `scene` go unless told otherwise: the folder `SCENE_engine` beside it.
///
/// # Errors
/// A scene that does not exist.
pub fn default_folder(scene: &Path) -> Result<PathBuf> {
    // A scene that is named by its file of cameras is the folder around it.
    let folder = if scene.is_file() { dunce::canonicalize(scene).ok() } else { None };
    let folder = folder.as_deref().and_then(Path::parent);
    sibling(folder.unwrap_or(scene), "_engine")
}

/// The folder beside `folder` whose name has `suffix` added.
///
/// # Errors
/// A folder that does not exist, or the root of a file system.
pub fn sibling(folder: &Path, suffix: &str) -> Result<PathBuf> {
    expect_places_beside(folder)?;
    let full = dunce::canonicalize(folder).map_err(Error::io("open the folder", folder))?;
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

/// Refuses a copy: what lies beside one is no copy of anything.
fn expect_places_beside(folder: &Path) -> Result<()> {
    if !mirror::is_copy(folder) {
        return Ok(());
    }
    let (place, found) = (folder.display().to_string(), "a place in an object store, which has no folder beside it");
    Err(Error::input(place, found, "a place for the results: -o OUT, a folder or an address"))
}

/// As [`sibling`], of a folder that need not exist.
///
/// # Errors
/// The root of a file system, and a folder that has no name and does not exist.
pub fn beside(folder: &Path, suffix: &str) -> Result<PathBuf> {
    expect_places_beside(folder)?;
    let Some(name) = folder.file_name() else { return sibling(folder, suffix) };
    let mut longer = name.to_owned();
    longer.push(suffix);
    Ok(folder.with_file_name(longer))
}

/// Removes temporary files that nobody has written to for as long as `unused`.
fn remove_temporary(folder: &Path, depth: usize, unused: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            remove_temporary(&entry.path(), depth - 1, unused);
        }
        let is_temporary = entry.file_name().to_str().is_some_and(is_temporary);
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if kind.is_file() && is_temporary && (unused.is_zero() || age.is_some_and(|age| age > unused)) {
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
        Err(_) => Ok(()),
        Ok(()) => mirror::removed(path),
    }
}

/// Removes the folder that a file lay in, if nothing else lies there.
pub fn remove_empty_folder_of(file: &Path) {
    // An empty folder that stays does no harm.
    let _ = file.parent().map(std::fs::remove_dir);
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
pub fn write_file<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    make_folder_of(path)?;
    let written = {
        let _guard = interrupt::writing();
        write(path)
    };
    mirror::wait_for_room(path);
    written
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
        let mut folder = folder(&out, &scene, false).unwrap();
        folder.claim().unwrap();
        let maps = out.join("levels/0/depth");
        std::fs::create_dir_all(&maps).unwrap();
        for name in [".engine-old.part", ".engine-new.part", "old.pfm"] {
            let file = std::fs::File::create(maps.join(name)).unwrap();
            if name.contains("old") {
                file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
            }
        }
        let left = || [".engine-old.part", ".engine-new.part", "old.pfm"].map(|name| maps.join(name).exists());
        // Where a file system has no locks.
        remove_temporary(&out, 3, Duration::from_secs(60));
        assert_eq!(left(), [false, true, true]);
        folder.claim().unwrap();
        assert_eq!(left(), [false, false, true]);
    }

    #[test]
    fn a_foreign_folder_and_another_scenes_results_are_not_mixed_with() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, out) = (root.path().join("a"), root.path().join("b"), root.path().join("out"));
        for scene in [&a, &b] {
            std::fs::create_dir(scene).unwrap();
        }
        for goes_on in [false, true] {
            let mut found = folder(&out, &a, false).unwrap();
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

    #[test]
    fn a_folder_is_one_runs_from_before_it_looks_until_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let (scene, out) = (root.path().join("scene"), root.path().join("out"));
        std::fs::create_dir(&scene).unwrap();
        let message = |result: Result<()>| result.unwrap_err().to_string();
        let (mut first, mut second) = (folder(&out, &scene, false).unwrap(), folder(&out, &scene, false).unwrap());
        first.claim().unwrap();
        assert!(message(second.claim()).contains("another run is at work in it (`engine"), "both found nothing");
        assert!(message(folder(&out, &scene, true).map(drop)).contains("another run is at work"), "also if forced");
        drop(first);
        assert!(message(second.claim()).contains("another run has just begun in it"), "what it found is no longer so");
        let third = folder(&out, &scene, false).unwrap();
        assert!(third.goes_on() && third.note().is_none());
        assert!(message(folder(&out, &scene, false).map(drop)).contains("another run is at work"));
        drop(third);
        folder(&out, &scene, false).unwrap().claim().unwrap();
    }
}
