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
    /// Of those in range: in segments of the map too small to be surfaces, and dropped.
    #[serde(default)]
    pub specks: usize,
    /// In range, in no such segment, and above the least confidence.
    pub confident: usize,
    /// `agreed[i]`: confident pixels with at least i + 1 agreeing source views; as long as the list of sources.
    pub agreed: Vec<usize>,
    /// Confident pixels that enough source views agree with.
    pub kept: usize,
    /// Kept pixels that a point of an earlier view had already explained; 0 where duplicates are kept.
    pub duplicates: usize,
    /// Kept pixels, not repeated, that were dropped since all views that confirm them look from the same places.
    #[serde(default)]
    pub one_place: usize,
    /// Kept pixels, not repeated, that were dropped since other views see through them.
    #[serde(default)]
    pub seen_through: usize,
    /// Kept pixels, not repeated, that were dropped since most views that confirm them have another normal there.
    #[serde(default)]
    pub disputed: usize,
    /// Points emitted: `kept` without the duplicates and what was dropped.
    pub fused: usize,
    /// Of the points, those that lie outside of the region of interest; only told of all views together.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beyond: usize,
    /// Of the points, those that went into another one of their voxel; only told of all views together.
    #[serde(default)]
    pub thinned: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Funnel {
    /// All views together; `agreed` is as long as the longest.
    pub fn sum<'a>(funnels: impl IntoIterator<Item = &'a Funnel>) -> Funnel {
        funnels.into_iter().fold(Funnel::default(), |mut sum, f| {
            sum.pixels += f.pixels;
            sum.in_range += f.in_range;
            sum.near_end += f.near_end;
            sum.far_end += f.far_end;
            sum.specks += f.specks;
            sum.confident += f.confident;
            sum.agreed.resize(sum.agreed.len().max(f.agreed.len()), 0);
            sum.agreed.iter_mut().zip(&f.agreed).for_each(|(s, n)| *s += n);
            sum.kept += f.kept;
            sum.duplicates += f.duplicates;
            sum.one_place += f.one_place;
            sum.seen_through += f.seen_through;
            sum.disputed += f.disputed;
            sum.fused += f.fused;
            sum.beyond += f.beyond;
            sum.thinned += f.thinned;
            sum
        })
    }

    /// Kept pixels, not repeated, that other views spoke against, by what they said: only what was said at all.
    pub fn objections(&self) -> Vec<(usize, &'static str)> {
        let all = [
            (self.one_place, "are seen from one place only"),
            (self.seen_through, "are seen through by other views"),
            (self.disputed, "have another normal in most views"),
        ];
        all.into_iter().filter(|(pixels, _)| *pixels > 0).collect()
    }

    /// Kept pixels, not repeated, that other views spoke against.
    pub fn dropped_by_guard(&self) -> usize {
        self.one_place + self.seen_through + self.disputed
    }
}

/// Why the guard took most of the pixels that were confirmed, and what to try.
fn explain_guard(all: &Funnel) -> String {
    let percent = |part: usize| format!("{:.0} %", 100.0 * part as f64 / (all.kept - all.duplicates).max(1) as f64);
    let most = all.one_place.max(all.seen_through).max(all.disputed);
    if most == all.one_place {
        format!(
            "{} of the confirmed pixels are confirmed from one place only: photos from places farther apart would \
             help; --min-angle-deg of `engine fuse` lets nearer ones count",
            percent(most)
        )
    } else if most == all.seen_through {
        format!(
            "other views see through {} of the confirmed pixels: the maps contradict each other, and few of them can \
             be right; check the cameras and the depth range",
            percent(most)
        )
    } else {
        format!(
            "{} of the confirmed pixels have another normal in most of the views that confirm them: depths of plain \
             areas, or maps too rough for their size; --max-normal-deg 180 of `engine fuse` does not compare normals",
            percent(most)
        )
    }
}

/// The likely reason when fewer than a tenth of the pixels survive, and what to try; `None` when enough do.
pub fn explain(funnels: &[Funnel], options: &FusionOptions) -> Option<String> {
    let all = Funnel::sum(funnels);
    let guarded = all.dropped_by_guard();
    // Repeated pixels are in the cloud, as the points that they repeat.
    if all.pixels > 0 && (all.kept - guarded.min(all.kept)) * 10 >= all.pixels {
        return None;
    }
    let percent = |part: usize, whole: usize| format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64);
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let at_one = all.agreed.first().copied().unwrap_or(0);
    let least = options.min_confidence;
    // Either enough was confirmed and the guard took it, or it took all that there was.
    if all.pixels > 0 && (all.kept * 10 >= all.pixels || (guarded > 0 && all.fused == 0)) {
        return Some(explain_guard(&all));
    }
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
