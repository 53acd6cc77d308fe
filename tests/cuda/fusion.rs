//! The cloud from the device, against the processor's, to the bit and in the same order.

use engine::cuda;
use engine::cuda::buffer::{Buffer, Parameters};
use engine::cuda::driver::Stream;
use engine::files::ply::Point;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{FusionOptions, Guard, Reprojection};
use engine::fusion::view::FusionView;
use engine::maps::consistency::Thresholds;
use engine::scene::camera::DepthRange;

use crate::consistency::{checked, rough_maps, sources};
use crate::reference::Random;

/// Rough maps with colours that tell every pixel from the others; the range cuts off some depths at both ends.
fn views() -> Vec<FusionView> {
    let view = |((i, maps), sources): ((usize, engine::maps::merge::LevelMaps), Vec<usize>)| FusionView {
        name: format!("rough{i}"),
        camera: maps.camera,
        colour: (0..maps.depth.data.len()).map(|p| [i as u8, p as u8, (p >> 8) as u8]).collect(),
        depth: maps.depth,
        confidence: maps.confidence,
        range: DepthRange { near: 480.0, far: 750.0 },
        sources,
        levels: Vec::new(),
    };
    rough_maps("fusion", 1, true).into_iter().enumerate().zip(sources()).map(view).collect()
}

/// Everything of a point, its floats as bits.
fn bits(point: &Point) -> ([u64; 3], [u32; 3], [u8; 3], u32, u8) {
    let Point { position, normal, colour, confidence, views } = *point;
    (position.map(f64::to_bits), normal.map(f32::to_bits), colour, confidence.to_bits(), views)
}

#[test]
fn clouds_are_the_cpus_to_the_bit() {
    let Some(device) = checked() else { return };
    let views = views();
    let one = Thresholds { min_views: 1, ..Thresholds::default() };
    let two = Thresholds { min_views: 2, ..Thresholds::default() };
    // Rough depths have rough normals; five cameras stand on 30 degrees.
    let dispute = Guard { max_normal_deg: 15.0, ..Guard::default() };
    let apart = Guard { min_angle_deg: 10.0, ..dispute };
    for (least, thresholds, keep_duplicates, guard) in [
        (0.4, Thresholds::default(), false, Guard::OFF),
        (0.4, Thresholds::default(), true, Guard::OFF),
        (0.8, one, false, Guard::OFF),
        (0.4, two, false, dispute),
        (0.4, two, true, apart),
    ] {
        let options = FusionOptions::reprojection(least, Reprojection { thresholds, keep_duplicates, guard });
        let expected = fuse(&views, &options).unwrap();
        let found = cuda::fusion::fuse(&device, &views, &options).unwrap();
        assert_eq!(found.funnels, expected.funnels);
        assert_eq!(found.points.len(), expected.points.len());
        for (i, (found, expected)) in found.points.iter().zip(&expected.points).enumerate() {
            assert_eq!(bits(found), bits(expected), "point {i}");
        }
        assert!(expected.points.len() > 300, "{}", expected.points.len());
        let dropped: usize = expected.funnels.iter().map(|f| f.dropped_by_guard()).sum();
        let specks: usize = expected.funnels.iter().map(|f| f.specks).sum();
        assert!(
            if guard == Guard::OFF { dropped + specks == 0 } else { dropped > 20 && specks > 20 },
            "{dropped} {specks}"
        );
        let duplicates: usize = expected.funnels.iter().map(|f| f.duplicates).sum();
        assert_eq!(duplicates > 100, !keep_duplicates, "{duplicates}");
        let funnel = &expected.funnels[0];
        assert!(funnel.in_range < funnel.pixels && funnel.near_end + funnel.far_end > 0);
    }
}

#[test]
pub fn places_are_the_sums_of_the_counts_before() {
    let Some(device) = checked() else { return };
    let stream = Stream::FIRST;
    // Within a warp, over warps, over the block's rounds.
    for blocks in [1usize, 31, 33, 1024, 1025, 2500] {
        let mut random = Random::new("places");
        let counts: Vec<u32> = (0..blocks).map(|_| random.within(0.0, 256.9) as u32).collect();
        let given = Buffer::holding(&device, stream, bytemuck::cast_slice(&counts), "counts").unwrap();
        let places = Buffer::new(&device, 4 * (blocks + 1), "places").unwrap();
        Parameters::new()
            .with(given.pointer())
            .with(places.pointer())
            .with(blocks as i32)
            .launch(&device, stream, "fusion_forward_places_u32", 1024, 1024)
            .unwrap();
        let mut expected = vec![0];
        counts.iter().for_each(|n| expected.push(expected[expected.len() - 1] + n));
        assert_eq!(places.download::<u32>(stream, blocks + 1).unwrap(), expected, "{blocks} blocks");
    }
}

#[test]
fn a_later_run_gives_the_same_cloud_and_no_views_give_none() {
    let Some(device) = checked() else { return };
    let views = views();
    let options = FusionOptions { min_confidence: 0.3, ..FusionOptions::default() };
    let [first, second] = [0, 1].map(|_| cuda::fusion::fuse(&device, &views, &options).unwrap());
    assert!(first.points.iter().map(bits).eq(second.points.iter().map(bits)));
    let nothing = cuda::fusion::fuse(&device, &[], &options).unwrap();
    assert!(nothing.points.is_empty() && nothing.funnels.is_empty());
}

#[test]
fn views_that_do_not_fit_are_named() {
    let Some(device) = checked() else { return };
    let mut views = views();
    views[1].colour.pop();
    let options = FusionOptions::default();
    let message = cuda::fusion::fuse(&device, &views, &options).unwrap_err().to_string();
    assert!(message.starts_with("fusion::fuse: view rough1: a depth map of 38 x 33,"), "{message}");
    views[1].colour.push([0; 3]);
    views[2].sources = vec![0, 7];
    let message = cuda::fusion::fuse(&device, &views, &options).unwrap_err().to_string();
    assert_eq!(message, "fusion::fuse: view rough2: source 7 is not another of the 5 views");
}
