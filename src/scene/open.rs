//! Which layout a path holds, and the scene in it.
//!
//! What the layouts are is in [`crate::scene::mvsnet`], [`crate::scene::colmap`] and [`crate::scene::formats`].

use std::path::Path;

use crate::error::counted;
use crate::files::{image, input, photo_format};
use crate::scene::formats::assemble;
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::table::{read_cameras, recognised};
use crate::scene::known::TOLERANCE;
use crate::scene::{Layout, OpenOptions, Scene, photos_folder};
use crate::{Error, Result};

impl Scene {
    /// Opens a scene in whichever layout the folder holds: MVSNet (`images/`, `cams/` or `cams_1/`, `pair.txt`
    /// optional), COLMAP (`images/` with `sparse/`, `sparse/N/` or `dense/sparse/`), or a file of another program that
    /// has the cameras (docs/FORMATS.md); `path` may also be that file itself. [`Scene::notes`] says what was assumed.
    ///
    /// The headers of all photos are read, so that a missing, damaged or wrongly sized one shows before any work.
    ///
    /// # Errors
    /// A folder that holds no such scene, or one with a file that does not hold what it should.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Scene> {
        let mut scene = if path.is_file() { foreign(path, options.layout, options)? } else { folder(path, options)? };
        if let (Some(form), None) = (options.poses, scene.poses) {
            let what = scene.layout.names().1;
            let found = format!("--poses {} beside {what}, whose poses are world to camera", form.name());
            return Err(Error::input(path.display().to_string(), found, "no --poses, or another --format"));
        }
        if options.masks.is_none() {
            scene.take_named_masks()?;
        }
        scene.take_listed_sources()?;
        scene.take(options)?;
        Ok(scene)
    }

    /// Takes what the options give beside the scene's own files: masks, depth ranges and the region of interest; photos
    /// that are too wide for one pinhole image become faces in between.
    ///
    /// # Errors
    /// Files that do not hold what they should, or nothing of this scene.
    pub fn take(&mut self, options: &OpenOptions) -> Result<()> {
        if let Some(folder) = &options.masks {
            self.take_masks(folder)?;
        }
        self.cut_into_faces()?;
        if let Some(file) = &options.range_from {
            self.take_ranges(file)?;
        }
        if let Some(folder) = &options.prior {
            self.take_priors(folder, options.prior_scale, options.prior_tolerance.unwrap_or(TOLERANCE))?;
        }
        match &options.roi {
            Some(option) => self.take_region(option)?,
            // What the files have cuts the cloud of those who ask for it.
            None => self.region_of_files = self.region.take(),
        }
        Ok(())
    }
}

/// The scene in a folder, in whichever layout it holds.
fn folder(path: &Path, options: &OpenOptions) -> Result<Scene> {
    let names = entry_names(path)?;
    if options.sparse.is_some() {
        return crate::scene::colmap::scene::open(path, options);
    }
    let mut there = Vec::new();
    there.extend(crate::scene::mvsnet::camera_folder(path).map(|_| Layout::MvsNet));
    there.extend(crate::scene::colmap::scene::is_scene(path).then_some(Layout::Colmap));
    there.extend(recognised(&Listing::new(path)?).into_iter().map(|(layout, _)| layout));
    let Some(layout) = options.layout.or(there.first().copied()) else {
        let photos_in = photos_folder(path);
        let photos = photos_alone(&photos_in)?;
        if photos == 0 {
            let files = input::files_in(&photos_in, "list the photos")?;
            photo_format::refuse_first(files.iter().map(|file| file.as_path()))?;
        }
        if photos >= 2 {
            let (dir, photos_in) = (path.display(), photos_in.display());
            let expected = format!(
                "their cameras: `engine infer {dir} --calibrate` lets an installed COLMAP find them; by hand, `mkdir \
                 cameras && colmap automatic_reconstructor --workspace_path cameras --image_path {photos_in} --dense \
                 0`, then `engine infer {dir} --sparse cameras/sparse`"
            );
            // Cameras that are damaged at their beginning are recognised as nothing.
            let files = input::files_in(path, "list the scene's files")?;
            let is_photo =
                |file: &Path| image::has_photo_extension(file) || photo_format::Format::of_name(file).is_some();
            let other = files.iter().find(|file| !is_photo(file)).and_then(|file| file.file_name());
            let other = other.map(|name| format!(" ({} holds none in a format that is known)", name.to_string_lossy()));
            let found = format!("{} and no cameras{}", counted(photos, "photo"), other.unwrap_or_default());
            return Err(Error::input(dir.to_string(), found, expected));
        }
        let found = if names.is_empty() { "an empty folder".into() } else { format!("no scene, only {names}") };
        return Err(Error::input(
            path.display().to_string(),
            found,
            "images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP model in sparse/, sparse/0/ \
                 or dense/sparse/, or the cameras of another program (`--format` of `engine infer --help` lists them)",
        ));
    };
    let mut scene = match layout {
        Layout::MvsNet => crate::scene::mvsnet::open(path, options)?,
        Layout::Colmap => crate::scene::colmap::scene::open(path, options)?,
        _ => foreign(path, Some(layout), options)?,
    };
    if options.layout.is_none() && there[..2.min(there.len())] == [Layout::MvsNet, Layout::Colmap] {
        scene
            .notes
            .insert(0, "there are cameras in the MVSNet layout and a COLMAP model: the MVSNet layout is used".into());
        there.remove(1);
    }
    if options.layout.is_none() && there.len() > 1 {
        let others: Vec<&str> = there[1..].iter().map(|layout| layout.names().1).collect();
        let note = format!(
            "there are also {}: {} is used; --format {} takes the first of the others",
            others.join(" and "),
            layout.names().1,
            there[1].names().0
        );
        scene.notes.insert(0, note);
    }
    Ok(scene)
}

/// A scene whose cameras another program has written.
fn foreign(path: &Path, layout: Option<Layout>, options: &OpenOptions) -> Result<Scene> {
    let root = if path.is_file() { folder_of(path) } else { path.to_owned() };
    let (layout, mut calibration) = read_cameras(path, layout)?;
    if let Some(form) = options.poses {
        calibration = calibration.with_poses(form)?;
    }
    assemble::scene(calibration, root, layout, options.images.as_deref())
}

/// How many photos lie in a folder.
fn photos_alone(folder: &Path) -> Result<usize> {
    let files = input::files_in(folder, "list the photos")?;
    Ok(files.iter().filter(|file| image::has_photo_extension(file)).count())
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
