use engine::draw::map_panels::ERROR_CLIP_INTERVALS;
use engine::files::map::Map;
use engine::scene::camera::DepthRange;
use engine::scene::photo::Photo;
use engine::synth::{Generator, GeneratorOptions, Truth};
use engine::train::panels::panel;

use super::{Numbers, row};

const RANGE: DepthRange = DepthRange { near: 400.0, far: 900.0 };

/// Where the panels of maps of 4 x 3 stand: 320 x 240 each, with margins of 24, a name above.
const LEFT: [usize; 5] = [24, 368, 712, 1056, 1400];
const TOP: usize = 51;
/// Below them: a gap, a bar with ticks and numbers, a remark, a margin.
const BELOW: usize = 12 + (14 + 12 + 15) + 28 + 24;

fn map(data: [f32; 12]) -> Map {
    Map { width: 4, height: 3, data: data.to_vec() }
}

fn grey(width: usize, height: usize) -> Photo {
    Photo { width, height, rgb: vec![0.5; 3 * width * height] }
}

#[test]
fn every_panel_shows_its_map_in_its_colours() {
    let mut truth = map([650.0; 12]);
    truth.data[..4].copy_from_slice(&[400.0, 900.0, 0.0, f32::NAN]);
    let mut depth = truth.clone();
    // The second row: exact, 2 intervals off, 100 off, without a depth.
    depth.data[2..8].copy_from_slice(&[500.0, 2000.0, 650.0, 653.0, 500.0, f32::NAN]);
    let mut confidence = map([0.5; 12]);
    confidence.data[..3].copy_from_slice(&[0.0, 1.0, f32::NAN]);
    let (png, size) = panel(&grey(17, 13), &truth, &depth, &confidence, RANGE, 1.5).unwrap();
    let picture = image::load_from_memory(&png).unwrap().to_rgb8();
    assert_eq!((picture.width() as usize, picture.height() as usize), size);
    assert_eq!(size, (5 * 344 + 24, TOP + 240 + BELOW));
    // The middle of a pixel of 80 x 80.
    let at = |panel: usize, x: usize, y: usize| {
        picture.get_pixel((LEFT[panel] + 80 * x + 40) as u32, (TOP + 80 * y + 40) as u32).0
    };
    let of = |gradient: colorous::Gradient, t: f64| {
        let c = gradient.eval_continuous(t);
        [c.r, c.g, c.b]
    };
    assert_eq!(at(0, 1, 1), [128; 3]);
    let depth_colour = |d: f64| of(colorous::PLASMA, 1.0 - (d - 400.0) / 500.0);
    let (no_truth, no_depth) = ([72; 3], [176; 3]);
    let expected = [depth_colour(400.0), depth_colour(900.0), no_truth, no_truth, depth_colour(650.0)];
    assert_eq!([at(1, 0, 0), at(1, 1, 0), at(1, 2, 0), at(1, 3, 0), at(1, 0, 1)], expected);
    let expected = [depth_colour(500.0), depth_colour(900.0), depth_colour(653.0), no_depth];
    assert_eq!([at(2, 2, 0), at(2, 3, 0), at(2, 1, 1), at(2, 3, 1)], expected);
    let error_colour = |e: f64| of(colorous::YELLOW_ORANGE_RED, e / ERROR_CLIP_INTERVALS);
    let expected = [error_colour(0.0), error_colour(2.0), error_colour(ERROR_CLIP_INTERVALS), no_depth];
    assert_eq!([at(3, 0, 1), at(3, 1, 1), at(3, 2, 1), at(3, 3, 1)], expected);
    assert_eq!([at(3, 2, 0), at(3, 3, 0)], [no_truth; 2]);
    let confidence_colour = |c: f64| of(colorous::VIRIDIS, c);
    let expected = [confidence_colour(0.0), confidence_colour(1.0), no_depth, confidence_colour(0.5)];
    assert_eq!([at(4, 0, 0), at(4, 1, 0), at(4, 2, 0), at(4, 0, 1)], expected);
    // The scales' ends.
    let bar = |panel: usize, x: usize| picture.get_pixel((LEFT[panel] + x) as u32, (TOP + 240 + 12 + 5) as u32).0;
    assert_eq!([bar(1, 0), bar(2, 319)], [depth_colour(400.0), depth_colour(900.0)]);
    assert_eq!([bar(3, 0), bar(3, 319)], [error_colour(0.0), error_colour(ERROR_CLIP_INTERVALS)]);
}

#[test]
fn a_synthetic_view_makes_a_picture_and_so_do_narrow_maps() {
    let options = GeneratorOptions { size: (160, 128), seed: 3, ..GeneratorOptions::default() };
    let sample = Generator::new(options).unwrap().sample(1, Truth::OfReference);
    let truth = &sample.depth[0];
    let interval = (sample.range.far - sample.range.near) / 63.0;
    let mut numbers = Numbers::new(4);
    let mut depth = truth.clone();
    let mut confidence = truth.clone();
    for (d, c) in depth.data.iter_mut().zip(&mut confidence.data) {
        let error = 6.0 * interval * (numbers.unit() - 0.5) * numbers.unit();
        *c = (1.0 - error.abs() / (3.0 * interval)) as f32;
        *d += error as f32;
    }
    let (png, size) = panel(&sample.photos[0], truth, &depth, &confidence, sample.range, interval).unwrap();
    let picture = image::load_from_memory(&png).unwrap();
    assert_eq!((picture.width() as usize, picture.height() as usize), size);
    assert_eq!(size, (5 * (320 + 24) + 24, TOP + 256 + BELOW));

    for (width, height) in [(1, 1), (1, 300), (300, 1), (7, 1000)] {
        let map = Map::filled(width, height, 500.0);
        let (_, size) = panel(&grey(1, 1), &map, &map, &map, RANGE, 1.0).unwrap();
        assert!(size.0 < 9000 && size.1 < 600, "{size:?} for {width} x {height}");
    }
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let (two, three, empty) = (row(&[500.0; 2]), row(&[500.0; 3]), Map::filled(0, 0, 0.0));
    let photo = grey(2, 2);
    let message = |photo: &Photo, maps: [&Map; 3], range: DepthRange, interval: f64| {
        panel(photo, maps[0], maps[1], maps[2], range, interval).unwrap_err().to_string()
    };
    assert!(message(&photo, [&two, &three, &two], RANGE, 1.0).contains("depth of 3 x 1"));
    assert!(message(&photo, [&two; 3], RANGE, 0.0).contains("an interval of 0"));
    assert!(message(&photo, [&empty; 3], RANGE, 1.0).contains("maps of 0 x 0"));
    assert!(message(&grey(0, 0), [&two; 3], RANGE, 1.0).contains("a photo of 0 x 0"));
    let range = DepthRange { near: 5.0, far: 5.0 };
    assert!(message(&photo, [&two; 3], range, 1.0).contains("a range of 5 to 5"));
}
