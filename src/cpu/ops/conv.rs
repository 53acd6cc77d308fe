//! Dense convolution in 2 and 3 dimensions, direct, with bias, residual and ReLU in its epilogue.
//!
//! `y[o] = relu(bias[o] + residual[o] + sum over taps and input channels of w x)`, zero padding of half the kernel.
//! x [D, H, W, CI], y [ceil(D/s), ceil(H/s), ceil(W/s), CO].
//!
//! A row of output pixels is cut into register tiles of T pixels times NV vectors of output channels. Channels-last
//! makes the taps of one kernel row contiguous (KW * CI values), so the inner loop is: load NV weight vectors,
//! broadcast one value of each pixel, T * NV multiply-adds. Weights are [KD, KH, KW, CI, CO]. The tile is chosen so
//! that accumulators fill the register file; at T * NV >= 8 the loop is bound by multiply-adds, not by latency.
//! Only the first and last pixels of a row can see the padding; their inputs are staged into a small zeroed patch,
//! so that the inner loop never tests a border.

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::simd::{Isa, Kernel, Level, Vector, dispatch};
use crate::error::{Error, Result};
use crate::host::trace::span_of;
use crate::net::layers::Activation;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Output pixels at each end of a row that are computed from the staged patch.
const EDGE: usize = 4;
/// More than the kernel rows of any layer (5x5: 5, 3x3x3: 9).
const MAX_ROWS: usize = 25;
/// More than the groups of 8 output channels of any layer (128 / 8).
const MAX_GROUPS: usize = 32;

/// A convolution's parameters, ready for the CPU.
pub struct Conv {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Kernel size over depth, rows and columns; odd.
    pub kernel: [usize; 3],
    /// Stride over depth, rows and columns.
    pub stride: [usize; 3],
    /// Whether ReLU follows.
    pub relu: bool,
    /// Zeros before the first plane, row and column: half the kernel but for the parts of a strided convolution's
    /// transpose ([`crate::cpu::ops::conv_backward`]).
    pad: [usize; 3],
    weights: Buffer,
    bias: Buffer,
    /// Output channels rounded up to whole groups of 8.
    padded: usize,
}

impl Conv {
    /// From weights in PyTorch's order [CO, CI, KD, KH, KW] and one bias an output channel.
    ///
    /// # Panics
    /// Where the lengths do not fit; checkpoints are checked before ([`crate::net::weights`]).
    pub fn new(
        (input, output): (usize, usize),
        kernel: [usize; 3],
        stride: [usize; 3],
        weights: &[f32],
        bias: &[f32],
        activation: Activation,
    ) -> Self {
        let relu = activation.is_relu();
        let taps: usize = kernel.iter().product();
        assert_eq!(weights.len(), output * input * taps, "convolution weights");
        assert_eq!(bias.len(), output, "convolution bias");
        assert!(kernel[0] * kernel[1] <= MAX_ROWS && output <= 8 * MAX_GROUPS, "convolution too large");
        let padded = output.next_multiple_of(8);
        let mut packed = Buffer::zeros(taps * input * padded);
        // Sixteen outputs at a time fill whole cache lines of what is written.
        for block in (0..output).step_by(16) {
            for i in 0..input {
                for o in block..output.min(block + 16) {
                    let own = &weights[(o * input + i) * taps..][..taps];
                    for (t, &w) in own.iter().enumerate() {
                        packed[(t * input + i) * padded + o] = w;
                    }
                }
            }
        }
        let mut padded_bias = Buffer::zeros(padded);
        padded_bias[..output].copy_from_slice(bias);
        let pad = kernel.map(|k| k / 2);
        Self { input, output, kernel, stride, relu, pad, weights: packed, bias: padded_bias, padded }
    }

    /// Part of a convolution's transpose, without bias and of stride 1: weights [KD, KH, KW, CI, CO rounded up to
    /// groups of 8], and the zeros before the first plane, row and column.
    pub(crate) fn transposed(
        (input, output): (usize, usize),
        kernel: [usize; 3],
        pad: [usize; 3],
        weights: Buffer,
    ) -> Self {
        let padded = output.next_multiple_of(8);
        assert_eq!(weights.len(), kernel.iter().product::<usize>() * input * padded, "convolution weights");
        let bias = Buffer::zeros(padded);
        Self { input, output, kernel, stride: [1; 3], relu: false, pad, weights, bias, padded }
    }

    /// Two convolutions of the same input as one: the output channels of `a`, then those of `b`.
    pub fn joined(a: &Self, b: &Self) -> Self {
        assert!(a.input == b.input && a.kernel == b.kernel && a.stride == b.stride && a.relu == b.relu);
        assert!(a.output == a.padded && b.output == b.padded, "joined channels come in groups of 8");
        let padded = a.padded + b.padded;
        let join = |a_values: &[f32], b_values: &[f32]| {
            let rows = a_values.chunks_exact(a.padded).zip(b_values.chunks_exact(b.padded));
            Buffer::from_slice(&rows.flat_map(|(x, y)| x.iter().chain(y).copied()).collect::<Vec<_>>())
        };
        Self { output: padded, weights: join(&a.weights, &b.weights), bias: join(&a.bias, &b.bias), padded, ..*a }
    }

    /// The output's shape for an input's.
    pub fn output_shape(&self, x: Shape) -> Shape {
        let [sd, sh, sw] = self.stride;
        Shape { d: x.d.div_ceil(sd), h: x.h.div_ceil(sh), w: x.w.div_ceil(sw), c: self.output }
    }

    /// Multiply-adds times two for an input of this shape (padding counted as work).
    pub fn flops(&self, x: Shape) -> u64 {
        let taps: usize = self.kernel.iter().product();
        2 * self.output_shape(x).positions() as u64 * (taps * self.input * self.output) as u64
    }

    /// The weights of kernel row (`kd`, `kh`): [KW, CI, CO].
    pub(crate) fn row_weights(&self, kd: usize, kh: usize) -> &[f32] {
        let len = self.kernel[2] * self.input * self.padded;
        &self.weights[(kd * self.kernel[1] + kh) * len..][..len]
    }

    /// y = relu?(w * x + bias + residual).
    ///
    /// # Errors
    /// [`Error::Shape`] where x has other channels or is empty, where the residual has another shape, or where there is
    /// a residual and the output channels are no multiple of 8 (it is added a vector at a time).
    pub fn forward(&self, cpu: &Cpu, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        x.expect_channels("convolution", self.input)?;
        self.forward_to(cpu, x, residual, self.output_shape(x.shape))
    }

    /// As [`Conv::forward`] for an output of any extent: what lies outside the input is zero.
    pub(crate) fn forward_to(&self, cpu: &Cpu, x: &Tensor, residual: Option<&Tensor>, shape: Shape) -> Result<Tensor> {
        let mut y = cpu.tensor(shape);
        self.forward_into(cpu, x, residual, &mut y, ([0; 3], [1; 3]))?;
        Ok(y)
    }

    /// As [`Conv::forward_to`], to every step-th position of `y` from the first one on, along each axis.
    pub(crate) fn forward_into(
        &self,
        cpu: &Cpu,
        x: &Tensor,
        residual: Option<&Tensor>,
        y: &mut Tensor,
        (first, step): ([usize; 3], [usize; 3]),
    ) -> Result<()> {
        let _span = span_of("conv", || {
            format!(
                "{} -> {}, kernel {:?}, stride {:?}, of {}",
                self.input, self.output, self.kernel, self.stride, x.shape
            )
        });
        let whole = y.shape;
        let count = |axis: usize, n: usize| (n - first[axis].min(n)).div_ceil(step[axis]);
        let shape = Shape { d: count(0, whole.d), h: count(1, whole.h), w: count(2, whole.w), c: whole.c };
        y.expect_channels("convolution", self.output)?;
        if let Some(residual) = residual {
            residual.expect_shape("convolution", "residual", shape)?;
            if self.output != self.padded {
                let problem = format!("residual {shape}; with a residual C must be a multiple of 8");
                return Err(Error::Shape { op: "convolution", problem });
            }
        }
        if x.shape.is_empty() {
            return Err(Error::Shape { op: "convolution", problem: format!("empty input {}", x.shape) });
        }
        if shape.is_empty() {
            return Ok(());
        }
        let row_len = shape.w * shape.c;
        // Rows of a few microseconds are handed out together.
        let row_flops = self.flops(x.shape) / (shape.d * shape.h) as u64;
        let rows_a_task = (200_000 / row_flops.max(1)).clamp(1, 16) as usize;
        let patch = self.kernel[0] * self.kernel[1] * ((EDGE - 1) * self.stride[2] + self.kernel[2]) * self.input;
        let tail = if self.output == self.padded { 0 } else { shape.w * self.padded };
        let out = Shared(y.data.as_mut_ptr());
        (0..shape.d * shape.h).into_par_iter().with_min_len(rows_a_task).for_each_init(
            || (Buffer::zeros(patch), Buffer::zeros(tail)),
            |(patch, tail), row| {
                // All of it, which may be shared, rather than the pointer in it, which may not.
                let out: Shared = out;
                let residual = residual.map(|r| &r.data[row * row_len..][..row_len]);
                let at = (row / shape.h, row % shape.h);
                let line = (first[0] + at.0 * step[0]) * whole.h + first[1] + at.1 * step[1];
                // SAFETY: the row's positions lie within y, and no other row has them.
                let to = unsafe { out.0.add((line * whole.w + first[2]) * whole.c) };
                let to = RowOut { to, width: shape.w, stride: step[2] * whole.c };
                self.row(cpu.level, x, at, to, residual, patch, tail);
            },
        );
        Ok(())
    }

    /// As [`Conv::forward`] without residual, for an input that is not needed any more.
    ///
    /// # Errors
    /// As [`Conv::forward`].
    pub fn apply(&self, cpu: &Cpu, x: Tensor) -> Result<Tensor> {
        let y = self.forward(cpu, &x, None)?;
        cpu.recycle(x);
        Ok(y)
    }

    /// One row of the output, at depth plane and row `at`.
    #[allow(clippy::too_many_arguments)]
    fn row(
        &self,
        level: Level,
        x: &Tensor,
        at: (usize, usize),
        y: RowOut,
        residual: Option<&[f32]>,
        patch: &mut [f32],
        tail: &mut [f32],
    ) {
        let [kd, kh, kw] = self.kernel;
        let [sd, sh, sw] = self.stride;
        let (width, ci) = (x.shape.w, self.input);
        let mut rows = [Tap::NONE; MAX_ROWS];
        let mut count = 0;
        for i in 0..kd {
            let Some(z) = (at.0 * sd + i).checked_sub(self.pad[0]).filter(|&z| z < x.shape.d) else {
                continue;
            };
            for j in 0..kh {
                let Some(r) = (at.1 * sh + j).checked_sub(self.pad[1]).filter(|&r| r < x.shape.h) else {
                    continue;
                };
                let x_row = &x.data[(z * x.shape.h + r) * width * ci..][..width * ci];
                rows[count] = Tap { x: x_row.as_ptr(), w: self.row_weights(i, j).as_ptr() };
                count += 1;
            }
        }
        let rows = &rows[..count];
        let out_width = y.width;
        let pad = self.pad[2];
        // Output pixels [first, last) see no padding.
        let first = pad.div_ceil(sw);
        let last = if width + pad >= kw { ((width + pad - kw) / sw + 1).max(first) } else { first };
        let left = first.next_multiple_of(EDGE).min(out_width);
        let right = out_width.saturating_sub(last).next_multiple_of(EDGE);
        let right_start = out_width.saturating_sub(right).max(left);
        let (y_ptr, out_stride) = if tail.is_empty() { (y.to, y.stride) } else { (tail.as_mut_ptr(), self.padded) };
        let strip = |rows: &[Tap], from: usize, count: usize| {
            let mut outs = [std::ptr::null_mut(); MAX_GROUPS];
            for (g, out) in outs.iter_mut().enumerate().take(self.padded / 8) {
                // SAFETY: within the row of `padded` channels a pixel.
                *out = unsafe { y_ptr.add(from * out_stride + 8 * g) };
            }
            let residual = residual.map_or(std::ptr::null(), |r| r[from * self.output..].as_ptr());
            let strip = Strip { conv: self, rows, count, outs: &outs, out_stride, residual };
            // SAFETY: `level` is available; each row holds (count - 1) * stride + KW pixels from its pointer on,
            // by the choice of first and last or because it was staged; outs hold `count` pixels.
            unsafe { dispatch(level, strip) }
        };
        for (from, to) in [(0, left), (right_start, out_width)] {
            for start in (from..to).step_by(EDGE) {
                let n = EDGE.min(to - start);
                let span = (n - 1) * sw + kw;
                let mut staged = [Tap::NONE; MAX_ROWS];
                for ((row, tap), patch) in rows.iter().zip(&mut staged).zip(patch.chunks_exact_mut(span * ci)) {
                    let origin = (start * sw) as isize - pad as isize;
                    let low = (-origin).clamp(0, span as isize) as usize;
                    let high = (width as isize - origin).clamp(low as isize, span as isize) as usize;
                    patch[..low * ci].fill(0.0);
                    patch[high * ci..].fill(0.0);
                    if low < high {
                        // SAFETY: pixels origin + low .. origin + high lie within the row.
                        let source = unsafe {
                            let pointer = row.x.offset((origin + low as isize) * ci as isize);
                            std::slice::from_raw_parts(pointer, (high - low) * ci)
                        };
                        patch[low * ci..high * ci].copy_from_slice(source);
                    }
                    *tap = Tap { x: patch.as_ptr(), w: row.w };
                }
                strip(&staged[..count], start, n);
            }
        }
        if left < right_start {
            let mut inner = [Tap::NONE; MAX_ROWS];
            for (row, tap) in rows.iter().zip(&mut inner) {
                // SAFETY: left * sw >= pad, and the pixel lies within the row.
                *tap = Tap { x: unsafe { row.x.add((left * sw - pad) * ci) }, w: row.w };
            }
            strip(&inner[..count], left, right_start - left);
        }
        if !tail.is_empty() {
            for (i, padded) in tail.chunks_exact(self.padded).enumerate() {
                // SAFETY: pixel i lies within the row of the output.
                let out = unsafe { std::slice::from_raw_parts_mut(y.to.add(i * y.stride), self.output) };
                out.copy_from_slice(&padded[..self.output]);
            }
        }
    }
}

/// Where a row of the output goes: `width` pixels, `stride` values apart, that nobody else writes.
struct RowOut {
    to: *mut f32,
    width: usize,
    stride: usize,
}

/// One kernel row: the input at its first tap of the first output pixel, and its weights.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub x: *const f32,
    pub w: *const f32,
}

impl Tap {
    pub(crate) const NONE: Self = Self { x: std::ptr::null(), w: std::ptr::null() };
}

/// Output pixels side by side, all of whose inputs can be read.
///
/// Safety conditions of running it: behind each `rows[i].x` lie `((count - 1) * stride + KW) * CI` values, behind each
/// `rows[i].w` KW * CI * CO of them; `outs[g]` takes 8 values at each of `count` multiples of `out_stride`, and where
/// a vector has 16 lanes `outs[2 g + 1]` is `outs[2 g] + 8`.
pub(crate) struct Strip<'a> {
    pub conv: &'a Conv,
    pub rows: &'a [Tap],
    pub count: usize,
    /// Where the g-th group of 8 output channels of the first pixel goes.
    pub outs: &'a [*mut f32],
    /// From one pixel's output to the next one's.
    pub out_stride: usize,
    /// Null, or values to add, laid out [pixel, CO] with CO a multiple of 8.
    pub residual: *const f32,
}

impl Kernel for Strip<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let mut c = 0;
        // SAFETY: as promised by whoever runs the kernel; blocks partition the padded channels.
        unsafe {
            while c < self.conv.padded {
                let left = self.conv.padded - c;
                if I::REGISTERS >= 32 {
                    if left >= 48 && left % 32 == 16 {
                        self.block::<I::Wide, 3, 8>(c);
                        c += 48;
                    } else if left >= 32 {
                        self.block::<I::Wide, 2, 12>(c);
                        c += 32;
                    } else if left >= 16 {
                        self.block::<I::Wide, 1, 16>(c);
                        c += 16;
                    } else {
                        self.block::<I::Eight, 1, 16>(c);
                        c += 8;
                    }
                } else if I::REGISTERS >= 16 {
                    if left >= 16 {
                        self.block::<I::Eight, 2, 6>(c);
                        c += 16;
                    } else {
                        self.block::<I::Eight, 1, 10>(c);
                        c += 8;
                    }
                } else {
                    self.block::<I::Eight, 1, 4>(c);
                    c += 8;
                }
            }
        }
    }
}

impl Strip<'_> {
    /// All pixels of the strip, NV vectors of channels from `c` on.
    #[inline(always)]
    unsafe fn block<V: Vector, const NV: usize, const T: usize>(&self, c: usize) {
        let pixel = self.conv.stride[2] * self.conv.input;
        // SAFETY: tiles of T pixels are only made of strips of at least T pixels.
        unsafe {
            if self.count >= T {
                // The distance between pixels becomes a constant of the addressing mode where it is a usual one.
                match pixel {
                    8 => self.tiles::<V, NV, T, 8>(c, pixel),
                    16 => self.tiles::<V, NV, T, 16>(c, pixel),
                    32 => self.tiles::<V, NV, T, 32>(c, pixel),
                    64 => self.tiles::<V, NV, T, 64>(c, pixel),
                    _ => self.tiles::<V, NV, T, 0>(c, pixel),
                }
            } else if self.count >= 4 {
                self.tiles::<V, NV, 4, 0>(c, pixel);
            } else {
                self.tiles::<V, NV, 1, 0>(c, pixel);
            }
        }
    }

    /// The last tile overlaps the one before it where T does not divide the strip.
    #[inline(always)]
    unsafe fn tiles<V: Vector, const NV: usize, const T: usize, const PIXEL: usize>(&self, c: usize, pixel: usize) {
        let mut start = 0;
        while start < self.count {
            // SAFETY: the tile's start + T <= count.
            unsafe { self.tile::<V, NV, T, PIXEL>(c, start.min(self.count - T), pixel) };
            start += T;
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector, const NV: usize, const T: usize, const PIXEL: usize>(
        &self,
        c: usize,
        start: usize,
        pixel: usize,
    ) {
        let pixel = if PIXEL == 0 { pixel } else { PIXEL };
        let conv = self.conv;
        let n = conv.kernel[2] * conv.input;
        // SAFETY: see the struct's conditions; start + T <= count.
        unsafe {
            let mut acc = [[V::splat(0.0); NV]; T];
            for v in 0..NV {
                let bias = V::load(conv.bias.as_ptr().add(c + v * V::LANES));
                for a in &mut acc {
                    a[v] = bias;
                }
            }
            for row in self.rows {
                let mut x = row.x.add(start * pixel);
                let mut w = row.w.add(c);
                for _ in 0..n {
                    let mut wv = [V::splat(0.0); NV];
                    for v in 0..NV {
                        wv[v] = V::load(w.add(v * V::LANES));
                    }
                    for t in 0..T {
                        let b = V::splat(*x.add(t * pixel));
                        for v in 0..NV {
                            acc[t][v] = b.mul_add(wv[v], acc[t][v]);
                        }
                    }
                    x = x.add(1);
                    w = w.add(conv.padded);
                }
            }
            for t in 0..T {
                for v in 0..NV {
                    let channel = c + v * V::LANES;
                    let mut sum = acc[t][v];
                    if !self.residual.is_null() {
                        sum = sum.add(V::load(self.residual.add((start + t) * conv.output + channel)));
                    }
                    if conv.relu {
                        sum = sum.max(V::splat(0.0));
                    }
                    sum.store(self.outs[channel / 8].add((start + t) * self.out_stride));
                }
            }
        }
    }
}
