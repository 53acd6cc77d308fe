//! The gradients of the operations, each by itself.
//!
//! Linear operations answer to their adjoint: `<A x, y> = <x, A' y>` for any x and y, summed up in f64. The others
//! answer to central differences of a plain f64 forward: differences of f32 values would be wrong in the third digit.

#[allow(dead_code)]
#[path = "../support/reference.rs"]
mod reference;

mod conv;
mod losses;
mod narrow;
mod norm;
mod small;
mod volume;

use engine::cpu::device::Cpu;
use engine::cpu::simd::Level;
use engine::host::random;
use engine::net::tensor::{Shape, Tensor};

/// Inputs by chance.
struct Random(random::Random);

impl Random {
    fn new(seed: u64) -> Self {
        Self(random::Random::from_state(seed))
    }

    /// Uniform in -1..1.
    fn value(&mut self) -> f32 {
        2.0 * self.0.unit_f32() - 1.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }

    fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::from_slice(shape, &self.values(shape.len())).unwrap()
    }
}

/// The sum of products in f64, and that of their magnitudes, to which f32 rounding is proportional.
fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
}

/// Both sides of an adjoint identity. Each element on either side is an f32 sum of up to `terms` products, whose
/// rounding errors are independent: they add up to less than 8 eps sqrt(terms) of the products' size.
fn expect_adjoint(what: &str, left: (f64, f64), right: (f64, f64), terms: usize) {
    let bound = 8.0 * f64::from(f32::EPSILON) * (terms as f64).sqrt() * left.1.max(right.1);
    let apart = (left.0 - right.0).abs();
    assert!(apart <= bound, "{what}: {} against {}, apart by {apart:.2e}, bound {bound:.2e}", left.0, right.0);
    assert!(left.0.abs() > 10.0 * bound, "{what}: {} says nothing with a bound of {bound:.2e}", left.0);
}

/// Every instruction set of this processor, each with a pool of poisoned buffers, so that what an operation leaves
/// unwritten shows.
fn devices(largest: usize) -> Vec<Cpu> {
    let device = |level| {
        let cpu = Cpu::with_level(level);
        for _ in 0..4 {
            let mut poison = Tensor::zeros(Shape::plane(1, 1, largest));
            poison.data.fill(f32::NAN);
            cpu.recycle(poison);
        }
        cpu
    };
    Level::available().into_iter().map(device).collect()
}

/// Runs `work` on 1, 3 and 16 threads; the results must be the same.
fn on_any_number_of_threads<T: PartialEq + Send>(what: &str, work: impl Fn() -> T + Sync) -> T {
    let mut results = [1, 3, 16].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        Some(pool.install(&work))
    });
    let first = results[0].take().unwrap();
    assert!(results[1..].iter().all(|r| r.as_ref() == Some(&first)), "{what} depends on the number of threads");
    first
}
