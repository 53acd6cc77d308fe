//! The refinement of depths against the photos on a device (`kernels/refine.cu`): [`crate::cpu::ops::ncc`], from the
//! same operations in the same order but for where a pixel lies in a source, which is rounded otherwise.

use std::sync::Arc;

use super::buffer::Parameters;
use super::driver::{Driver, Stream};
use super::ops::sweep::source_row;
use super::placement::ALIGNMENT;
use super::storage::Pointer;
use crate::cpu::ops::ncc::{self, LEAST_VARIANCE, LEAST_WORTH};
use crate::error::Result;
use crate::net::tensor::Shape;
use crate::scene::camera::PlaneSweep;

/// Pixels of a block's tile, a thread each.
const TILE: (usize, usize) = (32, 8);
const THREADS: usize = TILE.0 * TILE.1;

/// A photo in grey ([`ncc::grey`]) on the device.
#[derive(Clone, Copy, Debug)]
pub struct Grey {
    /// [1, H, W, 1].
    pub shape: Shape,
    /// f32.
    pub at: Pointer,
}

/// A source view as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Seen {
    row: [f32; 16],
    photo: Pointer,
}

/// A map to be refined, in device memory.
pub struct Refinement<'a> {
    /// The view's photo.
    pub reference: Grey,
    /// The sources' photos with the homographies of photo pixels.
    pub sources: &'a [(Grey, PlaneSweep)],
    /// Distance of hypotheses in 1 / depth.
    pub step: f32,
    /// The map's size.
    pub size: (usize, usize),
    /// Its depths before and after, [H, W] of f32 each.
    pub depths: [Pointer; 2],
    /// As many bytes to work in as [`room`] says.
    pub to_work_in: Pointer,
}

/// Where in the room of a refinement the counts lie: behind the sources.
fn counts_at(sources: usize) -> u64 {
    ((size_of::<Seen>() * sources) as u64).next_multiple_of(ALIGNMENT)
}

/// Blocks of a map of this size; each counts the pixels that it moved.
pub fn blocks((width, height): (usize, usize)) -> usize {
    width.div_ceil(TILE.0) * height.div_ceil(TILE.1)
}

/// Bytes of device memory that the refinement of a map of this size against so many sources works in.
pub fn room(size: (usize, usize), sources: usize) -> u64 {
    counts_at(sources) + ((size_of::<u32>() * blocks(size)) as u64).next_multiple_of(ALIGNMENT)
}

impl Refinement<'_> {
    /// What must lie at the beginning of the room before it is queued.
    pub fn seen(&self) -> Vec<u8> {
        let seen = |(grey, sweep): &(Grey, PlaneSweep)| Seen {
            row: source_row(sweep, grey.shape.h, grey.shape.w),
            photo: grey.at,
        };
        bytemuck::cast_slice(&self.sources.iter().map(seen).collect::<Vec<Seen>>()).to_vec()
    }

    /// Where a count for each block of [`blocks`] lies afterwards, u32.
    pub fn counts(&self) -> Pointer {
        self.to_work_in + counts_at(self.sources.len())
    }

    /// Whether there is something to do.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] as [`ncc::can_refine`].
    pub fn is_possible(&self) -> Result<bool> {
        let shapes: Vec<Shape> = self.sources.iter().map(|source| source.0.shape).collect();
        let some = self.size.0 > 0 && self.size.1 > 0;
        Ok(ncc::can_refine(self.reference.shape, &shapes, self.step, self.size)? && some)
    }

    /// [`ncc::refine`] on a device: moves the depths to where the photos agree best.
    ///
    /// # Errors
    /// The device's.
    pub fn queue(&self, driver: &Arc<dyn Driver>, stream: Stream) -> Result<()> {
        Parameters::new()
            .with(self.reference.at)
            .with(self.to_work_in)
            .with(self.depths[0])
            .with(self.depths[1])
            .with(self.counts())
            .with(self.size.0 as i32)
            .with(self.size.1 as i32)
            .with(self.sources.len() as i32)
            .with(self.step)
            .with(LEAST_VARIANCE)
            .with(LEAST_WORTH)
            .launch(driver, stream, "refine_forward_f32", blocks(self.size) * THREADS, THREADS as u32)
    }
}
