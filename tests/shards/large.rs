//! Plans, records and status of very many views, on made-up scenes without photos: what they cost grows with the views,
//! not with their square.

use std::time::Instant;

use engine::cpu::network::BsMvsNet;
use engine::files::subfolders::{MOST_IN_A_FOLDER, Subfolders, listed};
use engine::host::memory;
use engine::host::progress::{Progress, Style};
use engine::run::options::InferOptions;
use engine::run::resume::LevelFiles;
use engine::run::schedule::{Job, in_order_of_shared_photos};
use engine::scene::camera::{Camera, DepthRange};
use engine::scene::{Layout, Scene, SourceView, View};
use engine::shards::plan_file::{PlanFile, divided};
use engine::shards::planning::{Division, Outline};
use engine::shards::status;
use glam::{DMat3, DVec3};

use super::*;

/// Whether there is time for a million views (a quarter of an hour, and 6 GB of disk).
fn is_long() -> bool {
    std::env::var_os("ENGINE_TEST_LARGE").is_some()
}

/// The views that share photos with one of a flight in strips: its neighbours in the strip, and those beside it in the
/// next ones.
fn around(view: usize, views: usize) -> impl Iterator<Item = usize> {
    let long = (views as f64).sqrt() as usize;
    let near = [1, long, 2, long + 1, 2 * long].into_iter();
    near.flat_map(move |step| [view.checked_sub(step), Some(view + step)]).flatten().filter(move |&other| other < views)
}

fn strips(views: usize) -> Vec<Job<usize>> {
    (0..views).map(|view| Job { view, photos: std::iter::once(view).chain(around(view, views)).collect() }).collect()
}

/// The flight as a scene, whose photos are nowhere.
fn scene(views: usize) -> Scene {
    let long = (views as f64).sqrt() as usize;
    let k = DMat3::from_cols(DVec3::new(90.0, 0.0, 0.0), DVec3::new(0.0, 90.0, 0.0), DVec3::new(48.0, 32.0, 1.0));
    let view = |at: usize| View {
        id: at as u32,
        name: format!("DJI_{at:08}"),
        image: format!("/nowhere/images/DJI_{at:08}.jpg").into(),
        size: (96, 64),
        camera: Camera { k, r: DMat3::IDENTITY, t: -DVec3::new((at % long) as f64, (at / long) as f64, 0.0) },
        lens: None,
        mask: None,
        in_memory: None,
        known: None,
        range: Some(DepthRange { near: 9.0, far: 12.0 }),
        sweep: None,
        planes: None,
        sources: around(at, views).map(|view| SourceView { view, score: 1.0 }).collect(),
    };
    let views = (0..views).map(view).collect();
    let (root, layout) = ("/nowhere".into(), Layout::Colmap);
    let (region, region_of_files, notes) = (None, None, Vec::new());
    Scene { root, layout, views, points: Vec::new(), region, region_of_files, poses: None, georeference: None, notes }
}

/// Seconds of processor time of this process: what else the machine does makes no difference.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into the time that it is given.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Plans a flight, writes records as if half of it were done, and asks how far it is. Gives the seconds of processor
/// time of each, and the most memory in bytes.
fn simulated(views: usize) -> ([f64; 4], u64) {
    let root = tempfile::tempdir().unwrap();
    let (out, mut seconds, mut most) = (root.path(), Vec::new(), 0);
    let (mut lap, mut began) = (processor_seconds(), Instant::now());
    memory::restart_peak();
    let mut done = |what: &str| {
        let (used, peak) = (processor_seconds() - lap, memory::peak().unwrap_or(0));
        seconds.push(used);
        most = peak.max(most);
        let took = began.elapsed().as_secs_f64();
        println!("{views} views, {what}: {used:.2} s of processor time in {took:.2} s, peak {} MB", peak / 1_000_000);
        memory::restart_peak();
        (lap, began) = (processor_seconds(), Instant::now());
    };
    let options = InferOptions { levels: 2, ..InferOptions::default() };
    let network = BsMvsNet::built_in().unwrap();
    let outline = Outline::of(scene(views), &network, &options, &Progress::new(Style::Quiet)).unwrap();
    done("planned");
    let shards = views / 50;
    outline.divide(&network, (Division::Shards(shards), None), &[]).write(out).unwrap();
    let plan = PlanFile::expect(out).unwrap();
    outline.expect(&plan, out).unwrap();
    drop(outline);
    done("divided, written and read");
    assert_eq!((plan.views.len(), plan.shards.len()), (views, shards));
    assert!(plan.shards.iter().all(|shard| (45..=55).contains(&shard.views) && shard.photos < 400 && shard.memory > 0));

    // Maps of views that are done are records here, since no reader of the folder looks at more.
    let spread = Subfolders::Auto.of(views);
    assert!(views > MOST_IN_A_FOLDER);
    let half: Vec<String> = plan.views[..views / 2].iter().map(|view| view.name.clone()).collect();
    for level in 0..2 {
        let folder = out.join("levels").join(level.to_string());
        for (at, name) in half.iter().map(String::as_str).enumerate() {
            let file = spread.place(&folder, name, "json");
            // Most folders are there before long.
            if fs::write(&file, "").is_err() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, "").unwrap();
            }
            assert!(at % 1000 != 0 || LevelFiles::new(out, level, (name, spread)).is_recorded());
        }
    }
    done("records written");
    drop((plan, half));
    let found = status::look(out).unwrap();
    done("status");
    assert_eq!((found.views, found.mapped, found.merged, found.fused), (views, views / 2, 0, false));
    assert_eq!(found.shards.iter().filter(|shard| shard.mapped == shard.views).count(), shards / 2);
    assert!(found.text().contains(&format!("maps of {} of {views} views", views / 2)), "{}", found.text());

    // Folders that file systems like, though there are thousands of views.
    let level = out.join("levels/0");
    let files: Vec<PathBuf> = listed(&level).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), views / 2);
    let mut counts = BTreeMap::<&Path, usize>::new();
    files.iter().for_each(|file| *counts.entry(file.parent().unwrap()).or_default() += 1);
    let fullest = *counts.values().max().unwrap();
    println!("{views} views: {} folders of at most {fullest} records", counts.len());
    assert!(fullest < views / 2 / 256 * 2 + 20, "{fullest} of {} files in one folder", files.len());
    (seconds.try_into().unwrap(), most)
}

#[test]
fn plans_records_and_status_grow_with_the_views() {
    let (some, _) = simulated(10_000);
    if is_long() {
        let (most, peak) = simulated(1_000_000);
        // The square would be a hundred times as much a view; caches and a busy machine may cost four.
        for (some, most) in some.into_iter().zip(most) {
            assert!(most < 4.0 * 100.0 * some.max(0.01), "{some:.3} s for 10000 views, {most:.1} s for a million");
        }
        // Two kilobytes a view: camera, sources, names.
        assert!(peak < 2_500_000_000, "{peak} bytes");
    }
}

#[test]
fn ten_thousand_and_a_million_views_are_ordered_in_proportion() {
    let mut seconds = Vec::new();
    // A million takes some twenty seconds without optimisation; the night has time for it.
    let large = if is_long() { 1_000_000 } else { 100_000 };
    for views in [10_000, large] {
        let began = Instant::now();
        let order = in_order_of_shared_photos(strips(views));
        seconds.push(began.elapsed().as_secs_f64());
        let mut seen: Vec<usize> = order.iter().map(|job| job.view).collect();
        // Neighbours follow each other: few jumps.
        let share = |pair: &[Job<usize>]| pair[0].photos.iter().any(|photo| pair[1].photos.contains(photo));
        let jumps = order.windows(2).filter(|pair| !share(pair)).count();
        assert!(jumps < views / 100, "{jumps} jumps in {views} views");
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..views));
        let counts = divided(&vec![7; views], 640);
        assert!(counts.iter().all(|&count| count.abs_diff(views / 640) <= 1));
    }
    let ratio = seconds[1] / seconds[0] / (large as f64 / 1e4);
    // The square would be ten times as much at least; caches and a busy machine may cost three.
    assert!(ratio < 5.0, "{seconds:?} s");
    println!("{seconds:?} s for 10000 and {large} views");
}
