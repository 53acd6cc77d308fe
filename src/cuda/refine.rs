//! The refinement of depths against the photos on a device (`kernels/refine.cu`): [`crate::cpu::ops::ncc`], from the
//! same operations in the same order but for where a pixel lies in a source, which is rounded otherwise.

use std::sync::{Arc, OnceLock};

use super::buffer::{Buffer, Parameters};
use super::consistency::upload;
use super::driver::{Driver, Stream};
use super::ops::sweep::source_row;
use super::storage::Pointer;
use crate::cpu::ops::ncc::{self, LEAST_VARIANCE, LEAST_WORTH};
use crate::error::Result;
use crate::files::map::Map;
use crate::net::tensor::Tensor;
use crate::scene::camera::PlaneSweep;

/// Pixels of a block's tile, a thread each.
const TILE: (usize, usize) = (32, 8);
const THREADS: usize = TILE.0 * TILE.1;

/// A photo in grey ([`ncc::grey`]), which goes to the device when it is first asked for there, and stays.
pub struct Grey {
    /// [1, H, W, 1].
    pub host: Tensor,
    device: OnceLock<Buffer>,
}

impl Grey {
    /// In the host's memory so far.
    pub fn new(host: Tensor) -> Self {
        Self { host, device: OnceLock::new() }
    }

    /// Bytes that it takes on a device, too.
    pub fn bytes(&self) -> u64 {
        (self.host.data.len() * size_of::<f32>()) as u64
    }

    fn on(&self, driver: &Arc<dyn Driver>, stream: Stream) -> Result<Pointer> {
        if let Some(buffer) = self.device.get() {
            return Ok(buffer.pointer());
        }
        let buffer = Buffer::holding(driver, stream, bytemuck::cast_slice(&self.host.data), "a photo in grey")?;
        Ok(self.device.get_or_init(|| buffer).pointer())
    }
}

/// A source view as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Seen {
    row: [f32; 16],
    photo: Pointer,
}

/// [`ncc::refine`] on a device: moves the depths [H, W] to where the photos agree best, and returns how many pixels
/// were sure enough to be moved. `sources` come with the homographies of photo pixels; `step` is the distance of
/// hypotheses in 1 / depth.
///
/// # Errors
/// [`crate::Error::Shape`] as there; [`crate::Error::Memory`]; the device's. The depths are unchanged then.
pub fn refine(
    driver: &Arc<dyn Driver>,
    reference: &Grey,
    sources: &[(&Grey, PlaneSweep)],
    step: f32,
    depth: &mut Map,
) -> Result<usize> {
    let photos: Vec<(&Tensor, PlaneSweep)> = sources.iter().map(|&(grey, sweep)| (&grey.host, sweep)).collect();
    let photos = ncc::Photos { reference: &reference.host, sources: &photos, step };
    if !photos.can_refine(depth)? || depth.data.is_empty() {
        return Ok(0);
    }
    let stream = Stream::FIRST;
    let seen = |&(grey, sweep): &(&Grey, PlaneSweep)| -> Result<Seen> {
        let row = source_row(&sweep, grey.host.shape.h, grey.host.shape.w);
        Ok(Seen { row, photo: grey.on(driver, stream)? })
    };
    let seen = sources.iter().map(seen).collect::<Result<Vec<_>>>()?;
    let seen = Buffer::holding(driver, stream, bytemuck::cast_slice(&seen), "the sources of a view")?;
    let before = upload(driver, stream, depth, "a depth map")?;
    let after = Buffer::new(driver, size_of_val(depth.data.as_slice()), "a refined depth map")?;
    let tiles = depth.width.div_ceil(TILE.0) * depth.height.div_ceil(TILE.1);
    let by_block = Buffer::new(driver, 4 * tiles, "counts of blocks")?;
    Parameters::new()
        .with(reference.on(driver, stream)?)
        .with(seen.pointer())
        .with(before.pointer())
        .with(after.pointer())
        .with(by_block.pointer())
        .with(depth.width as i32)
        .with(depth.height as i32)
        .with(sources.len() as i32)
        .with(step)
        .with(LEAST_VARIANCE)
        .with(LEAST_WORTH)
        .launch(driver, stream, "refine_forward_f32", tiles * THREADS, THREADS as u32)?;
    let moved = by_block.download::<u32>(stream, tiles)?;
    depth.data = after.download(stream, depth.data.len())?;
    Ok(moved.into_iter().map(|count| count as usize).sum())
}
