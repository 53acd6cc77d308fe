//! Any number of planes does as well as its even neighbours, and what is known of depths before decides where photos
//! cannot.

use std::path::Path;

use engine::cpu::network::BsMvsNet;
use engine::files::map::Map;
use engine::files::pfm;
use engine::net::config::Resolution;
use engine::scene::camera::{Camera, DepthRange, Expected, Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use glam::{DMat3, DVec3};

/// The share of pixels of the example's first views whose depth at a quarter lies within 1 % of the truth, in percent.
fn right(planes: usize) -> f64 {
    right_where(planes, |_, _| None)
}

/// As [`right`], where `expected` says where the depths of pixels lie, given the true ones.
fn right_where(planes: usize, expected: impl Fn(&Map, &Hypotheses) -> Option<Expected>) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let scene = Scene::open(&root, &OpenOptions::default()).unwrap();
    let network = BsMvsNet::built_in().unwrap();
    let photos: Vec<_> = scene.views.iter().map(|view| Photo::load(view, None).unwrap()).collect();
    let features = |photo: &Photo| network.features_probed(photo, Resolution::Quarter, &mut |_, _| ()).unwrap();
    let maps: Vec<_> = photos.iter().map(|p| features(&p.photo.padded_to_multiple_of_4())).collect();
    let camera = |view: usize| photos[view].camera.decimated(0.25);
    let (mut within, mut all) = (0, 0);
    for (view, of_view) in scene.views.iter().enumerate().take(3) {
        let near = of_view.sources.iter().take(4).map(|s| s.view);
        let sources: Vec<_> = near.map(|s| (&maps[s], PlaneSweep::new(&camera(view), &camera(s)))).collect();
        let truth = pfm::read(&root.join(format!("truth/{}.pfm", of_view.name))).unwrap();
        let mut hypotheses = Hypotheses::new(of_view.depth_range(192).unwrap(), planes, Sampling::Inverse);
        hypotheses.expected = expected(&truth, &hypotheses);
        let depth = network.depth(&maps[view], &sources, &hypotheses).unwrap().depth;
        assert_eq!((depth.width, depth.height), (truth.width, truth.height));
        let known = depth.data.iter().zip(&truth.data).filter(|(_, t)| **t > 0.0);
        for (d, t) in known {
            all += 1;
            within += usize::from((d - t).abs() <= 0.01 * t);
        }
    }
    100.0 * within as f64 / all as f64
}

/// Zeros past the last of an odd number of planes cost 27 points of 89 (97 planes on fountain). The last plane again
/// costs nothing: within a point of the mean of the even neighbours, whatever remainder the halvings meet.
#[test]
fn odd_numbers_of_planes_do_as_well_as_even_ones() {
    for (below, planes, above) in [(70, 71, 72), (96, 97, 98)] {
        let [below, own, above] = [below, planes, above].map(right);
        assert!(own >= 0.5 * (below + above) - 1.0, "{planes} planes: {own} %, its neighbours {below} and {above} %");
    }
}

/// Among the hypotheses within 5 % of these depths.
fn around(depths: impl Iterator<Item = f64>, width: usize, hypotheses: &Hypotheses) -> Expected {
    let place = |z: f64| hypotheses.depths.partition_point(|&d| d < z).min(hypotheses.depths.len() - 1) as u16;
    let planes = depths.map(|z| [place(0.95 * z).saturating_sub(1), place(1.05 * z)]).collect();
    Expected { width, planes }
}

/// Photos of a plane at depth 4 whose pattern comes again every 16 pixels show one at depth 8 or 2.67 as well: half of
/// the pixels are told the one, half the other, and each finds what it is told, while photos alone decide nothing.
#[test]
fn known_depths_decide_where_photos_cannot() {
    let (width, height, focal, baseline) = (256, 192, 320.0, 0.4);
    let k = DMat3::from_cols_array_2d(&[[focal, 0.0, 0.0], [0.0, focal, 0.0], [127.5, 95.5, 1.0]]);
    let camera = |x: f64| Camera { k, r: DMat3::IDENTITY, t: DVec3::new(-x, 0.0, 0.0) };
    let photo = |x: f64| {
        let mut rgb = Vec::new();
        for i in 0..width * height {
            let (u, v) = ((i % width) as f64 + focal * x / 4.0, (i / width) as f64);
            // Of period 16 along rows, and another pattern in every row.
            let wave = |of: f64, phase: f64| (of * u * std::f64::consts::TAU / 16.0 + phase).sin();
            let value = 0.5 + 0.2 * wave(1.0, (0.11 * v).sin() * 3.0) + 0.15 * wave(2.0, 0.2 * v);
            rgb.extend([value, 0.5 + 0.3 * wave(1.0, 2.0 * (0.07 * v).cos()), 1.0 - value].map(|c| c as f32));
        }
        Photo { width, height, rgb }
    };
    let network = BsMvsNet::built_in().unwrap();
    let places = [0.0, -baseline, baseline];
    let maps = places.map(|x| network.features_probed(&photo(x), Resolution::Quarter, &mut |_, _| ()).unwrap());
    let sweep = |to: f64| PlaneSweep::new(&camera(0.0).decimated(0.25), &camera(to).decimated(0.25));
    let sources = [(&maps[1], sweep(places[1])), (&maps[2], sweep(places[2]))];
    let mut hypotheses = Hypotheses::new(DepthRange { near: 2.2, far: 12.0 }, 96, Sampling::Inverse);
    // Away from the middle, where what is known changes, and from the sides, where a source shows nothing.
    let shares = |hypotheses: &Hypotheses| {
        let depth = network.depth(&maps[0], &sources, hypotheses).unwrap().depth;
        let (w, h) = (depth.width, depth.height);
        let share = |columns: std::ops::Range<usize>, z: f32| {
            let all = (4..h - 4).flat_map(|y| columns.clone().map(move |x| y * w + x));
            let near = all.clone().filter(|&i| (depth.data[i] - z).abs() < 0.05 * z).count();
            near as f64 / all.count() as f64
        };
        [share(w / 6..w / 2 - 3, 4.0), share(w / 2 + 3..w - w / 6, 8.0)]
    };
    let alone = shares(&hypotheses);
    let told = (0..width / 4 * height / 4).map(|i| if i % (width / 4) < width / 8 { 4.0 } else { 8.0 });
    hypotheses.expected = Some(around(told, width / 4, &hypotheses));
    let found = shares(&hypotheses);
    assert!(found.into_iter().all(|share| share > 0.9), "{found:?}, by photos alone {alone:?}");
    assert!(alone.into_iter().any(|share| share < 0.6), "{alone:?}");
}

/// The truth known before does no harm, and a wrong depth known before little: photos that are sure have their way.
#[test]
fn sure_photos_outdo_wrong_known_depths() {
    let known = |factor: f64| {
        move |truth: &Map, hypotheses: &Hypotheses| {
            let all = f64::from(hypotheses.depths[0] as f32)..=*hypotheses.depths.last().unwrap();
            let mut expected = around(truth.data.iter().map(|&z| factor * f64::from(z)), truth.width, hypotheses);
            for (planes, &z) in expected.planes.iter_mut().zip(&truth.data) {
                if z <= 0.0 || !all.contains(&(factor * f64::from(z))) {
                    *planes = [0, hypotheses.depths.len() as u16 - 1];
                }
            }
            Some(expected)
        }
    };
    let (alone, truth, wrong) = (right(96), right_where(96, known(1.0)), right_where(96, known(1.3)));
    assert!(truth >= alone, "{truth} % with the truth, {alone} % without");
    assert!(wrong >= alone - 10.0, "{wrong} % with wrong depths, {alone} % without");
}
