//! Gradients of the gate's statistics ([`crate::cpu::ops::pixel_statistics`]) in the features, by the bands of
//! [`crate::cpu::ops::sweep_backward`].

use crate::cpu::device::Cpu;
use crate::cpu::ops::sweep::{Search, Sweep, difference};
use crate::cpu::ops::sweep_backward::{Band, PIXELS, Scratch, add_up, in_bands, scatter};
use crate::cpu::ops::warp::{CHANNELS, locate};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::{Error, Result};
use crate::net::tensor::Tensor;

/// Gradients of [`crate::cpu::ops::pixel_statistics::pixel_statistics`] of one source in the features of the reference
/// and of that source, given that of the loss in the statistics, [1, H, W, 2].
///
/// The maximum's gradient goes to the first of the largest planes. PyTorch's `amax` shares it evenly among equals; both
/// give the same where planes are equal because they miss the source, and other ties have measure zero.
///
/// # Errors
/// [`Error::Shape`] where features, depths or the gradient do not fit together or there is no such source.
pub fn pixel_statistics_backward(
    cpu: &Cpu,
    sweep: &Sweep,
    source: usize,
    gradient: &Tensor,
) -> Result<(Tensor, Tensor)> {
    const OP: &str = "pixel statistics backward";
    sweep.check()?;
    gradient.expect_shape(OP, "gradient", sweep.reference.shape.with_channels(2))?;
    let Search::Planes(depths) = sweep.search else {
        return Err(Error::Shape { op: OP, problem: "hypotheses around a guess; expected planes".into() });
    };
    sweep.reference.expect_channels(OP, CHANNELS)?;
    if source >= sweep.sources.len() {
        let problem = format!("source {source} of {}", sweep.sources.len());
        return Err(Error::Shape { op: OP, problem });
    }
    let (reference, bands) = in_bands(cpu, sweep, &[source], |at, n, scratch, band, reference| {
        let kernel = StatisticsRun { sweep, depths, source, gradient, at, n, scratch, band, reference };
        // SAFETY: the level is available; runs lie within the reference and are at most PIXELS long.
        unsafe { dispatch(cpu.level, kernel) }
    });
    let map = add_up(cpu, bands).swap_remove(0);
    Ok((reference, map))
}

/// Pixels (x .. x + n, y) through all planes, twice: for the largest plane, and for the gradient.
struct StatisticsRun<'a> {
    sweep: &'a Sweep<'a>,
    depths: &'a [f32],
    source: usize,
    gradient: &'a Tensor,
    at: (usize, usize),
    n: usize,
    scratch: &'a mut Scratch,
    band: &'a mut Band,
    reference: &'a mut [f32],
}

impl Kernel for StatisticsRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { sweep, depths, source, gradient, at: (x, y), n, scratch, band, reference } = self;
        let (map, homography) = &sweep.sources[source];
        let size = (map.shape.w, map.shape.h);
        let pixel = y * sweep.reference.shape.w + x;
        let features = sweep.reference.data[pixel * CHANNELS..][..n * CHANNELS].as_ptr();
        let gradient = &gradient.data[pixel * 2..][..n * 2];
        let planes = depths.len();
        let (mut largest, mut plane_of) = ([f32::NEG_INFINITY; PIXELS], [0; PIXELS]);
        let zero = 0.0;
        for (plane, &depth) in depths.iter().enumerate() {
            // SAFETY: as in CostRun.
            unsafe {
                locate::<I::Wide>(&mut scratch.taps, homography, depth, (x, y, n), size);
                difference::<I::Wide, false, CHANNELS>(
                    map.data.as_ptr(),
                    features,
                    &scratch.taps,
                    n,
                    &mut scratch.delta,
                );
                for p in 0..n {
                    let mut sum = I::Wide::splat(zero);
                    for c in (0..CHANNELS).step_by(I::Wide::LANES) {
                        let d = I::Wide::load(scratch.delta.as_ptr().add(p * CHANNELS + c));
                        let size = if sweep.squared { d.mul(d) } else { d.max(I::Wide::splat(zero).sub(d)) };
                        sum = sum.add(size);
                    }
                    let sum = sum.sum();
                    if sum > largest[p] {
                        (largest[p], plane_of[p]) = (sum, plane);
                    }
                }
            }
        }
        for (plane, &depth) in depths.iter().enumerate() {
            // SAFETY: as in CostRun.
            unsafe {
                locate::<I::Wide>(&mut scratch.taps, homography, depth, (x, y, n), size);
                difference::<I::Wide, false, CHANNELS>(
                    map.data.as_ptr(),
                    features,
                    &scratch.taps,
                    n,
                    &mut scratch.delta,
                );
                for p in 0..n {
                    let of_max = if plane_of[p] == plane { gradient[p * 2] } else { zero };
                    let k = (of_max + gradient[p * 2 + 1] / planes as f32) / CHANNELS as f32;
                    for c in (0..CHANNELS).step_by(I::Wide::LANES) {
                        let (zero, k) = (I::Wide::splat(zero), I::Wide::splat(k));
                        let delta = I::Wide::load(scratch.delta.as_ptr().add(p * CHANNELS + c));
                        let d = if sweep.squared {
                            k.mul(delta.add(delta))
                        } else {
                            // |f|' is 0 at 0.
                            delta.select_gt(zero, k, zero.select_gt(delta, zero.sub(k), zero))
                        };
                        scatter::<I::Wide, CHANNELS>(band.sources[0].data.as_mut_ptr(), &scratch.taps, p, c, d);
                        let at = reference.as_mut_ptr().add(p * CHANNELS + c);
                        I::Wide::load(at).sub(d).store(at);
                    }
                }
            }
        }
    }
}
