//! The regularizer's last stage fused with the depth regression: no volume of full resolution is written.
//!
//! Skip decoder: `x = relu(upsample(half, 2) + skip)`, `logits = conv3x3x3(x)` to one channel, softmax and expectation.
//! A task takes a band of rows through all planes with a ring of three planes of x, keeps the band's logits (D values
//! a pixel) in the cache and reduces them at once. Trilinear decoder: the logits are upsampled by 8 row by row.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::depth::{Expectation, Regress};
use crate::cpu::ops::resample::{Blend, Expand, Skip, blend_rows, depth_factor};
use crate::cpu::simd::{Isa, Kernel, Level, Vector, dispatch};
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::trace::span;
use crate::net::backend::Estimate;
use crate::net::tensor::{Buffer, Shape, Tensor};
use crate::scene::camera::{ELSEWHERE, Expected};

/// Channels of the decoder at full resolution.
const CHANNELS: usize = 8;
/// Rows of a band at most: the ring and the logits of a band should stay in the L2 cache.
const BAND: usize = 8;

/// The 3x3x3 convolution from 8 channels to the one logit.
pub struct LogitsConv {
    /// [27, 8].
    weights: Buffer,
    bias: f32,
}

impl LogitsConv {
    /// From weights in PyTorch's order [1, 8, 3, 3, 3].
    ///
    /// # Panics
    /// Where the length does not fit.
    pub fn new(weights: &[f32], bias: f32) -> Self {
        assert_eq!(weights.len(), 27 * CHANNELS, "logits weights");
        let mut packed = Buffer::zeros(27 * CHANNELS);
        for c in 0..CHANNELS {
            for t in 0..27 {
                packed[t * CHANNELS + c] = weights[c * 27 + t];
            }
        }
        Self { weights: packed, bias }
    }
}

/// How logits come to be at full resolution.
pub enum Decoder<'a> {
    /// From [D/2, H/2, W/2, 8] and the cost's projection [D, H, W, 8].
    Skip(&'a Tensor, &'a Tensor, &'a LogitsConv),
    /// From logits [D/8, H/8, W/8, 1] for a volume of this extent.
    Trilinear(&'a Tensor, Shape),
}

/// Bytes of a thread's memory for maps of `width` pixels a row: the ring of a band's planes, its logits and its maxima.
pub fn bytes_per_thread(width: usize, planes: usize) -> u64 {
    let stride = width.next_multiple_of(16);
    ((3 * (BAND + 2) * (stride + 2) * CHANNELS + (planes + 1) * BAND * stride) * size_of::<f32>()) as u64
}

/// Depth and confidence from the decoder's last tensors; `keep_logits` also returns the logits.
///
/// # Errors
/// [`Error::Shape`] where the tensors do not fit together or D is not the number of hypotheses.
pub fn regress(cpu: &Cpu, decoder: &Decoder, expectation: &Expectation, keep_logits: bool) -> Result<Estimate> {
    let _span = span("depth head");
    let shape = match decoder {
        Decoder::Skip(half, skip, _) => {
            skip.expect_channels("depth head", CHANNELS)?;
            // Of a narrow stage all planes are there.
            let halved = Shape {
                d: if half.shape.d == skip.shape.d { half.shape.d } else { skip.shape.halved().d },
                ..skip.shape.halved()
            };
            half.expect_shape("depth head", "half-resolution input", halved)?;
            skip.shape
        }
        Decoder::Trilinear(logits, size) => {
            let eighth = size.halved().halved().halved().with_channels(1);
            logits.expect_shape("depth head", "logits at an eighth", eighth)?;
            *size
        }
    };
    if shape.d != expectation.planes() || shape.is_empty() {
        let problem = format!("volume {shape} for {} hypotheses", expectation.planes());
        return Err(Error::Shape { op: "depth head", problem });
    }
    if let Some(expected) = &expectation.expected
        && (expected.width, expected.height()) != (shape.w, shape.h)
    {
        let problem = format!("expected depths of {} x {} for {shape}", expected.width, expected.height());
        return Err(Error::Shape { op: "depth head", problem });
    }
    let mut depth = Map::filled(shape.w, shape.h, 0.0);
    let mut confidence = Map::filled(shape.w, shape.h, 0.0);
    let rows = (shape.h / (4 * rayon::current_num_threads())).clamp(2, BAND);
    let bands = depth.data.par_chunks_mut(rows * shape.w).zip(confidence.data.par_chunks_mut(rows * shape.w));
    let kept: Vec<Option<Vec<f32>>> = bands
        .enumerate()
        .map_init(
            || Workspace::new(shape, rows, decoder),
            |work, (band, (depth, confidence))| {
                let range = (band * rows, ((band + 1) * rows).min(shape.h));
                match decoder {
                    Decoder::Skip(half, skip, conv) => work.skip_band(cpu.level, half, skip, conv, range),
                    Decoder::Trilinear(logits, _) => work.trilinear_band(cpu.level, logits, range),
                }
                if let Some(expected) = &expectation.expected {
                    work.weigh(expected, range);
                }
                work.reduce(cpu.level, expectation, range, depth, confidence);
                keep_logits.then(|| work.logits(range))
            },
        )
        .collect();
    let logits = keep_logits.then(|| {
        let mut y = Tensor::zeros(shape.with_channels(1));
        for (band, values) in kept.iter().flatten().enumerate() {
            let len = values.len() / shape.d;
            for (plane, values) in values.chunks_exact(len).enumerate() {
                y.data[(plane * shape.h + band * rows) * shape.w..][..len].copy_from_slice(values);
            }
        }
        y
    });
    Ok(Estimate { depth, confidence, logits })
}

/// One thread's memory for a band of rows.
struct Workspace {
    shape: Shape,
    /// Pixels of a row rounded up to whole vectors; what lies beyond the image is computed and dropped.
    stride: usize,
    rows: usize,
    /// Three planes of x with a border of one pixel: [3, rows + 2, stride + 2, 8].
    ring: Buffer,
    /// One row of the half-resolution volume, blended over planes and rows.
    blend: Buffer,
    /// [D, rows, stride].
    logits: Buffer,
    /// [rows, stride].
    max: Buffer,
}

impl Workspace {
    fn new(shape: Shape, rows: usize, decoder: &Decoder) -> Self {
        let stride = shape.w.next_multiple_of(16);
        let (ring, blend) = match decoder {
            Decoder::Skip(half, ..) => (3 * (rows + 2) * (stride + 2) * CHANNELS, half.shape.w * CHANNELS),
            Decoder::Trilinear(logits, _) => (0, logits.shape.w),
        };
        let (ring, blend) = (Buffer::zeros(ring), Buffer::zeros(blend));
        let (logits, max) = (Buffer::zeros(shape.d * rows * stride), Buffer::zeros(rows * stride));
        Self { shape, stride, rows, ring, blend, logits, max }
    }

    fn skip_band(&mut self, level: Level, half: &Tensor, skip: &Tensor, conv: &LogitsConv, (from, to): (usize, usize)) {
        let (shape, stride) = (self.shape, self.stride);
        let row_len = (stride + 2) * CHANNELS;
        let plane_len = (self.rows + 2) * row_len;
        self.max.fill(f32::NEG_INFINITY);
        for plane in 0..=shape.d {
            // x at `plane`, from the row above the band to the row below it.
            if plane < shape.d {
                let slot = &mut self.ring[plane % 3 * plane_len..][..plane_len];
                for (i, row) in slot.chunks_exact_mut(row_len).take(to - from + 2).enumerate() {
                    let Some(y) = (from + i).checked_sub(1).filter(|&y| y < shape.h) else {
                        // An earlier band may have left something here.
                        row.fill(0.0);
                        continue;
                    };
                    let rows = blend_rows(half, (depth_factor(half.shape.d, shape.d, 2), 2), plane, y);
                    let skip = &skip.data[(plane * shape.h + y) * shape.w * CHANNELS..][..shape.w * CHANNELS];
                    let row = &mut row[CHANNELS..][..shape.w * CHANNELS];
                    // SAFETY: the level is available; rows, blend, skip and row have the lengths the kernels need.
                    unsafe {
                        dispatch(level, Blend { rows, out: &mut self.blend });
                        let (x, skip) = (&self.blend[..], Skip::Row(skip));
                        dispatch(level, Expand { x, channels: CHANNELS, factor: 2, skip, relu: true, y: row });
                    }
                }
            }
            // Logits of the plane before it, whose three planes are now there.
            let Some(center) = plane.checked_sub(1) else { continue };
            for r in 0..to - from {
                let mut taps = [(std::ptr::null(), std::ptr::null()); 9];
                let mut count = 0;
                for i in 0..3 {
                    let Some(z) = (center + i).checked_sub(1).filter(|&z| z < shape.d) else { continue };
                    for j in 0..3 {
                        let x = self.ring[z % 3 * plane_len + (r + j) * row_len..][..row_len].as_ptr();
                        taps[count] = (x, conv.weights[(i * 3 + j) * 3 * CHANNELS..].as_ptr());
                        count += 1;
                    }
                }
                let out = &mut self.logits[(center * self.rows + r) * stride..][..stride];
                let max = &mut self.max[r * stride..][..stride];
                // SAFETY: the level is available; each tap row holds stride + 2 pixels of 8 channels.
                unsafe { dispatch(level, LogitsRow { taps: &taps[..count], bias: conv.bias, out, max }) }
            }
        }
    }

    fn trilinear_band(&mut self, level: Level, logits: &Tensor, (from, to): (usize, usize)) {
        self.max.fill(f32::NEG_INFINITY);
        for plane in 0..self.shape.d {
            for r in 0..to - from {
                let rows = blend_rows(logits, (8, 8), plane, from + r);
                let out = &mut self.logits[(plane * self.rows + r) * self.stride..][..self.shape.w];
                let (skip, relu) = (Skip::None, false);
                // SAFETY: the level is available; the lengths are as the kernels need them.
                unsafe {
                    dispatch(level, Blend { rows, out: &mut self.blend });
                    dispatch(level, Expand { x: &self.blend, channels: 1, factor: 8, skip, relu, y: out });
                }
                for (max, &v) in self.max[r * self.stride..].iter_mut().zip(out.iter()) {
                    *max = max.max(v);
                }
            }
        }
        // Pixels beyond the image: any finite maximum will do.
        for max in self.max.iter_mut().filter(|m| !m.is_finite()) {
            *max = 0.0;
        }
    }

    /// Makes hypotheses elsewhere than where a pixel's depth is expected less likely. The maxima stay what they were:
    /// at most [`ELSEWHERE`] too high, which the softmax does not feel.
    fn weigh(&mut self, expected: &Expected, (from, to): (usize, usize)) {
        let Self { shape, stride, rows, .. } = *self;
        for r in 0..to - from {
            let of_row = &expected.planes[(from + r) * shape.w..][..shape.w];
            for plane in 0..shape.d {
                let logits = &mut self.logits[(plane * rows + r) * stride..][..shape.w];
                for (logit, &[first, last]) in logits.iter_mut().zip(of_row) {
                    if !(usize::from(first)..=usize::from(last)).contains(&plane) {
                        *logit += ELSEWHERE;
                    }
                }
            }
        }
    }

    fn reduce(
        &mut self,
        level: Level,
        expectation: &Expectation,
        (from, to): (usize, usize),
        depth: &mut [f32],
        confidence: &mut [f32],
    ) {
        let Self { shape, stride, rows, .. } = *self;
        for r in 0..to - from {
            let regress = Regress {
                expectation,
                logits: &self.logits[r * stride..],
                plane_stride: rows * stride,
                max: &self.max[r * stride..][..stride],
                depth: &mut depth[r * shape.w..][..shape.w],
                confidence: &mut confidence[r * shape.w..][..shape.w],
            };
            // SAFETY: the level is available; the kernel checks its lengths.
            unsafe { dispatch(level, regress) }
        }
    }

    /// The band's logits without padding, [D, rows of the band, W].
    fn logits(&self, (from, to): (usize, usize)) -> Vec<f32> {
        let rows = self.logits.chunks_exact(self.stride);
        let own = rows.enumerate().filter(|(i, _)| i % self.rows < to - from);
        own.flat_map(|(_, row)| &row[..self.shape.w]).copied().collect()
    }
}

/// One row of logits from up to nine rows of x (with a pixel of border each), and the running maximum over planes.
struct LogitsRow<'a> {
    taps: &'a [(*const f32, *const f32)],
    bias: f32,
    out: &'a mut [f32],
    max: &'a mut [f32],
}

impl Kernel for LogitsRow<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { taps, bias, out, max } = self;
        for start in (0..out.len()).step_by(8) {
            // SAFETY: out's length is a multiple of 16; tap rows hold two pixels more; weights hold 3 * 8 values.
            unsafe {
                // The channels are the lanes; eight pixels' lanes are added up together at the end.
                let mut acc = [I::Eight::splat(0.0); 8];
                for &(x, w) in taps {
                    let x = x.add(start * CHANNELS);
                    for k in 0..3 {
                        let w = I::Eight::load(w.add(k * CHANNELS));
                        for (p, acc) in acc.iter_mut().enumerate() {
                            *acc = I::Eight::load(x.add((p + k) * CHANNELS)).mul_add(w, *acc);
                        }
                    }
                }
                let logits = I::sums(acc).add(I::Eight::splat(bias));
                logits.store(out.as_mut_ptr().add(start));
                let max = max.as_mut_ptr().add(start);
                I::Eight::load(max).max(logits).store(max);
            }
        }
    }
}
