//! Folders that are copies of something farther away: what the originals are called, so that messages and files name
//! these and not the copies.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// A folder, and the name of what it is a copy of; neither ends with a slash.
struct Copy {
    folder: PathBuf,
    name: String,
}

static COPIES: RwLock<Vec<Copy>> = RwLock::new(Vec::new());
/// Whether there is any: most processes have none, and ask often.
static ANY: AtomicBool = AtomicBool::new(false);

/// From now on, `folder` stands for what is called `name`.
pub fn register(folder: &Path, name: &str) {
    let copy = Copy { folder: folder.to_owned(), name: name.to_owned() };
    COPIES.write().unwrap_or_else(PoisonError::into_inner).push(copy);
    ANY.store(true, Ordering::Release);
}

/// What `find` finds of the first copy of which it finds anything.
fn first<T>(find: impl Fn(&Copy) -> Option<T>) -> Option<T> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    COPIES.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(find)
}

/// The name of what a path is a copy of, if it is one.
pub fn name_of(path: &Path) -> Option<String> {
    first(|Copy { folder, name }| {
        let below = path.strip_prefix(folder).ok()?;
        let parts: Vec<_> = below.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        Some([&[name.as_str()], parts.as_slice()].concat().join("/"))
    })
}

/// The copy of what has this name, if there is one.
pub fn place_of(name: &str) -> Option<PathBuf> {
    let name = name.trim_end_matches('/');
    first(|copy| match name.strip_prefix(&copy.name)?.strip_prefix('/') {
        Some(below) => Some(copy.folder.join(below)),
        None => (name == copy.name).then(|| copy.folder.clone()),
    })
}

/// A text for people in which copies have the names of their originals.
pub fn named(text: &str) -> Cow<'_, str> {
    if !ANY.load(Ordering::Acquire) {
        return text.into();
    }
    let mut named = Cow::from(text);
    for Copy { folder, name } in COPIES.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(folder) = folder.to_str().filter(|folder| named.contains(folder)) {
            named = named.replace(folder, name).into();
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_name_of_its_original_and_the_name_leads_to_the_copy() {
        let folder = Path::new("/copies-of-this-test/town");
        register(folder, "s3://bucket/town");
        assert_eq!(name_of(folder).as_deref(), Some("s3://bucket/town"));
        assert_eq!(name_of(&folder.join("images/1.jpg")).as_deref(), Some("s3://bucket/town/images/1.jpg"));
        assert_eq!(name_of(Path::new("/copies-of-this-test/townhall")), None);
        assert_eq!(place_of("s3://bucket/town/images/1.jpg"), Some(folder.join("images/1.jpg")));
        assert_eq!(place_of("s3://bucket/town/"), Some(folder.to_owned()));
        assert_eq!((place_of("s3://bucket/townhall"), place_of("s3://bucket")), (None, None));
        assert_eq!(named("/copies-of-this-test/town/a.pfm: cannot"), "s3://bucket/town/a.pfm: cannot");
        assert_eq!(named("/elsewhere"), "/elsewhere");
    }
}
