//! Consistency and the merge of levels on the device, against the processor's, to the bit, on scenes that are rendered
//! exactly and then spoilt.

use std::sync::Arc;

use engine::cuda::driver::Driver;
use engine::files::map::Map;
use engine::maps::consistency::{self, DepthView, Thresholds};
use engine::maps::merge::{self, LevelMaps, MergeOptions};
use engine::scene::camera::Camera;
use engine::{Error, cuda};

use glam::{DMat3, DVec3};

use crate::emulator::Build;
use crate::reference::Random;
use crate::synthetic::{arc, ball_before_plane, render};
use crate::test_device::test_device;

/// Sources of five views: all others, some, none.
pub fn sources() -> Vec<Vec<usize>> {
    vec![vec![1, 2, 3, 4], vec![0, 2], vec![0, 1, 3, 4], vec![], vec![3, 2, 1]]
}

/// A ball before a plane from five cameras, depths off by up to 0.4 %, some of them no depths of any kind, confidences
/// anywhere between 0 and 1; maps of `scale` times fewer pixels a side than these odd sizes, which differ from view to
/// view where `sizes` says so.
pub fn rough_maps(name: &str, scale: usize, different: bool) -> Vec<LevelMaps> {
    let mut random = Random::new(name);
    let cameras = arc(5, 30.0, 600.0, 41, 31);
    let one = |(i, camera): (usize, &Camera)| {
        let (width, height) = if different { (41 - 3 * i, 31 + 2 * i) } else { (41, 31) };
        let (width, height) = (width.div_ceil(scale), height.div_ceil(scale));
        let camera = camera.decimated(1.0 / scale as f64);
        let mut depth = render(&ball_before_plane(), camera, width, height).depth;
        let mut confidence = Map::filled(width, height, 0.0);
        for (depth, confidence) in depth.data.iter_mut().zip(&mut confidence.data) {
            *depth *= 1.0 + random.within(-0.004, 0.004);
            *confidence = random.within(0.0, 1.0).powf(0.2);
            match random.within(0.0, 100.0) as u32 {
                0 => *depth = f32::NAN,
                1 => *depth = 0.0,
                2 => *depth = f32::INFINITY,
                3 => *depth = -*depth,
                4 => *confidence = f32::NAN,
                _ => {}
            }
        }
        LevelMaps { camera, depth, confidence }
    };
    cameras.iter().enumerate().map(one).collect()
}

/// The emulated device, with the detector.
pub fn checked() -> Option<Arc<dyn Driver>> {
    test_device(Build::Checked)
}

fn bits(map: &Map) -> Vec<u32> {
    map.data.iter().map(|v| v.to_bits()).collect()
}

#[test]
pub fn agreement_is_the_cpus_to_the_bit() {
    let Some(device) = checked() else { return };
    let maps = rough_maps("agreement", 1, true);
    let views: Vec<DepthView> = maps.iter().map(LevelMaps::view).collect();
    let mut agreeing = 0;
    for (reference, sources) in sources().iter().enumerate() {
        let sources: Vec<&DepthView> = sources.iter().map(|&s| &views[s]).collect();
        for (thresholds, least) in [
            (Thresholds::default(), f64::NEG_INFINITY),
            (Thresholds { max_reprojection_px: 0.3, max_depth_error_rel: 0.003, min_views: 2 }, 0.7),
        ] {
            let expected = consistency::agreement_above(&views[reference], &sources, &thresholds, least);
            let found =
                cuda::consistency::agreement_above(&device, &views[reference], &sources, &thresholds, least).unwrap();
            assert_eq!(found.count, expected.count);
            assert_eq!(bits(&found.depth), bits(&expected.depth));
            agreeing += expected.count.iter().map(|&n| usize::from(n)).sum::<usize>();
        }
    }
    assert!(agreeing > 5000, "{agreeing}");
}

#[test]
fn sources_that_show_nothing_agree_nowhere() {
    let Some(device) = checked() else { return };
    let maps = rough_maps("nothing", 2, false);
    // An empty map, and one that looks the other way.
    let (nothing, sure) = (Map::filled(0, 0, 0.0), Map::filled(0, 0, 1.0));
    let empty = DepthView { camera: maps[1].camera, depth: &nothing, confidence: &sure };
    let mut turned = maps[1].clone();
    turned.camera.r = -turned.camera.r;
    turned.camera.t = -turned.camera.t;
    let (own, turned) = (maps[0].view(), turned.view());
    let sources = [&empty, &turned];
    let limits = Thresholds::default();
    let expected = consistency::agreement_above(&own, &sources, &limits, f64::NEG_INFINITY);
    let found = cuda::consistency::agreement_above(&device, &own, &sources, &limits, f64::NEG_INFINITY).unwrap();
    assert!(found.count.iter().all(|&n| n == 0));
    assert_eq!((found.count, bits(&found.depth)), (expected.count, bits(&expected.depth)));
    // And a reference without pixels.
    let found = cuda::consistency::agreement_above(&device, &empty, &[&own], &limits, 0.5).unwrap();
    assert!(found.count.is_empty() && found.depth.data.is_empty());
    let short = Map::filled(3, 2, 1.0);
    let wrong = DepthView { confidence: &short, ..own };
    let message = cuda::consistency::agreement_above(&device, &wrong, &[], &limits, 0.5).unwrap_err().to_string();
    assert_eq!(message, "consistency::agreement: depth (21, 16, 336) and confidence (3, 2, 6) of one view");
}

#[test]
fn samples_without_weight_are_not_looked_at() {
    let Some(device) = checked() else { return };
    // Two views from one place with powers of two for a focal length: pixels come back exactly where they are, to the
    // last row and column, and holes beside them do not matter.
    let k = DMat3::from_cols(DVec3::X * 64.0, DVec3::Y * 64.0, DVec3::new(4.0, 2.0, 1.0));
    let camera = Camera { k, r: DMat3::IDENTITY, t: DVec3::ZERO };
    let (mut depth, confidence) = (Map::filled(9, 5, 2.0), Map::filled(9, 5, 1.0));
    depth.data.iter_mut().step_by(2).for_each(|d| *d = 0.0);
    let view = DepthView { camera, depth: &depth, confidence: &confidence };
    let limits = Thresholds::default();
    let found = cuda::consistency::agreement_above(&device, &view, &[&view], &limits, 0.5).unwrap();
    let seen: Vec<u8> = depth.data.iter().map(|&d| u8::from(d > 0.0)).collect();
    assert_eq!(found.count, seen);
    assert_eq!(found.depth, depth);
    // The last pixel of all, too.
    let whole = Map::filled(9, 5, 2.0);
    let view = DepthView { depth: &whole, ..view };
    let found = cuda::consistency::agreement_above(&device, &view, &[&view], &limits, 0.5).unwrap();
    assert_eq!(found.count, vec![1; 45]);
}

#[test]
fn merged_levels_are_the_cpus_to_the_bit() {
    let Some(device) = checked() else { return };
    let coarse = rough_maps("coarse", 2, true);
    let mut fine = rough_maps("fine", 1, true);
    for view in &mut fine {
        view.confidence.data.iter_mut().for_each(|c| *c = (*c * 7.0).fract());
    }
    for min_views in [3, 0] {
        let options = MergeOptions {
            trusted_confidence: 0.6,
            thresholds: Thresholds { min_views, ..Thresholds::default() },
            ..MergeOptions::default()
        };
        let mut expected = fine.clone();
        let mut found = fine.clone();
        let replaced = merge::merge_level(&coarse, &mut expected, &sources(), &options).unwrap();
        let on_device = cuda::merge::merge_level(&device, &coarse, &mut found, &sources(), &options).unwrap();
        assert_eq!(on_device, replaced);
        assert!(replaced.iter().enumerate().all(|(i, &n)| (n > 20) == (i != 3)), "{replaced:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(bits(&found.depth), bits(&expected.depth));
            assert_eq!(bits(&found.confidence), bits(&expected.confidence));
        }
    }
}

#[test]
fn levels_that_do_not_fit_are_refused() {
    let Some(device) = checked() else { return };
    let (coarse, mut fine) = (rough_maps("coarse", 2, false), rough_maps("fine", 1, false));
    let mut refused = |coarse: &[LevelMaps], sources: &[Vec<usize>]| match cuda::merge::merge_level(
        &device,
        coarse,
        &mut fine,
        sources,
        &MergeOptions::default(),
    )
    .unwrap_err()
    {
        Error::Bug { problem, .. } => problem,
        other => panic!("{other}"),
    };
    assert_eq!(refused(&coarse[..3], &sources()), "3 coarse views, 5 fine views and 5 lists of sources");
    let mut wrong = sources();
    wrong[1] = vec![1];
    assert_eq!(refused(&coarse, &wrong), "view 1: source 1 is not another of the 5 views");
}
