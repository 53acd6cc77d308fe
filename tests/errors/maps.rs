//! Depth maps that are fused or measured, clouds, and the files of DTU's evaluation.

use std::fs;
use std::path::Path;

use engine::files::map::Map;
use engine::files::pfm;

use crate::dtu_files::{MASK, MatArray, Stored, doubles, mask_values, mat, ply, square, write_reference};
use crate::plane_scene;
use crate::table::{Case, Group, NOTHING, spoilt, told};

pub fn groups() -> Vec<Group> {
    vec![maps(), grids(), measured(), clouds(), dtu(), mats()]
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let file = root.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

fn put_map(root: &Path, name: &str, (width, height): (usize, usize), value: f32) {
    let file = root.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    pfm::write(&file, &Map::filled(width, height, value)).unwrap();
}

const DEPTH: &str = "maps/depth/00000000.pfm";

/// The plane scene with one map a view.
fn fusible(root: &Path) {
    plane_scene::write(&root.join("scene"));
    for name in plane_scene::NAMES {
        put_map(root, &format!("maps/depth/{name}.pfm"), (24, 16), 4.0);
    }
}

const FUSE: &str = "fuse maps --scene scene -o out";

fn maps() -> Group {
    let again = "make the maps again";
    let cases = vec![
        spoilt("give the folder that holds depth/", |root| fs::remove_dir_all(root.join("maps")).unwrap()),
        spoilt("give the folder that holds depth/", |root| {
            fs::remove_dir_all(root.join("maps/depth")).unwrap();
            fs::create_dir(root.join("maps/depth")).unwrap();
        }),
        spoilt("name the maps after the photos", |root| {
            for (i, name) in plane_scene::NAMES.iter().enumerate() {
                let at = |name: &str| root.join(format!("maps/depth/{name}.pfm"));
                fs::rename(at(name), at(&format!("map{i}"))).unwrap();
            }
        }),
        Case {
            run: Some("fuse maps --scene scene -o out --view 00000003"),
            ..spoilt("ask for a view that has a map", |root| {
                fs::remove_file(root.join("maps/depth/00000003.pfm")).unwrap();
            })
        },
        spoilt(again, |root| put(root, DEPTH, "")),
        spoilt(again, |root| put(root, DEPTH, "P6\n24 16\n255\n")),
        spoilt(again, |root| put(root, DEPTH, "Pf\n24")),
        spoilt(again, |root| put(root, DEPTH, "Pf\n24 -16\n-1\n")),
        spoilt(again, |root| put(root, DEPTH, "Pf\n24 16\nlittle\n")),
        spoilt(again, |root| put(root, DEPTH, "Pf\n24 16\n-1\nshort")),
        spoilt("give a map of depths, not of normals", |root| {
            pfm::write_rgb(&root.join(DEPTH), 24, 16, &[[0.0; 3]; 384]).unwrap();
        }),
        spoilt("give --max-side as for the maps", |root| put_map(root, DEPTH, (20, 20), 4.0)),
        spoilt(again, |root| put_map(root, "maps/confidence/00000000.pfm", (12, 16), 1.0)),
        spoilt("see the settings that the message names", |root| {
            for name in plane_scene::NAMES {
                put_map(root, &format!("maps/depth/{name}.pfm"), (24, 16), 0.0);
            }
        }),
        told("run `engine infer` with as many --levels", "fuse maps --scene scene -o out --method pyramid --levels 4"),
        told("choose another folder with -o", "fuse maps --scene scene -o maps"),
        // A folder of the engine's: what `fuse` has made in out holds depth maps, too.
        spoilt("choose another folder with -o, or give --force", |root| {
            let mut command = crate::program::command("fuse maps --scene scene -o out".split_whitespace());
            // No depth agrees with another here, so that no cloud comes out; the folder is the engine's all the same.
            assert_eq!(command.current_dir(root).output().unwrap().status.code(), Some(6));
            put_map(root, "out/depth/00000000.pfm", (24, 16), 4.0);
        }),
        spoilt("remove manifest.json", |root| put(root, "maps/manifest.json", "{")),
        told("give more memory", "fuse maps --scene scene -o out --memory 0.00001 --threads 1"),
        told(
            "fuse fewer views at a time",
            "fuse maps --scene scene -o out --method graph --memory 0.00001 --threads 1",
        ),
    ];
    Group { title: "Fusing depth maps", advice: "", write: fusible, run: FUSE, cases }
}

fn grids() -> Group {
    fn with_reference(root: &Path) {
        fusible(root);
        put(root, "truth.ply", ply(&square(4.0)));
    }
    const GRID: &str = "fuse maps --scene scene -o out --reference truth.ply --sweep";
    let with = |axes: &'static str| {
        // The words of a command are static; so are these few.
        let words: String = format!("{GRID} {axes}");
        told("", Box::leak(words.into_boxed_str()))
    };
    let cases = vec![
        with("min-views=2,0"),
        with("min-views=2,2"),
        with("min-views=2 --sweep min-views=3"),
        with("min-pixels=2"),
        with("price=2"),
        with("preset=pva,none"),
        with("method=dynamic,magic"),
        with("method=dynamic --sweep preset=pva"),
        with("method=dynamic --method graph"),
        with("min-views=2 --min-views 3"),
        told("choose one of the presets", "fuse maps --scene scene -o out --preset colmap --method dynamic"),
        told("give a constant of the method", "fuse maps --scene scene -o out --method disparity --max-pixels 4"),
        told("", "fuse maps --scene scene -o out --method dynamic --min-views 8 --max-views 4"),
        told("", "fuse maps --scene scene -o out --method graph --min-pixels 8 --max-pixels 4"),
        Case {
            run: Some("fuse maps --scene scene -o out --reference truth.ply --sweep min-confidence=0.5,1"),
            ..spoilt("loosen the settings", |root| {
                for name in plane_scene::NAMES {
                    put_map(root, &format!("maps/depth/{name}.pfm"), (24, 16), 0.0);
                }
            })
        },
        Case {
            run: Some("fuse maps --scene scene -o out --reference none.ply --sweep min-views=2"),
            ..spoilt("check the name of the cloud", NOTHING)
        },
    ];
    Group { title: "Settings of fusion", advice: "correct the option", write: with_reference, run: FUSE, cases }
}

fn measured() -> Group {
    fn write(root: &Path) {
        put_map(root, "maps/depth/a.pfm", (8, 6), 1.0);
        put_map(root, "truth/a.pfm", (8, 6), 1.0);
    }
    const PLANES: &str = r#"{"command":"infer","views":[{"name":"a","depth":{"range":{"near":1.0,"far":2.0},
        "planes":100000000000,"sampling":"linear"}}]}"#;
    let cases = vec![
        spoilt("check the name of the folder", |root| fs::remove_dir_all(root.join("truth")).unwrap()),
        spoilt("name the true maps as the others", |root| {
            fs::rename(root.join("truth/a.pfm"), root.join("truth/b.pfm")).unwrap();
        }),
        spoilt("give the folder that holds depth/", |root| fs::remove_file(root.join("maps/depth/a.pfm")).unwrap()),
        spoilt("resample the truth by keeping pixels", |root| put_map(root, "truth/a.pfm", (9, 6), 1.0)),
        spoilt("make the maps again", |root| put_map(root, "maps/confidence/a.pfm", (8, 5), 1.0)),
        spoilt("give maps and truth of the same photos", |root| put_map(root, "truth/a.pfm", (8, 6), f32::NAN)),
        spoilt("remove manifest.json", |root| put(root, "maps/manifest.json", PLANES)),
        spoilt("remove manifest.json", |root| put(root, "maps/manifest.json", "{}")),
    ];
    Group { title: "Measuring depth maps", advice: "", write, run: "eval depth maps --truth truth", cases }
}

fn clouds() -> Group {
    fn write(root: &Path) {
        put(root, "a.ply", ply(&square(1.0)));
        put(root, "b.ply", ply(&square(0.0)));
    }
    fn text(root: &Path, header: &str, body: &str) {
        put(root, "a.ply", format!("ply\nformat ascii 1.0\n{header}end_header\n{body}"));
    }
    const XYZ: &str = "element vertex 2\nproperty float x\nproperty float y\nproperty float z\n";
    let cases = vec![
        spoilt("check the name of the cloud", |root| fs::remove_file(root.join("a.ply")).unwrap()),
        spoilt("", |root| put(root, "a.ply", "solid")),
        spoilt("", |root| put(root, "a.ply", "ply\nformat ascii 1.0\n")),
        spoilt("", |root| put(root, "a.ply", "ply\nformat morse 1.0\n")),
        spoilt("", |root| put(root, "a.ply", "ply\nelement vertex 1\nend_header\n")),
        spoilt("", |root| text(root, "elements 3\n", "")),
        spoilt("", |root| text(root, "element vertex many\n", "")),
        spoilt("", |root| text(root, "element vertex 2\nproperty quad x\n", "")),
        spoilt("", |root| text(root, "comment ply-offset 1 2 x\n", "")),
        spoilt("", |root| text(root, "element face 1\nproperty int n\n", "3\n")),
        spoilt("", |root| text(root, "element vertex 2\nproperty float x\nproperty float y\n", "0 0\n0 0\n")),
        spoilt("", |root| text(root, XYZ, "0 0 0\n")),
        spoilt("", |root| text(root, XYZ, "0 0 0\n0 zero 0\n")),
        spoilt("", |root| text(root, &XYZ.replace('2', "99999999999"), "0 0 0\n")),
        spoilt("", |root| text(root, &format!("comment {}\n", "x".repeat(70_000)), "")),
        spoilt("give a cloud with points", |root| put(root, "a.ply", ply(&[[f64::NAN; 3]]))),
        told("give a larger edge", "eval cloud a.ply b.ply --voxel 0.000000001"),
    ];
    let advice = "write the cloud again as a PLY file";
    Group { title: "Clouds", advice, write, run: "eval cloud a.ply b.ply", cases }
}

fn write_dtu(root: &Path) {
    write_reference(&root.join("dtu"), 9);
    put(root, "a.ply", ply(&square(1.0)));
}

const DTU: &str = "eval dtu a.ply --scan 9 --data dtu";
const MASK_FILE: &str = "dtu/ObsMask/ObsMask9_10.mat";

fn put_mask(root: &Path, arrays: &[MatArray]) {
    put(root, MASK_FILE, mat(arrays, true, true));
}

const BOUNDS: [f64; 6] = [0.0, 40.0, 0.0, 40.0, -10.0, 10.0];

fn dtu() -> Group {
    fn mask<'a>(dimensions: &'a [i32], seen: &'a [f64]) -> MatArray<'a> {
        MatArray { class: 9, stored: Stored::U8, ..doubles("ObsMask", dimensions, seen) }
    }
    fn results(root: &Path, names: &[&str]) {
        write_dtu(root);
        fs::create_dir_all(root.join("results")).unwrap();
        names.iter().for_each(|name| put(root, &format!("results/{name}"), ply(&square(1.0))));
    }
    let folder =
        |write: fn(&Path), advice| Case { write: Some(write), ..told(advice, "eval dtu results --scans 9 --data dtu") };
    let cases = vec![
        spoilt("give the folder with Points/ and ObsMask/", |root| {
            fs::remove_file(root.join("dtu/Points/stl/stl009_total.ply")).unwrap();
        }),
        spoilt("", |root| put(root, "dtu/Points/stl/stl009_total.ply", ply(&[[f64::NAN; 3]]))),
        spoilt("", |root| {
            let (bounds, size) = (doubles("BB", &[2, 3], &BOUNDS), doubles("Res", &[1, 1], &[1.0]));
            put_mask(root, &[bounds, size, mask(&[41, 41 * 21], &mask_values())]);
        }),
        spoilt("", |root| {
            let (bounds, size) = (doubles("BB", &[3, 2], &BOUNDS), doubles("Res", &[1, 1], &[1.0]));
            put_mask(root, &[bounds, size, mask(&MASK, &mask_values())]);
        }),
        spoilt("", |root| {
            let (bounds, size) = (doubles("BB", &[2, 3], &BOUNDS), doubles("Res", &[1, 1], &[0.0]));
            put_mask(root, &[bounds, size, mask(&MASK, &mask_values())]);
        }),
        spoilt("", |root| {
            let (bounds, size) = (doubles("BB", &[2, 3], &BOUNDS), doubles("Res", &[2, 1], &[1.0, 1.0]));
            put_mask(root, &[bounds, size, mask(&MASK, &mask_values())]);
        }),
        spoilt("", |root| put_mask(root, &[doubles("BB", &[2, 3], &BOUNDS)])),
        spoilt("", |root| put(root, "dtu/ObsMask/Plane9.mat", mat(&[doubles("P", &[3, 1], &[1.0; 3])], true, false))),
        folder(|root| results(root, &[]), "name the clouds after the scans"),
        folder(|root| results(root, &["mvs009_l3.ply", "scan9.ply"]), "move one of the clouds away"),
    ];
    Group { title: "Measuring DTU's scans", advice: "get the file again", write: write_dtu, run: DTU, cases }
}

fn mats() -> Group {
    fn whole() -> Vec<u8> {
        mat(&[doubles("BB", &[2, 3], &BOUNDS)], true, false)
    }
    let cases = vec![
        spoilt("", |root| put(root, MASK_FILE, "")),
        spoilt("save it for level 5 (save -v7)", |root| put(root, MASK_FILE, b"\x89HDF\r\n\x1a\n")),
        spoilt("", |root| {
            let mut bytes = whole();
            bytes[126..128].copy_from_slice(b"XX");
            put(root, MASK_FILE, bytes);
        }),
        spoilt("", |root| {
            let mut bytes = whole();
            bytes[124..126].copy_from_slice(&[9, 9]);
            put(root, MASK_FILE, bytes);
        }),
        spoilt("", |root| put(root, MASK_FILE, &whole()[..150])),
        spoilt("", |root| {
            let packed = mat(&[doubles("BB", &[2, 3], &BOUNDS)], true, true);
            let mut bytes = packed.clone();
            let last = bytes.len() - 20;
            bytes[136..last].fill(0x55);
            put(root, MASK_FILE, bytes);
        }),
        spoilt("", |root| put(root, MASK_FILE, mat(&[doubles("BB", &[5, 3], &BOUNDS)], true, false))),
    ];
    Group { title: "MAT files", advice: "get the file again", write: write_dtu, run: DTU, cases }
}
