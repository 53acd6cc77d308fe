//! The folder that stands for an address.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, PutMode, PutPayload};

use crate::error::{Error, Result};
use crate::files::atomic::TEMPORARY;
use crate::files::folder::is_temporary;
use crate::files::mirror::Mirror;
use crate::remote::address::Wanted;
use crate::remote::fetching::{self, Failed, Start};
use crate::remote::index::{Index, Known, State, Turn, Version, name_in, path_in};
use crate::remote::runtime::wait;
use crate::remote::trouble::Trouble;
use crate::remote::uploads::{Uploads, key_below};

/// Endings of photos whose header stands in their first bytes: those of TIFF and WebP may lie behind the pixels.
const WITH_HEADS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Requests and bytes that came.
#[derive(Debug, Default)]
pub struct Counts {
    /// Listings.
    pub lists: AtomicU64,
    /// Objects that were listed.
    pub listed: AtomicU64,
    /// Objects, or starts of them, that were brought.
    pub gets: AtomicU64,
    /// Bytes of these.
    pub got_bytes: AtomicU64,
    /// Objects that were only looked at.
    pub heads: AtomicU64,
}

/// Its copy, and the way to it.
pub struct Copy {
    root: PathBuf,
    /// Where files lie while they are on their way.
    spool: PathBuf,
    store: Arc<dyn ObjectStore>,
    below: Key,
    name: String,
    wanted: Wanted,
    index: Arc<Index>,
    uploads: Uploads,
    /// By how many nanoseconds the store's clock is ahead.
    ahead_ns: i64,
    /// Requests and bytes that came.
    pub counts: Counts,
}

impl Copy {
    /// A copy of what lies below a key, in a folder that need not exist. `kept`: objects whose copies are there
    /// already, with these versions.
    ///
    /// # Errors
    /// Files that cannot be made.
    pub fn new(
        (root, spool): (PathBuf, PathBuf),
        (store, below, name): (Arc<dyn ObjectStore>, Key, String),
        (wanted, ahead_ns): (Wanted, i64),
        (objects, kept): (Vec<ObjectMeta>, &HashMap<String, Version>),
    ) -> Result<Self> {
        std::fs::create_dir_all(&spool).map_err(Error::io("make a folder for copies", &spool))?;
        let index = Arc::new(Index::default());
        let into = (Arc::clone(&store), below.clone(), name.clone());
        let uploads = Uploads::new(into, Arc::clone(&index), spool.clone())?;
        let counts = Counts::default();
        let copy = Self { root, spool, store, below, name, wanted, index, uploads, ahead_ns, counts };
        copy.take(objects, kept)?;
        Ok(copy)
    }

    /// What has been put and removed.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The objects whose copies are whole and as they are in the store, with what the store calls their bytes.
    pub fn whole(&self) -> HashMap<String, Version> {
        let known = self.index.known();
        let of = |(name, object): (&String, &Known)| {
            let size = std::fs::metadata(path_in(&self.root, name)).ok()?.len();
            let put = object.put.clone().map(|tag| Version { size, modified_ns: 0, tag: Some(tag) });
            let version = object.version.clone().filter(|version| version.tag.is_some()).or(put)?;
            (object.state == State::Here && version.size == size).then(|| (name.clone(), version))
        };
        known.iter().filter_map(of).collect()
    }

    /// Whether an object is of those that are wanted.
    fn is_wanted(&self, name: &str) -> bool {
        match self.wanted {
            Wanted::All => true,
            Wanted::Records => [".json", ".part"].iter().any(|ending| name.ends_with(ending)) || !name.contains('/'),
        }
    }

    /// Takes a listing over: new and changed objects get a copy without bytes, copies of those that are gone go, too.
    fn take(&self, objects: Vec<ObjectMeta>, kept: &HashMap<String, Version>) -> Result<()> {
        self.counts.lists.fetch_add(objects.len().div_ceil(1000).max(1) as u64, Ordering::Relaxed);
        self.counts.listed.fetch_add(objects.len() as u64, Ordering::Relaxed);
        let mut there = HashSet::new();
        // A name that others are below of is a folder's, which some programs put there as an empty object.
        let mut before: Option<(String, Version)> = None;
        let mut sorted: Vec<(String, Version)> = objects.iter().filter_map(|meta| self.named(meta)).collect();
        sorted.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
        for (name, version) in sorted.into_iter().map(Some).chain([None]).map(Option::unzip) {
            let is_folder = |(before, _): &(String, Version)| {
                name.as_ref().is_some_and(|name: &String| name.strip_prefix(before).is_some_and(|n| n.starts_with('/')))
            };
            if let Some((name, version)) = before.take_if(|before| !is_folder(before)) {
                self.arrange(&name, version, kept.get(&name))?;
                there.insert(name);
            }
            before = name.zip(version);
        }
        let is_gone = |(name, object): (&String, &Known)| {
            (object.version.is_some() && !there.contains(name)).then(|| name.clone())
        };
        let gone: Vec<String> = self.index.known().iter().filter_map(is_gone).collect();
        gone.iter().for_each(|name| self.forget(name));
        Ok(())
    }

    /// An object's name below the address, where it is wanted.
    fn named(&self, meta: &ObjectMeta) -> Option<(String, Version)> {
        let name = meta.location.as_ref().strip_prefix(self.below.as_ref())?.trim_start_matches('/');
        let last = name.rsplit('/').next().unwrap_or(name);
        (!name.is_empty() && !is_temporary(last) && self.is_wanted(name)).then(|| (name.to_owned(), Version::of(meta)))
    }

    /// An object that a listing tells of.
    fn arrange(&self, name: &str, version: Version, kept: Option<&Version>) -> Result<()> {
        let known = self.index.known().get(name).cloned();
        match known {
            Some(known) if known.version.as_ref() == Some(&version) || known.state == State::Coming => return Ok(()),
            // What this process has written is newer.
            Some(Known { version: None, .. }) => return Ok(()),
            _ => {}
        }
        let path = path_in(&self.root, name);
        let is_kept = kept.is_some_and(|kept| kept.size == version.size && kept.tag == version.tag);
        if !is_kept {
            self.without_bytes(&path, &version).map_err(Error::io("make a copy of the object here", &path))?;
        }
        let state = if is_kept || version.size == 0 { State::Here } else { State::Far };
        self.index.set(name, Some(Known::there(version, state)));
        Ok(())
    }

    /// A file of the right size and time, without bytes.
    fn without_bytes(&self, path: &Path, version: &Version) -> io::Result<()> {
        let open = || File::create(path);
        let file = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                open()?
            }
            file => file?,
        };
        file.set_len(version.size)?;
        file.set_modified(self.local_time(version))
    }

    /// When an object was put, by this machine's clock.
    fn local_time(&self, version: &Version) -> SystemTime {
        let since = u64::try_from(version.modified_ns.saturating_sub(self.ahead_ns)).unwrap_or_default();
        UNIX_EPOCH + Duration::from_nanos(since)
    }

    /// An object is no more.
    fn forget(&self, name: &str) {
        // What cannot be removed is found to be missing when it is opened.
        let _ = std::fs::remove_file(path_in(&self.root, name));
        self.index.set(name, None);
    }

    fn trouble(&self, name: &str, action: &'static str, error: &StoreError) -> Error {
        Trouble::new(&format!("{}/{name}", self.name), action, error).error()
    }

    /// What stands in the way of an object that was to come.
    fn failed(&self, name: &str, failed: Failed) -> Error {
        const FETCH: &str = "fetch the object";
        let address = format!("{}/{name}", self.name);
        match failed {
            Failed::Gone => Trouble::told(&address, FETCH, "there is none any more").error(),
            Failed::Store(error) => self.trouble(name, FETCH, &error),
            Failed::Short(came, all) => {
                Trouble::told(&address, FETCH, format!("only {came} of {all} bytes came, again and again")).error()
            }
            Failed::Disk(reason) => Error::io("keep a copy of the object here", &self.spool)(reason),
        }
    }

    /// Brings an object, which is [`State::Coming`].
    fn bring(&self, name: &str) -> Result<Option<Known>> {
        let path = path_in(&self.root, name);
        let keep = || Error::io("keep a copy of the object here", &self.spool);
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(&self.spool).map_err(keep())?;
        let writer = file.reopen().map_err(keep())?;
        self.counts.gets.fetch_add(1, Ordering::Relaxed);
        let version = match wait(fetching::whole(Arc::clone(&self.store), self.key(name), writer))? {
            Err(Failed::Gone) => return Ok(None),
            brought => brought.map_err(|reason| self.failed(name, reason))?,
        };
        self.counts.got_bytes.fetch_add(version.size, Ordering::Relaxed);
        file.as_file().set_modified(self.local_time(&version)).map_err(keep())?;
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(keep())?;
        file.persist(&path).map_err(|e| Error::io("keep a copy of the object here", &path)(e.error))?;
        Ok(Some(Known::there(version, State::Here)))
    }

    fn key(&self, name: &str) -> Key {
        key_below(&self.below, name)
    }

    /// Brings the starts of a photo and of those beside it, of all in one go: whoever asks for one will ask for all.
    fn bring_starts(&self, path: &Path) -> Result<()> {
        let (mut wanted, mut before) = (Vec::new(), HashMap::new());
        for (name, object) in self.index.known().iter_mut() {
            let copy = path_in(&self.root, name);
            if object.state == State::Far
                && copy.parent() == path.parent()
                && has_head(&copy)
                && let Some(version) = &object.version
            {
                before.insert(name.clone(), version.clone());
                object.state = State::Coming;
                wanted.push(Start { name: name.clone(), key: self.key(name), copy });
            }
        }
        self.counts.gets.fetch_add(wanted.len() as u64, Ordering::Relaxed);
        let mut first = None;
        let brought = wait(fetching::starts(Arc::clone(&self.store), wanted)).unwrap_or_else(|error| {
            first = Some(error);
            Vec::new()
        });
        for (name, brought) in brought {
            let before = before.remove(&name);
            match brought {
                Ok(version) => {
                    self.counts.got_bytes.fetch_add(version.size.min(fetching::START), Ordering::Relaxed);
                    let state = if version.size <= fetching::START { State::Here } else { State::Started };
                    let times = File::options().write(true).open(path_in(&self.root, &name));
                    let timed = times.and_then(|file| file.set_modified(self.local_time(&version)));
                    timed.map_err(Error::io("keep a copy of the object here", &self.root))?;
                    self.index.set(&name, Some(Known::there(version, state)));
                }
                Err(Failed::Gone) => self.forget(&name),
                Err(reason) => {
                    self.index.set(&name, before.map(|version| Known::there(version, State::Far)));
                    first.get_or_insert(self.failed(&name, reason));
                }
            }
        }
        for (name, version) in before {
            self.index.set(&name, Some(Known::there(version, State::Far)));
        }
        first.map_or(Ok(()), Err)
    }

    /// Takes what another process has put under a name.
    fn take_theirs(&self, name: &str) -> Result<()> {
        self.index.set(name, None);
        let brought = self.bring(name)?;
        self.index.set(name, brought);
        Ok(())
    }
}

fn has_head(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    WITH_HEADS.contains(&ending.as_str())
}

impl Mirror for Copy {
    fn root(&self) -> &Path {
        &self.root
    }

    fn need(&self, path: &Path) -> Result<()> {
        let Some(name) = name_in(&self.root, path) else { return Ok(()) };
        let Turn::Own(version) = self.index.turn(&name, false) else { return Ok(()) };
        match self.bring(&name) {
            Ok(Some(known)) => self.index.set(&name, Some(known)),
            Ok(None) => self.forget(&name),
            Err(error) => {
                self.index.set(&name, Some(Known::there(version, State::Far)));
                return Err(error);
            }
        }
        Ok(())
    }

    fn need_start(&self, path: &Path) -> Result<bool> {
        let Some(name) = name_in(&self.root, path) else { return Ok(false) };
        if !has_head(path) {
            return self.need(path).map(|()| false);
        }
        if self.index.state(&name) == Some(State::Far) {
            self.bring_starts(path)?;
        }
        // Another thread may be at it.
        if let Turn::Own(version) = self.index.turn(&name, true) {
            self.index.set(&name, Some(Known::there(version, State::Far)));
            return self.need(path).map(|()| false);
        }
        Ok(self.index.state(&name) == Some(State::Started))
    }

    fn written(&self, path: &Path) -> Result<()> {
        let Some(name) = name_in(&self.root, path) else {
            let (place, found) =
                (path.display().to_string(), "a name that is not text (UTF-8), which stores do not take");
            return Err(Error::input(place, found, "other names of photos"));
        };
        self.uploads.put(&name, path)
    }

    fn written_first(&self, path: &Path) -> Result<bool> {
        let Some(name) = name_in(&self.root, path) else { return self.written(path).map(|()| true) };
        self.uploads.flush()?;
        const PUT: &str = "put the object";
        let bytes = std::fs::read(path).map_err(Error::io("read back for the store", path))?;
        let (store, key) = (Arc::clone(&self.store), self.key(&name));
        let create = async move { store.put_opts(&key, PutPayload::from(bytes), PutMode::Create.into()).await };
        let counts = self.uploads.counts();
        counts.puts.fetch_add(1, Ordering::Relaxed);
        match wait(create)? {
            Ok(put) => {
                let size = std::fs::metadata(path).map_or(0, |data| data.len());
                counts.put_bytes.fetch_add(size, Ordering::Relaxed);
                self.index.set(&name, Some(Known { put: put.e_tag, ..Known::written(u64::MAX) }));
                Ok(true)
            }
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                self.take_theirs(&name).map(|()| false)
            }
            // A store that knows no such condition: who looks first may still be second, with the same bytes.
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
                let found = wait(fetching::looked_at(Arc::clone(&self.store), self.key(&name)))?;
                match found.map_err(|e| self.trouble(&name, PUT, &e))? {
                    Some(_) => self.take_theirs(&name).map(|()| false),
                    None => self.written(path).and_then(|()| self.uploads.flush()).map(|()| true),
                }
            }
            Err(error) => Err(self.trouble(&name, PUT, &error)),
        }
    }

    fn removed(&self, path: &Path) -> Result<()> {
        let Some(name) = name_in(&self.root, path) else { return Ok(()) };
        let below = format!("{name}/");
        let all = |known: &String| *known == name || known.starts_with(&below);
        let names: Vec<String> = self.index.known().keys().filter(|known| all(known)).cloned().collect();
        for name in names {
            self.uploads.delete(&name)?;
            self.index.set(&name, None);
        }
        Ok(())
    }

    fn wait_for_room(&self) {
        self.uploads.wait_for_room();
    }

    fn look_again(&self, path: &Path) -> Result<()> {
        let Some(name) = name_in(&self.root, path) else { return Ok(()) };
        self.counts.heads.fetch_add(1, Ordering::Relaxed);
        let found = wait(fetching::looked_at(Arc::clone(&self.store), self.key(&name)))?;
        match found.map_err(|e| self.trouble(&name, "look at the object", &e))? {
            Some(meta) => self.arrange(&name, Version::of(&meta), None),
            None => {
                if self.index.known().get(&name).is_some_and(|object| object.version.is_some()) {
                    self.forget(&name);
                }
                Ok(())
            }
        }
    }

    fn list_again(&self) -> Result<()> {
        let objects = wait(fetching::listed(Arc::clone(&self.store), self.below.clone()))?;
        let objects = objects.map_err(|e| Trouble::new(&self.name, "list the objects", &e).error())?;
        self.take(objects, &HashMap::new())
    }

    fn identity(&self, path: &Path) -> Option<(i64, u64)> {
        let name = name_in(&self.root, path)?;
        let known = self.index.known();
        let version = known.get(&name)?.version.as_ref()?;
        Some((version.modified_ns, version.number()?))
    }

    fn finish(&self) -> Result<()> {
        self.uploads.flush()
    }
}
