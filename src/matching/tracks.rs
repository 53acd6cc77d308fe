//! Corners that were matched in two or three photos, and how well cameras explain them.
//!
//! A track's rays have a point with the least sum of squared distances to them; seen through the same cameras it lies
//! some pixels from the corners. The largest of these distances is the track's error: for two views it is about half
//! the distance to the epipolar line, for three it also says that both baselines give the same depth, which K, scale
//! and order of the cameras must be right for. False matches fit by chance only (a few per cent of pairs, next to none
//! of triples), so that the share of tracks that fit tells right from wrong cameras without having to sort out matches
//! first.

use std::collections::{BTreeMap, BTreeSet};

use glam::{DMat3, DVec2, DVec3};
use rayon::prelude::*;

use super::corners::{Corner, corners, matches};
use crate::error::Result;
use crate::host::interrupt;
use crate::scene::Scene;
use crate::scene::camera::Camera;
use crate::scene::photo::Photo;

/// Photos are reduced to this: enough for corners, and a pixel of it is not less exact than a depth map's.
pub const SIDE: usize = 800;
/// A track fits with an error under so many pixels of the reduced photo: corners are found to about half a pixel.
pub const FITS_PX: f64 = 2.0;
/// Up to so many views all pairs of photos are matched, above only sources and neighbours in the order of names.
const ALL_PAIRS: usize = 12;
/// Of larger scenes, so many views with their sources are looked at.
const MOST_VIEWS: usize = 24;
/// Tracks that are kept of each three photos: what repeats in the picture should not outweigh the rest.
const MOST_OF_THREE: usize = 40;
/// With fewer triples, pairs are judged by.
const FEW_TRIPLES: usize = 60;

/// With fewer tracks nothing is said: there is too little to be seen in the photos, or they overlap too little.
pub const FEWEST: usize = 30;
/// A share of fitting tracks from here on cannot be chance, not even of pairs of repeated structures.
pub const NO_CHANCE: f64 = 0.25;
/// Other cameras explain the tracks better only where they make the share this much larger.
pub const LARGER: f64 = 1.5;

/// A corner in two or three photos: index into [`Tracks::views`] and pixel.
pub type Track = Vec<(usize, DVec2)>;

/// Matched corners of a scene.
pub struct Tracks {
    /// Indices into the scene's views of the photos that were looked at.
    pub views: Vec<usize>,
    /// Their cameras, for the reduced photos.
    pub cameras: Vec<Camera>,
    /// How much larger the stored photos are.
    pub reduction: Vec<f64>,
    /// The tracks, in the order of their views.
    pub tracks: Vec<Track>,
    /// Corners that were found in each photo.
    pub corners: Vec<usize>,
    /// Whether tracks have three views.
    pub triples: bool,
}

/// The pairs of photos that are matched, by indices into `views`.
fn pairs(scene: &Scene, views: &[usize]) -> BTreeSet<(usize, usize)> {
    let place: BTreeMap<usize, usize> = views.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let mut pairs = BTreeSet::new();
    for (i, &view) in views.iter().enumerate() {
        let in_order = [view + 1, view + 2];
        let sources = scene.views[view].sources.iter().take(4).map(|s| s.view);
        let mut add = |j: usize| {
            if i != j {
                pairs.insert((i.min(j), i.max(j)));
            }
        };
        if views.len() <= ALL_PAIRS {
            (0..views.len()).for_each(add);
        } else {
            sources.chain(in_order).filter_map(|v| place.get(&v).copied()).for_each(&mut add);
        }
    }
    pairs
}

/// The views whose photos are looked at: all of a small scene, else some, spread evenly, with their sources and
/// neighbours.
fn chosen(scene: &Scene) -> Vec<usize> {
    let all = scene.views.len();
    if all <= MOST_VIEWS {
        return (0..all).collect();
    }
    let mut chosen = BTreeSet::new();
    for i in 0..MOST_VIEWS / 2 {
        let view = i * all / (MOST_VIEWS / 2);
        let sources = scene.views[view].sources.iter().take(3).map(|s| s.view);
        chosen.extend(sources.chain([view, (view + 1).min(all - 1)]));
    }
    chosen.into_iter().collect()
}

impl Tracks {
    /// Decodes photos and matches their corners.
    ///
    /// # Errors
    /// Photos that cannot be read; an interrupt.
    pub fn find(scene: &Scene) -> Result<Self> {
        let views = chosen(scene);
        let (mut found, mut cameras, mut reduction) = (Vec::new(), Vec::new(), Vec::new());
        for &view in &views {
            interrupt::check()?;
            let loaded = Photo::load(&scene.views[view], Some(SIDE))?;
            reduction.push(scene.views[view].size.0 as f64 / loaded.photo.width as f64);
            cameras.push(loaded.camera);
            found.push(corners(&loaded.photo));
        }
        let pairs: Vec<(usize, usize)> = pairs(scene, &views).into_iter().collect();
        let matched: BTreeMap<(usize, usize), Vec<(usize, usize)>> =
            pairs.par_iter().map(|&(i, j)| ((i, j), matches_unless_stopped(&found[i], &found[j]))).collect();
        interrupt::check()?;
        let triples = triples(&found, &matched);
        let few = triples.len() < FEW_TRIPLES;
        let tracks = if few { pair_tracks(&found, &matched) } else { triples };
        let corners = found.iter().map(Vec::len).collect();
        Ok(Self { views, cameras, reduction, tracks, corners, triples: !few })
    }
}

/// None once the user asks to stop.
fn matches_unless_stopped(a: &[Corner], b: &[Corner]) -> Vec<(usize, usize)> {
    if interrupt::is_asked_to_stop() { Vec::new() } else { matches(a, b) }
}

/// Tracks of two views.
fn pair_tracks(found: &[Vec<Corner>], matched: &BTreeMap<(usize, usize), Vec<(usize, usize)>>) -> Vec<Track> {
    let of_pair = |(&(i, j), pairs): (&(usize, usize), &Vec<(usize, usize)>)| {
        let track = |&(a, b): &(usize, usize)| vec![(i, found[i][a].pixel), (j, found[j][b].pixel)];
        pairs.iter().map(track).collect::<Vec<Track>>()
    };
    matched.iter().flat_map(of_pair).collect()
}

/// Tracks of three views i < j < k: a corner of one that was matched in both others, which were not matched otherwise.
fn triples(found: &[Vec<Corner>], matched: &BTreeMap<(usize, usize), Vec<(usize, usize)>>) -> Vec<Track> {
    let table: BTreeMap<(usize, usize), BTreeMap<usize, usize>> =
        matched.iter().map(|(&pair, found)| (pair, found.iter().copied().collect())).collect();
    let mut tracks = Vec::new();
    for (&(i, j), first) in &table {
        for (&(_, k), second) in table.range((i, j + 1)..(i + 1, 0)) {
            let third = table.get(&(j, k));
            let of_three: Vec<Track> = first
                .iter()
                .filter_map(|(a, b)| {
                    let c = second.get(a)?;
                    // Where the third pair was matched too, it must say the same.
                    let agrees = third.is_none_or(|t| t.get(b) == Some(c));
                    agrees.then(|| vec![(i, found[i][*a].pixel), (j, found[j][*b].pixel), (k, found[k][*c].pixel)])
                })
                .collect();
            let step = of_three.len().div_ceil(MOST_OF_THREE).max(1);
            tracks.extend(of_three.into_iter().step_by(step));
        }
    }
    tracks
}

/// The point nearest to a track's rays, and the largest distance in pixels between its projections and the corners.
/// `None` where it is behind a camera, or where the rays are parallel.
pub fn triangulated(track: &Track, cameras: &[Camera]) -> Option<(DVec3, f64)> {
    let (mut a, mut b) = (DMat3::ZERO, DVec3::ZERO);
    for &(view, pixel) in track {
        let camera = &cameras[view];
        let ray = (camera.r.transpose() * (camera.k.inverse() * pixel.extend(1.0))).normalize();
        let across = DMat3::IDENTITY - DMat3::from_cols(ray * ray.x, ray * ray.y, ray * ray.z);
        a += across;
        b += across * camera.centre();
    }
    // For two rays the determinant is about the square of the angle between them: 1e-8 is 0.006 degrees.
    if a.determinant().abs() < 1e-8 {
        return None;
    }
    let point = a.inverse() * b;
    let mut most = 0f64;
    for &(view, pixel) in track {
        most = most.max(cameras[view].pixel(point)?.0.distance(pixel));
    }
    most.is_finite().then_some((point, most))
}

/// Whether a track fits cameras.
pub fn fits(track: &Track, cameras: &[Camera]) -> bool {
    triangulated(track, cameras).is_some_and(|(_, error)| error < FITS_PX)
}

/// The share of tracks that fit cameras.
pub fn share(tracks: &[&Track], cameras: &[Camera]) -> f64 {
    count(tracks, cameras) as f64 / tracks.len().max(1) as f64
}

/// How many tracks fit cameras.
pub fn count(tracks: &[&Track], cameras: &[Camera]) -> usize {
    tracks.par_iter().filter(|track| fits(track, cameras)).count()
}
