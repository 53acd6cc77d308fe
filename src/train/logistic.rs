//! Logistic regression: the weights w for which 1 / (1 + exp(-w x)) is likeliest to have told right from wrong.
//!
//! Newton's method on the mean log-likelihood with a small ridge, in f64; the columns are scaled to a deviation of 1,
//! so that the ridge means the same for each.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Rows of what is known, the first value of each being 1.
pub struct Rows {
    reads: usize,
    data: Vec<f32>,
}

/// Weight of the ridge on scaled columns: it only keeps columns that say the same from running away.
const RIDGE: f64 = 1e-5;
/// Newton steps at most; five to eight are usual.
const STEPS: usize = 50;
/// A step that changes no weight of a scaled column by more ends the search.
const SMALLEST_STEP: f64 = 1e-7;
/// Rows of a task.
const CHUNK: usize = 8192;

impl Rows {
    /// For rows of so many values.
    pub fn new(reads: usize) -> Self {
        Self { reads, data: Vec::new() }
    }

    /// # Panics
    /// Where the row has another length.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.reads, "values of a row");
        self.data.extend_from_slice(row);
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.data.len() / self.reads.max(1)
    }

    /// 1 / deviation of each column; 1 for a column that is constant.
    fn scales(&self) -> Vec<f64> {
        let n = self.count().max(1) as f64;
        let of_column = |k: usize| {
            let column = || self.data.iter().skip(k).step_by(self.reads).map(|&v| f64::from(v));
            let mean = column().sum::<f64>() / n;
            let variance = column().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            if variance > 1e-12 { 1.0 / variance.sqrt() } else { 1.0 }
        };
        (0..self.reads).map(of_column).collect()
    }
}

/// Gradient and, row by row, the Hessian of the negative log-likelihood's sum.
struct Slopes {
    gradient: Vec<f64>,
    hessian: Vec<f64>,
}

impl Slopes {
    fn zero(n: usize) -> Self {
        Self { gradient: vec![0.0; n], hessian: vec![0.0; n * n] }
    }

    fn add(mut self, other: &Self) -> Self {
        self.gradient.iter_mut().zip(&other.gradient).for_each(|(a, b)| *a += b);
        self.hessian.iter_mut().zip(&other.hessian).for_each(|(a, b)| *a += b);
        self
    }
}

/// The weights of each column.
///
/// # Errors
/// Without both right and wrong rows there is nothing to tell apart.
pub fn fit(rows: &Rows, right: &[bool]) -> Result<Vec<f32>> {
    let count = right.iter().filter(|r| **r).count();
    if count == 0 || count == right.len() || rows.count() != right.len() {
        let found = format!("{count} right depths of {}", right.len());
        return Err(Error::input("calibration", found, "both right and wrong ones; take more scenes (--scenes)"));
    }
    let (n, scales) = (rows.reads, rows.scales());
    let mut weights = vec![0.0; n];
    for _ in 0..STEPS {
        let mut slopes = slopes(rows, right, &scales, &weights);
        let total = rows.count() as f64;
        // The constant term is not held back.
        for (k, &weight) in weights.iter().enumerate().skip(1) {
            slopes.gradient[k] += RIDGE * total * weight;
            slopes.hessian[k * n + k] += RIDGE * total;
        }
        let step = solved(slopes.hessian, slopes.gradient);
        weights.iter_mut().zip(&step).for_each(|(w, s)| *w -= s);
        if step.iter().all(|s| s.abs() < SMALLEST_STEP) {
            break;
        }
    }
    Ok(weights.iter().zip(&scales).map(|(w, s)| (w * s) as f32).collect())
}

fn slopes(rows: &Rows, right: &[bool], scales: &[f64], weights: &[f64]) -> Slopes {
    let n = rows.reads;
    let of_chunk = |(rows, right): (&[f32], &[bool])| {
        let mut slopes = Slopes::zero(n);
        let mut x = vec![0.0; n];
        for (row, &right) in rows.chunks_exact(n).zip(right) {
            x.iter_mut().zip(row).zip(scales).for_each(|((x, &v), s)| *x = f64::from(v) * s);
            let odds: f64 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
            let p = 1.0 / (1.0 + (-odds).exp());
            let (off, curve) = (p - f64::from(u8::from(right)), (p * (1.0 - p)).max(1e-9));
            for i in 0..n {
                slopes.gradient[i] += off * x[i];
                for j in 0..=i {
                    slopes.hessian[i * n + j] += curve * x[i] * x[j];
                }
            }
        }
        slopes
    };
    let chunks: Vec<Slopes> = rows.data.par_chunks(CHUNK * n).zip(right.par_chunks(CHUNK)).map(of_chunk).collect();
    // In their order, so that the sums do not depend on the number of threads.
    let mut all = chunks.iter().fold(Slopes::zero(n), Slopes::add);
    for i in 0..n {
        for j in 0..i {
            all.hessian[j * n + i] = all.hessian[i * n + j];
        }
    }
    all
}

/// x with a x = b, by elimination with the largest pivot; `a` is [n, n].
fn solved(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        let largest = (k..n).max_by(|&i, &j| a[i * n + k].abs().total_cmp(&a[j * n + k].abs())).unwrap_or(k);
        (0..n).for_each(|j| a.swap(k * n + j, largest * n + j));
        b.swap(k, largest);
        let pivot = a[k * n + k];
        for i in k + 1..n {
            let factor = if pivot == 0.0 { 0.0 } else { a[i * n + k] / pivot };
            for j in k..n {
                a[i * n + j] -= factor * a[k * n + j];
            }
            b[i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let rest: f64 = (k + 1..n).map(|j| a[k * n + j] * b[j]).sum();
        b[k] = if a[k * n + k] == 0.0 { 0.0 } else { (b[k] - rest) / a[k * n + k] };
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::random::Random;

    /// Rows that were right with the probability that known weights say give these weights back: of 200 000, within
    /// 0.05 (five times the standard error of the least certain one).
    #[test]
    fn known_weights_are_found_again() {
        let truth = [0.3, 1.5, -0.8, 0.2];
        let (mut rows, mut right, mut random) = (Rows::new(4), Vec::new(), Random::new(&[7]));
        for _ in 0..200_000 {
            let (a, b) = (random.normal(), 3.0 + 2.0 * random.normal());
            let x = [1.0, a, b, a * b];
            let odds: f64 = x.iter().zip(truth).map(|(x, w)| x * w).sum();
            rows.push(&x.map(|v| v as f32));
            right.push(random.chance(1.0 / (1.0 + (-odds).exp())));
        }
        let found = fit(&rows, &right).unwrap();
        for (found, truth) in found.iter().zip(truth) {
            assert!((f64::from(*found) - truth).abs() < 0.05, "{found} for {truth}");
        }
    }

    #[test]
    fn rows_that_are_all_right_cannot_be_fitted() {
        let mut rows = Rows::new(1);
        rows.push(&[1.0]);
        assert!(fit(&rows, &[true]).unwrap_err().to_string().contains("1 right depths of 1"));
    }

    /// Two columns that say the same share the weight instead of running away.
    #[test]
    fn a_column_twice_is_no_trouble() {
        let (mut rows, mut right, mut random) = (Rows::new(3), Vec::new(), Random::new(&[9]));
        for _ in 0..20_000 {
            let a = random.normal();
            rows.push(&[1.0, a as f32, a as f32]);
            right.push(random.chance(1.0 / (1.0 + (-2.0 * a).exp())));
        }
        let found = fit(&rows, &right).unwrap();
        assert!((found[1] + found[2] - 2.0).abs() < 0.15 && (found[1] - found[2]).abs() < 0.01, "{found:?}");
    }
}
