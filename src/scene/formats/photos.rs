//! The photos of a foreign file's cameras. Such files come from other machines: their names may be absolute, with the
//! slashes of Windows, without an extension, or of a folder that is called otherwise here.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::counted;
use crate::files::{image, input, photo_format};
use crate::scene::formats::calibration::Calibration;
use crate::{Error, Result};

/// Photos by the place of their shot in the file; `None` where there is none.
pub struct Photos {
    /// In the order of the shots.
    pub found: Vec<Option<PathBuf>>,
    /// Names of the shots without one.
    pub missing: Vec<String>,
}

/// Finds the photos: under their names in the folders where these begin, then in `images` or, if that is not given,
/// below these folders, by the end of their path.
///
/// # Errors
/// Two shots with one name or one photo; names that the format does not have, and a number of photos that is not that
/// of the cameras.
pub fn find(calibration: &Calibration, images: Option<&Path>, notes: &mut Vec<String>) -> Result<Photos> {
    if let Some(folder) = images.filter(|folder| !folder.is_dir()) {
        return Err(Error::input(folder.display().to_string(), "no such folder", "the folder with the photos"));
    }
    if let Some((count, places)) = &calibration.unnamed {
        return in_order(calibration, (*count, places), images, notes);
    }
    let mut index = None;
    let (mut found, mut missing, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for shot in &calibration.shots {
        let name = shot.photo.as_deref().unwrap_or_default();
        if !names.insert(name) {
            return Err(Error::input(&shot.place, format!("{name} for the second time"), "every photo once"));
        }
        let plain = name.replace('\\', "/");
        let said = calibration.folders.iter().map(|folder| folder.join(&plain)).find(|path| is_photo(path));
        let photo = said.or_else(|| {
            let index = index.get_or_insert_with(|| Index::new(calibration, images));
            let photo = index.find(&plain)?;
            elsewhere.push((name, photo.clone()));
            Some(photo)
        });
        if photo.is_none() {
            // What is there under the very name, but cannot be read, is more than a photo that is missing.
            let there: Vec<PathBuf> = calibration.folders.iter().map(|folder| folder.join(&plain)).collect();
            photo_format::refuse_first(there.iter().map(PathBuf::as_path))?;
            missing.push(name.to_owned());
        }
        found.push(photo);
    }
    if let Some((name, photo)) = elsewhere.first() {
        notes.push(format!(
            "{} found by the end of the path, not where the file says (first: {name} is {})",
            counted(elsewhere.len(), "photo"),
            photo.display()
        ));
    }
    let mut taken: HashMap<&Path, &str> = HashMap::new();
    for (shot, photo) in calibration.shots.iter().zip(&found) {
        let (Some(photo), Some(name)) = (photo, shot.photo.as_deref()) else { continue };
        if let Some(other) = taken.insert(photo, name) {
            return Err(Error::input(
                &shot.place,
                format!("{name} and {other} are both {}", photo.display()),
                "a photo of its own for each, in the folders that the names have",
            ));
        }
    }
    Ok(Photos { found, missing })
}

/// Where a file that goes with the photos lies by its name: in the first folder that has it, else where it was to be
/// expected.
pub fn place_of(calibration: &Calibration, name: &str) -> PathBuf {
    let plain = name.replace('\\', "/");
    let places: Vec<PathBuf> = calibration.folders.iter().map(|folder| folder.join(&plain)).collect();
    let found = places.iter().find(|place| place.is_file()).or(places.first());
    found.cloned().unwrap_or_else(|| PathBuf::from(plain))
}

fn is_photo(path: &Path) -> bool {
    path.is_file() && image::has_photo_extension(path)
}

/// Photos for cameras without names: those of one folder in the order of their names.
fn in_order(
    calibration: &Calibration,
    (count, places): (usize, &[usize]),
    images: Option<&Path>,
    notes: &mut Vec<String>,
) -> Result<Photos> {
    let folders = images.map_or_else(|| calibration.folders.clone(), |folder| vec![folder.to_owned()]);
    let all = folders.clone();
    let photos_of = |folder: &PathBuf| -> Vec<PathBuf> {
        let files = input::files_in(folder, "list the photos").unwrap_or_default();
        let mut photos = files.into_iter().filter(|file| image::has_photo_extension(file)).collect();
        photo_format::leave_out_originals(&mut photos);
        photos
    };
    let lists: Vec<(PathBuf, Vec<PathBuf>)> =
        folders.into_iter().map(|folder| (folder.clone(), photos_of(&folder))).filter(|l| !l.1.is_empty()).collect();
    let place = calibration.file.display().to_string();
    let expected = "one folder with as many photos as there are cameras, since the format has no names; --images DIR \
                    says which";
    let Some((folder, mut photos)) = lists.iter().find(|list| list.1.len() == count).cloned() else {
        if lists.is_empty() {
            let files = all.iter().flat_map(|folder| input::files_in(folder, "list the photos").unwrap_or_default());
            let files: Vec<PathBuf> = files.collect();
            photo_format::refuse_first(files.iter().map(PathBuf::as_path))?;
        }
        let found = match lists.first() {
            None => format!("{} and no photos", counted(count, "camera")),
            Some((folder, photos)) => {
                let (cameras, photos) = (counted(count, "camera"), counted(photos.len(), "photo"));
                format!("{cameras} and {photos} in {}", folder.display())
            }
        };
        return Err(Error::input(place, found, expected));
    };
    photos.sort_by(|a, b| alphanumeric_sort::compare_path(a, b));
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ends = [photos.first(), photos.last()].map(|end| end.map(name).unwrap_or_default());
    notes.push(format!(
        "the file has no names of photos: its {count} cameras are taken to be in the order of the photos in {} ({} \
         to {})",
        folder.display(),
        ends[0],
        ends[1]
    ));
    let found = places.iter().map(|&place| photos.get(place).cloned()).collect();
    Ok(Photos { found, missing: Vec::new() })
}

/// Photos below some folders by their names.
struct Index {
    /// By file name, and by file name without extension, in small letters.
    by_name: HashMap<String, Vec<PathBuf>>,
    by_stem: HashMap<String, Vec<PathBuf>>,
}

/// How deep below a folder photos are looked for.
const DEPTH: usize = 3;

impl Index {
    fn new(calibration: &Calibration, images: Option<&Path>) -> Self {
        let roots = images.map_or_else(|| calibration.folders.clone(), |folder| vec![folder.to_owned()]);
        let (mut index, mut seen) = (Self { by_name: HashMap::new(), by_stem: HashMap::new() }, HashSet::new());
        let mut folders: Vec<(PathBuf, usize)> = roots.into_iter().map(|folder| (folder, 0)).collect();
        while let Some((folder, depth)) = folders.pop() {
            if !seen.insert(dunce::canonicalize(&folder).unwrap_or_else(|_| folder.clone())) {
                continue;
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if input::is_hidden(&path) {
                    continue;
                }
                if path.is_dir() {
                    if depth < DEPTH {
                        folders.push((path, depth + 1));
                    }
                } else if image::has_photo_extension(&path) {
                    index.by_stem.entry(stem(&path)).or_default().push(path.clone());
                    index.by_name.entry(lower(path.file_name())).or_default().push(path);
                }
            }
        }
        index.by_stem.values_mut().for_each(photo_format::leave_out_originals);
        index
    }

    /// The photo whose path has the longest end in common with the name; `None` where two have.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let wanted = Path::new(name);
        let candidates = self.by_name.get(&lower(wanted.file_name())).or_else(|| {
            // Labels without an extension, or photos that were stored in another form.
            let whole = lower(wanted.file_name());
            self.by_stem.get(&whole).or_else(|| self.by_stem.get(&stem(wanted)))
        })?;
        let common = |path: &PathBuf| {
            let folders = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
            let (a, b) = (folders(path), folders(wanted));
            let same = |(a, b): &(std::path::Component, std::path::Component)| {
                lower(Some(a.as_os_str())) == lower(Some(b.as_os_str()))
            };
            a.components().rev().zip(b.components().rev()).take_while(same).count()
        };
        let best = candidates.iter().map(common).max()?;
        let mut of_best = candidates.iter().filter(|path| common(path) == best);
        let first = of_best.next()?;
        // Of several that fit alike the one that lies less deep: smaller copies and results lie in folders of their
        // own.
        let depth = |path: &Path| path.components().count();
        let mut chosen = (first, true);
        for other in of_best {
            match depth(other).cmp(&depth(chosen.0)) {
                std::cmp::Ordering::Less => chosen = (other, true),
                std::cmp::Ordering::Equal => chosen.1 = false,
                std::cmp::Ordering::Greater => {}
            }
        }
        chosen.1.then(|| chosen.0.clone())
    }
}

fn lower(name: Option<&std::ffi::OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().to_lowercase()
}

fn stem(path: &Path) -> String {
    lower(path.file_stem())
}
