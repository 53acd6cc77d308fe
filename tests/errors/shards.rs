//! Jobs that are divided among machines.

use std::fs;
use std::path::Path;

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
    vec![Group {
        title: "Jobs on many machines",
        advice: "see docs/CLUSTER.md",
        write: planned,
        run: "infer scene -o out --shard 1/2",
        cases,
    }]
}
