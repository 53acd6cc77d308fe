//! Which store an address is of, and how it is reached: by the variables that the stores' own programs know, too.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::error::{Error, Result};
use crate::remote::trouble::Trouble;

/// A store, and the place in it that an address names.
pub struct Place {
    /// The store, for the first request: it gives up sooner, because what is wrong then is often the address.
    pub first: Arc<dyn ObjectStore>,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Where in it.
    pub key: Key,
    /// The address, in the form in which it is told: without a slash at its end.
    pub name: String,
}

/// How often the first request is made again, and how often others are: after 0.1 s, then one and a half times as long
/// each time on the average, 15 s at most; so for some 3 s, and for some 80 s.
const TRIES: (usize, usize) = (6, 14);
/// The longest of one wait, and of all together.
const WAITS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(180));

/// What addresses may be.
const EXPECTED: &str =
    "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:///FOLDER, or a path of a folder";

impl Place {
    /// Of an address; nothing is asked of the store yet.
    ///
    /// # Errors
    /// An address that names no store, and settings in the environment that are wrong.
    pub fn of(address: &str) -> Result<Self> {
        let bad = |found: String| Error::input(address, found, EXPECTED);
        let url = Url::parse(address).map_err(|e| bad(format!("not an address ({e})")))?;
        let none = |_| bad("an address of no store that is known".into());
        let (scheme, key) = ObjectStoreScheme::parse(&url).map_err(none)?;
        let name = address.trim_end_matches('/').to_owned();
        let of = |tries: usize| {
            let store =
                store(&scheme, &url, tries).ok_or_else(|| bad("an address of no store that is known".into()))?;
            store.map_err(|e| Trouble::new(&name, "reach the store", &e).error())
        };
        Ok(Self { first: of(TRIES.0)?, store: of(TRIES.1)?, key, name: name.clone() })
    }
}

/// The store of an address; `None` where it is of no kind that is built in.
fn store(scheme: &ObjectStoreScheme, url: &Url, tries: usize) -> Option<object_store::Result<Arc<dyn ObjectStore>>> {
    // Each wait is a number by chance between the first and so many times the one before.
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: WAITS.0, base: 3.0 };
    let retry = RetryConfig { backoff, max_retries: tries, retry_timeout: WAITS.1 };
    let address = url.to_string();
    Some(match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::from_env().with_url(address).with_retry(retry);
            builder.build().map(|store| Arc::new(store) as _)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(address).with_retry(retry);
            builder.build().map(|store| Arc::new(store) as _)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(address).with_retry(retry);
            builder.build().map(|store| Arc::new(store) as _)
        }
        ObjectStoreScheme::Local => Ok(Arc::new(LocalFileSystem::new()) as _),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_stores_that_are_known() {
        let place = Place::of("file:///tmp/a%20b/c/").unwrap();
        assert_eq!((place.key.as_ref(), place.name.as_str()), ("tmp/a b/c", "file:///tmp/a%20b/c"));
        let place = Place::of("s3://bucket").unwrap();
        assert_eq!((place.key.as_ref(), place.name.as_str()), ("", "s3://bucket"));
        for (address, found) in [
            ("http://host/x", "an address of no store that is known"),
            ("https://host/x", "an address of no store that is known"),
            ("s3://", "an address of no store that is known"),
            ("s3://a b/x", "not an address"),
        ] {
            let message = Place::of(address).err().unwrap().to_string();
            assert!(message.contains(found) && message.contains("expected s3://BUCKET/PREFIX"), "{message}");
        }
    }
}
