//! Geometric consistency between depth maps on a device (`kernels/consistency.cu`): [`crate::maps::consistency`] to
//! the bit, since the kernels repeat its f64 operations one by one.
//!
//! [`agreement_above`] takes maps from the host and returns them there; [`queue_agreement`] works on maps that lie on
//! the device.

use std::sync::Arc;

use super::buffer::{Buffer, Parameters};
use super::driver::{Driver, Stream};
use super::storage::Pointer;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::maps::consistency::{self, Agreement, DepthView, Thresholds};
use crate::scene::camera::Camera;

/// A view's maps on a device, both f32 [height, width].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceView {
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Depth; zero, negative, NaN or infinite where there is none.
    pub depth: Pointer,
    /// Confidence 0..1.
    pub confidence: Pointer,
}

impl DeviceView {
    /// Pixels of the maps.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }
}

/// A matrix by columns and a vector, as the kernels read them.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Transform {
    columns: [[f64; 3]; 3],
    shift: [f64; 3],
}

impl Transform {
    pub fn new(matrix: glam::DMat3, shift: glam::DVec3) -> Self {
        Self { columns: matrix.to_cols_array_2d(), shift: shift.to_array() }
    }

    /// From one camera's pixels with depth to another's homogeneous pixels.
    fn between(from: &Camera, to: &Camera) -> Self {
        let consistency::Transform { matrix, shift } = consistency::Transform::new(from, to);
        Self::new(matrix, shift)
    }
}

/// A source view of a reference view.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Pair {
    there: Transform,
    back: Transform,
    depth: Pointer,
    width: i32,
    height: i32,
}

/// When a source agrees.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Limits {
    max_shift_squared: f64,
    max_depth_error: f64,
    min_confidence: f32,
    everything: i32,
}

impl Limits {
    pub fn new(thresholds: &Thresholds, min_confidence: f64) -> Self {
        // Compared as the maps' own type, so that a stored 0.8 is not above 0.8.
        let min_confidence = min_confidence as f32;
        Self {
            max_shift_squared: thresholds.max_reprojection_px * thresholds.max_reprojection_px,
            max_depth_error: thresholds.max_depth_error_rel,
            min_confidence,
            everything: i32::from(min_confidence == f32::NEG_INFINITY),
        }
    }
}

impl Pair {
    pub fn new(reference: &Camera, source: &DeviceView) -> Self {
        Self {
            there: Transform::between(reference, &source.camera),
            back: Transform::between(&source.camera, reference),
            depth: source.depth,
            width: source.width as i32,
            height: source.height as i32,
        }
    }
}

/// A reference view's pairs with its sources, in device memory.
pub(super) fn pairs(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    reference: &Camera,
    sources: impl IntoIterator<Item = DeviceView>,
) -> Result<Buffer> {
    let pairs: Vec<Pair> = sources.into_iter().map(|source| Pair::new(reference, &source)).collect();
    Buffer::holding(driver, stream, bytemuck::cast_slice(&pairs), "the sources of a view")
}

/// A map in device memory.
pub(super) fn upload(driver: &Arc<dyn Driver>, stream: Stream, map: &Map, what: &str) -> Result<Buffer> {
    Buffer::holding(driver, stream, bytemuck::cast_slice(&map.data), what)
}

/// Queues the comparison of every pixel of `reference` with the `sources`: `count` [height, width] of bytes and `mean`
/// [height, width] of f32, as [`Agreement`] has them, for pixels with a confidence above `min_confidence`.
///
/// # Errors
/// The device's.
pub fn queue_agreement(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    reference: &DeviceView,
    sources: &[DeviceView],
    thresholds: &Thresholds,
    min_confidence: f64,
    (count, mean): (Pointer, Pointer),
) -> Result<()> {
    let pairs = pairs(driver, stream, &reference.camera, sources.iter().copied())?;
    Parameters::new()
        .with(reference.depth)
        .with(reference.confidence)
        .with(pairs.pointer())
        .with(count)
        .with(mean)
        .with(reference.width as i32)
        .with(reference.height as i32)
        .with(sources.len() as i32)
        .with(Limits::new(thresholds, min_confidence))
        .launch(driver, stream, "consistency_forward_f32", reference.pixels(), 128)
}

/// [`crate::maps::consistency::agreement_above`] on a device, from and to host memory.
///
/// # Errors
/// [`Error::Shape`] where a view's depth and confidence differ in size; [`Error::Memory`]; the device's.
pub fn agreement_above(
    driver: &Arc<dyn Driver>,
    reference: &DepthView,
    sources: &[&DepthView],
    thresholds: &Thresholds,
    min_confidence: f64,
) -> Result<Agreement> {
    let stream = Stream::FIRST;
    let views: Vec<&DepthView> = std::iter::once(reference).chain(sources.iter().copied()).collect();
    let mut memory = Vec::new();
    let mut on_device = Vec::new();
    for view in views {
        let [depth, confidence] = [view.depth, view.confidence].map(|m| (m.width, m.height, m.data.len()));
        if depth != confidence || depth.0 * depth.1 != depth.2 {
            let problem = format!("depth {depth:?} and confidence {confidence:?} of one view");
            return Err(Error::Shape { op: "consistency::agreement", problem });
        }
        let maps = [view.depth, view.confidence].map(|map| upload(driver, stream, map, "a map"));
        let [depth, confidence] = maps;
        let (depth, confidence) = (depth?, confidence?);
        on_device.push(DeviceView {
            camera: view.camera,
            width: view.depth.width,
            height: view.depth.height,
            depth: depth.pointer(),
            confidence: confidence.pointer(),
        });
        memory.extend([depth, confidence]);
    }
    let (own, others) = (on_device[0], &on_device[1..]);
    let pixels = own.pixels();
    let count = Buffer::new(driver, pixels, "counts of agreeing views")?;
    let mean = Buffer::new(driver, 4 * pixels, "mean depths")?;
    let results = (count.pointer(), mean.pointer());
    queue_agreement(driver, stream, &own, others, thresholds, min_confidence, results)?;
    let data = mean.download(stream, pixels)?;
    let depth = Map { width: own.width, height: own.height, data };
    Ok(Agreement { count: count.download(stream, pixels)?, depth })
}
