//! Room on a disk.

use std::path::Path;

/// Bytes that a user may still write to the file system that a folder lies in, where the system tells.
#[cfg(unix)]
pub fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut said = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero, and the system fills the place in where it returns 0.
    let said = unsafe { (libc::statvfs(path.as_ptr(), said.as_mut_ptr()) == 0).then(|| said.assume_init()) }?;
    // The types differ from system to system.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    Some((said.f_bavail as u64).saturating_mul(said.f_frsize as u64))
}

/// Bytes that a user may still write, where the system tells.
#[cfg(not(unix))]
pub fn free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn there_is_room_in_a_folder_and_none_is_told_of_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        assert!(free(root.path()).unwrap() > 0);
        assert_eq!(free(&root.path().join("none")), None);
    }
}
