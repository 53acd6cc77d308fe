//! Random numbers: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), so that
//! what is made of them depends on its seed and index alone, on every machine and with any number of threads.
//!
//! The only generator of the engine; tests and measurements draw from it, too. What the numbers are for is not known
//! here.

use glam::{DMat3, DQuat, DVec3};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// One well mixed word from another: the finaliser of SplitMix64.
#[inline]
pub fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Random {
    /// The stream that belongs to these words, in this order: seed, scene, purpose.
    pub fn new(words: &[u64]) -> Self {
        Self(words.iter().fold(0x1234_5678_9abc_def1, |state, &word| {
            mixed(state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mixed(word.wrapping_add(0x9e37_79b9_7f4a_7c15)))
        }))
    }

    /// The stream that goes on from this state, as other programs count it.
    pub fn from_state(state: u64) -> Self {
        Self(state)
    }

    /// The stream that belongs to a name (its FNV-1a hash) and a key.
    pub fn of_name(name: &str, key: u64) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) ^ key)
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 to less than 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// From 0 to less than 1 in steps of 2^-24, which f32 holds exactly.
    #[inline]
    pub fn unit_f32(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// Evenly from `low` to `high`.
    #[inline]
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// From `low` to `high`, evenly in the logarithm; both > 0.
    pub fn log_range(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// A whole number from 0 to less than `count` (0 for a count of 0).
    pub fn below(&mut self, count: usize) -> usize {
        // The product keeps the upper bits, which are as even as the word is; the bias is under count / 2^64.
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// About normally distributed with deviation 1: the sum of four 16-bit numbers (Irwin and Hall), never beyond 3.47.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Four uniform numbers over 0..1 have mean 2 and variance 1/3.
        (sum as f64 / 65535.0 - 2.0) * 3f64.sqrt()
    }

    /// A direction, evenly over the sphere.
    pub fn direction(&mut self) -> DVec3 {
        let z = self.range(-1.0, 1.0);
        let turn = self.range(0.0, std::f64::consts::TAU);
        let across = (1.0 - z * z).max(0.0).sqrt();
        DVec3::new(across * turn.cos(), across * turn.sin(), z)
    }

    /// A rotation, evenly over all of them (Shoemake's quaternion).
    pub fn rotation(&mut self) -> DMat3 {
        let (u, a, b) = (self.unit(), self.range(0.0, 1.0), self.range(0.0, 1.0));
        let ((sa, ca), (sb, cb)) = ((a * std::f64::consts::TAU).sin_cos(), (b * std::f64::consts::TAU).sin_cos());
        let (p, q) = ((1.0 - u).sqrt(), u.sqrt());
        DMat3::from_quat(DQuat::from_xyzw(p * sa, p * ca, q * sb, q * cb).normalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_word_and_repeat_exactly() {
        let first = |words: &[u64]| Random::new(words).bits();
        let words = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|w| first(&w));
        for (i, a) in words.iter().enumerate() {
            assert!(words[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(first(&[7, 8]), first(&[7, 8]));
        assert_ne!(first(&[7]), first(&[7, 0]));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(&[3]);
        let n = 200_000;
        let (mut sum, mut squares, mut uniform, mut mean) = (0.0, 0.0, 0.0, DVec3::ZERO);
        for _ in 0..n {
            let x = random.normal();
            sum += x;
            squares += x * x;
            uniform += random.unit();
            mean += random.direction();
        }
        let n = f64::from(n);
        // Five deviations of each mean: 1 / sqrt(n) = 0.0022 for the normal ones, 0.29 of that for the uniform one.
        assert!((sum / n).abs() < 0.012 && (squares / n - 1.0).abs() < 0.015);
        assert!((uniform / n - 0.5).abs() < 0.0035);
        assert!((mean / n).length() < 0.012);
        assert!((0..1000).all(|_| random.below(3) < 3 && (2..=4).contains(&random.between(2, 4))));
        let r = random.rotation();
        assert!((r.determinant() - 1.0).abs() < 1e-12);
    }
}
