//! Scenes at coordinates of millions, from their files to the cloud's.

use glam::DVec3;

use super::*;

const OFFSETS: [[f64; 3]; 3] = [[448_262.0, 5_411_932.0, 320.0], [-1e7, 6e6, -1e3], [1e3, -2e3, 0.0]];

/// A cloud's comments and positions, in whatever type they are.
fn positions(path: &Path) -> (String, Vec<DVec3>) {
    let bytes = fs::read(path).unwrap();
    let end = b"end_header\n";
    let at = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let header = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let (size, stride) = if header.contains("property double x") { (8, 44) } else { (4, 32) };
    let number = |v: &[u8]| match size {
        8 => f64::from_le_bytes(v.try_into().unwrap()),
        _ => f64::from(f32::from_le_bytes(v.try_into().unwrap())),
    };
    let vertex = |v: &[u8]| DVec3::from([0, 1, 2].map(|axis| number(&v[size * axis..size * (axis + 1)])));
    let positions = bytes[at..].chunks_exact(stride).map(vertex).collect();
    (header, positions)
}

/// 4 in front of cameras of 110 pixels a unit.
const SPACING: f64 = 4.0 / 110.0;

/// The median distance of a point to its nearest neighbour.
fn spacing(points: &[DVec3]) -> f64 {
    let nearest = |at: usize| {
        let others = points.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, other)| other.distance(points[at])).fold(f64::INFINITY, f64::min)
    };
    let mut all: Vec<f64> = (0..points.len()).step_by(7).map(nearest).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[track_caller]
fn assert_near(found: &[DVec3], expected: &[DVec3], offset: [f64; 3], bound: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let off = (*found - DVec3::from(offset)).distance(*expected);
        assert!(off < bound, "{found} less {offset:?} is not {expected} but {off} off");
    }
}

#[test]
fn maps_are_fused_alike_wherever_the_scene_is() {
    let place = Place::new();
    place.infer("out", &["--quiet", "--levels", "2"]).done();
    let maps = place.path("out");
    let fuse = |scene: &Path, out: &str, more: &[&str]| {
        let out = place.path(out);
        let base = ["fuse", text(&maps), "--scene", text(scene), "-o", text(&out), "--force"];
        let ran = engine(base.iter().chain(more)).done();
        (ran, positions(&out.join("fused.ply")), json(&out.join("manifest.json")))
    };
    let ways: [&[&str]; 6] = [
        &[],
        &["--method", "pyramid", "--levels", "2", "--doublings", "0"],
        &["--method", "dynamic"],
        &["--method", "disparity"],
        &["--method", "graph", "--min-pixels", "2"],
        &["--thin", "0.07"],
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (ran, (header, expected), manifest) = fuse(&place.scene(), "here", way);
        assert!(header.contains("property float x\n") && !header.contains("offset"), "{header}");
        assert!(!ran.stderr.contains("double") && manifest["cloud"]["double"] == false);
        assert!(expected.len() > 300, "{way:?}: {}", expected.len());
        for offset in OFFSETS {
            let scene = place.path("far");
            plane_scene::write_moved(&scene, offset.into());
            let (ran, (header, found), manifest) = fuse(&scene, "there", way);
            assert_near(&found, &expected, offset, 1e-3 * spacing(&expected));
            if offset[1].abs() > 1e6 {
                assert!(header.contains("property double x\nproperty double y\nproperty double z\nproperty float nx"));
                assert!(ran.stderr.contains("note: fused.ply has coordinates of type double"), "{}", ran.stderr);
                assert_eq!(manifest["cloud"]["double"], true);
                assert!(manifest["notes"].to_string().contains("type double"));
            }
            if number > 0 {
                continue;
            }
            // With offsets, floats do.
            let [x, y, z] = offset;
            let given = format!("--ply-offset={x},{y},{z}");
            let (ran, (header, found), manifest) = fuse(&scene, "there", &[&given]);
            assert_near(&found, &expected, [0.0; 3], 1e-3 * SPACING);
            assert!(header.contains(&format!("comment ply-offset {x} {y} {z}\n")), "{header}");
            assert!(header.contains("property float x\n"), "{header}");
            assert!(
                ran.stderr.contains(&format!("note: fused.ply has coordinates less {x} {y} {z}, as its header says"))
            );
            assert_eq!(manifest["cloud"], serde_json::json!({ "double": false, "offset": offset }));
            assert_eq!(manifest["parameters"]["ply_offset"], format!("{x},{y},{z}"));
            let (_, (header, found), manifest) = fuse(&scene, "there", &["--ply-offset", "auto"]);
            let taken: Vec<f64> = serde_json::from_value(manifest["cloud"]["offset"].clone()).unwrap();
            assert!(header.contains("property float x\n"), "{header}");
            assert_near(&found, &expected, [0, 1, 2].map(|a| offset[a] - taken[a]), 1e-3 * SPACING);
        }
    }
    // One that is no offset.
    let scene = place.scene();
    let ran = engine(["fuse", text(&maps), "--scene", text(&scene), "--ply-offset", "1,2"]);
    assert!(ran.stderr.contains("expected auto, none, or three numbers X,Y,Z"), "{}", ran.stderr);
}

#[test]
fn the_whole_job_gives_the_moved_cloud_and_it_is_measured_as_the_unmoved_one() {
    let place = Place::new();
    let arguments = ["--quiet", "--levels", "1", "--min-views", "1"];
    place.infer("out", &arguments).done();
    let (_, here) = positions(&place.path("out/fused.ply"));
    let offset = OFFSETS[0];
    let scene = place.path("far");
    plane_scene::write_moved(&scene, offset.into());
    let infer = |out: &str, more: &[&str]| {
        let out = place.path(out);
        engine(["infer", text(&scene), "-o", text(&out)].iter().chain(&arguments).chain(more)).done();
        positions(&out.join("fused.ply")).1
    };
    let there = infer("there", &[]);
    // Homographies are rounded to f32 after other cancellations: a depth may differ in its last places, and a pixel at
    // a threshold may fall on its other side.
    let moved: Vec<DVec3> = there.iter().map(|p| *p - DVec3::from(offset)).collect();
    let far = |p: &&DVec3| moved.iter().all(|q| q.distance(**p) > 1e-3 * SPACING);
    let lost = here.iter().filter(far).count();
    assert!(here.len().abs_diff(there.len()) * 500 < here.len() && lost * 500 < here.len(), "{lost} of {}", here.len());
    let with_offset = infer("with", &["--ply-offset", "auto"]);
    assert!(with_offset.len() == there.len() && with_offset.iter().all(|p| p.length() < 10.0));

    // The same numbers as near the origin, to six digits, whether doubles or floats with an offset.
    let eval = |cloud: &str, reference: &str, more: &[&str]| {
        let [cloud, reference, out] = [cloud, reference, "numbers.json"].map(|name| place.path(name));
        let base = ["eval", "cloud", text(&cloud), text(&reference), "--thresholds", "0.05,0.1", "--out", text(&out)];
        let ran = engine(base.iter().chain(more)).done();
        (json(&out)["numbers"].clone(), ran.stderr)
    };
    for more in [&[][..], &["--voxel", "0.2"]] {
        let (doubles, said) = eval("there/fused.ply", "with/fused.ply", more);
        assert!(said.contains("added to all coordinates, as its header says (ply-offset)"), "{said}");
        // Floats of some units.
        assert!(doubles["accuracy"]["mean"].as_f64().unwrap() < 1e-6, "{doubles}");
    }
}
