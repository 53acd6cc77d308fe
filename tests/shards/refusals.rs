//! What does not fit together is refused in one line, and nothing is changed.

use super::*;

#[test]
fn shards_of_two_plans_never_mix() {
    let place = Place::new(6);
    place.plan("out", &["--shards", "2"]).done();
    place.shard("out", "1/2").done();
    let before = files(&place.path("out"));
    let refused = |options: &[&str], words: &[&str]| {
        let ran = place.infer("out", options);
        let message = ran.failed(3);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(files(&place.path("out")) == before, "{message}");
    };
    refused(&["--shard", "1/3"], &["3 shards, where the plan has 2", "--shard I/2"]);
    refused(&["--shard", "2/2", "--planes", "24"], &["plan.json", "planes none, not 24"]);
    refused(&["--shard", "2/2", "--max-side", "64"], &["plan.json", "max-side"]);
    refused(&["--shard", "2/2", "--view", "00000001"], &["other views"]);
    // A camera that moves makes another scene.
    let camera = place.path("scene/cams/00000003_cam.txt");
    let text_before = fs::read_to_string(&camera).unwrap();
    fs::write(&camera, text_before.replacen("110", "111", 1)).unwrap();
    refused(&["--shard", "2/2"], &["other views, cameras, depth ranges or source views"]);
    fs::write(&camera, text_before).unwrap();
    // A plan that names a view twice, and another one not at all.
    let plan = place.path("out/plan.json");
    let right = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, right.replace("\"00000003\"", "\"00000002\"")).unwrap();
    let message = place.shard("out", "2/2").failed(3).to_owned();
    assert!(message.contains("plan.json: a plan of other views"), "{message}");
    fs::write(&plan, right).unwrap();
    place.shard("out", "2/2").done();

    // A new plan takes the old one's place, and says so; the maps that fit stay.
    let told = place.plan("out", &["--shards", "3"]).done();
    assert!(told.stderr.contains("the plan of 2 shards there is replaced"), "{}", told.stderr);
    assert!(!place.path("out/shards/1-of-2.json").exists());
    let ran = engine(place.words("infer", "out", &["--shard", "2/3", "--json"])).done();
    assert!(!ran.stdout.contains("\"reused\":false"), "{}", ran.stdout);
}

#[test]
fn merging_and_fusing_ask_for_what_is_missing() {
    let place = Place::new(10);
    let none = place.path("none");
    assert!(engine(["merge", text(&none)]).failed(3).contains("no plan.json"));
    assert!(engine(["status", text(&none)]).failed(3).contains("engine plan"));
    assert!(!none.exists());
    place.plan("out", &["--shards", "5"]).done();
    place.shard("out", "1/5").done();
    let message = place.merge("out", &["--shard", "1/5"]).failed(3).to_owned();
    assert!(message.contains("no map of level 1 yet") && message.contains("--shard 2/5"), "{message}");
    let message = place.fuse("out").failed(3).to_owned();
    assert!(message.contains("maps of 8 of 10 views are missing") && message.contains("engine status"), "{message}");
    // A shard and those around it are enough.
    let _ = ["2/5", "3/5"].map(|shard| place.shard("out", shard).done());
    place.merge("out", &["--shard", "1/5"]).done();
    assert_eq!(files(&place.path("out/depth")).len(), 2);
}

#[test]
fn a_plan_that_is_none_is_named() {
    let place = Place::new(4);
    place.plan("out", &["--shards", "2"]).done();
    let file = place.path("out/plan.json");
    let plan = json(&file);
    let changed = |field: &str, value: serde_json::Value| {
        let mut plan = plan.clone();
        plan[field] = value;
        plan.to_string()
    };
    for spoilt in [
        String::new(),
        "{}".into(),
        "[]".into(),
        changed("schema", 9.into()),
        changed("program", "other".into()),
        changed("version", "9.9.9".into()),
        changed("views", serde_json::json!([])),
        changed("shards", serde_json::json!("two")),
        plan.to_string()[..300].to_owned(),
    ] {
        fs::write(&file, &spoilt).unwrap();
        for ran in [place.shard("out", "1/2"), place.merge("out", &[]), place.fuse("out"), status(&place)] {
            let message = ran.failed(3);
            assert!(message.contains("plan.json") && message.contains("engine plan"), "{message}");
        }
    }
    // Options that no version of the program has.
    fs::write(&file, changed("options", serde_json::json!([["plains", "3"]]))).unwrap();
    assert!(place.merge("out", &[]).failed(3).contains("planes"));
}

fn status(place: &Place) -> Ran {
    engine(["status", text(&place.path("out"))])
}

#[test]
fn somebody_elses_folder_and_a_run_that_holds_it_alone_are_left_alone() {
    let place = Place::new(4);
    let foreign = place.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    for ran in [place.plan("foreign", &[]), place.infer("foreign", &[&OPTIONS[..], &["--shard", "1/1"]].concat())] {
        assert!(ran.failed(3).contains("not empty and was not made by engine"), "{}", ran.stderr);
    }
    assert_eq!(files(&foreign).len(), 1);

    place.plan("out", &["--shards", "2"]).done();
    use engine::files::lock::{FolderLock, Mode};
    let lock = |mode| FolderLock::acquire(&place.path("out"), mode, "output folder", "write").unwrap();
    let alone = lock(Mode::Alone);
    assert!(place.shard("out", "1/2").failed(3).contains("another run is at work"));
    drop(alone);
    let together = lock(Mode::Together);
    place.shard("out", "1/2").done();
    // Nobody plans anew under shards at work.
    assert!(place.plan("out", &["--shards", "3"]).failed(3).contains("another run is at work"));
    assert!(place.fuse("out").failed(3).contains("another run is at work"));
    drop(together);
}

#[test]
fn a_photo_that_is_spoilt_ends_its_shard_and_no_other() {
    let place = Place::new(12);
    place.plan("out", &["--shards", "4"]).done();
    let first = json(&place.path("out/plan.json"))["views"][0]["name"].as_str().unwrap().to_owned();
    fs::write(place.path(&format!("scene/images/{first}.png")), b"no photo").unwrap();
    // Its header is looked at when the scene is read.
    let message = place.shard("out", "4/4").failed(3).to_owned();
    assert!(message.contains(&first), "{message}");
    // A photo whose end is missing is only met by those who need it.
    plane_scene::write_row(&place.path("scene"), 12);
    let photo = place.path(&format!("scene/images/{first}.png"));
    let bytes = fs::read(&photo).unwrap();
    fs::write(&photo, &bytes[..bytes.len() / 2]).unwrap();
    place.shard("out", "4/4").done();
    let message = place.shard("out", "1/4").failed(3).to_owned();
    let state = json(&place.path("out/shards/1-of-4.json"));
    assert_eq!((&state["condition"], &state["message"]), (&"failed".into(), &message.clone().into()));
    assert!(status(&place).stdout.contains(&message), "{}", status(&place).stdout);
}
