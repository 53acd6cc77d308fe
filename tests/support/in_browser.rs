//! A page in a real browser, where there is one: `tools/check_report.py` opens it in a headless Chromium with software
//! graphics and says what it finds there.

use std::path::Path;
use std::process::Command;

use glam::DVec3;
use serde_json::Value;

use crate::page_reading::PlyPoint;
use crate::program::text;

/// What the tool finds on a page; nothing where there is no browser, or no Python to drive it, unless
/// ENGINE_REQUIRE_BROWSER says that there must be.
pub fn found(page: &str, folder: &Path, more: &[&str]) -> Option<Value> {
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
        .args([text(&tool), page, "--into", text(folder), "--size", "1000x700"])
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

/// That the pixels which a browser has drawn are those of the cloud.
pub fn expect_pixels(found: &Value, folder: &Path, cloud: &[PlyPoint]) {
    // The drawn pixels against a projection of the cloud in doubles.
    let still = &found["still"];
    let expected = projected(cloud, still);
    let pixels = std::fs::read(folder.join("pixels.rgba")).unwrap();
    assert_eq!(pixels.len(), 4 * expected.len());
    let ground = [0, 1, 2].map(|i| (still["ground"][i].as_f64().unwrap() * 255.0).round() as u8);
    let sure = expected.iter().filter(|candidates| candidates.iter().any(|c| c.is_inside)).count();
    assert!(sure > 2000, "{sure} pixels with points");
    let found_at = |i: usize| [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    let wrong: Vec<usize> = (0..expected.len()).filter(|&i| !is_right(found_at(i), &expected[i], ground)).collect();
    assert!(wrong.is_empty(), "{} of {sure} pixels are not what they should be", wrong.len());
}
