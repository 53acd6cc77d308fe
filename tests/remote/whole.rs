//! A whole job against a real S3 server: processes that have nothing in common but addresses give what a single run in
//! folders gives, byte for byte, also where one is killed and one runs twice.

use std::time::{Duration, Instant};

use super::server::variables;
use super::*;

/// Small maps of the scene in the tree.
const SMALL: [&str; 4] = ["--max-side", "128", "--planes", "16"];

#[test]
fn a_job_on_s3_is_a_single_runs_byte_for_byte_whatever_happens_to_shards() {
    let Some(server) = server::start(&[]) else { return };
    let scene = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let root = tempfile::tempdir().unwrap();
    let expected = alone(&scene, &root.path().join("alone"), &SMALL);
    server.fill("work", "scenes/town", &scene);
    let proxy = proxy::Proxy::before(server.address);
    let job = Job::new("s3://work/scenes/town".into(), "s3://work/out".into(), variables(proxy.address));

    let mut report = Vec::new();
    let mut note = |step: &str, ran: &Ran| {
        let [scene, out] = [&job.scene, &job.out].map(|address| {
            let of_it = |event: &serde_json::Value| event["event"] == "object_store" && event["address"] == **address;
            ran.events().into_iter().find(of_it)
        });
        report.push(format!("{step}: {:?}\n  {scene:?}\n  {out:?}", proxy.take_requests()));
    };
    note("plan", &job.plan(&[&SMALL[..], &["--shards", "3", "--json"]].concat()).done());
    assert_eq!(job.run(&["status", &job.out]).code, Some(9));

    // Shard 2 is killed as soon as the first of its maps are there.
    let mut killed = job.start(&job.shard("2/3"));
    let began = Instant::now();
    let recorded = || {
        let all = server.objects("work", "out/levels").into_keys();
        all.filter(|path| path.extension().is_some_and(|ending| ending == "json")).count()
    };
    while recorded() == 0 && killed.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    killed.kill().unwrap();
    assert_eq!(killed.wait_with_output().unwrap().status.code(), None, "it was faster than its end");
    // Each record that is there vouches for maps that are there.
    let there = server.objects("work", "out");
    let records = there.keys().filter(|path| path.starts_with("levels") && path.to_string_lossy().ends_with(".json"));
    for record in records {
        let name = record.file_stem().unwrap();
        for map in ["depth", "confidence"] {
            let map = record.parent().unwrap().join(map).join(name).with_extension("pfm");
            assert!(there.contains_key(&map), "{} without {}", record.display(), map.display());
        }
    }
    let ran = job.run(&["status", &job.out, "--json"]);
    let told = ran.events().into_iter().next().unwrap();
    assert_eq!(told["shards"][1]["state"], "running", "it is silent for less than a minute: {told}");
    assert!(told["shards"][1]["silent_for"].as_f64().unwrap() < 30.0, "{told}");

    proxy.take_requests();
    note("shard 1", &job.run(&[&job.shard("1/3")[..], &["--json"]].concat()).done());
    // The killed one again, twice at once, beside the third.
    let both = ["2/3", "2/3", "3/3"].map(|shard| job.start(&job.shard(shard)));
    both.into_iter().for_each(|child| drop(ended(child)));
    let status = job.run(&["status", &job.out]);
    assert!(status.code == Some(9) && status.stdout.contains("3 done"), "{}", status.stdout);
    proxy.take_requests();
    let merged = ["1/3", "2/3", "3/3"].map(|shard| job.run(&["merge", &job.out, "--shard", shard, "--json"]).done());
    note("merge, all three", &merged[0]);
    note("fuse", &job.run(&["fuse", &job.out, "--json"]).done());
    let status = job.run(&["status", &job.out, "--json"]);
    assert_eq!(status.code, Some(0), "{}", status.stdout);
    note("status", &status);

    let made = results(server.objects("work", "out"));
    assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(made == expected, "the cloud and the maps are those of a single run");
    // Only the killed one, the third, could not take its copies away.
    let left = job.left();
    assert!(left.iter().all(|path| path.starts_with("2")), "{left:?}");
    // Figures for docs/CLUSTER.md.
    report.iter().for_each(|line| println!("{line}"));
}
