//! Depth maps made better by each other: a pixel's depth becomes the mean of what its own map and the source views'
//! maps say of its ray, and what they say tells how far it can be trusted.
//!
//! Errors of two maps have little in common, so the mean of five is better than each. A source says where the pixel's
//! ray meets its surface: the ray's point at the depth so far is looked up in the source's map, the point found there
//! gives another depth on the ray, and so on; on a plane each round takes the rest of the error times the slope of the
//! surface, so that a few rounds do. Means are of 1 / depth, in which errors are alike near and far. What a source says
//! counts with its confidence, and only within [`TOLERANCE_PX`] of the pixel's own depth: another surface, or a wrong
//! depth, says nothing about where this one is, but it speaks against it.

use glam::DVec3;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::maps::consistency::{DepthView, Transform, depth_at, is_depth};

/// A source's depth agrees where it moves the point by less than this in the source's map.
pub const TOLERANCE_PX: f64 = 1.5;
/// Times that the ray's point is looked up in a source's map.
const ROUNDS: usize = 3;
/// Confidence that a depth without any counts with.
const LEAST_CONFIDENCE: f64 = 1e-3;

/// What the source views say of a pixel's depth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Sources in whose map the point lies beside depths.
    pub seen: f32,
    /// Those that agree.
    pub agreeing: f32,
    /// Sum of the confidences of those that agree.
    pub sure: f32,
    /// Sum of the confidences of those that see through the point, to a surface behind it.
    pub through: f32,
    /// Sum of the confidences of those that see another surface before it.
    pub before: f32,
    /// Root of the mean squared distance between the pixel's depth and the agreeing ones, in pixels of the sources'
    /// maps; 0 where none agrees.
    pub apart_px: f32,
}

/// The reference's depths when all `sources` were heard, each the mean of its own and the agreeing ones, and for every
/// pixel what `judge` makes of its confidence and of what was heard. What is no depth stays, and is not judged.
///
/// # Errors
/// [`Error::Bug`] where a view's depth and confidence differ in size.
pub fn hear<J: Copy + Default + Send>(
    reference: &DepthView,
    sources: &[&DepthView],
    judge: impl Fn(f32, &Heard) -> J + Sync,
) -> Result<(Map, Vec<J>)> {
    for view in sources.iter().copied().chain([reference]) {
        check(view)?;
    }
    let width = reference.depth.width.max(1);
    let mut depth = reference.depth.clone();
    let mut judged = vec![J::default(); depth.data.len()];
    let pairs: Vec<Pair> = sources.iter().map(|source| Pair::new(reference, source)).collect();
    let rows = depth.data.par_chunks_mut(width).zip(judged.par_chunks_mut(width));
    rows.enumerate().for_each(|(y, (depth, judged))| {
        let confidence = &reference.confidence.data[y * width..];
        for (x, ((depth, judged), &confidence)) in depth.iter_mut().zip(judged).zip(confidence).enumerate() {
            if is_depth(*depth) {
                let (mean, heard) = of_pixel(&pairs, (x, y), *depth, confidence);
                *judged = judge(confidence, &heard);
                *depth = mean;
            }
        }
    });
    Ok((depth, judged))
}

/// That depth and confidence of a view belong together.
pub(crate) fn check(view: &DepthView) -> Result<()> {
    let [depth, confidence] = [view.depth, view.confidence].map(|m| (m.width, m.height, m.data.len()));
    if depth != confidence {
        let problem = "depth and confidence of one view differ in size".into();
        return Err(Error::Bug { place: "maps that hear each other", problem });
    }
    Ok(())
}

/// The mean depth of a pixel, and what was heard of it.
fn of_pixel(pairs: &[Pair], at: (usize, usize), depth: f32, confidence: f32) -> (f32, Heard) {
    let own = 1.0 / f64::from(depth);
    let (mut weight, mut sum, mut apart) = (weight_of(confidence), 0.0, 0.0);
    let mut heard = Heard::default();
    for said in pairs.iter().filter_map(|pair| pair.says(at, own)) {
        heard.seen += 1.0;
        match said {
            Said::Agrees { rho, apart_px, confidence } => {
                let more = weight_of(confidence);
                sum += more * (rho - own);
                weight += more;
                apart += apart_px * apart_px;
                heard.agreeing += 1.0;
                heard.sure += confidence;
            }
            Said::SeesThrough(confidence) => heard.through += confidence,
            Said::SeesBefore(confidence) => heard.before += confidence,
        }
    }
    if heard.agreeing == 0.0 {
        return (depth, heard);
    }
    heard.apart_px = (apart / f64::from(heard.agreeing)).sqrt() as f32;
    ((1.0 / (own + sum / weight)) as f32, heard)
}

/// NaN is no confidence at all.
fn weight_of(confidence: f32) -> f64 {
    f64::from(confidence).max(LEAST_CONFIDENCE)
}

/// What one source says of a point.
enum Said {
    /// Its surface meets the ray nearby.
    Agrees {
        /// 1 / depth on the ray.
        rho: f64,
        /// How far that moves the point in the source's map.
        apart_px: f64,
        /// The source's.
        confidence: f32,
    },
    /// Its surface lies behind the point, with this confidence.
    SeesThrough(f32),
    /// Its surface lies before the point, with this confidence.
    SeesBefore(f32),
}

/// A reference and a source view.
struct Pair<'a> {
    there: Transform,
    back: Transform,
    source: &'a DepthView<'a>,
}

impl<'a> Pair<'a> {
    fn new(reference: &DepthView, source: &'a DepthView<'a>) -> Self {
        let there = Transform::new(&reference.camera, &source.camera);
        let back = Transform::new(&source.camera, &reference.camera);
        Self { there, back, source }
    }

    /// What the source says of the pixel at 1 / depth `own`; nothing where it does not see the point, or has no depth
    /// there.
    #[inline]
    fn says(&self, (x, y): (usize, usize), own: f64) -> Option<Said> {
        let ray = self.there.matrix * DVec3::new(x as f64, y as f64, 1.0);
        let place = |rho: f64| {
            let q = ray + self.there.shift * rho;
            (q.z > 1e-6 * rho).then(|| (q.x / q.z, q.y / q.z, q.z / rho))
        };
        let (u0, v0, expected) = place(own)?;
        let there = depth_at(self.source.depth, u0, v0)?;
        let nearest = v0.round() as usize * self.source.confidence.width + u0.round() as usize;
        let confidence = self.source.confidence.data.get(nearest).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        let confidence = if confidence.is_nan() { 0.0 } else { confidence };
        Some(match self.meets((u0, v0), there, place) {
            Some((rho, apart_px)) => Said::Agrees { rho, apart_px, confidence },
            None if there > expected => Said::SeesThrough(confidence),
            None => Said::SeesBefore(confidence),
        })
    }

    /// 1 / depth at which the source's surface meets the ray, from the depth `found` at a place in the source on, and
    /// how far that is from the place.
    #[inline]
    fn meets(
        &self,
        from: (f64, f64),
        mut found: f64,
        place: impl Fn(f64) -> Option<(f64, f64, f64)>,
    ) -> Option<(f64, f64)> {
        let (mut u, mut v) = from;
        let (mut rho, mut apart) = (0.0, 0.0);
        for round in 0..ROUNDS {
            if round > 0 {
                found = depth_at(self.source.depth, u, v)?;
            }
            let depth = found * self.back.matrix.row(2).dot(DVec3::new(u, v, 1.0)) + self.back.shift.z;
            if depth <= 1e-6 {
                return None;
            }
            rho = 1.0 / depth;
            (u, v, _) = place(rho)?;
            // A sum and a root, which every device rounds alike, as it does not `hypot`.
            let (du, dv) = (u - from.0, v - from.1);
            apart = (du * du + dv * dv).sqrt();
            // The first round comes near enough to leave out all that is far away.
            if apart.is_nan() || apart >= if round == 0 { 2.0 * TOLERANCE_PX } else { TOLERANCE_PX } {
                return None;
            }
        }
        Some((rho, apart))
    }
}
