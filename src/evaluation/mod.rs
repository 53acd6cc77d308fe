//! How good point clouds and depth maps are, in numbers; pictures of them are in [`crate::draw`].
//!
//! Clouds are measured by their distances to a reference and back: [`dtu`] is the protocol of the DTU data set to the
//! constant (protocol page, section D), [`cloud`] measures any cloud against any other. Depth maps are measured against
//! the true depth: [`depth_metrics`] has the measures of training's validation, [`depth`] those that do without
//! hypotheses. Coordinates and all arithmetic are f64, so that clouds far from the origin are measured as near it, and
//! no result depends on the number of threads.

use serde::Serialize;

use crate::host::progress::one_line;

mod cells;
pub mod cloud;
pub mod depth;
pub mod depth_files;
pub mod depth_metrics;
pub mod dtu;
pub mod dtu_files;
pub mod nearest;
pub mod pareto;
mod sums;
pub mod thinning;

/// What a set of distances says. Of an empty set mean, median and variance are not a number, which JSON writes as
/// `null`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Their mean.
    pub mean: f64,
    /// Their median; of an even number the mean of the two in the middle.
    pub median: f64,
    /// Their variance around the mean of the sample (divided by one less than their number); 0 for a single one.
    pub variance: f64,
    /// How many there are.
    pub count: usize,
}

impl Statistics {
    /// Of finite distances. They are summed in their order.
    pub fn of(mut distances: Vec<f64>) -> Self {
        let count = distances.len();
        if count == 0 {
            return Self { mean: f64::NAN, median: f64::NAN, variance: f64::NAN, count };
        }
        let mean = distances.iter().sum::<f64>() / count as f64;
        let squares: f64 = distances.iter().map(|d| (d - mean) * (d - mean)).sum();
        let variance = if count == 1 { 0.0 } else { squares / (count - 1) as f64 };
        let (below, middle, _) = distances.select_nth_unstable_by(count / 2, f64::total_cmp);
        let median = match (count % 2, below.iter().copied().max_by(f64::total_cmp)) {
            (0, Some(largest)) => (largest + *middle) / 2.0,
            _ => *middle,
        };
        Self { mean, median, variance, count }
    }
}

/// For tables: `0.3791`, or `-` for what is not a number.
pub fn shown(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{value:.4}") }
}

/// Columns of words, each as wide as its widest word, right-aligned.
pub fn table(rows: &[Vec<String>]) -> String {
    // Names of files stand in them.
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|word| one_line(word)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let words: Vec<String> = row.iter().zip(&widths).map(|(word, &width)| format!("{word:>width$}")).collect();
        words.join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_matlabs() {
        let four = Statistics::of(vec![4.0, 1.0, 3.0, 2.0]);
        // var([1 2 3 4]) = 5/3, median 2.5.
        assert_eq!((four.mean, four.median, four.count), (2.5, 2.5, 4));
        assert!((four.variance - 5.0 / 3.0).abs() < 1e-15);
        let three = Statistics::of(vec![9.0, 1.0, 2.0]);
        assert_eq!((three.mean, three.median), (4.0, 2.0));
        let one = Statistics::of(vec![7.0]);
        assert_eq!((one.mean, one.median, one.variance, one.count), (7.0, 7.0, 0.0, 1));
        let none = Statistics::of(Vec::new());
        assert!(none.mean.is_nan() && none.median.is_nan() && none.variance.is_nan() && none.count == 0);
    }

    #[test]
    fn columns_are_as_wide_as_their_words() {
        let rows = [vec!["a".to_owned(), "long".into()], vec!["bcd".into(), shown(f64::NAN)]];
        assert_eq!(table(&rows), "  a  long\nbcd     -");
        assert_eq!(shown(0.37914), "0.3791");
    }
}
