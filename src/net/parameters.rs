//! The network's tensors as training moves them: by name, in the order in which the network asks for them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::weights::Checkpoint;
use super::{BsMvsNet, Config};
use crate::cpu::tensor::{Shape, Tensor};
use crate::error::{Error, Result};
use crate::host::random::Random;

/// One tensor of a checkpoint.
#[derive(Clone)]
pub struct Parameter {
    /// The reference's name.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Its values in that order, as a vector.
    pub values: Tensor,
}

impl Parameter {
    /// Whether it is a batch norm's running mean or variance, which no gradient moves.
    pub fn is_statistic(&self) -> bool {
        self.name.ends_with(".running_mean") || self.name.ends_with(".running_var")
    }
}

/// All tensors of a configuration.
#[derive(Clone)]
pub struct Parameters {
    /// The configuration.
    pub config: Config,
    /// In the order in which the network is built.
    pub list: Vec<Parameter>,
}

/// A tensor's name and shape.
type NamedShape = (String, Vec<usize>);

/// Names and shapes of a configuration's tensors.
fn tensors(config: Config) -> Result<Vec<NamedShape>> {
    let seen: Rc<RefCell<Vec<NamedShape>>> = Rc::default();
    let note = seen.clone();
    let zeros = move |name: &str, shape: &[usize]| {
        note.borrow_mut().push((name.to_owned(), shape.to_vec()));
        vec![0.0; shape.iter().product()]
    };
    BsMvsNet::new(Checkpoint::from_function("zeros".into(), config, Box::new(zeros)))?;
    Ok(seen.take())
}

impl Parameters {
    /// PyTorch's first values: weights and biases uniform in +-1 / sqrt(fan in), norms that leave everything as it is.
    /// Each tensor is a function of the seed and its name.
    ///
    /// One value differs: the gate's last bias is positive. A gate that is closed everywhere gets no gradient and would
    /// stay closed.
    ///
    /// # Errors
    /// Never for a configuration that the network can be built with.
    pub fn random(config: Config, seed: u64) -> Result<Self> {
        let mut fan_in = 1;
        let mut made = |(name, shape): (String, Vec<usize>)| {
            let mut next = uniform(&name, seed);
            // A bias follows its weight.
            if shape.len() > 1 {
                fan_in = shape[1..].iter().product();
            }
            let bound = 1.0 / (fan_in as f64).sqrt();
            let value = |u: f64| match name.rsplit('.').next() {
                _ if name == "gate.weight.bias" => (u * bound) as f32,
                Some("running_mean") => 0.0,
                Some("running_var") => 1.0,
                Some("bias") if name.ends_with(".bn.bias") => 0.0,
                Some("weight") if name.ends_with(".bn.weight") => 1.0,
                _ => ((2.0 * u - 1.0) * bound) as f32,
            };
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| value(next())).collect();
            parameter(name, shape, &values)
        };
        let list = tensors(config)?.into_iter().map(&mut made).collect::<Result<_>>()?;
        Ok(Self { config, list })
    }

    /// A checkpoint's tensors.
    ///
    /// # Errors
    /// Where one is missing, misshapen or not of this network; the message names it.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let config = checkpoint.config;
        let take = |(name, shape): (String, Vec<usize>)| {
            let values = checkpoint.take(&name, &shape)?;
            parameter(name, shape, &values)
        };
        let list = tensors(config)?.into_iter().map(take).collect::<Result<_>>()?;
        checkpoint.expect_empty()?;
        Ok(Self { config, list })
    }

    /// As a checkpoint, whose tensors may be taken any number of times.
    pub fn checkpoint(&self, name: &str) -> Checkpoint {
        let values: BTreeMap<String, Vec<f32>> =
            self.list.iter().map(|p| (p.name.clone(), p.values.data.to_vec())).collect();
        let give = move |name: &str, _: &[usize]| values.get(name).cloned().unwrap_or_default();
        Checkpoint::from_function(name.into(), self.config, Box::new(give))
    }

    /// The network for inference with these values.
    ///
    /// # Errors
    /// Where a value is not finite; the message names the tensor.
    pub fn network(&self, name: &str) -> Result<BsMvsNet> {
        BsMvsNet::new(self.checkpoint(name))
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.list.iter().find(|p| p.name == name)
    }

    /// Number of values that training moves.
    pub fn trainable(&self) -> usize {
        self.list.iter().filter(|p| !p.is_statistic()).map(|p| p.values.data.len()).sum()
    }

    /// As a safetensors file that the reference can load, too: its names, `num_batches_tracked` at `steps`, and the
    /// configuration among the metadata.
    ///
    /// # Errors
    /// Where the values cannot be laid out as safetensors.
    pub fn to_safetensors(&self, steps: u64, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let counter = steps.to_le_bytes();
        let mut views: Vec<(String, TensorView)> = Vec::new();
        for Parameter { name, shape, values } in &self.list {
            views.push((name.clone(), float_view(shape.clone(), &values.data)?));
            if let Some(norm) = name.strip_suffix("running_var") {
                views.push((format!("{norm}num_batches_tracked"), view(Dtype::I64, Vec::new(), &counter)?));
            }
        }
        let mut all = self.config.metadata();
        all.extend(metadata.clone());
        to_safetensors(views, all)
    }
}

/// Values as a tensor of a safetensors file.
///
/// # Errors
/// Where the shape holds another number of values.
pub fn float_view(shape: Vec<usize>, values: &[f32]) -> Result<TensorView<'_>> {
    view(Dtype::F32, shape, bytemuck::cast_slice(values))
}

fn view(dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> Result<TensorView<'_>> {
    TensorView::new(dtype, shape, bytes).map_err(not_laid_out)
}

fn not_laid_out(e: safetensors::SafeTensorError) -> Error {
    Error::input("checkpoint", e.to_string(), "values that safetensors can hold")
}

/// The bytes of a safetensors file. The library keeps metadata in a hash map, whose order differs from run to run;
/// here the keys are put in order, so that equal checkpoints are equal files.
///
/// # Errors
/// Where the tensors cannot be laid out.
pub fn to_safetensors(views: Vec<(String, TensorView)>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut bytes = serialize(views, Some(metadata.clone().into_iter().collect())).map_err(not_laid_out)?;
    let length = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b)) as usize;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + length])
        .map_err(|e| Error::input("checkpoint", e.to_string(), "a header in JSON"))?;
    let mut ordered = serde_json::Map::new();
    ordered.insert("__metadata__".into(), serde_json::json!(metadata));
    ordered.extend(header.into_iter().filter(|(key, _)| key != "__metadata__"));
    let text = serde_json::Value::Object(ordered).to_string();
    if text.len() <= length {
        bytes[8..8 + text.len()].copy_from_slice(text.as_bytes());
        bytes[8 + text.len()..8 + length].fill(b' ');
    }
    Ok(bytes)
}

fn parameter(name: String, shape: Vec<usize>, values: &[f32]) -> Result<Parameter> {
    let values = Tensor::from_slice(Shape::plane(1, 1, values.len()), values)?;
    Ok(Parameter { name, shape, values })
}

/// SplitMix64 keyed by a tensor's name (FNV-1a): u in [0, 1).
fn uniform(name: &str, seed: u64) -> impl FnMut() -> f64 + use<> {
    let mut random = Random::of_name(name, seed.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    move || f64::from(random.unit_f32())
}
