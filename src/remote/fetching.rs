//! Objects on their way to copies.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::remote::index::Version;

/// The first bytes of a photo that are brought where its header is asked for. JPEGs of cameras have up to 64 KiB of
/// EXIF before it, as a rule far less.
pub const START: u64 = 1 << 16;
/// Requests at a time for starts.
const AT_ONCE: usize = 16;
/// How often an object is asked for again that has come in part: the library itself asks for the rest, too.
const AGAIN: u32 = 4;

/// Why an object did not come.
#[derive(Debug)]
pub enum Failed {
    /// There is none any more.
    Gone,
    /// The store's reason.
    Store(StoreError),
    /// It came, but not all of it: so many bytes of so many.
    Short(u64, u64),
    /// The copy could not be written.
    Disk(io::Error),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            // A bucket that is gone is more than an object.
            StoreError::NotFound { ref source, .. } if !source.to_string().contains("NoSuchBucket") => Self::Gone,
            other => Self::Store(other),
        }
    }
}

/// All objects below a place.
///
/// # Errors
/// The store's reason.
pub async fn listed(store: Arc<dyn ObjectStore>, below: Key) -> Result<Vec<ObjectMeta>, StoreError> {
    let prefix = (!below.as_ref().is_empty()).then_some(&below);
    let mut tries = 0;
    loop {
        match store.list(prefix).try_collect().await {
            // The library asks again where there was no answer, but not where it broke off.
            Err(StoreError::Generic { source, .. }) if tries < AGAIN && broke_off(source.as_ref()) => {
                tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(tries)).await;
                tries += 1;
            }
            ended => return ended,
        }
    }
}

/// Whether an answer began, and did not end.
fn broke_off(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if ["response body", "body from connection", "end of file", "unclosed"].iter().any(|word| text.contains(word)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the store says of an object; `None` where there is none.
///
/// # Errors
/// The store's reason.
pub async fn looked_at(store: Arc<dyn ObjectStore>, key: Key) -> Result<Option<ObjectMeta>, StoreError> {
    match store.head(&key).await {
        Ok(meta) => Ok(Some(meta)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes an object into a file, and says which bytes these are.
///
/// # Errors
/// The object does not come, or not whole, however often it is asked for; the file cannot be written.
pub async fn whole(store: Arc<dyn ObjectStore>, key: Key, mut file: File) -> Result<Version, Failed> {
    let mut tries = 0;
    loop {
        match once(&store, &key, &mut file).await {
            Err(Failed::Store(_) | Failed::Short(..)) if tries < AGAIN => {
                tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(tries)).await;
                tries += 1;
            }
            ended => return ended,
        }
    }
}

async fn once(store: &Arc<dyn ObjectStore>, key: &Key, file: &mut File) -> Result<Version, Failed> {
    let got = store.get(key).await?;
    let version = Version::of(&got.meta);
    file.set_len(0).and_then(|()| file.rewind()).map_err(Failed::Disk)?;
    let (mut stream, mut came) = (got.into_stream(), 0);
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        file.write_all(&bytes).map_err(Failed::Disk)?;
        came += bytes.len() as u64;
    }
    if came == version.size { Ok(version) } else { Err(Failed::Short(came, version.size)) }
}

/// An object whose start is wanted: its name, where it is, and its copy, which is of its size already.
pub struct Start {
    /// Below the address.
    pub name: String,
    /// In the store.
    pub key: Key,
    /// Its copy.
    pub copy: PathBuf,
}

/// Writes the starts of objects into their copies. Gives what became of each.
pub async fn starts(store: Arc<dyn ObjectStore>, wanted: Vec<Start>) -> Vec<(String, Result<Version, Failed>)> {
    let one = |Start { name, key, copy }: Start| {
        let store = Arc::clone(&store);
        async move { (name, start(&store, &key, copy).await) }
    };
    futures_util::stream::iter(wanted.into_iter().map(one)).buffer_unordered(AT_ONCE).collect().await
}

async fn start(store: &Arc<dyn ObjectStore>, key: &Key, copy: PathBuf) -> Result<Version, Failed> {
    let options = GetOptions { range: Some(GetRange::Bounded(0..START)), ..GetOptions::default() };
    let got = store.get_opts(key, options).await?;
    let version = Version::of(&got.meta);
    let bytes = got.bytes().await?;
    let expected = version.size.min(START);
    if bytes.len() as u64 != expected {
        return Err(Failed::Short(bytes.len() as u64, expected));
    }
    let write = || {
        let mut file = File::options().write(true).open(copy)?;
        file.set_len(version.size)?;
        file.write_all(&bytes)
    };
    write().map_err(Failed::Disk)?;
    Ok(version)
}
