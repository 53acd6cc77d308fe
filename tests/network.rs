//! The network against its PyTorch definition, layer by layer and as a whole, in every configuration and with every
//! instruction set.
//!
//! Tolerance: |a - b| <= 1e-4 + 1e-3 |b|. Both sides compute in f32 with different orders of summation over up to 3456
//! products a layer and some thirty layers; torch's own distance from f64 takes up to a fifth of it.

#[path = "support/goldens.rs"]
mod goldens;

use engine::cpu::network::BsMvsNet;
use engine::cpu::simd::Level;
use engine::net::config::Resolution;
use engine::net::model::Features;
use engine::net::tensor::Tensor;
use engine::net::weights::Checkpoint;
use engine::scene::camera::Hypotheses;
use goldens::{Golden, Inputs, network, worst};

const ATOL: f64 = 1e-4;
const RTOL: f64 = 1e-3;

fn features(net: &BsMvsNet, inputs: &Inputs) -> Vec<Features<Tensor>> {
    inputs.photos.iter().map(|p| net.features(p).unwrap()).collect()
}

/// Logits, depth and confidence of both samplings against `golden` under `prefix`.
fn check_outputs(net: &BsMvsNet, inputs: &Inputs, golden: &Golden, prefix: &str) {
    let maps = features(net, inputs);
    for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
        check_sampling(net, &maps, inputs, hypotheses, golden, (prefix, suffix));
    }
}

/// The same for one sampling: `prefix` + output + `suffix` is the golden's name.
fn check_sampling(
    net: &BsMvsNet,
    maps: &[Features<Tensor>],
    inputs: &Inputs,
    hypotheses: &Hypotheses,
    golden: &Golden,
    (prefix, suffix): (&str, &str),
) {
    let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
    let out = net.depth_probed(&maps[0], &sources, (hypotheses, 0), true, &mut |_, _| ()).unwrap();
    let logits = out.logits.unwrap();
    let error = worst(&logits.data, golden.values(&format!("{prefix}logits{suffix}")), ATOL, RTOL);
    assert!(error <= 1.0, "{prefix}logits{suffix}: {error:.2} of the tolerance");
    let depths = &hypotheses.depths;
    // The intervals of inverse sampling differ: the smallest one is the strictest.
    let interval = depths.windows(2).map(|d| d[1] - d[0]).fold(f64::INFINITY, f64::min);
    let error = worst(&out.depth.data, golden.values(&format!("{prefix}depth{suffix}")), 1e-3 * interval, 0.0);
    assert!(error <= 1.0, "{prefix}depth{suffix}: {error:.2} of 1e-3 of an interval");
    // A probability follows its logits' errors: p moves by at most twice their tolerance near 1.
    let error = worst(&out.confidence.data, golden.values(&format!("{prefix}confidence{suffix}")), 1e-3, 0.0);
    assert!(error <= 1.0, "{prefix}confidence{suffix}: {error:.2} of 1e-3");
}

#[test]
fn every_layer_matches_the_reference() {
    let inputs = Inputs::read();
    for (name, layers) in [("voxel_squared_skip", 57), ("pixel_signed_trilinear", 55)] {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let seed = golden.metadata["seed"].as_u64().unwrap();
        for level in Level::available() {
            let net = network(name, seed).with_level(level);
            let mut seen = 0;
            let mut report = Vec::new();
            let mut compare = |layer: &str, tensor: &Tensor| {
                let Some((_, expected)) = golden.tensors.get(layer) else { return };
                let mut expected = expected.clone();
                if layer == "regularizer.context_global" {
                    // The reference's layer of this name ends before its ReLU.
                    expected.iter_mut().for_each(|v| *v = v.max(0.0));
                }
                let error = worst(&tensor.data, &expected, ATOL, RTOL);
                seen += 1;
                if error > 1.0 {
                    report.push(format!("{layer} {}: {error:.2} of the tolerance", tensor.shape));
                }
            };
            let first = net.features_probed(&inputs.photos[0], Resolution::Quarter, &mut compare).unwrap();
            let mut maps = vec![first];
            maps.extend(inputs.photos[1..].iter().map(|p| net.features(p).unwrap()));
            let all: Vec<f32> = maps.iter().flat_map(|m| m.quarter.data.iter().copied()).collect();
            assert!(worst(&all, golden.values("features"), ATOL, RTOL) <= 1.0, "features of all views");
            let sweeps = inputs.sweeps();
            let sources: Vec<_> = maps[1..].iter().zip(sweeps).collect();
            compare("cost", &net.cost(&maps[0], &sources, &inputs.linear).unwrap());
            net.depth_probed(&maps[0], &sources, (&inputs.linear, 0), false, &mut compare).unwrap();
            assert!(report.is_empty(), "{name} on {}:\n{}", level.name(), report.join("\n"));
            assert!(seen >= layers, "{name}: only {seen} layers compared");
            check_outputs(&net, &inputs, &golden, "");
        }
    }
}

#[test]
fn every_configuration_matches_the_reference() {
    let inputs = Inputs::read();
    let golden = Golden::read("configurations.safetensors");
    let size = |what: &str| golden.metadata["small"][what].as_u64().unwrap() as usize;
    let small = inputs.corner(size("width"), size("height"), size("planes"));
    let seeds = golden.metadata["seeds"].as_object().unwrap();
    assert_eq!(seeds.len(), 16);
    for (name, seed) in seeds {
        let net = network(name, seed.as_u64().unwrap());
        check_outputs(&net, &inputs, &golden, &format!("{name}/"));
        check_outputs(&net, &small, &golden, &format!("{name}/small/"));
    }
}

/// Where the smaller goldens' deepest volumes are one voxel, these are several: borders and strides of every level
/// count.
#[test]
fn larger_volumes_match_the_reference() {
    let golden = Golden::read("large.safetensors");
    let size = |what: &str| golden.metadata["sizes"][what].as_u64().unwrap() as usize;
    let images_seed = golden.metadata["images_seed"].as_u64().unwrap();
    let inputs = Inputs::read().large(size("width"), size("height"), size("planes"), images_seed);
    for level in Level::available() {
        let seed = golden.metadata["seed"].as_u64().unwrap();
        let net = network("voxel_squared_skip", seed).with_level(level);
        check_sampling(&net, &features(&net, &inputs), &inputs, &inputs.linear, &golden, ("", ""));
    }
}

/// Both narrow stages in both samplings: guess, logits and 1 / depth.
///
/// The guess is a convex mean of coarse depths: 1e-3 of the coarse interval, as there. The hypotheses move with it, and
/// the logits with them: their tolerance is the layers'. 1 / depth is the guess plus an expectation over hypotheses a
/// spacing apart: 1e-3 of the larger of both.
#[test]
fn narrow_stages_match_the_reference() {
    let inputs = Inputs::read();
    let golden = Golden::read("narrow.safetensors");
    let seed = golden.metadata["seed"].as_u64().unwrap();
    for level in Level::available() {
        let net = network("voxel_squared_skip_full", seed).with_level(level);
        let all = features(&net, &inputs);
        for (name, map) in [("half", &all[0].half), ("full", &all[0].full)] {
            let error = worst(&map.as_ref().unwrap().data, golden.values(&format!("{name}/features")), ATOL, RTOL);
            assert!(error <= 1.0, "{name} features: {error:.2} of the tolerance");
        }
        for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
            let intervals = hypotheses.depths.windows(2).map(|d| (1.0 / d[0] - 1.0 / d[1]).abs());
            let interval = intervals.fold(f64::INFINITY, f64::min);
            for (stage, finest) in [("half", Resolution::Half), ("full", Resolution::Full)] {
                let expected = |what: &str| golden.values(&format!("{stage}/{what}{suffix}"));
                let maps: Vec<_> = inputs
                    .photos
                    .iter()
                    .map(|photo| net.features_probed(photo, finest, &mut |_, _| ()).unwrap())
                    .collect();
                let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
                let mut guess = Vec::new();
                let mut probe = |name: &str, tensor: &Tensor| {
                    if name == if finest == Resolution::Half { "narrow2" } else { "narrow1" } {
                        guess = tensor.data.to_vec();
                    }
                };
                let found = net.depth_probed(&maps[0], &sources, (hypotheses, 0), true, &mut probe).unwrap();
                let what = format!("{stage}{suffix} on {}", level.name());
                let spacing = expected("spacing").iter().copied().fold(f64::INFINITY, f64::min);
                let error = worst(&guess, expected("guess"), 1e-3 * interval.max(spacing), 0.0);
                assert!(error <= 1.0, "{what}: the guess is off by {error:.2} of 1e-3 of an interval");
                let error = worst(&found.logits.unwrap().data, expected("logits"), ATOL, RTOL);
                assert!(error <= 1.0, "{what}: logits are off by {error:.2} of the tolerance");
                let rho: Vec<f32> = found.depth.data.iter().map(|d| 1.0 / d).collect();
                let error = worst(&rho, expected("rho"), 1e-3 * interval.max(spacing), 0.0);
                assert!(error <= 1.0, "{what}: 1 / depth is off by {error:.2} of 1e-3 of an interval");
            }
        }
    }
}

/// A narrow stage is local, so that bands of rows with a border say what the whole says, bit for bit.
#[test]
fn bands_of_a_narrow_stage_are_the_whole() {
    let inputs = Inputs::read().large(64, 260, 9, 3);
    let run = |net: BsMvsNet| {
        let maps = features(&net, &inputs);
        let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
        let mut bands = 0;
        let mut count = |name: &str, _: &Tensor| bands += usize::from(name == "narrow1");
        let found = net.depth_probed(&maps[0], &sources, (&inputs.inverse, 0), true, &mut count).unwrap();
        (bands, found.depth, found.confidence, found.logits.unwrap().data.to_vec())
    };
    let confidence = Checkpoint::built_in().unwrap().confidence;
    let net = || network("voxel_squared_skip_full", 5).with_confidence(confidence.clone());
    let (whole, banded) = (run(net()), run(net().with_band_bytes(1)));
    assert!(whole.0 == 1 && banded.0 > 10, "{} and {} bands", whole.0, banded.0);
    assert!((whole.1, whole.2, whole.3) == (banded.1, banded.2, banded.3), "bit for bit the same");
}

#[test]
fn the_built_in_weights_match_the_reference() {
    // The reference knows the raw probability of four hypotheses.
    let net = BsMvsNet::built_in().unwrap().with_confidence(None);
    assert_eq!(net.config(), goldens::config("voxel_squared_skip_full"));
    let (inputs, golden) = (Inputs::read(), Golden::read("shipped_weights.safetensors"));
    let quarter = |photo| net.features_probed(photo, Resolution::Quarter, &mut |_, _| ()).unwrap();
    let maps: Vec<_> = inputs.photos.iter().map(quarter).collect();
    for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
        check_sampling(&net, &maps, &inputs, hypotheses, &golden, ("", suffix));
    }
    // At full resolution: within 1e-3 of the coarse interval, as above.
    let maps = features(&net, &inputs);
    let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
    for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
        let found = net.depth(&maps[0], &sources, hypotheses).unwrap();
        let rho: Vec<f32> = found.depth.data.iter().map(|d| 1.0 / d).collect();
        let intervals = hypotheses.depths.windows(2).map(|d| (1.0 / d[0] - 1.0 / d[1]).abs());
        let allowed = 1e-3 * intervals.fold(f64::INFINITY, f64::min);
        let error = worst(&rho, golden.values(&format!("rho{suffix}")), allowed, 0.0);
        assert!(error <= 1.0, "rho{suffix}: {error:.2} of 1e-3 of an interval");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let inputs = Inputs::read();
    let net = BsMvsNet::built_in().unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let maps = features(&net, &inputs);
            let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
            let out = net.depth(&maps[0], &sources, &inputs.linear).unwrap();
            (out.depth, out.confidence)
        })
    };
    let one = run(1);
    assert!(one == run(3) && one == run(8), "bit for bit the same");
}
