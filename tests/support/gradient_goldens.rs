//! The gradients of one training step in f64 (tools/make_gradient_goldens.py), and how far others are from them.
//!
//! The test binary must have `mod goldens` beside it.
#![allow(dead_code)] // every test binary takes its own part

use std::collections::BTreeMap;
use std::sync::OnceLock;

use engine::cpu::network::BsMvsNet;
use engine::files::map::Map;
use engine::net::weights::Checkpoint;

use super::goldens::{Golden, Inputs, config, draws, generate};

/// Tensors of up to so many elements are stored whole.
const FULL: usize = 512;
/// Elements of a larger one.
const SAMPLES: usize = 64;
/// Its dot products with vectors of -1 and 1.
const SIGNS: usize = 4;

fn golden() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(|| Golden::read("gradients.safetensors"))
}

fn metadata(name: &str) -> &'static serde_json::Value {
    golden().metadata.get(name).unwrap_or_else(|| panic!("metadata {name} of the gradients"))
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().expect("a number in the metadata of the gradients")
}

fn size(name: &str) -> usize {
    number(&metadata("sizes")[name]) as usize
}

/// All configurations, such as `voxel_squared_skip`; those that end in `_inverse` take [`Inputs::inverse`].
pub fn configs() -> Vec<String> {
    metadata("seeds").as_object().expect("seeds by configuration").keys().cloned().collect()
}

/// The weights of a configuration: those of [`generate`] with norms shifted and the logits' weight scaled.
pub fn generated(config: &str) -> impl FnMut(&str, &[usize]) -> Vec<f32> {
    let seed = metadata("seeds")[config].as_u64().expect("a seed of the configuration");
    let (shift, gain) = (number(metadata("norm_shift")) as f32, number(metadata("logits_gain")) as f32);
    move |name: &str, shape: &[usize]| {
        let mut values = generate(name, shape, seed);
        if name.ends_with("bn.bias") {
            values.iter_mut().for_each(|v| *v += shift);
        } else if name == "regularizer.logits.weight" {
            values.iter_mut().for_each(|v| *v *= gain);
        }
        values
    }
}

/// The checkpoint of a configuration.
pub fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::from_function("generated", config(name), generated(name)).expect("a value for each element")
}

/// The network of a configuration, for inference.
pub fn network(name: &str) -> BsMvsNet {
    BsMvsNet::new(&checkpoint(name)).expect("generated weights fit")
}

/// Photos, cameras and hypotheses.
pub fn inputs() -> Inputs {
    let seed = metadata("images_seed").as_u64().expect("a seed of the images");
    Inputs::read().large(size("width"), size("height"), size("planes"), seed)
}

/// The true depth at every fourth pixel, 0 where there is none.
pub fn truth() -> Map {
    map_of("truth")
}

/// At every pixel, for narrow stages.
pub fn fine_truth() -> Map {
    map_of("fine_truth")
}

fn map_of(name: &str) -> Map {
    let (shape, values) = golden().get(name);
    let mut map = Map::filled(shape[1], shape[0], 0.0);
    map.data.iter_mut().zip(values).for_each(|(to, &v)| *to = v as f32);
    map
}

/// Weights of L1 and cross-entropy in the loss.
pub fn loss_weights() -> (f32, f32) {
    let weight = |name: &str| number(&metadata("loss")[name]) as f32;
    (weight("l1"), weight("cross_entropy"))
}

/// The loss, its L1 in mean intervals and its cross-entropy in nats.
pub fn losses(config: &str) -> [f64; 3] {
    golden().values(&format!("{config}/losses")).try_into().expect("three losses")
}

/// The parameter tensors of a configuration that have a gradient.
pub fn parameters(config: &str) -> Vec<String> {
    let prefix = format!("{config}/");
    let names = golden().tensors.keys().filter_map(|n| n.strip_prefix(&prefix));
    names.filter(|n| *n != "losses" && !n.contains(".running_")).map(str::to_owned).collect()
}

/// Mean and unbiased variance of the batch by the name of the norm, such as `features.merge8.bn`.
pub fn statistics(config: &str) -> BTreeMap<String, (Vec<f64>, Vec<f64>)> {
    let prefix = format!("{config}/");
    let names = golden().tensors.keys().filter_map(|n| n.strip_prefix(&prefix)?.strip_suffix(".running_mean"));
    names
        .map(|norm| {
            let values = |part: &str| golden().values(&format!("{prefix}{norm}.{part}")).to_vec();
            (norm.to_owned(), (values("running_mean"), values("running_var")))
        })
        .collect()
}

/// How far the gradient in parameter `name` is from the truth; elements in the row-major order of the checkpoint.
///
/// Of a tensor stored whole: the largest error of an element by the largest element. Of a larger one, the largest of
/// the error of a stored element by the largest of those (or by the root mean square of all, if that is more) and the
/// errors of the norm and of the dot products by the norm. Where the true gradient is zero for any input (a bias that
/// the softmax takes out again), the weight of the same layer gives the scale.
pub fn check(name: &str, config: &str, gradient: &[f32]) -> f64 {
    let found = excerpt(name, gradient);
    let truth = golden().values(&format!("{config}/{name}"));
    assert_eq!(found.len(), truth.len(), "{config}: gradient of {name} with {} elements", gradient.len());
    let zero = metadata("zero").as_array().expect("names of the gradients that are zero");
    let apart = |range: std::ops::Range<usize>| {
        let errors = found[range.clone()].iter().zip(&truth[range]).map(|(a, b)| (a - b).abs());
        errors.fold(0.0, |worst: f64, e| if e.is_nan() { f64::INFINITY } else { worst.max(e) })
    };
    if zero.iter().any(|z| z == name) {
        let weight = format!("{config}/{}.weight", name.strip_suffix(".bias").expect("a bias"));
        return apart(0..found.len()) / largest(golden().values(&weight));
    }
    if gradient.len() <= FULL {
        return apart(0..found.len()) / largest(truth);
    }
    let norm = truth[SAMPLES];
    let element = largest(&truth[..SAMPLES]).max(norm / (gradient.len() as f64).sqrt());
    (apart(0..SAMPLES) / element).max(apart(SAMPLES..found.len()) / norm)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
}

/// What the golden keeps of a gradient: all of it, or some elements, the norm and dot products.
fn excerpt(name: &str, gradient: &[f32]) -> Vec<f64> {
    let values = gradient.iter().map(|&v| f64::from(v));
    if gradient.len() <= FULL {
        return values.collect();
    }
    let n = gradient.len();
    let mut u = draws(&format!("{name}/samples"), 1);
    let mut kept: Vec<f64> = (0..SAMPLES).map(|_| f64::from(gradient[(u() * n as f64) as usize])).collect();
    kept.push(values.clone().map(|v| v * v).sum::<f64>().sqrt());
    for k in 0..SIGNS {
        let mut u = draws(&format!("{name}/signs {k}"), 1);
        kept.push(values.clone().map(|v| if u() < 0.5 { -v } else { v }).sum());
    }
    kept
}
