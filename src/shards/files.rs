//! Which files of a scene a shard reads, so that they can be copied to the machine that does it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::folder::scene_of_results;
use crate::run::plan::Plan;
use crate::scene::Scene;

/// Endings of photos and masks, which each shard needs only some of.
const PICTURES: [&str; 14] =
    ["jpg", "jpeg", "png", "tif", "tiff", "webp", "bmp", "gif", "ppm", "heic", "heif", "hif", "avif", "jxl"];

/// The files that views of a plan need, relative to the scene's folder where they lie in it: photos and masks of the
/// views and of their sources, and whatever else the folder holds but pictures and `out`: cameras, points, lists.
///
/// # Errors
/// Folders that cannot be listed.
pub fn of_views(scene: &Scene, plan: &Plan, places: &[usize], out: &Path) -> Result<Vec<PathBuf>> {
    let used = plan.photos_of(places.iter().copied());
    let pictures = used.iter().flat_map(|&view| {
        let view = &scene.views[view];
        std::iter::once(&view.image).chain(&view.mask).cloned()
    });
    let mut files: BTreeSet<PathBuf> = pictures.collect();
    let root = if scene.root.is_file() { scene.root.parent().unwrap_or(&scene.root) } else { &scene.root };
    let out = dunce::canonicalize(out).unwrap_or_else(|_| out.to_owned());
    others_in(root, &out, &mut files)?;
    let relative = |file: PathBuf| file.strip_prefix(root).map_or_else(|_| file.clone(), Path::to_owned);
    Ok(files.into_iter().map(relative).collect())
}

/// Adds what a folder and those in it hold beside pictures.
fn others_in(folder: &Path, out: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("list the scene's folder", folder))?;
    for entry in entries {
        let path = entry.map_err(Error::io("list the scene's folder", folder))?.path();
        if path.is_dir() {
            if dunce::canonicalize(&path).is_ok_and(|full| full != out) && scene_of_results(&path).is_none() {
                others_in(&path, out, files)?;
            }
            continue;
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        if path.is_file() && !PICTURES.contains(&ending.as_str()) {
            files.insert(path);
        }
    }
    Ok(())
}

/// Bytes of the photos of some views and their sources, and how many these are.
pub fn photos(scene: &Scene, plan: &Plan, places: &[usize]) -> (usize, u64) {
    let used = plan.photos_of(places.iter().copied());
    let bytes = |&view: &usize| std::fs::metadata(&scene.views[view].image).map_or(0, |data| data.len());
    (used.len(), used.iter().map(bytes).sum())
}
