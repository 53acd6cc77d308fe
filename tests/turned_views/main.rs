//! Views whose photos are turned by quarters against each other, or show things at different scales, with right
//! cameras: what is said of each pair, and that maps do not suffer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use engine::cpu::network::BsMvsNet;
use engine::files::folder::OutputOptions;
use engine::files::map::Map;
use engine::files::pfm;
use engine::host::progress::{Progress, Style};
use engine::net::config::Resolution;
use engine::net::tensor::Tensor;
use engine::run::infer::infer;
use engine::run::memory::RunSize;
use engine::run::options::InferOptions;
use engine::run::plan::plan;
use engine::scene::camera::{Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use serde_json::Value;
use tempfile::TempDir;

mod looks;

#[path = "../support/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;
#[path = "../support/turned_scene.rs"]
mod turned_scene;

use turned_scene::{Change, VIEWS, name};

/// Levels of the pyramid in all runs.
const LEVELS: usize = 2;

struct Run {
    _root: TempDir,
    scene: PathBuf,
    out: PathBuf,
}

fn options(out: &Path) -> InferOptions {
    InferOptions {
        output: OutputOptions { out: Some(out.to_owned()), force: false },
        views: 5,
        planes: Some(64),
        sampling: Some(Sampling::Inverse),
        levels: LEVELS,
        resolution: Resolution::Quarter,
        ..InferOptions::default()
    }
}

impl Run {
    fn new(changes: &[Change; VIEWS]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (scene, out) = (root.path().join("scene"), root.path().join("out"));
        turned_scene::write(&scene, changes);
        let run = Self { _root: root, scene, out };
        run.again();
        run
    }

    fn again(&self) {
        infer(&self.scene, &BsMvsNet::built_in().unwrap(), &options(&self.out), &Progress::new(Style::Quiet)).unwrap();
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.out.join(file)).unwrap()).unwrap()
    }

    fn notes(&self) -> Vec<String> {
        let manifest = self.json("manifest.json");
        manifest["notes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
    }

    /// Depth and confidence of one level of a view.
    fn maps(&self, level: usize, view: usize) -> (Map, Map) {
        let read = |kind: &str| pfm::read(&self.out.join(format!("levels/{level}/{kind}/{}.pfm", name(view)))).unwrap();
        (read("depth"), read("confidence"))
    }

    /// The share of a view's pixels with a confidence above 0.8, and the share of those that are right beside: within
    /// 1 % of the truth, or 2 % where a pixel is four times as large. The photo must not be cropped.
    fn quality(&self, view: usize, change: Change) -> [f64; 2] {
        let (depth, confidence) = self.maps(0, view);
        let truth = turned_scene::truth(view);
        let most = if change.shrink < 4 { 0.01 } else { 0.02 };
        let (mut sure, mut right) = (0, 0);
        for (i, &found) in depth.data.iter().enumerate().filter(|(i, _)| confidence.data[*i] > 0.8) {
            let (x, y) = change.before((i % depth.width, i / depth.width), (depth.width, depth.height));
            let at = truth.at(x.min(truth.width - 1), y.min(truth.height - 1));
            sure += 1;
            right += usize::from((found - at).abs() < most * at);
        }
        [sure, right].map(|n| n as f64 / depth.data.len() as f64)
    }
}

/// Pixels of a map that are off by more than `most` of the other map's depth, as a share.
fn moved(a: &Map, b: &Map, most: f32) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let moved = a.data.iter().zip(&b.data).filter(|(a, b)| (*a - *b).abs() > most * **b).count();
    moved as f64 / a.data.len() as f64
}

#[test]
fn a_view_gets_the_map_that_it_has_among_views_all_turned_as_it_is() {
    // 255 x 190: no side is a multiple of 4, so that padding lies on another side of each turned photo.
    let change = |turns: u8| Change { size: (255, 190), ..Change::turned(turns) };
    let alike: Vec<Run> = (0..4).map(|turns| Run::new(&[change(turns); VIEWS])).collect();
    for run in &alike {
        assert!(!run.notes().iter().any(|n| n.contains("turned by quarters")), "{:?}", run.notes());
    }
    for turns in [[0, 1, 2, 3, 0, 1, 2], [2, 0, 3, 0, 0, 1, 0]] {
        let run = Run::new(&turns.map(change));
        for (view, &turn) in turns.iter().enumerate() {
            for level in 0..LEVELS {
                let (own, of_alike) = (run.maps(level, view), alike[usize::from(turn)].maps(level, view));
                // The same photos and homographies, but for the last digits of f64 and then f32 (some 1e-7 of a
                // coordinate of up to 64 map pixels): a thousandth of an interval of 1.7 % of the depth.
                let (depth, confidence) = (moved(&own.0, &of_alike.0, 2e-5), moved(&own.1, &of_alike.1, 1e-3));
                assert!(depth < 0.001 && confidence < 0.001, "view {view} level {level}: {depth} {confidence}");
            }
        }
        let said = run.notes().into_iter().filter(|n| n.contains("turned by quarters")).count();
        assert_eq!(said, 1, "{:?}", run.notes());
        // What is reused says how photos were turned. (A run that is finished as a whole would leave the manifest.)
        std::fs::remove_file(run.out.join("manifest.json")).unwrap();
        run.again();
        let reused = |v: &Value| v["depth"]["levels"].as_array().unwrap().iter().all(|l| l["reused"] == true);
        assert!(run.json("manifest.json")["views"].as_array().unwrap().iter().all(reused));
    }
}

#[test]
fn views_of_other_scales_keep_their_share_of_sure_pixels() {
    let one = Change::shrunk;
    let scenes = [
        [1, 2, 1, 2, 1, 2, 1].map(one),
        [1, 4, 1, 2, 1, 4, 2].map(one),
        [4, 1, 1, 4, 1, 1, 1].map(one),
        // Portrait beside landscape, at other scales.
        [(1, 0), (2, 1), (1, 0), (2, 3), (4, 0), (1, 1), (2, 0)].map(|(shrink, turns)| Change { turns, ..one(shrink) }),
    ];
    let mut alike: BTreeMap<Change, Run> = BTreeMap::new();
    for changes in scenes {
        let run = Run::new(&changes);
        for (view, &change) in changes.iter().enumerate() {
            let same = alike.entry(change).or_insert_with(|| Run::new(&[change; VIEWS]));
            let (found, expected) = (run.quality(view, change), same.quality(view, change));
            println!("{changes:?} view {view}: {found:.3?}, {expected:.3?} among views of its own kind");
            // A tenth: a source of a quarter of the size shows less than one of the view's own size did.
            assert!(
                found.iter().zip(expected).all(|(f, e)| *f > 0.9 * e),
                "{changes:?} {view}: {found:?} {expected:?}"
            );
        }
        let said = |what: &str| run.notes().iter().any(|n| n.contains(what));
        assert!(said("taken at a smaller level") && said("enlarged, or taken"), "{:?}", run.notes());
    }
}

#[test]
fn memory_is_planned_for_photos_as_they_are_shown() {
    let root = tempfile::tempdir().unwrap();
    let mut changes = [Change::shrunk(4); VIEWS];
    changes[3] = Change { turns: 1, ..Change::shrunk(2) };
    turned_scene::write(root.path(), &changes);
    let options = InferOptions { only: vec![name(2), name(3)], views: 2, ..options(root.path()) };
    let mut scene = Scene::open(root.path(), &OpenOptions::default()).unwrap();
    let plan = plan(&mut scene, &options).unwrap();
    // View 2 is matched against view 1, view 3 (twice the size, turned) against view 4.
    assert_eq!(plan.views.iter().map(|v| v.sources[0]).collect::<Vec<_>>(), [1, 4]);
    let photos_size = |width: u64, height: u64| width * height * 32 * 4;
    // Level maps of 128 x 96 and, of the larger one, 256 x 192.
    let small = photos_size(32, 24) + photos_size(16, 12);
    let large = photos_size(64, 48) + photos_size(32, 24);
    // Enlarged to 255 x 191 beside level 0, as it is beside level 1, and turned.
    let run = RunSize::new(&scene, &plan, &options, &|_, _, _| 0);
    assert_eq!(run.cache, (2 * small).max(2 * large));
    // The larger one as a source: at its level 1 and 2.
    let options = InferOptions { only: vec![name(4)], ..options };
    let mut scene = Scene::open(root.path(), &OpenOptions::default()).unwrap();
    let plan = self::plan(&mut scene, &options).unwrap();
    assert_eq!(plan.views[0].sources, [3]);
    assert_eq!(RunSize::new(&scene, &plan, &options, &|_, _, _| 0).cache, 2 * small);
    // Features are made of no more than 128 x 96 pixels of it, and of one plane.
    let sizes = Mutex::new(Vec::new());
    let asked = |width, height, planes| {
        sizes.lock().unwrap().push((width, height, planes));
        0
    };
    RunSize::new(&scene, &plan, &options, &asked).need();
    assert_eq!(sizes.into_inner().unwrap(), [(128, 96, 64), (128, 96, 1), (128, 96, 1)]);
}

#[test]
fn photos_that_lie_alike_are_shown_as_they_are() {
    let run = Run::new(&[Change::shrunk(4); VIEWS]);
    let network = BsMvsNet::built_in().unwrap();
    let scene = Scene::open(&run.scene, &OpenOptions::default()).unwrap();
    let mut levels: Vec<Vec<Photo>> = vec![Vec::new(); LEVELS];
    for view in &scene.views {
        let mut photo = Photo::load(view, None).unwrap().photo;
        for of_level in &mut levels {
            of_level.push(photo.padded_to_multiple_of_4());
            photo = photo.pyramid_level();
        }
    }
    for (level, photos) in levels.iter().enumerate() {
        let features: Vec<_> = photos
            .iter()
            .map(|photo| network.features_probed(photo, Resolution::Quarter, &mut |_, _| ()).unwrap())
            .collect();
        let camera = |view: usize| scene.views[view].camera.decimated(0.25 * 0.5f64.powi(level as i32));
        for (view, of_view) in scene.views.iter().enumerate() {
            let near = of_view.sources.iter().take(4).map(|s| s.view);
            let sources: Vec<_> = near.map(|s| (&features[s], PlaneSweep::new(&camera(view), &camera(s)))).collect();
            let range = of_view.depth_range(64).unwrap();
            let hypotheses = Hypotheses::new(range, 64, Sampling::Inverse);
            let hypotheses = (&hypotheses, level);
            let nobody = &mut |_: &str, _: &Tensor| ();
            let expected = network.depth_probed(&features[view], &sources, hypotheses, false, nobody).unwrap();
            let (depth, confidence) = run.maps(level, view);
            assert!(depth.data == expected.depth.data && confidence.data == expected.confidence.data, "{view} {level}");
        }
    }
    let record = run.json(&format!("levels/0/{}.json", name(0)));
    assert!(record["made_by"]["sources"].is_array() && record["made_by"]["looks"].is_null(), "{record}");
}
