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
use crate::files::map::Map;
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

/// Where in the room of a refinement its parts lie.
struct Parts {
    /// The sources.
    seen: u64,
    /// Depths before and after.
    before: u64,
    after: u64,
    /// How many pixels of each block were moved.
    moved: u64,
    /// All of it.
    bytes: u64,
}

fn blocks((width, height): (usize, usize)) -> usize {
    width.div_ceil(TILE.0) * height.div_ceil(TILE.1)
}

impl Parts {
    fn of(size: (usize, usize), sources: usize) -> Self {
        let map = (size_of::<f32>() * size.0 * size.1) as u64;
        let mut bytes = 0;
        let mut part = |length: u64| {
            let at = bytes;
            bytes += length.next_multiple_of(ALIGNMENT);
            at
        };
        let seen = part((size_of::<Seen>() * sources) as u64);
        let (before, after) = (part(map), part(map));
        let moved = part((size_of::<u32>() * blocks(size)) as u64);
        Self { seen, before, after, moved, bytes }
    }
}

/// Bytes of device memory that the refinement of a map of this size against so many sources works in.
pub fn room(size: (usize, usize), sources: usize) -> u64 {
    Parts::of(size, sources).bytes
}

/// [`ncc::refine`] on a device: moves the depths [H, W] to where the photos agree best, and returns how many pixels
/// were sure enough to be moved. `sources` come with the homographies of photo pixels; `step` is the distance of
/// hypotheses in 1 / depth; at `to_work_in` lie as many bytes as [`room`] says.
///
/// # Errors
/// [`crate::Error::Shape`] as there; the device's. The depths are unchanged then.
pub fn refine(
    driver: &Arc<dyn Driver>,
    reference: Grey,
    sources: &[(Grey, PlaneSweep)],
    step: f32,
    depth: &mut Map,
    to_work_in: Pointer,
) -> Result<usize> {
    let shapes: Vec<Shape> = sources.iter().map(|source| source.0.shape).collect();
    if !ncc::can_refine(reference.shape, &shapes, step, depth)? || depth.data.is_empty() {
        return Ok(0);
    }
    let (stream, size) = (Stream::FIRST, (depth.width, depth.height));
    let parts = Parts::of(size, sources.len());
    let seen = |(grey, sweep): &(Grey, PlaneSweep)| Seen {
        row: source_row(sweep, grey.shape.h, grey.shape.w),
        photo: grey.at,
    };
    let seen: Vec<Seen> = sources.iter().map(seen).collect();
    driver.upload(to_work_in + parts.seen, bytemuck::cast_slice(&seen), stream)?;
    driver.upload(to_work_in + parts.before, bytemuck::cast_slice(&depth.data), stream)?;
    let blocks = blocks(size);
    Parameters::new()
        .with(reference.at)
        .with(to_work_in + parts.seen)
        .with(to_work_in + parts.before)
        .with(to_work_in + parts.after)
        .with(to_work_in + parts.moved)
        .with(depth.width as i32)
        .with(depth.height as i32)
        .with(sources.len() as i32)
        .with(step)
        .with(LEAST_VARIANCE)
        .with(LEAST_WORTH)
        .launch(driver, stream, "refine_forward_f32", blocks * THREADS, THREADS as u32)?;
    let (mut moved, mut after) = (vec![0u32; blocks], vec![0f32; depth.data.len()]);
    driver.download(to_work_in + parts.moved, bytemuck::cast_slice_mut(&mut moved), stream)?;
    driver.download(to_work_in + parts.after, bytemuck::cast_slice_mut(&mut after), stream)?;
    depth.data = after;
    Ok(moved.into_iter().map(|count| count as usize).sum())
}
