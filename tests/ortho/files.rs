//! What the files are, to readers that know nothing of the engine.

use std::path::Path;
use std::process::Command;

use crate::program::Ran;
use crate::reader;
use crate::site::{STILL, Site};

#[test]
fn files_are_cloud_optimised_and_say_where_they_lie() {
    let site = Site::new(STILL);
    let mapped = site.mapped(
        &[
            &["--gsd", "0.0075", "--crs", "EPSG:2056", "--offset", "2600000,1200000,400"][..],
            &["--bounds", "2599996,1199999.2,2600004,1200001.1"],
        ]
        .concat(),
    );
    let (model, ortho) = (&mapped.model, mapped.ortho.as_ref().unwrap());
    let (width, height) = (model.full().width, model.full().height);
    // Three tiles and two overviews, of which the reader holds each to half of the last.
    assert!(width > 1024 && height > 200 && model.pictures.len() == 3, "{width} {height}");
    for (tiff, bits, format) in [(model, vec![32.0], vec![3.0]), (ortho, vec![8.0; 4], vec![1.0; 4])] {
        assert_eq!((tiff.full().width, tiff.full().height), (width, height));
        assert_eq!((&tiff.full().numbers[&258], &tiff.full().numbers[&339]), (&bits, &format));
        assert_eq!(tiff.full().numbers[&34735][12..], [3072.0, 0.0, 1.0, 2056.0]);
        assert!(tiff.pictures.iter().enumerate().all(|(at, p)| p.numbers[&254] == [if at > 0 { 1.0 } else { 0.0 }]));
    }
    assert!(model.pictures.iter().all(|picture| picture.nodata.as_deref() == Some("-9999")));
    assert_eq!((&ortho.full().numbers[&338], &ortho.full().nodata), (&vec![2.0], &None));
    let bounds: Vec<f64> = mapped.report["bounds"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let (side, [left, top]) = model.placed();
    let expected = [left, top - side * height as f64, left + side * width as f64, top];
    assert!(bounds.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{bounds:?} {expected:?}");
    assert!((2_599_990.0..2_600_000.0).contains(&left) && (1_200_000.0..1_200_010.0).contains(&top));
    // The cell over the middle of the higher roof, moved.
    let (column, row) = (((2_599_998.5 - left) / side) as usize, ((top - 1_200_000.5) / side) as usize);
    assert!((model.full().height(column, row).unwrap() - 402.0).abs() < 1e-3);
    // Overviews are means: of the roof's middle, its height and its colour.
    let half = &model.pictures[1];
    assert!((half.height(column / 2, row / 2).unwrap() - 402.0).abs() < 1e-3);
    let colours = [0, 1].map(|at| ortho.pictures[at].at(column >> at, row >> at).to_vec());
    assert!(colours[0].iter().zip(&colours[1]).all(|(a, b)| (a - b).abs() <= 4.0), "{colours:?}");
    // What the report counts is what the files hold.
    let there = model.full().values.iter().filter(|value| **value != -9999.0).count() as u64;
    let shown = ortho.full().values.chunks_exact(4).filter(|colour| colour[3] == 255.0).count() as u64;
    assert_eq!(mapped.report["heights"], there);
    assert_eq!(mapped.report["without_height"], (width * height) as u64 - there);
    assert_eq!(mapped.report["unseen"], there - shown);
    check_with_rasterio(&site.path("out/map"));

    // A map of one tile, without a photo: the old photo goes.
    let small = site.mapped(&["--gsd", "0.25", "--up", "z", "--no-ortho"]);
    assert!(small.ortho.is_none() && small.model.pictures.len() == 1);
    assert!(!small.model.full().numbers.contains_key(&34735));
}

/// rasterio's and rio-cogeo's word for it, where they are installed (ENGINE_REQUIRE_RASTERIO=1: they must be).
fn check_with_rasterio(folder: &Path) {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/check_maps.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import rasterio, rio_cogeo"]).output();
    if !there.is_ok_and(|ran| ran.status.success()) {
        assert!(std::env::var_os("ENGINE_REQUIRE_RASTERIO").is_none(), "no rasterio and rio-cogeo for {python}");
        eprintln!("skipped: no rasterio and rio-cogeo for Python");
        return;
    }
    let ran = Ran::from(Command::new(&python).arg(&tool).arg(folder).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
}

#[test]
fn holes_are_told_and_closed_as_far_as_asked() {
    let site = Site::new(STILL);
    // Confidence 0 in all views where the ground lies in a square of one unit and in a strip of a tenth.
    let is_out = |x: f64, y: f64| (2.5..3.5).contains(&x) && (1.5..2.5).contains(&y) || (0.0..0.1).contains(&(y + 2.5));
    site.take_out(is_out);
    let holes = |more: &[&str]| {
        let mapped = site.mapped(&[&["--gsd", "0.0667", "--up", "z", "--no-ortho"], more].concat());
        let picture = mapped.model.full();
        let is_hole = |x: f64, y: f64| {
            let (side, [left, top]) = mapped.model.placed();
            picture.height(((x - left) / side) as usize, ((top - y) / side) as usize).is_none()
        };
        (is_hole(3.0, 2.0), is_hole(1.0, -2.45), mapped.report["closed"].as_u64().unwrap(), mapped.said)
    };
    let (square, strip, closed, said) = holes(&["--fill", "0"]);
    assert!(square && strip && closed == 0 && said.contains("no hole was closed (--fill 0)"), "{said}");
    let (square, strip, closed, said) = holes(&[]);
    assert!(square && !strip && closed > 100, "{said}");
    assert!(said.contains(&format!(" cells have a height, {closed} of them closed holes of up to 6 cells across")));
    let (square, strip, more, _) = holes(&["--fill", "20"]);
    assert!(!square && !strip && more > closed);
    reader::read(&site.path("out/map/dsm.tif"));
}
