//! A finished run is recognised without reading it: by sizes, times and inodes, unless all bytes are asked for.

use std::time::{Duration, SystemTime};

use super::together::small;
use super::*;

/// Views of the larger scene: as many as a machine renders and matches in a few seconds.
const MANY: usize = 60;

/// The last change of everything in a folder was a minute ago, as that of photos mostly was.
fn age(folder: &Path) {
    for name in files(folder).keys() {
        let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
}

/// The plane scene seen again and again: view i is the plane scene's view i mod 5, matched with the others of its five.
fn many(root: &Path) -> PathBuf {
    let (five, scene) = (root.join("five"), root.join("many"));
    plane_scene::write(&five);
    for folder in ["images", "cams"] {
        fs::create_dir_all(scene.join(folder)).unwrap();
    }
    let mut pairs = format!("{MANY}\n");
    for i in 0..MANY {
        let name = NAMES[i % 5];
        fs::copy(five.join(format!("images/{name}.png")), scene.join(format!("images/{i:08}.png"))).unwrap();
        fs::copy(five.join(format!("cams/{name}_cam.txt")), scene.join(format!("cams/{i:08}_cam.txt"))).unwrap();
        let first = i - i % 5;
        let others: Vec<String> = (first..first + 5).filter(|&o| o != i).map(|o| format!(" {o} 1")).collect();
        pairs += &format!("{i}\n4{}\n", others.concat());
    }
    fs::write(scene.join("pair.txt"), pairs).unwrap();
    age(&scene);
    scene
}

/// Changes a byte in the middle of a file and leaves its size, time and inode as they were.
fn tamper(file: &Path) {
    let time = fs::metadata(file).unwrap().modified().unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

const NOTHING_LEFT: &str =
    "an earlier run has made all of it, with the same options and from the same files: nothing is left to do";

fn is_recognised(ran: &Ran) -> bool {
    ran.events().iter().any(|event| event["event"] == "note" && event["text"] == NOTHING_LEFT)
}

#[test]
fn of_many_views_no_byte_is_read_again_and_verify_reads_them_all() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (many(root.path()), root.path().join("out"));
    let infer = |more: &[&str]| {
        let base = ["infer", text(&scene), "-o", text(&out), "--json", "--levels", "1"];
        engine(base.iter().chain(&small(&[])).chain(more)).done()
    };
    let first = infer(&[]);
    assert_eq!(computed(&first).len(), MANY);
    let before = files(&out);

    // Every photo and every result is another file now, but for what tells files apart.
    let views: Vec<String> = (0..MANY).map(|i| format!("{i:08}")).collect();
    for name in &views {
        tamper(&scene.join(format!("images/{name}.png")));
        for file in ["levels/0/depth", "levels/0/confidence", "depth", "confidence"] {
            tamper(&out.join(file).join(format!("{name}.pfm")));
        }
        tamper(&out.join(format!("preview/{name}.png")));
    }
    let tampered = files(&out);
    let again = infer(&[]);
    assert!(is_recognised(&again), "{}", again.stdout);
    assert_eq!(computed(&again), []);
    // What is known of the files may have grown: the first run ended with files that it had not looked at again.
    let own = [engine::files::lock::LOCK, engine::files::known_hashes::HASHES].map(PathBuf::from);
    let left = files(&out);
    let differs = |name: &&PathBuf| !own.contains(name) && left.get(*name) != tampered.get(*name);
    assert_eq!(tampered.keys().find(differs), None, "a recognised run changes nothing");
    assert_eq!(left.len(), tampered.len());
    // It tells what the run before has told.
    let (told, again) = (first.events().pop().unwrap(), again.events().pop().unwrap());
    for field in ["event", "command", "out", "depth_maps", "points", "funnel", "seconds", "outputs"] {
        assert_eq!(told[field], again[field], "{field}");
    }

    // The photos' bytes as they were, so that the results can be what they were.
    for name in &views {
        tamper(&scene.join(format!("images/{name}.png")));
    }
    let verified = infer(&["--verify"]);
    assert!(!is_recognised(&verified));
    assert_eq!(computed(&verified).len(), MANY);
    // Of a pair of level maps the first tells enough.
    let note = format!("{MANY} files of the size, time and inode of before have other bytes than before");
    assert!(verified.stdout.contains(&note), "{}", verified.stdout);
    let after = files(&out);
    let differs = |name: &&PathBuf| name.extension().is_some_and(|e| e != "json") && after[*name] != before[*name];
    assert_eq!(before.keys().filter(|name| !own.contains(name)).find(differs), None);
    assert!(is_recognised(&infer(&["--verify"])), "all bytes are right now");
}

#[test]
fn whatever_is_missing_or_other_is_made_again() {
    let place = Place::new();
    age(&place.scene());
    let options = small(&["--levels", "2", "--json", "--normals"]);
    place.infer("out", &options).done();
    let (out, scene) = (place.path("out"), place.scene());
    let before = results(&out);
    let again = |more: &[&str]| place.infer("out", &[&options[..], more].concat()).done();
    assert!(is_recognised(&again(&[])));
    for gone in [
        "fused.ply",
        "manifest.json",
        "depth/00000002.pfm",
        "preview/00000003.png",
        "normal/00000005.pfm",
        "levels/00000009.json",
        "levels/1/00000000.json",
        "levels/0/confidence/00000002.pfm",
        ".engine.finished.json",
    ] {
        fs::remove_file(out.join(gone)).unwrap();
        assert!(!is_recognised(&again(&[])), "{gone}");
        assert!(results(&out) == before, "{gone}");
        assert!(is_recognised(&again(&[])), "{gone}");
    }
    // What another program has written over a result, a cut file, one that only looks like the seal.
    for (file, bytes) in [("fused.ply", "mine"), ("preview/00000000.png", ""), (".engine.finished.json", "{}")] {
        fs::write(out.join(file), bytes).unwrap();
        assert!(!is_recognised(&again(&[])), "{file}");
    }
    // Without the hashes, and copied to other inodes, it is still the same: everything is read once.
    fs::remove_file(out.join(".engine.hashes.json")).unwrap();
    assert!(is_recognised(&again(&[])));
    for name in files(&scene).keys() {
        let photo = scene.join(name);
        let bytes = fs::read(&photo).unwrap();
        fs::remove_file(&photo).unwrap();
        fs::write(&photo, bytes).unwrap();
    }
    assert!(is_recognised(&again(&[])));
    // Other options, or another photo, are another run.
    for more in [&["--min-confidence", "0.5"][..], &["--depth-only"], &["--thin", "0.1"], &["--view", NAMES[1]]] {
        let ran = place.infer("out", &[&options[..], more].concat());
        assert!(!is_recognised(&ran), "{more:?}");
        assert_eq!(computed(&ran), []);
    }
    again(&[]);
    let photo = scene.join("images/00000005.png");
    let mut picture = image::open(&photo).unwrap().to_rgb8();
    picture.put_pixel(10, 10, image::Rgb([255, 0, 0]));
    picture.save(&photo).unwrap();
    assert_eq!(computed(&again(&[])).len(), 10, "all views have this one among their sources");
}

#[test]
fn views_whose_maps_are_as_they_were_are_not_drawn_again() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let options = small(&["--levels", "2"]);
    place.infer("out", &options).done();
    let out = place.path("out");
    let inodes = || {
        let file = |folder: &str, name: &str, ending: &str| out.join(folder).join(format!("{name}.{ending}"));
        NAMES.map(|name| {
            [file("preview", name, "png"), file("depth", name, "pfm"), file("confidence", name, "pfm")]
                .map(|file| fs::metadata(file).unwrap().ino())
        })
    };
    let before = (inodes(), results(&out));
    // Only the cloud is another one.
    let fused = [&options[..], &["--min-confidence", "0.6"]].concat();
    place.infer("out", &fused).done();
    assert_eq!(inodes(), before.0);
    // One preview is gone, and one is somebody else's.
    fs::remove_file(out.join("preview/00000002.png")).unwrap();
    fs::write(out.join("preview/00000003.png"), "mine").unwrap();
    place.infer("out", &options).done();
    let after = inodes();
    for (at, name) in NAMES.iter().enumerate() {
        let is_drawn = ["00000002", "00000003"].contains(name);
        assert_eq!(after[at] != before.0[at], is_drawn, "{name}");
    }
    assert!(results(&out) == before.1);
}

/// A folder that an older program has left has no hashes and no seal, and its records do not say what files were drawn
/// from.
#[test]
fn maps_of_an_earlier_version_are_taken_as_they_are() {
    let place = Place::new();
    let options = small(&["--levels", "2", "--json"]);
    place.infer("out", &options).done();
    let out = place.path("out");
    let before = results(&out);
    fs::remove_file(out.join(".engine.hashes.json")).unwrap();
    fs::remove_file(out.join(".engine.finished.json")).unwrap();
    for name in NAMES {
        let record = out.join(format!("levels/{name}.json"));
        let mut made = json(&record);
        assert!(made.as_object_mut().unwrap().remove("drawn_from").is_some());
        fs::write(&record, made.to_string()).unwrap();
    }
    let ran = place.infer("out", &options).done();
    assert_eq!(computed(&ran), []);
    assert!(results(&out) == before);
}
