//! Clouds: fused from maps, written, measured; and maps measured against true ones.

use std::path::PathBuf;

use engine::Error;
use engine::evaluation::cloud::{CloudSettings, compare};
use engine::evaluation::depth::DepthErrors;
use engine::files::map::Map;
use engine::files::ply::{self, Point};
use engine::files::ply_storage::OffsetOption;
use engine::fusion::grid::{self, Given};
use engine::fusion::view::FusionView;
use engine::host::interrupt;
use engine::run::cloud::{Fusion, points_of};
use engine::run::device::Backend;
use engine::scene::camera::DepthRange;
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;

use crate::arrays::{cameras, map_of, positions};
use crate::errors::raised;
use crate::work::{dictionary, work};

/// One cloud of depth maps in memory; see `engine_mvs.fuse`.
#[pyfunction]
#[pyo3(signature = (depth, confidence, colours, k, poses, sources, range, method, preset, constants, thin, progress))]
#[allow(clippy::too_many_arguments)] // one for each array: only the Python package calls it
pub fn fuse(
    py: Python<'_>,
    depth: Vec<PyReadonlyArray2<'_, f32>>,
    confidence: Vec<PyReadonlyArray2<'_, f32>>,
    colours: Vec<PyReadonlyArray3<'_, u8>>,
    k: PyReadonlyArray3<'_, f64>,
    poses: PyReadonlyArray3<'_, f64>,
    sources: Vec<Vec<usize>>,
    range: Option<(f64, f64)>,
    method: Option<String>,
    preset: Option<String>,
    constants: Vec<Given>,
    thin: Option<f64>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Py<PyDict>> {
    let (near, far) = range.unwrap_or((f64::MIN_POSITIVE, f64::MAX));
    let refuse = |place: &str, found: String, expected: &str| Err(raised(py, &Error::input(place, found, expected)));
    if !(near > 0.0 && near < far && far.is_finite()) {
        return refuse("depth_range", format!("{near} to {far}"), "0 < near < far");
    }
    if let Some(thin) = thin.filter(|thin| !(thin.is_finite() && *thin > 0.0)) {
        return refuse("thin", thin.to_string(), "a number above 0");
    }
    let cameras = cameras("view", &k, &poses).map_err(|e| raised(py, &e))?;
    if cameras.len() < 2 {
        return refuse("depth", format!("{} maps", cameras.len()), "maps of at least two views");
    }
    let maps = depth.iter().zip(&confidence).zip(&colours).zip(cameras).zip(sources).enumerate();
    let mut views: Vec<FusionView> = maps
        .map(|(i, ((((depth, confidence), colours), camera), sources))| FusionView {
            name: i.to_string(),
            camera,
            depth: map_of(depth),
            confidence: map_of(confidence),
            colour: colours.as_array().rows().into_iter().map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
            range: DepthRange { near, far },
            sources,
            levels: Vec::new(),
        })
        .collect();
    let points = work(py, progress, move |progress| {
        let setting = grid::setting(method.as_deref(), preset.as_deref(), &constants)?;
        for view in &mut views {
            view.sources.truncate(setting.settings.check_sources);
        }
        let options = &setting.settings.fusion;
        let backend = &Backend::Host;
        let fusion = Fusion { options, thin, region: None, ply_offset: OffsetOption::None, backend };
        points_of(views, fusion, progress)
    })?;
    of_points(py, &points)
}

/// A cloud as arrays.
pub fn of_points(py: Python<'_>, points: &[Point]) -> PyResult<Py<PyDict>> {
    let count = points.len();
    let table = |values: Vec<f64>| values.into_pyarray(py).reshape([count, 3]);
    let positions: Vec<f64> = points.iter().flat_map(|point| point.position).collect();
    let normals: Bound<'_, PyArray2<f32>> =
        points.iter().flat_map(|point| point.normal).collect::<Vec<_>>().into_pyarray(py).reshape([count, 3])?;
    let colours: Bound<'_, PyArray2<u8>> =
        points.iter().flat_map(|point| point.colour).collect::<Vec<_>>().into_pyarray(py).reshape([count, 3])?;
    let dict = PyDict::new(py);
    dict.set_item("points", table(positions)?)?;
    dict.set_item("normals", normals)?;
    dict.set_item("colours", colours)?;
    dict.set_item("confidence", points.iter().map(|p| p.confidence).collect::<Vec<_>>().into_pyarray(py))?;
    dict.set_item("views", points.iter().map(|p| p.views).collect::<Vec<_>>().into_pyarray(py))?;
    Ok(dict.unbind())
}

/// Writes a cloud as `engine infer` does.
#[pyfunction]
pub fn write_ply(
    py: Python<'_>,
    path: PathBuf,
    positions: PyReadonlyArray2<'_, f64>,
    normals: PyReadonlyArray2<'_, f32>,
    colours: PyReadonlyArray2<'_, u8>,
    confidence: PyReadonlyArray1<'_, f32>,
    views: PyReadonlyArray1<'_, u8>,
) -> PyResult<()> {
    let positions = self::positions(py, "points", &positions)?;
    let (normals, colours) = (normals.as_array(), colours.as_array());
    let (confidence, views) = (confidence.as_array(), views.as_array());
    let point = |(i, position): (usize, [f64; 3])| Point {
        position,
        normal: std::array::from_fn(|axis| normals[[i, axis]]),
        colour: std::array::from_fn(|channel| colours[[i, channel]]),
        confidence: confidence[i],
        views: views[i],
    };
    let points: Vec<Point> = positions.into_iter().enumerate().map(point).collect();
    work(py, None, move |_| ply::write(&path, &points, ply::storage_of(&points, OffsetOption::None), &[]))
}

/// Depth against true depth; see `engine_mvs.evaluate`.
#[pyfunction]
#[pyo3(signature = (depth, truth, confidence, interval))]
pub fn evaluate(
    py: Python<'_>,
    depth: Vec<PyReadonlyArray2<'_, f32>>,
    truth: Vec<PyReadonlyArray2<'_, f32>>,
    confidence: Option<Vec<PyReadonlyArray2<'_, f32>>>,
    interval: Option<f64>,
) -> PyResult<Py<PyAny>> {
    let maps: Vec<Map> = depth.iter().map(map_of).collect();
    let truths: Vec<Map> = truth.iter().map(map_of).collect();
    let certain: Option<Vec<Map>> = confidence.map(|maps| maps.iter().map(map_of).collect());
    let summary = work(py, None, move |_| {
        let mut errors = DepthErrors::new();
        for (i, (depth, truth)) in maps.iter().zip(&truths).enumerate() {
            interrupt::check()?;
            errors.add(depth, certain.as_ref().map(|maps| &maps[i]), truth, interval)?;
        }
        Ok(json!(errors.summary()))
    })?;
    dictionary(py, &summary)
}

/// A cloud against another; see `engine_mvs.evaluate_cloud`.
#[pyfunction]
#[pyo3(signature = (points, reference, thresholds, max_distance, voxel))]
pub fn evaluate_cloud(
    py: Python<'_>,
    points: PyReadonlyArray2<'_, f64>,
    reference: PyReadonlyArray2<'_, f64>,
    thresholds: Vec<f64>,
    max_distance: Option<f64>,
    voxel: Option<f64>,
) -> PyResult<Py<PyAny>> {
    for (name, value) in thresholds
        .iter()
        .map(|t| ("thresholds", t))
        .chain(max_distance.iter().map(|d| ("max_distance", d)))
        .chain(voxel.iter().map(|v| ("voxel", v)))
    {
        if !(value.is_finite() && *value > 0.0) {
            return Err(raised(py, &Error::input(name, value.to_string(), "a number above 0")));
        }
    }
    let points = positions(py, "points", &points)?;
    let reference = positions(py, "reference", &reference)?;
    let settings = CloudSettings { thresholds, max_distance, voxel };
    let found = work(py, None, move |_| compare(points, reference, &settings))?;
    dictionary(py, &json!(found))
}
