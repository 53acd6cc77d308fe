//! What a run asks of the network, whatever it runs on.

use std::collections::{BTreeMap, BTreeSet};

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

/// What is wanted of a photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhotoWanted {
    /// The levels ([`crate::scene::look::Look::level`]) on which features are made.
    pub levels: BTreeSet<i32>,
    /// As of [`DepthNetwork::features`].
    pub finest: Resolution,
    /// Whether depths are refined against it.
    pub grey: bool,
}

/// What is kept of a photo on a level.
pub struct OfPhoto<F, G> {
    /// Its features.
    pub features: F,
    /// The photo itself, where depths are refined against it.
    pub grey: Option<G>,
}

/// What a depth map is refined against ([`crate::cpu::ops::ncc`]).
pub struct Refinement<'a, G> {
    /// The view's photo.
    pub reference: &'a G,
    /// The sources', with the homographies of photo pixels.
    pub sources: Vec<(&'a G, PlaneSweep)>,
    /// Distance of hypotheses in 1 / depth.
    pub step: f32,
}

/// How much of a run is done at the same time, beside what the network itself does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Threads that decode photos.
    pub decoders: usize,
    /// Views whose maps are begun before the first of them is waited for.
    pub views: usize,
    /// Threads that write maps; none: whoever has waited for them does.
    pub writers: usize,
}

/// The network on some device.
pub trait DepthNetwork: Sync {
    /// A photo's feature map, where the device keeps it.
    type Features: Send;
    /// A photo on its way to the device.
    type Prepared: Send;
    /// A depth map that is being made.
    type Pending;
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

    /// As [`DepthNetwork::device`], of this one alone where it is one of several ([`DepthNetwork::each`]).
    fn device_alone(&self) -> String {
        self.device()
    }

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

    /// What a run may do meanwhile, with so many threads.
    fn pipeline(&self, threads: usize) -> Pipeline;

    /// The devices that share the work of a run, each a network of its own: one, unless there are several.
    fn each(&self) -> Vec<&Self>
    where
        Self: Sized,
    {
        vec![self]
    }

    /// Makes a photo ready for the device, on any thread. Its sides may be of any length.
    ///
    /// # Errors
    /// The device's.
    fn prepare(&self, photo: Photo, wanted: &PhotoWanted) -> Result<Self::Prepared>;

    /// What is kept of a photo on all wanted levels.
    ///
    /// # Errors
    /// The device's.
    #[allow(clippy::type_complexity, reason = "two types of the network, each named where it comes from")]
    fn of_photo(&self, photo: Self::Prepared) -> Result<BTreeMap<i32, OfPhoto<Self::Features, Self::Grey>>>;

    /// Starts a depth map; `slot` tells apart those of a view.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where there is no source, no hypothesis, or a feature map of another kind; the device's.
    fn begin(&self, slot: usize, job: DepthJob<Self::Features>) -> Result<Self::Pending> {
        self.begin_refined(slot, job, None)
    }

    /// As [`DepthNetwork::begin`], of a map whose depths are moved to where the photos agree best.
    ///
    /// # Errors
    /// As there, and where photos are no planes, or the map has another size than the reference.
    fn begin_refined(
        &self,
        slot: usize,
        job: DepthJob<Self::Features>,
        refinement: Option<Refinement<Self::Grey>>,
    ) -> Result<Self::Pending>;

    /// Depth and confidence at the resolution that the features go up to.
    ///
    /// # Errors
    /// As [`DepthNetwork::begin`].
    fn finish(&self, pending: Self::Pending) -> Result<Estimate>;

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
    /// The photos that features are made of.
    pub photos: BTreeSet<PhotoSize>,
    /// All depth maps.
    pub maps: Vec<JobSize>,
    /// Of the maps, or the network's own if that is coarser.
    pub finest: Resolution,
    /// Whether maps are refined against the photos.
    pub refined: bool,
}

/// The size of a photo's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhotoSize {
    /// The photo's, of any length.
    pub width: usize,
    /// As above.
    pub height: usize,
    /// Bit n: features are made of its n-th level, for which its sides are halved n times.
    pub levels: u32,
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
