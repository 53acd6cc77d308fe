//! The same map for any tiles, threads and memory, and runs that give none.

use std::fs;

use engine::files::map::Map;
use engine::files::pfm;

use crate::program::text;
use crate::site::{SIZE, STILL, Site};

#[test]
fn tiles_threads_and_memory_change_nothing() {
    let site = Site::new(STILL);
    let files = || ["dsm.tif", "ortho.tif"].map(|name| fs::read(site.path("out/map").join(name)).unwrap());
    let wide = ["--up", "z", "--gsd", "0.0075", "--bounds=-4,-2.1,4,2.1"];
    let first = site.mapped(&wide);
    assert_eq!(first.report["blocks"], serde_json::json!([1, 1]));
    let bytes = files();
    // 50 MB are the program's, 10 tiles that are read and written, 28 what views say of a tile's cells, 6 its colours.
    let tight = site.mapped(&[&wide[..], &["--threads", "1", "--memory", "0.0915"]].concat());
    let blocks = [0, 1].map(|i| tight.report["blocks"][i].as_u64().unwrap());
    assert!(blocks == [6, 2] && tight.said.contains(" blocks, one after the other, so that they fit"), "{blocks:?}");
    assert!(files() == bytes, "in blocks");
    // A part of it in one tile: the same cells.
    let part = site.mapped(&[&wide[..4], &["--bounds=-1.5,-1.2,1.5,0.9"]].concat());
    assert_eq!((part.model.full().width, part.model.full().height), (400, 280));
    let (_, [left, top]) = first.model.placed();
    let (column, row) = (((-1.5 - left) / 0.0075).round() as usize, ((top - 0.9) / 0.0075).round() as usize);
    let (mut alike, mut all) = (0, 0);
    // Holes at the part's borders see less of what lies around.
    for (x, y) in (8..272).flat_map(|y| (8..392).map(move |x| (x, y))) {
        let whole =
            (first.model.full().at(column + x, row + y), first.ortho.as_ref().unwrap().full().at(column + x, row + y));
        let own = (part.model.full().at(x, y), part.ortho.as_ref().unwrap().full().at(x, y));
        // Floats of places that begin elsewhere.
        alike += i32::from(
            (whole.0[0] - own.0[0]).abs() < 1e-3 && whole.1.iter().zip(own.1).all(|(a, b)| (a - b).abs() <= 2.0),
        );
        all += 1;
    }
    assert!(f64::from(alike) / f64::from(all) > 0.995, "{alike} of {all}");
}

#[test]
fn hopeless_runs_say_why_in_one_line() {
    let site = Site::new(STILL);
    let out = site.path("out");
    let message = |more: &[&str], code: i32| site.map(&[&["--quiet"], more].concat()).failed(code).to_owned();
    let told = message(&["--gsd", "0.0000001"], 3);
    let expected = "--gsd: SIDES cells of 0.0000001; expected at most 1000000 a side: a larger --gsd, or --bounds";
    assert_eq!(told, expected.replace("SIDES", &sides(&told)));
    assert!(message(&["--memory", "0.03"], 5).contains("this run needs "));
    let told = message(&["--bounds=500,500,501,501"], 6);
    assert!(told.ends_with("no surface within the bounds of the map; try others for --bounds"), "{told}");
    assert!(message(&["--up", "-z"], 3).starts_with("up: 20 of 20 views look upwards; expected "));
    assert!(message(&["-o", text(&site.path("scene"))], 3).contains("it is not empty and holds no map of engine"));
    // What clap refuses.
    for (words, expected) in [
        (["--crs", "EPSG:4978"], "expected a projected system, such as EPSG:32632 (UTM)"),
        (["--crs", "EPSG:4326"], "expected the code of a projected system"),
        (["--up", "north"], "expected a direction: x, -x, "),
        (["--up", "0,0,0"], "expected a direction: x, -x, "),
        (["--bounds", "1,1,0,2"], "expected X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"),
        (["--offset", "1,2"], "expected X,Y,Z, three numbers"),
        (["--fill", "101"], "expected a whole number from 0 to 100"),
        (["--gsd", "0"], "expected a number above 0"),
    ] {
        let ran = site.map(&words);
        assert!(ran.code == Some(2) && ran.stderr.contains(expected), "{words:?}: {}", ran.stderr);
    }
    // Photos that are gone; without them the heights are made.
    fs::rename(site.path("scene"), site.path("elsewhere")).unwrap();
    assert!(message(&[], 3).contains("--scene SCENE says where the scene lies now"));
    site.map(&["--quiet", "--scene", text(&site.path("elsewhere"))]).done();
    assert!(out.join("map/ortho.tif").exists());
    site.map(&["--quiet", "--no-ortho"]).done();
    assert!(out.join("map/dsm.tif").exists() && !out.join("map/ortho.tif").exists());
    // One view alone confirms nothing.
    for view in 0..20 {
        let map = Map::filled(SIZE.0, SIZE.1, 0.1);
        pfm::write(&out.join(format!("confidence/{view:08}.pfm")), &map).unwrap();
    }
    assert!(message(&["--no-ortho"], 6).contains("no pixel of any depth map is confirmed by other views; try "));
    fs::remove_file(out.join("depth/00000004.pfm")).unwrap();
    assert!(message(&["--no-ortho"], 4).contains("00000004.pfm: cannot "));
}

/// The sides that a message names.
fn sides(message: &str) -> String {
    let told = message.split(" cells of ").next().unwrap().trim_start_matches("--gsd: ");
    let (width, height) = told.split_once(" x ").unwrap();
    let [width, height] = [width, height].map(|side| side.parse::<f64>().unwrap());
    assert!((8e7..2e8).contains(&width) && (8e7..2e8).contains(&height), "{told}");
    told.to_owned()
}
