//! Photos without cameras (`engine infer --calibrate`): how an installed COLMAP is run, with a stand-in that says and
//! writes what it would, and what the real one finds, where there is one.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::scene::colmap::scene::{Observation, observations};
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

#[path = "support/program.rs"]
mod program;

use program::{Ran, command, text};

/// The quickest run.
const QUICK: &str = "--resolution quarter --levels 1 --planes 8 --views 2 --depth-only --max-side 96";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with the example's photos, and a stand-in for COLMAP's program that does `work` (a shell script: $W is
/// the workspace, $P the photos, $MODEL a model of them).
struct Place {
    root: TempDir,
}

impl Place {
    fn new(work: &str) -> Self {
        let place = Self { root: TempDir::new().unwrap() };
        fs::create_dir(place.path("photos")).unwrap();
        for photo in fs::read_dir(repository().join("examples/scene/images")).unwrap() {
            let photo = photo.unwrap().path();
            fs::copy(&photo, place.path("photos").join(photo.file_name().unwrap())).unwrap();
        }
        place.does(work);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn does(&self, work: &str) {
        let model = repository().join("tests/data/example_colmap/binary");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = help ] && {{ echo 'COLMAP 9.9 -- Structure-from-Motion'; exit 0; }}\n\
             echo \"$@\" >> '{}'\nW=$3 P=$5 MODEL='{}'\n{work}\n",
            self.path("calls").display(),
            model.display()
        );
        fs::write(self.path("colmap"), script).unwrap();
        fs::set_permissions(self.path("colmap"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().count()
    }

    fn command(&self) -> Command {
        let (photos, out) = (self.path("photos"), self.path("out"));
        let mut command = command(["infer", text(&photos), "-o", text(&out), "--calibrate"]);
        command.args(QUICK.split(' ')).env("ENGINE_COLMAP", self.path("colmap"));
        command
    }

    fn run(&self) -> Ran {
        Ran::from(self.command().output().unwrap())
    }
}

const WORKS: &str = "\
echo 'Processed file [1/7]'; echo 'Processed file [7/7]' >&2
echo 'Matching block [1/1, 1/1]'; echo 'Registering image #3 (5)'
mkdir -p \"$W/sparse/0\" && cp \"$MODEL\"/*.bin \"$W/sparse/0\" && touch \"$W/database.db\"";

#[test]
fn photos_get_their_cameras_once() {
    let place = Place::new(WORKS);
    let ran = place.run().done();
    for words in [
        "COLMAP 9.9 looks for where 7 photos were taken, one camera for all",
        "found the cameras of 7 of 7 photos",
        "features 7/7",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert!(place.path("out/depth").read_dir().unwrap().count() == 7);
    let kept = place.path("out_cameras");
    let log = fs::read_to_string(kept.join("calibration.log")).unwrap();
    assert!(log.contains("Processed file [7/7]") && log.contains("Registering image #3 (5)"), "{log}");
    // A build without CUDA must not ask for a display.
    let said = fs::read_to_string(place.path("calls")).unwrap();
    assert!(said.contains("--dense 0 --single_camera 1 --use_gpu 0"), "{said}");

    let again = place.run().done();
    assert!(again.stderr.contains("an earlier run had COLMAP find the cameras of 7 of 7 photos"), "{}", again.stderr);
    assert!(again.stderr.contains("nothing is left to do"), "{}", again.stderr);
    assert_eq!(place.calls(), 1);
    // The results know where the cameras are.
    let manifest = fs::read_to_string(place.path("out/manifest.json")).unwrap();
    assert!(manifest.contains("out_cameras/sparse"), "{manifest}");
    let export = command(["export", text(&place.path("out")), "--to", "workspace"]).output().unwrap();
    Ran::from(export).done();

    // Other photos have other cameras.
    fs::remove_file(place.path("photos/00000006.jpg")).unwrap();
    let other = place.run().done();
    assert_eq!(place.calls(), 2, "{}", other.stderr);
}

#[test]
fn what_fails_is_one_line_and_the_next_run_begins_where_it_was() {
    let place = Place::new("echo 'Processed file [1/7]'; echo 'no space left for features' >&2; exit 3");
    let ran = place.run();
    let message = ran.failed(3);
    assert!(message.starts_with("COLMAP 9.9: it ended with exit status: 3"), "{message}");
    assert!(message.contains("no space left for features") && message.contains("calibration.log"), "{message}");
    assert!(!place.path("out").exists(), "results without cameras");
    place.does("true");
    let ran = place.run();
    assert!(ran.failed(3).contains("found no cameras for the photos; expected photos with texture"), "{}", ran.stderr);
    place.does(WORKS);
    place.run().done();
    assert_eq!(place.calls(), 3);

    // Nothing of the user's is taken for ours.
    let other = Place::new(WORKS);
    fs::create_dir(other.path("out_cameras")).unwrap();
    fs::write(other.path("out_cameras/notes.txt"), "mine").unwrap();
    let ran = other.run();
    assert!(ran.failed(3).contains("it is not empty and was not made by `engine infer --calibrate`"), "{}", ran.stderr);
    assert_eq!((other.calls(), fs::read_to_string(other.path("out_cameras/notes.txt")).unwrap().as_str()), (0, "mine"));

    // One photo, no program, and neither program nor Python.
    let few = Place::new(WORKS);
    (1..7).for_each(|i| fs::remove_file(few.path(&format!("photos/{i:08}.jpg"))).unwrap());
    assert!(few.run().failed(3).contains("1 photo; expected at least two"));
    let ran = Ran::from(place.command().env("ENGINE_COLMAP", "/nowhere/colmap").output().unwrap());
    let without = Place::new(WORKS);
    let ran_without =
        Ran::from(without.command().env_remove("ENGINE_COLMAP").env("PATH", "/nowhere").output().unwrap());
    // The first has its cameras already and asks for no program.
    ran.done();
    assert!(ran_without.failed(3).contains("neither COLMAP's program `colmap` on PATH nor pycolmap in Python"));
    let ran = Ran::from(without.command().env("ENGINE_COLMAP", "/nowhere/colmap").output().unwrap());
    assert!(ran.failed(3).contains("ENGINE_COLMAP=/nowhere/colmap: it cannot be run as COLMAP"), "{}", ran.stderr);
}

#[test]
fn a_stopped_run_leaves_no_process_behind() {
    let place = Place::new("echo $$ > \"$W/../pid\"; echo 'Processed file [1/7]'; exec sleep 600");
    let child = place.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = loop {
        match fs::read_to_string(place.path("pid")) {
            Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(!Path::new("/proc").exists() || !Path::new("/proc").join(&pid).exists(), "process {pid} is still there");
}

#[test]
fn models_elsewhere_are_the_same_scene() {
    let place = Place::new(WORKS);
    let data = repository().join("tests/data/example_colmap/text");
    let (photos, sparse) = (place.path("photos"), place.path("scene/sparse/0"));
    fs::create_dir_all(&sparse).unwrap();
    for part in ["cameras.txt", "images.txt", "points3D.txt"] {
        fs::copy(data.join(part), sparse.join(part)).unwrap();
    }
    let scene = place.path("scene");
    let open = |path: &Path, sparse: Option<&Path>, images: Option<&Path>| {
        let (sparse, images) = (sparse.map(Path::to_owned), images.map(Path::to_owned));
        Scene::open(path, &OpenOptions { sparse, images, ..OpenOptions::default() })
    };
    let expected = open(&scene, None, Some(&photos)).unwrap();
    let cameras = |scene: &Scene| scene.views.iter().map(|v| (v.name.clone(), v.camera)).collect::<Vec<_>>();
    for (path, model, images) in [
        (&photos, Some(&sparse), None),
        (&photos, Some(&scene.join("sparse")), None),
        (&scene, Some(&sparse), Some(&photos)),
        (&sparse, None, Some(&photos)),
    ] {
        let found = open(path, model.map(PathBuf::as_path), images.map(PathBuf::as_path)).unwrap();
        assert_eq!(cameras(&found), cameras(&expected), "{}", path.display());
        assert_eq!(found.points.len(), expected.points.len());
    }
    // images/ beside sparse/ is found from the model, too.
    fs::rename(&photos, scene.join("images")).unwrap();
    assert_eq!(cameras(&open(&sparse, None, None).unwrap()), cameras(&expected));
    let error = open(&scene, Some(&place.path("photos")), None).unwrap_err().to_string();
    assert!(error.contains("photos: no COLMAP model; expected cameras and images"), "{error}");
    // Photos alone: what to do.
    let error = open(&scene.join("images"), None, None).unwrap_err().to_string();
    assert!(error.contains("7 photos and no cameras") && error.contains("--calibrate"), "{error}");
}

/// The real program and the real library, where they are installed (ENGINE_REQUIRE_COLMAP: they must be).
#[test]
fn the_real_one_finds_cameras_of_rendered_photos() {
    let runs = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    let (program, library) = (runs("colmap", &["help"]), runs("python3", &["-c", "import pycolmap"]));
    let required = std::env::var_os("ENGINE_REQUIRE_COLMAP").is_some();
    assert!(program && library || !required, "colmap: {program}, pycolmap: {library}");
    for (there, name) in [(program, "COLMAP "), (library, "pycolmap ")] {
        if !there {
            eprintln!("skipped: {name}is not installed");
            continue;
        }
        let place = Place::new(WORKS);
        let mut command = place.command();
        command.env_remove("ENGINE_COLMAP");
        if name == "pycolmap " {
            // A folder of PATH in which there is Python and no COLMAP.
            let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
            let python = String::from_utf8(python.stdout).unwrap();
            command.env("PATH", Path::new(python.trim()).parent().unwrap());
        }
        let ran = Ran::from(command.output().unwrap()).done();
        assert!(ran.stderr.contains(&format!("note: {name}")), "{}", ran.stderr);
        let options = OpenOptions { sparse: Some(place.path("out_cameras/sparse")), ..OpenOptions::default() };
        let found = Scene::open(&place.path("photos"), &options).unwrap();
        assert_eq!(found.views.len(), 7, "{}", ran.stderr);
        // Points are seen where the cameras, as we read them, put them. (How near these are to those that the photos
        // were rendered with is COLMAP's affair: seven views and an unknown focal length leave percents open.)
        let mut errors = Vec::new();
        for (view, seen) in found.views.iter().zip(observations(&found, &options).unwrap()) {
            for Observation { pixel, point } in seen {
                let (expected, _) = view.camera.pixel(point).unwrap();
                let stored = view.lens.as_ref().map_or(Some(expected), |lens| lens.stored_pixel(expected));
                errors.extend(stored.map(|stored| stored.distance(pixel)));
            }
        }
        errors.sort_by(f64::total_cmp);
        // COLMAP keeps points within 4 pixels; keypoints are good to half a pixel.
        assert!(errors.len() > 1000, "{} points", errors.len());
        assert!(errors[errors.len() / 2] < 1.0, "{name}: {} px", errors[errors.len() / 2]);
    }
}
