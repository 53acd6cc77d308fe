//! Gradients of the dense convolution in its input, its weights and its bias.
//!
//! Input: a convolution's transpose. With stride s the input positions fall into s^3 classes by their remainders; the
//! positions of one class see the same taps, at consecutive outputs, so each class is a small convolution of dy with
//! stride 1 (for 3x3x3 and stride 2: eight of 1 to 8 taps, 27 in all, no multiplication by zero) that writes to every
//! s-th position.
//!
//! Weights: `dw[tap, ci, co] = sum over positions of x[s o + tap - pad, ci] dy[o, co]`. For one kernel row the taps
//! are contiguous in x (KW * CI values), so a block of Q of them times NV vectors of output channels stays in
//! registers while a row of positions goes by. Partial sums over a number of parts that depends on the shapes alone,
//! added in order: the same bits on any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::pointwise::through_relu;
use crate::cpu::simd::{Isa, Kernel, Level, Vector, dispatch};
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Parts of the output rows whose weight gradients are summed apart.
const PARTS: usize = 16;
/// Positions that are worth a part of its own.
const PART: usize = 128;

/// A convolution as training sees it: its geometry, without weights. Padding is half the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Input and output channels.
    pub channels: (usize, usize),
    /// Kernel size over depth, rows and columns; odd.
    pub kernel: [usize; 3],
    /// Stride over depth, rows and columns.
    pub stride: [usize; 3],
}

impl ConvGeometry {
    /// Number of weights: CO CI KD KH KW.
    pub fn weights(&self) -> usize {
        self.channels.0 * self.channels.1 * self.kernel.iter().product::<usize>()
    }

    /// The output's shape for an input's.
    pub fn output_shape(&self, x: Shape) -> Shape {
        let [sd, sh, sw] = self.stride;
        Shape { d: x.d.div_ceil(sd), h: x.h.div_ceil(sh), w: x.w.div_ceil(sw), c: self.channels.1 }
    }

    fn check(&self, x: Shape, dy: &Tensor, weights: &[f32]) -> Result<()> {
        dy.expect_shape("convolution gradient", "output gradient", self.output_shape(x))?;
        if x.c == self.channels.0 && !x.is_empty() && weights.len() == self.weights() {
            return Ok(());
        }
        let problem = format!("input {x} and {} weights for {self:?}", weights.len());
        Err(Error::Shape { op: "convolution gradient", problem })
    }

    /// The gradient in the input of shape `x`, from weights in PyTorch's order [CO, CI, KD, KH, KW].
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit together.
    pub fn backward_input(&self, cpu: &Cpu, weights: &[f32], x: Shape, dy: &Tensor) -> Result<Tensor> {
        self.check(x, dy, weights)?;
        let mut dx = cpu.tensor(x);
        if (0..3).any(|axis| self.kernel[axis] < self.stride[axis]) {
            // Some positions are read by no tap.
            dx.data.par_chunks_mut(x.w * x.c).for_each(|row| row.fill(0.0));
        }
        for rd in 0..self.stride[0] {
            for rh in 0..self.stride[1] {
                for rw in 0..self.stride[2] {
                    let remainder = [rd, rh, rw];
                    if let Some(conv) = self.class(weights, remainder) {
                        conv.forward_into(cpu, dy, None, &mut dx, (remainder, self.stride))?;
                    }
                }
            }
        }
        Ok(dx)
    }

    /// The convolution of dy that gives the input positions with these remainders; `None` where no tap reaches them.
    fn class(&self, weights: &[f32], remainder: [usize; 3]) -> Option<Conv> {
        let (ci, co) = self.channels;
        // Input s j + r is read by output j + (r + pad - k) / s through tap k; outputs in increasing order.
        let axis = |a: usize| -> Vec<(usize, isize)> {
            let at = |k: usize| (remainder[a] + self.kernel[a] / 2) as isize - k as isize;
            let s = self.stride[a] as isize;
            let taps = (0..self.kernel[a]).rev().filter(|&k| at(k) % s == 0);
            taps.map(|k| (k, at(k) / s)).collect()
        };
        let taps = [axis(0), axis(1), axis(2)];
        if taps.iter().any(Vec::is_empty) {
            return None;
        }
        let kernel = [taps[0].len(), taps[1].len(), taps[2].len()];
        let pad = [0, 1, 2].map(|a| (-taps[a][0].1).max(0) as usize);
        // A class whose first output lies after j (none for odd kernels with half padding) would need a negative pad.
        debug_assert!(taps.iter().all(|t| t[0].1 <= 0));
        let [kd, kh, kw] = self.kernel;
        let padded = ci.next_multiple_of(8);
        let mut packed = Buffer::zeros(kernel.iter().product::<usize>() * co * padded);
        // One output's weights at a time, which fit the cache whatever their order.
        for (o, own) in weights.chunks_exact(ci * kd * kh * kw).enumerate() {
            let mut rows = packed.chunks_exact_mut(padded).skip(o).step_by(co);
            for &(d, _) in &taps[0] {
                for &(h, _) in &taps[1] {
                    for &(w, _) in &taps[2] {
                        let from = own[(d * kh + h) * kw + w..].iter().step_by(kd * kh * kw);
                        rows.next().into_iter().flatten().zip(from).for_each(|(to, &w)| *to = w);
                    }
                }
            }
        }
        Some(Conv::transposed((co, ci), kernel, pad, packed))
    }

    /// The gradients in the weights, in PyTorch's order [CO, CI, KD, KH, KW], and in a bias (CO values).
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit together.
    pub fn backward_weights(&self, cpu: &Cpu, x: &Tensor, dy: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
        let (ci, co) = self.channels;
        x.expect_channels("convolution gradient", ci)?;
        dy.expect_shape("convolution gradient", "output gradient", self.output_shape(x.shape))?;
        let padded = co.next_multiple_of(8);
        let [kd, kh, kw] = self.kernel;
        let (rows, lines) = (dy.shape.d * dy.shape.h, kd * kh);
        // Where positions are few, a part for each of 16 would mostly add up weights: there the kernel's rows are
        // shared out.
        let parts = (dy.shape.positions() / PART).clamp(1, PARTS).min(rows);
        let shared = if parts < PARTS { lines } else { 1 };
        let (sums, biases): (Vec<Buffer>, Vec<Vec<f64>>) = (0..parts * shared)
            .into_par_iter()
            .map(|task| {
                let (part, share) = (task / shared, task % shared);
                let mut work = RowWork::new(self, x, dy, share * lines / shared..(share + 1) * lines / shared);
                let mut bias = vec![0.0; co];
                for row in rows * part / parts..rows * (part + 1) / parts {
                    work.add(cpu.level, row);
                    if share == 0 {
                        add_pixels(&dy.data[row * dy.shape.w * co..][..dy.shape.w * co], &mut bias);
                    }
                }
                (work.sums, bias)
            })
            .unzip();
        // In order of the parts, sixteen outputs at a time: whole cache lines of the sums.
        let taps = lines * kw;
        let mut dw = vec![0.0; self.weights()];
        dw.par_chunks_mut(16 * ci * taps).enumerate().for_each(|(block, dw)| {
            let count = dw.len() / (ci * taps);
            for row in 0..taps * ci {
                let (t, i) = (row / ci, row % ci);
                let share = t / kw * shared / lines;
                let at = (row - share * lines / shared * kw * ci) * padded + 16 * block;
                let mut totals = [0.0f64; 16];
                for part in 0..parts {
                    let sums = &sums[part * shared + share][at..][..count];
                    totals.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
                }
                for (o, &total) in totals[..count].iter().enumerate() {
                    dw[(o * ci + i) * taps + t] = total as f32;
                }
            }
        });
        let bias = |o: usize| biases.iter().map(|b| b[o]).sum::<f64>() as f32;
        Ok((dw, (0..co).map(bias).collect()))
    }
}

/// Adds up a row of pixels, in f32 within it.
fn add_pixels(row: &[f32], totals: &mut [f64]) {
    let mut sums = vec![0.0f32; totals.len()];
    for pixel in row.chunks_exact(sums.len()) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += v);
    }
    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
}

/// One part's running sums and staging memory.
struct RowWork<'a> {
    geometry: &'a ConvGeometry,
    x: &'a Tensor,
    dy: &'a Tensor,
    padded: usize,
    /// Rows of the kernel, counted through its planes.
    lines: Range<usize>,
    /// [lines, KW, CI, CO padded].
    sums: Buffer,
    /// A row of x with the columns' padding, [W + 2 pad, CI].
    staged: Buffer,
    /// A row of dy with padded channels, where they need it.
    widened: Buffer,
}

impl<'a> RowWork<'a> {
    fn new(geometry: &'a ConvGeometry, x: &'a Tensor, dy: &'a Tensor, lines: Range<usize>) -> Self {
        let kw = geometry.kernel[2];
        let (ci, co) = geometry.channels;
        let padded = co.next_multiple_of(8);
        let columns = (dy.shape.w - 1) * geometry.stride[2] + kw;
        Self {
            geometry,
            x,
            dy,
            padded,
            sums: Buffer::zeros(lines.len() * kw * ci * padded),
            lines,
            staged: Buffer::zeros(columns.max(x.shape.w + kw / 2) * ci),
            widened: Buffer::zeros(if padded == co { 0 } else { dy.shape.w * padded }),
        }
    }

    /// Adds the products of one row of dy.
    fn add(&mut self, level: Level, row: usize) {
        let ([kd, kh, kw], [sd, sh, sw]) = (self.geometry.kernel, self.geometry.stride);
        let (ci, co) = self.geometry.channels;
        let (x, width) = (self.x.shape, self.dy.shape.w);
        let mut dy = &self.dy.data[row * width * co..][..width * co];
        if !self.widened.is_empty() {
            for (wide, own) in self.widened.chunks_exact_mut(self.padded).zip(dy.chunks_exact(co)) {
                wide[..co].copy_from_slice(own);
            }
            dy = &self.widened;
        }
        let (z, y) = (row / self.dy.shape.h, row % self.dy.shape.h);
        for (at, line) in self.lines.clone().enumerate() {
            let plane = (z * sd + line / kh).checked_sub(kd / 2).filter(|&plane| plane < x.d);
            let row = (y * sh + line % kh).checked_sub(kh / 2).filter(|&row| row < x.h);
            let (Some(plane), Some(row)) = (plane, row) else { continue };
            let own = &self.x.data[(plane * x.h + row) * x.w * ci..][..x.w * ci];
            // The borders of the staged row stay zero.
            self.staged[kw / 2 * ci..][..own.len()].copy_from_slice(own);
            let n = kw * ci;
            let sums = &mut self.sums[at * n * self.padded..][..n * self.padded];
            let products = Products { x: &self.staged, pixel: sw * ci, n, dy, padded: self.padded, sums };
            // SAFETY: the level is available; the staged row holds (width - 1) * stride + KW pixels.
            unsafe { dispatch(level, products) }
        }
    }
}

/// sums [n, padded] += the sum over pixels p of the outer product of the n values of x from `p * pixel` on and the
/// `padded` values of dy from `p * padded` on.
struct Products<'a> {
    x: &'a [f32],
    pixel: usize,
    n: usize,
    dy: &'a [f32],
    padded: usize,
    sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let width = self.dy.len() / self.padded;
        assert!(self.x.len() >= (width - 1) * self.pixel + self.n && self.sums.len() == self.n * self.padded);
        let mut c = 0;
        // SAFETY: blocks partition the n taps and the padded channels; lengths are checked above.
        unsafe {
            while c < self.padded {
                let left = self.padded - c;
                if I::REGISTERS >= 32 && left >= 32 {
                    self.column::<I::Wide, 2, 12>(c);
                    c += 32;
                } else if I::REGISTERS >= 32 && left >= 16 {
                    self.column::<I::Wide, 1, 24>(c);
                    c += 16;
                } else if I::REGISTERS >= 32 {
                    self.column::<I::Eight, 1, 24>(c);
                    c += 8;
                } else if I::REGISTERS >= 16 {
                    self.column::<I::Eight, 1, 12>(c);
                    c += 8;
                } else {
                    self.column::<I::Eight, 1, 4>(c);
                    c += 8;
                }
            }
        }
    }
}

impl Products<'_> {
    /// NV vectors of output channels from `c` on, all taps in blocks of Q, then 4, then 1.
    #[inline(always)]
    unsafe fn column<V: Vector, const NV: usize, const Q: usize>(&mut self, c: usize) {
        let mut q = 0;
        // SAFETY: q + block <= n.
        unsafe {
            while q + Q <= self.n {
                self.block::<V, NV, Q>(q, c);
                q += Q;
            }
            while q + 4 <= self.n {
                self.block::<V, NV, 4>(q, c);
                q += 4;
            }
            while q < self.n {
                self.block::<V, NV, 1>(q, c);
                q += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector, const NV: usize, const Q: usize>(&mut self, q: usize, c: usize) {
        let width = self.dy.len() / self.padded;
        // SAFETY: the caller keeps q + Q <= n and c + NV * LANES <= padded; `run` checked the lengths.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(q * self.padded + c);
            let mut acc = [[V::splat(0.0); NV]; Q];
            for t in 0..Q {
                for v in 0..NV {
                    acc[t][v] = V::load(sums.add(t * self.padded + v * V::LANES));
                }
            }
            let mut x = self.x.as_ptr().add(q);
            let mut dy = self.dy.as_ptr().add(c);
            for _ in 0..width {
                let mut g = [V::splat(0.0); NV];
                for v in 0..NV {
                    g[v] = V::load(dy.add(v * V::LANES));
                }
                for t in 0..Q {
                    let b = V::splat(*x.add(t));
                    for v in 0..NV {
                        acc[t][v] = b.mul_add(g[v], acc[t][v]);
                    }
                }
                x = x.wrapping_add(self.pixel);
                dy = dy.add(self.padded);
            }
            for t in 0..Q {
                for v in 0..NV {
                    acc[t][v].store(sums.add(t * self.padded + v * V::LANES));
                }
            }
        }
    }
}

/// The convolution as an op: inputs x, weights (CO CI KD KH KW values) and, if there is one, a bias (CO values).
pub struct ConvOp {
    /// Channels, kernel, stride.
    pub geometry: ConvGeometry,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether ReLU follows.
    pub relu: bool,
}

impl Op for ConvOp {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1], output: self.relu }
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let ConvGeometry { channels, kernel, stride } = self.geometry;
        let (weights, zeros) = (&inputs[1].data, vec![0.0; channels.1]);
        let bias = if self.bias { &inputs[2].data[..] } else { &zeros };
        if weights.len() != self.geometry.weights() || bias.len() != channels.1 {
            let problem = format!("{} weights and {} biases for {:?}", weights.len(), bias.len(), self.geometry);
            return Err(Error::Shape { op: "convolution", problem });
        }
        Conv::new(channels, kernel, stride, weights, bias, Activation::relu_if(self.relu)).forward(cpu, inputs[0], None)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, weights) = (saved.input(0)?, saved.input(1)?);
        let dy = if self.relu { through_relu(cpu, saved, dy)? } else { dy };
        let dx = wanted[0].then(|| self.geometry.backward_input(cpu, &weights.data, x.shape, &dy));
        let (dw, db) = self.geometry.backward_weights(cpu, x, &dy)?;
        cpu.recycle(dy);
        let mut parts = vec![dx.transpose()?, Some(Tensor::from_slice(saved.shape(1), &dw)?)];
        if self.bias {
            parts.push(Some(Tensor::from_slice(saved.shape(2), &db)?));
        }
        Ok(parts)
    }
}
