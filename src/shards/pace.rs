//! How long a view takes on this machine: the network at work on a small view, and the time of larger ones by what they
//! cost.

use std::time::Instant;

use crate::bench::work::{Inputs, Size};
use crate::error::Result;
use crate::net::backend::{DepthJob, DepthNetwork};
use crate::net::config::Resolution;
use crate::run::depth::cost;
use crate::run::plan::{Plan, ViewPlan};
use crate::scene::camera::PlaneSweep;

/// The view that is measured: large enough that all threads have work, small enough for a second.
const SIZE: Size = Size { width: 640, height: 480, planes: 48, views: 3 };
/// What goes before it, so that threads and memory are there: it takes little.
const WARM_UP: Size = Size { width: 160, height: 128, planes: 16, views: 3 };

/// What the network takes here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds for the features of a pixel of a photo.
    features: f64,
    /// Seconds for a unit of [`cost`].
    depth: f64,
}

impl Pace {
    /// Measures it.
    ///
    /// # Errors
    /// The network's.
    pub fn measure<N: DepthNetwork>(network: &N, resolution: Resolution) -> Result<Self> {
        Self::of_a_view(network, resolution, WARM_UP)?;
        Self::of_a_view(network, resolution, SIZE)
    }

    fn of_a_view<N: DepthNetwork>(network: &N, resolution: Resolution, size: Size) -> Result<Self> {
        let inputs = Inputs::generated(size);
        let quarter = |at: usize| inputs.cameras[at].decimated(0.25);
        let sweeps: Vec<PlaneSweep> =
            (1..size.views).map(|source| PlaneSweep::new(&quarter(0), &quarter(source))).collect();
        let began = Instant::now();
        let features = inputs.photos.iter().map(|photo| network.features(photo, resolution));
        let features = features.collect::<Result<Vec<_>>>()?;
        let pixels = size.width * size.height * size.views;
        let of_features = began.elapsed().as_secs_f64() / pixels as f64;
        let began = Instant::now();
        let sources = features[1..].iter().zip(sweeps.iter().copied()).collect();
        let job = DepthJob { reference: &features[0], sources, hypotheses: inputs.hypotheses.clone(), level: 0 };
        network.finish(network.begin(0, job)?)?;
        let units = size.width / 4 * (size.height / 4) * size.planes * size.views;
        Ok(Self { features: of_features, depth: began.elapsed().as_secs_f64() / units as f64 })
    }

    /// Seconds for a view of a plan: its own photo, and its levels.
    pub fn seconds(&self, plan: &Plan, view: &ViewPlan, levels: usize) -> f64 {
        let frame = &plan.frames[view.view];
        let of_level = |level: usize| {
            let pixels = (frame.width * frame.height) as f64 / 4f64.powi(level as i32);
            self.features * pixels + self.depth * cost(plan, view, level) as f64
        };
        (0..levels).map(of_level).sum()
    }
}
