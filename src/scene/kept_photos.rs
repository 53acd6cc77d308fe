//! Photos that several views are cut of, kept as they were decoded: else each face of a panorama decodes it anew.
//!
//! Nothing is kept unless a run has planned memory for it ([`keep`]): what was used last stays.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use crate::Result;
use crate::files::image::{self, Decoded};

/// A file as it was when it was decoded.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    path: PathBuf,
    length: u64,
    changed: Option<SystemTime>,
}

/// Held by whoever decodes, so that others wait for the result. Decoders are no work of rayon's: who waits here in one
/// of its threads waits for none of its tasks.
type Slot = Arc<Mutex<Option<Arc<Decoded>>>>;

struct Entry {
    key: Key,
    slot: Slot,
    /// Once it is decoded.
    bytes: u64,
}

struct Kept {
    room: u64,
    /// What was used last comes last.
    entries: Vec<Entry>,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { room: 0, entries: Vec::new() });

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// As long as it lives, photos are kept.
pub struct Keeping(());

impl Drop for Keeping {
    fn drop(&mut self) {
        *locked(&KEPT) = Kept { room: 0, entries: Vec::new() };
    }
}

/// Keeps decoded photos of so many bytes in all.
#[must_use]
pub fn keep(room: u64) -> Keeping {
    locked(&KEPT).room = room;
    Keeping(())
}

/// A photo as it is stored: one that is kept, or else the file.
///
/// # Errors
/// A file that cannot be read or decoded.
pub fn decoded(path: &Path) -> Result<Arc<Decoded>> {
    let Some((key, slot)) = slot_of(path) else { return image::decode(path).map(Arc::new) };
    let mut held = locked(&slot);
    if let Some(photo) = &*held {
        return Ok(photo.clone());
    }
    let photo = Arc::new(image::decode(path)?);
    *held = Some(photo.clone());
    drop(held);
    make_room(&key, photo.bytes());
    Ok(photo)
}

/// Where a photo is kept; nowhere if nothing is, or if nobody can tell whether the file is still the same.
fn slot_of(path: &Path) -> Option<(Key, Slot)> {
    let mut kept = locked(&KEPT);
    if kept.room == 0 {
        return None;
    }
    let data = std::fs::metadata(path).ok()?;
    let key = Key { path: path.to_owned(), length: data.len(), changed: data.modified().ok() };
    let at = kept.entries.iter().position(|entry| entry.key == key);
    let entry = at.map(|at| kept.entries.remove(at));
    let entry = entry.unwrap_or_else(|| Entry { key: key.clone(), slot: Slot::default(), bytes: 0 });
    let slot = entry.slot.clone();
    kept.entries.push(entry);
    Some((key, slot))
}

/// Notes how large a photo is, and lets go what was not used for longest.
fn make_room(key: &Key, bytes: u64) {
    let mut kept = locked(&KEPT);
    if let Some(entry) = kept.entries.iter_mut().find(|entry| entry.key == *key) {
        entry.bytes = bytes;
    }
    let mut total: u64 = kept.entries.iter().map(|entry| entry.bytes).sum();
    while total > kept.room {
        total -= kept.entries.remove(0).bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since what is kept is kept for the whole program.
    #[test]
    fn what_was_used_last_stays_as_far_as_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(format!("{name}.png")));
        for (path, value) in [(&a, 1), (&b, 2), (&c, 3)] {
            ::image::RgbImage::from_pixel(10, 10, ::image::Rgb([value; 3])).save(path).unwrap();
        }
        let is_kept = |path: &Path| Arc::ptr_eq(&decoded(path).unwrap(), &decoded(path).unwrap());
        assert!(!is_kept(&a));
        // Two of 300 bytes.
        let keeping = keep(700);
        let first = decoded(&a).unwrap();
        assert_eq!(first.pixels().unwrap(), image::read(&a).unwrap());
        assert!(is_kept(&b) && Arc::ptr_eq(&first, &decoded(&a).unwrap()));
        // It is b that goes, and then a.
        assert!(is_kept(&c) && Arc::ptr_eq(&first, &decoded(&a).unwrap()));
        assert!(is_kept(&b) && is_kept(&c) && !Arc::ptr_eq(&first, &decoded(&a).unwrap()));
        // Another file under the name is another photo.
        ::image::RgbImage::from_pixel(11, 10, ::image::Rgb([4; 3])).save(&a).unwrap();
        assert_eq!(decoded(&a).unwrap().pixels().unwrap().size, (11, 10));
        // All that ask at once get the same.
        drop(keeping);
        let keeping = keep(700);
        let all: Vec<Arc<Decoded>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| decoded(&b).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
        // A photo that is larger than all there is goes at once, and errors leave nothing.
        drop(keeping);
        let keeping = keep(200);
        assert!(!is_kept(&b));
        std::fs::write(&c, b"nothing").unwrap();
        assert!(decoded(&c).is_err() && decoded(&c).is_err());
        drop(keeping);
        assert!(locked(&KEPT).entries.is_empty() && !is_kept(&b));
    }
}
