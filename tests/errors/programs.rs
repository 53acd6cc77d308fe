//! Weights, results of earlier runs, training, rendering, measuring, and what was typed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine::files::map::Map;
use engine::files::pfm;
use engine::net::weights::Checkpoint;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::plane_scene;
use crate::spoilt_scenes::truncate;
use crate::table::{Case, Group, How, NOTHING, spoilt, told};

pub fn groups() -> Vec<Group> {
    vec![
        weights(),
        folders(),
        training(),
        scenes_to_train_on(),
        dtu_to_train_on(),
        meshes(),
        others(),
        views(),
        typed(),
        options_from_a_file(),
    ]
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let file = root.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

fn scene(root: &Path) {
    plane_scene::write(&root.join("scene"));
}

/// The built-in weights with some tensors or metadata otherwise: a name, and what becomes of it.
fn changed(root: &Path, tensor: &str, to: Option<(&[usize], f32)>, metadata: &[(&str, &str)]) {
    let bytes = Checkpoint::built_in_file();
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut said: HashMap<String, String> = header.metadata().clone().unwrap();
    said.extend(metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    let file = SafeTensors::deserialize(bytes).unwrap();
    let new = to.map(|(shape, value)| (shape.to_vec(), value.to_le_bytes().repeat(shape.iter().product())));
    let mut views: Vec<(String, TensorView)> = Vec::new();
    for (name, view) in file.iter() {
        match &new {
            _ if name != tensor => views.push((name.to_owned(), view)),
            None => {}
            Some((shape, bytes)) => {
                views.push((name.to_owned(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
            }
        }
    }
    if let (Some((shape, bytes)), false) = (&new, views.iter().any(|(name, _)| name == tensor)) {
        views.push((tensor.to_owned(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    }
    put(root, "w.safetensors", safetensors::serialize(views, Some(said)).unwrap());
}

/// A bias of the network and its length; the first layer's norm has one.
const BIAS: (&str, [usize; 1]) = ("features.stage1.0.bn.bias", [8]);

fn weights() -> Group {
    fn built_in(root: &Path) {
        put(root, "w.safetensors", Checkpoint::built_in_file());
    }
    let calibrate = "make the fit again with `engine calibrate`";
    let cases = vec![
        spoilt("check the name of the file", |root| fs::remove_file(root.join("w.safetensors")).unwrap()),
        spoilt("", |root| put(root, "w.safetensors", "")),
        spoilt("", |root| put(root, "w.safetensors", "x")),
        spoilt("", |root| put(root, "w.safetensors", "no weights, but a text")),
        spoilt("save it with safetensors.torch.save_file", |root| put(root, "w.safetensors", b"PK\x03\x04weights")),
        spoilt("copy the file again", |root| truncate(root, "w.safetensors", 100_000)),
        spoilt("", |root| {
            let bytes = [0; 4];
            let view = TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
            put(root, "w.safetensors", safetensors::serialize([("layer1.weight", view)], None).unwrap());
        }),
        spoilt("", |root| changed(root, BIAS.0, None, &[])),
        spoilt("", |root| changed(root, BIAS.0, Some((&[3], 0.0)), &[])),
        spoilt("", |root| changed(root, BIAS.0, Some((&BIAS.1, f32::NAN)), &[])),
        spoilt("", |root| changed(root, "features.stage1.0.bn.running_var", Some((&BIAS.1, -1.0)), &[])),
        spoilt("", |root| changed(root, "features.of.others", Some((&[3], 0.0)), &[])),
        spoilt("", |root| changed(root, "", None, &[("aggregation", "sum")])),
        spoilt(calibrate, |root| changed(root, "", None, &[("confidence", "{")])),
        spoilt(calibrate, |root| changed(root, "", None, &[("confidence", r#"{"quarter":[],"half":[],"full":[]}"#)])),
        spoilt("put the file itself there", |root| {
            fs::remove_file(root.join("w.safetensors")).unwrap();
            std::os::unix::fs::symlink("/dev/zero", root.join("w.safetensors")).unwrap();
        }),
    ];
    Group {
        title: "Weights",
        advice: "give weights that `engine train` wrote",
        write: built_in,
        run: "info --weights w.safetensors",
        cases,
    }
}

fn folders() -> Group {
    const INFER: &str = "infer scene -o out --depth-only --levels 1 --resolution quarter --planes 8";
    let other = "choose another folder with -o";
    let cases = vec![
        told(other, "infer scene -o /proc/engine_out"),
        spoilt(other, |root| put(root, "out", "a file")),
        spoilt(other, |root| put(root, "out/letter.txt", "dear")),
        spoilt(other, |root| put(root, "out/.engine.json", r#"{"program":"engine","scene":"/another/scene"}"#)),
        told("give the folder of the scene", "infer none"),
        Case {
            run: Some("synth out --views 2 --size 32x32"),
            ..spoilt(other, |root| put(root, "out/letter.txt", "dear"))
        },
        Case {
            run: Some("synth out --views 2 --size 32x32"),
            ..spoilt("give the same options, or another folder", |root| {
                put(root, "out/synth.json", r#"{"program":"engine","seed":1}"#);
            })
        },
        Case {
            run: Some("doctor scene --run out --no-photos"),
            ..spoilt("give the folder of a run", |root| fs::create_dir(root.join("out")).unwrap())
        },
        Case {
            run: Some("doctor out"),
            ..spoilt("do what each problem says", |root| fs::create_dir(root.join("out")).unwrap())
        },
        Case { how: How::FullOutput, ..told("make room there", "info") },
        Case {
            how: How::Interrupted,
            ..told("run the same command again", "synth out --scenes 10000 --views 2 --size 64x64")
        },
    ];
    Group { title: "Folders and outputs", advice: "", write: scene, run: INFER, cases }
}

fn training() -> Group {
    const TRAIN: &str = "train run --steps 1 --size 64x64 --planes 40 --views 2 --validation-views 1 --batch 1";
    /// What a run leaves; trained once for all cases.
    fn earlier(root: &Path) {
        static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let mut command = crate::program::command(TRAIN.split_whitespace());
            assert!(command.current_dir(folder.path()).output().unwrap().status.success());
            crate::program::files(folder.path())
        });
        files.iter().for_each(|(name, bytes)| put(root, name.to_str().unwrap(), bytes));
    }
    let anew = "give --fresh to begin anew, or another folder";
    let cases = vec![
        told("give one of them", "train run --l1 0 --cross-entropy 0"),
        told("give more --planes or a larger --size", "train run --steps 1 --size 64x64 --planes 16"),
        Case { write: Some(NOTHING), ..spoilt("choose another folder", |root| put(root, "run/letter.txt", "dear")) },
        Case {
            run: Some(
                "train run --steps 1 --size 64x64 --planes 40 --views 2 --validation-views 1 --batch 1 --rate 0.5",
            ),
            ..spoilt(anew, NOTHING)
        },
        spoilt(anew, |root| put(root, "run/train.json", "{")),
        spoilt(anew, |root| put(root, "run/train.json", "{}")),
        spoilt(anew, |root| put(root, "run/state.safetensors", "rubbish")),
        spoilt(anew, |root| {
            let file = root.join("run/state.safetensors");
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        spoilt(anew, |root| fs::remove_file(root.join("run/state.safetensors")).unwrap()),
        Case {
            run: Some("train run --steps 2 --size 64x64 --planes 40 --views 2 --validation-views 1 --batch 1"),
            ..spoilt("take the line away", |root| put(root, "run/log.jsonl", "not JSON\n{}\n"))
        },
        Case {
            run: Some(
                "train tuned --init run/weights.safetensors --aggregation mean --steps 1 --size 64x64 --planes 40 \
                 --validation-views 1",
            ),
            ..spoilt("give the same --aggregation, --difference and --decoder", NOTHING)
        },
        Case {
            write: Some(NOTHING),
            ..told(
                "give a lower --rate or a --clip",
                "train run --steps 3 --size 64x64 --planes 40 --views 2 --validation-views 1 --batch 1 --rate 1e30 \
                 --clip 0 --warmup 0 --threads 1",
            )
        },
    ];
    Group { title: "Training", advice: "", write: earlier, run: TRAIN, cases }
}

fn scenes_to_train_on() -> Group {
    fn with_truth(root: &Path) {
        scene(root);
        fs::create_dir(root.join("scene/depths")).unwrap();
        for name in plane_scene::NAMES {
            pfm::write(&root.join(format!("scene/depths/{name}.pfm")), &Map::filled(24, 16, 4.0)).unwrap();
        }
    }
    fn map(root: &Path, (width, height): (usize, usize), value: f32) {
        for name in plane_scene::NAMES {
            pfm::write(&root.join(format!("scene/depths/{name}.pfm")), &Map::filled(width, height, value)).unwrap();
        }
    }
    let cases = vec![
        spoilt("check the name of the folder", |root| fs::remove_dir_all(root.join("scene")).unwrap()),
        spoilt("give a folder with scenes", |root| fs::remove_dir_all(root.join("scene/cams")).unwrap()),
        spoilt("add the true depth", |root| fs::remove_dir_all(root.join("scene/depths")).unwrap()),
        spoilt("add the true depth", |root| {
            fs::remove_dir_all(root.join("scene/depths")).unwrap();
            fs::create_dir(root.join("scene/depths")).unwrap();
        }),
        spoilt("resample the maps", |root| map(root, (48, 32), 4.0)),
        spoilt("give maps and cameras one unit", |root| map(root, (24, 16), 4000.0)),
        Case {
            run: Some(
                "train run --data scenes:scene --validation scenes:scene --steps 1 --planes 40 --views 2 --batch 1 \
                 --max-side 3",
            ),
            ..spoilt("give a larger --max-side", NOTHING)
        },
        spoilt("leave the view out", |root| {
            for name in plane_scene::NAMES {
                let file = root.join(format!("scene/cams/{name}_cam.txt"));
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, &text[..text.rfind("2.6").unwrap()]).unwrap();
            }
            map(root, (24, 16), 0.0);
        }),
    ];
    Group {
        title: "Scenes to train on",
        advice: "",
        write: with_truth,
        run: "train run --data scenes:scene --validation scenes:scene --steps 1 --planes 40 --views 2 --batch 1",
        cases,
    }
}

fn dtu_to_train_on() -> Group {
    fn dtu(root: &Path) {
        scene(root);
        for (folder, file) in [("Rectified", "rect_001_0_r5000.png"), ("Depths", "depth_map_0000.pfm")] {
            put(root, &format!("dtu/{folder}/scan2_train/{file}"), "");
        }
        put(root, "dtu/Cameras/pair.txt", fs::read(root.join("scene/pair.txt")).unwrap());
        for name in plane_scene::NAMES {
            let camera = fs::read(root.join(format!("scene/cams/{name}_cam.txt"))).unwrap();
            put(root, &format!("dtu/Cameras/train/{name}_cam.txt"), camera);
        }
    }
    let cases = vec![
        spoilt("", |root| fs::remove_dir_all(root.join("dtu/Cameras")).unwrap()),
        spoilt("", |root| fs::remove_file(root.join("dtu/Cameras/pair.txt")).unwrap()),
        spoilt("", |root| put(root, "dtu/Cameras/pair.txt", "1\n0\n0\n")),
        spoilt("", |root| fs::remove_dir_all(root.join("dtu/Rectified")).unwrap()),
        spoilt("", |root| {
            let file = root.join("dtu/Cameras/train/00000003_cam.txt");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, &text[..text.find("2.6").unwrap()]).unwrap();
        }),
        spoilt("", NOTHING),
        spoilt("", |root| {
            for (at, name) in plane_scene::NAMES.iter().enumerate() {
                let id: usize = name.parse().unwrap();
                let photo = fs::read(root.join(format!("scene/images/{name}.png"))).unwrap();
                (0..7).for_each(|light| {
                    put(root, &format!("dtu/Rectified/scan2_train/rect_{:03}_{light}_r5000.png", id + 1), &photo);
                });
                let map = Map::filled(48 + at, 32, 4.0);
                pfm::write(&root.join(format!("dtu/Depths/scan2_train/depth_map_{id:04}.pfm")), &map).unwrap();
            }
        }),
    ];
    Group {
        title: "DTU's training set",
        advice: "unpack the training set of MVSNet again",
        write: dtu,
        run: "train run --data dtu:dtu --steps 1 --planes 40 --views 2 --batch 1",
        cases,
    }
}

fn meshes() -> Group {
    const FACES: &str = "v 0 0 0\nv 1 0 0\nv 0 1 0\n";
    let cases = vec![
        told("check the name of the file", "synth out --views 2 --size 32x32 --mesh none.obj"),
        told("write the mesh as OBJ or PLY", "synth out --views 2 --size 32x32 --mesh a.stl"),
        spoilt("", |root| put(root, "a.obj", "")),
        spoilt("", |root| put(root, "a.obj", "v 0 0\n")),
        spoilt("", |root| put(root, "a.obj", "v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n")),
        spoilt("", |root| put(root, "a.obj", format!("{FACES}f 1 2 9\n"))),
        spoilt("", |root| put(root, "a.obj", format!("{FACES}f 1 2 -4\n"))),
        spoilt("", |root| put(root, "a.obj", format!("{FACES}vn 0 0 1\nf 1//6148914691236517206 2//1 3//1\n"))),
        spoilt("", |root| put(root, "a.obj", format!("{FACES}vt 0 0\nf 1/1 2/-2 3/1\n"))),
        spoilt("", |root| put(root, "a.obj", vec![b'#'; (1 << 20) + 1])),
        Case {
            run: Some("synth out --views 2 --size 32x32 --mesh a.ply"),
            ..spoilt("", |root| {
                put(root, "a.ply", "ply\nformat ascii 1.0\nelement vertex 4000000000\nproperty float x\nend_header\n");
            })
        },
        Case {
            run: Some("synth out --views 2 --size 32x32 --mesh a.ply"),
            ..spoilt("", |root| put(root, "a.ply", "plx\n"))
        },
        told("check the name of the folder", "synth out --views 2 --size 32x32 --textures none"),
        Case {
            run: Some("synth out --views 2 --size 32x32 --textures photos"),
            ..spoilt("give a folder of photos", |root| fs::create_dir(root.join("photos")).unwrap())
        },
    ];
    Group {
        title: "Meshes and textures",
        advice: "write the mesh again",
        write: |root| put(root, "a.obj", format!("{FACES}f 1 2 3\n")),
        run: "synth out --views 2 --size 32x32 --mesh a.obj",
        cases,
    }
}

fn others() -> Group {
    const BENCH: &str = "bench table3 --device cpu --width 64 --height 48 --planes 16 --views 2 --repetitions 1";
    /// Images, intrinsics and poses of one view more or less than there are, and depths.
    fn inputs(root: &Path, views: usize, value: f32) {
        let bytes = |count: usize| value.to_le_bytes().repeat(count);
        let (images, k, e, depths) = (bytes(views * 48 * 64 * 3), bytes(views * 9), bytes(views * 16), bytes(16));
        let view = |shape: Vec<usize>, bytes| TensorView::new(Dtype::F32, shape, bytes).unwrap();
        let file = [
            ("images", view(vec![views, 48, 64, 3], &images)),
            ("k", view(vec![views, 3, 3], &k)),
            ("e", view(vec![views, 4, 4], &e)),
            ("depths", view(vec![16], &depths)),
        ];
        put(root, "in.safetensors", safetensors::serialize(file, None).unwrap());
    }
    const WITH: &str = "bench table3 --device cpu --inputs in.safetensors --repetitions 1";
    let with = |advice, spoil| Case { run: Some(WITH), ..spoilt(advice, spoil) };
    let write = "write the file as --help says";
    let cases = vec![
        told("give multiples of 4", "bench table3 --device cpu --width 66 --height 48"),
        told(
            "measure a smaller size",
            "bench table3 --device cpu --width 40000 --height 40000 --planes 1024 --views 2",
        ),
        with("check the name of the file", NOTHING),
        with(write, |root| put(root, "in.safetensors", "x")),
        with(write, |root| {
            let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
            put(root, "in.safetensors", safetensors::serialize([("k", view)], None).unwrap());
        }),
        with(write, |root| inputs(root, 1, 1.0)),
        with(write, |root| inputs(root, 2, f32::NAN)),
    ];
    Group { title: "Measuring speed", advice: "", write: NOTHING, run: BENCH, cases }
}

fn views() -> Group {
    const CLOUD: &str = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n\
                         property float z\nend_header\n1 2 3\n";
    let name = "check the name of the file or folder";
    let cases = vec![
        told(name, "view none --no-open"),
        told(name, "view . --no-open"),
        told("", "view cloud.ply --no-open --host 0.0.0.0"),
        // An address that is kept for documentation is no machine's.
        told("", "view cloud.ply --no-open --host 192.0.2.1 --anyone --port 8000"),
        spoilt("give a cloud with vertices", |root| put(root, "cloud.ply", "a letter\n")),
    ];
    Group {
        title: "Looking at results",
        advice: "leave --host away, or give an address of this machine",
        write: |root| put(root, "cloud.ply", CLOUD),
        run: "view cloud.ply --no-open",
        cases,
    }
}

fn typed() -> Group {
    let cases = vec![
        told("", "view out --host example.org"),
        told("", "view out --port 70000"),
        told("", "infer"),
        told("", "infer scene --planes 1"),
        told("", "infer scene --views 1"),
        told("", "infer scene --range 5,2"),
        told("", "infer scene --min-confidence 2"),
        told("", "infer scene --roi 0,0,0,1,1,-1"),
        told("", "infer scene --levels 0"),
        told("", "infer scene --device tpu"),
        told("", "infer scene --device cuda:0,cuda:0"),
        told("", "infer scene --device cpu,cuda:0"),
        told("", "infer scene --device cuda:all,cuda:1"),
        told("", "infer scene --device cuda:0,cuda:x"),
        told("", "infer scene --memory 0"),
        told("", "infer scene --colour red"),
        told("", "fuse maps --scene scene --method magic"),
        told("", "fuse maps --scene scene --sweep min-views=2"),
        told("", "eval cloud a.ply b.ply --plot a.png"),
        told("", "eval cloud a.ply b.ply --thresholds 1,0"),
        told("", "eval dtu x --data d --scans some"),
        told("", "synth out --size 1x1"),
        told("", "train run --data dtu:"),
        told("", "train run --data synth@0"),
        told("", "train run --views 5-3"),
        told("", "train run --size 66x64"),
        told("", "train run --steps 5 --epochs 1"),
    ];
    Group {
        title: "What was typed",
        advice: "correct the words; `engine COMMAND --help` lists them",
        write: NOTHING,
        run: "",
        cases,
    }
}

fn options_from_a_file() -> Group {
    fn file(root: &Path) {
        put(root, "engine.toml", "[infer]\nmax-side = 800\n");
    }
    let cases = vec![
        spoilt("", |root| put(root, "engine.toml", "[infer]\nmax-sde = 800\n")),
        spoilt("", |root| put(root, "engine.toml", "[infre]\nmax-side = 800\n")),
        spoilt("", |root| put(root, "engine.toml", "colour = \"red\"\n")),
        spoilt("", |root| put(root, "engine.toml", "[infer]\nplanes = 1\n")),
        spoilt("", |root| put(root, "engine.toml", "[infer]\nsampling = \"log\"\n")),
        spoilt("", |root| put(root, "engine.toml", "planes = 2026-11-27\n")),
        spoilt("", |root| put(root, "engine.toml", "planes = = 1\n")),
        spoilt("", |root| put(root, "engine.toml", b"# \xff\n")),
        told("", "--config none.toml infer scene"),
        told("", "config frobnicate"),
    ];
    Group {
        title: "Options from a file",
        advice: "correct the line; `engine config COMMAND` prints every option with its value",
        write: file,
        run: "infer scene",
        cases,
    }
}
