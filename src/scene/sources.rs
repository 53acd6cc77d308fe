//! Which views are matched against which.
//!
//! Listed source views stay as they are, but for those without a baseline; missing ones are selected by sparse points
//! or, without any, by the cameras alone.

use std::collections::HashSet;

use glam::{DMat3, DVec2, DVec3};
use rayon::prelude::*;
use rstar::RTree;
use rstar::primitives::GeomWithData;

use crate::error::counted;
use crate::scene::camera::DepthRange;
use crate::scene::tracks::Tracks;
use crate::scene::{Scene, SourceView, View};

/// Source views that are kept for each view, as in the pair lists of the DTU set.
const MAX_SOURCES: usize = 10;
/// Views that score less than this share of the best one see next to nothing of the same surface from where it can be
/// matched, and would only cost time.
const LEAST_SCORE: f64 = 1e-3;
/// A camera this many times as far out as all nearer ones is a stray. (Helpers that overlook a scene from afar stand
/// within some multiples of its size; what a reconstruction has got wrong lies anywhere.)
const APART: f64 = 10.0;
/// Where cameras are all that is known, each view is scored as a source of each other one in scenes of at most so many
/// views. In larger ones, where that would take the square of their number, only the nearest [`NEAREST`] are.
const MANY_VIEWS: usize = 4096;
/// Far more than would be kept: photos of a film stand so near to each other that hundreds make no angle to speak of.
const NEAREST: usize = 1024;

/// Camera centres, and whose they are, in a tree of boxes.
type Centres = RTree<GeomWithData<[f64; 3], usize>>;

impl Scene {
    /// Fills the source views of every view that has none, best first, at most 10 and none with less
    /// than a thousandth of the best one's score, and notes how.
    ///
    /// With sparse points the score of two views is the sum over the points that both see of
    /// `triangulation_score`; without any points, the same sum over the points that a 3 x 3 grid of the view's
    /// pixels has at the middle of its depth range, as far as the other view sees them, times the cosine between the
    /// two viewing directions. (In scenes of thousands of views without points, of the nearest views only.)
    ///
    /// Source views at the very place of their view, listed or selected, are left out then, with a note.
    pub fn select_sources(&mut self) {
        let strays = self.strays();
        if let Some(&first) = strays.first() {
            self.notes.push(format!(
                "{} far apart from all other cameras (first: of view {}), and not counted in the scene's extent",
                if strays.len() == 1 { "1 camera stands".into() } else { format!("{} cameras stand", strays.len()) },
                self.views[first].name
            ));
        }
        self.select_missing_sources();
        self.leave_out_sources_without_baseline();
    }

    fn select_missing_sources(&mut self) {
        let missing: Vec<usize> = (0..self.views.len()).filter(|&v| self.views[v].sources.is_empty()).collect();
        if missing.is_empty() {
            return;
        }
        // Chosen one view at a time: the scores of all pairs would not fit into memory where there are very many views.
        let chosen = |view: usize, scores: &mut dyn Iterator<Item = (usize, f64)>| {
            let own = &self.views[view];
            let other_photo = |other: usize| other != view && !own.is_of_photo_of(&self.views[other]);
            let scores = scores.filter(|&(other, score)| score > 0.0 && other_photo(other));
            let mut sources: Vec<SourceView> = scores.map(|(view, score)| SourceView { view, score }).collect();
            sources.sort_by(|a, b| b.score.total_cmp(&a.score));
            let least = sources.first().map_or(0.0, |best| best.score * LEAST_SCORE);
            sources.retain(|s| s.score >= least);
            sources.truncate(MAX_SOURCES);
            sources
        };
        let mut few = Vec::new();
        let sources: Vec<Vec<SourceView>> = if self.points.is_empty() {
            let (focus, centres) = (self.focus(), self.centres());
            if self.views.len() > MANY_VIEWS {
                few.push(format!(
                    "source views are chosen among the {NEAREST} nearest of each view: the scene has more than \
                     {MANY_VIEWS}, and no sparse points"
                ));
            }
            let of_view = |&v: &usize| chosen(v, &mut self.scores_from_cameras(v, focus, &centres).into_iter());
            missing.par_iter().map(of_view).collect()
        } else {
            let tracks = self.tracks();
            // One list of scores a thread; clearing it costs what was written into it, not the number of views.
            let thinned = missing.iter().filter(|&&v| step(&tracks, v) > 1).count();
            if thinned > 0 {
                few.push(format!(
                    "source views of {} scored by some of the points only: each shares too many with other views",
                    counted(thinned, "view")
                ));
            }
            let of_view =
                |scores: &mut Scores, &v: &usize| chosen(v, &mut scores.sources_by_points(&tracks, v).into_iter());
            missing.par_iter().map_init(|| Scores::new(self.views.len()), of_view).collect()
        };
        self.notes.extend(few);
        for (&view, sources) in missing.iter().zip(sources) {
            self.views[view].sources = sources;
        }
        let by = if self.points.is_empty() {
            "the cameras' geometry (there are no sparse points)"
        } else {
            "shared sparse points and their triangulation angles"
        };
        self.notes.push(format!(
            "source views of {} of {} views were selected by {by}",
            missing.len(),
            self.views.len()
        ));
        let why = if self.points.is_empty() {
            "no other view looks at the same place"
        } else {
            "no other view shares a sparse point with it"
        };
        let alone: Vec<usize> = missing.into_iter().filter(|&v| self.views[v].sources.is_empty()).collect();
        match alone[..] {
            [] => {}
            [view] => self.notes.push(format!("view {}: no source view, {why}", self.views[view].name)),
            [first, ..] => self.notes.push(format!(
                "{} views have no source view, {why} (first: {})",
                alone.len(),
                self.views[first].name
            )),
        }
    }

    /// The largest distance between two camera centres that counts as none: a millionth of the scene's extent, and at
    /// least the rounding of coordinates far from the origin. A few cameras that stand far apart from all others
    /// ([`Scene::strays`]) do not count: a reconstruction has got them wrong.
    pub fn least_baseline(&self) -> f64 {
        let strays: HashSet<usize> = self.strays().into_iter().collect();
        let near = self.views.iter().enumerate().filter(|(i, _)| !strays.contains(i));
        let centres: Vec<DVec3> = near.map(|(_, v)| v.camera.centre()).collect();
        let Some(&first) = centres.first() else { return 0.0 };
        let extent = centres.iter().map(|c| c.distance(first)).fold(0.0, f64::max);
        let far_out = centres.iter().map(|c| c.length()).fold(0.0, f64::max);
        (1e-6 * extent).max(1e-12 * far_out)
    }

    /// Views whose cameras stand far apart from all others: at most a quarter of all, at least ten times as far
    /// from the middle (the median of each coordinate) as any other.
    pub fn strays(&self) -> Vec<usize> {
        let centres: Vec<DVec3> = self.views.iter().map(|v| v.camera.centre()).collect();
        let n = centres.len();
        if n < 4 {
            return Vec::new();
        }
        let median = |axis: usize| {
            let mut values: Vec<f64> = centres.iter().map(|c| c[axis]).collect();
            *values.select_nth_unstable_by(n / 2, f64::total_cmp).1
        };
        let middle = DVec3::from_array([0, 1, 2].map(median));
        let mut by_distance: Vec<(usize, f64)> = centres.iter().map(|c| c.distance(middle)).enumerate().collect();
        by_distance.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Cameras at one place have no extent that others could be compared with.
        let is_gap =
            |&k: &usize| by_distance[n - k - 1].1 > 0.0 && by_distance[n - k].1 >= APART * by_distance[n - k - 1].1;
        let apart = (1..=n / 4).rev().find(is_gap).unwrap_or(0);
        by_distance[n - apart..].iter().map(|&(view, _)| view).collect()
    }

    /// Whether all cameras stand at the same place.
    pub fn is_without_baseline(&self) -> bool {
        let least = self.least_baseline();
        let mut centres = self.views.iter().map(|v| v.camera.centre());
        centres.next().is_none_or(|first| centres.all(|c| c.distance(first) <= least))
    }

    /// Views from one place cannot be triangulated, and would confirm any depth of each other.
    fn leave_out_sources_without_baseline(&mut self) {
        let least = self.least_baseline();
        let centres: Vec<DVec3> = self.views.iter().map(|v| v.camera.centre()).collect();
        let (mut left_out, mut first) = (0, None);
        for (view, &centre) in self.views.iter_mut().zip(&centres) {
            let before = view.sources.len();
            view.sources.retain(|s| !centres.get(s.view).is_some_and(|c| c.distance(centre) <= least));
            let here = before - view.sources.len();
            left_out += here;
            if here > 0 {
                first.get_or_insert_with(|| view.name.clone());
            }
        }
        if let Some(first) = first {
            self.notes.push(format!(
                "{} at the very place of the view itself left out, since there is no depth without a baseline (first: \
                 of view {first})",
                counted(left_out, "source view")
            ));
        }
    }

    fn centres(&self) -> Centres {
        let of_view = |(i, view): (usize, &View)| GeomWithData::new(view.camera.centre().to_array(), i);
        RTree::bulk_load(self.views.iter().enumerate().map(of_view).collect())
    }

    /// Scores of views as sources of `view` where nothing is known but the cameras, in the views' order.
    fn scores_from_cameras(&self, view: usize, focus: Option<DVec3>, centres: &Centres) -> Vec<(usize, f64)> {
        let reference = &self.views[view];
        let centre = reference.camera.centre();
        let Some(depth) = self.middle_depth(view, focus, centres) else { return Vec::new() };
        let (width, height) = (reference.size.0 as f64 - 1.0, reference.size.1 as f64 - 1.0);
        // The grid's outer pixels lie a sixth from the border, so that each stands for a ninth of the photo.
        let grid: Vec<DVec3> = [1.0, 3.0, 5.0]
            .iter()
            .flat_map(|y| [1.0, 3.0, 5.0].map(|x| (x / 6.0 * width, y / 6.0 * height)))
            .map(|(u, v)| reference.camera.unproject(u, v, depth))
            .collect();
        let score = |other: &View| {
            let facing = reference.camera.r.row(2).dot(other.camera.r.row(2)).max(0.0);
            let sees = |p: &&DVec3| {
                other.camera.pixel(**p).is_some_and(|(pixel, _)| {
                    let last = DVec2::new(other.size.0 as f64 - 1.0, other.size.1 as f64 - 1.0);
                    pixel.cmpge(DVec2::ZERO).all() && pixel.cmple(last).all()
                })
            };
            let common = grid.iter().filter(sees);
            facing * common.map(|&p| triangulation_score(centre, other.camera.centre(), p)).sum::<f64>()
        };
        let mut asked: Vec<usize> = if self.views.len() > MANY_VIEWS {
            centres.nearest_neighbor_iter(&centre.to_array()).take(NEAREST).map(|near| near.data).collect()
        } else {
            (0..self.views.len()).collect()
        };
        asked.sort_unstable();
        asked.into_iter().map(|other| (other, score(&self.views[other]))).collect()
    }

    /// A depth at which the view probably sees something: the middle of its range in 1 / depth, else the depth of the
    /// place that all cameras look at, else where the nearest other camera makes 5 degrees.
    fn middle_depth(&self, view: usize, focus: Option<DVec3>, centres: &Centres) -> Option<f64> {
        // The planes of a sweep without a count: any usual number gives the same order of magnitude.
        const USUAL_PLANES: usize = 192;
        let View { camera, .. } = self.views[view];
        if let Some(DepthRange { near, far }) = self.views[view].depth_range(USUAL_PLANES) {
            return Some(2.0 / (1.0 / near + 1.0 / far));
        }
        let focus_depth = focus.map(|p| (camera.r * p + camera.t).z).filter(|&z| z > 1e-6);
        focus_depth.or_else(|| {
            let centre = camera.centre();
            let nearest = centres.nearest_neighbor_iter(&centre.to_array());
            let baseline = nearest.map(|near| centre.distance(DVec3::from_array(*near.geom()))).find(|&d| d > 0.0);
            baseline.map(|b| b / 5f64.to_radians().tan())
        })
    }

    /// The point with the least sum of squared distances to the optical axes of all cameras but strays; `None` where
    /// they are all parallel.
    fn focus(&self) -> Option<DVec3> {
        let (mut a, mut b) = (DMat3::ZERO, DVec3::ZERO);
        let strays: HashSet<usize> = self.strays().into_iter().collect();
        let near = self.views.iter().enumerate().filter(|(i, _)| !strays.contains(i));
        for (_, View { camera, .. }) in near {
            let axis = camera.r.row(2);
            let across = DMat3::IDENTITY - DMat3::from_cols(axis * axis.x, axis * axis.y, axis * axis.z);
            a += across;
            b += across * camera.centre();
        }
        // The mean of the projections has a determinant of 0 for parallel axes and 8/27 for axes all around; below
        // 1e-6 (axes within some 0.1 degrees) the point would be noise.
        let mean = a * (1.0 / (self.views.len() - strays.len()) as f64);
        (mean.determinant() > 1e-6).then(|| a.inverse() * b)
    }
}

/// Pairs of views that are scored at all the points of a scene together, at most. Usual scenes stay below (200 000
/// points with tracks of ten: 20 million). Where thousands of views see every point, the pairs are the square of the
/// views, for every point; some of a view's points then speak for all.
const MOST_PAIRS: usize = 100_000_000;
/// As many of its points each view is scored by in any case.
const LEAST_POINTS: usize = 20;

/// Every how manieth of its points a view is scored by: all, where they are not too many for all views.
fn step(tracks: &Tracks, view: usize) -> usize {
    let pairs: usize = tracks.points(view).map(|point| point.views.len()).sum();
    let step = pairs.div_ceil((MOST_PAIRS / tracks.scene.views.len().max(1)).max(1));
    step.min(tracks.indices(view).len() / LEAST_POINTS).max(1)
}

/// Scores of views as sources of one view, and which of them are not 0.
struct Scores {
    of_views: Vec<f64>,
    touched: Vec<usize>,
}

impl Scores {
    fn new(views: usize) -> Self {
        Self { of_views: vec![0.0; views], touched: Vec::new() }
    }

    /// Of the views that share a point with `view`, in their order.
    fn sources_by_points(&mut self, tracks: &Tracks, view: usize) -> Vec<(usize, f64)> {
        let centre = |view: usize| tracks.scene.views[view].camera.centre();
        let own = centre(view);
        for point in tracks.points(view).step_by(step(tracks, view)) {
            for &other in point.views.iter().filter(|&&other| other != view) {
                if self.of_views[other] == 0.0 {
                    self.touched.push(other);
                }
                self.of_views[other] += triangulation_score(own, centre(other), point.position);
            }
        }
        self.touched.sort_unstable();
        // A score of 0 may have been touched again.
        self.touched.dedup();
        self.touched.drain(..).map(|other| (other, std::mem::take(&mut self.of_views[other]))).collect()
    }
}

/// How well two cameras at `a` and `b` triangulate `point`: `exp(-(angle - 5)^2 / (2 s^2))` of the angle in degrees
/// between the two rays, s = 1 up to 5 degrees and 10 above (protocol page E.1, after MVSNet's converter).
fn triangulation_score(a: DVec3, b: DVec3, point: DVec3) -> f64 {
    let (a, b) = (a - point, b - point);
    let length = (a.length_squared() * b.length_squared()).sqrt();
    if length.is_nan() || length <= 0.0 {
        return 0.0;
    }
    let angle = (a.dot(b) / length).clamp(-1.0, 1.0).acos().to_degrees();
    let sigma = if angle <= 5.0 { 1.0 } else { 10.0 };
    (-(angle - 5.0).powi(2) / (2.0 * sigma * sigma)).exp()
}
