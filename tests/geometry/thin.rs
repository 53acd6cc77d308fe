//! One point a voxel, against plain sums, near the origin and where coordinates are as large as those of maps.

use std::collections::BTreeMap;

use engine::files::ply::Point;
use engine::fusion::thin::thin;
use glam::DVec3;

use super::*;

/// Points in a box of `extent` about `centre`, in no order.
fn scattered(seed: u64, count: usize, centre: DVec3, extent: f64) -> Vec<Point> {
    let mut random = Random::from_state(seed);
    let mut unit = || random.unit();
    let mut point = || Point {
        position: (centre + extent * (DVec3::new(unit(), unit(), unit()) - 0.5)).to_array(),
        normal: DVec3::new(unit() - 0.5, unit() - 0.5, -1.0).normalize().as_vec3().to_array(),
        colour: [0, 1, 2].map(|_| (255.9 * unit()) as u8),
        confidence: unit() as f32,
        views: (3.0 + 5.0 * unit()) as u8,
    };
    (0..count).map(|_| point()).collect()
}

fn position(point: &Point) -> [f64; 3] {
    point.position
}

fn cell(point: &Point, side: f64, corner: DVec3) -> [i64; 3] {
    ((DVec3::from(point.position) - corner) / side).floor().to_array().map(|x| x as i64)
}

#[test]
fn every_voxel_keeps_the_mean_of_its_points() {
    for (centre, extent, side, corner) in [
        (DVec3::ZERO, 2.0, 0.1, DVec3::ZERO),
        (DVec3::new(-3.0, 700.0, 0.02), 5.0, 0.5, DVec3::ZERO),
        (DVec3::new(5e5, 5.4e6, 300.0), 40.0, 4.0, DVec3::ZERO),
        (DVec3::new(-1e6, 1e6, -50.0), 1.0, 0.073, DVec3::new(0.01, -3.0, 1e6)),
        (DVec3::new(1e7, -1e7, 0.0), 0.03, 0.0025, DVec3::new(1e7 - 3.3, -1e7, 0.0)),
    ] {
        let points = scattered(3, 4000, centre, extent);
        let thinned = thin(&points, side, corner);
        let mut expected: BTreeMap<[i64; 3], Vec<&Point>> = BTreeMap::new();
        let mut order = Vec::new();
        for point in &points {
            let of_cell = expected.entry(cell(point, side, corner)).or_default();
            if of_cell.is_empty() {
                order.push(cell(point, side, corner));
            }
            of_cell.push(point);
        }
        assert!((100..3500).contains(&thinned.len()), "{}", thinned.len());
        assert_eq!(thinned.len(), order.len());
        for (found, cell) in thinned.iter().zip(order) {
            let of_cell = &expected[&cell];
            let mean =
                |value: &dyn Fn(&Point) -> f64| of_cell.iter().map(|p| value(p)).sum::<f64>() / of_cell.len() as f64;
            for i in 0..3 {
                let exact = mean(&|p| position(p)[i]);
                // A sum of some tens in f64, whose last place is 1.1e-16 of a number.
                assert!(
                    (position(found)[i] - exact).abs() <= exact.abs() * 1e-14 + 1e-12,
                    "{centre} {side}: {found:?}"
                );
                // A mean of 8-bit colours, rounded.
                assert!((f64::from(found.colour[i]) - mean(&|p| f64::from(p.colour[i]))).abs() <= 0.5 + 1e-9);
            }
            let normal = DVec3::from([0, 1, 2].map(|i| mean(&|p| f64::from(p.normal[i])))).normalize();
            // Three coordinates below 1, rounded to f32.
            assert!((glam::Vec3::from(found.normal).as_dvec3() - normal).length() < 2e-7);
            assert!((f64::from(found.confidence) - mean(&|p| f64::from(p.confidence))).abs() < 1e-7);
            assert_eq!(Some(found.views), of_cell.iter().map(|p| p.views).max());
        }
        assert_eq!(thin(&points, side, corner), thinned);
    }
}

#[test]
fn a_cloud_of_few_points_or_of_a_voxel_of_any_size_is_fine() {
    assert!(thin(&[], 1.0, DVec3::ZERO).is_empty());
    let points = scattered(5, 50, DVec3::splat(10.0), 4.0);
    assert_eq!(thin(&points, 1e-6, DVec3::ZERO), points);
    assert_eq!(thin(&points, 1e12, DVec3::ZERO).len(), 1);
    // Points on either side of a corner are of different voxels, also where coordinates change their sign.
    let mut two = scattered(6, 2, DVec3::ZERO, 1.0);
    (two[0].position, two[1].position) = ([-0.01, 0.5, 0.5], [0.01, 0.5, 0.5]);
    assert_eq!(thin(&two, 1.0, DVec3::ZERO).len(), 2);
    // A normal and its opposite have no mean.
    two[0].position = two[1].position;
    two[0].normal = two[1].normal.map(|n| -n);
    assert_eq!(thin(&two, 1.0, DVec3::ZERO)[0].normal, [0.0; 3]);
    // However small a voxel is, points at one place meet, and no others do.
    let mut twice = points.clone();
    twice.extend_from_slice(&points);
    (twice[3].position[0], twice[53].position[0]) = (0.0, -0.0);
    for side in [1e-15, 1e-45, 1e-300, f64::MIN_POSITIVE] {
        let thinned = thin(&twice, side, DVec3::ZERO);
        assert_eq!(thinned.len(), points.len(), "{side}");
        assert!(thinned.iter().zip(&twice).all(|(found, given)| found.position == given.position), "{side}");
    }
}
