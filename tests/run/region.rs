//! Regions of interest: depths are searched there only, and the cloud ends at their sides. Ranges from a cloud.

use super::*;
use engine::manifest::Manifest;

const ARGUMENTS: [&str; 8] = ["--min-views", "1", "--levels", "1", "--min-confidence", "0.3", "--resolution", "half"];
/// Of the tilted plane around the origin.
const LOW: [f64; 3] = [-0.6, -0.5, -0.4];
const HIGH: [f64; 3] = [0.3, 0.4, 0.5];

fn corners() -> String {
    LOW.iter().chain(&HIGH).map(f64::to_string).collect::<Vec<_>>().join(",")
}

fn is_inside(point: &[f32; 3]) -> bool {
    (0..3).all(|k| (LOW[k]..=HIGH[k]).contains(&f64::from(point[k])))
}

fn infer(place: &Place, out: &str, roi: &str) -> Ran {
    place.infer(out, &[&ARGUMENTS[..], &["--roi", roi]].concat())
}

#[test]
fn the_cloud_ends_at_the_box_and_depths_are_searched_in_it() {
    let place = Place::new();
    place.infer("whole", &ARGUMENTS).done();
    let (_, whole) = cloud(&place.path("whole/fused.ply"));
    let expected = whole.iter().filter(|p| is_inside(p)).count();
    assert!(expected > 100 && expected * 5 < whole.len() * 4, "{expected} of {}", whole.len());

    let ran = infer(&place, "box", &corners()).done();
    assert!(ran.stderr.contains("note: region of interest: a box of 0.900000 x 0.900000 x 0.900000 around"), "{ran:?}");
    let (_, inside) = cloud(&place.path("box/fused.ply"));
    // Finer planes find a few more.
    assert!(inside.iter().all(is_inside));
    assert!(inside.len() * 10 > expected * 9 && inside.len() * 10 < expected * 12, "{} {expected}", inside.len());
    let manifest = Manifest::read(&place.path("box")).unwrap().unwrap();
    for (view, of) in manifest.views.iter().zip(&plane_scene::scene().views) {
        // The corners of the box, seen from 4 away, all in front of the camera.
        let z = |i: usize| {
            let corner =
                glam::DVec3::from_array(std::array::from_fn(|k| if i >> k & 1 == 1 { HIGH[k] } else { LOW[k] }));
            (of.r * corner + of.t).z
        };
        let (near, far) = (0..8).map(z).fold((f64::INFINITY, 0f64), |(n, f), z| (n.min(z), f.max(z)));
        let range = view.depth.as_ref().unwrap().range;
        // The box reaches out of no photo there, but for the pixels' own size; ends lie 2 % beyond.
        assert!(
            (range.near - 0.98 * near).abs() < 0.02 && (range.far - 1.02 * far).abs() < 0.02,
            "{range:?} {near} {far}"
        );
        assert!(range.far - range.near < 0.6 * (RANGE.1 - RANGE.0), "{range:?}");
    }

    // The same box in a file, turned by nothing, and on finished maps.
    let centre = |k: usize| 0.5 * (LOW[k] + HIGH[k]);
    let file = place.path("roi.txt");
    let text_of = format!("1 0 0\n0 1 0\n0 0 1\n{} {} {}\n0.45 0.45 0.45\n", centre(0), centre(1), centre(2));
    fs::write(&file, text_of).unwrap();
    infer(&place, "file", text(&file)).done();
    let bytes = |out: &str| fs::read(place.path(out).join("depth/00000003.pfm")).unwrap();
    assert!(bytes("file") == bytes("box"));
    let (maps, scene, out) = (place.path("whole"), place.scene(), place.path("fused"));
    let fuse =
        ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--roi", &corners(), "--min-views", "1"];
    engine(fuse).done();
    let (_, fused) = cloud(&place.path("fused/fused.ply"));
    assert!(fused.len() > 100 && fused.iter().all(is_inside), "{}", fused.len());
}

#[test]
fn regions_that_nobody_sees_or_that_are_none_are_refused() {
    let place = Place::new();
    let refused = |roi: &str, code: i32, told: &str| {
        let ran = infer(&place, "out", roi);
        assert!(ran.failed(code).contains(told), "{roi}: {}", ran.stderr);
        assert!(!place.path("out").exists(), "{roi}");
    };
    refused(
        "-1,-1,-90,1,1,-80",
        3,
        "no view sees anything of the region of interest, a box of 2.000000 x 2.000000 x 10",
    );
    refused("auto", 3, "no sparse points that a region of interest could be taken from");
    refused("none.txt", 4, "none.txt");
    for wrong in ["1,2,3", "1,0,0,0,1,1", "0,0,0,1,1,inf", "0,0,0,1,1,nan"] {
        let ran = infer(&place, "out", wrong);
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.stderr);
    }
}

/// A cloud on the scene's plane, with a stray in a hundred: ranges that the scene's files do not have.
#[test]
fn ranges_are_taken_from_a_cloud() {
    let place = Place::new();
    place.infer("whole", &ARGUMENTS).done();
    let whole = fs::read(place.path("whole/fused.ply")).unwrap();
    fs::write(place.path("cloud.ply"), &whole).unwrap();
    let ran = place.infer("out", &[&ARGUMENTS[..], &["--range-from", text(&place.path("cloud.ply"))]].concat()).done();
    assert!(ran.stderr.contains("note: depth ranges of 5 of 5 views from "), "{}", ran.stderr);
    let manifest = Manifest::read(&place.path("out")).unwrap().unwrap();
    for (view, of) in manifest.views.iter().zip(&plane_scene::scene().views) {
        let (width, height) = (plane_scene::SIZE.0 as usize, plane_scene::SIZE.1 as usize);
        let depths = (0..width * height).map(|i| plane_scene::depth(of, (i % width) as f64, (i / width) as f64));
        let (near, far) = depths.fold((f64::INFINITY, 0f64), |(n, f), z| (n.min(z), f.max(z)));
        let range = view.depth.as_ref().unwrap().range;
        // The plane's own depths widened by a tenth; its outermost parts are seen by too few views to have points.
        assert!((range.near / (0.9 * near) - 1.0).abs() < 0.06, "{range:?} {near}");
        assert!((range.far / (1.1 * far) - 1.0).abs() < 0.06, "{range:?} {far}");
    }
    let refused = |text_of: &str, told: &str| {
        fs::write(place.path("cloud.ply"), text_of).unwrap();
        let ran = place.infer("no", &[&ARGUMENTS[..], &["--range-from", text(&place.path("cloud.ply"))]].concat());
        assert!(ran.failed(3).contains(told), "{}", ran.stderr);
    };
    refused("plx", "cloud.ply");
    let head = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n";
    refused(
        &format!("{head}end_header\n0 0 0\n"),
        "1 point, of which no view sees 20; expected a cloud in the scene's coordinates",
    );
}
