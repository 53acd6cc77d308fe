//! Checkpoints: safetensors files with the reference's `state_dict` names and, in the metadata, the configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use super::{Aggregation, Config, Decoder, Difference};
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::depthwise::Depthwise;
use crate::error::{Error, Result};

/// Batch norm's epsilon.
const EPSILON: f64 = 1e-5;

/// A file of more bytes is no checkpoint (this network has about 4 MB) and is not read into memory.
const MAX_BYTES: u64 = 256 << 20;

struct Values {
    shape: Vec<usize>,
    /// `None` for a dtype that is no f32 (only the batch counters may be that).
    values: Option<Vec<f32>>,
    dtype: Dtype,
}

/// A checkpoint in memory, whose tensors are taken one by one; what is left over at the end does not belong to
/// the network.
pub struct Checkpoint {
    /// Where it came from, for messages.
    pub name: String,
    /// SHA-256 of the file, hexadecimal.
    pub hash: String,
    /// From the metadata, or inferred from the tensors' names.
    pub config: Config,
    tensors: Source,
}

enum Source {
    File(RefCell<BTreeMap<String, Values>>),
    Function(Box<Initializer>),
}

/// The values of a tensor by its name and shape.
pub type Initializer = dyn Fn(&str, &[usize]) -> Vec<f32>;

impl Checkpoint {
    /// The weights that come with the binary.
    ///
    /// # Errors
    /// Never for a binary that passed its tests.
    pub fn built_in() -> Result<Self> {
        Self::parse("built-in".into(), super::BUILT_IN)
    }

    /// The file of [`Checkpoint::built_in`], for programs that read files.
    pub fn built_in_file() -> &'static [u8] {
        super::BUILT_IN
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no safetensors file, or its metadata names an unknown configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path);
        let size = file.as_ref().ok().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        if size <= MAX_BYTES {
            // Devices and pipes have no size, hence the limit here, too.
            let read = file.and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes));
            read.map_err(Error::io("read the weights", path))?;
        }
        if size.max(bytes.len() as u64) > MAX_BYTES {
            let problem = format!("larger than {} MiB; a checkpoint of BS-MVSNet is not", MAX_BYTES >> 20);
            return Err(Error::Weights { file: name, problem });
        }
        Self::parse(name, &bytes)
    }

    /// Reads a file's bytes; `name` is for messages.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn parse(name: String, bytes: &[u8]) -> Result<Self> {
        let fail = |problem: String| Error::Weights { file: name.clone(), problem };
        let not_one = |e| fail(not_safetensors(bytes, &e));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_one)?;
        let file = SafeTensors::deserialize(bytes).map_err(not_one)?;
        let mut tensors = BTreeMap::new();
        for (tensor, view) in file.iter() {
            let floats = (view.dtype() == Dtype::F32)
                .then(|| view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
            let values = Values { shape: view.shape().to_vec(), values: floats, dtype: view.dtype() };
            tensors.insert(tensor.to_owned(), values);
        }
        // Without a single name of this network, the first missing tensor would tell less than what is there.
        let ours = |name: &String| name.starts_with("features.") || name.starts_with("regularizer.");
        if !tensors.keys().any(ours) {
            let first = tensors.keys().next().map_or("no tensor".into(), |n| format!("tensors such as `{n}`"));
            let problem = format!("not a checkpoint of BS-MVSNet: it holds {first}; expected `features.*`");
            return Err(fail(problem + ", `gate.*` and `regularizer.*`"));
        }
        let config = config(header.metadata().as_ref(), &tensors).map_err(&fail)?;
        let hash = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { name, hash, config, tensors: Source::File(RefCell::new(tensors)) })
    }

    /// Weights that are no file's: `initializer` is asked for each tensor by name and shape.
    pub fn from_function(name: String, config: Config, initializer: Box<Initializer>) -> Self {
        Self { name, hash: String::new(), config, tensors: Source::Function(initializer) }
    }

    fn fail(&self, problem: String) -> Error {
        Error::Weights { file: self.name.clone(), problem }
    }

    /// A tensor's values, checked against the shape that the network wants.
    ///
    /// # Errors
    /// Where it is missing, misshapen, of another dtype or not finite.
    pub fn take(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = match &self.tensors {
            Source::File(tensors) => tensors.borrow_mut().remove(tensor),
            Source::Function(f) => {
                Some(Values { shape: shape.to_vec(), values: Some(f(tensor, shape)), dtype: Dtype::F32 })
            }
        };
        let Some(found) = found else {
            let problem = format!("tensor `{tensor}` is missing; the configuration {} needs it", self.config);
            return Err(self.fail(problem));
        };
        if found.shape != shape {
            return Err(self.fail(format!("tensor `{tensor}` has shape {:?}; expected {shape:?}", found.shape)));
        }
        let Some(values) = found.values else {
            return Err(self.fail(format!("tensor `{tensor}` is {:?}; expected F32", found.dtype)));
        };
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let problem = format!("tensor `{tensor}` holds {} at element {i}; expected finite values", values[i]);
            return Err(self.fail(problem));
        }
        Ok(values)
    }

    /// Fails where a tensor was not taken; batch counters do not count.
    pub fn expect_empty(&self) -> Result<()> {
        let Source::File(tensors) = &self.tensors else { return Ok(()) };
        let left = tensors.borrow();
        match left.keys().find(|name| !name.ends_with(".num_batches_tracked")) {
            None => Ok(()),
            Some(name) => {
                let problem = format!("tensor `{name}` does not belong to the configuration {}", self.config);
                Err(self.fail(problem))
            }
        }
    }

    /// `{name}.weight` and `{name}.bias` as a convolution.
    pub fn conv(&self, name: &str, channels: (usize, usize), kernel: Kernel, relu: bool) -> Result<Conv> {
        let weights = self.take(&format!("{name}.weight"), &kernel.shape(channels))?;
        let bias = self.take(&format!("{name}.bias"), &[channels.1])?;
        Ok(Conv::new(channels, kernel.size(), kernel.stride(), &weights, &bias, relu))
    }

    /// The reference's ConvBnReLU: `{name}.conv.weight` with the batch norm `{name}.bn` folded into it, in f64.
    pub fn conv_bn(&self, name: &str, channels: (usize, usize), kernel: Kernel, relu: bool) -> Result<Conv> {
        let (weights, bias) = self.folded(name, channels.1, &kernel.shape(channels))?;
        Ok(Conv::new(channels, kernel.size(), kernel.stride(), &weights, &bias, relu))
    }

    /// Weights of `shape` (PyTorch's order) and biases of `outputs` channels that do what `{name}.conv` and the batch
    /// norm `{name}.bn` after it do.
    pub fn folded(&self, name: &str, outputs: usize, shape: &[usize]) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut weights = self.take(&format!("{name}.conv.weight"), shape)?;
        let norm = |what: &str| self.take(&format!("{name}.bn.{what}"), &[outputs]);
        let (gamma, beta) = (norm("weight")?, norm("bias")?);
        let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
        let per_output = weights.len() / outputs;
        let mut bias = vec![0.0; outputs];
        for o in 0..outputs {
            if variance[o] < 0.0 {
                let problem = format!("tensor `{name}.bn.running_var` holds {} at element {o}", variance[o]);
                return Err(self.fail(problem + "; a variance is not negative"));
            }
            let scale = f64::from(gamma[o]) / (f64::from(variance[o]) + EPSILON).sqrt();
            for w in &mut weights[o * per_output..][..per_output] {
                *w = (f64::from(*w) * scale) as f32;
            }
            bias[o] = (f64::from(beta[o]) - f64::from(mean[o]) * scale) as f32;
        }
        if !weights.iter().chain(&bias).all(|v| v.is_finite()) {
            let problem = format!("batch norm `{name}.bn` scales `{name}.conv.weight` beyond what f32 can hold");
            return Err(self.fail(problem));
        }
        Ok((weights, bias))
    }

    /// `{name}.weight` as a depthwise 3x3x3 convolution.
    pub fn depthwise(&self, name: &str, channels: usize, stride: usize) -> Result<Depthwise> {
        let weights = self.take(&format!("{name}.weight"), &[channels, 1, 3, 3, 3])?;
        Ok(Depthwise::new(channels, stride, &weights))
    }
}

/// Why bytes are no safetensors file, and what to do about it.
fn not_safetensors(bytes: &[u8], error: &SafeTensorError) -> String {
    let size = bytes.len();
    let expected = "expected a checkpoint of BS-MVSNet in the safetensors format";
    match error {
        _ if bytes.is_empty() => format!("the file is empty; {expected}"),
        _ if bytes.starts_with(b"PK") => {
            format!("a zip archive, perhaps one of torch.save; {expected} (safetensors.torch.save_file writes it)")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("cut short or damaged: its {size} bytes are not those that its header names; copy it again")
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("cut short ({size} bytes, less than its header) or no safetensors file; {expected}")
        }
        error => format!("no safetensors file ({error}); {expected}"),
    }
}

/// A kernel's number of dimensions, side and stride.
#[derive(Clone, Copy)]
pub struct Kernel {
    dims: usize,
    side: usize,
    stride: usize,
}

impl Kernel {
    /// 2D.
    pub fn d2(side: usize, stride: usize) -> Self {
        Self { dims: 2, side, stride }
    }

    /// 3D.
    pub fn d3(side: usize, stride: usize) -> Self {
        Self { dims: 3, side, stride }
    }

    /// Over depth, rows and columns.
    pub fn size(self) -> [usize; 3] {
        [if self.dims == 3 { self.side } else { 1 }, self.side, self.side]
    }

    /// Over depth, rows and columns.
    pub fn stride(self) -> [usize; 3] {
        [if self.dims == 3 { self.stride } else { 1 }, self.stride, self.stride]
    }

    /// Of the weights, PyTorch's order.
    pub fn shape(self, (input, output): (usize, usize)) -> Vec<usize> {
        [output, input].into_iter().chain([self.side].repeat(self.dims)).collect()
    }
}

/// The configuration by metadata, else by the names of the tensors. Names alone cannot tell `mean` from `variance` nor
/// `signed` from `squared`: then it is the reference's default among the two.
fn config(
    metadata: Option<&std::collections::HashMap<String, String>>,
    tensors: &BTreeMap<String, Values>,
) -> Result<Config, String> {
    let has = |name: &str| tensors.contains_key(name);
    let aggregation = match (has("gate.reduce.weight"), has("gate.conv1.weight")) {
        (true, _) => Aggregation::Voxel,
        (false, true) => Aggregation::Pixel,
        (false, false) => Aggregation::Mean,
    };
    let decoder = if has("regularizer.head.conv.weight") { Decoder::Trilinear } else { Decoder::Skip };
    let mut config = Config { aggregation, difference: Difference::Squared, decoder };
    let get = |key: &str| metadata.and_then(|m| m.get(key));
    let unknown = |key: &str, value: &str, known: &str| format!("metadata {key} = `{value}`; expected {known}");
    if let Some(value) = get("aggregation") {
        config.aggregation = match value.as_str() {
            "voxel" => Aggregation::Voxel,
            "pixel" => Aggregation::Pixel,
            "mean" => Aggregation::Mean,
            "variance" => Aggregation::Variance,
            _ => return Err(unknown("aggregation", value, "voxel, pixel, mean or variance")),
        };
    }
    if let Some(value) = get("difference") {
        config.difference = match value.as_str() {
            "squared" => Difference::Squared,
            "signed" => Difference::Signed,
            _ => return Err(unknown("difference", value, "squared or signed")),
        };
    }
    if let Some(value) = get("decoder") {
        config.decoder = match value.as_str() {
            "skip" => Decoder::Skip,
            "trilinear" => Decoder::Trilinear,
            _ => return Err(unknown("decoder", value, "skip or trilinear")),
        };
    }
    Ok(config)
}
