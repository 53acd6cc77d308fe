//! Opening files that others have put there: only what is really a file, because a named pipe without a writer blocks
//! for ever and a device such as `/dev/zero` never ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files::mirror;
use crate::host::allocator::may_fail;
use crate::host::memory::readable;
use crate::{Error, Result};

/// Opens a file for reading and tells its size in bytes.
///
/// `action` completes "cannot ..." in the error: `open the photo`.
///
/// # Errors
/// [`Error::Io`] where the system refuses; [`Error::Input`] on a pipe, socket or device.
pub fn open(path: &Path, action: &'static str) -> Result<(File, u64)> {
    mirror::need(path)?;
    open_as_it_is(path, action)
}

/// As [`open()`], for who has seen to it that as much of the file is there as is needed.
///
/// # Errors
/// As [`open()`].
pub(crate) fn open_as_it_is(path: &Path, action: &'static str) -> Result<(File, u64)> {
    let kind = std::fs::metadata(path).map_err(Error::io(action, path))?;
    // A folder is left to the system, which says so in its own words.
    if !kind.is_file() && !kind.is_dir() {
        return Err(Error::input(path.display().to_string(), "a pipe, socket or device", "a regular file"));
    }
    let file = open_at_once(path).map_err(Error::io(action, path))?;
    // What was looked at and what was opened need not be the same.
    let kind = file.metadata().map_err(Error::io(action, path))?;
    if !kind.is_file() && !kind.is_dir() {
        return Err(Error::input(path.display().to_string(), "a pipe, socket or device", "a regular file"));
    }
    Ok((file, kind.len()))
}

/// Opens without waiting for anyone: a pipe without a writer would make it wait for ever.
#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<File> {
    // Windows would say that access is denied.
    if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { File::open(path) }
}

/// Reads a whole file.
///
/// # Errors
/// As [`open()`].
pub fn read(path: &Path, action: &'static str) -> Result<Vec<u8>> {
    let (mut file, size) = open(path, action)?;
    let mut bytes = Vec::new();
    // A size that no memory holds is an error like any other.
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    may_fail(|| bytes.try_reserve_exact(wanted)).map_err(|e| {
        Error::Memory(format!(
            "{}: its {} do not fit: {e}; expected a smaller file, or more memory",
            path.display(),
            readable(size)
        ))
    })?;
    file.read_to_end(&mut bytes).map_err(Error::io(action, path))?;
    Ok(bytes)
}

/// The files (not folders) of a folder, sorted by name; hidden ones (`._photo.jpg` on disks that a Mac wrote) are
/// skipped.
pub(crate) fn files_in(folder: &Path, action: &'static str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(action, folder))? {
        let path = entry.map_err(Error::io(action, folder))?.path();
        if is_hidden(&path) {
            continue;
        }
        match path.metadata() {
            Ok(data) if data.is_file() => files.push(path),
            // Names that can be listed but not looked at (a folder without the right to enter it).
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::io(action, &path)(e));
            }
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// A text file; one that is not UTF-8 is refused in the words of an input error.
pub(crate) fn read_text(file: &Path, action: &'static str) -> Result<String> {
    let bytes = read(file, action)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::input(file.display().to_string(), format!("byte {at} is not text (UTF-8)"), "a text file")
    })?;
    // Some editors put a byte order mark before the first word.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
