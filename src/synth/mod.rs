//! Synthetic scenes with exact depth, for training and for trying everything at any size. A scene is a function of the
//! options, the seed and its index: [`Generator::scene`] gives any of them in any order, on any number of threads, with
//! the same bytes.
//!
//! [`rig`] places cameras, [`compose`] puts a [`world`] of [`object`]s with [`shapes`] and [`material`]s before them,
//! [`scene`] keeps the ones that are seen well, [`sight`] finds what cameras see of it, [`render`] takes photos,
//! [`maps`] casts exact depth and what goes with it, and [`mod@write`] makes folders in the MVSNet layout.

pub mod bounds;
pub mod compose;
pub mod height_field;
pub mod maps;
pub mod material;
pub mod mesh;
mod obj;
pub mod object;
pub mod pattern;
pub mod ray;
pub mod render;
pub mod rig;
pub mod scene;
pub mod shadows;
pub mod shapes;
pub mod sight;
pub mod squares;
pub mod texture;
pub mod world;
pub mod write;

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use crate::files::map::Map;
use crate::scene::SourceView;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::{Error, Result};
use compose::Stock;
use mesh::Mesh;
use rig::Rig;
use scene::{SyntheticScene, Wanted};
use texture::Library;

/// What scenes are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorOptions {
    /// Every seed is another endless row of scenes.
    pub seed: u64,
    /// Views of a scene, at least 1.
    pub views: usize,
    /// Width and height of the photos, [`SMALLEST_SIDE`] to [`LARGEST_SIDE`].
    pub size: (usize, usize),
    /// Where the cameras stand.
    pub rig: Rig,
    /// A folder with photos that surfaces are textured with, beside computed patterns.
    pub textures: Option<PathBuf>,
    /// Triangle meshes (OBJ, PLY) that are used as objects.
    pub meshes: Vec<PathBuf>,
    /// Probability that a surface has little texture or nearly none, 0..1.
    pub low_texture: f64,
    /// Share of the scenes that are one thing before a blank or black backdrop, with sharp silhouettes: a solid or a
    /// bush, 0..1.
    pub alone: f64,
    /// How much the photos of a scene differ in exposure, colour, noise and blur: 0 not at all, 1 like those of a
    /// walk with an automatic camera.
    pub variation: f64,
}

/// Photos smaller than this show nothing that could be matched.
pub const SMALLEST_SIDE: usize = 16;
/// Photos larger than this do not fit in memory many times over.
pub const LARGEST_SIDE: usize = 16_384;

impl Default for GeneratorOptions {
    /// Seed 0, three views of 640 x 512 on any rig, patterns only, 25 % with little texture, nothing
    /// alone but by chance, full variation.
    fn default() -> Self {
        Self {
            seed: 0,
            views: 3,
            size: (640, 512),
            rig: Rig::Mixed,
            textures: None,
            meshes: Vec::new(),
            low_texture: 0.25,
            alone: 0.0,
            variation: 1.0,
        }
    }
}

/// What one step of training looks at: a reference view, its source views, and the truth.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Of every view; the first is the reference view's.
    pub photos: Vec<Photo>,
    /// Of every view, at the photos' size.
    pub cameras: Vec<Camera>,
    /// Exact depth of every fourth pixel, ceil(height / 4) x ceil(width / 4), 0 where there is none: of
    /// the views that [`Truth`] names.
    pub depth: Vec<Map>,
    /// The reference view's depths to search.
    pub range: DepthRange,
    /// The other views as sources of the reference view, best first; views that share nothing with it come last with a
    /// score of 0.
    pub sources: Vec<SourceView>,
}

/// Which views of a [`Sample`] come with their depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The reference view.
    OfReference,
    /// All of them.
    OfAll,
}

/// Makes scenes by index.
#[derive(Debug)]
pub struct Generator {
    options: GeneratorOptions,
    library: Library,
    meshes: Vec<Arc<Mesh>>,
}

impl Generator {
    /// Reads textures and meshes and computes patterns.
    ///
    /// # Errors
    /// Options out of their range; a folder without photos; a photo or mesh that cannot be read.
    pub fn new(options: GeneratorOptions) -> Result<Self> {
        let GeneratorOptions { views, size, low_texture, alone, variation, .. } = options;
        if views == 0 {
            return Err(Error::input("views", "0", "at least one view a scene"));
        }
        if [size.0, size.1].iter().any(|side| !(SMALLEST_SIDE..=LARGEST_SIDE).contains(side)) {
            return Err(Error::input(
                "size",
                format!("{} x {} pixels", size.0, size.1),
                format!("sides of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"),
            ));
        }
        for (name, value) in [("low texture", low_texture), ("alone", alone), ("variation", variation)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::input(name, value.to_string(), "a number from 0 to 1"));
            }
        }
        let mut library = Library { patterns: pattern::patterns(options.seed), ..Library::default() };
        if let Some(folder) = &options.textures {
            texture::read_photos(folder, &mut library)?;
        }
        let meshes = options.meshes.iter().map(|path| Mesh::read(path).map(Arc::new)).collect::<Result<_>>()?;
        Ok(Self { options, library, meshes })
    }

    /// What it was made with.
    pub fn options(&self) -> &GeneratorOptions {
        &self.options
    }

    /// What is worth knowing about the textures, and how many there are.
    pub fn notes(&self) -> &[String] {
        &self.library.notes
    }

    /// The scene of an index.
    pub fn scene(&self, index: u64) -> SyntheticScene {
        let GeneratorOptions { seed, views, size, rig, low_texture, alone, variation, .. } = self.options;
        let stock = Stock { library: &self.library, meshes: &self.meshes, low_texture };
        let wanted = Wanted { rig, views, size, alone, variation };
        SyntheticScene::random(&stock, &wanted, &[seed, index])
    }

    /// The sample of an index, of the same scene as [`Self::scene`]'s.
    pub fn sample(&self, index: u64, truth: Truth) -> Sample {
        let scene = self.scene(index);
        let views = scene.cameras.len();
        let photos = (0..views).into_par_iter().map(|v| scene.photo(v)).collect();
        let with_depth = if truth == Truth::OfAll { views } else { 1 };
        let depth = (0..with_depth).map(|v| scene.depth(v, 4)).collect();
        let sources = scene.sources(0);
        Sample { photos, depth, range: scene.ranges[0], cameras: scene.cameras, sources }
    }
}
