//! Clouds of scenes whose files say where on earth they lie, in LAS, against formulas of the test's own.

use super::*;
use readers::Las;

/// WGS 84: half the equator's width, and the flattening.
const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;

const LATITUDE: f64 = 52.518_962_962_963;
const LONGITUDE: f64 = 13.400_376_851_852;
const ALTITUDE: f64 = 35.0;

/// Metres east, north and up of the place, from the earth's centre.
fn geocentric(place: DVec3) -> DVec3 {
    let ((sb, cb), (sl, cl)) = (LATITUDE.to_radians().sin_cos(), LONGITUDE.to_radians().sin_cos());
    let e2 = F * (2.0 - F);
    let n = A / (1.0 - e2 * sb * sb).sqrt();
    let origin = DVec3::new((n + ALTITUDE) * cb * cl, (n + ALTITUDE) * cb * sl, (n * (1.0 - e2) + ALTITUDE) * sb);
    origin + axes() * place
}

fn axes() -> DMat3 {
    let ((sb, cb), (sl, cl)) = (LATITUDE.to_radians().sin_cos(), LONGITUDE.to_radians().sin_cos());
    DMat3::from_cols(DVec3::new(-sl, cl, 0.0), DVec3::new(-sb * cl, -sb * sl, cb), DVec3::new(cb * cl, cb * sl, sb))
}

/// UTM's zone 33 of a geocentric place, by Krueger's series to the fourth order of the flattening.
fn utm(place: DVec3) -> DVec3 {
    let e2 = F * (2.0 - F);
    let across = place.truncate().length();
    // The latitude by its fixed point, which the flattening contracts by 1 / 300 a step.
    let mut latitude = place.z.atan2(across * (1.0 - e2));
    for _ in 0..12 {
        let n = A / (1.0 - e2 * latitude.sin().powi(2)).sqrt();
        latitude = (place.z + e2 * n * latitude.sin()).atan2(across);
    }
    let n = A / (1.0 - e2 * latitude.sin().powi(2)).sqrt();
    let height = across * latitude.cos() + (place.z + e2 * n * latitude.sin()) * latitude.sin() - n;
    let east = place.y.atan2(place.x) - 15f64.to_radians();
    let t = (latitude.sin().atanh() - e2.sqrt() * (e2.sqrt() * latitude.sin()).atanh()).sinh();
    let (xi, eta) = (t.atan2(east.cos()), (east.sin() / t.hypot(east.cos())).asinh());
    let n = F / (2.0 - F);
    let alpha = [
        n / 2.0 - 2.0 / 3.0 * n.powi(2) + 5.0 / 16.0 * n.powi(3) + 41.0 / 180.0 * n.powi(4),
        13.0 / 48.0 * n.powi(2) - 3.0 / 5.0 * n.powi(3) + 557.0 / 1440.0 * n.powi(4),
        61.0 / 240.0 * n.powi(3) - 103.0 / 140.0 * n.powi(4),
        49_561.0 / 161_280.0 * n.powi(4),
    ];
    let of_order = |j: usize| 2.0 * (j + 1) as f64;
    let sum = |part: &dyn Fn(f64) -> f64| alpha.iter().enumerate().map(|(j, a)| a * part(of_order(j))).sum::<f64>();
    let x = eta + sum(&|j| (j * xi).cos() * (j * eta).sinh());
    let y = xi + sum(&|j| (j * xi).sin() * (j * eta).cosh());
    let radius = A / (1.0 + n) * (1.0 + n.powi(2) / 4.0 + n.powi(4) / 64.0);
    DVec3::new(500_000.0 + 0.9996 * radius * x, 0.9996 * radius * y, height)
}

/// The formulas above against PROJ 9.5 (pyproj 3.7.2).
#[test]
fn the_formulas_are_those_of_proj() {
    for (place, from_centre, in_zone) in [
        (
            DVec3::ZERO,
            DVec3::new(3_783_427.596_095_095_4, 901_365.889_392_625_9, 5_038_176.655_168_477),
            DVec3::new(391_463.043_681_161_6, 5_819_963.759_411_09, 35.0),
        ),
        (
            DVec3::new(1200.0, -800.0, 90.0),
            DVec3::new(3_783_820.324_605_237, 902_693.038_403_542_5, 5_037_761.276_040_276_5),
            DVec3::new(392_644.698_899_530_86, 5_819_137.599_227_902, 125.162_834_772_840_14),
        ),
    ] {
        // Some roundings of numbers of millions.
        assert!(geocentric(place).distance(from_centre) < 1e-8, "{}", geocentric(place));
        // The series ends at the fourth order.
        assert!(utm(geocentric(place)).distance(in_zone) < 5e-7, "{}", utm(geocentric(place)));
    }
}

/// The cloud that is exported with these options, and the system that the file names.
fn exported(run: &Run, more: &[&str]) -> (Las, Vec<TestPoint>, Option<u16>) {
    run.export(&[&["--to", "las"], more].concat()).done();
    let las = Las::read(&run.path("out/export/cloud.las"));
    let points = las.points(las.data.clone());
    let keys = las.records.get(&("LASF_Projection".to_owned(), 34735));
    let code = keys.map(|bytes| u16::from_le_bytes([bytes[22], bytes[23]]));
    (las, points, code)
}

#[track_caller]
fn expect_places(las: &Las, found: &[TestPoint], expected: &[TestPoint], place: impl Fn(DVec3) -> DVec3) {
    // proj4rs promises a micrometre.
    expect_places_within(1e-6, (las, found), expected, place);
}

#[track_caller]
fn expect_places_within(
    most: f64,
    (las, found): (&Las, &[TestPoint]),
    expected: &[TestPoint],
    place: impl Fn(DVec3) -> DVec3,
) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let apart = found.position.distance(place(expected.position));
        // Half a step along each axis.
        assert!(apart < las.scale.max_element() + most, "{found:?} of {expected:?}: {apart} apart");
        assert_eq!((found.colour, found.views), (expected.colour, expected.views));
    }
}

#[test]
fn a_scene_that_knows_its_place_is_exported_there() {
    let run = Run::new(DVec3::ZERO);
    let local = serde_json::json!({ "local": { "latitude": LATITUDE, "longitude": LONGITUDE, "altitude": ALTITUDE } });
    run.edit(|manifest| manifest["scene"]["georeference"] = local);
    let expected = run.cloud();

    let (las, points, code) = exported(&run, &[]);
    assert_eq!(code, Some(32633));
    expect_places(&las, &points, &expected, |place| utm(geocentric(place)));
    let said = json(&run.path("out/export/export.json"))["formats"]["las"]["notes"].to_string();
    assert!(said.contains("become those of EPSG:32633") && said.contains("--crs scene"), "{said}");
    // Normals are turned as a metre along them is.
    for (found, expected) in points.iter().zip(&expected).step_by(97) {
        let along = DVec3::from(expected.normal.map(f64::from));
        let to = utm(geocentric(expected.position + along)) - utm(geocentric(expected.position - along));
        let cos = to.normalize().dot(DVec3::from(found.normal.map(f64::from)));
        // The zone's scale along the ground is 0.9997, upwards 1.
        assert!(cos > 1.0 - 1e-7, "{found:?} of {expected:?}: {cos}");
    }

    let (las, points, code) = exported(&run, &["--crs", "EPSG:4978"]);
    assert_eq!(code, Some(4978));
    expect_places(&las, &points, &expected, geocentric);

    let (las, points, code) = exported(&run, &["--crs", "scene"]);
    assert_eq!(code, None);
    expect_places(&las, &points, &expected, |place| place);

    // A tree of the same points.
    run.export(&["--to", "copc"]).done();
    let words = fs::read(run.path("out/export/cloud.copc.laz")).unwrap();
    let named = b"WGS 84 / UTM zone 33N";
    assert!(words.windows(named.len()).any(|w| w == named));
}

#[test]
fn projects_keep_their_own_system() {
    let run = Run::new(DVec3::ZERO);
    let expected = run.cloud();
    let offset = DVec3::new(746_308.125, 3_714_810.0, 268.0);
    let projected = serde_json::json!({ "projected": { "epsg": 32616, "offset": offset.to_array() } });
    run.edit(|manifest| manifest["scene"]["georeference"] = projected);
    let (las, points, code) = exported(&run, &[]);
    assert_eq!(code, Some(32616));
    expect_places(&las, &points, &expected, |place| place + offset);
    assert_eq!(points[7].normal, expected[7].normal);

    // Geocentric coordinates of a project in UTM.
    let run = Run::new(geocentric(DVec3::ZERO));
    let expected = run.cloud();
    run.edit(|manifest| manifest["scene"]["georeference"] = serde_json::json!({ "geocentric": { "epsg": 25833 } }));
    let (las, points, code) = exported(&run, &[]);
    assert_eq!(code, Some(25833));
    // ETRS89 is taken for WGS 84, as PROJ's formula for it does; its ellipsoid differs by 0.1 mm.
    expect_places_within(2e-4, (&las, &points), &expected, utm);

    // A system without a formula here needs none, unless another one is asked for. One that no cloud is in: told, and
    // left as it is.
    let run = Run::new(DVec3::ZERO);
    let system = |epsg: u16| serde_json::json!({ "projected": { "epsg": epsg, "offset": [0.0, 0.0, 0.0] } });
    run.edit(|manifest| manifest["scene"]["georeference"] = system(9549));
    assert_eq!(exported(&run, &[]).2, Some(9549));
    let refused = run.export(&["--to", "las", "--crs", "EPSG:32633"]).failed(3).to_owned();
    assert!(refused.contains("--crs: EPSG:9549"), "{refused}");
    run.edit(|manifest| manifest["scene"]["georeference"] = system(4326));
    let (_, _, code) = exported(&run, &[]);
    let said = json(&run.path("out/export/export.json"))["formats"]["las"]["notes"].to_string();
    assert!(code.is_none() && said.contains("stay so"), "{code:?} {said}");
}
