//! What a plan says of its shards, and that it holds.

use super::*;

#[test]
fn shards_are_balanced_neighbours_and_told() {
    let place = Place::new(20);
    let ran = place.plan("out", &["--shards", "4", "--json"]).done();
    let events = ran.events();
    let told = events.last().unwrap();
    let plan = json(&place.path("out/plan.json"));
    assert_eq!(told["shards"], plan["shards"]);
    let shards = plan["shards"].as_array().unwrap();
    assert!(shards.iter().all(|shard| shard["views"] == 5), "{shards:?}");
    for shard in shards {
        // Views in a row share photos: five and four on either side, of which some are others' own.
        let photos = shard["photos"].as_u64().unwrap();
        assert!((7..=13).contains(&photos), "{shard}");
        for field in ["photo_bytes", "memory", "disk"] {
            assert!(shard[field].as_u64().unwrap() > 0, "{field}");
        }
        assert!(shard["seconds"].as_f64().unwrap() > 0.0);
    }
    assert!(plan["pace"]["seconds_a_view"].as_f64().unwrap() > 0.0);
    let mut names: Vec<&str> = plan["views"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 20);
    names.dedup();
    assert_eq!(names.len(), 20, "every view once");

    // What is written is no more than was planned, and not much less but for previews.
    place.shard("out", "2/4").done();
    place.shard("out", "1/4").done();
    place.shard("out", "3/4").done();
    place.merge("out", &["--shard", "2/4"]).done();
    let written: usize = files(&place.path("out"))
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "pfm" || ending == "png"))
        .filter(|(path, _)| {
            plan["views"].as_array().unwrap()[5..10]
                .iter()
                .any(|view| path.file_stem().unwrap().to_str() == view["name"].as_str())
        })
        .map(|(_, bytes)| bytes.len())
        .sum();
    let planned = shards[1]["disk"].as_u64().unwrap() as usize;
    // Previews of such photos are small.
    assert!(written < planned && planned < 5 * written, "{written} bytes, {planned} planned");
}

#[test]
fn a_wanted_time_gives_the_number_of_shards() {
    let place = Place::new(8);
    place.plan("one", &["--within", "1h"]).done();
    assert_eq!(json(&place.path("one/plan.json"))["shards"].as_array().unwrap().len(), 1);
    place.plan("many", &["--within", "0.001s"]).done();
    assert_eq!(json(&place.path("many/plan.json"))["shards"].as_array().unwrap().len(), 8, "no more than views");
    for wrong in ["2", "h", "-1h", "0s", "2 weeks", "inf h", "1e400s"] {
        assert_eq!(place.plan("wrong", &["--within", wrong]).code, Some(2), "{wrong}");
    }
    assert_eq!(place.plan("wrong", &["--shards", "0"]).code, Some(2));
    assert!(!place.path("wrong").exists());
}

#[test]
fn the_same_plan_again_changes_no_id_and_keeps_what_shards_told() {
    let place = Place::new(6);
    let id = || json(&place.path("out/plan.json"))["id"].clone();
    place.plan("out", &["--shards", "2"]).done();
    place.shard("out", "1/2").done();
    let first = id();
    place.plan("out", &["--shards", "2"]).done();
    assert_eq!(id(), first);
    assert!(place.path("out/shards/1-of-2.json").exists());
    // A scene at another place is the same scene.
    fs::rename(place.path("scene"), place.path("moved")).unwrap();
    let (scene, out) = (place.path("moved"), place.path("out2"));
    engine([&["plan", text(&scene), "-o", text(&out), "--shards", "2"], &OPTIONS[..]].concat()).done();
    assert_eq!(json(&out.join("plan.json"))["id"], first);
    engine(["infer", text(&scene), "-o", text(&place.path("out")), "--shard", "2/2"]).done();
    let moved = ["merge", text(&place.path("out")), "--scene", text(&scene)].map(str::to_owned);
    engine(moved).done();
}

#[test]
fn variables_and_files_of_options_do_not_change_a_planned_job() {
    let place = Place::new(5);
    let alone = place.alone(&[]);
    place.plan("out", &["--shards", "2"]).done();
    for shard in ["1/2", "2/2"] {
        let mut run = command(place.words("infer", "out", &[]));
        let ran = Ran::from(run.env("ENGINE_PLANES", "24").env("ENGINE_SHARD", shard).output().unwrap()).done();
        assert!(ran.stderr.contains("from the plan: --"), "{}", ran.stderr);
    }
    let mut merge = command(["merge", text(&place.path("out"))]);
    Ran::from(merge.env("ENGINE_LEVELS", "1").output().unwrap()).done();
    place.fuse("out").done();
    assert!(results(&place.path("out")) == alone);
}

#[test]
fn tasks_of_arrays_know_their_shard() {
    let place = Place::new(5);
    place.plan("out", &["--shards", "2"]).done();
    let with = |variables: &[(&str, &str)]| {
        let mut run = command(place.words("infer", "out", &["--shard", "auto"]));
        Ran::from(run.envs(variables.iter().copied()).output().unwrap())
    };
    assert!(with(&[]).failed(3).contains("SLURM_ARRAY_TASK_ID"));
    with(&[("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "2")]).done();
    with(&[("JOB_COMPLETION_INDEX", "1")]).done();
    assert!(with(&[("JOB_COMPLETION_INDEX", "2")]).failed(3).contains("completions: N"));
    for shard in ["1-of-2", "2-of-2"] {
        assert_eq!(json(&place.path(&format!("out/shards/{shard}.json")))["condition"], "done");
    }
}
