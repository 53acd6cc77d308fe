//! One run at a time in a folder: a lock that the system takes back when the process ends, however it ends.
//!
//! The lock is on the file [`LOCK`] in the folder, which says who holds it and stays there unlocked. It is advisory: it
//! keeps runs of this program apart, nobody else. Linux passes it on to the server of a network file system (NFS from
//! version 4 on, SMB), so that runs on several machines see each other. Where a file system has no locks the run goes
//! on without one and says so.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::progress::{duration, one_line};

/// The name of the file that is locked.
pub const LOCK: &str = ".engine.lock";

/// With whom a folder is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With nobody: for runs that may write any file of the folder.
    Alone,
    /// With others that hold it together: for runs that write different files.
    Together,
}

/// A folder that is locked for as long as this lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    /// Why there is in truth no lock, where the file system has none.
    pub missing: Option<String>,
}

/// Who holds a lock: a line of JSON in the locked file.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    command: String,
    since_unix_s: u64,
}

impl FolderLock {
    /// Locks an existing folder, which messages call `called`. `action` completes "cannot ..." where the file cannot be
    /// made.
    ///
    /// # Errors
    /// A folder that somebody else holds, with who that is; one that cannot be written into.
    pub fn acquire(folder: &Path, mode: Mode, called: &str, action: &'static str) -> Result<Self> {
        let path = folder.join(LOCK);
        // The file will be written into: it must be the folder's own.
        if std::fs::symlink_metadata(&path).is_ok_and(|kind| !kind.is_file()) {
            let place = path.display().to_string();
            return Err(Error::input(
                place,
                "a link, folder or device",
                "the file that marks a folder in use; remove it",
            ));
        }
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(Error::io(action, folder))?;
        let mut lock = Self { _file: file, missing: None };
        match lock.lock(mode) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input(
                    format!("{called} {}", folder.display()),
                    format!("another run is at work in it ({})", holders(&path)),
                    "another folder, or the same command again when that run is done",
                ));
            }
            Err(TryLockError::Error(reason)) => {
                lock.missing = Some(format!(
                    "the file system of {} has no locks ({reason}): nothing keeps another run from writing there at \
                     the same time",
                    folder.display()
                ));
            }
        }
        Ok(lock)
    }

    /// Locks the file and writes down who holds it.
    fn lock(&mut self, mode: Mode) -> Result<(), TryLockError> {
        // Whoever only asks for the holder has the lock for a moment, too.
        const PATIENCE: (usize, Duration) = (10, Duration::from_millis(20));
        let file = &mut self._file;
        let mut tries = 0;
        let alone = loop {
            match (file.try_lock(), mode) {
                (Ok(()), _) => break true,
                (Err(TryLockError::WouldBlock), Mode::Together) if file.try_lock_shared().is_ok() => break false,
                (Err(TryLockError::WouldBlock), _) if tries < PATIENCE.0 => {
                    tries += 1;
                    std::thread::sleep(PATIENCE.1);
                }
                (Err(refused), _) => return Err(refused),
            }
        };
        // Nobody else holds it, so that the lines of earlier holders can go.
        if alone {
            let _ = file.set_len(0);
        }
        let line = serde_json::to_string(&Holder::this_process()).unwrap_or_default();
        // It only serves messages: what cannot be written is no reason not to work.
        let _ = file.seek(std::io::SeekFrom::End(0)).and_then(|_| file.write_all(format!("{line}\n").as_bytes()));
        if alone && mode == Mode::Together {
            file.unlock().map_err(TryLockError::Error)?;
            file.try_lock_shared()?;
        }
        Ok(())
    }
}

/// Who holds a folder alone, if somebody does; for those who only read in it.
pub fn at_work(folder: &Path) -> Option<String> {
    let path = folder.join(LOCK);
    if !std::fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let file = File::open(&path).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| holders(&path))
}

impl Holder {
    fn this_process() -> Self {
        const LONGEST: usize = 200;
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> =
            words.enumerate().map(|(i, word)| if i == 0 { "engine".into() } else { word }).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            pid: std::process::id(),
            host: sysinfo::System::host_name().unwrap_or_default(),
            command: words.join(" ").chars().take(LONGEST).collect(),
            since_unix_s: now.map_or(0, |t| t.as_secs()),
        }
    }
}

/// The holders that the locked file names, for a message.
fn holders(path: &Path) -> String {
    const SHOWN: usize = 3;
    // Some systems do not let a file be read that others have locked.
    let mut text = String::new();
    let _ = File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut text));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let said = |line: &str| {
        let Holder { pid, host, command, since_unix_s } = serde_json::from_str(line).ok()?;
        let age = duration(now.saturating_sub(since_unix_s) as f64);
        Some(one_line(&format!("`{command}`, process {pid} on {host}, begun {age} ago")))
    };
    let mut said: Vec<String> = text.lines().filter_map(said).collect();
    if said.is_empty() {
        return "it does not say which".into();
    }
    let more = said.len().saturating_sub(SHOWN);
    said.truncate(SHOWN);
    if more > 0 { format!("{}; and {more} more", said.join("; ")) } else { said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(folder: &Path, mode: Mode) -> Result<FolderLock> {
        FolderLock::acquire(folder, mode, "output folder", "write into the output folder")
    }

    #[test]
    fn one_alone_or_many_together() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        assert_eq!(at_work(folder), None);
        let alone = acquire(folder, Mode::Alone).unwrap();
        assert_eq!(alone.missing, None);
        for mode in [Mode::Alone, Mode::Together] {
            let message = acquire(folder, mode).unwrap_err().to_string();
            let who = format!("process {} on ", std::process::id());
            assert!(message.starts_with(&format!("output folder {}: another run is", folder.display())), "{message}");
            assert!(message.contains(&who) && message.contains("`engine"), "{message}");
            assert!(message.contains(", begun 0.") || message.contains(", begun 1."), "{message}");
        }
        assert!(at_work(folder).is_some());
        drop(alone);
        assert_eq!(at_work(folder), None);

        let together = [Mode::Together; 3].map(|mode| acquire(folder, mode).unwrap());
        assert_eq!(at_work(folder), None, "those who hold it together change nothing under a reader");
        assert!(acquire(folder, Mode::Alone).unwrap_err().to_string().matches("process ").count() == 3);
        drop(together);
        acquire(folder, Mode::Alone).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join(LOCK)).unwrap().lines().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_locks_place_is_not_written_through() {
        let root = tempfile::tempdir().unwrap();
        let letter = root.path().join("letter.txt");
        std::fs::write(&letter, "dear").unwrap();
        std::os::unix::fs::symlink(&letter, root.path().join(LOCK)).unwrap();
        assert!(acquire(root.path(), Mode::Alone).unwrap_err().to_string().contains("remove it"));
        assert_eq!(at_work(root.path()), None);
        assert_eq!(std::fs::read_to_string(&letter).unwrap(), "dear");
    }
}
