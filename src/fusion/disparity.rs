//! Disparity fusion with marking (Galliani et al.'s fusibile; protocol page E.10): a source view agrees where the depth
//! that it should see and the one that it has are the same disparity, within a fraction of a pixel; position and normal
//! are the means of all that agree, and the source pixels that went into a point make no point of their own.
//!
//! A view's pixels only mark pixels of *other* views, and whether a pixel is marked only matters when its own view's
//! turn comes. So the views are taken in order, the pixels of one of them all at once, and the result is the same
//! whatever the number of threads. Two places differ from the program: an agreeing view's position is taken exactly
//! where the point projects (there at the pixel before it), and the pixel nearest to that is marked (there the one
//! before).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use glam::{DMat3, DVec3, Vec3};
use rayon::prelude::*;

use super::funnel::Funnel;
use super::settings::Disparity;
use super::shared::usable;
use super::view::{Fused, FusionView};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::host::interrupt;
use crate::maps::consistency::{depth_at, is_depth};
use crate::maps::normals;

/// The cloud of views that fit together.
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Disparity) -> Fused {
    let (depths, mut funnels): (Vec<Map>, Vec<Funnel>) =
        views.par_iter().map(|view| usable(view, min_confidence)).unzip();
    let normals: Vec<Vec<[f32; 3]>> = views.iter().map(|view| normals::from_depth(&view.camera, &view.depth)).collect();
    let used: Vec<Vec<AtomicBool>> =
        depths.iter().map(|d| d.data.iter().map(|_| AtomicBool::new(false)).collect()).collect();
    let all = Views { views, depths, normals, used, constants };
    let mut points = Vec::new();
    for (at, funnel) in funnels.iter_mut().enumerate() {
        let Map { width, height, .. } = all.depths[at];
        let compared = all.of(at);
        let row = |y: usize| -> Row {
            let mut row = Row { with_count: vec![0; compared.len() + 1], ..Row::default() };
            if interrupt::is_asked_to_stop() {
                return row;
            }
            for i in y * width..(y + 1) * width {
                if !is_depth(all.depths[at].data[i]) {
                    continue;
                }
                if all.used[at][i].load(Relaxed) {
                    row.used += 1;
                    continue;
                }
                let (count, point) = all.point(at, i, &compared);
                row.with_count[count] += 1;
                row.points.extend(point);
            }
            row
        };
        let rows: Vec<Row> = (0..height).into_par_iter().map(row).collect();
        for row in rows {
            funnel.duplicates += row.used;
            funnel.fused += row.points.len();
            for (n, agreed) in funnel.agreed.iter_mut().enumerate() {
                *agreed += row.with_count[n + 1..].iter().sum::<usize>();
                // How many agree with a used pixel is not asked; with the point that used it enough did.
                *agreed += if n < constants.min_views { row.used } else { 0 };
            }
            points.extend(row.points);
        }
        funnel.kept = funnel.duplicates + funnel.fused;
    }
    Fused { points, funnels }
}

/// What became of one row of pixels.
#[derive(Default)]
struct Row {
    points: Vec<Point>,
    used: usize,
    /// Pixels by the number of source views that agree.
    with_count: Vec<usize>,
}

/// A source view as one reference view compares itself with it.
struct Compared {
    view: usize,
    /// World to homogeneous pixel: `matrix X + shift`.
    matrix: DMat3,
    shift: DVec3,
    /// Homogeneous pixel to world: `centre + depth back (u, v, 1)`.
    back: DMat3,
    centre: DVec3,
    /// Focal length of the reference times the baseline: over a depth this is a disparity.
    focal_baseline: f64,
}

/// All views, and what is needed beside them.
struct Views<'a> {
    views: &'a [FusionView],
    /// 0 where a pixel is not used.
    depths: Vec<Map>,
    normals: Vec<Vec<[f32; 3]>>,
    /// Whether a pixel went into a point of an earlier view.
    used: Vec<Vec<AtomicBool>>,
    constants: &'a Disparity,
}

impl Views<'_> {
    /// The source views of a view.
    fn of(&self, at: usize) -> Vec<Compared> {
        let reference = &self.views[at].camera;
        let compared = |&view: &usize| {
            let camera = &self.views[view].camera;
            let baseline = (camera.centre() - reference.centre()).length();
            Compared {
                view,
                matrix: camera.k * camera.r,
                shift: camera.k * camera.t,
                back: camera.r.transpose() * camera.k.inverse(),
                centre: camera.centre(),
                focal_baseline: reference.k.x_axis.x * baseline,
            }
        };
        self.views[at].sources.iter().map(compared).collect()
    }

    /// The number of source views that agree with a pixel, and its point if they are enough; marks their pixels then.
    fn point(&self, at: usize, i: usize, compared: &[Compared]) -> (usize, Option<Point>) {
        let (view, width) = (&self.views[at], self.depths[at].width);
        let own_normal = self.normals[at][i];
        let own = view.camera.unproject((i % width) as f64, (i / width) as f64, f64::from(self.depths[at].data[i]));
        let min_cosine = self.constants.max_normal_deg.min(180.0).to_radians().cos();
        let (mut position, mut normal) = (own, Vec3::from(own_normal).as_dvec3());
        let mut agreeing = Vec::new();
        for source in compared {
            let q = source.matrix * own + source.shift;
            if q.z <= 1e-6 {
                continue;
            }
            let (u, v) = (q.x / q.z, q.y / q.z);
            let map = &self.depths[source.view];
            let Some(depth) = depth_at(map, u, v) else { continue };
            let disparity = (source.focal_baseline / q.z - source.focal_baseline / depth).abs();
            if disparity >= self.constants.max_disparity_px {
                continue;
            }
            // Inside the map, so rounding stays inside.
            let nearest = (v + 0.5) as usize * map.width + (u + 0.5) as usize;
            let its_normal = Vec3::from(self.normals[source.view][nearest]).as_dvec3();
            let cosine = its_normal.dot(Vec3::from(own_normal).as_dvec3());
            if self.constants.max_normal_deg < 180.0 && cosine <= min_cosine {
                continue;
            }
            position += source.centre + source.back * DVec3::new(u, v, 1.0) * depth;
            normal += its_normal;
            agreeing.push((source.view, nearest));
        }
        let count = agreeing.len();
        if count < self.constants.min_views {
            return (count, None);
        }
        for (view, pixel) in agreeing {
            self.used[view][pixel].store(true, Relaxed);
        }
        let point = Point {
            position: (position / (count + 1) as f64).to_array(),
            normal: normal.normalize_or_zero().as_vec3().to_array(),
            colour: view.colour[i],
            confidence: view.confidence.data[i],
            views: (count + 1).min(255) as u8,
        };
        (count, Some(point))
    }
}
