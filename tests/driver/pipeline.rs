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
    let Some(stand) = Stand::new() else { return };
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
    let (began, ended) = (reads[0], waits[2]);
    for entry in ["cuStreamSynchronize", "cuCtxSynchronize", "cuMemcpyDtoH_v2", "cuMemcpyHtoD_v2", "cuStreamQuery"] {
        let between = of_first_thread(&seen, entry).into_iter().filter(|at| (began..ended).contains(at)).count();
        assert_eq!(between, 0, "{entry} between views");
    }
    // Nor is anything allocated there, or locked.
    for entry in ["cuMemAlloc_v2", "cuMemFree_v2", "cuModuleLoadData"] {
        let between = of_first_thread(&seen, entry).into_iter().filter(|at| (reads[1]..ended).contains(at)).count();
        assert_eq!(between, 0, "{entry} between views");
    }
    let other = Stand::new().unwrap().with("ENGINE_STANDIN_ORDER", "reads-last");
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
