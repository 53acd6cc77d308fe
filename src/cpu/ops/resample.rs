//! Linear upsampling over all spatial axes, read at output index / factor and clamped to the last sample.
//!
//! The reference's `upsample`: output index o reads between floor(o / factor) and the next sample, so coarse sample i
//! lies exactly on fine sample i * factor (pixel centres are integers). Fused with what always follows it: the
//! addition of a skip connection, and ReLU where asked.
//!
//! Backward, each coarse row gathers the fine rows that read it, first over planes and rows, then along itself.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::pointwise::through_relu;
use crate::cpu::simd::{Isa, Kernel, Level, Vector, dispatch};
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::host::trace::span_of;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Where output index `o` reads: the two samples and the weight of the second.
#[inline(always)]
pub fn linear_tap(o: usize, factor: usize, samples: usize) -> (usize, usize, f32) {
    let low = (o / factor).min(samples - 1);
    let high = (low + 1).min(samples - 1);
    // Past the last sample both taps are that sample and the weight does not matter.
    (low, high, ((o as f32 / factor as f32) - low as f32).min(1.0))
}

/// `skip + upsample(x)`, in place over `skip`, whose extent says how far to read.
///
/// # Errors
/// [`Error::Shape`] where the channels differ or x is empty.
pub fn upsample_add(cpu: &Cpu, x: &Tensor, factor: usize, mut skip: Tensor) -> Result<Tensor> {
    let _span = span_of("upsample", || x.shape.to_string());
    x.expect_channels("upsample", skip.shape.c)?;
    into(cpu.level, x, factor, &mut skip, After { skip: None, in_place: true, relu: false })?;
    Ok(skip)
}

/// `upsample(x)` over `size`'s extent, with x's channels.
///
/// # Errors
/// [`Error::Shape`] where x is empty.
pub fn upsample(cpu: &Cpu, x: &Tensor, factor: usize, size: Shape) -> Result<Tensor> {
    let _span = span_of("upsample", || x.shape.to_string());
    let mut y = cpu.tensor(size.with_channels(x.shape.c));
    into(cpu.level, x, factor, &mut y, After { skip: None, in_place: false, relu: false })?;
    Ok(y)
}

/// What follows the interpolation.
struct After<'a> {
    /// Added to it: another tensor of the output's shape,
    skip: Option<&'a Tensor>,
    /// or what the output held before.
    in_place: bool,
    relu: bool,
}

/// Where a volume keeps its depth, the planes are as good as a batch of images: each is upsampled by itself. (A volume
/// of one plane is the same either way.)
pub(crate) fn depth_factor(samples: usize, size: usize, factor: usize) -> usize {
    if samples == size { 1 } else { factor }
}

fn into(level: Level, x: &Tensor, factor: usize, y: &mut Tensor, after: After) -> Result<()> {
    if x.shape.is_empty() || y.shape.is_empty() {
        return Err(Error::Shape { op: "upsample", problem: format!("{} to {}", x.shape, y.shape) });
    }
    let shape = y.shape;
    let factors = (depth_factor(x.shape.d, shape.d, factor), factor);
    let len = x.shape.w * x.shape.c;
    y.data.par_chunks_mut(shape.w * shape.c).enumerate().for_each_init(
        || Buffer::zeros(len),
        |blend, (row, y)| {
            let rows = blend_rows(x, factors, row / shape.h, row % shape.h);
            // SAFETY: the level is available; the four rows, `blend` and y have the lengths that the kernels need.
            unsafe {
                dispatch(level, Blend { rows, out: blend });
                let skip = match after.skip {
                    Some(skip) => Skip::Row(&skip.data[row * y.len()..][..y.len()]),
                    None if after.in_place => Skip::InPlace,
                    None => Skip::None,
                };
                dispatch(level, Expand { x: blend, channels: shape.c, factor, skip, relu: after.relu, y });
            }
        },
    );
    Ok(())
}

/// The gradient in the x of [`upsample`], of shape `x`, from the gradient `dy` in its result. (That of
/// [`upsample_add`]'s skip is dy itself.)
///
/// # Errors
/// [`Error::Shape`] where the channels differ or x or dy is empty.
pub fn upsample_backward(cpu: &Cpu, dy: &Tensor, factor: usize, x: Shape) -> Result<Tensor> {
    dy.expect_channels("upsample gradient", x.c)?;
    if x.is_empty() || dy.shape.is_empty() {
        return Err(Error::Shape { op: "upsample gradient", problem: format!("{} to {x}", dy.shape) });
    }
    let mut dx = cpu.tensor(x);
    let size = dy.shape;
    let len = size.w * size.c;
    let columns: Vec<Vec<_>> = (0..x.w).map(|i| readers(i, factor, x.w, size.w).collect()).collect();
    dx.data.par_chunks_mut(x.w * x.c).enumerate().for_each_init(
        || Buffer::zeros(len),
        |sums, (row, dx)| {
            let mut rows = Vec::new();
            for (plane, wz) in readers(row / x.h, depth_factor(x.d, size.d, factor), x.d, size.d) {
                for (row, wr) in readers(row % x.h, factor, x.h, size.h) {
                    rows.push((&dy.data[(plane * size.h + row) * len..][..len], wz * wr));
                }
            }
            // SAFETY: the level is available; rows and `sums` have the same length, and columns lie within it.
            unsafe { dispatch(cpu.level, Gather { rows: &rows, sums, columns: &columns, channels: x.c, dx }) };
        },
    );
    Ok(dx)
}

/// The outputs out of `size` that read sample `i`, each with the sample's weight in it: [`linear_tap`] the other way
/// round.
fn readers(i: usize, factor: usize, samples: usize, size: usize) -> impl Iterator<Item = (usize, f32)> {
    let first = if i == 0 { 0 } else { (i - 1) * factor + 1 };
    let end = if i + 1 == samples { size } else { size.min((i + 1) * factor) };
    (first..end).map(move |o| {
        let (low, high, w) = linear_tap(o, factor, samples);
        (
            o,
            if low == high {
                1.0
            } else if low == i {
                1.0 - w
            } else {
                w
            },
        )
    })
}

/// sums [W, C] = the weighted sum of any number of rows [W, C]; dx [W', C] = that of the sums' columns.
struct Gather<'a> {
    rows: &'a [(&'a [f32], f32)],
    sums: &'a mut [f32],
    columns: &'a [Vec<(usize, f32)>],
    channels: usize,
    dx: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { rows, sums, columns, channels: c, dx } = self;
        let n = sums.len();
        let whole = n - n % I::Wide::LANES;
        for i in (0..whole).step_by(I::Wide::LANES) {
            // SAFETY: i + LANES <= n, the length of every row.
            unsafe {
                let mut sum = I::Wide::splat(0.0);
                for &(row, w) in rows {
                    sum = I::Wide::load(row.as_ptr().add(i)).mul_add(I::Wide::splat(w), sum);
                }
                sum.store(sums.as_mut_ptr().add(i));
            }
        }
        for i in whole..n {
            sums[i] = rows.iter().map(|(row, w)| row[i] * w).sum();
        }
        let whole = c - c % 8;
        for (column, dx) in columns.iter().zip(dx.chunks_exact_mut(c)) {
            for i in (0..whole).step_by(8) {
                // SAFETY: i + 8 <= C; the column's readers o lie within the sums.
                unsafe {
                    let mut sum = I::Eight::splat(0.0);
                    for &(o, w) in column {
                        sum = I::Eight::load(sums.as_ptr().add(o * c + i)).mul_add(I::Eight::splat(w), sum);
                    }
                    sum.store(dx.as_mut_ptr().add(i));
                }
            }
            for i in whole..c {
                dx[i] = column.iter().map(|&(o, w)| sums[o * c + i] * w).sum();
            }
        }
    }
}

/// The four rows of x around output plane `z` and row `r`, with their weights; `factors` over planes and rows.
pub(crate) fn blend_rows(x: &Tensor, factors: (usize, usize), z: usize, r: usize) -> [(&[f32], f32); 4] {
    let (z0, z1, wz) = linear_tap(z, factors.0, x.shape.d);
    let (r0, r1, wr) = linear_tap(r, factors.1, x.shape.h);
    let len = x.shape.w * x.shape.c;
    let row = |z: usize, r: usize| &x.data[(z * x.shape.h + r) * len..][..len];
    [
        (row(z0, r0), (1.0 - wz) * (1.0 - wr)),
        (row(z0, r1), (1.0 - wz) * wr),
        (row(z1, r0), wz * (1.0 - wr)),
        (row(z1, r1), wz * wr),
    ]
}

/// out = the weighted sum of four rows; all have the same length.
pub(crate) struct Blend<'a> {
    pub rows: [(&'a [f32], f32); 4],
    pub out: &'a mut [f32],
}

impl Kernel for Blend<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = self.out.len();
        let [a, b, c, d] = self.rows.map(|(row, _)| &row[..n]);
        let weights = self.rows.map(|(_, weight)| weight);
        let whole = n - n % I::Wide::LANES;
        for i in (0..whole).step_by(I::Wide::LANES) {
            // SAFETY: i + LANES <= n.
            unsafe {
                let [wa, wb, wc, wd] = weights.map(|w| I::Wide::splat(w));
                let sum = I::Wide::load(a.as_ptr().add(i)).mul(wa);
                let sum = I::Wide::load(b.as_ptr().add(i)).mul_add(wb, sum);
                let sum = I::Wide::load(c.as_ptr().add(i)).mul_add(wc, sum);
                I::Wide::load(d.as_ptr().add(i)).mul_add(wd, sum).store(self.out.as_mut_ptr().add(i));
            }
        }
        let [wa, wb, wc, wd] = weights;
        for i in whole..n {
            self.out[i] = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
        }
    }
}

/// What is added to an interpolated row.
#[derive(Clone, Copy)]
pub(crate) enum Skip<'a> {
    None,
    /// What the output held before.
    InPlace,
    /// As many values as the output.
    Row(&'a [f32]),
}

/// y [W, C] = relu?(x [W', C] interpolated along the row + skip [W, C]).
pub(crate) struct Expand<'a> {
    pub x: &'a [f32],
    pub channels: usize,
    pub factor: usize,
    pub skip: Skip<'a>,
    pub relu: bool,
    pub y: &'a mut [f32],
}

impl Kernel for Expand<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { x, channels: c, factor, skip, relu, y } = self;
        let samples = x.len() / c;
        let n = y.len() / c * c;
        let out = y.as_mut_ptr();
        let skip: *const f32 = match skip {
            Skip::None => std::ptr::null(),
            Skip::InPlace => out,
            Skip::Row(row) => row[..n].as_ptr(),
        };
        for o in 0..n / c {
            let (low, high, w) = linear_tap(o, factor, samples);
            let (a, b) = (&x[low * c..][..c], &x[high * c..][..c]);
            let whole = c - c % 8;
            // SAFETY: both parts stay within the c values of pixel o, in x, y and skip.
            unsafe {
                for i in (0..whole).step_by(8) {
                    let a = I::Eight::load(a.as_ptr().add(i)).mul(I::Eight::splat(1.0 - w));
                    let mut v = I::Eight::load(b.as_ptr().add(i)).mul_add(I::Eight::splat(w), a);
                    if !skip.is_null() {
                        v = v.add(I::Eight::load(skip.add(o * c + i)));
                    }
                    if relu {
                        v = v.max(I::Eight::splat(0.0));
                    }
                    v.store(out.add(o * c + i));
                }
                for i in whole..c {
                    let mut v = a[i] * (1.0 - w) + b[i] * w;
                    if !skip.is_null() {
                        v += *skip.add(o * c + i);
                    }
                    out.add(o * c + i).write(if relu { v.max(0.0) } else { v });
                }
            }
        }
    }
}

/// Upsampling as an op: inputs x and, with `skip`, what is added to it; `size` is the result's extent.
pub struct UpsampleOp {
    /// Output index / factor is read.
    pub factor: usize,
    /// The result's extent, with x's channels.
    pub size: Shape,
    /// Whether there is a second input.
    pub skip: bool,
    /// Whether ReLU follows.
    pub relu: bool,
}

impl Op for UpsampleOp {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[], output: self.relu }
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let mut y = cpu.tensor(self.size.with_channels(inputs[0].shape.c));
        if self.skip {
            inputs[1].expect_shape("upsample", "skip", y.shape)?;
        }
        let after = After { skip: self.skip.then(|| inputs[1]), in_place: false, relu: self.relu };
        into(cpu.level, inputs[0], self.factor, &mut y, after)?;
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = if self.relu { through_relu(cpu, saved, dy)? } else { dy };
        let dx = wanted[0].then(|| upsample_backward(cpu, &dy, self.factor, saved.shape(0))).transpose()?;
        if self.skip {
            return Ok(vec![dx, Some(dy)]);
        }
        cpu.recycle(dy);
        Ok(vec![dx])
    }
}
