//! `engine fuse` on a dense workspace of COLMAP: its own maps in that form give its own cloud.

use super::*;
use engine::files::map::Map;

/// Maps as COLMAP stores them.
fn colmap_bytes(map: &Map) -> Vec<u8> {
    let mut bytes = format!("{}&{}&1&", map.width, map.height).into_bytes();
    bytes.extend(map.data.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn fuse(place: &Place, out: &str, maps: &Path, scene: &Path, more: &[&str]) -> Ran {
    let out = place.path(out);
    engine(["fuse", text(maps), "--scene", text(scene), "-o", text(&out)].iter().chain(more))
}

#[test]
fn a_workspace_of_colmap_gives_the_cloud_of_its_maps() {
    let place = Place::new();
    place.infer("out", &["--quiet", "--levels", "1", "--export", "workspace", "--photos", "png"]).done();
    let (out, workspace) = (place.path("out"), place.path("out/export/workspace"));

    // Photometric maps have every pixel: with confidence 1 everywhere they are the run's own maps.
    let geometric = place.path("geometric");
    fs::create_dir(&geometric).unwrap();
    let maps = workspace.join("stereo/depth_maps");
    for name in NAMES {
        let file = format!("{name}.png.geometric.bin");
        fs::rename(maps.join(&file), geometric.join(&file)).unwrap();
    }
    fs::rename(out.join("confidence"), place.path("confidence")).unwrap();
    fuse(&place, "own", &out, &place.scene(), &[]).done();
    let (_, own) = cloud(&place.path("own/fused.ply"));
    assert!(own.len() > 1000, "{}", own.len());
    for format in ["mvsnet", "colmap"] {
        let ran = fuse(&place, format, &workspace, &workspace, &["--format", format]).done();
        assert!(ran.stderr.contains("dense workspace: 0 geometric, 5 photometric"), "{}", ran.stderr);
        assert!(ran.stderr.contains("note: 5 of 5 views have no confidence map: 1 everywhere\n"), "{}", ran.stderr);
        // Cameras in COLMAP's files begin at the corner of the first pixel: the same but for rounding.
        let (_, points) = cloud(&place.path(format).join("fused.ply"));
        assert_eq!(points.len(), own.len(), "{format}");
        let apart = points.iter().zip(&own).flat_map(|(a, b)| (0..3).map(|i| (a[i] - b[i]).abs())).fold(0.0, f32::max);
        // The last bit of an f32 of up to 8 is 5e-7.
        assert!(apart < 2e-6, "{format}: {apart}");
    }

    // Geometric ones go before them, each by itself.
    let first = format!("{}.png.geometric.bin", NAMES[0]);
    fs::copy(geometric.join(&first), maps.join(&first)).unwrap();
    let ran = fuse(&place, "mixed", &workspace, &workspace, &[]).done();
    assert!(ran.stderr.contains("dense workspace: 1 geometric, 4 photometric"), "{}", ran.stderr);
    let (_, mixed) = cloud(&place.path("mixed/fused.ply"));
    assert!(mixed.len() < own.len(), "{} {}", mixed.len(), own.len());

    // What is made of such a cloud's run finds the maps again.
    let cloud_of = place.path("mixed");
    engine(["export", text(&cloud_of), "--to", "npz,xyz", "--scene", text(&workspace)]).done();
    engine(["mesh", text(&cloud_of)]).done();
    let depth = pfm::read(&out.join(format!("depth/{}.pfm", NAMES[1]))).unwrap();
    let mut archive =
        zip::ZipArchive::new(fs::File::open(cloud_of.join(format!("export/npz/{}.npz", NAMES[1]))).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut archive.by_name("depth.npy").unwrap(), &mut bytes).unwrap();
    let values: Vec<u8> = depth.data.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes.ends_with(&values));
}

/// Photos in folders, of which some are called alike, and a workspace whose photos are not those of the scene.
#[test]
fn maps_of_a_workspace_are_found_by_the_photos_paths() {
    let place = Place::new();
    let root = place.path("dense");
    let mut scene = plane_scene::scene();
    scene.size = plane_scene::SIZE;
    for (i, view) in scene.views.iter_mut().enumerate() {
        view.camera = view.id;
        view.file = if i < 2 { format!("camera{i}/photo.png") } else { format!("{i}.png") };
    }
    scene.write_colmap_text(&root, "sparse");
    let (width, height) = (plane_scene::SIZE.0 as usize, plane_scene::SIZE.1 as usize);
    for view in &scene.views {
        let depth = |i: usize| plane_scene::depth(view, (i % width) as f64, (i / width) as f64) as f32;
        let map = Map { width, height, data: (0..width * height).map(depth).collect() };
        let file = root.join(format!("stereo/depth_maps/{}.geometric.bin", view.file));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, colmap_bytes(&map)).unwrap();
    }
    let ran = fuse(&place, "cloud", &root, &root, &["--min-views", "1"]).done();
    assert!(ran.stdout.contains("points from 5 depth maps"), "{}", ran.stdout);
    let (_, points) = cloud(&place.path("cloud/fused.ply"));
    assert!(points.len() > 1000, "{}", points.len());
    // True depths: every point lies on the plane, but for the share that other views' depths have in it. These are
    // interpolated between pixels, where 1 / depth is what is linear: off by an eighth of the second derivative at
    // most, 2 z (dz / z)^2 with depths of 4.5 that change by 0.4 / 110 of z per pixel where views are turned most:
    // 1.5e-5.
    let off = points.iter().map(|p| plane_scene::distance(p.map(f64::from))).fold(0.0, f64::max);
    assert!(off < 1.5e-5, "{off}");

    // Maps of undistorted photos are not those of a bent one.
    let model = root.join("sparse/cameras.txt");
    let cameras = fs::read_to_string(&model).unwrap();
    let bent: String = cameras
        .lines()
        .map(|line| {
            if line.starts_with('#') {
                format!("{line}\n")
            } else {
                format!("{} 0.1 0 0 0\n", line.replace("PINHOLE", "OPENCV"))
            }
        })
        .collect();
    fs::write(&model, bent).unwrap();
    let message = fuse(&place, "bent", &root, &root, &[]).failed(3).to_owned();
    assert!(message.contains("which are of undistorted photos") && message.contains("--scene"), "{message}");
    fs::write(&model, cameras).unwrap();

    let file = root.join("stereo/depth_maps/2.png.geometric.bin");
    let whole = fs::read(&file).unwrap();
    for (bytes, told) in [
        (&whole[..whole.len() - 1], "bytes for 96 x 64 pixels"),
        (&whole[..5], "'96&64'"),
        (b"", "an empty file"),
        (b"96&64&3&", "3 channels"),
        (b"99999999999&1&1&", "'99999999999&1&1&'"),
        (b"0&0&1&", "bytes for 0 x 0 pixels"),
    ] {
        fs::write(&file, bytes).unwrap();
        let message = fuse(&place, "damaged", &root, &root, &[]).failed(3).to_owned();
        assert!(message.contains("2.png.geometric.bin: ") && message.contains(told), "{message}");
        assert!(!place.path("damaged").exists());
    }
    for entry in ["2.png", "3.png", "4.png", "camera0/photo.png", "camera1/photo.png"] {
        fs::remove_file(root.join(format!("stereo/depth_maps/{entry}.geometric.bin"))).unwrap();
    }
    let message = fuse(&place, "none", &root, &root, &[]).failed(3).to_owned();
    assert!(message.contains("depth_maps: none; expected depth maps PHOTO.geometric.bin"), "{message}");
}
