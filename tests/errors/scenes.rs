//! Scenes in MVSNet layout and their photos.

use std::fs;
use std::path::Path;

use crate::plane_scene;
use crate::scene_files::TestScene;
use crate::spoilt_scenes::{edit, edit_line, patch, truncate};
use crate::table::{Case, Group, NOTHING, spoilt, told};

/// The quickest run that looks at everything.
const INFER: &str = "infer scene -o out --levels 1 --resolution quarter --planes 8 --threads 1";
const CAM: &str = "scene/cams/00000007_cam.txt";
const PAIRS: &str = "scene/pair.txt";
const PHOTO: &str = "scene/images/00000007.png";

fn mvsnet(root: &Path) {
    TestScene::new().write_mvsnet(&root.join("scene"), "2 6");
}

fn binary(root: &Path) {
    TestScene::new().write_colmap_binary(&root.join("scene"), "sparse/0");
}

fn without_cameras(root: &Path, ids: &[u32]) {
    ids.iter().for_each(|id| fs::remove_file(root.join(format!("scene/cams/{id:08}_cam.txt"))).unwrap());
}

fn empty_folder(root: &Path, name: &str) {
    let _ = fs::remove_dir_all(root.join(name));
    fs::create_dir_all(root.join(name)).unwrap();
}

pub fn groups() -> Vec<Group> {
    vec![folders(), cameras(), pairs(), photos(), masks(), runs()]
}

fn folders() -> Group {
    let name = "give the folder that holds images/ and the cameras";
    let cases: Vec<Case> = vec![
        spoilt("check the name of the folder", |root| fs::remove_dir_all(root.join("scene")).unwrap()),
        spoilt(name, |root| {
            fs::remove_dir_all(root.join("scene")).unwrap();
            fs::write(root.join("scene"), "x").unwrap();
        }),
        spoilt(name, |root| empty_folder(root, "scene")),
        spoilt("calibrate the photos, for example with COLMAP", |root| {
            fs::remove_dir_all(root.join("scene/cams")).unwrap();
        }),
        spoilt("put the photos there", |root| fs::remove_dir_all(root.join("scene/images")).unwrap()),
        spoilt("put the photos there", |root| empty_folder(root, "scene/images")),
        spoilt("put the cameras there", |root| empty_folder(root, "scene/cams")),
        spoilt("add photos or cameras", |root| without_cameras(root, &[7, 8, 20])),
        spoilt("add photos and cameras", |root| {
            without_cameras(root, &[7, 8, 20]);
            [7, 8, 20].iter().for_each(|id| fs::remove_file(root.join(format!("scene/images/{id:08}.png"))).unwrap());
            fs::remove_file(root.join(PAIRS)).unwrap();
        }),
        spoilt("name the photos after their cameras", |root| {
            without_cameras(root, &[3, 7, 8, 20]);
            let camera = TestScene::new().views[0].cam_txt("2 6");
            fs::write(root.join("scene/cams/00000099_cam.txt"), camera).unwrap();
        }),
        spoilt("name the photos after their cameras", |root| {
            let at = |name: &str| root.join("scene/images").join(name);
            for (id, name) in [(3, "a.png"), (7, "b.png"), (8, "c.png")] {
                fs::rename(at(&format!("{id:08}.png")), at(name)).unwrap();
            }
            fs::remove_file(at("00000020.png")).unwrap();
        }),
        spoilt("remove one of the two", |root| {
            fs::copy(root.join(CAM), root.join("scene/cams/7_cam.txt")).unwrap();
        }),
        told("leave --layout away", "infer scene -o out --layout colmap"),
        told("name the folder of a model, or of models", "infer scene -o out --sparse scene/cams"),
        Case {
            run: Some("infer scene -o out --calibrate"),
            ..spoilt("remove that folder, or choose another OUT", |root| {
                fs::create_dir(root.join("out_cameras")).unwrap();
                fs::write(root.join("out_cameras/notes.txt"), "mine").unwrap();
            })
        },
        Case {
            run: Some("infer scene -o out --calibrate"),
            ..spoilt("give the folder of photos", |root| empty_folder(root, "scene/images"))
        },
        Case { write: Some(binary), ..told("leave --layout away", "infer scene -o out --layout mvsnet") },
    ];
    Group { title: "The scene's folder", advice: name, write: mvsnet, run: INFER, cases }
}

fn cameras() -> Group {
    let (depths, poses) = ("correct the depth numbers, or give --range near,far", "write the pose as world to camera");
    let cases = vec![
        spoilt("", |root| fs::write(root.join(CAM), "").unwrap()),
        spoilt("", |root| fs::write(root.join(CAM), b"extrinsic \xff\xfe").unwrap()),
        spoilt("", |root| edit(root, CAM, "extrinsic", "extr")),
        spoilt("", |root| edit(root, CAM, "intrinsic", " ")),
        spoilt("", |root| truncate(root, CAM, 60)),
        spoilt("", |root| edit_line(root, CAM, 2, "1 0 nan 0")),
        spoilt(poses, |root| edit_line(root, CAM, 2, "2 0 0 0")),
        spoilt(poses, |root| {
            edit_line(root, CAM, 2, "1 0 0 0");
            edit_line(root, CAM, 3, "0 1 0 0");
            edit_line(root, CAM, 4, "0 0 -1 0");
        }),
        spoilt(poses, |root| edit(root, CAM, "0.0 0.0 0.0 1.0", "0 0 0 2")),
        spoilt("", |root| edit_line(root, CAM, 8, "0 0 31")),
        spoilt("", |root| edit_line(root, CAM, 10, "0 0 0")),
        spoilt("", |root| edit_line(root, CAM, 9, "3 70 31")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425 2.5 192 935 1")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "0 5")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425 -2.5")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425 2.5 192 400")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425 2.5 1")),
        spoilt(depths, |root| edit_line(root, CAM, 12, "425 0 192")),
        Case {
            write: Some(|root| TestScene::new().write_mvsnet(&root.join("scene"), "2.5 0.00003 100000 6")),
            ..told("give --planes", "infer scene -o out --levels 1 --resolution quarter --threads 1")
        },
    ];
    Group {
        title: "Cameras in MVSNet layout",
        advice: "correct the camera file, or write it again",
        write: mvsnet,
        run: INFER,
        cases,
    }
}

fn pairs() -> Group {
    let cases = vec![
        spoilt("", |root| fs::write(root.join(PAIRS), "").unwrap()),
        spoilt("", |root| edit_line(root, PAIRS, 1, "four")),
        spoilt("", |root| edit_line(root, PAIRS, 1, "3")),
        spoilt("", |root| edit_line(root, PAIRS, 4, "9")),
        spoilt("", |root| edit_line(root, PAIRS, 3, "2 7 93 9 91")),
        spoilt("", |root| edit_line(root, PAIRS, 3, "2 7 93 8")),
        spoilt("", |root| edit_line(root, PAIRS, 3, "2 7 93 8 best")),
        spoilt("", |root| edit_line(root, PAIRS, 2, "-1")),
        spoilt("", |root| truncate(root, PAIRS, 4)),
        spoilt("", |root| {
            fs::remove_file(root.join(PAIRS)).unwrap();
            fs::create_dir(root.join(PAIRS)).unwrap();
        }),
        spoilt("put the file itself there", |root| {
            fs::remove_file(root.join(PAIRS)).unwrap();
            std::os::unix::fs::symlink("/dev/null", root.join(PAIRS)).unwrap();
        }),
    ];
    Group {
        title: "The list of source views",
        advice: "correct pair.txt, or remove it to have source views selected",
        write: mvsnet,
        run: INFER,
        cases,
    }
}

fn photos() -> Group {
    fn spoilt_jpeg(root: &Path, at: usize, bytes: &[u8]) {
        let start = fs::read(root.join("scene/images/00000007.jpg")).unwrap();
        let frame = start.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        patch(root, "scene/images/00000007.jpg", frame + at, bytes);
    }
    fn jpeg(root: &Path) {
        let jpeg = root.join("scene/images/00000007.jpg");
        image::open(root.join(PHOTO)).unwrap().save(&jpeg).unwrap();
        fs::remove_file(root.join(PHOTO)).unwrap();
    }
    let cases = vec![
        spoilt("", |root| fs::write(root.join(PHOTO), "").unwrap()),
        spoilt("", |root| fs::write(root.join(PHOTO), "not a photo at all").unwrap()),
        spoilt("", |root| truncate(root, PHOTO, 200)),
        spoilt("", |root| {
            jpeg(root);
            truncate(root, "scene/images/00000007.jpg", 900);
        }),
        spoilt("", |root| {
            jpeg(root);
            spoilt_jpeg(root, 5, &[0xff, 0xfe, 0xff, 0xfe]);
        }),
        spoilt("save it with whole numbers", |root| {
            let floats = image::Rgb32FImage::from_pixel(64, 48, image::Rgb([0.5, 0.5, 0.5]));
            floats.save_with_format(root.join(PHOTO), image::ImageFormat::Tiff).unwrap();
        }),
        Case { write: Some(binary), ..spoilt("", |root| image::RgbImage::new(32, 24).save(root.join(PHOTO)).unwrap()) },
    ];
    Group { title: "Photos", advice: "copy the photo again, or leave it out", write: mvsnet, run: INFER, cases }
}

/// What shows only in the whole scene, or together with the options.
fn masks() -> Group {
    fn with_masks(root: &Path) {
        mvsnet(root);
        fs::create_dir(root.join("masks")).unwrap();
        mask(root, "00000003.png", (64, 48));
    }
    fn mask(root: &Path, name: &str, (width, height): (u32, u32)) {
        image::GrayImage::new(width, height).save(root.join("masks").join(name)).unwrap();
    }
    let names = "name the masks after the photos";
    let cases = vec![
        spoilt("check the name of the folder", |root| fs::remove_dir_all(root.join("masks")).unwrap()),
        spoilt(names, |root| empty_folder(root, "masks")),
        spoilt(names, |root| {
            fs::rename(root.join("masks/00000003.png"), root.join("masks/IMG_3.png")).unwrap();
        }),
        spoilt("make the mask of the photo as it is stored", |root| mask(root, "00000003.png", (40, 48))),
        spoilt("make the mask again", |root| fs::write(root.join("masks/00000003.png"), "").unwrap()),
        Case {
            write: Some(|root| {
                let mut scene = TestScene::new();
                for (i, view) in scene.views.iter_mut().enumerate() {
                    view.file = format!("{i}/photo.png");
                }
                fs::create_dir_all(root.join("scene")).unwrap();
                scene.write_colmap_binary(&root.join("scene"), "sparse/0");
                fs::create_dir(root.join("masks")).unwrap();
                mask(root, "photo.png", (64, 48));
            }),
            ..spoilt("put the masks into subfolders like the photos'", NOTHING)
        },
    ];
    Group {
        title: "Masks",
        advice: "",
        write: with_masks,
        run: "infer scene -o out --levels 1 --resolution quarter --planes 8 --threads 1 --masks masks",
        cases,
    }
}

fn runs() -> Group {
    fn same_place(root: &Path) {
        let mut scene = TestScene::new();
        scene.views.iter_mut().for_each(|view| view.t = -(view.r * glam::DVec3::new(0.1, 0.2, -4.0)));
        scene.points.clear();
        scene.write_mvsnet(&root.join("scene"), "2 6");
        fs::remove_file(root.join(PAIRS)).unwrap();
    }
    fn apart(root: &Path) {
        let mut scene = TestScene::new();
        // Back to back, and far from each other.
        for (i, view) in scene.views.iter_mut().enumerate() {
            view.r = glam::DMat3::from_rotation_y(std::f64::consts::FRAC_PI_2 * i as f64);
            view.t = -(view.r * glam::DVec3::new(1000.0 * i as f64, 0.0, 0.0));
        }
        scene.write_mvsnet(&root.join("scene"), "2 6");
        fs::remove_file(root.join(PAIRS)).unwrap();
    }
    let with = |advice, write: fn(&Path)| Case { write: Some(write), ..spoilt(advice, NOTHING) };
    let cases = vec![
        told("give the name of a photo without its ending", "infer scene -o out --view IMG_1"),
        with("give --range near,far", |root| TestScene::new().write_mvsnet(&root.join("scene"), "")),
        with("take photos from different places", same_place),
        with("check the cameras, or list source views in pair.txt", apart),
        told("add source views with --view, or give --depth-only", "infer scene -o out --view 00000003 --levels 1"),
        told(
            "loosen the settings as the message says",
            "infer scene -o out --levels 1 --resolution quarter --planes 8 --min-confidence 1",
        ),
        told("give a region in front of the cameras", "infer scene -o out --roi -1,-1,-90,1,1,-80"),
        told("give numbers or a file", "infer scene -o out --roi auto"),
        told("leave --poses out", "infer scene -o out --poses world-to-camera-opengl"),
        Case {
            run: Some("infer scene -o out --range-from a.ply"),
            ..spoilt("give a cloud in the scene's coordinates", |root| {
                let head = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n";
                fs::write(root.join("a.ply"), format!("{head}property float z\nend_header\n0 0 0\n")).unwrap();
            })
        },
        Case {
            run: Some("infer scene -o out --roi roi.txt"),
            ..spoilt("write the file again", |root| fs::write(root.join("roi.txt"), "1 0 0 1").unwrap())
        },
        Case {
            run: Some("infer scene -o out --roi roi.obj"),
            ..spoilt("write the file again", |root| fs::write(root.join("roi.obj"), vec![b' '; 2 << 20]).unwrap())
        },
        told("leave more memory, or work on smaller photos", "infer scene -o out --memory 0.001 --threads 1"),
        told("leave --device away, or build with --features cuda", "infer scene -o out --device cuda"),
        told("run on a GPU, or leave --jpeg away", "infer scene -o out --device cpu --jpeg nvjpeg"),
    ];
    Group {
        title: "A run on a scene",
        advice: "",
        write: |root| plane_scene::write(&root.join("scene")),
        run: INFER,
        cases,
    }
}
