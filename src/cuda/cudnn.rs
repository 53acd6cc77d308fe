//! Convolutions by cuDNN, for inference: descriptors made once for each geometry, and one fixed algorithm, the implicit
//! GEMM with precomputed indices. Which one runs does not depend on a timing, so that the same input gives the same
//! bits on each run.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys::{
    self, cudnnActivationMode_t as Activation, cudnnConvolutionFwdAlgo_t as ForwardAlgorithm,
    cudnnConvolutionMode_t as Mode, cudnnDataType_t as DataType, cudnnMathType_t as Math, cudnnNanPropagation_t as Nan,
    cudnnTensorFormat_t as Format,
};

use super::convolution::{Call, Pointers};
use super::libraries::{self, CUBLAS, CUBLAS_LT, CUDNN};
use super::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

const FORWARD: ForwardAlgorithm = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// What a geometry is known by.
type Key = ([usize; 8], [usize; 6], Element, bool, bool);

struct Descriptors {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    bias: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    activation: sys::cudnnActivationDescriptor_t,
}

/// The library with its descriptors.
pub(super) struct Cudnn {
    handle: sys::cudnnHandle_t,
    known: HashMap<Key, Descriptors>,
}
// SAFETY: handles that are used behind a mutex.
unsafe impl Send for Cudnn {}

/// Whether the library says that it cannot do this, for whatever reason: 3000 and what follows it.
fn not_supported(error: &CudnnError) -> bool {
    (3000..4000).contains(&(error.0 as u32))
}

fn failed(what: &'static str) -> impl FnOnce(CudnnError) -> Error {
    move |error| Error::Device(format!("cuDNN, {what}: {error:?}"))
}

/// Loads the library; one that is loaded is found by its name afterwards.
fn load() -> Result<()> {
    let loaded = libraries::load(&[CUBLAS_LT, CUBLAS, CUDNN]).or_else(|problem| {
        // Where the system has it complete under another name, cudarc finds it.
        // SAFETY: tries to load the library, whose initialisers have no requirements.
        if unsafe { sys::is_culib_present() } { Ok(()) } else { Err(problem) }
    });
    loaded.map_err(|problem| {
        Error::Device(format!(
            "cuDNN 9: {problem}; install it (pip install nvidia-cudnn-cu13), or name its folder in ENGINE_CUDA_LIBS, \
             or leave out --convolutions cudnn"
        ))
    })
}

fn data_type(element: Element) -> Result<DataType> {
    match element {
        Element::F32 => Ok(DataType::CUDNN_DATA_FLOAT),
        Element::F16 => Ok(DataType::CUDNN_DATA_HALF),
        other => Err(Error::Bug { place: "cudnn", problem: format!("a convolution of {other:?}") }),
    }
}

/// As cuDNN takes extents and strides.
fn ints<const N: usize>(values: [usize; N]) -> Result<[c_int; N]> {
    let mut list = [0; N];
    for (to, value) in list.iter_mut().zip(values) {
        *to = c_int::try_from(value)
            .map_err(|_| Error::Device(format!("cuDNN: an extent or stride of {value} is more than it can take")))?;
    }
    Ok(list)
}

/// Whether a tensor of this shape is one that cuDNN can describe.
fn describable(shape: Shape) -> bool {
    c_int::try_from(shape.len()).is_ok()
}

/// [D, H, W, C] as cuDNN's N, C, D, H, W. A 2D convolution (no extent along D) takes planes as N.
fn tensor(shape: Shape, planes: bool, element: Element) -> Result<sys::cudnnTensorDescriptor_t> {
    let descriptor = result::create_tensor_descriptor().map_err(failed("making a descriptor"))?;
    let (n, d) = if planes { (shape.d, 1) } else { (1, shape.d) };
    let Shape { h, w, c, .. } = shape;
    let sizes = ints([n, c, d, h, w])?;
    let strides = ints([d * h * w * c, 1, h * w * c, w * c, c])?;
    // SAFETY: both arrays have the five entries that are announced.
    unsafe { result::set_tensornd_descriptor(descriptor, data_type(element)?, 5, sizes.as_ptr(), strides.as_ptr()) }
        .map_err(failed("describing a tensor"))?;
    Ok(descriptor)
}

impl Descriptors {
    fn new(call: &Call) -> Result<Self> {
        let planes = call.kernel[0] == 1 && call.stride[0] == 1;
        let w = result::create_filter_descriptor().map_err(failed("making a descriptor"))?;
        let [kd, kh, kw] = call.kernel;
        let sizes = ints([call.output.c, call.input.c, kd, kh, kw])?;
        // SAFETY: five entries; the format NHWC means [CO, kd, kh, kw, CI].
        unsafe {
            result::set_filternd_descriptor(w, data_type(call.element)?, Format::CUDNN_TENSOR_NHWC, 5, sizes.as_ptr())
        }
        .map_err(failed("describing weights"))?;
        let convolution = result::create_convolution_descriptor().map_err(failed("making a descriptor"))?;
        let (padding, stride, dilation) = (ints(call.kernel.map(|k| k / 2))?, ints(call.stride)?, [1; 3]);
        // SAFETY: three entries each.
        unsafe {
            result::set_convolutionnd_descriptor(
                convolution,
                3,
                padding.as_ptr(),
                stride.as_ptr(),
                dilation.as_ptr(),
                Mode::CUDNN_CROSS_CORRELATION,
                DataType::CUDNN_DATA_FLOAT,
            )
        }
        .map_err(failed("describing a convolution"))?;
        let math = match (call.element, call.tf32) {
            (Element::F16, _) => Math::CUDNN_TENSOR_OP_MATH,
            (_, true) => Math::CUDNN_DEFAULT_MATH,
            (_, false) => Math::CUDNN_FMA_MATH,
        };
        // SAFETY: the descriptor was just made.
        unsafe { result::set_convolution_math_type(convolution, math) }.map_err(failed("choosing the arithmetic"))?;
        let activation = result::create_activation_descriptor().map_err(failed("making a descriptor"))?;
        let mode = if call.relu { Activation::CUDNN_ACTIVATION_RELU } else { Activation::CUDNN_ACTIVATION_IDENTITY };
        // SAFETY: as above.
        unsafe { result::set_activation_descriptor(activation, mode, Nan::CUDNN_PROPAGATE_NAN, 0.0) }
            .map_err(failed("describing a ReLU"))?;
        let bias = Shape { d: 1, h: 1, w: 1, c: call.output.c };
        Ok(Self {
            x: tensor(call.input, planes, call.element)?,
            y: tensor(call.output, planes, call.element)?,
            // The fused call wants the bias in the type of the tensors.
            bias: tensor(bias, planes, call.element)?,
            w,
            convolution,
            activation,
        })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was made once and is destroyed once. A failure leaves memory behind; there is nobody to tell.
        unsafe {
            for tensor in [self.x, self.y, self.bias] {
                let _ = result::destroy_tensor_descriptor(tensor);
            }
            let _ = result::destroy_filter_descriptor(self.w);
            let _ = result::destroy_convolution_descriptor(self.convolution);
            let _ = sys::cudnnDestroyActivationDescriptor(self.activation);
        }
    }
}

impl Cudnn {
    pub(super) fn open() -> Result<Self> {
        load()?;
        let handle = result::create_handle().map_err(failed("starting"))?;
        Ok(Self { handle, known: HashMap::new() })
    }

    fn descriptors(&mut self, call: &Call) -> Result<&Descriptors> {
        let (x, y, [kd, kh, kw], [sd, sh, sw]) = (call.input, call.output, call.kernel, call.stride);
        let extents = [x.d, x.h, x.w, x.c, y.d, y.h, y.w, y.c];
        let key = (extents, [kd, kh, kw, sd, sh, sw], call.element, call.tf32, call.relu);
        match self.known.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => Ok(entry.insert(Descriptors::new(call)?)),
        }
    }

    /// Bytes of workspace; `None` for what the library cannot do.
    pub(super) fn workspace(&mut self, call: &Call) -> Result<Option<u64>> {
        if !describable(call.input) || !describable(call.output) {
            return Ok(None);
        }
        let handle = self.handle;
        let d = self.descriptors(call)?;
        // SAFETY: the descriptors live in `known`.
        let bytes =
            unsafe { result::get_convolution_forward_workspace_size(handle, d.x, d.w, d.convolution, d.y, FORWARD) };
        match bytes {
            Ok(bytes) => Ok(Some(bytes as u64)),
            Err(error) if not_supported(&error) => Ok(None),
            Err(error) => Err(failed("asking for the workspace")(error)),
        }
    }

    pub(super) fn convolve(&mut self, stream: cudarc::driver::sys::CUstream, call: &Call, at: &Pointers) -> Result<()> {
        let handle = self.handle;
        // SAFETY: the stream lives; cuDNN's own type of it is the same handle.
        unsafe { result::set_stream(handle, stream.cast()) }.map_err(failed("choosing a stream"))?;
        let d = self.descriptors(call)?;
        let (one, add) = (1.0f32, if at.residual == 0 { 0.0f32 } else { 1.0 });
        let float = |f: &f32| std::ptr::from_ref(f).cast::<c_void>();
        let (x, w, y) = (at.x as *mut c_void, at.w as *mut c_void, at.y as *mut c_void);
        let (workspace, size) = (at.workspace as *mut c_void, call.workspace as usize);
        let residual = if at.residual == 0 { y } else { at.residual as *mut c_void };
        // SAFETY: the plan holds tensors of the described sizes at these addresses, and `workspace` bytes of workspace.
        let done = unsafe {
            result::convolution_bias_activation_forward(
                handle,
                float(&one),
                d.x,
                x,
                d.w,
                w,
                d.convolution,
                FORWARD,
                workspace,
                size,
                float(&add),
                d.y,
                residual,
                d.bias,
                at.bias as *mut c_void,
                d.activation,
                d.y,
                y,
            )
        };
        done.map_err(failed("convolving"))
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.known.clear();
        // SAFETY: made by `open`, destroyed once. A failure leaves memory behind; there is nobody to tell.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
