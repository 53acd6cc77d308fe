//! A folder that several runs work in together, each on files of its own.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::folder::{Claim, Found, is_temporary, write_json};
use crate::files::input;
use crate::files::lock::{FolderLock, LOCK, Mode};

/// Takes part in the work in a folder: it is locked together with the others, and marked where it is not yet. What is
/// there stays. As in [`crate::files::folder::OutputFolder::new`], `judge` looks at a mark; names of which `is_theirs`
/// is true may be there before it.
///
/// # Errors
/// A folder that cannot be made or listed, or that a run holds alone; unless forced, one that holds anything else, and
/// what `judge` says.
pub fn join(
    Claim { path, force, kind }: Claim,
    mark: &Value,
    judge: impl FnOnce(&[u8]) -> Result<Found>,
    is_theirs: impl Fn(&str) -> bool,
) -> Result<FolderLock> {
    std::fs::create_dir_all(path).map_err(Error::io(kind.create, path))?;
    let mark_file = path.join(kind.mark);
    let marked = match input::read(&mark_file, "read the mark") {
        Ok(found) if !force => judge(&found)? != Found::Foreign,
        found => found.is_ok(),
    };
    if !force && !marked {
        let is_own = |name: &str| [LOCK, kind.mark].contains(&name) || is_theirs(name) || is_temporary(name);
        let entries = std::fs::read_dir(path).map_err(Error::io(kind.list, path))?;
        if entries.flatten().any(|entry| entry.file_name().to_str().is_none_or(|name| !is_own(name))) {
            let (found, expected) = kind.foreign;
            return Err(Error::input(format!("{} {}", kind.called, path.display()), found, expected));
        }
    }
    let lock = FolderLock::acquire(path, Mode::Together, kind.called, kind.write)?;
    if !marked {
        write_json(&mark_file, kind.write, mark)?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::folder::RESULTS;

    #[test]
    fn several_join_what_is_theirs_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let mark = serde_json::json!({ "program": "engine" });
        let enter = |force: bool, judge: fn(&[u8]) -> Result<Found>| {
            join(Claim { path: &out, force, kind: &RESULTS }, &mark, judge, |name| name == "shards")
        };
        let same = |_: &[u8]| Ok(Found::Same);
        std::fs::create_dir_all(out.join("shards")).unwrap();
        let both = [enter(false, same).unwrap(), enter(false, same).unwrap()];
        assert!(out.join(RESULTS.mark).exists() && both[0].missing.is_none());
        std::fs::write(out.join("letter.txt"), "dear").unwrap();
        enter(false, same).unwrap();
        let message = |judge| enter(false, judge).unwrap_err().to_string();
        assert!(message(|_| Ok(Found::Foreign)).contains("not empty and was not made by engine"));
        assert!(message(|_| Err(Error::Nothing("another's".into()))).contains("another's"));
        enter(true, |_| Err(Error::Nothing("another's".into()))).unwrap();
        std::fs::remove_file(out.join(RESULTS.mark)).unwrap();
        assert!(message(same).contains("not empty and was not made by engine"));
    }
}
