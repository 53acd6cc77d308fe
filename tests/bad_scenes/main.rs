//! Scenes that are broken in one place each, and the one line that says so: folders here, the text files of the MVSNet
//! layout and photos in files of their own; and damage all over every file. COLMAP models: `bad_colmap.rs`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

mod photos;
#[path = "../support/scene_files.rs"]
mod scene_files;
#[path = "../support/spoilt_scenes.rs"]
mod spoilt_scenes;
mod text_files;
use scene_files::TestScene;
use spoilt_scenes::*;

#[test]
fn folders_that_are_no_scene() {
    check(
        NOTHING,
        "SCENE: ",
        &[
            (
                "missing folder",
                |root| fs::remove_dir(root).unwrap(),
                "cannot open the scene's folder: No such file or directory (os error 2)",
            ),
            (
                "empty folder",
                NOTHING,
                "an empty folder; expected images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP \
                 model in sparse/, sparse/0/ or dense/sparse/, or the cameras of another program (`--format` of \
                 `engine infer --help` lists them)",
            ),
            (
                "photos only",
                |root| {
                    TestScene::new().write_photos(root);
                    fs::write(root.join("notes.txt"), "").unwrap();
                },
                "4 photos and no cameras (notes.txt holds none in a format that is known); expected their cameras: \
                 `engine infer SCENE --calibrate` lets an installed COLMAP find them; by hand, `mkdir cameras && \
                 colmap automatic_reconstructor --workspace_path cameras --image_path SCENE/images --dense 0`, then \
                 `engine infer SCENE --sparse cameras/sparse`",
            ),
            (
                "one photo only",
                |root| fs::write(root.join("notes.jpg"), "").unwrap(),
                "no scene, only notes.jpg; expected images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a \
                 COLMAP model in sparse/, sparse/0/ or dense/sparse/, or the cameras of another program (`--format` of \
                 `engine infer --help` lists them)",
            ),
            (
                "a file",
                |root| {
                    fs::remove_dir(root).unwrap();
                    fs::write(root, "x").unwrap();
                },
                "no cameras in a format that is known; expected transforms.json (instant-ngp, nerfstudio), Metashape's \
                 cameras (XML), Bundler's bundle.out, VisualSFM's NVM, OpenMVG's sfm_data.json, OpenSfM's \
                 reconstruction.json, AliceVision's .sfm, RealityCapture's cameras (XMP or CSV), OpenMVS's scene.mvs, \
                 Strecha's .camera files, Middlebury's _par.txt, LLFF's poses_bounds.npy, cameras.npz of IDR and NeuS, \
                 pose.txt files of 7-Scenes, a trajectory of Open3D (.json or .log), kapture's sensors/, \
                 Pix4D's OPF",
            ),
        ],
    );
    check(
        binary,
        "SCENE/images: ",
        &[
            (
                "model without photos",
                |root| fs::remove_dir_all(root.join("images")).unwrap(),
                "no such folder; expected the folder with the photos of the COLMAP model",
            ),
            (
                "one photo",
                |root| {
                    for id in [7, 8, 20] {
                        fs::remove_file(root.join(format!("images/{id:08}.png"))).unwrap();
                    }
                },
                "3 of the 4 registered images have no photo here (first: 00000007.png); expected at least two photos \
                 under the names that the model has for them",
            ),
        ],
    );
    check(
        mvsnet,
        "",
        &[
            (
                "cameras without photos",
                |root| fs::remove_dir_all(root.join("images")).unwrap(),
                "SCENE/images: cannot list the photos: No such file or directory (os error 2)",
            ),
            (
                "empty images/",
                |root| {
                    fs::remove_dir_all(root.join("images")).unwrap();
                    fs::create_dir(root.join("images")).unwrap();
                },
                "SCENE/images: no photos; expected JPEG, PNG, TIFF or WebP files",
            ),
            (
                "empty cams/",
                |root| {
                    fs::remove_dir_all(root.join("cams")).unwrap();
                    fs::create_dir(root.join("cams")).unwrap();
                },
                "SCENE/cams: no camera files; expected one NUMBER_cam.txt for each photo, for example 00000000_cam.txt",
            ),
            (
                "one view",
                |root| {
                    for id in [7, 8, 20] {
                        fs::remove_file(root.join(format!("cams/{id:08}_cam.txt"))).unwrap();
                    }
                },
                "SCENE: only one view with both a photo and a camera; expected at least two views of the same place",
            ),
            (
                "names that are no numbers, too few",
                |root| {
                    for (id, name) in [(3, "a"), (7, "b"), (8, "c")] {
                        fs::rename(root.join(format!("images/{id:08}.png")), root.join(format!("images/{name}.png")))
                            .unwrap();
                    }
                    fs::remove_file(root.join("images/00000020.png")).unwrap();
                },
                "SCENE/images: 3 photos whose names are not numbers, beside 4 cameras; expected names with the \
                 cameras' numbers (00000003.jpg for 00000003_cam.txt), or as many photos as cameras",
            ),
            (
                "two cameras for a view",
                |root| {
                    fs::copy(root.join("cams/00000007_cam.txt"), root.join("cams/7_cam.txt")).unwrap();
                },
                "SCENE/cams/7_cam.txt: a second camera for view 7 beside 00000007_cam.txt; expected one file a view",
            ),
        ],
    );
    check(
        text,
        "",
        &[(
            "no photo of the model",
            |root| {
                for id in [3, 7, 8, 20] {
                    fs::rename(root.join(format!("images/{id:08}.png")), root.join(format!("images/{id}.png")))
                        .unwrap();
                }
            },
            "SCENE/images: 4 of the 4 registered images have no photo here (first: 00000003.png); expected at least \
             two photos under the names that the model has for them",
        )],
    );
}

/// Whatever the bytes are, the answer is a scene or an error: no panic, no endless loop, no memory that a length asks
/// for.
#[test]
fn damaged_bytes_never_panic() {
    type Files = (fn(&Path), &'static [&'static str]);
    let layouts: [Files; 3] = [
        (mvsnet, &["cams/00000007_cam.txt", "pair.txt", "images/00000007.png"]),
        (
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            &[
                "sparse/0/cameras.bin",
                "sparse/0/images.bin",
                "sparse/0/points3D.bin",
                "sparse/0/rigs.bin",
                "sparse/0/frames.bin",
            ],
        ),
        (
            |root| {
                text(root);
                TestScene::new().write_rig(&root.join("sparse/0"), false);
            },
            &[
                "sparse/0/cameras.txt",
                "sparse/0/images.txt",
                "sparse/0/points3D.txt",
                "sparse/0/rigs.txt",
                "sparse/0/frames.txt",
            ],
        ),
    ];
    let (mut opened, mut refused) = (0, 0);
    for (write, files) in layouts {
        let folder = TempDir::new().unwrap();
        write(folder.path());
        for file in files {
            let path = folder.path().join(file);
            let whole = fs::read(&path).unwrap();
            let mut use_with = |bytes: &[u8]| {
                fs::write(&path, bytes).unwrap();
                match use_scene(folder.path()) {
                    Ok(()) => opened += 1,
                    Err(error) => {
                        refused += 1;
                        assert!(!error.to_string().contains('\n'), "{error}");
                    }
                }
            };
            for i in 0..40 {
                use_with(&whole[..whole.len() * i / 40]);
            }
            for i in 0..60usize {
                let mut bytes = whole.clone();
                // The first bytes, where the lengths are, and others all over the file.
                let at = if i < 30 { i } else { i * 7919 % bytes.len() };
                bytes[at] = [0xff, 0x00, 0x80, b'9', b' '][i % 5];
                use_with(&bytes);
            }
            fs::write(&path, whole).unwrap();
        }
    }
    // Both happen, so that neither side of the test is empty.
    assert!(opened > 100 && refused > 500, "{opened} opened, {refused} refused");
}
