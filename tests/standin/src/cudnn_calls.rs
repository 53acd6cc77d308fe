//! The entry points of cuDNN 9 (`libcudnn.so.9`) that the engine calls, for forward convolutions. Descriptors are
//! checked as cuDNN's manual has them, and the work is done in f64 when the stream comes to it.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use half::f16;

use super::codes::Code;
use super::silicon::{Failure, Silicon};
use super::state::{Handle, Work, state};

const BAD_PARAM: c_int = 2000;
const NOT_SUPPORTED: c_int = 3000;
const EXECUTION_FAILED: c_int = 5000;

const FLOAT: c_int = 0;
const HALF: c_int = 2;
const NHWC: c_int = 1;
const CROSS_CORRELATION: c_int = 1;
/// The one algorithm that the fused call has for an activation that does nothing.
const IMPLICIT_PRECOMP_GEMM: c_int = 1;
const RELU: c_int = 1;
const IDENTITY: c_int = 5;
/// What a forward convolution wants: as much as a tile of inputs, say.
const WORKSPACE: usize = 4096;

/// A descriptor.
#[derive(Clone)]
enum Descriptor {
    Empty,
    Tensor { kind: c_int, sizes: [usize; 5], strides: [usize; 5] },
    Filter { kind: c_int, sizes: [usize; 5] },
    Convolution { padding: [usize; 3], stride: [usize; 3], math: c_int },
    Activation { mode: c_int },
}

#[derive(Default)]
struct Library {
    next: Handle,
    descriptors: HashMap<Handle, Descriptor>,
    /// The streams of the library's handles.
    handles: HashMap<Handle, Handle>,
    /// Convolutions with so many output channels are not supported.
    refused: Option<usize>,
}

fn library() -> MutexGuard<'static, Library> {
    static LIBRARY: LazyLock<Mutex<Library>> = LazyLock::new(|| {
        let refused = std::env::var("ENGINE_STANDIN_CUDNN_REFUSES").ok();
        let refused = refused.map(|n| n.parse().expect("ENGINE_STANDIN_CUDNN_REFUSES is a number of channels"));
        Mutex::new(Library { refused, ..Library::default() })
    });
    LIBRARY.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A call: 0, or a status, which goes into the log; wrong arguments are findings.
fn call(entry: &'static str, work: impl FnOnce(&mut Library) -> Result<(), c_int>) -> c_int {
    let status = work(&mut library()).map_or_else(|status| status, |()| 0);
    let mut state = state();
    state.report.count(entry);
    state.report.line(|| format!("{entry} = {status}"));
    if status == BAD_PARAM {
        state.report.finding(format!("{entry} with arguments that cuDNN refuses"));
    }
    status
}

fn put<T>(to: *mut T, value: T) -> Result<(), c_int> {
    super::entry::put(to, value).map_err(|_| BAD_PARAM)
}

/// Five numbers that must all be at least `least`.
fn five(from: *const c_int, least: c_int) -> Result<[usize; 5], c_int> {
    if from.is_null() {
        return Err(BAD_PARAM);
    }
    // SAFETY: the caller promises as many numbers as it announces, and the callers here ask for five announced.
    let list = unsafe { std::slice::from_raw_parts(from, 5) };
    if list.iter().any(|&n| n < least) {
        return Err(BAD_PARAM);
    }
    Ok(std::array::from_fn(|i| list[i] as usize))
}

/// As above, of three.
fn three(from: *const c_int, least: c_int) -> Result<[usize; 3], c_int> {
    if from.is_null() {
        return Err(BAD_PARAM);
    }
    // SAFETY: as above.
    let list = unsafe { std::slice::from_raw_parts(from, 3) };
    if list.iter().any(|&n| n < least) {
        return Err(BAD_PARAM);
    }
    Ok(std::array::from_fn(|i| list[i] as usize))
}

/// Defines an entry point of the library.
macro_rules! cudnn {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*), |$library:pat_param| $body:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the library's interface says of its pointers.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the library's")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            call(stringify!($name), |$library| $body)
        }
    };
}

impl Library {
    fn create(&mut self, to: *mut *mut c_void) -> Result<(), c_int> {
        self.next += 16;
        self.descriptors.insert(self.next, Descriptor::Empty);
        put(to, self.next as *mut c_void)
    }

    fn set(&mut self, at: *mut c_void, descriptor: Descriptor) -> Result<(), c_int> {
        *self.descriptors.get_mut(&(at as Handle)).ok_or(BAD_PARAM)? = descriptor;
        Ok(())
    }

    fn destroy(&mut self, at: *mut c_void) -> Result<(), c_int> {
        self.descriptors.remove(&(at as Handle)).map(|_| ()).ok_or(BAD_PARAM)
    }

    fn tensor(&self, at: *mut c_void) -> Result<(c_int, [usize; 5], [usize; 5]), c_int> {
        match self.descriptors.get(&(at as Handle)) {
            Some(Descriptor::Tensor { kind, sizes, strides }) => Ok((*kind, *sizes, *strides)),
            _ => Err(BAD_PARAM),
        }
    }
}

/// cuDNN's version.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the library's")]
pub extern "C" fn cudnnGetVersion() -> usize {
    90_200
}

cudnn! {
    /// Opens the library in the current context.
    cudnnCreate(to: *mut *mut c_void), |library| {
        if state().current().is_err() {
            return Err(1001);
        }
        library.next += 16;
        library.handles.insert(library.next, 0);
        put(to, library.next as *mut c_void)
    }
}

cudnn! {
    /// Closes it; its context must still be there.
    cudnnDestroy(handle: *mut c_void), |library| {
        library.handles.remove(&(handle as Handle)).ok_or(BAD_PARAM)?;
        if !library.descriptors.is_empty() {
            state().report.finding(format!("cuDNN was closed with {} descriptors", library.descriptors.len()));
        }
        if state().current().is_err() {
            state().report.finding("cuDNN was closed after its context".into());
        }
        Ok(())
    }
}

cudnn! {
    /// Where work goes from now on.
    cudnnSetStream(handle: *mut c_void, stream: *mut c_void), |library| {
        let stream = state().stream(stream as Handle).map_err(|_| BAD_PARAM)?;
        *library.handles.get_mut(&(handle as Handle)).ok_or(BAD_PARAM)? = stream;
        Ok(())
    }
}

cudnn! {
    /// An empty descriptor.
    cudnnCreateTensorDescriptor(to: *mut *mut c_void), |library| library.create(to)
}
cudnn! {
    /// An empty descriptor.
    cudnnCreateFilterDescriptor(to: *mut *mut c_void), |library| library.create(to)
}
cudnn! {
    /// An empty descriptor.
    cudnnCreateConvolutionDescriptor(to: *mut *mut c_void), |library| library.create(to)
}
cudnn! {
    /// An empty descriptor.
    cudnnCreateActivationDescriptor(to: *mut *mut c_void), |library| library.create(to)
}
cudnn! {
    /// Lets one go.
    cudnnDestroyTensorDescriptor(at: *mut c_void), |library| library.destroy(at)
}
cudnn! {
    /// Lets one go.
    cudnnDestroyFilterDescriptor(at: *mut c_void), |library| library.destroy(at)
}
cudnn! {
    /// Lets one go.
    cudnnDestroyConvolutionDescriptor(at: *mut c_void), |library| library.destroy(at)
}
cudnn! {
    /// Lets one go.
    cudnnDestroyActivationDescriptor(at: *mut c_void), |library| library.destroy(at)
}

cudnn! {
    /// A tensor N, C, D, H, W.
    cudnnSetTensorNdDescriptor(at: *mut c_void, kind: c_int, count: c_int, sizes: *const c_int, strides: *const c_int),
    |library| {
        if count != 5 || ![FLOAT, HALF].contains(&kind) {
            return Err(BAD_PARAM);
        }
        library.set(at, Descriptor::Tensor { kind, sizes: five(sizes, 1)?, strides: five(strides, 1)? })
    }
}

cudnn! {
    /// Weights K, C, D, H, W, which lie as K, D, H, W, C.
    cudnnSetFilterNdDescriptor(at: *mut c_void, kind: c_int, format: c_int, count: c_int, sizes: *const c_int),
    |library| {
        if count != 5 || ![FLOAT, HALF].contains(&kind) || format != NHWC {
            return Err(BAD_PARAM);
        }
        library.set(at, Descriptor::Filter { kind, sizes: five(sizes, 1)? })
    }
}

cudnn! {
    /// A convolution with sums in f32.
    cudnnSetConvolutionNdDescriptor(
        at: *mut c_void,
        count: c_int,
        padding: *const c_int,
        stride: *const c_int,
        dilation: *const c_int,
        mode: c_int,
        sums: c_int
    ), |library| {
        if count != 3 || mode != CROSS_CORRELATION || sums != FLOAT || three(dilation, 1)? != [1; 3] {
            return Err(BAD_PARAM);
        }
        let (padding, stride) = (three(padding, 0)?, three(stride, 1)?);
        library.set(at, Descriptor::Convolution { padding, stride, math: 0 })
    }
}

cudnn! {
    /// Its arithmetic.
    cudnnSetConvolutionMathType(at: *mut c_void, wanted: c_int), |library| {
        match library.descriptors.get_mut(&(at as Handle)) {
            Some(Descriptor::Convolution { math, .. }) if (0..=3).contains(&wanted) => *math = wanted,
            _ => return Err(BAD_PARAM),
        }
        Ok(())
    }
}

cudnn! {
    /// What follows a convolution.
    cudnnSetActivationDescriptor(at: *mut c_void, mode: c_int, nan: c_int, _coefficient: f64), |library| {
        if ![RELU, IDENTITY].contains(&mode) || !(0..=1).contains(&nan) {
            return Err(BAD_PARAM);
        }
        library.set(at, Descriptor::Activation { mode })
    }
}

/// All that a forward convolution is described by.
#[derive(Clone)]
struct Geometry {
    kind: c_int,
    x: ([usize; 5], [usize; 5]),
    y: ([usize; 5], [usize; 5]),
    w: [usize; 5],
    padding: [usize; 3],
    stride: [usize; 3],
}

impl Library {
    fn geometry(
        &self,
        x: *mut c_void,
        w: *mut c_void,
        convolution: *mut c_void,
        y: *mut c_void,
    ) -> Result<Geometry, c_int> {
        let ((kind, x, x_strides), (y_kind, y, y_strides)) = (self.tensor(x)?, self.tensor(y)?);
        let (w_kind, w) = match self.descriptors.get(&(w as Handle)) {
            Some(Descriptor::Filter { kind, sizes }) => (*kind, *sizes),
            _ => return Err(BAD_PARAM),
        };
        let (padding, stride, math) = match self.descriptors.get(&(convolution as Handle)) {
            Some(Descriptor::Convolution { padding, stride, math }) => (*padding, *stride, *math),
            _ => return Err(BAD_PARAM),
        };
        let along = |i: usize| (x[2 + i] + 2 * padding[i]).checked_sub(w[2 + i]).map(|rest| rest / stride[i] + 1);
        let fits = (0..3).all(|i| along(i) == Some(y[2 + i])) && x[0] == y[0] && x[1] == w[1] && y[1] == w[0];
        // 3 is arithmetic without rounding to TF32, which f16 has no use for.
        if !fits || w_kind != kind || y_kind != kind || (kind == HALF && math == 3) {
            return Err(BAD_PARAM);
        }
        if self.refused == Some(y[1]) {
            return Err(NOT_SUPPORTED);
        }
        Ok(Geometry { kind, x: (x, x_strides), y: (y, y_strides), w, padding, stride })
    }
}

cudnn! {
    /// Bytes that a forward convolution wants.
    cudnnGetConvolutionForwardWorkspaceSize(
        _handle: *mut c_void,
        x: *mut c_void,
        w: *mut c_void,
        convolution: *mut c_void,
        y: *mut c_void,
        algorithm: c_int,
        to: *mut usize
    ), |library| {
        library.geometry(x, w, convolution, y)?;
        if algorithm != IMPLICIT_PRECOMP_GEMM {
            return Err(NOT_SUPPORTED);
        }
        put(to, WORKSPACE)
    }
}

/// Where a forward convolution's tensors lie.
#[derive(Clone, Copy)]
struct Places {
    x: u64,
    w: u64,
    z: u64,
    bias: u64,
    y: u64,
    workspace: u64,
}

cudnn! {
    /// y = activation(w * x + beta z + bias).
    cudnnConvolutionBiasActivationForward(
        handle: *mut c_void,
        alpha: *const c_void,
        x: *mut c_void,
        x_at: *const c_void,
        w: *mut c_void,
        w_at: *const c_void,
        convolution: *mut c_void,
        algorithm: c_int,
        workspace: *mut c_void,
        bytes: usize,
        beta: *const c_void,
        z: *mut c_void,
        z_at: *const c_void,
        bias: *mut c_void,
        bias_at: *const c_void,
        activation: *mut c_void,
        y: *mut c_void,
        y_at: *mut c_void
    ), |library| {
        let stream = *library.handles.get(&(handle as Handle)).ok_or(BAD_PARAM)?;
        let geometry = library.geometry(x, w, convolution, y)?;
        let relu = match library.descriptors.get(&(activation as Handle)) {
            Some(Descriptor::Activation { mode }) => *mode == RELU,
            _ => return Err(BAD_PARAM),
        };
        let (z_kind, z_sizes, _) = library.tensor(z)?;
        let (bias_kind, bias_sizes, _) = library.tensor(bias)?;
        let channels = geometry.y.0[1];
        // The manual's table of types: all of one, and the scalars f32.
        if bias_kind != geometry.kind || z_kind != geometry.kind {
            return Err(BAD_PARAM);
        }
        if z_sizes != geometry.y.0 || bias_sizes != [1, channels, 1, 1, 1] {
            return Err(BAD_PARAM);
        }
        if algorithm != IMPLICIT_PRECOMP_GEMM || bytes < WORKSPACE || alpha.is_null() || beta.is_null() {
            return Err(BAD_PARAM);
        }
        // SAFETY: the scalars are f32, since sums are.
        let scales = unsafe { [alpha.cast::<f32>().read(), beta.cast::<f32>().read()] };
        let [x, w, z, bias] = [x_at, w_at, z_at, bias_at].map(|at| at as u64);
        let places = Places { x, w, z, bias, y: y_at as u64, workspace: workspace as u64 };
        let all = vec![x, w, z, bias, places.y, places.workspace];
        let work = move |silicon: &mut Silicon| convolve(silicon, &geometry, &places, scales, relu);
        let work = Work::Host { what: "a convolution of cuDNN", uses: Arc::new(all), work: Arc::new(work) };
        state().enqueue(stream, work).map_err(|_: Code| EXECUTION_FAILED)
    }
}

/// Elements of a tensor of this type as f64.
fn read(silicon: &mut Silicon, from: u64, count: usize, kind: c_int) -> Result<Vec<f64>, Failure> {
    let size = if kind == HALF { 2 } else { 4 };
    let (bytes, unwritten) = silicon.get(from, (count * size) as u64)?;
    if let Some(first) = unwritten {
        return Err((Code::LAUNCH_FAILED, format!("a convolution of cuDNN reads byte {first}, which nobody wrote")));
    }
    Ok(match kind {
        HALF => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
    })
}

fn convolve(
    silicon: &mut Silicon,
    geometry: &Geometry,
    at: &Places,
    [alpha, beta]: [f32; 2],
    relu: bool,
) -> Result<(), Failure> {
    let Geometry { kind, x: (x_size, x_stride), y: (y_size, y_stride), w: w_size, padding, stride } = geometry;
    let count = |sizes: &[usize; 5]| sizes.iter().product::<usize>();
    let x = read(silicon, at.x, count(x_size), *kind)?;
    let w = read(silicon, at.w, count(w_size), *kind)?;
    let bias = read(silicon, at.bias, y_size[1], *kind)?;
    let z = if beta == 0.0 { Vec::new() } else { read(silicon, at.z, count(y_size), *kind)? };
    // The library may leave anything there.
    silicon.put(at.workspace, &[0xaa; WORKSPACE])?;
    let [n, _, depth, height, width] = *y_size;
    let [_, inputs, kd, kh, kw] = *w_size;
    let index = |strides: &[usize; 5], i: [usize; 5]| strides.iter().zip(i).map(|(s, i)| s * i).sum::<usize>();
    let source = |o: usize, axis: usize, k: usize| {
        (o * stride[axis] + k).checked_sub(padding[axis]).filter(|&i| i < x_size[2 + axis])
    };
    let mut y = vec![0.0f64; count(y_size)];
    for (b, d, h, c) in places([n, depth, height, width]) {
        for (o, bias) in bias.iter().enumerate() {
            let mut sum = 0.0;
            for (i, j, k, _) in places([kd, kh, kw, 1]) {
                let (Some(z), Some(r), Some(s)) = (source(d, 0, i), source(h, 1, j), source(c, 2, k)) else { continue };
                let (from, of) = (index(x_stride, [b, 0, z, r, s]), (((o * kd + i) * kh + j) * kw + k) * inputs);
                sum += (0..inputs).map(|input| x[from + input * x_stride[1]] * w[of + input]).sum::<f64>();
            }
            let place = index(y_stride, [b, o, d, h, c]);
            let added = if beta == 0.0 { 0.0 } else { f64::from(beta) * z[place] };
            let value = f64::from(alpha) * sum + added + bias;
            y[place] = if relu { value.max(0.0) } else { value };
        }
    }
    let bytes: Vec<u8> = match *kind {
        HALF => y.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
        _ => y.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
    };
    silicon.put(at.y, &bytes)
}

/// All places of a box, the last extent fastest.
fn places([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}
