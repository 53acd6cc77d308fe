//! Finished depth maps to one coloured cloud (SPEC "Filter and fusion"; protocol page E.7).
//!
//! First every view's pixels are confirmed by its source views, all views in parallel; then the views are taken in
//! order: each emits its confirmed pixels, and an emitted point takes the pixels of later views that it explains
//! out of the running. The cloud depends on the order of the views, never on the number of threads.

use glam::{DMat3, DVec3};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::camera::{Camera, DepthRange};
use crate::consistency::{DepthView, Thresholds, agreement_above, is_depth};
use crate::formats::ply::Point;
use crate::map::Map;
use crate::normals;
use crate::{Error, Result};

/// Which pixels become points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusionOptions {
    /// A pixel is kept only above this confidence.
    pub min_confidence: f64,
    /// How the pixel must be confirmed by the source views' maps.
    pub thresholds: Thresholds,
    /// Also emit the pixels of later views that an accepted point has already explained.
    pub keep_duplicates: bool,
}

impl Default for FusionOptions {
    /// 0.8, and 3 source views within 1 px and 1 %; no duplicates.
    fn default() -> Self {
        Self { min_confidence: 0.8, thresholds: Thresholds::default(), keep_duplicates: false }
    }
}

/// One view, ready for fusion; all maps are [height, width] of the same size.
#[derive(Clone, Debug)]
pub struct FusionView {
    /// Its name, for messages.
    pub name: String,
    /// The camera whose pixels are the maps' pixels.
    pub camera: Camera,
    /// Depth; zero, negative, NaN or infinite where there is none.
    pub depth: Map,
    /// Confidence 0..1.
    pub confidence: Map,
    /// Red, green, blue of the photo at each pixel.
    pub colour: Vec<[u8; 3]>,
    /// Depths outside are not used.
    pub range: DepthRange,
    /// Indices of the views that confirm this one.
    pub sources: Vec<usize>,
}

impl FusionView {
    fn depth_view(&self) -> DepthView<'_> {
        DepthView { camera: self.camera, depth: &self.depth, confidence: &self.confidence }
    }
}

/// The cloud and what became of every view's pixels.
#[derive(Clone, Debug)]
pub struct Fused {
    /// In the order of the views, and in a view row by row.
    pub points: Vec<Point>,
    /// One for each view.
    pub funnels: Vec<Funnel>,
}

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

/// Filters the views' maps and makes the cloud.
///
/// Memory beside the views: six bytes a pixel of all views, the temporaries of the views in work, and 32 bytes a
/// point.
///
/// # Errors
/// [`Error::Shape`], naming the view, where its maps differ in size or a source is not another view.
pub fn fuse(views: &[FusionView], options: &FusionOptions) -> Result<Fused> {
    check(views)?;
    let confirmed: Vec<(Confirmed, Funnel)> =
        (0..views.len()).into_par_iter().map(|view| confirm(views, view, options)).collect();
    let (mut confirmed, mut funnels): (Vec<_>, Vec<_>) = confirmed.into_iter().unzip();
    let mut points = Vec::new();
    for (at, view) in views.iter().enumerate() {
        let (done, later) = confirmed.split_at_mut(at + 1);
        let own = std::mem::take(&mut done[at]);
        let emitted = emit(view, &own);
        funnels[at].fused = emitted.len();
        funnels[at].duplicates = funnels[at].kept - emitted.len();
        if !options.keep_duplicates {
            let positions: Vec<DVec3> = emitted.iter().map(|(position, _)| *position).collect();
            let blocks: Vec<Block> = positions.chunks(1024).map(Block::new).collect();
            later.par_iter_mut().zip(&views[at + 1..]).for_each(|(confirmed, view)| {
                explain_away(view, confirmed, &blocks, options.thresholds.max_depth_error_rel);
            });
        }
        points.extend(emitted.into_iter().map(|(_, point)| point));
    }
    Ok(Fused { points, funnels })
}

/// What is left of a view's maps after the filter; [height, width].
#[derive(Default)]
struct Confirmed {
    /// Mean of the pixel's own and the agreeing depths; 0 where the pixel was not kept.
    depth: Vec<f32>,
    /// Number of agreeing source views.
    count: Vec<u8>,
    /// Whether a point of an earlier view has explained the pixel.
    explained: Vec<bool>,
}

fn confirm(views: &[FusionView], at: usize, options: &FusionOptions) -> (Confirmed, Funnel) {
    let view = &views[at];
    let source_views: Vec<DepthView> = view.sources.iter().map(|&s| views[s].depth_view()).collect();
    let source_views: Vec<&DepthView> = source_views.iter().collect();
    let agreement =
        agreement_above(&view.depth_view(), &source_views, &options.thresholds, options.min_confidence);
    let required = options.thresholds.required(view.sources.len()).map(|n| n.min(255));

    let mut funnel = Funnel { pixels: view.depth.data.len(), ..Funnel::default() };
    let mut with_count = [0usize; 256];
    let mut mean = agreement.depth.data;
    let pixels = view.depth.data.iter().zip(&view.confidence.data).zip(&agreement.count).zip(&mut mean);
    for (((&depth, &confidence), &count), mean) in pixels {
        let end = range_end(depth, view.range);
        let Some(end) = end else {
            *mean = 0.0;
            continue;
        };
        funnel.in_range += 1;
        funnel.near_end += usize::from(end == End::Near);
        funnel.far_end += usize::from(end == End::Far);
        let confident = confidence > options.min_confidence as f32;
        let kept = confident && required.is_some_and(|n| usize::from(count) >= n);
        funnel.confident += usize::from(confident);
        with_count[usize::from(count)] += usize::from(confident);
        funnel.kept += usize::from(kept);
        if !kept {
            *mean = 0.0;
        }
    }
    let at_least = |n: usize| with_count[n.min(255)..].iter().sum();
    funnel.agreed = (1..=view.sources.len()).map(at_least).collect();
    let explained = vec![false; mean.len()];
    (Confirmed { depth: mean, count: agreement.count, explained }, funnel)
}

/// Where in its range a depth lies.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Near,
    Inside,
    Far,
}

/// `None` outside the range. Depth maps are f32: near and far themselves are inside however they were rounded.
fn range_end(depth: f32, range: DepthRange) -> Option<End> {
    let DepthRange { near, far } = range;
    let d = f64::from(depth);
    if !is_depth(depth) || d < near * (1.0 - 1e-6) || d > far * (1.0 + 1e-6) {
        return None;
    }
    // How planes were spaced is not known here: the end is where both spacings have their last 2 %.
    let (span, inverse_span) = (0.02 * (far - near), 0.02 * (1.0 / near - 1.0 / far));
    Some(if d - near < span && 1.0 / near - 1.0 / d < inverse_span {
        End::Near
    } else if far - d < span && 1.0 / d - 1.0 / far < inverse_span {
        End::Far
    } else {
        End::Inside
    })
}

/// The points of a view's kept pixels that no earlier view has explained, row by row, with their exact positions.
fn emit(view: &FusionView, confirmed: &Confirmed) -> Vec<(DVec3, Point)> {
    let width = view.depth.width;
    // Of the view's own map: it is complete, while the means have holes and change with every view that agrees.
    let normals = normals::from_depth(&view.camera, &view.depth);
    let world_from_pixel: DMat3 = view.camera.r.transpose() * view.camera.k.inverse();
    let centre = view.camera.centre();
    let point = |i: usize| {
        let ray = world_from_pixel * DVec3::new((i % width) as f64, (i / width) as f64, 1.0);
        let position = centre + ray * f64::from(confirmed.depth[i]);
        let point = Point {
            position: position.as_vec3().to_array(),
            normal: normals[i],
            colour: view.colour[i],
            confidence: view.confidence.data[i],
            views: confirmed.count[i].saturating_add(1),
        };
        (position, point)
    };
    let emitted = |i: &usize| confirmed.depth[*i] > 0.0 && !confirmed.explained[*i];
    let row = |y: usize| -> Vec<_> { (y * width..(y + 1) * width).filter(emitted).map(point).collect() };
    let rows: Vec<_> = (0..view.depth.height).into_par_iter().map(row).collect();
    rows.concat()
}

/// Neighbouring points with the box around them, so that a view that sees none of them need not look at each.
struct Block<'a> {
    points: &'a [DVec3],
    corners: [DVec3; 8],
}

impl<'a> Block<'a> {
    fn new(points: &'a [DVec3]) -> Self {
        let low = points.iter().copied().reduce(DVec3::min).unwrap_or_default();
        let high = points.iter().copied().reduce(DVec3::max).unwrap_or_default();
        let corner =
            |i: usize| DVec3::select(glam::BVec3::new(i & 1 != 0, i & 2 != 0, i & 4 != 0), high, low);
        Self { points, corners: std::array::from_fn(corner) }
    }

    /// False only where no point of the box can fall on a pixel: all corners, and so everything between them, are
    /// beyond the same side of the view's frustum (each side is a linear inequality on the homogeneous pixel).
    fn may_be_seen(&self, camera: &Camera, width: usize, height: usize) -> bool {
        let (width, height) = (width as f64, height as f64);
        let q = self.corners.map(|corner| camera.project(corner));
        let all = |outside: &dyn Fn(&DVec3) -> bool| q.iter().all(outside);
        !(all(&|q| q.z <= 1e-6)
            || all(&|q| q.x < -0.5 * q.z)
            || all(&|q| q.y < -0.5 * q.z)
            || all(&|q| q.x > (width - 0.5) * q.z)
            || all(&|q| q.y > (height - 0.5) * q.z))
    }
}

/// Marks the kept pixels of a view that points explain: they fall within the pixel, at its depth.
fn explain_away(view: &FusionView, confirmed: &mut Confirmed, blocks: &[Block], max_depth_error_rel: f64) {
    let Map { width, height, .. } = view.depth;
    let matrix = view.camera.k * view.camera.r;
    let shift = view.camera.k * view.camera.t;
    for block in blocks {
        if !block.may_be_seen(&view.camera, width, height) {
            continue;
        }
        for &point in block.points {
            let q = matrix * point + shift;
            if q.z <= 1e-6 {
                continue;
            }
            let (x, y) = ((q.x / q.z + 0.5).floor(), (q.y / q.z + 0.5).floor());
            if x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64 {
                let at = y as usize * width + x as usize;
                let own = f64::from(confirmed.depth[at]);
                // Without a kept depth there, `own` is 0 and nothing is smaller.
                if (q.z - own).abs() < max_depth_error_rel * own {
                    confirmed.explained[at] = true;
                }
            }
        }
    }
}

/// An [`Error::Shape`] where lists, sizes or sources do not fit together.
pub(crate) fn check(views: &[FusionView]) -> Result<()> {
    for (at, view) in views.iter().enumerate() {
        let shape = |problem: String| {
            Err(Error::Shape { op: "fusion::fuse", problem: format!("view {}: {problem}", view.name) })
        };
        let [depth, confidence] = [&view.depth, &view.confidence].map(|m| (m.width, m.height));
        let lengths = [view.depth.data.len(), view.confidence.data.len(), view.colour.len()];
        if depth != confidence || lengths.iter().any(|&n| n != depth.0 * depth.1) {
            return shape(format!(
                "a depth map of {} x {}, a confidence map of {} x {} and {} colours; expected one size",
                depth.0, depth.1, confidence.0, confidence.1, lengths[2]
            ));
        }
        if let Some(source) = view.sources.iter().find(|&&s| s >= views.len() || s == at) {
            return shape(format!("source {source} is not another of the {} views", views.len()));
        }
    }
    Ok(())
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
    // No view can ask for more than its sources.
    let asked = options.thresholds.min_views.min(all.agreed.len());
    let fewer = asked.saturating_sub(1).max(1);
    Some(if all.pixels == 0 {
        "there were no depth maps to fuse".into()
    } else if funnels.iter().all(|f| f.agreed.is_empty()) {
        "no view has a source view that could confirm its depths: check the pair list, or fuse more views"
            .into()
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
            "{} of the confident pixels agree with one source view, but only {} with the {} asked for: try --min-views \
             {} or --max-depth-error-rel {}",
            percent(at_one, all.confident),
            percent(all.kept, all.confident),
            options.thresholds.min_views,
            fewer,
            2.0 * options.thresholds.max_depth_error_rel
        )
    })
}
