//! Checkpoints: safetensors files with the reference's `state_dict` names and, in the metadata, the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::confidence::{self, Confidence};
use super::config::Config;
use super::outline::tensors;
use super::parameters::{Parameter, Parameters, to_safetensors};
use crate::error::{Error, Result};
use crate::files::names::in_json;
use crate::files::{hash, input};

/// The default weights, part of the binary.
const BUILT_IN: &[u8] = include_bytes!("../../weights/bs_mvsnet.safetensors");

/// A file of more bytes is no checkpoint (this network has about 4 MB) and is not read into memory.
const MAX_BYTES: u64 = 256 << 20;

/// A checkpoint: all tensors of a configuration, and where they came from.
#[derive(Clone)]
pub struct Checkpoint {
    /// Where it came from, for messages.
    pub name: String,
    /// SHA-256 of the file, hexadecimal; empty for weights that are no file's.
    pub hash: String,
    /// Its tensors, each there and finite.
    pub parameters: Parameters,
    /// What its confidence means, where that has been fitted.
    pub confidence: Option<Confidence>,
}

impl Checkpoint {
    /// The weights that come with the binary.
    ///
    /// # Errors
    /// Never for a binary that passed its tests.
    pub fn built_in() -> Result<Self> {
        Self::parse("built-in".into(), BUILT_IN)
    }

    /// The file of [`Checkpoint::built_in`], for programs that read files.
    pub fn built_in_file() -> &'static [u8] {
        BUILT_IN
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no safetensors file, or its metadata names an unknown configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let name = in_json(path);
        let mut bytes = Vec::new();
        let (file, size) = input::open(path, "read the weights")?;
        if size <= MAX_BYTES {
            // A file may grow while it is read, hence the limit here, too.
            let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
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
        let mut read = Self::uncalibrated(name, bytes)?;
        let metadata = SafeTensors::read_metadata(bytes).ok().and_then(|(_, header)| header.metadata().clone());
        if let Some(text) = metadata.as_ref().and_then(|m| m.get(confidence::KEY)) {
            let fail = |problem| Error::Weights { file: read.name.clone(), problem };
            read.confidence = Some(Confidence::parse(text).map_err(fail)?);
        }
        Ok(read)
    }

    /// The same without looking at fits of the confidence, which may be those of another version.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn uncalibrated(name: String, bytes: &[u8]) -> Result<Self> {
        let fail = |problem: String| Error::Weights { file: name.clone(), problem };
        let not_one = |e| fail(not_safetensors(bytes, &e));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_one)?;
        let file = SafeTensors::deserialize(bytes).map_err(not_one)?;
        let names: BTreeSet<&str> = file.names().into_iter().collect();
        // Without a single name of this network, the first missing tensor would tell less than what is there.
        let ours = |name: &&str| name.starts_with("features.") || name.starts_with("regularizer.");
        if !names.iter().any(ours) {
            let first = names.first().map_or("no tensor".into(), |n| format!("tensors such as `{n}`"));
            let problem = format!("not a checkpoint of BS-MVSNet: it holds {first}; expected `features.*`");
            return Err(fail(problem + ", `gate.*`, `regularizer.*` and `narrow*`"));
        }
        let config = Config::of_checkpoint(header.metadata().as_ref(), |name| names.contains(name)).map_err(&fail)?;
        let mut list = Vec::new();
        for (tensor, shape) in tensors(config)? {
            let view = file.tensor(&tensor).map_err(|_| {
                fail(format!("tensor `{tensor}` is missing; expected all of the configuration {config}"))
            })?;
            let values = values(&tensor, &view, &shape).map_err(&fail)?;
            list.push(Parameter::new(tensor, shape, &values)?);
        }
        let known: BTreeSet<&str> = list.iter().map(|p| p.name.as_str()).collect();
        // Batch counters do not count.
        let foreign = names.difference(&known).find(|name| !name.ends_with(".num_batches_tracked"));
        if let Some(name) = foreign {
            return Err(fail(format!("tensor `{name}`; expected those of the configuration {config} alone")));
        }
        let hash = hash::of_bytes(bytes);
        let parameters = Parameters { config, list };
        parameters.expect_finite(&name)?;
        Ok(Self { name, hash, parameters, confidence: None })
    }

    /// Weights that are no file's: `values` is asked for each tensor by name and shape.
    ///
    /// # Errors
    /// As [`Parameters::from_function`].
    pub fn from_function(name: &str, config: Config, values: impl FnMut(&str, &[usize]) -> Vec<f32>) -> Result<Self> {
        let parameters = Parameters::from_function(config, values)?;
        Ok(Self { name: name.to_owned(), hash: String::new(), parameters, confidence: None })
    }

    /// A checkpoint's file with other fits of the confidence, all else as it was.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn file_with(bytes: &[u8], confidence: &Confidence) -> Result<Vec<u8>> {
        let fail = |e| Error::Weights { file: "checkpoint".into(), problem: not_safetensors(bytes, &e) };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(fail)?;
        let file = SafeTensors::deserialize(bytes).map_err(fail)?;
        let mut metadata: BTreeMap<String, String> =
            header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        metadata.insert(confidence::KEY.into(), confidence.text()?);
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        to_safetensors(tensors, metadata)
    }

    /// Its configuration.
    pub fn config(&self) -> Config {
        self.parameters.config
    }
}

/// A tensor's values, checked against the shape that the network wants.
fn values(tensor: &str, view: &TensorView, shape: &[usize]) -> Result<Vec<f32>, String> {
    if view.shape() != shape {
        return Err(format!("tensor `{tensor}` has shape {:?}; expected {shape:?}", view.shape()));
    }
    if view.dtype() != Dtype::F32 {
        return Err(format!("tensor `{tensor}` is {:?}; expected F32", view.dtype()));
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
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
            format!("cut short or damaged: its {size} bytes; expected as many as its header names, so copy it again")
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("cut short ({size} bytes, less than its header) or no safetensors file; {expected}")
        }
        error => format!("no safetensors file ({error}); {expected}"),
    }
}
