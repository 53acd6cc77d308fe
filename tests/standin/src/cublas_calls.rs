//! The entry points of cuBLAS (`libcublas.so`) that the engine calls: `bench` multiplies two matrices to know what a
//! device reaches at most. Arguments are checked as cuBLAS's manual has them, and sums are f64.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use half::f16;

use super::codes::Code;
use super::silicon::{Failure, Silicon};
use super::state::{Handle, Work, state};

const NOT_INITIALIZED: c_int = 1;
const INVALID_VALUE: c_int = 7;
const EXECUTION_FAILED: c_int = 13;
const NOT_SUPPORTED: c_int = 15;

const FLOAT: c_int = 0;
const HALF: c_int = 2;
const PLAIN: c_int = 0;
/// Sums in f32.
const COMPUTE_FLOAT: c_int = 68;

/// The streams of the library's handles.
fn handles() -> MutexGuard<'static, HashMap<Handle, Handle>> {
    static HANDLES: LazyLock<Mutex<HashMap<Handle, Handle>>> = LazyLock::new(Mutex::default);
    HANDLES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A call: 0, or a status, which goes into the log; wrong arguments are findings.
fn call(entry: &'static str, work: impl FnOnce(&mut HashMap<Handle, Handle>) -> Result<(), c_int>) -> c_int {
    let status = work(&mut handles()).map_or_else(|status| status, |()| 0);
    let mut state = state();
    state.report.count(entry);
    state.report.line(|| format!("{entry} = {status}"));
    if status == INVALID_VALUE {
        state.report.finding(format!("{entry} with arguments that cuBLAS refuses"));
    }
    status
}

/// Defines an entry point of the library.
macro_rules! cublas {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*), |$handles:pat_param| $body:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the library's interface says of its pointers.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the library's")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            call(stringify!($name), |$handles| $body)
        }
    };
}

cublas! {
    /// Opens the library in the current context.
    cublasCreate_v2(to: *mut *mut c_void), |handles| {
        if state().current().is_err() {
            return Err(NOT_INITIALIZED);
        }
        let handle = state().handle();
        handles.insert(handle, 0);
        super::entry::put(to, handle as *mut c_void).map_err(|_| INVALID_VALUE)
    }
}

cublas! {
    /// Closes it; its context must still be there.
    cublasDestroy_v2(handle: *mut c_void), |handles| {
        handles.remove(&(handle as Handle)).ok_or(NOT_INITIALIZED)?;
        if state().current().is_err() {
            state().report.finding("cuBLAS was closed after its context".into());
        }
        Ok(())
    }
}

cublas! {
    /// Where work goes from now on.
    cublasSetStream_v2(handle: *mut c_void, stream: *mut c_void), |handles| {
        let stream = state().stream(stream as Handle).map_err(|_| INVALID_VALUE)?;
        *handles.get_mut(&(handle as Handle)).ok_or(NOT_INITIALIZED)? = stream;
        Ok(())
    }
}

/// A matrix by columns: where it lies, its type, and the numbers from one column to the next.
#[derive(Clone, Copy)]
struct Matrix {
    at: u64,
    kind: c_int,
    step: usize,
}

impl Matrix {
    fn of(at: *const c_void, kind: c_int, step: c_int, rows: usize) -> Result<Self, c_int> {
        let fits = usize::try_from(step).is_ok_and(|step| step >= rows.max(1));
        if !fits || at.is_null() {
            return Err(INVALID_VALUE);
        }
        if ![FLOAT, HALF].contains(&kind) {
            return Err(NOT_SUPPORTED);
        }
        Ok(Self { at: at as u64, kind, step: step as usize })
    }

    /// Its numbers; `columns` of them, the last one of so many `rows`.
    fn read(self, silicon: &mut Silicon, rows: usize, columns: usize) -> Result<Vec<f64>, Failure> {
        let count = self.step * (columns - 1) + rows;
        let size = if self.kind == HALF { 2 } else { 4 };
        let (bytes, unwritten) = silicon.get(self.at, (count * size) as u64)?;
        if let Some(first) = unwritten {
            return Err((Code::LAUNCH_FAILED, format!("a product of cuBLAS reads byte {first}, which nobody wrote")));
        }
        Ok(match self.kind {
            HALF => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        })
    }
}

cublas! {
    /// C = alpha A B + beta C, of matrices by columns that are not transposed, with beta = 0.
    cublasGemmEx(
        handle: *mut c_void,
        first: c_int,
        second: c_int,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: *const c_void,
        a: *const c_void,
        a_kind: c_int,
        a_step: c_int,
        b: *const c_void,
        b_kind: c_int,
        b_step: c_int,
        beta: *const c_void,
        c: *mut c_void,
        c_kind: c_int,
        c_step: c_int,
        compute: c_int,
        _algorithm: c_int
    ), |handles| {
        let stream = *handles.get(&(handle as Handle)).ok_or(NOT_INITIALIZED)?;
        if m < 1 || n < 1 || k < 1 || alpha.is_null() || beta.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the scalars are f32, since sums are.
        let [alpha, beta] = unsafe { [alpha.cast::<f32>().read(), beta.cast::<f32>().read()] };
        // The rows of the manual's table that the engine has a use for.
        let kinds = a_kind == b_kind && b_kind == c_kind;
        if [first, second] != [PLAIN; 2] || compute != COMPUTE_FLOAT || beta != 0.0 || !kinds {
            return Err(NOT_SUPPORTED);
        }
        let [m, n, k] = [m, n, k].map(|size| size as usize);
        let a = Matrix::of(a, a_kind, a_step, m)?;
        let b = Matrix::of(b, b_kind, b_step, k)?;
        let c = Matrix::of(c, c_kind, c_step, m)?;
        let work = move |silicon: &mut Silicon| multiply(silicon, [a, b, c], [m, n, k], alpha);
        let all = Arc::new(vec![a.at, b.at, c.at]);
        let work = Work::Host { what: "a product of cuBLAS", uses: all, work: Arc::new(work) };
        state().enqueue(stream, work).map_err(|_: Code| EXECUTION_FAILED)
    }
}

fn multiply(silicon: &mut Silicon, [a, b, c]: [Matrix; 3], [m, n, k]: [usize; 3], alpha: f32) -> Result<(), Failure> {
    let (left, right) = (a.read(silicon, m, k)?, b.read(silicon, k, n)?);
    for column in 0..n {
        let mut sums = vec![0.0f64; m];
        for (i, factor) in right[column * b.step..][..k].iter().enumerate() {
            sums.iter_mut().zip(&left[i * a.step..]).for_each(|(sum, value)| *sum += factor * value);
        }
        let scaled = sums.into_iter().map(|sum| f64::from(alpha) * sum);
        let bytes: Vec<u8> = match c.kind {
            HALF => scaled.flat_map(|value| f16::from_f64(value).to_le_bytes()).collect(),
            _ => scaled.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        };
        let size = if c.kind == HALF { 2 } else { 4 };
        silicon.put(c.at + (size * column * c.step) as u64, &bytes)?;
    }
    Ok(())
}
