//! Where a view's files lie in folders that hold one of every view: in the folder itself (`depth/NAME.pfm`), or, for
//! scenes of very many views, spread over 256 folders in it (`depth/_3f/NAME.pfm`), since file systems and other
//! programs are slow with folders of very many files.
//!
//! A subfolder's name is `_` and the first two digits of the SHA-256 of the view's name, in hexadecimal, so that
//! whoever knows the name knows the place. Readers take a file from either place ([`find`], [`listed`]). Writers write
//! it where it is already ([`Spread::place`]), so that there are never two of one name.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::hash;

/// A scene of more views has its files in subfolders, unless told otherwise.
pub const MOST_IN_A_FOLDER: usize = 4096;

/// Whether files go to subfolders, as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Subfolders {
    /// If the scene has more than [`MOST_IN_A_FOLDER`] views.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether files go to subfolders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// They lie in the folder itself.
    Flat,
    /// They lie in subfolders.
    InSubfolders,
}

impl Subfolders {
    /// For a scene of so many views.
    pub fn of(self, views: usize) -> Spread {
        let are_many = match self {
            Self::Auto => views > MOST_IN_A_FOLDER,
            Self::Always => true,
            Self::Never => false,
        };
        if are_many { Spread::InSubfolders } else { Spread::Flat }
    }
}

impl Spread {
    /// The file NAME.ENDING that is to be written in a folder: where it is, else where it belongs.
    pub fn place(self, folder: &Path, name: &str, ending: &str) -> PathBuf {
        let (flat, in_subfolder) = places(folder, name, ending);
        let (own, other) = match self {
            Self::Flat => (flat, in_subfolder),
            Self::InSubfolders => (in_subfolder, flat),
        };
        if !own.exists() && other.exists() { other } else { own }
    }
}

/// Both places of a file.
fn places(folder: &Path, name: &str, ending: &str) -> (PathBuf, PathBuf) {
    let file = format!("{name}.{ending}");
    (folder.join(&file), folder.join(subfolder(name)).join(file))
}

/// The subfolder of a view.
fn subfolder(name: &str) -> String {
    format!("_{}", &hash::of_bytes(name.as_bytes())[..2])
}

/// Whether a folder's name is that of a subfolder.
fn is_subfolder(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(*name.as_bytes(), [b'_', high, low] if is_digit(high) && is_digit(low))
}

/// The file NAME.ENDING of a folder or of its subfolder; where there is none, the place in the folder itself.
pub fn find(folder: &Path, name: &str, ending: &str) -> PathBuf {
    Spread::Flat.place(folder, name, ending)
}

/// The paths of all that lies in a folder and in its subfolders, but for these; in no order.
///
/// # Errors
/// The system's reason where a folder cannot be listed.
pub fn listed(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<PathBuf>> + use<>> {
    let (mut subfolders, mut listing, mut is_in_one) = (Vec::new(), std::fs::read_dir(folder)?, false);
    Ok(std::iter::from_fn(move || {
        loop {
            let Some(entry) = listing.next() else {
                match std::fs::read_dir(subfolders.pop()?) {
                    Ok(next) => (listing, is_in_one) = (next, true),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let is_one = !is_in_one && entry.file_name().to_str().is_some_and(is_subfolder);
            if !is_one || !entry.path().is_dir() {
                return Some(Ok(entry.path()));
            }
            subfolders.push(entry.path());
        }
    }))
}

/// Removes the folder that a file lay in if nothing else lies there; of a subfolder, then also the folder around it.
pub fn remove_empty_folders_of(file: &Path) {
    let Some(folder) = file.parent() else { return };
    // A folder that stays, for it is not empty or somebody writes into it, does no harm.
    if std::fs::remove_dir(folder).is_ok() && folder.file_name().and_then(|n| n.to_str()).is_some_and(is_subfolder) {
        let _ = folder.parent().map(std::fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;

    use super::*;

    #[test]
    fn a_file_stays_where_it_is_and_is_found_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        // printf IMG_0001 | sha256sum
        let in_subfolder = folder.join("_e8/IMG_0001.pfm");
        let flat = folder.join("IMG_0001.pfm");
        let spreads = [Spread::Flat, Spread::InSubfolders];
        let places = || spreads.map(|spread| spread.place(folder, "IMG_0001", "pfm"));
        assert_eq!(places(), [flat.clone(), in_subfolder.clone()]);
        assert_eq!(find(folder, "IMG_0001", "pfm"), flat);
        for file in [&in_subfolder, &flat] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "map").unwrap();
            assert_eq!(places(), [file.clone(), file.clone()]);
            assert_eq!(find(folder, "IMG_0001", "pfm"), *file);
            fs::remove_file(file).unwrap();
        }
        assert_eq!([4096, 4097].map(|views| Subfolders::Auto.of(views)), spreads);
        assert_eq!(Subfolders::Always.of(1), Spread::InSubfolders);
        assert_eq!(Subfolders::Never.of(1_000_000), Spread::Flat);
    }

    #[test]
    fn all_files_are_listed_once_and_empty_folders_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("depth");
        let mut written = BTreeSet::new();
        for at in 0..600 {
            let spread = if at % 3 == 0 { Spread::Flat } else { Spread::InSubfolders };
            let file = spread.place(&folder, &format!("view{at}"), "pfm");
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            written.insert(file);
        }
        // What is no subfolder of this kind, or none at all, is an entry like others.
        fs::create_dir(folder.join("0f")).unwrap();
        fs::create_dir(folder.join("_0F")).unwrap();
        fs::write(folder.join("_0g"), "").unwrap();
        let listed: Vec<PathBuf> = listed(&folder).unwrap().map(Result::unwrap).collect();
        let others = ["0f", "_0F", "_0g"].map(|name| folder.join(name));
        assert_eq!(listed.len(), written.len() + others.len());
        assert_eq!(
            listed.into_iter().collect::<BTreeSet<_>>(),
            written.iter().cloned().chain(others.clone()).collect()
        );
        let mut counts = BTreeMap::<&Path, usize>::new();
        written.iter().for_each(|file| *counts.entry(file.parent().unwrap()).or_default() += 1);
        counts.remove(folder.as_path());
        // 400 files in 256 folders: a few each.
        assert!(counts.len() > 150 && counts.values().all(|&count| count < 12), "{counts:?}");
        for file in &written {
            fs::remove_file(file).unwrap();
            remove_empty_folders_of(file);
        }
        assert!(folder.exists(), "there is more in it");
        let only = Spread::InSubfolders.place(&root.path().join("normal"), "a", "pfm");
        fs::create_dir_all(only.parent().unwrap()).unwrap();
        remove_empty_folders_of(&only);
        assert!(!root.path().join("normal").exists());
    }
}
