//! The whole job on a device against the same on the processor: scene to maps to cloud.
//!
//! In f32 the maps differ by roundings alone: 2e-3 of an interval, as tests/cuda_network.rs allows; a point may then
//! come or go where a pixel lies at a threshold, so the clouds' sizes are compared within 1 %. Maps of full resolution
//! are also moved by what photos say, which jumps where two candidates are as good: of them 99.9 % must be as close.
//! Merging and fusion themselves are equal to the bit (tests/cuda).

#[path = "support/emulator.rs"]
#[allow(dead_code)]
mod emulator;
#[path = "support/test_device.rs"]
mod test_device;
#[path = "support/turned_scene.rs"]
mod turned_scene;

use std::path::Path;
use std::sync::Arc;

use emulator::Build;
use engine::cpu::network::BsMvsNet;
use engine::cuda::driver::Driver;
use engine::cuda::inference::{Convolutions, DeviceNetwork, Options};
use engine::cuda::storage::Element;
use engine::files::folder::OutputOptions;
use engine::files::pfm;
use engine::fusion::settings::{FusionOptions, Reprojection, Settings};
use engine::host::progress::{Progress, Style};
use engine::maps::consistency::Thresholds;
use engine::net::config::Resolution;
use engine::net::weights::Checkpoint;
use engine::run::device::Backend;
use engine::run::infer::infer;
use engine::run::options::InferOptions;
use engine::scene::camera::Sampling;
use test_device::test_device;
use turned_scene::{Change, VIEWS};

fn options(out: &Path, backend: Backend) -> InferOptions {
    let thresholds = Thresholds { min_views: 1, ..Thresholds::default() };
    let fusion = FusionOptions::reprojection(0.2, Reprojection { thresholds, ..Reprojection::default() });
    InferOptions {
        output: OutputOptions { out: Some(out.to_owned()), force: false },
        max_side: Some(128),
        views: 3,
        planes: Some(32),
        sampling: Some(Sampling::Inverse),
        levels: 2,
        settings: Settings { fusion, ..Settings::default() },
        backend,
        ..InferOptions::default()
    }
}

#[test]
fn a_scene_gives_the_same_maps_and_cloud() {
    let Some(device) = test_device(Build::Fast) else { return };
    compare(device, &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene"), Resolution::Quarter);
}

#[test]
fn a_scene_gives_the_same_maps_and_cloud_at_full_resolution() {
    let Some(device) = test_device(Build::Fast) else { return };
    compare(device, &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene"), Resolution::Full);
}

#[test]
fn photos_that_are_turned_or_shown_at_another_scale_give_the_same_maps_and_cloud() {
    let Some(device) = test_device(Build::Fast) else { return };
    let folder = tempfile::tempdir().unwrap();
    // View 0's photo is larger than both of its sources', of which one is turned; the source of view 2 that has no map
    // shows things half as large.
    let mut changes = [Change::shrunk(4); VIEWS];
    changes[1] = Change { size: (96, 64), turns: 1, ..Change::shrunk(4) };
    changes[2] = Change { size: (96, 64), ..Change::shrunk(4) };
    changes[3] = Change::shrunk(8);
    turned_scene::write(folder.path(), &changes);
    for resolution in [Resolution::Quarter, Resolution::Half] {
        compare(device.clone(), folder.path(), resolution);
    }
}

/// Three views of a scene on the processor and on the device.
fn compare(device: Arc<dyn Driver>, scene: &Path, resolution: Resolution) {
    let folder = tempfile::tempdir().unwrap();
    let progress = Progress::new(Style::Quiet);
    let only = [0, 1, 2].map(turned_scene::name).to_vec();
    let run = |name: &str, backend: Backend| InferOptions {
        only: only.clone(),
        resolution,
        ..options(&folder.path().join(name), backend)
    };
    infer(scene, &BsMvsNet::built_in().unwrap(), &run("host", Backend::Host), &progress).unwrap();
    let element = Options { element: Element::F32, vram: None, convolutions: Convolutions::Own };
    let network = DeviceNetwork::new(device.clone(), &Checkpoint::built_in().unwrap(), element).unwrap();
    infer(scene, &network, &run("device", Backend::Device(device)), &progress).unwrap();
    let manifest = |name: &str| -> serde_json::Value {
        let text = std::fs::read(folder.path().join(name).join("manifest.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let (host, device) = (manifest("host"), manifest("device"));
    assert_eq!(device["network"]["precision"], "f32");
    assert_ne!(device["machine"]["device"], host["machine"]["device"]);
    let points = [&host, &device].map(|m| m["points"].as_f64().unwrap());
    assert!(points[0] > 100.0 && (points[0] - points[1]).abs() <= 0.01 * points[0], "{points:?}");
    for name in &only {
        let maps = ["host", "device"]
            .map(|run| pfm::read(&folder.path().join(run).join(format!("levels/0/depth/{name}.pfm"))).unwrap());
        let view = host["views"].as_array().unwrap().iter().find(|v| v["name"] == **name).unwrap();
        let range = &view["depth"]["range"];
        let (near, far) = (range["near"].as_f64().unwrap(), range["far"].as_f64().unwrap());
        assert_eq!((maps[0].width, maps[0].height), (maps[1].width, maps[1].height));
        // Intervals of inverse depth.
        let interval = (1.0 / near - 1.0 / far) / 31.0;
        let moved = |(a, b): (&f32, &f32)| (1.0 / f64::from(*a) - 1.0 / f64::from(*b)).abs() / interval;
        let moved: Vec<f64> = maps[0].data.iter().zip(&maps[1].data).map(moved).collect();
        let far = moved.iter().filter(|&&m| m > 2e-3 || m.is_nan()).count();
        let allowed = if resolution == Resolution::Full { moved.len() / 1000 } else { 0 };
        assert!(far <= allowed, "{name} {resolution:?}: {far} of {} pixels are more than 2e-3 apart", moved.len());
    }
}
