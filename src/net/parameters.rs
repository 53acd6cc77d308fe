//! The network's tensors: by name, in the order in which data flow, as training moves them and as executors read them.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::config::Config;
use super::layers::Conv;
use super::outline::{self, Layer, NORM, NamedShape, tensors};
use super::tensor::{Shape, Tensor};
use crate::error::{Error, Result};
use crate::host::random::Random;

/// Batch norm's epsilon.
const EPSILON: f64 = 1e-5;

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
    /// From values in the order of `shape`.
    ///
    /// # Errors
    /// [`Error::Bug`] where it holds another number.
    pub fn new(name: String, shape: Vec<usize>, values: &[f32]) -> Result<Self> {
        if shape.iter().product::<usize>() != values.len() {
            let problem = format!("{} values for `{name}` of shape {shape:?}", values.len());
            return Err(Error::Bug { place: "parameters", problem });
        }
        let values = Tensor::from_slice(Shape::plane(1, 1, values.len()), values)?;
        Ok(Self { name, shape, values })
    }

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
        Self::from_function(config, |name, shape| {
            let mut next = uniform(name, seed);
            // A bias follows its weight.
            if shape.len() > 1 {
                fan_in = shape[1..].iter().product();
            }
            let bound = 1.0 / (fan_in as f64).sqrt();
            let value = |u: f64| match name.rsplit('.').next() {
                _ if name.ends_with("gate.weight.bias") => (u * bound) as f32,
                Some("running_mean") => 0.0,
                Some("running_var") => 1.0,
                Some("bias") if name.ends_with(".bn.bias") => 0.0,
                Some("weight") if name.ends_with(".bn.weight") => 1.0,
                _ => ((2.0 * u - 1.0) * bound) as f32,
            };
            (0..shape.iter().product()).map(|_| value(next())).collect()
        })
    }

    /// The same tensors for a configuration that differs in a finer resolution at most, whose narrow stages get first
    /// values; `None` where it differs otherwise.
    ///
    /// # Errors
    /// As [`Parameters::random`].
    pub fn extended(&self, config: Config, seed: u64) -> Result<Option<Self>> {
        if config.resolution < self.config.resolution
            || self.config != (Config { resolution: self.config.resolution, ..config })
        {
            return Ok(None);
        }
        let mut all = Self::random(config, seed)?;
        for parameter in &mut all.list {
            if let Some(own) = self.get(&parameter.name) {
                parameter.values = own.values.clone();
            }
        }
        Ok(Some(all))
    }

    /// By a function of each tensor's name and shape.
    ///
    /// # Errors
    /// Where it gives another number of values than the shape holds.
    pub fn from_function(config: Config, mut values: impl FnMut(&str, &[usize]) -> Vec<f32>) -> Result<Self> {
        let made = |(name, shape): NamedShape| {
            let values = values(&name, &shape);
            Parameter::new(name, shape, &values)
        };
        Ok(Self { config, list: tensors(config)?.into_iter().map(made).collect::<Result<_>>()? })
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.list.iter().find(|p| p.name == name)
    }

    /// A tensor's values.
    ///
    /// # Errors
    /// [`Error::Bug`] where the configuration has no such tensor.
    pub fn values(&self, name: &str) -> Result<&[f32]> {
        let missing = || Error::Bug { place: "parameters", problem: format!("no tensor `{name}` in {}", self.config) };
        Ok(&self.get(name).ok_or_else(missing)?.values.data)
    }

    /// Fails on the first value that is not finite; `file` is for the message.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor.
    pub fn expect_finite(&self, file: &str) -> Result<()> {
        for Parameter { name, values, .. } in &self.list {
            if let Some(i) = values.data.iter().position(|v| !v.is_finite()) {
                let found = values.data[i];
                let problem = format!("tensor `{name}` holds {found} at element {i}; expected finite values");
                return Err(Error::Weights { file: file.to_owned(), problem });
            }
        }
        Ok(())
    }

    /// Weights (PyTorch's order) and biases that do what a convolution and the batch norm after it do, in f64.
    ///
    /// # Errors
    /// [`Error::Weights`] of `file` where the norm's statistics are no statistics.
    pub fn folded(&self, layer: &Conv, file: &str) -> Result<(Vec<f32>, Vec<f32>)> {
        let fail = |problem: String| Err(Error::Weights { file: file.to_owned(), problem });
        let name = &layer.name;
        let mut weights = self.values(&format!("{name}.conv.weight"))?.to_vec();
        let [gamma, beta, mean, variance] = NORM.map(|what| self.values(&format!("{name}.{what}")));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let outputs = layer.channels.1;
        let per_output = weights.len() / outputs;
        let mut bias = vec![0.0; outputs];
        for o in 0..outputs {
            if variance[o] < 0.0 {
                let problem = format!("tensor `{name}.bn.running_var` holds {} at element {o}", variance[o]);
                return fail(problem + "; expected variances of 0 or more");
            }
            let scale = f64::from(gamma[o]) / (f64::from(variance[o]) + EPSILON).sqrt();
            for w in &mut weights[o * per_output..][..per_output] {
                *w = (f64::from(*w) * scale) as f32;
            }
            bias[o] = (f64::from(beta[o]) - f64::from(mean[o]) * scale) as f32;
        }
        if !weights.iter().chain(&bias).all(|v| v.is_finite()) {
            return fail(format!("batch norm `{name}.bn` scales `{name}.conv.weight` beyond what f32 can hold"));
        }
        Ok((weights, bias))
    }

    /// Fails where a norm cannot be folded into its convolution; `file` is for the message.
    ///
    /// # Errors
    /// As [`Parameters::folded`].
    pub fn expect_foldable(&self, file: &str) -> Result<()> {
        for (layer, _) in outline::layers(self.config, 4, 4, 1)? {
            let convolutions = match &layer {
                Layer::ConvBn(conv) => std::slice::from_ref(conv),
                Layer::Pair(pair) => pair,
                _ => &[],
            };
            convolutions.iter().try_for_each(|conv| self.folded(conv, file).map(|_| ()))?;
        }
        Ok(())
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

/// SplitMix64 keyed by a tensor's name (FNV-1a): u in [0, 1).
fn uniform(name: &str, seed: u64) -> impl FnMut() -> f64 + use<> {
    let mut random = Random::of_name(name, seed.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    move || f64::from(random.unit_f32())
}
