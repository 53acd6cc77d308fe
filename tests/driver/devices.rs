//! Several devices: the same bits as one, each used, and the one that fails is named.

use crate::program::files;
use crate::stand::{Seen, Stand, all, infer, results, three_views};

/// Devices that a run has opened.
fn opened(seen: &Seen) -> u64 {
    seen.count("calls cuDevicePrimaryCtxRetain")
}

#[test]
fn views_on_two_devices_give_the_bits_of_one() {
    let Some(stand) = Stand::new().and_then(Stand::with_compiled_kernels) else { return };
    let one = stand.path("one");
    stand.run(&three_views(&one, &["--device", "cuda"])).0.done();
    let stand = stand.with("ENGINE_STANDIN_DEVICES", "2");
    let lists: &[&str] = if all() { &["cuda:all", "cuda:0,cuda:1", "cuda:1,cuda:0", "cuda:1"] } else { &["cuda:all"] };
    for list in lists {
        let out = stand.path("several");
        let (ran, seen) = stand.run(&three_views(&out, &["--device", list]));
        ran.done();
        seen.clean();
        assert!(results(&out) == results(&one), "{list}");
        let devices = if *list == "cuda:1" { 1 } else { 2 };
        assert_eq!(opened(&seen), devices, "{list}");
        let manifest = crate::program::json(&out.join("manifest.json"));
        let device = manifest["machine"]["device"].as_str().unwrap().to_owned();
        match *list {
            "cuda:1" => assert_eq!(device, "Stand-in GPU 1"),
            _ => assert!(device.contains("cuda:0 (Stand-in GPU 0)") && device.contains("cuda:1 (Stand-in GPU 1)")),
        }
        std::fs::remove_dir_all(out).unwrap();
    }
}

/// A device that fails ends the run, with its name; what the others have made stays, and the run goes on from there.
#[test]
fn a_device_that_fails_is_named() {
    let Some(stand) = Stand::new().and_then(Stand::with_compiled_kernels) else { return };
    let list = ["--device", "cuda:all"];
    let stand =
        stand.with("ENGINE_STANDIN_DEVICES", "2").with("ENGINE_STANDIN_FAULTS", "fail-later cuLaunchKernel 9 700");
    let out = stand.path("out");
    let (ran, _) = stand.run(&three_views(&out, &list));
    let message = ran.failed(8).to_owned();
    let named = ["cuda:0 (Stand-in GPU 0): ", "cuda:1 (Stand-in GPU 1): "];
    assert_eq!(named.iter().filter(|name| message.contains(*name)).count(), 1, "{message}");
    assert!(message.contains("an illegal memory access was encountered"), "{message}");
    // A device that is not there.
    let (ran, _) = stand.run(&infer(&stand.path("none"), &["--device", "cuda:0,cuda:2"]));
    let message = ran.failed(8).to_owned();
    assert!(message.contains("there is no GPU 2: 2 found"), "{message}");
    if all() {
        let stand = stand.with("ENGINE_STANDIN_FAULTS", "");
        stand.run(&three_views(&out, &list)).0.done();
        let one = stand.path("one");
        stand.run(&three_views(&one, &["--device", "cuda"])).0.done();
        assert!(results(&out) == results(&one));
    }
}

/// Each sample of a batch on a device of its own, added up in their order.
#[test]
fn training_on_two_devices_gives_the_bits_of_one() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new().and_then(Stand::with_compiled_kernels) else { return };
    let stand = stand.with("ENGINE_STANDIN_DEVICES", "2");
    let train = |name: &str, device: &str| {
        let out = stand.path(name);
        let mut words = vec!["train", out.to_str().unwrap(), "--views", "2", "--batch", "3", "--seed", "5"];
        words.extend(["--loaders", "1", "--log-every", "1", "--resolution", "quarter", "--json", "--size", "64x64"]);
        words.extend(["--planes", "65", "--steps", "2", "--device", device]);
        let (ran, seen) = stand.run(&words);
        ran.done();
        seen.clean();
        let mut files = files(&out);
        files.retain(|path, _| path.extension().is_some_and(|end| end == "safetensors"));
        assert!(!files.is_empty());
        files
    };
    let one = train("one", "cuda");
    assert!(train("two", "cuda:all") == one);
}
