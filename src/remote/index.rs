//! What is known of the objects below an address, and how much of each is in its copy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An object's bytes are these as long as this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// When it was put there, by the store's clock, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// What the store calls these bytes, if it does.
    pub tag: Option<String>,
}

impl Version {
    /// As a store tells it.
    pub fn of(meta: &ObjectMeta) -> Self {
        let modified_ns = meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
        Self { size: meta.size, modified_ns, tag: meta.e_tag.clone() }
    }

    /// The tag as a number.
    pub fn number(&self) -> Option<u64> {
        let digest = Sha256::digest(self.tag.as_ref()?.as_bytes());
        digest.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// How much of an object is in its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: the copy has its size, and zeros.
    Far,
    /// Its first bytes.
    Started,
    /// It is being brought.
    Coming,
    /// All.
    Here,
}

/// An object.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which bytes it has in the store; none where only this process has written it.
    pub version: Option<Version>,
    /// How much of it is in the copy.
    pub state: State,
    /// Which writing of this process it is.
    pub written: Option<u64>,
    /// What the store calls the bytes that this process has put there.
    pub put: Option<String>,
}

impl Known {
    /// An object as it is in the store.
    pub fn there(version: Version, state: State) -> Self {
        Self { version: Some(version), state, written: None, put: None }
    }

    /// What this process has written.
    pub fn written(number: u64) -> Self {
        Self { version: None, state: State::Here, written: Some(number), put: None }
    }
}

/// The objects by their names below the address, with slashes.
#[derive(Debug, Default)]
pub struct Index {
    known: Mutex<HashMap<String, Known>>,
    /// Somebody has brought an object, or given up.
    changed: Condvar,
}

/// Who is to bring an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is here, or nowhere.
    Nobody,
    /// Whoever asked; [`Index::set`] says how it ended.
    Own(Version),
}

impl Index {
    /// The objects.
    pub fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to bring an object, whole or from its start. Waits while others bring it.
    pub fn turn(&self, name: &str, only_start: bool) -> Turn {
        let mut known = self.known();
        loop {
            let Some(object) = known.get_mut(name) else { return Turn::Nobody };
            match (object.state, &object.version) {
                (State::Here, _) | (_, None) => return Turn::Nobody,
                (State::Started, _) if only_start => return Turn::Nobody,
                (State::Coming, _) => known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner),
                (State::Far | State::Started, Some(version)) => {
                    let version = version.clone();
                    object.state = State::Coming;
                    return Turn::Own(version);
                }
            }
        }
    }

    /// How much of an object is here now; `None`: there is no such object.
    pub fn set(&self, name: &str, now: Option<Known>) {
        let mut known = self.known();
        match now {
            Some(now) => _ = known.insert(name.to_owned(), now),
            None => _ = known.remove(name),
        }
        self.changed.notify_all();
    }

    /// A writing of an object has arrived.
    pub fn put(&self, name: &str, number: u64, tag: Option<String>) {
        let mut known = self.known();
        if let Some(object) = known.get_mut(name).filter(|object| object.written == Some(number)) {
            object.put = tag;
        }
    }

    /// How much of it is here.
    pub fn state(&self, name: &str) -> Option<State> {
        self.known().get(name).map(|object| object.state)
    }
}

/// The name of an object by the path of its copy; `None` for names that are not text, and outside of the folder.
pub fn name_in(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.strip_prefix(root).ok()?.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// The path of an object's copy.
pub fn path_in(root: &Path, name: &str) -> PathBuf {
    name.split('/').fold(root.to_owned(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn version(tag: &str) -> Version {
        Version { size: 3, modified_ns: 1, tag: Some(tag.into()) }
    }

    #[test]
    fn one_brings_an_object_and_others_wait() {
        let index = Arc::new(Index::default());
        assert_eq!(index.turn("a", false), Turn::Nobody, "there is none");
        index.set("a", Some(Known::there(version("x"), State::Far)));
        assert_eq!(index.turn("a", true), Turn::Own(version("x")));
        let other = Arc::clone(&index);
        let waits = std::thread::spawn(move || other.turn("a", false));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waits.is_finished());
        index.set("a", Some(Known::there(version("x"), State::Started)));
        // The start is not all of it.
        assert_eq!(waits.join().unwrap(), Turn::Own(version("x")));
        index.set("a", Some(Known::there(version("x"), State::Here)));
        assert_eq!((index.turn("a", false), index.turn("a", true)), (Turn::Nobody, Turn::Nobody));
        index.set("b", Some(Known::written(7)));
        assert_eq!(index.turn("b", false), Turn::Nobody);
        index.put("b", 6, Some("earlier".into()));
        assert_eq!(index.known()["b"].put, None, "it was written again since");
        index.put("b", 7, Some("latest".into()));
        assert_eq!(index.known()["b"].put.as_deref(), Some("latest"));
    }

    #[test]
    fn names_are_paths_below_the_folder() {
        let root = Path::new("/copies/town");
        assert_eq!(name_in(root, Path::new("/copies/town/images/a b.jpg")).as_deref(), Some("images/a b.jpg"));
        assert_eq!(name_in(root, Path::new("/elsewhere")), None);
        assert_eq!(path_in(root, "images/a b.jpg"), Path::new("/copies/town/images/a b.jpg"));
        assert!(version("x").number() != version("y").number());
        assert_eq!(Version { tag: None, ..version("x") }.number(), None);
    }
}
