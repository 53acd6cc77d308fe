//! Confidence is the probability that a depth is right (SPEC "Confidence"), whatever the number of planes, their
//! spacing, and the maps' resolution.

use std::path::Path;
use std::sync::OnceLock;

use engine::cpu::network::BsMvsNet;
use engine::files::map::Map;
use engine::files::pfm;
use engine::net::confidence::{Confidence, Scale};
use engine::net::config::Resolution;
use engine::net::model::Features;
use engine::net::tensor::Tensor;
use engine::net::weights::Checkpoint;
use engine::scene::camera::{Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use engine::synth::{Generator, GeneratorOptions};

fn fits() -> Confidence {
    Checkpoint::built_in().unwrap().confidence.expect("the default weights are calibrated")
}

/// A view to look at, with its truth at every `step`-th pixel.
struct Looked {
    maps: Vec<Features<Tensor>>,
    sweeps: Vec<PlaneSweep>,
    truth: Map,
    step: usize,
    range: engine::scene::camera::DepthRange,
}

/// Mean confidence, share of right pixels, and the expected calibration error over ten bins.
#[derive(Default)]
struct Tally {
    bins: [(f64, f64, f64); 10],
}

impl Tally {
    fn add(&mut self, confidence: f32, right: bool) {
        let bin = &mut self.bins[((10.0 * confidence) as usize).min(9)];
        *bin = (bin.0 + 1.0, bin.1 + f64::from(confidence), bin.2 + f64::from(u8::from(right)));
    }

    fn count(&self) -> f64 {
        self.bins.iter().map(|b| b.0).sum()
    }

    fn mean(&self) -> f64 {
        self.bins.iter().map(|b| b.1).sum::<f64>() / self.count()
    }

    fn right(&self) -> f64 {
        self.bins.iter().map(|b| b.2).sum::<f64>() / self.count()
    }

    fn error(&self) -> f64 {
        self.bins.iter().map(|b| (b.1 - b.2).abs()).sum::<f64>() / self.count()
    }
}

fn look(net: &BsMvsNet, view: &Looked, planes: usize, sampling: Sampling, tally: &mut Tally) {
    let hypotheses = Hypotheses::new(view.range, planes, sampling);
    let sources: Vec<_> = view.maps[1..].iter().zip(view.sweeps.iter().copied()).collect();
    let found = net.depth(&view.maps[0], &sources, &hypotheses).unwrap();
    let quarter = view.maps[0].quarter.shape;
    let pixel = Scale::new(&view.sweeps, (quarter.w, quarter.h), &hypotheses).unwrap().pixel;
    // Depth and truth may lie on different grids: both are read where they meet.
    let (of_depth, of_truth) = match found.depth.width >= view.truth.width {
        true => (view.step, 1),
        false => (1, (4 / view.step).max(1)),
    };
    let (rows, columns) = (found.depth.height.div_ceil(of_depth), found.depth.width.div_ceil(of_depth));
    for y in 0..rows {
        for x in 0..columns {
            let truth = view.truth.data[y * of_truth * view.truth.width + x * of_truth];
            let at = y * of_depth * found.depth.width + x * of_depth;
            if truth > 0.0 {
                let error = (1.0 / found.depth.data[at] - 1.0 / truth).abs();
                tally.add(found.confidence.data[at], error < pixel);
            }
        }
    }
}

/// The example's first views: photos that no fit has seen.
fn example(net: &BsMvsNet) -> Vec<Looked> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let scene = Scene::open(&root, &OpenOptions::default()).unwrap();
    let photos: Vec<_> = scene.views.iter().map(|view| Photo::load(view, None).unwrap()).collect();
    let view = |at: usize| {
        let mut order = vec![at];
        order.extend(scene.views[at].sources.iter().take(4).map(|s| s.view));
        let camera = |view: usize| photos[view].camera.decimated(0.25);
        Looked {
            maps: order.iter().map(|&v| net.features(&photos[v].photo.padded_to_multiple_of_4()).unwrap()).collect(),
            sweeps: order[1..].iter().map(|&v| PlaneSweep::new(&camera(at), &camera(v))).collect(),
            truth: pfm::read(&root.join(format!("truth/{}.pfm", scene.views[at].name))).unwrap(),
            step: 4,
            range: scene.views[at].depth_range(192).unwrap(),
        }
    };
    (0..2).map(view).collect()
}

/// The first of [`MADE`] rendered scenes, which all tests share.
fn rendered(net: &BsMvsNet, count: usize) -> &'static [Looked] {
    static ALL: OnceLock<Vec<Looked>> = OnceLock::new();
    &ALL.get_or_init(|| made(net))[..count]
}

/// As many rendered scenes as any test takes.
const MADE: u64 = 24;

/// Rendered scenes with computed patterns, of a seed that neither training nor the fit has seen.
fn made(net: &BsMvsNet) -> Vec<Looked> {
    let options = GeneratorOptions { seed: 0x0063_6f6e, views: 4, size: (256, 192), ..Default::default() };
    let generator = Generator::new(options).unwrap();
    let view = |number: u64| {
        let scene = generator.scene(number);
        let camera = |view: usize| scene.cameras[view].decimated(0.25);
        Looked {
            maps: (0..4).map(|v| net.features(&scene.photo(v)).unwrap()).collect(),
            sweeps: (1..4).map(|v| PlaneSweep::new(&camera(0), &camera(v))).collect(),
            truth: scene.depth(0, 1),
            step: 1,
            range: scene.ranges[0],
        }
    };
    (0..MADE).map(view).collect()
}

/// Of 24 scenes, on which pixels are far from independent: some 200 surfaces with one error of fit each, of which a
/// share of right ones near one half is known to 0.5 / sqrt(200) = 3.5 %. Confidence may be off by twice that.
#[test]
fn confidence_is_the_share_of_right_depths() {
    let net = BsMvsNet::built_in().unwrap();
    let views = rendered(&net, 24);
    for (planes, sampling) in [(64, Sampling::Inverse), (96, Sampling::Linear)] {
        let mut tally = Tally::default();
        views.iter().for_each(|view| look(&net, view, planes, sampling, &mut tally));
        let (mean, right) = (tally.mean(), tally.right());
        assert!((mean - right).abs() < 0.07, "{planes} planes: {mean:.3} of confidence, {right:.3} right");
        assert!(tally.error() < 0.07, "{planes} planes: calibration error {:.3}", tally.error());
        // It tells right from wrong: two thirds of the right depths can be had with few wrong ones.
        let sure = tally.bins[8..].iter().fold((0.0, 0.0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.2));
        assert!(sure.1 / sure.0 > 0.85, "of the pixels above 0.8 only {:.3} are right", sure.1 / sure.0);
        assert!(sure.1 > 0.5 * right * tally.count(), "{:.3} of the right ones are above 0.8", sure.1 / tally.count());
    }
}

/// With the raw probability of four hypotheses, 192, 384 and 768 planes made 9847, 4669 and 454 points of one scene.
/// Calibrated, the share above 0.8 stays within 15 % of itself, odd numbers included. Planes that lie less than a pixel
/// of the photo apart, as here from 384 on, make the network itself worse: then confidence must follow what is right,
/// within 0.1, since the fit has seen few such views.
#[test]
fn confidence_means_the_same_for_any_number_of_planes() {
    let net = BsMvsNet::built_in().unwrap();
    let views = example(&net);
    let tally = |planes: usize| {
        let mut tally = Tally::default();
        views.iter().for_each(|view| look(&net, view, planes, Sampling::Inverse, &mut tally));
        tally
    };
    let share = |tally: &Tally| tally.bins[8..].iter().map(|bin| bin.0).sum::<f64>() / tally.count();
    let default = share(&tally(96));
    for planes in [48, 97, 193, 384, 768] {
        let own = tally(planes);
        let (mean, right) = (own.mean(), own.right());
        assert!((mean - right).abs() < 0.1, "{planes} planes: {mean:.3} of confidence, {right:.3} right");
        let own = share(&own);
        let far = planes < 384 && (own / default - 1.0).abs() >= 0.15;
        assert!(!far, "{planes} planes: {own:.3} above 0.8, 96 planes: {default:.3}");
    }
}

/// The same right and wrong at a quarter, half and all of the photo's sides: mean confidence follows what is right.
#[test]
fn confidence_is_of_the_maps_own_resolution() {
    let net = BsMvsNet::built_in().unwrap();
    let views = rendered(&net, 16);
    for resolution in [Resolution::Quarter, Resolution::Half, Resolution::Full] {
        let mut tally = Tally::default();
        for view in views {
            let coarser = |maps: &Features<Tensor>| Features {
                quarter: maps.quarter.clone(),
                half: maps.half.clone().filter(|_| resolution >= Resolution::Half),
                full: maps.full.clone().filter(|_| resolution == Resolution::Full),
            };
            let maps = view.maps.iter().map(coarser).collect();
            let (sweeps, truth) = (view.sweeps.clone(), view.truth.clone());
            let step = resolution.step();
            // The truth at the map's own pixels.
            let truth = engine::train::frame::every(&truth, step);
            let own = Looked { maps, sweeps, truth, step: 1, range: view.range };
            look(&net, &own, 96, Sampling::Inverse, &mut tally);
        }
        let (mean, right) = (tally.mean(), tally.right());
        assert!((mean - right).abs() < 0.08, "{resolution:?}: {mean:.3} of confidence, {right:.3} right");
    }
}

/// On a coarser level the pixel that a depth must be right to is a smaller part of the level's own: the same views are
/// less sure, by as much as fewer depths are right.
#[test]
fn a_coarser_level_is_less_sure_of_a_pixel_of_the_finest() {
    let net = BsMvsNet::built_in().unwrap();
    let views = rendered(&net, 12);
    let of_level = |level: usize, views: &[Looked]| {
        let (mut mean, mut right, mut count) = (0.0, 0.0, 0.0);
        for view in views {
            let hypotheses = Hypotheses::new(view.range, 96, Sampling::Inverse);
            let sources: Vec<_> = view.maps[1..].iter().zip(view.sweeps.iter().copied()).collect();
            let nobody = &mut |_: &str, _: &Tensor| ();
            let found = net.depth_probed(&view.maps[0], &sources, (&hypotheses, level), false, nobody).unwrap();
            let quarter = view.maps[0].quarter.shape;
            let pixel = Scale::new(&view.sweeps, (quarter.w, quarter.h), &hypotheses).unwrap().pixel;
            let allowed = pixel * 0.5f32.powi(level.min(3) as i32);
            for (i, &truth) in view.truth.data.iter().enumerate().filter(|(_, truth)| **truth > 0.0) {
                count += 1.0;
                mean += f64::from(found.confidence.data[i]);
                let error = (1.0 / found.depth.data[i] - 1.0 / truth).abs();
                right += f64::from(u8::from(error < allowed));
            }
        }
        (mean / count, right / count)
    };
    let all: Vec<(f64, f64)> = (0..4).map(|level| of_level(level, views)).collect();
    assert!(all.windows(2).all(|pair| pair[1].0 < pair[0].0), "{all:?}");
    assert!(all[..2].iter().all(|(mean, right)| (mean - right).abs() < 0.08), "{all:?}");
    // The fit has seen poses that are off by 0.3 pixels, as they are in life. Here they are exact, so that more depths
    // than it says are right to a quarter and to an eighth of a pixel.
    assert!(all[2..].iter().all(|(mean, right)| mean - right < 0.08), "{all:?}");
    assert_eq!(of_level(3, &views[..1]), of_level(4, &views[..1]), "levels beyond the fitted ones take the last");
}

/// Damaged fits are refused when weights are read, by name.
#[test]
fn fits_that_are_none_are_refused() {
    let text = fits().text().unwrap();
    assert_eq!(Confidence::parse(&text).unwrap(), fits(), "what is written is read back");
    let short = r#"{"quarter": [[1, 2, 3]]}"#;
    for (text, expected) in [
        ("[]", "metadata confidence"),
        ("{}", "missing field `quarter`"),
        (short, "`quarter` is no fit; expected 8 finite numbers"),
        (r#"{"quarter": []}"#, "`quarter` is no fit"),
    ] {
        let told = Confidence::parse(text).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
}
