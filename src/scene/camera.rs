//! Pinhole cameras, plane-sweep homographies and depth hypotheses, all in f64.
//!
//! Conventions: world-to-camera `x_cam = R X + t`; depth is z in the camera's frame; a pixel's centre has
//! integer coordinates; no distortion (that is removed from the photos on import, see [`crate::scene::lens`]).

use glam::{DMat3, DVec2, DVec3};
use serde::{Deserialize, Serialize};

/// A pinhole camera with its pose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Intrinsics; pixel centres are integers.
    pub k: DMat3,
    /// Rotation, world to camera.
    pub r: DMat3,
    /// Translation, world to camera: `x_cam = r X + t`.
    pub t: DVec3,
}

impl Camera {
    /// The camera's centre in the world.
    pub fn centre(&self) -> DVec3 {
        -(self.r.transpose() * self.t)
    }

    /// World point to homogeneous pixel: (u z, v z, z).
    pub fn project(&self, world: DVec3) -> DVec3 {
        self.k * (self.r * world + self.t)
    }

    /// World point to pixel and depth; `None` behind the camera (z <= 1e-6).
    pub fn pixel(&self, world: DVec3) -> Option<(DVec2, f64)> {
        let q = self.project(world);
        (q.z > 1e-6).then(|| (DVec2::new(q.x / q.z, q.y / q.z), q.z))
    }

    /// The world point at `depth` behind pixel (u, v).
    pub fn unproject(&self, u: f64, v: f64, depth: f64) -> DVec3 {
        let ray = self.k.inverse() * DVec3::new(u, v, 1.0);
        self.r.transpose() * (ray * depth - self.t)
    }

    /// The camera of a grid that keeps every `1 / factor`-th pixel, aligned at pixel 0: rows 0 and 1 of K times
    /// `factor`. Exact for feature maps (1/4) and pyramid levels (1/2).
    pub fn decimated(&self, factor: f64) -> Self {
        Self { k: DMat3::from_diagonal(DVec3::new(factor, factor, 1.0)) * self.k, ..*self }
    }

    /// The camera of an image resized by (`sx`, `sy`) about its corner, so that areas map to areas:
    /// `u' = (u + 0.5) sx - 0.5`.
    pub fn resized(&self, sx: f64, sy: f64) -> Self {
        let shift = DMat3::from_cols(
            DVec3::new(sx, 0.0, 0.0),
            DVec3::new(0.0, sy, 0.0),
            DVec3::new(0.5 * sx - 0.5, 0.5 * sy - 0.5, 1.0),
        );
        Self { k: shift * self.k, ..*self }
    }

    /// The camera of a photo of `width` x `height` pixels that is turned by quarters, clockwise as it is looked at:
    /// pixel (u, v) comes to (height - 1 - v, u) at each. K stays upper triangular, since the pose turns along.
    pub fn turned(&self, quarter_turns: u8, (mut width, mut height): (usize, usize)) -> Self {
        // Columns. Turned vectors, and turned pixels.
        let q = DMat3::from_cols(DVec3::Y, -DVec3::X, DVec3::Z);
        let mut camera = *self;
        for _ in 0..quarter_turns % 4 {
            let pixels = DMat3::from_cols(DVec3::Y, -DVec3::X, DVec3::new(height as f64 - 1.0, 0.0, 1.0));
            camera = Self { k: pixels * camera.k * q.transpose(), r: q * camera.r, t: q * camera.t };
            (width, height) = (height, width);
        }
        camera
    }
}

/// Where the pixels of a reference view's depth planes lie in a source view: `q = d A p + b` with `p = (x, y, 1)`
/// in the reference and homogeneous `q` in the source (SPEC "Geometry": A = Ks R Kr^-1, b = Ks t).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlaneSweep {
    /// Rows of A.
    pub a: [[f32; 3]; 3],
    /// b.
    pub b: [f32; 3],
}

impl PlaneSweep {
    /// From the two cameras, both at the resolution of the maps that are warped; computed in f64, kept in f32.
    pub fn new(reference: &Camera, source: &Camera) -> Self {
        let r = source.r * reference.r.transpose();
        let t = source.t - r * reference.t;
        let a = source.k * r * reference.k.inverse();
        let b = source.k * t;
        Self { a: [0, 1, 2].map(|i| a.row(i).as_vec3().to_array()), b: b.as_vec3().to_array() }
    }
}

impl PlaneSweep {
    /// The sweep between maps that are `factor` times as fine, aligned at pixel 0; exact for powers of two.
    pub fn finer(&self, factor: f32) -> Self {
        let mut finer = *self;
        for (row, b) in finer.a.iter_mut().zip(&mut finer.b).take(2) {
            row[2] *= factor;
            *b *= factor;
        }
        finer.a[2][0] /= factor;
        finer.a[2][1] /= factor;
        finer
    }
}

/// The depths between which surfaces are searched, in scene units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthRange {
    /// Nearest depth, > 0.
    pub near: f64,
    /// Farthest depth, > near.
    pub far: f64,
}

/// How hypotheses are spaced between near and far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Evenly in depth.
    Linear,
    /// Evenly in 1 / depth.
    Inverse,
}

/// More planes than this are a mistake somewhere; the limit also keeps sizes far from overflow.
pub const MAX_PLANES: usize = 65_536;

/// The planes of one sweep: near and far included.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypotheses {
    /// Depths in increasing order of index: `depths[0]` = near.
    pub depths: Vec<f64>,
    /// How they are spaced, which is also how the expectation is taken (over depth, or over 1 / depth).
    pub sampling: Sampling,
    /// Where each pixel's depth is expected among them, if something is known before.
    pub expected: Option<Expected>,
}

/// The log-odds of a depth outside of where it is expected, against one inside: what is known before is trusted 99
/// times of 100, and photos that are surer than that have their way.
pub const ELSEWHERE: f32 = -4.595_12;

/// Among which hypotheses each pixel's depth is expected, from what is known before the photos are compared. Logits of
/// the others get [`ELSEWHERE`] added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Pixels a row of the coarse stage's maps.
    pub width: usize,
    /// Of each pixel, row by row, the first and the last hypothesis; of one about which nothing is known all.
    pub planes: Vec<[u16; 2]>,
}

impl Expected {
    /// Rows.
    pub fn height(&self) -> usize {
        self.planes.len() / self.width.max(1)
    }
}

impl Hypotheses {
    /// `count` depths, `range.near` to `range.far` inclusive; a single plane lies at near.
    pub fn new(range: DepthRange, count: usize, sampling: Sampling) -> Self {
        let DepthRange { near, far } = range;
        let depth = |i: usize| {
            let t = if count > 1 { i as f64 / (count - 1) as f64 } else { 0.0 };
            match sampling {
                Sampling::Linear => near + t * (far - near),
                Sampling::Inverse => 1.0 / (1.0 / near + t * (1.0 / far - 1.0 / near)),
            }
        };
        Self { depths: (0..count).map(depth).collect(), sampling, expected: None }
    }
}
