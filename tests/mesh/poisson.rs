//! `engine mesh --poisson` with a Python that says it has pycolmap, with one that does not, and with the real one where
//! it is installed. How good its meshes are is measured by `tools/compare_meshes.py` (docs/MESH.md): it takes minutes.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;
use crate::files::{is_there, plane};

/// A folder with a `python3` that runs this script.
fn python(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("python3");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn mesh(root: &Path, path: &Path, more: &[&str]) -> Ran {
    let mut command: Command = program::command(["mesh", text(&root.join("out"))].iter().chain(more));
    Ran::from(command.env("PATH", format!("{}:/bin:/usr/bin", path.display())).output().unwrap())
}

/// A mesh as COLMAP writes it: squares of two triangles on the plane z = 0 around the origin.
fn squares(side: usize) -> Vec<u8> {
    let properties = "property float x\nproperty float y\nproperty float z\nproperty float value\n";
    let mut bytes = format!(
        "ply\nformat binary_little_endian 1.0\nelement vertex {}\n{properties}element face {}\nproperty list int int \
         vertex_indices\nend_header\n",
        (side + 1) * (side + 1),
        2 * side * side
    )
    .into_bytes();
    for i in 0..(side + 1) * (side + 1) {
        let at = |v: usize| 0.05 * (v as f32 - side as f32 / 2.0);
        let vertex = [at(i % (side + 1)), at(i / (side + 1)), 0.0, 8.0];
        bytes.extend(vertex.into_iter().flat_map(f32::to_le_bytes));
    }
    for (x, y) in (0..side * side).map(|i| (i % side, i / side)) {
        let corner = |dx: usize, dy: usize| ((y + dy) * (side + 1) + x + dx) as i32;
        for face in [[corner(0, 0), corner(0, 1), corner(1, 1)], [corner(0, 0), corner(1, 1), corner(1, 0)]] {
            bytes.extend([3].into_iter().chain(face).flat_map(i32::to_le_bytes));
        }
    }
    bytes
}

#[test]
fn poisson_meshing_is_pycolmap_s_where_there_is_one() {
    let far = DVec3::new(448_262.0, 5_411_932.0, 320.0);
    let root = plane(far);
    let out = root.path().join("out");
    let made = root.path().join("made.ply");
    fs::write(&made, squares(20)).unwrap();
    // What it is given is kept, and what it gives lies around the origin that it was told of.
    let script = format!(
        "case \"$2\" in *__version__*) echo 9.8.7; exit;; esac\ncp \"$3\" {0}/given.ply; echo \"$5\" >{0}/trim\n\
         cp {1} \"$4\"",
        root.path().display(),
        made.display()
    );
    let there = python(&script);
    let ran = mesh(root.path(), there.path(), &["--poisson=5.5", "--min-component", "10"]).done();
    let told = "the surface is pycolmap 9.8.7's Poisson meshing of fused.ply, trim 5.5";
    assert!(ran.stderr.contains(told) && !ran.stderr.contains("voxels of"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(root.path().join("trim")).unwrap(), "5.5\n");
    let mesh_file = readers::ply(&out.join("mesh/mesh.ply"));
    assert_eq!((mesh_file.faces.len(), mesh_file.positions.len()), (800, 441));
    assert!(!mesh_file.colours.is_empty());
    let report = json(&out.join("mesh/mesh.json"));
    assert_eq!((&report["options"]["poisson"], &report["manifold"]), (&json!(5.5), &json!(true)));
    // Far from the origin, it is given floats that are near it, and its mesh is moved back.
    let given = fs::read(root.path().join("given.ply")).unwrap();
    let end = given.windows(11).position(|w| w == b"end_header\n").unwrap() + 11;
    let header = std::str::from_utf8(&given[..end]).unwrap();
    let count: usize = header.lines().find_map(|l| l.strip_prefix("element vertex ")).unwrap().parse().unwrap();
    assert_eq!(given.len() - end, 27 * count);
    let number = |at: usize| f64::from(f32::from_le_bytes(given[at..at + 4].try_into().unwrap()));
    let middle = mesh_file.positions.iter().copied().sum::<DVec3>() / 441.0;
    assert!((middle - far).length() < 3.0, "{middle}");
    for point in (0..count).map(|i| end + 27 * i) {
        let place = DVec3::from([0, 4, 8].map(|axis| number(point + axis)));
        // Within the plane to what floats and depths leave.
        assert!(plane_scene::distance((place + middle - far).to_array()) < 0.01, "{place}");
    }
    // No folder of its is left.
    let left = fs::read_dir(out.join("mesh")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.contains("poisson")));

    let refused = |script: &str, code: i32| {
        let there = python(&format!("case \"$2\" in *__version__*) echo 9.8.7; exit;; esac\n{script}"));
        mesh(root.path(), there.path(), &["--poisson", "--quiet"]).failed(code).to_owned()
    };
    let place = "pycolmap 9.8.7: ";
    let message = refused("echo 'out of luck' >&2; echo; exit 3", 3);
    assert!(
        message.starts_with(place) && message.contains("exit status: 3, last `out of luck`; expected "),
        "{message}"
    );
    let message = refused("echo ply >\"$4\"", 3);
    assert_eq!(message, format!("{place}4 bytes that are no mesh as it writes them; expected it to make a mesh"));
    let empty = root.path().join("empty.ply");
    fs::write(&empty, squares(0)).unwrap();
    assert!(refused(&format!("cp {} \"$4\"", empty.display()), 6).contains("try a smaller --poisson=TRIM"));
    assert!(refused("", 4).contains("mesh.ply: cannot read pycolmap's mesh: "));
    let without = python("exit 1");
    fs::copy(without.path().join("python3"), without.path().join("python")).unwrap();
    let message = mesh(root.path(), without.path(), &["--poisson", "--quiet"]).failed(3).to_owned();
    assert!(message.starts_with("--poisson: no pycolmap in Python; expected it") && message.contains("`pip install "));
    fs::remove_file(out.join("fused.ply")).unwrap();
    let message = mesh(root.path(), there.path(), &["--poisson", "--quiet"]).failed(3).to_owned();
    assert!(message.contains("a run without a cloud (--depth-only); expected "), "{message}");
}

#[test]
fn the_real_pycolmap_meshes_a_plane() {
    let mut asked = Command::new("python3");
    asked.args(["-c", "import pycolmap; pycolmap.PoissonMeshingOptions()"]);
    if !is_there("pycolmap for Python", "ENGINE_REQUIRE_PYCOLMAP", &mut asked) {
        return;
    }
    let far = DVec3::new(448_262.0, 5_411_932.0, 320.0);
    let root = plane(far);
    let out = root.path().join("thin");
    // Few points: the time goes with them.
    let [maps, scene] = ["maps", "scene"].map(|name| root.path().join(name));
    let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--thin", "0.1"];
    engine(words).done();
    let ran = engine(["mesh", text(&out), "--poisson=5", "--min-component", "10"]).done();
    assert!(ran.stderr.contains("Poisson meshing of fused.ply, trim 5"), "{}", ran.stderr);
    let mesh = readers::ply(&out.join("mesh/mesh.ply"));
    assert!(mesh.faces.len() > 200 && mesh.colours.len() == mesh.positions.len(), "{}", mesh.faces.len());
    // Half of a cube's side of the thinned cloud, at the border too, where the surface bends.
    let off = |place: &DVec3| plane_scene::distance((*place - far).to_array()).abs();
    let (count, near) = (mesh.positions.len(), mesh.positions.iter().filter(|place| off(place) < 0.05).count());
    assert!(near * 100 >= 98 * count, "{near} of {count} vertices lie on the plane");
    assert_eq!(json(&out.join("mesh/mesh.json"))["manifold"], json!(true));
}
