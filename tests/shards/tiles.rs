//! A cloud that is made tile by tile is that of a single run, byte for byte, whatever the tiles are and whatever
//! happens to those who make them.

use std::time::Duration;

use super::*;

/// A job of eleven views that is merged, and what a single run gives.
fn merged() -> (Place, BTreeMap<PathBuf, Vec<u8>>) {
    let place = Place::new(11);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "1"]).done();
    place.shard("out", "1/1").done();
    place.merge("out", &[]).done();
    (place, alone)
}

fn fuse(place: &Place, options: &[&str]) -> Ran {
    engine([&["fuse", text(&place.path("out"))], options].concat())
}

/// The folder is as before its views were fused.
fn unfused(place: &Place) {
    for file in ["fused.ply", "manifest.json", ".engine.finished.json"] {
        fs::remove_file(place.path("out").join(file)).unwrap();
    }
}

/// The parts of tiles that are there, by name.
fn parts(out: &Path) -> Vec<PathBuf> {
    tile_parts(&out.join("tiles")).into_keys().collect()
}

#[test]
fn any_tiles_give_the_single_runs_cloud_and_manifest() {
    let (place, alone) = merged();
    let out = place.path("out");
    for tiling in ["1", "2x1x1", "7", "40"] {
        fuse(&place, &["--tiles", tiling]).done();
        assert!(results(&out) == alone, "{tiling}");
        assert_eq!(told(&out), told(&place.path("alone")), "{tiling}");
        assert!(!out.join("tiles").exists(), "what is joined is taken away");
        unfused(&place);
    }
    // By shards, in any order; the tiling need be told once. Of two that begin at once one looks at the maps.
    let out_name = text(&out);
    let both = [(); 2].map(|()| {
        let mut one = command(["fuse", out_name, "--tiles", "7", "--shard", "3/3", "--threads", "1"]);
        one.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let looked =
        both.map(|one| Ran::from(one.wait_with_output().unwrap()).done().stderr.matches("looking 1/1").count());
    assert_eq!(looked[0] + looked[1], 1);
    let told_of = fuse(&place, &["--shard", "1/3"]).done();
    assert!(told_of.stdout.contains("shard 1/3: the points of 2 tiles are there"), "{}", told_of.stdout);
    let mut task = command(["fuse", text(&out), "--shard", "auto"]);
    let task = task.env("SLURM_ARRAY_TASK_ID", "2").env("SLURM_ARRAY_TASK_MIN", "1").env("SLURM_ARRAY_TASK_COUNT", "3");
    Ran::from(task.output().unwrap()).done();
    assert_eq!(parts(&out).len(), 7);
    fuse(&place, &["--join"]).done();
    assert!(results(&out) == alone);
    assert_eq!(told(&out), told(&place.path("alone")));
    assert_eq!(parts(&out).len(), 7, "others may have use for them");
}

#[test]
fn clouds_of_other_settings_are_the_same_by_tiles_too() {
    let place = Place::new(8);
    place.alone(&[]);
    let maps = place.path("alone");
    let manifest = |out: &Path| {
        let mut manifest = json(&out.join("manifest.json"));
        for field in ["ended_unix_s", "seconds", "machine"] {
            manifest.as_object_mut().unwrap().remove(field).unwrap();
        }
        manifest
    };
    let settings: [&[&str]; 4] = [
        &["--min-confidence", "0.3"],
        &["--thin", "0.07", "--keep-duplicates"],
        &["--method", "dynamic", "--min-confidence", "0.2"],
        &["--roi", "-0.5,-0.5,-9,0.5,0.5,9", "--min-views", "1", "--ply-offset", "1,2,3"],
    ];
    for (at, options) in settings.into_iter().enumerate() {
        let [whole, tiled] = ["whole", "tiled"].map(|name| place.path(&format!("{name}{at}")));
        let run = |out: &Path, more: &[&str]| {
            engine([&["fuse", text(&maps), "-o", text(out)], options, more].concat()).done();
        };
        run(&whole, &[]);
        run(&tiled, &["--tiles", "5", "--shard", "2/2"]);
        run(&tiled, &["--tiles", "5", "--shard", "1/2"]);
        run(&tiled, &["--tiles", "5", "--join"]);
        let [cloud, by_tiles] = [&whole, &tiled].map(|out| fs::read(out.join("fused.ply")).unwrap());
        assert!(cloud == by_tiles && cloud.len() > 1500, "{options:?}: {} bytes", cloud.len());
        assert_eq!(manifest(&whole), manifest(&tiled), "{options:?}");
    }
}

#[test]
fn those_who_make_tiles_may_be_killed_and_be_two() {
    let (place, alone) = merged();
    let start = |shard: &str| {
        let out = place.path("out");
        let words = ["fuse", text(&out), "--tiles", "40", "--shard", shard, "-q", "--threads", "1"];
        command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = 0;
    for wait in [0, 60, 120, 200, 300] {
        let mut children = ["1/2", "1/2", "2/2"].map(start);
        std::thread::sleep(Duration::from_millis(wait));
        children[0].kill().unwrap();
        children[2].kill().unwrap();
        for child in children {
            let ran = Ran::from(child.wait_with_output().unwrap());
            killed += usize::from(ran.code.is_none());
            assert!(ran.code.is_none_or(|code| code == 0), "{}", ran.stderr);
        }
    }
    assert!(killed > 0);
    for shard in ["1/2", "2/2"] {
        Ran::from(start(shard).wait_with_output().unwrap()).done();
    }
    let before = tile_parts(&place.path("out/tiles"));
    // What is there is passed over.
    let again = fuse(&place, &["--shard", "1/2", "--json"]).done();
    assert!(again.events().iter().filter(|event| event["stage"] == "tiles").all(|event| event["reused"] != false));
    assert!(tile_parts(&place.path("out/tiles")) == before);
    // A join that is killed, and then done.
    for wait in [0, 30, 80] {
        let mut join = command(["fuse", text(&place.path("out")), "--join", "-q"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        join.kill().unwrap();
        join.wait().unwrap();
    }
    fuse(&place, &["--join"]).done();
    assert!(results(&place.path("out")) == alone);
}

#[test]
fn parts_that_are_missing_damaged_or_of_another_plan_are_named_and_made_again() {
    let (place, alone) = merged();
    let out = place.path("out");
    fuse(&place, &["--tiles", "4", "--shard", "1/2"]).done();
    let message = fuse(&place, &["--join"]).failed(3).to_owned();
    assert!(message.contains("no points of 2 of 4 tiles (3, 4)") && message.contains("--shard 3/4"), "{message}");
    fuse(&place, &["--shard", "2/2"]).done();
    // Another tiling has another plan; its parts lie elsewhere.
    let first = parts(&out);
    fuse(&place, &["--tiles", "3", "--shard", "1/1"]).done();
    let (of_three, own): (Vec<_>, Vec<_>) = parts(&out).into_iter().partition(|part| !first.contains(part));
    assert_eq!((of_three.len(), own.len()), (3, 4));
    let file = |part: &Path| out.join("tiles").join(part);
    let named =
        |parts: &[PathBuf], number: &str| file(parts.iter().find(|part| part.file_stem().unwrap() == number).unwrap());
    let part = named(&of_three, "2");
    let right = fs::read(&part).unwrap();
    let mut flipped = right.clone();
    flipped[right.len() / 2] ^= 1;
    let spoilt: [(Vec<u8>, &str); 4] = [
        (fs::read(named(&own, "2")).unwrap(), "the points of another plan or tile"),
        (fs::read(named(&of_three, "1")).unwrap(), "the points of another plan or tile"),
        (right[..right.len() - 7].to_vec(), "bytes, which do not hold the"),
        (b"dear".to_vec(), "not the points of a tile"),
    ];
    for (bytes, word) in spoilt {
        fs::write(&part, bytes).unwrap();
        let message = fuse(&place, &["--join"]).failed(3).to_owned();
        assert!(message.contains(word) && message.contains("2.part"), "{message}");
        let again = fuse(&place, &["--shard", "2/3"]).done();
        assert!(again.stderr.contains("it is made again"), "{}", again.stderr);
        assert!(fs::read(&part).unwrap() == right);
    }
    // What only all bytes tell is found when they are read.
    fs::write(&part, flipped).unwrap();
    let message = fuse(&place, &["--join"]).failed(3).to_owned();
    assert!(message.contains("2.part: bytes that differ from those that were written"), "{message}");
    assert!(!out.join("fused.ply").exists() && !out.join("manifest.json").exists());
    fs::write(&part, right).unwrap();
    fuse(&place, &["--join"]).done();
    assert!(results(&out) == alone);
}

#[test]
fn what_does_not_fit_to_tiles_is_one_line() {
    let place = Place::new(5);
    place.alone(&[]);
    let maps = place.path("alone");
    let run = |options: &[&str]| engine([&["fuse", text(&maps), "-o", text(&place.path("cloud"))], options].concat());
    for wrong in ["", "0", "-1", "1.5", "10001", "2x3", "2x3x0", "101x100x1", "2x3x4x5", "AUTO", "many", "1e3", "NaN"] {
        let given = format!("--tiles={wrong}");
        let ran = run(&[&given]);
        let message = ran.stderr.lines().next().unwrap_or_default();
        assert!(ran.code == Some(2) && message.contains(": expected auto, a number of tiles"), "{wrong:?}: {message}");
    }
    for (options, word) in [
        (&["--tiles", "2", "--join", "--shard", "1/2"][..], "cannot be used with"),
        (&["--tiles", "2", "--shard", "3/2"], "expected I/N"),
    ] {
        let ran = run(options);
        assert!(ran.code == Some(2) && ran.stderr.lines().next().unwrap().contains(word), "{}", ran.stderr);
    }
    for (options, word) in [
        (&["--join"][..], "no tiles/plan.json"),
        (&["--shard", "1/2"], "no tiles/plan.json"),
        (&["--tiles", "2", "--method", "graph"], "the method graph, which needs all maps at once"),
        (&["--tiles", "2", "--shard", "2/3"], "3 shards for 2 tiles"),
    ] {
        let message = run(options).failed(3).to_owned();
        assert!(message.contains(word), "{message}");
    }
    run(&["--tiles", "2", "--shard", "1/1"]).done();
    let message = run(&["--join", "--min-confidence", "0.5"]).failed(3).to_owned();
    assert!(message.contains("tiles of another job (min-confidence 0.8, not 0.5)"), "{message}");
    let message = run(&["--join", "--tiles", "3"]).failed(3).to_owned();
    assert!(message.contains("no tiles that were cut so"), "{message}");
    let message = run(&["--join", "--view", "00000000", "--view", "00000001"]).failed(3).to_owned();
    assert!(message.contains("tiles of other maps"), "{message}");
}

/// The peak that the system tells, of maps that come to several times as much.
#[cfg(target_os = "linux")]
#[test]
fn tiles_take_no_more_memory_than_is_planned_and_was_given() {
    use engine::files::map::Map;

    const VIEWS: u32 = 10;
    let root = tempfile::tempdir().unwrap();
    let [scene, maps, cloud] = ["scene", "maps", "cloud"].map(|name| root.path().join(name));
    // 960 x 640 pixels, of which a strip is sure: what is held depends on all of them, the work on the strip.
    let large = plane_scene::enlarged(plane_scene::row(VIEWS), 10);
    large.write_mvsnet(&scene, "2.6 0.2 16 5.6");
    let (width, height) = (large.size.0 as usize, large.size.1 as usize);
    let _ = ["depth", "confidence"].map(|kind| fs::create_dir_all(maps.join(kind)).unwrap());
    for view in &large.views {
        let depth = |i: usize| plane_scene::depth(view, (i % width) as f64, (i / width) as f64) as f32;
        let sure = |i: usize| if i % width / 40 == 12 { 1.0 } else { 0.1 };
        let of_kinds: [(&str, Vec<f32>); 2] = [
            ("depth", (0..width * height).map(depth).collect()),
            ("confidence", (0..width * height).map(sure).collect()),
        ];
        for (kind, data) in of_kinds {
            let file = maps.join(kind).join(format!("{:08}.pfm", view.id));
            engine::files::pfm::write(&file, &Map { width, height, data }).unwrap();
        }
    }
    let run = |memory: &str, more: &[&str]| {
        let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&cloud), "--threads", "2", "--json"];
        engine([&words, &["--memory", memory][..], more].concat())
    };
    // All at once would take 11 bytes of maps, 17 of the method's own and 48 of a point for each pixel.
    let at_once = u64::from(VIEWS) * (width * height) as u64 * (11 + 17 + 48);
    let given = at_once / 4;
    let memory = format!("{:.4}", given as f64 / 1e9);
    let ran = run(&memory, &["--tiles", "3", "--shard", "1/1"]).done();
    let told = ran.events().pop().unwrap();
    let [planned, peak] = ["memory_planned", "memory_peak"].map(|field| told[field].as_u64().unwrap());
    assert!(peak <= planned && planned <= given, "peak {peak}, planned {planned}, given {given}");
    run(&memory, &["--join"]).done();
    let manifest = json(&cloud.join("manifest.json"));
    let peak = manifest["machine"]["memory_peak"].as_u64().unwrap();
    assert!(peak <= given && manifest["points"].as_u64().unwrap() > 10_000, "peak {peak}, given {given}");
    // With less than that takes it is refused before anything is made.
    fs::remove_dir_all(&cloud).unwrap();
    let message = run("0.05", &["--tiles", "3", "--shard", "1/1"]).failed(5).to_owned();
    assert!(message.contains("cutting space into tiles") || message.contains("smaller maps"), "{message}");
}
