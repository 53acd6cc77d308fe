//! The network on the processor, for inference: photos to features, features to depth and confidence.

use std::path::Path;

use super::device::{Cpu, Pooled};
use super::infer::{Infer, InferViews, Probe};
use super::memory;
use super::ops::conv::Conv;
use super::ops::depth::Expectation;
use super::ops::pointwise::{expect_multiples_of_4, normalize};
use super::simd::Level;
use super::weights::Weights;
use crate::error::Result;
use crate::net::backend::{DepthJob, DepthNetwork, DevicePlan, DeviceWork, Estimate, MemoryPlan};
use crate::net::config::Config;
use crate::net::parameters::Parameters;
use crate::net::tensor::{Shape, Tensor};
use crate::net::weights::Checkpoint;
use crate::net::{model, outline};
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
        let Checkpoint { name, hash, parameters } = checkpoint;
        Ok(Self { hash: hash.clone(), ..Self::from_parameters(parameters, name)? })
    }

    /// With values that training has moved; `name` is for messages.
    ///
    /// # Errors
    /// Where a value is not finite; the message names the tensor.
    pub fn from_parameters(parameters: &Parameters, name: &str) -> Result<Self> {
        let weights = Weights::new(parameters, name)?;
        let (name, hash) = (name.to_owned(), String::new());
        Ok(Self { cpu: Cpu::new(), config: parameters.config, name, hash, weights })
    }

    /// The same network on a lower instruction set, to compare them.
    pub fn with_level(self, level: Level) -> Self {
        Self { cpu: Cpu::with_level(level), ..self }
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

    /// What a view needs for photos of `width` x `height` and `planes` hypotheses.
    pub fn memory_plan(&self, width: usize, height: usize, planes: usize, threads: usize) -> MemoryPlan {
        memory::plan(self.config, width, height, planes, threads)
    }

    /// The device.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Feature map [1, H/4, W/4, 32] of a photo whose sides are multiples of 4.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they are not.
    pub fn features(&self, photo: &Photo) -> Result<Tensor> {
        self.features_probed(photo, &mut |_, _| ())
    }

    /// As [`BsMvsNet::features`], showing every layer's output to `probe`.
    ///
    /// # Errors
    /// As [`BsMvsNet::features`].
    pub fn features_probed(&self, photo: &Photo, probe: &mut Probe) -> Result<Tensor> {
        expect_multiples_of_4(photo)?;
        let photo = Pooled::new(&self.cpu, normalize(&self.cpu, photo));
        let map = model::features(&mut Infer::new(&self.cpu, &self.weights, probe), photo)?;
        Ok(map.into_tensor(&self.cpu))
    }

    /// Depth and confidence of a reference view, [H/4, W/4]. Each source view comes with the homographies between the
    /// cameras at a quarter of the photos' resolution:
    /// `PlaneSweep::new(&reference.decimated(0.25), &source.decimated(0.25))`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there is no source, no hypothesis, or a feature map of another kind.
    pub fn depth(
        &self,
        reference: &Tensor,
        sources: &[(&Tensor, PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<Estimate> {
        self.depth_probed(reference, sources, hypotheses, false, &mut |_, _| ())
    }

    /// As [`BsMvsNet::depth`], with the logits if asked for, showing every layer's output to `probe`.
    ///
    /// # Errors
    /// As [`BsMvsNet::depth`].
    pub fn depth_probed(
        &self,
        reference: &Tensor,
        sources: &[(&Tensor, PlaneSweep)],
        hypotheses: &Hypotheses,
        keep_logits: bool,
        probe: &mut Probe,
    ) -> Result<Estimate> {
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        let expectation = &Expectation::new(hypotheses);
        let views = InferViews { reference, sources, depths: &depths, expectation, keep_logits };
        model::depth(&mut Infer::new(&self.cpu, &self.weights, probe), self.config, &views)
    }

    /// The cost volume [D, H/4, W/4, 32], which [`BsMvsNet::depth`] never stores: for tests and for looking at it.
    ///
    /// # Errors
    /// As [`BsMvsNet::depth`].
    pub fn cost(
        &self,
        reference: &Tensor,
        sources: &[(&Tensor, PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<Tensor> {
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        let expectation = &Expectation::new(hypotheses);
        let views = InferViews { reference, sources, depths: &depths, expectation, keep_logits: false };
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
    type Features = Tensor;
    type Pending<'a> = DepthJob<'a, Tensor>;

    fn config(&self) -> Config {
        Self::config(self)
    }

    fn weights_name(&self) -> &str {
        Self::weights_name(self)
    }

    fn weights_hash(&self) -> &str {
        Self::weights_hash(self)
    }

    fn device(&self) -> String {
        "cpu".into()
    }

    fn precision(&self) -> &'static str {
        "f32"
    }

    fn memory_plan(&self, width: usize, height: usize, planes: usize, threads: usize) -> MemoryPlan {
        Self::memory_plan(self, width, height, planes, threads)
    }

    fn device_plan(&self, _: &DeviceWork) -> Result<Option<DevicePlan>> {
        Ok(None)
    }

    fn features(&self, photo: &Photo) -> Result<Tensor> {
        Self::features(self, photo)
    }

    fn begin<'a>(&'a self, _: usize, job: DepthJob<'a, Tensor>) -> Result<DepthJob<'a, Tensor>> {
        Ok(job)
    }

    fn finish<'a>(&'a self, job: DepthJob<'a, Tensor>) -> Result<Estimate> {
        self.depth(job.reference, &job.sources, &job.hypotheses)
    }
}
