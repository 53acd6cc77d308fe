//! After a run: where each view's pixels were lost, and why, as far as maps, photos and cameras tell.
//!
//! The funnel has three filters: a depth in the range, a confidence, and confirmation by source views. The one that
//! keeps the smallest share is the one to explain. Each explanation is a number that is computed from the run's own
//! maps and the scene; the first that passes its limit is named, and where none does, that is said.

use glam::{DMat3, DVec3};
use serde_json::{Value, json};

use super::depths::{COARSE_PX, OUTSIDE, disparity};
use super::finding::{Finding, Grade, percent};
use super::known_depths::{KnownDepths, median};
use super::photos::PhotoFit;
use crate::error::{Result, counted};
use crate::files::subfolders::find;
use crate::files::{lock, pfm};
use crate::fusion::funnel::Funnel;
use crate::manifest::made::{self, Made};
use crate::manifest::{Manifest, ViewSummary};
use crate::net::config::Resolution;
use crate::run::plan::Frame;
use crate::scene::Scene;
use crate::scene::photo::Photo;
use crate::synth::maps::texture_strength;

/// A view is poor where less than this share of its pixels is confirmed: of the scenes that the engine is measured on,
/// good views have 50 to 90 %.
const POOR: f64 = 0.3;
/// Depths that pile up at one end of the range: its last 2 % hold more than this share of them.
const AT_END: f64 = 0.25;
/// Grey values that deviate by less show next to nothing to match: what strong noise does (5 of 255 levels).
const LOW_TEXTURE: f32 = 0.02;
/// Half of the pixels without confidence have no texture, and it is this much rarer among the others.
const TEXTURE_SHARE: (f64, f64) = (0.5, 1.5);
/// A view whose matches fit its camera by less than this share has a wrong camera or photo.
const PHOTO_FITS: f64 = 0.25;
/// Depths between two planes are seldom known to a smaller share of their distance: the validation's median error is
/// some tenth of an interval.
const INTERPOLATED: f64 = 0.125;
/// Poses differ where a coordinate of the rotation does by more than this: more than rounding.
const SAME_POSE: f64 = 1e-6;

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Looks at the results of a run.
///
/// # Errors
/// Maps or photos that cannot be read.
pub fn check(
    scene: &Scene,
    run: &Manifest,
    fit: Option<&PhotoFit>,
    known: &KnownDepths,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let min_confidence = run.number("min_confidence").unwrap_or(0.8);
    let asked = run.number("min_views").unwrap_or(3.0) as usize;
    changed_cameras(scene, run, findings);
    other_maps(run, findings);
    if run.views.iter().all(|view| view.funnel.is_none()) {
        findings.push(Finding::new(
            Grade::Note,
            "run",
            "not-fused",
            format!(
                "{}: {} views, but nothing was fused, so that no funnel is known",
                run.folder.display(),
                run.views.len()
            ),
            "",
            "make a cloud with `engine fuse` to see where pixels are lost",
        ));
        return Ok(());
    }
    for view in &run.views {
        let Some(funnel) = &view.funnel else { continue };
        let Some(at) = scene.views.iter().position(|v| v.name == view.name) else { continue };
        let kept = ratio(funnel.kept, funnel.pixels);
        let of_all = |n: usize| percent(ratio(n, funnel.pixels));
        let specks = if funnel.specks > 0 { format!(", {} specks", of_all(funnel.specks)) } else { String::new() };
        let objections: String = funnel.objections().iter().map(|(n, why)| format!("{} {why}, ", of_all(*n))).collect();
        let text = format!(
            "view {}: {} of {} pixels in range{specks}, {} confident (above {min_confidence}), {} confirmed by {asked} \
             sources, {} repeat earlier points, {objections}{} became points",
            view.name,
            percent(ratio(funnel.in_range, funnel.pixels)),
            funnel.pixels,
            percent(ratio(funnel.confident, funnel.pixels)),
            percent(kept),
            percent(ratio(funnel.duplicates, funnel.pixels)),
            percent(ratio(funnel.fused, funnel.pixels)),
        );
        let numbers = json!({ "funnel": funnel });
        if kept >= POOR {
            let mut finding = Finding::ok("run", "funnel", text);
            if 2 * funnel.dropped_by_guard() > funnel.kept - funnel.duplicates.min(funnel.kept) {
                finding.found += " (other views speak against most of what was new in it)";
            }
            if funnel.duplicates * 10 > funnel.kept * 9 {
                finding.found += " (nearly all of it was seen by earlier views)";
            }
            findings.push(finding.of_views(vec![view.name.clone()]).with(numbers));
            continue;
        }
        let reason = explain(scene, run, view, at, funnel, fit, known, (min_confidence, asked))?;
        let grade = if funnel.kept == 0 { Grade::Problem } else { Grade::Warning };
        let expected = format!("{} confirmed or more", percent(POOR));
        findings.push(
            Finding::new(grade, "run", reason.name, format!("{text}: {}", reason.why), expected, reason.advice)
                .of_views(vec![view.name.clone()])
                .with(json!({ "funnel": funnel, "reason": reason.numbers })),
        );
    }
    Ok(())
}

/// Maps that are not what this run has made.
fn other_maps(run: &Manifest, findings: &mut Vec<Finding>) {
    let folder = &run.folder;
    let mut warn = |name, found: String, expected: &str| {
        let found = format!("{}: {found}", folder.display());
        let advice = "give the same `engine infer` again, or use a folder of its own for each job";
        findings.push(Finding::new(Grade::Warning, "run", name, found, expected, advice));
    };
    let names = made::map_names(folder);
    for mixed in made::mixture(folder, names.iter().map(String::as_str)) {
        warn("mixed-maps", mixed, "maps of one run");
    }
    let records = names.iter().filter_map(|name| Made::read(folder, name));
    let changed: Vec<String> =
        records.flat_map(|m| m.changed(folder).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    if let Some(first) = changed.first() {
        let found = format!("{} changed since a run has made them (first: {first})", counted(changed.len(), "file"));
        warn("changed-maps", found, "the files as they were written");
    }
    if let Some(who) = lock::at_work(folder) {
        warn("at-work", format!("another run is at work in it ({who})"), "results that do not change meanwhile");
    }
}

/// Why a view is poor.
struct Reason {
    name: &'static str,
    why: String,
    advice: String,
    numbers: Value,
}

fn reason(name: &'static str, why: String, advice: impl Into<String>, numbers: Value) -> Reason {
    Reason { name, why, advice: advice.into(), numbers }
}

#[allow(clippy::too_many_arguments)] // what is known, each from another check
fn explain(
    scene: &Scene,
    run: &Manifest,
    view: &ViewSummary,
    at: usize,
    funnel: &Funnel,
    fit: Option<&PhotoFit>,
    known: &KnownDepths,
    (min_confidence, asked): (f64, usize),
) -> Result<Reason> {
    let stages = [
        ratio(funnel.in_range, funnel.pixels),
        ratio(funnel.confident, funnel.in_range),
        ratio(funnel.kept, funnel.confident),
    ];
    let narrowest = (0..3).min_by(|&a, &b| stages[a].total_cmp(&stages[b])).unwrap_or(0);
    let fits = fit.and_then(|fit| fit.share[at]);
    let wrong_photo = fits.filter(|&share| share < PHOTO_FITS).map(|share| {
        reason(
            "run-poses",
            format!("only {} of the matches between its photo and others fit its camera", percent(share)),
            "check this view's pose and K, see the findings about photos",
            json!({ "photo_fit": share }),
        )
    });
    match narrowest {
        0 => Ok(reason(
            "run-out-of-range",
            format!("only {} of the depths lie in the range", percent(stages[0])),
            "check the range's units, or give --range",
            json!({ "in_range": stages[0] }),
        )),
        1 => {
            if let Some(found) = out_of_range(view, at, funnel, known).or(wrong_photo) {
                return Ok(found);
            }
            if let Some(found) = coarse_planes(scene, run, view, at) {
                return Ok(found);
            }
            if let Some(found) = no_texture(scene, run, view, at, min_confidence)? {
                return Ok(found);
            }
            Ok(reason(
                "run-not-confident",
                format!(
                    "only {} of the pixels are confident, though range, planes, texture and the fit of the photo give \
                     no reason",
                    percent(stages[1])
                ),
                "the view's surfaces may be hidden from its sources, shine, or move: look at its confidence map, try \
                 other source views",
                json!({ "confident": stages[1], "photo_fit": fits }),
            ))
        }
        _ => {
            if funnel.agreed.is_empty() {
                return Ok(reason(
                    "run-no-source",
                    "no source view has a depth map that could confirm its depths".into(),
                    "make depth maps of its source views, too",
                    json!(null),
                ));
            }
            if let Some(found) = wrong_photo.or_else(|| coarse_planes(scene, run, view, at)) {
                return Ok(found);
            }
            if let Some(found) = strict_tolerance(run, view) {
                return Ok(found);
            }
            let one = ratio(funnel.agreed[0], funnel.confident);
            if one >= 2.0 * stages[2] {
                return Ok(reason(
                    "run-too-few-agree",
                    format!(
                        "{} of the confident pixels agree with one source, but only {} with the {asked} asked for (of \
                         {})",
                        percent(one),
                        percent(stages[2]),
                        funnel.agreed.len()
                    ),
                    format!("try --min-views {}, or more source views", asked.saturating_sub(1).max(1)),
                    json!({ "agree_with_one": one, "kept": stages[2] }),
                ));
            }
            let others: Vec<f64> = run
                .views
                .iter()
                .filter(|other| scene.views[at].sources.iter().any(|s| scene.views[s.view].name == other.name))
                .filter_map(|other| other.funnel.as_ref().map(|f| ratio(f.confident, f.pixels)))
                .collect();
            let of_others = median(others).unwrap_or(0.0);
            if of_others < POOR {
                return Ok(reason(
                    "run-poor-sources",
                    format!(
                        "its sources have confident depths at {} of their pixels only (median)",
                        percent(of_others)
                    ),
                    "see what is said about these views",
                    json!({ "sources_confident": of_others }),
                ));
            }
            let photo = fits.map_or("the photos say nothing about its camera".to_owned(), |share| {
                format!("{} of its photo's matches fit its camera", percent(share))
            });
            Ok(reason(
                "run-maps-disagree",
                format!(
                    "{} of the confident pixels agree with even one source, whose maps are confident; {photo}",
                    percent(one)
                ),
                "small errors of the poses look like this: try --max-reprojection-px 2 and --max-depth-error-rel 0.02, \
                 or refine the cameras",
                json!({ "agree_with_one": one, "sources_confident": of_others, "photo_fit": fits }),
            ))
        }
    }
}

/// Depths that pile up at an end of the range, or surfaces that are known to lie outside.
fn out_of_range(view: &ViewSummary, at: usize, funnel: &Funnel, known: &KnownDepths) -> Option<Reason> {
    let range = view.depth.as_ref().map(|depth| depth.range);
    for (end, count) in [("near", funnel.near_end), ("far", funnel.far_end)] {
        let share = ratio(count, funnel.in_range);
        if share > AT_END {
            return Some(reason(
                "run-range",
                format!("{} of its depths lie at the {end} end of the range", percent(share)),
                format!("give --range with a {} {end}", if end == "near" { "smaller" } else { "larger" }),
                json!({ "end": end, "share": share }),
            ));
        }
    }
    let outside = known.outside(at, range?).filter(|&share| share > OUTSIDE.0)?;
    Some(reason(
        "run-range",
        format!("{} of {} in it lie outside of the range that was searched", percent(outside), known.from),
        "give a --range that holds them",
        json!({ "outside": outside }),
    ))
}

/// Planes that were too far apart.
fn coarse_planes(scene: &Scene, run: &Manifest, view: &ViewSummary, at: usize) -> Option<Reason> {
    let depth = view.depth.as_ref()?;
    let max_side = run.max_side();
    let frame = |v: usize| Frame::new(&scene.views[v], max_side, Resolution::Quarter);
    let own = frame(at);
    let used = run.number("views").map_or(4, |n| (n as usize).saturating_sub(1));
    let sources: Vec<_> = scene.views[at].sources.iter().take(used).map(|s| frame(s.view)).collect();
    let depths = depth.hypotheses().depths;
    let step = |pair: &[f64]| sources.iter().filter_map(|s| disparity(&own, s, [pair[0], pair[1]])).reduce(f64::max);
    let middle = median(depths.windows(2).filter_map(step).collect())?;
    (middle > COARSE_PX).then(|| {
        reason(
            "run-too-few-planes",
            format!("its {} planes are {middle:.1} map pixels apart in the best source (median)", depth.planes),
            format!("use --planes {} or a tighter --range", (depth.planes as f64 * middle).ceil()),
            json!({ "map_px": middle, "planes": depth.planes }),
        )
    })
}

/// A tolerance that maps of such planes cannot meet.
fn strict_tolerance(run: &Manifest, view: &ViewSummary) -> Option<Reason> {
    let depths = view.depth.as_ref()?.hypotheses().depths;
    let apart = median(depths.windows(2).map(|pair| (pair[1] - pair[0]) / pair[0]).collect())?;
    let tolerance = run.number("max_depth_error_rel")?;
    (INTERPOLATED * apart > tolerance).then(|| {
        reason(
            "run-strict-tolerance",
            format!(
                "its planes are {:.2} % of the depth apart (median), but sources must agree to {:.3} %",
                100.0 * apart,
                100.0 * tolerance
            ),
            "allow more with --max-depth-error-rel, or use more --planes",
            json!({ "planes_apart_rel": apart, "max_depth_error_rel": tolerance }),
        )
    })
}

/// Whether the pixels without confidence are those without texture.
fn no_texture(
    scene: &Scene,
    run: &Manifest,
    view: &ViewSummary,
    at: usize,
    min_confidence: f64,
) -> Result<Option<Reason>> {
    let file = find(&run.folder.join("confidence"), &view.name, "pfm");
    if !file.exists() {
        return Ok(None);
    }
    let confidence = pfm::read(&file)?;
    let max_side = run.max_side();
    let photo = Photo::load(&scene.views[at], max_side)?.photo;
    // Every fourth pixel of the photo is enough to tell.
    const STEP: usize = 4;
    let texture = texture_strength(&photo, STEP);
    let size = |step: usize| (photo.width.div_ceil(step), photo.height.div_ceil(step));
    let Some(every) = [1, 2, 4].into_iter().find(|&step| size(step) == (confidence.width, confidence.height)) else {
        return Ok(None);
    };
    // [confident], then all and those without texture.
    let mut counts = [[0usize; 2]; 2];
    for (i, &t) in texture.data.iter().enumerate() {
        let (x, y) = (i % texture.width, i / texture.width);
        let c = confidence.at(x * STEP / every, y * STEP / every);
        let group = &mut counts[usize::from(f64::from(c) > min_confidence)];
        group[0] += 1;
        group[1] += usize::from(t < LOW_TEXTURE);
    }
    let [without, with] = counts.map(|[all, low]| ratio(low, all));
    let explains = without >= TEXTURE_SHARE.0 && without >= TEXTURE_SHARE.1 * with;
    Ok(explains.then(|| {
        reason(
            "run-low-texture",
            format!(
                "{} of the pixels without confidence show next to no texture, of the others {}",
                percent(without),
                percent(with)
            ),
            "nothing can be matched on plain surfaces: photos with more light, closer or with a pattern help; \
             --min-confidence 0.5 keeps more of the rest",
            json!({ "low_texture_unconfident": without, "low_texture_confident": with }),
        )
    }))
}

/// Poses that are no longer those of the run.
fn changed_cameras(scene: &Scene, run: &Manifest, findings: &mut Vec<Finding>) {
    let differs = |view: &&ViewSummary| {
        let Some(of) = scene.views.iter().find(|v| v.name == view.name) else { return false };
        let (Some(r), Some(t)) = (view.rotation, view.translation) else { return false };
        let r = DMat3::from_cols_array_2d(&r).transpose() - of.camera.r;
        let t = DVec3::from_array(t) - of.camera.t;
        let most = r.to_cols_array().into_iter().fold(0f64, |m, v| m.max(v.abs()));
        most > SAME_POSE || t.length() > SAME_POSE * of.camera.t.length().max(1e-12)
    };
    let views: Vec<String> = run.views.iter().filter(differs).map(|v| v.name.clone()).collect();
    let missing = run.views.iter().filter(|v| scene.views.iter().all(|s| s.name != v.name)).count();
    if !views.is_empty() || missing > 0 {
        findings.push(
            Finding::new(
                Grade::Warning,
                "run",
                "run-of-other-cameras",
                format!(
                    "{}: {} poses are not those of the scene now, {missing} views are not in it",
                    run.folder.display(),
                    views.len()
                ),
                "results of the scene as it is",
                "run again: what is said about this run may be about other cameras",
            )
            .of_views(views),
        );
    }
}
