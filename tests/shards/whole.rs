//! Whatever shards there are and whatever happens to them: the results are those of a single run, byte for byte.

use std::time::Duration;

use engine::host::random::Random;

use super::*;

/// All shards one after the other, merged one by one, fused.
fn by_shards(place: &Place, out: &str, shards: usize) {
    for number in 1..=shards {
        place.shard(out, &format!("{number}/{shards}")).done();
    }
    for number in (1..=shards).rev() {
        place.merge(out, &["--shard", &format!("{number}/{shards}")]).done();
    }
    place.fuse(out).done();
}

#[test]
fn any_number_of_shards_gives_the_single_runs_files_and_manifest() {
    let place = Place::new(11);
    let alone = place.alone(&[]);
    assert!(alone.contains_key(Path::new("fused.ply")) && alone.len() > 11 * 5);
    for shards in [1, 3, 8] {
        let out = format!("out{shards}");
        place.plan(&out, &["--shards", &shards.to_string()]).done();
        by_shards(&place, &out, shards);
        assert!(results(&place.path(&out)) == alone, "{shards} shards");
        assert_eq!(told(&place.path(&out)), told(&place.path("alone")), "{shards} shards");
    }
    // More shards than views.
    let few = Place::new(3);
    let alone_of_few = few.alone(&[]);
    let planned = few.plan("out", &["--shards", "64"]).done();
    assert!(planned.stderr.contains("61 shards without a view"), "{}", planned.stderr);
    // A sum of no numbers is -0.
    assert!(planned.stdout.contains(" 0.00 s ") && !planned.stdout.contains("-0"), "{}", planned.stdout);
    by_shards(&few, "out", 64);
    assert!(results(&few.path("out")) == alone_of_few);
    // All at once, and again where nothing is left.
    place.plan("all", &["--shards", "2"]).done();
    let _ = ["1/2", "2/2"].map(|shard| place.shard("all", shard).done());
    place.merge("all", &[]).done();
    place.fuse("all").done();
    assert!(results(&place.path("all")) == alone);
    let before = files(&place.path("all/depth"));
    let again = place.shard("all", "2/2").done();
    assert!(again.stdout.contains("the maps of"), "{}", again.stdout);
    assert!(place.path("all/manifest.json").exists(), "a shard that had nothing to do takes nothing away");
    place.merge("all", &[]).done();
    assert!(place.fuse("all").done().stderr.contains("nothing is left to do"));
    assert!(files(&place.path("all/depth")) == before);
}

#[test]
fn what_depends_on_all_views_and_on_masks_is_the_same_too() {
    let place = Place::new(7);
    let masks = place.path("masks");
    fs::create_dir(&masks).unwrap();
    for id in 2..5 {
        let mask = image::GrayImage::from_fn(96, 64, |x, _| image::Luma([if x < 30 + 5 * id { 0 } else { 255 }]));
        mask.save(masks.join(format!("{id:08}.png"))).unwrap();
    }
    // Refined maps of full resolution hear each other; three levels reach three views further.
    let options = ["--planes", "24", "--levels", "3", "--masks", text(&masks), "--normals", "--thin", "0.05"];
    place.infer("alone", &options).done();
    engine(place.words("plan", "out", &[&options[..], &["--shards", "3"]].concat())).done();
    by_shards(&place, "out", 3);
    assert!(results(&place.path("out")) == results(&place.path("alone")));
    assert_eq!(told(&place.path("out")), told(&place.path("alone")));
}

#[test]
fn without_a_plan_the_first_shard_makes_it_and_options_may_be_typed_each_time() {
    let place = Place::new(6);
    let alone = place.alone(&[]);
    let with = |shard: &'static str| [&OPTIONS[..], &["--shard", shard, "--quiet"]].concat();
    let start = |shard| command(place.words("infer", "out", &with(shard))).stderr(Stdio::piped()).spawn().unwrap();
    // At once: one of them is first.
    let ended = ["1/3", "2/3", "3/3", "2/3"].map(start).map(|child| Ran::from(child.wait_with_output().unwrap()));
    ended.into_iter().for_each(|ran| drop(ran.done()));
    place.merge("out", &[]).done();
    place.fuse("out").done();
    assert!(results(&place.path("out")) == alone);
}

#[test]
fn a_shard_that_is_run_twice_at_once_or_killed_costs_nothing_but_time() {
    let place = Place::new(12);
    let alone = place.alone(&[]);
    let mut killed = 0;
    for round in 0..3u64 {
        let out = format!("out{round}");
        let mut random = Random::new(&[round, 5]);
        place.plan(&out, &["--shards", "4"]).done();
        let numbers = [1, 2, 3, 4, 2, 4];
        let mut children = numbers.map(|number| place.start(&out, &format!("{number}/4")));
        for (i, child) in children.iter_mut().enumerate() {
            // The first one at once: on a fast machine the others are done before they are killed.
            if i == 0 || random.chance(0.4) {
                std::thread::sleep(Duration::from_millis(if i == 0 { 0 } else { random.between(0, 300) as u64 }));
                child.kill().unwrap();
            }
        }
        for child in children {
            let ran = Ran::from(child.wait_with_output().unwrap());
            killed += usize::from(ran.code.is_none());
            assert!(ran.code.is_none_or(|code| code == 0), "{}", ran.stderr);
        }
        (1..=4).for_each(|number| drop(place.shard(&out, &format!("{number}/4")).done()));
        // Merging is killed, too, and done twice at once.
        let merge = || command(["merge", text(&place.path(&out)), "-q"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = merge();
        std::thread::sleep(Duration::from_millis(random.between(0, 200) as u64));
        first.kill().unwrap();
        first.wait().unwrap();
        for child in [merge(), merge()] {
            Ran::from(child.wait_with_output().unwrap()).done();
        }
        place.fuse(&out).done();
        let left = results(&place.path(&out));
        assert!(left == alone, "round {round}: {:?}", left.keys());
    }
    assert!(killed > 0, "every shard was faster than its end");
}

#[test]
fn a_shard_needs_no_more_than_the_plan_names_and_works_at_another_place() {
    let place = Place::new(12);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "3"]).done();
    for shard in ["1/3", "2/3", "3/3"] {
        // A node with the shard's photos only, and cameras of all views.
        let listed = engine(place.words("plan", "out", &[&OPTIONS[..], &["--files", shard]].concat())).done().stdout;
        let node = tempfile::tempdir().unwrap();
        for file in listed.lines() {
            assert!(Path::new(file).is_relative(), "{file}");
            let copy = node.path().join("scene").join(file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(place.path("scene").join(file), copy).unwrap();
        }
        let photos = listed.lines().filter(|file| file.ends_with(".png")).count();
        assert!((5..12).contains(&photos) && listed.contains("pair.txt"), "{listed}");
        // Photos that it lacks are there by their size alone: the scene is read as a whole.
        for entry in fs::read_dir(place.path("scene/images")).unwrap() {
            let copy = node.path().join("scene/images").join(entry.unwrap().file_name());
            if !copy.exists() {
                image::RgbImage::new(96, 64).save(copy).unwrap();
            }
        }
        fs::create_dir(node.path().join("out")).unwrap();
        fs::copy(place.path("out/plan.json"), node.path().join("out/plan.json")).unwrap();
        let (scene, out) = (node.path().join("scene"), node.path().join("out"));
        engine(["infer", text(&scene), "-o", text(&out), "--shard", shard]).done();
        for (file, bytes) in files(&node.path().join("out/levels")) {
            let copy = place.path("out/levels").join(file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, bytes).unwrap();
        }
    }
    place.merge("out", &[]).done();
    place.fuse("out").done();
    assert!(results(&place.path("out")) == alone);
}

#[test]
fn views_that_are_lost_after_merging_are_made_again_from_what_is_there() {
    let place = Place::new(9);
    let alone = place.alone(&[]);
    let out = place.path("alone");
    let manifest = told(&out);
    for spoil in [0, 1] {
        fs::remove_file(out.join(".engine.finished.json")).unwrap();
        match spoil {
            0 => fs::remove_file(out.join("depth/00000004.pfm")).unwrap(),
            _ => fs::remove_file(out.join("levels/00000007.json")).unwrap(),
        }
        let ran = place.infer("alone", &[&OPTIONS[..], &["--json"]].concat()).done();
        let merged = ran.events().into_iter().find(|e| e["event"] == "step" && e["stage"] == "merging").unwrap();
        assert_eq!(merged["pixels"], 12 * 8, "only one view is merged again");
        assert!(results(&out) == alone);
        assert_eq!(told(&out), manifest);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nodes_that_may_only_read_the_scene_and_clocks_an_hour_off_change_nothing() {
    let place = Place::new(8);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "4"]).done();
    // A folder on a file system that may only be read, and nowhere to put temporary files.
    let read_only = |folder: &str, shard: &str| {
        let words = place.words("infer", "out", &["--shard", shard, "--threads", "1"]);
        let mut node = std::process::Command::new("unshare");
        let mount =
            "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && ! touch \"$0/x\" 2>&- && exec \"$@\"";
        let folder = place.path(folder);
        node.args(["--map-root-user", "--mount", "sh", "-c", mount, text(&folder), env!("CARGO_BIN_EXE_engine")]);
        Ran::from(node.args(&words).env("TMPDIR", "/nonexistent").env("HOME", "/nonexistent").output().unwrap())
    };
    let may_mount = std::process::Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    if may_mount.is_ok_and(|status| status.success()) {
        read_only("scene", "1/4").done();
        // Where the results cannot be written, that is told in a line.
        let state = fs::read(place.path("out/shards/1-of-4.json")).unwrap();
        let message = read_only("out", "2/4").failed(4).to_owned();
        assert!(message.contains("Read-only file system"), "{message}");
        assert_eq!(fs::read(place.path("out/shards/1-of-4.json")).unwrap(), state);
    } else {
        place.shard("out", "1/4").done();
    }
    // What has been written so far is an hour ahead, then an hour behind, as if a file server's clock went wrong.
    let turn = |folder: &str, hours: i64| {
        for file in files(&place.path(folder)).into_keys() {
            let file = fs::File::options().write(true).open(place.path(folder).join(file)).unwrap();
            let hour = Duration::from_secs(3600 * hours.unsigned_abs());
            let now = std::time::SystemTime::now();
            file.set_modified(if hours > 0 { now + hour } else { now - hour }).unwrap();
        }
    };
    turn("out", 1);
    turn("scene", 1);
    place.shard("out", "2/4").done();
    turn("out", -1);
    turn("scene", -1);
    place.shard("out", "3/4").done();
    turn("out", 1);
    let ran = engine(place.words("infer", "out", &["--shard", "3/4", "--json"])).done();
    assert!(!ran.stdout.contains("\"reused\":false"), "maps of the future are maps");
    place.shard("out", "4/4").done();
    place.merge("out", &["--shard", "1/4"]).done();
    turn("out", 1);
    place.merge("out", &[]).done();
    turn("out", -1);
    place.fuse("out").done();
    assert!(results(&place.path("out")) == alone);
}

#[cfg(unix)]
#[test]
fn the_lines_for_xargs_and_parallel_do_a_job_and_a_killed_fuse_is_done_again() {
    let place = Place::new(10);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "5"]).done();
    let (scene, out) = (place.path("scene"), place.path("out"));
    let [scene, out] = [text(&scene), text(&out)];
    let shell = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_engine"), scene, out]);
        Ran::from(shell.output().unwrap()).done()
    };
    shell("seq 5 | xargs -P 4 -I {} \"$0\" infer \"$1\" -o \"$2\" --shard {}/5 --threads 1 -q");
    // GNU parallel, where it is installed (Debian: parallel).
    let version = std::process::Command::new("parallel").arg("--version").stdin(Stdio::null()).output();
    let has_parallel = version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("GNU"));
    assert!(has_parallel || std::env::var_os("ENGINE_REQUIRE_PARALLEL").is_none(), "GNU parallel is not installed");
    let each = if has_parallel { "parallel -j 4" } else { "xargs -P 4 -I {}" };
    shell(&format!("seq 5 | {each} \"$0\" merge \"$2\" --shard {{}}/5 --threads 1 -q"));
    for wait in [0, 40, 80] {
        let mut fuse = command(["fuse", out, "-q"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        fuse.kill().unwrap();
        fuse.wait().unwrap();
    }
    place.fuse("out").done();
    assert!(results(Path::new(out)) == alone);
    let _ = ["fused.ply", "manifest.json", ".engine.finished.json"]
        .map(|file| fs::remove_file(place.path("out").join(file)));
    shell(&format!("seq 4 | {each} \"$0\" fuse \"$2\" --tiles 6 --shard {{}}/4 --threads 1 -q"));
    shell("\"$0\" fuse \"$2\" --join -q");
    assert!(results(Path::new(out)) == alone);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_and_the_same_command_goes_on() {
    let place = Place::new(5);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "2"]).done();
    let limited = |words: &[String]| {
        // The least limit that lets records be written, and maps of 1.5 kB not: in blocks of 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f 2; exec {} {}", env!("CARGO_BIN_EXE_engine"), words.join(" "));
        Ran::from(std::process::Command::new("sh").args(["-c", &script]).output().unwrap())
    };
    let words = place.words("infer", "out", &["--shard", "1/2"]);
    let ran = limited(&words);
    let message = ran.failed(4);
    assert!(message.contains("cannot write") && !message.contains(".part"), "{message}");
    let left = files(&place.path("out"));
    assert!(!left.keys().any(|path| path.starts_with("levels")), "nothing half-written: {:?}", left.keys());
    // Where temporary files would go plays no part: they lie beside what they become.
    for shard in ["1/2", "2/2"] {
        let mut run = command(place.words("infer", "out", &["--shard", shard]));
        Ran::from(run.env("TMPDIR", "/nonexistent").output().unwrap()).done();
    }
    let merge = ["merge".to_owned(), text(&place.path("out")).to_owned()];
    assert!(limited(&merge).failed(4).contains("cannot write"));
    place.merge("out", &[]).done();
    place.fuse("out").done();
    assert!(results(&place.path("out")) == alone);
}

#[test]
fn what_does_not_fit_is_merged_in_blocks() {
    let place = Place::new(24);
    // Maps of full size, so that those of all views take some megabytes.
    let options = ["--levels", "2", "--min-views", "2", "--depth-only"];
    place.infer("alone", &options).done();
    let alone = results(&place.path("alone"));
    engine(place.words("plan", "out", &options)).done();
    place.shard("out", "1/1").done();
    // The least memory with which it goes on, in steps of 0.1 MB: most of it is the program's own.
    let out = place.path("out");
    let finish = |memory: usize| {
        let bytes = format!("{:.4}", memory as f64 * 1e-4);
        engine(["fuse", text(&out), "--memory", &bytes, "--threads", "1", "--json"])
    };
    let refused = finish(500);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let ran = (501..600).map(finish).find(|ran| ran.code != Some(5)).unwrap().done();
    let events = ran.events();
    let of_level_0 = |e: &&serde_json::Value| e["event"] == "step" && e["stage"] == "merging" && e["level"] == 0;
    let blocks = events.iter().filter(of_level_0).count();
    assert!(blocks > 1, "{blocks} blocks");
    assert!(results(&out) == alone);
}
