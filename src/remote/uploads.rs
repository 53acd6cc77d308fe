//! What was written, on its way into a store, in the order in which it was written: records and removals wait for all
//! that came before, and what comes after waits for them. Between them a few objects are on their way at a time.
//!
//! Each file gets a second name when it is written, so that what arrives is what was written then, whatever becomes of
//! the file meanwhile. After the first object that cannot be put, nothing more is: a record would vouch for it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path as Key;
use object_store::{Error as StoreError, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::remote::index::{Index, Known};
use crate::remote::runtime;
use crate::remote::trouble::Trouble;

/// Bytes of a part. A larger file goes in several, and alone.
const PART: u64 = 16 << 20;
/// The most parts that a store takes.
const MOST_PARTS: u64 = 9000;
/// Objects, or parts of one, on their way at a time: so many times [`PART`] is the most memory.
const AT_ONCE: usize = 4;
/// Objects that may wait: whoever writes more waits, too.
const MOST_WAITING: usize = 64;

/// What is to be done.
enum Task {
    Put(Put),
    Delete(String),
    /// Says when all before it is done.
    Flush(mpsc::Sender<()>),
}

/// A file to be put.
struct Put {
    /// Below the address.
    name: String,
    /// Its second name.
    file: PathBuf,
    size: u64,
    /// Which writing of the file this is.
    number: u64,
}

impl Task {
    /// Whether it waits for all that came before, and others for it.
    fn is_alone(&self) -> bool {
        match self {
            Self::Put(put) => put.name.ends_with(".json") || put.size > PART,
            Self::Delete(_) | Self::Flush(_) => true,
        }
    }
}

/// Requests and bytes so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Objects put, parts of them each.
    pub puts: AtomicU64,
    /// Bytes of these.
    pub put_bytes: AtomicU64,
    /// Objects removed.
    pub deletes: AtomicU64,
}

/// Where things go, and how it stands with them.
struct Shared {
    store: Arc<dyn ObjectStore>,
    below: Key,
    name: String,
    index: Arc<Index>,
    counts: Counts,
    trouble: Mutex<Option<Trouble>>,
    waiting: Mutex<usize>,
    fewer: Condvar,
}

/// The way into a store.
pub struct Uploads {
    tasks: UnboundedSender<Task>,
    shared: Arc<Shared>,
    /// Where files get their second names.
    spool: PathBuf,
    next: AtomicU64,
}

impl Uploads {
    /// Into a store, below a key that messages call `name`.
    ///
    /// # Errors
    /// No room for a thread.
    pub fn new(
        (store, below, name): (Arc<dyn ObjectStore>, Key, String),
        index: Arc<Index>,
        spool: PathBuf,
    ) -> Result<Self> {
        let (tasks, ops) = unbounded_channel();
        let shared = Arc::new(Shared {
            store,
            below,
            name,
            index,
            counts: Counts::default(),
            trouble: Mutex::default(),
            waiting: Mutex::default(),
            fewer: Condvar::new(),
        });
        drop(runtime::handle()?.spawn(work(Arc::clone(&shared), ops)));
        Ok(Self { tasks, shared, spool, next: AtomicU64::new(0) })
    }

    /// Requests and bytes so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// What could not be done, if anything.
    ///
    /// # Errors
    /// That.
    pub fn expect_all_well(&self) -> Result<()> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map_or(Ok(()), |trouble| Err(trouble.error()))
    }

    /// A file is to be put.
    ///
    /// # Errors
    /// Something before could not be put; the file cannot be kept until then.
    pub fn put(&self, name: &str, path: &Path) -> Result<()> {
        self.expect_all_well()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Before it can arrive.
        self.shared.index.set(name, Some(Known::written(number)));
        let file = self.spool.join(number.to_string());
        let kept = std::fs::hard_link(path, &file).or_else(|_| std::fs::copy(path, &file).map(drop));
        let size = kept.and_then(|()| std::fs::metadata(&file)).map_err(Error::io("keep for the store", path))?.len();
        self.send(Task::Put(Put { name: name.to_owned(), file, size, number }));
        Ok(())
    }

    /// An object is to be removed.
    ///
    /// # Errors
    /// Something before could not be put.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.expect_all_well()?;
        self.send(Task::Delete(name.to_owned()));
        Ok(())
    }

    fn send(&self, task: Task) {
        *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        // The other end lives as long as the process.
        let _ = self.tasks.send(task);
    }

    /// Waits while too much is on its way.
    pub fn wait_for_room(&self) {
        let waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |waiting: &mut usize| *waiting > MOST_WAITING;
        drop(self.shared.fewer.wait_while(waiting, is_full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until all is there.
    ///
    /// # Errors
    /// Something could not be put.
    pub fn flush(&self) -> Result<()> {
        let (done, wait) = mpsc::channel();
        self.send(Task::Flush(done));
        // An end without a word is that of the process.
        let _ = wait.recv();
        self.expect_all_well()
    }
}

impl Shared {
    fn key(&self, name: &str) -> Key {
        key_below(&self.below, name)
    }

    fn has_failed(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn fail(&self, name: &str, action: &'static str, error: &StoreError) {
        let trouble = Trouble::new(&format!("{}/{name}", self.name), action, error);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
    }

    fn one_less(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.fewer.notify_all();
    }

    async fn put(&self, Put { name, file, size, number }: Put) {
        if !self.has_failed() {
            match self.sent(&name, &file, size).await {
                Ok(tag) => self.index.put(&name, number, tag),
                Err(error) => self.fail(&name, "put the object", &error),
            }
        }
        // It is of no more use, and does no harm.
        let _ = std::fs::remove_file(file);
        self.one_less();
    }

    /// Puts a file, and gives the tag that the store has given its bytes.
    async fn sent(&self, name: &str, file: &Path, size: u64) -> Result<Option<String>, StoreError> {
        let unread = |e: io::Error| StoreError::Generic { store: "local", source: Box::new(e) };
        let key = self.key(name);
        let part = PART.max(size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let mut opened = File::open(file).map_err(unread)?;
        let put = if size <= part {
            let mut bytes = Vec::new();
            opened.read_to_end(&mut bytes).map_err(unread)?;
            self.counts.puts.fetch_add(1, Ordering::Relaxed);
            self.store.put(&key, PutPayload::from(bytes)).await?
        } else {
            let mut upload = self.store.put_multipart(&key).await?;
            match self.parts(upload.as_mut(), &mut opened, part).await {
                Ok(()) => upload.complete().await?,
                Err(error) => {
                    // Parts that stay cost money; the error itself counts more.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        };
        self.counts.put_bytes.fetch_add(size, Ordering::Relaxed);
        Ok(put.e_tag)
    }

    async fn parts(&self, upload: &mut dyn MultipartUpload, file: &mut File, part: u64) -> Result<(), StoreError> {
        let unread = |e: io::Error| StoreError::Generic { store: "local", source: Box::new(e) };
        let mut sending = FuturesUnordered::new();
        loop {
            let mut bytes = Vec::new();
            file.take(part).read_to_end(&mut bytes).map_err(unread)?;
            if bytes.is_empty() {
                break;
            }
            while sending.len() >= AT_ONCE {
                sending.next().await.transpose()?;
            }
            self.counts.puts.fetch_add(1, Ordering::Relaxed);
            sending.push(upload.put_part(PutPayload::from(bytes)));
        }
        while let Some(sent) = sending.next().await {
            sent?;
        }
        Ok(())
    }

    async fn delete(&self, name: &str) {
        if !self.has_failed() {
            self.counts.deletes.fetch_add(1, Ordering::Relaxed);
            match self.store.delete(&self.key(name)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => self.fail(name, "remove the object", &error),
            }
        }
        self.one_less();
    }
}

/// The key of an object below another.
pub fn key_below(below: &Key, name: &str) -> Key {
    name.split('/').fold(below.clone(), |key, part| key.join(part))
}

/// Does one thing after the other, for as long as the process lives.
async fn work(shared: Arc<Shared>, mut tasks: UnboundedReceiver<Task>) {
    let mut sending: VecDeque<JoinHandle<()>> = VecDeque::new();
    while let Some(task) = tasks.recv().await {
        let most = if task.is_alone() { 0 } else { AT_ONCE - 1 };
        while sending.len() > most {
            if let Some(oldest) = sending.pop_front() {
                // What went wrong with it stands in `trouble`.
                let _ = oldest.await;
            }
        }
        match task {
            Task::Flush(done) => {
                shared.one_less();
                let _ = done.send(());
            }
            Task::Delete(name) => shared.delete(&name).await,
            Task::Put(put) if put.name.ends_with(".json") || put.size > PART => shared.put(put).await,
            Task::Put(put) => {
                let shared = Arc::clone(&shared);
                sending.push_back(tokio::spawn(async move { shared.put(put).await }));
            }
        }
    }
}
