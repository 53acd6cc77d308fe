//! Photos in memory give what the same photos in files give, to the bit.

use std::path::Path;

use engine::embedded;
use engine::files::{image, ply_points};
use engine::host::progress::{Progress, Style};
use engine::scene::camera::DepthRange;
use engine::scene::memory::{PhotoPoints, PhotoView};
use engine::scene::stored_photo::{Samples, StoredPhoto};
use engine::scene::{OpenOptions, Scene};

use crate::plane_scene::{self, NAMES};
use crate::program::{engine, files, text};

/// One level and a few planes: what is compared is not how good the maps are.
const OPTIONS: [(&str, &str); 4] = [("levels", "2"), ("planes", "16"), ("views", "3"), ("min_confidence", "0")];

fn given() -> Vec<embedded::Given> {
    OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The scene's cameras and photos as another program would have them.
fn views(scene: &Path, floats: bool) -> Vec<PhotoView> {
    let read = Scene::open(scene, &OpenOptions::default()).unwrap();
    let of_view = |view: &engine::scene::View| {
        let image::Pixels { size, rgb, alpha, .. } = image::read(&view.image).unwrap();
        let samples = match floats {
            true => Samples::Floats(rgb),
            // Of 8 bits: every value is a whole number of 255ths.
            false => Samples::Bytes(rgb.iter().map(|v| (v * 255.0).round() as u8).collect()),
        };
        let mask = alpha.map(|alpha| alpha.iter().map(|&a| a >= 0.5).collect());
        let row = |m: glam::DMat3, i: usize| m.row(i).to_array();
        PhotoView {
            name: view.name.clone(),
            photo: StoredPhoto::new("photo", size, samples, mask).unwrap(),
            k: [0, 1, 2].map(|i| row(view.camera.k, i)),
            r: [0, 1, 2].map(|i| row(view.camera.r, i)),
            t: view.camera.t.to_array(),
            range: Some(DepthRange { near: plane_scene::RANGE.0, far: plane_scene::RANGE.1 }),
            planes: None,
            sources: Some(view.sources.iter().map(|source| source.view).collect()),
        }
    };
    read.views.iter().map(of_view).collect()
}

#[test]
fn photos_in_memory_give_the_same_maps_and_cloud_as_files() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    // A part of every photo is masked by its alpha.
    plane_scene::make_transparent(&scene, |point| point.x > 0.4);
    let from_files = root.path().join("files");
    let options =
        OPTIONS.iter().flat_map(|(name, value)| [format!("--{}", name.replace('_', "-")), (*value).to_owned()]);
    let words = ["infer", text(&scene), "-o", text(&from_files), "--quiet"].map(str::to_owned);
    engine(words.into_iter().chain(options)).done();
    let expected = files(&from_files);
    for floats in [false, true] {
        let out = root.path().join(if floats { "floats" } else { "bytes" });
        let photos = Scene::of_photos(views(&scene, floats), PhotoPoints::default()).unwrap();
        embedded::infer_photos(photos, out.clone(), &given(), &Progress::new(Style::Quiet)).unwrap();
        let made = files(&out);
        let mut names: Vec<_> =
            NAMES.iter().flat_map(|n| ["depth", "confidence"].map(|k| format!("{k}/{n}.pfm"))).collect();
        names.push("fused.ply".to_owned());
        for name in names {
            assert!(made[Path::new(&name)] == expected[Path::new(&name)], "{name}, floats: {floats}");
        }
    }
}

#[test]
fn events_are_told_to_a_function_instead_of_standard_output() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let progress = Progress::to(std::sync::Arc::new(move |event: &serde_json::Value| {
        sender.lock().unwrap().send(event.clone()).unwrap();
    }));
    let photos = Scene::of_photos(views(&scene, true), PhotoPoints::default()).unwrap();
    embedded::infer_photos(photos, root.path().join("out"), &given(), &progress).unwrap();
    drop(progress);
    let events: Vec<serde_json::Value> = receiver.iter().collect();
    let steps = events.iter().filter(|e| e["event"] == "step" && e["stage"] == "depth").count();
    assert_eq!(steps, 2 * NAMES.len(), "one for each level of each view");
    assert_eq!(events[0]["scene"], "photos in memory");
    assert_eq!(events.last().unwrap()["event"], "summary");
}

#[test]
fn what_cannot_be_a_scene_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let good = views(&scene, false);
    let refused = |spoil: &dyn Fn(&mut Vec<PhotoView>)| {
        let mut views = good.clone();
        spoil(&mut views);
        Scene::of_photos(views, PhotoPoints::default()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|views| views.truncate(1)),
        "photos in memory: only one view with both a photo and a camera; expected at least two views of the same place"
    );
    assert!(refused(&|views| views[1].k[0][0] = -1.0).starts_with("photo 1: K: focal lengths -1 and 110; expected "));
    assert!(refused(&|views| views[2].r[0][0] += 0.1).starts_with("photo 2: rotation: not a rotation: "));
    assert!(refused(&|views| views[2].t[1] = f64::NAN).starts_with("photo 2: translation: "));
    assert_eq!(
        refused(&|views| views[0].sources = Some(vec![0])),
        "photo 0: sources: 0; expected indices of other photos, 0 to 4"
    );
    assert!(
        refused(&|views| views[3].name = views[0].name.clone())
            .starts_with("photo 3: the name 00000000 of photo 0, too")
    );
    assert!(refused(&|views| views[3].name = "../x".into()).starts_with("photo 3: the name `../x`; expected "));
    let range = DepthRange { near: 2.0, far: 1.0 };
    assert_eq!(refused(&|views| views[4].range = Some(range)), "photo 4: depth range: 2 to 1; expected 0 < near < far");
    let floats = StoredPhoto::new("photo 7", (1, 1), Samples::Floats(vec![0.0, 128.0, 1.0]), None);
    assert_eq!(
        floats.unwrap_err().to_string(),
        "photo 7: the value 128; expected floats from 0 to 1, or bytes from 0 to 255"
    );
    let nan = StoredPhoto::new("photo 7", (1, 1), Samples::Floats(vec![f32::NAN; 3]), None);
    assert!(nan.unwrap_err().to_string().starts_with("photo 7: the value NaN; "));

    // Options are those of the command line, in its words.
    let photos = || Scene::of_photos(good.clone(), PhotoPoints::default()).unwrap();
    let told = |name: &str, value: &str| {
        let options = [(name.to_owned(), value.to_owned())];
        let out = root.path().join("out");
        embedded::infer_photos(photos(), out, &options, &Progress::new(Style::Quiet)).unwrap_err().to_string()
    };
    assert_eq!(told("planes", "1"), "planes: 1; expected a whole number from 2 to 65536");
    assert_eq!(told("max_sde", "64"), "max_sde: no option of this name; expected an option; did you mean `max_side`?");
    assert_eq!(
        told("masks", "folder"),
        "masks: an option of how files are read; expected none of these with photos in memory"
    );
    let of_run = embedded::open_options(&[("max_side".to_owned(), "64".to_owned())]).unwrap_err().to_string();
    assert_eq!(of_run, "max_side: an option of a run; expected options of how a scene's files are read");
    assert!(told("roi", "auto").contains("no sparse points that a region of interest could be taken from"));
    assert!(!root.path().join("out").exists());
}

#[test]
fn a_region_of_interest_ends_the_cloud_of_photos_in_memory() {
    let root = tempfile::tempdir().unwrap();
    let scene = root.path().join("scene");
    plane_scene::write(&scene);
    let photos = Scene::of_photos(views(&scene, false), PhotoPoints::default()).unwrap();
    let roi = ("roi".to_owned(), "-0.3,-5,-5,0.2,5,50".to_owned());
    let out = root.path().join("out");
    let options: Vec<embedded::Given> = given().into_iter().chain([roi]).collect();
    embedded::infer_photos(photos, out.clone(), &options, &Progress::new(Style::Quiet)).unwrap();
    let cloud = ply_points::read(&out.join("fused.ply")).unwrap().points;
    assert!(cloud.len() > 50 && cloud.iter().all(|p| (-0.3..=0.2).contains(&p[0])), "{} points", cloud.len());
}
