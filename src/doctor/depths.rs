//! The depth range against what is known of the surfaces, and what the planes can tell apart.

use glam::DVec2;
use serde_json::{Value, json};

use super::finding::{Finding, Grade, counted_views, name_of, percent, range_json, range_text, units};
use super::known_depths::{KnownDepths, median};
use crate::manifest::RangeFrom;
use crate::run::plan::{Frame, PLANES_OF_INTERVAL, Plan, ViewPlan};
use crate::scene::camera::{DepthRange, Hypotheses, Sampling};
use crate::scene::{DepthNumbers, Scene};

/// Shares of known depths outside of the range: one in twenty may be outliers, one in five is missing surfaces, and
/// with half of them the range belongs to something else.
pub(super) const OUTSIDE: (f64, f64) = (0.05, 0.5);
/// The share of planes that lie between known depths, below which most planes are wasted: of sparse points, which lie
/// all over the surfaces, and of points matched in the photos, which may lie on some of them only.
const USED_PLANES: (f64, f64) = (0.15, 0.05);
/// Neighbouring planes this far apart in the best source, in pixels of the maps (a quarter of the photo's): a surface
/// midway between them is more than a pixel from both, so that features of one pixel do not meet on either.
pub(super) const COARSE_PX: f64 = 2.0;
/// From here on the planes, not the maps' pixels, limit how exact depths are.
const LIMITING_PX: f64 = 1.0;
/// Planes this close, in pixels of the maps, cannot be told apart.
const FINE_PX: f64 = 0.05;
/// Evenly spaced depths waste planes far away, or lack them nearby, above this ratio of far to near (the run's own
/// limit).
const LINEAR_BELOW: f64 = 3.0;

/// Looks at every planned view.
pub fn check(scene: &Scene, plan: &Plan, numbers: DepthNumbers, known: &KnownDepths, findings: &mut Vec<Finding>) {
    range(scene, plan, numbers, known, findings);
    resolution(scene, plan, known, findings);
}

fn range(scene: &Scene, plan: &Plan, numbers: DepthNumbers, known: &KnownDepths, findings: &mut Vec<Finding>) {
    let all = plan.views.len();
    let outside: Vec<(usize, f64)> =
        plan.views.iter().enumerate().filter_map(|(i, v)| Some((i, known.outside(v.view, v.range)?))).collect();
    let list =
        |of: &[(usize, f64)]| -> Vec<String> { of.iter().map(|&(i, _)| name_of(scene, plan.views[i].view)).collect() };
    let from = plan.views[0].range_from;
    let source = match from {
        RangeFrom::Option => "--range",
        RangeFrom::Scene => "the scene's files",
        RangeFrom::Points => "sparse points",
        RangeFrom::Region => "the region of interest",
    };
    // The first of the views that a finding is about stands for them.
    let mut push = |grade, name, (key, share): (&str, f64), of: &[(usize, f64)], found: String, advice: String| {
        let (view, views) = (&plan.views[of[0].0], list(of));
        let span = known.span(view.view).unwrap_or(view.range);
        let expected = format!("a range around {} (1st to 99th percentile)", range_text(span));
        let found = format!("{}: {found}", counted_views(&views, all));
        let numbers = json!({ key: share, "range": range_json(view.range), "points": range_json(span) });
        findings.push(Finding::new(grade, "range", name, found, expected, advice).of_views(views).with(numbers));
    };
    let wrong: Vec<(usize, f64)> = outside.iter().copied().filter(|&(_, share)| share > OUTSIDE.0).collect();
    if let Some(&(first, share)) = wrong.first() {
        let view = &plan.views[first];
        let worst = median(wrong.iter().map(|&(_, s)| s).collect()).unwrap_or(share);
        let span = known.span(view.view).unwrap_or(view.range);
        let grade = if worst > OUTSIDE.1 { Grade::Problem } else { Grade::Warning };
        let advice = other_reading(scene, view, numbers, known).unwrap_or_else(|| {
            format!(
                "give --range {},{} or correct the depth numbers (a factor of {:.3} between the middles says whether \
                 it is the unit)",
                units(0.9 * span.near),
                units(1.1 * span.far),
                middle(view.range) / middle(span)
            )
        });
        let (outside, range) = (percent(worst), range_text(view.range));
        let found = format!("{outside} of {} lie outside of the range {range} (from {source})", known.from);
        push(grade, "range-misses-points", ("outside", worst), &wrong, found, advice);
        return;
    }
    let used = |view: &ViewPlan| {
        let span = known.span(view.view)?;
        let depths = Hypotheses::new(view.range, view.planes, view.sampling).depths;
        let inside = depths.iter().filter(|&&d| d >= span.near && d <= span.far).count();
        Some(inside as f64 / depths.len() as f64)
    };
    let least = if scene.points.is_empty() { USED_PLANES.1 } else { USED_PLANES.0 };
    let wasted: Vec<(usize, f64)> = plan
        .views
        .iter()
        .enumerate()
        .filter_map(|(i, v)| Some((i, used(v)?)).filter(|&(_, share)| share < least))
        .collect();
    // A view that looks at one near thing needs no range of its own.
    if let Some(&(first, share)) = wasted.first().filter(|_| 2 * wasted.len() >= all) {
        let view = &plan.views[first];
        let span = known.span(view.view).unwrap_or(view.range);
        let (used, range) = (percent(share), range_text(view.range));
        let found = format!("{used} of the planes of the range {range} (from {source}) lie where {} are", known.from);
        let advice = format!("give --range {},{}", units(0.9 * span.near), units(1.1 * span.far));
        push(Grade::Warning, "range-too-wide", ("used", share), &wasted, found, advice);
        return;
    }
    let view = &plan.views[0];
    let checked = match outside.len() {
        0 => "not checked: no points are known".to_owned(),
        n => {
            let middle = median(outside.iter().map(|&(_, s)| s).collect()).unwrap_or(0.0);
            format!("{} of {} outside (median of {n} views)", percent(middle), known.from)
        }
    };
    findings.push(
        Finding::ok(
            "range",
            "range",
            format!("{} from {source} for view {}; {checked}", range_text(view.range), name_of(scene, view.view)),
        )
        .with(json!({ "range": range_json(view.range), "checked_views": outside.len() })),
    );
}

fn middle(range: DepthRange) -> f64 {
    (range.near * range.far).sqrt()
}

/// Where two depth numbers were assumed to be near and far, and the points fit near and interval: the option that
/// reads them so.
fn other_reading(scene: &Scene, view: &ViewPlan, numbers: DepthNumbers, known: &KnownDepths) -> Option<String> {
    let of = &scene.views[view.view];
    if view.range_from != RangeFrom::Scene || of.planes.is_some() || numbers != DepthNumbers::Auto {
        return None;
    }
    // Numbers of which the second is not larger have only one meaning.
    let DepthRange { near, far: interval } = of.range?;
    let range = DepthRange { near, far: near + interval * (PLANES_OF_INTERVAL - 1) as f64 };
    let outside = known.outside(view.view, range)?;
    (outside <= OUTSIDE.0).then(|| {
        format!(
            "read the second depth number as the interval, --depth-numbers interval: then {} of the points lie outside",
            percent(outside)
        )
    })
}

/// How far the points at two depths on the axis of a view are apart in a source, in pixels of maps at a quarter of the
/// photos' sides, which the planes are for; `None` where the source does not see both.
pub(super) fn disparity(view: &Frame, source: &Frame, depths: [f64; 2]) -> Option<f64> {
    let (own, other, size) = (view.quarter_camera(0), source.quarter_camera(0), source.quarter_size(0));
    let last = DVec2::new(size.0 as f64 - 0.5, size.1 as f64 - 0.5);
    let seen = |depth: f64| {
        let pixel = other.pixel(own.unproject(own.k.z_axis.x, own.k.z_axis.y, depth))?.0;
        (pixel.cmpge(DVec2::splat(-0.5)).all() && pixel.cmplt(last).all()).then_some(pixel)
    };
    Some(seen(depths[0])?.distance(seen(depths[1])?))
}

fn resolution(scene: &Scene, plan: &Plan, known: &KnownDepths, findings: &mut Vec<Finding>) {
    let mut coarse = Vec::new();
    let mut fine = Vec::new();
    let mut uneven = Vec::new();
    let mut all = Vec::new();
    for view in &plan.views {
        let depths = Hypotheses::new(view.range, view.planes, view.sampling).depths;
        if view.sampling == Sampling::Linear && view.range.far / view.range.near > LINEAR_BELOW {
            uneven.push(name_of(scene, view.view));
        }
        // Where surfaces are known to be, else all of the range.
        let span = known.span(view.view).unwrap_or(view.range);
        let best = |at: usize| {
            let pair = [depths[at], depths[at + 1]];
            let of_source = |&s: &usize| disparity(&plan.frames[view.view], &plan.frames[s], pair);
            view.sources.iter().filter_map(of_source).reduce(f64::max)
        };
        let steps: Vec<(f64, f64)> = (0..depths.len().saturating_sub(1))
            .filter(|&i| depths[i + 1] >= span.near && depths[i] <= span.far)
            .filter_map(|i| Some((depths[i], best(i)?)))
            .collect();
        let Some(most) = steps.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a }) else { continue };
        all.push((view, most.1, steps.iter().map(|s| s.1).fold(f64::MAX, f64::min)));
        if most.1 > COARSE_PX {
            coarse.push((view, most));
        } else if most.1 < FINE_PX {
            fine.push((view, most.1));
        }
    }
    let count = plan.views.len();
    let list = |views: Vec<&ViewPlan>| -> Vec<String> { views.iter().map(|v| name_of(scene, v.view)).collect() };
    if let Some(&(view, (depth, px))) = coarse.first() {
        let views = list(coarse.iter().map(|c| c.0).collect());
        let planes = (view.planes as f64 * px).ceil();
        findings.push(
            Finding::new(
                Grade::Warning,
                "resolution",
                "too-few-planes",
                format!(
                    "{}: {} planes are {px:.1} map pixels apart in the best source, at depth {}",
                    counted_views(&views, count),
                    view.planes,
                    units(depth)
                ),
                format!("{COARSE_PX} map pixels (of four photo pixels) at most"),
                match view.sampling {
                    Sampling::Linear if view.range.far / view.range.near > LINEAR_BELOW => {
                        "use --sampling inverse, which has its planes where disparities need them".to_owned()
                    }
                    _ => format!("use --planes {planes} or a tighter --range"),
                },
            )
            .of_views(views)
            .with(json!({ "map_px": px, "planes": view.planes, "depth": depth })),
        );
    } else if let Some(&(view, px, _)) = all.iter().find(|(_, most, _)| *most > LIMITING_PX) {
        let views = list(all.iter().filter(|a| a.1 > LIMITING_PX).map(|a| a.0).collect());
        findings.push(
            Finding::new(
                Grade::Note,
                "resolution",
                "few-planes",
                format!(
                    "{}: {} planes are up to {px:.1} map pixels apart in the best source",
                    counted_views(&views, count),
                    view.planes
                ),
                format!("{LIMITING_PX} map pixel or less, where planes do not limit how exact depths are"),
                format!("--planes {} would do", (view.planes as f64 * px / LIMITING_PX).ceil()),
            )
            .of_views(views)
            .with(json!({ "map_px": px, "planes": view.planes })),
        );
    } else if !uneven.is_empty() {
        findings.push(
            Finding::new(
                Grade::Note,
                "resolution",
                "uneven-planes",
                format!(
                    "{}: evenly spaced depths, though far / near is above {LINEAR_BELOW}",
                    counted_views(&uneven, count)
                ),
                "",
                "--sampling inverse spaces planes evenly in the photos",
            )
            .of_views(uneven),
        );
    }
    if let Some(&(view, px)) = fine.first() {
        let views = list(fine.iter().map(|f| f.0).collect());
        findings.push(
            Finding::new(
                Grade::Note,
                "resolution",
                "planes-too-close",
                format!(
                    "{}: {} planes are at most {px:.3} map pixels apart in any source, closer than can be told",
                    counted_views(&views, count),
                    view.planes
                ),
                "",
                "fewer --planes would do the same in less time, unless sources further apart can be had",
            )
            .of_views(views)
            .with(json!({ "map_px": px, "planes": view.planes })),
        );
    }
    let each: Vec<Value> = all.iter().map(|&(view, most, least)| view_json(scene, view, least, most)).collect();
    let Some(&(view, most, least)) = all.first() else { return };
    let [first, half, last] = intervals(view);
    let spacing = match view.sampling {
        Sampling::Linear => "in depth",
        Sampling::Inverse => "in 1 / depth",
    };
    findings.push(
        Finding::ok(
            "resolution",
            "resolution",
            format!(
                "view {}: {} planes evenly spaced {spacing}, far / near {:.2}; {} apart near, {} in the middle, {} \
                 far; {least:.2} to {most:.2} map pixels of disparity in the best source",
                name_of(scene, view.view),
                view.planes,
                view.range.far / view.range.near,
                units(first),
                units(half),
                units(last)
            ),
        )
        .with(json!({ "views": each })),
    );
}

/// The distances of neighbouring planes at the near end, in the middle and at the far end, in scene units.
fn intervals(view: &ViewPlan) -> [f64; 3] {
    let depths = Hypotheses::new(view.range, view.planes, view.sampling).depths;
    let gap = |at: usize| depths.get(at + 1).map_or(0.0, |next| next - depths[at]);
    [0, depths.len() / 2, depths.len().saturating_sub(2)].map(gap)
}

fn view_json(scene: &Scene, view: &ViewPlan, least: f64, most: f64) -> Value {
    json!({
        "view": name_of(scene, view.view), "range": range_json(view.range), "planes": view.planes,
        "sampling": view.sampling, "intervals": intervals(view), "least_map_px": least, "most_map_px": most,
    })
}
