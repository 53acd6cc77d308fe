//! Where finished maps are merged and fused: on the processor, or on the device that made them. Both give the same
//! bits.

use std::fmt;
use std::sync::Arc;

use crate::cuda::driver::Driver;
use crate::cuda::joint::Listeners;
use crate::error::{Error, Result};
use crate::files::jpeg::{Elsewhere, JpegDecoder};
use crate::files::map::Map;
use crate::fusion::fuse;
use crate::fusion::settings::{FusionOptions, Method};
use crate::fusion::view::{Fused, FusionView};
use crate::host::progress::Progress;
use crate::maps::consistency::DepthView;
use crate::maps::joint::{self, Heard};
use crate::maps::merge::{self, LevelMaps, MergeOptions};

/// A place to compute at.
#[derive(Clone, Default)]
pub enum Backend {
    /// The processor.
    #[default]
    Host,
    /// A device, and the processor where the device has not enough memory, or not the method.
    Device(Arc<dyn Driver>),
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Device(driver) => write!(f, "Device({})", driver.name()),
        }
    }
}

/// A device's decoder of JPEG files.
pub struct DeviceJpeg(pub Arc<dyn Driver>);

impl JpegDecoder for DeviceJpeg {
    fn decode(&self, bytes: &[u8], size: (usize, usize)) -> Result<Elsewhere> {
        self.0.decode_jpeg(bytes, size)
    }
}

/// What the device made, or `None` (after a note) where its memory does not suffice.
fn if_it_fits<T>(what: &str, made: Result<T>, progress: &Progress) -> Result<Option<T>> {
    match made {
        Err(Error::Memory(problem)) => {
            progress.note(&format!("{what} on the processor: {problem}"));
            Ok(None)
        }
        made => made.map(Some),
    }
}

impl Backend {
    /// [`merge::merge_level`].
    ///
    /// # Errors
    /// As there; the device's.
    pub fn merge_level(
        &self,
        coarse: &[LevelMaps],
        fine: &mut [LevelMaps],
        sources: &[Vec<usize>],
        options: &MergeOptions,
        progress: &Progress,
    ) -> Result<Vec<usize>> {
        if let Self::Device(driver) = self {
            let made = crate::cuda::merge::merge_level(driver, coarse, fine, sources, options);
            if let Some(counts) = if_it_fits("merging levels", made, progress)? {
                return Ok(counts);
            }
        }
        merge::merge_level(coarse, fine, sources, options)
    }

    /// [`joint::hear`] of all views, of which each has these `sources`; `each` is told when a view has heard.
    ///
    /// # Errors
    /// As there; the device's; those of `each`.
    pub fn hear(
        &self,
        maps: &[LevelMaps],
        sources: &[Vec<usize>],
        judge: impl Fn(f32, &Heard) -> f32 + Sync,
        progress: &Progress,
        mut each: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<(Map, Vec<f32>)>> {
        let mut device = match self {
            Self::Device(driver) => Some(Listeners::new(driver, maps, sources)),
            Self::Host => None,
        };
        let mut heard = Vec::with_capacity(maps.len());
        for (view, (own, sources)) in maps.iter().zip(sources).enumerate() {
            let there = match &mut device {
                Some(device) => if_it_fits("views hear each other", device.hear(view, &judge), progress)?,
                None => None,
            };
            heard.push(match there {
                Some(made) => made,
                None => {
                    // What does not fit for one view does not for the next.
                    device = None;
                    let sources: Vec<DepthView> = sources.iter().map(|&source| maps[source].view()).collect();
                    joint::hear(&own.view(), &sources.iter().collect::<Vec<_>>(), &judge)?
                }
            });
            each(view)?;
        }
        Ok(heard)
    }

    /// [`fuse::fuse`].
    ///
    /// # Errors
    /// As there; the device's.
    pub fn fuse(&self, views: &[FusionView], options: &FusionOptions, progress: &Progress) -> Result<Fused> {
        if let (Self::Device(driver), Method::Reprojection(_)) = (self, &options.method) {
            let made = crate::cuda::fusion::fuse(driver, views, options);
            if let Some(fused) = if_it_fits("fusing", made, progress)? {
                return Ok(fused);
            }
        }
        fuse::fuse(views, options)
    }
}
