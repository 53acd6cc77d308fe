//! What lies where a scene is said to be: the files of a folder, or the one file that was named.

use std::cell::OnceCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::files::input;
use crate::{Error, Result};

/// A file that may hold cameras.
pub struct Candidate {
    /// Its name without folders.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    start: OnceCell<String>,
}

impl Candidate {
    /// Its first 16 KB as text, read when asked for the first time; empty where it cannot be read.
    pub fn start(&self) -> &str {
        const PEEKED: u64 = 16 << 10;
        self.start.get_or_init(|| {
            let mut bytes = Vec::new();
            if let Ok((file, _)) = input::open(&self.path, "look into the file") {
                let _ = file.take(PEEKED).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Whether its name ends so, in upper or lower case.
    pub fn ends(&self, ending: &str) -> bool {
        self.name.to_lowercase().ends_with(ending)
    }

    /// Whether its beginning has this in it.
    pub fn says(&self, text: &str) -> bool {
        self.start().contains(text)
    }
}

/// The place of a scene.
pub struct Listing {
    /// The folder.
    pub folder: PathBuf,
    /// Its files by name, or the one that was named.
    pub files: Vec<Candidate>,
    /// Whether one file was named.
    pub one: bool,
}

impl Listing {
    /// Of a folder or a file.
    ///
    /// # Errors
    /// A path that cannot be read.
    pub fn new(path: &Path) -> Result<Self> {
        let one = path.metadata().map_err(Error::io("open the scene", path))?.is_file();
        let paths = if one { vec![path.to_owned()] } else { input::files_in(path, "open the scene's folder")? };
        let candidate = |path: PathBuf| Candidate {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path,
            start: OnceCell::new(),
        };
        let folder = if one { folder_of(path) } else { path.to_owned() };
        Ok(Self { folder, files: paths.into_iter().map(candidate).collect(), one })
    }

    /// The first file that is so.
    pub fn first(&self, is: impl Fn(&Candidate) -> bool) -> Option<PathBuf> {
        self.files.iter().find(|file| is(file)).map(|file| file.path.clone())
    }

    /// The first of these names that is there; of a file that was named by itself any name counts whose beginning
    /// `says` so.
    pub fn named(&self, names: &[&str], says: impl Fn(&Candidate) -> bool) -> Option<PathBuf> {
        let by_name = names.iter().find_map(|name| self.first(|file| file.name.eq_ignore_ascii_case(name)));
        by_name.or_else(|| if self.one { self.first(says) } else { None })
    }
}

/// The folder that a file lies in.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
