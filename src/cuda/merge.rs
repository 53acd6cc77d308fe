//! The multi-metric merge of a pyramid's levels on a device (`kernels/consistency.cu`):
//! [`crate::maps::merge::merge_level`] to the bit.

use std::sync::Arc;

use super::buffer::{Buffer, Parameters};
use super::consistency::{DeviceView, Limits, pairs, upload};
use super::driver::{Driver, Stream};
use crate::error::{Error, Result};
use crate::maps::merge::{LevelMaps, MergeOptions, check};

/// Threads of a block that replaces pixels.
const THREADS: u32 = 256;

/// Repairs the maps of one level with those of the next coarser one, for all views, all on the device, and returns the
/// number of pixels replaced in each. `fine`'s maps are changed; views, sizes and sources are as
/// [`crate::maps::merge::merge_level`] takes them.
///
/// # Errors
/// [`Error::Shape`] where the lists or sizes do not fit together; [`Error::Memory`]; the device's.
pub fn merge_on_device(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    (coarse, fine): (&[DeviceView], &[DeviceView]),
    sources: &[Vec<usize>],
    options: &MergeOptions,
) -> Result<Vec<usize>> {
    let shape = |problem: String| Err(Error::Shape { op: "pyramid::merge_level", problem });
    if coarse.len() < fine.len() || sources.len() != fine.len() {
        let (coarse, fine, sources) = (coarse.len(), fine.len(), sources.len());
        return shape(format!("{coarse} coarse views, {fine} fine views and {sources} lists of sources"));
    }
    let limits = Limits::new(&options.thresholds, options.trusted_confidence);
    let largest = coarse.iter().map(DeviceView::pixels).max().unwrap_or(0);
    // Views follow one another in the stream, so they share this.
    let reliable = Buffer::new(driver, largest, "reliable pixels")?;
    let most_blocks = fine.iter().map(|f| f.pixels().div_ceil(THREADS as usize)).max().unwrap_or(0);
    let by_block = Buffer::new(driver, 4 * most_blocks, "counts of blocks")?;
    let replaced = Buffer::new(driver, 4 * fine.len(), "counts of replaced pixels")?;
    driver.fill(replaced.pointer(), 0, 4 * fine.len().max(1) as u64, stream)?;
    for (view, (c, f)) in coarse.iter().zip(fine).enumerate() {
        let half = (f.width.div_ceil(2), f.height.div_ceil(2));
        if (c.width, c.height) != half {
            let (c, f) = ((c.width, c.height), (f.width, f.height));
            return shape(format!("view {view}: a coarse map of {c:?} is not half a fine one of {f:?}, rounded up"));
        }
        if let Some(source) = sources[view].iter().find(|&&s| s >= coarse.len() || s == view) {
            return shape(format!("view {view}: source {source} is not another of the {} views", coarse.len()));
        }
        // A view without sources has no reliable pixel: nothing can confirm it.
        let Some(required) = options.thresholds.required(sources[view].len()) else { continue };
        if f.pixels() == 0 {
            continue;
        }
        let pairs = pairs(driver, stream, &c.camera, sources[view].iter().map(|&s| coarse[s]))?;
        Parameters::new()
            .with(c.depth)
            .with(c.confidence)
            .with(pairs.pointer())
            .with(reliable.pointer())
            .with(c.width as i32)
            .with(c.height as i32)
            .with(sources[view].len() as i32)
            .with(required.min(255) as i32)
            .with(limits)
            .launch(driver, stream, "merge_forward_reliable_f32", c.pixels(), 128)?;
        Parameters::new()
            .with(c.depth)
            .with(c.confidence)
            .with(reliable.pointer())
            .with(f.depth)
            .with(f.confidence)
            .with(by_block.pointer())
            .with(f.width as i32)
            .with(f.height as i32)
            .with(c.width as i32)
            .with(c.height as i32)
            .with(options.replaced_confidence as f32)
            .launch(driver, stream, "merge_forward_replace_f32", f.pixels(), THREADS)?;
        Parameters::new()
            .with(by_block.pointer())
            .with(replaced.pointer() + 4 * view as u64)
            .with(f.pixels().div_ceil(THREADS as usize) as i32)
            .with(1i32)
            .launch(driver, stream, "count_forward_sums_u32", 256, 256)?;
    }
    Ok(replaced.download::<u32>(stream, fine.len())?.into_iter().map(|n| n as usize).collect())
}

/// [`crate::maps::merge::merge_level`] on a device, from and to host memory.
///
/// # Errors
/// As [`merge_on_device`].
pub fn merge_level(
    driver: &Arc<dyn Driver>,
    coarse: &[LevelMaps],
    fine: &mut [LevelMaps],
    sources: &[Vec<usize>],
    options: &MergeOptions,
) -> Result<Vec<usize>> {
    check(coarse, fine, sources)?;
    let stream = Stream::FIRST;
    let mut memory = Vec::new();
    let mut on_device = |maps: &LevelMaps| -> Result<DeviceView> {
        let depth = upload(driver, stream, &maps.depth, "a depth map")?;
        let confidence = upload(driver, stream, &maps.confidence, "a confidence map")?;
        let view = DeviceView {
            camera: maps.camera,
            width: maps.depth.width,
            height: maps.depth.height,
            depth: depth.pointer(),
            confidence: confidence.pointer(),
        };
        memory.push([depth, confidence]);
        Ok(view)
    };
    let of_coarse = coarse.iter().map(&mut on_device).collect::<Result<Vec<_>>>()?;
    let of_fine = fine.iter().map(&mut on_device).collect::<Result<Vec<_>>>()?;
    let replaced = merge_on_device(driver, stream, (&of_coarse, &of_fine), sources, options)?;
    for (maps, [depth, confidence]) in fine.iter_mut().zip(&memory[coarse.len()..]) {
        maps.depth.data = depth.download(stream, maps.depth.data.len())?;
        maps.confidence.data = confidence.download(stream, maps.confidence.data.len())?;
    }
    Ok(replaced)
}
