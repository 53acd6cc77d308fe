//! How far depth maps are from maps of the true depth, with or without knowing the hypotheses that they were made of.
//!
//! The measures of training's validation ([`super::depth_metrics`]) are in hypothesis intervals, which only a map with
//! a known range and number of planes has. Here the same questions are asked in scene units and in shares of the true
//! depth as well; where intervals are known for all views, training's measures are part of the answer.
//!
//! **Does the confidence know?** Keep the most confident share of the pixels (the coverage): the mean relative error
//! of what is kept is the risk. The area under the curve of risk over coverage is compared with two others: the
//! oracle's, which keeps the pixels with the smallest errors first and cannot be beaten, and the mean error, which is
//! the area where the confidence says nothing. `confidence_skill` = (mean - area) / (mean - oracle) is 1 for the
//! oracle, 0 for chance, and negative where confident pixels are worse than others.
//!
//! What counts as a pixel, and that sums have the same bits in any order, is as in [`super::depth_metrics`].

use serde::Serialize;

use super::depth_metrics::{
    CalibrationBin, DepthMetrics, MetricsSummary, Pixel, RELATIVE_BINS, check, relative_bin, risk_curve,
};
use super::sums::{Errors, Sum, add_counts, tally};
use crate::error::Result;
use crate::files::map::Map;

/// Shares are told of the pixels with an error under so many intervals.
pub const WITHIN_INTERVALS: [f64; 3] = [1.0, 2.0, 4.0];
/// Shares are told of the pixels with an error under so much of the true depth.
pub const WITHIN_RELATIVE: [f64; 4] = [0.002, 0.005, 0.01, 0.02];
/// Without intervals, a pixel is right with an error under this share of the depth: the fusion's default tolerance.
pub const RIGHT_RELATIVE: f64 = 0.01;
/// The histogram has so many bins to a factor of 10.
pub const BINS_PER_DECADE: usize = 10;
/// The histogram's first bin begins at 10 to this power, and has all smaller errors too.
pub const HISTOGRAM_FROM: i32 = -5;
/// The histogram's last bin ends at 10 to this power, and has all larger errors too.
pub const HISTOGRAM_TO: i32 = 0;

const HISTOGRAM_BINS: usize = (HISTOGRAM_TO - HISTOGRAM_FROM) as usize * BINS_PER_DECADE;

/// For the median in scene units: bins each of which ends 1 % above its beginning, from 1e-12 to 1e12.
const UNITS_RATIO: f64 = 1.01;
const UNITS_LEAST: f64 = 1e-12;
const UNITS_BINS: usize = 5556;

/// Collects the pixels of any number of views.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthErrors {
    /// In intervals of half of `RIGHT_RELATIVE` of each pixel's depth: two of them, which make a pixel right, are
    /// [`RIGHT_RELATIVE`].
    relative: DepthMetrics,
    /// As training's validation measures, as long as every view has an interval.
    validation: Option<DepthMetrics>,
    has_confidence: bool,
    pixels: u64,
    with_depth: u64,
    units: Sum,
    units_bins: Vec<u64>,
    within_intervals: [u64; WITHIN_INTERVALS.len()],
    within_relative: [u64; WITHIN_RELATIVE.len()],
    /// Relative errors by themselves, finely, for the oracle.
    sorted: Vec<Errors>,
    histogram: Vec<u64>,
}

/// The interval of [`DepthErrors::relative`], as a share of the depth.
const RELATIVE_INTERVAL: f64 = RIGHT_RELATIVE / super::depth_metrics::RIGHT_INTERVALS;

impl Default for DepthErrors {
    fn default() -> Self {
        Self {
            relative: DepthMetrics::new(),
            validation: Some(DepthMetrics::new()),
            has_confidence: true,
            pixels: 0,
            with_depth: 0,
            units: Sum::default(),
            units_bins: vec![0; UNITS_BINS],
            within_intervals: Default::default(),
            within_relative: Default::default(),
            sorted: vec![Errors::default(); RELATIVE_BINS],
            histogram: vec![0; HISTOGRAM_BINS],
        }
    }
}

impl DepthErrors {
    /// Of no pixel yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the pixels of a view. `interval` is its mean distance of two hypotheses in scene units. Once a view
    /// without an interval or without confidence was added, there is no answer to what needs it.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the maps differ in size or the interval is not a finite number > 0; nothing is
    /// added then.
    pub fn add(&mut self, depth: &Map, confidence: Option<&Map>, truth: &Map, interval: Option<f64>) -> Result<()> {
        let mut maps = vec![("depth", depth), ("truth", truth)];
        maps.extend(confidence.map(|map| ("confidence", map)));
        check(&maps, interval.unwrap_or(1.0))?;
        if interval.is_none() {
            self.validation = None;
        }
        self.has_confidence &= confidence.is_some();
        for (i, (&d, &t)) in depth.data.iter().zip(&truth.data).enumerate() {
            let c = confidence.map_or(0.0, |map| map.data[i]);
            let Some(pixel) = Pixel::new(d, c, t, f64::from(t) * RELATIVE_INTERVAL) else { continue };
            self.relative.count(&pixel);
            self.pixels += 1;
            let in_intervals = interval.and_then(|interval| Pixel::new(d, c, t, interval));
            if let (Some(metrics), Some(pixel)) = (&mut self.validation, &in_intervals) {
                metrics.count(pixel);
            }
            let Some(error) = pixel.error else { continue };
            self.with_depth += 1;
            self.units.add(error.units);
            self.units_bins[units_bin(error.units)] += 1;
            tally(&mut self.within_relative, &WITHIN_RELATIVE, error.relative);
            if let Some(error) = in_intervals.and_then(|pixel| pixel.error) {
                tally(&mut self.within_intervals, &WITHIN_INTERVALS, error.intervals);
            }
            self.sorted[relative_bin(error.relative)].add(error.relative);
            self.histogram[histogram_bin(error.relative)] += 1;
        }
        Ok(())
    }

    /// Adds what another has collected.
    pub fn merge(&mut self, other: &Self) {
        self.relative.merge(&other.relative);
        match (&mut self.validation, &other.validation) {
            (Some(to), Some(from)) => to.merge(from),
            (validation, _) => *validation = None,
        }
        self.has_confidence &= other.has_confidence;
        self.pixels += other.pixels;
        self.with_depth += other.with_depth;
        self.units.merge(other.units);
        add_counts(&mut self.units_bins, &other.units_bins);
        add_counts(&mut self.within_intervals, &other.within_intervals);
        add_counts(&mut self.within_relative, &other.within_relative);
        add_counts(&mut self.histogram, &other.histogram);
        self.sorted.iter_mut().zip(&other.sorted).for_each(|(to, from)| to.merge(*from));
    }

    /// What the pixels so far say.
    pub fn summary(&self) -> DepthSummary {
        let share = |count: u64| (self.pixels > 0).then(|| count as f64 / self.pixels as f64);
        let relative = self.relative.summary();
        let in_depths = |intervals: Option<f64>| intervals.map(|i| i * RELATIVE_INTERVAL);
        let mean = in_depths(relative.mean_error_intervals);
        let (oracle, oracle_area) =
            risk_curve(self.sorted.iter().map(|bin| (bin.pixels, bin.sum.value())), self.with_depth);
        let known = self.validation.is_some();
        let validation = self.validation.as_ref().filter(|_| self.has_confidence).map(DepthMetrics::summary);
        let calibrated = validation.as_ref().unwrap_or(&relative);
        let area = in_depths(relative.area_under_risk_intervals);
        let skill = match (mean, area, oracle_area) {
            (Some(mean), Some(area), Some(oracle)) if mean > oracle => Some((mean - area) / (mean - oracle)),
            _ => None,
        };
        let confidence = self.has_confidence.then(|| ConfidenceSummary {
            confident_share: relative.confident_share,
            confident_mean_error_rel: in_depths(relative.confident_mean_error_intervals),
            right: match known {
                true => format!("an error under {} intervals", super::depth_metrics::RIGHT_INTERVALS),
                false => format!("an error under {} % of the depth", 100.0 * RIGHT_RELATIVE),
            },
            calibration_error: calibrated.calibration_error,
            calibration: calibrated.calibration.clone(),
            risk_coverage: relative
                .risk_coverage
                .iter()
                .zip(oracle)
                .map(|(point, oracle)| RelativeRisk {
                    coverage_percent: point.coverage_percent,
                    mean_error_rel: in_depths(point.mean_error_intervals),
                    oracle_mean_error_rel: oracle,
                })
                .collect(),
            area_under_risk_rel: area,
            oracle_area_rel: oracle_area,
            confidence_skill: skill,
        });
        let within = |i: usize| if known { share(self.within_intervals[i]) } else { None };
        DepthSummary {
            pixels: self.pixels,
            pixels_without_depth: self.pixels - self.with_depth,
            mean_error_units: self.units.mean(self.with_depth),
            median_error_units: self.median_units(),
            mean_error_rel: mean,
            median_error_rel: relative.median_error_rel,
            within_1_interval: within(0),
            within_2_intervals: within(1),
            within_4_intervals: within(2),
            within_0_2_percent: share(self.within_relative[0]),
            within_0_5_percent: share(self.within_relative[1]),
            within_1_percent: share(self.within_relative[2]),
            within_2_percent: share(self.within_relative[3]),
            histogram: (0..HISTOGRAM_BINS).map(|bin| self.histogram_bar(bin)).collect(),
            confidence,
            validation,
        }
    }

    /// The lower median of |depth - truth| in scene units, to 0.5 % of itself.
    fn median_units(&self) -> Option<f64> {
        let mut before = 0;
        let bin = self.units_bins.iter().position(|count| {
            before += count;
            2 * before >= self.with_depth && before > 0
        })?;
        let middle = UNITS_LEAST * UNITS_RATIO.powf(bin as f64 - 0.5);
        Some(if bin == 0 { 0.0 } else { middle })
    }

    fn histogram_bar(&self, bin: usize) -> HistogramBar {
        let edge = |bin: usize| 10f64.powf(f64::from(HISTOGRAM_FROM) + bin as f64 / BINS_PER_DECADE as f64);
        HistogramBar { from_rel: edge(bin), to_rel: edge(bin + 1), pixels: self.histogram[bin] }
    }
}

fn units_bin(units: f64) -> usize {
    if units <= UNITS_LEAST {
        return 0;
    }
    let steps = (units / UNITS_LEAST).ln() / UNITS_RATIO.ln();
    (1 + steps as usize).min(UNITS_BINS - 1)
}

fn histogram_bin(relative: f64) -> usize {
    // No error at all has a logarithm of minus infinity, which the cast makes 0.
    let place = (relative.log10() - f64::from(HISTOGRAM_FROM)) * BINS_PER_DECADE as f64;
    (place as usize).min(HISTOGRAM_BINS - 1)
}

/// What [`DepthErrors`] has found. Shares are 0..1 of the pixels with a truth, so that a pixel without a depth is
/// never within anything; means and medians are of the pixels with a depth. What nothing was counted for is `None`, in
/// JSON `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DepthSummary {
    /// Pixels with a truth.
    pub pixels: u64,
    /// Those of them without a depth.
    pub pixels_without_depth: u64,
    /// Mean |depth - truth| in scene units.
    pub mean_error_units: Option<f64>,
    /// Median |depth - truth| in scene units, to 0.5 % of itself.
    pub median_error_units: Option<f64>,
    /// Mean |depth - truth| / truth.
    pub mean_error_rel: Option<f64>,
    /// Median |depth - truth| / truth, to 0.5 % of itself.
    pub median_error_rel: Option<f64>,
    /// Share with an error under 1 interval.
    pub within_1_interval: Option<f64>,
    /// Share with an error under 2 intervals.
    pub within_2_intervals: Option<f64>,
    /// Share with an error under 4 intervals.
    pub within_4_intervals: Option<f64>,
    /// Share with an error under 0.2 % of the depth.
    pub within_0_2_percent: Option<f64>,
    /// Share with an error under 0.5 % of the depth.
    pub within_0_5_percent: Option<f64>,
    /// Share with an error under 1 % of the depth.
    pub within_1_percent: Option<f64>,
    /// Share with an error under 2 % of the depth.
    pub within_2_percent: Option<f64>,
    /// Pixels with a depth by relative error.
    pub histogram: Vec<HistogramBar>,
    /// What the confidence is worth; `None` where some view has none.
    pub confidence: Option<ConfidenceSummary>,
    /// The measures of training's validation; `None` where some view has no known interval or no confidence.
    pub validation: Option<MetricsSummary>,
}

/// Pixels whose relative error lies between two limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HistogramBar {
    /// The lower limit, included; the first bar has smaller errors too.
    pub from_rel: f64,
    /// The upper limit; the last bar has larger errors too.
    pub to_rel: f64,
    /// How many there are.
    pub pixels: u64,
}

/// What the confidence is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfidenceSummary {
    /// Share of the pixels with a confidence over 0.8.
    pub confident_share: Option<f64>,
    /// Their mean |depth - truth| / truth.
    pub confident_mean_error_rel: Option<f64>,
    /// When a pixel is right in `calibration`.
    pub right: String,
    /// Expected calibration error: mean over the pixels of |mean confidence - share of right pixels| of their bin.
    pub calibration_error: Option<f64>,
    /// Confidence against truth, bin by bin.
    pub calibration: Vec<CalibrationBin>,
    /// The mean relative error of the most confident pixels, at 10, 20, ... 100 % of the pixels with a depth.
    pub risk_coverage: Vec<RelativeRisk>,
    /// The risk's mean over all coverages; smaller is better.
    pub area_under_risk_rel: Option<f64>,
    /// The same if the pixels with the smallest errors were kept first.
    pub oracle_area_rel: Option<f64>,
    /// (mean error - area) / (mean error - oracle's area): 1 where confidence orders the pixels as their errors do, 0
    /// where it says nothing.
    pub confidence_skill: Option<f64>,
}

/// The risk at a coverage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RelativeRisk {
    /// How many of the pixels with a depth are kept.
    pub coverage_percent: u32,
    /// Mean |depth - truth| / truth of the most confident ones.
    pub mean_error_rel: Option<f64>,
    /// The same of those with the smallest errors.
    pub oracle_mean_error_rel: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Map {
        Map { width: values.len(), height: 1, data: values.to_vec() }
    }

    #[test]
    fn errors_are_told_in_every_unit() {
        // Errors of 0, 1, 3 and none: 0, 1 %, 3 % of 100; the last pixel has no truth.
        let (depth, truth) = (row(&[100.0, 101.0, 97.0, 0.0, 5.0]), row(&[100.0, 100.0, 100.0, 100.0, 0.0]));
        let confidence = row(&[0.95, 0.85, 0.2, 0.9, 0.9]);
        let mut errors = DepthErrors::new();
        errors.add(&depth, Some(&confidence), &truth, Some(2.0)).unwrap();
        let found = errors.summary();
        assert_eq!((found.pixels, found.pixels_without_depth), (4, 1));
        let near = |found: Option<f64>, expected: f64| {
            let found = found.unwrap();
            assert!((found - expected).abs() <= 1e-12 + 0.006 * expected, "{found} {expected}");
        };
        near(found.mean_error_units, 4.0 / 3.0);
        near(found.median_error_units, 1.0);
        near(found.mean_error_rel, 0.04 / 3.0);
        near(found.median_error_rel, 0.01);
        assert_eq!(
            (found.within_1_interval, found.within_2_intervals, found.within_4_intervals),
            (Some(0.5), Some(0.75), Some(0.75))
        );
        assert_eq!((found.within_0_5_percent, found.within_2_percent), (Some(0.25), Some(0.5)));
        assert_eq!(found.histogram.iter().map(|bar| bar.pixels).sum::<u64>(), 3);
        // 1 % and 3 % lie in the bars that begin there or just below.
        let bar = |e: f64| found.histogram.iter().find(|b| b.from_rel <= e * 1.001 && e < b.to_rel).unwrap();
        assert_eq!((bar(0.0302).pixels, found.histogram[0].pixels), (1, 1));

        let known = found.confidence.unwrap();
        assert_eq!(known.confident_share, Some(0.75));
        // Sorted by confidence the errors are 0, 1, 3 %, as the oracle has them.
        assert!((known.confidence_skill.unwrap() - 1.0).abs() < 1e-9, "{known:?}");
        near(known.risk_coverage[9].mean_error_rel, 0.04 / 3.0);
        assert_eq!(found.validation.unwrap().within_1_interval, Some(0.5));
    }

    #[test]
    fn a_confidence_that_misleads_has_a_negative_skill() {
        let (depth, truth) = (row(&[100.0, 101.0, 104.0, 110.0]), row(&[100.0; 4]));
        let mut errors = DepthErrors::new();
        errors.add(&depth, Some(&row(&[0.1, 0.3, 0.5, 0.9])), &truth, None).unwrap();
        let found = errors.summary();
        assert!(found.validation.is_none() && found.within_1_interval.is_none());
        let known = found.confidence.unwrap();
        assert!(known.confidence_skill.unwrap() < -0.5, "{known:?}");
        assert!(known.area_under_risk_rel > known.oracle_area_rel);
        // Between the oracle's worst and the mean: (10 + 14/2 + 15/3 + 15/4) / 4 %, were the curve made of steps.
        let area = known.area_under_risk_rel.unwrap();
        assert!((0.05..0.1).contains(&area), "{area}");
        // The same confidence for all pixels says nothing: the risk is the mean at every coverage.
        let mut errors = DepthErrors::new();
        errors.add(&depth, Some(&row(&[0.5; 4])), &truth, None).unwrap();
        assert!(errors.summary().confidence.unwrap().confidence_skill.unwrap().abs() < 1e-9);
    }

    #[test]
    fn merging_is_adding() {
        let (depth, truth) = (row(&[1.0, 2.5, 3.0]), row(&[1.1, 2.0, 3.0]));
        let confidence = row(&[0.5, 0.25, 0.75]);
        let mut whole = DepthErrors::new();
        let mut sum = DepthErrors::new();
        for _ in 0..2 {
            whole.add(&depth, Some(&confidence), &truth, Some(0.1)).unwrap();
            let mut one = DepthErrors::new();
            one.add(&depth, Some(&confidence), &truth, Some(0.1)).unwrap();
            sum.merge(&one);
        }
        assert_eq!(sum, whole);
        let mut other = DepthErrors::new();
        other.add(&depth, None, &truth, None).unwrap();
        sum.merge(&other);
        let found = sum.summary();
        assert!(found.confidence.is_none() && found.validation.is_none() && found.pixels == 9);
    }
}
