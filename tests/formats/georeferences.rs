//! Where on earth a scene lies, as far as its files say.

use engine::scene::Scene;
use engine::scene::formats::table::Layout;
use engine::scene::georeference::Georeference;
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::{put, square};
use crate::format_opf::write_opf;
use crate::format_trees::{metashape, opensfm};
use crate::scene_files::TestScene;
use crate::truth::{has_note, open};

fn place() -> TempDir {
    let folder = TempDir::new().unwrap();
    TestScene::new().write_photos(folder.path());
    folder
}

#[test]
fn opensfm_names_the_place_that_its_world_is_around() {
    let folder = place();
    let root = folder.path();
    let read = |own: serde_json::Value| {
        let mut written = opensfm(&TestScene::new(), json!({}));
        if !own.is_null() {
            written[1]["reference_lla"] = own;
        }
        put(&root.join("reconstruction.json"), written.to_string());
        Scene::open(root, &engine::scene::OpenOptions::default())
    };
    let berlin = Georeference::Local { latitude: 52.5, longitude: 13.25, altitude: 35.0 };
    let scene = read(json!({ "latitude": 52.5, "longitude": 13.25, "altitude": 35.0 })).unwrap();
    assert_eq!(scene.georeference, Some(berlin));
    assert!(has_note(&scene, "metres east, north and up of latitude 52.5, longitude 13.25, altitude 35:"));
    // Photos without GPS.
    assert_eq!(read(json!({ "latitude": 0.0, "longitude": 0.0, "altitude": 0.0 })).unwrap().georeference, None);
    assert_eq!(read(json!(null)).unwrap().georeference, None);
    let text = read(json!({ "latitude": 91.0, "longitude": 0.5 })).unwrap_err().to_string();
    assert!(text.contains("reconstruction.json: reference_lla: latitude 91") && text.lines().count() == 1, "{text}");
    // Older versions have a file of its own.
    put(&root.join("reference_lla.json"), r#"{"latitude": 52.5, "longitude": 13.25, "altitude": 35}"#);
    assert_eq!(read(json!(null)).unwrap().georeference, Some(berlin));
    put(&root.join("reference_lla.json"), r#"{"latitude": "north"}"#);
    let text = read(json!(null)).unwrap_err().to_string();
    assert!(text.contains("reference_lla.json: line 1 column") && text.lines().count() == 1, "{text}");
}

#[test]
fn metashape_and_opf_name_their_systems() {
    let folder = place();
    let root = folder.path();
    let written = metashape(&TestScene::new(), "");
    for (words, expected) in [
        (r#"GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]]"#, Some(Georeference::Geocentric { epsg: Some(4326) })),
        (r#"PROJCS["mine",GEOGCS["WGS 84"]]"#, Some(Georeference::Geocentric { epsg: None })),
        (r#"LOCAL_CS["Local Coordinates (m)",UNIT["metre",1,AUTHORITY["EPSG","9001"]]]"#, None),
    ] {
        let reference = format!("<reference>{words}</reference></chunk>");
        put(&root.join("cameras.xml"), written.replace("</chunk>", &reference));
        assert_eq!(open(root, Layout::Metashape).georeference, expected, "{words}");
        // Without a transform the chunk's coordinates are its own.
        let (before, after) = written.split_once("<transform><rotation>").unwrap();
        let after = after.split_once("</transform>").unwrap().1.replace("</chunk>", &reference);
        put(&root.join("cameras.xml"), format!("{before}{after}"));
        assert_eq!(open(root, Layout::Metashape).georeference, None, "{words}");
    }

    let folder = place();
    write_opf(&square(), folder.path(), json!({}));
    let offset = [500.0, -20.5, 0.0];
    let expected = Some(Georeference::Projected { epsg: 32616, offset });
    assert_eq!(open(folder.path(), Layout::Opf).georeference, expected);
    let frame = folder.path().join("frame.json");
    let text = std::fs::read_to_string(&frame).unwrap();
    for (from, to) in [("[1,1,1]", "[2,1,1]"), ("\"swap_xy\":false", "\"swap_xy\":true"), ("EPSG:32616", "a site")] {
        assert!(text.contains(from), "{text}");
        put(&frame, text.replace(from, to));
        let scene = open(folder.path(), Layout::Opf);
        assert_eq!(scene.georeference, None);
        assert!(has_note(&scene, "less -500 20.5 0 it is the project's"), "{:?}", scene.notes);
    }
}
