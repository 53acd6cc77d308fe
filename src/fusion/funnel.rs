//! Where pixels were lost on their way to the cloud, counted, and why a cloud is thin, in one sentence.

use serde::{Deserialize, Serialize};

use super::settings::FusionOptions;

/// Where one view's pixels were lost; every line counts pixels that passed the lines before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    /// All pixels of the map.
    pub pixels: usize,
    /// With a depth between near and far.
    pub in_range: usize,
    /// Of those in range: within 2 % of the near end, in depth and in inverse depth.
    pub near_end: usize,
    /// Of those in range: within 2 % of the far end, in depth and in inverse depth.
    pub far_end: usize,
    /// In range and above the least confidence.
    pub confident: usize,
    /// `agreed[i]`: confident pixels with at least i + 1 agreeing source views; as long as the list of sources.
    pub agreed: Vec<usize>,
    /// Confident pixels that enough source views agree with.
    pub kept: usize,
    /// Kept pixels that a point of an earlier view had already explained; 0 where duplicates are kept.
    pub duplicates: usize,
    /// Points emitted: `kept - duplicates`.
    pub fused: usize,
}

impl Funnel {
    /// All views together; `agreed` is as long as the longest.
    pub fn sum<'a>(funnels: impl IntoIterator<Item = &'a Funnel>) -> Funnel {
        funnels.into_iter().fold(Funnel::default(), |mut sum, f| {
            sum.pixels += f.pixels;
            sum.in_range += f.in_range;
            sum.near_end += f.near_end;
            sum.far_end += f.far_end;
            sum.confident += f.confident;
            sum.agreed.resize(sum.agreed.len().max(f.agreed.len()), 0);
            sum.agreed.iter_mut().zip(&f.agreed).for_each(|(s, n)| *s += n);
            sum.kept += f.kept;
            sum.duplicates += f.duplicates;
            sum.fused += f.fused;
            sum
        })
    }
}

/// The likely reason when fewer than a tenth of the pixels survive, and what to try; `None` when enough do.
pub fn explain(funnels: &[Funnel], options: &FusionOptions) -> Option<String> {
    let all = Funnel::sum(funnels);
    if all.pixels > 0 && all.kept * 10 >= all.pixels {
        return None;
    }
    let percent = |part: usize, whole: usize| format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64);
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let at_one = all.agreed.first().copied().unwrap_or(0);
    let least = options.min_confidence;
    Some(if all.pixels == 0 {
        "there were no depth maps to fuse".into()
    } else if funnels.iter().all(|f| f.agreed.is_empty()) {
        "no view has a source view that could confirm its depths: check the pair list, or fuse more views".into()
    } else if share(all.in_range, all.pixels) < 0.5 {
        format!(
            "only {} of the pixels have a depth between near and far: check that the range is in the cameras' units, \
             or give --range near,far",
            percent(all.in_range, all.pixels)
        )
    } else if share(all.near_end, all.in_range) > 0.25 {
        format!(
            "{} of the depths lie at the near end of the range, so surfaces are probably nearer than it: try --range \
             with a smaller near",
            percent(all.near_end, all.in_range)
        )
    } else if share(all.far_end, all.in_range) > 0.25 {
        format!(
            "{} of the depths lie at the far end of the range, so surfaces are probably farther than it: try --range \
             with a larger far",
            percent(all.far_end, all.in_range)
        )
    } else if all.confident == 0 || share(all.confident, all.in_range) < share(all.kept, all.confident) {
        format!(
            "only {} of the pixels have a confidence above {least}: too little texture or overlap, source views that \
             look from too far around, or a range too wide for its planes; try --views 3 if it was more, a tighter \
             --range, or --min-confidence {}",
            percent(all.confident, all.in_range),
            if least > 0.5 { 0.5 } else { least / 2.0 }
        )
    } else if share(at_one, all.confident) < 0.2 {
        format!(
            "only {} of the confident pixels agree with even one source view: the cameras do not fit the photos, or \
             the depth range misses the scene; check the cameras' scale and --range",
            percent(at_one, all.confident)
        )
    } else {
        format!(
            "{} of the confident pixels agree with one source view, but only {} with {}: try {}",
            percent(at_one, all.confident),
            percent(all.kept, all.confident),
            options.method.asked_for(),
            // No view can ask for more than its sources.
            options.method.looser(all.agreed.len())
        )
    })
}
