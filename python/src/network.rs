//! The network alone: features of a photo, depth and confidence of one view.

use std::path::PathBuf;
use std::sync::Arc;

use engine::Error;
use engine::cpu::network::BsMvsNet;
use engine::net::model;
use engine::net::tensor::Tensor;
use engine::scene::camera::{DepthRange, Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use numpy::{PyArray2, PyArray3, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Copied, PhotoArray, cameras, of_map, of_pixels};
use crate::errors::raised;
use crate::work::work;

/// Planes farther apart than this ratio of far to near are spaced evenly in 1 / depth, as `engine infer` does.
const LINEAR_BELOW: f64 = 3.0;

/// The network with its weights.
#[pyclass(frozen)]
pub struct Network {
    network: Arc<BsMvsNet>,
}

/// Feature maps of one photo.
#[pyclass(frozen)]
pub struct Features {
    features: model::Features<Tensor>,
    /// Width and height of the photo.
    size: (usize, usize),
    weights: String,
}

type Maps<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>);

#[pymethods]
impl Network {
    /// With the weights of a file, or the built-in ones.
    #[new]
    #[pyo3(signature = (weights=None))]
    fn new(py: Python<'_>, weights: Option<PathBuf>) -> PyResult<Self> {
        let network = work(py, None, move |_| weights.as_deref().map_or_else(BsMvsNet::built_in, BsMvsNet::from_file))?;
        Ok(Self { network: Arc::new(network) })
    }

    /// Where the weights are from: a path, or `built-in`.
    #[getter]
    fn weights(&self) -> &str {
        self.network.weights_name()
    }

    /// SHA-256 of the weights.
    #[getter]
    fn weights_sha256(&self) -> &str {
        self.network.weights_hash()
    }

    /// Which variant of the network they are of.
    #[getter]
    fn config(&self) -> String {
        self.network.config().to_string()
    }

    /// Feature maps of a photo.
    fn features(&self, py: Python<'_>, image: PhotoArray<'_>) -> PyResult<Features> {
        let size = image.size();
        let copied = Copied::new(&image, None);
        let network = &self.network;
        let features = work(py, None, move |_| {
            let photo = Photo { width: size.0, height: size.1, rgb: copied.photo("photo")?.pixels().rgb };
            network.features(&photo.padded_to_multiple_of_4())
        })?;
        Ok(Features { features, size, weights: self.network.weights_hash().to_owned() })
    }

    /// Depth and confidence of the first of some photos, of its size.
    #[allow(clippy::too_many_arguments)] // one for each array: only the Python package calls it
    fn depth<'py>(
        &self,
        py: Python<'py>,
        features: Vec<PyRef<'py, Features>>,
        k: PyReadonlyArray3<'py, f64>,
        poses: PyReadonlyArray3<'py, f64>,
        range: (f64, f64),
        planes: usize,
        sampling: Option<String>,
    ) -> PyResult<Maps<'py>> {
        let refuse =
            |place: &str, found: String, expected: &str| Err(raised(py, &Error::input(place, found, expected)));
        let (near, far) = range;
        if !(near > 0.0 && near < far && far.is_finite()) {
            return refuse("depth_range", format!("{near} to {far}"), "0 < near < far");
        }
        let sampling = match sampling.as_deref() {
            None if far / near < LINEAR_BELOW => Sampling::Linear,
            None | Some("inverse") => Sampling::Inverse,
            Some("linear") => Sampling::Linear,
            Some(other) => return refuse("sampling", other.to_owned(), "linear or inverse"),
        };
        if features.len() < 2 {
            return refuse("features", features.len().to_string(), "those of a reference and at least one source");
        }
        if features.iter().any(|of| of.weights != self.network.weights_hash()) {
            return refuse("features", "those of another network".into(), "features that this network has made");
        }
        let cameras = cameras("view", &k, &poses).map_err(|e| raised(py, &e))?;
        let cameras: Vec<_> = cameras.into_iter().map(|camera| camera.decimated(0.25)).collect();
        let hypotheses = Hypotheses::new(DepthRange { near, far }, planes, sampling);
        let size = features[0].size;
        let of_views: Vec<&model::Features<Tensor>> = features.iter().map(|of| &of.features).collect();
        let network = &self.network;
        let maps = work(py, None, move |_| {
            let with_sweep = |i: usize| (of_views[i], PlaneSweep::new(&cameras[0], &cameras[i]));
            let sources: Vec<_> = (1..of_views.len()).map(with_sweep).collect();
            network.depth(of_views[0], &sources, &hypotheses)
        })?;
        // Weights without narrow stages make smaller maps.
        let step = (size.0.next_multiple_of(4) / maps.depth.width.max(1)).max(1);
        let size = (size.0.div_ceil(step), size.1.div_ceil(step));
        Ok((of_map(py, maps.depth.cropped(size))?, of_map(py, maps.confidence.cropped(size))?))
    }
}

#[pymethods]
impl Features {
    /// Height and width of the photo.
    #[getter]
    fn image_size(&self) -> (usize, usize) {
        (self.size.1, self.size.0)
    }

    /// The maps by name, `[height, width, channels]` each; copies.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let of_tensor = |tensor: &Tensor| -> PyResult<Bound<'py, PyArray3<f32>>> {
            let shape = tensor.shape;
            of_pixels(py, (shape.w, shape.h), shape.c, tensor.data.to_vec())
        };
        let dict = PyDict::new(py);
        dict.set_item("quarter", of_tensor(&self.features.quarter)?)?;
        for (name, map) in [("half", &self.features.half), ("full", &self.features.full)] {
            if let Some(map) = map {
                dict.set_item(name, of_tensor(map)?)?;
            }
        }
        Ok(dict)
    }
}
