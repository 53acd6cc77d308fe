//! The scene of a run: read as its files say, and where these leave open what their poses are, as the photos do.

use std::path::Path;

use crate::matching::poses;
use crate::scene::{OpenOptions, Scene};
use crate::{Error, Result};

/// Opens a scene, and says how: with what the options leave open decided.
///
/// # Errors
/// As [`Scene::open`]; photos that cannot be read, an interrupt.
pub fn open(path: &Path, options: &OpenOptions) -> Result<(Scene, OpenOptions)> {
    let opened = Scene::open(path, options);
    if options.poses.is_some() || opened.as_ref().is_ok_and(|scene| scene.poses.is_none()) {
        return Ok((opened?, options.clone()));
    }
    if let Err(Error::Interrupted) = opened {
        return Err(Error::Interrupted);
    }
    // Ranges, regions and masks depend on the poses, and may make no sense with wrong ones.
    let OpenOptions { layout, sparse, images, .. } = options.clone();
    let plain = OpenOptions { layout, sparse, images, range_given: true, ..OpenOptions::default() };
    let Ok(mut scene) = Scene::open(path, &plain) else { return Ok((opened?, options.clone())) };
    let Some(own) = scene.poses else { return Ok((opened?, options.clone())) };
    scene.select_sources();
    let decision = poses::decide(&scene, own)?;
    let decided = OpenOptions { poses: Some(decision.form), ..options.clone() };
    let mut scene = if decision.form == own { opened? } else { Scene::open(path, &decided)? };
    scene.notes.push(decision.note);
    Ok((scene, decided))
}
