//! Options from the command line, the environment, a file, a preset and the defaults, in this order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::plane_scene;
use crate::program::{Ran, command, json, text};

/// Runs the program in a folder, with variables.
fn run_in(folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut run = command(words);
    run.current_dir(folder);
    // Variables of whoever runs the tests must not decide.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINE_")) {
        run.env_remove(name);
    }
    run.envs(variables.iter().copied());
    Ran::from(run.output().unwrap())
}

/// What `engine config` prints: name, value, origin.
fn told(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let line = |line: &str| {
        let (setting, origin) = line.rsplit_once("  # ")?;
        let setting = setting.trim_start_matches("# ");
        let (name, value) = setting.split_once(" = ").unwrap_or((setting, ""));
        Some((name.trim().to_owned(), (value.trim().to_owned(), origin.to_owned())))
    };
    ran.stdout.lines().filter_map(line).collect()
}

const FILE: &str = "\
# Of all commands.
planes = 55
views = 6

[infer]
max-side = 77
range = [0.5, 12]
view = [\"a\", \"b\"]
normals = true
quality = 'fast'

[eval.depth]
interval = 2.5
";

#[test]
fn the_command_line_goes_before_the_environment_before_the_file_before_the_preset() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("engine.toml"), FILE).unwrap();
    let variables =
        [("ENGINE_PLANES", "44"), ("ENGINE_VIEWS", "4"), ("ENGINE_INFER_MIN_VIEWS", "2"), ("ENGINE_THREADS", "")];
    let ran = run_in(root.path(), &["config", "infer", "--planes", "33"], &variables).done();
    let told_of = told(&ran);
    for (name, value, origin) in [
        ("planes", "33", "command line"),
        ("views", "4", "ENGINE_VIEWS"),
        ("min-views", "2", "ENGINE_INFER_MIN_VIEWS"),
        ("max-side", "77", "engine.toml: line 6"),
        ("range", "\"0.5,12\"", "engine.toml: line 7"),
        ("view", "[\"a\", \"b\"]", "engine.toml: line 8"),
        ("normals", "true", "engine.toml: line 9"),
        ("quality", "\"fast\"", "engine.toml: line 10"),
        ("resolution", "\"half\"", "--quality fast"),
        ("min-confidence", "0.8", "default"),
        ("unrefined", "false", "default"),
        ("weights", "", "default: the built-in ones"),
        ("thin", "", "default: keep all"),
        ("threads", "", "default: one per processor"),
    ] {
        let (found, of) = told_of.get(name).unwrap_or_else(|| panic!("{name}: {}", ran.stdout));
        assert_eq!((found.as_str(), of.as_str()), (value, origin), "{name}: {}", ran.stdout);
    }
    // One command's table is not another's; a table in a table is of a command below.
    let of_fuse = told(&run_in(root.path(), &["config", "fuse"], &[]).done());
    assert_eq!(of_fuse["max-side"].0, "");
    let of_eval = told(&run_in(root.path(), &["config", "eval", "depth"], &[]).done());
    assert_eq!(of_eval["interval"], ("2.5".to_owned(), "engine.toml: line 13".to_owned()));
}

#[test]
fn what_config_prints_is_a_file_of_options() {
    let root = tempfile::tempdir().unwrap();
    let first = run_in(root.path(), &["config", "infer", "--quality", "high", "--range", "1,2", "--json"], &[]).done();
    fs::write(root.path().join("saved.toml"), &first.stdout).unwrap();
    let again = run_in(root.path(), &["--config", "saved.toml", "config", "infer"], &[]).done();
    let values = |ran: &Ran| -> BTreeMap<String, String> { told(ran).into_iter().map(|(k, (v, _))| (k, v)).collect() };
    assert_eq!(values(&first), values(&again), "{}", again.stdout);
    assert!(told(&again)["range"].1.starts_with("saved.toml: line "), "{}", again.stdout);
}

#[test]
fn a_run_takes_options_from_everywhere_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    fs::write(root.path().join("engine.toml"), "depth-only = true\n[infer]\nlevels = 1\nplanes = 8\nquiet = true\n")
        .unwrap();
    let words = ["infer", text(&scene), "-o", "out", "--json"];
    // --quiet of the file excludes --json of the command line, and gives way.
    let ran = run_in(root.path(), &words, &[("ENGINE_VIEWS", "2")]).done();
    let events = ran.events();
    let notes: Vec<&str> = events.iter().filter(|e| e["event"] == "note").filter_map(|e| e["text"].as_str()).collect();
    assert!(notes.contains(&"from the environment: --views (ENGINE_VIEWS)"), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("from engine.toml: ") && note.contains("--planes")), "{notes:?}");
    let parameters = &json(&root.path().join("out/manifest.json"))["parameters"];
    assert_eq!((&parameters["planes"], &parameters["views"]), (&8.into(), &2.into()));
    assert_eq!((&parameters["levels"], &parameters["depth_only"]), (&1.into(), &true.into()));

    // The file's --quiet holds where nothing excludes it; -v excludes it and tells all.
    let quiet = run_in(root.path(), &["infer", text(&scene), "-o", "out"], &[]).done();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let verbose = run_in(root.path(), &["infer", text(&scene), "-o", "out", "-v", "--planes", "8"], &[]).done();
    assert!(verbose.stderr.contains("option: planes = 8 (command line)\n"), "{}", verbose.stderr);
    assert!(verbose.stderr.contains("option: levels = 1 (engine.toml: line 3)\n"), "{}", verbose.stderr);
}

#[test]
fn what_does_not_fit_is_refused_by_its_place() {
    let root = tempfile::tempdir().unwrap();
    let refused = |file: &str, variables: &[(&str, &str)]| {
        fs::write(root.path().join("engine.toml"), file).unwrap();
        run_in(root.path(), &["infer", "scene"], variables).failed(3).to_owned()
    };
    assert_eq!(
        refused("\n[infer]\nmax-sid = 800\n", &[]),
        "engine.toml: line 3: the key `max-sid`; expected an option of `engine infer`: did you mean `max-side`?"
    );
    let table = refused("[infre]\nmax-side = 800\n", &[]);
    assert!(
        table.starts_with("engine.toml: line 1: the table `infre`; expected ") && table.contains("`infer`?"),
        "{table}"
    );
    assert_eq!(
        refused("[infer]\nplanes = 1", &[]),
        "engine.toml: line 2: planes: 1; expected a whole number from 2 to 65536 (as for --planes on the command line)"
    );
    assert_eq!(
        refused("", &[("ENGINE_SAMPLING", "log")]),
        "ENGINE_SAMPLING: log; expected one of linear, inverse (as for --sampling on the command line)"
    );
    // What is typed is not looked up elsewhere.
    let typed = run_in(root.path(), &["infer", "scene", "--sampling", "linear"], &[("ENGINE_SAMPLING", "log")]);
    assert!(!typed.stderr.contains("ENGINE_SAMPLING"), "{}", typed.stderr);
    // A variable that is nearly one is told by `config` only: others may have variables of such names.
    let ran = run_in(root.path(), &["config", "infer"], &[("ENGINE_MAX_SID", "800")]).done();
    assert!(
        ran.stdout.contains("# ENGINE_MAX_SID is no variable of an option; did you mean ENGINE_MAX_SIDE?"),
        "{}",
        ran.stdout
    );
}
