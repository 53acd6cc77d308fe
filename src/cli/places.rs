//! Addresses of object stores in the place of folders: each becomes the folder that stands for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::remote::address::{Wanted, is_address};
use engine::remote::{here, with_scene_of};
use engine::{Error, Result};

/// Where copies of what lies in object stores go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct CacheArgs {
    /// Keep the copies of what lies in an object store (s3://BUCKET/PREFIX and the like, in the place of a folder) in
    /// this folder, for the next command [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// The options of a command that may be addresses.
#[derive(Default)]
pub struct Places<'a> {
    /// Folders: scenes and results.
    pub folders: Vec<&'a mut PathBuf>,
    /// A file to be written.
    pub file: Option<&'a mut PathBuf>,
    /// Results whose scene is needed, too, and not among these.
    pub results: Option<PathBuf>,
    /// Only what tells how far a job is.
    pub only_records: bool,
    /// `--cache`.
    pub cache: Option<&'a Path>,
}

impl Places<'_> {
    /// Puts folders in the place of addresses. `words` are all that were given.
    ///
    /// # Errors
    /// An address where none can be; as [`here`].
    pub fn reach(self, words: &[OsString]) -> Result<()> {
        let Self { folders, file, results, only_records, cache } = self;
        let taken: Vec<PathBuf> = folders.iter().chain(&file).map(|path| (**path).clone()).collect();
        for word in words.iter().filter_map(|word| word.to_str()) {
            let value = word.split_once('=').filter(|_| word.starts_with('-')).map_or(word, |(_, value)| value);
            if is_address(Path::new(value)) && !taken.iter().any(|taken| taken == Path::new(value)) {
                let found = "an address, where a path of this machine belongs";
                return Err(Error::input(value, found, "a folder or file here; SCENE and OUT may be addresses"));
            }
        }
        let wanted = if only_records { Wanted::Records } else { Wanted::All };
        for folder in folders {
            *folder = here(folder, wanted, cache)?;
        }
        if let Some(file) = file.filter(|file| is_address(file)) {
            let (folder, name) = file.to_str().and_then(|text| text.rsplit_once('/')).unwrap_or_default();
            *file = here(Path::new(folder), wanted, cache)?.join(name);
        }
        match results {
            Some(results) => with_scene_of(&here(&results, wanted, cache)?, cache),
            None => Ok(()),
        }
    }
}
