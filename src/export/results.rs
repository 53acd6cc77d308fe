//! A finished run as it lies in its folder: what its manifest says of cameras and settings, and its maps, one at a
//! time.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use glam::{DMat3, DVec3};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::depth_maps::DepthMaps;
use crate::files::lock;
use crate::files::map::Map;
use crate::files::names::from_json;
use crate::files::pfm;
use crate::files::subfolders::find;
use crate::fusion::settings::FusionOptions;
use crate::manifest::made::stamp;
use crate::manifest::{MANIFEST, Manifest, Rows};
use crate::maps::normals;
use crate::maps::valid::take_out_invalid;
use crate::run::products::CLOUD;
use crate::scene::camera::Camera;

/// What a finished run has left.
pub struct Results {
    /// Its manifest.
    pub manifest: Manifest,
    /// Where its maps lie: its folder, or that of the maps which `engine fuse` was given.
    maps: PathBuf,
    /// COLMAP's dense workspace there, looked through once.
    workspace: OnceLock<DepthMaps>,
    /// Its views, in the manifest's order.
    pub views: Vec<ResultView>,
}

/// A view of the run.
#[derive(Clone, Debug)]
pub struct ResultView {
    /// The name of its maps, without slashes.
    pub name: String,
    /// The scene's number for it.
    pub id: u32,
    /// The camera of its maps' pixels.
    pub camera: Camera,
    /// Width and height of its maps.
    pub size: (usize, usize),
    /// Indices of the views that its maps were checked against, best first.
    pub checked_against: Vec<usize>,
}

/// Maps of one view, all of its size.
pub struct ViewMaps {
    /// Depth; 0 where there is none.
    pub depth: Map,
    /// Confidence 0..1; 0 where there is no depth that can be used.
    pub confidence: Map,
}

impl Results {
    /// Opens the folder of a finished run in which no other run is at work.
    ///
    /// # Errors
    /// A folder in use; those of [`Self::open`].
    pub fn open_idle(folder: &Path) -> Result<Self> {
        if let Some(who) = lock::at_work(folder) {
            let (place, found) = (folder.display().to_string(), format!("another run is at work in it ({who})"));
            return Err(Error::input(
                place,
                found,
                "the results of a finished run: the same command again when it is done",
            ));
        }
        Self::open(folder)
    }

    /// Opens the folder of a finished run.
    ///
    /// # Errors
    /// A folder without a manifest, a manifest that says too little, or of a run that had no views.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::read_dir(folder).map_err(Error::io("open the results", folder))?;
        let Some(manifest) = Manifest::read(folder)? else {
            return Err(Error::input(
                folder.display().to_string(),
                format!("no {MANIFEST}"),
                "the results of a run that has come to its end (`engine infer SCENE -o OUT`)",
            ));
        };
        let place = |name: &str| format!("{}: view {name}", folder.join(MANIFEST).display());
        let mut views = Vec::with_capacity(manifest.views.len());
        for view in &manifest.views {
            let camera = camera(view.map_k, view.rotation, view.translation);
            let plain = !view.name.is_empty() && !view.name.contains(['/', '\\', '\0']) && !view.name.starts_with("..");
            let (Some(camera), true, true) = (camera, plain, view.map_size.0 > 0 && view.map_size.1 > 0) else {
                return Err(Error::input(
                    place(&view.name),
                    "a view without a plain name, a camera or a size of its maps",
                    "a manifest as this version writes it: run `engine infer` again",
                ));
            };
            let of_name = |name: &String| manifest.views.iter().position(|other| other.name == *name);
            let checked_against = view.checked_against.iter().filter_map(of_name).collect();
            let (name, size) = (view.name.clone(), view.map_size);
            views.push(ResultView { name, id: view.id, camera, size, checked_against });
        }
        if views.is_empty() {
            return Err(Error::input(
                folder.join(MANIFEST).display().to_string(),
                "no views",
                "the results of `engine infer` or `engine fuse`, not of another command",
            ));
        }
        // `engine fuse` says where its maps lie.
        let maps = match manifest.parameters.get("maps").and_then(|maps| maps.as_str()) {
            Some(maps) => from_json(maps),
            None => folder.to_owned(),
        };
        Ok(Self { manifest, maps, workspace: OnceLock::new(), views })
    }

    /// The folder of the results.
    pub fn folder(&self) -> &Path {
        &self.manifest.folder
    }

    /// The cloud's file.
    pub fn cloud(&self) -> PathBuf {
        self.folder().join(CLOUD)
    }

    /// Which pixels became points.
    ///
    /// # Errors
    /// A manifest that does not say it.
    pub fn fusion(&self) -> Result<FusionOptions> {
        FusionOptions::of_run(&self.manifest.parameters).map_err(|e| {
            Error::input(
                format!("{}: parameters", self.folder().join(MANIFEST).display()),
                format!("not how pixels became points ({e})"),
                "a manifest as this version writes it: run `engine infer` again",
            )
        })
    }

    /// Depth and confidence of a view; a pixel that cannot be used has neither.
    ///
    /// # Errors
    /// Maps that are not there, cannot be read, or have another size than the manifest says.
    pub fn maps(&self, view: usize) -> Result<ViewMaps> {
        let name = &self.views[view].name;
        let mut depth = self.map("depth", name, view)?;
        let confidence = find(&self.maps.join("confidence"), name, "pfm");
        // Maps of others may have no confidence: `engine fuse` took 1 then.
        let mut confidence = match self.manifest.command == "fuse" && !confidence.exists() {
            true => Map::filled(depth.width, depth.height, 1.0),
            false => self.map("confidence", name, view)?,
        };
        take_out_invalid(&mut depth, &mut confidence);
        for depth in &mut depth.data {
            if !crate::maps::consistency::is_depth(*depth) {
                *depth = 0.0;
            }
        }
        Ok(ViewMaps { depth, confidence })
    }

    /// Unit normals of a view in the world, towards the camera; zero where there is no depth. Those of `normal/` where
    /// the run has written them, else what it would have written.
    ///
    /// # Errors
    /// As [`Self::maps`].
    pub fn normals(&self, view: usize, depth: &Map) -> Result<Vec<[f32; 3]>> {
        let ResultView { name, size, camera, .. } = &self.views[view];
        let path = find(&self.maps.join("normal"), name, "pfm");
        if !path.exists() {
            return Ok(normals::from_depth(camera, depth));
        }
        let (width, height, mut normals) = pfm::read_rgb(&path)?;
        expect_size(&path, (width, height), *size)?;
        for (normal, &depth) in normals.iter_mut().zip(&depth.data) {
            if depth == 0.0 {
                *normal = [0.0; 3];
            }
        }
        Ok(normals)
    }

    fn map(&self, kind: &str, name: &str, view: usize) -> Result<Map> {
        if kind == "depth" && self.is_of_workspace() {
            return self.map_of_workspace(name, view);
        }
        let path = find(&self.maps.join(kind), name, "pfm");
        let map = pfm::read(&path)?;
        expect_size(&path, (map.width, map.height), self.views[view].size)?;
        Ok(map)
    }

    /// Whether `engine fuse` has taken the depth maps from COLMAP's dense workspace.
    fn is_of_workspace(&self) -> bool {
        self.manifest.command == "fuse" && !self.maps.join("depth").is_dir()
    }

    /// A depth map that `engine fuse` has taken from COLMAP's dense workspace.
    fn map_of_workspace(&self, name: &str, view: usize) -> Result<Map> {
        let (files, path) = self.file_of_workspace(name, view)?;
        let map = files.read(path)?;
        expect_size(path, (map.width, map.height), self.views[view].size)?;
        Ok(map)
    }

    fn file_of_workspace(&self, name: &str, view: usize) -> Result<(&DepthMaps, &Path)> {
        let files = match self.workspace.get() {
            Some(files) => files,
            None => {
                let found = DepthMaps::find(&self.maps)?;
                self.workspace.get_or_init(|| found)
            }
        };
        let Some((_, path)) = files.of_view(name, &self.manifest.views[view].image) else {
            let found = format!("no map of view {name}");
            return Err(Error::input(
                files.folder.display().to_string(),
                found,
                "the maps that `engine fuse` has read",
            ));
        };
        Ok((files, path))
    }

    /// What tells a view's maps apart from any others.
    ///
    /// # Errors
    /// A workspace without a map of the view.
    pub fn stamp(&self, view: usize) -> Result<Value> {
        let name = &self.views[view].name;
        let [depth, confidence, normal] =
            ["depth", "confidence", "normal"].map(|kind| find(&self.maps.join(kind), name, "pfm"));
        let depth = if self.is_of_workspace() { self.file_of_workspace(name, view)?.1 } else { &depth };
        let mut files = vec![("depth", depth), ("confidence", &confidence)];
        files.extend(normal.exists().then_some(("normal", &*normal)));
        Ok(stamp(&self.maps, name, &files))
    }
}

fn expect_size(path: &Path, found: (usize, usize), size: (usize, usize)) -> Result<()> {
    if found == size {
        return Ok(());
    }
    Err(Error::input(
        path.display().to_string(),
        format!("a map of {} x {}", found.0, found.1),
        format!("{} x {}, as the manifest says; run `engine infer` again", size.0, size.1),
    ))
}

fn camera(k: Rows, rotation: Option<Rows>, translation: Option<[f64; 3]>) -> Option<Camera> {
    let matrix = |rows: Rows| DMat3::from_cols_array_2d(&rows).transpose();
    let camera = Camera { k: matrix(k), r: matrix(rotation?), t: DVec3::from(translation?) };
    let is_one = camera.k.is_finite() && camera.r.is_finite() && camera.t.is_finite();
    (is_one && camera.k.determinant() != 0.0).then_some(camera)
}
