//! One scene in both layouts: the same cameras (tests/import.rs holds them to 1e-9), so the same maps and the same
//! cloud.

use super::*;

/// The example scene's photos with its COLMAP model in this form.
fn as_colmap(root: &Path, form: &str) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scene = root.join(form);
    for (from, to) in [
        (project.join("examples/scene/images"), scene.join("images")),
        (project.join("tests/data/example_colmap").join(form), scene.join("sparse/0")),
    ] {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    scene
}

#[test]
fn both_layouts_give_the_same_cloud() {
    let root = tempfile::tempdir().unwrap();
    let mvsnet = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let scenes = [mvsnet, as_colmap(root.path(), "text"), as_colmap(root.path(), "binary")];
    let runs = ["mvsnet", "text", "binary"].map(|name| root.path().join(format!("out_{name}")));
    for (scene, out) in scenes.iter().zip(&runs) {
        // One range for all: the cam files state their own, the model's follows from its points.
        let options = ["--range", "3.5,9", "--planes", "48", "--max-side", "256", "--levels", "2", "--views", "4"];
        engine(["infer", text(scene), "-o", text(out)].into_iter().chain(options)).done();
    }
    // The cameras' last f64 digits are lost on the way to the f32 of the homographies, so not a byte differs.
    let [mvsnet, text, binary] =
        runs.map(|out| (fs::read(out.join("fused.ply")).unwrap(), cloud(&out.join("fused.ply"))));
    assert!(mvsnet.1.1.len() > 1000, "{} points", mvsnet.1.1.len());
    assert!(mvsnet.0 == text.0, "{} and {} points", mvsnet.1.1.len(), text.1.1.len());
    assert!(mvsnet.0 == binary.0, "{} and {} points", mvsnet.1.1.len(), binary.1.1.len());
}

/// Photos may lie anywhere; results never leave their folder.
#[test]
fn results_of_photos_from_outside_stay_in_their_folder() {
    let root = tempfile::tempdir().unwrap();
    let scene = as_colmap(&root.path().join("deep/deeper"), "text");
    let model = scene.join("sparse/0/images.txt");
    let mut lines: Vec<String> = fs::read_to_string(&model).unwrap().lines().map(str::to_owned).collect();
    let names: Vec<String> = files(&scene.join("images")).into_keys().map(|name| text(&name).to_owned()).collect();
    let elsewhere = [format!("../../{}", names[0]), text(&root.path().join(&names[1])).to_owned()];
    for (name, new) in names.iter().zip(&elsewhere) {
        let line = lines.iter_mut().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        *line = line.replace(name, new);
        fs::rename(scene.join("images").join(name), scene.join("images").join(new)).unwrap();
    }
    fs::write(&model, lines.join("\n") + "\n").unwrap();
    let before: Vec<PathBuf> = files(root.path()).into_keys().collect();
    let out = root.path().join("out");
    let options = ["--resolution", "quarter", "--max-side", "64", "--levels", "1", "--planes", "8", "--depth-only"];
    let ran = engine(["infer", text(&scene), "-o", text(&out)].into_iter().chain(options)).done();
    let note = "note: 2 photos lie outside of the scene's folder, where the model's names lead (first: ";
    assert!(ran.stderr.lines().any(|line| line.starts_with(note)), "{}", ran.stderr);
    let is_new = |path: &PathBuf| !path.starts_with("out") && !before.contains(path);
    assert_eq!(files(root.path()).into_keys().find(is_new), None);
    for name in &names {
        let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
        assert!(out.join(format!("depth/{stem}.pfm")).is_file(), "{name}");
    }
}
