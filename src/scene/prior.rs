//! Depths that are known before: maps of an earlier run, of a sensor, of another program, one file a photo.
//!
//! They narrow the depths that are searched in front of a view, so that planes lie closer, and say where among these
//! each pixel's is expected ([`crate::scene::known`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::counted;
use crate::files::depth_file;
use crate::files::subfolders::find;
use crate::scene::camera::{Camera, DepthRange, Expected, Hypotheses};
use crate::scene::known::{KnownDepths, TOLERANCE, UnderMap};
use crate::scene::lens::Lens;
use crate::scene::{Scene, View};
use crate::{Error, Result};

/// Where fewer of the pixels have a trusted value, the others may lie anywhere: the view keeps the range that it has.
const LEAST_SHARE: f64 = 0.5;
/// Of the trusted values, those that are left out at either end: what is wrong all the same, in percent.
const PERCENT: usize = 1;
/// How far a range goes beyond the others, as one from sparse points does by default; at least the tolerance.
const WIDEN: f64 = 0.1;

/// What a view's map says.
enum Said {
    Nothing,
    TooLittle,
    Range(DepthRange, KnownDepths),
}

impl Scene {
    /// Narrows each view's range of depths to those of its map in `folder`, `NAME.EXT` in it or in its folder `depth`:
    /// the 1st to 99th percentile of the trusted values, widened by a tenth, or by `tolerance` if that is more. A value
    /// is trusted that is a depth (> 0) and whose confidence, where `confidence/NAME.pfm` lies beside `depth`, is above
    /// 0.5. A view without a map, or with trusted values at less than half of the pixels, keeps its range, with a note;
    /// so does one whose range has nothing in common with the values. Within the range each pixel's depth is expected
    /// where the map says, give or take `tolerance` as a share. `scale` is that of PNG maps of 16 bits.
    ///
    /// # Errors
    /// A folder without a map of any view, and maps that cannot be read.
    pub(super) fn take_priors(&mut self, folder: &Path, scale: Option<f64>, tolerance: f64) -> Result<()> {
        std::fs::read_dir(folder).map_err(Error::io("read the folder of known depths", folder))?;
        let scale = match scale {
            Some(scale) => Some(scale),
            None => scale_beside(folder)?,
        };
        // Those of an earlier run, or that were exported from it.
        let above = dunce::canonicalize(folder).ok().and_then(|folder| Some(folder.parent()?.to_owned()));
        let made_here = |folder: &Path| folder.join("manifest.json").is_file();
        let undistorted = made_here(folder) || above.is_some_and(|folder| made_here(&folder));
        let how = How { scale, undistorted, tolerance, world: 1.0 };
        let said = self.views.par_iter().map(|view| said_of(view, folder, how)).collect::<Vec<_>>();
        let (all, mut without) = (self.views.len(), (0, ""));
        let (mut narrowed, mut sparse, mut apart, mut misshaped) = (0, Vec::new(), Vec::new(), Vec::new());
        for (view, said) in self.views.iter_mut().zip(said) {
            match said? {
                Said::Nothing => {
                    without = (without.0 + 1, if without.0 == 0 { &view.name } else { without.1 });
                }
                Said::TooLittle => sparse.push(&view.name),
                Said::Range(range, known) => match narrowed_to(view.range, range) {
                    Some(range) => {
                        if !known.fits(under(view, &known).size) {
                            misshaped.push(view.name.clone());
                        }
                        (view.range, view.known) = (Some(range), Some(known));
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
        notes.extend(misshaped_note(&misshaped));
        self.notes.append(&mut notes);
        Ok(())
    }
}

/// What is to be said of maps that are not as their photos are.
fn misshaped_note(views: &[String]) -> Option<String> {
    let first = views.first()?;
    Some(format!(
        "known depths of {} have sides of another ratio than the photo's (first: {first}): they narrow the range, but \
         do not say where in the photo which depth is expected",
        counted(views.len(), "view")
    ))
}

/// Where fewer of a view's sparse points lie within the range of its named map, that is not in the scene's units.
const LEAST_IN_RANGE: f64 = 0.5;
/// So few points say nothing about it.
const FEW_POINTS: usize = 10;

impl Scene {
    /// Narrows ranges by depth maps that the scene's own file names for photos, by the views' ids, as
    /// [`Self::take_priors`] does by those of a folder; `one` is what 1 means in maps of whole numbers, `world` what
    /// depths are divided by. Nobody asked for them: a map that is not there, or that the view's sparse points
    /// contradict, is told and not used, and so are those of photos that are cut into faces.
    ///
    /// # Errors
    /// Maps that cannot be read.
    pub(super) fn take_named_depths(&mut self, files: BTreeMap<u32, PathBuf>, (one, world): (f64, f64)) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let tracks = self.tracks();
        let of_view = |(at, view): (usize, &View)| -> Result<Option<Said>> {
            let Some(file) = files.get(&view.id) else { return Ok(None) };
            if !file.is_file() || view.lens.as_ref().is_some_and(Lens::is_wide) {
                return Ok(Some(Said::Nothing));
            }
            let how = How { scale: Some(1.0 / one), undistorted: false, tolerance: TOLERANCE, world };
            let Said::Range(range, known) = said_of_map(file.clone(), None, how)? else {
                return Ok(Some(Said::TooLittle));
            };
            let depths = tracks.points(at).filter_map(|point| Some(view.camera.pixel(point.position)?.1));
            let inside: Vec<bool> = depths.map(|z| (range.near..=range.far).contains(&z)).collect();
            let share = inside.iter().filter(|&&is| is).count() as f64 / inside.len().max(1) as f64;
            let fits = inside.len() < FEW_POINTS || share >= LEAST_IN_RANGE;
            Ok(Some(if fits { Said::Range(range, known) } else { Said::TooLittle }))
        };
        let said: Vec<Result<Option<Said>>> = self.views.par_iter().enumerate().map(of_view).collect();
        let said = said.into_iter().collect::<Result<Vec<_>>>()?;
        let (mut narrowed, mut missing, mut useless, mut misshaped) = (0, Vec::new(), Vec::new(), Vec::new());
        for (view, said) in self.views.iter_mut().zip(said) {
            match said {
                None => {}
                Some(Said::Nothing) => missing.push(view.name.clone()),
                Some(Said::TooLittle) => useless.push(view.name.clone()),
                Some(Said::Range(range, known)) => match narrowed_to(view.range, range) {
                    Some(range) => {
                        if !known.fits(under(view, &known).size) {
                            misshaped.push(view.name.clone());
                        }
                        (view.range, view.known) = (Some(range), Some(known));
                        narrowed += 1;
                    }
                    None => useless.push(view.name.clone()),
                },
            }
        }
        let (all, what) = (self.views.len(), self.layout.names().1);
        let mut notes =
            vec![format!("depth ranges of {narrowed} of {all} views narrowed to depth maps that {what} names")];
        if let Some(first) = missing.first() {
            let maps = counted(missing.len(), "depth map");
            notes.push(format!(
                "{maps} named there but not found, or of a photo that is cut into faces (first: {first})"
            ));
        }
        if let Some(first) = useless.first() {
            notes.push(format!(
                "{} named there not used (first: {first}): known at less than half of the pixels, or not where the \
                 sparse points are; are they in the scene's units?",
                counted(useless.len(), "depth map")
            ));
        }
        notes.extend(misshaped_note(&misshaped));
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

/// How maps are read; the fields are those of [`KnownDepths`].
#[derive(Clone, Copy)]
struct How {
    scale: Option<f64>,
    undistorted: bool,
    tolerance: f64,
    world: f64,
}

fn said_of(view: &View, folder: &Path, how: How) -> Result<Said> {
    let Some((file, confidence)) = files_of(view, folder) else { return Ok(Said::Nothing) };
    said_of_map(file, confidence, how)
}

/// What a map says, with one of its confidence.
fn said_of_map(file: PathBuf, confidence: Option<PathBuf>, how: How) -> Result<Said> {
    let How { scale, undistorted, tolerance, world } = how;
    let mut known = KnownDepths { file, confidence, scale, world, tolerance, undistorted, size: (0, 0) };
    let map = known.read()?;
    known.size = (map.width, map.height);
    let mut depths: Vec<f32> = map.data.iter().copied().filter(|&z| z > 0.0).collect();
    if (depths.len() as f64) < LEAST_SHARE * map.data.len() as f64 || depths.is_empty() {
        return Ok(Said::TooLittle);
    }
    depths.sort_unstable_by(f32::total_cmp);
    let percentile = |p: usize| f64::from(depths[(depths.len() - 1) * p / 100]);
    let widen = tolerance.max(WIDEN);
    let range =
        DepthRange { near: percentile(PERCENT) * (1.0 - widen), far: percentile(100 - PERCENT) * (1.0 + widen) };
    Ok(if range.far.is_finite() { Said::Range(range, known) } else { Said::TooLittle })
}

/// A view's map, and that of its confidence.
fn files_of(view: &View, folder: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let named = |folder: &Path| {
        let file = |extension: &&str| find(folder, &view.name, extension);
        depth_file::EXTENSIONS.iter().map(file).find(|file| file.is_file())
    };
    if let Some(file) = named(&folder.join("depth")) {
        let confidence = find(&folder.join("confidence"), &view.name, "pfm");
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

/// The photo that a view's map lies over: that of an earlier run, and of a face, over what is undistorted.
fn under<'a>(view: &'a View, known: &KnownDepths) -> UnderMap<'a> {
    let is_undistorted = known.undistorted || view.face().is_some();
    let size = if is_undistorted { view.size } else { view.stored_size() };
    UnderMap { camera: &view.camera, lens: view.lens.as_ref().filter(|_| !is_undistorted), size }
}

impl View {
    /// Where its pixels' depths are expected by what is known before, `camera` being its own at another size; see
    /// [`KnownDepths::expected`].
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn expected(&self, of: (&Camera, (usize, usize)), hypotheses: &Hypotheses) -> Result<Option<Expected>> {
        self.known.as_ref().map_or(Ok(None), |known| known.expected(&under(self, known), of, hypotheses))
    }
}
