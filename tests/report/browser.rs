//! The page in a real browser, where there is one: `tools/check_report.py` opens it in a headless Chromium with
//! software graphics and says what it finds there.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;
use glam::DVec3;
use serde_json::Value;

use crate::program::text;
use crate::reading::{PlyPoint, ply as read_ply};
use crate::{Run, confidence, depth, plane_scene};

/// What the tool finds on a page; nothing where there is no browser, or no Python to drive it, unless
/// ENGINE_REQUIRE_BROWSER says that there must be.
fn found(page: &Path, folder: &Path, more: &[&str]) -> Option<Value> {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    let named = std::env::var("ENGINE_CHROMIUM").ok();
    let browsers = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let is_there = named.is_some() || browsers.iter().any(|name| runs(name));
    if !is_there || !runs("python3") {
        let required = std::env::var_os("ENGINE_REQUIRE_BROWSER").is_some();
        assert!(!required, "no Chromium or no python3, and ENGINE_REQUIRE_BROWSER is set");
        eprintln!("skipped: no Chromium (or ENGINE_CHROMIUM) and python3 to open the page with");
        return None;
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/check_report.py");
    let ran = Command::new("python3")
        .args([text(&tool), text(page), "--into", text(folder), "--size", "1000x700"])
        .args(more)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(serde_json::from_slice(&ran.stdout).unwrap())
}

fn vector(value: &Value) -> DVec3 {
    DVec3::from([0, 1, 2].map(|i| value[i].as_f64().unwrap()))
}

/// How far a card may move a point: four bits of a pixel are the fewest that it must tell apart, and a point's place on
/// the grid is off by half a quantum, here a hundredth of a pixel.
const BORDER: f64 = 0.1;

/// A point that may be seen in a pixel.
#[derive(Clone, Copy)]
struct Candidate {
    depth: f64,
    colour: [u8; 3],
    /// Whether it is in this pixel wherever a card moves it.
    is_inside: bool,
}

/// The cloud as a plain program projects it, in doubles: the points that may be seen in each pixel, each of which
/// covers the one that it falls into. Rows from below, as the browser gives them.
fn projected(cloud: &[PlyPoint], still: &Value) -> Vec<Vec<Candidate>> {
    let side = |name: &str| still[name].as_u64().unwrap() as usize;
    let (width, height) = (side("width"), side("height"));
    let (eye, right, up, back) =
        (vector(&still["eye"]), vector(&still["right"]), vector(&still["up"]), vector(&still["back"]));
    let focal = height as f64 / 2.0 / still["tangent"].as_f64().unwrap();
    let mut pixels = vec![Vec::new(); width * height];
    for point in cloud {
        let at = DVec3::from(point.position) - eye;
        let depth = -at.dot(back);
        if depth <= 0.0 {
            continue;
        }
        let x = width as f64 / 2.0 + focal * at.dot(right) / depth;
        let y = height as f64 / 2.0 + focal * at.dot(up) / depth;
        let (across, down) = (touched(x, width), touched(y, height));
        for row in down.clone() {
            for column in across.clone() {
                let is_inside = across.len() == 1 && down.len() == 1 && x.min(y) >= BORDER;
                pixels[row * width + column].push(Candidate { depth, colour: point.colour, is_inside });
            }
        }
    }
    pixels
}

/// The pixels that a place along an axis may come to lie in.
fn touched(at: f64, pixels: usize) -> std::ops::Range<usize> {
    let clamped = |v: f64| v.floor().clamp(0.0, pixels as f64) as usize;
    clamped(at - BORDER)..clamped(at + BORDER + 1.0)
}

/// Whether a pixel shows what it should: the nearest point where that is sure, else one of those that it may be.
fn is_right(found: [u8; 3], candidates: &[Candidate], ground: [u8; 3]) -> bool {
    let same = |colour: [u8; 3]| found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 1);
    let nearest_inside = candidates.iter().filter(|c| c.is_inside).map(|c| c.depth).fold(f64::INFINITY, f64::min);
    // 24 bits of a depth that is far from linear do not tell apart what is nearer to each other than this share.
    let may_be_seen = |c: &&Candidate| c.depth <= nearest_inside * (1.0 + 1e-4);
    (nearest_inside == f64::INFINITY && same(ground)) || candidates.iter().filter(may_be_seen).any(|c| same(c.colour))
}

#[test]
fn a_browser_shows_what_the_run_has() {
    let run = Run::new();
    run.page(&[]);
    let folder = run.path("found");
    let Some(found) = found(&run.path("out/report.html"), &folder, &[]) else { return };
    assert_eq!(found["console"], serde_json::json!([]), "what the console says");
    let asked: Vec<&str> = found["asked"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert!(asked.iter().all(|url| url.starts_with("file:")) && asked.len() == 1, "{asked:?}");

    // The drawn pixels against a projection of the cloud in doubles.
    let cloud = read_ply(&run.path("out/fused.ply"));
    let still = &found["still"];
    let expected = projected(&cloud, still);
    let pixels = fs::read(folder.join("pixels.rgba")).unwrap();
    assert_eq!(pixels.len(), 4 * expected.len());
    let ground = [0, 1, 2].map(|i| (still["ground"][i].as_f64().unwrap() * 255.0).round() as u8);
    let sure = expected.iter().filter(|candidates| candidates.iter().any(|c| c.is_inside)).count();
    assert!(sure > 2000, "{sure} pixels with points");
    let found_at = |i: usize| [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    let wrong: Vec<usize> = (0..expected.len()).filter(|&i| !is_right(found_at(i), &expected[i], ground)).collect();
    assert!(wrong.is_empty(), "{} of {sure} pixels are not what they should be", wrong.len());

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
    let Some(found) = found(&run.path("out/report.html"), &folder, &["--fluent", "8"]) else { return };
    eprintln!("{}", found["fluent"]);
    assert_eq!(found["fluent"]["points"], count);
    assert_eq!(found["console"], serde_json::json!([]));
    // Four pictures a second on two cores that draw every pixel themselves; a graphics card is far from it.
    let median = found["fluent"]["drawn_in_ms"]["median"].as_f64().unwrap();
    assert!(median < 250.0, "{median} ms for a picture while moving");
}
