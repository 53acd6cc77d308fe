//! The network on the processor, for inference: photos to features, features to depth and confidence.

use std::collections::BTreeMap;
use std::path::Path;

use super::bands;
use super::device::{Cpu, Pooled};
use super::infer::{Infer, InferViews, NarrowViews, Probe};
use super::memory;
use super::ops::conv::Conv;
use super::ops::depth::Expectation;
use super::ops::ncc::{self, Photos};
use super::ops::pointwise::{expect_multiples_of_4, normalize};
use super::simd::Level;
use super::weights::Weights;
use crate::error::Result;
use crate::host::trace::span;
use crate::net::backend::{
    DepthJob, DepthNetwork, DevicePlan, DeviceWork, Estimate, MemoryPlan, OfPhoto, PhotoWanted, Pipeline, Refinement,
};
use crate::net::confidence::{Confidence, Judge, Scale};
use crate::net::config::{Config, Resolution};
use crate::net::model::Features;
use crate::net::parameters::Parameters;
use crate::net::tensor::{Shape, Tensor};
use crate::net::weights::Checkpoint;
use crate::net::{model, outline, stage};
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// The instruction set that the network will use here: `avx512`, `avx2` or `portable`.
pub fn simd_level() -> &'static str {
    Level::best().name()
}

/// The network with its weights and the processor that it runs on.
pub struct BsMvsNet {
    cpu: Cpu,
    config: Config,
    name: String,
    hash: String,
    weights: Weights,
    confidence: Option<Confidence>,
    band_bytes: usize,
}

impl BsMvsNet {
    /// With the weights that come with the binary.
    ///
    /// # Errors
    /// Never for a binary that passed its tests.
    pub fn built_in() -> Result<Self> {
        Self::new(&Checkpoint::built_in()?)
    }

    /// With the weights in a file.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no weights of this network; the message names the tensor.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::new(&Checkpoint::read(path)?)
    }

    /// With a checkpoint's tensors.
    ///
    /// # Errors
    /// Where a norm's statistics are none.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let Checkpoint { name, hash, parameters, confidence } = checkpoint;
        let (hash, confidence) = (hash.clone(), confidence.clone());
        Ok(Self { hash, confidence, ..Self::from_parameters(parameters, name)? })
    }

    /// With values that training has moved; `name` is for messages.
    ///
    /// # Errors
    /// Where a value is not finite; the message names the tensor.
    pub fn from_parameters(parameters: &Parameters, name: &str) -> Result<Self> {
        let weights = Weights::new(parameters, name)?;
        let (name, hash) = (name.to_owned(), String::new());
        let (cpu, config, band_bytes) = (Cpu::new(), parameters.config, bands::BAND_BYTES);
        Ok(Self { cpu, config, name, hash, weights, confidence: None, band_bytes })
    }

    /// The same network on a lower instruction set, to compare them.
    pub fn with_level(self, level: Level) -> Self {
        Self { cpu: Cpu::with_level(level), ..self }
    }

    /// The same network whose narrow stages work in bands of so many bytes, to compare them.
    pub fn with_band_bytes(self, band_bytes: usize) -> Self {
        Self { band_bytes, ..self }
    }

    /// The same network whose confidence means this; nothing: the coarse stage's probability of four hypotheses.
    pub fn with_confidence(self, confidence: Option<Confidence>) -> Self {
        Self { confidence, ..self }
    }

    /// The configuration.
    pub fn config(&self) -> Config {
        self.config
    }

    /// The checkpoint's path, or `built-in`.
    pub fn weights_name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the checkpoint, hexadecimal.
    pub fn weights_hash(&self) -> &str {
        &self.hash
    }

    /// What a view needs for photos of this size and so many hypotheses, for maps of at most this resolution.
    pub fn memory_plan(&self, size: (usize, usize), planes: usize, threads: usize, finest: Resolution) -> MemoryPlan {
        let config = Config { resolution: self.config.resolution.min(finest), ..self.config };
        memory::plan(config, size, planes, threads)
    }

    /// The device.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Feature maps of a photo whose sides are multiples of 4, up to the network's resolution.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they are not.
    pub fn features(&self, photo: &Photo) -> Result<Features<Tensor>> {
        self.features_probed(photo, self.config.resolution, &mut |_, _| ())
    }

    /// As [`BsMvsNet::features`], up to a resolution, showing every layer's output to `probe`.
    ///
    /// # Errors
    /// As [`BsMvsNet::features`].
    pub fn features_probed(&self, photo: &Photo, finest: Resolution, probe: &mut Probe) -> Result<Features<Tensor>> {
        expect_multiples_of_4(photo)?;
        let photo = Pooled::new(&self.cpu, normalize(&self.cpu, photo));
        let mut infer = Infer::new(&self.cpu, &self.weights, probe);
        let Features { quarter, half, full } = model::features(&mut infer, finest.min(self.config.resolution), photo)?;
        let own = |map: Pooled| map.into_tensor(&self.cpu);
        Ok(Features { quarter: own(quarter), half: half.map(own), full: full.map(own) })
    }

    /// Gives feature maps back to the pool.
    pub fn recycle(&self, features: Features<Tensor>) {
        let Features { quarter, half, full } = features;
        std::iter::once(quarter).chain(half).chain(full).for_each(|map| self.cpu.recycle(map));
    }

    /// Depth and confidence of a reference view, at the resolution that its features go up to. Each source view comes
    /// with the homographies between the cameras at a quarter of the photos' resolution:
    /// `PlaneSweep::new(&reference.decimated(0.25), &source.decimated(0.25))`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there is no source, no hypothesis, or a feature map of another kind.
    pub fn depth(
        &self,
        reference: &Features<Tensor>,
        sources: &[(&Features<Tensor>, PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<Estimate> {
        self.depth_probed(reference, sources, (hypotheses, 0), false, &mut |_, _| ())
    }

    /// As [`BsMvsNet::depth`] on a level of the pyramid, with the logits if asked for, showing every layer's output to
    /// `probe`.
    ///
    /// # Errors
    /// As [`BsMvsNet::depth`].
    pub fn depth_probed(
        &self,
        reference: &Features<Tensor>,
        sources: &[(&Features<Tensor>, PlaneSweep)],
        (hypotheses, level): (&Hypotheses, usize),
        keep_logits: bool,
        probe: &mut Probe,
    ) -> Result<Estimate> {
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        let expectation = &Expectation::new(hypotheses);
        let coarse: Vec<_> = sources.iter().map(|(map, sweep)| (&map.quarter, *sweep)).collect();
        let Shape { h, w, .. } = reference.quarter.shape;
        let sweeps: Vec<PlaneSweep> = sources.iter().map(|s| s.1).collect();
        let scale = Scale::new(&sweeps, (w, h), hypotheses);
        let judge = self
            .confidence
            .as_ref()
            .zip(scale)
            .map(|(fits, scale)| Judge::new(fits, (bands::finest(reference), level), scale));
        let views = InferViews {
            reference: &reference.quarter,
            sources: &coarse,
            depths: &depths,
            expectation,
            keep_logits,
            judge,
            narrow: None,
        };
        let mut found = {
            let mut show = |name: &str, tensor: &Tensor| probe(name, tensor);
            model::depth(&mut Infer::new(&self.cpu, &self.weights, &mut show), self.config, &views)?
        };
        if let Some(judge) = &judge {
            judge.coarse(&mut found.confidence.data);
        }
        for stage in stage::stages(bands::finest(reference)) {
            let own = NarrowViews::new(stage, reference, sources, hypotheses)?;
            found = bands::refine((&self.cpu, &self.weights), self.band_bytes, stage, &views, &own, found, probe)?;
        }
        Ok(found)
    }

    /// The cost volume [D, H/4, W/4, 32], which [`BsMvsNet::depth`] never stores: for tests and for looking at it.
    ///
    /// # Errors
    /// As [`BsMvsNet::depth`].
    pub fn cost(
        &self,
        reference: &Features<Tensor>,
        sources: &[(&Features<Tensor>, PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<Tensor> {
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        let expectation = &Expectation::new(hypotheses);
        let sources: Vec<_> = sources.iter().map(|(map, sweep)| (&map.quarter, *sweep)).collect();
        let views = InferViews {
            reference: &reference.quarter,
            sources: &sources,
            depths: &depths,
            expectation,
            keep_logits: false,
            judge: None,
            narrow: None,
        };
        let mut ignored = |_: &str, _: &Tensor| ();
        let mut infer = Infer::new(&self.cpu, &self.weights, &mut ignored);
        let weighting = model::gate(&mut infer, self.config, &views)?;
        infer.cost_volume(&views, self.config.difference, &weighting)
    }

    /// The dense layers with the shapes of their inputs for photos of `height` x `width` and `planes` hypotheses, for
    /// benchmarks: FeatureNet's (one photo) and the regularizer's.
    ///
    /// # Errors
    /// Never for a model that is consistent.
    pub fn layers(&self, height: usize, width: usize, planes: usize) -> Result<Vec<(String, &Conv, Shape)>> {
        Ok(self.weights.convolutions(&outline::layers(self.config, height, width, planes)?))
    }
}

impl DepthNetwork for BsMvsNet {
    type Features = Features<Tensor>;
    /// What it is made of, by level.
    type Prepared = (BTreeMap<i32, Photo>, PhotoWanted);
    type Pending = Estimate;
    type Grey = Tensor;

    fn config(&self) -> Config {
        Self::config(self)
    }

    fn weights_name(&self) -> &str {
        Self::weights_name(self)
    }

    fn weights_hash(&self) -> &str {
        Self::weights_hash(self)
    }

    fn confidence(&self) -> Option<&Confidence> {
        self.confidence.as_ref()
    }

    fn device(&self) -> String {
        "cpu".into()
    }

    fn precision(&self) -> &'static str {
        "f32"
    }

    fn memory_plan(&self, size: (usize, usize), planes: usize, threads: usize, finest: Resolution) -> MemoryPlan {
        Self::memory_plan(self, size, planes, threads, finest)
    }

    fn device_plan(&self, _: &DeviceWork) -> Result<Option<DevicePlan>> {
        Ok(None)
    }

    fn features(&self, photo: &Photo, finest: Resolution) -> Result<Features<Tensor>> {
        self.features_probed(photo, finest, &mut |_, _| ())
    }

    fn pipeline(&self, _: usize) -> Pipeline {
        // The network has all threads; the next photo is decoded meanwhile.
        Pipeline { decoders: 1, views: 1, writers: 0 }
    }

    fn prepare(&self, mut photo: Photo, wanted: &PhotoWanted) -> Result<Self::Prepared> {
        let mut padded = BTreeMap::new();
        let mut at = 0;
        for &level in &wanted.levels {
            if level < 0 {
                padded.insert(level, photo.enlarged(level.unsigned_abs()).padded_to_multiple_of_4());
                continue;
            }
            while at < level {
                photo = photo.pyramid_level();
                at += 1;
            }
            padded.insert(level, photo.padded_to_multiple_of_4());
        }
        Ok((padded, wanted.clone()))
    }

    fn of_photo(&self, (levels, wanted): Self::Prepared) -> Result<BTreeMap<i32, OfPhoto<Features<Tensor>, Tensor>>> {
        let of_level = |(&level, photo): (&i32, &Photo)| {
            let features = DepthNetwork::features(self, photo, wanted.finest)?;
            Ok((level, OfPhoto { features, grey: wanted.grey.then(|| ncc::grey(photo)) }))
        };
        levels.iter().map(of_level).collect()
    }

    /// Makes it at once.
    fn begin_refined(
        &self,
        _: usize,
        job: DepthJob<Features<Tensor>>,
        refinement: Option<Refinement<Tensor>>,
    ) -> Result<Estimate> {
        let DepthJob { reference, sources, hypotheses, level } = &job;
        let mut made = self.depth_probed(reference, sources, (hypotheses, *level), false, &mut |_, _| ())?;
        if let Some(Refinement { reference, sources, step }) = refinement {
            let _span = span("refine");
            ncc::refine(&self.cpu, &Photos { reference, sources: &sources, step }, &mut made.depth)?;
        }
        Ok(made)
    }

    fn finish(&self, made: Estimate) -> Result<Estimate> {
        Ok(made)
    }
}
