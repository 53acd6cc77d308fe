//! Means over a plane and over the whole volume, in f64: the sums run over up to millions of values.

use rayon::prelude::*;

use crate::tensor::{Shape, Tensor};

/// The mean over rows and columns: [D, H, W, C] -> [D, 1, 1, C] (Table I(b)'s mean, one vector a plane).
pub fn plane_mean(x: &Tensor) -> Tensor {
    let Shape { h, w, c, .. } = x.shape;
    let mut y = Tensor::zeros(Shape { h: 1, w: 1, ..x.shape });
    y.data.par_chunks_mut(c).zip(x.data.par_chunks(h * w * c)).for_each(|(y, plane)| {
        let mut sums = vec![0.0f64; c];
        for x in plane.chunks_exact(c) {
            for (s, &x) in sums.iter_mut().zip(x) {
                *s += f64::from(x);
            }
        }
        for (y, s) in y.iter_mut().zip(sums) {
            *y = (s / (h * w) as f64) as f32;
        }
    });
    y
}

/// The mean over all positions: [D, H, W, C] -> [1, 1, 1, C].
pub fn volume_mean(x: &Tensor) -> Tensor {
    let planes = plane_mean(x);
    let c = x.shape.c;
    let mut y = Tensor::zeros(Shape { d: 1, h: 1, w: 1, c });
    for (i, y) in y.data.iter_mut().enumerate() {
        let sum: f64 = planes.data.iter().skip(i).step_by(c).map(|&m| f64::from(m)).sum();
        *y = (sum / x.shape.d as f64) as f32;
    }
    y
}
