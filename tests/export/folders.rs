//! Where exports go, what is refused, and what becomes of earlier ones.

use super::*;

#[test]
fn exports_are_the_same_every_time_and_old_files_go() {
    let run = Run::new(DVec3::ZERO);
    let everything = "las,laz,copc,e57,glb,xyz,pcd,ply,npz,exr,png16,tiff32,workspace,points3D,openmvs";
    run.export(&["--to", everything, "--threads", "1"]).done();
    let folder = run.path("out/export");
    // The lock names the process.
    let written = || {
        let mut written = files(&folder);
        written.remove(Path::new(".engine.lock"));
        written
    };
    let first = written();
    assert!(first.keys().all(|name| !name.to_str().unwrap().ends_with(".part")));
    let ran = run.export(&["--to", everything, "--threads", "3", "--json"]).done();
    let again = written();
    let other: Vec<&PathBuf> = first.keys().filter(|name| again.get(*name) != first.get(*name)).collect();
    assert!(other.is_empty() && again.len() == first.len(), "differ: {other:?}");
    let events = ran.events();
    assert_eq!(events[0]["event"], "start");
    let listed = json(&folder.join("export.json"));
    let of_format = |name: &str| -> Vec<String> {
        let files = listed["formats"][name]["files"].as_array().unwrap();
        files.iter().map(|file| file.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of_format("las"), ["cloud.las"]);
    let mut all: Vec<PathBuf> = everything.split(',').flat_map(of_format).map(PathBuf::from).collect();
    all.extend([".engine-export.json", "export.json"].map(PathBuf::from));
    all.sort();
    let there: Vec<PathBuf> = first.keys().cloned().collect();
    let missing: Vec<&PathBuf> = there.iter().filter(|file| !all.contains(file)).collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");

    // A run of fewer views: the files of the others go, and what is not exported again is told to be old.
    fs::write(folder.join("npz/mine.txt"), "mine").unwrap();
    run.edit(|manifest| {
        manifest["views"].as_array_mut().unwrap().pop();
    });
    let ran = run.export(&["--to", "npz"]).done();
    let left: Vec<String> = NAMES[..4].iter().map(|name| format!("{name}.npz")).collect();
    assert_eq!(names_in(&folder.join("npz")), [left, vec!["mine.txt".to_owned()]].concat());
    assert!(ran.stderr.contains("was exported from an earlier state of the run"), "{}", ran.stderr);
    assert!(folder.join("cloud.las").exists());
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let (run, other) = (Run::new(DVec3::ZERO), Run::new(DVec3::ZERO));
    let folder = run.path("mine");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cloud.las"), "mine").unwrap();
    let refused = run.export(&["--to", "las", "-o", text(&folder)]);
    assert!(refused.failed(3).contains("it is not empty and holds no exports of engine"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(folder.join("cloud.las")).unwrap(), "mine");
    run.export(&["--to", "las", "-o", text(&folder), "--force"]).done();
    let refused = other.export(&["--to", "xyz", "-o", text(&folder)]);
    assert!(refused.failed(3).contains("it holds the exports of another run"), "{}", refused.stderr);
    assert!(!folder.join("cloud.xyz").exists());
}

#[test]
fn what_is_missing_is_said_before_anything_is_written() {
    let run = Run::new(DVec3::ZERO);
    let says = |ran: Ran, code: i32, words: &str| {
        assert!(ran.failed(code).contains(words), "{}", ran.stderr);
        assert!(!run.path("out/export").exists());
    };
    says(engine(["export", text(&run.path("scene")), "--to", "las"]), 3, "no manifest.json");
    for (words, said) in [
        ("--to las,doc", "expected formats from las, laz"),
        ("--to las --crs EPSG:4326", "expected the code of a projected system"),
        ("--to las --photos gif", "expected png, jpeg or jpeg:QUALITY"),
        ("--to las --spacing 0", "expected a number above 0"),
    ] {
        let ran = run.export(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let cloud = run.path("out/fused.ply");
    let bytes = fs::read(&cloud).unwrap();
    fs::write(&cloud, &bytes[..bytes.len() - 5]).unwrap();
    says(run.export(&["--to", "las"]), 3, "but its header states");
    fs::remove_file(&cloud).unwrap();
    says(run.export(&["--to", "npz,las"]), 3, "a run without a cloud");
    // Maps alone need none.
    run.export(&["--to", "npz,workspace"]).done();
    assert!(!run.path("out/export/workspace/fused.ply").exists());
    fs::rename(run.path("scene"), run.path("elsewhere")).unwrap();
    let refused = run.export(&["--to", "workspace"]);
    assert!(refused.failed(3).contains("no folder with the scene"), "{}", refused.stderr);
    run.export(&["--to", "workspace", "--scene", text(&run.path("elsewhere"))]).done();
    fs::remove_file(run.path("maps/depth/00000003.pfm")).unwrap();
    let refused = run.export(&["--to", "exr"]);
    assert!(refused.failed(4).contains("00000003.pfm"), "{}", refused.stderr);
}

#[test]
fn a_run_is_exported_at_its_end() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("out"));
    plane_scene::write(&scene);
    let words = ["infer", text(&scene), "-o", text(&out), "--levels", "1", "--resolution", "quarter", "--quiet"];
    let infer = |more: &[&str]| command(words.iter().chain(more)).output().map(Ran::from).unwrap();
    let refused = infer(&["--depth-only", "--export", "npz,las"]);
    assert!(refused.failed(3).contains("--export las: a format of the cloud"), "{}", refused.stderr);
    assert!(!out.exists());
    infer(&["--min-views", "1", "--export", "npz,las"]).done();
    assert_eq!(names_in(&out.join("export/npz")), NAMES.map(|name| format!("{name}.npz")));
    let las = readers::Las::read(&out.join("export/cloud.las"));
    assert_eq!(las.points(las.data.clone()).len(), readers::ply(&out.join("fused.ply"), ["confidence", "views"]).len());
    // Also where nothing is left to do: the run is still recognised as finished.
    let made = || fs::metadata(out.join("manifest.json")).unwrap().modified().unwrap();
    let before = made();
    infer(&["--min-views", "1", "--export", "xyz"]).done();
    assert!(out.join("export/cloud.xyz").exists() && made() == before);
}
