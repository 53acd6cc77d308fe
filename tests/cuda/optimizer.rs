//! Adam and the moving average, against the processor's, to the bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::cuda::driver::Driver;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::optimizer::{StepNumbers, Trained, adam, average, average_decay, gradient_norm, numbers};
use engine::cuda::program::Program;
use engine::cuda::storage::Element;
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::net::parameters::{Parameter, Parameters};
use engine::net::tensor::{Shape, Tensor};
use engine::train::optimizer::{self, Adam, AdamOptions, NamedGradients};

use crate::emulator::Build;
use crate::reference::Random;
use crate::run::program_apart;
use crate::test_device::test_device;

/// Names and shapes: one element, several pieces of a block, ends within one; norms and biases have one dimension.
fn tensors() -> Vec<(String, Vec<usize>)> {
    [("a.weight", vec![3, 7, 5]), ("b.bias", vec![1]), ("c.weight", vec![5, 1031]), ("d.bn.weight", vec![48])]
        .map(|(name, shape)| (name.to_owned(), shape))
        .to_vec()
}

fn parameters(random: &mut Random) -> Parameters {
    // Any will do: its names are not looked at.
    let config = Config {
        aggregation: Aggregation::Mean,
        difference: Difference::Squared,
        decoder: Decoder::Skip,
        resolution: Resolution::Quarter,
    };
    let list = tensors().into_iter().map(|(name, shape)| {
        let n = shape.iter().product();
        let values = Tensor::from_slice(Shape::plane(1, 1, n), &random.values(n)).unwrap();
        Parameter { name, shape, values }
    });
    Parameters { config, list: list.collect() }
}

struct OnDevice {
    program: Program,
    numbers: Value,
    gradients: Vec<Value>,
    trained: Vec<Trained>,
    averages: Vec<Value>,
    norm: Value,
}

fn on_device(parameters: &Parameters, options: AdamOptions) -> Option<OnDevice> {
    let device: Arc<dyn Driver> = test_device(Build::Checked)?;
    let mut graph = Graph::new();
    let numbers = numbers(&mut graph);
    let (mut gradients, mut trained, mut averages) = (Vec::new(), Vec::new(), Vec::new());
    for parameter in &parameters.list {
        let values = &parameter.values.data;
        let shape = Shape::plane(1, 1, values.len());
        let mut state =
            |what: &str, values: &[f32]| graph.state(format!("{} {what}", parameter.name), shape, Element::F32, values);
        let zeros = vec![0.0; values.len()];
        let (weights, moments) = (state("weights", values), [state("mean", &zeros), state("square", &zeros)]);
        averages.push(state("average", values));
        let gradient = graph.input("gradient", shape, Element::F32);
        gradients.push(gradient);
        trained.push(Trained { parameter: weights, gradient, moments, decayed: parameter.shape.len() > 1 });
    }
    let norm = gradient_norm(&mut graph, &gradients, numbers).unwrap();
    graph.keep(norm);
    adam(&mut graph, &trained, norm, numbers, [options.beta1, options.beta2, options.epsilon]).unwrap();
    let pairs: Vec<_> = averages.iter().copied().zip(trained.iter().map(|t| t.parameter)).collect();
    average(&mut graph, &pairs, numbers).unwrap();
    let program = program_apart(&device, graph).unwrap();
    Some(OnDevice { program, numbers, gradients, trained, averages, norm })
}

impl OnDevice {
    /// The norm and scale of a step.
    fn step(&mut self, numbers: &StepNumbers, gradients: &NamedGradients) -> [f64; 2] {
        self.program.upload(self.numbers, &numbers.bytes()).unwrap();
        for (value, values) in self.gradients.iter().zip(gradients.values()) {
            self.program.upload(*value, bytemuck::cast_slice(values)).unwrap();
        }
        self.program.run().unwrap_or_else(|error| panic!("{error}"));
        let mut found = [0.0f64; 2];
        self.program.download(self.norm, bytemuck::cast_slice_mut(&mut found)).unwrap();
        found
    }

    fn values(&self, values: impl Iterator<Item = Value>) -> Vec<Vec<f32>> {
        values.map(|value| self.program.download_f32(value).unwrap()).collect()
    }

    fn weights(&self) -> Vec<Vec<f32>> {
        self.values(self.trained.iter().map(|t| t.parameter))
    }
}

fn gradients(random: &mut Random) -> NamedGradients {
    let one = |(name, shape): (String, Vec<usize>)| (name, random.values(shape.iter().product()));
    tensors().into_iter().map(one).collect::<BTreeMap<_, _>>()
}

#[test]
pub fn steps_are_the_cpus_to_the_bit() {
    for (weight_decay, clip) in [(0.0, None), (0.02, Some(3.0))] {
        let options = AdamOptions { weight_decay, ..AdamOptions::default() };
        let mut random = Random::new("adam");
        let mut expected = parameters(&mut random);
        let mut means = expected.clone();
        let mut cpu = Adam::default();
        let Some(mut device) = on_device(&expected, options) else { return };
        for step in 0..3u64 {
            let found = gradients(&mut random);
            let (share, rate) = (0.5, 1e-3 / (1 + step) as f64);
            let numbers = StepNumbers {
                share,
                clip,
                rate,
                steps: step + 1,
                beta1: options.beta1,
                beta2: options.beta2,
                weight_decay,
                average_decay: average_decay(0.99, step),
                moves: true,
            };
            let [norm, scale] = device.step(&numbers, &found);
            let length = optimizer::norm(&found) * share;
            let of_cpu = share * clip.filter(|&most| length > most).map_or(1.0, |most| most / length);
            // Some 5000 squares in f64, in another order.
            assert!((norm / length - 1.0).abs() < 1e-13 && (scale / of_cpu - 1.0).abs() < 1e-13);
            assert!((clip.is_some()) == (scale < share), "the larger norms are clipped");
            // From here on with one scale, so that nothing but the step itself is compared.
            cpu.step(options, rate, scale, &mut expected, &found).unwrap();
            optimizer::average(&mut means, &expected, 0.99, step);
            for (i, (weights, parameter)) in device.weights().iter().zip(&expected.list).enumerate() {
                let what = format!("{} after step {step}", parameter.name);
                assert_eq!(*weights, parameter.values.data.to_vec(), "{what}");
                let moments = device.values(device.trained[i].moments.into_iter());
                assert_eq!(moments, cpu.moments[&parameter.name], "moments of {what}");
            }
            let averages = device.values(device.averages.iter().copied());
            assert_eq!(averages, means.list.iter().map(|p| p.values.data.to_vec()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nothing_moves_where_nothing_was_learned_or_a_gradient_is_not_finite() {
    let mut random = Random::new("still");
    let first = parameters(&mut random);
    let before: Vec<Vec<f32>> = first.list.iter().map(|p| p.values.data.to_vec()).collect();
    let Some(mut device) = on_device(&first, AdamOptions::default()) else { return };
    let mut numbers = StepNumbers {
        share: 1.0,
        clip: None,
        rate: 0.1,
        steps: 1,
        beta1: 0.9,
        beta2: 0.999,
        weight_decay: 0.0,
        average_decay: 0.5,
        moves: false,
    };
    device.step(&numbers, &gradients(&mut random));
    assert_eq!(device.weights(), before);
    numbers.moves = true;
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut spoilt = gradients(&mut random);
        spoilt.get_mut("c.weight").unwrap()[5000] = wrong;
        assert!(!device.step(&numbers, &spoilt)[0].is_finite());
        assert_eq!(device.weights(), before);
    }
    device.step(&numbers, &gradients(&mut random));
    assert_ne!(device.weights(), before);
}
