//! The page in a real browser, where there is one.

use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;

use crate::in_browser::{expect_pixels, found};
use crate::page_reading::ply as read_ply;
use crate::plane_run::{Run, confidence, depth};
use crate::plane_scene;
use crate::program::text;

#[test]
fn a_browser_shows_what_the_run_has() {
    let run = Run::new();
    run.page(&[]);
    let folder = run.path("found");
    let Some(found) = found(text(&run.path("out/report.html")), &folder, &[]) else { return };
    assert_eq!(found["console"], serde_json::json!([]), "what the console says");
    let asked: Vec<&str> = found["asked"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert!(asked.iter().all(|url| url.starts_with("file:")) && asked.len() == 1, "{asked:?}");

    let cloud = read_ply(&run.path("out/fused.ply"));
    expect_pixels(&found, &folder, &cloud);

    // The slider hides what lies below, exactly.
    for state in found["slider"].as_array().unwrap() {
        let least = state["value"].as_f64().unwrap();
        let shown = cloud.iter().filter(|p| f64::from((p.confidence * 255.0).round()) >= 255.0 * least - 0.5).count();
        assert_eq!(state["shown"].as_u64().unwrap() as usize, shown, "{state}");
        let covered = state["covered"].as_u64().unwrap();
        // A point on the border of two pixels may cover both.
        assert!(covered as usize <= shown + shown / 100 && (shown == 0) == (covered == 0), "{state}");
    }
    assert_eq!(found["key_moved"], true);
    let clicked = &found["clicked"];
    assert_eq!((&clicked["chosen"], &clicked["card"]), (&clicked["wanted"], &true.into()), "{clicked}");
    assert_eq!((&clicked["photo"], clicked["named"].as_str().unwrap().len()), (&96.into(), 8), "{clicked}");

    // What the pointer reads in the first view.
    let (depth, confidence) = (depth(&plane_scene::scene().views[0]), confidence());
    for read in found["reads"].as_array().unwrap() {
        let [x, y] = [0, 1].map(|i| read["pixel"][i].as_u64().unwrap() as usize);
        let of = |name: &str| read[name].as_f64().unwrap();
        // Half a step of depth, and of confidence.
        assert!((of("depth") / f64::from(depth.at(x, y)) - 1.0).abs() < 2.51e-4, "{read}");
        assert!((of("confidence") - f64::from(confidence.at(x, y))).abs() < 0.5 / 255.0 + 1e-6, "{read}");
        assert!(read["text"].as_str().unwrap().contains(&format!("pixel {x}, {y}")), "{read}");
    }
    assert_eq!(found["reads"].as_array().unwrap().len(), 3);
}

/// Every night (`make report-check`): ENGINE_FLUENT_POINTS points are turned by the mouse, in software graphics.
#[test]
fn many_points_stay_fluent() {
    let Some(count) = std::env::var("ENGINE_FLUENT_POINTS").ok().and_then(|text| text.parse::<u32>().ok()) else {
        return;
    };
    let run = Run::new();
    // A wavy surface as large as the run's plane.
    let point = |i: u32| {
        let (x, y) = (f64::from(i % 2500) / 1250.0 - 1.0, f64::from(i / 2500) / (f64::from(count) / 5000.0) - 1.0);
        let byte = |v: f64| (128.0 + 100.0 * v) as u8;
        Point {
            position: [x, y, 0.1 * (9.0 * x).sin() * (7.0 * y).cos()],
            normal: [0.0, 0.0, -1.0],
            colour: [byte((20.0 * x).sin()), byte((31.0 * y).cos()), byte((13.0 * (x + y)).sin())],
            confidence: 0.9,
            views: 4,
        }
    };
    let points: Vec<Point> = (0..count).map(point).collect();
    ply::write(&run.path("out/fused.ply"), &points, Storage::default(), &[]).unwrap();
    run.report(&["--no-doctor", "--max-points", &count.to_string()]).done();
    let folder = run.path("found");
    let Some(found) = found(text(&run.path("out/report.html")), &folder, &["--fluent", "8"]) else { return };
    eprintln!("{}", found["fluent"]);
    assert_eq!(found["fluent"]["points"], count);
    assert_eq!(found["console"], serde_json::json!([]));
    // Four pictures a second on two cores that draw every pixel themselves; a graphics card is far from it.
    let median = found["fluent"]["drawn_in_ms"]["median"].as_f64().unwrap();
    assert!(median < 250.0, "{median} ms for a picture while moving");
}
