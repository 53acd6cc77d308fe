//! `engine eval depth`: maps of several sizes against their truth, from the command line to tables, pictures and JSON,
//! and each bad input with its line.

use std::fs;
use std::path::Path;

use engine::files::map::Map;
use engine::files::pfm;
use tempfile::TempDir;

#[path = "support/program.rs"]
mod program;
#[path = "support/svg.rs"]
mod svg;

use program::{engine, json, text};

const FINE: (usize, usize) = (30, 22);

fn map(size: (usize, usize), value: impl Fn(usize, usize) -> f32) -> Map {
    let data = (0..size.0 * size.1).map(|i| value(i % size.0, i / size.0)).collect();
    Map { width: size.0, height: size.1, data }
}

fn write(root: &Path, file: &str, map: &Map) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    pfm::write(&path, map).unwrap();
}

/// True depth at a pixel of the fine grid.
fn depth(x: usize, y: usize) -> f32 {
    100.0 + x as f32 + 0.5 * y as f32
}

/// A quarter-size map that is 1 % too far in its right half, where the confidence is low, and nothing in its first row.
fn write_maps(root: &Path, name: &str) -> (usize, usize) {
    let size = (FINE.0.div_ceil(4), FINE.1.div_ceil(4));
    let right = |x: usize| x >= size.0 / 2;
    let wrong = |x: usize| if right(x) { 1.01 } else { 1.0 };
    let found = map(size, |x, y| if y == 0 { 0.0 } else { depth(4 * x, 4 * y) * wrong(x) });
    write(root, &format!("out/depth/{name}.pfm"), &found);
    let confidence = map(size, |x, _| if right(x) { 0.25 } else { 0.95 });
    write(root, &format!("out/confidence/{name}.pfm"), &confidence);
    size
}

fn run(root: &Path, more: &[&str]) -> program::Ran {
    let (maps, truth) = (root.join("out"), root.join("truth"));
    let first = ["eval", "depth", text(&maps), "--truth", text(&truth), "--threads", "2"];
    engine(first.iter().chain(more))
}

#[test]
fn finer_truth_is_taken_at_the_pixels_that_coincide() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let size = write_maps(root, "a");
    // Between the pixels that coincide the truth is nonsense, so that one wrong pixel would show.
    let whole = |x: usize, y: usize| x.is_multiple_of(4) && y.is_multiple_of(4);
    write(root, "truth/depth/a.pfm", &map(FINE, |x, y| if whole(x, y) { depth(x, y) } else { 7.0 }));
    let manifest = r#"{"program":"engine","command":"infer","parameters":{},"views":[
        {"name":"a","depth":{"range":{"near":100.0,"far":200.0},"planes":201,"sampling":"linear","levels":[]}}]}"#;
    fs::write(root.join("out/manifest.json"), manifest).unwrap();
    let out = root.join("numbers/all.json");
    let (plot, pictures) = (root.join("plot/errors.svg"), root.join("pictures"));
    let more = ["--out", text(&out), "--plot", text(&plot), "--error-maps", text(&pictures)];
    let ran = run(root, &more).done();
    assert!(ran.stderr.contains("every 4. pixel of the truth, from pixel 0 on"), "{}", ran.stderr);
    assert!(ran.stdout.contains("skill of the confidence: 1.00"), "{}", ran.stdout);

    let numbers = json(&out);
    let view = &numbers["views"][0];
    assert_eq!((view["name"].as_str(), view["interval"].as_f64()), (Some("a"), Some(0.5)));
    let all = &numbers["all"];
    assert_eq!(all, &view["numbers"]);
    let (pixels, row) = ((size.0 * size.1) as f64, size.0 as f64);
    let of = |name: &str| all[name].as_f64().unwrap();
    assert_eq!((of("pixels"), of("pixels_without_depth")), (pixels, row));
    // 8 columns, 4 of them wrong by 1 %: at depths of 100 and more that is over one unit, two intervals.
    let exact = (pixels - row) / 2.0 / pixels;
    for name in ["within_1_interval", "within_2_intervals", "within_0_2_percent", "within_0_5_percent"] {
        assert_eq!(of(name), exact, "{name}");
    }
    assert_eq!((of("within_4_intervals"), of("within_2_percent")), (2.0 * exact, 2.0 * exact));
    // f32 knows a depth of 100 to 4e-8, so that 1 % of it is off by 8e-6 of itself.
    assert!((of("mean_error_rel") - 0.005).abs() < 1e-6);
    // The measures of training's validation are there too, and their calibration is shown.
    assert_eq!(all["validation"]["within_1_interval"].as_f64(), Some(exact));
    let bins = all["confidence"]["calibration"].as_array().unwrap();
    assert_eq!(bins[9]["right_share"].as_f64(), Some((pixels - row) / pixels));
    assert_eq!(bins[2]["right_share"].as_f64(), Some(0.0));

    let words = svg::readable(&fs::read_to_string(&plot).unwrap());
    for word in ["error, % of the true depth", "mean error, % of the true depth", "right: an error under 2 intervals"] {
        assert!(words.iter().any(|w| w == word), "{word} among {words:?}");
    }
    assert!(image::open(pictures.join("a.png")).unwrap().width() > 4 * 240);
}

#[test]
fn coarser_truth_picks_pixels_of_the_map_and_what_is_unknown_is_left_out() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let size = write_maps(root, "a");
    write_maps(root, "b");
    let half = (size.0.div_ceil(2), size.1.div_ceil(2));
    write(root, "truth/a.pfm", &map(half, |x, y| depth(8 * x, 8 * y)));
    let out = root.join("all.json");
    let ran = run(root, &["--out", text(&out)]).done();
    assert!(ran.stderr.contains("every 2. pixel of the map, from pixel 0 on"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 map without a truth left out (first: b)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the interval of 1 of 1 maps is not known"), "{}", ran.stderr);
    let all = &json(&out)["all"];
    assert_eq!(all["pixels"].as_u64(), Some((half.0 * half.1) as u64));
    // Columns 0 and 2 of 8 are right, 4 and 6 wrong; the first row has no depth.
    let expected = (half.1 - 1) as f64 / half.1 as f64 / 2.0;
    assert_eq!(all["within_0_2_percent"].as_f64(), Some(expected));
    assert!(all["within_1_interval"].is_null() && all["validation"].is_null());
    // The same numbers on any number of threads, and with --interval also those in intervals.
    let ran = run(root, &["--interval", "2", "--json"]).done();
    let events = ran.events();
    let summary = events.iter().find(|e| e["event"] == "summary").unwrap();
    assert_eq!(summary["all"]["within_1_interval"].as_f64(), Some(2.0 * expected));

    // Without confidence nothing is said about it.
    fs::remove_dir_all(root.join("out/confidence")).unwrap();
    let plot = root.join("plot.svg");
    let ran = run(root, &["--out", text(&out), "--plot", text(&plot)]).done();
    assert!(ran.stderr.contains("no confidence/"), "{}", ran.stderr);
    assert!(json(&out)["all"]["confidence"].is_null() && !ran.stdout.contains("skill of"));
    let words = svg::readable(&fs::read_to_string(&plot).unwrap());
    assert!(words.iter().all(|w| !w.contains("confiden")), "{words:?}");
    let ran = run(root, &["--plot", text(&plot.with_extension("png"))]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("expected a file name that ends in .svg"), "{}", ran.stderr);
}

#[test]
fn bad_input_is_told_in_one_line() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let size = write_maps(root, "a");
    let told = |code: i32| run(root, &[]).failed(code).replace(&root.display().to_string(), "ROOT");
    assert!(told(4).starts_with("ROOT/truth: cannot list the maps"), "{}", told(4));
    write(root, "truth/b.pfm", &map(size, |_, _| 1.0));
    assert_eq!(
        told(3),
        "ROOT/truth: no truth for any of 1 map (there are b.pfm, ...); expected a.pfm, the true depth of the map with \
         this name"
    );
    write(root, "truth/a.pfm", &map((9, 6), |_, _| 1.0));
    assert_eq!(
        told(3),
        "ROOT/truth/a.pfm: a truth of 9 x 6 for a map of 8 x 6; expected the same size, or one that keeps every n-th \
         pixel of the other (ceil(W / n) x ceil(H / n)); resample the truth by keeping pixels, not by averaging"
    );
    // A truth only where the map has no depth, and a truth without a pixel.
    write(root, "truth/a.pfm", &map(size, |_, y| if y == 0 { 1.0 } else { 0.0 }));
    assert_eq!(
        told(6),
        "ROOT/out: of 1 map, 8 pixels with a truth in ROOT/truth and none of these has a depth, so there is nothing to \
         compare"
    );
    write(root, "truth/a.pfm", &map(size, |_, _| f32::NAN));
    assert!(told(6).contains("0 pixels with a truth"));
    write(root, "truth/a.pfm", &map(size, |_, _| 1.0));
    write(root, "out/confidence/a.pfm", &map((8, 5), |_, _| 1.0));
    assert_eq!(told(3), "ROOT/out/confidence/a.pfm: a map of 8 x 5; expected the size of its depth map, 8 x 6");
    fs::write(root.join("out/manifest.json"), "{").unwrap();
    assert!(told(3).starts_with("ROOT/out/manifest.json: not a manifest (EOF while"), "{}", told(3));
    let manifest = r#"{"command":"infer","views":[
        {"name":"a","depth":{"range":{"near":1.0,"far":2.0},"planes":100000000000,"sampling":"linear"}}]}"#;
    fs::write(root.join("out/manifest.json"), manifest).unwrap();
    assert_eq!(
        told(3),
        "ROOT/out/manifest.json: view a: 100000000000 planes from 1 to 2; expected 1 to 65536 planes with 0 < near < \
         far"
    );
    fs::remove_dir_all(root.join("out/depth")).unwrap();
    fs::create_dir(root.join("out/depth")).unwrap();
    assert_eq!(told(3), "ROOT/out/depth: no .pfm file; expected maps NAME.pfm");
}
