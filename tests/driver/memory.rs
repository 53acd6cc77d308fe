//! Device memory: what a run plans is what it takes, however many sizes its photos have.

use crate::stand::{Stand, all, smallest};
use crate::turned_scene::{self, Change, VIEWS};

/// Sizes of the allocations of a run, in their order.
fn allocations(log: &[String]) -> Vec<u64> {
    let of_line = |line: &String| {
        let rest = line.strip_prefix("cuMemAlloc_v2 #")?;
        let (arguments, result) = rest.split_once('(')?.1.split_once(") = ")?;
        result.starts_with("0 ").then(|| arguments.rsplit_once(", ").unwrap().1.parse().unwrap())
    };
    log.iter().filter_map(of_line).collect()
}

#[test]
fn a_run_takes_what_it_planned_and_no_more() {
    if !all() {
        return;
    }
    for (refined, more) in [(false, &["--resolution", "quarter"][..]), (true, &["--resolution", "full"])] {
        let Some(stand) = Stand::new() else { return };
        let out = stand.path("out");
        let words = smallest(&out, &[&["--device", "cuda"], more].concat());
        // With its notes.
        let words: Vec<&str> = words.into_iter().map(|word| if word == "--quiet" { "--json" } else { word }).collect();
        let (ran, seen) = stand.run(&words);
        let ran = ran.done();
        seen.clean();
        // Two rooms of an arena and blocks, for photos and for depth maps; where photos arrive and where maps leave;
        // and one piece for all feature maps and photos in grey. What comes later, comes when all of that is given
        // back.
        let sizes = allocations(&seen.log);
        let planned = 6;
        assert!(sizes.len() > planned && (refined || sizes.len() == planned + 1), "{sizes:?}");
        let pages = |bytes: &u64| bytes.next_multiple_of(2 << 20);
        assert_eq!(sizes[..=planned].iter().map(pages).sum::<u64>(), seen.count("peak-taken"), "{sizes:?}");
        // What the plan says it takes is what those before the maps take.
        let text = engine::host::memory::readable(sizes[..planned].iter().map(pages).sum());
        assert!(ran.stdout.contains(&format!("Stand-in GPU 0: {text} of ")), "{text}: {}", ran.stdout);
    }
}

/// Seven sizes of photos: more than programs are kept. The rooms are those of the largest.
#[test]
fn photos_of_many_sizes_share_the_rooms_of_the_largest() {
    if !all() {
        return;
    }
    // What is allocated does not depend on who computes.
    let Some(stand) = Stand::new().and_then(Stand::with_compiled_kernels) else { return };
    let mut sizes = Vec::new();
    for mixed in [false, true] {
        let (scene, out) = (stand.path(&format!("scene-{mixed}")), stand.path(&format!("out-{mixed}")));
        let mut changes = [Change::shrunk(8); VIEWS];
        if mixed {
            for (i, change) in changes.iter_mut().enumerate().skip(1) {
                change.size = (64 - 8 * (i as u32 % 4), 48 - 8 * (i as u32 % 3));
            }
        }
        turned_scene::write(&scene, &changes);
        let run = |out: &std::path::Path, device: &str| {
            let mut words = vec!["infer", scene.to_str().unwrap(), "-o", out.to_str().unwrap(), "--quiet"];
            words.extend(["--levels", "1", "--planes", "8", "--views", "3", "--depth-only", "--precision", "f32"]);
            words.extend(["--device", device]);
            stand.run(&words)
        };
        let (ran, seen) = run(&out, "cuda");
        ran.done();
        seen.clean();
        sizes.push(allocations(&seen.log));
    }
    // As many allocations, and the arenas are as large; blocks are more, but never as many as there are sizes.
    assert_eq!(sizes[0].len(), sizes[1].len(), "{sizes:?}");
    assert_eq!([0, 2, 3].map(|i| sizes[0][i]), [0, 2, 3].map(|i| sizes[1][i]), "{sizes:?}");
    assert!(sizes[1][1] <= 4 * sizes[0][1] && sizes[1][4] <= 4 * sizes[0][4], "{sizes:?}");
}
