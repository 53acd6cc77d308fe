//! Absurd numbers, names that command a terminal, outputs that take nothing: one line each, and no panic.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "support/plane_scene.rs"]
mod plane_scene;
#[path = "support/program.rs"]
mod program;
#[path = "support/scene_files.rs"]
mod scene_files;

use program::{Ran, command, engine, files, json, text};

#[test]
fn absurd_numbers_are_refused_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let (out, huge) = (text(&out), "18446744073709551615");
    let train = ["train", out, "--steps", "1", "--size", "64x48", "--planes", "40"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&["synth", out, "--size", "64x48"], &["--views", "--threads", "--planes", "--scenes", "--size"]),
        (&train, &["--validation-views", "--queue", "--batch", "--loaders", "--views", "--threads", "--reuse"]),
        (&["infer", out], &["--views", "--planes", "--threads", "--levels", "--check-sources", "--max-side"]),
        (&["info"], &["--views", "--planes", "--threads", "--levels", "--width", "--height"]),
        (&["eval", "synth"], &["--views", "--planes", "--threads", "--scenes", "--size"]),
        (&["doctor", out], &["--views", "--planes", "--threads", "--levels", "--max-side"]),
    ];
    for (command, options) in cases {
        for option in options {
            let began = Instant::now();
            let value = if *option == "--size" { "99999999x99999999" } else { huge };
            // In the place of what the command has for it already.
            let at = command.iter().position(|word| word == option).unwrap_or(command.len());
            let rest = command.get(at + 2..).unwrap_or_default();
            let arguments = [&command[..at], &[option, value], rest].concat();
            let ran = engine(&arguments);
            assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
            let line = ran.stderr.lines().next().unwrap();
            assert!(line.contains(&format!("invalid value '{value}' for '{option} ")), "{line}");
            assert!(line.contains(": expected ") || option.contains("size"), "{line}");
            assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}");
        }
    }
    // The largest that are taken give a number or a line, too.
    engine(["info", "--views", "10000", "--planes", "65536", "--width", "65536", "--height", "65536"]).done();
    assert!(!Path::new(out).exists());
}

/// The plane scene with other names for its photos, which are paired by order.
fn named(root: &Path, name: impl Fn(usize) -> String) {
    plane_scene::write(root);
    for (i, id) in plane_scene::NAMES.iter().enumerate() {
        let images = root.join("images");
        fs::rename(images.join(format!("{id}.png")), images.join(format!("{}.png", name(i)))).unwrap();
    }
}

const QUICK: [&str; 8] = ["--resolution", "quarter", "--levels", "1", "--min-views", "1", "--max-side", "80"];

#[cfg(unix)]
#[test]
fn names_cannot_command_the_terminal() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("o\u{1b}[2Jut\nX"));
    named(&scene, |i| format!("a\u{1b}[31mred\nX\u{9b}7m{i}"));
    let infer = ["infer", text(&scene), "-o", text(&out)];
    let plain = |ran: Ran| {
        for text in [&ran.stdout, &ran.stderr] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(text.lines().all(|line| !line.starts_with('X')), "{text:?}");
        }
        ran
    };
    plain(engine(infer.iter().chain(&QUICK))).done();
    for report in [&["--quiet"][..], &[], &["--json"]] {
        let scene = text(&scene);
        let with = |arguments: &[&str]| plain(engine(arguments.iter().chain(report)));
        with(&["doctor", scene]);
        with(&["doctor", scene, "--run", text(&out)]);
        with(&["doctor", text(&out)]);
        with(&["eval", "depth", text(&out), "--truth", text(&out)]).done();
        with(&["eval", "cloud", text(&out.join("fused.ply")), text(&out.join("fused.ply"))]).done();
        with(&["fuse", text(&out), "--scene", scene, "--min-views", "1"]).done();
        with(&["fuse", text(&out), "--scene", scene, "--view", "\u{1b}[31m\nX"]);
        let made = root.path().join("ma\u{1b}[31mde\nX");
        with(&["synth", text(&made), "--views", "2", "--size", "32x32", "--rig", "cluster"]).done();
    }
    // Events stay JSON, with the names as they are. Without its manifest the run is not finished.
    fs::remove_file(out.join("manifest.json")).unwrap();
    let events = engine(infer.iter().chain(&QUICK).chain(&["--json"])).done().events();
    assert!(events.iter().any(|event| event["view"] == "a\u{1b}[31mred\nX\u{9b}7m0"), "{events:?}");
}

#[test]
fn names_as_long_as_a_file_system_takes_are_cut_for_the_results() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("out"));
    // 251 bytes and the ending; all begin alike; two bytes a letter, so that a cut may fall into one.
    named(&scene, |i| format!("{}{i}", "\u{e4}".repeat(125)));
    let infer = ["infer", text(&scene), "-o", text(&out)];
    let ran = engine(infer.iter().chain(&QUICK)).done();
    assert!(ran.stderr.contains("note: 5 long names of photos cut to 200 bytes"), "{}", ran.stderr);
    let maps = fs::read_dir(out.join("depth")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let maps: Vec<String> = maps.collect();
    assert!(maps.len() == 5 && maps.iter().all(|name| name.len() == 204), "{maps:?}");
    let again = engine(infer.iter().chain(&QUICK).chain(&["--json"])).done().events();
    assert!(again.iter().all(|event| event["stage"] != "depth" || event["reused"] != false), "{again:?}");
    engine(["fuse", text(&out), "--scene", text(&scene), "--min-views", "1"]).done();
    engine(["eval", "depth", text(&out), "--truth", text(&out)]).done();
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_told_is_an_error_unless_nobody_listens() {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let into_full = |arguments: &[&str]| Ran::from(command(arguments).stdout(full()).output().unwrap());
    for arguments in [&["info"][..], &["info", "--json"], &["fuse", "--list-presets"]] {
        let ran = into_full(arguments);
        assert!(ran.failed(4).starts_with("standard output: cannot write what was asked for: "), "{}", ran.stderr);
        // A reader that has gone.
        let shell = format!("'{}' {} | true", env!("CARGO_BIN_EXE_engine"), arguments.join(" "));
        let ended = std::process::Command::new("bash").args(["-o", "pipefail", "-c", &shell]).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    // The results are whole all the same.
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("out"));
    plane_scene::write(&scene);
    let infer = ["infer", text(&scene), "-o", text(&out)];
    assert_eq!(into_full(&[&infer[..], &QUICK].concat()).code, Some(4));
    assert!(json(&out.join("manifest.json"))["points"].as_u64().unwrap() > 0);
    // Nothing at all can be told: the exit code is left.
    let ran = command([&infer[..], &QUICK].concat()).stdout(full()).stderr(full()).output().unwrap();
    assert_eq!(ran.status.code(), Some(4));
    assert!(files(&out).len() > 10);
}

#[test]
fn a_manifest_of_countless_small_things_is_refused_before_it_takes_memory() {
    let root = tempfile::tempdir().unwrap();
    let write = |views: &str, notes: &str| {
        let text = format!(r#"{{"program":"engine","command":"infer","notes":[{notes}],"views":[{views}]}}"#);
        fs::write(root.path().join("manifest.json"), text).unwrap();
        engine::manifest::Manifest::read(root.path())
    };
    let many = |what: &str, count: usize| vec![what; count].join(",");
    for (views, notes) in [(many("{}", 1_000_000), ""), (many(r#"{"name":"a"}"#, 200_000), ""), (String::new(), "")] {
        let notes = if views.is_empty() { many("0", 2_000_000) } else { notes.to_owned() };
        let error = write(&views, &notes).unwrap_err().to_string();
        assert!(error.contains("manifest.json: not a manifest ("), "{error}");
        assert!(error.contains("many more and smaller things than a run writes"), "{error}");
    }
    // A scene of thousands of views, as a run writes it.
    let golden: Value = serde_json::from_str(include_str!("data/manifest.json")).unwrap();
    let view = golden["views"][0].to_string();
    let read = write(&many(&view, 4000), "").unwrap().unwrap();
    assert!(read.views.len() == 4000 && read.views[0].name == golden["views"][0]["name"].as_str().unwrap());
}
