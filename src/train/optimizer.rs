//! Adam with gradient clipping, and the moving average of the weights.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::net::parameters::Parameters;

/// Adam's constants; the defaults are the paper's and PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Decoupled weight decay (AdamW): each step takes rate times this share of every weight away. 0 for none.
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// Moments of every trained value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    /// Steps that were taken.
    pub steps: u64,
    /// By tensor: mean gradient and mean squared gradient.
    pub moments: BTreeMap<String, [Vec<f32>; 2]>,
}

/// Gradients by the tensors' names.
pub type NamedGradients = BTreeMap<String, Vec<f32>>;

/// The norm of all gradients together.
pub fn norm(gradients: &NamedGradients) -> f64 {
    let square = |g: &[f32]| g.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    gradients.values().map(|g| square(g)).sum::<f64>().sqrt()
}

impl Adam {
    /// One step: `values -= rate * mean / (sqrt(mean square) + epsilon)`, both means corrected for their start at
    /// zero, with the gradients times `scale`.
    ///
    /// # Errors
    /// [`Error::Bug`] where a tensor has no gradient of its size.
    pub fn step(
        &mut self,
        options: AdamOptions,
        rate: f64,
        scale: f64,
        parameters: &mut Parameters,
        gradients: &NamedGradients,
    ) -> Result<()> {
        self.steps += 1;
        let AdamOptions { beta1, beta2, epsilon, weight_decay } = options;
        let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (first, second) = (1.0 - beta1.powi(power), 1.0 - beta2.powi(power));
        let step = (rate / first) as f32;
        let root = (1.0 / second.sqrt()) as f32;
        let (b1, b2, epsilon, scale) = (beta1 as f32, beta2 as f32, epsilon as f32, scale as f32);
        let keep = (1.0 - rate * weight_decay) as f32;
        let mut work = Vec::new();
        for parameter in &mut parameters.list {
            if parameter.is_statistic() {
                continue;
            }
            let len = parameter.values.data.len();
            let gradient = gradients.get(parameter.name.as_str()).filter(|g| g.len() == len);
            let Some(gradient) = gradient else {
                let problem = format!("no gradient of {len} values for `{}`", parameter.name);
                return Err(Error::Bug { place: "adam", problem });
            };
            // Norms and biases are not decayed.
            let keep = if parameter.shape.len() > 1 { keep } else { 1.0 };
            let moments = self
                .moments
                .remove(&parameter.name)
                .filter(|m| m[0].len() == len && m[1].len() == len)
                .unwrap_or_else(|| [vec![0.0; len], vec![0.0; len]]);
            work.push((parameter, gradient, moments, keep));
        }
        work.par_iter_mut().for_each(|(parameter, gradient, [m, v], keep)| {
            let values = parameter.values.data.iter_mut().zip(gradient.iter());
            for ((w, g), (m, v)) in values.zip(m.iter_mut().zip(v.iter_mut())) {
                let g = g * scale;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w = *w * *keep - step * *m / (v.sqrt() * root + epsilon);
            }
        });
        self.moments = work.into_iter().map(|(p, _, moments, _)| (p.name.clone(), moments)).collect();
        Ok(())
    }
}

/// average = decay average + (1 - decay) values, running statistics alike. Early on the decay is smaller, so that the
/// first values are forgotten: (1 + steps) / (10 + steps).
pub fn average(average: &mut Parameters, values: &Parameters, decay: f64, steps: u64) {
    let decay = decay.min((1 + steps) as f64 / (10 + steps) as f64) as f32;
    average.list.par_iter_mut().zip(&values.list).for_each(|(average, values)| {
        for (a, v) in average.values.data.iter_mut().zip(values.values.data.iter()) {
            *a = decay * *a + (1.0 - decay) * v;
        }
    });
}
