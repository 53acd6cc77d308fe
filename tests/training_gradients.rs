//! The gradients of one training step against the PyTorch definition in f64, for every parameter and configuration.
//!
//! Tolerance: 1e-3, as `gradient_goldens::check` measures it. Torch's own f32 is within 6e-5 of the truth with these
//! weights; the engine rounds in other places, over as many layers forward and back.

#[path = "support/goldens.rs"]
mod goldens;
#[path = "support/gradient_goldens.rs"]
mod gradient_goldens;

use engine::cpu::device::Cpu;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::cpu::simd::Level;
use engine::cpu::train::follow;
use engine::net::parameters::Parameters;
use engine::train::optimizer::{Adam, AdamOptions, norm};
use engine::train::sample::TrainingSample;
use engine::train::step::{SampleGradients, Watch, sample_gradients};
use gradient_goldens as truth;

const TOLERANCE: f64 = 1e-3;

fn sample() -> TrainingSample {
    let inputs = truth::inputs();
    let ends = &inputs.linear.depths;
    let range = engine::scene::camera::DepthRange { near: ends[0], far: ends[ends.len() - 1] };
    TrainingSample {
        name: "goldens".into(),
        photos: inputs.photos,
        cameras: inputs.cameras,
        depth: truth::truth(),
        fine: Some(truth::fine_truth()),
        range,
    }
}

fn learn(cpu: &Cpu, config: &str, parameters: &Parameters) -> SampleGradients {
    let inputs = truth::inputs();
    let hypotheses = if config.ends_with("_inverse") { &inputs.inverse } else { &inputs.linear };
    let (l1, cross_entropy) = truth::loss_weights();
    let loss = DepthLoss { l1, cross_entropy };
    sample_gradients(cpu, parameters, &sample(), hypotheses, loss, Watch::Nothing).unwrap()
}

/// Compares everything; returns the largest error of a gradient.
fn check(cpu: &Cpu, config: &str) -> f64 {
    let parameters = truth::checkpoint(config).parameters;
    let found = learn(cpu, config, &parameters);
    let [loss, l1, cross_entropy] = truth::losses(config);
    for (what, a, b) in
        [("loss", found.loss, loss), ("L1", found.l1, l1), ("cross-entropy", found.cross_entropy, cross_entropy)]
    {
        assert!((a - b).abs() <= 1e-4 * b.abs(), "{config}: {what} {a}, expected {b}");
    }
    let names = truth::parameters(config);
    assert_eq!(names.len(), found.gradients.len(), "{config}: as many gradients as parameters");
    let mut worst = 0.0f64;
    for name in names {
        let error = truth::check(&name, config, &found.gradients[&name]);
        assert!(error <= TOLERANCE, "{config}: gradient of {name} is off by {error:.2e}");
        worst = worst.max(error);
    }
    // The running statistics with momentum 1 are the batch's own.
    let mut followed = parameters.clone();
    follow(&mut followed, &found.statistics, 1.0);
    for (norm, (mean, variance)) in truth::statistics(config) {
        for (what, expected) in [("running_mean", mean), ("running_var", variance)] {
            let values = &followed.get(&format!("{norm}.{what}")).unwrap().values.data;
            for (a, b) in values.iter().zip(expected) {
                assert!((f64::from(*a) - b).abs() <= 1e-4 + 1e-3 * b.abs(), "{config}: {norm}.{what} {a}, not {b}");
            }
        }
    }
    worst
}

#[test]
fn every_gradient_of_every_configuration_matches_the_reference() {
    let cpu = Cpu::new();
    let configs = truth::configs();
    assert_eq!(
        configs.len(),
        19,
        "16 configurations, two of them with inverse sampling as well, one with narrow stages"
    );
    for config in configs {
        let worst = check(&cpu, &config);
        println!("{config}: {worst:.1e}");
    }
}

#[test]
fn every_instruction_set_gives_these_gradients() {
    for level in Level::available() {
        let cpu = Cpu::with_level(level);
        for config in ["voxel_squared_skip", "pixel_signed_trilinear", "voxel_squared_skip_full"] {
            println!("{} {config}: {:.1e}", level.name(), check(&cpu, config));
        }
    }
}

#[test]
fn a_step_is_the_same_to_the_bit_on_any_number_of_threads() {
    let config = "voxel_squared_skip";
    let step = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut parameters = truth::checkpoint(config).parameters;
            let (cpu, mut adam) = (Cpu::new(), Adam::default());
            for _ in 0..2 {
                let found = learn(&cpu, config, &parameters);
                follow(&mut parameters, &found.statistics, 0.1);
                adam.step(AdamOptions::default(), 1e-3, 1.0, &mut parameters, &found.gradients).unwrap();
            }
            let bits =
                |p: &engine::net::parameters::Parameter| p.values.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            parameters.list.iter().map(bits).collect::<Vec<_>>()
        })
    };
    let one = step(1);
    assert!(one == step(3) && one == step(8), "bit for bit the same");
}

/// Adam against its definition in f64, over steps with different gradients, clipping and decay.
#[test]
fn adam_follows_its_definition() {
    let config = goldens::config("mean_squared_trilinear");
    let mut parameters = Parameters::random(config, 5).unwrap();
    let options = AdamOptions { weight_decay: 0.1, ..AdamOptions::default() };
    let name = "regularizer.logits.weight";
    let start: Vec<f64> = parameters.get(name).unwrap().values.data.iter().map(|&v| f64::from(v)).collect();
    let (mut adam, mut w) = (Adam::default(), start.clone());
    let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    for step in 1..=4 {
        let gradient = |i: usize| ((i * 7 + step * 3) % 11) as f32 * 0.1 - 0.5;
        let trained = parameters.list.iter().filter(|p| !p.is_statistic());
        let gradients = trained.map(|p| (p.name.clone(), (0..p.values.data.len()).map(gradient).collect())).collect();
        assert!(norm(&gradients) > 1.0);
        adam.step(options, 1e-2, 0.5, &mut parameters, &gradients).unwrap();
        for i in 0..w.len() {
            let g = 0.5 * f64::from(gradient(i));
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (mean, square) = (m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.999f64.powi(step as i32)));
            w[i] = w[i] * (1.0 - 1e-2 * 0.1) - 1e-2 * mean / (square.sqrt() + 1e-8);
        }
    }
    let found = &parameters.get(name).unwrap().values.data;
    assert!(w.iter().zip(&start).any(|(a, b)| (a - b).abs() > 1e-2), "it moved");
    for (a, b) in found.iter().zip(&w) {
        // f32 rounds each of four steps of 1e-2.
        assert!((f64::from(*a) - b).abs() < 1e-6, "{a}, expected {b}");
    }
}
