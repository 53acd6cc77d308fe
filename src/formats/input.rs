//! Opening files that others have put there: only what is really a file, because a named pipe without a writer blocks
//! for ever and a device such as `/dev/zero` never ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

/// Opens a file for reading and tells its size in bytes.
///
/// `action` completes "cannot ..." in the error: `open the photo`.
///
/// # Errors
/// [`Error::Io`] where the system refuses; [`Error::Input`] on a pipe, socket or device.
pub fn open(path: &Path, action: &'static str) -> Result<(File, u64)> {
    let kind = std::fs::metadata(path).map_err(Error::io(action, path))?;
    // A folder is left to the system, which says so in its own words.
    if !kind.is_file() && !kind.is_dir() {
        return Err(Error::input(path.display().to_string(), "a pipe, socket or device", "a regular file"));
    }
    let file = File::open(path).map_err(Error::io(action, path))?;
    Ok((file, kind.len()))
}

/// Reads a whole file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, action: &'static str) -> Result<Vec<u8>> {
    let (mut file, size) = open(path, action)?;
    let mut bytes = Vec::new();
    // A size that no memory holds is an error like any other.
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(wanted).map_err(|e| Error::io(action, path)(io::Error::other(e)))?;
    file.read_to_end(&mut bytes).map_err(Error::io(action, path))?;
    Ok(bytes)
}
