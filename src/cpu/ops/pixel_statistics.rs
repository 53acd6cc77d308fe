//! What the gate of eq. 4 reads: for every pixel and source the maximum and the mean over the depth planes of the
//! channel-mean |difference|.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::sweep::{Scratch, Sweep, source_difference};
use crate::cpu::ops::warp::{CHANNELS, RUN};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::Result;
use crate::net::tensor::Tensor;

/// For the pixel gate: maximum and mean over the planes of the channel-mean |f| of one source, [1, H, W, 2].
///
/// # Errors
/// [`crate::Error::Shape`] where features or depths do not fit together.
pub fn pixel_statistics(cpu: &Cpu, sweep: &Sweep, source: usize) -> Result<Tensor> {
    sweep.check()?;
    let shape = sweep.reference.shape;
    let mut y = cpu.tensor(shape.with_channels(2));
    y.data.par_chunks_mut(shape.w * 2).enumerate().for_each_init(Scratch::new, |scratch, (row, y)| {
        for (run, out) in y.chunks_mut(RUN * 2).enumerate() {
            let kernel = StatisticsRun { sweep, source, at: (run * RUN, row), scratch, out };
            // SAFETY: the level is available; runs lie within the reference and are at most RUN long.
            unsafe { dispatch(cpu.level, kernel) }
        }
    });
    Ok(y)
}

struct StatisticsRun<'a> {
    sweep: &'a Sweep<'a>,
    source: usize,
    at: (usize, usize),
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Kernel for StatisticsRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { sweep, source, at: (x, y), scratch, out } = self;
        let n = out.len() / 2;
        for plane in 0..sweep.search.len() {
            // SAFETY: as in CostRun.
            unsafe {
                source_difference::<I::Wide, CHANNELS>(sweep, source, plane, (x, y, n), scratch);
                for (p, out) in out.chunks_exact_mut(2).enumerate() {
                    let mut sum = I::Wide::splat(0.0);
                    for c in (0..CHANNELS).step_by(I::Wide::LANES) {
                        let f = I::Wide::load(scratch.difference.as_ptr().add(p * CHANNELS + c));
                        sum = sum.add(f.max(I::Wide::splat(0.0).sub(f)));
                    }
                    let mean = sum.sum() / CHANNELS as f32;
                    out[0] = if plane == 0 { mean } else { out[0].max(mean) };
                    out[1] = if plane == 0 { mean } else { out[1] + mean };
                }
            }
        }
        for out in out.chunks_exact_mut(2) {
            out[1] /= sweep.search.len() as f32;
        }
    }
}
