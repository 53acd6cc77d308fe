//! Augmentation: pure, and without harm to the geometry.

use engine::files::map::Map;
use engine::scene::camera::{Camera, DepthRange, PlaneSweep};
use engine::scene::photo::Photo;
use engine::train::augment::{AugmentOptions, Augmented, LARGEST_LOSS, augmented};
use engine::train::frame::{Window, cut, mirrored, mirrored_camera, reduced, truth_of_reduced};
use engine::train::sample::{Dataset, TrainingSample};
use engine::train::synthetic::Synthetic;
use glam::{DMat3, DVec3};
use std::sync::Arc;

use super::plane_scene::{self, RANGE, SIZE};
use super::{assert_one_geometry, assert_same, covered, error_of, off_the_plane, rendered};

/// See `folders.rs`: a byte's rounding, and bilinear reading of a fine texture.
const AGREEMENT: f64 = 0.03;
/// Depth as f32, and its way through 1 / depth.
const DEPTH_ROUNDING: f64 = 2e-6;

/// Three views of the plane, the middle one as the reference.
fn sample() -> TrainingSample {
    let root = tempfile::TempDir::new().unwrap();
    plane_scene::write(root.path());
    let scene = plane_scene::scene();
    let views = [2, 1, 3].map(|v: usize| &scene.views[v]);
    let photo = |file: &str| {
        let pixels = engine::files::image::read(&root.path().join("images").join(file)).unwrap();
        Photo { width: pixels.size.0, height: pixels.size.1, rgb: pixels.rgb }
    };
    let (width, height) = (SIZE.0 as usize / 4, SIZE.1 as usize / 4);
    let depth = |i: usize| plane_scene::depth(views[0], (i % width * 4) as f64, (i / width * 4) as f64) as f32;
    TrainingSample {
        name: "plane".into(),
        photos: views.iter().map(|view| photo(&view.file)).collect(),
        cameras: views.iter().map(|view| Camera { k: view.k, r: view.r, t: view.t }).collect(),
        depth: Map { width, height, data: (0..width * height).map(depth).collect() },
        fine: None,
        range: DepthRange { near: RANGE.0, far: RANGE.1 },
    }
}

/// Some points that all of the plane's cameras see.
fn points() -> Vec<DVec3> {
    (0..50).map(|i| DVec3::new((f64::from(i) * 0.61).sin(), (f64::from(i) * 0.37).cos(), 0.01 * f64::from(i))).collect()
}

fn pixel(camera: &Camera, point: DVec3) -> [f64; 3] {
    let (at, depth) = camera.pixel(point).unwrap();
    [at.x, at.y, depth]
}

#[track_caller]
fn assert_near(a: [f64; 3], b: [f64; 3]) {
    // Products of numbers up to 100 in f64.
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10), "{a:?} {b:?}");
}

#[test]
fn cuts_move_pixels_and_nothing_else() {
    let whole = sample();
    let windows = [
        Window { x: 8, y: 12, width: 48, height: 40 },
        Window { x: 13, y: 3, width: 48, height: 40 },
        Window { x: -3, y: 30, width: 48, height: 40 },
    ];
    let part = cut(&whole, &windows);
    for (view, window) in windows.iter().enumerate() {
        for point in points() {
            let [u, v, depth] = pixel(&whole.cameras[view], point);
            let expected = [u - window.x as f64, v - window.y as f64, depth];
            assert_near(pixel(&part.cameras[view], point), expected);
        }
        for (x, y) in [(0, 0), (47, 0), (5, 39), (20, 20)] {
            // Beyond the photo the edge is repeated.
            let (u, v) = ((window.x + x).clamp(0, 95) as usize, (window.y + y).clamp(0, 63) as usize);
            let (new, old) = (3 * (y * 48 + x) as usize, 3 * (v * 96 + u));
            assert_eq!(part.photos[view].rgb[new..new + 3], whole.photos[view].rgb[old..old + 3]);
        }
    }
    assert_eq!((part.depth.width, part.depth.height), (12, 10));
    assert_eq!(part.depth.at(3, 5), whole.depth.at(3 + 2, 5 + 3));
    assert!(off_the_plane(&part, false) < DEPTH_ROUNDING);
    assert_one_geometry(&part, AGREEMENT);

    // All outside: the nearest edge.
    let beside = Window { x: -40, y: -9, width: 8, height: 4 }.of_photo(&whole.photos[0]);
    assert!(beside.rgb.chunks_exact(3).all(|p| p == &whole.photos[0].rgb[..3]));
}

#[test]
fn mirrored_samples_are_those_of_the_mirrored_world() {
    let there = sample();
    let back = mirrored(&there);
    let s = DMat3::from_diagonal(DVec3::new(-1.0, 1.0, 1.0));
    for (view, axis) in [(0, 92.0), (1, 95.0), (2, 95.0)] {
        let camera = &back.cameras[view];
        // A proper camera: nothing in the engine has to expect any other.
        assert!(camera.k.x_axis.x > 0.0 && (camera.r.determinant() - 1.0).abs() < 1e-12);
        for point in points() {
            let [u, v, depth] = pixel(&there.cameras[view], point);
            assert_near(pixel(camera, s * point), [axis - u, v, depth]);
        }
        let (new, old) = (&back.photos[view].rgb, &there.photos[view].rgb);
        assert_eq!(new[..3], old[3 * axis as usize..][..3]);
    }
    for y in 0..16 {
        assert!((0..24).all(|x| back.depth.at(x, y) == there.depth.at(23 - x, y)));
    }
    assert!(off_the_plane(&back, true) < DEPTH_ROUNDING);
    assert_one_geometry(&back, AGREEMENT);

    // The plane sweep of the mirror is the mirror of the plane sweep: pixel x lies where 92 - x did.
    let sweep = |s: &TrainingSample| PlaneSweep::new(&s.cameras[0], &s.cameras[1]);
    let (old, new) = (sweep(&there), sweep(&back));
    let at = |sweep: &PlaneSweep, x: f32, d: f32| {
        let q = [0, 1, 2].map(|i| d * (sweep.a[i][0] * x + sweep.a[i][1] * 20.0 + sweep.a[i][2]) + sweep.b[i]);
        (q[0] / q[2], q[1] / q[2])
    };
    for (x, d) in [(0.0, 3.0), (40.0, 4.0), (92.0, 5.0)] {
        let ((u, v), (mirrored_u, mirrored_v)) = (at(&old, 92.0 - x, d), at(&new, x, d));
        // f32 positions below 256.
        assert!((mirrored_u - (95.0 - u)).abs() < 2e-4 && (mirrored_v - v).abs() < 2e-4);
    }
    // Twice is nothing, up to the rounding of the cameras.
    let camera = mirrored_camera(&mirrored_camera(&there.cameras[1], 95.0), 95.0);
    points().into_iter().for_each(|p| assert_near(pixel(&camera, p), pixel(&there.cameras[1], p)));
}

#[test]
fn reduced_samples_keep_their_geometry_and_lose_truth_at_edges() {
    let whole = sample();
    let small = reduced(&whole, (72, 48));
    for (old, new) in whole.cameras.iter().zip(&small.cameras) {
        for point in points() {
            let [u, v, depth] = pixel(old, point);
            assert_near(pixel(new, point), [(u + 0.5) * 0.75 - 0.5, (v + 0.5) * 0.75 - 0.5, depth]);
        }
    }
    assert!(off_the_plane(&small, false) < DEPTH_ROUNDING && covered(&small) == 18 * 12);
    assert_one_geometry(&small, 1.2 * AGREEMENT);

    // Two planes: between them there is no depth, on each the exact one.
    let wide = Map { width: 64, height: 64, data: (0..64 * 64).map(|i| if i % 64 < 30 { 2.0 } else { 3.0 }).collect() };
    let truth = truth_of_reduced(&wide, (1, 4), (64, 64), (48, 48));
    // New pixel 4 i lies at (4 i + 0.5) * 4 / 3 - 0.5 = 0.17, 5.5, 10.8, 16.2, 21.5, 26.8, 32.2, ...
    assert_eq!(truth.data[..12], [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
    let edge = Map { data: (0..64 * 64).map(|i| if i % 64 < 11 { 2.0 } else { 3.0 }).collect(), ..wide };
    assert_eq!(truth_of_reduced(&edge, (1, 4), (64, 64), (48, 48)).data[..4], [2.0, 2.0, 0.0, 3.0]);
}

#[test]
fn without_options_a_sample_stays_as_it_is() {
    assert_same(&augmented(sample(), &AugmentOptions::none(), 1, 2), &sample());
}

#[test]
fn augmented_samples_are_one_geometry_and_a_function_of_seed_and_index() {
    let geometry = AugmentOptions { crop: Some((64, 40)), reduced: 0.5, mirrored: 0.5, ..AugmentOptions::none() };
    let whole = sample();
    let (mut flipped, mut smaller, mut origins) = (0, 0, std::collections::BTreeSet::new());
    for index in 0..40 {
        let new = augmented(whole.clone(), &geometry, 3, index);
        assert_same(&new, &augmented(whole.clone(), &geometry, 3, index));
        assert_eq!((new.photos[0].width, new.photos[0].height, covered(&new)), (64, 40, 16 * 10));
        // The focal length tells whether it was reduced, the middle camera's skewed pose whether it was mirrored.
        smaller += usize::from(new.cameras[0].k.x_axis.x < whole.cameras[0].k.x_axis.x);
        let mirror = off_the_plane(&new, true) < DEPTH_ROUNDING;
        flipped += usize::from(mirror);
        assert!(off_the_plane(&new, mirror) < DEPTH_ROUNDING);
        assert_one_geometry(&new, 1.3 * AGREEMENT);
        origins.insert((new.cameras[0].k.z_axis.x * 16.0) as i64);
        // The sources look at what the crop shows: its middle lies at the middle of theirs, as far as the photo
        // reaches.
        let middle = new.cameras[0].unproject(31.5, 19.5, f64::from(new.depth.at(8, 5)));
        for camera in &new.cameras[1..] {
            let [u, v, _] = pixel(camera, middle);
            assert!((8.0..56.0).contains(&u) && (8.0..32.0).contains(&v), "{u} {v}");
        }
    }
    // Binomial with 40 times one half: deviation 3.2.
    assert!((10..=30).contains(&flipped) && (10..=30).contains(&smaller), "{flipped} {smaller}");
    assert!(origins.len() > 10);
    let [a, b, c] =
        [(3, 0), (3, 1), (4, 0)].map(|(seed, i)| augmented(whole.clone(), &AugmentOptions::default(), seed, i));
    assert!(a.photos != b.photos && a.photos != c.photos && a.range != b.range);

    // A crop that is larger than the photo is the photo.
    let large = AugmentOptions { crop: Some((128, 48)), ..AugmentOptions::none() };
    let new = augmented(whole, &large, 0, 0);
    assert_eq!((new.photos[1].width, new.photos[1].height), (96, 48));
}

#[test]
fn colours_change_together_and_a_little_each() {
    let mut whole = sample();
    whole.photos[1] = whole.photos[0].clone();
    let of = |options: AugmentOptions, index: u64| augmented(whole.clone(), &options, 9, index);
    let mean = |photo: &Photo| photo.rgb.iter().sum::<f32>() / photo.rgb.len() as f32;
    let difference =
        |a: &Photo, b: &Photo| a.rgb.iter().zip(&b.rgb).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.rgb.len() as f32;
    for index in 0..10 {
        let shared = of(AugmentOptions { colour: 1.0, ..AugmentOptions::none() }, index);
        assert!(shared.photos[0] == shared.photos[1], "all alike");
        assert!(difference(&shared.photos[0], &whole.photos[0]) > 0.005);
        assert!(shared.depth == whole.depth && shared.cameras == whole.cameras && shared.range == whole.range);
        let own = of(AugmentOptions { exposure: 1.0, ..AugmentOptions::none() }, index);
        let apart = difference(&own.photos[0], &own.photos[1]);
        // Two stops of a quarter apart is a factor of 1.41 at most, on values of a half.
        assert!(apart > 0.003 && apart < 0.25, "{apart}");
        assert!(own.photos.iter().flat_map(|p| &p.rgb).all(|v| (0.0..=1.0).contains(v)));
        let negative = of(AugmentOptions { inverted: 1.0, ..AugmentOptions::none() }, index);
        // Tables in f32.
        assert!((mean(&negative.photos[0]) + mean(&whole.photos[0]) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn moved_ranges_cut_off_next_to_nothing() {
    let whole = sample();
    let options = AugmentOptions { range: 0.5, ..AugmentOptions::none() };
    let (mut wider, mut narrower, mut lost) = (0, 0, 0);
    for index in 0..200 {
        let new = augmented(whole.clone(), &options, 0, index);
        let DepthRange { near, far } = new.range;
        assert!(near > 0.0 && far > near);
        wider += usize::from(near < whole.range.near);
        narrower += usize::from(near > whole.range.near);
        let here = covered(&whole) - covered(&new);
        lost += here;
        assert!(here as f64 <= LARGEST_LOSS * covered(&whole) as f64);
        let inside = |&d: &f32| d == 0.0 || (near..=far).contains(&f64::from(d));
        assert!(new.depth.data.iter().all(inside));
        assert!(new.photos == whole.photos && new.cameras == whole.cameras);
    }
    // Half each: deviation 7.
    assert!(wider > 70 && narrower > 70 && lost > 0, "{wider} {narrower} {lost}");
    // Truth on one plane parallel to the photo: a range around it.
    let mut flat = whole.clone();
    flat.depth.data.fill(4.0);
    flat.range = DepthRange { near: 3.9, far: 4.1 };
    for index in 0..50 {
        let new = augmented(flat.clone(), &options, 0, index);
        assert!(new.range.far >= 1.049 * new.range.near && covered(&new) == covered(&flat));
    }
    // No truth, nothing to hold on to.
    flat.depth.data.fill(0.0);
    assert_eq!(augmented(flat.clone(), &options, 0, 1).range, flat.range);
}

#[test]
fn augmented_datasets_differ_at_every_index() {
    let inner: Arc<dyn Dataset> = Arc::new(Synthetic::new(rendered(3, Some(1))).unwrap());
    let options = AugmentOptions { crop: Some((48, 32)), ..AugmentOptions::default() };
    let dataset = Augmented::new(Arc::clone(&inner), options, 1).unwrap();
    assert_eq!(dataset.len(), Some(1));
    let [a, b] = [0, 1].map(|index| dataset.sample(index, 3).unwrap());
    assert_same(&a, &augmented(inner.sample(0, 3).unwrap(), &options, 1, 0));
    assert!(a.name == b.name && a.photos != b.photos);
    assert!(dataset.describe().ends_with(
        "; crops of 48 x 32, reduced 0.5, mirrored 0.5, colour 0.5, inverted 0.05, exposure 0.5, range 0.2, \
         pose 0.3, jpeg 0.3"
    ));
    let plain = Augmented::new(Arc::clone(&inner), AugmentOptions::none(), 1).unwrap();
    assert_eq!(plain.describe(), inner.describe());

    let refused = |options| error_of(Augmented::new(Arc::clone(&inner), options, 1));
    assert_eq!(
        refused(AugmentOptions { crop: Some((50, 32)), ..options }),
        "crop: 50 x 32 pixels; expected sides of at least 32 that are multiples of 4"
    );
    assert_eq!(refused(AugmentOptions { mirrored: -0.1, ..options }), "mirrored: -0.1; expected a number from 0 to 1");
}
