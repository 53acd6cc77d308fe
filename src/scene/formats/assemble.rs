//! From the cameras of a foreign file and its photos to a scene.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use glam::DMat3;
use rayon::prelude::*;

use crate::error::counted;
use crate::scene::camera::Camera;
use crate::scene::checks::{photo_headers, too_few_views, unique_names};
use crate::scene::formats::calibration::{Calibration, Shot};
use crate::scene::formats::photos::{self, Photos};
use crate::scene::lens::Lens;
use crate::scene::photo::check_size;
use crate::scene::visible::points_in_photos;
use crate::scene::{Layout, Scene, ScenePoint, SourceView, View};
use crate::{Error, Result};

/// The scene of these cameras; `root` is its folder, `images` where its photos lie if not where the file says.
///
/// # Errors
/// Photos that are missing or of another size, intrinsics that make no camera; fewer than two usable views.
pub fn scene(calibration: Calibration, root: PathBuf, layout: Layout, images: Option<&Path>) -> Result<Scene> {
    let mut notes = calibration.notes.clone();
    let Photos { found, missing } = photos::find(&calibration, images, &mut notes)?;
    let usable: Vec<(usize, &Shot, PathBuf)> = calibration
        .shots
        .iter()
        .zip(found)
        .enumerate()
        .filter_map(|(i, (shot, photo))| Some((i, shot, photo?)))
        .collect();
    if let Some(first) = missing.first() {
        let (count, all) = (missing.len(), calibration.shots.len());
        if usable.len() < 2 {
            return Err(Error::input(
                calibration.file.display().to_string(),
                format!("{count} of the {all} cameras have no photo here (first: {first})"),
                "at least two photos under the names that the file has for them; --images DIR says where they lie",
            ));
        }
        notes.push(format!("{count} of {all} cameras have no photo and were left out (first: {first})"));
    }
    if usable.len() < 2 {
        return Err(too_few_views(&calibration.file, usable.len()));
    }
    let headers = photo_headers(usable.iter().map(|(_, _, photo)| photo.as_path()), &mut notes)?;
    let named = usable.iter().map(|(i, _, photo)| (*i as u32, name_of(&root, photo))).collect();
    let names = unique_names(named, &mut notes);
    let mut sizes = Vec::new();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut distinct: Vec<(&Shot, DMat3, (usize, usize))> = Vec::new();
    let mut of_shots = Vec::new();
    for ((_, shot, photo), header) in usable.iter().zip(&headers) {
        let size = header.size;
        if let Some(expected) = shot.size {
            check_size(photo, expected, size)?;
        }
        let k = shot.intrinsics.k(&shot.place, size)?;
        // Cameras share lenses, whose making takes a millisecond.
        let kind = *kinds.entry(format!("{:?} {k:?} {size:?}", shot.distortion)).or_insert_with(|| {
            distinct.push((shot, k, size));
            distinct.len() - 1
        });
        of_shots.push(kind);
        sizes.push(size);
    }
    let lenses: Vec<(DMat3, Option<Lens>)> = distinct
        .par_iter()
        .map(|&(shot, k, size)| {
            let lens = shot.distortion.map(|distortion| Lens::new(distortion, k, size));
            (lens.as_ref().map_or(k, |lens| lens.pinhole_k), lens)
        })
        .collect();
    note_lenses(&lenses, &mut notes);
    let mut views = Vec::new();
    for ((((i, shot, photo), name), size), kind) in usable.into_iter().zip(names).zip(sizes).zip(of_shots) {
        let (k, lens) = lenses[kind].clone();
        views.push(View {
            id: i as u32,
            name,
            image: photo,
            size,
            camera: Camera { k, r: shot.r, t: shot.t },
            lens,
            mask: calibration.masks.get(&i).map(|name| photos::place_of(&calibration, name)),
            in_memory: None,
            known: None,
            range: shot.range,
            sweep: None,
            planes: None,
            sources: Vec::new(),
        });
    }
    note_principal_points(&views, &mut notes);
    let points = scene_points(&calibration, &views, &mut notes);
    list_sources(&calibration, &mut views);
    if let Some(georeference) = calibration.georeference {
        notes.push(format!(
            "the world's coordinates are {}: exports to LAS, LAZ and COPC are in a coordinate system of the earth",
            georeference.in_words()
        ));
    }
    let Calibration { region, poses, georeference, .. } = calibration;
    let mut scene = Scene { root, layout, views, points, region, region_of_files: None, poses, georeference, notes };
    let depths = &calibration.depths;
    let place = |(&shot, name): (&usize, &String)| (shot as u32, photos::place_of(&calibration, name));
    scene.take_named_depths(depths.files.iter().map(place).collect(), (depths.one, depths.world))?;
    Ok(scene)
}

/// Gives views the source views that the file lists.
fn list_sources(calibration: &Calibration, views: &mut [View]) {
    let places: BTreeMap<usize, usize> = views.iter().enumerate().map(|(i, view)| (view.id as usize, i)).collect();
    for (place, view) in views.iter_mut().enumerate() {
        let listed = calibration.sources.get(&(view.id as usize)).into_iter().flatten();
        let mut known = HashSet::from([place]);
        let of_view = |&(shot, score): &(usize, f64)| Some(SourceView { view: *places.get(&shot)?, score });
        view.sources = listed.filter_map(of_view).filter(|source| known.insert(source.view)).collect();
    }
}

/// The photo's name as seen from the scene's folder, or alone.
fn name_of(root: &Path, photo: &Path) -> String {
    match photo.strip_prefix(root) {
        Ok(below) => crate::files::names::readable(below.as_os_str()),
        Err(_) => crate::files::names::readable(photo.file_name().unwrap_or_default()),
    }
}

/// States what is undistorted.
fn note_lenses(lenses: &[(DMat3, Option<Lens>)], notes: &mut Vec<String>) {
    let bent: Vec<&Lens> = lenses.iter().filter_map(|(_, lens)| lens.as_ref()).filter(|l| !l.is_wide()).collect();
    if bent.is_empty() {
        return;
    }
    let scales = bent.iter().map(|lens| lens.pinhole_k.x_axis.x / lens.stored_k.x_axis.x);
    let (least, most) = scales.fold((f64::MAX, 0f64), |(a, b), s| (a.min(s), b.max(s)));
    notes.push(format!(
        "photos of {} have lens distortion and are undistorted to pinhole cameras of the same size and principal \
         point, focal lengths times {least:.4} to {most:.4}",
        counted(bent.len(), "camera")
    ));
}

/// Says so where intrinsics seem to be those of other photos.
fn note_principal_points(views: &[View], notes: &mut Vec<String>) {
    let is_outside = |view: &&View| {
        let (principal, (width, height)) = (view.camera.k.z_axis, view.size);
        !(-0.5..width as f64 - 0.5).contains(&principal.x) || !(-0.5..height as f64 - 0.5).contains(&principal.y)
    };
    let outside: Vec<&View> = views.iter().filter(is_outside).collect();
    if let Some(first) = outside.first() {
        notes.push(format!(
            "the principal point lies outside of the photo for {} of {} views (first: {}); were the cameras made for \
             photos of another size?",
            outside.len(),
            views.len(),
            first.name
        ));
    }
}

/// The points that some view sees.
fn scene_points(calibration: &Calibration, views: &[View], notes: &mut Vec<String>) -> Vec<ScenePoint> {
    let all = &calibration.points;
    if all.is_empty() {
        return Vec::new();
    }
    if all.iter().all(|point| point.shots.is_empty()) {
        return points_in_photos(all, |point| (point.position, point.error), views, notes);
    }
    let places: BTreeMap<u32, usize> = views.iter().enumerate().map(|(i, view)| (view.id, i)).collect();
    let mut not_finite = 0;
    let mut points = Vec::with_capacity(all.len());
    for point in all {
        if !point.position.is_finite() {
            not_finite += 1;
            continue;
        }
        let mut seen: Vec<usize> = point.shots.iter().filter_map(|shot| places.get(shot).copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        if !seen.is_empty() {
            points.push(ScenePoint { position: point.position, error: point.error, views: seen });
        }
    }
    if not_finite > 0 {
        notes.push(format!("{not_finite} points without finite coordinates were left out"));
    }
    points
}
