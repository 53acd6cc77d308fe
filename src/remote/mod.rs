//! Scenes and results in object stores: S3, Google Cloud Storage, Azure Blob Storage, or whatever speaks like one.
//!
//! The rest of the program works in folders. An address (`s3://bucket/town`) gets a folder of its own (`mirror.rs`),
//! which is a copy of what lies below it, in a scratch folder: names, sizes and times of all objects from the start, by
//! a listing; the bytes of an object when a file is opened (`fetching.rs`). What is written there is put into the store
//! in the order in which it was written (`uploads.rs`), so that a record never arrives before what it vouches for.
//! Nothing depends on locks or on renaming, which stores do not have.
//!
//! All of it needs the feature `object-store`; without it an address is refused here.

use std::path::{Path, PathBuf};

#[cfg(not(feature = "object-store"))]
use crate::error::Error;
use crate::error::Result;
use crate::host::progress::Progress;
use crate::remote::address::{Wanted, is_address};

pub mod address;
#[cfg(feature = "object-store")]
mod clock;
#[cfg(feature = "object-store")]
mod fetching;
#[cfg(feature = "object-store")]
mod index;
#[cfg(feature = "object-store")]
mod mirror;
#[cfg(feature = "object-store")]
mod mounting;
#[cfg(feature = "object-store")]
mod runtime;
#[cfg(feature = "object-store")]
mod store;
#[cfg(feature = "object-store")]
mod trouble;
#[cfg(feature = "object-store")]
mod uploads;

/// The folder that stands for an address; any other path as it is. Copies lie below `cache`, or in a temporary folder
/// that [`finish`] removes.
///
/// # Errors
/// An address of no store that is known; a store that cannot be reached or refuses.
#[cfg(feature = "object-store")]
pub fn here(path: &Path, wanted: Wanted, cache: Option<&Path>) -> Result<PathBuf> {
    if is_address(path) { mounting::mounted(path, wanted, cache) } else { Ok(path.to_owned()) }
}

/// Refuses addresses: this build has no stores.
///
/// # Errors
/// An address.
#[cfg(not(feature = "object-store"))]
pub fn here(path: &Path, _wanted: Wanted, _cache: Option<&Path>) -> Result<PathBuf> {
    if !is_address(path) {
        return Ok(path.to_owned());
    }
    Err(Error::input(
        path.display().to_string(),
        "an address of an object store, which this build of the program cannot reach",
        "a folder, or a build with that in it (cargo build --release --features object-store)",
    ))
}

/// The scene that results are of, if it lies in a store, too: whoever reads the results finds it by its address.
///
/// # Errors
/// As [`here`].
#[cfg(feature = "object-store")]
pub fn with_scene_of(results: &Path, cache: Option<&Path>) -> Result<()> {
    mounting::scene_of(results)?.map_or(Ok(()), |scene| here(&scene, Wanted::All, cache).map(drop))
}

/// Does nothing in this build.
///
/// # Errors
/// None.
#[cfg(not(feature = "object-store"))]
pub fn with_scene_of(_results: &Path, _cache: Option<&Path>) -> Result<()> {
    Ok(())
}

/// Waits until all that was written is in the stores, takes temporary copies away, and tells what was moved.
///
/// # Errors
/// Something could not be put there.
#[cfg(feature = "object-store")]
pub fn finish(progress: &Progress, in_words: bool) -> Result<()> {
    mounting::finish(progress, in_words)
}

/// Does nothing in this build.
///
/// # Errors
/// None.
#[cfg(not(feature = "object-store"))]
pub fn finish(_progress: &Progress, _in_words: bool) -> Result<()> {
    Ok(())
}
