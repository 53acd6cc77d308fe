//! `engine status`: what is told of shards that run, failed, are lost or done.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;

fn status(place: &Place) -> (Option<i32>, Value) {
    let ran = engine(["status", text(&place.path("out")), "--json"]);
    let told = ran.events().into_iter().next().unwrap();
    (ran.code, told)
}

/// Changes fields of a shard's state, and when it was written.
fn tamper(place: &Place, shard: &str, fields: &[(&str, Value)], age: Duration) {
    tamper_file(&place.path(&format!("out/shards/{shard}.json")), fields, age);
}

fn tamper_file(path: &Path, fields: &[(&str, Value)], age: Duration) {
    let mut state = super::json(path);
    fields.iter().for_each(|(field, value)| state[*field] = value.clone());
    fs::write(path, state.to_string()).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn shards_are_told_from_planning_to_the_end() {
    let place = Place::new(8);
    place.plan("out", &["--shards", "4"]).done();
    let (code, told) = status(&place);
    assert_eq!((code, &told["mapped"], &told["views"]), (Some(9), &json!(0), &json!(8)));
    assert!(told["disk_needed"].as_u64().unwrap() > 0 && told["disk_free"].as_u64().unwrap() > 0);
    let _ = ["1/4", "2/4", "3/4"].map(|shard| place.shard("out", shard).done());

    // The second of them as if it were at work, with one view left; then silent, then with an error.
    let views = super::json(&place.path("out/plan.json"))["views"].clone();
    let name = views[2]["name"].as_str().unwrap();
    fs::remove_file(place.path(&format!("out/levels/0/{name}.json"))).unwrap();
    let running = [("condition", json!("running")), ("done", json!(1)), ("seconds", json!(7.0))];
    tamper(&place, "2-of-4", &running, Duration::from_secs(3));
    let (_, told) = status(&place);
    let state = |told: &Value, at: usize| told["shards"][at]["state"].clone();
    assert_eq!([0, 1, 2, 3].map(|at| state(&told, at)), ["done", "running", "done", "waiting"].map(Value::from));
    assert_eq!((&told["shards"][1]["seconds_a_view"], &told["seconds_left"]), (&json!(7.0), &json!(7.0)));
    // Clocks of machines play no part: an hour ahead is as fresh as now.
    tamper(&place, "2-of-4", &[("since_unix_s", json!(9_999_999_999u64))], Duration::from_secs(3));
    assert_eq!(state(&status(&place).1, 1), "running");
    tamper(&place, "2-of-4", &[], Duration::from_secs(600));
    let (_, told) = status(&place);
    assert_eq!((state(&told, 1), &told["seconds_left"]), ("lost".into(), &Value::Null));
    assert!((590.0..660.0).contains(&told["shards"][1]["silent_for"].as_f64().unwrap()));
    let failed = [("condition", json!("failed")), ("message", json!("photo 3: it is broken"))];
    tamper(&place, "2-of-4", &failed, Duration::ZERO);
    let text_of = engine(["status", text(&place.path("out"))]);
    assert_eq!(text_of.code, Some(9));
    // What somebody should look at comes first.
    let first = text_of.stdout.lines().find(|line| line.contains("/4 ")).unwrap();
    assert!(first.contains("2/4") && first.contains("failed") && first.contains("photo 3: it is broken"), "{first}");
    // Of another plan, it says nothing.
    tamper(&place, "2-of-4", &[("plan", json!("other"))], Duration::ZERO);
    assert_eq!(state(&status(&place).1, 1), "waiting");

    let _ = ["2/4", "4/4"].map(|shard| place.shard("out", shard).done());
    assert!(engine(["status", text(&place.path("out"))]).failed(9).contains("0 of 8 views are merged"));
    place.merge("out", &[]).done();
    assert!(engine(["status", text(&place.path("out"))]).failed(9).contains("engine fuse OUT"));
    place.fuse("out").done();
    let (code, told) = status(&place);
    assert_eq!((code, &told["done"], &told["merged"]), (Some(0), &json!(true), &json!(8)));
}

#[test]
fn tiles_of_cloud_and_mesh_are_told_until_they_are_joined() {
    let place = Place::new(8);
    place.plan("out", &["--shards", "1"]).done();
    place.shard("out", "1/1").done();
    place.merge("out", &[]).done();
    assert_eq!(status(&place).1["tiles"], Value::Null);
    let out = place.path("out");
    let text_of = || engine(["status", text(&out)]);
    for (command, folder, what) in [("fuse", "out/tiles", "points"), ("mesh", "out/mesh/tiles", "surface")] {
        let field = if command == "fuse" { "tiles" } else { "mesh" };
        let run = |options: &[&str]| engine([&[command, text(&out)], options].concat()).done();
        run(&["--tiles", "4", "--shard", "2/3"]);
        let (code, told) = status(&place);
        let counts = ["tiles", "made"].map(|count| told[field][count].as_u64().unwrap());
        assert_eq!((code, counts, &told[field]["shards"][0]["state"]), (Some(9), [4, 2], &json!("done")), "{told}");
        assert!(text_of().failed(9).contains(&format!("the {what} of 2 of 4 tiles (engine {command} OUT --shard)")));
        // As if its process were at work, with one tile left; then silent, then with an error.
        let (state, id) = (place.path(folder).join("2-of-3.json"), &place.path(folder));
        let id = super::json(&id.join("plan.json"))["id"].as_str().unwrap()[..16].to_owned();
        fs::remove_file(place.path(folder).join(id).join("3.part")).unwrap();
        let running = [("condition", json!("running")), ("done", json!(1)), ("seconds", json!(7.0))];
        tamper_file(&state, &running, Duration::from_secs(3));
        let (_, told) = status(&place);
        let shard = &told[field]["shards"][0];
        assert_eq!([&shard["state"], &shard["made"], &shard["tiles"]], [&json!("running"), &json!(1), &json!(2)]);
        assert_eq!((&shard["seconds_left"], &told["seconds_left"]), (&json!(7.0), &json!(7.0)));
        tamper_file(&state, &[], Duration::from_secs(600));
        assert!(text_of().stdout.contains("no sign of life for 10 min"), "{}", text_of().stdout);
        let failed = [("condition", json!("failed")), ("message", json!("the disk is full"))];
        tamper_file(&state, &failed, Duration::ZERO);
        let (message, line) = (text_of().stdout, format!("{what} of 1 of 4 tiles"));
        assert!(message.contains(&line) && message.contains("the disk is full"), "{message}");
        let _ = ["1/3", "2/3", "3/3"].map(|shard| run(&["--shard", shard]));
        let told = text_of().failed(9).to_owned();
        assert!(told.contains(&format!("the {what} of all tiles")) && told.contains("--join"), "{told}");
        run(&[&["--join"][..], if command == "fuse" { &["--export", "las,copc"] } else { &[] }].concat());
        assert_eq!((status(&place).0, &status(&place).1[field]), (Some(0), &Value::Null));
    }
    for file in ["cloud.las", "cloud.copc.laz"] {
        assert!(out.join("export").join(file).exists(), "{file}");
    }
}

#[test]
fn watching_ends_when_all_is_done_or_the_user_asks() {
    let place = Place::new(4);
    place.plan("out", &["--shards", "1"]).done();
    let watch = || command(["status", text(&place.path("out")), "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let watching = watch();
    place.shard("out", "1/1").done();
    place.merge("out", &[]).done();
    place.fuse("out").done();
    let ran = Ran::from(watching.wait_with_output().unwrap()).done();
    assert!(ran.stdout.lines().last().is_some_and(|line| line.contains("1/1")), "{}", ran.stdout);
    #[cfg(unix)]
    {
        fs::remove_file(place.path("out/manifest.json")).unwrap();
        let watching = watch();
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(watching.id() as i32, libc::SIGINT) }, 0);
        assert_eq!(watching.wait_with_output().unwrap().status.code(), Some(130));
    }
}
