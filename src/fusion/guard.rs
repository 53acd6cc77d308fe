//! What is asked of pixels beside agreement ([`super::settings::Guard`]; docs/FUSION.md has the definitions): no speck
//! of a map takes part, and a point that enough views confirm is dropped all the same where they stand at one place,
//! where other views see through it, or where most of those that confirm it dispute its normal.
//!
//! Every view of the scene is heard about a point, not only the sources of the view that it is from. Votes are
//! confidences, and views at one place, as seen from the point, have one vote together.

use std::borrow::Cow;

use glam::{DMat3, DVec3, Vec3};
use rayon::prelude::*;

use super::block::{Block, Candidate, POINTS_OF_A_BLOCK};
use super::colour::{Sample, robust_mean};
use super::funnel::Funnel;
use super::settings::Reprojection;
use super::view::{FusionView, is_in_range};
use crate::maps::consistency::is_depth;
use crate::maps::{normals, segments};
use crate::scene::camera::Camera;

/// A point goes if those that see through it have more than this share of the votes of those that confirm it. Views
/// that confirm a wrong depth stand beside each other and were made from the same photos; those that see through it
/// look from elsewhere and share nothing with them. So half as many suffice.
const SEEN_THROUGH: f64 = 0.5;
/// A normal is disputed where more than this share of the votes of those that confirm the point are against it.
const MAJORITY: f64 = 0.5;

/// The views without the small segments of their maps, and how many pixels in range each of them lost.
pub fn without_specks<'a>(views: &'a [FusionView], constants: &Reprojection) -> (Cow<'a, [FusionView]>, Vec<usize>) {
    let wanted = constants.guard.min_segment_px;
    if wanted <= 0.0 {
        return (Cow::Borrowed(views), vec![0; views.len()]);
    }
    let tolerance = constants.thresholds.max_depth_error_rel;
    let left: Vec<_> = views
        .par_iter()
        .map(|view| {
            let least = segments::least_pixels(wanted, view.depth.data.len());
            segments::without_small(&view.depth, tolerance, least)
        })
        .collect();
    if left.iter().all(Option::is_none) {
        return (Cow::Borrowed(views), vec![0; views.len()]);
    }
    let mut views = views.to_vec();
    let lost = views.iter_mut().zip(left).map(|(view, left)| {
        let before = std::mem::replace(&mut view.depth, left?);
        let is_lost = |(before, after): &(&f32, &f32)| is_in_range(**before, view.range) && !is_depth(**after);
        Some(before.data.iter().zip(&view.depth.data).filter(is_lost).count())
    });
    let lost = lost.map(Option::unwrap_or_default).collect();
    (Cow::Owned(views), lost)
}

/// Adds what [`without_specks`] took to a view's funnel, whose other lines were counted without it.
pub fn count_specks(funnel: &mut Funnel, specks: usize) {
    funnel.in_range += specks;
    funnel.specks = specks;
}

/// Hears all views about the points of one.
pub struct Judge<'a> {
    views: &'a [FusionView],
    constants: &'a Reprojection,
    /// The cosine of the least angle between views that count as two.
    max_cosine: f64,
    eyes: Vec<Eye>,
}

/// What is needed of a view to look at a point.
struct Eye {
    /// World to homogeneous pixel: `matrix X + shift`.
    matrix: DMat3,
    shift: DVec3,
    centre: DVec3,
    /// Pixels a unit of length at depth 1.
    focal: f64,
    world_from_image: DMat3,
}

impl Eye {
    fn new(camera: &Camera) -> Self {
        Self {
            matrix: camera.k * camera.r,
            shift: camera.k * camera.t,
            centre: camera.centre(),
            focal: (camera.k.x_axis.x * camera.k.y_axis.y).abs().sqrt(),
            world_from_image: normals::world_from_image(camera),
        }
    }
}

/// Why a point is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Objection {
    OnePlace,
    SeenThrough,
    Disputed,
}

/// Directions from a point towards the views that were counted.
struct Places {
    max_cosine: f64,
    counted: Vec<DVec3>,
}

impl Places {
    /// Counts a view in this direction unless it stands where a counted one does.
    fn count(&mut self, towards: DVec3) -> bool {
        let is_new = self.max_cosine >= 1.0 || self.counted.iter().all(|other| other.dot(towards) <= self.max_cosine);
        if is_new {
            self.counted.push(towards);
        }
        is_new
    }
}

/// What is gathered about one point, kept from point to point for its memory.
struct Hearing {
    /// The reference, and views that confirm the point.
    confirming: Places,
    seeing_through: Places,
    samples: Vec<Sample>,
}

impl<'a> Judge<'a> {
    /// Of views without specks; `None` where nothing is asked.
    pub fn new(views: &'a [FusionView], constants: &'a Reprojection) -> Option<Self> {
        let max_cosine = match constants.guard.min_angle_deg {
            angle if angle > 0.0 => angle.min(180.0).to_radians().cos(),
            _ => 1.0,
        };
        let eyes = views.iter().map(|view| Eye::new(&view.camera)).collect();
        constants.guard.judges().then_some(Self { views, constants, max_cosine, eyes })
    }

    /// Drops the points of view `at` that others speak against, with a count of each reason in the funnel, and gives
    /// the others their colours and numbers of views. Returns those that stay and the pixels of those that do not,
    /// both in the given order.
    pub fn hear(&self, at: usize, candidates: Vec<Candidate>, funnel: &mut Funnel) -> (Vec<Candidate>, Vec<usize>) {
        let mut candidates = candidates;
        let objections: Vec<Option<Objection>> = candidates
            .par_chunks_mut(POINTS_OF_A_BLOCK)
            .flat_map_iter(|points| {
                let block = Block::new(points.iter().map(|c| c.point.position.into()).collect());
                let witnesses = self.witnesses(at, &block);
                let places = || Places { max_cosine: self.max_cosine, counted: Vec::new() };
                let mut hearing = Hearing { confirming: places(), seeing_through: places(), samples: Vec::new() };
                let objections: Vec<_> =
                    points.iter_mut().map(|point| self.objection(at, point, &witnesses, &mut hearing)).collect();
                objections
            })
            .collect();
        let mut dropped = Vec::new();
        let mut objections = objections.into_iter();
        candidates.retain(|candidate| {
            let count = match objections.next().flatten() {
                None => return true,
                Some(Objection::OnePlace) => &mut funnel.one_place,
                Some(Objection::SeenThrough) => &mut funnel.seen_through,
                Some(Objection::Disputed) => &mut funnel.disputed,
            };
            *count += 1;
            dropped.push(candidate.pixel);
            false
        });
        (candidates, dropped)
    }

    /// The views that may see some of the points: the sources, best first, then the others.
    fn witnesses(&self, at: usize, block: &Block) -> Vec<usize> {
        let sources = &self.views[at].sources;
        let others = (0..self.views.len()).filter(|other| *other != at && !sources.contains(other));
        let may_see = |other: &usize| {
            let view = &self.views[*other];
            block.may_be_seen(&view.camera, view.depth.width, view.depth.height)
        };
        sources.iter().copied().chain(others).filter(may_see).collect()
    }

    /// What speaks against a point; otherwise the point gets its colour and its number of views.
    fn objection(
        &self,
        at: usize,
        candidate: &mut Candidate,
        witnesses: &[usize],
        hearing: &mut Hearing,
    ) -> Option<Objection> {
        let guard = &self.constants.guard;
        let tolerance = self.constants.thresholds.max_depth_error_rel;
        let point = &mut candidate.point;
        let position = DVec3::from(point.position);
        let Hearing { confirming, seeing_through, samples } = hearing;
        confirming.counted.clear();
        seeing_through.counted.clear();
        samples.clear();
        let own_normal = Vec3::from(point.normal).as_dvec3();
        let min_cosine = guard.max_normal_deg.min(180.0).to_radians().cos();
        // A surface that is seen at a slant, or from afar, has fewer pixels a unit of area.
        let weight = |eye: &Eye, depth: f64, towards: DVec3| {
            let facing = if own_normal == DVec3::ZERO { 1.0 } else { own_normal.dot(towards).max(0.0) };
            (eye.focal / depth).powi(2) * facing
        };
        let (mut confirmed, mut disputed, mut through) = (0.0, 0.0, 0.0);

        let own = &self.eyes[at];
        let towards = (own.centre - position).normalize_or_zero();
        let own_depth = (own.matrix * position + own.shift).z;
        confirming.count(towards);
        samples.push(Sample { colour: point.colour.map(f64::from), weight: weight(own, own_depth, towards) });
        for &other in witnesses {
            let (eye, view) = (&self.eyes[other], &self.views[other]);
            let q = eye.matrix * position + eye.shift;
            let Some(sight) = Sight::new(view, q) else { continue };
            let towards = (eye.centre - position).normalize_or_zero();
            if sight.depth.is_some_and(|depth| (depth - q.z).abs() < tolerance * q.z) {
                if !confirming.count(towards) {
                    continue;
                }
                let vote = sight.vote(view);
                confirmed += vote;
                let (x, y) = sight.nearest;
                let its_normal = Vec3::from(normals::at(&view.depth, x, y, &eye.world_from_image)).as_dvec3();
                disputed += if own_normal.dot(its_normal) < min_cosine { vote } else { 0.0 };
                samples.push(Sample { colour: sight.colour(view), weight: weight(eye, q.z, towards) });
            } else if guard.see_through_factor > 0.0
                && sight.nearest_surface > q.z * (1.0 + guard.see_through_factor * tolerance)
                && seeing_through.count(towards)
            {
                through += sight.vote(view);
            }
        }
        let places = confirming.counted.len() - 1;
        if guard.min_angle_deg > 0.0 && places < self.places_asked_for(at, position) {
            return Some(Objection::OnePlace);
        }
        if through > SEEN_THROUGH * (confirmed + vote(point.confidence)) {
            return Some(Objection::SeenThrough);
        }
        if guard.max_normal_deg < 180.0 && own_normal != DVec3::ZERO && disputed > MAJORITY * confirmed {
            return Some(Objection::Disputed);
        }
        if guard.mean_colour {
            point.colour = robust_mean(samples).unwrap_or(point.colour);
        }
        point.views = (places + 1).min(255) as u8;
        None
    }

    /// Places that must confirm a point of view `at`: as many as views, or all that its sources stand at, if those are
    /// fewer; one at least, since a view cannot confirm itself.
    fn places_asked_for(&self, at: usize, position: DVec3) -> usize {
        let towards = |view: usize| (self.eyes[view].centre - position).normalize_or_zero();
        let mut places = Places { max_cosine: self.max_cosine, counted: vec![towards(at)] };
        for &source in &self.views[at].sources {
            if places.counted.len() > self.constants.thresholds.min_views {
                break;
            }
            places.count(towards(source));
        }
        (places.counted.len() - 1).max(1)
    }
}

/// A vote's weight: the confidence, none where there is none.
fn vote(confidence: f32) -> f64 {
    f64::from(confidence.max(0.0))
}

/// Where a point falls on a view's map.
struct Sight {
    /// The four pixels around it; on a border of the map some of them twice.
    around: [usize; 4],
    /// Where between them.
    share: (f64, f64),
    /// Column and row of the nearest of them.
    nearest: (usize, usize),
    /// The bilinear depth; `None` where one of them has none.
    depth: Option<f64>,
    /// The least of their depths; 0 where one of them has none.
    nearest_surface: f64,
}

impl Sight {
    /// `None` outside of the map.
    fn new(view: &FusionView, q: DVec3) -> Option<Self> {
        if q.z <= 1e-6 {
            return None;
        }
        let (u, v) = (q.x / q.z, q.y / q.z);
        let (width, height) = (view.depth.width, view.depth.height);
        if !(u >= 0.0 && v >= 0.0 && u <= width as f64 - 1.0 && v <= height as f64 - 1.0) {
            return None;
        }
        let (x, y) = (u as usize, v as usize);
        let share = (u - x as f64, v - y as f64);
        // A neighbour with weight zero is not looked at: its place is taken by the sample beside it.
        let (right, below) = (usize::from(share.0 > 0.0), if share.1 > 0.0 { width } else { 0 });
        let at = y * width + x;
        let around = [at, at + right, at + below, at + below + right];
        let depths = around.map(|i| view.depth.data[i]);
        let all = depths.into_iter().all(is_depth);
        let [a, b, c, d] = depths.map(f64::from);
        let nearest_surface = if all { a.min(b).min(c).min(d) } else { 0.0 };
        // Inside the map, so rounding stays inside.
        let nearest = ((u + 0.5) as usize, (v + 0.5) as usize);
        let depth = all.then(|| bilinear([a, b, c, d], share));
        Some(Self { around, share, nearest, depth, nearest_surface })
    }

    fn vote(&self, view: &FusionView) -> f64 {
        let (x, y) = self.nearest;
        vote(view.confidence.data[y * view.depth.width + x])
    }

    fn colour(&self, view: &FusionView) -> [f64; 3] {
        let around = self.around.map(|i| view.colour[i]);
        [0, 1, 2].map(|channel| bilinear(around.map(|colour| f64::from(colour[channel])), self.share))
    }
}

fn bilinear([a, b, c, d]: [f64; 4], (x, y): (f64, f64)) -> f64 {
    let (top, bottom) = (a + (b - a) * x, c + (d - c) * x);
    top + (bottom - top) * y
}
