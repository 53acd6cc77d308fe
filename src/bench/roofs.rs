//! What a machine reaches at most: a large matrix product, which nothing but arithmetic bounds, and a large copy,
//! which nothing but memory does.
//!
//! A stage whose FLOP/s are near the first or whose bytes/s are near the second cannot be made much faster by other
//! code for the same work.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::Roofs;
use crate::cuda::driver::{Driver, Stream};
use crate::cuda::program::Owned;
use crate::cuda::storage::Element;
use crate::error::Result;

/// Side of the processor's matrices, one product a thread: three of them are 7 MB, more than the caches that a core
/// has to itself.
const HOST_SIDE: usize = 768;
/// Side of a device's matrices, where three of them take no more than an eighth of what is free.
const DEVICE_SIDE: usize = 8192;
/// Bytes of a copy: larger than caches.
const COPY: usize = 256 << 20;
/// The best of this many counts.
const TRIES: usize = 5;

fn best(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    (0..TRIES).try_fold(f64::INFINITY, |best, _| Ok(best.min(run()?)))
}

/// FLOP/s of a large f32 product by the library matrixmultiply on all threads of the pool: each multiplies matrices of
/// its own.
pub fn host_gemm() -> f64 {
    let n = HOST_SIDE;
    let work = || {
        let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0.0f32; n * n]);
        let mut seconds = f64::INFINITY;
        for _ in 0..TRIES {
            let start = Instant::now();
            let row = n as isize;
            // SAFETY: three n x n matrices in row-major order.
            unsafe {
                matrixmultiply::sgemm(
                    n,
                    n,
                    n,
                    1.0,
                    a.as_ptr(),
                    row,
                    1,
                    b.as_ptr(),
                    row,
                    1,
                    0.0,
                    c.as_mut_ptr(),
                    row,
                    1,
                );
            }
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        2.0 * (n as f64).powi(3) / seconds
    };
    rayon::broadcast(|_| work()).into_iter().sum()
}

/// Bytes/s of a large copy on all threads of the pool, reads and writes both counted.
pub fn host_copy() -> f64 {
    let from = vec![1u8; COPY];
    let mut to = vec![0u8; COPY];
    let mut seconds = f64::INFINITY;
    for _ in 0..TRIES {
        let start = Instant::now();
        to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    2.0 * std::hint::black_box(to).len() as f64 / seconds
}

/// The processor's.
pub fn host() -> Roofs {
    Roofs { gemm_flops_per_s: Some(host_gemm()), copy_bytes_per_s: host_copy() }
}

/// Bytes/s of a large copy within a device, reads and writes both counted.
///
/// # Errors
/// The device's.
pub fn device_copy(driver: &Arc<dyn Driver>, bytes: u64) -> Result<f64> {
    let room = || Owned::new(driver, bytes, || "a copy that is measured".into());
    let (from, to) = (room()?, room()?);
    let stream = Stream::FIRST;
    driver.fill(from.pointer(), 1, bytes, stream)?;
    let seconds = best(|| {
        let begin = driver.event(stream)?;
        driver.copy(to.pointer(), from.pointer(), bytes, stream)?;
        let end = driver.event(stream)?;
        driver.synchronize(stream)?;
        Ok(f64::from(end.milliseconds_since(&*begin)?) / 1e3)
    })?;
    Ok(2.0 * bytes as f64 / seconds.max(1e-9))
}

/// A device's, with a product of this element.
///
/// # Errors
/// The device's.
pub fn device(driver: &Arc<dyn Driver>, element: Element) -> Result<Roofs> {
    let (free, _) = driver.memory()?;
    let mut n = DEVICE_SIDE;
    while n > 64 && 3 * (n * n) as u64 * element.bytes() > free / 8 {
        n /= 2;
    }
    let mut gemm = None;
    for _ in 0..TRIES {
        let Some(seconds) = driver.gemm_seconds(n, element)? else { break };
        let rate = 2.0 * (n as f64).powi(3) / seconds;
        gemm = Some(gemm.map_or(rate, |best: f64| best.max(rate)));
    }
    // Half of what is free at most, for small devices.
    Ok(Roofs { gemm_flops_per_s: gemm, copy_bytes_per_s: device_copy(driver, (1 << 30).min(free / 4).max(1 << 20))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roofs_are_not_absurd() {
        let roofs = host();
        // A hundredth of a slow core's, and a hundred times a large server's.
        assert!((1e8..1e15).contains(&roofs.gemm_flops_per_s.unwrap()), "{roofs:?}");
        assert!((1e7..1e14).contains(&roofs.copy_bytes_per_s), "{roofs:?}");
    }
}
