//! A mesh that is made tile by tile is that of a single run, byte for byte, whatever the tiles are and whatever happens
//! to those who make them.

use std::process::Stdio;
use std::time::Duration;

use super::*;
use program::{command, tile_parts};

/// A ball and a block; a tile in the middle has parts of both.
fn run() -> Run {
    let solids = [
        Solid::Ball { centre: DVec3::new(0.5, 0.0, 0.0), radius: 0.8 },
        Solid::Block { middle: DVec3::new(-0.6, 0.1, 0.0), half: DVec3::new(0.5, 0.7, 0.4), turn: DMat3::IDENTITY },
    ];
    Run::new(&solids, &around(DVec3::ZERO, 4.0, 150.0))
}

const FORMATS: [&str; 2] = ["--to", "ply,obj,glb"];

/// The files of the mesh in this folder, and what is told of it but for seconds and how it was divided.
fn made(out: &Path) -> ([Vec<u8>; 3], Value) {
    let bytes = ["mesh.ply", "mesh.obj", "mesh.glb"].map(|name| fs::read(out.join(name)).unwrap());
    let mut report = json(&out.join("mesh.json"));
    for field in ["seconds", "slabs", "tiles"] {
        report.as_object_mut().unwrap().remove(field);
    }
    (bytes, report)
}

/// The parts of tiles that are there, by name.
fn parts(out: &Path) -> Vec<PathBuf> {
    tile_parts(&out.join("tiles")).into_keys().collect()
}

#[test]
fn any_tiles_give_the_mesh_of_a_run_without_them() {
    let run = run();
    let out = run.path("out/mesh");
    run.mesh(&FORMATS).done();
    let whole = made(&out);
    // A tile of too many blocks is worked on in slabs; smaller ones of this run have fewer than are worth a slab.
    for (tiling, memory) in [("1", "0.0545"), ("2", "1"), ("7", "1"), ("40", "1"), ("2x1x3", "1")] {
        run.mesh(&[&FORMATS[..], &["--tiles", tiling, "--memory", memory]].concat()).done();
        let report = json(&out.join("mesh.json"));
        let [slabs, tiles] = ["slabs", "tiles"].map(|field| report[field].as_u64().unwrap());
        assert!(tiling != "1" || (tiles == 1 && slabs > 1), "{slabs} slabs of {tiles} tiles");
        assert!(made(&out) == whole, "{tiling}");
        assert!(!out.join("tiles").exists(), "what is joined is taken away");
    }
    // By shards, in any order; the tiling need be told once. Of two that begin at once one filters all maps.
    let said = |shard: &str, more: &[&str]| {
        let words = ["mesh", text(&run.path("out")), "--shard", shard, "--json"].map(str::to_owned);
        let mut one = command(words.iter().map(String::as_str).chain(more.iter().copied()));
        one.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [(); 2].map(|()| said("3/3", &["--tiles", "7", "--threads", "1"]));
    let events = both.map(|one| Ran::from(one.wait_with_output().unwrap()).done().events());
    let steps = |events: &[Value], stage: &str| {
        events.iter().filter(|event| event["event"] == "step" && event["stage"] == stage).count()
    };
    assert_eq!(steps(&events[0], "cut") + steps(&events[1], "cut"), 1);
    let told_of = run.mesh(&["--shard", "1/3"]).done();
    assert_eq!(told_of.stdout, "", "--quiet");
    let mut task = command(["mesh", text(&run.path("out")), "--shard", "auto"]);
    let task = task.env("SLURM_ARRAY_TASK_ID", "2").env("SLURM_ARRAY_TASK_MIN", "1").env("SLURM_ARRAY_TASK_COUNT", "3");
    let told_of = Ran::from(task.output().unwrap()).done();
    assert!(told_of.stdout.contains("shard 2/3: the surface of 3 tiles is there"), "{}", told_of.stdout);
    assert_eq!(parts(&out).len(), 7);
    run.mesh(&[&FORMATS[..], &["--join"]].concat()).done();
    assert!(made(&out) == whole);
    assert_eq!((json(&out.join("mesh.json"))["tiles"].as_u64(), parts(&out).len()), (Some(7), 7));
    // What is made of the surface is decided when it is joined.
    let reduced = ["--triangles", "3000", "--close-holes", "--min-component", "500"];
    run.mesh(&[&FORMATS[..], &reduced, &["--join"]].concat()).done();
    let joined = made(&out);
    run.mesh(&[&FORMATS[..], &reduced].concat()).done();
    assert!(made(&out) == joined && joined.0 != whole.0);
}

#[test]
fn parts_that_are_missing_damaged_or_of_another_plan_are_named_and_made_again() {
    let run = run();
    let out = run.path("out/mesh");
    let message = |more: &[&str]| run.mesh(more).failed(3).to_owned();
    for (options, word) in [
        (&["--join"][..], "no tiles/plan.json"),
        (&["--shard", "1/2"], "no tiles/plan.json"),
        (&["--tiles", "2", "--shard", "2/3"], "3 shards for 2 tiles"),
    ] {
        assert!(message(options).contains(word), "{}", message(options));
    }
    run.mesh(&["--tiles", "4", "--voxel", "0.06", "--shard", "1/2"]).done();
    let missing = message(&["--join", "--voxel", "0.06"]);
    assert!(missing.contains("no surface of 2 of 4 tiles (3, 4)") && missing.contains("--shard 3/4"), "{missing}");
    run.mesh(&["--shard", "2/2", "--voxel", "0.06"]).done();
    for options in [&["--join"][..], &["--shard", "1/2"]] {
        let told = message(options);
        assert!(told.contains("tiles of another mesh (voxel 0.06, not none)"), "{told}");
    }
    assert!(message(&["--join", "--voxel", "0.06", "--tiles", "3"]).contains("no tiles that were cut so"));
    run.mesh(&["--join", "--voxel", "0.06"]).done();
    let right = fs::read(out.join("mesh.ply")).unwrap();
    // Another tiling has another plan; its parts lie elsewhere.
    let first = parts(&out);
    run.mesh(&["--tiles", "3", "--voxel", "0.06", "--shard", "1/1"]).done();
    let (of_three, own): (Vec<_>, Vec<_>) = parts(&out).into_iter().partition(|part| !first.contains(part));
    assert_eq!((of_three.len(), own.len()), (3, 4));
    let file = |part: &Path| out.join("tiles").join(part);
    let named =
        |parts: &[PathBuf], number: &str| file(parts.iter().find(|part| part.file_stem().unwrap() == number).unwrap());
    let part = named(&of_three, "2");
    let bytes = fs::read(&part).unwrap();
    let spoilt: [(Vec<u8>, &str); 4] = [
        (fs::read(named(&own, "2")).unwrap(), "the surface of another plan or tile"),
        (fs::read(named(&of_three, "1")).unwrap(), "the surface of another plan or tile"),
        (bytes[..bytes.len() - 7].to_vec(), "bytes, which do not hold the"),
        (b"dear".to_vec(), "not the surface of a tile"),
    ];
    for (other, word) in spoilt {
        fs::write(&part, other).unwrap();
        let told = message(&["--join", "--voxel", "0.06"]);
        assert!(told.contains(word) && told.contains("2.part"), "{told}");
        let again = engine(["mesh", text(&run.path("out")), "--shard", "2/3", "--voxel", "0.06"]).done();
        assert!(again.stderr.contains("it is made again"), "{}", again.stderr);
        assert!(fs::read(&part).unwrap() == bytes);
    }
    // What only all bytes tell is found when they are read.
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&part, flipped).unwrap();
    let told = message(&["--join", "--voxel", "0.06"]);
    assert!(told.contains("2.part: bytes that differ from those that were written"), "{told}");
    fs::write(&part, &bytes).unwrap();
    run.mesh(&["--join", "--voxel", "0.06"]).done();
    assert!(fs::read(out.join("mesh.ply")).unwrap() == right);
    // Maps that have changed since, and a run that has.
    let map = run.path("out/confidence/00000003.pfm");
    fs::write(&map, fs::read(&map).unwrap()).unwrap();
    for options in [&["--join", "--voxel", "0.06"][..], &["--shard", "1/3", "--voxel", "0.06"]] {
        let told = message(options);
        assert!(told.contains("tiles of another state of the run"), "{told}");
    }
}

#[test]
fn those_who_make_tiles_may_be_killed_and_be_two() {
    let run = run();
    run.mesh(&FORMATS).done();
    let out = run.path("out/mesh");
    let whole = made(&out);
    let start = |shard: &str| {
        let folder = run.path("out");
        let words = ["mesh", text(&folder), "--tiles", "24", "--shard", shard, "-q", "--threads", "1"];
        command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = 0;
    for wait in [0, 100, 300] {
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
    let before = tile_parts(&out.join("tiles"));
    let again = engine(["mesh", text(&run.path("out")), "--shard", "1/2", "--json"]).done();
    assert!(again.events().iter().filter(|event| event["stage"] == "tiles").all(|event| event["reused"] != false));
    assert!(tile_parts(&out.join("tiles")) == before, "what is there is passed over");
    let mut join = command(["mesh", text(&run.path("out")), "--no-colours", "--join", "-q"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(40));
    join.kill().unwrap();
    join.wait().unwrap();
    run.mesh(&[&FORMATS[..], &["--join"]].concat()).done();
    assert!(made(&out) == whole);
}
