//! Which photo belongs to which camera where both have numbers for names (the MVSNet layout), or only the cameras have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::counted;
use crate::files::{image, photo_format};
use crate::{Error, Result};

/// The view's number in `00000003` (any zero padding).
pub(super) fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Photos by the last number in each one's name; `None` where one has none or two have the same.
fn numbers_in_names(files: &[PathBuf]) -> Option<BTreeMap<u32, PathBuf>> {
    let last = |file: &PathBuf| {
        let stem = file.file_stem()?.to_str()?;
        stem.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty()).and_then(number)
    };
    let numbers: Option<BTreeMap<u32, PathBuf>> = files.iter().map(|file| Some((last(file)?, file.clone()))).collect();
    numbers.filter(|numbers| numbers.len() == files.len())
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Photos by the number of their camera: those whose name is the same number, or, where no name is a number, all in
/// sorted order.
pub(super) fn match_photos(
    folder: &Path,
    cameras: &BTreeMap<u32, PathBuf>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<u32, PathBuf>> {
    let mut files = crate::files::input::files_in(folder, "list the photos")?;
    let others: Vec<PathBuf> = files.extract_if(.., |file| !image::has_photo_extension(file)).collect();
    photo_format::leave_out_originals(&mut files);
    let stem_number = |file: &PathBuf| number(&file.file_stem()?.to_string_lossy());
    let place = || folder.display().to_string();
    if files.is_empty() {
        photo_format::refuse_first(others.iter().map(PathBuf::as_path))?;
        return Err(Error::input(place(), "no photos", format!("{} files", photo_format::READ)));
    }
    let mut photos: BTreeMap<u32, PathBuf> = BTreeMap::new();
    if files.iter().all(|file| stem_number(file).is_none()) {
        if files.len() != cameras.len() {
            return Err(Error::input(
                place(),
                format!("{} photos whose names are not numbers, beside {} cameras", files.len(), cameras.len()),
                "names with the cameras' numbers (00000003.jpg for 00000003_cam.txt), or as many photos as cameras",
            ));
        }
        // A name sorts IMG_2 before IMG_10 for whoever gave it.
        files.sort_by(|a, b| alphanumeric_sort::compare_path(a, b));
        let by_number = numbers_in_names(&files).filter(|numbers| numbers.keys().eq(cameras.keys()));
        let how = match by_number {
            Some(numbers) => {
                photos.extend(numbers);
                "by the last number in the photo's name"
            }
            None => {
                photos.extend(cameras.keys().copied().zip(files));
                "in sorted order"
            }
        };
        let pair = |(id, photo): (&u32, &PathBuf)| format!("{} with {}", file_name(photo), file_name(&cameras[id]));
        let ends = [photos.first_key_value(), photos.last_key_value()].map(|end| end.map(pair).unwrap_or_default());
        notes.push(format!(
            "the photos' names are not numbers: photos and cameras were paired {how} ({}, and so on to {})",
            ends[0], ends[1]
        ));
        return Ok(photos);
    }
    let mut without_camera = Vec::new();
    for file in files {
        let Some(id) = stem_number(&file).filter(|id| cameras.contains_key(id)) else {
            without_camera.push(file);
            continue;
        };
        if let Some(other) = photos.get(&id) {
            notes.push(format!("view {id}: {} is used, {} is not", file_name(other), file_name(&file)));
        } else {
            photos.insert(id, file);
        }
    }
    if let Some(first) = without_camera.first() {
        let count = counted(without_camera.len(), "photo");
        notes.push(format!("{count} without a camera left out (first: {})", file_name(first)));
    }
    let without_photo: Vec<u32> = cameras.keys().copied().filter(|id| !photos.contains_key(id)).collect();
    if let Some(first) = without_photo.first() {
        let count = counted(without_photo.len(), "camera");
        notes.push(format!("{count} without a photo left out (first: view {first})"));
    }
    Ok(photos)
}
