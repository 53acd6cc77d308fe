//! What the scripts get: the cloud's points, and each view's maps.

use engine::files::ply::{self, Point};
use engine::files::ply_cloud::CloudFile;
use engine::files::ply_storage::{OffsetOption, Storage};
use engine::report::data;
use engine::report::quantise::quantise;
use glam::DVec3;
use serde_json::Value;

use crate::page_reading::{Page, PlyPoint, expect_points, numbers, ply as read_ply, points};
use crate::plane_run::{Run, confidence, depth};
use crate::plane_scene::{self, NAMES};

#[test]
fn the_points_of_a_page_are_those_of_the_cloud() {
    let run = Run::new();
    let page = run.page(&["--no-doctor"]);
    let cloud = read_ply(&run.path("out/fused.ply"));
    let found = points(&page);
    assert!(found.len() > 1000, "{}", found.len());
    let data = page.data();
    expect_points(&found, &cloud, &data["cloud"]);
    // A hundredth of the pixels' distance, which is 4 / 110 at the cameras' distance.
    assert!(data["cloud"]["quantum"].as_f64().unwrap() < 0.01 * 4.0 / 110.0);

    // The cameras are those of the scene.
    for (view, expected) in data["views"].as_array().unwrap().iter().zip(plane_scene::scene().views) {
        let centre = DVec3::from(numbers::<3>(&view["centre"]));
        assert!((centre + expected.r.transpose() * expected.t).length() < 1e-6, "{view}");
        let rotation: [f64; 9] = numbers(&view["rotation"]);
        let by_row = expected.r.transpose().to_cols_array();
        assert!(rotation.iter().zip(by_row).all(|(a, b)| (a - b).abs() < 1e-6), "{view}");
    }
    // They look along z, and y points downwards.
    let up = DVec3::from(numbers::<3>(&data["cloud"]["up"]));
    assert!(up.angle_between(DVec3::NEG_Y).to_degrees() < 10.0, "{up}");
}

#[test]
fn of_a_large_cloud_a_part_is_shown_and_told() {
    let run = Run::new();
    let cloud = read_ply(&run.path("out/fused.ply"));
    let ran = run.report(&["--no-doctor", "--max-points", "100", "--json"]).done();
    let note = format!(" of the cloud's {} points are shown, taken evenly in its order", cloud.len());
    let notes = ran.events();
    let told = |value: &Value| value.to_string().replace('\u{202f}', "").contains(&note);
    assert!(notes.iter().any(told), "{notes:?}");
    let page = Page::read(&run.path("out/report.html"));
    assert!(page.words.replace('\u{202f}', "").contains(&format!("100{note}")));
    // Those in which the count of taken points goes up: n * 100 / all.
    let count = |n: usize| n * 100 / cloud.len();
    let expected: Vec<PlyPoint> =
        cloud.iter().enumerate().filter(|(i, _)| count(i + 1) > count(*i)).map(|(_, point)| *point).collect();
    assert_eq!(expected.len(), 100);
    expect_points(&points(&page), &expected, &page.data()["cloud"]);
}

#[test]
fn maps_of_a_page_are_those_of_the_run() {
    let run = Run::new();
    for side in [96usize, 24] {
        let page = run.page(&["--no-doctor", "--picture-side", &side.to_string()]);
        let data = page.data();
        let (width, height) = (side, side * 64 / 96);
        for (at, view) in plane_scene::scene().views.iter().enumerate() {
            let of_view = &data["views"][at];
            assert_eq!((&of_view["name"], &of_view["size"]), (&NAMES[at].into(), &serde_json::json!([width, height])));
            let [near, step]: [f64; 2] = numbers(&of_view["depth"]);
            let bytes = page.unpacked(&format!("maps-{at}"));
            let (truth, sure) = (depth(view), confidence());
            let count = width * height;
            let (mut steps, mut sures) = (vec![0u32; count], vec![0u32; count]);
            for i in 0..count {
                let (x, y) = (i % width, i / width);
                let before = match (x, y) {
                    (0, 0) => (0, 0),
                    (0, _) => (steps[i - width], sures[i - width]),
                    _ => (steps[i - 1], sures[i - 1]),
                };
                steps[i] = (before.0 + u32::from(bytes[i]) + 256 * u32::from(bytes[count + i])) % 65_536;
                sures[i] = (before.1 + u32::from(bytes[2 * count + i])) % 256;
                // The pixel in the middle of four by four, or the pixel itself.
                let by = 96 / side;
                let (x, y) = (by * x + by / 2, by * y + by / 2);
                let (d, c) = (f64::from(truth.at(x, y)), f64::from(sure.at(x, y)));
                assert!((f64::from(sures[i]) / 255.0 - c).abs() <= 0.5 / 255.0 + 1e-6, "{x} {y}");
                match steps[i] {
                    0 => assert_eq!(d, 0.0, "{x} {y}"),
                    n => {
                        // Half a step of 0.05 %, and the rounding of f32.
                        let found = near * (f64::from(n - 1) * step).exp();
                        assert!((found / d - 1.0).abs() < 2.51e-4, "{found} {d}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_million_points_take_less_than_fifteen_megabytes() {
    // A fifth of a million on a rough, coloured surface, which is harder to pack than a million on the same: neighbours
    // are farther apart.
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cloud.ply");
    let mut random = engine::host::random::Random::from_state(1);
    let count = 200_000;
    let point = |_| {
        let (x, y) = (random.range(-4.0, 4.0), random.range(-2.0, 2.0));
        let shade = 128.0 + 60.0 * (3.0 * x).sin() * (2.0 * y).cos();
        let mut byte = |by: f64| (shade * by + random.range(-8.0, 8.0)) as u8;
        let colour = [byte(1.0), byte(0.9), byte(0.7)];
        let normal = DVec3::new(0.3 * x.sin() + random.range(-0.1, 0.1), random.range(-0.1, 0.1), -1.0).normalize();
        Point {
            position: [x, y, 0.3 * x.cos() + random.range(-0.003, 0.003)],
            normal: normal.as_vec3().to_array(),
            colour,
            confidence: random.range(0.8, 1.0) as f32,
            views: 3 + (random.range(0.0, 6.0)) as u8,
        }
    };
    let points: Vec<Point> = (0..count).map(point).collect();
    ply::write(&path, &points, Storage { double: false, ..ply::storage_of(&points, OffsetOption::None) }, &[]).unwrap();
    let cloud = quantise(&CloudFile::open(&path).unwrap(), count).unwrap();
    let (_, parts) = data::pack(&cloud, DVec3::Y).unwrap();
    let bytes: usize = parts.iter().map(String::len).sum();
    let a_million = 1e6 * bytes as f64 / count as f64;
    assert!(a_million < 15e6, "{:.1} MB a million", a_million / 1e6);
}
