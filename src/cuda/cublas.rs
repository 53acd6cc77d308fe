//! One large product by cuBLAS, to know what a GPU reaches at most. The network itself does not use it.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys;
use cudarc::driver::CudaStream;

use super::driver::{Driver, Stream};
use super::libraries::{self, CUBLAS, CUBLAS_LT};
use super::storage::{Element, Pointer, stored};
use crate::error::{Error, Result};

/// The library.
pub(super) struct Cublas {
    handle: sys::cublasHandle_t,
}
// SAFETY: a handle that is used behind a mutex.
unsafe impl Send for Cublas {}

fn failed(what: &'static str) -> impl FnOnce(CublasError) -> Error {
    move |error| Error::Device(format!("cuBLAS, {what}: {error:?}"))
}

/// Device memory for a measurement.
struct Room<'a>(&'a dyn Driver, Pointer);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

impl Cublas {
    /// The library where there is one; a context must be bound.
    ///
    /// # Errors
    /// The library's.
    pub(super) fn open() -> Result<Option<Self>> {
        // SAFETY: tries to load the library, whose initialisers have no requirements.
        if libraries::load(&[CUBLAS_LT, CUBLAS]).is_err() && !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        Ok(Some(Self { handle: result::create_handle().map_err(failed("opening it"))? }))
    }

    /// See [`Driver::gemm_seconds`]. The matrices hold random values: a GPU that multiplies zeros draws less power and
    /// is faster than with any data.
    pub(super) fn gemm_seconds(
        &self,
        gpu: &dyn Driver,
        stream: &Arc<CudaStream>,
        n: usize,
        element: Element,
    ) -> Result<Option<f64>> {
        let kind = match element {
            Element::F16 => sys::cudaDataType::CUDA_R_16F,
            Element::F32 => sys::cudaDataType::CUDA_R_32F,
            _ => return Ok(None),
        };
        let side =
            i32::try_from(n).map_err(|_| Error::Bug { place: "cublas", problem: format!("a matrix of side {n}") })?;
        let mut state = 1u32;
        let values: Vec<f32> = (0..n * n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
            })
            .collect();
        let bytes = stored(element, &values);
        let room = || Ok::<_, Error>(Room(gpu, gpu.allocate(bytes.len() as u64)?));
        let (a, b, c) = (room()?, room()?, room()?);
        gpu.upload(a.1, &bytes, Stream::FIRST)?;
        gpu.upload(b.1, &bytes, Stream::FIRST)?;
        // SAFETY: both live; the stream belongs to the context that the handle was made in.
        unsafe { result::set_stream(self.handle, stream.cu_stream().cast()) }.map_err(failed("choosing a stream"))?;
        let (one, zero) = (1f32, 0f32);
        let product = || {
            let plain = sys::cublasOperation_t::CUBLAS_OP_N;
            let at = |room: &Room| room.1 as *const c_void;
            // SAFETY: three n x n matrices of this element; the scalars are f32, as sums in f32 want them.
            unsafe {
                result::gemm_ex(
                    self.handle,
                    plain,
                    plain,
                    side,
                    side,
                    side,
                    (&raw const one).cast(),
                    at(&a),
                    kind,
                    side,
                    at(&b),
                    kind,
                    side,
                    (&raw const zero).cast(),
                    c.1 as *mut c_void,
                    kind,
                    side,
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            }
            .map_err(failed("a large product"))
        };
        product()?;
        let begin = gpu.event(Stream::FIRST)?;
        product()?;
        let end = gpu.event(Stream::FIRST)?;
        gpu.synchronize(Stream::FIRST)?;
        Ok(Some(f64::from(end.milliseconds_since(&*begin)?) / 1e3))
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        // SAFETY: made by `open`, destroyed once. A failure leaves memory behind; there is nobody to tell.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
