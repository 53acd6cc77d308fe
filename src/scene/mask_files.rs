//! Masks that lie in files of their own: which is which view's, and its pixels.
//!
//! A mask is a grey image as large as the photo as it is stored; where it is 0, the photo does not show the scene (so
//! COLMAP, OpenMVS, nerfstudio and Metashape have it). It is found by the photo's name: `NAME.png`, `NAME.jpg.png` or
//! `NAME_mask.png`, in the photo's subfolder or without one. Some formats of cameras name a mask for each photo.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::counted;
use crate::files::map::Map;
use crate::files::{image, names};
use crate::scene::mask::nearest;
use crate::scene::{Scene, View};
use crate::{Error, Result};

const EXPECTED: &str = "masks named after their photos: NAME.png, NAME.jpg.png or NAME_mask.png";

impl Scene {
    /// Gives every view the mask in `folder` that is named after its photo, and notes what has none and what is none's.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no view's mask, a mask that fits two photos, or of another shape than its
    /// photo.
    pub fn take_masks(&mut self, folder: &Path) -> Result<()> {
        let photos: HashSet<&Path> = self.views.iter().map(|view| view.image.as_path()).collect();
        let mut masks = BTreeMap::new();
        for file in images_below(folder)?.into_iter().filter(|file| !photos.contains(file.as_path())) {
            let key = file.strip_prefix(folder).unwrap_or(&file).with_extension("");
            // Of two that differ in their ending only, the first in the order of names.
            masks.entry(key).or_insert(file);
        }
        let found: Vec<Option<PathBuf>> = self.views.iter().map(|view| mask_of(&view.image, &masks)).collect();
        let mut owners: BTreeMap<&Path, &View> = BTreeMap::new();
        for (view, mask) in self.views.iter().zip(&found) {
            let Some(mask) = mask else { continue };
            if let Some(other) = owners.insert(mask, view) {
                let found = format!("the name fits {} and {}", other.image.display(), view.image.display());
                let expected = "a mask for each, in subfolders that are called like the photos'";
                return Err(Error::input(mask.display().to_string(), found, expected));
            }
        }
        if owners.is_empty() {
            let found = match masks.len() {
                0 => "no image".to_owned(),
                images => format!("{}, none of them with the name of a photo", counted(images, "image")),
            };
            return Err(Error::input(folder.display().to_string(), found, EXPECTED));
        }
        let mut notes = vec![format!("masks of {} of {} photos", owners.len(), self.views.len())];
        let without: Vec<&View> = self.views.iter().zip(&found).filter(|(_, m)| m.is_none()).map(|(v, _)| v).collect();
        if let Some(first) = without.first() {
            notes[0] += &format!("; the others (first: {}) show nothing but the scene", first.name);
        }
        let others: Vec<&PathBuf> = masks.values().filter(|mask| !owners.contains_key(mask.as_path())).collect();
        if let Some(first) = others.first() {
            notes.push(format!(
                "{} in {} that is no mask of a photo (first: {})",
                counted(others.len(), "image"),
                folder.display(),
                names::readable(first.file_name().unwrap_or_default())
            ));
        }
        drop(owners);
        for (view, mask) in self.views.iter_mut().zip(found) {
            view.mask = mask;
        }
        self.notes.append(&mut notes);
        self.check_masks()
    }

    /// Keeps the masks that the scene's own files name, as far as they are there, and notes what is not.
    ///
    /// # Errors
    /// A mask of another shape than its photo.
    pub(super) fn take_named_masks(&mut self) -> Result<()> {
        let all = self.views.len();
        let named = self.views.iter().filter(|view| view.mask.is_some()).count();
        if named == 0 {
            return Ok(());
        }
        let mut missing = Vec::new();
        for view in &mut self.views {
            missing.extend(view.mask.take_if(|mask| !mask.is_file()));
        }
        let found = named - missing.len();
        self.notes.push(format!("masks of {found} of {all} photos, as {} names them", self.layout.names().1));
        if let Some(first) = missing.first() {
            self.notes.push(format!(
                "{} named there but not found (first: {}): these photos show nothing but the scene; --masks DIR reads \
                 a folder of masks",
                counted(missing.len(), "mask"),
                first.display()
            ));
        }
        self.check_masks()
    }

    /// Whether each mask fits its photo, with a note where some must be resized.
    fn check_masks(&mut self) -> Result<()> {
        let mut resized: Option<(usize, &View)> = None;
        for view in &self.views {
            if let Some(mask) = &view.mask
                && !fits(view, mask)?
            {
                resized = Some(resized.map_or((1, view), |(count, first)| (count + 1, first)));
            }
        }
        if let Some((count, first)) = resized {
            let note = format!(
                "{} of another size than the photo, with its proportions (first: of view {}): enlarged or reduced",
                counted(count, "mask"),
                first.name
            );
            self.notes.push(note);
        }
        Ok(())
    }
}

/// Whether a mask has its photo's size; one of the same proportions will be resized.
fn fits(view: &View, mask: &Path) -> Result<bool> {
    let (found, wanted) = (image::header(mask)?.size, view.stored_size());
    let ratio = (found.0 * wanted.1) as f64 / (found.1 * wanted.0) as f64;
    // Half a pixel of rounding on either side.
    if (ratio - 1.0).abs() > 1.0 / found.0.min(found.1) as f64 {
        let found = format!("{} x {} pixels", found.0, found.1);
        let expected = format!("{} x {} as {} has, or its proportions", wanted.0, wanted.1, view.image.display());
        return Err(Error::input(mask.display().to_string(), found, expected));
    }
    Ok(found == wanted)
}

/// The mask of a photo: with as much of its path as there is, and the more usual name first.
fn mask_of(photo: &Path, masks: &BTreeMap<PathBuf, PathBuf>) -> Option<PathBuf> {
    let parts: Vec<_> = photo.iter().collect();
    // Subfolders of photos have few levels; the whole path is asked for all the same.
    (0..parts.len()).find_map(|first| {
        let path: PathBuf = parts[first..].iter().collect();
        let plain = path.with_extension("");
        let mut marked = plain.clone().into_os_string();
        marked.push("_mask");
        [plain, path, marked.into()].iter().find_map(|name| masks.get(name)).cloned()
    })
}

/// All images in a folder and its subfolders, by name.
fn images_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let read = Error::io("read the folder of masks", &folder);
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            let entry = entry.map_err(Error::io("read the folder of masks", &folder))?;
            // What a link leads to is taken, but no folder behind one: it may lead back here.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if image::has_photo_extension(&entry.path()) => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A mask as alpha of a photo of this size: 1 where it is not 0, by the pixel in whose area the photo's pixel lies.
///
/// # Errors
/// An image that cannot be read or decoded.
pub fn read(mask: &Path, (width, height): (usize, usize)) -> Result<Map> {
    let image::Pixels { size, rgb, alpha, .. } = image::read(mask)?;
    let at = |i: usize| {
        let at = nearest(i / width, height, size.1) * size.0 + nearest(i % width, width, size.0);
        let shows = rgb[3 * at..3 * at + 3].iter().any(|&value| value > 0.0);
        let opaque = alpha.as_ref().is_none_or(|alpha| alpha[at] > 0.0);
        if shows && opaque { 1.0 } else { 0.0 }
    };
    Ok(Map { width, height, data: (0..width * height).map(at).collect() })
}
