//! Jobs that are divided among machines.

use std::fs;
use std::path::{Path, PathBuf};

use crate::plane_scene;
use crate::program;
use crate::table::{Case, Group, spoilt, told};

/// What a planned job is made with.
const OPTIONS: &str = "--levels 1 --resolution quarter --planes 8 --min-views 1";

/// Runs the program, which must end well.
fn run(root: &Path, words: &str) {
    let ran = program::command(words.split_whitespace()).current_dir(root).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

fn planned(root: &Path) {
    plane_scene::write(&root.join("scene"));
    run(root, &format!("plan scene -o out --shards 2 {OPTIONS}"));
}

fn half_mapped(root: &Path) {
    planned(root);
    run(root, "infer scene -o out --shard 1/2");
}

fn mapped(root: &Path) {
    half_mapped(root);
    run(root, "infer scene -o out --shard 2/2");
}

fn merged(root: &Path) {
    mapped(root);
    run(root, "merge out");
}

/// Changes a field of the plan.
fn plan_with(root: &Path, field: &str, value: serde_json::Value) {
    let file = root.join("out/plan.json");
    let mut plan = program::json(&file);
    plan[field] = value;
    fs::write(file, plan.to_string()).unwrap();
}

pub fn groups() -> Vec<Group> {
    let anew = "make the plan again";
    let same = "give the plan's options, or none: they are taken from the plan";
    let with = |write: fn(&Path), case: Case| Case { write: Some(write), ..case };
    let cases = vec![
        told("run `engine plan` first, or name its folder", "merge none"),
        spoilt(anew, |root| fs::write(root.join("out/plan.json"), "{}").unwrap()),
        spoilt(anew, |root| plan_with(root, "schema", 9.into())),
        spoilt("use one version of the program on all machines", |root| plan_with(root, "version", "0.0.1".into())),
        spoilt(anew, |root| plan_with(root, "views", serde_json::json!([]))),
        told("count the shards as the plan does", "infer scene -o out --shard 3/3"),
        told("start it from a scheduler's array, or give the number", "infer scene -o out --shard auto"),
        told(same, "infer scene -o out --shard 1/2 --planes 12"),
        spoilt("plan the scene as it is now", |root| {
            let camera = root.join("scene/cams/00000003_cam.txt");
            let text = fs::read_to_string(&camera).unwrap();
            fs::write(camera, text.replacen("110", "111", 1)).unwrap();
        }),
        told(
            "count the shards as the plan does",
            "plan scene -o out --levels 1 --resolution quarter --planes 8 \
             --min-views 1 --files 3/3",
        ),
        Case {
            run: Some("infer scene -o other --shard 1/1"),
            ..spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("other")).unwrap();
                fs::write(root.join("other/letter.txt"), "dear").unwrap();
            })
        },
        told("give a folder, or build the program with stores in it", "plan s3://bucket/town -o out"),
        told("give a folder", "doctor s3://bucket/town"),
        with(half_mapped, told("start that shard, too", "merge out")),
        with(half_mapped, told("start what is left", "fuse out")),
        with(mapped, told("give it more memory", "merge out --memory 0.00001")),
        Case {
            write: Some(mapped),
            run: Some("fuse out --method graph -o cloud"),
            ..spoilt("name the scene", |root| fs::remove_file(root.join("out/.engine.json")).unwrap())
        },
        with(half_mapped, told("wait, or start what is left", "status out")),
        with(mapped, told("merge", "status out")),
        with(merged, told("fuse", "status out")),
    ];
    let jobs = Group {
        title: "Jobs on many machines",
        advice: "see docs/CLUSTER.md",
        write: planned,
        run: "infer scene -o out --shard 1/2",
        cases,
    };
    vec![jobs, tiles()]
}

fn tiled(root: &Path) {
    merged(root);
    run(root, "fuse out --tiles 2 --shard 1/1");
}

/// The file of a tile's points.
fn part(root: &Path, tile: usize) -> PathBuf {
    let folders = fs::read_dir(root.join("out/tiles")).unwrap().map(|entry| entry.unwrap().path());
    folders.into_iter().find(|path| path.is_dir()).unwrap().join(format!("{tile}.part"))
}

fn tiles() -> Group {
    let anew = "make the tile again";
    let with = |write: fn(&Path), case: Case| Case { write: Some(write), ..case };
    let cases = vec![
        with(merged, told("make the tiles first", "fuse out --join")),
        with(mapped, told("merge first", "fuse out --tiles 2")),
        with(merged, told("give more memory", "fuse out --tiles 2 --memory 0.001")),
        told("use a method that takes views one by one", "fuse out -o cloud --tiles 2 --method disparity"),
        told("start no more shards than there are tiles", "fuse out --shard 3/3"),
        told("give the options of the other shards", "fuse out --join --tiles 3"),
        spoilt("make the missing tiles", |root| fs::remove_file(part(root, 2)).unwrap()),
        spoilt(anew, |root| fs::write(part(root, 2), "dear").unwrap()),
        spoilt(anew, |root| {
            fs::copy(part(root, 1), part(root, 2)).unwrap();
        }),
        spoilt(anew, |root| {
            let bytes = fs::read(part(root, 1)).unwrap();
            fs::write(part(root, 1), &bytes[..bytes.len() - 1]).unwrap();
        }),
        spoilt(anew, |root| {
            let mut bytes = fs::read(part(root, 1)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(part(root, 1), bytes).unwrap();
        }),
        spoilt("remove the file", |root| fs::write(root.join("out/tiles/plan.json"), "{}").unwrap()),
        spoilt("make new tiles of maps that have changed", |root| {
            let file = root.join("out/tiles/plan.json");
            let mut plan = program::json(&file);
            plan["views_sha256"] = "other".into();
            fs::write(file, plan.to_string()).unwrap();
        }),
        spoilt("give the options that the tiles were made with", |root| {
            let file = root.join("out/tiles/plan.json");
            let mut plan = program::json(&file);
            plan["job"]["min_confidence"] = 0.25.into();
            fs::write(file, plan.to_string()).unwrap();
        }),
        Case {
            write: Some(|root| {
                plane_scene::write(&root.join("scene"));
                run(root, &format!("plan scene -o out --shards 1 {OPTIONS} --depth-only"));
            }),
            ..told("plan a cloud, too", "fuse out --tiles 2")
        },
    ];
    Group { title: "Clouds by tiles", advice: "see docs/CLUSTER.md", write: tiled, run: "fuse out --join", cases }
}
