//! How good depth maps are: distances, shares of pixels, and what the confidence is worth.
//!
//! A pixel counts where the truth is finite and > 0. Where it counts but the map has no depth (not finite, or not > 0;
//! the network always gives one, a filtered map does not), it is wrong in every share, and no part of means and
//! medians. Confidence is taken as 0 where it is not a number, and clamped to 0..1.
//!
//! **Order.** Sums are kept in fixed point and everything else in counts, so that the same pixels give the same bits in
//! whatever order and on however many threads they were added and merged.
//!
//! **Calibration.** The confidence is the network's probability of the four hypotheses around the expected depth: one
//! to two intervals to either side of it. A pixel is therefore *right* where its error is under [`RIGHT_INTERVALS`] =
//! 2 intervals, and the confidence is calibrated where, of the pixels with confidence 0.7, 70 % are right. The
//! interval is the mean one, (far - near) / (planes - 1), as in the loss; for inverse sampling the planes lie closer
//! than that near the camera and wider far from it, so right is a little lenient near and strict far away.

use serde::Serialize;

use super::sums::{Errors, Sum, add_counts, tally};
use crate::error::{Error, Result};
use crate::files::map::Map;

/// Shares are told of the pixels whose error is under so many scene units (millimetres on DTU).
pub const WITHIN_UNITS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Shares are told of the pixels whose error is under so many hypothesis intervals.
pub const WITHIN_INTERVALS: [f64; 2] = [1.0, 3.0];
/// Shares are told of the pixels whose error is under so much of the true depth.
pub const WITHIN_RELATIVE: [f64; 3] = [0.002, 0.005, 0.01];
/// A pixel is right, as far as its confidence is concerned, with an error under so many intervals.
pub const RIGHT_INTERVALS: f64 = 2.0;
/// A pixel is confident with more than this: the fusion's default `--min-confidence`.
pub const CONFIDENT: f64 = 0.8;
/// Bins of the calibration, all of one width.
pub const CALIBRATION_BINS: usize = 10;

/// Relative errors are counted in bins each of which ends 1 % above its beginning, so that a median is known to 0.5 %.
const RELATIVE_RATIO: f64 = 1.01;
/// Where the first of these bins ends; what lies below counts as no error.
const RELATIVE_LEAST: f64 = 1e-9;
/// Reaches to an error of 1000 times the depth.
pub(crate) const RELATIVE_BINS: usize = 2780;

/// For the risk at a coverage, pixels are sorted by confidence into bins even in log-odds, ln(c / (1 - c)): most
/// confidences of a trained network lie near 1, where even bins in c would throw them all together.
const ODDS_BINS: usize = 4096;
/// Log-odds where the bins end: those of the largest f32 under 1 are 16.6.
const ODDS_MOST: f64 = 17.0;

/// One pixel with a truth, measured once for however many accumulators it goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pixel {
    confidence: f64,
    pub(crate) error: Option<PixelError>,
}

/// Of a pixel with a depth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PixelError {
    pub(crate) units: f64,
    pub(crate) intervals: f64,
    pub(crate) relative: f64,
}

impl Pixel {
    /// `None` where there is no truth.
    pub(crate) fn new(depth: f32, confidence: f32, truth: f32, interval: f64) -> Option<Self> {
        let is_depth = |d: f32| d.is_finite() && d > 0.0;
        let error = is_depth(depth).then(|| {
            let units = (f64::from(depth) - f64::from(truth)).abs();
            PixelError { units, intervals: units / interval, relative: units / f64::from(truth) }
        });
        let confidence = if confidence.is_nan() { 0.0 } else { f64::from(confidence).clamp(0.0, 1.0) };
        is_depth(truth).then_some(Self { confidence, error })
    }
}

/// Whether maps and interval can be measured.
///
/// # Errors
/// [`Error::Shape`] where not.
pub(crate) fn check(maps: &[(&str, &Map)], interval: f64) -> Result<()> {
    let size = |m: &Map| (m.width, m.height);
    let first = maps.first().map_or((0, 0), |(_, map)| size(map));
    if maps.iter().any(|(_, m)| size(m) != first || m.data.len() != m.width * m.height) {
        let sizes: Vec<_> = maps.iter().map(|(n, m)| format!("{n} of {} x {}", m.width, m.height)).collect();
        let problem = format!("{}; expected maps of one size", sizes.join(", "));
        return Err(Error::Shape { op: "metrics", problem });
    }
    if !(interval.is_finite() && interval > 0.0) {
        let problem = format!("an interval of {interval}; expected a finite number > 0");
        return Err(Error::Shape { op: "metrics", problem });
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Calibration {
    pixels: u64,
    right: u64,
    confidence: Sum,
}

/// Collects pixels of any number of views; see the head of the file for what counts.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMetrics {
    pixels: u64,
    with_depth: u64,
    units: Sum,
    intervals: Sum,
    within_units: [u64; WITHIN_UNITS.len()],
    within_intervals: [u64; WITHIN_INTERVALS.len()],
    within_relative: [u64; WITHIN_RELATIVE.len()],
    /// Pixels by relative error, see [`RELATIVE_RATIO`].
    relative: Vec<u64>,
    calibration: [Calibration; CALIBRATION_BINS],
    confident: u64,
    confident_errors: Errors,
    /// Pixels with a depth by confidence, see [`ODDS_BINS`].
    risk: Vec<Errors>,
}

impl Default for DepthMetrics {
    fn default() -> Self {
        Self {
            pixels: 0,
            with_depth: 0,
            units: Sum::default(),
            intervals: Sum::default(),
            within_units: Default::default(),
            within_intervals: Default::default(),
            within_relative: Default::default(),
            relative: vec![0; RELATIVE_BINS],
            calibration: Default::default(),
            confident: 0,
            confident_errors: Errors::default(),
            risk: vec![Errors::default(); ODDS_BINS],
        }
    }
}

impl DepthMetrics {
    /// Of no pixel yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the pixels of a view; `interval` is its mean distance of two hypotheses in scene units.
    ///
    /// # Errors
    /// [`Error::Shape`] where the maps differ in size or the interval is not a finite number > 0; nothing is added
    /// then.
    pub fn add(&mut self, depth: &Map, confidence: &Map, truth: &Map, interval: f64) -> Result<()> {
        check(&[("depth", depth), ("confidence", confidence), ("truth", truth)], interval)?;
        for ((&d, &c), &t) in depth.data.iter().zip(&confidence.data).zip(&truth.data) {
            if let Some(pixel) = Pixel::new(d, c, t, interval) {
                self.count(&pixel);
            }
        }
        Ok(())
    }

    /// Adds one pixel.
    pub(crate) fn count(&mut self, pixel: &Pixel) {
        let Pixel { confidence, error } = *pixel;
        let is_confident = confidence > CONFIDENT;
        self.pixels += 1;
        self.confident += u64::from(is_confident);
        let bin = &mut self.calibration[even_bin(confidence, CALIBRATION_BINS)];
        bin.pixels += 1;
        bin.confidence.add(confidence);
        let Some(PixelError { units, intervals, relative }) = error else { return };
        bin.right += u64::from(intervals < RIGHT_INTERVALS);
        self.with_depth += 1;
        self.units.add(units);
        self.intervals.add(intervals);
        tally(&mut self.within_units, &WITHIN_UNITS, units);
        tally(&mut self.within_intervals, &WITHIN_INTERVALS, intervals);
        tally(&mut self.within_relative, &WITHIN_RELATIVE, relative);
        self.relative[relative_bin(relative)] += 1;
        self.risk[odds_bin(confidence)].add(intervals);
        if is_confident {
            self.confident_errors.add(intervals);
        }
    }

    /// Adds what another has collected.
    pub fn merge(&mut self, other: &Self) {
        self.pixels += other.pixels;
        self.with_depth += other.with_depth;
        self.units.merge(other.units);
        self.intervals.merge(other.intervals);
        add_counts(&mut self.within_units, &other.within_units);
        add_counts(&mut self.within_intervals, &other.within_intervals);
        add_counts(&mut self.within_relative, &other.within_relative);
        add_counts(&mut self.relative, &other.relative);
        for (to, from) in self.calibration.iter_mut().zip(&other.calibration) {
            to.pixels += from.pixels;
            to.right += from.right;
            to.confidence.merge(from.confidence);
        }
        self.confident += other.confident;
        self.confident_errors.merge(other.confident_errors);
        self.risk.iter_mut().zip(&other.risk).for_each(|(to, from)| to.merge(*from));
    }

    /// Pixels with a truth so far.
    pub fn pixels(&self) -> u64 {
        self.pixels
    }

    /// What the pixels so far say.
    pub fn summary(&self) -> MetricsSummary {
        let share = |count: u64| (self.pixels > 0).then(|| count as f64 / self.pixels as f64);
        let calibration: Vec<_> = (0..CALIBRATION_BINS).map(|bin| self.calibration_bin(bin)).collect();
        let gap = |bin: &CalibrationBin| match (bin.mean_confidence, bin.right_share) {
            (Some(confidence), Some(right)) => bin.pixels as f64 * (confidence - right).abs(),
            _ => 0.0,
        };
        let (risk, area) = self.risk_coverage();
        MetricsSummary {
            pixels: self.pixels,
            pixels_without_depth: self.pixels - self.with_depth,
            mean_error_units: self.units.mean(self.with_depth),
            mean_error_intervals: self.intervals.mean(self.with_depth),
            within_1_unit: share(self.within_units[0]),
            within_2_units: share(self.within_units[1]),
            within_4_units: share(self.within_units[2]),
            within_8_units: share(self.within_units[3]),
            within_1_interval: share(self.within_intervals[0]),
            within_3_intervals: share(self.within_intervals[1]),
            median_error_rel: self.median(),
            within_0_2_percent: share(self.within_relative[0]),
            within_0_5_percent: share(self.within_relative[1]),
            within_1_percent: share(self.within_relative[2]),
            confident_share: share(self.confident),
            confident_mean_error_intervals: self.confident_errors.sum.mean(self.confident_errors.pixels),
            calibration_error: (self.pixels > 0).then(|| calibration.iter().map(gap).sum::<f64>() / self.pixels as f64),
            calibration,
            area_under_risk_intervals: area,
            risk_coverage: risk,
        }
    }

    fn calibration_bin(&self, bin: usize) -> CalibrationBin {
        let Calibration { pixels, right, confidence } = self.calibration[bin];
        let edge = |bin: usize| bin as f64 / CALIBRATION_BINS as f64;
        CalibrationBin {
            from_confidence: edge(bin),
            to_confidence: edge(bin + 1),
            pixels,
            mean_confidence: confidence.mean(pixels),
            right_share: (pixels > 0).then(|| right as f64 / pixels as f64),
        }
    }

    /// The lower median of the relative error.
    fn median(&self) -> Option<f64> {
        let mut before = 0;
        let bin = self.relative.iter().position(|count| {
            before += count;
            2 * before >= self.with_depth && before > 0
        })?;
        let middle = RELATIVE_LEAST * RELATIVE_RATIO.powf(bin as f64 - 0.5);
        Some(if bin == 0 { 0.0 } else { middle })
    }

    fn risk_coverage(&self) -> (Vec<RiskPoint>, Option<f64>) {
        let bins = self.risk.iter().rev().map(|bin| (bin.pixels, bin.sum.value()));
        let (points, area) = risk_curve(bins, self.with_depth);
        let point = |(i, mean)| RiskPoint { coverage_percent: 10 * (i as u32 + 1), mean_error_intervals: mean };
        (points.into_iter().enumerate().map(point).collect(), area)
    }
}

/// The risk at 10, 20, ... 100 % coverage of `total` pixels, and its mean over all coverages; `None` where there are
/// no pixels. `bins` have pixels and their sum of errors, those that are kept first in front. Within a bin, pixels
/// count as if each had the bin's mean error, which makes the curve continuous: risk(k) = (S + m (k - n)) / k for the
/// first k pixels, with n pixels and their sum of errors S before the bin. Its integral is closed.
pub(crate) fn risk_curve(bins: impl Iterator<Item = (u64, f64)>, total: u64) -> ([Option<f64>; 10], Option<f64>) {
    let mut points = [None; 10];
    let (mut n, mut sum, mut area) = (0.0, 0.0, 0.0);
    let mut next = 0;
    for (count, errors) in bins.filter(|&(pixels, _)| pixels > 0) {
        let count = count as f64;
        let mean = errors / count;
        while let Some(point) = points.get_mut(next) {
            let kept = total as f64 * (10.0 * (next as f64 + 1.0)) / 100.0;
            if kept > n + count {
                break;
            }
            *point = Some((sum + mean * (kept - n)) / kept);
            next += 1;
        }
        area += errors + if n > 0.0 { (sum - mean * n) * ((n + count) / n).ln() } else { 0.0 };
        n += count;
        sum += errors;
    }
    (points, (n > 0.0).then(|| area / n))
}

/// The bin of a value 0..1 among bins of one width; 1 lies in the last.
fn even_bin(value: f64, bins: usize) -> usize {
    ((value * bins as f64) as usize).min(bins - 1)
}

pub(crate) fn relative_bin(relative: f64) -> usize {
    if relative <= RELATIVE_LEAST {
        return 0;
    }
    let steps = (relative / RELATIVE_LEAST).ln() / RELATIVE_RATIO.ln();
    (1 + steps as usize).min(RELATIVE_BINS - 1)
}

fn odds_bin(confidence: f64) -> usize {
    let odds = (confidence / (1.0 - confidence)).ln().clamp(-ODDS_MOST, ODDS_MOST);
    even_bin((odds + ODDS_MOST) / (2.0 * ODDS_MOST), ODDS_BINS)
}

/// What [`DepthMetrics`] has found. Shares are 0..1 of the pixels with a truth; what nothing was counted for is
/// `None`, in JSON `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricsSummary {
    /// Pixels with a truth.
    pub pixels: u64,
    /// Those of them without a depth.
    pub pixels_without_depth: u64,
    /// Mean |depth - truth| in scene units (millimetres on DTU).
    pub mean_error_units: Option<f64>,
    /// Mean |depth - truth| in hypothesis intervals.
    pub mean_error_intervals: Option<f64>,
    /// Share with an error under 1 scene unit.
    pub within_1_unit: Option<f64>,
    /// Share with an error under 2 scene units.
    pub within_2_units: Option<f64>,
    /// Share with an error under 4 scene units.
    pub within_4_units: Option<f64>,
    /// Share with an error under 8 scene units.
    pub within_8_units: Option<f64>,
    /// Share with an error under 1 interval.
    pub within_1_interval: Option<f64>,
    /// Share with an error under 3 intervals.
    pub within_3_intervals: Option<f64>,
    /// Median of |depth - truth| / truth, to 0.5 % of itself.
    pub median_error_rel: Option<f64>,
    /// Share with an error under 0.2 % of the depth.
    pub within_0_2_percent: Option<f64>,
    /// Share with an error under 0.5 % of the depth.
    pub within_0_5_percent: Option<f64>,
    /// Share with an error under 1 % of the depth.
    pub within_1_percent: Option<f64>,
    /// Share with a confidence over [`CONFIDENT`].
    pub confident_share: Option<f64>,
    /// Mean |depth - truth| of those, in intervals.
    pub confident_mean_error_intervals: Option<f64>,
    /// Expected calibration error: mean over the pixels of |mean confidence - share of right pixels| of their bin.
    pub calibration_error: Option<f64>,
    /// Confidence against truth, bin by bin.
    pub calibration: Vec<CalibrationBin>,
    /// Area under the risk-coverage curve: the mean over all coverages of the risk, in intervals. Smaller is better;
    /// it is the mean error where confidence says nothing.
    pub area_under_risk_intervals: Option<f64>,
    /// The curve at 10, 20, ... 100 %.
    pub risk_coverage: Vec<RiskPoint>,
}

impl MetricsSummary {
    /// The numbers that are worth a curve, with their names; what is not known is left out.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let known = |(name, value): (&'static str, Option<f64>)| value.map(|value| (name, value));
        let all = [
            ("mean_error_units", self.mean_error_units),
            ("mean_error_intervals", self.mean_error_intervals),
            ("within_1_unit", self.within_1_unit),
            ("within_2_units", self.within_2_units),
            ("within_4_units", self.within_4_units),
            ("within_8_units", self.within_8_units),
            ("within_1_interval", self.within_1_interval),
            ("within_3_intervals", self.within_3_intervals),
            ("median_error_rel", self.median_error_rel),
            ("within_0_2_percent", self.within_0_2_percent),
            ("within_0_5_percent", self.within_0_5_percent),
            ("within_1_percent", self.within_1_percent),
            ("confident_share", self.confident_share),
            ("confident_mean_error_intervals", self.confident_mean_error_intervals),
            ("calibration_error", self.calibration_error),
            ("area_under_risk_intervals", self.area_under_risk_intervals),
        ];
        all.into_iter().filter_map(known).collect()
    }
}

/// The pixels of a bin of confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// The bin's lower end, which it includes.
    pub from_confidence: f64,
    /// The bin's upper end, which only the last includes.
    pub to_confidence: f64,
    /// Pixels with a truth and such a confidence.
    pub pixels: u64,
    /// Their mean confidence.
    pub mean_confidence: Option<f64>,
    /// Share of them that is right, see [`RIGHT_INTERVALS`].
    pub right_share: Option<f64>,
}

/// What is wrong when only the most confident pixels are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RiskPoint {
    /// How many of the pixels with a depth are kept.
    pub coverage_percent: u32,
    /// Their mean |depth - truth| in intervals.
    pub mean_error_intervals: Option<f64>,
}
