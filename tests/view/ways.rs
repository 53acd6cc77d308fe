//! How a view begins and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::client::Server;
use crate::plane_run::Run;
use crate::program::{command, engine, text};

#[test]
fn ctrl_c_ends_it_as_it_ends_other_commands() {
    let run = Run::new();
    let before = crate::program::files(&run.path("out"));
    let server = Server::start(&[text(&run.path("out"))]);
    server.get("/tile/0");
    let (code, said) = server.stop();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("error: stopped by the user"), "{said}");
    assert!(crate::program::files(&run.path("out")) == before, "it writes nothing");
}

#[test]
fn it_listens_where_it_is_told_and_nowhere_else() {
    let run = Run::new();
    let out = run.path("out");
    let server = Server::start(&[text(&out)]);
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    // The same port again is taken.
    let port = server.host().rsplit_once(':').unwrap().1;
    let ran = engine(["view", text(&out), "--no-open", "--port", port]);
    let message = ran.failed(3);
    assert!(message.starts_with(&format!("--host 127.0.0.1 --port {port}: ")), "{message}");
    assert!(message.contains("expected an address of this machine and a port that is free"), "{message}");
    drop(server);

    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let ran = engine(["view", text(&out), "--no-open", "--host", host]);
        assert_eq!(
            ran.failed(3),
            format!(
                "--host: {host}, which others may reach; expected an address of this machine alone (127.0.0.1 or \
                 ::1), or --anyone as well: whoever reaches it can look then"
            )
        );
    }
    let ran = engine(["view", text(&out), "--no-open", "--host", "example.org"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    // With leave, at all addresses; told is one by which this machine reaches it.
    let server = Server::start(&[text(&out), "--host", "0.0.0.0", "--anyone"]);
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    assert_eq!(server.asked("GET", "/", "192.168.0.9:80").code, 200);
    assert_eq!(server.asked("GET", "/", "evil.example").code, 421);
}

/// The program that opens addresses, on Linux; others have none that could be put in its place.
#[cfg(target_os = "linux")]
#[test]
fn a_browser_is_opened_unless_it_shall_not() {
    let run = Run::new();
    let (tools, opened) = (run.path("tools"), run.path("opened"));
    fs::create_dir(&tools).unwrap();
    let script = tools.join("xdg-open");
    fs::write(&script, format!("#!/bin/sh\necho \"$@\" >> '{}'\n", text(&opened))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let start = |words: &[&str]| {
        let mut view = command(["view", text(&run.path("out")), "--json"].iter().chain(words));
        view.env("PATH", format!("{}:/usr/bin:/bin", text(&tools)));
        Server::of(view)
    };
    let server = start(&[]);
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(&opened).unwrap_or_default().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_to_string(&opened).unwrap(), format!("{}\n", server.url));
    fs::remove_file(&opened).unwrap();
    let server = start(&["--no-open"]);
    server.get("/");
    server.stop();
    assert!(!opened.exists());
}

#[test]
fn what_is_no_run_and_no_cloud_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let view = |what: &str| engine(["view", "--no-open", text(&root.path().join(what))]);
    assert!(view("none").failed(4).contains("cannot open the results"));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(view("empty").failed(3).contains("no manifest.json"));
    fs::write(root.path().join("text.ply"), "a letter").unwrap();
    assert!(view("text.ply").failed(3).contains("'ply' (a PLY file)"));
    let cloud = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n\
                 end_header\n1 2 3\n";
    fs::write(root.path().join("short.ply"), cloud).unwrap();
    assert!(view("short.ply").failed(3).contains("after the header, which states 2 vertices"));
}

#[test]
fn runs_without_a_cloud_and_scenes_that_are_gone_are_shown_too() {
    let run = Run::new();
    fs::rename(run.path("scene"), run.path("moved")).unwrap();
    fs::remove_file(run.path("out/fused.ply")).unwrap();
    let server = Server::start(&[text(&run.path("out"))]);
    let page = String::from_utf8(server.body("/")).unwrap();
    assert!(page.contains("the run has no cloud") && page.contains("is no longer there"), "{page}");
    assert_eq!((server.get("/tile/0").code, server.get("/photo/0").code, server.get("/maps/0").code), (404, 404, 200));
    let server = Server::start(&[text(&run.path("out")), "--scene", text(&run.path("moved"))]);
    assert_eq!(server.get("/photo/0").code, 200);
    // Maps that are gone meanwhile are told by the server, and to who asked.
    fs::remove_dir_all(run.path("maps/depth")).unwrap();
    let answer = server.get("/maps/0");
    assert_eq!(answer.code, 500, "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.body).contains("cannot"), "{answer:?}");
    let (code, said) = server.stop();
    assert!(code == Some(130) && said.contains("/maps/0: "), "{said}");
}
