//! The way of a scene through the device: photos arrive and maps leave while other views are worked on.

use crate::stand::{Seen, Stand, all, results, three_views};
use crate::turned_scene::{self, Change};

const DEVICE: [&str; 2] = ["--device", "cuda"];

/// The calls of one entry point by the program's first thread, which queues all work: their lines in the log.
fn of_first_thread(seen: &Seen, entry: &str) -> Vec<usize> {
    let is_own = |line: &String| line.starts_with(entry) && line.contains(" ThreadId(1) ");
    seen.log.iter().enumerate().filter(|(_, line)| is_own(line)).map(|(at, _)| at).collect()
}

/// All that a view needs is queued before the maps of the one before it are waited for, and nothing else is: whatever
/// the device does, it never waits for the processor between two views.
#[test]
fn the_next_view_is_queued_before_maps_are_waited_for() {
    // What calls are made does not depend on who computes.
    let compiled = || Stand::new().and_then(Stand::with_compiled_kernels);
    let Some(stand) = compiled() else { return };
    let out = stand.path("out");
    let (ran, seen) = stand.run(&three_views(&out, &DEVICE));
    ran.done();
    seen.clean();
    // Depth and confidence of three views; a wait for those of each.
    let reads = of_first_thread(&seen, "cuMemcpyDtoHAsync_v2 #");
    let waits = of_first_thread(&seen, "cuEventSynchronize #");
    assert_eq!((reads.len(), waits.len()), (6, 3), "{reads:?} {waits:?}");
    // What follows maps in the log is queued behind them: their copies come last of all that a view has.
    assert!(reads[3] < waits[0] && waits[0] < reads[4], "{reads:?} {waits:?}");
    assert!(reads[5] < waits[1], "{reads:?} {waits:?}");
    // Once there is a program for a size of work, nothing else is waited for, allocated or locked.
    for entry in [
        "cuStreamSynchronize",
        "cuCtxSynchronize",
        "cuMemcpyDtoH_v2",
        "cuMemcpyHtoD_v2",
        "cuStreamQuery",
        "cuMemAlloc_v2",
        "cuMemFree_v2",
    ] {
        let between = of_first_thread(&seen, entry).into_iter().filter(|at| (reads[3]..waits[2]).contains(at)).count();
        assert_eq!(between, 0, "{entry} between views");
    }
    let other = compiled().unwrap().with("ENGINE_STANDIN_ORDER", "reads-last");
    let (ran, seen) = other.run(&three_views(&other.path("out"), &DEVICE));
    ran.done();
    seen.clean();
    assert!(results(&other.path("out")) == results(&out));
}

/// Photos of 8 bits that are neither undistorted nor reduced travel as bytes, once for all levels.
#[test]
fn photos_travel_as_bytes_and_levels_are_made_on_the_device() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    let scene = stand.path("scene");
    // Sides that are no multiples of 4.
    let changes = [Change { size: (62, 45), ..Change::shrunk(8) }; turned_scene::VIEWS];
    turned_scene::write(&scene, &changes);
    let run = |stand: &Stand, name: &str, device: &str| {
        let out = stand.path(name);
        let mut words = vec!["infer", scene.to_str().unwrap(), "-o", out.to_str().unwrap(), "--quiet", "--levels", "2"];
        words.extend(["--planes", "4", "--views", "3", "--depth-only", "--precision", "f32", "--device", device]);
        words.extend(["--resolution", "full", "--view", "00000000"]);
        let (ran, seen) = stand.run(&words);
        ran.done();
        (results(&out), seen)
    };
    let (maps, seen) = run(&stand, "device", "cuda");
    seen.clean();
    let kernels = ["normalise_forward_u8_f32", "pyramid_forward_u8_f32", "extend_forward_u8", "grey_forward_u8_f32"];
    assert_eq!(kernels.map(|name| seen.count(&format!("kernel {name}"))), [3; 4], "{:?}", seen.numbers);
    let photo = format!(", {}, ", 62 * 45 * 3);
    let photos = seen.log.iter().filter(|line| line.starts_with("cuMemcpyHtoDAsync_v2") && line.contains(&photo));
    assert_eq!(photos.count(), 3);
    for order in ["uploads-first", "reads-last", "early", "3"] {
        let other = Stand::new().unwrap().with("ENGINE_STANDIN_ORDER", order);
        let (again, seen) = run(&other, "out", "cuda");
        seen.clean();
        assert!(again == maps, "order {order}");
    }
}

/// Device memory for features is used again in an order that events keep. Two views are in flight, and the least memory
/// holds the features of more, so that no order of work shows whether the events are waited for: the calls do.
#[test]
fn features_take_the_place_of_others_once_those_were_read() {
    if !all() {
        return;
    }
    let compiled = || Stand::new().and_then(Stand::with_compiled_kernels);
    let Some(_) = compiled() else { return };
    let run = |vram: u64, order: &str| {
        let stand = compiled().unwrap().with("ENGINE_STANDIN_ORDER", order);
        let (out, vram) = (stand.path("out"), format!("{:.6}", vram as f64 / 1e9));
        let mut words = vec!["infer", crate::stand::SCENE, "-o", out.to_str().unwrap(), "--quiet", "--levels", "1"];
        words.extend(["--max-side", "96", "--planes", "4", "--views", "3", "--depth-only", "--precision", "f32"]);
        words.extend(["--resolution", "full", "--device", "cuda", "--vram", &vram]);
        let (ran, seen) = stand.run(&words);
        let maps = (ran.code == Some(0)).then(|| results(&out));
        (maps, seen)
    };
    // As little memory as will do.
    let sizes = (4..64).map(|pages| pages << 21);
    let least = sizes.into_iter().find(|&vram| run(vram, "late").0.is_some()).unwrap();
    let (sound, _) = run(4 * least, "late");
    let (maps, seen) = run(least, "first-stream");
    seen.clean();
    assert!(maps == sound);
    // The waits of the first stream for those that make depth maps.
    let arguments = |line: &str| -> Option<Vec<String>> {
        let (_, rest) = line.split_once('#')?.1.split_once('(')?;
        Some(rest.split_once(')')?.0.split(", ").map(str::to_owned).collect())
    };
    let of =
        |entry: &'static str| seen.log.iter().filter(move |line| line.starts_with(entry)).filter_map(|l| arguments(l));
    let first = of("cuStreamWaitEvent #").next().unwrap()[0].clone();
    let copier = of("cuEventRecord #").next().unwrap()[1].clone();
    let mut recorded_in = std::collections::BTreeMap::new();
    let mut waits = 0;
    for line in seen.log.iter() {
        let Some(arguments) = arguments(line) else { continue };
        if line.starts_with("cuEventRecord #") {
            recorded_in.insert(arguments[0].clone(), arguments[1].clone());
        }
        if line.starts_with("cuStreamWaitEvent #") && arguments[0] == first && recorded_in[&arguments[1]] != copier {
            waits += 1;
        }
    }
    assert!(waits > 0);
}
