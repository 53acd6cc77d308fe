//! The network's operations as plain loops in f64, on numbers that carry a bound on what f32 may get wrong.
//!
//! Nothing here is shared with the engine but the random numbers of the inputs. A [`Value`] is the exact result and an
//! error bound for whoever computes the same in f32: every operation passes on the errors of its operands and adds the
//! rounding of its own result, at most U = 2^-24 of it. Rounding errors of a sum of n terms are bounded by min(n, 8
//! sqrt(n)) U sum |terms|, whatever the order: the first holds always, the second with a probability of 1 - 2 e^-32 for
//! roundings of independent sign (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019,
//! with lambda = 8). A term that is left out of a sum of 3456 shows, which it would not within the first bound alone.

use std::ops::{Add, Div, Mul, Sub};

use engine::host::random;

/// Half a unit in the last place of 1: the relative rounding error of an f32 operation.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Inputs by chance.
pub struct Random(random::Random);

impl Random {
    /// Seeded by a name, so that cases do not depend on one another.
    pub fn new(name: &str) -> Self {
        Self(random::Random::of_name(name, 0))
    }

    pub fn within(&mut self, low: f64, high: f64) -> f32 {
        self.0.range(low, high) as f32
    }

    /// Between -1 and 1, small values as likely as large ones: products of very different sizes meet in every sum.
    pub fn value(&mut self) -> f32 {
        let x = self.within(-1.0, 1.0);
        if self.0.bits() & 1 == 0 { x } else { x * x * x }
    }

    pub fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
}

/// An exact result and how far an f32 computation of it may be off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Value {
    pub v: f64,
    pub e: f64,
}

impl Value {
    pub fn exact(v: f64) -> Self {
        Self { v, e: 0.0 }
    }

    /// With `n` more roundings of the result.
    pub fn rounded(self, n: f64) -> Self {
        Self { v: self.v, e: self.e + n * U * self.v.abs() }
    }

    /// Whether f32 may give `found`; NaN it may not.
    pub fn allows(self, found: f32) -> bool {
        (f64::from(found) - self.v).abs() <= self.e
    }

    pub fn relu(self) -> Self {
        Self { v: self.v.max(0.0), e: if self.v + self.e < 0.0 { 0.0 } else { self.e } }
    }

    pub fn max(self, other: Self) -> Self {
        Self { v: self.v.max(other.v), e: self.e.max(other.e) }
    }

    pub fn abs(self) -> Self {
        Self { v: self.v.abs(), e: self.e }
    }
}

impl Add for Value {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, e: self.e + o.e }.rounded(1.0)
    }
}

impl Sub for Value {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, e: self.e + o.e }.rounded(1.0)
    }
}

impl Mul for Value {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self { v: self.v * o.v, e: self.v.abs() * o.e + o.v.abs() * self.e + self.e * o.e }.rounded(1.0)
    }
}

impl Div for Value {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        let e = (self.e + v.abs() * o.e) / (o.v.abs() - o.e).max(f64::MIN_POSITIVE);
        Self { v, e }.rounded(1.0)
    }
}

/// What sums of n terms multiply U sum |terms| by.
pub fn roundings(n: usize) -> f64 {
    let n = n as f64;
    n.min(8.0 * n.sqrt())
}

/// A sum in any order, of terms that are rounded products.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    v: f64,
    e: f64,
    magnitude: f64,
    terms: usize,
}

impl Sum {
    #[inline]
    pub fn add(&mut self, x: Value) {
        self.product(x, 1.0);
    }

    /// Adds x times an exact factor. A term of zero is added without rounding.
    #[inline]
    pub fn product(&mut self, x: Value, factor: f64) {
        let term = x.v * factor;
        self.v += term;
        self.e += x.e * factor.abs();
        self.magnitude += term.abs();
        self.terms += usize::from(term != 0.0);
    }

    /// A rounding for each addition, one for a term's product and one to spare for the way to a term.
    pub fn value(self) -> Value {
        Value { v: self.v, e: self.e + roundings(self.terms + 2) * U * self.magnitude }
    }
}

/// [D, H, W, C].
#[derive(Clone)]
pub struct Volume {
    pub shape: [usize; 4],
    pub data: Vec<Value>,
}

impl Volume {
    pub fn exact(shape: [usize; 4], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, data: values.iter().map(|&v| Value::exact(f64::from(v))).collect() }
    }

    /// Every element by its position [d, h, w, c].
    pub fn from_fn(shape: [usize; 4], mut f: impl FnMut([usize; 4]) -> Value) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        for d in 0..shape[0] {
            for h in 0..shape[1] {
                for w in 0..shape[2] {
                    data.extend((0..shape[3]).map(|c| f([d, h, w, c])));
                }
            }
        }
        Self { shape, data }
    }

    #[inline]
    pub fn at(&self, [d, h, w, c]: [usize; 4]) -> Value {
        let [_, sh, sw, sc] = self.shape;
        self.data[((d * sh + h) * sw + w) * sc + c]
    }

    pub fn map(self, f: impl Fn(Value) -> Value) -> Self {
        Self { shape: self.shape, data: self.data.into_iter().map(f).collect() }
    }

    /// The channels `from .. to`.
    /// As a convolution of stride 2 over all axes reads it: the last element of an odd one again.
    pub fn evened(&self) -> Self {
        let [d, h, w, c] = self.shape;
        let even = [d, h, w].map(|n| n.next_multiple_of(2));
        Self::from_fn([even[0], even[1], even[2], c], |[z, y, x, c]| {
            self.at([z.min(d - 1), y.min(h - 1), x.min(w - 1), c])
        })
    }

    pub fn channels(&self, from: usize, to: usize) -> Self {
        let [d, h, w, _] = self.shape;
        Self::from_fn([d, h, w, to - from], |[d, h, w, c]| self.at([d, h, w, c + from]))
    }

    pub fn zip(&self, other: &Self, f: impl Fn(Value, Value) -> Value) -> Self {
        assert_eq!(self.shape, other.shape);
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Self { shape: self.shape, data }
    }
}

/// A convolution with zero padding of half its (odd) kernel; weights [CO, CI, KD, KH, KW].
pub struct Convolution<'a> {
    pub channels: (usize, usize),
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub relu: bool,
}

impl Convolution<'_> {
    pub fn apply(&self, x: &Volume, residual: Option<&Volume>) -> Volume {
        let ([kd, kh, kw], [sd, sh, sw]) = (self.kernel, self.stride);
        let [d, h, w, _] = x.shape;
        let (ci, co) = self.channels;
        let weights: Vec<f64> = self.weights.iter().map(|&w| f64::from(w)).collect();
        let taps = kd * kh * kw;
        let mut near = vec![None; taps];
        let mut last = None;
        Volume::from_fn([d.div_ceil(sd), h.div_ceil(sh), w.div_ceil(sw), co], |[od, oh, ow, o]| {
            if last.replace([od, oh, ow]) != Some([od, oh, ow]) {
                for (t, near) in near.iter_mut().enumerate() {
                    let tap = [t / (kh * kw), t / kw % kh, t % kw];
                    let at = [od * sd + tap[0], oh * sh + tap[1], ow * sw + tap[2]];
                    let half = [kd / 2, kh / 2, kw / 2];
                    let inside = (0..3).all(|i| at[i] >= half[i] && at[i] - half[i] < x.shape[i]);
                    *near = inside.then(|| (((at[0] - half[0]) * h + at[1] - half[1]) * w + at[2] - half[2]) * ci);
                }
            }
            let mut sum = Sum::default();
            for (t, near) in near.iter().enumerate() {
                let Some(base) = *near else { continue };
                for i in 0..ci {
                    sum.product(x.data[base + i], weights[(o * ci + i) * taps + t]);
                }
            }
            sum.add(Value::exact(f64::from(self.bias[o])));
            if let Some(residual) = residual {
                sum.add(residual.at([od, oh, ow, o]));
            }
            if self.relu { sum.value().relu() } else { sum.value() }
        })
    }
}

/// A depthwise 3x3x3 convolution; weights [C, 1, 3, 3, 3].
pub fn depthwise(x: &Volume, stride: usize, weights: &[f32]) -> Volume {
    let [d, h, w, c] = x.shape;
    let half = |n: usize| n.div_ceil(stride);
    Volume::from_fn([half(d), half(h), half(w), c], |[od, oh, ow, c]| {
        let mut sum = Sum::default();
        for t in 0..27 {
            let at = [od * stride + t / 9, oh * stride + t / 3 % 3, ow * stride + t % 3];
            if (0..3).all(|i| at[i] >= 1 && at[i] - 1 < x.shape[i]) {
                sum.product(x.at([at[0] - 1, at[1] - 1, at[2] - 1, c]), f64::from(weights[c * 27 + t]));
            }
        }
        sum.value()
    })
}

/// Linear interpolation at output index / factor, clamped to the last sample.
pub fn upsample(x: &Volume, factor: usize, [d, h, w]: [usize; 3]) -> Volume {
    let tap = |o: usize, n: usize| {
        let at = o as f64 / factor as f64;
        let low = (at.floor() as usize).min(n - 1);
        (low, (low + 1).min(n - 1), (at - low as f64).clamp(0.0, 1.0))
    };
    Volume::from_fn([d, h, w, x.shape[3]], |[od, oh, ow, c]| {
        let (z, y, x_) = (tap(od, x.shape[0]), tap(oh, x.shape[1]), tap(ow, x.shape[2]));
        let mut sum = Sum::default();
        for corner in 0..8 {
            let pick = |bit: usize, (low, high, w): (usize, usize, f64)| {
                if corner >> bit & 1 == 0 { (low, 1.0 - w) } else { (high, w) }
            };
            let ((z, wz), (y, wy), (x_, wx)) = (pick(2, z), pick(1, y), pick(0, x_));
            sum.product(x.at([z, y, x_, c]), wz * wy * wx);
        }
        // Three products a term instead of one.
        sum.value().rounded(2.0)
    })
}

/// Mean over rows and columns, [D, 1, 1, C], summed in more than f32.
pub fn plane_mean(x: &Volume) -> Volume {
    let [d, h, w, c] = x.shape;
    Volume::from_fn([d, 1, 1, c], |[d, _, _, c]| {
        let all = (0..h * w).map(|i| x.at([d, i / w, i % w, c]));
        let (v, e) = all.fold((0.0, 0.0), |(v, e), x| (v + x.v, e + x.e));
        let n = (h * w) as f64;
        Value { v: v / n, e: e / n }.rounded(1.0)
    })
}

/// Mean over all positions, [1, 1, 1, C], by way of the planes' means.
pub fn volume_mean(x: &Volume) -> Volume {
    let planes = plane_mean(x);
    let d = x.shape[0];
    Volume::from_fn([1, 1, 1, x.shape[3]], |[_, _, _, c]| {
        let all = (0..d).map(|d| planes.at([d, 0, 0, c]));
        let (v, e) = all.fold((0.0, 0.0), |(v, e), x| (v + x.v, e + x.e));
        Value { v: v / d as f64, e: e / d as f64 }.rounded(1.0)
    })
}

/// 1 / (1 + e^-x): the exponential to a unit in the last place (two roundings), the sum, the quotient.
pub fn sigmoid(x: Value) -> Value {
    let v = 1.0 / (1.0 + (-x.v).exp());
    Value { v, e: x.e * v * (1.0 - v) }.rounded(4.0)
}

/// A pixel's depth, and its confidence for each window that rounding may choose.
pub struct Estimate {
    pub depth: Value,
    pub confidence: Vec<Value>,
}

/// Softmax over the planes of logits [D, H, W, 1], expectation over depth or 1 / depth, and the probability of the
/// four hypotheses around the expected index; [H W] pixels.
///
/// An exponential is off by the error of its logit, the rounding of the subtraction of the maximum and `exp_error`,
/// all relative. The expectation is taken of values relative to their mean.
pub fn regress(logits: &Volume, depths: &[f64], inverse: bool, exp_error: f64) -> Vec<Estimate> {
    let [d, h, w, _] = logits.shape;
    let values: Vec<f64> = depths.iter().map(|&d| if inverse { 1.0 / d } else { d }).collect();
    let middle = values.iter().sum::<f64>() / d as f64;
    let pixel = |i: usize| {
        let l: Vec<Value> = (0..d).map(|p| logits.at([p, i / w, i % w, 0])).collect();
        let top = l.iter().fold(f64::NEG_INFINITY, |m, l| m.max(l.v));
        let shift = l.iter().fold(0.0, |m: f64, l| m.max(l.e));
        let e: Vec<f64> = l.iter().map(|l| (l.v - top).exp()).collect();
        let total: f64 = e.iter().sum();
        let p: Vec<f64> = e.iter().map(|e| e / total).collect();
        // Each exponential's relative error; the smallest are clamped to e^-87, which is 1.7e-38 of the largest.
        let off: Vec<f64> = l.iter().map(|l| l.e + shift + U * (l.v - top).abs() + exp_error).collect();
        let expectation = |x: &dyn Fn(usize) -> f64| {
            let v: f64 = (0..d).map(|i| p[i] * x(i)).sum();
            let magnitude: f64 = (0..d).map(|i| p[i] * x(i).abs()).sum::<f64>() + v.abs();
            let e: f64 = (0..d).map(|i| (p[i] * off[i] + 2e-38) * (x(i).abs() + v.abs())).sum();
            Value { v, e: e + (roundings(d + 2) + 2.0) * U * magnitude }
        };
        let value = expectation(&|i| values[i] - middle);
        let depth = if inverse {
            let depth = 1.0 / (middle + value.v);
            Value { v: depth, e: value.e * depth * depth }
        } else {
            Value { v: middle + value.v, e: value.e }
        };
        let index = expectation(&|i| i as f64);
        let mut windows: Vec<usize> =
            [index.v - index.e, index.v + index.e].iter().map(|i| (i.max(0.0) as usize).min(d - 1)).collect();
        windows.dedup();
        let mean_off: f64 = (0..d).map(|i| p[i] * off[i] + 2e-38).sum();
        let confidence = windows.into_iter().map(|at| {
            let window = at.saturating_sub(1)..(at + 3).min(d);
            let v: f64 = p[window.clone()].iter().sum();
            let e: f64 = window.map(|i| p[i] * off[i] + 2e-38).sum();
            Value { v, e: e + v * (mean_off + (roundings(d + 2) + 6.0) * U) }
        });
        Estimate { depth: depth.rounded(1.0), confidence: confidence.collect() }
    };
    (0..h * w).map(pixel).collect()
}
