//! What files have beside cameras: masks, source views, a region of interest.

use std::fs;
use std::path::Path;

use engine::manifest::RangeFrom;
use engine::run::options::InferOptions;
use engine::run::plan::plan;
use engine::scene::camera::DepthRange;
use engine::scene::formats::table::Layout;
use engine::scene::region::Region;
use engine::scene::{OpenOptions, RegionOption, Scene};
use glam::{DMat3, DVec3};
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::*;
use crate::format_trees::*;
use crate::scene_files::TestScene;
use crate::truth::{has_note, open};

const NAMES: [&str; 4] = ["00000003", "00000007", "00000008", "00000020"];

fn grey(path: &Path, size: (u32, u32)) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_fn(size.0, size.1, |x, _| image::Luma([u8::from(x > 9)])).save(path).unwrap();
}

fn opened(root: &Path, options: OpenOptions) -> Scene {
    Scene::open(root, &options).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(root: &Path) -> String {
    let text = Scene::open(root, &OpenOptions::default()).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Names of the masks by view, as paths below the folder.
fn masks(scene: &Scene, root: &Path) -> Vec<Option<String>> {
    let name = |mask: &std::path::PathBuf| mask.strip_prefix(root).unwrap_or(mask).to_str().unwrap().to_owned();
    scene.views.iter().map(|view| view.mask.as_ref().map(name)).collect()
}

/// Names of the source views of each view.
fn sources(scene: &Scene) -> Vec<Vec<&str>> {
    let names = |view: &engine::scene::View| view.sources.iter().map(|s| &*scene.views[s.view].name).collect();
    scene.views.iter().map(names).collect()
}

/// NeuS's masks lie in their own order, one for each camera; another number of them says nothing of which is whose.
#[test]
fn masks_of_neus_are_read_in_the_order_of_their_names() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    truth.write_photos(root);
    fs::rename(root.join("images"), root.join("image")).unwrap();
    put(&root.join("cameras.npz"), cameras_npz(&truth, true));
    let count = truth.views.len();
    // By number: 9 lies before 10.
    for i in 0..count {
        grey(&root.join(format!("mask/{}.png", 9 + i)), truth.size);
    }
    let expected: Vec<_> = (0..count).map(|i| Some(format!("mask/{}.png", 9 + i))).collect();
    assert_eq!(masks(&open(root, Layout::NeuS), root), expected);
    fs::remove_file(root.join("mask/9.png")).unwrap();
    let scene = open(root, Layout::NeuS);
    assert_eq!(masks(&scene, root), vec![None; count]);
    assert!(has_note(&scene, &format!("{} masks in ", count - 1)), "{:?}", scene.notes);
}

/// Masks that a file names are those of its photos; what is not there, or is of another shape, is told; `--masks` goes
/// before them.
#[test]
fn masks_are_read_where_files_name_them() {
    let truth = TestScene::new();
    let files: [(Layout, &str, Vec<u8>); 2] = [
        (Layout::Transforms, "transforms.json", {
            let mut written = frames(&truth);
            written["frames"][0]["mask_path"] = json!("masks\\first.png");
            written["frames"][2]["mask_path"] = json!("masks/lost.png");
            written["frames"][3]["mask_path"] = json!("masks/third.png");
            written.to_string().into()
        }),
        (Layout::OpenMvs, "scene.mvs", {
            openmvs_with(&truth, 5, &["masks/first.png", "", "masks/lost.png", "masks/third.png"], &[])
        }),
    ];
    for (layout, name, bytes) in files {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        truth.write_photos(root);
        put(&root.join(name), bytes);
        grey(&root.join("masks/first.png"), (64, 48));
        grey(&root.join("masks/third.png"), (32, 24));
        let scene = open(root, layout);
        let expected = [Some("masks/first.png"), None, None, Some("masks/third.png")];
        assert_eq!(masks(&scene, root), expected.map(|mask| mask.map(str::to_owned)), "{layout:?}");
        assert!(has_note(&scene, "masks of 2 of 4 photos, as "), "{:?}", scene.notes);
        assert!(has_note(&scene, "1 mask named there but not found (first: "), "{:?}", scene.notes);
        assert!(has_note(&scene, "1 mask of another size than the photo"), "{:?}", scene.notes);

        grey(&root.join("masks/third.png"), (64, 40));
        let text = refused(root);
        assert!(text.contains("third.png: 64 x 40 pixels; expected 64 x 48"), "{text}");

        grey(&root.join("others/00000007.png"), (64, 48));
        let scene = opened(root, OpenOptions { masks: Some(root.join("others")), ..OpenOptions::default() });
        let expected = [None, Some("others/00000007.png".to_owned()), None, None];
        assert_eq!(masks(&scene, root), expected, "{layout:?}");
        assert!(!has_note(&scene, "named there"), "{:?}", scene.notes);
    }
}

/// View scores of OpenMVS, best first; of images that are left out and of the image itself there are none.
#[test]
fn scores_of_openmvs_are_source_views() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    // Image 4 has no pose.
    let scores: [&[(u32, f32)]; 3] = [&[(2, 0.5), (4, 9.0), (3, 2.5), (0, 7.0), (1, 1.0)], &[], &[(1, 0.25)]];
    put(&folder.path().join("scene.mvs"), openmvs_with(&truth, 7, &[], &scores));
    let scene = open(folder.path(), Layout::OpenMvs);
    let expected = [vec![NAMES[3], NAMES[1], NAMES[2]], vec![], vec![NAMES[1]], vec![]];
    assert_eq!(sources(&scene), expected);
    assert!(has_note(&scene, "source views of 2 of 4 views are those that OpenMVS"), "{:?}", scene.notes);
    for (scores, told) in [(&[(9, 1.0)][..], "a score of image 9"), (&[(1, f32::NAN)], "a score of NaN")] {
        put(&folder.path().join("scene.mvs"), openmvs_with(&truth, 7, &[], &[scores]));
        let text = refused(folder.path());
        assert!(text.contains(told) && text.contains("scene.mvs: "), "{text}");
    }
}

/// A pair list of one's own: with the cameras' numbers, or counted from 0.
#[test]
fn a_pair_list_beside_other_cameras() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    truth.write_photos(root);
    truth.write_colmap_text(root, "sparse/0");
    let ids: Vec<u32> = opened(root, OpenOptions::default()).views.iter().map(|view| view.id).collect();
    assert!(ids != [0, 1, 2, 3], "{ids:?}");
    let list = |numbers: [u32; 4]| {
        let [a, b, c, d] = numbers;
        format!("3\n{a}\n2 {c} 9.5 {b} 1\n{d}\n1 {a} 3\n{b}\n0\n")
    };
    let expected = [vec![NAMES[2], NAMES[1]], vec![], vec![], vec![NAMES[0]]];
    let own: [u32; 4] = ids.clone().try_into().unwrap();
    for (numbers, told) in [(own, "the cameras' own"), ([0, 1, 2, 3], "their places among the cameras")] {
        put(&root.join("pair.txt"), list(numbers));
        let scene = opened(root, OpenOptions::default());
        assert_eq!(sources(&scene), expected);
        assert!(has_note(&scene, "source views of 2 of 4 views are those of "), "{:?}", scene.notes);
        assert!(has_note(&scene, told), "{:?}", scene.notes);
    }
    put(&root.join("pair.txt"), list([0, 1, 2, 77]));
    let text = refused(root);
    assert!(text.contains("pair.txt: line ") && text.contains("which has no camera; expected"), "{text}");
    // It goes before what the file of cameras has, and before COLMAP's list.
    let other = TempDir::new().unwrap();
    truth.write_photos(other.path());
    put(&other.path().join("scene.mvs"), openmvs_with(&truth, 7, &[], &[&[(1, 1.0)]]));
    put(&other.path().join("stereo/patch-match.cfg"), "00000003.png\n00000008.png\n");
    let scene = open(other.path(), Layout::OpenMvs);
    assert_eq!(sources(&scene)[0], [NAMES[2]], "{:?}", scene.notes);
    put(&other.path().join("pair.txt"), list([0, 1, 2, 3]));
    assert_eq!(sources(&open(other.path(), Layout::OpenMvs)), expected);
    // Beside MVSNet's cameras it is a list of these.
    fs::create_dir(other.path().join("cams")).unwrap();
    let options = OpenOptions { layout: Some(Layout::OpenMvs), ..OpenOptions::default() };
    assert_eq!(sources(&opened(other.path(), options))[0], [NAMES[2]]);
}

/// COLMAP's lists: named photos in their order, the rest selected; wherever the workspace has them.
#[test]
fn patch_match_lists_of_colmap() {
    let truth = TestScene::new();
    let text = "# written by hand\n00000003.png\n00000020.png, 00000007.png, 00000003.png, lost.png\n\n00000007.png\n\
                __auto__, 20\n00000008.png\n__all__\nother.png\n00000003.png\n";
    let expected = [vec![NAMES[3], NAMES[1]], vec![], vec![], vec![]];
    for (model, at, opens) in [
        ("sparse", "stereo", "."),
        ("dense/sparse", "dense/stereo", "."),
        ("sparse/0", "dense/0/stereo", "."),
        ("sparse/0", "stereo", "sparse/0"),
    ] {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        truth.write_photos(root);
        truth.write_colmap_text(root, model);
        put(&root.join(at).join("patch-match.cfg"), text);
        let scene = opened(&root.join(opens), OpenOptions::default());
        assert_eq!(sources(&scene), expected, "{model} {at}");
        assert!(has_note(&scene, "source views of 1 of 4 views are those of "), "{:?}", scene.notes);
        assert!(has_note(&scene, "source views of 2 views to be selected"), "{:?}", scene.notes);
        assert!(has_note(&scene, "2 names in "), "{:?}", scene.notes);
        for (broken, told) in [
            ("00000003.png\n", "line 1: the file ends after 00000003.png"),
            ("00000003.png\n__auto__\n", "line 2: `__auto__`"),
            ("00000003.png\n__auto__, many\n", "line 2: `__auto__, many`"),
            ("00000003.png\n , ,\n", "line 2: `, ,`"),
        ] {
            put(&root.join(at).join("patch-match.cfg"), broken);
            let said = refused(&root.join(opens));
            assert!(said.contains("patch-match.cfg: ") && said.contains(told), "{said}");
        }
        put(&root.join(at).join("patch-match.cfg"), "a.png\nb.png\n");
        let scene = opened(root, OpenOptions::default());
        let note = has_note(&scene, "names no photo of the scene and is not used");
        assert!(note && sources(&scene).iter().all(Vec::is_empty), "{:?}", scene.notes);
    }
}

fn corners_apart(found: &Region, expected: &[DVec3; 8]) -> f64 {
    let nearest = |&e: &DVec3| found.corners().iter().map(|c| c.distance(e)).fold(f64::INFINITY, f64::min);
    expected.iter().map(nearest).fold(0.0, f64::max)
}

/// Nobody asks for Metashape's region: its scene has no points, so that views search what they see of it, and nothing
/// is cut off.
#[test]
fn a_region_of_metashape_tells_depths_where_nothing_else_does() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    truth.write_photos(root);
    let sides = DMat3::from_rotation_y(0.6) * DMat3::from_rotation_x(-0.2);
    let write = |centre: DVec3| {
        put(&root.join("cameras.xml"), metashape_with_region(&truth, centre, sides, DVec3::splat(0.8)));
    };
    let planned = |options: &InferOptions| {
        let mut scene = open(root, Layout::Metashape);
        plan(&mut scene, options).map(|plan| (plan, scene))
    };
    // Around the origin, where all views look.
    write(DVec3::ZERO);
    let (plan, scene) = planned(&InferOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(plan.views.len(), truth.views.len());
    let region = scene.region_of_files.unwrap();
    for planned in &plan.views {
        let view = &scene.views[planned.view];
        assert_eq!(planned.range, region.depths(&view.camera, view.size).unwrap());
        assert_eq!(planned.range_from, RangeFrom::Scene);
        // Some 4 before the cameras, in a box that is 1.4 across.
        assert!(planned.range.near > 2.5 && planned.range.far < 5.5, "{:?}", planned.range);
    }
    assert_eq!(scene.region, None);
    assert!(has_note(
        &scene,
        "depth range of 4 of 4 views: what they see of the region in Metashape's cameras (XML), a box of "
    ));

    // What is given goes before it.
    let range = Some(DepthRange { near: 1.0, far: 9.0 });
    let (plan, scene) = planned(&InferOptions { range, ..InferOptions::default() }).unwrap_or_else(|e| panic!("{e}"));
    assert!(plan.views.iter().all(|view| Some(view.range) == range));
    assert!(!has_note(&scene, "what they see of the region"));

    // A camera in it searches from a hundredth of its end on.
    write(truth.views[0].r.transpose() * -truth.views[0].t);
    let (_, scene) = planned(&InferOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let first = scene.views[0].range.unwrap();
    assert!((first.near / first.far - 0.01).abs() < 1e-9, "{first:?}");

    // And one that no view meets is told.
    write(DVec3::new(0.0, 0.0, -50.0));
    let text = planned(&InferOptions::default()).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("no view sees anything of the region of interest, a box of "), "{text}");
    assert!(text.ends_with("in the scene's units, or --range near,far, the depths to search"), "{text}");
}

/// Metashape's region in the world: as a file, and by `auto` for the project itself.
#[test]
fn a_region_of_metashape_is_one_of_interest() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    truth.write_photos(root);
    let (centre, size) = (DVec3::new(0.5, -1.0, 2.0), DVec3::new(1.0, 2.0, 4.0));
    let sides = DMat3::from_rotation_y(0.6) * DMat3::from_rotation_x(-0.2);
    let file = root.join("cameras.xml");
    let text = metashape_with_region(&truth, centre, sides, size);
    put(&file, &text);
    let corner = |i: usize| {
        let side = |bit: usize| if i >> bit & 1 == 1 { 0.5 } else { -0.5 };
        centre + sides * (size * DVec3::new(side(0), side(1), side(2)))
    };
    let expected: [DVec3; 8] = std::array::from_fn(corner);
    assert_eq!(open(root, Layout::Metashape).region, None);
    for roi in [RegionOption::Auto, RegionOption::File(file.clone())] {
        let scene = opened(root, OpenOptions { roi: Some(roi.clone()), ..OpenOptions::default() });
        // The writer's numbers read back to the same f64; products of some of them round.
        let apart = corners_apart(&scene.region.unwrap(), &expected);
        assert!(apart < 1e-12, "{apart}");
        let is_own = has_note(&scene, "the region of interest is that of Metashape");
        assert_eq!(is_own, roi == RegionOption::Auto, "{:?}", scene.notes);
    }
    // Without a transform of the chunk the region is in the world.
    let plain = text.split_once("<transform><rotation>").unwrap();
    let plain = format!("{}{}", plain.0, plain.1.split_once("</transform>").unwrap().1);
    put(&root.join("plain.xml"), &plain);
    let roi = Some(RegionOption::File(root.join("plain.xml")));
    let scene = opened(root, OpenOptions { roi, ..OpenOptions::default() });
    let turn = DMat3::from_rotation_x(0.3) * DMat3::from_rotation_z(-1.1);
    let undone = expected.map(|c| turn.transpose() * (c - DVec3::new(10.0, -4.0, 7.0)) / 2.5);
    let apart = corners_apart(&scene.region.unwrap(), &undone);
    assert!(apart < 1e-12, "{apart}");

    for (from, to, told) in [
        ("<size>", "<size>0 ", "4 numbers"),
        ("<center>", "<middle/><centre>", "no well-formed XML"),
        ("<R>", "<R>1 ", "10 numbers"),
        ("<R>", "<R>7", "not a rotation"),
    ] {
        put(&file, text.replace(from, to));
        let said = refused(root);
        assert!(said.contains("cameras.xml: line ") && said.contains(told), "{said}");
    }
    // A region without extent is none.
    let (before, after) = text.split_once("<size>").unwrap();
    put(&file, format!("{before}<size>0 0 0{}", &after[after.find("</size>").unwrap()..]));
    open(root, Layout::Metashape);
    let options = OpenOptions { roi: Some(RegionOption::File(file)), ..OpenOptions::default() };
    let said = Scene::open(root, &options).unwrap_err().to_string();
    assert!(said.contains("cameras.xml: line ") && said.contains("no region, or one without extent"), "{said}");
}
