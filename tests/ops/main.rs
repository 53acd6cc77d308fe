//! Every operation against plain loops in f64, on every instruction set that the processor has.
//!
//! Tolerances are not chosen: `reference` computes each result with a bound on what the roundings of an f32
//! computation can add up to, element by element (and so any two levels agree within twice that). Every operation runs
//! twice, the second time in recycled buffers full of NaN: it must give the same bits, so it writes its whole output
//! and reads none of what was there; and its inputs must come out as they went in.

#[path = "../support/goldens.rs"]
mod goldens;
#[path = "../support/reference.rs"]
mod reference;
#[allow(dead_code, reason = "shared with tests of a device's ops")]
#[path = "../support/reference_sweep.rs"]
mod reference_sweep;

mod blocks;
mod convolutions;
mod pointwise;
mod regression;
mod shapes;
mod sweeps;

use engine::cpu::device::Cpu;
use engine::cpu::simd::Level;
use engine::net::tensor::{Shape, Tensor};
use reference::{Random, Value, Volume};

fn shape([d, h, w, c]: [usize; 4]) -> Shape {
    Shape { d, h, w, c }
}

fn tensor(size: [usize; 4], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape(size), values).unwrap()
}

fn volume(x: &Tensor) -> Volume {
    Volume::exact([x.shape.d, x.shape.h, x.shape.w, x.shape.c], &x.data)
}

fn random(rng: &mut Random, size: [usize; 4]) -> Tensor {
    tensor(size, &rng.values(size.iter().product()))
}

fn in_pool<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// What went wrong in the cases of a table; all of them are shown at the end.
#[derive(Default)]
struct Report {
    failures: Vec<String>,
    cases: usize,
}

impl Report {
    fn fail(&mut self, case: &str, level: Level, what: String) {
        self.failures.push(format!("{case} on {}: {what}", level.name()));
    }

    /// `found` against `truth`; the first element that is off is reported.
    fn compare(&mut self, case: &str, level: Level, found: &Tensor, truth: &Volume) {
        if found.shape != shape(truth.shape) {
            self.fail(case, level, format!("shape {}, expected {}", found.shape, shape(truth.shape)));
            return;
        }
        let [_, h, w, c] = truth.shape;
        for (i, (&x, truth)) in found.data.iter().zip(&truth.data).enumerate() {
            // Below the smallest normal number precision is absolute.
            let tolerance = truth.e + f64::from(f32::MIN_POSITIVE);
            if !(Value { v: truth.v, e: tolerance }.allows(x)) {
                let (d, y, x_, c) = (i / (h * w * c), i / (w * c) % h, i / c % w, i % c);
                let at = format!("[d {d}, y {y}, x {x_}, c {c}]");
                let what = format!("{at} = {x:e}, expected {:e} within {tolerance:e}", truth.v);
                return self.fail(case, level, what);
            }
        }
    }

    /// A case: `run` makes one tensor for each of the truths.
    fn check(&mut self, case: &str, inputs: &[&Tensor], truths: &[Volume], run: &dyn Fn(&Cpu) -> Vec<Tensor>) {
        self.cases += 1;
        for truth in truths {
            // A bound as large as the values would let everything pass.
            let (v, e) = truth.data.iter().fold((0.0, 0.0), |(v, e), x| (v + x.v.abs(), e + x.e));
            assert!(e <= 1e-2 * v, "{case}: a bound of {e:e} for values of {v:e} tests nothing");
        }
        let before: Vec<Vec<f32>> = inputs.iter().map(|x| x.data.to_vec()).collect();
        for level in Level::available() {
            let cpu = Cpu::with_level(level);
            assert_eq!(cpu.level(), level);
            let first = run(&cpu);
            assert_eq!(first.len(), truths.len(), "{case}");
            for (found, truth) in first.iter().zip(truths) {
                self.compare(case, level, found, truth);
            }
            for x in &first {
                let mut poison = x.clone();
                poison.data.fill(f32::NAN);
                cpu.recycle(poison);
            }
            let again = run(&cpu);
            for (x, y) in first.iter().zip(&again) {
                if let Some(i) = x.data.iter().zip(y.data.iter()).position(|(a, b)| a.to_bits() != b.to_bits()) {
                    let what = format!("element {i} = {:e} in a recycled buffer, {:e} before", y.data[i], x.data[i]);
                    self.fail(case, level, what);
                }
            }
            for (i, (x, before)) in inputs.iter().zip(&before).enumerate() {
                if x.data[..] != before[..] {
                    self.fail(case, level, format!("input {i} was changed"));
                }
            }
        }
    }

    fn finish(self, at_least: usize) {
        assert!(self.cases >= at_least, "only {} cases ran", self.cases);
        let n = self.failures.len();
        assert!(n == 0, "{n} failures:\n{}", self.failures[..n.min(20)].join("\n"));
    }
}
