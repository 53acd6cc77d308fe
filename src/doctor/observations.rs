//! Sparse points through the cameras: a COLMAP model says where each photo was seen to see each point, so that the
//! distance between that pixel and the projected point is the cameras' error, in pixels, without looking at a photo.
//!
//! Where a view's median error is large, each known mistake is undone in turn; a view whose points fit then, and only
//! then, has that mistake. Swapped ids are found by trying the poses of all other views.

use glam::{DMat3, DVec2, DVec3};
use rayon::prelude::*;
use serde_json::json;

use super::finding::{Finding, Grade, counted_views, name_of, names};
use super::known_depths::{KnownDepths, median};
use super::mistakes::Mistake;
use crate::error::Result;
use crate::scene::camera::Camera;
use crate::scene::colmap::scene::{self, Observation};
use crate::scene::lens::Distortion;
use crate::scene::{OpenOptions, Scene};

/// Fewer observations say nothing about a view.
const FEWEST: usize = 20;
/// So many of a view's observations are tried, evenly chosen: a median of them is known well enough.
const MOST: usize = 1000;
/// A median error from here on, in pixels, is a warning: half a pixel of the depth maps, which keep every fourth one.
const WARNING_PX: f64 = 2.0;
/// A median error from here on is a problem: a pixel of the depth maps, beyond which views do not confirm each other.
const PROBLEM_PX: f64 = 4.0;
/// Undoing a mistake must leave less than this share of the error ...
const LEFT_OVER: f64 = 0.2;
/// ... and a mistake with more freedom must leave less than this share of what a simpler one leaves.
const CLEARLY_BETTER: f64 = 0.7;
/// Half a pixel, the difference between the two conventions of where a pixel's centre is, is recognised within this.
const HALF_PX: f64 = 0.15;

/// What turns a point of the world into a pixel of the stored photo.
struct Projector<'a> {
    camera: Camera,
    /// The stored photo's own K and distortion, where it has one.
    lens: Option<(DMat3, &'a Distortion)>,
}

impl Projector<'_> {
    /// `None` behind the camera.
    fn pixel(&self, point: DVec3) -> Option<DVec2> {
        let p = self.camera.r * point + self.camera.t;
        // Wide lenses have a place for what lies behind the camera; others say so themselves.
        let (k, ray) = match self.lens {
            Some((k, distortion)) => (k, distortion.bend(p)),
            None if p.z > 1e-9 => (self.camera.k, p.truncate() / p.z),
            None => return None,
        };
        let q = k * ray.extend(1.0);
        q.is_finite().then(|| q.truncate())
    }
}

/// A view's observations with what its files say about the camera.
struct Seen<'a> {
    observations: Vec<Observation>,
    camera: Camera,
    distortion: Option<&'a Distortion>,
}

impl<'a> Seen<'a> {
    /// With another camera, whose K is that of the stored photo.
    fn projector(&self, camera: Camera) -> Projector<'a> {
        Projector { camera, lens: self.distortion.map(|d| (camera.k, d)) }
    }

    /// Pixel and observed pixel of every point; `None` where the point is behind the camera.
    fn pixels(&self, camera: &Camera) -> Vec<(Option<DVec2>, DVec2)> {
        let projector = self.projector(*camera);
        self.observations.iter().map(|o| (projector.pixel(o.point), o.pixel)).collect()
    }

    /// The median error in pixels; points behind the camera are infinitely wrong.
    fn error(&self, camera: &Camera) -> f64 {
        let distance = |(pixel, seen): (Option<DVec2>, DVec2)| pixel.map_or(f64::INFINITY, |p| p.distance(seen));
        median(self.pixels(camera).into_iter().map(distance).collect()).unwrap_or(f64::INFINITY)
    }

    /// The median of what `measure` makes of pixel and observed pixel, of the points in front of the camera.
    fn median(&self, measure: impl Fn(DVec2, DVec2) -> f64) -> Option<f64> {
        let pixels = self.pixels(&self.camera).into_iter();
        median(pixels.filter_map(|(p, seen)| Some(measure(p?, seen))).filter(|m| m.is_finite()).collect())
    }

    /// Known mistakes, those with numbers with the numbers that fit best, simple ones first.
    fn candidates(&self) -> Vec<Mistake> {
        let mut candidates = Mistake::USUAL.to_vec();
        let centre = DVec2::new(self.camera.k.z_axis.x, self.camera.k.z_axis.y);
        let shift = self.median(|p, seen| p.x - seen.x).zip(self.median(|p, seen| p.y - seen.y));
        candidates.extend(shift.map(|(x, y)| Mistake::ShiftedPrincipal(x, y)));
        // Medians of ratios rather than least squares: an outlier of the model has no part in them.
        candidates.extend(self.median(|p, seen| p.length() / seen.length()).map(Mistake::ScaledIntrinsics));
        let focal = self.median(|p, seen| (p - centre).length() / (seen - centre).length());
        candidates.extend(focal.map(Mistake::ScaledFocal));
        candidates
    }
}

/// What explains a view's error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    Mistake(Mistake),
    /// The pose of another view.
    PoseOf(usize),
    Unknown,
}

/// Looks at all views, and collects the depths of their points.
///
/// # Errors
/// Files of the model that cannot be read.
pub fn check(scene: &Scene, options: &OpenOptions, findings: &mut Vec<Finding>, known: &mut KnownDepths) -> Result<()> {
    let seen: Vec<Seen> = scene::observations(scene, options)?
        .into_iter()
        .zip(&scene.views)
        .map(|(all, view)| {
            let step = all.len().div_ceil(MOST).max(1);
            let k = view.lens.as_ref().map_or(view.camera.k, |lens| lens.stored_k);
            // Keypoints are in the photo that a face is of.
            let turn = view.face().map_or(DMat3::IDENTITY, |(_, face)| face.turn());
            Seen {
                observations: all.into_iter().step_by(step).collect(),
                camera: Camera { k, r: turn * view.camera.r, t: turn * view.camera.t },
                distortion: view.lens.as_ref().map(|lens| &lens.distortion),
            }
        })
        .collect();
    let total: usize = seen.iter().map(|s| s.observations.len()).sum();
    let usable: Vec<usize> = (0..seen.len()).filter(|&v| seen[v].observations.len() >= FEWEST).collect();
    if usable.is_empty() {
        findings.push(Finding::new(
            Grade::Note,
            "sparse points",
            "no-observations",
            format!("the model has {total} observed points, too few to check the cameras with"),
            "",
            "",
        ));
        return Ok(());
    }
    let errors: Vec<f64> = usable.par_iter().map(|&v| seen[v].error(&seen[v].camera)).collect();
    let bad: Vec<usize> = usable.iter().zip(&errors).filter(|&(_, &e)| e >= WARNING_PX).map(|(&v, _)| v).collect();
    let causes: Vec<(Cause, f64)> = bad.par_iter().map(|&v| cause(&seen, v)).collect();

    // Views with the same kind of cause make one finding.
    let mut groups: Vec<(&'static str, Vec<usize>)> = Vec::new();
    for (i, (cause, _)) in causes.iter().enumerate() {
        let name = match cause {
            Cause::Mistake(mistake) => mistake.name(),
            Cause::PoseOf(_) => "swapped-views",
            Cause::Unknown => "reprojection",
        };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(i),
            None => groups.push((name, vec![i])),
        }
    }
    let error_of = |view: usize| usable.iter().position(|&v| v == view).map_or(f64::NAN, |at| errors[at]);
    for (name, members) in groups {
        let views: Vec<String> = members.iter().map(|&i| name_of(scene, bad[i])).collect();
        let before = median(members.iter().map(|&i| error_of(bad[i])).collect()).unwrap_or(f64::INFINITY);
        let after = median(members.iter().map(|&i| causes[i].1).collect()).unwrap_or(f64::INFINITY);
        let (words, expected, advice) = match causes[members[0]].0 {
            Cause::Mistake(mistake) => {
                let (expected, advice) = mistake.remedy();
                (format!("{}, then it is {after:.2} px", mistake.words()), expected, advice)
            }
            Cause::PoseOf(_) => {
                let pairs: Vec<String> = members
                    .iter()
                    .filter_map(|&i| match causes[i].0 {
                        Cause::PoseOf(other) => {
                            Some(format!("{} has the pose of {}", name_of(scene, other), name_of(scene, bad[i])))
                        }
                        _ => None,
                    })
                    .collect();
                (
                    format!("{}: with each other's poses it is {after:.2} px", names(&pairs)),
                    "the pose of each photo under its own id".into(),
                    "exchange the poses (or names) of these images".into(),
                )
            }
            Cause::Unknown => (
                "no known mistake explains it".into(),
                format!("less than {WARNING_PX} px"),
                "check that points and cameras are from the same reconstruction and in the same coordinates".into(),
            ),
        };
        let grade = if before >= PROBLEM_PX { Grade::Problem } else { Grade::Warning };
        let size = if before.is_finite() { format!("{before:.1} px") } else { "behind the camera".into() };
        let found =
            format!("{}: sparse points are off by {size} (median): {words}", counted_views(&views, scene.views.len()));
        findings.push(
            Finding::new(grade, "sparse points", name, found, expected, advice)
                .of_views(views)
                .with(json!({ "median_px": before.is_finite().then_some(before), "undone_px": after })),
        );
    }
    if bad.is_empty() {
        half_pixel(&seen, &usable, findings);
        let worst = usable.iter().zip(&errors).max_by(|a, b| a.1.total_cmp(b.1)).map(|(&v, &e)| (v, e));
        let (worst, most) = worst.unwrap_or((0, 0.0));
        let middle = median(errors.clone()).unwrap_or(0.0);
        findings.push(
            Finding::ok(
                "sparse points",
                "reprojection",
                format!(
                    "projected sparse points are off by {middle:.2} px (median of {} views; worst {most:.2} px in {})",
                    usable.len(),
                    name_of(scene, worst)
                ),
            )
            .with(json!({ "median_px": middle, "worst_px": most, "views": usable.len() })),
        );
        known.from = "sparse points";
        known.of_views = seen
            .iter()
            .map(|s| s.observations.iter().map(|o| (s.camera.r * o.point + s.camera.t).z).collect())
            .collect();
    }
    Ok(())
}

/// What explains the error of a view, and the error without it.
fn cause(seen: &[Seen], view: usize) -> (Cause, f64) {
    let own = &seen[view];
    let before = own.error(&own.camera);
    let good_enough = |error: f64| error < WARNING_PX && error < LEFT_OVER * before;
    let mut best = (Cause::Unknown, before);
    for mistake in own.candidates() {
        let error = own.error(&mistake.undone(&own.camera));
        if good_enough(error) && (best.0 == Cause::Unknown || error < CLEARLY_BETTER * best.1) {
            best = (Cause::Mistake(mistake), error);
        }
    }
    for (other, of_other) in seen.iter().enumerate().filter(|&(other, _)| other != view) {
        let camera = Camera { k: own.camera.k, ..of_other.camera };
        let error = own.error(&camera);
        if good_enough(error) && (best.0 == Cause::Unknown || error < CLEARLY_BETTER * best.1) {
            best = (Cause::PoseOf(other), error);
        }
    }
    best
}

/// Whether all points lie half a pixel from where they were seen.
fn half_pixel(seen: &[Seen], usable: &[usize], findings: &mut Vec<Finding>) {
    let shift =
        |along: fn(DVec2) -> f64| median(usable.iter().filter_map(|&v| seen[v].median(|p, s| along(p - s))).collect());
    let Some((x, y)) = shift(|d| d.x).zip(shift(|d| d.y)) else { return };
    let is_half = |d: f64| (d.abs() - 0.5).abs() < HALF_PX;
    if is_half(x) && is_half(y) && x * y > 0.0 {
        findings.push(
            Finding::new(
                Grade::Warning,
                "sparse points",
                "half-pixel",
                format!(
                    "all points are off by {x:.2} px in x and {y:.2} px in y: the two conventions of a pixel's \
                         centre are mixed"
                ),
                "principal point and keypoints for the same convention (COLMAP: the corner pixel's centre is (0.5, \
                 0.5))",
                format!("subtract {x:.1} from cx and cy, or add it to the keypoints"),
            )
            .with(json!({ "x_px": x, "y_px": y })),
        );
    }
}
