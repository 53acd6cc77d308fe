//! The store's clock: times of objects are by it, and machines' clocks may differ by hours.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::files::atomic::TEMPORARY;

/// Nanoseconds since 1970 by this machine's clock.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// By how many nanoseconds a store's clock is ahead of this machine's: a small object is put below the place, looked at
/// and removed. `None` where nothing can be written there.
pub async fn ahead(store: Arc<dyn ObjectStore>, below: Key) -> Option<i64> {
    let key = below.join(format!("{}clock-{}-{}{}", TEMPORARY.0, std::process::id(), now_ns(), TEMPORARY.1).as_str());
    let before = now_ns();
    store.put(&key, PutPayload::from_static(b"clock")).await.ok()?;
    let after = now_ns();
    let there = store.head(&key).await.ok().and_then(|meta| meta.last_modified.timestamp_nanos_opt());
    // It is of no use to anyone, but does no harm.
    let _ = store.delete(&key).await;
    let ahead = there? - (before + (after - before) / 2);
    // Many stores tell whole seconds: what is less is no difference.
    Some(if ahead.abs() < 2_000_000_000 { 0 } else { ahead })
}
