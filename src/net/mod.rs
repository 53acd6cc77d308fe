//! BS-MVSNet, one level of the depth pyramid: photos and cameras to depth and confidence.
//!
//! Follows the PyTorch definition (`tools/reference/bs_mvsnet.py`) layer by layer; names of layers and tensors are its
//! names. This is the inference path: batch norm folded, ReLU fused, nothing kept that is not read again.

pub mod backend;
mod features;
mod gate;
mod memory;
pub mod parameters;
mod regularizer;
pub mod training;
pub mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use self::features::FeatureNet;
use self::gate::Gate;
pub use self::memory::{KEPT_BY_THE_ALLOCATOR, MemoryPlan};
use self::regularizer::BiSeNet3d;
use self::weights::Checkpoint;
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::depth::Expectation;
pub use crate::cpu::ops::head::Estimate;
use crate::cpu::ops::pointwise::{expect_multiples_of_4, normalize};
use crate::cpu::ops::sweep::{self, Sweep, cost_volume};
use crate::cpu::simd::Level;
use crate::cpu::tensor::{Cpu, Shape, Tensor};
use crate::error::Result;
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// How differences of source views become one cost (eq. 3-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aggregation {
    /// A weight per voxel (eq. 5).
    Voxel,
    /// A weight per pixel (eq. 4).
    Pixel,
    /// No weights.
    Mean,
    /// MVSNet's variance.
    Variance,
}

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Difference {
    /// (warped - reference)^2.
    Squared,
    /// warped - reference (eq. 3 to the letter).
    Signed,
}

/// How the regularizer gets back to full resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Decoder {
    /// In three steps with skip connections.
    Skip,
    /// One trilinear interpolation from 1/8 (the paper's).
    Trilinear,
}

/// A network's configuration, by its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `aggregation`.
    pub aggregation: Aggregation,
    /// `difference`.
    pub difference: Difference,
    /// `decoder`.
    pub decoder: Decoder,
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:?} / {:?} / {:?}", self.aggregation, self.difference, self.decoder);
        f.write_str(&text.to_lowercase())
    }
}

impl Config {
    /// As the metadata of a checkpoint name it.
    pub fn metadata(self) -> BTreeMap<String, String> {
        let text = self.to_string();
        let keys = ["aggregation", "difference", "decoder"].into_iter().map(str::to_owned);
        keys.zip(text.split(" / ").map(str::to_owned)).collect()
    }
}

/// Looks at a layer's output by its name: what the golden tests compare.
pub type Probe<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// The default weights, part of the binary.
pub(crate) const BUILT_IN: &[u8] = include_bytes!("../../weights/bs_mvsnet.safetensors");

/// The instruction set that the network will use here: `avx512`, `avx2` or `portable`.
pub fn simd_level() -> &'static str {
    Level::best().name()
}

/// The network with its weights and the device that it runs on.
pub struct BsMvsNet {
    cpu: Cpu,
    config: Config,
    name: String,
    hash: String,
    features: FeatureNet,
    gate: Gate,
    regularizer: BiSeNet3d,
}

impl BsMvsNet {
    /// With the weights that come with the binary.
    ///
    /// # Errors
    /// Never for a binary that passed its tests.
    pub fn built_in() -> Result<Self> {
        Self::new(Checkpoint::built_in()?)
    }

    /// With the weights in a file.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no weights of this network; the message names the tensor.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::new(Checkpoint::read(path)?)
    }

    /// With a checkpoint's tensors.
    ///
    /// # Errors
    /// As [`BsMvsNet::from_file`].
    pub fn new(checkpoint: Checkpoint) -> Result<Self> {
        let features = FeatureNet::new(&checkpoint)?;
        let gate = Gate::new(&checkpoint)?;
        let regularizer = BiSeNet3d::new(&checkpoint)?;
        checkpoint.expect_empty()?;
        let Checkpoint { name, hash, config, .. } = checkpoint;
        Ok(Self { cpu: Cpu::new(), config, name, hash, features, gate, regularizer })
    }

    /// The same network on a lower instruction set, to compare them.
    pub fn with_level(self, level: Level) -> Self {
        Self { cpu: Cpu::with_level(level), ..self }
    }

    /// The configuration.
    pub fn config(&self) -> Config {
        self.config
    }

    /// SHA-256 of the checkpoint, hexadecimal.
    pub fn weights_hash(&self) -> &str {
        &self.hash
    }

    /// The checkpoint's path, or `built-in`.
    pub fn weights_name(&self) -> &str {
        &self.name
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

    /// As [`BsMvsNet::features`], showing every stage's output to `probe`.
    ///
    /// # Errors
    /// As [`BsMvsNet::features`].
    pub fn features_probed(&self, photo: &Photo, probe: &mut Probe) -> Result<Tensor> {
        expect_multiples_of_4(photo)?;
        self.features.forward(&self.cpu, normalize(&self.cpu, photo), probe)
    }

    /// Depth and confidence of a reference view, [H/4, W/4]. Each source view comes with the homographies between the
    /// cameras at a quarter of the photos' resolution: `PlaneSweep::new(&reference.decimated(0.25),
    /// &source.decimated(0.25))`.
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
        let mut sweep = self.ungated(reference, sources, &depths);
        let weights = self.gate.pixel_weights(&self.cpu, &sweep, probe)?;
        sweep.aggregation = self.gate.aggregation(&weights);
        self.regularizer.forward(&self.cpu, &sweep, &Expectation::new(hypotheses), keep_logits, probe)
    }

    /// The cost volume [D, H/4, W/4, 32], which [`BsMvsNet::depth`] never stores: for tests and for looking at it.
    ///
    /// # Errors
    /// As [`BsMvsNet::depth`].
    pub fn cost(&self, reference: &Tensor, sources: &[(&Tensor, PlaneSweep)], depths: &[f32]) -> Result<Tensor> {
        let mut sweep = self.ungated(reference, sources, depths);
        let weights = self.gate.pixel_weights(&self.cpu, &sweep, &mut |_, _| ())?;
        sweep.aggregation = self.gate.aggregation(&weights);
        cost_volume(&self.cpu, &sweep)
    }

    /// The sweep before the gate has spoken.
    fn ungated<'a>(
        &self,
        reference: &'a Tensor,
        sources: &'a [(&'a Tensor, PlaneSweep)],
        depths: &'a [f32],
    ) -> Sweep<'a> {
        let squared = self.config.difference == Difference::Squared;
        Sweep { reference, sources, depths, aggregation: sweep::Aggregation::Mean, squared }
    }

    /// The dense layers with the shapes of their inputs for photos of `height` x `width` and `planes` hypotheses, for
    /// benchmarks: FeatureNet's (one photo) and the regularizer's.
    pub fn layers(&self, height: usize, width: usize, planes: usize) -> Vec<(String, &Conv, Shape)> {
        let cost = Shape { d: planes, h: height / 4, w: width / 4, c: 32 };
        let regularizer = self.regularizer.layers(cost).into_iter();
        let mut all = self.features.layers(height, width);
        all.extend(regularizer.map(|(name, conv, shape)| (name.to_owned(), conv, shape)));
        all
    }
}
