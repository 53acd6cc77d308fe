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

/// The view that is measured, unless the plan's are smaller: large enough that all threads have work, small enough for
/// a second.
const SIZE: Size = Size { width: 640, height: 480, planes: 48, views: 3 };
/// The smallest that is measured. Sides are multiples of this.
const LEAST: usize = 32;
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
    /// Measures it on a view as large as the largest of a plan, or on a smaller one where that would take long.
    ///
    /// # Errors
    /// The network's.
    pub fn measure<N: DepthNetwork>(network: &N, resolution: Resolution, plan: &Plan) -> Result<Self> {
        let frames = || plan.views.iter().map(|view| &plan.frames[view.view]);
        let side = |most: usize, sides: &mut dyn Iterator<Item = usize>| {
            sides.max().unwrap_or(most).next_multiple_of(LEAST).min(most)
        };
        let size = Size {
            width: side(SIZE.width, &mut frames().map(|frame| frame.width)),
            height: side(SIZE.height, &mut frames().map(|frame| frame.height)),
            planes: plan.views.iter().map(|view| view.planes).max().unwrap_or(SIZE.planes).min(SIZE.planes),
            views: SIZE.views,
        };
        let least = |of: fn(&Size) -> usize| of(&size).min(of(&WARM_UP));
        let warm_up = Size {
            width: least(|size| size.width),
            height: least(|size| size.height),
            planes: least(|size| size.planes),
            views: WARM_UP.views,
        };
        Self::of_a_view(network, resolution, warm_up)?;
        Self::of_a_view(network, resolution, size)
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
