//! How much memory a view needs on the processor, known before it starts.

use super::bands;
use super::ops::{head, sweep_fused};
use crate::net::backend::MemoryPlan;
use crate::net::config::{Aggregation, Config, Decoder, Resolution};
use crate::net::stage::{self, Stage};
use crate::net::tensor::Shape;

/// What a view needs for photos of this size (rounded up to multiples of 4) and `planes` hypotheses.
pub fn plan(config: Config, (width, height): (usize, usize), planes: usize, threads: usize) -> MemoryPlan {
    let (width, height) = (width.next_multiple_of(4), height.next_multiple_of(4));
    let bytes = |shape: Shape| 4 * shape.len() as u64;
    let image = Shape::plane(height, width, 3);
    let cost = Shape { d: planes, h: height / 4, w: width / 4, c: 32 };
    let at = |times: usize, c: usize| bytes((0..times).fold(cost, |s, _| s.halved()).with_channels(c));
    let skip = config.decoder == Decoder::Skip;
    let at_half = Shape::plane(height / 2, width / 2, 16);
    // Photo and normalised photo, then two layers of 8 channels at full resolution; a layer that a finer map is made of
    // stays, with its sum.
    let kept = match config.resolution {
        Resolution::Quarter => 0,
        Resolution::Half => 2 * bytes(at_half),
        Resolution::Full => 2 * bytes(at_half) + bytes(image.with_channels(8)),
    };
    let feature_layers = 2 * bytes(image) + 2 * bytes(image.with_channels(8)) + kept;
    let finer = match config.resolution {
        Resolution::Quarter => 0,
        Resolution::Half => bytes(at_half),
        Resolution::Full => bytes(at_half) + bytes(image.with_channels(8)),
    };
    // Held through the context path: the projection, spatial 1/2 and 1/4; beside them context 1/2 with a few
    // tensors at 1/4, which is where the peak lies.
    let projection = if skip { at(0, 8) } else { 0 };
    let regularizer = projection + at(1, 16) * 2 + at(1, 8) + at(2, 32) * 3 + at(3, 64) * 4;
    let pixel_gate =
        if config.aggregation == Aggregation::Pixel(()) { 16 * bytes(Shape { d: 1, c: 4, ..cost }) } else { 0 };
    // The maps of a narrow stage: its guess, depth and confidence twice, and those of the stage before.
    let narrow = |stage: &Stage| {
        let (width, height) = (width / stage.step, height / stage.step);
        bands::bytes(stage, width, height) + 6 * bytes(Shape::plane(height, width, 1))
    };
    let narrow = stage::stages(config.resolution).map(narrow).max().unwrap_or(0);
    let per_thread = sweep_fused::bytes_per_thread() + head::bytes_per_thread(cost.w, planes);
    let scratch = per_thread * threads as u64 + 4 * bytes(Shape { d: 1, c: 1, ..cost }) + pixel_gate;
    let feature_map = bytes(Shape { d: 1, ..cost }) + finer;
    MemoryPlan { feature_layers, feature_map, regularizer: regularizer.max(narrow), scratch }
}
