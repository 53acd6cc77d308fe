//! Scenes in the COLMAP layout: `images/` with a sparse model in `sparse/`, `sparse/N/` or `dense/sparse/`, or the
//! folder of the model itself; [`OpenOptions::sparse`] is a model elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use glam::{DVec2, DVec3};

use crate::error::counted;
use crate::files::{image, names};
use crate::scene::camera::Camera;
use crate::scene::colmap::entries::{CameraEntry, ImageEntry};
use crate::scene::colmap::model::{Encoding, Model};
use crate::scene::colmap::{binary, text};
use crate::scene::lens::Lens;
use crate::scene::photo::check_size;
use crate::scene::visible::points_in_photos;
use crate::scene::{Layout, OpenOptions, Scene, ScenePoint, View, photos_folder};
use crate::{Error, Result};

/// A place where COLMAP models lie, with the folder of their photos.
struct Workspace {
    models: Vec<(PathBuf, Encoding)>,
    photos: PathBuf,
}

/// Models of the scene at `root`, or where options say, by workspace: photos as taken first, undistorted ones after.
fn workspaces(root: &Path, options: &OpenOptions) -> Vec<Workspace> {
    let images = options.images.as_deref();
    if let Some(sparse) = &options.sparse {
        let photos = images.map_or_else(|| photos_folder(root), Path::to_owned);
        let models = models_in(sparse);
        return if models.is_empty() { Vec::new() } else { vec![Workspace { models, photos }] };
    }
    let mut found = Vec::new();
    if let Some(encoding) = Encoding::of(root) {
        // As COLMAP lays them out: images/ beside sparse/, in which the model lies, perhaps in a folder with a number.
        let full = dunce::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let mut around = full.ancestors().take(3).map(|folder| folder.join("images"));
        let photos = around.find(|folder| folder.is_dir());
        let photos = images.map(Path::to_owned).or(photos).unwrap_or_else(|| root.join("images"));
        found.push(Workspace { models: vec![(root.to_owned(), encoding)], photos });
    }
    for folder in [root.to_owned(), root.join("dense"), root.join("dense").join("0")] {
        let models = models_in(&folder.join("sparse"));
        if models.is_empty() {
            continue;
        }
        let own = folder.join("images");
        let photos = if own.is_dir() { own } else { root.join("images") };
        let photos = images.filter(|_| !photos.is_dir()).map_or(photos, Path::to_owned);
        found.push(Workspace { models, photos });
    }
    found
}

/// Whether there is a COLMAP model where one is looked for.
pub fn is_scene(root: &Path) -> bool {
    !workspaces(root, &OpenOptions::default()).is_empty()
}

/// How many images the largest of the models in `sparse` has; 0 where there is none.
///
/// # Errors
/// A model that cannot be read.
pub fn registered(sparse: &Path) -> Result<usize> {
    let counts = models_in(sparse).into_iter().map(|(folder, encoding)| image_count(&folder, encoding));
    Ok(counts.collect::<Result<Vec<_>>>()?.into_iter().max().map_or(0, to_usize))
}

fn image_count(folder: &Path, encoding: Encoding) -> Result<u64> {
    let file = encoding.file(folder, "images");
    match encoding {
        Encoding::Binary => binary::image_count(&file),
        Encoding::Text => Ok(text::images(&file)?.0.len() as u64),
    }
}

/// The model in `sparse` itself, or those in its folders, sorted by name, 2 before 10.
fn models_in(sparse: &Path) -> Vec<(PathBuf, Encoding)> {
    if let Some(encoding) = Encoding::of(sparse) {
        return vec![(sparse.to_owned(), encoding)];
    }
    let entries = std::fs::read_dir(sparse).into_iter().flatten().flatten();
    let mut models: Vec<_> =
        entries.map(|e| e.path()).filter_map(|path| Encoding::of(&path).map(|e| (path, e))).collect();
    models.sort_by(|(a, _), (b, _)| alphanumeric_sort::compare_path(a, b));
    models
}

/// Reads the scene at `root`; of the options it takes where model and photos lie if not there.
///
/// # Errors
/// A model or photos that do not hold what they should; a camera model that is not supported; fewer than two usable
/// views.
pub fn open(root: &Path, options: &OpenOptions) -> Result<Scene> {
    let mut notes = Vec::new();
    let Some(workspace) = choose_workspace(root, options, &mut notes)? else {
        let (place, expected) = match &options.sparse {
            Some(sparse) => (sparse, "cameras and images, .bin or .txt, in it or in folders of it"),
            None => (&root.to_owned(), "one in sparse/, sparse/0/ or dense/sparse/"),
        };
        return Err(Error::input(place.display().to_string(), "no COLMAP model", expected));
    };
    let (folder, encoding) = choose_model(root, workspace.models, &mut notes)?;
    let model = Model::read(&folder, encoding)?;
    notes.extend(model.notes.iter().cloned());
    let poses = model.poses()?;
    let Photos { found: photos, missing, in_other_case, elsewhere } = Photos::find(&workspace.photos, &model);
    notes.extend(outside_note(root, &elsewhere));
    if let Some((name, path)) = in_other_case.first() {
        notes.push(format!(
            "{} found under names that differ from the model's in upper and lower case only (first: {name} is {})",
            counted(in_other_case.len(), "photo"),
            relative(&workspace.photos, path)
        ));
    }
    if let Some(first) = missing.first() {
        let (count, all) = (missing.len(), model.images.len());
        if photos.len() < 2 {
            return Err(Error::input(
                workspace.photos.display().to_string(),
                format!("{count} of the {all} registered images have no photo here (first: {first})"),
                "at least two photos under the names that the model has for them",
            ));
        }
        let place = relative(root, &workspace.photos);
        notes.push(format!(
            "{count} of {all} registered images have no photo in {place} and were left out (first: {first})"
        ));
    }
    let inside = photos.len() - elsewhere.len();
    let unregistered = photos_below(&workspace.photos).len().saturating_sub(inside);
    if unregistered > 0 {
        let place = relative(root, &workspace.photos);
        notes.push(format!("{} in {place} that the model has not registered left out", counted(unregistered, "photo")));
    }
    if photos.len() < 2 {
        return Err(crate::scene::checks::too_few_views(root, photos.len()));
    }

    let headers = crate::scene::checks::photo_headers(photos.values().map(PathBuf::as_path), &mut notes)?;
    let names = photos.keys().map(|&id| (id, names::readable(model.images[&id].name.as_os_str()))).collect();
    let names = crate::scene::checks::unique_names(names, &mut notes);
    let mut lenses = Lenses { model: &model, known: BTreeMap::new() };
    let mut views = Vec::new();
    for (((id, photo), name), header) in photos.into_iter().zip(names).zip(headers) {
        let entry = &model.images[&id];
        let Some(camera) = model.cameras.get(&entry.camera) else {
            return Err(Error::input(
                model.images_file.display().to_string(),
                format!("image {id} of camera {}", entry.camera),
                format!("one of the {} cameras in {}", model.cameras.len(), relative(root, &model.cameras_file)),
            ));
        };
        let size = (to_usize(camera.size.0), to_usize(camera.size.1));
        // Before the lens, whose making takes time that grows with the size.
        check_size(&photo, size, header.size)?;
        let (k, lens) = lenses.of(camera)?;
        let (r, t) = poses[&id];
        views.push(View {
            id,
            name,
            image: photo,
            size,
            camera: Camera { k, r, t },
            lens,
            mask: None,
            in_memory: None,
            known: None,
            range: None,
            sweep: None,
            planes: None,
            sources: Vec::new(),
        });
    }
    lenses.note(&mut notes);
    let points = scene_points(&model, &views, &mut notes);
    let (root, layout, region, region_of_files) = (root.to_owned(), Layout::Colmap, None, None);
    Ok(Scene { root, layout, views, points, region, region_of_files, poses: None, georeference: None, notes })
}

/// Where a view was seen to see a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The pixel of the stored photo, before any undistortion; pixel centres are integers.
    pub pixel: DVec2,
    /// The point's position in the world.
    pub point: DVec3,
}

/// Folder, encoding and photos of the model that [`open()`] reads.
fn model_of(root: &Path, options: &OpenOptions) -> Result<Option<(PathBuf, Encoding, PathBuf)>> {
    let mut notes = Vec::new();
    let Some(workspace) = choose_workspace(root, options, &mut notes)? else { return Ok(None) };
    let photos = workspace.photos.clone();
    let (folder, encoding) = choose_model(root, workspace.models, &mut notes)?;
    Ok(Some((folder, encoding, photos)))
}

/// For each view of a scene that [`open()`] has read with these options, the keypoints with a finite point that the
/// model has for it. None where the model has no points or keypoints.
///
/// # Errors
/// As [`open()`].
pub fn observations(scene: &Scene, options: &OpenOptions) -> Result<Vec<Vec<Observation>>> {
    let mut of_views = vec![Vec::new(); scene.views.len()];
    let Some((folder, encoding, _)) = model_of(&scene.root, options)? else { return Ok(of_views) };
    let (images, points) = (encoding.file(&folder, "images"), encoding.file(&folder, "points3D"));
    if !points.is_file() {
        return Ok(of_views);
    }
    let (keypoints, points) = match encoding {
        Encoding::Binary => (binary::keypoints(&images)?, binary::points(&points)?),
        Encoding::Text => (text::keypoints(&images)?, text::points(&points)?),
    };
    let positions: HashMap<u64, DVec3> =
        points.into_iter().filter(|p| p.position.is_finite()).map(|p| (p.id, p.position)).collect();
    // Where photos are cut into faces, what one of them sees of the points is for it.
    let has_faces = scene.views.iter().any(|view| view.face().is_some());
    let image_of = |view: &View| if has_faces { view.id / crate::scene::faces::IDS } else { view.id };
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    scene.views.iter().enumerate().for_each(|(i, view)| places.entry(image_of(view)).or_default().push(i));
    for (image, keypoints) in keypoints {
        let all = keypoints.into_iter().filter_map(|keypoint| {
            let pixel = DVec2::from_array(keypoint.pixel) - 0.5;
            Some(Observation { pixel, point: *positions.get(&keypoint.point)? })
        });
        let all: Vec<Observation> = all.collect();
        for &view in places.get(&image).into_iter().flatten() {
            let is_seen =
                |seen: &&Observation| scene.views[view].face().is_none() || scene.views[view].shows(seen.point);
            of_views[view] = all.iter().filter(is_seen).copied().collect();
        }
    }
    Ok(of_views)
}

/// How large an image is.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSize {
    /// Its name in the model.
    pub name: String,
    /// Width and height that its camera is for.
    pub camera: (u64, u64),
    /// Width and height of the stored photo.
    pub photo: (usize, usize),
}

/// The sizes of the registered images that have a photo. [`open()`] refuses a scene where they differ; this tells by
/// how much.
///
/// # Errors
/// Files of the model or photos that cannot be read.
pub fn sizes(root: &Path, options: &OpenOptions) -> Result<Vec<ImageSize>> {
    let Some((folder, encoding, photos)) = model_of(root, options)? else { return Ok(Vec::new()) };
    let model = Model::read(&folder, encoding)?;
    let mut sizes = Vec::new();
    for (id, photo) in Photos::find(&photos, &model).found {
        let entry = &model.images[&id];
        let Some(camera) = model.cameras.get(&entry.camera) else { continue };
        let photo = image::header(&photo)?.size;
        sizes.push(ImageSize { name: names::readable(entry.name.as_os_str()), camera: camera.size, photo });
    }
    Ok(sizes)
}

/// Sizes over usize can only be lies; they are refused when compared with the photo's.
fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// `path` as seen from the scene's folder, for messages.
fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// The first workspace with photos.
fn choose_workspace(root: &Path, options: &OpenOptions, notes: &mut Vec<String>) -> Result<Option<Workspace>> {
    let mut found = workspaces(root, options).into_iter();
    let Some(first) = found.next() else { return Ok(None) };
    let others: Vec<Workspace> = found.collect();
    if first.photos.is_dir() {
        if !others.is_empty() {
            notes.push("there are models in sparse/ and in dense/: those of sparse/ are used".into());
        }
        return Ok(Some(first));
    }
    let place = first.photos.display().to_string();
    match others.into_iter().find(|w| w.photos.is_dir()) {
        Some(other) => Ok(Some(other)),
        None => Err(Error::input(place, "no such folder", "the folder with the photos of the COLMAP model")),
    }
}

/// The model with the most images; of equal ones the first.
fn choose_model(root: &Path, models: Vec<(PathBuf, Encoding)>, notes: &mut Vec<String>) -> Result<(PathBuf, Encoding)> {
    let mut counted = Vec::new();
    for (folder, encoding) in models {
        let count = image_count(&folder, encoding)?;
        counted.push((folder, encoding, count));
    }
    if counted.len() > 1 {
        let list: Vec<String> =
            counted.iter().map(|m| format!("{} has {} images", relative(root, &m.0), m.2)).collect();
        notes.push(format!("several models: {}; the largest is used", list.join(", ")));
    }
    // `max_by_key` would take the last of equal ones.
    let best = counted.into_iter().reduce(|best, next| if next.2 > best.2 { next } else { best });
    match best {
        Some((folder, encoding, _)) => Ok((folder, encoding)),
        None => Err(Error::Bug { place: "choosing a model", problem: "a workspace without one".into() }),
    }
}

/// The photos of a model's images.
struct Photos {
    /// Those that are there, by the image's id.
    found: BTreeMap<u32, PathBuf>,
    /// Names of the images without one.
    missing: Vec<String>,
    /// Images whose photo's name differs in case only.
    in_other_case: Vec<(String, PathBuf)>,
    /// Images whose names lead out of the folder with the photos.
    elsewhere: Vec<(String, PathBuf)>,
}

/// Whether the name of a photo, absolute or with `..`, leads out of the folder: as the system follows it, since what
/// stands before `..` may be a link. (Links that are photos are in the folder all the same.)
fn leads_out(folder: &Path, photo: &Path) -> bool {
    let is_plain = |below: &Path| below.components().all(|part| part != Component::ParentDir);
    if photo.strip_prefix(folder).is_ok_and(is_plain) {
        return false;
    }
    match (dunce::canonicalize(folder), dunce::canonicalize(photo)) {
        (Ok(folder), Ok(photo)) => !photo.starts_with(folder),
        _ => true,
    }
}

/// Says so where the model's names lead out of the scene. They are followed: whoever gives the model names its photos.
fn outside_note(root: &Path, elsewhere: &[(String, PathBuf)]) -> Option<String> {
    let whole = dunce::canonicalize(root).ok()?;
    let is_outside = |path: &PathBuf| dunce::canonicalize(path).is_ok_and(|path| !path.starts_with(&whole));
    let outside: Vec<&str> =
        elsewhere.iter().filter(|(_, path)| is_outside(path)).map(|(name, _)| name.as_str()).collect();
    let first = outside.first()?;
    Some(format!(
        "{} outside of the scene's folder, where the model's names lead (first: {first})",
        if outside.len() == 1 { "1 photo lies".into() } else { format!("{} photos lie", outside.len()) }
    ))
}

impl Photos {
    /// Looks for each image's photo under its name, which may have folders in it (with `\` where the model was made on
    /// Windows); then for the one file whose name differs in case only and that is no other image's.
    fn find(folder: &Path, model: &Model) -> Self {
        let readable = |entry: &ImageEntry| names::readable(entry.name.as_os_str());
        let mut photos =
            Self { found: BTreeMap::new(), missing: Vec::new(), in_other_case: Vec::new(), elsewhere: Vec::new() };
        let mut left = Vec::new();
        for entry in model.images.values() {
            let slashes = names::bytes(&entry.name).iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect();
            let names = [entry.name.clone(), names::from_bytes(slashes)];
            match names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
                Some(path) => {
                    if leads_out(folder, &path) {
                        photos.elsewhere.push((readable(entry), path.clone()));
                    }
                    photos.found.insert(entry.id, path);
                }
                None => left.push(entry),
            }
        }
        if left.is_empty() {
            return photos;
        }
        let taken: HashSet<&PathBuf> = photos.found.values().collect();
        let key = |path: &Path| names::readable(path.as_os_str()).replace('\\', "/").to_lowercase();
        let mut there: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for path in photos_below(folder).into_iter().filter(|path| !taken.contains(path)) {
            there.entry(key(path.strip_prefix(folder).unwrap_or(&path))).or_default().push(path);
        }
        // Two images that differ in case only cannot both have the one file.
        let mut wanted: HashMap<String, usize> = HashMap::new();
        left.iter().for_each(|entry| *wanted.entry(key(&entry.name)).or_default() += 1);
        for entry in left {
            let key = key(&entry.name);
            match there.get(&key).map(Vec::as_slice) {
                Some([path]) if wanted[&key] == 1 => {
                    photos.found.insert(entry.id, path.clone());
                    photos.in_other_case.push((readable(entry), path.clone()));
                }
                _ => photos.missing.push(readable(entry)),
            }
        }
        photos
    }
}

/// Photos in a folder and in the folders in it.
fn photos_below(folder: &Path) -> Vec<PathBuf> {
    let (mut photos, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                // Links to folders are not followed: they may lead in a circle.
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if image::has_photo_extension(&path) && !crate::files::input::is_hidden(&path) => photos.push(path),
                _ => {}
            }
        }
    }
    photos
}

/// The pinhole intrinsics and the lens of each camera, made once.
struct Lenses<'a> {
    model: &'a Model,
    known: BTreeMap<u32, (glam::DMat3, Option<Lens>)>,
}

impl Lenses<'_> {
    fn of(&mut self, camera: &CameraEntry) -> Result<(glam::DMat3, Option<Lens>)> {
        if let Some(known) = self.known.get(&camera.id) {
            return Ok(known.clone());
        }
        let (k, distortion) = camera.intrinsics(&self.model.cameras_file)?;
        let lens = distortion.map(|d| Lens::new(d, k, (to_usize(camera.size.0), to_usize(camera.size.1))));
        let made = (lens.as_ref().map_or(k, |lens| lens.pinhole_k), lens);
        self.known.insert(camera.id, made.clone());
        Ok(made)
    }

    /// States the new intrinsics of what is undistorted: a note for each camera, or one in all where there are many.
    fn note(&self, notes: &mut Vec<String>) {
        const MANY: usize = 8;
        let bent = self.known.iter().filter_map(|(id, (_, lens))| Some((id, lens.as_ref()?)));
        let bent: Vec<(&u32, &Lens)> = bent.filter(|(_, lens)| !lens.is_wide()).collect();
        let scale = |lens: &Lens| lens.pinhole_k.x_axis.x / lens.stored_k.x_axis.x;
        if bent.len() > MANY {
            let scales = bent.iter().map(|(_, lens)| scale(lens));
            let (least, most) = scales.fold((f64::MAX, 0f64), |(a, b), s| (a.min(s), b.max(s)));
            notes.push(format!(
                "photos of {} cameras have lens distortion and are undistorted to pinhole cameras of the same size and \
                 principal point, focal lengths times {least:.4} to {most:.4}",
                bent.len()
            ));
            return;
        }
        for (id, lens) in bent {
            let k = &lens.pinhole_k;
            notes.push(format!(
                "camera {id} ({}): photos are undistorted to a pinhole camera of the same size, fx {:.4} fy {:.4} cx \
                 {:.4} cy {:.4} (focal lengths times {:.4})",
                self.model.cameras[id].model.name,
                k.x_axis.x,
                k.y_axis.y,
                k.z_axis.x,
                k.z_axis.y,
                scale(lens),
            ));
        }
    }
}

/// The points that some view sees.
fn scene_points(model: &Model, views: &[View], notes: &mut Vec<String>) -> Vec<ScenePoint> {
    let Some(entries) = &model.points else {
        notes.push("the model has no file of points".into());
        return Vec::new();
    };
    if !entries.is_empty() && entries.iter().all(|entry| entry.images.is_empty()) {
        return points_in_photos(entries, |entry| (entry.position, entry.error), views, notes);
    }
    let index: HashMap<u32, usize> = views.iter().enumerate().map(|(i, view)| (view.id, i)).collect();
    let (mut not_finite, mut unknown) = (0, 0);
    let mut points = Vec::with_capacity(entries.len());
    for entry in entries {
        if !entry.position.is_finite() {
            not_finite += 1;
            continue;
        }
        unknown += entry.images.iter().filter(|id| !model.images.contains_key(id)).count();
        let mut seen: Vec<usize> = entry.images.iter().filter_map(|id| index.get(id).copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        if !seen.is_empty() {
            points.push(ScenePoint { position: entry.position, error: entry.error, views: seen });
        }
    }
    if not_finite > 0 {
        notes.push(format!("{not_finite} points without finite coordinates were left out"));
    }
    if unknown > 0 {
        notes.push(format!("{unknown} observations by images that the model does not list were ignored"));
    }
    points
}
