//! The device's network against its PyTorch definition: depth, confidence and logits of every configuration, and the
//! gradients of a training step.
//!
//! On the emulated device the kernels run as they are, compiled for the processor; ENGINE_TEST_DEVICE=cuda takes a
//! GPU. Tolerances in f32 are those of the processor's network (tests/network.rs, tests/training_gradients.rs): the
//! arithmetic is the same, in another order.

#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/goldens.rs"]
mod goldens;
#[path = "support/gradient_goldens.rs"]
mod gradient_goldens;
#[path = "support/library.rs"]
mod library;
#[path = "support/test_device.rs"]
mod test_device;

use std::collections::BTreeMap;
use std::sync::Arc;

use emulator::Build;
use engine::cpu::network::BsMvsNet;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::cuda::driver::Driver;
use engine::cuda::folded::Slabs;
use engine::cuda::inference::{Convolutions, DeviceNetwork, Options};
use engine::cuda::storage::Element;
use engine::cuda::training::{Example, Teacher};
use engine::files::map::Map;
use engine::net::backend::{DepthJob, DepthNetwork, DeviceWork, Estimate, JobSize, PhotoSize};
use engine::net::config::Resolution;
use engine::net::weights::Checkpoint;
use engine::scene::camera::{Expected, Hypotheses};
use goldens::{Golden, Inputs, config, generated, worst};
use gradient_goldens as truth;
use test_device::{on_gpu, test_device};

fn options(element: Element) -> Options {
    Options { element, vram: None, convolutions: Convolutions::Own }
}

fn network(device: &Arc<dyn Driver>, name: &str, seed: u64, element: Element) -> DeviceNetwork {
    let checkpoint = Checkpoint::from_function("generated", config(name), generated(seed)).unwrap();
    DeviceNetwork::new(device.clone(), &checkpoint, options(element)).unwrap()
}

fn estimate(network: &DeviceNetwork, inputs: &Inputs, hypotheses: &Hypotheses) -> Estimate {
    estimate_up_to(Resolution::Quarter, network, inputs, hypotheses)
}

fn estimate_up_to(finest: Resolution, network: &DeviceNetwork, inputs: &Inputs, hypotheses: &Hypotheses) -> Estimate {
    let maps: Vec<_> = inputs.photos.iter().map(|photo| network.features(photo, finest).unwrap()).collect();
    let sources = maps[1..].iter().zip(inputs.sweeps()).collect();
    let job = DepthJob { reference: &maps[0], sources, hypotheses: hypotheses.clone(), level: 0 };
    let running = network.begin(0, job).unwrap();
    network.finish(running).unwrap()
}

fn interval(hypotheses: &Hypotheses) -> f64 {
    hypotheses.depths.windows(2).map(|d| d[1] - d[0]).fold(f64::INFINITY, f64::min)
}

/// Depth and confidence of both samplings against a golden, within the processor's tolerance.
fn check(network: &DeviceNetwork, inputs: &Inputs, golden: &Golden, prefix: &str) {
    for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
        let found = estimate(network, inputs, hypotheses);
        let depth = golden.values(&format!("{prefix}depth{suffix}"));
        let error = worst(&found.depth.data, depth, 1e-3 * interval(hypotheses), 0.0);
        assert!(error <= 1.0, "{prefix}depth{suffix}: {error:.2} of 1e-3 of an interval");
        let error = worst(&found.confidence.data, golden.values(&format!("{prefix}confidence{suffix}")), 1e-3, 0.0);
        assert!(error <= 1.0, "{prefix}confidence{suffix}: {error:.2} of 1e-3");
    }
}

/// Whether all configurations are tested, each of which takes an emulated device some ten seconds.
fn does_all() -> bool {
    on_gpu() || std::env::var_os("ENGINE_CUDA_ALL").is_some()
}

#[test]
fn every_configuration_matches_the_reference_in_f32() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let golden = Golden::read("configurations.safetensors");
    let size = |what: &str| golden.metadata["small"][what].as_u64().unwrap() as usize;
    let small = inputs.corner(size("width"), size("height"), size("planes"));
    let seeds = golden.metadata["seeds"].as_object().unwrap();
    // Every gate, difference and decoder, with the one that the test of a library's convolutions holds to the
    // reference, pixel_signed_trilinear; a GPU, and the night, do all configurations.
    let some = ["voxel_squared_skip", "mean_signed_skip", "variance_squared_trilinear"];
    let mut checked = 0;
    for (name, seed) in seeds {
        if !(does_all() || some.contains(&name.as_str())) {
            continue;
        }
        let network = network(&device, name, seed.as_u64().unwrap(), Element::F32);
        check(&network, &small, &golden, &format!("{name}/small/"));
        // The larger input once.
        if does_all() || name == "voxel_squared_skip" {
            check(&network, &inputs, &golden, &format!("{name}/"));
        }
        checked += 1;
    }
    assert!(checked >= some.len(), "{checked} of {:?}", seeds.keys());
}

/// A reference that is smaller than its sources, and sources of different sizes.
#[test]
fn photos_of_different_sizes_are_the_processors() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let (width, height) = (inputs.photos[0].width, inputs.photos[0].height);
    let cut = |i: usize, w: usize, h: usize| inputs.corner(width - w, height - h, 4).photos.swap_remove(i);
    let mut photos = vec![cut(0, 12, 8), inputs.photos[1].clone(), cut(2, 8, 12)];
    photos.extend(inputs.photos[3..].iter().cloned());
    let mixed = Inputs { photos, ..inputs.corner(4, 4, inputs.linear.depths.len()) };
    for name in ["voxel_squared_skip", "pixel_signed_trilinear"] {
        let host = goldens::network(name, 11);
        let maps: Vec<_> = mixed.photos.iter().map(|photo| host.features(photo).unwrap()).collect();
        let sources: Vec<_> = maps[1..].iter().zip(mixed.sweeps()).collect();
        let network = network(&device, name, 11, Element::F32);
        let same = |hypotheses: &Hypotheses| {
            let expected = host.depth(&maps[0], &sources, hypotheses).unwrap();
            let found = estimate(&network, &mixed, hypotheses);
            assert_eq!((found.depth.width, found.depth.height), (expected.depth.width, expected.depth.height));
            for (a, b) in found.depth.data.iter().zip(&expected.depth.data) {
                let moved = f64::from((a - b).abs()) / interval(hypotheses);
                assert!(moved <= 2e-3, "{name}: a pixel moved by {moved} intervals");
            }
            found.depth
        };
        let alone = same(&mixed.linear);
        if name == "voxel_squared_skip" {
            // What is known of one view is forgotten at the next.
            let last = mixed.linear.depths.len() as u16 - 1;
            let planes =
                (0..alone.data.len() as u16).map(|i| [i % last, (i % last + i / last % 4).min(last)]).collect();
            let known = Some(Expected { width: alone.width, planes });
            let told = same(&Hypotheses { expected: known, ..mixed.linear.clone() });
            let moved = alone.data.iter().zip(&told.data).filter(|(a, b)| (*a - *b).abs() > 1.0).count();
            assert!(4 * moved > alone.data.len(), "what is known moves {moved} pixels alone");
            assert_eq!(same(&mixed.linear), alone);
        }
    }
}

/// The network whose convolutions a library does, with a library that is plain loops: weights, strides, residuals and
/// planes are handed over as `cuda::convolution` says. On a GPU the library is cuDNN.
#[test]
fn convolutions_of_a_library_give_the_same_network() {
    let Some(device) = test_device(Build::Fast) else { return };
    let device: Arc<dyn Driver> = if on_gpu() { device } else { Arc::new(library::WithLibrary(device)) };
    let inputs = Inputs::read();
    let golden = Golden::read("configurations.safetensors");
    let size = |what: &str| golden.metadata["small"][what].as_u64().unwrap() as usize;
    let small = inputs.corner(size("width"), size("height"), size("planes"));
    for name in ["voxel_squared_skip", "pixel_signed_trilinear"].iter().take(if does_all() { 2 } else { 1 }) {
        let seed = golden.metadata["seeds"][name].as_u64().unwrap();
        let checkpoint = Checkpoint::from_function("generated", config(name), generated(seed)).unwrap();
        let options = Options { convolutions: Convolutions::Cudnn, ..options(Element::F32) };
        let network = DeviceNetwork::new(device.clone(), &checkpoint, options).unwrap();
        check(&network, &small, &golden, &format!("{name}/small/"));
    }
    // Strides over rows and columns alone, in narrow stages: 2e-3 of an interval, as between other orders of sums.
    let maps = [Convolutions::Own, Convolutions::Cudnn].map(|convolutions| {
        let options = Options { convolutions, ..options(Element::F32) };
        let network = DeviceNetwork::new(device.clone(), &Checkpoint::built_in().unwrap(), options).unwrap();
        estimate_up_to(Resolution::Full, &network, &small, &small.linear).depth
    });
    for (a, b) in maps[0].data.iter().zip(&maps[1].data) {
        let moved = f64::from((a - b).abs()) / interval(&small.linear);
        assert!(moved <= 2e-3, "a pixel moved by {moved} intervals");
    }
}

#[test]
fn slabs_of_the_cost_volume_change_no_bit() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    // By day each gate in one precision, in slabs that end unevenly.
    let cases = [("voxel_squared_skip", Element::F16), ("pixel_signed_trilinear", Element::F32)];
    let others = [("voxel_squared_skip", Element::F32), ("pixel_signed_trilinear", Element::F16)];
    let slabs: &[usize] = if does_all() { &[usize::MAX, 8, 6, 2] } else { &[usize::MAX, 6] };
    for (name, element) in cases.into_iter().chain(others.into_iter().filter(|_| does_all())) {
        let maps: Vec<Vec<u32>> = slabs
            .iter()
            .map(|&planes| {
                let network = network(&device, name, 3, element);
                network.set_slabs(Slabs::of_planes(planes));
                let found = estimate(&network, &inputs, &inputs.linear);
                found.depth.data.iter().chain(&found.confidence.data).map(|v| v.to_bits()).collect()
            })
            .collect();
        assert!(maps.iter().all(|m| *m == maps[0]), "{name} {element:?}");
    }
}

/// f16: 99.9 % of the pixels within 0.1 interval of f32, and none moved by more than half where the confidence is
/// above 0.8.
#[test]
fn half_precision_stays_close_to_single() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let single = BsMvsNet::built_in().unwrap();
    let half = DeviceNetwork::new(device, &Checkpoint::built_in().unwrap(), options(Element::F16)).unwrap();
    let quarter = |photo| single.features_probed(photo, Resolution::Quarter, &mut |_, _| ()).unwrap();
    let maps: Vec<_> = inputs.photos.iter().map(quarter).collect();
    let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
    for hypotheses in [&inputs.linear, &inputs.inverse] {
        let expected = single.depth(&maps[0], &sources, hypotheses).unwrap();
        let found = estimate(&half, &inputs, hypotheses);
        let interval = interval(hypotheses);
        let moved: Vec<f64> = found
            .depth
            .data
            .iter()
            .zip(&expected.depth.data)
            .map(|(a, b)| f64::from((a - b).abs()) / interval)
            .collect();
        let far = moved.iter().filter(|&&m| m > 0.1).count();
        assert!(far as f64 <= 0.001 * moved.len() as f64, "{far} of {} pixels moved by more than 0.1", moved.len());
        for (m, c) in moved.iter().zip(&expected.confidence.data) {
            assert!(*c <= 0.8 || *m <= 0.5, "a pixel of confidence {c} moved by {m} intervals");
        }
    }
}

/// Both narrow stages in both samplings against PyTorch: 1 / depth within 1e-3 of the coarse interval or of the
/// stage's spacing, whichever is larger, as the processor's network (tests/network.rs). Without a fit, confidence is
/// the coarse stage's, interpolated.
#[test]
fn narrow_stages_match_the_reference_in_f32() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let golden = Golden::read("narrow.safetensors");
    let seed = golden.metadata["seed"].as_u64().unwrap();
    let network = network(&device, "voxel_squared_skip_full", seed, Element::F32);
    let host = goldens::network("voxel_squared_skip_full", seed);
    for (hypotheses, suffix) in [(&inputs.linear, ""), (&inputs.inverse, "_inverse")] {
        let intervals = hypotheses.depths.windows(2).map(|d| (1.0 / d[0] - 1.0 / d[1]).abs());
        let interval = intervals.fold(f64::INFINITY, f64::min);
        for (stage, finest) in [("half", Resolution::Half), ("full", Resolution::Full)] {
            let expected = |what: &str| golden.values(&format!("{stage}/{what}{suffix}"));
            let found = estimate_up_to(finest, &network, &inputs, hypotheses);
            let spacing = expected("spacing").iter().copied().fold(f64::INFINITY, f64::min);
            let rho: Vec<f32> = found.depth.data.iter().map(|d| 1.0 / d).collect();
            let error = worst(&rho, expected("rho"), 1e-3 * interval.max(spacing), 0.0);
            assert!(error <= 1.0, "{stage}{suffix}: 1 / depth is off by {error:.2} of 1e-3 of an interval");
            let confidence: Vec<f64> =
                of_host(&host, finest, &inputs, hypotheses).confidence.data.iter().map(|&c| f64::from(c)).collect();
            let error = worst(&found.confidence.data, &confidence, 1e-3, 0.0);
            assert!(error <= 1.0, "{stage}{suffix}: confidence is off by {error:.2} of 1e-3");
        }
    }
}

/// What the processor says.
fn of_host(host: &BsMvsNet, finest: Resolution, inputs: &Inputs, hypotheses: &Hypotheses) -> Estimate {
    let of_photo = |photo| host.features_probed(photo, finest, &mut |_, _| ()).unwrap();
    let maps: Vec<_> = inputs.photos.iter().map(of_photo).collect();
    let sources: Vec<_> = maps[1..].iter().zip(inputs.sweeps()).collect();
    host.depth(&maps[0], &sources, hypotheses).unwrap()
}

/// The built-in weights with their fits, up to each resolution: depths within 2e-3 of a coarse interval, as a quarter's
/// of different sizes, and confidence within 1e-2. That has a tolerance of its own because the regressions read
/// logarithms of distances: a spread that is off by 1e-3 of an interval where it is small moves the odds by ten times
/// as much.
#[test]
fn maps_and_confidence_of_every_resolution_are_the_processors() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let (width, height) = (inputs.photos[0].width, inputs.photos[0].height);
    let cut = |i: usize, w: usize, h: usize| inputs.corner(width - w, height - h, 4).photos.swap_remove(i);
    // A reference that is smaller than its sources, and sources of different sizes.
    let mut photos = vec![cut(0, 12, 8), inputs.photos[1].clone(), cut(2, 8, 12)];
    photos.extend(inputs.photos[3..].iter().cloned());
    let mixed = Inputs { photos, ..inputs.corner(4, 4, inputs.linear.depths.len()) };
    let host = BsMvsNet::built_in().unwrap();
    let network = DeviceNetwork::new(device, &Checkpoint::built_in().unwrap(), options(Element::F32)).unwrap();
    assert_eq!(network.config(), host.config());
    for finest in [Resolution::Quarter, Resolution::Half, Resolution::Full] {
        for hypotheses in [&mixed.linear, &mixed.inverse] {
            let expected = of_host(&host, finest, &mixed, hypotheses);
            let found = estimate_up_to(finest, &network, &mixed, hypotheses);
            assert_eq!((found.depth.width, found.depth.height), (expected.depth.width, expected.depth.height));
            assert!((width - 12) / finest.step() == found.depth.width);
            for (a, b) in found.depth.data.iter().zip(&expected.depth.data) {
                let moved = f64::from((a - b).abs()) / interval(hypotheses);
                assert!(moved <= 2e-3, "{finest:?}: a pixel moved by {moved} intervals, {a} for {b}");
            }
            let wide: Vec<f64> = expected.confidence.data.iter().map(|&c| f64::from(c)).collect();
            let error = worst(&found.confidence.data, &wide, 1e-2, 0.0);
            assert!(error <= 1.0, "{finest:?}: confidence is off by {error:.2} of 1e-2");
        }
    }
}

/// f16 at full resolution: half of a coarse interval is an eighth of a hypothesis' distance of the finest stage here;
/// what is sure must stay where it is.
#[test]
fn half_precision_stays_close_to_single_at_full_resolution() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let single = BsMvsNet::built_in().unwrap();
    let half = DeviceNetwork::new(device, &Checkpoint::built_in().unwrap(), options(Element::F16)).unwrap();
    let expected = of_host(&single, Resolution::Full, &inputs, &inputs.linear);
    let found = estimate_up_to(Resolution::Full, &half, &inputs, &inputs.linear);
    let interval = interval(&inputs.linear);
    let moved = found.depth.data.iter().zip(&expected.depth.data).map(|(a, b)| f64::from((a - b).abs()) / interval);
    let moved: Vec<f64> = moved.collect();
    let far = moved.iter().filter(|&&m| m > 0.1).count();
    assert!(far as f64 <= 0.01 * moved.len() as f64, "{far} of {} pixels moved by more than 0.1", moved.len());
    let mean = moved.iter().sum::<f64>() / moved.len() as f64;
    println!("{mean} intervals in the mean");
    for (m, c) in moved.iter().zip(&expected.confidence.data) {
        assert!(*c <= 0.8 || *m <= 0.5, "a pixel of confidence {c} moved by {m} intervals");
    }
}

/// A narrow stage is local, so that bands of rows with a border say what the whole says, bit for bit.
#[test]
fn bands_of_narrow_stages_change_no_bit() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read().large(32, 220, 5, 3);
    for element in [Element::F16, Element::F32].into_iter().take(if does_all() { 2 } else { 1 }) {
        // By day, the bands that do not end with the map.
        let rows: &[usize] = if does_all() { &[usize::MAX, 64, 48] } else { &[usize::MAX, 48] };
        let maps = rows.iter().map(|&rows| {
            let network =
                DeviceNetwork::new(device.clone(), &Checkpoint::built_in().unwrap(), options(element)).unwrap();
            network.set_slabs(Slabs { planes: 32, rows });
            let found = estimate_up_to(Resolution::Full, &network, &inputs, &inputs.inverse);
            found.depth.data.iter().chain(&found.confidence.data).map(|v| v.to_bits()).collect::<Vec<_>>()
        });
        let maps: Vec<_> = maps.collect();
        assert!(maps.iter().all(|m| *m == maps[0]), "{element:?}");
    }
}

#[test]
fn features_that_end_at_a_quarter_make_no_finer_map() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let network = network(&device, "voxel_squared_skip_full", 5, Element::F32);
    let up_to = |i: usize, finest| network.features(&inputs.photos[i], finest).unwrap();
    let (reference, source) = (up_to(0, Resolution::Full), up_to(1, Resolution::Half));
    let sources = vec![(&source, inputs.sweeps()[0])];
    let job = DepthJob { reference: &reference, sources, hypotheses: inputs.linear.clone(), level: 0 };
    let error = network.begin(0, job).err().unwrap().to_string();
    assert!(error.contains("features without a map for the stage narrow1"), "{error}");
}

#[test]
fn two_runs_and_two_networks_give_the_same_bits() {
    let Some(device) = test_device(Build::Fast) else { return };
    let inputs = Inputs::read();
    let bits = |found: Estimate| {
        found.depth.data.iter().chain(&found.confidence.data).map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let first = network(&device, "voxel_squared_skip", 5, Element::F16);
    let runs = [(); 3].map(|()| bits(estimate(&first, &inputs, &inputs.linear)));
    let second = network(&device, "voxel_squared_skip", 5, Element::F16);
    assert!(runs.iter().all(|r| *r == runs[0]));
    assert_eq!(bits(estimate(&second, &inputs, &inputs.linear)), runs[0]);
}

#[test]
fn a_plan_that_does_not_fit_says_what_is_needed_and_what_there_is() {
    let Some(device) = test_device(Build::Fast) else { return };
    let with = |vram: u64| {
        let options = Options { vram: Some(vram), ..options(Element::F16) };
        DeviceNetwork::new(device.clone(), &Checkpoint::built_in().unwrap(), options).unwrap()
    };
    let (width, height) = (1600, 1200);
    let size = JobSize { width, height, reference: (width, height), planes: 192, views: 4, slot: 0 };
    let finest = Resolution::Quarter;
    let photos = [PhotoSize { width, height, levels: 1 }].into();
    let table3 = DeviceWork { photos, maps: vec![size], finest, refined: false };
    let error = with(200_000_000).device_plan(&table3).unwrap_err().to_string();
    assert!(error.contains("may be used") && error.contains("--vram"), "{error}");
    let plan = with(3_000_000_000).device_plan(&table3).unwrap().unwrap();
    println!("{}", plan.text);
    // Room for the features of the four views at least: 400 x 300 x 32 of f32 each.
    assert!(plan.room >= 4 * 400 * 300 * 32 * 4, "{}", plan.text);
    // At full resolution: 32 + 64 + 128 numbers for each of those pixels.
    let full = DeviceWork { finest: Resolution::Full, ..table3 };
    let whole = with(4_000_000_000).device_plan(&full).unwrap().unwrap();
    assert!(whole.text.contains("narrow stages whole"), "{}", whole.text);
    assert!(whole.room >= 4 * 400 * 300 * 224 * 4, "{}", whole.text);
    let bands = with(1_150_000_000).device_plan(&full).unwrap().unwrap();
    assert!(bands.text.contains("narrow stages in bands of"), "{}", bands.text);
    let error = with(300_000_000).device_plan(&full).unwrap_err().to_string();
    assert!(error.contains("a coarser --resolution"), "{error}");
}

fn every(map: &Map, step: usize) -> Map {
    let (width, height) = (map.width / step, map.height / step);
    let data = (0..width * height).map(|i| map.at(i % width * step, i / width * step)).collect();
    Map { width, height, data }
}

#[test]
fn gradients_of_every_configuration_match_the_reference() {
    let Some(device) = test_device(Build::Fast) else { return };
    // Both gates, differences and decoders, with the narrow stages' below; a GPU, and the night, do all configurations.
    let by_day = |c: &String| c == "pixel_signed_trilinear" || c.ends_with("_inverse");
    let wanted = |c: &String| !c.ends_with("_full") && (does_all() || by_day(c));
    let all: BTreeMap<String, f64> = truth::configs()
        .into_iter()
        .filter(wanted)
        .map(|config| {
            let largest = check_gradients(&device, &config, does_all());
            (config, largest)
        })
        .collect();
    all.iter().for_each(|(config, error)| println!("{config}: {error:.1e}"));
}

#[test]
fn gradients_of_narrow_stages_match_the_reference() {
    let Some(device) = test_device(Build::Fast) else { return };
    // Both gates are in the configurations above; by day, one of them with narrow stages.
    let wanted = |c: &String| c.ends_with("_full") && (does_all() || c.starts_with("voxel"));
    let found: Vec<String> = truth::configs().into_iter().filter(wanted).collect();
    assert!(!found.is_empty());
    for config in found {
        println!("{config}: {:.1e}", check_gradients(&device, &config, true));
    }
}

/// Losses and gradients of one step against the reference, with `twice` once more; the largest error of a gradient.
fn check_gradients(device: &Arc<dyn Driver>, config: &str, twice: bool) -> f64 {
    let (l1, cross_entropy) = truth::loss_weights();
    let (depth, fine_truth) = (truth::truth(), truth::fine_truth());
    let parameters = truth::checkpoint(config).parameters;
    let inputs = truth::inputs();
    let hypotheses = if config.ends_with("_inverse") { &inputs.inverse } else { &inputs.linear };
    // Of the narrow stages, at every second pixel and at every one.
    let fine: Vec<Map> = match config.ends_with("_full") {
        true => [2, 1].map(|step| every(&fine_truth, step)).to_vec(),
        false => Vec::new(),
    };
    let lesson = Example {
        photos: &inputs.photos,
        cameras: &inputs.cameras,
        truth: &depth,
        fine: &fine,
        hypotheses,
        loss: DepthLoss { l1, cross_entropy },
        // What the reference weighs it with.
        guess: 0.5,
    };
    let mut teacher = Teacher::new(device.clone(), &parameters).unwrap();
    let found = teacher.teach(&parameters, &lesson).unwrap();
    for (a, b) in found.losses.iter().zip(truth::losses(config)) {
        assert!((a - b).abs() <= 1e-4 * b.abs(), "{config}: loss {a}, expected {b}");
    }
    let names = truth::parameters(config);
    assert_eq!(names.len(), found.gradients.len(), "{config}: as many gradients as parameters");
    let mut largest = 0.0f64;
    for name in names {
        let error = truth::check(&name, config, &found.gradients[&name]);
        assert!(error <= 1e-3, "{config}: gradient of {name} is off by {error:.2e}");
        largest = largest.max(error);
    }
    if twice {
        let again = teacher.teach(&parameters, &lesson).unwrap();
        assert!(again.gradients == found.gradients, "{config}: two steps from the same weights differ");
    }
    largest
}
