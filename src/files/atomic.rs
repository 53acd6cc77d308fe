//! Output files that appear whole or not at all: they are written under a temporary name in the same folder and
//! renamed when complete, so that a stopped run or a full disk never leaves a half-written file behind.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::files::hash::Hashing;
use crate::files::mirror;
use crate::{Error, Result};

/// How the names of temporary files begin and end.
pub const TEMPORARY: (&str, &str) = (".engine-", ".part");

/// For [`write_whole`]: the bytes, and a wait until the disk has them. A file that a later run depends on must not be
/// renamed before: after a power cut its name could hold nothing.
///
/// # Errors
/// The system's reason.
pub fn write_through(file: &mut BufWriter<&mut File>, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// As [`write_whole`], and gives the SHA-256 of the bytes that were written: what is said of a file must not be looked
/// up in the file, where others may have written since.
///
/// # Errors
/// As [`write_whole`].
pub fn write_whole_hashed(
    path: &Path,
    action: &'static str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<String> {
    let mut hash = String::new();
    write_whole(path, action, |file| {
        let mut passing = Hashing::new(file);
        fill(&mut passing)?;
        hash = passing.finish();
        Ok(())
    })?;
    Ok(hash)
}

/// Writes the file at `path` with `fill`; an existing file is replaced only when `fill` has succeeded.
///
/// `action` completes "cannot ..." in the error: `write the depth map`.
///
/// # Errors
/// [`Error::Io`] on `path`: the folder is missing or read-only, the disk is full.
pub fn write_whole(
    path: &Path,
    action: &'static str,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    filled(path, action, fill)?.persist(path).map_err(|e| Error::io(action, path)(e.error))?;
    mirror::written(path)
}

/// Writes the file at `path` unless there is one, also where several processes want to at once; says whether it did.
///
/// # Errors
/// As [`write_whole`].
pub fn write_new(path: &Path, action: &'static str, bytes: &[u8]) -> Result<bool> {
    let file = filled(path, action, |file| write_through(file, bytes))?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(Error::io(action, path)(refused.error)),
        Ok(_) => mirror::written_first(path),
    }
}

/// A temporary file with all that `fill` writes, in the folder of `path`.
fn filled(
    path: &Path,
    action: &'static str,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // For reading, too: some formats are filled in at the end. Like any other file rather than privately, so that its
    // mode is what the umask makes it; and the system's own reason is kept, because what comes back names the temporary
    // file, which would only puzzle the reader.
    let mut reason = None;
    let open = |temporary: &Path| {
        let opened = File::options().read(true).write(true).create_new(true).open(temporary);
        opened.inspect_err(|e| reason = e.raw_os_error())
    };
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1).make_in(folder, open);
    let mut file = made.map_err(|e| Error::io(action, path)(reason.map_or(e, io::Error::from_raw_os_error)))?;
    let mut writer = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(action, path))?;
    drop(writer);
    Ok(file)
}
