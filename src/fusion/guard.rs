//! What is asked of pixels beside agreement ([`super::settings::Guard`]; docs/FUSION.md has the definitions): no speck
//! of a map takes part, and a point that enough views confirm is dropped all the same where they stand at one place,
//! where other views see through it, or where most of those that confirm it dispute its normal.
//!
//! Every view of the scene is heard about a point, not only the sources of the view that it is from. Votes are
//! confidences, and views at one place, as seen from the point, have one vote together.

use std::borrow::Cow;

use glam::{DMat3, DVec3, Vec3};
use rayon::prelude::*;

use super::block::{AROUND_OTHERS, Bounds, Candidate};
use super::colour::{Sample, robust_mean};
use super::funnel::Funnel;
use super::settings::Reprojection;
use super::store::{Area, Store, Window};
use super::view::{FusionView, is_in_range};
use crate::Result;
use crate::files::map::Map;
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
    let left: Vec<Option<(Map, usize)>> = views.par_iter().map(|view| without_specks_of(view, constants)).collect();
    let lost = left.iter().map(|left| left.as_ref().map_or(0, |(_, lost)| *lost)).collect();
    if left.iter().all(Option::is_none) {
        return (Cow::Borrowed(views), lost);
    }
    let mut views = views.to_vec();
    for (view, left) in views.iter_mut().zip(left) {
        if let Some((depth, _)) = left {
            view.depth = depth;
        }
    }
    (Cow::Owned(views), lost)
}

/// A view's depths without the small segments, and how many pixels in range they lose; `None` where there are none.
pub fn without_specks_of(view: &FusionView, constants: &Reprojection) -> Option<(Map, usize)> {
    let wanted = constants.guard.min_segment_px;
    if wanted <= 0.0 {
        return None;
    }
    let least = segments::least_pixels(wanted, view.depth.data.len());
    let left = segments::without_small(&view.depth, constants.thresholds.max_depth_error_rel, least)?;
    let is_lost = |(before, after): &(&f32, &f32)| is_in_range(**before, view.range) && !is_depth(**after);
    let lost = view.depth.data.iter().zip(&left.data).filter(is_lost).count();
    Some((left, lost))
}

/// Adds what [`without_specks`] took to a view's funnel, whose other lines were counted without it.
pub fn count_specks(funnel: &mut Funnel, specks: usize) {
    funnel.in_range += specks;
    funnel.specks = specks;
}

/// So many of a view's sources, best first, tell how exact its depths are: those that the network compared by default.
const BEST_SOURCES: usize = 4;

/// Hears all views about the points of one.
pub struct Judge<'a> {
    store: &'a dyn Store,
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
    /// Width and height of the maps.
    size: (usize, usize),
    /// Points at a greater depth have nothing beside or behind them in the map.
    farthest: f64,
}

impl Eye {
    /// `tolerance` is the share of its depth by which a point may lie before what confirms it.
    fn new(camera: &Camera, size: (usize, usize), farthest: f64, tolerance: f64) -> Self {
        let rest = 1.0 - tolerance;
        Self {
            matrix: camera.k * camera.r,
            shift: camera.k * camera.t,
            centre: camera.centre(),
            focal: (camera.k.x_axis.x * camera.k.y_axis.y).abs().sqrt(),
            world_from_image: normals::world_from_image(camera),
            size,
            farthest: if rest > 0.0 || farthest == 0.0 {
                farthest / rest.max(f64::MIN_POSITIVE)
            } else {
                f64::INFINITY
            },
        }
    }

    /// Where a point falls on the map, if that can have anything to say of it: column and row, and the depth there.
    fn place(&self, point: DVec3) -> Option<(f64, f64, f64)> {
        let q = self.matrix * point + self.shift;
        if q.z <= 1e-6 || q.z > self.farthest {
            return None;
        }
        let (u, v) = (q.x / q.z, q.y / q.z);
        let (width, height) = self.size;
        let is_inside = u >= 0.0 && v >= 0.0 && u <= width as f64 - 1.0 && v <= height as f64 - 1.0;
        is_inside.then_some((u, v, q.z))
    }

    /// The pixels that are looked at for a point there: the four around it and the neighbours of the nearest of them.
    fn area(&self, (u, v, _): (f64, f64, f64)) -> Area {
        let (x, y) = (u as usize, v as usize);
        let (width, height) = self.size;
        Area { start: (x.saturating_sub(1), y.saturating_sub(1)), end: ((x + 3).min(width), (y + 3).min(height)) }
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

/// What became of a point.
enum Verdict {
    Dropped(Objection),
    /// With this colour and number of views.
    Stays([u8; 3], u8),
}

/// What is gathered about one point, kept from point to point for its memory.
struct Hearing {
    /// The reference, and views that confirm the point.
    confirming: Places,
    seeing_through: Places,
    samples: Vec<Sample>,
}

/// A view that is heard about some points, with what it sees of them.
struct Witness<'a> {
    view: usize,
    window: Window<'a>,
}

/// Bytes of a pixel's depth, confidence and colour.
const PIXEL_BYTES: u64 = 11;

impl<'a> Judge<'a> {
    /// Of views without specks; `None` where nothing is asked.
    pub fn new(store: &'a dyn Store, constants: &'a Reprojection) -> Option<Self> {
        let max_cosine = match constants.guard.min_angle_deg {
            angle if angle > 0.0 => angle.min(180.0).to_radians().cos(),
            _ => 1.0,
        };
        let tolerance = constants.thresholds.max_depth_error_rel;
        let facts = store.facts().iter().enumerate();
        let eyes = facts.map(|(view, facts)| Eye::new(&facts.camera, facts.size, store.farthest(view), tolerance));
        constants.guard.judges().then(|| Self { store, constants, max_cosine, eyes: eyes.collect() })
    }

    /// Drops the points of view `at` that others speak against, with a count of each reason in the funnel, and gives
    /// the others their colours and numbers of views. Returns those that stay and the pixels of those that do not,
    /// both in the given order.
    ///
    /// # Errors
    /// Maps that cannot be read back.
    pub fn hear(
        &self,
        at: usize,
        mut candidates: Vec<Candidate>,
        funnel: &mut Funnel,
    ) -> Result<(Vec<Candidate>, Vec<usize>)> {
        let around = Bounds::around(candidates.iter().map(|c| c.point.position.into()));
        let witnesses = self.witnesses(at, &around);
        // Neighbours in the image are neighbours in space: they are seen by the same views, in small parts of their
        // maps.
        let (width, square) = (self.eyes[at].size.0.max(1), self.store.pace().square);
        let square_of = |&i: &u32| {
            let pixel = candidates[i as usize].pixel;
            (pixel / width / square, pixel % width / square)
        };
        let mut order: Vec<u32> = (0..candidates.len() as u32).collect();
        order.par_sort_by_key(square_of);
        let squares: Vec<&[u32]> = order.chunk_by(|a, b| square_of(a) == square_of(b)).collect();
        let of_square = |points: &&[u32]| self.verdicts(at, &candidates, points, &witnesses);
        let heard: Vec<Result<Vec<Verdict>>> = squares.par_iter().map(of_square).collect();
        let mut verdicts: Vec<Option<Verdict>> = candidates.iter().map(|_| None).collect();
        for (points, heard) in squares.into_iter().zip(heard) {
            points.iter().zip(heard?).for_each(|(&i, verdict)| verdicts[i as usize] = Some(verdict));
        }
        let mut dropped = Vec::new();
        let mut verdicts = verdicts.into_iter().flatten();
        candidates.retain_mut(|candidate| {
            let count = match verdicts.next() {
                Some(Verdict::Stays(colour, views)) => {
                    (candidate.point.colour, candidate.point.views) = (colour, views);
                    return true;
                }
                None => return true,
                Some(Verdict::Dropped(Objection::OnePlace)) => &mut funnel.one_place,
                Some(Verdict::Dropped(Objection::SeenThrough)) => &mut funnel.seen_through,
                Some(Verdict::Dropped(Objection::Disputed)) => &mut funnel.disputed,
            };
            *count += 1;
            dropped.push(candidate.pixel);
            false
        });
        Ok((candidates, dropped))
    }

    /// The views that may see some of what is in a box: the sources, best first, then the others.
    fn witnesses(&self, at: usize, around: &Bounds) -> Vec<usize> {
        let facts = self.store.facts();
        let sources = &facts[at].sources;
        let has_depths = |other: &usize| self.store.farthest(*other) > 0.0;
        let others = (0..facts.len()).filter(has_depths).filter(|other| *other != at && !sources.contains(other));
        let may_see = |other: &usize| {
            has_depths(other) && around.may_be_seen(&facts[*other].camera, facts[*other].size, AROUND_OTHERS)
        };
        sources.iter().copied().chain(others).filter(may_see).collect()
    }

    /// What becomes of some points of view `at`, of which `views` may see some.
    fn verdicts(&self, at: usize, candidates: &[Candidate], points: &[u32], views: &[usize]) -> Result<Vec<Verdict>> {
        let position = |&i: &u32| DVec3::from(candidates[i as usize].point.position);
        let facts = self.store.facts();
        let around = Bounds::around(points.iter().map(position));
        let views = views.iter().filter(|&&view| around.may_be_seen(&facts[view].camera, facts[view].size, 0.0));
        let areas: Vec<(usize, Area)> = match self.store.pace().window_bytes {
            None => views.map(|&view| (view, Area::whole(facts[view].size))).collect(),
            Some(room) => {
                let area = |&view: &usize| {
                    let eye = &self.eyes[view];
                    let areas = points.iter().filter_map(|i| Some(eye.area(eye.place(position(i))?)));
                    Some((view, areas.reduce(Area::with)?))
                };
                let areas: Vec<(usize, Area)> = views.filter_map(area).collect();
                let bytes: u64 = areas.iter().map(|(_, area)| area.pixels() as u64 * PIXEL_BYTES).sum();
                if bytes > room && points.len() > 1 {
                    // Each half falls on less of the maps.
                    let views: Vec<usize> = areas.iter().map(|(view, _)| *view).collect();
                    let (some, others) = points.split_at(points.len() / 2);
                    let mut verdicts = self.verdicts(at, candidates, some, &views)?;
                    verdicts.extend(self.verdicts(at, candidates, others, &views)?);
                    return Ok(verdicts);
                }
                areas
            }
        };
        let witness = |&(view, area): &(usize, Area)| Ok(Witness { view, window: self.store.window(view, area)? });
        let witnesses: Vec<Witness> = areas.iter().map(witness).collect::<Result<_>>()?;
        let places = || Places { max_cosine: self.max_cosine, counted: Vec::new() };
        let mut hearing = Hearing { confirming: places(), seeing_through: places(), samples: Vec::new() };
        let verdict = |&i: &u32| self.verdict(at, &candidates[i as usize], &witnesses, &mut hearing);
        Ok(points.iter().map(verdict).collect())
    }

    /// What speaks against a point; otherwise its colour and its number of views.
    fn verdict(&self, at: usize, candidate: &Candidate, witnesses: &[Witness], hearing: &mut Hearing) -> Verdict {
        let guard = &self.constants.guard;
        let tolerance = self.constants.thresholds.max_depth_error_rel;
        let point = &candidate.point;
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
        for Witness { view, window } in witnesses {
            let eye = &self.eyes[*view];
            let Some(place) = eye.place(position) else { continue };
            let (_, _, z) = place;
            let sight = Sight::new(window, place);
            // Where there is something nearer, or nothing, the view says nothing.
            let Some(depth) = sight.depth.filter(|depth| *depth > z * (1.0 - tolerance)) else { continue };
            let tolerance = tolerance.min(self.told_apart(*view, position));
            let towards = (eye.centre - position).normalize_or_zero();
            if (depth - z).abs() < tolerance * z {
                if !confirming.count(towards) {
                    continue;
                }
                let vote = sight.vote(window);
                confirmed += vote;
                let depth = |x, y| window.depth[window.index(x, y)];
                let its_normal = normals::of_pixel(eye.size, sight.nearest, &eye.world_from_image, depth);
                let its_normal = Vec3::from(its_normal).as_dvec3();
                disputed += if own_normal.dot(its_normal) < min_cosine { vote } else { 0.0 };
                samples.push(Sample { colour: sight.colour(window), weight: weight(eye, z, towards) });
            } else if guard.see_through_factor > 0.0
                && sight.nearest_surface > z * (1.0 + guard.see_through_factor * tolerance)
                && seeing_through.count(towards)
            {
                through += sight.vote(window);
            }
        }
        let places = confirming.counted.len() - 1;
        if guard.min_angle_deg > 0.0 && places < self.places_asked_for(at, position) {
            return Verdict::Dropped(Objection::OnePlace);
        }
        if through > SEEN_THROUGH * (confirmed + vote(point.confidence)) {
            return Verdict::Dropped(Objection::SeenThrough);
        }
        if guard.max_normal_deg < 180.0 && own_normal != DVec3::ZERO && disputed > MAJORITY * confirmed {
            return Verdict::Dropped(Objection::Disputed);
        }
        let colour = if guard.mean_colour { robust_mean(samples) } else { None };
        Verdict::Stays(colour.unwrap_or(point.colour), (places + 1).min(255) as u8)
    }

    /// The share of a point's depth that moves it by `max_depth_error_px` pixels in the middling one of the view's best
    /// sources: as exact as a map can be that was made with them. Infinite where that is not asked for.
    fn told_apart(&self, view: usize, position: DVec3) -> f64 {
        let sources = &self.store.facts()[view].sources;
        let count = sources.len().min(BEST_SOURCES);
        let pixels = self.constants.guard.max_depth_error_px;
        if count == 0 || pixels <= 0.0 {
            return f64::INFINITY;
        }
        let ray = position - self.eyes[view].centre;
        let mut motions = [0.0f64; BEST_SOURCES];
        for (motion, &source) in motions.iter_mut().zip(sources) {
            let source = &self.eyes[source];
            let its_ray = position - source.centre;
            *motion = source.focal * ray.cross(its_ray).length() / its_ray.length_squared();
        }
        motions[..count].sort_by(f64::total_cmp);
        // Without a baseline nothing is told apart: a division by zero gives infinity.
        pixels / motions[count / 2]
    }

    /// Places that must confirm a point of view `at`: as many as views, or all that its sources stand at, if those are
    /// fewer; one at least, since a view cannot confirm itself.
    fn places_asked_for(&self, at: usize, position: DVec3) -> usize {
        let towards = |view: usize| (self.eyes[view].centre - position).normalize_or_zero();
        let mut places = Places { max_cosine: self.max_cosine, counted: vec![towards(at)] };
        for &source in &self.store.facts()[at].sources {
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
    /// The four pixels around it, by their places in the window; on a border of the map some of them twice.
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
    /// Of a place in the map, around which the window has all pixels.
    fn new(window: &Window, (u, v, _): (f64, f64, f64)) -> Self {
        let (x, y) = (u as usize, v as usize);
        let share = (u - x as f64, v - y as f64);
        // A neighbour with weight zero is not looked at: its place is taken by the sample beside it.
        let (right, below) = (usize::from(share.0 > 0.0), if share.1 > 0.0 { window.width() } else { 0 });
        let at = window.index(x, y);
        let around = [at, at + right, at + below, at + below + right];
        let depths = around.map(|i| window.depth[i]);
        let all = depths.into_iter().all(is_depth);
        let [a, b, c, d] = depths.map(f64::from);
        let nearest_surface = if all { a.min(b).min(c).min(d) } else { 0.0 };
        // Inside the map, so rounding stays inside.
        let nearest = ((u + 0.5) as usize, (v + 0.5) as usize);
        let depth = all.then(|| bilinear([a, b, c, d], share));
        Self { around, share, nearest, depth, nearest_surface }
    }

    fn vote(&self, window: &Window) -> f64 {
        let (x, y) = self.nearest;
        vote(window.confidence[window.index(x, y)])
    }

    fn colour(&self, window: &Window) -> [f64; 3] {
        let around = self.around.map(|i| window.colour[i]);
        [0, 1, 2].map(|channel| bilinear(around.map(|colour| f64::from(colour[channel])), self.share))
    }
}

fn bilinear([a, b, c, d]: [f64; 4], (x, y): (f64, f64)) -> f64 {
    let (top, bottom) = (a + (b - a) * x, c + (d - c) * x);
    top + (bottom - top) * y
}
