//! The narrow stages' numbers: their sizes, and how far their hypotheses lie apart.

use super::config::Resolution;
use crate::scene::camera::{Hypotheses, PlaneSweep, Sampling};

/// A narrow stage.
#[derive(Debug, PartialEq)]
pub struct Stage {
    /// How its tensors' names begin.
    pub name: &'static str,
    /// Photo pixels from one of its pixels to the next.
    pub step: usize,
    /// Channels of its features, and of its cost volume.
    pub channels: usize,
    /// Hypotheses of a pixel.
    pub hypotheses: usize,
    /// Times that its U-Net halves rows and columns.
    pub(super) halvings: usize,
    /// Pixels of its maps that neighbouring hypotheses lie apart in a middling source view.
    pixels_apart: f64,
}

/// At half of the photo's sides.
pub const HALF: Stage =
    Stage { name: "narrow2", step: 2, channels: 16, hypotheses: 8, halvings: 2, pixels_apart: 0.25 };
/// At the photo's own resolution.
pub const FULL: Stage =
    Stage { name: "narrow1", step: 1, channels: 8, hypotheses: 4, halvings: 1, pixels_apart: 0.375 };

/// The stages of a network of this resolution, coarse to fine.
pub fn stages(finest: Resolution) -> impl Iterator<Item = &'static Stage> {
    let all = [(&HALF, Resolution::Half), (&FULL, Resolution::Full)];
    all.into_iter().filter(move |(_, own)| finest >= *own).map(|(stage, _)| stage)
}

/// Weights of a coarse pixel for the four fine ones that belong to it, row by row: nine for each.
pub const CONVEX: usize = 36;

/// Hypotheses of the stage at half resolution lie at least this share of the coarse planes' interval apart, those of
/// the other one half of it: where planes are few, the coarse depth is less exact than the photos would allow.
const LEAST_INTERVAL: f64 = 0.25;

/// Distance between neighbouring hypotheses in 1 / depth: max(`least`, `share` / depth^2). The second is a constant
/// distance in depth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// 1 / scene units.
    pub least: f32,
    /// Scene units.
    pub share: f32,
}

impl Spacing {
    /// At 1 / depth `rho`.
    #[inline(always)]
    pub fn at(self, rho: f32) -> f32 {
        self.least.max(self.share * rho * rho)
    }
}

impl Stage {
    /// Its hypotheses' places around the guess, in units of their spacing: ..., -1/2, 1/2, ...
    pub fn offsets(&self) -> impl Iterator<Item = f32> {
        let middle = 0.5 * (self.hypotheses as f32 - 1.0);
        (0..self.hypotheses).map(move |k| k as f32 - middle)
    }

    /// Rows that what it finds at a pixel depends on, above and below it: of the logits one, of each convolution at
    /// half the resolution two, of each at a quarter four, with what the interpolations between them read.
    pub fn reach(&self) -> usize {
        if self.halvings > 1 { 24 } else { 8 }
    }

    /// The spacing for views whose sweeps are those between maps of the stage's resolution, the reference's being
    /// `width` x `height`; `planes` are the coarse hypotheses.
    pub fn spacing(&self, sweeps: &[PlaneSweep], (width, height): (usize, usize), planes: &Hypotheses) -> Spacing {
        let (Some(&near), Some(&far)) = (planes.depths.first(), planes.depths.last()) else {
            return Spacing { least: 0.0, share: 0.0 };
        };
        let middle = 0.5 * (1.0 / near + 1.0 / far);
        let by_pixels = middling_motion(sweeps, (width, height), middle).map_or(0.0, |m| self.pixels_apart / m);
        let steps = (planes.depths.len().max(2) - 1) as f64;
        let of_interval = LEAST_INTERVAL * self.step as f64 / HALF.step as f64;
        match planes.sampling {
            Sampling::Inverse => {
                let interval = (1.0 / near - 1.0 / far).abs() / steps;
                Spacing { least: by_pixels.max(of_interval * interval) as f32, share: 0.0 }
            }
            Sampling::Linear => {
                let interval = (far - near).abs() / steps;
                Spacing { least: by_pixels as f32, share: (of_interval * interval) as f32 }
            }
        }
    }
}

/// Pixels that a point moves by per unit of 1 / depth in the middling one of the source views, at 1 / depth `rho`;
/// `None` where it does not move.
pub(super) fn middling_motion(sweeps: &[PlaneSweep], size: (usize, usize), rho: f64) -> Option<f64> {
    let mut motions: Vec<f64> = sweeps.iter().filter_map(|s| motion(s, size, rho)).collect();
    motions.sort_by(f64::total_cmp);
    motions.get(motions.len() / 2).copied().filter(|&m| m > 0.0)
}

/// Pixels that a source pixel moves by per unit of 1 / depth, a mean over nine reference pixels at 1 / depth `rho`;
/// `None` where none of them lies before the source camera.
fn motion(sweep: &PlaneSweep, (width, height): (usize, usize), rho: f64) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    let b = sweep.b.map(f64::from);
    for j in [1.0, 3.0, 5.0] {
        for i in [1.0, 3.0, 5.0] {
            let p = [(width as f64 - 1.0) * i / 6.0, (height as f64 - 1.0) * j / 6.0, 1.0];
            let q = [0, 1, 2].map(|r| (0..3).map(|c| f64::from(sweep.a[r][c]) * p[c]).sum::<f64>() + b[r] * rho);
            if q[2] > 1e-6 {
                let along = |r: usize| (b[r] - q[r] / q[2] * b[2]) / q[2];
                sum += along(0).hypot(along(1));
                count += 1;
            }
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}
