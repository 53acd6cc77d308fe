//! Which layout a folder holds, and the scene in it.
//!
//! What the layouts are is in [`crate::scene::mvsnet`] and [`crate::scene::colmap`].

use std::path::Path;

use crate::scene::{Layout, OpenOptions, Scene};
use crate::{Error, Result};

impl Scene {
    /// Opens a scene in whichever layout the folder holds: MVSNet (`images/`, `cams/` or `cams_1/`, `pair.txt`
    /// optional) or COLMAP (`images/` with `sparse/`, `sparse/N/` or `dense/sparse/`). [`Scene::notes`] says what was
    /// assumed.
    ///
    /// The headers of all photos are read, so that a missing, damaged or wrongly sized one shows before any work.
    ///
    /// # Errors
    /// A folder that holds no such scene, or one with a file that does not hold what it should.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Scene> {
        let names = entry_names(path)?;
        let is_mvsnet = crate::scene::mvsnet::camera_folder(path).is_some();
        let is_colmap = crate::scene::colmap::scene::is_scene(path);
        let layout = match (options.layout, is_mvsnet, is_colmap) {
            (Some(layout), _, _) => layout,
            (None, true, _) => Layout::MvsNet,
            (None, false, true) => Layout::Colmap,
            (None, false, false) => {
                let found = if names.is_empty() { "an empty folder".into() } else { format!("no scene, only {names}") };
                return Err(Error::input(
                    path.display().to_string(),
                    found,
                    "images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP model in sparse/, \
                     sparse/0/ or dense/sparse/",
                ));
            }
        };
        let mut scene = match layout {
            Layout::MvsNet => crate::scene::mvsnet::open(path, options)?,
            Layout::Colmap => crate::scene::colmap::scene::open(path)?,
        };
        if options.layout.is_none() && is_mvsnet && is_colmap {
            scene.notes.insert(
                0,
                "there are cameras in the MVSNet layout and a COLMAP model: the MVSNet layout is used".into(),
            );
        }
        if let Some(folder) = &options.masks {
            scene.take_masks(folder)?;
        }
        if let Some(cloud) = &options.range_from {
            scene.take_ranges(cloud)?;
        }
        if let Some(option) = &options.roi {
            scene.take_region(option)?;
        }
        Ok(scene)
    }
}

/// The first few names in a folder, for a message.
fn entry_names(folder: &Path) -> Result<String> {
    const SHOWN: usize = 6;
    let entries = std::fs::read_dir(folder).map_err(Error::io("open the scene's folder", folder))?;
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    names.truncate(SHOWN);
    Ok(format!("{}{more}", names.join(", ")))
}
