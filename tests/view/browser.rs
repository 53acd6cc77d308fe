//! The page in a real browser, where there is one.

use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;

use crate::client::Server;
use crate::in_browser::{expect_pixels, found};
use crate::page_reading::ply as read_ply;
use crate::plane_run::{Run, confidence, depth};
use crate::plane_scene;
use crate::program::text;

/// That the page said nothing wrong and asked its own server only.
fn expect_quiet(found: &serde_json::Value, server: &Server) {
    assert_eq!(found["console"], serde_json::json!([]), "what the console says");
    let asked: Vec<&str> = found["asked"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert!(asked.iter().all(|url| url.starts_with(&server.url)) && asked.len() > 1, "{asked:?}");
}

#[test]
fn a_browser_shows_a_run_that_is_served() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    let folder = run.path("found");
    let Some(found) = found(&server.url, &folder, &[]) else { return };
    expect_quiet(&found, &server);
    expect_pixels(&found, &folder, &read_ply(&run.path("out/fused.ply")));
    let clicked = &found["clicked"];
    assert_eq!((&clicked["chosen"], &clicked["card"]), (&clicked["wanted"], &true.into()), "{clicked}");
    assert_eq!(&clicked["photo"], 96, "{clicked}");
    let (depth, confidence) = (depth(&plane_scene::scene().views[0]), confidence());
    for read in found["reads"].as_array().unwrap() {
        let [x, y] = [0, 1].map(|i| read["pixel"][i].as_u64().unwrap() as usize);
        let of = |name: &str| read[name].as_f64().unwrap();
        // Half a step of depth, and of confidence.
        assert!((of("depth") / f64::from(depth.at(x, y)) - 1.0).abs() < 2.51e-4, "{read}");
        assert!((of("confidence") - f64::from(confidence.at(x, y))).abs() < 0.5 / 255.0 + 1e-6, "{read}");
    }
}

#[test]
fn a_browser_shows_a_cloud_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cloud.ply");
    let point = |i: u32| {
        let (x, y) = (f64::from(i % 100) / 50.0 - 1.0, f64::from(i / 100) / 50.0 - 1.0);
        let colour = [i as u8, (i >> 8) as u8, 90];
        Point { position: [x, y, 0.2 * (5.0 * x).sin()], normal: [0.0, 0.0, 1.0], colour, confidence: 1.0, views: 3 }
    };
    let points: Vec<Point> = (0..10_000).map(point).collect();
    ply::write(&path, &points, Storage::default(), &[]).unwrap();
    let server = Server::start(&[text(&path)]);
    let folder = root.path().join("found");
    let Some(found) = found(&server.url, &folder, &[]) else { return };
    expect_quiet(&found, &server);
    expect_pixels(&found, &folder, &read_ply(&path));
}
