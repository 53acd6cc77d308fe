//! Photos and cameras that another program has in memory: a scene without files.
//!
//! [`Scene::of_photos`] checks them as the readers of files check theirs, and what comes of them is the same to the bit
//! as from files with the same pixels and cameras.

use std::path::PathBuf;
use std::sync::Arc;

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::checks::{checked_intrinsics, checked_rotation, too_few_views};
use crate::scene::stored_photo::StoredPhoto;
use crate::scene::visible::points_in_photos;
use crate::scene::{Layout, Scene, ScenePoint, SourceView, View};
use crate::{Error, Result};

/// A photo with what is known of it.
#[derive(Clone, Debug)]
pub struct PhotoView {
    /// The name of its maps.
    pub name: String,
    /// What it shows.
    pub photo: StoredPhoto,
    /// Rows of K; pixel centres are integers.
    pub k: [[f64; 3]; 3],
    /// Rows of the rotation, world to camera.
    pub r: [[f64; 3]; 3],
    /// Translation, world to camera.
    pub t: [f64; 3],
    /// Depths to search, if the caller knows.
    pub range: Option<DepthRange>,
    /// Number of depths to try, if the caller knows.
    pub planes: Option<usize>,
    /// Indices of its source views, best first; `None`: they are selected.
    pub sources: Option<Vec<usize>>,
}

/// Sparse points of a scene in memory.
#[derive(Clone, Debug, Default)]
pub struct PhotoPoints {
    /// Positions in the world.
    pub positions: Vec<[f64; 3]>,
    /// For each the indices of the views that see it; `None`: every view in whose photo it lies.
    pub tracks: Option<Vec<Vec<usize>>>,
}

impl Scene {
    /// The scene of photos in memory. Cameras must be pinhole ones.
    ///
    /// # Errors
    /// Fewer than two photos, names that are none or not unique, K or a rotation that is none, a range, source or track
    /// that cannot be.
    pub fn of_photos(photos: Vec<PhotoView>, points: PhotoPoints) -> Result<Scene> {
        let root = PathBuf::from(MEMORY);
        let count = photos.len();
        if count < 2 {
            return Err(too_few_views(&root, count));
        }
        let mut views: Vec<View> = Vec::with_capacity(count);
        for (id, photo) in photos.into_iter().enumerate() {
            let view = view(id, count, photo)?;
            if let Some(other) = views.iter().find(|other| other.name.to_lowercase() == view.name.to_lowercase()) {
                let found = format!("the name {} of photo {}, too", view.name, other.id);
                return Err(Error::input(format!("photo {id}"), found, "a name of its own for each photo"));
            }
            views.push(view);
        }
        let mut notes = Vec::new();
        let points = scene_points(points, &views, &mut notes)?;
        let layout = Layout::Memory;
        let (region, region_of_files) = (None, None);
        Ok(Scene { root, layout, views, points, region, region_of_files, poses: None, georeference: None, notes })
    }
}

/// What a scene without a folder is called.
pub const MEMORY: &str = "photos in memory";

fn view(id: usize, count: usize, photo: PhotoView) -> Result<View> {
    let PhotoView { name, photo, k, r, t, range, planes, sources } = photo;
    let place = format!("photo {id}");
    if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') || name.len() > 200 {
        return Err(Error::input(
            place,
            format!("the name `{name}`"),
            "a name for files, without slashes, up to 200 bytes",
        ));
    }
    let camera = checked_camera(&place, k, r, t)?;
    if let Some(DepthRange { near, far }) = range
        && !(near > 0.0 && near < far && far.is_finite())
    {
        return Err(Error::input(format!("{place}: depth range"), format!("{near} to {far}"), "0 < near < far"));
    }
    let is_source = |source: &usize| *source < count && *source != id;
    if let Some(bad) = sources.iter().flatten().find(|source| !is_source(source)) {
        let expected = format!("indices of other photos, 0 to {}", count - 1);
        return Err(Error::input(format!("{place}: sources"), format!("{bad}"), expected));
    }
    let sources = sources.unwrap_or_default();
    let ranked = sources.iter().enumerate().map(|(i, &view)| SourceView { view, score: (sources.len() - i) as f64 });
    Ok(View {
        id: id as u32,
        image: PathBuf::from(format!("{MEMORY}: {name}")),
        name,
        size: photo.size(),
        camera,
        lens: None,
        mask: None,
        in_memory: Some(Arc::new(photo)),
        known: None,
        range,
        sweep: None,
        planes,
        sources: ranked.collect(),
    })
}

/// The camera of rows of K and of a pose, world to camera.
///
/// # Errors
/// No K of a pinhole camera, no rotation, a translation that is not finite; `place` says whose.
pub fn checked_camera(place: &str, k: [[f64; 3]; 3], r: [[f64; 3]; 3], t: [f64; 3]) -> Result<Camera> {
    let k = checked_intrinsics(&format!("{place}: K"), k)?;
    let r = checked_rotation(&format!("{place}: rotation"), DMat3::from_cols_array_2d(&r).transpose())?;
    let t = DVec3::from(t);
    if !t.is_finite() {
        return Err(Error::input(format!("{place}: translation"), format!("{t}"), "three finite numbers"));
    }
    Ok(Camera { k, r, t })
}

fn scene_points(points: PhotoPoints, views: &[View], notes: &mut Vec<String>) -> Result<Vec<ScenePoint>> {
    let PhotoPoints { positions, tracks } = points;
    if let Some((i, bad)) = positions.iter().enumerate().find(|(_, p)| p.iter().any(|v| !v.is_finite())) {
        return Err(Error::input(format!("point {i}"), format!("{bad:?}"), "three finite coordinates"));
    }
    let Some(tracks) = tracks else {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        return Ok(points_in_photos(&positions, |&position| (position.into(), 0.0), views, notes));
    };
    if tracks.len() != positions.len() {
        let found = format!("{} for {}", counted(tracks.len(), "track"), counted(positions.len(), "point"));
        return Err(Error::input("tracks", found, "one track for each point"));
    }
    let point = |(i, (position, mut views_of)): (usize, ([f64; 3], Vec<usize>))| {
        if let Some(bad) = views_of.iter().find(|&&view| view >= views.len()) {
            let expected = format!("indices of photos, 0 to {}", views.len() - 1);
            return Err(Error::input(format!("track {i}"), bad.to_string(), expected));
        }
        views_of.sort_unstable();
        views_of.dedup();
        Ok(ScenePoint { position: position.into(), error: 0.0, views: views_of })
    };
    let points: Vec<ScenePoint> = positions.into_iter().zip(tracks).enumerate().map(point).collect::<Result<_>>()?;
    Ok(points.into_iter().filter(|point| !point.views.is_empty()).collect())
}
