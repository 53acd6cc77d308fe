//! What a run asks of the network, whatever it runs on.

use std::collections::BTreeSet;

use super::confidence::Confidence;
use super::config::{Config, Resolution};
use super::tensor::Tensor;
use crate::error::Result;
use crate::files::map::Map;
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
    /// The pyramid's level: how many times the photos' sides have been halved.
    pub level: usize,
}

/// The network on some device.
pub trait DepthNetwork: Sync {
    /// A photo's feature map, where the device keeps it.
    type Features: Send;
    /// A depth map that is being made.
    type Pending<'a>
    where
        Self: 'a;
    /// A photo in grey, where the device keeps it.
    type Grey: Send;

    /// Its configuration.
    fn config(&self) -> Config;

    /// The checkpoint's path, or `built-in`.
    fn weights_name(&self) -> &str;

    /// SHA-256 of the checkpoint, hexadecimal.
    fn weights_hash(&self) -> &str;

    /// Whether its confidence is a calibrated probability ([`super::confidence`]), not that of four hypotheses.
    fn calibrated(&self) -> bool {
        self.confidence().is_some()
    }

    /// What its confidence means, where it is calibrated.
    fn confidence(&self) -> Option<&Confidence>;

    /// What it runs on, for people.
    fn device(&self) -> String;

    /// How activations are stored: `f32` or `f16`. Maps of different precisions are not taken for each other.
    fn precision(&self) -> &'static str;

    /// Host memory for photos of this size and so many hypotheses, for maps of this resolution, or the network's own if
    /// that is coarser.
    fn memory_plan(&self, size: (usize, usize), planes: usize, threads: usize, finest: Resolution) -> MemoryPlan;

    /// Plans the device's memory for this work, where that is not the host's memory.
    ///
    /// # Errors
    /// The device's; [`crate::Error::Memory`] where the largest would not fit.
    fn device_plan(&self, work: &DeviceWork) -> Result<Option<DevicePlan>>;

    /// Feature maps of a photo whose sides are multiples of 4, up to this resolution, or the network's own if that is
    /// coarser.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they are not; the device's.
    fn features(&self, photo: &Photo, finest: Resolution) -> Result<Self::Features>;

    /// Starts a depth map; `slot` tells apart those that may be under way at the same time.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there is no source, no hypothesis, or a feature map of another kind; the device's.
    fn begin<'a>(&'a self, slot: usize, job: DepthJob<'a, Self::Features>) -> Result<Self::Pending<'a>>;

    /// Depth and confidence at the resolution that the features go up to.
    ///
    /// # Errors
    /// As [`DepthNetwork::begin`].
    fn finish<'a>(&'a self, pending: Self::Pending<'a>) -> Result<Estimate>;

    /// Keeps a photo in grey ([1, H, W, 1]), for [`DepthNetwork::refine`].
    ///
    /// # Errors
    /// The device's.
    fn grey(&self, photo: Tensor) -> Result<Self::Grey>;

    /// Moves the depths to where the photos agree best ([`crate::cpu::ops::ncc`]), and returns how many pixels were
    /// sure enough to be moved. `sources` come with the homographies of photo pixels; `step` is the distance of
    /// hypotheses in 1 / depth.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where photos are no planes, or the map has another size than the reference; the
    /// device's.
    fn refine(
        &self,
        reference: &Self::Grey,
        sources: &[(&Self::Grey, PlaneSweep)],
        step: f32,
        depth: &mut Map,
    ) -> Result<usize>;

    /// Gives back what was held for maps and features: all maps are made, and other work may need the room.
    fn release(&self) {}

    /// Says what all that is asked for from now on is for: a device may tell much later that it went wrong.
    fn about(&self, _what: &str) {}
}

/// What the network says of one reference view.
pub struct Estimate {
    /// Depth in scene units.
    pub depth: Map,
    /// 0..1: the probability that depth is right ([`super::confidence`]); of weights that are not calibrated, that of
    /// the four coarse hypotheses around the expected one.
    pub confidence: Map,
    /// Logits [D, H, W, 1] of the last stage, where asked for.
    pub logits: Option<Tensor>,
}

/// Bytes that a run needs at its peak, by what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// One photo, its normalised copy and FeatureNet's two largest layers.
    pub feature_layers: u64,
    /// One view's feature maps: reference and sources are held at once, one of these each.
    pub feature_map: u64,
    /// The regularizer's tensors at their peak, or a narrow stage's.
    pub regularizer: u64,
    /// Rings, bands and maps.
    pub scratch: u64,
}

impl MemoryPlan {
    /// The peak with `maps` feature maps held. Features and regularizer do not run at the same time: the larger one
    /// counts, and of the other what the allocator may keep for itself.
    pub fn peak(&self, maps: usize) -> u64 {
        let (large, small) = if self.feature_layers > self.regularizer {
            (self.feature_layers, self.regularizer)
        } else {
            (self.regularizer, self.feature_layers)
        };
        large + small.min(KEPT_BY_THE_ALLOCATOR) + self.feature_map * maps as u64 + self.scratch
    }
}

/// Allocators give buffers of more than 32 MiB back to the system at once (glibc's largest threshold) and keep smaller
/// ones; of those, two at a time are in use.
pub const KEPT_BY_THE_ALLOCATOR: u64 = 64 << 20;

/// What a device's memory is for.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Bytes of features that there is room for, counted in f32.
    pub room: u64,
    /// For people, one line.
    pub text: String,
}

/// What a device is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWork {
    /// Width and height of the photos that features are made of, multiples of 4.
    pub photos: BTreeSet<(usize, usize)>,
    /// All depth maps.
    pub maps: Vec<JobSize>,
    /// Of the maps, or the network's own if that is coarser.
    pub finest: Resolution,
    /// Whether maps are refined against the photos.
    pub refined: bool,
}

/// The size of a depth map's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobSize {
    /// Of the largest of the photos, multiples of 4.
    pub width: usize,
    /// As above.
    pub height: usize,
    /// Width and height of the reference's photo, multiples of 4.
    pub reference: (usize, usize),
    /// Hypotheses.
    pub planes: usize,
    /// Views, the reference included.
    pub views: usize,
    /// Maps of different slots may be made at the same time ([`DepthNetwork::begin`]).
    pub slot: usize,
}
