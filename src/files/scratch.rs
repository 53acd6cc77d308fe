//! What does not fit into memory is put aside on disk, and read back in any order.
//!
//! The file has no name, so nothing can be left behind: the system takes it back when the process ends, however it
//! ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file without a name that grows at its end.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    folder: PathBuf,
    end: u64,
}

impl Scratch {
    /// An empty one, on the disk that the folder is on.
    ///
    /// # Errors
    /// [`Error::Io`], naming the folder, where no file can be made there.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io("make a scratch file here", folder))?;
        Ok(Self { file, folder: folder.to_owned(), end: 0 })
    }

    /// The folder of the nearest path upwards that is there, for a scratch file of results that go to `path`.
    pub fn folder_near(path: &Path) -> PathBuf {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        full.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new(".")).to_owned()
    }

    /// Writes bytes behind those that are there, and says where they begin.
    ///
    /// # Errors
    /// [`Error::Io`], naming the folder: its disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let action = "put aside here what does not fit into memory";
        write_at(&self.file, bytes, self.end).map_err(Error::io(action, &self.folder))?;
        let begin = self.end;
        self.end += bytes.len() as u64;
        Ok(begin)
    }

    /// Fills `bytes` with what begins at `offset`.
    ///
    /// # Errors
    /// [`Error::Io`], naming the folder.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        read_at(&self.file, bytes, offset).map_err(Error::io("read back what was put aside here", &self.folder))
    }

    /// Bytes that were written.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// One thread at a time: elsewhere a file has one place at which it is read.
#[cfg(not(unix))]
static PLACE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let _place = PLACE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let _place = PLACE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_is_read_back_in_any_order_and_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(folder.path()).unwrap();
        assert!(scratch.is_empty());
        let places: Vec<u64> = (0..5u8).map(|i| scratch.append(&[i; 3]).unwrap()).collect();
        assert_eq!((places, scratch.len()), (vec![0, 3, 6, 9, 12], 15));
        let mut three = [9; 3];
        for (offset, expected) in [(12, [4, 4, 4]), (0, [0, 0, 0]), (5, [1, 2, 2])] {
            scratch.read(offset, &mut three).unwrap();
            assert_eq!(three, expected);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let message = scratch.read(13, &mut three).unwrap_err().to_string();
        assert!(message.contains(": cannot read back what was put aside here: "), "{message}");
    }

    #[test]
    fn results_that_are_not_there_yet_have_it_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Scratch::folder_near(&folder.path().join("new/deep")), folder.path());
        assert_eq!(Scratch::folder_near(folder.path()), folder.path());
        assert!(Scratch::folder_near(Path::new("none/there")).is_dir());
        let missing = folder.path().join("none");
        let message = Scratch::new(&missing).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot make a scratch file here: ", missing.display())), "{message}");
    }
}
