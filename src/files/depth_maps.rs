//! Where the depth maps of a folder lie: `depth/NAME.pfm` as this program writes them (or in subfolders of `depth`), or
//! a dense workspace of COLMAP, `stereo/depth_maps/PHOTO.geometric.bin`, else `PHOTO.photometric.bin`, PHOTO being the
//! photo's path below the folder of photos.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::counted;
use crate::files::map::Map;
use crate::files::names::readable;
use crate::files::subfolders::listed;
use crate::files::{colmap_map, pfm};
use crate::{Error, Result};

/// The depth maps of a folder.
#[derive(Clone, Debug)]
pub struct DepthMaps {
    /// The folder that has them in it.
    pub folder: PathBuf,
    /// Whether they are COLMAP's.
    pub are_colmaps: bool,
    /// What was chosen or passed over.
    pub notes: Vec<String>,
    /// Files by the name of a view, or of a photo in COLMAP's workspace.
    files: BTreeMap<String, PathBuf>,
}

/// Of both maps that COLMAP may have of a photo, the one that other views confirm is found first.
const KINDS: [&str; 2] = [".geometric.bin", ".photometric.bin"];

impl DepthMaps {
    /// Those in `maps`.
    ///
    /// # Errors
    /// A folder that cannot be read or has none.
    pub fn find(maps: &Path) -> Result<Self> {
        let (own, colmap) = (maps.join("depth"), maps.join("stereo").join("depth_maps"));
        if own.is_dir() || !colmap.is_dir() { Self::own(own) } else { Self::of_workspace(colmap) }
    }

    fn own(folder: PathBuf) -> Result<Self> {
        let paths = listed(&folder).map_err(Error::io("read the folder of depth maps", &folder))?;
        let mut found = Self { folder: folder.clone(), are_colmaps: false, notes: Vec::new(), files: BTreeMap::new() };
        let mut odd = Vec::new();
        for path in paths {
            let path = path.map_err(Error::io("read the folder of depth maps", &folder))?;
            let is_map = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pfm"));
            match path.file_stem().and_then(|s| s.to_str()) {
                _ if !is_map => {}
                Some(stem) => drop(found.files.insert(stem.to_owned(), path)),
                None => odd.push(path),
            }
        }
        found.note_odd(
            odd,
            "; maps of such photos are named with `%` and two hexadecimal digits for each of these bytes",
        );
        if found.files.is_empty() {
            return Err(Error::input(folder.display().to_string(), "no .pfm file", "depth maps NAME.pfm"));
        }
        Ok(found)
    }

    fn of_workspace(folder: PathBuf) -> Result<Self> {
        let mut found = Self { folder: folder.clone(), are_colmaps: true, notes: Vec::new(), files: BTreeMap::new() };
        let (mut folders, mut odd) = (vec![folder.clone()], Vec::new());
        let mut of_kinds: [BTreeMap<String, PathBuf>; 2] = Default::default();
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(&at).map_err(Error::io("read the folder of depth maps", &at))? {
                let entry = entry.map_err(Error::io("read the folder of depth maps", &at))?;
                let path = entry.path();
                // No folder behind a link: it may lead back here.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                    continue;
                }
                let below = path.strip_prefix(&folder).unwrap_or(&path);
                let Some(name) = joined(below) else {
                    odd.push(path);
                    continue;
                };
                for (kind, files) in KINDS.iter().zip(&mut of_kinds) {
                    if let Some(photo) = name.strip_suffix(kind) {
                        files.insert(photo.to_owned(), path.clone());
                    }
                }
            }
        }
        let [geometric, photometric] = of_kinds;
        let confirmed = geometric.len();
        found.files = photometric;
        found.files.extend(geometric);
        found.note_odd(odd, "");
        let Some(others) = found.files.len().checked_sub(confirmed).filter(|_| !found.files.is_empty()) else {
            let expected = "depth maps PHOTO.geometric.bin or PHOTO.photometric.bin of COLMAP's patch_match_stereo";
            return Err(Error::input(folder.display().to_string(), "none", expected));
        };
        found.notes.push(format!(
            "the depth maps are those of COLMAP's dense workspace: {confirmed} geometric, {others} photometric"
        ));
        Ok(found)
    }

    fn note_odd(&mut self, mut odd: Vec<PathBuf>, why: &str) {
        odd.sort();
        if let Some(first) = odd.first() {
            self.notes.push(format!(
                "{} passed over, whose names are not UTF-8 (first: {}){why}",
                counted(odd.len(), "map"),
                crate::host::progress::one_line(&readable(first.file_name().unwrap_or_default()))
            ));
        }
    }

    /// Names of the maps, sorted: of views, or of photos in COLMAP's workspace.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Name and file of a view's map, by the view's name and its photo.
    pub fn of_view(&self, name: &str, photo: &Path) -> Option<(&str, &Path)> {
        if !self.are_colmaps {
            return self.files.get_key_value(name).map(|(name, file)| (name.as_str(), file.as_path()));
        }
        // As much of the photo's path as there is: photos in subfolders may have the names of others.
        let parts: Vec<_> = photo.iter().collect();
        (0..parts.len()).find_map(|first| {
            let end = joined(&parts[first..].iter().collect::<PathBuf>())?;
            self.files.get_key_value(&end).map(|(name, file)| (name.as_str(), file.as_path()))
        })
    }

    /// Reads one of the files.
    ///
    /// # Errors
    /// A file that cannot be read, or is no map.
    pub fn read(&self, file: &Path) -> Result<Map> {
        if self.are_colmaps { colmap_map::read(file) } else { pfm::read(file) }
    }
}

/// A path with slashes between its parts; `None` where it is not UTF-8.
fn joined(path: &Path) -> Option<String> {
    path.iter().map(|part| part.to_str()).collect::<Option<Vec<_>>>().map(|parts| parts.join("/"))
}
