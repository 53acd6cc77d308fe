//! What is said of stores that are not there or refuse, and of addresses that are none. One line each.

use super::server::variables;
use super::*;

#[test]
fn buckets_credentials_and_rights_are_told_apart() {
    // The first action is free: it makes the bucket.
    let Some(server) = server::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")]) else { return };
    assert_eq!(server.ask("PUT", "/work", b"").0, 200);
    let mut job = Job::new("s3://work/none".into(), "s3://work/out".into(), variables(server.address));
    let ran = job.run(&["status", &job.out]);
    let told = ran.failed(3);
    assert!(told.starts_with("s3://work/out: cannot list the objects: InvalidAccessKeyId"), "{told}");
    assert!(told.contains("expected credentials in the environment"), "{told}");

    let Some(open) = server::start(&[]) else { return };
    assert_eq!(open.ask("PUT", "/work", b"").0, 200);
    job.variables = variables(open.address);
    let ran = job.run(&["infer", "s3://nobodys/town", "-o", &job.out]);
    assert_eq!(
        ran.failed(3),
        "s3://nobodys/town: cannot list the objects: no such bucket; expected a bucket that is there: make it, or \
         correct the address"
    );
    let ran = job.run(&["plan", &job.scene, "-o", &job.out]);
    assert!(ran.failed(4).starts_with("s3://work/none: cannot "), "{}", ran.stderr);
    let ran = job.run(&["merge", &job.out]);
    assert!(ran.failed(3).starts_with("s3://work/out: no plan.json; "), "{}", ran.stderr);
    job.variables.retain(|(name, _)| name != "AWS_ALLOW_HTTP");
    let ran = job.run(&["status", &job.out]);
    assert!(ran.failed(3).contains("expected an endpoint of https://, or AWS_ALLOW_HTTP=true"), "{}", ran.stderr);
    // Without credentials the machine is asked for its own: here, at a place where nobody answers.
    job.variables = variables(open.address).into_iter().filter(|(name, _)| !name.contains("KEY")).collect();
    let nobody = ("AWS_METADATA_ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned());
    job.variables.push(nobody);
    let ran = job.run(&["status", &job.out]);
    assert!(ran.failed(3).contains("no credentials, and the machine gives none"), "{}", ran.stderr);
    assert_eq!(job.left(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_no_place_for_an_address_is_told() {
    let root = tempfile::tempdir().unwrap();
    plane_scene::write(&root.path().join("scene"));
    let scene = format!("file://{}", text(&root.path().join("scene")));
    let job = Job::new(scene.clone(), format!("file://{}", text(&root.path().join("out"))), Vec::new());
    for (words, told) in [
        (vec!["infer", &scene], "expected a place for the results: -o OUT, a folder or an address"),
        (vec!["infer", "http://host/town", "-o", "out"], "an address of no store that is known"),
        (vec!["infer", &scene, "-o", "out", "--masks", "s3://b/masks"], "where a path of this machine belongs"),
        (vec!["doctor", &scene], "where a path of this machine belongs"),
        (vec!["train", "run", "--textures", "s3://b/photos"], "where a path of this machine belongs"),
    ] {
        let ran = job.run(&words);
        assert!(ran.failed(3).contains(told), "{words:?}: {}", ran.stderr);
    }
    // A folder of somebody else stays so.
    std::fs::create_dir(root.path().join("out")).unwrap();
    std::fs::write(root.path().join("out/letter.txt"), "dear").unwrap();
    let ran = job.plan(&["--shards", "2"]);
    let expected = format!("output folder {}: it is not empty and was not made by engine; ", job.out);
    assert!(ran.failed(3).starts_with(&expected), "{}", ran.stderr);
    assert_eq!(files(&root.path().join("out")).len(), 1);
}

/// A disk that takes no more than a little.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let root = tempfile::tempdir().unwrap();
    plane_scene::write(&root.path().join("scene"));
    let address = |name: &str| format!("file://{}", text(&root.path().join(name)));
    let job = Job::new(address("scene"), address("out"), Vec::new());
    // The most that a file may have stands for a disk without room: both are told by the same call.
    let words = ["plan", &job.scene, "-o", &job.out];
    let program = job.command(&words);
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 1; trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program.get_program()).args(words);
    let ran = Ran::from(limited.env("TMPDIR", program.get_current_dir().unwrap()).output().unwrap());
    let told = ran.failed(4);
    assert!(told.contains("copy of the object here"), "{told}");
}
