//! Depthwise 3x3x3 convolution: each channel with its own 27 weights, zero padding, no bias.
//!
//! x [D, H, W, C], y [ceil(D/s), ceil(H/s), ceil(W/s), C]; C a multiple of 8. One multiply-add a value loaded: bound by
//! the load ports, so taps are simply walked for 8 channels at a time.
//!
//! Backward: an input value gathers from the outputs that read it; a weight's gradient is a sum over all outputs, taken
//! in a number of parts that does not depend on the threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::reduce::channel_sums;
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::host::trace::span_of;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Positions of a task where channels are added up.
const SHARE: usize = 4096;

/// Runs of output rows that the weights' gradient is summed up in.
const PARTS: usize = 64;

/// A depthwise convolution's parameters.
pub struct Depthwise {
    /// Channels.
    pub channels: usize,
    /// Stride over depth, rows and columns alike.
    pub stride: usize,
    /// [27, C].
    weights: Buffer,
}

impl Depthwise {
    /// From weights in PyTorch's order [C, 1, 3, 3, 3].
    ///
    /// # Panics
    /// Where the length does not fit or C is no multiple of 8.
    pub fn new(channels: usize, stride: usize, weights: &[f32]) -> Self {
        assert!(weights.len() == 27 * channels && channels.is_multiple_of(8), "depthwise weights");
        let mut packed = Buffer::zeros(weights.len());
        for c in 0..channels {
            for t in 0..27 {
                packed[t * channels + c] = weights[c * 27 + t];
            }
        }
        Self { channels, stride, weights: packed }
    }

    /// Multiply-adds times two for an input of this shape.
    pub fn flops(&self, x: Shape) -> u64 {
        2 * 27 * self.output_shape(x).len() as u64
    }

    /// The output's shape for an input's.
    pub fn output_shape(&self, x: Shape) -> Shape {
        let s = self.stride;
        Shape { d: x.d.div_ceil(s), h: x.h.div_ceil(s), w: x.w.div_ceil(s), c: x.c }
    }

    /// y = w * x.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has other channels or is empty.
    pub fn forward(&self, cpu: &Cpu, x: &Tensor) -> Result<Tensor> {
        let _span = span_of("depthwise", || x.shape.to_string());
        x.expect_channels("depthwise convolution", self.channels)?;
        if x.shape.is_empty() {
            return Err(Error::Shape { op: "depthwise convolution", problem: format!("empty input {}", x.shape) });
        }
        let shape = self.output_shape(x.shape);
        let mut y = cpu.tensor(shape);
        y.data.par_chunks_mut(shape.w * shape.c).enumerate().for_each(|(row, y)| {
            let row = Row { op: self, x, z: row / shape.h, r: row % shape.h, y };
            // SAFETY: the device's level is available; the kernel checks its own bounds.
            unsafe { dispatch(cpu.level, row) }
        });
        Ok(y)
    }

    /// The gradient in x, of shape `x`, from the gradient `dy` in y.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has other channels or is empty, or dy has not the output's shape.
    pub fn backward_input(&self, cpu: &Cpu, x: Shape, dy: &Tensor) -> Result<Tensor> {
        self.expect_gradient(x, dy)?;
        let mut dx = cpu.tensor(x);
        let columns: Vec<Readers> = (0..x.w).map(|at| Readers::of(at, self.stride, dy.shape.w)).collect();
        dx.data.par_chunks_mut(x.w * x.c).enumerate().for_each(|(row, dx)| {
            let row = InputRow { op: self, dy, z: row / x.h, r: row % x.h, columns: &columns, dx };
            // SAFETY: the device's level is available; `Readers` only names positions of dy.
            unsafe { dispatch(cpu.level, row) }
        });
        Ok(dx)
    }

    /// The gradient in the weights, in the order of [`Depthwise::new`], from x and the gradient `dy` in y.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has other channels or is empty, or dy has not the output's shape.
    pub fn backward_weights(&self, cpu: &Cpu, x: &Tensor, dy: &Tensor) -> Result<Vec<f32>> {
        self.expect_gradient(x.shape, dy)?;
        let c = self.channels;
        let outside = Buffer::zeros(x.shape.w * c);
        let rows = dy.shape.d * dy.shape.h;
        let parts = rows.min(PARTS);
        let sums: Vec<Vec<f64>> = (0..parts)
            .into_par_iter()
            .map(|part| {
                let mut sums = vec![0.0; 27 * c];
                let rows = part * rows / parts..(part + 1) * rows / parts;
                let kernel = WeightSums { op: self, x, dy, rows, outside: &outside, sums: &mut sums };
                // SAFETY: the device's level is available; the shapes were compared above.
                unsafe { dispatch(cpu.level, kernel) }
                sums
            })
            .collect();
        let mut totals = vec![0.0; 27 * c];
        for part in &sums {
            totals.iter_mut().zip(part).for_each(|(total, sum)| *total += sum);
        }
        Ok((0..27 * c).map(|i| totals[i % 27 * c + i / 27] as f32).collect())
    }

    fn expect_gradient(&self, x: Shape, dy: &Tensor) -> Result<()> {
        let op = "depthwise convolution gradient";
        if x.c != self.channels {
            return Err(Error::Shape { op, problem: format!("input {x}, expected C = {}", self.channels) });
        }
        if x.is_empty() {
            return Err(Error::Shape { op, problem: format!("empty input {x}") });
        }
        dy.expect_shape(op, "output gradient", self.output_shape(x))
    }
}

/// One row of the output.
struct Row<'a> {
    op: &'a Depthwise,
    x: &'a Tensor,
    z: usize,
    r: usize,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { op, x, z, r, y } = self;
        let (shape, c, s) = (x.shape, op.channels, op.stride);
        let range = |at: usize, size: usize| (usize::from(at == 0), 3.min(size + 1 - at));
        let (z0, z1) = range(z * s, shape.d);
        let (r0, r1) = range(r * s, shape.h);
        for o in 0..y.len() / c {
            let (x0, x1) = range(o * s, shape.w);
            for channel in (0..c).step_by(8) {
                // SAFETY: tap i reads index at * s + i - 1, which `range` keeps within the tensor; C is a multiple of
                // 8.
                unsafe {
                    let mut sum = I::Eight::splat(0.0);
                    for i in z0..z1 {
                        for j in r0..r1 {
                            let row = ((z * s + i - 1) * shape.h + r * s + j - 1) * shape.w + o * s;
                            for k in x0..x1 {
                                let v = I::Eight::load(x.data.as_ptr().add((row + k - 1) * c + channel));
                                let w = I::Eight::load(op.weights.as_ptr().add(((i * 3 + j) * 3 + k) * c + channel));
                                sum = v.mul_add(w, sum);
                            }
                        }
                    }
                    sum.store(y.as_mut_ptr().add(o * c + channel));
                }
            }
        }
    }
}

/// The taps of one axis that read an input position, each with the output position that it does so for.
#[derive(Clone, Copy)]
struct Readers {
    taps: [(usize, usize); 3],
    count: usize,
}

impl Readers {
    /// Output o reads o * stride + tap - 1.
    fn of(at: usize, stride: usize, outputs: usize) -> Self {
        let mut readers = Self { taps: [(0, 0); 3], count: 0 };
        for tap in 0..3.min(at + 2) {
            let o = at + 1 - tap;
            if o.is_multiple_of(stride) && o / stride < outputs {
                readers.taps[readers.count] = (tap, o / stride);
                readers.count += 1;
            }
        }
        readers
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.taps[..self.count].iter().copied()
    }
}

/// One row of the input's gradient.
struct InputRow<'a> {
    op: &'a Depthwise,
    dy: &'a Tensor,
    z: usize,
    r: usize,
    columns: &'a [Readers],
    dx: &'a mut [f32],
}

impl Kernel for InputRow<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { op, dy, z, r, columns, dx } = self;
        let (shape, c) = (dy.shape, op.channels);
        // Up to nine rows of dy, each with the first of its three taps.
        let mut rows = [(0, 0); 9];
        let mut count = 0;
        let below = Readers::of(r, op.stride, shape.h);
        for (i, plane) in Readers::of(z, op.stride, shape.d).iter() {
            for (j, row) in below.iter() {
                rows[count] = ((i * 3 + j) * 3 * c, (plane * shape.h + row) * shape.w * c);
                count += 1;
            }
        }
        for (column, dx) in columns.iter().zip(dx.chunks_exact_mut(c)) {
            for channel in (0..c).step_by(8) {
                // SAFETY: plane, row and column lie within dy, taps within the weights; C is a multiple of 8.
                unsafe {
                    let mut sum = I::Eight::splat(0.0);
                    for &(taps, row) in &rows[..count] {
                        for (k, o) in column.iter() {
                            let g = I::Eight::load(dy.data.as_ptr().add(row + o * c + channel));
                            let w = I::Eight::load(op.weights.as_ptr().add(taps + k * c + channel));
                            sum = g.mul_add(w, sum);
                        }
                    }
                    sum.store(dx.as_mut_ptr().add(channel));
                }
            }
        }
    }
}

/// The weights' gradient over a run of output rows, added to `sums` [27, C]: within a row in f32, from row to row in
/// f64.
struct WeightSums<'a> {
    op: &'a Depthwise,
    x: &'a Tensor,
    dy: &'a Tensor,
    rows: Range<usize>,
    /// A row of zeros, which stands for the rows above and below a plane.
    outside: &'a [f32],
    sums: &'a mut [f64],
}

impl Kernel for WeightSums<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { op, x, dy, rows, outside, sums } = self;
        let (shape, c, s) = (x.shape, op.channels, op.stride);
        let (out, len) = (dy.shape, shape.w * c);
        for row in rows {
            let (z, r) = (row / out.h, row % out.h);
            let dy = &dy.data[row * out.w * c..][..out.w * c];
            for i in 0..3 {
                let Some(plane) = (z * s + i).checked_sub(1).filter(|&plane| plane < shape.d) else {
                    continue;
                };
                let mut near = [outside; 3];
                for (j, near) in near.iter_mut().enumerate() {
                    if let Some(row) = (r * s + j).checked_sub(1).filter(|&row| row < shape.h) {
                        *near = &x.data[(plane * shape.h + row) * len..][..len];
                    }
                }
                for channel in (0..c).step_by(8) {
                    // SAFETY: output o reads columns o s - 1 + FROM to o s - 2 + TO, of W: the first has no column on
                    // its left, and of those from the second on at most the last has none on its right.
                    unsafe {
                        let near = near.map(|row| row.as_ptr().add(channel));
                        let dy = dy.as_ptr().add(channel);
                        let mut tile = [[I::Eight::splat(0.0); 3]; 3];
                        if shape.w == 1 {
                            add_column::<I, 1, 2>(&mut tile, near, dy, 0, s, c);
                        } else {
                            add_column::<I, 1, 3>(&mut tile, near, dy, 0, s, c);
                            let whole = (shape.w - 2) / s + 1;
                            for o in 1..whole {
                                add_column::<I, 0, 3>(&mut tile, near, dy, o, s, c);
                            }
                            for o in whole.max(1)..out.w {
                                add_column::<I, 0, 2>(&mut tile, near, dy, o, s, c);
                            }
                        }
                        for (t, sum) in tile.as_flattened().iter().enumerate() {
                            let mut lanes = [0.0f32; 8];
                            sum.store(lanes.as_mut_ptr());
                            let sums = &mut sums[(i * 9 + t) * c + channel..][..8];
                            for (sum, lane) in sums.iter_mut().zip(lanes) {
                                *sum += f64::from(lane);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Output column `o`'s products with taps FROM..TO of three rows.
///
/// # Safety
/// The columns o s + k - 1 of the rows and o of dy must exist for these taps k, with 8 channels each.
#[inline(always)]
unsafe fn add_column<I: Isa, const FROM: usize, const TO: usize>(
    tile: &mut [[I::Eight; 3]; 3],
    rows: [*const f32; 3],
    dy: *const f32,
    o: usize,
    s: usize,
    c: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let g = I::Eight::load(dy.add(o * c));
        for j in 0..3 {
            for k in FROM..TO {
                tile[j][k] = I::Eight::load(rows[j].add((o * s + k - 1) * c)).mul_add(g, tile[j][k]);
            }
        }
    }
}

/// The depthwise convolution as an op: inputs x and weights (27 C values in PyTorch's order).
pub struct DepthwiseOp {
    /// Stride over depth, rows and columns alike.
    pub stride: usize,
}

impl Op for DepthwiseOp {
    fn name(&self) -> &'static str {
        "depthwise convolution"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0, 1])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        from_tensor(inputs[0].shape.c, self.stride, inputs[1])?.forward(cpu, inputs[0])
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, weights) = (saved.input(0)?, saved.input(1)?);
        let op = from_tensor(x.shape.c, self.stride, weights)?;
        let dx = wanted[0].then(|| op.backward_input(cpu, x.shape, &dy)).transpose()?;
        let dw = Tensor::from_slice(weights.shape, &op.backward_weights(cpu, x, &dy)?)?;
        cpu.recycle(dy);
        Ok(vec![dx, Some(dw)])
    }
}

fn from_tensor(channels: usize, stride: usize, weights: &Tensor) -> Result<Depthwise> {
    if weights.data.len() == 27 * channels && channels.is_multiple_of(8) {
        return Ok(Depthwise::new(channels, stride, &weights.data));
    }
    let problem = format!("{} weights for {channels} channels, a multiple of 8", weights.data.len());
    Err(Error::Shape { op: "depthwise convolution", problem })
}

/// A 3x3x3 convolution to one channel as an op: inputs x, weights (27 C values in PyTorch's order) and a bias (one
/// value).
///
/// With one output channel the input's channels are the lanes: a depthwise convolution whose channels are added up. A
/// dense one would fill seven of eight lanes with zeros.
pub struct ToOneChannelOp;

impl Op for ToOneChannelOp {
    fn name(&self) -> &'static str {
        "convolution to one channel"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0, 1])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let c = inputs[0].shape.c;
        let products = from_tensor(c, 1, inputs[1])?.forward(cpu, inputs[0])?;
        inputs[2].expect_channels("convolution to one channel", 1)?;
        let bias = inputs[2].data[0];
        let mut y = cpu.tensor(products.shape.with_channels(1));
        y.data.par_chunks_mut(SHARE).zip(products.data.par_chunks(SHARE * c)).for_each(|(y, products)| {
            for (y, products) in y.iter_mut().zip(products.chunks_exact(c)) {
                *y = bias + products.iter().sum::<f32>();
            }
        });
        cpu.recycle(products);
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, weights) = (saved.input(0)?, saved.input(1)?);
        let c = x.shape.c;
        let op = from_tensor(c, 1, weights)?;
        dy.expect_shape("convolution to one channel", "output gradient", x.shape.with_channels(1))?;
        let mut spread = cpu.tensor(x.shape);
        spread.data.par_chunks_mut(SHARE * c).zip(dy.data.par_chunks(SHARE)).for_each(|(spread, dy)| {
            for (spread, &dy) in spread.chunks_exact_mut(c).zip(dy) {
                spread.fill(dy);
            }
        });
        let dx = wanted[0].then(|| op.backward_input(cpu, x.shape, &spread)).transpose()?;
        let dw = Tensor::from_slice(weights.shape, &op.backward_weights(cpu, x, &spread)?)?;
        cpu.recycle(spread);
        let db = Tensor::from_slice(saved.shape(2), &[channel_sums(&dy.data, 1)[0] as f32])?;
        cpu.recycle(dy);
        Ok(vec![dx, Some(dw), Some(db)])
    }
}
