//! Depths that are known before, and photos in formats that are not read.

use std::fs;
use std::path::Path;

use engine::files::map::Map;
use engine::files::pfm;
use glam::DVec3;

use crate::depth_files::{e57, exr, las, laz, png};
use crate::format_files::{npy, put};
use crate::plane_scene;
use crate::scene_files::TestScene;
use crate::table::{Case, Group, NOTHING, spoilt, told};

pub fn groups() -> Vec<Group> {
    vec![clouds(), lists(), known(), workspaces(), photos()]
}

fn write(root: &Path) {
    plane_scene::write(&root.join("scene"));
}

fn points() -> Vec<DVec3> {
    (0..100).map(|i| DVec3::new(0.01 * f64::from(i), 0.1, 0.0)).collect()
}

/// The bytes with another one in a place.
fn with(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    bytes
}

fn clouds() -> Group {
    let case = |run, spoil| Case { run: Some(run), ..spoilt("", spoil) };
    let old = "infer scene -o out --range-from a.las";
    let packed = "infer scene -o out --range-from a.laz";
    let cases = vec![
        case(old, |root| put(&root.join("a.las"), &las(&points(), 2, 0, 20)[..100])),
        case(old, |root| put(&root.join("a.las"), with(las(&points(), 2, 0, 20), 25, 9))),
        case(old, |root| put(&root.join("a.las"), with(las(&points(), 2, 0, 20), 105, 3))),
        case(old, |root| put(&root.join("a.las"), with(las(&points(), 2, 0, 20), 138, 0xff))),
        case(old, |root| put(&root.join("a.las"), with(las(&points(), 2, 0, 20), 109, 9))),
        case(packed, |root| put(&root.join("a.laz"), with(laz(&points(), 2, 0, 20), 107, 250))),
        case(packed, |root| put(&root.join("a.laz"), with(laz(&points(), 2, 0, 20), 105, 28))),
        case(packed, |root| put(&root.join("a.laz"), with(laz(&points(), 2, 0, 20), 230, b'x'))),
        case(packed, |root| put(&root.join("a.laz"), &laz(&points(), 2, 0, 20)[..250])),
        case(packed, |root| put(&root.join("a.laz"), &laz(&points(), 2, 0, 20)[..400])),
        case("infer scene -o out --range-from a.e57", |root| {
            e57(&root.join("whole.e57"), &points());
            let bytes = fs::read(root.join("whole.e57")).unwrap();
            put(&root.join("a.e57"), &bytes[..bytes.len() / 2]);
        }),
    ];
    Group { title: "Clouds that depth ranges are taken from", advice: "write the cloud again", write, run: old, cases }
}

fn lists() -> Group {
    let cases = vec![
        spoilt("", |root| put(&root.join("a.txt"), "00000003 2 1\n")),
        spoilt("", |root| put(&root.join("a.txt"), "00000003 1 2\n00000003 1 3\n")),
        spoilt("", |root| put(&root.join("a.txt"), "other 1 2\n")),
    ];
    let run = "infer scene -o out --range-from a.txt";
    Group { title: "Lists of depth ranges", advice: "correct the list", write, run, cases }
}

fn map() -> Map {
    Map { width: 96, height: 64, data: (0..96 * 64).map(|i| 3.0 + 1e-4 * i as f32).collect() }
}

/// One of the maps.
fn first(name: &str, bytes: &[u8], root: &Path) {
    put(&root.join("maps").join(name), bytes);
}

fn known() -> Group {
    let again = "write the map again";
    let cases = vec![
        told("check the name of the folder", "infer scene -o out --prior nowhere"),
        spoilt("name the maps after the photos", |root| fs::create_dir(root.join("maps")).unwrap()),
        spoilt(again, |root| first("00000003.npz", b"PK", root)),
        spoilt("call the array `depth`", |root| {
            let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            archive.start_file("z.npy", zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut archive, &npy(&[1, 1], &[1.0], true)).unwrap();
            first("00000003.npz", &archive.finish().unwrap().into_inner(), root);
        }),
        spoilt(again, |root| first("00000003.npy", &npy(&[2, 2, 2], &[1.0; 8], true), root)),
        spoilt(again, |root| first("00000003.exr", &exr(&map(), &["Z"])[..100], root)),
        spoilt("call the channel Z", |root| first("00000003.exr", &exr(&map(), &["A", "B"]), root)),
        spoilt(again, |root| first("00000003.png", &png(&map(), 9.0, Some("9"))[..60], root)),
        spoilt("give --prior-scale", |root| first("00000003.png", &png(&map(), 1000.0, None), root)),
        spoilt("store depths with 16 bits", |root| {
            fs::create_dir(root.join("maps")).unwrap();
            image::RgbImage::new(4, 4).save(root.join("maps/00000003.png")).unwrap();
        }),
        spoilt("correct png16.json, or give --prior-scale", |root| first("png16.json", b"{}", root)),
        spoilt("give maps of the same size", |root| {
            for (kind, size) in [("depth", (96, 64)), ("confidence", (48, 32))] {
                fs::create_dir_all(root.join("maps").join(kind)).unwrap();
                let map = Map::filled(size.0, size.1, 1.0);
                pfm::write(&root.join(format!("maps/{kind}/00000003.pfm")), &map).unwrap();
            }
        }),
    ];
    let run = "infer scene -o out --prior maps";
    Group { title: "Depth maps that are known before", advice: "", write, run, cases }
}

fn workspaces() -> Group {
    const MAP: &str = "scene/stereo/depth_maps/00000003.png.geometric.bin";
    fn write(root: &Path) {
        let mut scene = plane_scene::scene();
        scene.views.iter_mut().for_each(|view| view.camera = view.id);
        scene.write_colmap_text(&root.join("scene"), "sparse");
        let values: Vec<u8> = map().data.iter().flat_map(|v| v.to_le_bytes()).collect();
        put(&root.join(MAP), [b"96&64&1&", &values[..]].concat());
    }
    let run = "fuse scene --scene scene -o out";
    let cases = vec![
        spoilt("", |root| put(&root.join(MAP), "")),
        spoilt("give a map of depths, not of normals", |root| put(&root.join(MAP), "96&64&3&")),
        spoilt("", |root| put(&root.join(MAP), "96&64&1&short")),
        spoilt("run COLMAP's patch_match_stereo", |root| fs::remove_file(root.join(MAP)).unwrap()),
        spoilt("name the maps after the photos", |root| {
            fs::rename(root.join(MAP), root.join(MAP.replace("00000003", "other"))).unwrap();
        }),
        Case {
            run: Some("fuse scene --scene scene -o out --view 00000005"),
            ..spoilt("ask for a view that has a map", NOTHING)
        },
        spoilt("give --scene the workspace's folder", |root| {
            let cameras = root.join("scene/sparse/cameras.txt");
            let text = fs::read_to_string(&cameras).unwrap();
            let bent = |line: &str| match line.split_once(" PINHOLE ") {
                Some((id, rest)) => format!("{id} OPENCV {rest} 0.1 0 0 0\n"),
                None => format!("{line}\n"),
            };
            fs::write(cameras, text.lines().map(bent).collect::<String>()).unwrap();
        }),
    ];
    Group { title: "Fusing COLMAP's depth maps", advice: "make the maps again", write, run, cases }
}

fn photos() -> Group {
    fn photo(root: &Path, bytes: &[u8]) {
        put(&root.join("scene/images/00000003.png"), bytes);
    }
    let cases = vec![
        spoilt("", |root| photo(root, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
        spoilt("", |root| photo(root, b"\0\0\0\x14ftypavif\0\0\0\0mif1")),
        spoilt("", |root| photo(root, b"\xff\x0a\xff\xff")),
        spoilt("", |root| photo(root, b"II*\0\x10\0\0\0CR\x02\0")),
    ];
    let advice = "convert the photos with the command that the message has";
    Group {
        title: "Photos in formats that are not read",
        advice,
        write: |root| TestScene::new().write_mvsnet(&root.join("scene"), "2 6"),
        run: "infer scene -o out",
        cases,
    }
}
