//! What will be computed: for each view its sources, depth range, planes and spacing, decided before any photo is
//! decoded, with every assumption put into words.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result, counted};
use crate::files::known_hashes::KnownHashes;
use crate::files::subfolders::Spread;
use crate::host::progress::Progress;
use crate::manifest::RangeFrom;
use crate::net::config::Resolution;
use crate::run::options::InferOptions;
use crate::scene::camera::{Camera, DepthRange, MAX_PLANES, Sampling};
use crate::scene::look::Look;
use crate::scene::tracks::Tracks;
use crate::scene::{Scene, View, photo};

/// Planes where neither the options nor the scene say how many: the paper's number for maps at a quarter of the photos'
/// sides, and half of it where narrow stages search between the planes afterwards (`weights/CARD.md` has what that
/// does).
pub fn default_planes(resolution: Resolution) -> usize {
    if resolution == Resolution::Quarter { 192 } else { 96 }
}

/// Channels of the feature maps at a quarter.
const FEATURE_CHANNELS: u64 = 32;

/// Planes that a range of near and interval has where nothing says how many (MVSNet's).
pub const PLANES_OF_INTERVAL: usize = 192;

/// Below this ratio of far to near, evenly spaced depths are as good as evenly spaced inverse depths.
const LINEAR_BELOW: f64 = 3.0;

/// A photo as the network will see it at level 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Pixels a row, after reduction.
    pub width: usize,
    /// Rows, after reduction.
    pub height: usize,
    /// The camera of these pixels.
    pub camera: Camera,
    /// Of the maps that are made of it.
    pub resolution: Resolution,
}

impl Frame {
    /// Of a view, reduced to `max_side`.
    pub fn new(view: &View, max_side: Option<usize>, resolution: Resolution) -> Self {
        let (width, height) = photo::reduced_size(view.size, max_side).unwrap_or(view.size);
        let (sx, sy) = (width as f64 / view.size.0 as f64, height as f64 / view.size.1 as f64);
        let camera = if (width, height) == view.size { view.camera } else { view.camera.resized(sx, sy) };
        Self { width, height, camera, resolution }
    }

    /// Width and height of a level's maps: the photo's at that level by the resolution's step, rounded up.
    pub fn map_size(&self, level: usize) -> (usize, usize) {
        [self.width, self.height].map(|side| side.div_ceil(self.resolution.step() << level)).into()
    }

    /// The camera of a level's maps.
    pub fn map_camera(&self, level: usize) -> Camera {
        self.camera.decimated(0.5f64.powi(level as i32) / self.resolution.step() as f64)
    }

    /// Width and height of a level's features at a quarter of the photo's sides, rounded up.
    pub fn quarter_size(&self, level: usize) -> (usize, usize) {
        [self.width, self.height].map(|side| side.div_ceil(Resolution::Quarter.step() << level)).into()
    }

    /// The camera of a level's features at a quarter of the photo's sides.
    pub fn quarter_camera(&self, level: usize) -> Camera {
        self.camera.decimated(0.5f64.powi(level as i32) / Resolution::Quarter.step() as f64)
    }

    /// Bytes of a level's features in f32: 32 channels at a quarter, and as far as maps go up 16 at half and 8 at all
    /// of the photo's sides.
    pub fn feature_bytes(&self, level: usize) -> u64 {
        let (width, height) = self.quarter_size(level);
        let channels = match self.resolution {
            Resolution::Quarter => FEATURE_CHANNELS,
            Resolution::Half => FEATURE_CHANNELS + 4 * 16,
            // And grey.
            Resolution::Full => FEATURE_CHANNELS + 4 * 16 + 16 * (8 + 1),
        };
        width as u64 * height as u64 * channels * 4
    }

    /// The photo turned, and enlarged where the level is below 0 ([`Look::level`]), with the level that is then meant.
    pub fn shown(&self, quarter_turns: u8, level: i32) -> (Self, usize) {
        let Self { mut width, mut height, .. } = *self;
        let mut camera = self.camera.turned(quarter_turns, (width, height));
        if quarter_turns % 2 == 1 {
            (width, height) = (height, width);
        }
        if level < 0 {
            let step = 1 << -level;
            (width, height) = ((width - 1) * step + 1, (height - 1) * step + 1);
            camera = camera.decimated(step as f64);
        }
        (Self { width, height, camera, ..*self }, level.max(0) as usize)
    }
}

/// A photo as it is shown to the network: the same features serve all that want it turned alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// Index into the scene's views.
    pub photo: usize,
    /// Quarter turns, clockwise.
    pub quarter_turns: u8,
}

/// What will be computed for one view.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// Index into the scene's views.
    pub view: usize,
    /// Source views that the network looks at, best first.
    pub sources: Vec<usize>,
    /// How the photo of each of them is shown beside this view's.
    pub looks: Vec<Look>,
    /// Source views that the depth map is checked against, best first.
    pub check: Vec<usize>,
    /// Depths that are searched.
    pub range: DepthRange,
    /// Where the range is from.
    pub range_from: RangeFrom,
    /// Number of hypotheses.
    pub planes: usize,
    /// Their spacing.
    pub sampling: Sampling,
}

impl ViewPlan {
    /// Its own photo, then its sources', each as it is shown for this view.
    pub fn shown(&self) -> impl Iterator<Item = (Shown, Look)> + '_ {
        let sources = self.sources.iter().copied().zip(self.looks.iter().copied());
        std::iter::once((self.view, Look::AS_IT_IS))
            .chain(sources)
            .map(|(photo, look)| (Shown { photo, quarter_turns: look.quarter_turns }, look))
    }

    /// The same view with its sources shown as photos of these sizes must be.
    pub fn with_looks(self, frames: &[Frame]) -> Self {
        let side = |view: usize| (&frames[view].camera, (frames[view].width, frames[view].height));
        let looks = self.sources.iter().map(|&s| Look::new(side(self.view), side(s), self.range)).collect();
        Self { looks, ..self }
    }
}

/// Views to work on, and how all photos (also of views that only serve as sources) will look.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to compute, in the scene's order.
    pub views: Vec<ViewPlan>,
    /// For every view of the scene. Plans of some of the views share them.
    pub frames: Arc<[Frame]>,
    /// What was assumed, chosen or skipped.
    pub notes: Vec<String>,
}

impl Plan {
    /// The views of the scene whose photos some of the plan's views need: their own and their sources'.
    pub fn photos_of(&self, places: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let of_view = |place: usize| {
            let ViewPlan { view, sources, .. } = &self.views[place];
            std::iter::once(view).chain(sources).copied()
        };
        places.into_iter().flat_map(of_view).collect()
    }
}

/// What the stages of a run work on, each in its turn.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Photos and cameras.
    pub scene: &'a Scene,
    /// What is made of them.
    pub plan: &'a Plan,
    /// What was asked for.
    pub options: &'a InferOptions,
    /// The folder for results.
    pub out: &'a Path,
    /// Hashes of files, as far as they are known.
    pub hashes: &'a KnownHashes,
    /// Where is told what is done.
    pub progress: &'a Progress,
}

impl<'a> Work<'a> {
    /// The name of a planned view.
    pub fn name(&self, view: &ViewPlan) -> &'a str {
        &self.scene.views[view.view].name
    }

    /// Whether views' files go to subfolders.
    pub fn spread(&self) -> Spread {
        self.options.subfolders.of(self.scene.views.len())
    }
}

/// Where the given views of the scene stand in a plan; those without a depth map are left out.
pub fn places(views: &[ViewPlan], wanted: &[usize]) -> Vec<usize> {
    // Plans have the scene's order.
    wanted.iter().filter_map(|&w| views.binary_search_by_key(&w, |v| v.view).ok()).collect()
}

/// Chooses the views that are asked for by name; all of them where none is.
///
/// # Errors
/// A name that no view bears.
pub fn chosen_views(scene: &Scene, only: &[String]) -> Result<Vec<usize>> {
    let there: HashSet<&str> = match only {
        [] => HashSet::new(),
        _ => scene.views.iter().map(|view| view.name.as_str()).collect(),
    };
    for name in only {
        if !there.contains(name.as_str()) {
            let names: Vec<String> = scene.views.iter().map(|v| v.name.clone()).collect();
            return Err(Error::input(
                format!("--view {name}"),
                "no view of the scene has this name",
                format!("one of its {}: {}", names.len(), first_few(&names)),
            ));
        }
    }
    let only: HashSet<&str> = only.iter().map(String::as_str).collect();
    let wanted = |view: &View| only.is_empty() || only.contains(view.name.as_str());
    Ok((0..scene.views.len()).filter(|&v| wanted(&scene.views[v])).collect())
}

/// Names for a message: all of a few, else the first.
fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let dots = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}{dots}", names[..names.len().min(SHOWN)].join(", "))
}

/// Decides everything that can be decided without pixels. Fills in source views where the scene has none.
///
/// # Errors
/// A scene with less than two views, an unknown view name, an absurd number of planes, a scene without any depth range,
/// or without a pair of views that see the same place.
pub fn plan(scene: &mut Scene, options: &InferOptions) -> Result<Plan> {
    if scene.views.len() < 2 {
        let (place, found) = (scene.root.display().to_string(), format!("{} view", scene.views.len()));
        return Err(Error::input(place, found, "at least two overlapping views"));
    }
    let chosen = chosen_views(scene, &options.only)?;
    if let Some(range) = options.range {
        // Also before sources are selected: without sparse points that choice depends on the range.
        scene.views.iter_mut().for_each(|v| v.range = Some(range));
    }
    let outside = scene.take_ranges_of_files_region();
    scene.select_sources();

    let frames: Arc<[Frame]> =
        scene.views.iter().map(|v| Frame::new(v, options.max_side, options.resolution)).collect();
    let (mut views, mut alone, mut rangeless, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let tracks = scene.tracks();
    for view in chosen {
        let planes = planes_of(scene, view, options)?;
        let best =
            |count: usize| -> Vec<usize> { scene.views[view].sources.iter().take(count).map(|s| s.view).collect() };
        let sources = best(options.views - 1);
        let seen = scene.region.map(|region| region.depths(&scene.views[view].camera, scene.views[view].size));
        let range = depth_range(&tracks, view, &sources, planes, options);
        let range = match (range, seen) {
            (range, None) => range,
            (None, Some(Some(seen))) => Some((seen, RangeFrom::Region)),
            (Some((range, from)), Some(Some(seen))) if range.near < seen.far && seen.near < range.far => {
                let is_narrower = seen.near > range.near || seen.far < range.far;
                let range = DepthRange { near: range.near.max(seen.near), far: range.far.min(seen.far) };
                Some((range, if is_narrower { RangeFrom::Region } else { from }))
            }
            (_, Some(_)) => {
                elsewhere.push(scene.views[view].name.clone());
                continue;
            }
        };
        match range {
            None if outside.contains(&view) => elsewhere.push(scene.views[view].name.clone()),
            None => rangeless.push(scene.views[view].name.clone()),
            Some(_) if scene.views[view].sources.is_empty() => alone.push(scene.views[view].name.clone()),
            Some((range, range_from)) => {
                let check = best(options.settings.check_sources);
                let linear = range.far / range.near < LINEAR_BELOW;
                let sampling = options.sampling.unwrap_or(if linear { Sampling::Linear } else { Sampling::Inverse });
                let looks = Vec::new();
                let plan = ViewPlan { view, sources, looks, check, range, range_from, planes, sampling };
                views.push(plan.with_looks(&frames));
            }
        }
    }
    if views.is_empty() && !elsewhere.is_empty() {
        return Err(scene.sees_nothing_of_region());
    }
    if views.is_empty() {
        return Err(nothing_to_do(scene, &alone, &rangeless));
    }
    let mut notes = Vec::new();
    if !rangeless.is_empty() {
        let names = first_few(&rangeless);
        notes.push(format!("no depth range, hence no depth map, for view {names} (--range gives one)"));
    }
    if !alone.is_empty() {
        notes.push(format!("no source view, hence no depth map, for view {}", first_few(&alone)));
    }
    if !elsewhere.is_empty() {
        let names = first_few(&elsewhere);
        notes.push(format!("nothing of the region of interest, hence no depth map, in view {names}"));
    }
    notes.extend(fewer_note(scene, &views, options));
    notes.extend(look_notes(scene, &views));
    notes.extend(default_notes(&tracks, &views, options));
    Ok(Plan { views, frames, notes })
}

/// Why no view gets a depth map.
fn nothing_to_do(scene: &Scene, alone: &[String], rangeless: &[String]) -> Error {
    let place = scene.root.display().to_string();
    if let Some(first) = rangeless.first() {
        return Error::input(
            place,
            format!("no depth range for view {first} in its files, and no sparse points to take one from"),
            "the nearest and farthest depth to search: --range near,far",
        );
    }
    if scene.is_without_baseline() {
        return Error::input(
            place,
            format!("{} cameras that all stand at the same place", scene.views.len()),
            "photos taken from different places, since there is no depth without a baseline; check the cameras' \
             translations",
        );
    }
    Error::Nothing(format!(
        "{place}: no view overlaps another, so nothing can be matched (view {} has no source view); check the cameras, \
         or list source views in pair.txt",
        alone[0]
    ))
}

/// The option, else the scene's number, else the default. A range that is given by its near end and an interval ends
/// where the planes end: that of the data sets that write it so, after [`PLANES_OF_INTERVAL`].
fn planes_of(scene: &Scene, view: usize, options: &InferOptions) -> Result<usize> {
    let of_scene = &scene.views[view];
    let by_interval = options.range.is_none() && of_scene.range.is_none() && of_scene.sweep.is_some();
    let default = if by_interval { PLANES_OF_INTERVAL } else { default_planes(options.resolution) };
    let planes = options.planes.or(of_scene.planes).unwrap_or(default);
    if (1..=MAX_PLANES).contains(&planes) {
        return Ok(planes);
    }
    Err(Error::input(
        format!("view {}", scene.views[view].name),
        format!("{planes} planes"),
        format!("1 to {MAX_PLANES}; --planes D replaces the file's number"),
    ))
}

fn depth_range(
    tracks: &Tracks,
    view: usize,
    sources: &[usize],
    planes: usize,
    options: &InferOptions,
) -> Option<(DepthRange, RangeFrom)> {
    if let Some(range) = options.range {
        return Some((range, RangeFrom::Option));
    }
    let of_scene = tracks.scene.views[view].depth_range(planes).map(|range| (range, RangeFrom::Scene));
    of_scene.or_else(|| {
        let own = tracks.point_depth_range(view, options.widen_range)?;
        Some((tracks.widened_range(view, sources, own), RangeFrom::Points))
    })
}

/// Which views have fewer sources than asked for.
fn fewer_note(scene: &Scene, views: &[ViewPlan], options: &InferOptions) -> Option<String> {
    let asked = options.views - 1;
    let fewer = views.iter().filter(|v| v.sources.len() < asked);
    let fewer: Vec<String> = fewer.map(|v| format!("{} ({})", scene.views[v.view].name, v.sources.len())).collect();
    (!fewer.is_empty()).then(|| {
        format!(
            "fewer than {asked} source views for {} of {} views, the scene has no more that fit: {}",
            fewer.len(),
            views.len(),
            first_few(&fewer)
        )
    })
}

/// Which views are matched against photos that are turned, or shown larger or smaller, for them.
fn look_notes(scene: &Scene, views: &[ViewPlan]) -> Vec<String> {
    let with = |wanted: &dyn Fn(&Look) -> bool, done: &str| {
        let of_view = |v: &ViewPlan| {
            let sources = v.sources.iter().zip(&v.looks).filter(|(_, look)| wanted(look)).map(|(&s, _)| s);
            sources.map(|s| (v.view, s)).collect::<Vec<_>>()
        };
        let pairs: Vec<(usize, usize)> = views.iter().flat_map(of_view).collect();
        let &(view, source) = pairs.first()?;
        let name = |view: usize| &scene.views[view].name;
        let of = views.iter().map(|v| v.sources.len()).sum::<usize>();
        Some(format!("{} of {of} source photos {done} (first: {} for view {})", pairs.len(), name(source), name(view)))
    };
    let turned = with(&|look| look.quarter_turns != 0, "turned by quarters to lie as the view's own photo does");
    let coarser = with(
        &|look| look.levels > 0,
        "taken at a smaller level of their pyramid, since they show things twice as large as the view's or more",
    );
    let finer = with(
        &|look| look.levels < 0,
        "enlarged, or taken at a larger level of their pyramid, since they show things half as large as the view's or \
         less",
    );
    [turned, coarser, finer].into_iter().flatten().collect()
}

/// Which ranges go further than the views' own points.
fn widened_note(tracks: &Tracks, views: &[ViewPlan], options: &InferOptions) -> Option<String> {
    let of_points = views.iter().filter(|v| v.range_from == RangeFrom::Points);
    let own = of_points.filter_map(|v| Some((v, tracks.point_depth_range(v.view, options.widen_range)?)));
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for (view, own) in own {
        let name = &tracks.scene.views[view.view].name;
        if view.range.near < own.near {
            near.push((own.near / view.range.near, format!("view {name}: {:.4} to {:.4}", own.near, view.range.near)));
        }
        if view.range.far > own.far {
            far.push((view.range.far / own.far, format!("view {name}: {:.4} to {:.4}", own.far, view.range.far)));
        }
    }
    let said = |end: &str, mut widened: Vec<(f64, String)>| {
        widened.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (_, most) = widened.first()?;
        Some(format!("{end} in {} (most in {most})", counted(widened.len(), "view")))
    };
    let said: Vec<String> = [said("nearer", near), said("farther", far)].into_iter().flatten().collect();
    (!said.is_empty()).then(|| {
        format!(
            "depth ranges widened to sparse points that neighbouring views track in a view's photo: {}",
            said.join(", ")
        )
    })
}

/// What was chosen for want of an option, once for all views.
fn default_notes(tracks: &Tracks, views: &[ViewPlan], options: &InferOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let count = |wanted: &dyn Fn(&ViewPlan) -> bool| views.iter().filter(|v| wanted(v)).count();
    let of_points = count(&|v| v.range_from == RangeFrom::Points);
    if of_points > 0 {
        notes.push(format!(
            "depth range of {of_points} of {} views: 1st to 99th percentile of the view's sparse points, widened by \
             {} %",
            views.len(),
            (options.widen_range * 1e4).round() / 100.0
        ));
        let of_points = views.iter().filter(|v| v.range_from == RangeFrom::Points);
        let strays: Vec<usize> = of_points.map(|v| tracks.stray_points(v.view)).filter(|&n| n > 0).collect();
        if !strays.is_empty() {
            notes.push(format!(
                "{} of {} lie far apart from all others, before or behind them, and set no depth range",
                counted(strays.iter().sum(), "sparse point"),
                counted(strays.len(), "view")
            ));
        }
    }
    notes.extend(widened_note(tracks, views, options));
    if options.planes.is_none() {
        let default = count(&|v| tracks.scene.views[v.view].planes.is_none());
        if default > 0 {
            notes.push(format!(
                "{} planes for {default} of {} views: neither the scene nor an option says",
                views.iter().find(|v| tracks.scene.views[v.view].planes.is_none()).map_or(0, |v| v.planes),
                views.len()
            ));
        }
    }
    if options.sampling.is_none() {
        let inverse = count(&|v| v.sampling == Sampling::Inverse);
        notes.push(match inverse {
            0 => format!("planes evenly spaced in depth: far / near is below {LINEAR_BELOW}"),
            n if n == views.len() => {
                format!("planes evenly spaced in 1 / depth: far / near is {LINEAR_BELOW} or more")
            }
            n => format!(
                "planes evenly spaced in 1 / depth for {} with far / near of {LINEAR_BELOW} or more, in depth for the \
                 rest",
                counted(n, "view")
            ),
        });
    }
    notes
}
