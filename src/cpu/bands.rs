//! Narrow stages in bands of rows, so that their volumes need not be there for the whole photo at once.
//!
//! A narrow stage is local: what it finds at a pixel depends on pixels a few rows away. A band is computed with that
//! many rows more at either end, which are then cut off: the same bits as of the whole.

use super::device::Cpu;
use super::infer::{Infer, InferViews, NarrowViews, Probe};
use super::weights::Weights;
use crate::error::Result;
use crate::files::map::Map;
use crate::net::backend::Estimate;
use crate::net::config::Resolution;
use crate::net::model::Features;
use crate::net::narrow;
use crate::net::stage::{self, Stage};
use crate::net::tensor::{Shape, Tensor};

/// Bytes that a band's volumes should take at most.
pub const BAND_BYTES: usize = 128 << 20;
/// Bands begin at multiples of this: every halving of a stage's U-Net keeps the even rows.
const ALIGNED: usize = 4;

/// The resolution that features go up to.
pub fn finest(features: &Features<Tensor>) -> Resolution {
    match (&features.half, &features.full) {
        (_, Some(_)) => Resolution::Full,
        (Some(_), None) => Resolution::Half,
        (None, None) => Resolution::Quarter,
    }
}

/// Bytes that a stage holds a row of its map, beside its features and maps.
fn row_bytes(stage: &Stage, width: usize) -> usize {
    // The cost, its projection, and what the first layer makes of it at half the rows and columns, before and after
    // the next one.
    let volume = stage.hypotheses * (stage.channels + 8 + 2 * 16 / 4);
    // The weights of the convex upsampling and the layer before them, a quarter of the pixels each.
    let convex = (stage::CONVEX + 32) / 4;
    (volume + convex) * width * size_of::<f32>()
}

/// Rows of a band without its borders, for a map of `height` x `width` and a limit in bytes.
fn band_rows(stage: &Stage, width: usize, height: usize, limit: usize) -> usize {
    // Borders that are wider than what lies between them would cost more than they save.
    let most = (limit / row_bytes(stage, width).max(1)).max(2 * stage.reach());
    if height <= most {
        return height.max(1);
    }
    height.div_ceil(height.div_ceil(most)).next_multiple_of(ALIGNED)
}

/// Bytes that a stage holds at its peak for a map of `height` x `width`.
pub fn bytes(stage: &Stage, width: usize, height: usize) -> u64 {
    let rows = band_rows(stage, width, height, BAND_BYTES);
    let borders = if rows < height { 2 * stage.reach().next_multiple_of(ALIGNED) } else { 0 };
    (row_bytes(stage, width) * (rows + borders)) as u64
}

/// One stage, from the estimate of the stage before, in bands of at most `limit` bytes; every layer's output is shown
/// to `probe`, band by band.
///
/// # Errors
/// The layers'.
pub fn refine(
    (cpu, weights): (&Cpu, &Weights),
    limit: usize,
    stage: &Stage,
    views: &InferViews,
    own: &NarrowViews,
    coarse: Estimate,
    probe: &mut Probe,
) -> Result<Estimate> {
    let mut of_band = |views: &NarrowViews, all: &InferViews, coarse: &Estimate| {
        let mut show = |name: &str, tensor: &Tensor| probe(name, tensor);
        let InferViews { reference, sources, depths, expectation, keep_logits, judge, .. } = *all;
        let narrow = Some(views);
        let views = InferViews { reference, sources, depths, expectation, keep_logits, judge, narrow };
        narrow::refine(&mut Infer::new(cpu, weights, &mut show), stage, &views, coarse)
    };
    let Shape { h, w, .. } = own.reference.shape;
    let rows = band_rows(stage, w, h, limit);
    if rows >= h {
        return of_band(own, views, &coarse);
    }
    let reach = stage.reach().next_multiple_of(ALIGNED);
    let mut whole = Estimate { depth: Map::filled(w, h, 0.0), confidence: Map::filled(w, h, 0.0), logits: None };
    let mut kept = views.keep_logits.then(|| Tensor::zeros(Shape { d: stage.hypotheses, h, w, c: 1 }));
    for from in (0..h).step_by(rows) {
        let to = (from + rows).min(h);
        let (begin, end) = (from.saturating_sub(reach), (to + reach).min(h));
        let reference = rows_of(own.reference, begin, end)?;
        let band = NarrowViews { reference: &reference, top: begin, ..own.clone() };
        let above = Estimate {
            depth: map_rows(&coarse.depth, begin / 2, end.div_ceil(2)),
            confidence: map_rows(&coarse.confidence, begin / 2, end.div_ceil(2)),
            logits: None,
        };
        let found = of_band(&band, views, &above)?;
        let inner = (from - begin) * w..(to - begin) * w;
        for (whole, found) in [(&mut whole.depth, &found.depth), (&mut whole.confidence, &found.confidence)] {
            whole.data[from * w..to * w].copy_from_slice(&found.data[inner.clone()]);
        }
        if let (Some(kept), Some(logits)) = (&mut kept, &found.logits) {
            let planes = kept.data.chunks_exact_mut(h * w).zip(logits.data.chunks_exact((end - begin) * w));
            planes.for_each(|(kept, found)| kept[from * w..to * w].copy_from_slice(&found[inner.clone()]));
        }
    }
    whole.logits = kept;
    Ok(whole)
}

/// Rows of a tensor [1, H, W, C].
fn rows_of(tensor: &Tensor, begin: usize, end: usize) -> Result<Tensor> {
    let row = tensor.shape.w * tensor.shape.c;
    Tensor::from_slice(Shape { h: end - begin, ..tensor.shape }, &tensor.data[begin * row..end * row])
}

fn map_rows(map: &Map, begin: usize, end: usize) -> Map {
    let data = map.data[begin * map.width..end.min(map.height) * map.width].to_vec();
    Map { width: map.width, height: data.len() / map.width.max(1), data }
}
