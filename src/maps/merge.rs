//! The multi-metric depth pyramid (SPEC "Multi-metric depth pyramid"; the paper's section III.B): where a level is
//! unsure of a pixel and the next coarser one is sure, the coarser one's depth takes its place.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::files::map::Map;
use crate::host::interrupt;
use crate::maps::consistency::{DepthView, Thresholds, agreement_above};
use crate::scene::camera::Camera;
use crate::{Error, Result};

/// One view's maps of one level.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelMaps {
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Depth; zero, negative, NaN or infinite where there is none.
    pub depth: Map,
    /// Confidence 0..1, the same size.
    pub confidence: Map,
}

impl LevelMaps {
    /// The maps as the consistency check takes them.
    pub fn view(&self) -> DepthView<'_> {
        DepthView { camera: self.camera, depth: &self.depth, confidence: &self.confidence }
    }
}

/// When a coarser pixel is trusted and a finer one given up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeOptions {
    /// A coarser pixel is reliable only above this confidence.
    pub trusted_confidence: f64,
    /// A finer pixel is replaced only below this confidence.
    pub replaced_confidence: f64,
    /// How the coarser pixel must be confirmed by the source views' maps of its own level.
    pub thresholds: Thresholds,
}

impl Default for MergeOptions {
    /// The paper's, for the probability of four hypotheses: 0.9, 0.5, and 3 source views within 1 px and 1 %.
    fn default() -> Self {
        Self { trusted_confidence: 0.9, replaced_confidence: 0.5, thresholds: Thresholds::default() }
    }
}

impl MergeOptions {
    /// For calibrated confidence: 0.03, 0.3, and the same views. A coarser depth is seldom exact to a pixel of the
    /// finest photo, so that its confidence is low where it is right by its own measure; that three views confirm it
    /// says more. On handheld photos of a smooth object (monstree) 91 % of the depths then lie within 1 % of the
    /// sparse points, 74 % of the finest level alone; on fountain-P11 99.31 and 99.09 % (2026-11-27, the fifth run's
    /// weights).
    pub fn calibrated() -> Self {
        Self { trusted_confidence: 0.03, replaced_confidence: 0.3, ..Self::default() }
    }
}

/// Repairs the maps of one level with those of the next coarser one, for all views, and returns the number of pixels
/// replaced in each.
///
/// To be called from the coarsest pair of levels to the finest, each time with the merged maps as the next `coarse`:
/// a pixel that was replaced counts like any other there, with the confidence that came with it, so it is passed on
/// if the *merged* maps of that level confirm it. Reliability is never inherited, it is measured again on every level.
///
/// - `coarse`, `fine` \[views\]: the same views in the same order; a coarse map has half the fine one's size, rounded
///   up. More views may follow in `coarse`, which only confirm.
/// - `sources` \[views\]: indices into `coarse` of each view's source views. A view without sources has no reliable
///   pixel.
///
/// # Errors
/// [`Error::Bug`] where the lists or sizes do not fit together; [`Error::Interrupted`].
pub fn merge_level(
    coarse: &[LevelMaps],
    fine: &mut [LevelMaps],
    sources: &[Vec<usize>],
    options: &MergeOptions,
) -> Result<Vec<usize>> {
    check(coarse, fine, sources)?;
    let replaced = fine.par_iter_mut().enumerate().map(|(view, maps)| {
        let reliable = reliable(coarse, view, &sources[view], options);
        replace(&coarse[view], &reliable, maps, options.replaced_confidence)
    });
    let replaced = replaced.collect();
    // Rows are left as they are once the user asks to stop.
    interrupt::check()?;
    Ok(replaced)
}

/// [height, width] of the view's coarse map: confident, and confirmed by enough source views.
fn reliable(coarse: &[LevelMaps], view: usize, sources: &[usize], options: &MergeOptions) -> Vec<bool> {
    let Some(required) = options.thresholds.required(sources.len()) else {
        return vec![false; coarse[view].depth.data.len()];
    };
    let source_views: Vec<DepthView> = sources.iter().map(|&s| coarse[s].view()).collect();
    let source_views: Vec<&DepthView> = source_views.iter().collect();
    let reference = coarse[view].view();
    let agreement = agreement_above(&reference, &source_views, &options.thresholds, options.trusted_confidence);
    let required = required.min(255);
    let confidence = &reference.confidence.data;
    // The mean depth is zero where nothing was examined, which also settles `--min-views 0`.
    let confirmed = agreement.count.iter().zip(&agreement.depth.data);
    confirmed
        .zip(confidence)
        .map(|((&count, &mean), &c)| {
            mean > 0.0 && c > options.trusted_confidence as f32 && usize::from(count) >= required
        })
        .collect()
}

/// Replaces the unsure pixels of `fine` under which every coarse sample with a non-zero weight is reliable.
fn replace(coarse: &LevelMaps, reliable: &[bool], fine: &mut LevelMaps, replaced_confidence: f64) -> usize {
    let (width, coarse_width) = (fine.depth.width, coarse.depth.width);
    let mut replaced = 0;
    let rows = fine.depth.data.chunks_mut(width.max(1)).zip(fine.confidence.data.chunks_mut(width.max(1)));
    for (y, (depth, confidence)) in rows.enumerate() {
        let (top, bottom) = samples(y, coarse.depth.height);
        for (x, (depth, confidence)) in depth.iter_mut().zip(confidence).enumerate() {
            // NaN is no confidence at all.
            if *confidence >= replaced_confidence as f32 {
                continue;
            }
            let (left, right) = samples(x, coarse_width);
            let four = [(top, left), (top, right), (bottom, left), (bottom, right)];
            let four = four.map(|(row, column)| row * coarse_width + column);
            if four.iter().all(|&at| reliable[at]) {
                // Weights are 1 or 1/2 a side; where a side has one sample it is in the sum twice.
                let mean = |map: &Map| four.iter().map(|&at| f64::from(map.data[at])).sum::<f64>() / 4.0;
                *depth = mean(&coarse.depth) as f32;
                *confidence = mean(&coarse.confidence) as f32;
                replaced += 1;
            }
        }
    }
    replaced
}

/// The one or two coarse samples around fine index / 2. The last odd index lies half a sample beyond the last coarse
/// one and takes that alone, as in the network's own upsampling.
fn samples(index: usize, coarse: usize) -> (usize, usize) {
    let low = (index / 2).min(coarse - 1);
    (low, if index.is_multiple_of(2) { low } else { (low + 1).min(coarse - 1) })
}

/// An [`Error::Bug`] where lists, sizes or sources do not fit together.
pub(crate) fn check(coarse: &[LevelMaps], fine: &[LevelMaps], sources: &[Vec<usize>]) -> Result<()> {
    let bug = |problem: String| Err(Error::Bug { place: "merging levels", problem });
    if coarse.len() < fine.len() || sources.len() != fine.len() {
        let (coarse, fine, sources) = (coarse.len(), fine.len(), sources.len());
        return bug(format!("{coarse} coarse views, {fine} fine views and {sources} lists of sources"));
    }
    for (view, (c, f)) in coarse.iter().zip(fine).enumerate() {
        for (level, maps) in [("coarse", c), ("fine", f)] {
            let [depth, confidence] = [&maps.depth, &maps.confidence].map(|m| (m.width, m.height, m.data.len()));
            if depth != confidence || depth.0 * depth.1 != depth.2 {
                return bug(format!("view {view}: {level} depth {depth:?} and confidence {confidence:?}"));
            }
        }
        let (c, f) = ((c.depth.width, c.depth.height), (f.depth.width, f.depth.height));
        if c != (f.0.div_ceil(2), f.1.div_ceil(2)) {
            return bug(format!("view {view}: a coarse map of {c:?} is not half a fine one of {f:?}, rounded up"));
        }
        if let Some(source) = sources[view].iter().find(|&&s| s >= coarse.len() || s == view) {
            return bug(format!("view {view}: source {source} is not another of the {} views", coarse.len()));
        }
    }
    Ok(())
}
