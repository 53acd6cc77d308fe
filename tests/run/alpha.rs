//! Photos with transparent parts: no depth, no point and no confirmation there.

use super::*;

/// Points of the plane with an x above this are transparent.
const CUT: f64 = 0.2;

#[test]
fn transparent_parts_have_no_depth_and_no_points() {
    let place = Place::new();
    let arguments = ["--min-views", "1", "--levels", "2", "--min-confidence", "0.3"];
    place.infer("opaque", &arguments).done();
    let is_beyond = |point: &[f32; 3]| f64::from(point[0]) > CUT;
    let (_, opaque) = cloud(&place.path("opaque/fused.ply"));
    let beyond = opaque.iter().filter(|p| is_beyond(p)).count();
    assert!(beyond * 5 > opaque.len(), "{beyond} of {}", opaque.len());

    let scene = place.scene();
    let alphas = plane_scene::make_transparent(&scene, |point| point.x > CUT);
    for (out, resolution, step) in [("full", "full", 1), ("quarter", "quarter", 4)] {
        let more = [&arguments[..], &["--resolution", resolution]].concat();
        let ran = place.infer(out, &more).done();
        let note =
            "note: 5 of 5 photos have masked parts (by a mask, or their own alpha below 0.5): no depth, no point";
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        assert!(json(&place.path(out).join("manifest.json"))["notes"].to_string().contains("masked parts"));
        for (name, alpha) in NAMES.iter().zip(&alphas) {
            let depth = pfm::read(&place.path(out).join(format!("depth/{name}.pfm"))).unwrap();
            for i in 0..depth.data.len() {
                let (x, y) = (i % depth.width * step, i / depth.width * step);
                let is_opaque = alpha.get_pixel(x as u32, y as u32).0[0] >= 128;
                assert_eq!(depth.data[i] > 0.0, is_opaque, "{name} {x} {y}");
            }
        }
    }
    // What is left is as before: sources that look at the cut confirm a little less beside it.
    let (_, left) = cloud(&place.path("full/fused.ply"));
    // A pixel is 0.04 wide there, and its depth may be 1 % off.
    assert!(left.iter().all(|p| f64::from(p[0]) < CUT + 0.06), "{:?}", left.iter().find(|p| is_beyond(p)));
    let inside = |points: &[[f32; 3]]| points.iter().filter(|p| f64::from(p[0]) < CUT - 0.1).count();
    assert!(inside(&left) * 10 > inside(&opaque) * 9, "{} {}", inside(&left), inside(&opaque));

    // Maps of the opaque photos, fused with the transparent ones, by methods that read finished maps or all levels.
    let maps = place.path("opaque");
    let methods: [&[&str]; 3] = [
        &["--min-views", "1"],
        &["--method", "pyramid", "--levels", "2", "--doublings", "0", "--min-views", "1"],
        &["--method", "disparity", "--min-views", "1"],
    ];
    for method in methods {
        let out = place.path("fused");
        let base = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--force"];
        let ran = engine(base.iter().chain(method)).done();
        assert!(ran.stderr.contains("note: 5 of 5 photos have masked parts"), "{}", ran.stderr);
        let (_, fused) = cloud(&out.join("fused.ply"));
        assert!(fused.len() > 500, "{method:?}: {}", fused.len());
        assert!(fused.iter().all(|p| f64::from(p[0]) < CUT + 0.06), "{method:?}");
    }
}
