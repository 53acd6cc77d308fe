//! A folder never vouches for what it does not hold: manifest, cloud and maps after runs that were killed, and after
//! runs with other options.

use engine::files::lock::LOCK;
use engine::host::random::Random;

use super::together::{kill_after, rounds, small, start};
use super::*;

/// Names of all files but the lock's, which a fresh folder has as well.
fn names(out: &Path) -> Vec<String> {
    files(out).into_keys().map(|path| text(&path).to_owned()).filter(|name| name != LOCK).collect()
}

#[test]
fn after_any_number_of_killed_runs_the_next_one_leaves_what_a_fresh_one_leaves() {
    let place = Place::new();
    let options = [
        small(&["--levels", "2", "--normals"]),
        small(&["--levels", "1", "--planes", "24"]),
        small(&["--levels", "1", "--depth-only"]),
        small(&["--levels", "3", "--max-side", "80", "--min-confidence", "0.3"]),
        small(&["--levels", "1", "--views", "3", "--normals", "--depth-only"]),
    ];
    let part = small(&["--levels", "2", "--planes", "24", "--normals", "--view", NAMES[1], "--view", NAMES[2]]);
    let mut longest = 0;
    let fresh: Vec<_> = (0..options.len())
        .map(|which| {
            let (out, began) = (format!("fresh{which}"), std::time::Instant::now());
            place.infer(&out, &options[which]).done();
            longest = longest.max(began.elapsed().as_millis() as usize);
            (names(&place.path(&out)), results(&place.path(&out)))
        })
        .collect();
    for round in 0..rounds() {
        let mut random = Random::new(&[round, 5]);
        for _ in 0..random.between(1, 3) {
            let which = random.below(options.len() + 1);
            let mut child = start(&place, "out", options.get(which).unwrap_or(&part));
            kill_after(&mut child, random.between(0, longest) as u64);
            let ended = Ran::from(child.wait_with_output().unwrap());
            let is_done = place.path("out/manifest.json").exists();
            assert!(is_done || ended.code != Some(0), "{}", ended.stderr);
        }
        let which = random.below(options.len());
        place.infer("out", &options[which]).done();
        let out = place.path("out");
        assert_eq!(names(&out), fresh[which].0, "round {round}");
        assert!(results(&out) == fresh[which].1, "round {round}");
    }
}

#[test]
fn what_other_options_have_made_goes_with_the_maps() {
    let place = Place::new();
    let out = place.path("out");
    place.infer("out", &small(&["--levels", "3", "--normals"])).done();
    assert!(out.join("normal").exists() && out.join("fused.ply").exists() && out.join("levels/2").exists());
    let ran = place.infer("out", &small(&["--levels", "1", "--planes", "24", "--depth-only"])).done();
    for gone in ["normal", "fused.ply", "levels/1", "levels/2"] {
        assert!(!out.join(gone).exists(), "{gone}");
    }
    assert!(!ran.stderr.contains("more maps"), "{}", ran.stderr);

    // Nothing of anybody else's: a normal map that was worked on, a cloud of another program, a letter.
    place.infer("out", &small(&["--levels", "1", "--normals"])).done();
    let mine = ["normal/00000002.pfm", "normal/letter.txt", "fused.ply"].map(|name| out.join(name));
    mine.iter().for_each(|file| fs::write(file, "mine").unwrap());
    let ran = place.infer("out", &small(&["--levels", "1", "--depth-only"])).done();
    assert!(mine.iter().all(|file| fs::read(file).unwrap() == b"mine"));
    assert_eq!(fs::read_dir(out.join("normal")).unwrap().count(), 2);
    let note = "note: normal/00000002.pfm was changed after an earlier run had made it: it is left as it is";
    assert!(ran.stderr.lines().any(|line| line == note), "{}", ran.stderr);
    let notes = json(&out.join("manifest.json"))["notes"].to_string();
    assert!(notes.contains("it is left as it is"), "{notes}");
}

#[test]
fn a_killed_run_leaves_no_manifest_and_that_is_told() {
    let place = Place::new();
    let (out, scene) = (place.path("out"), place.scene());
    let small_side = small(&["--levels", "1", "--max-side", "80"]);
    place.infer("out", &small_side).done();
    assert!(out.join("manifest.json").exists());
    let slow = small(&["--levels", "1", "--max-side", "80", "--planes", "3000", "--json"]);
    let mut child =
        command(place.arguments("out", &slow)).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""event":"stage""#)));
    kill_after(&mut child, 0);
    child.wait().unwrap();
    for gone in ["manifest.json", "fused.ply"] {
        assert!(!out.join(gone).exists(), "{gone}");
    }
    // The maps of the run before are whole and one run's; they are still of use.
    let fuse = engine(["fuse", text(&out), "--scene", text(&scene), "--min-views", "1"]).done();
    for note in [
        "note: the run that makes the maps has not come to its end: there is no manifest.json beside them\n",
        "note: photos are reduced to 80 px as the maps' records say\n",
    ] {
        assert!(fuse.stderr.contains(note), "{}", fuse.stderr);
    }
    assert!(!fuse.stderr.contains("mixed"), "{}", fuse.stderr);
    let doctor = engine(["doctor", text(&scene), "--run", text(&out), "--no-photos"]);
    assert!(doctor.failed(3).contains("no manifest.json: a run has begun in it and has not come to its end"));
    fs::rename(&out, place.path("scene_engine")).unwrap();
    let doctor = engine(["doctor", text(&scene), "--no-photos"]);
    assert!(doctor.stdout.contains("a run has begun in it and has not come to its end"), "{}", doctor.stdout);
}

#[test]
fn whoever_reads_maps_of_several_runs_says_so() {
    let place = Place::new();
    let (out, scene) = (place.path("out"), place.scene());
    place.infer("out", &small(&["--levels", "1"])).done();
    let (scene, maps) = (text(&scene).to_owned(), text(&out).to_owned());
    let fuse = || engine(["fuse", &maps, "--scene", &scene, "--min-views", "1"]).done().stderr;
    let eval = || engine(["eval", "depth", &maps, "--truth", &maps]).done().stderr;
    let doctor = || engine(["doctor", &scene, "--run", &maps, "--no-photos"]).stdout;
    for said in [fuse(), eval(), doctor()] {
        assert!(!said.contains("mixed") && !said.contains("changed since"), "{said}");
    }
    let ran =
        place.infer("out", &small(&["--levels", "1", "--planes", "24", "--view", NAMES[3], "--depth-only"])).done();
    let note = "depth/ holds 4 more maps of an earlier run that was told otherwise (planes none, not 24)";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let mixed = "maps of several runs are mixed: 1 map made otherwise than the others (first: 00000005, with planes \
                 24, not none)";
    for said in [fuse(), eval(), doctor()] {
        assert!(said.contains(mixed), "{said}");
    }
    // Cut off between the map and its record; a map of somebody else; a map that was changed.
    let record = out.join("levels/00000002.json");
    let mut half = json(&record);
    half["files"]["depth/00000002.pfm"] = Value::Null;
    fs::write(&record, half.to_string()).unwrap();
    fs::remove_file(out.join("levels/00000009.json")).unwrap();
    let changed = out.join("depth/00000000.pfm");
    let mut map = pfm::read(&changed).unwrap();
    map.data[0] = 4.0;
    pfm::write(&changed, &map).unwrap();
    for said in [fuse(), eval(), doctor()] {
        assert!(said.contains("a run was stopped while it wrote the maps of 1 view (first: 00000002)"), "{said}");
        let unknown = "1 map beside the others without a record of what made them (first: 00000009)";
        assert!(said.contains(unknown), "{said}");
    }
    let said = doctor();
    assert!(said.contains("1 file changed since a run has made them (first: depth/00000000.pfm)"), "{said}");
    // One run of all puts everything right.
    place.infer("out", &small(&["--levels", "1"])).done();
    for said in [fuse(), eval(), doctor()] {
        assert!(!said.contains("mixed") && !said.contains("record") && !said.contains("changed since"), "{said}");
    }
}

#[test]
fn fuse_leaves_the_manifest_of_the_maps_alone() {
    let place = Place::new();
    let (out, scene) = (place.path("out"), place.scene());
    place.infer("out", &small(&["--levels", "1"])).done();
    let before = files(&out);
    let fuse = |more: &[&str]| {
        let base = ["fuse", text(&out), "--scene", text(&scene), "--min-views", "2", "-o", text(&out)];
        engine(base.iter().chain(more))
    };
    let message = fuse(&[]).failed(3).to_owned();
    assert!(message.contains("it holds depth maps, and a manifest.json and a cloud that belong to them"), "{message}");
    let mut after = files(&out);
    let lock = PathBuf::from(LOCK);
    after.insert(lock.clone(), before[&lock].clone());
    assert!(after == before);
    fuse(&["--force"]).done();
    assert_eq!(json(&out.join("manifest.json"))["command"], "fuse");
}
