//! One colour of a point from several photos.

/// Below this difference from the median, in levels of 255, a colour is never an outlier: photos of one surface differ
/// by as much through noise, exposure and resampling alone.
const ALWAYS_FITS: f64 = 16.0;
/// A colour further from the median than this many standard deviations, as the median of the deviations tells them, is
/// an outlier.
const OUTLIER_SIGMAS: f64 = 3.0;
/// Standard deviations of a normal distribution in its median absolute deviation.
const SIGMA_OF_MAD: f64 = 1.4826;

/// The colour that one view sees.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Red, green, blue, 0 to 255.
    pub colour: [f64; 3],
    /// Its share in the mean, 0 or more.
    pub weight: f64,
}

/// The weighted mean of the colours that lie near their median; `None` without any.
///
/// A highlight, something that stood before one camera, or a view whose photo is misplaced must not tint the point.
pub fn robust_mean(samples: &[Sample]) -> Option<[u8; 3]> {
    let mut values = Vec::with_capacity(samples.len());
    let mut median_of = |value: &dyn Fn(&Sample) -> f64| {
        values.clear();
        values.extend(samples.iter().map(value));
        median(&mut values)
    };
    let middle = [0, 1, 2].map(|channel| median_of(&|sample| sample.colour[channel]));
    let deviation =
        |sample: &Sample| (0..3).map(|channel| (sample.colour[channel] - middle[channel]).abs()).fold(0.0, f64::max);
    let limit = (OUTLIER_SIGMAS * SIGMA_OF_MAD * median_of(&deviation)).max(ALWAYS_FITS);
    let mut sum = [0.0; 3];
    let mut weights = 0.0;
    for sample in samples.iter().filter(|sample| deviation(sample) <= limit) {
        sum = [0, 1, 2].map(|channel| sum[channel] + sample.weight * sample.colour[channel]);
        weights += sample.weight;
    }
    // Where no view near the median weighs anything the median has to do.
    let mean = if weights > 0.0 { sum.map(|sum| sum / weights) } else { middle };
    (!samples.is_empty()).then(|| mean.map(|value| value.round() as u8))
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    let half = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let is_odd = values.len() % 2 == 1;
    let (below, &mut middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let before = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if is_odd { middle } else { 0.5 * (before + middle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(colours: &[([f64; 3], f64)]) -> [u8; 3] {
        let samples: Vec<Sample> = colours.iter().map(|&(colour, weight)| Sample { colour, weight }).collect();
        robust_mean(&samples).unwrap()
    }

    #[test]
    fn colours_are_averaged_by_weight_without_outliers() {
        let near = [([100.0, 50.0, 30.0], 1.0), ([104.0, 52.0, 30.0], 3.0), ([100.0, 54.0, 36.0], 0.0)];
        assert_eq!(mean(&near), [103, 52, 30]);
        // An outlier in a single channel, however much it weighs, at every place in the list and on either side.
        for wrong in [[100.0, 52.0, 255.0], [255.0, 255.0, 255.0], [0.0, 52.0, 30.0], [100.0, 0.0, 30.0]] {
            for place in 0..=3 {
                let mut with = near.to_vec();
                with.insert(place, (wrong, 100.0));
                assert_eq!(mean(&with), [103, 52, 30], "{wrong:?} at {place}");
            }
        }
        // What differs as all do is none.
        assert_eq!(mean(&[([0.0; 3], 1.0), ([60.0; 3], 1.0), ([120.0; 3], 1.0), ([180.0; 3], 1.0)]), [90; 3]);
        assert_eq!(mean(&[([7.0, 8.0, 9.0], 0.0)]), [7, 8, 9]);
        assert_eq!(robust_mean(&[]), None);
    }
}
