//! Maps with values that are no confidences or lead nowhere: as if those pixels had no depth, and said so.

use super::*;

/// Values that are no confidence.
const WRONG: [f32; 7] = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e38, -0.5, 1.5, 255.0];

/// Every so-many-th pixel from `first` on.
fn change(path: &Path, first: usize, step: usize, value: impl Fn(usize) -> f32) {
    let mut map = pfm::read(path).unwrap();
    for i in (first..map.data.len()).step_by(step) {
        map.data[i] = value(i);
    }
    pfm::write(path, &map).unwrap();
}

#[test]
fn pixels_without_a_confidence_from_0_to_1_are_as_those_without_depth_by_every_method() {
    let place = Place::new();
    place.infer("damaged", &["--quiet", "--levels", "2"]).done();
    place.infer("cut", &["--quiet", "--levels", "2"]).done();
    let (damaged, cut) = (place.path("damaged"), place.path("cut"));
    for name in NAMES {
        for levels in ["", "levels/0", "levels/1"] {
            let file = |root: &Path, kind: &str| root.join(levels).join(kind).join(format!("{name}.pfm"));
            change(&file(&damaged, "confidence"), 3, 11, |i| WRONG[i % WRONG.len()]);
            change(&file(&damaged, "depth"), 5, 97, |_| 3e38);
            change(&file(&cut, "confidence"), 3, 11, |_| 0.0);
            change(&file(&cut, "depth"), 3, 11, |_| 0.0);
            change(&file(&cut, "depth"), 5, 97, |_| 0.0);
        }
    }
    let scene = place.scene();
    let methods: [&[&str]; 6] = [
        &["--min-segment-px", "0"],
        &["--min-segment-px", "0", "--min-confidence", "0"],
        &["--method", "pyramid", "--levels", "2", "--doublings", "1"],
        &["--method", "dynamic"],
        &["--method", "disparity"],
        &["--method", "graph", "--min-pixels", "2"],
    ];
    for method in methods {
        let fuse = |maps: &Path, out: &str| {
            let out = place.path(out);
            let base = ["fuse", text(maps), "--scene", text(&scene), "-o", text(&out), "--force"];
            let ran = engine(base.iter().chain(method)).done();
            (ran, fs::read(out.join("fused.ply")).unwrap())
        };
        let (ran, found) = fuse(&damaged, "a");
        let (other, expected) = fuse(&cut, "b");
        assert!(found == expected, "{method:?}");
        // 96 x 64 pixels: 559 of every view, less those with the depth that leads nowhere.
        assert!(ran.stderr.contains(" pixels with a confidence outside 0..1 (or none) count as without depth"));
        assert!(ran.stderr.contains(" pixels with a depth above 1e30 count as without depth"), "{}", ran.stderr);
        assert!(!other.stderr.contains("count as without depth"), "{}", other.stderr);
        let notes = json(&place.path("a/manifest.json"))["notes"].to_string();
        assert!(notes.contains("outside 0..1") && notes.contains("above 1e30"), "{notes}");
        let (_, points) = cloud(&place.path("a/fused.ply"));
        assert!(points.len() > 200 && points.iter().flatten().all(|v| v.is_finite() && v.abs() < 100.0));
    }

    // The doctor says so, and measures leave them out.
    let doctor = |run: &Path| engine(["doctor", text(&scene), "--run", text(run), "--json", "--no-photos"]);
    let finding = |ran: &Ran| ran.events().into_iter().find(|e| e["name"] == "run-map-values");
    let said = finding(&doctor(&damaged)).expect("a finding");
    assert_eq!(said["grade"], "warning");
    assert!(said["found"].as_str().unwrap().contains("outside 0..1"), "{said}");
    assert!(finding(&doctor(&cut)).is_none());
    let truth = place.path("truth");
    fs::create_dir(&truth).unwrap();
    for (name, view) in NAMES.iter().zip(plane_scene::scene().views) {
        let mut map = engine::files::map::Map::filled(96, 64, 0.0);
        (0..96 * 64).for_each(|i| map.data[i] = plane_scene::depth(&view, (i % 96) as f64, (i / 96) as f64) as f32);
        pfm::write(&truth.join(format!("{name}.pfm")), &map).unwrap();
    }
    let measure = |maps: &Path| {
        let out = place.path("numbers.json");
        let ran = engine(["eval", "depth", text(maps), "--truth", text(&truth), "--out", text(&out)]).done();
        (ran, json(&out)["all"].clone())
    };
    let ((ran, found), (_, expected)) = (measure(&damaged), measure(&cut));
    assert_eq!(found, expected);
    assert!(ran.stderr.contains("outside 0..1") && ran.stderr.contains("above 1e30"), "{}", ran.stderr);
}
