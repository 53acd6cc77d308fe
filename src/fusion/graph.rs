//! Graph fusion (COLMAP's StereoFusion; Schönberger et al. 2016; protocol page E.10): from a seed pixel a walk goes
//! breadth-first from pixel to pixel, each to the pixels that its own point falls on in its source views, and gathers
//! those that agree with the seed in place, depth and normal. Enough of them make a point, the median of their
//! positions, normals and colours. A gathered pixel takes part in no further walk, whether it made a point or not, and
//! no walk enters a view whose own seeds are done.
//!
//! What a walk gathers depends on what the walks before it have taken. Their order is fixed: view by view, in a view
//! in 64 rounds of pixels that are 8 apart, in a round row by row. The walks of a round are made in parallel as if
//! none of them took anything, then accepted in order; one that has gathered a pixel that an accepted one has taken is
//! made again. That is exactly the sequential result: a pixel that another walk has taken either was gathered by this
//! one as well, which is seen, or did not agree, and then it does not matter who has it. Seeds that are far apart
//! seldom meet, so few walks are made twice.

use std::collections::VecDeque;

use glam::{DMat3, DVec3, Vec3};
use rayon::prelude::*;

use super::funnel::Funnel;
use super::settings::Graph;
use super::shared::usable;
use super::view::{Fused, FusionView};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::host::interrupt;
use crate::maps::normals;

/// Distance of the seeds of one round, in pixels along either axis.
const APART: usize = 8;
/// Walks that are made before they are accepted: what they have gathered is held until then.
const AT_ONCE: usize = 1 << 14;
/// No pixel.
const NONE: u32 = u32::MAX;

/// The cloud of views that fit together.
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Graph) -> Fused {
    let (depths, mut funnels): (Vec<Map>, Vec<Funnel>) =
        views.par_iter().map(|view| usable(view, min_confidence)).unzip();
    let mut maps: Vec<Maps> = views
        .iter()
        .zip(depths)
        .map(|(view, depth)| Maps {
            matrix: view.camera.k * view.camera.r,
            shift: view.camera.k * view.camera.t,
            back: view.camera.r.transpose() * view.camera.k.inverse(),
            centre: view.camera.centre(),
            normals: normals::from_depth(&view.camera, &view.depth),
            taken: vec![false; depth.data.len()],
            depth,
        })
        .collect();
    let mut points = Vec::new();
    for at in 0..views.len() {
        let Map { width, height, .. } = maps[at].depth;
        let mut of_view: Vec<(usize, Point)> = Vec::new();
        for round in 0..APART * APART {
            let rows = (round / APART..height).step_by(APART);
            let seeds: Vec<usize> = rows
                .flat_map(|y| (round % APART..width).step_by(APART).map(move |x| y * width + x))
                .filter(|&i| maps[at].is_free(i))
                .collect();
            for seeds in seeds.chunks(AT_ONCE) {
                if interrupt::is_asked_to_stop() {
                    break;
                }
                let walker = Walker { views, maps: &maps, constants };
                let walks: Vec<Walk> = seeds
                    .par_iter()
                    .with_min_len(16)
                    .map_init(|| Scratch::new(views.len()), |scratch, &seed| walker.walk(at, seed, scratch))
                    .collect();
                let mut scratch = Scratch::new(views.len());
                for (&seed, mut walk) in seeds.iter().zip(walks) {
                    if !maps[at].is_free(seed) {
                        continue;
                    }
                    if walk.gathered.iter().any(|&(view, pixel)| !maps[view as usize].is_free(pixel as usize)) {
                        walk = Walker { views, maps: &maps, constants }.walk(at, seed, &mut scratch);
                    }
                    for &(view, pixel) in &walk.gathered {
                        maps[view as usize].taken[pixel as usize] = true;
                        let funnel = &mut funnels[view as usize];
                        funnel.agreed.iter_mut().take(walk.views - 1).for_each(|n| *n += 1);
                        funnel.kept += usize::from(walk.point.is_some());
                    }
                    if let Some(point) = walk.point {
                        funnels[at].fused += 1;
                        of_view.push((seed, point));
                    }
                }
            }
        }
        of_view.sort_unstable_by_key(|(seed, _)| *seed);
        points.extend(of_view.into_iter().map(|(_, point)| point));
    }
    for funnel in &mut funnels {
        funnel.duplicates = funnel.kept - funnel.fused;
    }
    Fused { points, funnels }
}

/// One view's part.
struct Maps {
    /// World to homogeneous pixel: `matrix X + shift`.
    matrix: DMat3,
    shift: DVec3,
    /// Homogeneous pixel to world: `centre + depth back (u, v, 1)`.
    back: DMat3,
    centre: DVec3,
    /// 0 where a pixel is not used.
    depth: Map,
    normals: Vec<[f32; 3]>,
    /// Whether a walk has gathered the pixel.
    taken: Vec<bool>,
}

impl Maps {
    fn is_free(&self, pixel: usize) -> bool {
        !self.taken[pixel] && self.depth.data[pixel] > 0.0
    }

    fn position(&self, pixel: usize) -> DVec3 {
        let (x, y) = (pixel % self.depth.width, pixel / self.depth.width);
        self.centre + self.back * DVec3::new(x as f64, y as f64, 1.0) * f64::from(self.depth.data[pixel])
    }

    fn normal(&self, pixel: usize) -> DVec3 {
        Vec3::from(self.normals[pixel]).as_dvec3()
    }

    /// The pixel that a point falls on.
    fn pixel(&self, point: DVec3) -> Option<usize> {
        let q = self.matrix * point + self.shift;
        if q.z <= 1e-6 {
            return None;
        }
        let (x, y) = ((q.x / q.z + 0.5).floor(), (q.y / q.z + 0.5).floor());
        let inside = x >= 0.0 && y >= 0.0 && x < self.depth.width as f64 && y < self.depth.height as f64;
        inside.then(|| y as usize * self.depth.width + x as usize)
    }
}

/// What one seed has led to.
struct Walk {
    /// View and pixel, the seed first.
    gathered: Vec<(u32, u32)>,
    /// Different views among them.
    views: usize,
    /// Where enough were gathered.
    point: Option<Point>,
}

/// What a thread uses again for every walk.
struct Scratch {
    /// For each view the last gathered pixel, an index into `gathered`.
    last: Vec<u32>,
    /// For each gathered pixel the one before in the same view. The chains are short: they lie within a disc of the
    /// greatest reprojection error.
    before: Vec<u32>,
    /// Pixels to look at, and how many projections from the seed.
    queue: VecDeque<(u32, u32, usize)>,
}

impl Scratch {
    fn new(views: usize) -> Self {
        Self { last: vec![NONE; views], before: Vec::new(), queue: VecDeque::new() }
    }
}

struct Walker<'a> {
    views: &'a [FusionView],
    maps: &'a [Maps],
    constants: &'a Graph,
}

impl Walker<'_> {
    fn walk(&self, at: usize, seed: usize, scratch: &mut Scratch) -> Walk {
        let constants = self.constants;
        // The seed falls on its own pixel, so in its view pixels are whole numbers away: rounding must not decide
        // whether two pixels are at most two.
        let max_shift_squared = constants.max_reprojection_px * constants.max_reprojection_px * (1.0 + 1e-9);
        let min_cosine = constants.max_normal_deg.min(180.0).to_radians().cos();
        let (seed_position, seed_normal) = (self.maps[at].position(seed), self.maps[at].normal(seed));
        let mut gathered: Vec<(u32, u32)> = Vec::new();
        let mut views = 0;
        scratch.before.clear();
        scratch.queue.clear();
        scratch.queue.push_back((at as u32, seed as u32, 0));
        while let Some((view, pixel, steps)) = scratch.queue.pop_front() {
            let maps = &self.maps[view as usize];
            let chain = std::iter::successors(Some(scratch.last[view as usize]), |&i| {
                (i != NONE).then(|| scratch.before[i as usize])
            });
            if !maps.is_free(pixel as usize)
                || chain.take_while(|&i| i != NONE).any(|i| gathered[i as usize].1 == pixel)
            {
                continue;
            }
            if steps > 0 {
                let q = maps.matrix * seed_position + maps.shift;
                let depth = f64::from(maps.depth.data[pixel as usize]);
                let (x, y) = (pixel as usize % maps.depth.width, pixel as usize / maps.depth.width);
                let (dx, dy) = (q.x / q.z - x as f64, q.y / q.z - y as f64);
                let agrees = (q.z - depth).abs() <= constants.max_depth_error_rel * depth
                    && dx * dx + dy * dy <= max_shift_squared
                    && maps.normal(pixel as usize).dot(seed_normal) >= min_cosine;
                if !agrees {
                    continue;
                }
            }
            views += usize::from(scratch.last[view as usize] == NONE);
            scratch.before.push(scratch.last[view as usize]);
            scratch.last[view as usize] = gathered.len() as u32;
            gathered.push((view, pixel));
            if gathered.len() >= constants.max_pixels {
                break;
            }
            if steps + 1 >= constants.max_traversal_depth {
                continue;
            }
            let position = maps.position(pixel as usize);
            for &next in &self.views[view as usize].sources {
                if next >= at
                    && let Some(pixel) = self.maps[next].pixel(position)
                {
                    scratch.queue.push_back((next as u32, pixel as u32, steps + 1));
                }
            }
        }
        for &(view, _) in &gathered {
            scratch.last[view as usize] = NONE;
        }
        let point = (gathered.len() >= constants.min_pixels).then(|| self.point(&gathered, views)).flatten();
        Walk { gathered, views, point }
    }

    /// The medians of gathered pixels; none where their normals have no common direction.
    fn point(&self, gathered: &[(u32, u32)], views: usize) -> Option<Point> {
        let of_each = |value: &dyn Fn(usize, usize) -> DVec3| {
            let values: Vec<DVec3> =
                gathered.iter().map(|&(view, pixel)| value(view as usize, pixel as usize)).collect();
            DVec3::from_array([0, 1, 2].map(|axis| median(values.iter().map(|v| v[axis]).collect())))
        };
        let position = of_each(&|view, pixel| self.maps[view].position(pixel));
        let normal = of_each(&|view, pixel| self.maps[view].normal(pixel)).try_normalize()?;
        let colour = of_each(&|view, pixel| DVec3::from_array(self.views[view].colour[pixel].map(f64::from)));
        let (view, seed) = gathered[0];
        Some(Point {
            position: position.to_array(),
            normal: normal.as_vec3().to_array(),
            colour: colour.to_array().map(|c| c.round() as u8),
            confidence: self.views[view as usize].confidence.data[seed as usize],
            views: views.min(255) as u8,
        })
    }
}

/// Of at least one value; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
