//! Counts and sums of errors whose bits do not depend on the order in which pixels and views are added.

/// A sum of numbers >= 0 in fixed point with 60 bits behind the point, which holds sums to 3e20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(u128);

impl Sum {
    const ONE: f64 = (1u64 << 60) as f64;

    pub(crate) fn add(&mut self, value: f64) {
        // Both the conversion and the sum saturate, which keeps the order without effect.
        self.0 = self.0.saturating_add((value * Self::ONE).round() as u128);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    pub(crate) fn value(self) -> f64 {
        self.0 as f64 / Self::ONE
    }

    pub(crate) fn mean(self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.value() / count as f64)
    }
}

/// Pixels and the sum of their errors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Errors {
    pub(crate) pixels: u64,
    pub(crate) sum: Sum,
}

impl Errors {
    pub(crate) fn add(&mut self, error: f64) {
        self.pixels += 1;
        self.sum.add(error);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.pixels += other.pixels;
        self.sum.merge(other.sum);
    }
}

/// Adds one to the count of every limit that the value lies under.
pub(crate) fn tally(counts: &mut [u64], limits: &[f64], value: f64) {
    counts.iter_mut().zip(limits).for_each(|(count, limit)| *count += u64::from(value < *limit));
}

/// Adds counts of the same kinds.
pub(crate) fn add_counts(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
