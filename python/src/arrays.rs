//! Arrays in and out. What comes in has been checked and converted by the Python package; what goes out is handed over
//! without a copy.

use engine::Error;
use engine::files::map::Map;
use engine::scene::camera::Camera;
use engine::scene::memory::checked_camera;
use engine::scene::stored_photo::{Samples, StoredPhoto};
use numpy::ndarray::{ArrayView, ArrayView2, Axis, Dimension};
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
    pub fn samples(&self) -> Samples {
        match self {
            Self::Bytes(array) => Samples::Bytes(copied(array.as_array())),
            Self::Floats(array) => Samples::Floats(copied(array.as_array())),
        }
    }
}

/// The values in their order.
pub fn copied<T: Copy, D: Dimension>(array: ArrayView<'_, T, D>) -> Vec<T> {
    array.as_slice().map_or_else(|| array.iter().copied().collect(), <[T]>::to_vec)
}

/// A photo with its mask, if it has one, on the way to the engine: checks and hashes are the engine's work.
pub struct Copied {
    size: (usize, usize),
    samples: Samples,
    mask: Option<((usize, usize), Vec<bool>)>,
}

impl Copied {
    /// Copies both.
    pub fn new(image: &PhotoArray<'_>, mask: Option<&PyReadonlyArray2<'_, bool>>) -> Self {
        let mask = mask.map(|mask| {
            let (height, width) = mask.as_array().dim();
            ((width, height), copied(mask.as_array()))
        });
        Self { size: image.size(), samples: image.samples(), mask }
    }

    /// As the engine has it.
    pub fn photo(self, name: &str) -> Result<StoredPhoto, Error> {
        if let Some((size, _)) = &self.mask
            && *size != self.size
        {
            let found = format!("a mask of {} x {} pixels", size.0, size.1);
            return Err(Error::input(name, found, "one of the photo's size"));
        }
        StoredPhoto::new(name, self.size, self.samples, self.mask.map(|(_, shows)| shows))
    }
}

/// Rows of a 3 x 3 matrix.
pub fn rows(matrix: ArrayView2<'_, f64>) -> [[f64; 3]; 3] {
    std::array::from_fn(|row| std::array::from_fn(|column| matrix[[row, column]]))
}

/// Cameras of K `[N, 3, 3]` and poses `[N, 4, 4]`. `what` says what has them: `view`.
pub fn cameras(
    what: &str,
    k: &PyReadonlyArray3<'_, f64>,
    poses: &PyReadonlyArray3<'_, f64>,
) -> Result<Vec<Camera>, Error> {
    let (k, poses) = (k.as_array(), poses.as_array());
    let camera = |i: usize| {
        let (of_k, pose) = (k.index_axis(Axis(0), i), poses.index_axis(Axis(0), i));
        checked_camera(&format!("{what} {i}"), rows(of_k), rows(pose), translation(pose))
    };
    (0..k.dim().0).map(camera).collect()
}

/// The last column of a pose.
pub fn translation(pose: ArrayView2<'_, f64>) -> [f64; 3] {
    [0, 1, 2].map(|row| pose[[row, 3]])
}

/// Matrices, one for each camera.
type Matrices<'py> = Bound<'py, PyArray3<f64>>;

/// K `[N, 3, 3]` and poses `[N, 4, 4]` of cameras.
pub fn of_cameras<'py>(py: Python<'py>, cameras: &[Camera]) -> PyResult<(Matrices<'py>, Matrices<'py>)> {
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
    Map { width, height, data: copied(array) }
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
