//! Scenes as they lie in files: cameras as arrays, photos as the network sees them.

use std::path::PathBuf;

use engine::embedded::{self, Given};
use engine::run::opening;
use engine::scene::Scene;
use engine::scene::photo::Photo;
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{of_cameras, of_pixels};
use crate::work::work;

/// A scene that was read.
#[pyclass(frozen)]
pub struct SceneFiles {
    scene: Scene,
}

/// Reads the cameras of a scene; see `engine_mvs.read_scene`.
#[pyfunction]
pub fn read_scene(py: Python<'_>, path: PathBuf, options: Vec<Given>) -> PyResult<SceneFiles> {
    let scene = work(py, None, move |_| {
        let mut scene = opening::open(&path, &embedded::open_options(&options)?)?.0;
        scene.select_sources();
        Ok(scene)
    })?;
    Ok(SceneFiles { scene })
}

#[pymethods]
impl SceneFiles {
    /// Everything but the photos, as arrays and lists.
    fn fields(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let views = &self.scene.views;
        let cameras: Vec<_> = views.iter().map(|view| view.camera).collect();
        let (k, poses) = of_cameras(py, &cameras)?;
        let planes_of = |planes: Option<usize>| planes.unwrap_or(engine::run::plan::PLANES_OF_INTERVAL);
        let ranges: Vec<f64> = views
            .iter()
            .flat_map(|view| view.depth_range(planes_of(view.planes)).map_or([f64::NAN; 2], |r| [r.near, r.far]))
            .collect();
        let points: Vec<f64> = self.scene.points.iter().flat_map(|point| point.position.to_array()).collect();
        let dict = PyDict::new(py);
        dict.set_item("names", views.iter().map(|view| view.name.clone()).collect::<Vec<_>>())?;
        dict.set_item("images", views.iter().map(|view| view.image.clone()).collect::<Vec<_>>())?;
        dict.set_item("sizes", views.iter().map(|view| view.size).collect::<Vec<_>>())?;
        dict.set_item("K", k)?;
        dict.set_item("cam_from_world", poses)?;
        dict.set_item("depth_range", ranges.into_pyarray(py).reshape([views.len(), 2])?)?;
        dict.set_item("planes", views.iter().map(|view| view.planes).collect::<Vec<_>>())?;
        let sources = |view: &engine::scene::View| view.sources.iter().map(|s| s.view).collect::<Vec<_>>();
        dict.set_item("sources", views.iter().map(sources).collect::<Vec<_>>())?;
        dict.set_item("points", points.into_pyarray(py).reshape([self.scene.points.len(), 3])?)?;
        dict.set_item("tracks", self.scene.points.iter().map(|point| point.views.clone()).collect::<Vec<_>>())?;
        dict.set_item("notes", self.scene.notes.clone())?;
        Ok(dict.unbind())
    }

    /// A photo, undistorted and reduced, with its mask (or `None`) and K.
    #[pyo3(signature = (view, max_side=None))]
    fn photo<'py>(&self, py: Python<'py>, view: usize, max_side: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let of_view = self.scene.views.get(view).ok_or_else(|| PyIndexError::new_err("view"))?;
        let (loaded, mask) = work(py, None, move |_| {
            let mut loaded = Photo::load(of_view, max_side)?;
            let mask = loaded.take_mask(of_view)?;
            Ok((loaded, mask))
        })?;
        let (k, _) = of_cameras(py, &[loaded.camera])?;
        let size = (loaded.photo.width, loaded.photo.height);
        let mask = mask.map(|mask| {
            let inside: Vec<bool> = (0..size.0 * size.1).map(|i| !mask.is_outside(i % size.0, i / size.0)).collect();
            inside.into_pyarray(py).reshape([size.1, size.0])
        });
        let photo = of_pixels(py, size, 3, loaded.photo.rgb)?;
        Ok((photo, mask.transpose()?, k.reshape([3, 3])?).into_pyobject(py)?.into_any())
    }
}
