//! Element-by-element steps: image normalisation, sigmoid gates, additions.
//!
//! All of them run on small tensors (a sixteenth of the volume and less) or once an image; the compiler's vectors do.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::photo::Photo;
use crate::tensor::{Cpu, Shape, Tensor};

/// Channel means that the network was trained with (ImageNet's), on 0..1 values.
pub const IMAGE_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations that the network was trained with.
pub const IMAGE_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Elements a task: small enough to share, large enough to be worth a task.
const CHUNK: usize = 1 << 14;

/// (rgb - mean) / std as a tensor [1, H, W, 3].
pub fn normalize(cpu: &Cpu, photo: &Photo) -> Tensor {
    let mut y = cpu.tensor(Shape::plane(photo.height, photo.width, 3));
    let len = CHUNK * 3;
    y.data.par_chunks_mut(len).zip(photo.rgb.par_chunks(len)).for_each(|(y, rgb)| {
        for (y, rgb) in y.chunks_exact_mut(3).zip(rgb.chunks_exact(3)) {
            for c in 0..3 {
                y[c] = (rgb[c] - IMAGE_MEAN[c]) / IMAGE_STD[c];
            }
        }
    });
    y
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// x * sigmoid(gate), in place: the attention refinement's product.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn gate(x: &mut Tensor, gate: &Tensor) -> Result<()> {
    gate.expect_shape("sigmoid gate", "gate", x.shape)?;
    x.data.par_chunks_mut(CHUNK).zip(gate.data.par_chunks(CHUNK)).for_each(|(x, gate)| {
        for (x, &g) in x.iter_mut().zip(gate) {
            *x *= sigmoid(g);
        }
    });
    Ok(())
}

/// x + x * sigmoid(gate), in place, `gate` [D, 1, 1, C] for x [D, H, W, C]: the feature fusion's product.
///
/// # Errors
/// [`Error::Shape`] where the gate is not one vector a plane.
pub fn gate_planes(x: &mut Tensor, gate: &Tensor) -> Result<()> {
    gate.expect_shape("plane gate", "gate", Shape { h: 1, w: 1, ..x.shape })?;
    let c = x.shape.c;
    x.data.par_chunks_mut(x.shape.h * x.shape.w * c).zip(gate.data.par_chunks(c)).for_each(
        |(plane, gate)| {
            let factors: Vec<f32> = gate.iter().map(|&g| 1.0 + sigmoid(g)).collect();
            for x in plane.chunks_exact_mut(c) {
                for (x, f) in x.iter_mut().zip(&factors) {
                    *x *= f;
                }
            }
        },
    );
    Ok(())
}

/// x + vector, in place, `vector` [1, 1, 1, C] added at every position.
///
/// # Errors
/// [`Error::Shape`] where the vector has other channels or more positions.
pub fn add_vector(x: &mut Tensor, vector: &Tensor) -> Result<()> {
    vector.expect_shape("add vector", "vector", Shape { d: 1, h: 1, w: 1, c: x.shape.c })?;
    let c = x.shape.c;
    x.data.par_chunks_mut(CHUNK / c * c).for_each(|chunk| {
        for x in chunk.chunks_exact_mut(c) {
            for (x, v) in x.iter_mut().zip(vector.data.iter()) {
                *x += v;
            }
        }
    });
    Ok(())
}

/// a and b side by side along the channels.
///
/// # Errors
/// [`Error::Shape`] where their extents differ.
pub fn concat(cpu: &Cpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    b.expect_shape("concat", "second input", a.shape.with_channels(b.shape.c))?;
    let (ca, cb) = (a.shape.c, b.shape.c);
    let mut y = cpu.tensor(a.shape.with_channels(ca + cb));
    let n = 1024;
    y.data
        .par_chunks_mut(n * (ca + cb))
        .zip(a.data.par_chunks(n * ca))
        .zip(b.data.par_chunks(n * cb))
        .for_each(|((y, a), b)| {
            let rows = a.chunks_exact(ca).zip(b.chunks_exact(cb));
            for (y, (a, b)) in y.chunks_exact_mut(ca + cb).zip(rows) {
                y[..ca].copy_from_slice(a);
                y[ca..].copy_from_slice(b);
            }
        });
    Ok(y)
}

/// An [`Error::Shape`] unless both sides of the image are multiples of 4 and at least 4.
pub fn expect_multiples_of_4(photo: &Photo) -> Result<()> {
    let (w, h) = (photo.width, photo.height);
    if w >= 4 && h >= 4 && w % 4 == 0 && h % 4 == 0 && photo.rgb.len() == w * h * 3 {
        return Ok(());
    }
    let problem = format!("image {w} x {h} with {} values; sides must be multiples of 4", photo.rgb.len());
    Err(Error::Shape { op: "features", problem })
}
