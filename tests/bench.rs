//! `engine bench`: through the binary on the processor at tiny sizes, and the device's measurement on the emulated
//! device.

#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/program.rs"]
mod program;
#[path = "support/test_device.rs"]
mod test_device;

use std::path::{Path, PathBuf};

use emulator::Build;
use engine::bench::counts::{Counts, ViewGraph};
use engine::bench::work::{Inputs, Size};
use engine::bench::{Group, Repetitions, device, host};
use engine::cpu::network::BsMvsNet;
use engine::cuda::folded::Slabs;
use engine::cuda::storage::Element;
use engine::net::config::Resolution;
use engine::net::parameters::Parameters;
use engine::net::tensor::Shape;
use engine::net::weights::Checkpoint;
use program::{engine, json, text};
use serde_json::Value;
use test_device::test_device;

const SMALL: [&str; 8] = ["--width", "64", "--height", "48", "--planes", "16", "--views", "3"];

fn table3(more: &[&str]) -> program::Ran {
    let words = ["bench", "table3", "--device", "cpu", "--warm-up", "1", "--repetitions", "3"];
    engine(words.iter().chain(&SMALL).chain(more).copied())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A number of a JSON object.
fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[test]
fn a_view_is_told_by_stage_as_text_json_and_markdown() {
    let folder = tempfile::tempdir().unwrap();
    let (report, page) = (folder.path().join("report.json"), folder.path().join("page.md"));
    let maps = folder.path().join("maps.safetensors");
    let files = ["--json", text(&report), "--markdown", text(&page), "--outputs", text(&maps)];
    let said = table3(&files).done().stdout;
    assert!(said.contains("3 repetitions, which is fewer than 20"), "{said}");
    assert!(said.contains("is about another size, and is not compared"), "{said}");

    let report = json(&report);
    assert_eq!(report["size"], serde_json::json!({ "width": 64, "height": 48, "planes": 16, "views": 3 }));
    assert!(report["paper"].is_null() && report["peers"].as_array().unwrap().is_empty());
    let measured = &report["measurements"][0];
    assert_eq!((&measured["device"], &measured["precision"]), (&"cpu".into(), &"f32".into()));
    for times in std::iter::once(&measured["seconds"])
        .chain(measured["stages"].as_array().unwrap().iter().map(|s| &s["seconds"]))
    {
        let mut all = numbers(&times["all"]);
        assert_eq!(all.len(), 3);
        all.sort_by(f64::total_cmp);
        assert_eq!([number(times, "min"), number(times, "median"), number(times, "max")], all[..]);
        assert!(all[0] > 0.0);
    }
    // The stages are the whole view, but for a few lines of code between them; run by run.
    let whole = numbers(&measured["seconds"]["all"]);
    for (run, whole) in whole.iter().enumerate() {
        let parts = measured["stages"].as_array().unwrap();
        let sum: f64 = parts.iter().map(|s| numbers(&s["seconds"]["all"])[run]).sum();
        assert!(sum <= *whole && sum > 0.5 * whole, "{sum} of {whole}");
    }
    let groups: Vec<&str> =
        measured["groups"].as_array().unwrap().iter().map(|g| g["group"].as_str().unwrap()).collect();
    assert_eq!(groups, ["features", "sweep", "regularizer", "regression"]);
    assert!(number(&measured["roofs"], "gemm_flops_per_s") > 0.0);
    assert!(number(&measured["memory"], "planned") > 0.0);

    let page = std::fs::read_to_string(page).unwrap();
    for row in
        ["| engine, cpu, f32 |", "| features of all views |", "| regularizer |", "| - context4 |", "| one view |"]
    {
        assert!(page.lines().any(|line| line.starts_with(row)), "{row} in\n{page}");
    }
    // Every table's rows are as long as its head.
    for lines in page.split("\n\n").filter(|part| part.starts_with('|')) {
        let cells: Vec<usize> = lines.lines().map(|line| line.matches('|').count()).collect();
        assert!(cells.iter().all(|n| *n == cells[0]), "{lines}");
    }
    let bytes = std::fs::read(maps).unwrap();
    let maps = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(maps.tensor("depth").unwrap().shape(), [12, 16]);
    assert_eq!(maps.tensor("confidence").unwrap().shape(), [12, 16]);
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let run = |words: &[&str]| engine(["bench", "table3"].iter().chain(words).copied());
    let message = run(&["--device", "cpu", "--width", "66", "--height", "48"]).failed(3).to_owned();
    assert!(message.starts_with("--width: 66; expected a multiple of 4"), "{message}");
    let huge = ["--device", "cpu", "--width", "40000", "--height", "40000", "--planes", "1024", "--views", "2"];
    // The photos alone would not fit: said before they are made.
    let message = run(&huge).failed(5).to_owned();
    assert!(message.contains("measure a smaller --width, --height or --planes"), "{message}");
    let message = run(&["--device", "cuda:99", "--width", "64", "--height", "48"]).failed(8).to_owned();
    assert!(message.contains("no CUDA") || message.contains("there is no GPU 99"), "{message}");
    for words in [["--repetitions", "0"], ["--device", "tpu"], ["--peer-kinds", "eager"], ["--precision", "f64"]] {
        assert_eq!(run(&words).code, Some(2), "{words:?}");
    }
    let message = run(&["--device", "cpu", "--inputs", "/nowhere/inputs.safetensors"]).failed(4).to_owned();
    assert!(message.starts_with("/nowhere/inputs.safetensors: cannot read the inputs"), "{message}");
}

#[test]
fn a_peer_that_cannot_run_is_told_and_one_that_disagrees_fails() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    table3(&["--peer", "/nowhere/python", "--json", text(&report)]).done();
    let peer = &json(&report)["peers"][0];
    assert!(peer["failed"].as_str().unwrap().starts_with("cannot run /nowhere/python"), "{peer}");
    assert!(peer["seconds"].is_null());

    if !cfg!(unix) {
        return;
    }
    // A "python" that copies maps which the engine made of other inputs and claims to be slow.
    let other = folder.path().join("other.safetensors");
    let own = folder.path().join("own.safetensors");
    table3(&["--outputs", text(&own)]).done();
    let words = ["bench", "table3", "--device", "cpu", "--repetitions", "1", "--planes", "16", "--views", "2"];
    let more = ["--width", "64", "--height", "48", "--outputs", text(&other)];
    let words = words.iter().chain(&more);
    engine(words.copied()).done();
    let with = |maps: &Path| {
        let script = folder.path().join("python");
        let lines = format!(
            "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = --output ] && cp '{}' \"$2\"; shift; done\n\
             echo '{{\"seconds_median\": 100, \"peak_bytes\": 1000}}'\n",
            text(maps)
        );
        std::fs::write(&script, lines).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        table3(&["--peer", text(&script), "--json", text(&report)])
    };
    with(&own).done();
    let written = json(&report);
    let peer = &written["peers"][0];
    let ratio = 100.0 / number(&written["measurements"][0]["seconds"], "median");
    assert!((number(peer, "ratio") / ratio - 1.0).abs() < 1e-9, "{peer}");
    assert_eq!(number(&peer["agreement"], "largest"), 0.0);
    let message = with(&other).failed(3).to_owned();
    assert!(message.contains("depth differs from the engine's: eager on cpu"), "{message}");
}

#[test]
fn the_main_job_is_told_by_stage() {
    let folder = tempfile::tempdir().unwrap();
    let (report, page) = (folder.path().join("scene.json"), folder.path().join("scene.md"));
    let scene = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let words =
        ["bench", "scene", text(&scene), "--device", "cpu", "--levels", "2", "--planes", "16", "--max-side", "96"];
    let said = engine(words.iter().chain(&["--json", text(&report), "--markdown", text(&page)]).copied()).done().stdout;
    assert!(said.contains("overlap"), "{said}");
    let report = json(&report);
    let views = report["views"].as_u64().unwrap();
    assert_eq!(views, 7);
    assert_eq!((&report["bench"], &report["levels"], &report["device"]), (&"scene".into(), &2.into(), &"cpu".into()));
    for level in ["level 0", "level 1"] {
        assert_eq!(report["depth"][level]["count"].as_u64(), Some(views), "{report}");
    }
    assert_eq!(
        (report["features"]["count"].as_u64(), report["write"]["count"].as_u64()),
        (Some(views), Some(2 * views))
    );
    assert!(report["decode"]["count"].as_u64().unwrap() >= views);
    let stages: f64 = report["stages"].as_object().unwrap().values().map(|s| s.as_f64().unwrap()).sum();
    let wall = number(&report, "wall_seconds");
    assert!(stages <= wall && stages > 0.8 * wall, "{stages} of {wall}");
    assert!((number(&report, "views_per_second") - views as f64 / wall).abs() < 1e-9);
    // Two threads have spans, and each is busy no longer than the run.
    let busy: Vec<f64> = report["busy_seconds"].as_object().unwrap().values().map(|s| s.as_f64().unwrap()).collect();
    assert!(busy.len() >= 2 && busy.iter().all(|s| *s <= wall), "{report}");
    assert!((0.0..=1.0).contains(&number(&report, "decoding_hidden")));
    let page = std::fs::read_to_string(page).unwrap();
    for row in [
        "| preparation |",
        "| - features |",
        "| - depth, level 1 |",
        "| merge levels |",
        "| fuse and write the cloud |",
    ] {
        assert!(page.lines().any(|line| line.starts_with(row)), "{row} in\n{page}");
    }
    let missing = engine(["bench", "scene", "/nowhere/scene", "--device", "cpu"]);
    assert!(missing.failed(4).starts_with("/nowhere/scene"), "{}", missing.stderr);
}

const TINY: Size = Size { width: 64, height: 48, planes: 16, views: 3 };
const ONCE: Repetitions = Repetitions { warm_up: 0, counted: 2 };

fn parameters() -> Parameters {
    Checkpoint::built_in().unwrap().parameters
}

/// Shapes of a 64 x 48 photo with 16 planes: the cost volume is 16 x 12 x 16, `decode2` works on its half, 8 x 6 x 8,
/// from 16 to 8 channels.
#[test]
fn one_layers_arithmetic_and_traffic_are_those_by_hand() {
    let view = ViewGraph::new(&parameters(), TINY, Element::F32, Slabs::WHOLE).unwrap();
    let counts = Counts::new(&view.graph);
    let voxels = 8 * 6 * 8;
    // 27 taps of 16 channels for each of 8 outputs; the upsampling before it belongs to the layer and is not counted
    // as arithmetic of a product.
    let convolution = 2 * 27 * 16 * 8 * voxels;
    let step = view.graph.steps().iter().find(|s| s.label == "regularizer.decode2" && s.flops == convolution);
    assert!(
        step.is_some(),
        "{:?}",
        view.graph.steps().iter().filter(|s| s.label == "regularizer.decode2").collect::<Vec<_>>()
    );
    // `up4` alone: a 1x1x1 convolution of 2 x 2 x 2 voxels, 64 to 32 channels, in f32, with its weights and bias.
    let found = counts.by_steps("up4");
    let at_eighth = 2 * 2 * 2;
    assert_eq!(found.flops, 2 * 64 * 32 * at_eighth);
    assert_eq!(found.bytes, 4 * (64 * at_eighth + 64 * 32 + 32 + 32 * at_eighth));
}

/// The same photo up to full resolution: `down2` of the last narrow stage makes 4 x 24 x 32 positions of 16 channels
/// from 8, with 27 taps; its logits 4 x 48 x 64 from 8 channels, beside 16 operations a channel for the upsampling.
#[test]
fn narrow_stages_are_counted_up_to_full_resolution() {
    let view = ViewGraph::up_to(Resolution::Full, &parameters(), TINY, Element::F32, Slabs::WHOLE).unwrap();
    assert_eq!(view.graph.shape(view.depth), Shape::plane(48, 64, 1));
    let flops = |label: &str| view.graph.steps().iter().filter(|s| s.label == label).map(|s| s.flops).max();
    assert_eq!(flops("narrow1.down2"), Some(2 * 27 * 8 * 16 * 4 * 24 * 32));
    assert_eq!(flops("narrow1.logits"), Some((2 * 27 + 16) * 8 * 4 * 48 * 64));
}

#[test]
fn a_device_measures_all_of_a_view_and_its_stages_add_up() {
    let Some(driver) = test_device(Build::Fast) else { return };
    let inputs = Inputs::generated(TINY);
    let slabs = Slabs::of_planes(8);
    let found = device::measure(&driver, &parameters(), &inputs, Element::F32, slabs, ONCE).unwrap();
    assert_eq!((found.seconds.all.len(), found.precision), (2, "f32"));
    assert!(found.stages.iter().all(|s| s.seconds.all.len() == 2 && s.seconds.min > 0.0));
    for group in Group::ALL {
        assert!(found.group(group).is_some_and(|g| g.flops.unwrap() > 0 && g.bytes.unwrap() > 0), "{group:?}");
    }
    // The same arithmetic as the whole graph's, however it is cut into stages and slabs.
    let graph = ViewGraph::new(&parameters(), TINY, Element::F32, slabs).unwrap().graph;
    assert_eq!(found.flops(), Some(graph.steps().iter().map(|s| s.flops).sum()));
    let sum: f64 = found.stages.iter().map(|s| s.seconds.median).sum();
    assert!(sum > 0.1 * found.seconds.min, "{sum} of {:?}", found.seconds);
    assert!(found.memory.planned > 0 && found.roofs.copy_bytes_per_s > 0.0);
    if !test_device::on_gpu() {
        assert_eq!(found.roofs.gemm_flops_per_s, None, "an emulated device has no library");
    }
    // And the same depth as the processor's, which its own tests hold to the reference.
    let host = host::measure(&BsMvsNet::built_in().unwrap(), &inputs, ONCE).unwrap();
    let apart = found.depth.iter().zip(&host.depth).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(apart < 0.05 * inputs.interval(), "{apart}");
}

/// The made-up photos are a fair task: the shipped weights find the plane.
#[test]
fn depth_of_the_made_up_photos_does_not_degenerate() {
    let inputs = Inputs::generated(Size { width: 320, height: 240, planes: 48, views: 4 });
    let found = host::measure(&BsMvsNet::built_in().unwrap(), &inputs, Repetitions { warm_up: 0, counted: 1 }).unwrap();
    let mut apart: Vec<f64> = (0..60 * 80)
        .map(|i| (f64::from(found.depth[i]) - inputs.true_depth(i % 80, i / 80)).abs() / inputs.interval())
        .collect();
    apart.sort_by(f64::total_cmp);
    assert!(apart[apart.len() / 2] < 1.0, "median error {} intervals", apart[apart.len() / 2]);
}

/// A file that a peer wrote is read, and the size is the file's.
#[test]
fn inputs_of_a_file_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("inputs.safetensors");
    Inputs::generated(Size { width: 48, height: 40, planes: 8, views: 2 }).write(&path).unwrap();
    let ran = engine(["bench", "table3", "--device", "cpu", "--repetitions", "1", "--inputs", text(&path)]).done();
    assert!(ran.stdout.starts_with("48 x 40, D = 8, 2 views"), "{}", ran.stdout);
}
