//! The command line: help, usage errors, exit codes and messages of the real binary.

use std::fs;
use std::path::Path;
use std::process::Command;

mod options;
mod pictures;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/scene_files.rs"]
mod scene_files;

use program::{Ran, engine, text};

const NOTHING: [&str; 0] = [];

#[test]
fn help_tells_every_option_with_its_unit_and_default() {
    for (verb, lists, own) in options::COMMANDS {
        let help = engine([verb, "--help"]).done().stdout;
        let told: Vec<&str> = help
            .lines()
            .map(str::trim_start)
            // `-o, --out <OUT>` and `--max-side <PX>`, but not `- auto: ...`.
            .filter(|l| l.starts_with('-') && !l.starts_with("- "))
            .filter_map(|l| l.split_once("--")?.1.split([' ', ',', '[', ')']).next())
            .collect();
        let options = lists.iter().chain([own]).flat_map(|list| list.split_whitespace());
        let expected: Vec<&str> = options.map(|o| o.strip_prefix("--").unwrap()).collect();
        let sorted = |mut names: Vec<&str>| {
            names.sort();
            // An option may be named in the text of another one, at the start of a wrapped line.
            names.dedup();
            names.join(" ")
        };
        assert_eq!(sorted(told), sorted(expected), "{verb}");
        assert!(help.contains("Example"), "{verb}");
    }
    // Wrapped lines are joined: the width of the terminal is not what is tested.
    let help = engine(["infer", "--help"]).done().stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [
        "by default the folder SCENE_engine beside the scene",
        "[default: what the scene's files say, else 96; with --resolution quarter 192]",
        "[default: linear if far / near < 3, else inverse]",
        "[default: one per processor]",
        "--max-reprojection-px <PX>",
        "--memory <GB>",
        "[default: 0.8]",
        "[default: 5]",
    ] {
        assert!(help.contains(sentence), "{sentence}");
    }
    let top = engine(["--help"]).done().stdout;
    for verb in [
        "infer", "plan", "merge", "status", "fuse", "export", "mesh", "map", "report", "view", "synth", "train",
        "eval", "info",
    ] {
        assert!(top.lines().any(|l| l.trim_start().starts_with(&format!("{verb} "))), "{top}");
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(engine(["--version"]).done().stdout, format!("engine {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 24] = [
        (&[], "Usage: engine <COMMAND>"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["infer"], "<SCENE>"),
        (&["infer", "s", "--frobnicate"], "unexpected argument '--frobnicate'"),
        (&["infer", "s", "--views", "1"], "expected a whole number from 2 to 10000"),
        (&["infer", "s", "--planes", "1"], "expected a whole number from 2 to 65536"),
        (&["infer", "s", "--planes", "many"], "expected a whole number from 2 to 65536"),
        (&["infer", "s", "--levels", "0"], "expected a whole number from 1 to 8"),
        (&["infer", "s", "--range", "5,1"], "expected two depths near,far with 0 < near < far, such as 0.5,12"),
        (&["infer", "s", "--range", "5"], "expected two depths near,far"),
        (&["infer", "s", "--range=-1,2"], "expected two depths near,far"),
        (&["infer", "s", "--sampling", "log"], "[possible values: linear, inverse]"),
        (&["infer", "s", "--min-confidence", "1.5"], "expected a number from 0 to 1"),
        (&["infer", "s", "--trusted-confidence", "nan"], "expected a number from 0 to 1"),
        (&["infer", "s", "--max-reprojection-px", "0"], "expected a number above 0"),
        (&["infer", "s", "--max-depth-error-rel", "inf"], "expected a number above 0"),
        (&["infer", "s", "--min-views", "0"], "expected a whole number, 1 or more"),
        (&["infer", "s", "--max-side", "-3"], "unexpected argument '-3'"),
        (&["infer", "s", "--widen-range", "1"], "expected a number from 0 to less than 1"),
        (&["infer", "s", "--device", "cuda:x"], "expected a GPU's index after cuda:"),
        (&["infer", "s", "--device", "tpu"], "expected auto, cpu, cuda, cuda:N, cuda:all or a list"),
        (&["infer", "s", "--quiet", "--json"], "cannot be used with"),
        (&["fuse"], "<MAPS>"),
        (&["info", "--width", "0"], "expected a number of pixels from 1 to 65536"),
    ];
    for (arguments, message) in cases {
        let ran = engine(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn info_tells_the_machine_the_weights_and_the_memory() {
    let ran = engine(["info", "--threads", "3"]).done();
    assert!(ran.stdout.starts_with(&format!("engine {}\ndevice:  cpu, 3 threads, ", env!("CARGO_PKG_VERSION"))));
    for part in
        ["weights: built-in (voxel / squared / skip / full), sha256 ", "memory:  ", "1600 x 1200, 192 planes, 5 views"]
    {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    let need = |more: &[&str]| {
        let ran = engine(["info", "--json"].iter().chain(more)).done();
        let events = ran.events();
        assert_eq!(events.len(), 1);
        events[0]["memory_needed"].as_u64().unwrap()
    };
    let usual = need(&[]);
    assert!(need(&["--width", "3200"]) > usual);
    assert!(need(&["--planes", "96"]) < usual);
    assert!(need(&["--views", "9"]) > usual);
    assert!(need(&["--levels", "1"]) < usual);
    // The paper's size in one level must leave room on an ordinary machine.
    assert!(need(&["--views", "4", "--levels", "1"]) < 8_000_000_000);

    // A reader that goes away is no reason to panic.
    let shell = format!("{} info | true", env!("CARGO_BIN_EXE_engine"));
    let ran = Ran::from(Command::new("sh").args(["-c", &shell]).output().unwrap());
    assert_eq!(ran.stderr, "");
}

#[test]
fn inputs_that_cannot_be_used_end_with_3_or_4() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let (scene, out) = (text(&scene), root.path().join("out"));
    let infer = |more: &[&str]| engine(["infer", scene, "-o", text(&out)].iter().chain(more));

    let missing = text(root.path()).to_owned() + "/none";
    let ran = engine(["infer", &missing]);
    assert_eq!(ran.code, Some(if ran.stderr.contains("os error") { 4 } else { 3 }));
    assert!(ran.failed(ran.code.unwrap()).contains(&missing), "{}", ran.stderr);

    let weights = root.path().join("other.safetensors");
    let ran = infer(&["--weights", text(&weights)]);
    assert!(ran.failed(4).starts_with(text(&weights)), "{}", ran.stderr);
    fs::write(&weights, "no weights").unwrap();
    let ran = infer(&["--weights", text(&weights)]);
    assert!(ran.failed(3).starts_with(&format!("weights {}: ", text(&weights))), "{}", ran.stderr);
    let ran = engine(["info", "--weights", text(&weights)]);
    assert!(ran.failed(3).starts_with(&format!("weights {}: ", text(&weights))), "{}", ran.stderr);

    // A photo that breaks off in the middle: found when its turn comes.
    let photo = Path::new(scene).join("images/00000003.png");
    let bytes = fs::read(&photo).unwrap();
    fs::write(&photo, &bytes[..bytes.len() / 2]).unwrap();
    let ran = infer(&[]);
    assert!(ran.failed(3).contains("00000003.png"), "{}", ran.stderr);
    fs::write(&photo, &bytes).unwrap();
    infer(&["--quiet"]).done();
}

#[test]
fn views_that_see_nothing_in_common_are_no_scene() {
    let root = tempfile::tempdir().unwrap();
    let mut scene = plane_scene::scene();
    // Every camera turned away from the others, and no pair list.
    for (i, view) in scene.views.iter_mut().enumerate() {
        view.r = glam::DMat3::from_rotation_y(i as f64 * 1.25) * view.r;
        view.t *= -1000.0 * i as f64;
    }
    scene.write_mvsnet(root.path(), "2 6");
    let pairs: String = scene.views.iter().map(|v| format!("{}\n0\n", v.id)).collect();
    fs::write(root.path().join("pair.txt"), format!("5\n{pairs}")).unwrap();
    let ran = engine(["infer", text(root.path()), "-o", text(&root.path().join("out"))]);
    assert_eq!(
        ran.failed(6),
        format!(
            "{}: no view overlaps another, so nothing can be matched (view 00000000 has no source view); check the \
             cameras, or list source views in pair.txt",
            text(root.path())
        )
    );
    assert!(!root.path().join("out").exists());
}

#[test]
fn cameras_that_stand_at_one_place_are_no_scene() {
    let root = tempfile::tempdir().unwrap();
    let mut scene = plane_scene::scene();
    for view in &mut scene.views {
        view.t = view.r * glam::DVec3::new(1.0, 2.0, 3.0);
    }
    scene.write_mvsnet(root.path(), "2 6");
    let ran = engine(["infer", text(root.path()), "-o", text(&root.path().join("out"))]);
    assert_eq!(
        ran.failed(3),
        format!(
            "{}: 5 cameras that all stand at the same place; expected photos taken from different places, since there \
             is no depth without a baseline; check the cameras' translations",
            text(root.path())
        )
    );
    assert!(!root.path().join("out").exists());
}

#[test]
fn without_any_depth_range_the_option_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    plane_scene::write(root.path());
    plane_scene::scene().write_mvsnet(root.path(), "");
    let out = root.path().join("out");
    let ran = engine(["infer", text(root.path()), "-o", text(&out)]);
    assert_eq!(
        ran.failed(3),
        format!(
            "{}: no depth range for view 00000000 in its files, and no sparse points to take one from; expected the \
             nearest and farthest depth to search: --range near,far",
            text(root.path())
        )
    );
    let range = ["infer", text(root.path()), "-o", text(&out), "--range", "2.6,5.6", "--planes", "16", "--depth-only"];
    engine(range).done();
}

#[test]
fn a_run_that_does_not_fit_is_refused_with_options_that_do() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let out = root.path().join("out");
    // 1500 planes of a 24 x 16 map take some 60 MB beside the program's own 50 MB.
    let base = ["infer", text(&scene), "-o", text(&out), "--planes", "1500", "--threads", "1", "--depth-only"];
    let run = |more: &[&str]| engine(base.iter().chain(more));
    let ran = run(&["--memory", "0.08"]);
    let message = ran.failed(5).to_owned();
    assert!(
        message.starts_with("memory: this run needs ") && message.contains(", and 80 MB are available; "),
        "{message}"
    );
    assert!(!out.exists(), "a refused run leaves nothing");
    let options = message.split_once("any one of these would fit: ").unwrap().1.split_once(" (").unwrap().0;
    let named: Vec<Vec<&str>> = options.split(", ").map(|o| o.split(' ').collect()).collect();
    assert_eq!(named.iter().map(|o| o[0]).collect::<Vec<_>>(), ["--max-side", "--planes"], "{message}");
    for option in named {
        // The later of two --planes would be a usage error: the base's is left out for it.
        let kept: Vec<&str> = match option[0] {
            "--planes" => base.iter().copied().filter(|a| !["--planes", "1500"].contains(a)).collect(),
            _ => base.to_vec(),
        };
        engine(kept.iter().chain(&option).chain(&["--memory", "0.08", "--quiet"])).done();
    }
}

#[test]
fn a_folder_of_others_is_not_written_into() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let infer = |out: &Path, more: &[&str]| {
        engine(["infer", text(&scene), "-o", text(out), "--levels", "1", "--quiet"].iter().chain(more))
    };
    let before = program::files(&scene);
    assert_eq!(
        infer(&scene, &[]).failed(3),
        format!(
            "output folder {}: it is not empty and was not made by engine; expected an empty or new folder (-o OUT), \
             or --force to write into this one",
            scene.display()
        )
    );
    assert!(program::files(&scene) == before);

    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(infer(&file, &[]).failed(4).starts_with(&format!("{}: cannot ", file.display())));
    assert!(infer(&file.join("out"), &[]).failed(4).starts_with(&format!("{}: cannot ", file.join("out").display())));

    let mine = root.path().join("mine");
    fs::create_dir(&mine).unwrap();
    infer(&mine, &[]).done();
    fs::write(mine.join("notes.txt"), "x").unwrap();
    infer(&mine, &[]).done();
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "x").unwrap();
    infer(&other, &["--force"]).done();
    assert!(other.join("notes.txt").exists() && other.join("fused.ply").exists());
}

/// A read-only folder and a full disk, as far as they can be had without a privileged account.
#[cfg(target_os = "linux")]
#[test]
fn folders_that_take_no_files_are_told_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    // /proc takes no folders, not even from root.
    let ran = engine(["infer", text(&scene), "-o", "/proc/engine_out"]);
    assert!(ran.failed(4).starts_with("/proc/engine_out: cannot create the output folder: "), "{}", ran.stderr);

    // No file may grow beyond 1 KiB (two blocks of 512): the first map fails like on a full disk.
    let out = root.path().join("out");
    let shell = format!(
        "trap '' XFSZ; ulimit -f 2; exec {} infer {} -o {} --levels 1",
        env!("CARGO_BIN_EXE_engine"),
        text(&scene),
        text(&out)
    );
    let ran = Ran::from(Command::new("sh").args(["-c", &shell]).output().unwrap());
    let message = ran.failed(4).to_owned();
    assert!(message.starts_with(text(&out)) && message.contains("cannot write the "), "{message}");
    let left = program::files(&out);
    let left: Vec<&str> = left.keys().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(left, [".engine.json", ".engine.lock"], "nothing half-written");
    // With room again the same command goes through.
    engine(["infer", text(&scene), "-o", text(&out), "--levels", "1", "--quiet"]).done();
}

#[test]
fn every_error_has_its_exit_code_in_the_help() {
    let help = engine(["--help"]).done().stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(
        "0 done, 1 internal, 2 usage, 3 bad input, 4 files, 5 memory, 6 nothing survived, 7 not finite, 8 device, 9 \
         not done yet, 130 stopped"
    ));
    assert_eq!(engine(NOTHING).code, Some(2));
}
