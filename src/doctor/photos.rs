//! The photos themselves through the cameras: corners matched between photos must fit what the cameras say, whatever
//! the layout.
//!
//! The share of tracks that fit ([`crate::matching::tracks`]) is computed for the cameras as they are and with each
//! known mistake undone. A mistake is named where undoing it makes the share half as large again, and large enough to
//! be no chance. Photos under each other's ids are found by exchanging the cameras of every two views, the best
//! exchange first.

use rayon::prelude::*;
use serde_json::json;

use super::finding::{Finding, Grade, counted_views, names, percent};
use super::known_depths::{KnownDepths, median};
use super::mistakes::Mistake;
use crate::error::Result;
use crate::matching::tracks::{FEWEST, FITS_PX, LARGER, NO_CHANCE, Track, Tracks, fits, share, triangulated};
use crate::scene::Scene;
use crate::scene::camera::Camera;

/// Exchanging two cameras must make so many more tracks fit.
const LEAST_GAIN: usize = 10;
/// A view's tracks fit by less than this part of the share that is usual: its photo and camera do not belong together
/// ...
const MISFIT: f64 = 0.25;
/// ... if matches are to be relied on at all, ...
const RELIABLE: f64 = 0.5;
/// ... and the view has at least this part of the usual number of tracks: a photo that nothing was matched in has
/// false ones only.
const ENOUGH_TRACKS: f64 = 0.5;

/// How well photos and cameras fit.
#[derive(Clone, Debug)]
pub struct PhotoFit {
    /// `[view]`: the share of its tracks that fit its camera, where enough are known.
    pub share: Vec<Option<f64>>,
}

/// Every camera with a mistake undone.
fn undone(mistake: Mistake, cameras: &[Camera]) -> Vec<Camera> {
    cameras.iter().map(|camera| mistake.undone(camera)).collect()
}

/// Looks at the photos, and collects depths where cameras fit and none are known.
///
/// # Errors
/// Photos that cannot be read; an interrupt.
pub fn check(scene: &Scene, findings: &mut Vec<Finding>, known: &mut KnownDepths) -> Result<Option<PhotoFit>> {
    let found = Tracks::find(scene)?;
    let all: Vec<&Track> = found.tracks.iter().collect();
    if all.len() < FEWEST {
        let corners = median(found.corners.iter().map(|&n| n as f64).collect()).unwrap_or(0.0);
        findings.push(
            Finding::new(
                Grade::Note,
                "photos",
                "too-little-texture",
                format!(
                    "{} matches between photos, of {corners:.0} corners in each: not enough texture or overlap to \
                     check the cameras by the photos",
                    all.len()
                ),
                format!("{FEWEST} or more"),
                "",
            )
            .with(json!({ "tracks": all.len(), "corners": corners })),
        );
        return Ok(None);
    }
    let before = share(&all, &found.cameras);
    let mut cameras = found.cameras.clone();
    let mut explained = false;
    if let Some((mistake, after)) = global_mistake(&all, &cameras, before) {
        let (expected, advice) = mistake.remedy();
        let text = format!(
            "{} of {} matches between photos fit the cameras, but {} if {}",
            percent(before),
            all.len(),
            percent(after),
            mistake.words(),
        );
        let finding = Finding::new(Grade::Problem, "photos", mistake.name(), text, expected, advice);
        findings.push(finding.with(json!({ "share": before, "undone_share": after, "tracks": all.len() })));
        cameras = undone(mistake, &cameras);
        explained = true;
    } else if let Some((offset, after)) = shifted(&all, &cameras, before) {
        findings.push(
            Finding::new(
                Grade::Problem,
                "photos",
                "shifted-ids",
                format!(
                    "{} of {} matches between photos fit the cameras, but {} if each photo takes the camera {} it in \
                     the order of ids",
                    percent(before),
                    all.len(),
                    percent(after),
                    if offset > 0 { "after" } else { "before" }
                ),
                "photo and camera of one id belonging together",
                "check from which number on photos and cameras are counted, and whether one is missing",
            )
            .with(json!({ "share": before, "undone_share": after, "offset": offset })),
        );
        explained = true;
    } else {
        explained |= exchanged(scene, &found, &all, &mut cameras, findings);
    }
    let per_view = shares_of_views(scene, &found, &cameras);
    let now = share(&all, &cameras);
    explained = explained || misfits(scene, &found, &cameras, now, findings);
    let fitting: Vec<(&Track, f64)> = all
        .iter()
        .filter_map(|track| Some((*track, triangulated(track, &cameras)?.1)).filter(|(_, e)| *e < FITS_PX))
        .collect();
    let reduction = |track: &Track| track.iter().map(|&(view, _)| found.reduction[view]).fold(1.0, f64::max);
    let typical = median(fitting.iter().map(|(track, error)| error * reduction(track)).collect()).unwrap_or(0.0);
    if !explained && before >= NO_CHANCE {
        findings.push(
            Finding::ok(
                "photos",
                "photos",
                format!(
                    "{} of {} matches between {} photos fit the cameras, to {typical:.1} px (median)",
                    percent(before),
                    all.len(),
                    found.views.len()
                ),
            )
            .with(json!({ "share": before, "tracks": all.len(), "median_px": typical, "three_views": found.triples })),
        );
    }
    // Depths are known only as far as the cameras as they stand are right.
    if known.of_views.is_empty() && !explained && before >= NO_CHANCE {
        known.from = "points matched in the photos";
        known.of_views = vec![Vec::new(); scene.views.len()];
        for (track, _) in fitting {
            let Some((point, _)) = triangulated(track, &found.cameras) else { continue };
            for &(view, _) in track {
                let camera = &found.cameras[view];
                known.of_views[found.views[view]].push((camera.r * point + camera.t).z);
            }
        }
    }
    Ok(Some(PhotoFit { share: per_view }))
}

/// The mistake of all cameras that explains the tracks best, and the share that fits without it.
fn global_mistake(tracks: &[&Track], cameras: &[Camera], before: f64) -> Option<(Mistake, f64)> {
    let shares = Mistake::USUAL.map(|mistake| (mistake, share(tracks, &undone(mistake, cameras))));
    let best = shares.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    (best.1 >= NO_CHANCE && best.1 >= LARGER * before).then_some(best)
}

/// Whether every photo fits the camera of the next or the previous view; those at the end have none and are left out.
fn shifted(tracks: &[&Track], cameras: &[Camera], before: f64) -> Option<(isize, f64)> {
    let of = |offset: isize| {
        let taken = |view: usize| view.checked_add_signed(offset).filter(|&v| v < cameras.len());
        let moved: Vec<Camera> =
            (0..cameras.len()).map(|view| taken(view).map_or(cameras[view], |v| cameras[v])).collect();
        let inner: Vec<&Track> =
            tracks.iter().copied().filter(|t| t.iter().all(|&(view, _)| taken(view).is_some())).collect();
        (inner.len() >= FEWEST).then(|| (offset, share(&inner, &moved)))
    };
    let best = [of(1), of(-1)].into_iter().flatten().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 >= NO_CHANCE && best.1 >= LARGER * before).then_some(best)
}

/// Exchanges cameras as long as that makes tracks fit; whether it did.
fn exchanged(
    scene: &Scene,
    found: &Tracks,
    tracks: &[&Track],
    cameras: &mut [Camera],
    findings: &mut Vec<Finding>,
) -> bool {
    let n = cameras.len();
    let mut swaps: Vec<(usize, usize, f64, f64)> = Vec::new();
    while swaps.len() < n / 2 {
        let fit: Vec<bool> = tracks.par_iter().map(|track| fits(track, cameras)).collect();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
        let gain = |&(a, b): &(usize, usize)| {
            let mut other = cameras.to_vec();
            other.swap(a, b);
            let (mut before, mut after, mut touched) = (0, 0, 0);
            for (track, &fit) in tracks.iter().zip(&fit) {
                if track.iter().any(|&(view, _)| view == a || view == b) {
                    touched += 1;
                    before += usize::from(fit);
                    after += usize::from(fits(track, &other));
                }
            }
            ((a, b), before, after, touched)
        };
        let gains: Vec<_> = pairs.par_iter().map(gain).collect();
        let best = gains
            .into_iter()
            .max_by_key(|&((a, b), before, after, _)| (after as isize - before as isize, std::cmp::Reverse((a, b))));
        let Some(((a, b), before, after, touched)) = best else { break };
        let [was, is] = [before, after].map(|n| n as f64 / touched.max(1) as f64);
        if after < before + LEAST_GAIN || is < NO_CHANCE || is < LARGER * was {
            break;
        }
        cameras.swap(a, b);
        swaps.push((a, b, was, is));
    }
    let name = |view: usize| scene.views[found.views[view]].name.clone();
    let Some(&(.., was, is)) = swaps.first() else { return false };
    let pairs: Vec<String> = swaps.iter().map(|&(a, b, ..)| format!("{} and {}", name(a), name(b))).collect();
    findings.push(
        Finding::new(
            Grade::Problem,
            "photos",
            "swapped-views",
            format!(
                "the photos fit with the cameras of {} exchanged: then {} of their matches fit instead of {}",
                names(&pairs),
                percent(is),
                percent(was)
            ),
            "photo and camera of one id belonging together",
            "exchange the two cameras, or the names of the two photos",
        )
        .of_views(swaps.iter().flat_map(|&(a, b, ..)| [name(a), name(b)]).collect())
        .with(json!({ "share": was, "undone_share": is })),
    );
    true
}

/// For each view of the scene the share of its tracks that fit, where there are enough.
fn shares_of_views(scene: &Scene, found: &Tracks, cameras: &[Camera]) -> Vec<Option<f64>> {
    let mut shares = vec![None; scene.views.len()];
    for (place, &view) in found.views.iter().enumerate() {
        let own: Vec<&Track> = found.tracks.iter().filter(|t| t.iter().any(|&(of, _)| of == place)).collect();
        shares[view] = (own.len() >= FEWEST).then(|| share(&own, cameras));
    }
    shares
}

/// Views, or a whole scene, whose photos do not fit and that nothing known explains; whether there are any.
fn misfits(scene: &Scene, found: &Tracks, cameras: &[Camera], all: f64, findings: &mut Vec<Finding>) -> bool {
    let wrong = misfitting_views(found, cameras);
    if let Some(&(_, own, rest)) = wrong.first() {
        let views: Vec<String> = wrong.iter().map(|w| scene.views[found.views[w.0]].name.clone()).collect();
        findings.push(
            Finding::new(
                Grade::Problem,
                "photos",
                "photo-without-its-camera",
                format!(
                    "{}: {} of the matches fit the camera, of the other views' {}",
                    counted_views(&views, scene.views.len()),
                    percent(own),
                    percent(rest)
                ),
                "photo and camera of one id belonging together",
                "check the view's pose and that its photo is the right one, or leave the view out",
            )
            .of_views(views)
            .with(json!({ "share": own, "other_share": rest })),
        );
        return true;
    }
    if all >= NO_CHANCE {
        return false;
    }
    findings.push(
        Finding::new(
            Grade::Warning,
            "photos",
            "photos-do-not-fit",
            format!(
                "only {} of {} matches between photos fit the cameras, and no known mistake explains it",
                percent(all),
                found.tracks.len()
            ),
            format!("{} or more", percent(NO_CHANCE)),
            "check that photos and cameras are of the same scene and order; very repetitive photos look like this, too",
        )
        .with(json!({ "share": all, "tracks": found.tracks.len() })),
    );
    true
}

/// Places of the views whose tracks do not fit although those without them do, worst first, with the two shares. A
/// wrong view spoils the tracks of all others, so that views are taken out one by one.
fn misfitting_views(found: &Tracks, cameras: &[Camera]) -> Vec<(usize, f64, f64)> {
    let fit: Vec<bool> = found.tracks.par_iter().map(|track| fits(track, cameras)).collect();
    let n = found.views.len();
    let has = |track: &Track, place: usize| track.iter().any(|&(of, _)| of == place);
    let usual = median((0..n).map(|p| found.tracks.iter().filter(|t| has(t, p)).count() as f64).collect());
    let enough = (ENOUGH_TRACKS * usual.unwrap_or(0.0)).max(FEWEST as f64);
    let mut wrong: Vec<(usize, f64, f64)> = Vec::new();
    let mut left: Vec<(&Track, bool)> = found.tracks.iter().zip(fit).collect();
    while wrong.len() < n / 2 {
        let shares = |place: usize| {
            let share = |of: bool| {
                let chosen: Vec<bool> = left.iter().filter(|(t, _)| has(t, place) == of).map(|(_, fit)| *fit).collect();
                let fitting = chosen.iter().filter(|&&fit| fit).count();
                (chosen.len(), fitting as f64 / chosen.len().max(1) as f64)
            };
            let ((count, own), (others, rest)) = (share(true), share(false));
            let is_wrong = count as f64 >= enough && others >= FEWEST && rest >= RELIABLE && own < MISFIT * rest;
            is_wrong.then_some((place, own, rest))
        };
        let Some(worst) = (0..n).filter_map(shares).reduce(|a, b| if b.1 < a.1 { b } else { a }) else {
            break;
        };
        left.retain(|(track, _)| !has(track, worst.0));
        wrong.push(worst);
    }
    wrong
}
