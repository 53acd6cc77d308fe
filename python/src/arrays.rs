//! Arrays in and out. What comes in has been checked and converted by the Python package; what goes out is handed over
//! without a copy.

use engine::Error;
use engine::files::map::Map;
use engine::scene::camera::Camera;
use engine::scene::stored_photo::{Samples, StoredPhoto};
use glam::{DMat3, DVec3};
use numpy::ndarray::ArrayView2;
use numpy::{IntoPyArray, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;

use crate::errors::raised;

/// `[height, width, 3]`, bytes or floats, C-contiguous.
#[derive(FromPyObject)]
pub enum PhotoArray<'py> {
    /// 0..255.
    Bytes(PyReadonlyArray3<'py, u8>),
    /// 0..1.
    Floats(PyReadonlyArray3<'py, f32>),
}

impl PhotoArray<'_> {
    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        let shape = match self {
            Self::Bytes(array) => array.as_array().dim(),
            Self::Floats(array) => array.as_array().dim(),
        };
        (shape.1, shape.0)
    }

    /// A copy that the engine owns: Python may change the array meanwhile.
    pub fn photo(&self, name: &str, mask: Option<&PyReadonlyArray2<'_, bool>>) -> Result<StoredPhoto, Error> {
        let samples = match self {
            Self::Bytes(array) => Samples::Bytes(array.as_array().iter().copied().collect()),
            Self::Floats(array) => Samples::Floats(array.as_array().iter().copied().collect()),
        };
        let size = self.size();
        if let Some(mask) = mask
            && mask.as_array().dim() != (size.1, size.0)
        {
            let (height, width) = mask.as_array().dim();
            return Err(Error::input(name, format!("a mask of {width} x {height} pixels"), "one of the photo's size"));
        }
        StoredPhoto::new(name, size, samples, mask.map(|mask| mask.as_array().iter().copied().collect()))
    }
}

/// Rows of a 3 x 3 matrix.
pub fn rows(matrix: ArrayView2<'_, f64>) -> [[f64; 3]; 3] {
    std::array::from_fn(|row| std::array::from_fn(|column| matrix[[row, column]]))
}

/// Cameras of K `[N, 3, 3]` and poses `[N, 3 or 4, 4]`.
pub fn cameras(k: &PyReadonlyArray3<'_, f64>, poses: &PyReadonlyArray3<'_, f64>) -> Vec<Camera> {
    let (k, poses) = (k.as_array(), poses.as_array());
    let camera = |i: usize| {
        let (of_k, pose) = (k.index_axis(numpy::ndarray::Axis(0), i), poses.index_axis(numpy::ndarray::Axis(0), i));
        Camera {
            k: DMat3::from_cols_array_2d(&rows(of_k)).transpose(),
            r: DMat3::from_cols_array_2d(&rows(pose)).transpose(),
            t: DVec3::new(pose[[0, 3]], pose[[1, 3]], pose[[2, 3]]),
        }
    };
    (0..k.dim().0).map(camera).collect()
}

/// K `[N, 3, 3]` and poses `[N, 4, 4]` of cameras.
pub fn of_cameras<'py>(
    py: Python<'py>,
    cameras: &[Camera],
) -> PyResult<(Bound<'py, PyArray3<f64>>, Bound<'py, PyArray3<f64>>)> {
    let (mut all_k, mut poses) = (Vec::new(), Vec::new());
    for camera in cameras {
        for row in 0..3 {
            all_k.extend(camera.k.row(row).to_array());
            poses.extend(camera.r.row(row).to_array());
            poses.push(camera.t[row]);
        }
        poses.extend([0.0, 0.0, 0.0, 1.0]);
    }
    let count = cameras.len();
    Ok((all_k.into_pyarray(py).reshape([count, 3, 3])?, poses.into_pyarray(py).reshape([count, 4, 4])?))
}

/// `[height, width]`.
pub fn of_map<'py>(py: Python<'py>, map: Map) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let Map { width, height, data } = map;
    data.into_pyarray(py).reshape([height, width])
}

/// `[height, width, channels]`.
pub fn of_pixels<'py, T: numpy::Element>(
    py: Python<'py>,
    (width, height): (usize, usize),
    channels: usize,
    data: Vec<T>,
) -> PyResult<Bound<'py, PyArray3<T>>> {
    data.into_pyarray(py).reshape([height, width, channels])
}

/// A copy of a map.
pub fn map_of(array: &PyReadonlyArray2<'_, f32>) -> Map {
    let array = array.as_array();
    let (height, width) = array.dim();
    Map { width, height, data: array.iter().copied().collect() }
}

/// Positions `[P, 3]`, all finite.
pub fn positions(py: Python<'_>, what: &str, array: &PyReadonlyArray2<'_, f64>) -> PyResult<Vec<[f64; 3]>> {
    let array = array.as_array();
    let all: Vec<[f64; 3]> = array.rows().into_iter().map(|row| [row[0], row[1], row[2]]).collect();
    match all.iter().position(|position| position.iter().any(|v| !v.is_finite())) {
        None => Ok(all),
        Some(bad) => {
            let found = format!("{:?}", all[bad]);
            Err(raised(py, &Error::input(format!("{what}: point {bad}"), found, "three finite coordinates")))
        }
    }
}
