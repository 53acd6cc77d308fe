//! Scenes on disk with true depth: the MVSNet layout as `engine synth` writes it (`depths/NAME.pfm`), BlendedMVS
//! (`rendered_depth_maps/NAME.pfm`), and the example in the tree (`truth/NAME.pfm`). Depth maps have the photo's size
//! or a quarter of it.

use std::path::{Path, PathBuf};

use super::frame::{Window, is_depth, keep_within, keep_within_of, truth_of_reduced};
use super::sample::{Dataset, TrainingSample, choose_sources, expect_share};
use crate::error::counted;
use crate::files::map::Map;
use crate::files::pfm;
use crate::host::random::Random;
use crate::scene::camera::DepthRange;
use crate::scene::photo::{Photo, reduced_size};
use crate::scene::{Layout, OpenOptions, Scene, View, mvsnet};
use crate::{Error, Result};

/// Where the depth maps of a scene are looked for, in this order.
pub const DEPTH_FOLDERS: [&str; 3] = ["depths", "rendered_depth_maps", "truth"];

/// How scenes are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScenesOptions {
    /// Photos are reduced so that their longer side has at most so many pixels.
    pub max_side: Option<usize>,
    /// Planes that the range of a camera file with near and interval has.
    pub planes: usize,
    /// Probability of a sample whose source views are not the best ones.
    pub worse_sources: f64,
    /// Every seed chooses other source views.
    pub seed: u64,
}

impl Default for ScenesOptions {
    /// Whole photos, 192 planes, a quarter of the samples with worse source views.
    fn default() -> Self {
        Self { max_side: None, planes: 192, worse_sources: 0.25, seed: 0 }
    }
}

/// A [`Dataset`] of every view with true depth of one or more scenes.
#[derive(Clone, Debug)]
pub struct Scenes {
    folder: PathBuf,
    options: ScenesOptions,
    scenes: Vec<Scene>,
    /// Scene, view and depth map of every sample.
    samples: Vec<(usize, usize, PathBuf)>,
    notes: Vec<String>,
}

/// How far the range reaches beyond the truth's depths where the scene states none.
const BEYOND_TRUTH: f64 = 0.1;

impl Scenes {
    /// Opens the scene in `folder`, or else all scenes in its subfolders.
    ///
    /// # Errors
    /// Options out of their range; no scene; a scene that does not hold what it should, or no depth map.
    pub fn open(folder: &Path, options: ScenesOptions) -> Result<Self> {
        expect_share("worse sources", options.worse_sources)?;
        let mut opened = Self { folder: folder.to_owned(), options, scenes: vec![], samples: vec![], notes: vec![] };
        for root in scene_folders(folder)? {
            opened.add(&root)?;
        }
        Ok(opened)
    }

    fn add(&mut self, root: &Path) -> Result<()> {
        let mut scene = Scene::open(root, &OpenOptions { layout: Some(Layout::MvsNet), ..OpenOptions::default() })?;
        scene.select_sources();
        let place = root.display();
        self.notes.extend(scene.notes.iter().map(|note| format!("{place}: {note}")));
        let folders = DEPTH_FOLDERS.map(|name| root.join(name));
        let Some(maps) = folders.into_iter().find(|maps| maps.is_dir()) else {
            return Err(Error::input(
                place.to_string(),
                "no folder with true depth",
                format!("NAME.pfm for each photo NAME in one of {}/", DEPTH_FOLDERS.join("/, ")),
            ));
        };
        let map_of = |view: &View| maps.join(format!("{}.pfm", view.name));
        let (with, without): (Vec<usize>, Vec<usize>) =
            (0..scene.views.len()).partition(|&v| map_of(&scene.views[v]).is_file());
        if let Some(&first) = without.first() {
            if with.is_empty() {
                return Err(Error::input(
                    map_of(&scene.views[first]).display().to_string(),
                    "no such file, nor a depth map of any other view",
                    "the true depth of the photo of that name",
                ));
            }
            let missing = counted(without.len(), "view");
            self.notes.push(format!(
                "{place}: {missing} without a depth map are source views only (first: {})",
                scene.views[first].name
            ));
        }
        let (usable, alone): (Vec<usize>, Vec<usize>) =
            with.into_iter().partition(|&v| !scene.views[v].sources.is_empty());
        if usable.is_empty() {
            return Err(Error::input(
                place.to_string(),
                "no view with a depth map and a source view",
                "views that share what they see, with their true depth",
            ));
        }
        if let Some(&first) = alone.first() {
            let name = &scene.views[first].name;
            let count = counted(alone.len(), "view");
            self.notes.push(format!("{place}: {count} without a source view left out (first: {name})"));
        }
        let number = self.scenes.len();
        self.samples.extend(usable.into_iter().map(|v| (number, v, map_of(&scene.views[v]))));
        self.scenes.push(scene);
        Ok(())
    }

    /// What was assumed or left out, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The truth at every fourth pixel of the reduced photo, and at every pixel where the map has the photo's size.
    fn truth(&self, view: &View, path: &Path) -> Result<(Map, Option<Map>)> {
        let map = pfm::read(path)?;
        let (width, height) = view.size;
        let quarter = (width.div_ceil(4), height.div_ceil(4));
        let step = match (map.width, map.height) {
            found if found == view.size => 1,
            found if found == quarter => 4,
            found => {
                return Err(Error::input(
                    path.display().to_string(),
                    format!("{} x {} pixels", found.0, found.1),
                    format!("{width} x {height}, as the photo, or {} x {}, a quarter of it", quarter.0, quarter.1),
                ));
            }
        };
        let size = reduced_size(view.size, self.options.max_side).unwrap_or(view.size);
        let fine = (step == 1).then(|| truth_of_reduced(&map, (1, 1), view.size, size));
        let fine = fine.map(|fine| Window::of_multiples_of_4(size).of_truth(&fine, 1));
        Ok((truth_of_reduced(&map, (step, 4), view.size, size), fine))
    }
}

/// The folder itself, if it is a scene, or those of its subfolders that are.
fn scene_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_scene = |folder: &Path| mvsnet::camera_folder(folder).is_some();
    if is_scene(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("open the folder of scenes", folder))? {
        let path = entry.map_err(Error::io("list the scenes", folder))?.path();
        if is_scene(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::input(
            folder.display().to_string(),
            "no scene",
            "images/, cams/ and depths/, or subfolders that hold them (engine synth writes such)",
        ));
    }
    // The system lists them in any order.
    found.sort();
    Ok(found)
}

/// The smallest and largest depth, widened; `None` where there is none.
fn range_of_truth(truth: &Map) -> Option<DepthRange> {
    let depths = truth.data.iter().copied().filter(|&d| is_depth(d)).map(f64::from);
    let (near, far) = depths.fold((f64::INFINITY, 0f64), |(near, far), d| (near.min(d), far.max(d)));
    (far > 0.0).then_some(DepthRange { near: near * (1.0 - BEYOND_TRUTH), far: far * (1.0 + BEYOND_TRUTH) })
}

impl Dataset for Scenes {
    fn describe(&self) -> String {
        let size = match self.options.max_side {
            Some(side) => format!(", longer side at most {side}"),
            None => String::new(),
        };
        format!(
            "{} in {}: {} samples{size}",
            counted(self.scenes.len(), "scene"),
            self.folder.display(),
            self.samples.len()
        )
    }

    fn len(&self) -> Option<u64> {
        Some(self.samples.len() as u64)
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        let (scene, reference, map) = &self.samples[(index % self.samples.len() as u64) as usize];
        let scene = &self.scenes[*scene];
        let view = &scene.views[*reference];
        let mut random = Random::new(&[self.options.seed, index, 0x7363_656e_6573]);
        let count = views.max(2) - 1;
        let chosen = choose_sources(view.sources.len(), count, self.options.worse_sources, &mut random);
        let chosen = chosen.into_iter().map(|place| &scene.views[view.sources[place].view]);
        let (mut photos, mut cameras) = (Vec::new(), Vec::new());
        let mut window = None;
        for view in std::iter::once(view).chain(chosen) {
            let loaded = Photo::load(view, self.options.max_side)?;
            // Source photos of another size are cut or continued at the right and below, which changes no camera.
            let size = (loaded.photo.width, loaded.photo.height);
            let window = *window.get_or_insert(Window::of_multiples_of_4(size));
            if window.width == 0 || window.height == 0 {
                return Err(Error::input(
                    view.image.display().to_string(),
                    format!("{} x {} pixels", size.0, size.1),
                    "at least 4 x 4 to train on",
                ));
            }
            photos.push(window.of_photo(&loaded.photo));
            cameras.push(loaded.camera);
        }
        let (mut depth, mut fine) = self.truth(view, map)?;
        let range = view.depth_range(self.options.planes).or_else(|| range_of_truth(&depth));
        let Some(range) = range else {
            return Err(Error::input(
                map.display().to_string(),
                "no pixel with a depth, and no range in the camera file",
                "depths above 0",
            ));
        };
        keep_within_of(map, &mut depth, range)?;
        fine.iter_mut().for_each(|fine| keep_within(fine, range));
        let folder = scene.root.file_name().unwrap_or(scene.root.as_os_str()).to_string_lossy();
        Ok(TrainingSample { name: format!("{folder}/{}", view.name), photos, cameras, depth, fine, range })
    }
}
