//! Files, colours, and what other programs say of them.

use super::*;
use plane_scene::NAMES;
use std::process::Command;

/// UTM coordinates: floats have steps of half a unit there.
const FAR: DVec3 = DVec3::new(448_262.0, 5_411_932.0, 320.0);

/// A plane with photos, exact depths and confidence 0.9, fused: its folder OUT in a folder of its own.
pub fn plane(offset: DVec3) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let (scene, maps) = (root.path().join("scene"), root.path().join("maps"));
    plane_scene::write_moved(&scene, offset);
    for (view, name) in plane_scene::scene().views.iter().zip(NAMES) {
        for kind in ["depth", "confidence"] {
            fs::create_dir_all(maps.join(kind)).unwrap();
        }
        let (width, height) = (plane_scene::SIZE.0 as usize, plane_scene::SIZE.1 as usize);
        let depth = |i: usize| plane_scene::depth(view, (i % width) as f64, (i / width) as f64) as f32;
        let depth = Map { width, height, data: (0..width * height).map(depth).collect() };
        pfm::write(&maps.join(format!("depth/{name}.pfm")), &depth).unwrap();
        pfm::write(&maps.join(format!("confidence/{name}.pfm")), &Map::filled(width, height, 0.9)).unwrap();
    }
    let out = root.path().join("out");
    let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--quiet"];
    engine(words).done();
    root
}

fn mesh(root: &Path, more: &[&str]) -> Ran {
    engine(["mesh", text(&root.join("out")), "--voxel", "0.05"].iter().chain(more)).done()
}

#[test]
fn every_format_has_the_same_mesh_wherever_the_scene_is() {
    for offset in [DVec3::ZERO, FAR] {
        let root = plane(offset);
        let ran = mesh(root.path(), &["--to", "ply,obj,glb"]);
        let folder = root.path().join("out/mesh");
        let (ply, obj) = (readers::ply(&folder.join("mesh.ply")), readers::obj(&folder.join("mesh.obj")));
        let (json, glb) = readers::glb(&folder.join("mesh.glb"));
        assert!(ply.faces.len() > 2000, "{}", ply.faces.len());
        let is_far = offset != DVec3::ZERO;
        assert_eq!(ply.header.contains(&"property double x".to_owned()), is_far);
        assert_eq!(ran.stderr.contains("floats are too coarse"), is_far, "{}", ran.stderr);
        assert_eq!(json["nodes"][0].get("translation").is_some(), is_far);
        assert_eq!((&ply.faces, &ply.faces), (&obj.faces, &glb.faces));
        for i in 0..ply.positions.len() {
            let at = ply.positions[i];
            // A tenth of a voxel of 0.05, by depths in f32; the plane's file is exact.
            assert!(plane_scene::distance((at - offset).to_array()) < 0.005, "{at}");
            assert_eq!(at.as_vec3(), obj.positions[i].as_vec3());
            assert!(!is_far || at == obj.positions[i]);
            // Floats of at most 4 units have steps of 2.4e-7.
            assert!((at - glb.positions[i]).abs().max_element() <= 2.4e-7, "{at} {}", glb.positions[i]);
            assert!((ply.normals[i] - obj.normals[i]).length() < 1e-4 && ply.normals[i] == glb.normals[i]);
            // Towards the cameras, which stand at z = -4.
            assert!(ply.normals[i].dot(-DVec3::new(0.15, -0.1, 1.0).normalize()) > 0.99);
            for c in 0..3 {
                // Four digits; 16 bits of linear light.
                assert!((ply.colours[i][c] - obj.colours[i][c]).abs() < 6e-5);
                assert!((ply.colours[i][c] - glb.colours[i][c]).abs() < 1e-4);
            }
        }
        // Floats less an offset.
        if is_far {
            mesh(root.path(), &["--ply-offset", "448262,5411932,320"]);
            let moved = readers::ply(&folder.join("mesh.ply"));
            assert!(moved.header.contains(&"property float x".to_owned()));
            assert!(moved.header.contains(&"comment ply-offset 448262 5411932 320".to_owned()));
            let apart = moved.positions.iter().zip(&ply.positions).map(|(a, b)| (*a + offset - *b).length());
            assert!(apart.fold(0.0, f64::max) < 5e-7);
        }
    }
}

#[test]
fn colours_are_those_of_the_photos() {
    let root = plane(DVec3::ZERO);
    mesh(root.path(), &[]);
    let mesh = readers::ply(&root.path().join("out/mesh/mesh.ply"));
    // Of each vertex, the colour that the middle photo has there: it is the sharpest, or as sharp as any.
    let view = &plane_scene::scene().views[2];
    let photo = image::open(root.path().join("scene/images").join(&view.file)).unwrap().into_rgb8();
    let (mut compared, mut off) = (0, 0.0);
    for (at, colour) in mesh.positions.iter().zip(&mesh.colours) {
        let q = view.k * (view.r * *at + view.t);
        let (x, y) = ((q.x / q.z).round(), (q.y / q.z).round());
        if x >= 2.0 && y >= 2.0 && x < 94.0 && y < 62.0 {
            let pixel = photo.get_pixel(x as u32, y as u32).0;
            off += (0..3).map(|c| (f64::from(pixel[c]) / 255.0 - colour[c]).abs()).sum::<f64>() / 3.0;
            compared += 1;
        }
    }
    assert!(compared > 800, "{compared}");
    // Half a pixel aside, colours of this scene differ by some 0.03; of another place by 0.15.
    assert!(off / f64::from(compared) < 0.05, "{}", off / f64::from(compared));
    // With a photo less, and without any.
    let ran = engine(["mesh", text(&root.path().join("out")), "--no-colours", "--voxel", "0.05"]).done();
    assert!(!ran.stderr.contains("colour"), "{}", ran.stderr);
    let plain = readers::ply(&root.path().join("out/mesh/mesh.ply"));
    assert!(plain.colours.is_empty() && plain.positions == mesh.positions);
}

#[test]
fn a_texture_shows_the_photos() {
    let root = plane(DVec3::ZERO);
    mesh(root.path(), &["--to", "obj,glb", "--texture"]);
    let folder = root.path().join("out/mesh");
    let picture = image::open(folder.join("mesh.jpg")).unwrap().into_rgb8();
    assert!(fs::read_to_string(folder.join("mesh.mtl")).unwrap().contains("map_Kd mesh.jpg"));
    let obj = fs::read_to_string(folder.join("mesh.obj")).unwrap();
    let list = |kind: &str| -> Vec<Vec<f64>> {
        let lines = obj.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect()
    };
    let (positions, places) = (list("v "), list("vt "));
    assert!(places.iter().flatten().all(|v| (0.0..=1.0).contains(v)));
    // In the middle of each triangle, the picture against the middle photo.
    let view = &plane_scene::scene().views[2];
    let photo = image::open(root.path().join("scene/images").join(&view.file)).unwrap().into_rgb8();
    let (mut off, mut compared) = (0.0, 0);
    for line in obj.lines().filter_map(|line| line.strip_prefix("f ")) {
        let corners: Vec<Vec<usize>> =
            line.split(' ').map(|c| c.split('/').map(|n| n.parse::<usize>().unwrap() - 1).collect()).collect();
        let mean = |values: &[Vec<f64>], which: usize, axis: usize| {
            corners.iter().map(|corner| values[corner[which]][axis]).sum::<f64>() / 3.0
        };
        let at = DVec3::from([0, 1, 2].map(|axis| mean(&positions, 0, axis)));
        let q = view.k * (view.r * at + view.t);
        let (x, y) = ((q.x / q.z).round(), (q.y / q.z).round());
        if x >= 2.0 && y >= 2.0 && x < 94.0 && y < 62.0 {
            let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
            let (u, v) = (mean(&places, 1, 0) * width, (1.0 - mean(&places, 1, 1)) * height);
            let (shown, truth) = (picture.get_pixel(u as u32, v as u32).0, photo.get_pixel(x as u32, y as u32).0);
            off += (0..3).map(|c| f64::from(shown[c].abs_diff(truth[c])) / 255.0).sum::<f64>() / 3.0;
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
    // As for colours of vertices: half a pixel aside is 0.03, another place 0.15.
    assert!(off / f64::from(compared) < 0.05, "{}", off / f64::from(compared));
    let (json, _) = readers::glb(&folder.join("mesh.glb"));
    assert_eq!(json["images"][0]["mimeType"], "image/jpeg");
    let primitive = &json["meshes"][0]["primitives"][0]["attributes"];
    assert!(primitive["TEXCOORD_0"].is_u64() && primitive["COLOR_0"].is_null());
    // The texture's files go with it.
    mesh(root.path(), &["--to", "obj"]);
    assert!(!folder.join("mesh.jpg").exists() && !folder.join("mesh.mtl").exists());
}

/// Whether a program of others is there; where it is not, what is skipped, or a failure if it is required.
pub fn is_there(what: &str, variable: &str, command: &mut Command) -> bool {
    let there = command.output().is_ok_and(|ran| ran.status.success());
    if !there {
        assert!(std::env::var_os(variable).is_none(), "no {what}, and {variable} is set");
        eprintln!("skipped: no {what}");
    }
    there
}

#[test]
fn other_programs_read_the_meshes() {
    let ball = [Solid::Ball { centre: DVec3::ZERO, radius: 1.0 }];
    let run = Run::new(&ball, &around(DVec3::ZERO, 4.0, 150.0));
    run.mesh(&["--to", "ply,obj,glb"]).done();
    let folder = run.path("out/mesh");
    let far = plane(FAR);
    mesh(far.path(), &["--to", "ply,obj,glb"]);
    let painted = plane(DVec3::ZERO);
    mesh(painted.path(), &["--to", "glb", "--texture"]);
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/check_meshes.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    if is_there("trimesh for Python", "ENGINE_REQUIRE_TRIMESH", Command::new(&python).args(["-c", "import trimesh"])) {
        for folder in [&folder, &far.path().join("out/mesh")] {
            let ran = Ran::from(Command::new(&python).arg(&tool).arg(folder).output().unwrap());
            assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
            assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
        }
    }
    let validate = "require('gltf-validator').version()";
    let variable = "ENGINE_REQUIRE_GLTF_VALIDATOR";
    if is_there("gltf-validator for Node.js (NODE_PATH)", variable, Command::new("node").args(["-e", validate])) {
        let script = "require('gltf-validator').validateBytes(require('fs').readFileSync(process.argv[1]))\
                      .then(r => console.log(JSON.stringify(r.issues)))";
        for folder in [&folder, &far.path().join("out/mesh"), &painted.path().join("out/mesh")] {
            let file = folder.join("mesh.glb");
            let ran = Ran::from(Command::new("node").args(["-e", script, text(&file)]).output().unwrap()).done();
            let issues: Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!((&issues["numErrors"], &issues["numWarnings"]), (&0.into(), &0.into()), "{issues}");
        }
    }
}
