//! The mesh against the true surface.

use super::*;
use score::score;

/// Of half a voxel, a voxel and two.
#[track_caller]
fn expect(run: &Run, solids: &[Solid], least: [f64; 3], more: &[&str]) -> (TestMesh, Value) {
    let (mesh, report) = run.meshed(more);
    let voxel = report["voxel"].as_f64().unwrap();
    let scores = score(run, solids, &mesh, [0.5 * voxel, voxel, 2.0 * voxel]);
    println!("voxel {voxel}, {} triangles, {scores:?}", mesh.faces.len());
    for (score, least) in scores.iter().zip(least) {
        assert!(score.f() >= least, "{score:?} is less than {least}");
    }
    // What the report says is what a count of edges finds.
    let border = mesh.expect_manifold();
    assert_eq!(report["manifold"], true);
    assert_eq!((report["border_edges"].as_u64(), &report["closed"]), (Some(border as u64), &(border == 0).into()));
    assert_eq!(report["vertices"].as_u64(), Some(mesh.positions.len() as u64));
    assert_eq!(report["triangles"].as_u64(), Some(mesh.faces.len() as u64));
    for (at, normal) in mesh.positions.iter().zip(&mesh.normals) {
        assert!((normal.length() - 1.0).abs() < 1e-5, "{at}");
    }
    (mesh, report)
}

/// Half of the sums over pairs of the vertices' products: the volume that the triangles enclose, if they face outside.
fn volume(mesh: &TestMesh) -> f64 {
    mesh.faces.iter().map(|f| mesh.positions[f[0]].dot(mesh.positions[f[1]].cross(mesh.positions[f[2]])) / 6.0).sum()
}

/// Vertices less edges plus faces: 2 for what is like a ball.
fn euler(mesh: &TestMesh) -> i64 {
    mesh.positions.len() as i64 - mesh.edges().len() as i64 + mesh.faces.len() as i64
}

fn turned() -> DMat3 {
    DMat3::from_rotation_y(0.4) * DMat3::from_rotation_x(0.3)
}

#[test]
fn a_ball_is_closed_and_has_its_volume() {
    let ball = [Solid::Ball { centre: DVec3::new(0.3, -0.2, 0.1), radius: 1.0 }];
    let run = Run::new(&ball, &around(DVec3::new(0.3, -0.2, 0.1), 4.0, 150.0));
    let (mesh, report) = expect(&run, &ball, [0.999, 0.999, 0.999], &[]);
    assert_eq!((mesh.expect_manifold(), euler(&mesh), &report["pieces"]), (0, 2, &1.into()));
    let voxel = report["voxel"].as_f64().unwrap();
    // 1.5 pixels at the middle's depth, which is 4 less the 1 of the ball at most.
    assert!((1.5 * 3.0 / 150.0..1.5 * 4.0 / 150.0).contains(&voxel), "{voxel}");
    // A tenth of a voxel everywhere would make 3 * 0.1 * 0.032 = 1 %.
    let truth = 4.0 / 3.0 * std::f64::consts::PI;
    assert!((volume(&mesh) / truth - 1.0).abs() < 0.01, "{} {truth}", volume(&mesh));
    for (at, normal) in mesh.positions.iter().zip(&mesh.normals) {
        let true_normal = (*at - DVec3::new(0.3, -0.2, 0.1)).normalize();
        // A tenth of a voxel over a voxel is 6 degrees.
        assert!(normal.dot(true_normal) > 0.98, "{at} {normal}");
    }
}

#[test]
fn a_box_keeps_its_faces_and_its_edges_to_a_voxel() {
    let block = [Solid::Block { middle: DVec3::ZERO, half: DVec3::new(0.8, 0.6, 0.5), turn: turned() }];
    let run = Run::new(&block, &around(DVec3::ZERO, 4.0, 175.0));
    let (mesh, report) = expect(&run, &block, [0.97, 0.995, 0.999], &[]);
    assert_eq!((mesh.expect_manifold(), euler(&mesh)), (0, 2));
    // Points of its edges and corners: within a voxel of the mesh.
    let voxel = report["voxel"].as_f64().unwrap();
    let half = DVec3::new(0.8, 0.6, 0.5);
    let on_mesh = score::samples(&mesh, 0.25 * voxel);
    let mut worst = 0f64;
    for (axis, i) in (0..3).flat_map(|axis| (0..41).map(move |i| (axis, i))) {
        for (p, q) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let mut at = DVec3::ZERO;
            at[axis] = half[axis] * (i as f64 / 20.0 - 1.0);
            at[(axis + 1) % 3] = p * half[(axis + 1) % 3];
            at[(axis + 2) % 3] = q * half[(axis + 2) % 3];
            let at = turned() * at;
            worst = worst.max(on_mesh.iter().map(|m| m.distance(at)).fold(f64::INFINITY, f64::min));
        }
    }
    // The corner of a cube that is rounded by one voxel lies root 3 of it away at most.
    assert!(worst < 1.2 * voxel, "{} voxels", worst / voxel);
}

#[test]
fn two_walls_meet_in_a_corner_and_end_where_the_maps_do() {
    let wall = |middle: DVec3, half: DVec3| Solid::Block { middle, half, turn: DMat3::from_rotation_y(0.2) };
    let across = DMat3::from_rotation_y(0.2);
    let walls = [
        wall(DVec3::ZERO, DVec3::new(3.0, 2.0, 0.1)),
        wall(across * DVec3::new(-1.0, 0.0, -1.0), DVec3::new(0.1, 2.0, 1.0)),
    ];
    let eye = |i: usize| DVec3::new(0.4 * (i % 4) as f64 + 0.2, 0.5 * (i / 4) as f64 - 0.5, -4.5 + 0.1 * i as f64);
    let cameras: Vec<Camera> = (0..12).map(|i| looking(eye(i), DVec3::new(-0.2, 0.0, 0.0), 140.0)).collect();
    let run = Run::new(&walls, &cameras);
    let (mesh, _) = expect(&run, &walls, [0.95, 0.98, 0.99], &[]);
    assert!(mesh.expect_manifold() > 100, "walls have a border");
}

#[test]
fn a_plate_of_a_few_voxels_has_two_sides() {
    let plate = [Solid::Block { middle: DVec3::ZERO, half: DVec3::new(0.8, 0.6, 0.06), turn: turned() }];
    let run = Run::new(&plate, &around(DVec3::ZERO, 4.0, 175.0));
    // 1.5 * 4 / 175 = 0.034: the plate is 3.5 voxels thick.
    let (mesh, _) = expect(&run, &plate, [0.85, 0.97, 0.99], &[]);
    let truth = 1.6 * 1.2 * 0.12;
    assert!((volume(&mesh) / truth - 1.0).abs() < 0.25, "{} {truth}", volume(&mesh));
}

#[test]
fn what_views_see_through_is_free() {
    let ball = [Solid::Ball { centre: DVec3::ZERO, radius: 1.0 }];
    let cameras = around(DVec3::ZERO, 4.0, 150.0);
    let run = Run::new(&ball, &cameras);
    // Five views agree on a thing before the ball that no other one sees: the same place for all of them.
    let ghost = Solid::Ball { centre: DVec3::new(1.9, 0.0, 0.0), radius: 0.3 };
    let both = [ball[0], ghost];
    let near = |camera: &Camera| camera.centre().distance(DVec3::new(4.0, 0.0, 0.0));
    let mut order: Vec<usize> = (0..cameras.len()).collect();
    order.sort_by(|&a, &b| near(&cameras[a]).total_cmp(&near(&cameras[b])));
    for &view in &order[..3] {
        let depth = solids::depth(&both, &cameras[view], SIZE);
        pfm::write(&run.path(&format!("out/depth/{view:08}.pfm")), &depth).unwrap();
    }
    let (mesh, _) = expect(&run, &ball, [0.9, 0.95, 0.97], &["--min-component", "400"]);
    let inside = mesh.positions.iter().filter(|at| ghost.signed(**at) < 0.05).count();
    assert_eq!(inside, 0, "vertices of what is not there");
}

#[test]
fn pieces_holes_and_triangles_are_as_many_as_asked_for() {
    let solids = [
        Solid::Ball { centre: DVec3::new(-0.3, 0.0, 0.0), radius: 0.9 },
        Solid::Ball { centre: DVec3::new(1.3, 0.3, 0.2), radius: 0.2 },
    ];
    let run = Run::new(&solids, &around(DVec3::ZERO, 4.2, 150.0));
    let (both, report) = run.meshed(&["--min-component", "1"]);
    assert_eq!((&report["pieces"], both.expect_manifold()), (&2.into(), 0));
    let small = both.positions.iter().filter(|at| solids[1].signed(**at).abs() < 0.05).count();
    assert!(small > 20, "{small}");
    let (one, report) = run.meshed(&["--min-component", "4000"]);
    assert_eq!((&report["pieces"], one.positions.len()), (&1.into(), both.positions.len() - small));

    // A round hole in every map.
    let place = DVec3::new(-0.3, 0.0, 0.0) + 0.9 * DVec3::new(0.0, 0.3, -1.0).normalize();
    for (view, camera) in run.cameras.iter().enumerate() {
        let path = run.path(&format!("out/depth/{view:08}.pfm"));
        let mut depth = pfm::read(&path).unwrap();
        for i in 0..depth.data.len() {
            let (x, y) = ((i % SIZE.0) as f64, (i / SIZE.0) as f64);
            if depth.data[i] > 0.0 && camera.unproject(x, y, f64::from(depth.data[i])).distance(place) < 0.25 {
                depth.data[i] = 0.0;
            }
        }
        pfm::write(&path, &depth).unwrap();
    }
    let (open, report) = run.meshed(&["--min-component", "4000"]);
    let border = open.expect_manifold();
    assert!(border > 30 && report["closed"] == false, "{border}");
    assert_eq!(run.meshed(&["--min-component", "4000", "--close-holes=0.5"]).0.expect_manifold(), border);
    let (closed, report) = run.meshed(&["--min-component", "4000", "--close-holes=3"]);
    assert_eq!((closed.expect_manifold(), &report["closed"], euler(&closed)), (0, &true.into(), 2));
    // A cap of 0.25 is about 0.25^2 / 1.8 = 0.035 high: its lid cuts that off.
    assert!(closed.positions.iter().all(|at| solids[0].signed(*at).abs() < 0.05));

    let wanted = ["--min-component", "4000", "--close-holes=3", "--triangles", "2000"];
    let (few, report) = run.meshed(&wanted);
    assert!(few.faces.len() <= 2000 && few.faces.len() > 1900, "{}", few.faces.len());
    assert_eq!((few.expect_manifold(), euler(&few)), (0, 2), "{report}");
    assert!((volume(&few) / volume(&closed) - 1.0).abs() < 0.01);
    let (half, _) = run.meshed(&["--min-component", "4000", "--simplify", "0.5"]);
    assert!(half.faces.len() * 2 <= open.faces.len() + 1 && half.faces.len() * 20 > open.faces.len() * 9);
    half.expect_manifold();
}
