//! Several datasets as one, in given proportions.
//!
//! Nothing is drawn and nothing stored: which dataset an index falls on, and how many indices before it did, follow
//! from the index alone. So training can begin anywhere in the row. Each part's share is exact after every block of 64
//! indices (to the nearest one); within a block the order is shuffled.

use std::sync::Arc;

use super::sample::{Dataset, TrainingSample};
use crate::host::random::{Random, mixed};
use crate::{Error, Result};

/// Indices that are shuffled among each other before they are given to the parts, so that no part gets every second
/// index and with it only the views that a caller asks for on even steps.
const BLOCK: u64 = 64;

/// Several datasets with weights. An endless one is read in its order, a finite one in another order each epoch. Epoch
/// e of a part of n samples asks it for e n to e n + n - 1, so that what it chooses by the index is chosen anew, too.
pub struct Mix {
    parts: Vec<Part>,
    seed: u64,
}

struct Part {
    dataset: Arc<dyn Dataset>,
    weight: f64,
    /// Its share of what the parts before have left, in units of 2^-32; the last one takes all.
    share: u64,
    /// Where in its first interval it begins, in the same units.
    phase: u64,
}

impl Mix {
    /// # Errors
    /// No part, one without samples, or a weight that is not positive.
    pub fn new(parts: Vec<(Arc<dyn Dataset>, f64)>, seed: u64) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::input("training data", "no dataset", "at least one"));
        }
        for (dataset, weight) in &parts {
            if dataset.is_empty() {
                return Err(Error::input(dataset.describe(), "no samples", "at least one"));
            }
            if !(*weight > 0.0 && weight.is_finite()) {
                return Err(Error::input(
                    format!("weight of {}", dataset.describe()),
                    weight.to_string(),
                    "a number above 0",
                ));
            }
        }
        let mut left: f64 = parts.iter().map(|(_, weight)| weight).sum();
        let mut random = Random::new(&[seed, 0x006d_6978]);
        let last = parts.len() - 1;
        let part = |(i, (dataset, weight)): (usize, (Arc<dyn Dataset>, f64))| {
            const WHOLE: f64 = (1u64 << 32) as f64;
            let share = if i == last { 1 << 32 } else { (weight / left * WHOLE).round() as u64 };
            left -= weight;
            Part { dataset, weight, share: share.min(1 << 32), phase: random.bits() >> 32 }
        };
        Ok(Self { parts: parts.into_iter().enumerate().map(part).collect(), seed })
    }

    /// Which part an index falls on, and the index that it is asked for.
    pub fn place(&self, index: u64) -> (usize, u64) {
        let block = index / BLOCK;
        let within = Permutation::new(BLOCK, &[self.seed, 0x0062_6c6f_636b, block]).at(index % BLOCK);
        let mut rest = block.saturating_mul(BLOCK).saturating_add(within);
        for (i, part) in self.parts.iter().enumerate() {
            // How many of the first `n` indices this part has: floor(n share + phase).
            let taken = |n: u64| ((u128::from(n) * u128::from(part.share) + u128::from(part.phase)) >> 32) as u64;
            let before = taken(rest);
            if i + 1 == self.parts.len() || taken(rest.saturating_add(1)) > before {
                let before = if i + 1 == self.parts.len() { rest } else { before };
                let Some(n) = part.dataset.len().filter(|&n| n > 0) else { return (i, before) };
                let epoch = before / n;
                let order = Permutation::new(n, &[self.seed, i as u64, epoch]);
                return (i, epoch * n + order.at(before % n));
            }
            rest -= before;
        }
        (0, index) // not reached: the last part takes whatever is left
    }
}

impl Dataset for Mix {
    fn describe(&self) -> String {
        if let [only] = &self.parts[..] {
            return only.dataset.describe();
        }
        let total: f64 = self.parts.iter().map(|p| p.weight).sum();
        let part = |p: &Part| format!("{:.3} % {}", 100.0 * p.weight / total, p.dataset.describe());
        self.parts.iter().map(part).collect::<Vec<_>>().join(" + ")
    }

    /// That of the only part; several have no common epoch.
    fn len(&self) -> Option<u64> {
        match &self.parts[..] {
            [only] => only.dataset.len(),
            _ => None,
        }
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        let (part, index) = self.place(index);
        self.parts[part].dataset.sample(index, views)
    }
}

/// An order of the numbers 0 to n - 1 that is computed number by number: a Feistel network over the next power of 4,
/// walked until it leads back below n (Black and Rogaway: "Ciphers with arbitrary finite domains", 2002).
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    /// Bits of each half of a number.
    half: u32,
    keys: [u64; Self::ROUNDS],
}

impl Permutation {
    /// Four rounds would do for wide halves (Luby and Rackoff); a few more cost nothing and serve halves of some bits.
    const ROUNDS: usize = 8;

    /// The order of `n` numbers that belongs to these words.
    pub fn new(n: u64, words: &[u64]) -> Self {
        let mut random = Random::new(words);
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| random.bits()) }
    }

    /// The number at place `i` of the order; `i` < n.
    pub fn at(&self, i: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let mut number = i;
        loop {
            let (mut left, mut right) = (number >> self.half, number & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mixed(right ^ key) & mask));
            }
            number = left << self.half | right;
            // The network permutes fewer than 4 n numbers, so that the walk takes four steps on average. It returns to
            // `i` at the latest, which is below n.
            if number < self.n || self.n <= 1 {
                return if self.n <= 1 { i } else { number };
            }
        }
    }
}
