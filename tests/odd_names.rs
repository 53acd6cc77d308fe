//! Paths and names of photos that are no text: bytes that are not UTF-8, line breaks, quotes. File systems of Linux
//! allow them, and so does the program; its JSON files carry them without loss.

#![cfg(target_os = "linux")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::files::map::Map;
use engine::files::names::{from_json, in_json, readable};
use engine::files::pfm;
use engine::files::subfolders::Spread;
use engine::host::random::Random;
use engine::manifest::made::Made;
use engine::manifest::{MANIFEST, Manifest, SceneSummary, ViewSummary};
use serde_json::{Value, json};

#[path = "support/plane_scene.rs"]
mod plane_scene;
#[path = "support/program.rs"]
mod program;
#[path = "support/scene_files.rs"]
mod scene_files;

use program::{engine, files};

fn path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// Up to 40 bytes: of any kind, or those that escapes and JSON are made of.
fn random_path(random: &mut Random) -> PathBuf {
    const ODD: &[u8] = b"bytes:%%%/\"\\\n\r\xff\xc3\xa4\xe2\x82\x1b 09afAF";
    let count = random.below(40);
    let begin: &[u8] = if random.chance(0.2) { b"bytes:" } else { b"" };
    let plain = random.chance(0.3);
    let byte = |random: &mut Random| match random.chance(0.5) {
        true => ODD[random.below(ODD.len())],
        false => 1 + random.below(255) as u8,
    };
    let bytes = (0..count).map(|_| byte(random)).map(|byte| if plain { byte & 0x7f | 1 } else { byte });
    path(&[begin, &bytes.collect::<Vec<u8>>()].concat())
}

#[test]
fn json_carries_any_path_without_loss() {
    let mut random = Random::new(&[0x6e61]);
    let folder = tempfile::tempdir().unwrap();
    let (mut escaped, mut seen) = (0, std::collections::HashMap::new());
    for i in 0..5000 {
        let [scene, image] = [(); 2].map(|()| random_path(&mut random));
        let text = in_json(&image);
        assert_eq!(from_json(&text), image, "{text:?}");
        // Every string means one path.
        assert!(seen.insert(text.clone(), image.clone()).is_none_or(|other| other == image), "{text:?}");
        escaped += usize::from(text.starts_with("bytes:"));

        let manifest = Manifest {
            command: "infer".into(),
            scene: SceneSummary { path: scene.clone(), ..SceneSummary::default() },
            views: vec![ViewSummary { image: image.clone(), ..ViewSummary::default() }],
            folder: folder.path().to_owned(),
            ..Manifest::default()
        };
        let read: Manifest = serde_json::from_slice(&serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert!((&read.scene.path, &read.views[0].image) == (&scene, &image), "{scene:?} {image:?}");
        // Through the files, too.
        if i % 50 == 0 {
            manifest.write().unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap().unwrap(), manifest);
            let Value::Object(job) = json!({ "scene": in_json(&scene) }) else { panic!() };
            let made = Made { job, ..Made::default() };
            made.write(folder.path(), ("view", Spread::Flat)).unwrap();
            let read = Made::read(folder.path(), "view").unwrap();
            assert_eq!((from_json(read.job["scene"].as_str().unwrap()), &read), (scene, &made));
        }
    }
    assert!((1000..4500).contains(&escaped), "both kinds are there: {escaped}");
}

/// How the photos of the plane scene are called: names of twelve bytes, so that a model stays as long as it is.
type Name = fn(usize) -> Vec<u8>;

const PLAIN: Name = |i| plane_scene::NAMES[i].bytes().chain(*b".png").collect();
const ODD: Name = |i| [b"\xff\n\"' %", &[b'0' + i as u8, b'x'][..], b".png"].concat();
/// Text files have an image a line.
const ODD_IN_A_LINE: Name = |i| [b"\xff\t\"' %", &[b'0' + i as u8, b'x'][..], b".png"].concat();

/// The plane scene as a COLMAP model, or in MVSNet layout, with other names for its photos.
fn write(root: &Path, layout: &str, name: Name) {
    plane_scene::write(root);
    let model = root.join("sparse/0");
    let rendered = files(&root.join("images"));
    let mut views = plane_scene::scene();
    views.views.iter_mut().for_each(|view| view.camera = view.id);
    match layout {
        "binary" => views.write_colmap_binary(root, "sparse/0"),
        "text" => views.write_colmap_text(root, "sparse/0"),
        _ => {}
    }
    if layout != "mvsnet" {
        fs::remove_dir_all(root.join("cams")).unwrap();
    }
    for i in 0..plane_scene::NAMES.len() {
        let (before, after) = (path(&PLAIN(i)), path(&name(i)));
        fs::remove_file(root.join("images").join(&before)).unwrap();
        fs::write(root.join("images").join(after), &rendered[&before]).unwrap();
        for file in ["images.bin", "images.txt"].map(|file| model.join(file)) {
            let Ok(mut bytes) = fs::read(&file) else { continue };
            let at = bytes.windows(12).position(|window| window == PLAIN(i)).unwrap();
            bytes[at..at + 12].copy_from_slice(&name(i));
            fs::write(file, bytes).unwrap();
        }
    }
}

const OPTIONS: &str = "--range 2.6,5.6 --planes 16 --levels 1 --min-confidence 0.1 --min-views 2 --resolution quarter";

/// The words of a command, with these paths in the places of each `@`.
fn typed(words: &str, paths: &[&Path]) -> Vec<OsString> {
    let mut paths = paths.iter().map(|path| path.as_os_str().to_owned());
    words.split_whitespace().map(|word| if word == "@" { paths.next().unwrap() } else { word.into() }).collect()
}

#[test]
fn odd_names_give_the_same_cloud_as_plain_ones() {
    let root = tempfile::tempdir().unwrap();
    for (layout, odd) in [("binary", ODD), ("text", ODD_IN_A_LINE), ("mvsnet", ODD)] {
        let [plain_scene, plain_out] = ["scene", "out"].map(|name| root.path().join(layout).join(name));
        let home = root.path().join(layout).join(OsStr::from_bytes(b"bytes:\xff"));
        let [scene, out] = [&b"sc\xff\"e\nne"[..], b"o\xfeu't"].map(|name| home.join(OsStr::from_bytes(name)));
        write(&plain_scene, layout, PLAIN);
        write(&scene, layout, odd);
        let infer = |scene: &Path, out: &Path, more: &str| {
            engine(typed(&format!("infer @ -o @ {OPTIONS} {more}"), &[scene, out]))
        };
        infer(&plain_scene, &plain_out, "").done();
        let events = infer(&scene, &out, "--json").done().events();
        let start = events.iter().find(|event| event["event"] == "start").unwrap();
        assert_eq!(from_json(start["scene"].as_str().unwrap()), scene, "{layout}");
        assert_eq!(from_json(start["out"].as_str().unwrap()), out, "{layout}");
        assert!(fs::metadata(plain_out.join("fused.ply")).unwrap().len() > 1000, "{layout}");
        let cloud = |out: &Path| fs::read(out.join("fused.ply")).unwrap();
        assert!(cloud(&plain_out) == cloud(&out), "{layout}");

        let manifest = Manifest::read(&out).unwrap().unwrap();
        assert_eq!(manifest.scene.path, dunce::canonicalize(&scene).unwrap(), "{layout}");
        for (i, view) in manifest.views.iter().enumerate() {
            assert_eq!(view.image, scene.join("images").join(path(&odd(i))), "{layout}");
            assert_eq!(view.name, readable(path(&odd(i)).file_stem().unwrap()), "{layout}");
            assert!(out.join(format!("depth/{}.pfm", view.name)).is_file(), "{layout}: {}", view.name);
        }

        // What is there is found again, by this command and the others.
        let again = infer(&scene, &out, "--json").done().events();
        assert!(again.iter().all(|event| event["stage"] != "depth" || event["reused"] != false), "{again:?}");
        let fused = home.join("fused");
        let ran =
            engine(typed("fuse @ --scene @ -o @ --min-views 2 --min-confidence 0.1", &[&out, &scene, &fused])).done();
        assert!(ran.stderr.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", ran.stderr);
        assert!(Manifest::read(&fused).unwrap().unwrap().points > 0, "{layout}");
        // What the doctor finds of so small a scene is its own affair.
        let doctor = engine(typed("doctor @ --run @ --json", &[&scene, &out]));
        let measured = engine(typed("eval depth @ --truth @ --json", &[&out, &out])).done();
        let told = [(doctor, "scene", &scene), (measured, "maps", &out)];
        for (ran, field, path) in told {
            let events = ran.events();
            let named = events.iter().find_map(|event| event[field].as_str());
            assert_eq!(named.map(from_json).as_ref(), Some(path), "{events:?}");
        }
    }
}

#[test]
fn other_commands_take_odd_paths() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| root.path().join(OsStr::from_bytes(name));
    let (scenes, run) = (at(b"sce\xffnes"), at(b"r\xffun"));
    engine(typed("synth @ --views 3 --size 64x64", &[&scenes])).done();
    let scene = scenes.join("scene_00000");
    let mut data = OsString::from("scenes:");
    data.push(&scene);
    let words = "train @ --steps 1 --planes 40 --batch 1 --views 2 --data @ --validation @";
    let train = || engine(typed(words, &[&run, data.as_ref(), data.as_ref()])).done();
    train();
    // The record says the same to the second run.
    train();
    let options: Value = program::json(&run.join("train.json"));
    assert_eq!(options["options"]["data"][0], in_json(data.as_ref()));
    let weights = run.join("weights.safetensors");
    let info = engine(typed("info --json --weights @", &[&weights])).done();
    assert_eq!(from_json(info.events()[0]["weights"].as_str().unwrap()), weights);
    let [cloud, numbers, plot] = [&b"clo\xffud.ply"[..], b"numb\xffers.json", b"pl\xffot.svg"].map(at);
    fs::copy(scene.join("truth.ply"), &cloud).unwrap();
    engine(typed("eval cloud @ @ --out @ --plot @", &[&cloud, &cloud, &numbers, &plot])).done();
    assert_eq!(from_json(program::json(&numbers)["cloud"].as_str().unwrap()), cloud);
    assert!(plot.is_file());
}

/// The text files of the MVSNet layout hold numbers only; what is no text in them is told in one line.
#[test]
fn text_that_must_be_text_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "mvsnet", PLAIN);
    let pairs = root.path().join("pair.txt");
    fs::write(&pairs, b"1\n\xff\n").unwrap();
    let ran = engine(typed("infer @", &[root.path()]));
    let expected = format!("{}: byte 2 is not text (UTF-8); expected a text file", pairs.display());
    assert_eq!(ran.failed(3), expected);
    assert!(!root.path().join(MANIFEST).exists());
}

/// A map of another program whose name is no text cannot be told a view's; it is not passed over in silence.
#[test]
fn maps_whose_names_are_no_text_are_told() {
    let folder = tempfile::tempdir().unwrap();
    plane_scene::write(&folder.path().join("scene"));
    let maps = folder.path().join("maps/depth");
    fs::create_dir_all(&maps).unwrap();
    for view in plane_scene::scene().views {
        let mut map = Map::filled(24, 16, 0.0);
        for (i, z) in map.data.iter_mut().enumerate() {
            // Centres of blocks of 4 x 4 pixels.
            let [x, y] = [i % 24, i / 24].map(|at| 4.0 * at as f64 + 1.5);
            *z = plane_scene::depth(&view, x, y) as f32;
        }
        pfm::write(&maps.join(format!("{:08}.pfm", view.id)), &map).unwrap();
    }
    fs::copy(maps.join("00000000.pfm"), maps.join(path(b"caf\xe9.pfm"))).unwrap();
    let [scene, maps, out] = ["scene", "maps", "out"].map(|name| folder.path().join(name));
    let ran = engine(typed("fuse @ --scene @ -o @", &[&maps, &scene, &out])).done();
    let told = "passed over, whose names are not UTF-8 (first: caf%E9.pfm)";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
}
