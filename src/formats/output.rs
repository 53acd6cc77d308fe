//! Output files that appear whole or not at all: they are written under a temporary name in the same folder and
//! renamed when complete, so that a stopped run or a full disk never leaves a half-written file behind.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes the file at `path` with `fill`; an existing file is replaced only when `fill` has succeeded.
///
/// `action` completes "cannot ..." in the error: `write the depth map`.
///
/// # Errors
/// [`Error::Io`] on `path`: the folder is missing or read-only, the disk is full.
pub fn write_whole(
    path: &Path,
    action: &'static str,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".engine-").suffix(".part");
    // Temporary files are private by default; this one becomes an ordinary file, whose mode the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(|e| Error::io(action, path)(system_reason(e)))?;
    let mut writer = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(Error::io(action, path))?;
    drop(writer);
    file.persist(path).map_err(|e| Error::io(action, path)(e.error))?;
    Ok(())
}

/// The system's reason without the temporary file's name, which would only puzzle the reader.
fn system_reason(error: std::io::Error) -> std::io::Error {
    let inner = error.get_ref().and_then(|e| e.source()).and_then(|e| e.downcast_ref::<std::io::Error>());
    match inner.and_then(std::io::Error::raw_os_error).or(error.raw_os_error()) {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::from(error.kind()),
    }
}
