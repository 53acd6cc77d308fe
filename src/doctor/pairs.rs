//! Views and their sources: baseline, the angle between their rays, and how much of the frustum both see.

use glam::DVec3;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::finding::{Finding, Grade, counted_views, name_of, percent, units};
use super::known_depths::{KnownDepths, median};
use crate::run::plan::{Plan, ViewPlan};
use crate::scene::Scene;
use crate::scene::camera::DepthRange;

/// Below this angle, in degrees, a pixel of a depth map is more than 1 % of the depth: an angle of 1 degree and a
/// focal length of 1.2 widths of 1600 pixels give 34 px of disparity from here to infinity, of which 1 % is a third of
/// a pixel.
const SMALL_DEGREES: f64 = 1.0;
/// Above this angle, in degrees, most of what one photo shows looks different in the other, or is hidden.
const LARGE_DEGREES: f64 = 45.0;
/// A source that sees less than this share of the view's frustum has little to say.
const LEAST_OVERLAP: f64 = 0.2;
/// Pixels of the grid over the view at which angle and overlap are taken, in each direction, and depths from near to
/// far.
const GRID: usize = 7;
const DEPTHS: usize = 5;

/// What a source is worth to a view.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The source, an index into the scene's views.
    pub source: usize,
    /// The distance between the two cameras.
    pub baseline: f64,
    /// Median angle between the two rays of a point, in degrees, of the points that both see; of all where there are
    /// none.
    pub degrees: f64,
    /// Share of the view's frustum that the source sees.
    pub overlap: f64,
}

/// Points of a view's frustum, evenly over the photo and over 1 / depth.
fn frustum(scene: &Scene, view: usize, range: DepthRange) -> Vec<DVec3> {
    let of = &scene.views[view];
    let (width, height) = (of.size.0 as f64 - 1.0, of.size.1 as f64 - 1.0);
    let share = |i: usize| (i as f64 + 0.5) / GRID as f64;
    let mut points = Vec::new();
    for d in 0..DEPTHS {
        let part = d as f64 / (DEPTHS - 1) as f64;
        let depth = 1.0 / (1.0 / range.near + part * (1.0 / range.far - 1.0 / range.near));
        for y in 0..GRID {
            for x in 0..GRID {
                points.push(of.camera.unproject(share(x) * width, share(y) * height, depth));
            }
        }
    }
    points
}

/// What each of a view's planned sources is worth.
pub fn of_view(scene: &Scene, plan: &ViewPlan, range: DepthRange) -> Vec<Pair> {
    plan.sources.iter().map(|&source| pair(scene, plan.view, source, range)).collect()
}

fn pair(scene: &Scene, view: usize, source: usize, range: DepthRange) -> Pair {
    let points = frustum(scene, view, range);
    let (own, other) = (&scene.views[view], &scene.views[source]);
    let centres = [own.camera.centre(), other.camera.centre()];
    let sees = |point: &&DVec3| {
        other.camera.pixel(**point).is_some_and(|(p, _)| {
            p.x >= -0.5 && p.y >= -0.5 && p.x < other.size.0 as f64 - 0.5 && p.y < other.size.1 as f64 - 0.5
        })
    };
    let seen: Vec<&DVec3> = points.iter().filter(sees).collect();
    let angle = |point: &DVec3| (centres[0] - *point).angle_between(centres[1] - *point).to_degrees();
    let of = |points: Vec<&DVec3>| median(points.into_iter().map(angle).collect());
    let overlap = seen.len() as f64 / points.len() as f64;
    let degrees = of(seen).or_else(|| of(points.iter().collect())).unwrap_or(0.0);
    Pair { source, baseline: centres[0].distance(centres[1]), degrees, overlap }
}

/// Looks at every planned view and the sources that the network will look at.
pub fn check(scene: &Scene, plan: &Plan, known: &KnownDepths, findings: &mut Vec<Finding>) {
    let all = plan.views.len();
    // Where depths are known, they tell where the surfaces are; a range may be much wider.
    let range = |view: &ViewPlan| known.span(view.view).filter(|r| r.far > r.near).unwrap_or(view.range);
    let pairs: Vec<Vec<Pair>> = plan.views.par_iter().map(|v| of_view(scene, v, range(v))).collect();
    let mut group =
        |grade, name, wrong: Vec<(usize, Pair)>, what: &dyn Fn(&Pair) -> String, expected: &str, advice: &str| {
            let Some((_, first)) = wrong.first() else { return };
            let views: Vec<String> = wrong.iter().map(|&(v, _)| name_of(scene, plan.views[v].view)).collect();
            let text =
                format!("{}: {} (source {})", counted_views(&views, all), what(first), name_of(scene, first.source));
            let numbers = json!({ "degrees": first.degrees, "overlap": first.overlap, "baseline": first.baseline });
            findings.push(Finding::new(grade, "pairs", name, text, expected, advice).of_views(views).with(numbers));
        };
    let each = |wanted: &dyn Fn(&Pair) -> bool, of_all: bool| -> Vec<(usize, Pair)> {
        let of_view = |(v, pairs): (usize, &Vec<Pair>)| {
            let wrong: Vec<Pair> = pairs.iter().copied().filter(|p| wanted(p)).collect();
            let counts = !wrong.is_empty() && (!of_all || wrong.len() == pairs.len());
            counts.then(|| (v, wrong[0]))
        };
        pairs.iter().enumerate().filter_map(of_view).collect()
    };
    let unseen = |p: &Pair| p.overlap == 0.0;
    let blind = each(&unseen, true);
    let some_blind: Vec<_> =
        each(&unseen, false).into_iter().filter(|(v, _)| blind.iter().all(|(b, _)| b != v)).collect();
    group(
        Grade::Problem,
        "no-overlap",
        blind,
        &|_| "no source sees anything of the view's frustum".into(),
        "sources that look at the same place",
        "check poses, pair.txt and the depth range's units; without pair.txt sources are selected",
    );
    group(
        Grade::Warning,
        "blind-source",
        some_blind,
        &|_| "a source sees nothing of the view's frustum".into(),
        "sources that look at the same place",
        "take it out of pair.txt, or remove pair.txt to have sources selected",
    );
    let few: Vec<_> =
        each(&|p: &Pair| p.overlap < LEAST_OVERLAP, true).into_iter().filter(|(_, p)| p.overlap > 0.0).collect();
    group(
        Grade::Warning,
        "little-overlap",
        few,
        &|p| {
            format!(
                "no source sees more than {} of the view's frustum, the first {}",
                percent(LEAST_OVERLAP),
                percent(p.overlap)
            )
        },
        "sources that see most of it",
        "list nearer sources in pair.txt, or take photos closer together",
    );
    group(
        Grade::Warning,
        "small-angle",
        each(&|p: &Pair| p.degrees < SMALL_DEGREES, true),
        &|p| format!("all sources are under {SMALL_DEGREES} degree from the view, the first {:.2}", p.degrees),
        "5 to 20 degrees between the rays of a point",
        "list sources that are further apart in pair.txt, or check the scale of translations and range",
    );
    group(
        Grade::Warning,
        "large-angle",
        each(&|p: &Pair| p.degrees > LARGE_DEGREES, false),
        &|p| format!("rays of a source make {:.0} degrees with the view's", p.degrees),
        &format!("less than {LARGE_DEGREES} degrees: beyond, the same surface looks different or is hidden"),
        "list nearer sources in pair.txt, or remove pair.txt to have sources selected, or take photos in between",
    );
    let better = better_sources(scene, plan, &pairs, &range);
    if let Some(&(view, chosen, nearer)) = better.first() {
        let views: Vec<String> = better.iter().map(|&(v, ..)| name_of(scene, plan.views[v].view)).collect();
        findings.push(
            Finding::new(
                Grade::Warning,
                "pairs",
                "far-sources",
                format!(
                    "{}: pair.txt takes sources at {:.0} degrees, though {} would be at {:.0}",
                    counted_views(&views, all),
                    chosen.degrees,
                    name_of(scene, nearer.source),
                    nearer.degrees
                ),
                "the nearest useful views first",
                "remove pair.txt to have sources selected, or sort its lists by score, best first",
            )
            .of_views(views)
            .with(json!({
                "view": name_of(scene, plan.views[view].view), "degrees": chosen.degrees,
                "nearer_degrees": nearer.degrees,
            })),
        );
    }
    summary(scene, plan, &pairs, findings);
}

/// What the pairs are like, each with its numbers for programs.
fn summary(scene: &Scene, plan: &Plan, pairs: &[Vec<Pair>], findings: &mut Vec<Finding>) {
    let flat: Vec<(usize, &Pair)> =
        plan.views.iter().zip(pairs).flat_map(|(v, pairs)| pairs.iter().map(|p| (v.view, p))).collect();
    let of = |value: fn(&Pair) -> f64| median(flat.iter().map(|(_, p)| value(p)).collect()).unwrap_or(0.0);
    let (baseline, degrees, overlap) = (of(|p| p.baseline), of(|p| p.degrees), of(|p| p.overlap));
    let ends = |value: fn(&Pair) -> f64| {
        flat.iter().map(|(_, p)| value(p)).fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)))
    };
    let (least, most) = ends(|p| p.degrees);
    let each: Vec<Value> = flat
        .iter()
        .map(|(view, p)| {
            json!({
                "view": name_of(scene, *view), "source": name_of(scene, p.source), "baseline": p.baseline,
                "degrees": p.degrees, "overlap": p.overlap,
            })
        })
        .collect();
    findings.push(
        Finding::ok(
            "pairs",
            "pairs",
            format!(
                "{} pairs: baselines of {}, rays {degrees:.1} degrees apart ({least:.1} to {most:.1}), {} of the \
                 view's frustum seen (medians)",
                flat.len(),
                units(baseline),
                percent(overlap),
            ),
        )
        .with(json!({ "baseline": baseline, "degrees": degrees, "overlap": overlap, "pairs": each })),
    );
}

/// Sources are far where their median angle is above this, in degrees: matching loses from here on (SPEC's score is
/// down to a third at 20 degrees) ...
const FAR_DEGREES: f64 = 20.0;
/// ... and so many views that are not listed would be at less than half the angle.
const NEARER: usize = 2;

/// Views whose sources are far although nearer ones are there that see as much: the view's place in the plan, its
/// median source, and the best of the nearer ones.
fn better_sources(
    scene: &Scene,
    plan: &Plan,
    pairs: &[Vec<Pair>],
    range: &(dyn Fn(&ViewPlan) -> DepthRange + Sync),
) -> Vec<(usize, Pair, Pair)> {
    let of = |(v, (view, pairs)): (usize, (&ViewPlan, &Vec<Pair>))| {
        let mut sorted = pairs.clone();
        sorted.sort_by(|a, b| a.degrees.total_cmp(&b.degrees));
        let middle = *sorted.get(sorted.len() / 2)?;
        if middle.degrees < FAR_DEGREES {
            return None;
        }
        let others = (0..scene.views.len()).filter(|&o| o != view.view && !view.sources.contains(&o));
        let useful = |p: &Pair| {
            (SMALL_DEGREES..0.5 * middle.degrees).contains(&p.degrees) && p.overlap >= middle.overlap.max(LEAST_OVERLAP)
        };
        let mut nearer: Vec<Pair> = others.map(|o| pair(scene, view.view, o, range(view))).filter(useful).collect();
        nearer.sort_by(|a, b| a.degrees.total_cmp(&b.degrees));
        (nearer.len() >= NEARER).then(|| (v, middle, nearer[0]))
    };
    plan.views.par_iter().zip(pairs).enumerate().filter_map(of).collect()
}
