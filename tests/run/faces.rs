//! Panoramas through the whole program: their faces make a cloud of all that is around, as good as that of photos that
//! pinhole cameras had taken in the faces' places.

use super::*;
use crate::room;
use engine::scene::{OpenOptions, Scene};
use glam::DVec2;

const ARGUMENTS: [&str; 6] = ["--levels", "1", "--planes", "32", "--min-confidence", "0.5"];

/// What is asked of a cloud: the median and the 95th percentile of its points' distances from the walls, and the share
/// of the walls, by directions from the room's middle, that has a point within a tenth of its distance.
fn scores(points: &[[f32; 3]]) -> [f64; 3] {
    let place = |p: &[f32; 3]| glam::DVec3::from_array(p.map(f64::from));
    let mut off: Vec<f64> = points.iter().map(|p| room::to_wall(place(p))).collect();
    off.sort_by(f64::total_cmp);
    let directions: Vec<glam::DVec3> = room::scene(2, (2, 1), (17, "", vec![])).points.iter().map(|p| p.0).collect();
    let has_point = |wall: &&glam::DVec3| points.iter().any(|p| place(p).distance(**wall) < 0.1 * wall.length());
    let covered = directions.iter().filter(has_point).count() as f64 / directions.len() as f64;
    [off[off.len() / 2], off[off.len() * 95 / 100], covered]
}

#[test]
fn faces_make_the_cloud_that_pinhole_photos_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let truth = room::panoramas(4, 256);
    truth.write_colmap_text(&path("around"), "sparse/0");
    for view in &truth.views {
        let pixels = room::render((view.r, view.t), truth.size, |p| room::panorama(p, truth.size), (4, 2));
        room::picture(truth.size, &pixels).save(path("around/images").join(&view.file)).unwrap();
    }
    // The same faces, taken by pinhole cameras.
    let scene = Scene::open(&path("around"), &OpenOptions::default()).unwrap();
    let side = scene.views[0].size;
    let mut flat = truth.clone();
    (flat.size, flat.model, flat.views) = ((side.0 as u32, side.1 as u32), None, Vec::new());
    flat.points.iter_mut().for_each(|point| point.1.clear());
    for (i, view) in scene.views.iter().enumerate() {
        let (k, id) = (view.camera.k, i as u32 + 1);
        let file = format!("{}.png", view.name.replace('@', "_"));
        flat.views.push(scene_files::TestView { id, camera: id, file, k, r: view.camera.r, t: view.camera.t });
        for (at, point) in scene.points.iter().enumerate() {
            if point.views.contains(&i) {
                flat.points[at].1.push(id);
            }
        }
    }
    flat.write_colmap_text(&path("flat"), "sparse/0");
    for view in &flat.views {
        let sight = |pixel: DVec2| Some(view.k.inverse() * pixel.extend(1.0));
        let pixels = room::render((view.r, view.t), flat.size, sight, (4, 2));
        room::picture(flat.size, &pixels).save(path("flat/images").join(&view.file)).unwrap();
    }
    let infer = |name: &str, more: &[&str]| {
        let (scene, out) = (path(name), path(&format!("{name}_out")));
        engine([&["infer", text(&scene), "-o", text(&out)][..], &ARGUMENTS, more].concat())
    };
    let ran = infer("around", &[]).done();
    assert!(ran.stderr.contains("note: 4 photos that one pinhole image cannot hold"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("at the very place of the view itself"), "{}", ran.stderr);
    infer("flat", &[]).done();
    let [of_faces, of_flat] = ["around_out", "flat_out"].map(|out| scores(&cloud(&path(out).join("fused.ply")).1));
    println!("median, 95th percentile, share of the walls: {of_faces:?}, pinhole photos {of_flat:?}");
    // A pixel is 0.06 wide on a wall 2.5 away; half of the points lie within half a pixel, nearly all within two.
    assert!(of_faces[0] < 0.03 && of_faces[1] < 0.12, "{of_faces:?}");
    // The photos are the same but for being sampled once more, which blurs what is finest: a tenth of a pixel.
    assert!(of_faces[0] < of_flat[0] + 0.006 && of_faces[2] > of_flat[2] - 0.05, "{of_faces:?} {of_flat:?}");
    assert!(of_faces[2] > 0.8, "{of_faces:?}");

    // Again nothing is to do; one face alone has its own maps; a shard is of the same views.
    assert!(infer("around", &[]).done().stderr.contains("nothing is left to do"));
    let one = infer("around", &["--view", "001@left", "--depth-only"]).done();
    assert!(one.stdout.contains("1 depth map"), "{}", one.stdout);
    let out = path("around_out");
    engine(["export", text(&out), "--to", "workspace", "--scene", text(&path("around"))]).done();
    let depth = pfm::read(&out.join("depth/003@down.pfm")).unwrap();
    assert_eq!((depth.width, depth.height), side);
}
