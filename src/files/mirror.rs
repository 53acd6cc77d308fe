//! Folders that are local copies of what lies elsewhere: before a file of one is read, its bytes are brought, and what
//! is written or removed there is done elsewhere, too.
//!
//! A copy has all names from the start, with the right sizes and times, so that whoever lists a folder or asks whether
//! a file is there needs no more. The bytes come when a file is opened ([`crate::files::input::open`] asks for them).
//! What is elsewhere, and how to get there, is the affair of who brings a [`Mirror`] ([`crate::remote`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Result;
use crate::host::copies;

/// A folder that is a copy. All paths are of files in it.
pub trait Mirror: Send + Sync {
    /// The folder.
    fn root(&self) -> &Path;
    /// Brings a file's bytes, if they are not there. A file that is nowhere is no error.
    ///
    /// # Errors
    /// What is elsewhere cannot be reached, or the copy cannot be kept.
    fn need(&self, path: &Path) -> Result<()>;
    /// Brings the first bytes of a file, enough for its header as a rule; whether the rest is still missing.
    ///
    /// # Errors
    /// As [`Self::need`].
    fn need_start(&self, path: &Path) -> Result<bool>;
    /// A file has been written: whole, and under its name.
    ///
    /// # Errors
    /// Something that was written before could not be put elsewhere.
    fn written(&self, path: &Path) -> Result<()>;
    /// A file has been written that is to be there only if no other process was faster; whether it is this one.
    ///
    /// # Errors
    /// As [`Self::written`]; it cannot be put elsewhere.
    fn written_first(&self, path: &Path) -> Result<bool>;
    /// A file has been removed.
    ///
    /// # Errors
    /// As [`Self::written`].
    fn removed(&self, path: &Path) -> Result<()>;
    /// Waits while too much that was written is still on its way.
    fn wait_for_room(&self);
    /// Looks whether a file was replaced elsewhere since; its copy has a new time then.
    ///
    /// # Errors
    /// What is elsewhere cannot be reached.
    fn look_again(&self, path: &Path) -> Result<()>;
    /// As [`Self::look_again`], for all files, new ones among them.
    ///
    /// # Errors
    /// What is elsewhere cannot be reached.
    fn list_again(&self) -> Result<()>;
    /// Time of the last change and a number that tells the bytes from others, of a file that is as it is elsewhere.
    fn identity(&self, path: &Path) -> Option<(i64, u64)>;
    /// Waits until all that was written is elsewhere.
    ///
    /// # Errors
    /// As [`Self::written`].
    fn finish(&self) -> Result<()>;
}

static MIRRORS: RwLock<Vec<Arc<dyn Mirror>>> = RwLock::new(Vec::new());
/// Whether there is any: most processes have none, and ask at every file.
static ANY: AtomicBool = AtomicBool::new(false);

/// From now on, a folder is a copy of what has this name.
pub fn add(mirror: Arc<dyn Mirror>, name: &str) {
    copies::register(mirror.root(), name);
    MIRRORS.write().unwrap_or_else(PoisonError::into_inner).push(mirror);
    ANY.store(true, Ordering::Release);
}

/// All of them.
fn all() -> Vec<Arc<dyn Mirror>> {
    MIRRORS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The one that a path lies in.
fn of(path: &Path) -> Option<Arc<dyn Mirror>> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    all().into_iter().find(|mirror| path.starts_with(mirror.root()))
}

/// Whether a path lies in a copy.
pub fn is_copy(path: &Path) -> bool {
    of(path).is_some()
}

/// See [`Mirror::need`].
///
/// # Errors
/// As there.
pub fn need(path: &Path) -> Result<()> {
    of(path).map_or(Ok(()), |mirror| mirror.need(path))
}

/// See [`Mirror::need_start`].
///
/// # Errors
/// As there.
pub fn need_start(path: &Path) -> Result<bool> {
    of(path).map_or(Ok(false), |mirror| mirror.need_start(path))
}

/// See [`Mirror::written`].
///
/// # Errors
/// As there.
pub fn written(path: &Path) -> Result<()> {
    of(path).map_or(Ok(()), |mirror| mirror.written(path))
}

/// See [`Mirror::written_first`].
///
/// # Errors
/// As there.
pub fn written_first(path: &Path) -> Result<bool> {
    of(path).map_or(Ok(true), |mirror| mirror.written_first(path))
}

/// See [`Mirror::removed`].
///
/// # Errors
/// As there.
pub fn removed(path: &Path) -> Result<()> {
    of(path).map_or(Ok(()), |mirror| mirror.removed(path))
}

/// See [`Mirror::wait_for_room`].
pub fn wait_for_room(path: &Path) {
    if let Some(mirror) = of(path) {
        mirror.wait_for_room();
    }
}

/// See [`Mirror::look_again`].
///
/// # Errors
/// As there.
pub fn look_again(path: &Path) -> Result<()> {
    of(path).map_or(Ok(()), |mirror| mirror.look_again(path))
}

/// See [`Mirror::list_again`].
///
/// # Errors
/// As there.
pub fn list_again(folder: &Path) -> Result<()> {
    of(folder).map_or(Ok(()), |mirror| mirror.list_again())
}

/// See [`Mirror::identity`].
pub fn identity(path: &Path) -> Option<(i64, u64)> {
    of(path)?.identity(path)
}

/// Waits until all that was written in any copy is elsewhere.
///
/// # Errors
/// Something could not be put there.
pub fn finish() -> Result<()> {
    all().iter().try_for_each(|mirror| mirror.finish())
}

/// What a path is called for people and in files: the original's name where it is a copy.
pub fn name_of(path: &Path) -> PathBuf {
    copies::name_of(path).map_or_else(|| path.to_owned(), PathBuf::from)
}
