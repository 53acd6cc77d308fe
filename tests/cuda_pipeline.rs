//! The whole job on a device against the same on the processor: scene to maps to cloud.
//!
//! In f32 the maps differ by roundings alone: 2e-3 of an interval, as tests/cuda_network.rs allows; a point may then
//! come or go where a pixel lies at a threshold, so the clouds' sizes are compared within 1 %. Merging and fusion
//! themselves are equal to the bit (tests/cuda).

#[path = "support/emulator.rs"]
#[allow(dead_code)]
mod emulator;
#[path = "support/test_device.rs"]
mod test_device;

use std::path::Path;

use emulator::Build;
use engine::cuda::graph::Element;
use engine::cuda::inference::{Convolutions, DeviceNetwork, Options};
use engine::cuda::program::Layout;
use engine::files::pfm;
use engine::fusion::settings::{FusionOptions, Reprojection};
use engine::host::progress::{Progress, Style};
use engine::maps::consistency::Thresholds;
use engine::maps::merge::MergeOptions;
use engine::net::BsMvsNet;
use engine::net::weights::Checkpoint;
use engine::run::device::Geometry;
use engine::run::{InferOptions, infer};
use engine::scene::OpenOptions;
use engine::scene::camera::Sampling;
use test_device::test_device;

fn options(out: &Path, geometry: Geometry) -> InferOptions {
    let thresholds = Thresholds { min_views: 1, ..Thresholds::default() };
    InferOptions {
        out: Some(out.to_owned()),
        force: false,
        normals: false,
        depth_only: false,
        open: OpenOptions::default(),
        max_side: Some(128),
        only: Vec::new(),
        views: 3,
        planes: Some(32),
        range: None,
        widen_range: 0.1,
        sampling: Some(Sampling::Inverse),
        levels: 2,
        check_sources: 10,
        merge: MergeOptions::default(),
        fusion: FusionOptions::reprojection(0.2, Reprojection { thresholds, ..Reprojection::default() }),
        memory: None,
        geometry,
    }
}

#[test]
fn a_scene_gives_the_same_maps_and_cloud() {
    let Some(device) = test_device(Build::Fast) else { return };
    let scene = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let names: Vec<String> = std::fs::read_dir(scene.join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let progress = Progress::new(Style::Quiet);
    let mut only = names.clone();
    only.sort();
    only.truncate(3);
    let run = |name: &str, geometry: Geometry| InferOptions {
        only: only.clone(),
        ..options(&folder.path().join(name), geometry)
    };
    infer(&scene, &BsMvsNet::built_in().unwrap(), &run("host", Geometry::Host), &progress).unwrap();
    let element =
        Options { element: Element::F32, vram: None, convolutions: Convolutions::Own, layout: Layout::Shared };
    let network = DeviceNetwork::new(device.clone(), &Checkpoint::built_in().unwrap(), element).unwrap();
    infer(&scene, &network, &run("device", Geometry::Device(device)), &progress).unwrap();
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
        for (a, b) in maps[0].data.iter().zip(&maps[1].data) {
            // Intervals of inverse depth.
            let interval = (1.0 / near - 1.0 / far) / 31.0;
            let moved = (1.0 / f64::from(*a) - 1.0 / f64::from(*b)).abs() / interval;
            assert!(moved <= 2e-3, "{name}: {a} and {b}, {moved} intervals apart");
        }
    }
}
