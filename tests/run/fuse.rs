//! `engine fuse` on the maps of an earlier run.

use super::*;

#[test]
fn fuse_makes_the_same_cloud_from_the_maps_alone() {
    let place = Place::new();
    place.infer("out", &["--quiet"]).done();
    let (scene, maps) = (place.scene(), place.path("out"));
    let fuse = |more: &[&str]| {
        let base = ["fuse", text(&maps), "--scene", text(&scene)];
        engine(base.iter().chain(more))
    };
    let ran = fuse(&[]).done();
    assert!(ran.stdout.contains("points from 5 depth maps"), "{}", ran.stdout);
    let fused = place.path("out_fused");
    assert!(fs::read(fused.join("fused.ply")).unwrap() == fs::read(maps.join("fused.ply")).unwrap());
    let manifest = json(&fused.join("manifest.json"));
    assert_eq!((&manifest["command"], &manifest["network"]), (&Value::from("fuse"), &Value::Null));
    assert_eq!(manifest["views"][0]["map_k"][0][0], 110.0);

    // Looser and stricter thresholds, duplicates, and a range that cuts everything off.
    let points = |ran: Ran| ran.done().events().pop().unwrap()["points"].as_u64().unwrap();
    let all = points(fuse(&["--json"]));
    assert!(points(fuse(&["--json", "--min-views", "1"])) > all);
    assert!(points(fuse(&["--json", "--min-views", "4"])) < all);
    assert!(points(fuse(&["--json", "--keep-duplicates"])) > all);
    assert!(points(fuse(&["--json", "--view", "00000002", "--view", "00000003", "--view", "00000005"])) > 0);
    let empty = fuse(&["--range", "100,200"]);
    assert!(empty.failed(6).contains("range"), "{}", empty.stderr);

    let refused = fuse(&["--memory", "0.01"]);
    let message = refused.failed(5);
    assert!(
        message.ends_with(
            "and 10 MB are available; smaller maps, fewer sources (--check-sources) or fewer --threads would help \
             (--memory GB says what is available)"
        ),
        "{message}"
    );

    // Without confidence every pixel counts as certain, which is said.
    fs::remove_dir_all(maps.join("confidence")).unwrap();
    let ran = fuse(&[]).done();
    assert!(ran.stderr.contains("note: 5 of 5 views have no confidence map: 1 everywhere\n"), "{}", ran.stderr);
}

#[test]
fn clouds_are_thinned_to_one_point_a_voxel() {
    let place = Place::new();
    place.infer("out", &["--quiet", "--levels", "1", "--min-views", "1"]).done();
    place.infer("thin", &["--quiet", "--levels", "1", "--min-views", "1", "--thin", "0.5"]).done();
    let (scene, maps, fused) = (place.scene(), place.path("out"), place.path("out_fused"));
    let base = ["fuse", text(&maps), "--scene", text(&scene), "--min-views", "1"];
    let ran = engine(base.iter().chain(&["--thin", "0.5"])).done();
    let (_, all) = cloud(&maps.join("fused.ply"));
    let (_, thinned) = cloud(&fused.join("fused.ply"));
    // The first camera, at (-0.9, 0.18, -4), stands in the middle of a voxel.
    let voxel =
        |p: &[f32; 3]| [0, 1, 2].map(|a| ((f64::from(p[a]) - [-0.9, 0.18, -4.0][a]) / 0.5 + 0.5).floor() as i64);
    let mut voxels: Vec<[i64; 3]> = all.iter().map(voxel).collect();
    voxels.sort_unstable();
    voxels.dedup();
    assert!(voxels.len() < all.len() && thinned.len() == voxels.len(), "{} {}", all.len(), voxels.len());
    assert!(ran.stdout.contains(&format!("thinned to {} points", voxels.len())), "{}", ran.stdout);
    let manifest = json(&fused.join("manifest.json"));
    assert_eq!((&manifest["points"], &manifest["parameters"]["thin"]), (&voxels.len().into(), &0.5.into()));
    let funnel = &manifest["funnel"];
    assert_eq!((&funnel["fused"], &funnel["thinned"]), (&all.len().into(), &(all.len() - voxels.len()).into()));
    assert!(fs::read(place.path("thin/fused.ply")).unwrap() == fs::read(fused.join("fused.ply")).unwrap());

    for bad in ["0", "-1", "nan", "inf", "x"] {
        let ran = engine(base.iter().chain(&[&*format!("--thin={bad}")]));
        assert!(ran.stderr.contains("for '--thin <SIZE>': expected a number above 0"), "{}", ran.stderr);
    }
}

#[test]
fn fuse_knows_how_far_the_photos_were_reduced() {
    let place = Place::new();
    place.infer("out", &["--quiet", "--max-side", "72", "--levels", "1", "--min-views", "1"]).done();
    let out = place.path("out");
    let ran = engine(["fuse", text(&out), "--scene", text(&place.scene()), "--min-views", "1"]).done();
    assert!(ran.stderr.contains("note: photos are reduced to 72 px as the maps' manifest says\n"), "{}", ran.stderr);
    assert!(fs::read(place.path("out_fused/fused.ply")).unwrap() == fs::read(out.join("fused.ply")).unwrap());
}

#[test]
fn fuse_says_which_maps_it_cannot_use() {
    let place = Place::new();
    place.infer("out", &["--quiet", "--levels", "1"]).done();
    let (scene, maps) = (place.scene(), place.path("out"));
    let fuse = || engine(["fuse", text(&maps), "--scene", text(&scene)]);
    let missing = engine(["fuse", text(&scene), "--scene", text(&scene)]);
    let depth = scene.join("depth");
    assert_eq!(
        missing.failed(4),
        format!("{}: cannot read the folder of depth maps: No such file or directory (os error 2)", depth.display())
    );

    fs::rename(maps.join("depth/00000009.pfm"), maps.join("depth/someone.pfm")).unwrap();
    let ran = fuse().done();
    assert!(ran.stderr.contains("note: maps of no view of the scene are left out: someone\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("note: fusing 4 of 5 views"), "{}", ran.stderr);

    let small = maps.join("confidence/00000000.pfm");
    pfm::write(&small, &engine::files::map::Map::filled(12, 16, 1.0)).unwrap();
    assert_eq!(
        fuse().failed(3),
        format!("{}: a map of 12 x 16; expected the size of its depth map, 96 x 64", small.display())
    );
    let odd = maps.join("depth/00000000.pfm");
    pfm::write(&odd, &engine::files::map::Map::filled(20, 20, 4.0)).unwrap();
    let message = fuse().failed(3).to_owned();
    assert!(message.starts_with(&format!("{}: a map of 20 x 20 for a photo of 96 x 64; ", odd.display())), "{message}");
    fs::write(&odd, "Pf\n24 16\n-1\nshort").unwrap();
    let message = fuse().failed(3).to_owned();
    assert!(message.starts_with(odd.to_str().unwrap()), "{message}");
}
