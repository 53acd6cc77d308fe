//! From an address to its folder, and what is left of it in the end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::files::atomic::TEMPORARY;
use crate::files::folder::{RESULTS_MARK, write_json};
use crate::files::lock::{FolderLock, Mode};
use crate::files::mirror::Mirror;
use crate::files::{hash, input, mirror};
use crate::host::copies;
use crate::host::memory::readable;
use crate::host::progress::Progress;
use crate::remote::address::{Wanted, is_address};
use crate::remote::index::{Version, name_in, path_in};
use crate::remote::mirror::Copy;
use crate::remote::runtime::wait;
use crate::remote::store::Place;
use crate::remote::trouble::Trouble;
use crate::remote::{clock, fetching};

/// Beside the copies of a `--cache`: which they are.
const KEPT: &str = "copies.json";

/// All copies of this process.
#[derive(Default)]
struct Mounted {
    copies: Vec<Kept>,
    /// Where those lie that nobody wants to keep.
    temporary: Option<TempDir>,
}

/// A copy, and where it is kept for the next process.
struct Kept {
    copy: Arc<Copy>,
    /// The record of it, and the lock of its folder.
    record: Option<(PathBuf, FolderLock)>,
}

/// What stays of a copy.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Objects whose copies are whole, and the times of their files in nanoseconds since 1970.
    whole: HashMap<String, (Version, i64)>,
}

static MOUNTED: Mutex<Option<Mounted>> = Mutex::new(None);

fn all() -> MutexGuard<'static, Option<Mounted>> {
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of an address.
///
/// # Errors
/// An address of no store; a store that cannot be reached or refuses; a disk that has no room.
pub fn mounted(address: &Path, wanted: Wanted, cache: Option<&Path>) -> Result<PathBuf> {
    let text = address.to_str().unwrap_or_default();
    if let Some(place) = copies::place_of(text) {
        return Ok(place);
    }
    let place = Place::of(text)?;
    let told = |e| Trouble::new(&place.name, "list the objects", &e).error();
    let objects = wait(fetching::listed(Arc::clone(&place.first), place.key.clone()))?.map_err(told)?;
    if objects.is_empty() && !place.key.as_ref().is_empty() {
        // A scene may be named by its file of cameras: its folder is the one around it.
        let found = wait(fetching::looked_at(Arc::clone(&place.first), place.key.clone()))?.map_err(told)?;
        if let (Some(_), Some((folder, file))) = (found, place.name.rsplit_once('/')) {
            return Ok(mounted(Path::new(folder), wanted, cache)?.join(file));
        }
    }
    let ahead = match wanted {
        Wanted::All => None,
        Wanted::Records => wait(clock::ahead(Arc::clone(&place.first), place.key.clone()))?,
    };
    let (base, lock) = base_of(&place.name, cache)?;
    let last = place.name.rsplit('/').find(|part| !part.is_empty() && !part.ends_with(':')).unwrap_or("store");
    let root = base.join("files").join(last);
    let record = base.join(KEPT);
    let kept = if lock.is_some() { kept(&root, &record)? } else { HashMap::new() };
    let files = (root.clone(), base.join("spool"));
    let from = (Arc::clone(&place.store), place.key.clone(), place.name.clone());
    let copy = Arc::new(Copy::new(files, from, (wanted, ahead.unwrap_or_default()), (objects, &kept))?);
    mirror::add(Arc::clone(&copy) as Arc<dyn Mirror>, &place.name);
    let kept = Kept { copy, record: lock.map(|lock| (record, lock)) };
    all().get_or_insert_default().copies.push(kept);
    Ok(root)
}

/// A folder for a copy, and its lock where others may come to it.
fn base_of(name: &str, cache: Option<&Path>) -> Result<(PathBuf, Option<FolderLock>)> {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Long names are cut, and alike ones told apart.
    let own = format!("{}-{}", plain.chars().take(60).collect::<String>(), &hash::of_bytes(name.as_bytes())[..8]);
    const MAKE: &str = "make a folder for copies";
    if let Some(cache) = cache {
        let base = cache.join(own);
        std::fs::create_dir_all(&base).map_err(Error::io(MAKE, &base))?;
        let lock = FolderLock::acquire(&base, Mode::Alone, "folder of copies", MAKE)?;
        return Ok((base.canonicalize().map_err(Error::io(MAKE, &base))?, Some(lock)));
    }
    let mut mounted = all();
    let temporary = &mut mounted.get_or_insert_default().temporary;
    let folder = match temporary {
        Some(folder) => folder.path().to_owned(),
        None => {
            let made = tempfile::Builder::new().prefix(&format!("{}copies-", TEMPORARY.0)).tempdir();
            let made = made.map_err(Error::io(MAKE, &std::env::temp_dir()))?;
            temporary.insert(made).path().to_owned()
        }
    };
    let base = folder.join(own);
    std::fs::create_dir_all(&base).map_err(Error::io(MAKE, &base))?;
    Ok((base.canonicalize().map_err(Error::io(MAKE, &base))?, None))
}

/// The copies that an earlier process has kept and nobody has touched since; all others are removed, since nothing
/// tells what they are.
fn kept(root: &Path, record: &Path) -> Result<HashMap<String, Version>> {
    let bytes = input::read(record, "read which copies are kept").unwrap_or_default();
    let Record { whole } = serde_json::from_slice(&bytes).unwrap_or_default();
    let is_as_it_was = |(name, (version, time)): (String, (Version, i64))| {
        let path = path_in(root, &name);
        let is_same = modified_ns(&path) == Some(time) && path.metadata().is_ok_and(|data| data.len() == version.size);
        is_same.then_some((name, version))
    };
    let kept: HashMap<String, Version> = whole.into_iter().filter_map(is_as_it_was).collect();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !name_in(root, &path).is_some_and(|name| kept.contains_key(&name)) {
                std::fs::remove_file(&path).map_err(Error::io("remove an old copy", &path))?;
            }
        }
    }
    Ok(kept)
}

fn modified_ns(path: &Path) -> Option<i64> {
    let since = std::fs::metadata(path).ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// The address of the scene that a folder's results are of, if it is one.
///
/// # Errors
/// A mark that cannot be brought.
pub fn scene_of(results: &Path) -> Result<Option<PathBuf>> {
    let file = results.join(RESULTS_MARK);
    if !file.exists() {
        return Ok(None);
    }
    let mark: Value = serde_json::from_slice(&input::read(&file, "read the mark")?).unwrap_or_default();
    Ok(mark["scene"].as_str().map(PathBuf::from).filter(|scene| is_address(scene)))
}

/// Waits until everything is in its store, tells what was moved, and takes away what nobody wants to keep.
///
/// # Errors
/// Something could not be put into its store.
pub fn finish(progress: &Progress, in_words: bool) -> Result<()> {
    let Some(Mounted { copies, temporary }) = all().take() else { return Ok(()) };
    let mut ended = Ok(());
    for Kept { copy, record } in &copies {
        ended = ended.and(copy.finish());
        if let Some((record, _)) = record {
            let timed = |(name, version): (String, Version)| {
                let time = modified_ns(&path_in(copy.root(), &name))?;
                Some((name, (version, time)))
            };
            let whole = copy.whole().into_iter().filter_map(timed).collect();
            ended = ended.and(write_json(record, "write down which copies are kept", &Record { whole }));
        }
        tell(copy, progress, in_words);
    }
    if let Some(folder) = temporary {
        // What stays there does no harm, and the system takes it away some day.
        let _ = folder.close();
    }
    ended
}

/// What went through.
fn tell(copy: &Copy, progress: &Progress, in_words: bool) {
    let [lists, listed, gets, got, heads, puts, put, deletes] = {
        let (came, went) = (&copy.counts, copy.uploads().counts());
        [
            &came.lists,
            &came.listed,
            &came.gets,
            &came.got_bytes,
            &came.heads,
            &went.puts,
            &went.put_bytes,
            &went.deletes,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    };
    if in_words {
        let text = format!(
            "{}: {listed} objects listed, {gets} fetched ({}), {puts} put ({}), {deletes} removed",
            copy.name(),
            readable(got),
            readable(put)
        );
        progress.note(&text);
    }
    let fields = json!({
        "address": copy.name(), "lists": lists, "listed": listed, "gets": gets, "got_bytes": got, "heads": heads,
        "puts": puts, "put_bytes": put, "deletes": deletes,
    });
    progress.event("object_store", fields);
}
