//! Depths that are known before: maps of an earlier run, of a sensor, of another program, one file a photo.
//!
//! They narrow the depths that are searched in front of a view, so that planes lie closer. They do not say where in
//! the photo which depth is searched: a view has one range.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::counted;
use crate::files::{depth_file, pfm};
use crate::scene::camera::DepthRange;
use crate::scene::{Scene, View};
use crate::{Error, Result};

/// Values whose confidence, where there is a map of it, is not above this are not trusted.
const LEAST_CONFIDENCE: f32 = 0.5;
/// Where fewer of the pixels have a trusted value, the others may lie anywhere: the view keeps the range that it has.
const LEAST_SHARE: f64 = 0.5;
/// Of the trusted values, those that are left out at either end: what is wrong all the same, in percent.
const PERCENT: usize = 1;
/// How far a range goes beyond the others, as one from sparse points does by default.
const WIDEN: f64 = 0.1;

/// What a view's map says.
enum Said {
    Nothing,
    TooLittle,
    Range(DepthRange),
}

impl Scene {
    /// Narrows each view's range of depths to those of its map in `folder`, `NAME.EXT` in it or in its folder `depth`:
    /// the 1st to 99th percentile of the trusted values, widened by a tenth. A value is trusted that is a depth (> 0)
    /// and whose confidence, where `confidence/NAME.pfm` lies beside `depth`, is above 0.5. A view without a map, or
    /// with trusted values at less than half of the pixels, keeps its range, with a note; so does one whose range has
    /// nothing in common with the values. `scale` is that of PNG maps of 16 bits.
    ///
    /// # Errors
    /// A folder without a map of any view, and maps that cannot be read.
    pub(super) fn take_priors(&mut self, folder: &Path, scale: Option<f64>) -> Result<()> {
        std::fs::read_dir(folder).map_err(Error::io("read the folder of known depths", folder))?;
        let scale = match scale {
            Some(scale) => Some(scale),
            None => scale_beside(folder)?,
        };
        let said = self.views.par_iter().map(|view| said_of(view, folder, scale)).collect::<Vec<_>>();
        let (all, mut without) = (self.views.len(), (0, ""));
        let (mut narrowed, mut sparse, mut apart) = (0, Vec::new(), Vec::new());
        for (view, said) in self.views.iter_mut().zip(said) {
            match said? {
                Said::Nothing => {
                    without = (without.0 + 1, if without.0 == 0 { &view.name } else { without.1 });
                }
                Said::TooLittle => sparse.push(&view.name),
                Said::Range(known) => match narrowed_to(view.range, known) {
                    Some(range) => {
                        view.range = Some(range);
                        narrowed += 1;
                    }
                    None => apart.push(&view.name),
                },
            }
        }
        if without.0 == all {
            let found = format!("no depth map of a view (first: {})", without.1);
            let expected =
                "maps named after the photos: NAME.pfm, .exr, .npy, .npz or .png of 16 bits, there or in depth/";
            return Err(Error::input(folder.display().to_string(), found, expected));
        }
        let mut notes =
            vec![format!("depth ranges of {narrowed} of {all} views narrowed to known depths in {}", folder.display())];
        if without.0 > 0 {
            notes[0] += &format!("; {} without a map (first: {})", counted(without.0, "view"), without.1);
        }
        if let Some(first) = sparse.first() {
            notes.push(format!(
                "known depths of {} cover less than half of the pixels (first: {first}): its range stays",
                counted(sparse.len(), "view")
            ));
        }
        if let Some(first) = apart.first() {
            notes.push(format!(
                "known depths of {} lie outside of the range that is given otherwise (first: {first}), which stays: \
                 are they in the scene's units?",
                counted(apart.len(), "view")
            ));
        }
        self.notes.append(&mut notes);
        Ok(())
    }
}

/// What both ranges have in common; the known one where there is no other.
fn narrowed_to(range: Option<DepthRange>, known: DepthRange) -> Option<DepthRange> {
    let Some(range) = range else { return Some(known) };
    let both = DepthRange { near: range.near.max(known.near), far: range.far.min(known.far) };
    (both.near < both.far).then_some(both)
}

fn said_of(view: &View, folder: &Path, scale: Option<f64>) -> Result<Said> {
    let Some((file, confidence)) = files_of(view, folder) else { return Ok(Said::Nothing) };
    let map = depth_file::read(&file, scale)?;
    let confidence = confidence.map(|path| pfm::read(&path).map(|map| (path, map))).transpose()?;
    if let Some((path, confidence)) = &confidence
        && (confidence.width, confidence.height) != (map.width, map.height)
    {
        let found = format!("a map of {} x {}", confidence.width, confidence.height);
        let expected = format!("{} x {} as {} has", map.width, map.height, file.display());
        return Err(Error::input(path.display().to_string(), found, expected));
    }
    let is_trusted = |i: usize| confidence.as_ref().is_none_or(|(_, map)| map.data[i] > LEAST_CONFIDENCE);
    let trusted = map.data.iter().enumerate().filter(|&(i, &z)| z > 0.0 && z.is_finite() && is_trusted(i));
    let mut depths: Vec<f32> = trusted.map(|(_, &z)| z).collect();
    if (depths.len() as f64) < LEAST_SHARE * map.data.len() as f64 || depths.is_empty() {
        return Ok(Said::TooLittle);
    }
    depths.sort_unstable_by(f32::total_cmp);
    let percentile = |p: usize| f64::from(depths[(depths.len() - 1) * p / 100]);
    let range =
        DepthRange { near: percentile(PERCENT) * (1.0 - WIDEN), far: percentile(100 - PERCENT) * (1.0 + WIDEN) };
    Ok(if range.far.is_finite() { Said::Range(range) } else { Said::TooLittle })
}

/// A view's map, and that of its confidence.
fn files_of(view: &View, folder: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let named = |folder: &Path| {
        let file = |extension: &&str| folder.join(format!("{}.{extension}", view.name));
        depth_file::EXTENSIONS.iter().map(file).find(|file| file.is_file())
    };
    if let Some(file) = named(&folder.join("depth")) {
        let confidence = folder.join("confidence").join(format!("{}.pfm", view.name));
        return Some((file, Some(confidence).filter(|path| path.is_file())));
    }
    named(folder).map(|file| (file, None))
}

/// The scale of PNG maps that the engine has written beside them.
fn scale_beside(folder: &Path) -> Result<Option<f64>> {
    let file = folder.join("png16.json");
    if !file.is_file() {
        return Ok(None);
    }
    let text = crate::files::input::read_text(&file, "read the scale of the maps")?;
    let about: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let scale = about.and_then(|about| about["depth"]["scale"].as_f64()).filter(|scale| *scale > 0.0);
    let refused = || Error::input(file.display().to_string(), "no number depth.scale", "the scale of the maps, > 0");
    scale.map(Some).ok_or_else(refused)
}
