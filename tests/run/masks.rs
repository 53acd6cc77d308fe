//! Masks in files of their own: found by the photos' names, obeyed to the pixel, and nothing confirmed by what they
//! leave out.

use super::*;

/// Points of the plane with an x above this are masked.
const CUT: f64 = 0.2;
const ARGUMENTS: [&str; 6] = ["--min-views", "1", "--levels", "2", "--min-confidence", "0.3"];

/// Writes a mask for each view under the name that is asked for, and gives them as 0 and 1.
fn write_masks(folder: &Path, name: impl Fn(&str) -> String) -> Vec<image::GrayImage> {
    fs::create_dir_all(folder).unwrap();
    let of_view = |view: &scene_files::TestView| {
        let centre = -(view.r.transpose() * view.t);
        let mask = image::GrayImage::from_fn(plane_scene::SIZE.0, plane_scene::SIZE.1, |x, y| {
            let (x, y) = (f64::from(x), f64::from(y));
            let ray = view.r.transpose() * (view.k.inverse() * glam::DVec3::new(x, y, 1.0));
            // Values of 1 are as much inside as those of 255.
            image::Luma([u8::from((centre + ray * plane_scene::depth(view, x, y)).x <= CUT)])
        });
        let file = folder.join(name(&format!("{:08}", view.id)));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        mask.save(file).unwrap();
        mask
    };
    plane_scene::scene().views.iter().map(of_view).collect()
}

fn infer(place: &Place, out: &str, masks: &Path, more: &[&str]) -> program::Ran {
    place.infer(out, &[&ARGUMENTS[..], &["--masks", text(masks)], more].concat())
}

#[test]
fn masks_cut_maps_and_cloud_to_the_pixel() {
    let place = Place::new();
    place.infer("whole", &ARGUMENTS).done();
    let (_, whole) = cloud(&place.path("whole/fused.ply"));
    let masks_of = place.path("masks");
    let masks = write_masks(&masks_of, |name| format!("{name}.png"));
    for (out, resolution, step) in [("full", "full", 1), ("quarter", "quarter", 4)] {
        let ran = infer(&place, out, &masks_of, &["--resolution", resolution]).done();
        assert!(ran.stderr.contains("note: masks of 5 of 5 photos"), "{}", ran.stderr);
        assert!(ran.stderr.contains("note: 5 of 5 photos have masked parts"), "{}", ran.stderr);
        for (name, mask) in NAMES.iter().zip(&masks) {
            let depth = pfm::read(&place.path(out).join(format!("depth/{name}.pfm"))).unwrap();
            for i in 0..depth.data.len() {
                let (x, y) = (i % depth.width * step, i / depth.width * step);
                assert_eq!(depth.data[i] > 0.0, mask.get_pixel(x as u32, y as u32).0[0] > 0, "{name} {x} {y}");
            }
        }
    }
    // A pixel is 0.04 wide there, and its depth may be 1 % off.
    let (_, left) = cloud(&place.path("full/fused.ply"));
    assert!(left.iter().all(|p| f64::from(p[0]) < CUT + 0.06));
    let inside = |points: &[[f32; 3]]| points.iter().filter(|p| f64::from(p[0]) < CUT - 0.1).count();
    assert!(inside(&left) * 10 > inside(&whole) * 9, "{} {}", inside(&left), inside(&whole));

    // The same again finds everything done; with another mask it does not.
    let again = infer(&place, "full", &masks_of, &["--resolution", "full"]).done();
    assert!(again.stderr.contains("nothing is left to do"), "{}", again.stderr);
    let before = fs::read(place.path("full/depth/00000003.pfm")).unwrap();
    let white = image::GrayImage::from_pixel(plane_scene::SIZE.0, plane_scene::SIZE.1, image::Luma([255]));
    white.save(masks_of.join("00000003.png")).unwrap();
    infer(&place, "full", &masks_of, &["--resolution", "full"]).done();
    assert!(before != fs::read(place.path("full/depth/00000003.pfm")).unwrap());

    // Finished maps, fused with masks.
    let out = place.path("fused");
    let (maps, scene) = (place.path("whole"), place.scene());
    let fuse = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--masks", text(&masks_of)];
    engine(fuse.iter().chain(&["--min-views", "1"])).done();
    let (_, fused) = cloud(&out.join("fused.ply"));
    assert!(fused.len() > 500 && fused.iter().all(|p| f64::from(p[0]) < CUT + 0.3), "{}", fused.len());
}

/// What a source's mask leaves out confirms nothing: with the masks of all others black, no pixel is confirmed.
#[test]
fn nothing_is_confirmed_by_what_is_masked() {
    let place = Place::new();
    let masks = place.path("masks");
    write_masks(&masks, |name| format!("{name}_mask.png"));
    for name in NAMES {
        let value = if name == "00000003" { 255 } else { 0 };
        let mask = image::GrayImage::from_pixel(plane_scene::SIZE.0, plane_scene::SIZE.1, image::Luma([value]));
        mask.save(masks.join(format!("{name}_mask.png"))).unwrap();
    }
    let ran = infer(&place, "out", &masks, &[]);
    ran.failed(6);
    assert!(ran.stderr.contains("note: nothing of 4 photos is left by the masks (first: 00000000)"), "{}", ran.stderr);
    let manifest = json(&place.path("out/manifest.json"));
    assert_eq!(manifest["parameters"]["masks"], text(&masks));
    // The network alone made the one map that is left, as without any mask.
    let depth = pfm::read(&place.path("out/depth/00000003.pfm")).unwrap();
    assert!(depth.data.iter().all(|&z| z > 0.0));
}

#[test]
fn masks_are_found_by_name_and_others_told() {
    let place = Place::new();
    let names: [fn(&str) -> String; 4] = [
        |name| format!("{name}.png.png"),
        |name| format!("{name}_mask.png"),
        |name| format!("images/{name}.png"),
        |name| format!("{name}.tif"),
    ];
    let quick = ["--resolution", "quarter", "--depth-only"];
    for (i, name) in names.into_iter().enumerate() {
        let masks = place.path(&format!("masks{i}"));
        write_masks(&masks, name);
        fs::remove_file(masks.join(name("00000009"))).unwrap();
        fs::write(masks.join("other.png"), "never opened").unwrap();
        let ran = infer(&place, &format!("out{i}"), &masks, &quick).done();
        let told = [
            "note: masks of 4 of 5 photos; the others (first: 00000009) show nothing but the scene",
            "that is no \
                     mask of a photo (first: other.png)",
        ];
        assert!(told.iter().all(|told| ran.stderr.contains(told)), "{}", ran.stderr);
        let depth = pfm::read(&place.path(&format!("out{i}/depth/00000003.pfm"))).unwrap();
        assert!(depth.data.contains(&0.0));
    }
    // Beside the photos: those are not their own masks.
    let images = place.path("scene/images");
    write_masks(&images, |name| format!("{name}_mask.tif"));
    let ran = infer(&place, "beside", &images, &quick).done();
    assert!(ran.stderr.contains("note: masks of 5 of 5 photos\n"), "{}", ran.stderr);
}

#[test]
fn masks_that_do_not_fit_are_refused() {
    let place = Place::new();
    let masks = place.path("masks");
    let refused = |code: i32, told: &str| {
        let ran = infer(&place, "out", &masks, &[]);
        assert!(ran.failed(code).contains(told), "{}", ran.stderr);
    };
    refused(4, "cannot read the folder of masks");
    fs::create_dir(&masks).unwrap();
    refused(3, "no image; expected masks named after their photos: NAME.png, NAME.jpg.png or NAME_mask.png");
    fs::write(masks.join("x.png"), "").unwrap();
    refused(3, "1 image, none of them with the name of a photo");
    write_masks(&masks, |name| format!("{name}.png"));
    image::GrayImage::new(64, 64).save(masks.join("00000005.png")).unwrap();
    refused(3, "64 x 64 pixels; expected 96 x 64 as ");
    fs::write(masks.join("00000005.png"), "x").unwrap();
    refused(3, "00000005.png: ");
    // Half as large in both directions: resized.
    image::GrayImage::from_pixel(48, 32, image::Luma([9])).save(masks.join("00000005.png")).unwrap();
    let ran = infer(&place, "out", &masks, &["--resolution", "quarter", "--depth-only"]).done();
    assert!(ran.stderr.contains("note: 1 mask of another size than the photo, with its proportions"), "{}", ran.stderr);
    let depth = pfm::read(&place.path("out/depth/00000005.pfm")).unwrap();
    assert!(!depth.data.contains(&0.0));
}
