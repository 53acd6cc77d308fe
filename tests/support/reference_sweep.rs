//! The plane sweep as plain loops on numbers with an error bound (see `reference.rs`): homographies, bilinear sampling,
//! gate and aggregation.

use crate::reference::{Sum, U, Value, Volume};

/// q = d A p + b.
#[derive(Clone, Copy)]
pub struct Homography {
    pub a: [[f32; 3]; 3],
    pub b: [f32; 3],
}

impl Homography {
    /// Where reference pixel (x, y) at depth d lies; `None` behind the camera.
    pub fn position(&self, x: usize, y: usize, d: f32) -> Option<(Value, Value)> {
        let d = Value::exact(f64::from(d));
        self.of_ray(x, y, |ray, b| ray * d + b)
    }

    /// The same at 1 / depth `rho`, of which infinity has none.
    pub fn position_inverse(&self, x: usize, y: usize, rho: Value) -> Option<(Value, Value)> {
        self.of_ray(x, y, |ray, b| ray + rho * b)
    }

    /// With each row of q from those of A p and b.
    fn of_ray(&self, x: usize, y: usize, of: impl Fn(Value, Value) -> Value) -> Option<(Value, Value)> {
        let f = |x: f32| Value::exact(f64::from(x));
        let (x, y) = (Value::exact(x as f64), Value::exact(y as f64));
        let q = |r: usize| of(f(self.a[r][0]) * x + (f(self.a[r][1]) * y + f(self.a[r][2])), f(self.b[r]));
        let z = q(2);
        assert!((z.v - 1e-6).abs() > z.e, "a case must not come so close to the camera's plane");
        (z.v > 1e-6).then(|| (q(0) / z, q(1) / z))
    }
}

/// Bilinear in a map [1, H, W, C], every pixel outside being zero. A shift of the position by its error moves the
/// result by at most that times the difference of neighbours.
pub fn bilinear(map: &Volume, at: Option<(Value, Value)>, c: usize) -> Value {
    let [_, h, w, _] = map.shape;
    let Some((u, v)) = at else { return Value::default() };
    let far = |p: Value, n: usize| p.v + p.e < -1.0 || p.v - p.e > n as f64;
    if far(u, w) || far(v, h) {
        return Value::default();
    }
    assert!(u.e + v.e < 0.5, "a case must not leave it to rounding which pixels are read");
    let (x0, y0) = (u.v.floor() as isize, v.v.floor() as isize);
    let pixel = |x: isize, y: isize| {
        let inside = x >= 0 && y >= 0 && (x as usize) < w && (y as usize) < h;
        if inside { map.at([0, y as usize, x as usize, c]) } else { Value::default() }
    };
    let (fu, fv) = (u.v - x0 as f64, v.v - y0 as f64);
    let mut sum = Sum::default();
    for (x, wu) in [(x0, 1.0 - fu), (x0 + 1, fu)] {
        for (y, wv) in [(y0, 1.0 - fv), (y0 + 1, fv)] {
            sum.product(pixel(x, y), wu * wv);
        }
    }
    // Pixels that a shifted position can see: one beyond the four.
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for x in x0 - 1..=x0 + 2 {
        for y in y0 - 1..=y0 + 2 {
            low = low.min(pixel(x, y).v);
            high = high.max(pixel(x, y).v);
        }
    }
    // The fractions and their complements are rounded, too, to U of at most 1.
    let shift = u.e + v.e + 4.0 * U;
    let sum = sum.value();
    Value { v: sum.v, e: sum.e + shift * (high - low) }.rounded(2.0)
}

/// The largest absolute value that a sample there can see.
fn largest(map: &Volume, (u, v): (Value, Value), c: usize) -> f64 {
    let [_, h, w, _] = map.shape;
    let near = |p: Value, n: usize| {
        let first = (p.v.floor().clamp(-4.0, n as f64 + 4.0)) as isize;
        (first - 1).max(0)..=(first + 2).min(n as isize - 1)
    };
    let (rows, columns) = (near(v, h), near(u, w));
    let all = rows.flat_map(|y| columns.clone().map(move |x| (y, x)));
    all.map(|(y, x)| map.at([0, y as usize, x as usize, c]).v.abs()).fold(0.0, f64::max)
}

/// The gate of eq. 5: weights [8, C] and [8].
#[derive(Clone)]
pub struct Gate {
    pub reduce: Vec<f32>,
    pub reduce_bias: Vec<f32>,
    pub weight: Vec<f32>,
    pub weight_bias: f32,
}

impl Gate {
    fn apply(&self, f: &[Value]) -> Value {
        let exact = |x: f32| Value::exact(f64::from(x));
        let mut w = Sum::default();
        for (o, row) in self.reduce.chunks_exact(f.len()).enumerate() {
            let mut sum = Sum::default();
            for (&f, &w) in f.iter().zip(row) {
                sum.product(f, f64::from(w));
            }
            sum.add(exact(self.reduce_bias[o]));
            w.product(sum.value().relu(), f64::from(self.weight[o]));
        }
        w.add(exact(self.weight_bias));
        w.value().relu()
    }
}

/// Where a pixel of a narrow stage is looked for.
pub struct Placed {
    /// Its row in the whole map.
    pub row: usize,
    /// 1 / depth.
    pub rho: Value,
}

/// The cost volume of a narrow stage, [K, H, W, C]: squared differences with the gate's weights, where `at` says that
/// hypothesis k of pixel (y, x) lies.
pub fn around(
    reference: &Volume,
    sources: &[(Volume, Homography)],
    hypotheses: usize,
    gate: &Gate,
    at: &dyn Fn(usize, usize, usize) -> Placed,
) -> Volume {
    let [_, h, w, c] = reference.shape;
    let mut data = Vec::new();
    for (k, y, x) in (0..hypotheses * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
        let Placed { row, rho } = at(k, y, x);
        let mut sums = vec![Sum::default(); c];
        for (map, homography) in sources {
            let position = homography.position_inverse(x, row, rho);
            let difference = |c: usize| bilinear(map, position, c) - reference.at([0, y, x, c]);
            let f: Vec<Value> = (0..c).map(|c| difference(c) * difference(c)).collect();
            let share = Value::exact(1.0 / sources.len() as f64).rounded(1.0);
            let weight = (Value::exact(1.0) + gate.apply(&f)) * share;
            sums.iter_mut().zip(f).for_each(|(sum, f)| sum.add(f * weight));
        }
        data.extend(sums.into_iter().map(Sum::value));
    }
    Volume { shape: [hypotheses, h, w, c], data }
}

pub enum Aggregation<'a> {
    Voxel(&'a Gate),
    /// [1, H, W, 1] for each source.
    Pixel(&'a [Volume]),
    Mean,
    Variance,
}

/// A plane sweep over sources with their homographies.
pub struct Sweep<'a> {
    pub reference: &'a Volume,
    pub sources: &'a [(Volume, Homography)],
    pub depths: &'a [f32],
    pub aggregation: Aggregation<'a>,
    pub squared: bool,
    /// Of a rounding of taps and differences, where they are not f32's: half a unit in the last place of 1.
    pub coarse: f64,
}

impl Sweep<'_> {
    /// The features at the taps added to `start`, channel by channel. Coarse sums round the four weights and after each
    /// tap, where they are no more than the start and the largest tap; a position may be off by 2^-22 of itself.
    fn gathered(&self, source: usize, [d, y, x]: [usize; 3], start: impl Fn(usize) -> Value) -> Vec<Value> {
        let (map, homography) = &self.sources[source];
        let at = homography.position(x, y, self.depths[d]);
        let coarse = self.coarse > 0.0;
        let nearly = |p: Value| Value { v: p.v, e: p.e + if coarse { 4.0 * U * p.v.abs() } else { 0.0 } };
        let at = at.map(|(u, v)| (nearly(u), nearly(v)));
        let sum = |c: usize| {
            let (v, start) = (bilinear(map, at, c), start(c));
            let sum = v + start;
            let most = start.v.abs() + at.map_or(0.0, |at| largest(map, at, c));
            Value { v: sum.v, e: sum.e + 5.0 * self.coarse * (1.0 + self.coarse) * most }
        };
        (0..map.shape[3]).map(sum).collect()
    }

    fn warped(&self, source: usize, voxel: [usize; 3]) -> Vec<Value> {
        self.gathered(source, voxel, |_| Value::default())
    }

    fn difference(&self, source: usize, [d, y, x]: [usize; 3]) -> Vec<Value> {
        let minus = |c: usize| Value { v: -self.reference.at([0, y, x, c]).v, e: self.reference.at([0, y, x, c]).e };
        let f = self.gathered(source, [d, y, x], minus).into_iter();
        // In f16 half of the smallest number above zero is coarse^2 / 8.
        let square = |f: Value| {
            let f = f * f;
            Value { v: f.v, e: f.e + self.coarse * (f.v + f.e) + self.coarse * self.coarse / 8.0 }
        };
        f.map(|f| if self.squared { square(f) } else { f }).collect()
    }

    /// [D, H, W, C].
    pub fn cost(&self) -> Volume {
        let [_, h, w, c] = self.reference.shape;
        let mut data = Vec::new();
        for d in 0..self.depths.len() {
            for (y, x) in (0..h * w).map(|i| (i / w, i % w)) {
                data.extend(self.voxel([d, y, x]));
            }
        }
        Volume { shape: [self.depths.len(), h, w, c], data }
    }

    fn voxel(&self, [d, y, x]: [usize; 3]) -> Vec<Value> {
        let channels = self.reference.shape[3];
        let sources = self.sources.len();
        if let Aggregation::Variance = self.aggregation {
            let mut all: Vec<_> = (0..sources).map(|s| self.warped(s, [d, y, x])).collect();
            all.push((0..channels).map(|c| self.reference.at([0, y, x, c])).collect());
            let share = Value::exact(1.0 / all.len() as f64).rounded(1.0);
            let of = |c: usize| {
                let (mut sum, mut squares) = (Sum::default(), Sum::default());
                for view in &all {
                    sum.add(view[c]);
                    squares.add(view[c] * view[c]);
                }
                let mean = sum.value() * share;
                squares.value() * share - mean * mean
            };
            return (0..channels).map(of).collect();
        }
        let mut sums = vec![Sum::default(); channels];
        for s in 0..sources {
            let f = self.difference(s, [d, y, x]);
            let one = Value::exact(1.0);
            let w = match &self.aggregation {
                Aggregation::Voxel(gate) => one + gate.apply(&f),
                Aggregation::Pixel(weights) => one + weights[s].at([0, y, x, 0]),
                Aggregation::Mean | Aggregation::Variance => one,
            };
            let w = w * Value::exact(1.0 / sources as f64).rounded(1.0);
            for (sum, f) in sums.iter_mut().zip(f) {
                sum.add(f * w);
            }
        }
        sums.into_iter().map(Sum::value).collect()
    }

    /// Maximum and mean over the planes of the channel-mean |f|, [1, H, W, 2].
    pub fn statistics(&self, source: usize) -> Volume {
        let [_, h, w, c] = self.reference.shape;
        let planes = self.depths.len();
        let mut data = Vec::new();
        for (y, x) in (0..h * w).map(|i| (i / w, i % w)) {
            let (mut max, mut total) = (Value { v: f64::NEG_INFINITY, e: 0.0 }, Sum::default());
            for d in 0..planes {
                let mut mean = Sum::default();
                self.difference(source, [d, y, x]).into_iter().for_each(|f| mean.add(f.abs()));
                let mean = mean.value() / Value::exact(c as f64);
                max = max.max(mean);
                total.add(mean);
            }
            data.extend([max, total.value() / Value::exact(planes as f64)]);
        }
        Volume { shape: [1, h, w, 2], data }
    }
}
