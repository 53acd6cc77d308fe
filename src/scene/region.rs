//! The region of interest: a box, turned in any way, outside of which nothing of a scene is wanted.
//!
//! It narrows the depths that are searched in front of a view to those of the box's part that the view sees, and cuts
//! the cloud. What a box is given by is in `region_files.rs`.

use glam::{DMat3, DVec2, DVec3};

use crate::scene::camera::{Camera, DepthRange};

/// Ends of a range lie this much beyond the box's (a surface in its side needs planes on both sides).
const BEYOND: f64 = 0.02;
/// A camera in the box or right before it searches no nearer than this part of the farthest depth.
const NEAREST: f64 = 0.01;
/// Of the sparse points' coordinates, those that [`Region::around`] leaves out at either end, ...
const STRAY: f64 = 0.02;
/// ... and how far it goes beyond the others, in parts of their extent.
const MARGIN: f64 = 0.1;

/// A box in the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    centre: DVec3,
    /// Rows are the box's axes, of length 1: from the world's directions to the box's.
    axes: DMat3,
    /// Half of its sides along them.
    half: DVec3,
}

impl Region {
    /// With its corners at `low` and `high` and its sides along the axes; `None` where it is empty.
    pub fn aligned(low: DVec3, high: DVec3) -> Option<Self> {
        Self::turned(0.5 * (low + high), DMat3::IDENTITY, 0.5 * (high - low))
    }

    /// `None` where it is empty, or the rows of `axes` are no directions at right angles.
    pub fn turned(centre: DVec3, axes: DMat3, half: DVec3) -> Option<Self> {
        // Files with seven digits are that far off.
        let is_rotation = (axes * axes.transpose()).abs_diff_eq(DMat3::IDENTITY, 1e-4);
        let is_box = half.cmpgt(DVec3::ZERO).all() && half.is_finite() && centre.is_finite();
        (is_rotation && is_box).then_some(Self { centre, axes, half })
    }

    /// Whether it has the point in it, its surface included.
    pub fn contains(&self, point: DVec3) -> bool {
        (self.axes * (point - self.centre)).abs().cmple(self.half).all()
    }

    /// Its corners; those of which the numbers differ by one bit share an edge.
    pub fn corners(&self) -> [DVec3; 8] {
        let side = |i: usize, bit: usize| if i >> bit & 1 == 1 { 1.0 } else { -1.0 };
        let corner = |i| DVec3::new(side(i, 0), side(i, 1), side(i, 2)) * self.half;
        std::array::from_fn(|i| self.centre + self.axes.transpose() * corner(i))
    }

    /// The depths of what a camera with photos of this size sees of it; `None` where it sees nothing.
    ///
    /// What is seen is where the box and the view's pyramid overlap. The nearest and farthest point of that are where
    /// an edge of the one meets a side of the other, or ends within it.
    pub fn depths(&self, camera: &Camera, (width, height): (usize, usize)) -> Option<DepthRange> {
        // From the outer borders of the outer pixels on.
        let (low, high) = (DVec2::splat(-0.5), DVec2::new(width as f64 - 0.5, height as f64 - 0.5));
        let mut depths = Vec::new();
        // Within the pyramid are points p (x and y in pixels times depth) for which all of these are positive.
        let inside = |p: DVec3| [p.x - low.x * p.z, high.x * p.z - p.x, p.y - low.y * p.z, high.y * p.z - p.y, p.z];
        let corners = self.corners().map(|corner| camera.k * (camera.r * corner + camera.t));
        for (i, &from) in corners.iter().enumerate() {
            for &to in [1, 2, 4].iter().filter(|&&bit| i & bit == 0).map(|bit| &corners[i | bit]) {
                let (mut first, mut last) = (0f64, 1f64);
                for (a, b) in inside(from).into_iter().zip(inside(to)) {
                    match (a >= 0.0, b >= 0.0) {
                        (true, true) => {}
                        (true, false) => last = last.min(a / (a - b)),
                        (false, true) => first = first.max(a / (a - b)),
                        (false, false) => first = f64::INFINITY,
                    }
                }
                if first <= last {
                    depths.extend([first, last].map(|at| from.lerp(to, at).z));
                }
            }
        }
        let centre = self.axes * (camera.centre() - self.centre);
        for (x, y) in [(low.x, low.y), (low.x, high.y), (high.x, low.y), (high.x, high.y)] {
            // Per unit of depth.
            let ray = self.axes * (camera.unproject(x, y, 1.0) - camera.centre());
            let (a, b) = ((-self.half - centre) / ray, (self.half - centre) / ray);
            let (first, last) = (a.min(b).max_element().max(0.0), a.max(b).min_element());
            if first <= last {
                depths.extend([first, last]);
            }
        }
        if centre.abs().cmple(self.half).all() {
            depths.push(0.0);
        }
        let far = depths.iter().copied().fold(0.0, f64::max) * (1.0 + BEYOND);
        let near = depths.iter().copied().fold(f64::INFINITY, f64::min) * (1.0 - BEYOND);
        (far > 0.0).then(|| DepthRange { near: near.max(NEAREST * far), far })
    }

    /// A box that holds these points, but for a few strays.
    pub fn around(points: impl Iterator<Item = DVec3> + Clone) -> Option<Self> {
        let along = |axis: usize| {
            let mut values: Vec<f64> = points.clone().map(|p| p[axis]).filter(|v| v.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            let last = values.len().checked_sub(1)?;
            let strays = (STRAY * last as f64) as usize;
            let (low, high) = (values[strays], values[last - strays]);
            Some((low - MARGIN * (high - low), high + MARGIN * (high - low)))
        };
        let [x, y, z] = [along(0)?, along(1)?, along(2)?];
        Self::aligned(DVec3::new(x.0, y.0, z.0), DVec3::new(x.1, y.1, z.1))
    }

    /// In words, for notes and messages.
    pub fn told(&self) -> String {
        let sides = 2.0 * self.half;
        let turned = if self.axes == DMat3::IDENTITY { "" } else { ", turned" };
        let [c, s] = [self.centre, sides].map(|v| v.to_array().map(|x| format!("{x:.6}")));
        format!("a box of {} around {}{turned}", s.join(" x "), c.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::random::Random;

    /// Against a brute count: of points all over boxes of any shape, place and turn, those that a camera sees lie in
    /// the range, and reach to its ends but for the grid's step.
    #[test]
    fn depths_are_those_of_what_is_seen() {
        const SIDE: usize = 45;
        let mut random = Random::new(&[0x726f69]);
        let (width, height) = (40, 30);
        let k = DMat3::from_cols(DVec3::new(30.0, 0.0, 0.0), DVec3::new(0.0, 28.0, 0.0), DVec3::new(18.0, 16.0, 1.0));
        let (mut seen, mut unseen) = (0, 0);
        for _ in 0..160 {
            let mut vector = |reach: f64| DVec3::from_array([(); 3].map(|()| reach * (2.0 * random.unit() - 1.0)));
            let (centre, half, t, turn) = (vector(3.0), vector(1.5).abs() + 0.1, vector(3.0), vector(3.0));
            let r = DMat3::from_euler(glam::EulerRot::XYZ, turn.x, turn.y, turn.z);
            let axes = DMat3::from_euler(glam::EulerRot::XYZ, turn.z, turn.x, turn.y);
            let (camera, region) = (Camera { k, r, t }, Region::turned(centre, axes, half).unwrap());
            let at = |i: usize| 2.0 * i as f64 / (SIDE - 1) as f64 - 1.0;
            let (mut near, mut far) = (f64::INFINITY, 0f64);
            for i in 0..SIDE * SIDE * SIDE {
                let local = DVec3::new(at(i % SIDE), at(i / SIDE % SIDE), at(i / SIDE / SIDE)) * half;
                let point = centre + axes.transpose() * local;
                assert!(region.contains(point.lerp(centre, 1e-9)));
                let depth = camera.project(point);
                let pixel = DVec2::new(depth.x, depth.y) / depth.z;
                let is_in = pixel.cmpge(DVec2::splat(-0.5)).all()
                    && pixel.cmple(DVec2::new(width as f64 - 0.5, height as f64 - 0.5)).all();
                if depth.z > 0.0 && is_in {
                    (near, far) = (near.min(depth.z), far.max(depth.z));
                }
            }
            // Between neighbours of the grid, along the diagonal.
            let step = 2.0 * half.length() / (SIDE - 1) as f64;
            match region.depths(&camera, (width, height)) {
                None => {
                    unseen += 1;
                    assert_eq!(far, 0.0);
                }
                // Slivers between points of the grid: nothing to compare with.
                Some(_) if far == 0.0 => {}
                Some(range) => {
                    seen += 1;
                    let (low, high) = (range.near / (1.0 - BEYOND), range.far / (1.0 + BEYOND));
                    let floor = NEAREST * range.far / (1.0 - BEYOND);
                    assert!(low <= near.max(floor) + 1e-9 && high >= far - 1e-9, "{low} {near} {high} {far}");
                    // A corner of what is seen may be sharp: some steps are missed there.
                    assert!(near - low < 6.0 * step + floor && high - far < 6.0 * step, "{low} {near} {high} {far}");
                }
            }
        }
        assert!(seen > 15 && unseen > 5, "{seen} {unseen}");
    }

    #[test]
    fn points_with_a_few_strays_give_the_box_of_the_others() {
        let point = |i: usize| DVec3::new((i % 10) as f64, (i / 10 % 10) as f64, (i / 100) as f64);
        let strays = [DVec3::splat(1e6), DVec3::splat(-1e5), DVec3::NAN];
        let region = Region::around((0..1000).map(point).chain(strays)).unwrap();
        // 0 to 9 along each axis, and a tenth of that beyond.
        let expected = Region::aligned(DVec3::splat(-0.9), DVec3::splat(9.9)).unwrap();
        assert!(region.corners().iter().zip(expected.corners()).all(|(a, b)| a.distance(b) < 1e-9), "{region:?}");
        assert_eq!(Region::around(std::iter::empty()), None);
    }
}
