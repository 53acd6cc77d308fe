//! The main job, of arrays or of a scene's files, and its results as arrays.

use std::path::{Path, PathBuf};

use engine::embedded::{self, Given};
use engine::export::results::Results;
use engine::files::map::Map;
use engine::files::ply::Point;
use engine::files::ply_cloud::CloudFile;
use engine::host::progress::Progress;
use engine::scene::Scene;
use engine::scene::camera::DepthRange;
use engine::scene::memory::{PhotoPoints, PhotoView};
use engine::{Error, Result};
use numpy::ndarray::Axis;
use numpy::{PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;

use crate::arrays::{Copied, PhotoArray, of_cameras, of_map, of_pixels, positions, rows, translation};
use crate::clouds;
use crate::work::{alone, dictionary};

/// What a run has left, in memory.
struct Made {
    results: Results,
    maps: Vec<(Map, Map, Vec<[f32; 3]>)>,
    cloud: Option<Vec<Point>>,
    manifest: Value,
}

/// Depth maps of photos in memory; see `engine_mvs.infer`.
#[pyfunction]
#[pyo3(signature = (images, k, poses, names, sources, ranges, masks, points, tracks, options, out, progress))]
#[allow(clippy::too_many_arguments)] // one for each array: only the Python package calls it
pub fn infer(
    py: Python<'_>,
    images: Vec<PhotoArray<'_>>,
    k: PyReadonlyArray3<'_, f64>,
    poses: PyReadonlyArray3<'_, f64>,
    names: Vec<String>,
    sources: Option<Vec<Vec<usize>>>,
    ranges: Option<Vec<Option<(f64, f64)>>>,
    masks: Option<Vec<Option<PyReadonlyArray2<'_, bool>>>>,
    points: Option<PyReadonlyArray2<'_, f64>>,
    tracks: Option<Vec<Vec<usize>>>,
    options: Vec<Given>,
    out: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Py<PyDict>> {
    let mut photos = Vec::with_capacity(images.len());
    for (i, (image, name)) in images.iter().zip(names).enumerate() {
        let pose = poses.as_array().index_axis_move(Axis(0), i);
        let (k, r) = (rows(k.as_array().index_axis_move(Axis(0), i)), rows(pose));
        let t = translation(pose);
        let range = ranges.as_ref().and_then(|ranges| ranges[i]).map(|(near, far)| DepthRange { near, far });
        let sources = sources.as_ref().map(|sources| sources[i].clone());
        let view = move |photo| PhotoView { name, photo, k, r, t, range, planes: None, sources };
        photos.push((Copied::new(image, masks.as_ref().and_then(|masks| masks[i].as_ref())), view));
    }
    let positions = points.map(|points| positions(py, "points", &points)).transpose()?.unwrap_or_default();
    let points = PhotoPoints { positions, tracks };
    let made = alone(py, progress, move |progress| {
        let view = |(i, (photo, view)): (usize, (Copied, _))| photo.photo(&format!("photo {i}")).map(view);
        let views = photos.into_iter().enumerate().map(view).collect::<Result<_>>()?;
        let scene = Scene::of_photos(views, points)?;
        in_folder(out, |out| embedded::infer_photos(scene, out, &options, progress))
    })?;
    of_made(py, made)
}

/// Depth maps of a scene's files; see `engine_mvs.infer_scene`.
#[pyfunction]
#[pyo3(signature = (scene, options, out, progress))]
pub fn infer_scene(
    py: Python<'_>,
    scene: PathBuf,
    options: Vec<Given>,
    out: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Py<PyDict>> {
    let run = move |progress: &Progress| in_folder(out, |out| embedded::infer(&scene, out, &options, progress));
    let made = alone(py, progress, run)?;
    of_made(py, made)
}

/// Runs into a folder, or into one that is gone afterwards, and reads what is there.
fn in_folder(out: Option<PathBuf>, run: impl FnOnce(PathBuf) -> Result<()>) -> Result<Made> {
    let temporary = match out {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(Error::io("make a temporary folder", &std::env::temp_dir()))?),
    };
    let folder = temporary.as_ref().map(|folder| folder.path().join("out")).or(out).unwrap_or_default();
    run(folder.clone())?;
    read(&folder)
}

fn read(folder: &Path) -> Result<Made> {
    let results = Results::open(folder)?;
    let mut maps = Vec::with_capacity(results.views.len());
    for view in 0..results.views.len() {
        let of_view = results.maps(view)?;
        let normals = results.normals(view, &of_view.depth)?;
        maps.push((of_view.depth, of_view.confidence, normals));
    }
    let mut cloud = None;
    if results.cloud().is_file() {
        let file = CloudFile::open(&results.cloud())?;
        let mut points = Vec::new();
        file.each(|point| {
            points.push(*point);
            Ok(())
        })?;
        cloud = Some(points);
    }
    let manifest = serde_json::to_value(&results.manifest).unwrap_or_default();
    Ok(Made { results, maps, cloud, manifest })
}

fn of_made(py: Python<'_>, made: Made) -> PyResult<Py<PyDict>> {
    let Made { results, maps, cloud, manifest } = made;
    let cameras: Vec<_> = results.views.iter().map(|view| view.camera).collect();
    let (k, poses) = of_cameras(py, &cameras)?;
    let (depths, confidences, normals) = (PyList::empty(py), PyList::empty(py), PyList::empty(py));
    for (depth, confidence, of_view) in maps {
        let size = (depth.width, depth.height);
        depths.append(of_map(py, depth)?)?;
        confidences.append(of_map(py, confidence)?)?;
        normals.append(of_pixels(py, size, 3, of_view.into_flattened())?)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("names", results.views.iter().map(|view| view.name.clone()).collect::<Vec<_>>())?;
    dict.set_item("depth", depths)?;
    dict.set_item("confidence", confidences)?;
    dict.set_item("normal", normals)?;
    dict.set_item("K", k)?;
    dict.set_item("cam_from_world", poses)?;
    dict.set_item("cloud", cloud.map(|points| clouds::of_points(py, &points)).transpose()?)?;
    dict.set_item("manifest", dictionary(py, &manifest)?)?;
    Ok(dict.unbind())
}
