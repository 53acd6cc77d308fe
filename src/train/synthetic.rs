//! Rendered scenes as training samples: an endless row of them, or a pool that is rendered once and then kept in
//! memory.
//!
//! Rendering a scene can take longer than a training step on it. A pool of the first `n` scenes makes every epoch
//! after the first nearly free. An endless row can use each scene several times: one sample of `reuse` shows a new
//! scene, the others show scenes from before, each from a view by chance. Which scenes, follows from the index alone,
//! so that training can begin anywhere in the row. Photos are kept with 8 bits, which is all that the renderer gives.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rayon::prelude::*;

use super::frame::{NOTHING, every, is_depth};
use super::sample::{Dataset, TrainingSample, choose_sources, expect_share};
use crate::files::map::Map;
use crate::host::random::Random;
use crate::scene::SourceView;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::synth::scene::SyntheticScene;
use crate::synth::{Generator, GeneratorOptions};
use crate::{Error, Result};

/// What rendered samples are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticOptions {
    /// The scenes; at least two views, sides of multiples of 4.
    pub generator: GeneratorOptions,
    /// How many different scenes, which are then kept in memory; `None`: endless, and kept as far as they are reused.
    pub scenes: Option<u64>,
    /// Samples for each scene of an endless row, at least 1; with 1 nothing is kept.
    pub reuse: u64,
    /// Bytes that kept scenes may take. Those that do not fit are rendered each time.
    pub memory: u64,
    /// Probability of a sample whose source views are not the best ones; matters where samples have fewer views than
    /// scenes.
    pub worse_sources: f64,
    /// Whether samples have their truth at every pixel.
    pub fine: bool,
}

impl Default for SyntheticOptions {
    /// The generator's defaults, endless, every scene once, 1 GiB where scenes are kept, a quarter of the samples with
    /// worse source views.
    fn default() -> Self {
        Self {
            generator: GeneratorOptions::default(),
            scenes: None,
            reuse: 1,
            memory: 1 << 30,
            worse_sources: 0.25,
            fine: false,
        }
    }
}

/// A [`Dataset`] of rendered scenes.
#[derive(Debug)]
pub struct Synthetic {
    generator: Generator,
    options: SyntheticOptions,
    pool: RwLock<Pool>,
}

/// The scenes in memory.
#[derive(Debug, Default)]
struct Pool {
    scenes: BTreeMap<u64, Arc<Kept>>,
    bytes: u64,
}

/// A rendered scene with all its views.
#[derive(Debug)]
struct Kept {
    /// Red, green, blue of every pixel of every view.
    photos: Vec<Vec<u8>>,
    cameras: Vec<Camera>,
    /// What each view needs as a reference.
    references: Vec<Reference>,
}

/// A view as a reference.
#[derive(Debug)]
struct Reference {
    /// The other views, best source first.
    ranked: Vec<usize>,
    /// At every fourth pixel; where the truth is kept at every pixel, this is part of it.
    depth: Map,
    fine: Option<Map>,
    range: DepthRange,
}

impl Reference {
    fn new(scene: &SyntheticScene, view: usize, sources: &[SourceView], fine: bool) -> Self {
        let ranked = sources.iter().map(|s| s.view).collect();
        let (depth, fine) = depths(scene, view, fine);
        Self { ranked, depth, fine, range: scene.ranges[view] }
    }
}

/// The truth at every fourth pixel, and at every one where wanted. What a rendered scene does not have is not there.
fn depths(scene: &SyntheticScene, view: usize, fine: bool) -> (Map, Option<Map>) {
    let truth = |step: usize| {
        let mut truth = scene.depth(view, step);
        truth.data.iter_mut().filter(|depth| !is_depth(**depth)).for_each(|depth| *depth = NOTHING);
        truth
    };
    if !fine {
        return (truth(4), None);
    }
    let fine = truth(1);
    (every(&fine, 4), Some(fine))
}

impl Kept {
    fn bytes(&self) -> u64 {
        let photos: usize = self.photos.iter().map(|p| p.capacity()).sum();
        let rest = size_of_val(&self.cameras[..]) + size_of::<Self>();
        let of_map = |map: &Map| size_of_val(&map.data[..]);
        let reference = |r: &Reference| {
            size_of_val(&r.ranked[..]) + of_map(&r.depth) + r.fine.as_ref().map_or(0, of_map) + size_of::<Reference>()
        };
        (photos + self.references.iter().map(reference).sum::<usize>() + rest) as u64
    }
}

impl Synthetic {
    /// Reads the textures and meshes.
    ///
    /// # Errors
    /// Options out of their range; whatever [`Generator::new`] says.
    pub fn new(options: SyntheticOptions) -> Result<Self> {
        let GeneratorOptions { views, size, .. } = options.generator;
        if views < 2 {
            return Err(Error::input("views", views.to_string(), "at least two views a scene to train on"));
        }
        if size.0 % 4 != 0 || size.1 % 4 != 0 {
            return Err(Error::input(
                "size",
                format!("{} x {} pixels", size.0, size.1),
                format!("sides of multiples of 4, for example {} x {}", size.0 / 4 * 4, size.1 / 4 * 4),
            ));
        }
        if options.reuse == 0 {
            return Err(Error::input("reuse", "0", "at least one sample a scene"));
        }
        if options.scenes == Some(0) {
            return Err(Error::input("scenes", "0", "at least one scene, or none stated for an endless row"));
        }
        expect_share("worse sources", options.worse_sources)?;
        let generator = Generator::new(options.generator.clone())?;
        Ok(Self { generator, options, pool: RwLock::default() })
    }

    /// What makes the scenes.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Bytes of the scenes that are in memory now.
    pub fn held_bytes(&self) -> u64 {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Bytes of one kept scene.
    fn bytes_of_scene(&self) -> u64 {
        let GeneratorOptions { views, size, .. } = self.options.generator;
        let pixels = size.0 * size.1;
        let of_view = 3 * pixels + size_of::<Camera>();
        let references = if self.options.scenes.is_some() { 1 } else { views };
        let fine = if self.options.fine { 4 * pixels } else { 0 };
        let of_reference = (views - 1) * size_of::<usize>() + pixels / 4 + fine + size_of::<Reference>();
        (views * of_view + references * of_reference + size_of::<Kept>()) as u64
    }

    /// A scene with all its views, from memory where it is there.
    fn kept(&self, number: u64) -> Arc<Kept> {
        if let Some(kept) = self.pool.read().unwrap_or_else(PoisonError::into_inner).scenes.get(&number) {
            return Arc::clone(kept);
        }
        // No lock is held while rendering: two threads may render the same scene, but none ever waits.
        let scene = self.generator.scene(number);
        let views = scene.cameras.len();
        let bytes = |view| scene.photo(view).rgb.iter().map(|v| (v * 255.0).round() as u8).collect();
        let references = if self.options.scenes.is_some() { 1 } else { views };
        let sources = scene.all_sources();
        let kept = Arc::new(Kept {
            photos: (0..views).into_par_iter().map(bytes).collect(),
            references: (0..references)
                .map(|view| Reference::new(&scene, view, &sources[view], self.options.fine))
                .collect(),
            cameras: scene.cameras,
        });
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        // In an endless row the oldest scenes make room.
        while self.options.scenes.is_none()
            && pool.bytes + kept.bytes() > self.options.memory
            && let Some((_, old)) = pool.scenes.pop_first()
        {
            pool.bytes -= old.bytes();
        }
        if pool.bytes + kept.bytes() <= self.options.memory && !pool.scenes.contains_key(&number) {
            pool.bytes += kept.bytes();
            pool.scenes.insert(number, Arc::clone(&kept));
        }
        kept
    }

    /// The scene and the reference view of an index.
    fn place(&self, index: u64, views: usize) -> (u64, usize) {
        const PLACE: u64 = 0x0070_6c61_6365;
        if let Some(scenes) = self.options.scenes {
            return (index % scenes, 0);
        }
        let reuse = self.options.reuse;
        let newest = index / reuse;
        if index.is_multiple_of(reuse) {
            return (newest, 0);
        }
        // As many scenes back as memory holds, the newest included.
        let held = (self.options.memory / self.bytes_of_scene()).max(1);
        let mut random = Random::new(&[self.options.generator.seed, index, PLACE]);
        let back = random.below(held.min(newest + 1) as usize) as u64;
        (newest - back, random.below(views))
    }

    /// The views of a sample, the reference first.
    fn chosen(&self, index: u64, views: usize, reference: usize, ranked: &[usize]) -> Vec<usize> {
        const CHOICE: u64 = 0x736f_7572_6365;
        let mut random = Random::new(&[self.options.generator.seed, index, CHOICE]);
        let sources = choose_sources(ranked.len(), views.max(2) - 1, self.options.worse_sources, &mut random);
        std::iter::once(reference).chain(sources.into_iter().map(|place| ranked[place])).collect()
    }
}

impl Dataset for Synthetic {
    fn describe(&self) -> String {
        let GeneratorOptions { seed, views, size, rig, .. } = &self.options.generator;
        let rig = format!("{rig:?}").to_lowercase();
        let what = format!("{views} views of {} x {}, {rig} rig, seed {seed}", size.0, size.1);
        let Some(scenes) = self.options.scenes else {
            let reuse = match self.options.reuse {
                1 => String::new(),
                n => format!(
                    "; {n} samples a scene, of up to {} kept scenes",
                    self.options.memory / self.bytes_of_scene()
                ),
            };
            return format!("rendered scenes, endless: {what}{reuse}");
        };
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let fitting = self.options.memory / self.bytes_of_scene();
        let memory = if fitting >= scenes {
            format!("kept in {} of memory", megabytes(scenes * self.bytes_of_scene()))
        } else {
            format!(
                "{fitting} of them kept in the {} of memory that are allowed, the others rendered each time ({} would \
                 hold all)",
                megabytes(self.options.memory),
                megabytes(scenes * self.bytes_of_scene())
            )
        };
        format!("{scenes} rendered scenes: {what}; {memory}, {} held now", megabytes(self.held_bytes()))
    }

    fn len(&self) -> Option<u64> {
        self.options.scenes
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        let (number, reference) = self.place(index, self.options.generator.views);
        if self.options.scenes.is_none() && self.options.reuse == 1 {
            let scene = self.generator.scene(number);
            let ranked: Vec<usize> = scene.sources(0).iter().map(|s| s.view).collect();
            let chosen = self.chosen(index, views, 0, &ranked);
            let (depth, fine) = depths(&scene, 0, self.options.fine);
            return Ok(TrainingSample {
                name: format!("synth {index}"),
                photos: chosen.par_iter().map(|&view| scene.photo(view)).collect(),
                cameras: chosen.iter().map(|&view| scene.cameras[view]).collect(),
                depth,
                fine,
                range: scene.ranges[0],
            });
        }
        let kept = self.kept(number);
        let own = &kept.references[reference];
        let chosen = self.chosen(index, views, reference, &own.ranked);
        let (width, height) = self.options.generator.size;
        let photo = |&view: &usize| {
            let rgb = kept.photos[view].iter().map(|&v| f32::from(v) / 255.0).collect();
            Photo { width, height, rgb }
        };
        Ok(TrainingSample {
            name: match self.options.scenes {
                Some(_) => format!("synth {number}"),
                None => format!("synth {number}, view {reference}"),
            },
            photos: chosen.iter().map(photo).collect(),
            cameras: chosen.iter().map(|&view| kept.cameras[view]).collect(),
            depth: own.depth.clone(),
            fine: own.fine.clone(),
            range: own.range,
        })
    }
}
