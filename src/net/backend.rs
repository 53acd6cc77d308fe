//! What the pipeline asks of the network, whatever it runs on.

use super::{BsMvsNet, Config, Estimate, MemoryPlan};
use crate::cpu::tensor::Tensor;
use crate::error::Result;
use crate::scene::camera::{Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// One depth map to make: reference and sources by their features, with the homographies between their cameras at a
/// quarter of the photos' resolution.
pub struct DepthJob<'a, F> {
    /// Of the view whose depth is wanted.
    pub reference: &'a F,
    /// Of the views that it is matched against.
    pub sources: Vec<(&'a F, PlaneSweep)>,
    /// The depths to try.
    pub hypotheses: Hypotheses,
}

/// The network on some device.
pub trait DepthNetwork: Sync {
    /// A photo's feature map, where the device keeps it.
    type Features: Send;
    /// A depth map that is being made.
    type Pending<'a>
    where
        Self: 'a;

    /// Its configuration.
    fn config(&self) -> Config;

    /// The checkpoint's path, or `built-in`.
    fn weights_name(&self) -> &str;

    /// SHA-256 of the checkpoint, hexadecimal.
    fn weights_hash(&self) -> &str;

    /// What it runs on, for people.
    fn device(&self) -> String;

    /// How activations are stored: `f32` or `f16`. Maps of different precisions are not taken for each other.
    fn precision(&self) -> &'static str;

    /// Host memory for photos of `width` x `height` and `planes` hypotheses.
    fn memory_plan(&self, width: usize, height: usize, planes: usize, threads: usize) -> MemoryPlan;

    /// Plans the device's memory for work of these sizes, where that is not the host's memory.
    ///
    /// # Errors
    /// The device's; [`crate::Error::Memory`] where the largest would not fit.
    fn device_plan(&self, sizes: &[JobSize]) -> Result<Option<DevicePlan>>;

    /// Feature map of a photo whose sides are multiples of 4.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they are not; the device's.
    fn features(&self, photo: &Photo) -> Result<Self::Features>;

    /// Starts a depth map; `slot` tells apart those that may be under way at the same time.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there is no source, no hypothesis, or a feature map of another kind; the device's.
    fn begin<'a>(&'a self, slot: usize, job: DepthJob<'a, Self::Features>) -> Result<Self::Pending<'a>>;

    /// Depth and confidence, [H/4, W/4].
    ///
    /// # Errors
    /// As [`DepthNetwork::begin`].
    fn finish<'a>(&'a self, pending: Self::Pending<'a>) -> Result<Estimate>;
}

/// What a device's memory is for.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Bytes of features that there is room for, counted as [H/4, W/4, 32] in f32.
    pub room: u64,
    /// For people, one line.
    pub text: String,
}

/// The size of a depth map's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobSize {
    /// Of the photos, rounded up to multiples of 4.
    pub width: usize,
    /// As above.
    pub height: usize,
    /// Hypotheses.
    pub planes: usize,
    /// Views, the reference included.
    pub views: usize,
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

    fn device_plan(&self, _: &[JobSize]) -> Result<Option<DevicePlan>> {
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
