//! Hashes that need no reading: what a file's bytes hashed to, kept with the size, time and inode that the file had
//! then. As long as these are the same, so are the bytes.
//!
//! They lie in one file of the output folder, [`HASHES`], which only saves time: without it everything is hashed, and a
//! file that is not as it says is hashed again. A time says nothing if the file could change once more within the same
//! tick of the file system's clock. So the time of somebody else's file counts once it is two seconds old, which is the
//! coarsest tick in use (FAT). A file that this program has just written has its name only since all its bytes are
//! there, and the folder is locked: its time counts at once, if it has a fraction of a second, as those of file systems
//! with fine ticks (milliseconds) have. Who changes bytes and then sets size and time back, or writes as many bytes in
//! the same milliseconds, is found by reading everything (`--verify`).

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::folder::write_file;
use crate::files::names::{from_json, slashed};
use crate::files::{hash, input, mirror};

/// The file's name.
pub const HASHES: &str = ".engine.hashes.json";

/// Nanoseconds after which a file that was not changed has another time when it is.
const SETTLED_NS: i64 = 2_000_000_000;

/// What tells a file from the one that it was, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    size: u64,
    /// The time of the last change, in nanoseconds since 1970.
    modified_ns: i64,
    /// 0 where the system has none.
    inode: u64,
}

impl Identity {
    fn of(data: &Metadata) -> Option<Self> {
        let modified_ns = nanoseconds(data.modified().ok()?)?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(data);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { size: data.len(), modified_ns, inode })
    }

    /// Of what a path leads to.
    fn at(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        match mirror::identity(path) {
            // What every copy of it has in common, on any machine.
            Some((modified_ns, inode)) => Some(Self { size: data.len(), modified_ns, inode }),
            None => Self::of(&data),
        }
    }

    /// Whether any later change gives it another time, as seen now.
    fn is_settled(self) -> bool {
        nanoseconds(SystemTime::now()).is_some_and(|now| self.modified_ns <= now.saturating_sub(SETTLED_NS))
    }
}

/// Since 1970; times before count backwards.
fn nanoseconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|ns| -ns),
    }
}

/// A file's hash, and what it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    identity: Identity,
    sha256: String,
}

/// The hashes that an output folder knows.
#[derive(Debug)]
pub struct KnownHashes {
    out: PathBuf,
    verify: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By path: relative to the folder in it, else absolute, or the name of what it is a copy of.
    known: HashMap<String, Known>,
    /// Whether anything is new.
    is_changed: bool,
    /// How many files were read to the end.
    read: usize,
    /// Files whose bytes are others although nothing else is.
    deceiving: Vec<String>,
    /// Whose hashes were found or written by this process.
    learned: HashSet<String>,
}

impl KnownHashes {
    /// Those of a folder; none where it has none that can be read. `verify`: trust none of them.
    pub fn of_folder(out: &Path, verify: bool) -> Self {
        let bytes = input::read(&out.join(HASHES), "read the hashes").unwrap_or_default();
        let known = serde_json::from_slice(&bytes).unwrap_or_default();
        let state = Mutex::new(State { known, ..State::default() });
        Self { out: out.to_owned(), verify, state }
    }

    /// With what other files of this kind ([`Self::write_to`]) say; one that cannot be read says nothing.
    #[must_use]
    pub fn and_of(self, files: impl Iterator<Item = PathBuf>) -> Self {
        for file in files {
            let bytes = input::read(&file, "read the hashes").unwrap_or_default();
            let known: HashMap<String, Known> = serde_json::from_slice(&bytes).unwrap_or_default();
            self.state().known.extend(known);
        }
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, path: &Path) -> Option<String> {
        let path = match path.strip_prefix(&self.out) {
            // Other machines of the same job read them, too.
            Ok(inside) => return inside.to_str().map(|_| slashed(inside).into_owned()),
            Err(_) => mirror::name_of(&std::path::absolute(path).ok()?),
        };
        Some(path.to_str()?.to_owned())
    }

    /// The hash of a file's content, from its bytes only where it is not known.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_file(&self, path: &Path) -> Result<String> {
        let (key, identity) = (self.key(path), Identity::at(path));
        let known = key.as_ref().and_then(|key| self.state().known.get(key).cloned());
        let known = known.filter(|known| Some(known.identity) == identity);
        if let Some(known) = &known
            && !self.verify
        {
            return Ok(known.sha256.clone());
        }
        // What was settled before the reading would show any change during it.
        let settled = identity.filter(|identity| identity.is_settled());
        let sha256 = hash::of_file(path)?;
        let mut state = self.state();
        state.read += 1;
        if known.is_some_and(|known| known.sha256 != sha256) {
            state.deceiving.push(path.display().to_string());
        }
        if let (Some(key), Some(identity)) = (key, settled) {
            state.learn(key, Known { identity, sha256: sha256.clone() });
        }
        Ok(sha256)
    }

    /// Whether a file is there with this content.
    pub fn is(&self, path: &Path, sha256: &str) -> bool {
        self.of_file(path).is_ok_and(|found| found == sha256)
    }

    /// This program has just given the file its name; these were the bytes that it wrote.
    pub fn wrote(&self, path: &Path, sha256: &str) {
        let identity = Identity::at(path).filter(|i| i.modified_ns % 1_000_000_000 != 0 || i.is_settled());
        if let (Some(key), Some(identity)) = (self.key(path), identity) {
            self.state().learn(key, Known { identity, sha256: sha256.to_owned() });
        }
    }

    /// Keeps what is new after a stage of a run. Where the stage has met an input that is not what it was taken for, a
    /// hash may have been believed wrongly: all are forgotten, so that the next run reads every file.
    ///
    /// # Errors
    /// Those of the stage; the system's reason where the hashes cannot be written.
    pub fn after<T>(&self, stage: Result<T>) -> Result<T> {
        if matches!(stage, Err(Error::Input { .. })) {
            let mut state = self.state();
            state.is_changed |= !state.known.is_empty();
            state.known.clear();
        }
        self.write()?;
        stage
    }

    /// How many files were read.
    pub fn files_read(&self) -> usize {
        self.state().read
    }

    /// Says so where bytes have changed behind the back of size, time and inode.
    pub fn note(&self) -> Option<String> {
        let state = self.state();
        let first = state.deceiving.first()?;
        Some(format!(
            "{} of the size, time and inode of before {} other bytes than before (first: {first})",
            crate::error::counted(state.deceiving.len(), "file"),
            if state.deceiving.len() == 1 { "has" } else { "have" }
        ))
    }

    /// Keeps what is new for later runs, and forgets files that are gone.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write(&self) -> Result<()> {
        let mut state = self.state();
        if !state.is_changed {
            return Ok(());
        }
        state.known.retain(|path, _| self.out.join(from_json(path)).exists());
        write_sorted(&self.out.join(HASHES), state.known.iter())?;
        state.is_changed = false;
        Ok(())
    }

    /// Writes only what this process has learned to a file of its own, which [`Self::and_of`] reads: processes that
    /// work in one folder together do not write the folder's.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write_to(&self, file: &Path) -> Result<()> {
        let state = self.state();
        // The time and inode of a copy that this process has written are nobody else's.
        let is_for_others = |path: &str| {
            let path = self.out.join(from_json(path));
            !mirror::is_copy(&path) || mirror::identity(&path).is_some()
        };
        let learned = |(path, _): &(&String, &Known)| state.learned.contains(*path) && is_for_others(path);
        write_sorted(file, state.known.iter().filter(learned))
    }
}

/// In order, so that the same hashes are the same file.
fn write_sorted<'a>(file: &Path, known: impl Iterator<Item = (&'a String, &'a Known)>) -> Result<()> {
    let sorted: std::collections::BTreeMap<&String, &Known> = known.collect();
    let text = serde_json::to_vec(&sorted).unwrap_or_default();
    write_file(file, |path| write_whole(path, "keep the hashes", |file| file.write_all(&text)))
}

impl State {
    fn learn(&mut self, key: String, known: Known) {
        self.is_changed |= self.known.get(&key) != Some(&known);
        self.learned.insert(key.clone());
        self.known.insert(key, known);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::*;

    /// A file whose last change was so many seconds ago.
    fn aged(path: &Path, bytes: &[u8], seconds: u64) {
        fs::write(path, bytes).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn a_settled_file_is_read_once_and_again_when_anything_of_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let (out, file) = (root.path().join("out"), root.path().join("photo"));
        aged(&file, b"abc", 10);
        let first = KnownHashes::of_folder(&out, false);
        assert_eq!(first.of_file(&file).unwrap(), hash::of_bytes(b"abc"));
        assert_eq!(first.of_file(&file).unwrap(), hash::of_bytes(b"abc"));
        assert_eq!(first.files_read(), 1);
        first.write().unwrap();
        let again = KnownHashes::of_folder(&out, false);
        assert!(again.is(&file, &hash::of_bytes(b"abc")) && !again.is(&file, &hash::of_bytes(b"x")));
        assert_eq!(again.files_read(), 0);

        // As many bytes with the time of before are not seen, but by `verify`.
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, b"xyz").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(again.is(&file, &hash::of_bytes(b"abc")));
        let all = KnownHashes::of_folder(&out, true);
        assert!(all.is(&file, &hash::of_bytes(b"xyz")));
        let note = all.note().unwrap();
        let expected = "1 file of the size, time and inode of before has other bytes than before (first: ";
        assert!(note.starts_with(expected), "{note}");
        assert_eq!(again.note(), None);

        // Another time, another size, another inode.
        for (bytes, seconds, copied) in [(b"abd", 20, false), (b"abe", 30, true)] {
            if copied {
                fs::remove_file(&file).unwrap();
                fs::write(root.path().join("takes the inode"), b"").unwrap();
            }
            aged(&file, bytes, seconds);
            assert!(again.is(&file, &hash::of_bytes(bytes)), "{bytes:?}");
        }
        aged(&file, b"longer", 30);
        assert!(again.is(&file, &hash::of_bytes(b"longer")));
        fs::remove_file(&file).unwrap();
        assert!(again.of_file(&file).is_err());
        again.write().unwrap();
        assert_eq!(fs::read_to_string(out.join(HASHES)).unwrap(), "{}", "a file that is gone is forgotten");
    }

    #[test]
    fn what_may_still_change_within_its_time_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let (out, file) = (root.path(), root.path().join("photo"));
        // Just written.
        aged(&file, b"abc", 0);
        let hashes = KnownHashes::of_folder(out, false);
        hashes.of_file(&file).unwrap();
        assert_eq!(hashes.of_file(&file).unwrap(), hash::of_bytes(b"abc"));
        assert_eq!(hashes.files_read(), 2);
        // From the future, as another machine's clock may have it.
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(SystemTime::now() + Duration::from_secs(99))
            .unwrap();
        let hashes = KnownHashes::of_folder(out, false);
        hashes.of_file(&file).unwrap();
        hashes.of_file(&file).unwrap();
        assert_eq!(hashes.files_read(), 2);
    }

    #[test]
    fn what_was_written_here_is_known_at_once_where_times_are_fine() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("map");
        let hashes = KnownHashes::of_folder(root.path(), false);
        let written = |nanoseconds: u32| {
            fs::write(&file, b"abc").unwrap();
            // Ahead, so that it is not settled before it is asked for.
            let whole = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
            let time = UNIX_EPOCH + Duration::new(whole, nanoseconds);
            File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
            hashes.wrote(&file, &hash::of_bytes(b"abc"));
            let before = hashes.files_read();
            assert!(hashes.is(&file, &hash::of_bytes(b"abc")));
            hashes.files_read() - before
        };
        assert_eq!(written(0), 1, "a time in whole seconds");
        assert_eq!(written(1_000_000), 0);
    }

    #[test]
    fn a_stage_that_met_another_input_than_it_was_told_of_makes_everything_be_read_again() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("photo");
        aged(&file, b"abc", 10);
        let hashes = KnownHashes::of_folder(root.path(), false);
        hashes.of_file(&file).unwrap();
        assert_eq!(hashes.after(Ok(7)).unwrap(), 7);
        assert!(matches!(hashes.after::<()>(Err(Error::Interrupted)), Err(Error::Interrupted)));
        let read = || {
            let hashes = KnownHashes::of_folder(root.path(), false);
            hashes.of_file(&file).unwrap();
            hashes.files_read()
        };
        assert_eq!(read(), 0);
        assert!(hashes.after::<()>(Err(Error::input("photo", "another", "the same"))).is_err());
        assert_eq!(read(), 1);
    }

    #[test]
    fn a_folder_that_is_moved_keeps_its_hashes_and_garbage_is_no_hash() {
        let root = tempfile::tempdir().unwrap();
        let (out, moved) = (root.path().join("out"), root.path().join("moved"));
        fs::create_dir(&out).unwrap();
        aged(&out.join("map"), b"abc", 10);
        let hashes = KnownHashes::of_folder(&out, false);
        hashes.of_file(&out.join("map")).unwrap();
        hashes.write().unwrap();
        fs::rename(&out, &moved).unwrap();
        let hashes = KnownHashes::of_folder(&moved, false);
        assert!(hashes.is(&moved.join("map"), &hash::of_bytes(b"abc")));
        assert_eq!(hashes.files_read(), 0);
        for garbage in ["", "[]", "{\"map\": 1}", "{\"map\": {\"size\": 3}}", "\u{0}"] {
            fs::write(moved.join(HASHES), garbage).unwrap();
            let hashes = KnownHashes::of_folder(&moved, false);
            assert!(hashes.is(&moved.join("map"), &hash::of_bytes(b"abc")));
            assert_eq!(hashes.files_read(), 1, "{garbage:?}");
        }
    }
}
