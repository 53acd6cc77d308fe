//! SHA-256 in hexadecimal: of bytes at hand, of a file, and of what passes by on its way into a file.

use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::input;

/// Of bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// Of a file's content.
///
/// # Errors
/// A file that cannot be read.
pub fn of_file(path: &Path) -> Result<String> {
    let (file, _) = input::open(path, "open the file")?;
    let mut passing = Hashing::new(file);
    io::copy(&mut passing, &mut io::sink()).map_err(Error::io("read the file", path))?;
    Ok(passing.finish())
}

/// A reader or writer that hashes what passes through it.
pub struct Hashing<T> {
    inner: T,
    hasher: Sha256,
}

impl<T> Hashing<T> {
    /// Nothing has passed yet.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The hash of all that has passed.
    pub fn finish(self) -> String {
        hexadecimal(self.hasher)
    }

    /// What it passed through, and the hash.
    pub fn into_parts(self) -> (T, String) {
        (self.inner, hexadecimal(self.hasher))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a hasher has come to.
pub fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_files_and_what_passes_have_the_same_hash() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), known);
        let mut passing = Hashing::new(Vec::new());
        passing.write_all(b"a").unwrap();
        passing.write_all(b"bc").unwrap();
        assert_eq!(passing.finish(), known);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(of_file(file.path()).unwrap(), known);
    }
}
