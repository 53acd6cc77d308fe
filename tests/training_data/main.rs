//! Training samples: geometry against an analytic plane, whatever is cut, mirrored or reduced; here where samples come
//! from, in [`folders`] DTU and scenes on disk, in [`variety`] augmentation, in [`order`] mixes and what is made ahead
//! of time.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use engine::host::random::Random;
use engine::scene::camera::Camera;
use engine::synth::rig::Rig;
use engine::synth::{GeneratorOptions, Truth};
use engine::train::sample::{Dataset, TrainingSample, choose_sources};
use engine::train::synthetic::{Synthetic, SyntheticOptions};
use glam::{DMat3, DVec3};

mod folders;
mod order;
mod processes;
mod variety;

#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/scene_files.rs"]
mod scene_files;

/// How two samples compare that should be the same to the bit.
#[track_caller]
fn assert_same(a: &TrainingSample, b: &TrainingSample) {
    assert_eq!((&a.name, &a.cameras, &a.range), (&b.name, &b.cameras, &b.range));
    assert!(a.photos == b.photos, "photos of {}", a.name);
    assert!(a.depth == b.depth, "depth of {}", a.name);
}

/// What every sample must be, and how well its photos agree: the mean over the truth's pixels of the difference
/// between the reference photo's value and that of a source photo where `cameras` see the point.
fn disagreement(sample: &TrainingSample, cameras: &[Camera]) -> f64 {
    let (width, height) = (sample.photos[0].width, sample.photos[0].height);
    assert_eq!((sample.depth.width, sample.depth.height), (width / 4, height / 4));
    assert!(width % 4 == 0 && height % 4 == 0 && sample.photos.len() == sample.cameras.len());
    let (mut sum, mut count) = (0.0, 0);
    for (photo, camera) in sample.photos.iter().zip(cameras).skip(1) {
        assert_eq!((photo.width, photo.height, photo.rgb.len()), (width, height, 3 * width * height));
        for (i, &depth) in sample.depth.data.iter().enumerate() {
            let (x, y) = (i % (width / 4) * 4, i / (width / 4) * 4);
            if depth <= 0.0 {
                continue;
            }
            let point = cameras[0].unproject(x as f64, y as f64, f64::from(depth));
            let Some((at, _)) = camera.pixel(point) else { continue };
            if !(at.x >= 0.0 && at.y >= 0.0 && at.x <= width as f64 - 2.0 && at.y <= height as f64 - 2.0) {
                continue;
            }
            let (fx, fy) = (at.x.fract(), at.y.fract());
            let (u, v) = (at.x as usize, at.y as usize);
            for c in 0..3 {
                let value = |u: usize, v: usize| f64::from(photo.rgb[3 * (v * width + u) + c]);
                let seen = (value(u, v) * (1.0 - fx) + value(u + 1, v) * fx) * (1.0 - fy)
                    + (value(u, v + 1) * (1.0 - fx) + value(u + 1, v + 1) * fx) * fy;
                sum += (seen - f64::from(sample.photos[0].rgb[3 * (y * width + x) + c])).abs();
                count += 1;
            }
        }
    }
    assert!(count > 100, "{}: only {count} values to compare", sample.name);
    sum / f64::from(count)
}

/// Photos, cameras and truth belong together: the photos agree, and less so if any is off by a pixel either way.
#[track_caller]
fn assert_one_geometry(sample: &TrainingSample, most: f64) {
    let right = disagreement(sample, &sample.cameras);
    assert!(right < most, "{}: {right}", sample.name);
    for (view, x, y) in [(0, 1.0, 0.0), (0, 0.0, 1.0), (1, -1.0, 0.0), (1, 0.0, -1.0)] {
        let mut cameras = sample.cameras.clone();
        cameras[view].k.z_axis += DVec3::new(x, y, 0.0);
        let wrong = disagreement(sample, &cameras);
        assert!(wrong > 1.2 * right, "{}: {wrong} beside {right}, view {view} by {x} {y}", sample.name);
    }
}

/// How far the truth's points lie from the analytic plane at most; `mirror` for a mirrored world.
fn off_the_plane(sample: &TrainingSample, mirror: bool) -> f64 {
    let s = DMat3::from_diagonal(DVec3::new(if mirror { -1.0 } else { 1.0 }, 1.0, 1.0));
    let off = |(i, &depth): (usize, &f32)| {
        let (x, y) = (i % sample.depth.width * 4, i / sample.depth.width * 4);
        let point = s * sample.cameras[0].unproject(x as f64, y as f64, f64::from(depth));
        if depth > 0.0 { plane_scene::distance(point.to_array()) } else { 0.0 }
    };
    assert!(sample.depth.data.iter().any(|&d| d > 0.0));
    sample.depth.data.iter().enumerate().map(off).fold(0.0, f64::max)
}

fn covered(sample: &TrainingSample) -> usize {
    sample.depth.data.iter().filter(|&&d| d > 0.0).count()
}

#[track_caller]
fn error_of<T>(result: engine::Result<T>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(e) => e.to_string(),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn rendered(views: usize, scenes: Option<u64>) -> SyntheticOptions {
    let generator =
        GeneratorOptions { views, size: (64, 48), rig: Rig::Cluster, seed: 5, ..GeneratorOptions::default() };
    SyntheticOptions { generator, scenes, worse_sources: 0.0, ..SyntheticOptions::default() }
}

/// Patterns take a second to compute, so tests share a dataset where they can.
static ENDLESS: LazyLock<Arc<Synthetic>> = LazyLock::new(|| Arc::new(Synthetic::new(rendered(3, None)).unwrap()));

#[test]
fn rendered_samples_take_the_best_source_views_of_the_generators_scene() {
    let dataset = Synthetic::new(rendered(4, None)).unwrap();
    assert_eq!((dataset.len(), dataset.is_empty()), (None, false));
    let generator = dataset.generator();
    for index in [0, 7] {
        let whole = generator.sample(index, Truth::OfReference);
        let order: Vec<usize> = std::iter::once(0).chain(whole.sources.iter().map(|s| s.view)).collect();
        for views in [0, 2, 3, 4, 9] {
            let sample = dataset.sample(index, views).unwrap();
            // Never fewer than two, never more than there are.
            let count = views.clamp(2, 4);
            assert_eq!((sample.photos.len(), &sample.name), (count, &format!("synth {index}")));
            for (i, &view) in order[..count].iter().enumerate() {
                assert!(sample.photos[i] == whole.photos[view] && sample.cameras[i] == whole.cameras[view]);
            }
            assert!(sample.depth == whole.depth[0] && sample.range == whole.range);
        }
    }
    assert_eq!(dataset.held_bytes(), 0);
    assert_eq!(dataset.describe(), "rendered scenes, endless: 4 views of 64 x 48, cluster rig, seed 5");
}

#[test]
fn a_pool_keeps_what_fits_and_gives_the_same_samples() {
    let endless = &ENDLESS;
    let pool = Synthetic::new(rendered(3, Some(2))).unwrap();
    assert_eq!(pool.len(), Some(2));
    for index in [0, 1, 2, 5] {
        assert_same(&pool.sample(index, 3).unwrap(), &endless.sample(index % 2, 3).unwrap());
    }
    let held = pool.held_bytes();
    // Photos and depth, and less than 2 kB a scene for all else.
    let pixels = 2 * (3 * 3 * 64 * 48 + 4 * 16 * 12);
    assert!((pixels..pixels + 4000).contains(&held), "{held}");
    let stated =
        "2 rendered scenes: 3 views of 64 x 48, cluster rig, seed 5; kept in 0.1 MB of memory, 0.1 MB held now";
    assert_eq!(pool.describe(), stated);

    let small = SyntheticOptions { memory: held * 3 / 4, ..rendered(3, Some(2)) };
    let small = Synthetic::new(small).unwrap();
    for index in 0..4 {
        assert_same(&small.sample(index, 3).unwrap(), &endless.sample(index % 2, 3).unwrap());
    }
    assert_eq!(small.held_bytes(), held / 2);
    assert!(small.describe().contains("1 of them kept in the 0.0 MB of memory that are allowed"));
}

/// One of `reuse` samples shows a new scene; the others show scenes from before, from any of their views, and all of
/// it follows from the index.
#[test]
fn scenes_that_are_reused_show_themselves_from_other_views() {
    const REUSE: u64 = 3;
    let generator = GeneratorOptions { variation: 0.0, low_texture: 0.0, ..rendered(3, None).generator };
    let options = SyntheticOptions { reuse: REUSE, generator, ..rendered(3, None) };
    let dataset = Synthetic::new(options.clone()).unwrap();
    let samples: Vec<TrainingSample> = (0..18).map(|i| dataset.sample(i, 3).unwrap()).collect();
    let mut references = std::collections::BTreeSet::new();
    for (i, sample) in samples.iter().enumerate() {
        let (scene, view) = sample.name.strip_prefix("synth ").unwrap().split_once(", view ").unwrap();
        let (scene, view): (u64, usize) = (scene.parse().unwrap(), view.parse().unwrap());
        let newest = i as u64 / REUSE;
        assert!(scene <= newest && view < 3, "{}", sample.name);
        if (i as u64).is_multiple_of(REUSE) {
            assert_eq!((scene, view), (newest, 0));
        }
        references.insert(view);
    }
    assert_eq!(references.len(), 3, "every view was a reference");
    // As below: single scenes may disagree, the middle one must not.
    let share = |sample: &TrainingSample| {
        let mut shifted = sample.cameras.clone();
        shifted[0].k.z_axis += DVec3::new(2.0, 2.0, 0.0);
        disagreement(sample, &sample.cameras) / disagreement(sample, &shifted)
    };
    let others = samples.iter().filter(|s| !s.name.ends_with("view 0"));
    let mut shares: Vec<f64> = others.map(share).collect();
    shares.sort_by(f64::total_cmp);
    assert!(shares[shares.len() / 2] < 0.7, "{shares:?}");
    // With room for one scene the others are rendered again, and so they are by a run that begins in the middle.
    let bytes = dataset.held_bytes() / 6;
    let small = Synthetic::new(SyntheticOptions { memory: bytes + bytes / 2, ..options.clone() }).unwrap();
    for i in [17, 4, 11] {
        small.sample(i, 3).unwrap();
        assert!(small.held_bytes() < 2 * bytes, "{} bytes held, a scene has {bytes}", small.held_bytes());
    }
    let later = Synthetic::new(options).unwrap();
    for i in [16, 7] {
        assert_same(&later.sample(i, 3).unwrap(), &samples[i as usize]);
    }
}

#[test]
fn rendered_samples_are_one_geometry() {
    let options = SyntheticOptions {
        generator: GeneratorOptions { variation: 0.0, low_texture: 0.0, ..rendered(3, None).generator },
        ..rendered(3, None)
    };
    let dataset = Synthetic::new(options).unwrap();
    // Occlusion and shine are part of the scenes, so single ones may disagree; the middle one must not.
    let mut shares: Vec<f64> = (0..9)
        .map(|index| {
            let sample = dataset.sample(index, 3).unwrap();
            let mut shifted = sample.cameras.clone();
            shifted[0].k.z_axis += DVec3::new(2.0, 2.0, 0.0);
            disagreement(&sample, &sample.cameras) / disagreement(&sample, &shifted)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    assert!(shares[4] < 0.7, "{shares:?}");
}

#[test]
fn worse_source_views_come_with_their_probability_and_one_good_one() {
    let mut random = Random::new(&[1]);
    let (mut worse, n) = (0, 20_000);
    let mut places = [0; 10];
    for _ in 0..n {
        let chosen = choose_sources(10, 3, 0.25, &mut random);
        assert!(chosen.len() == 3 && chosen.is_sorted_by(|a, b| a < b) && chosen[0] < 2 && chosen[2] < 10);
        if chosen != [0, 1, 2] {
            worse += 1;
            chosen.iter().for_each(|&place| places[place] += 1);
        }
    }
    // Of the worse ones, one in 36 is the best three by chance: 0.25 * 35 / 36 = 0.243, deviation 0.003.
    let share = f64::from(worse) / f64::from(n);
    assert!((share - 0.243).abs() < 0.015, "{share}");
    // The eight places after the first two are equally likely: 2 * 8 / 9 of 4860 over 8, deviation 32.
    assert!(places[2..].iter().all(|&count| (900..1260).contains(&count)), "{places:?}");

    assert_eq!(choose_sources(2, 3, 1.0, &mut random), [0, 1]);
    assert_eq!(choose_sources(3, 3, 1.0, &mut random), [0, 1, 2]);
    assert_eq!(choose_sources(9, 3, 0.0, &mut random), [0, 1, 2]);
    assert_eq!(choose_sources(0, 3, 1.0, &mut random), [0usize; 0]);

    // By the index and not by the scene: a pool shows other views in the next epoch.
    let options = SyntheticOptions { worse_sources: 1.0, ..rendered(5, Some(1)) };
    let dataset = Synthetic::new(options).unwrap();
    let cameras: Vec<_> = (0..12).map(|index| dataset.sample(index, 2).unwrap().cameras[1]).collect();
    assert!(cameras.iter().any(|c| c != &cameras[0]));
}

#[test]
fn options_of_rendered_samples_are_refused_with_their_reason() {
    let of = |change: fn(&mut SyntheticOptions)| {
        let mut options = rendered(3, None);
        change(&mut options);
        error_of(Synthetic::new(options))
    };
    assert_eq!(of(|o| o.generator.views = 1), "views: 1; expected at least two views a scene to train on");
    assert_eq!(
        of(|o| o.generator.size = (66, 48)),
        "size: 66 x 48 pixels; expected sides of multiples of 4, for example 64 x 48"
    );
    assert_eq!(of(|o| o.scenes = Some(0)), "scenes: 0; expected at least one scene, or none stated for an endless row");
    assert_eq!(of(|o| o.worse_sources = 1.5), "worse sources: 1.5; expected a number from 0 to 1");
}
