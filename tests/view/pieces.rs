//! The cloud, the maps and the photos in pieces: put together they are those of the run.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use base64::Engine;
use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::Server;
use crate::page_reading::{GridPoint, Page, PlyPoint, expect_points, numbers, ply as read_ply, tile_points};
use crate::plane_run::{Run, confidence, depth};
use crate::plane_scene::{self, NAMES};
use crate::program::text;

/// A tile of the tree, as the page has it.
#[derive(Clone, Copy, Debug)]
struct Node {
    count: usize,
    corner: [u32; 3],
    level: u32,
    first: usize,
    below: usize,
    every: usize,
}

/// Bits of a coordinate, and of a step within a tile: src/report/grid.rs and tiles.rs.
const BITS: u32 = 21;
const STEP_BITS: u32 = 16;

impl Node {
    fn of(row: &Value) -> Self {
        let [count, x, y, z, level, first, below, every] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|at| row[at].as_u64().unwrap() as usize);
        Self { count, corner: [x, y, z].map(|v| v as u32), level: level as u32, first, below, every }
    }

    /// By how many bits its steps are coarser than the grid's.
    fn shift(&self) -> u32 {
        (BITS - STEP_BITS).saturating_sub(self.level)
    }
}

/// The tree of a page, and each tile's points, whose places are in steps of the tile from 0.
fn tree(server: &Server, cloud: &Value) -> Vec<(Node, Vec<GridPoint>)> {
    let nodes = cloud["served"]["nodes"].as_array().unwrap().iter().map(Node::of).enumerate();
    let with_points = |(at, node): (usize, Node)| {
        let bytes = server.unpacked(&format!("/tile/{at}"));
        assert_eq!(bytes.len(), 13 * node.count);
        (node, tile_points(&bytes, node.count, [0; 3]))
    };
    nodes.map(with_points).collect()
}

/// The points of the lowest tiles, at their places on the grid.
fn lowest(tree: &[(Node, Vec<GridPoint>)]) -> Vec<GridPoint> {
    let mut points = Vec::new();
    for (node, of_node) in tree.iter().filter(|(node, _)| node.below == 0) {
        assert_eq!((node.every, node.shift()), (1, 0));
        let place = |point: &GridPoint| [0, 1, 2].map(|axis| node.corner[axis] + point.place[axis]);
        points.extend(of_node.iter().map(|point| GridPoint { place: place(point), ..*point }));
    }
    points
}

#[test]
fn the_page_of_a_run_is_whole_and_asks_its_server_alone() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    let answer = server.get("/");
    assert_eq!((answer.code, answer.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.headers["content-security-policy"], "frame-ancestors 'none'");
    let page = Page::of(String::from_utf8(answer.body).unwrap());
    assert_eq!(page.errors, Vec::<String>::new());
    for id in ["cloud", "views", "pixels", "run", "scene", "confidence", "strip"] {
        page.id(id);
    }
    let script = page.elements.iter().find(|element| element.attribute("type") == "module").unwrap();
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&script.text));
    let policy = page.elements.iter().find(|e| e.attribute("http-equiv") == "Content-Security-Policy").unwrap();
    let policy = policy.attribute("content");
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains(&format!("script-src 'sha256-{hash}';")));
    assert!(policy.contains("connect-src 'self'") && !policy.contains("http"), "{policy}");
    // Everything else is fetched: pictures are few bytes in the page.
    assert!(page.html.len() < 200_000, "{} bytes", page.html.len());
    assert!(page.elements.iter().all(|e| !e.attribute("id").starts_with("part-")));

    let photos: Vec<&str> = page.all("img").map(|img| img.attribute("src")).filter(|src| !src.is_empty()).collect();
    assert_eq!(photos, ["photo/0", "photo/1", "photo/2", "photo/3", "photo/4"]);
    for photo in photos {
        let picture = image::load_from_memory(&server.body(&format!("/{photo}"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (96, 64));
    }
    // The files of the run, by the addresses that the page has.
    let links: BTreeMap<&str, &str> = page
        .all("a")
        .filter_map(|a| Some((a.attribute("href").strip_prefix("files/")?, a.text.split(" (").next()?)))
        .collect();
    assert_eq!(links.values().copied().collect::<Vec<_>>(), ["fused.ply", "manifest.json"]);
    for (address, name) in links {
        assert!(server.body(&format!("/files/{address}")) == fs::read(run.path("out").join(name)).unwrap(), "{name}");
    }
    let data = page.data();
    assert_eq!((&server.told["points"], &data["cloud"]["total"]), (&data["cloud"]["shown"], &data["cloud"]["shown"]));
}

#[test]
fn the_lowest_tiles_are_the_cloud() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    let cloud = read_ply(&run.path("out/fused.ply"));
    let data = Page::of(String::from_utf8(server.body("/")).unwrap()).data();
    let found = lowest(&tree(&server, &data["cloud"]));
    assert!(found.len() > 1000);
    expect_points(&found, &cloud, &data["cloud"]);
    // What the slider needs to know of points that were not fetched.
    let mut histogram = vec![0u64; 256];
    cloud.iter().for_each(|point| histogram[(point.confidence * 255.0).round() as usize] += 1);
    assert_eq!(data["cloud"]["served"]["histogram"], json!(histogram));
    let views = cloud.iter().map(|point| point.views);
    assert_eq!(data["cloud"]["served"]["views"], json!([views.clone().min(), views.max()]));

    // Fewer, as those of a report.
    let few = Server::start(&[text(&run.path("out")), "--max-points", "100"]);
    let data = Page::of(String::from_utf8(few.body("/")).unwrap()).data();
    let count = |n: usize| n * 100 / cloud.len();
    let taken: Vec<PlyPoint> =
        cloud.iter().enumerate().filter(|(i, _)| count(i + 1) > count(*i)).map(|(_, point)| *point).collect();
    expect_points(&lowest(&tree(&few, &data["cloud"])), &taken, &data["cloud"]);
}

/// 300 000 points on a wavy surface, and a stray.
fn large(path: &std::path::Path) {
    let point = |i: u32| {
        let (x, y) = (f64::from(i % 600) / 300.0 - 1.0, f64::from(i / 600) / 250.0 - 1.0);
        let position = if i == 77 { [40.0, -30.0, 9.0] } else { [x, y, 0.1 * (9.0 * x).sin() * (7.0 * y).cos()] };
        let colour = [i as u8, (i >> 8) as u8, (i >> 16) as u8];
        Point { position, normal: [0.0, 0.0, -1.0], colour, confidence: (i % 256) as f32 / 255.0, views: 4 }
    };
    let points: Vec<Point> = (0..300_000).map(point).collect();
    ply::write(path, &points, Storage::default(), &[]).unwrap();
}

#[test]
fn coarser_tiles_have_a_part_of_the_points_below_them() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("large.ply");
    large(&path);
    let server = Server::start(&[text(&path)]);
    let data = Page::of(String::from_utf8(server.body("/")).unwrap()).data();
    let tree = tree(&server, &data["cloud"]);
    let found = lowest(&tree);
    expect_points(&found, &read_ply(&path), &data["cloud"]);
    // Every colour is one point's: where each lies.
    let places: HashMap<[u8; 3], [u32; 3]> = found.iter().map(|point| (point.colour, point.place)).collect();
    assert_eq!(places.len(), 300_000);
    let coarse: Vec<_> = tree.iter().filter(|(node, _)| node.below > 0).collect();
    assert!(coarse.len() >= 2 && coarse.len() < tree.len() / 2, "{} of {}", coarse.len(), tree.len());
    let mut all_below = 0;
    for (node, points) in coarse {
        let parts = &tree[node.first..node.first + node.below];
        all_below += parts.len();
        let below: usize = parts.iter().map(|(part, _)| part.count * part.every).sum();
        // One of `every` points; the last of a part may stand for fewer.
        let fewer: usize = parts.iter().map(|(part, _)| part.every - 1).sum();
        assert!(node.count * node.every >= below.saturating_sub(fewer), "{node:?} {below}");
        assert!((node.count - 1) * node.every < below && node.count <= 32_768, "{node:?} {below}");
        for point in points {
            let place = places[&point.colour];
            for axis in 0..3 {
                let off = i64::from(place[axis]) - i64::from(node.corner[axis] + (point.place[axis] << node.shift()));
                assert!((0..1 << node.shift()).contains(&off), "{point:?} {place:?} {node:?}");
            }
        }
    }
    assert_eq!(all_below, tree.len() - 1, "every tile but the root stands below one");
}

#[test]
fn maps_are_those_of_the_run() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    let data = Page::of(String::from_utf8(server.body("/")).unwrap()).data();
    for (at, view) in plane_scene::scene().views.iter().enumerate() {
        let [width, height] = numbers::<2>(&data["views"][at]["size"]).map(|side| side as usize);
        assert_eq!((&data["views"][at]["name"], width, height), (&NAMES[at].into(), 96, 64));
        let bytes = server.unpacked(&format!("/maps/{at}"));
        let [near, step] = [0, 8].map(|from| f64::from_le_bytes(bytes[from..from + 8].try_into().unwrap()));
        let planes = &bytes[16..];
        let (truth, sure, count) = (depth(view), confidence(), width * height);
        assert_eq!(planes.len(), 3 * count);
        let (mut steps, mut sures) = (vec![0u32; count], vec![0u32; count]);
        for i in 0..count {
            let before = match (i % width, i) {
                (_, 0) => (0, 0),
                (0, _) => (steps[i - width], sures[i - width]),
                _ => (steps[i - 1], sures[i - 1]),
            };
            steps[i] = (before.0 + u32::from(planes[i]) + 256 * u32::from(planes[count + i])) % 65_536;
            sures[i] = (before.1 + u32::from(planes[2 * count + i])) % 256;
            let (d, c) = (f64::from(truth.data[i]), f64::from(sure.data[i]));
            assert!((f64::from(sures[i]) / 255.0 - c).abs() <= 0.5 / 255.0 + 1e-6);
            match steps[i] {
                0 => assert_eq!(d, 0.0),
                // Half a step of 0.05 %, and the rounding of f32.
                n => assert!((near * (f64::from(n - 1) * step).exp() / d - 1.0).abs() < 2.51e-4),
            }
        }
    }
}

#[test]
fn clouds_of_others_are_shown_with_what_they_have() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("other.ply");
    let rows = ["0 0 0 255 0 0", "1 0 0.5 0 255 0", "nan 0 0 9 9 9", "0 2 0.25 1 2 3"];
    let header = |of_colour: &str| {
        format!(
            "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n\
             property {of_colour} red\nproperty {of_colour} green\nproperty {of_colour} blue\nend_header\n"
        )
    };
    for (of_colour, colours, modes) in [
        ("uchar", vec![[1, 2, 3], [0, 255, 0], [255, 0, 0]], vec!["photo", "height"]),
        ("float", vec![[200, 200, 200]; 3], vec!["height"]),
    ] {
        fs::write(&path, header(of_colour) + &rows.join("\n") + "\n").unwrap();
        let server = Server::start(&[text(&path)]);
        let page = Page::of(String::from_utf8(server.body("/")).unwrap());
        assert_eq!(page.errors, Vec::<String>::new());
        assert!(page.words.contains("1 point without finite coordinates left out"), "{}", page.words);
        let data = page.data();
        let mut found = lowest(&tree(&server, &data["cloud"]));
        found.sort_by_key(|point| point.colour);
        let origin: [f64; 3] = numbers(&data["cloud"]["origin"]);
        let quantum = data["cloud"]["quantum"].as_f64().unwrap();
        let position = |p: &GridPoint| {
            [0, 1, 2].map(|axis| origin[axis] + quantum * f64::from(p.place[axis])).map(|v| (v * 100.0).round() / 100.0)
        };
        let mut positions: Vec<[f64; 3]> = found.iter().map(position).collect();
        positions.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(positions, [[0.0, 0.0, 0.0], [0.0, 2.0, 0.25], [1.0, 0.0, 0.5]]);
        let mut expected = colours.clone();
        expected.sort_unstable();
        assert_eq!(found.iter().map(|point| point.colour).collect::<Vec<_>>(), expected);
        let shown: Vec<&str> =
            page.elements.iter().filter(|e| e.attribute("name") == "colour").map(|e| e.attribute("value")).collect();
        assert_eq!(shown, modes);
        assert!(server.get("/files/other.ply").code == 404, "a cloud alone has no folder");
    }
}
