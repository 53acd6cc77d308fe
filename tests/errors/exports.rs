//! Exports of a finished run.

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::map::Map;
use engine::files::pfm;
use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;
use engine::mesh::surface::Quads;
use engine::mesh::tile_part::Part;
use serde_json::{Value, json};

use crate::plane_scene;
use crate::program;
use crate::table::{Case, Group, NOTHING, spoilt, told};

pub fn groups() -> Vec<Group> {
    vec![exports(), meshes(), mesh_tiles(), maps(), words()]
}

/// A run as its manifest, its maps and its cloud tell of it.
fn finished(root: &Path) {
    plane_scene::write(&root.join("scene"));
    let view = |name: &str| {
        json!({
            "name": name, "map_size": [24, 16], "map_k": [[27.5, 0, 11.8125], [0, 27.5, 7.9375], [0, 0, 1]],
            "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "translation": [0, 0, 4],
        })
    };
    let manifest = json!({
        "program": "engine", "command": "infer", "scene": { "path": "scene" }, "parameters": {},
        "views": plane_scene::NAMES.map(view),
    });
    fs::create_dir_all(root.join("out/depth")).unwrap();
    fs::create_dir(root.join("out/confidence")).unwrap();
    fs::write(root.join("out/manifest.json"), manifest.to_string()).unwrap();
    for name in plane_scene::NAMES {
        for (kind, value) in [("depth", 4.0), ("confidence", 0.9)] {
            pfm::write(&root.join(format!("out/{kind}/{name}.pfm")), &Map::filled(24, 16, value)).unwrap();
        }
    }
    let point = Point { position: [0.0; 3], normal: [0.0, 0.0, -1.0], colour: [9; 3], confidence: 0.9, views: 3 };
    ply::write(&root.join("out/fused.ply"), &[point; 4], Storage::default(), &[]).unwrap();
}

fn edit(root: &Path, change: impl FnOnce(&mut Value)) {
    let file = root.join("out/manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(file, manifest.to_string()).unwrap();
}

/// Says that the scene lies near the equator.
fn place(root: &Path, longitude: f64) {
    let local = json!({ "local": { "latitude": 0.5, "longitude": longitude, "altitude": 0 } });
    edit(root, |manifest| manifest["scene"]["georeference"] = local);
}

fn patch_cloud(root: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = root.join("out/fused.ply");
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn exports() -> Group {
    let again = "run `engine infer` again";
    let maps = |case, run| Case { run: Some(run), ..case };
    let cases = vec![
        spoilt("give the OUT of a finished run", |root| fs::remove_dir_all(root.join("out")).unwrap()),
        spoilt("give the OUT of a run, and let it come to its end", |root| {
            fs::remove_file(root.join("out/manifest.json")).unwrap();
        }),
        spoilt(again, |root| edit(root, |manifest| manifest["views"][0]["rotation"] = Value::Null)),
        spoilt(again, |root| edit(root, |manifest| manifest["views"][0]["name"] = "a/b".into())),
        spoilt("give the OUT of a run", |root| edit(root, |manifest| manifest["views"] = json!([]))),
        spoilt("export maps only, or run again without --depth-only", |root| {
            fs::remove_file(root.join("out/fused.ply")).unwrap();
        }),
        spoilt(again, |root| patch_cloud(root, |bytes| *bytes = b"ply\nformat ascii 1.0\nend_header\n".to_vec())),
        spoilt(again, |root| patch_cloud(root, |bytes| bytes.truncate(bytes.len() - 1))),
        spoilt(again, |root| {
            patch_cloud(root, |bytes| {
                let last = bytes.len() - 32;
                bytes[last..last + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            });
        }),
        maps(
            spoilt(again, |root| edit(root, |manifest| manifest["views"][1]["map_size"] = json!([48, 32]))),
            "export out --to npz",
        ),
        maps(
            spoilt(again, |root| fs::remove_file(root.join("out/depth/00000003.pfm")).unwrap()),
            "export out --to exr",
        ),
        told(again, "export out --to npz --filtered-depth"),
        maps(
            spoilt("say where the scene lies now, with --scene", |root| {
                fs::remove_dir_all(root.join("scene")).unwrap();
            }),
            "export out --to workspace",
        ),
        maps(
            spoilt("give the scene that the run was of", |root| {
                edit(root, |manifest| manifest["views"][2]["name"] = "IMG_7".into());
            }),
            "export out --to points3D",
        ),
        maps(
            spoilt("give the scene that the run was of, as it was", |root| {
                edit(root, |manifest| manifest["views"][2]["map_k"][0][0] = 28.0.into());
            }),
            "export out --to points3D",
        ),
        maps(
            spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("mine")).unwrap();
                fs::write(root.join("mine/letter.txt"), "dear").unwrap();
            }),
            "export out --to las -o mine",
        ),
        maps(
            spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("others")).unwrap();
                fs::write(root.join("others/.engine-export.json"), r#"{"exports_of": "/elsewhere"}"#).unwrap();
            }),
            "export out --to las -o others",
        ),
        maps(spoilt("choose a nearer system", |root| place(root, 105.0)), "export out --to las --crs EPSG:32633"),
        maps(spoilt("choose another system", |root| place(root, 172.0)), "export out --to las --crs EPSG:27200"),
        maps(
            spoilt("leave --crs away", |root| {
                let own = json!({ "projected": { "epsg": 9549, "offset": [0, 0, 0] } });
                edit(root, |manifest| manifest["scene"]["georeference"] = own);
            }),
            "export out --to copc --crs EPSG:32633",
        ),
        Case {
            run: Some("report out"),
            ..spoilt("choose another name with -o, or replace it with --force", |root| {
                fs::write(root.join("out/report.html"), "dear").unwrap();
            })
        },
        told("leave --depth-only or the format away", "infer scene -o new --depth-only --export npz,las"),
    ];
    Group { title: "Exports", advice: "", write: finished, run: "export out --to las", cases }
}

/// The same run, with maps from which pixels are confirmed, and the parameters that say so.
fn confirmed(root: &Path) {
    finished(root);
    let parameters = serde_json::to_value(engine::fusion::settings::FusionOptions::default()).unwrap();
    edit(root, |manifest| {
        manifest["parameters"] = parameters;
        for view in 0..plane_scene::NAMES.len() {
            manifest["views"][view]["checked_against"] = json!(plane_scene::NAMES);
        }
    });
}

fn meshes() -> Group {
    let again = "run `engine infer` again";
    let run = |advice, run| Case { run: Some(run), ..spoilt(advice, NOTHING) };
    let cases = vec![
        spoilt("give the OUT of a run, and let it come to its end", |root| {
            fs::remove_file(root.join("out/manifest.json")).unwrap();
        }),
        spoilt(again, |root| fs::remove_file(root.join("out/depth/00000003.pfm")).unwrap()),
        spoilt("make the run's limits looser: `engine fuse` with a smaller --min-confidence or --min-views", |root| {
            edit(root, |manifest| manifest["parameters"]["min_confidence"] = 0.95.into());
        }),
        run("take a finer grid", "mesh out --no-colours --voxel 1000"),
        run("keep smaller pieces", "mesh out --no-colours --min-component 1000000"),
        run("give more memory, or make the run of smaller photos", "mesh out --no-colours --memory 0.01"),
        run("take a coarser grid", "mesh out --no-colours --voxel 0.02 --memory 0.053"),
        Case {
            run: Some("mesh out"),
            ..spoilt("say where the scene lies now with --scene, or leave colours out with --no-colours", |root| {
                fs::remove_dir_all(root.join("scene")).unwrap();
            })
        },
        Case {
            run: Some("mesh out --no-colours -o mine"),
            ..spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("mine")).unwrap();
                fs::write(root.join("mine/letter.txt"), "dear").unwrap();
            })
        },
        Case {
            run: Some("mesh out --no-colours -o others"),
            ..spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("others")).unwrap();
                fs::write(root.join("others/.engine-mesh.json"), r#"{"exports_of": "/elsewhere"}"#).unwrap();
            })
        },
        told("install pycolmap for the Python that PATH names, or leave --poisson away", "mesh out --poisson"),
        Case {
            run: Some("mesh out --no-colours --poisson"),
            ..spoilt("run again without --depth-only, or leave --poisson away", |root| {
                fs::remove_file(root.join("out/fused.ply")).unwrap();
            })
        },
        told("ask for obj or glb, too", "mesh out --texture"),
        told("see `engine mesh --help`", "mesh out --voxel 0"),
        told("see `engine mesh --help`", "mesh out --poisson=-1"),
        told("see `engine mesh --help`", "mesh out --to stl"),
        told("see `engine mesh --help`", "mesh out --simplify 1.5"),
        told("see `engine mesh --help`", "mesh out --triangles 5 --simplify 0.5"),
    ];
    Group { title: "Meshes", advice: "", write: confirmed, run: "mesh out --no-colours", cases }
}

fn tiled(root: &Path) {
    confirmed(root);
    let words = "mesh out --no-colours --min-component 1 --tiles 2 --shard 1/1".split(' ');
    let ran = program::command(words).current_dir(root).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// The file of a tile's surface.
fn part(root: &Path, tile: usize) -> PathBuf {
    let folders = fs::read_dir(root.join("out/mesh/tiles")).unwrap().map(|entry| entry.unwrap().path());
    folders.into_iter().find(|path| path.is_dir()).unwrap().join(format!("{tile}.part"))
}

fn mesh_tiles() -> Group {
    let anew = "make the tile again";
    let cases = vec![
        Case { write: Some(confirmed), ..told("make the tiles first", "mesh out --no-colours --join") },
        told("start no more shards than there are tiles", "mesh out --shard 3/3"),
        told("give the options of the other shards", "mesh out --no-colours --join --voxel 0.2"),
        told("give the options of the other shards", "mesh out --no-colours --join --tiles 3"),
        told("see `engine mesh --help`", "mesh out --tiles 2x2"),
        spoilt("make the missing tiles", |root| fs::remove_file(part(root, 2)).unwrap()),
        spoilt(anew, |root| fs::write(part(root, 2), "dear").unwrap()),
        spoilt(anew, |root| {
            fs::copy(part(root, 1), part(root, 2)).unwrap();
        }),
        spoilt(anew, |root| {
            let bytes = fs::read(part(root, 1)).unwrap();
            fs::write(part(root, 1), &bytes[..bytes.len() - 1]).unwrap();
        }),
        spoilt(anew, |root| {
            let mut bytes = fs::read(part(root, 1)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(part(root, 1), bytes).unwrap();
        }),
        spoilt("make all tiles of one state of the run, with one version of the program", |root| {
            let one = Part::open(&part(root, 1)).unwrap().unwrap();
            let surface = one.surface().unwrap();
            let (corners, vertices) = surface.parts();
            let moved = vertices.iter().map(|&(key, [x, y, z])| (key, [x + 1.0, y, z])).collect();
            one.header.write(&part(root, 1), &Quads::of_parts(corners.to_vec(), moved).unwrap()).unwrap();
        }),
        spoilt("remove the file", |root| fs::write(root.join("out/mesh/tiles/plan.json"), "{}").unwrap()),
        spoilt("make new tiles of a run that has changed", |root| {
            let file = root.join("out/mesh/tiles/plan.json");
            let mut plan = program::json(&file);
            plan["run_sha256"] = "other".into();
            fs::write(file, plan.to_string()).unwrap();
        }),
        Case {
            run: Some("mesh out -o others --tiles 2 --shard 1/1"),
            ..spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("others")).unwrap();
                fs::write(root.join("others/letter.txt"), "dear").unwrap();
            })
        },
    ];
    let run = "mesh out --no-colours --min-component 1 --join";
    Group { title: "Meshes by tiles", advice: "", write: tiled, run, cases }
}

fn maps() -> Group {
    let run = |advice, run| Case { run: Some(run), ..spoilt(advice, NOTHING) };
    let cases = vec![
        spoilt("make the run's limits looser: `engine fuse` with a smaller --min-confidence or --min-views", |root| {
            edit(root, |manifest| manifest["parameters"]["min_confidence"] = 0.95.into());
        }),
        spoilt("say which way is up", |root| {
            // One camera looks the other way, three to the sides.
            for (view, rotation) in [
                json!([[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),
                json!([[0, 0, -1], [0, 1, 0], [1, 0, 0]]),
                json!([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
                json!([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
            ]
            .into_iter()
            .enumerate()
            {
                edit(root, |manifest| manifest["views"][view]["rotation"] = rotation);
            }
        }),
        run("turn the direction round, or leave --crs away where the scene is not in that system", "map out --up z"),
        run("take larger cells, or a part of the map", "map out --no-ortho --gsd 1e-7"),
        run("name a part of the map that the scene has, in the map's coordinates", "map out --bounds 90,90,91,91"),
        run("give more memory, or make the run of smaller photos", "map out --no-ortho --memory 0.01"),
        Case {
            run: Some("map out -o mine"),
            ..spoilt("choose another folder with -o", |root| {
                fs::create_dir(root.join("mine")).unwrap();
                fs::write(root.join("mine/letter.txt"), "dear").unwrap();
            })
        },
        told("see `engine map --help`", "map out --up north"),
        told("see `engine map --help`", "map out --crs EPSG:4978"),
        told("see `engine map --help`", "map out --bounds 1,1,0,2"),
        told("see `engine map --help`", "map out --offset 1,2"),
        told("see `engine map --help`", "map out --fill 1000"),
    ];
    Group { title: "Maps of scenes seen from above", advice: "", write: confirmed, run: "map out --no-ortho", cases }
}

fn words() -> Group {
    let cases = vec![
        told("", "export out --to las,doc"),
        told("", "export out --to las --crs EPSG:4326"),
        told("", "export out --to las --crs 32632"),
        told("", "export out --to workspace --photos gif"),
        told("", "export out --to workspace --photos jpeg:0"),
    ];
    Group { title: "Exports", advice: "see `engine export --help`", write: NOTHING, run: "", cases }
}
