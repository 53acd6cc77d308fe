//! Element-by-element steps: image normalisation, sigmoid gates, additions; and their gradients.
//!
//! All of them run on small tensors (a sixteenth of the volume and less) or once an image; the compiler's vectors do.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::reduce::channel_sums;
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::net::tensor::{Shape, Tensor};
use crate::scene::photo::Photo;

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
    x.data.par_chunks_mut(x.shape.h * x.shape.w * c).zip(gate.data.par_chunks(c)).for_each(|(plane, gate)| {
        let factors: Vec<f32> = gate.iter().map(|&g| 1.0 + sigmoid(g)).collect();
        for x in plane.chunks_exact_mut(c) {
            for (x, f) in x.iter_mut().zip(&factors) {
                *x *= f;
            }
        }
    });
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
    y.data.par_chunks_mut(n * (ca + cb)).zip(a.data.par_chunks(n * ca)).zip(b.data.par_chunks(n * cb)).for_each(
        |((y, a), b)| {
            let rows = a.chunks_exact(ca).zip(b.chunks_exact(cb));
            for (y, (a, b)) in y.chunks_exact_mut(ca + cb).zip(rows) {
                y[..ca].copy_from_slice(a);
                y[ca..].copy_from_slice(b);
            }
        },
    );
    Ok(y)
}

/// sigmoid(x) and its derivative, which 1 - sigmoid(x) would lose the digits of where x is large.
fn sigmoid_and_slope(x: f32) -> (f32, f32) {
    let e = (-x.abs()).exp();
    let of_magnitude = 1.0 / (1.0 + e);
    (if x >= 0.0 { of_magnitude } else { e * of_magnitude }, e * of_magnitude * of_magnitude)
}

/// The gradients in both inputs of [`gate`], from the gradient `dy` in its result.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn gate_backward(cpu: &Cpu, x: &Tensor, gate: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    gate.expect_shape("sigmoid gate gradient", "gate", x.shape)?;
    dy.expect_shape("sigmoid gate gradient", "output gradient", x.shape)?;
    let (mut dx, mut dgate) = (cpu.tensor(x.shape), cpu.tensor(x.shape));
    let outputs = dx.data.par_chunks_mut(CHUNK).zip(dgate.data.par_chunks_mut(CHUNK));
    let inputs = x.data.par_chunks(CHUNK).zip(gate.data.par_chunks(CHUNK)).zip(dy.data.par_chunks(CHUNK));
    outputs.zip(inputs).for_each(|((dx, dgate), ((x, gate), dy))| {
        for ((dx, dgate), ((x, &gate), dy)) in dx.iter_mut().zip(dgate).zip(x.iter().zip(gate).zip(dy)) {
            let (value, slope) = sigmoid_and_slope(gate);
            *dx = dy * value;
            *dgate = dy * x * slope;
        }
    });
    Ok((dx, dgate))
}

/// The gradients in both inputs of [`gate_planes`], from the gradient `dy` in its result.
///
/// # Errors
/// [`Error::Shape`] where the gate is not one vector a plane or dy is not of x's shape.
pub fn gate_planes_backward(cpu: &Cpu, x: &Tensor, gate: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    gate.expect_shape("plane gate gradient", "gate", Shape { h: 1, w: 1, ..x.shape })?;
    dy.expect_shape("plane gate gradient", "output gradient", x.shape)?;
    let (mut dx, mut dgate) = (cpu.tensor(x.shape), cpu.tensor(gate.shape));
    let c = x.shape.c;
    let len = x.shape.h * x.shape.w * c;
    let outputs = dx.data.par_chunks_mut(len).zip(dgate.data.par_chunks_mut(c));
    let inputs = x.data.par_chunks(len).zip(gate.data.par_chunks(c)).zip(dy.data.par_chunks(len));
    outputs.zip(inputs).for_each(|((dx, dgate), ((x, gate), dy))| {
        let (factors, slopes): (Vec<f32>, Vec<f32>) = gate
            .iter()
            .map(|&g| {
                let (value, slope) = sigmoid_and_slope(g);
                (1.0 + value, slope)
            })
            .unzip();
        let mut sums = vec![0.0f64; c];
        let positions = dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c));
        for ((dx, x), dy) in positions {
            for i in 0..c {
                dx[i] = dy[i] * factors[i];
                sums[i] += f64::from(dy[i] * x[i]);
            }
        }
        for ((dgate, sum), slope) in dgate.iter_mut().zip(sums).zip(slopes) {
            *dgate = (sum * f64::from(slope)) as f32;
        }
    });
    Ok((dx, dgate))
}

/// The gradient [1, 1, 1, C] in the vector of [`add_vector`], from the gradient `dy` in its result. (That in x is dy
/// itself.)
pub fn add_vector_backward(cpu: &Cpu, dy: &Tensor) -> Tensor {
    let c = dy.shape.c;
    let mut dvector = cpu.tensor(Shape { d: 1, h: 1, w: 1, c });
    for (dvector, sum) in dvector.data.iter_mut().zip(channel_sums(&dy.data, c)) {
        *dvector = sum as f32;
    }
    dvector
}

/// The gradients in both inputs of [`concat()`], the first of which had `channels`, from the gradient `dy` in its
/// result.
///
/// # Errors
/// [`Error::Shape`] where the second would have no channel.
pub fn concat_backward(cpu: &Cpu, dy: &Tensor, channels: usize) -> Result<(Tensor, Tensor)> {
    let c = dy.shape.c;
    if channels == 0 || channels >= c {
        let problem = format!("{} after channel {channels}; both parts need one", dy.shape);
        return Err(Error::Shape { op: "concat gradient", problem });
    }
    let rest = c - channels;
    let (mut da, mut db) = (cpu.tensor(dy.shape.with_channels(channels)), cpu.tensor(dy.shape.with_channels(rest)));
    let n = 1024;
    let outputs = da.data.par_chunks_mut(n * channels).zip(db.data.par_chunks_mut(n * rest));
    outputs.zip(dy.data.par_chunks(n * c)).for_each(|((da, db), dy)| {
        let parts = da.chunks_exact_mut(channels).zip(db.chunks_exact_mut(rest));
        for ((da, db), dy) in parts.zip(dy.chunks_exact(c)) {
            da.copy_from_slice(&dy[..channels]);
            db.copy_from_slice(&dy[channels..]);
        }
    });
    Ok((da, db))
}

/// The gradient in the x of y = relu(x), from y itself: dy where y > 0, else 0 (at the kink, too, as in PyTorch).
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn relu_backward(cpu: &Cpu, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    from_output("relu gradient", cpu, y, dy, |y, dy| if y > 0.0 { dy } else { 0.0 })
}

/// The gradient in the x of y = sigmoid(x), from y itself.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn sigmoid_backward(cpu: &Cpu, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    from_output("sigmoid gradient", cpu, y, dy, |y, dy| dy * y * (1.0 - y))
}

#[inline(always)]
fn from_output(
    op: &'static str,
    cpu: &Cpu,
    y: &Tensor,
    dy: &Tensor,
    slope: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<Tensor> {
    dy.expect_shape(op, "output gradient", y.shape)?;
    let mut dx = cpu.tensor(y.shape);
    let inputs = y.data.par_chunks(CHUNK).zip(dy.data.par_chunks(CHUNK));
    dx.data.par_chunks_mut(CHUNK).zip(inputs).for_each(|(dx, (y, dy))| {
        for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
            *dx = slope(y, dy);
        }
    });
    Ok(dx)
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

/// A copy in the device's memory.
fn copied(cpu: &Cpu, x: &Tensor) -> Tensor {
    let mut y = cpu.tensor(x.shape);
    y.data.par_chunks_mut(CHUNK).zip(x.data.par_chunks(CHUNK)).for_each(|(y, x)| y.copy_from_slice(x));
    y
}

/// [`gate`] and [`gate_planes`] as ops: inputs x and gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateOp {
    /// x sigmoid(gate).
    Refine,
    /// x + x sigmoid(gate), one vector a plane.
    Planes,
}

impl Op for GateOp {
    fn name(&self) -> &'static str {
        "sigmoid gate"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0, 1])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let mut y = copied(cpu, inputs[0]);
        match self {
            Self::Refine => gate(&mut y, inputs[1])?,
            Self::Planes => gate_planes(&mut y, inputs[1])?,
        }
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, gate) = (saved.input(0)?, saved.input(1)?);
        let (dx, dgate) = match self {
            Self::Refine => gate_backward(cpu, x, gate, &dy)?,
            Self::Planes => gate_planes_backward(cpu, x, gate, &dy)?,
        };
        cpu.recycle(dy);
        Ok(vec![Some(dx), Some(dgate)])
    }
}

/// [`add_vector`] as an op: inputs x and vector.
pub struct AddVectorOp;

impl Op for AddVectorOp {
    fn name(&self) -> &'static str {
        "add vector"
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let mut y = copied(cpu, inputs[0]);
        add_vector(&mut y, inputs[1])?;
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, _: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dvector = add_vector_backward(cpu, &dy);
        Ok(vec![Some(dy), Some(dvector)])
    }
}

/// [`concat()`] as an op: inputs a and b.
pub struct ConcatOp;

impl Op for ConcatOp {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        concat(cpu, inputs[0], inputs[1])
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (da, db) = concat_backward(cpu, &dy, saved.shape(0).c)?;
        cpu.recycle(dy);
        Ok(vec![Some(da), Some(db)])
    }
}

/// The gradient before the ReLU that an op ends with, from that in its saved output.
pub(super) fn through_relu(cpu: &Cpu, saved: &Saved, dy: Tensor) -> Result<Tensor> {
    let through = relu_backward(cpu, saved.output()?, &dy)?;
    cpu.recycle(dy);
    Ok(through)
}

/// relu(a + b) as an op: inputs a and b of one shape.
pub struct AddReluOp;

impl Op for AddReluOp {
    fn name(&self) -> &'static str {
        "add and relu"
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[], output: true }
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let (a, b) = (inputs[0], inputs[1]);
        b.expect_shape("add and relu", "second input", a.shape)?;
        let mut y = cpu.tensor(a.shape);
        let inputs = a.data.par_chunks(CHUNK).zip(b.data.par_chunks(CHUNK));
        y.data.par_chunks_mut(CHUNK).zip(inputs).for_each(|(y, (a, b))| {
            for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                *y = (a + b).max(0.0);
            }
        });
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let through = through_relu(cpu, saved, dy)?;
        let same = copied(cpu, &through);
        Ok(vec![Some(through), Some(same)])
    }
}

/// The first plane of a tensor as an op.
pub struct FirstOp;

impl Op for FirstOp {
    fn name(&self) -> &'static str {
        "first"
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let mut y = cpu.tensor(Shape { d: 1, ..inputs[0].shape });
        let len = y.data.len();
        y.data.copy_from_slice(&inputs[0].data[..len]);
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let mut dx = cpu.tensor(saved.shape(0));
        let (first, rest) = dx.data.split_at_mut(dy.data.len());
        first.copy_from_slice(&dy.data);
        rest.fill(0.0);
        cpu.recycle(dy);
        Ok(vec![Some(dx)])
    }
}
