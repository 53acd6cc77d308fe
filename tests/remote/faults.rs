//! Servers and nets that fail for a while cost time; those that fail for good end the command with one line, and the
//! next run goes on with what is left.

use std::time::Duration;

use super::proxy::{Mode, Proxy};
use super::server::variables;
use super::*;

/// A job on a row of views behind a proxy.
struct Row {
    server: server::Server,
    proxy: Proxy,
    job: Job,
    /// What a single run gives.
    expected: BTreeMap<PathBuf, Vec<u8>>,
}

/// `None` where moto is not installed.
fn row(views: u32) -> Option<Row> {
    let server = server::start(&[])?;
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write_row(&scene, views);
    let expected = alone(&scene, &root.path().join("alone"), &OPTIONS);
    server.fill("work", "row", &scene);
    let proxy = Proxy::before(server.address);
    let job = Job::new("s3://work/row".into(), "s3://work/out".into(), variables(proxy.address));
    Some(Row { server, proxy, job, expected })
}

#[test]
fn a_server_that_fails_now_and_then_costs_time_alone() {
    let Some(Row { server, proxy, job, expected }) = row(6) else { return };
    // From the first request on.
    let (over, faults) = (std::sync::atomic::AtomicBool::new(false), proxy.failures());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let modes = [Mode::Busy, Mode::Cuts(3000), Mode::HangsUp, Mode::Cuts(20_000)];
            for mode in modes.into_iter().cycle() {
                proxy.set(mode);
                std::thread::sleep(Duration::from_millis(300));
                proxy.set(Mode::Passes);
                std::thread::sleep(Duration::from_millis(300));
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        job.plan(&[&OPTIONS[..], &["--shards", "2"]].concat()).done();
        let shards = ["1/2", "2/2"].map(|shard| job.start(&job.shard(shard)));
        shards.into_iter().for_each(|child| drop(ended(child)));
        job.run(&["merge", &job.out]).done();
        job.run(&["fuse", &job.out]).done();
        over.store(true, Ordering::SeqCst);
    });
    assert!(proxy.failures() > faults + 10, "{} failures", proxy.failures());
    assert!(results(server.objects("work", "out")) == expected);
}

#[test]
fn a_server_that_fails_for_good_ends_the_command_and_the_next_goes_on() {
    let Some(Row { server, proxy, mut job, expected }) = row(6) else { return };
    job.plan(&[&OPTIONS[..], &["--shards", "1"]].concat()).done();
    // It fails when some records are there, and then for good.
    proxy.take_requests();
    proxy.set(Mode::TakesPuts(14));
    let shard = job.start(&job.shard("1/1"));
    let count = |ending: &str| {
        let all = server.objects("work", "out/levels").into_keys();
        all.filter(|path| path.to_string_lossy().ends_with(ending)).count()
    };
    let began = std::time::Instant::now();
    let ran = Ran::from(shard.wait_with_output().unwrap());
    let told = ran.failed(4);
    assert!(told.starts_with("s3://work/out/") && told.contains(": cannot "), "{told}");
    assert!(began.elapsed() < Duration::from_secs(200), "it gives up some day");
    let before = count(".json");
    assert!((1..12).contains(&before), "{before} records were there before it failed");
    proxy.set(Mode::Passes);
    let again = job.run(&[&job.shard("1/1")[..], &["--json"]].concat()).done();
    let steps = |reused: bool| {
        let is_one = |event: &serde_json::Value| event["event"] == "step" && event["reused"] == reused;
        again.events().into_iter().filter(is_one).count()
    };
    assert_eq!(steps(false), 12 - before, "{}", again.stdout);
    job.run(&["merge", &job.out]).done();
    job.run(&["fuse", &job.out]).done();
    assert!(results(server.objects("work", "out")) == expected);

    // Nobody listens there at all.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    job.variables = variables(nobody);
    let ran = job.run(&["status", &job.out]);
    let told = ran.failed(4);
    assert!(told.starts_with("s3://work/out: cannot list the objects: ") && told.contains("refused"), "{told}");
}
