//! The same mesh every time, and runs that give none.

use super::*;

fn ball_and_block() -> [Solid; 2] {
    [
        Solid::Ball { centre: DVec3::new(0.5, 0.0, 0.0), radius: 0.8 },
        Solid::Block { middle: DVec3::new(-0.6, 0.1, 0.0), half: DVec3::new(0.5, 0.7, 0.4), turn: DMat3::IDENTITY },
    ]
}

#[test]
fn threads_and_memory_change_nothing() {
    let run = Run::new(&ball_and_block(), &around(DVec3::ZERO, 4.0, 150.0));
    let made = |more: &[&str]| {
        let all = [&["--to", "ply,obj,glb"], more].concat();
        run.mesh(&all).done();
        let files = ["mesh.ply", "mesh.obj", "mesh.glb"].map(|name| fs::read(run.path("out/mesh").join(name)).unwrap());
        (files, json(&run.path("out/mesh/mesh.json")))
    };
    let (first, report) = made(&[]);
    assert_eq!(report["slabs"], 1);
    for threads in ["1", "2", "7"] {
        let (again, _) = made(&["--threads", threads]);
        assert!(again == first, "{threads} threads");
    }
    // 50 MB are the program's.
    let (mut most, mut tight) = (1, 0.0);
    for memory in ["0.056", "0.0555", "0.055", "0.0545", "0.052"] {
        let ran = run.mesh(&["--to", "ply,obj,glb", "--memory", memory]);
        if ran.code == Some(0) {
            let (slabbed, report) = made(&["--memory", memory]);
            assert!(slabbed == first, "{memory} GB");
            most = most.max(report["slabs"].as_u64().unwrap());
        } else {
            assert!(ran.failed(5).contains("; --voxel 0."), "{}", ran.stderr);
            tight = memory.parse().unwrap();
        }
    }
    assert!(most >= 2, "{most} slabs");
    assert!(tight > 0.0, "the least memory is too little");
    let (reduced, _) = made(&["--triangles", "3000", "--close-holes", "--threads", "1"]);
    let (again, _) = made(&["--triangles", "3000", "--close-holes", "--threads", "7", "--memory", "0.07"]);
    assert!(reduced == again && reduced[0].len() < first[0].len());
}

#[test]
fn hopeless_runs_say_why_in_one_line() {
    let run = Run::new(&ball_and_block(), &around(DVec3::ZERO, 4.0, 150.0));
    let out = run.path("out");
    let message = |more: &[&str], code: i32| run.mesh(more).failed(code).to_owned();
    assert_eq!(
        message(&["--voxel", "50"], 6),
        format!(
            "{}: no surface: the grid is too coarse, or too fine, for what the maps show; try another --voxel",
            out.display()
        )
    );
    assert!(message(&["--min-component", "1000000"], 6).contains("fewer than 1000000 triangles; try a smaller --min-"));
    assert!(message(&["--memory", "0.02"], 5).contains("this run needs "));
    // Photos that are gone, and no file half-written.
    let ran = engine(["mesh", text(&out), "--quiet"]);
    assert!(ran.failed(3).contains("--scene SCENE says where the scene lies now"), "{}", ran.stderr);
    let left: Vec<PathBuf> = program::files(&out.join("mesh")).into_keys().collect();
    assert!(left.iter().all(|path| path.to_string_lossy().starts_with(".engine")), "{left:?}");

    run.mesh(&["--to", "ply,glb"]).done();
    assert!(out.join("mesh/mesh.glb").exists());
    // Another mesh: the old one's files go.
    run.mesh(&["--to", "obj"]).done();
    let mut left: Vec<String> =
        fs::read_dir(out.join("mesh")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|name| !name.starts_with('.'));
    left.sort();
    assert_eq!(left, ["mesh.json", "mesh.obj"]);

    // One view alone confirms nothing; maps without confidence neither.
    for view in 0..run.cameras.len() {
        let map = Map::filled(SIZE.0, SIZE.1, 0.1);
        pfm::write(&out.join(format!("confidence/{view:08}.pfm")), &map).unwrap();
    }
    assert!(message(&[], 6).contains("no pixel of any depth map is confirmed by other views; try "));
    fs::remove_file(out.join("depth/00000004.pfm")).unwrap();
    assert!(message(&[], 4).contains("00000004.pfm: cannot "));
}

#[test]
fn damaged_depths_leave_the_rest_as_it_is() {
    let run = Run::new(&ball_and_block(), &around(DVec3::ZERO, 4.0, 150.0));
    let (good, _) = run.meshed(&[]);
    // A row of nonsense in one map: none of it is a depth that others confirm.
    let path = run.path("out/depth/00000003.pfm");
    let mut depth = pfm::read(&path).unwrap();
    let bad = [f32::NAN, f32::INFINITY, -1.0, 1e30, f32::MIN_POSITIVE];
    for x in 0..SIZE.0 {
        depth.data[60 * SIZE.0 + x] = bad[x % bad.len()];
    }
    pfm::write(&path, &depth).unwrap();
    let (mesh, _) = run.meshed(&[]);
    mesh.expect_manifold();
    let share = mesh.faces.len() as f64 / good.faces.len() as f64;
    assert!((0.98..=1.02).contains(&share), "{share}");
}
