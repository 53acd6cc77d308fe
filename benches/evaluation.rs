//! The evaluation of a point cloud on this processor: seconds and points a second of each step, and peak memory.
//!
//!     cargo bench --bench evaluation -- [--prediction 30000000] [--reference 20000000] [--threads N]
//!
//! A wavy surface of 600 x 600 mm. The reference lies on it; the prediction with 0.3 mm of noise, one point in twenty
//! anywhere in the box. One run: at these sizes it varies little. The last line is JSON.

use std::time::Instant;

use engine::evaluation::dtu::{DtuSettings, OUTLIER, ObservabilityMask, Reference, THINNING, evaluate};
use engine::evaluation::nearest::Tree;
use engine::evaluation::thinning::thin;
use engine::files::ply_storage::Storage;
use engine::files::{ply, ply_points};
use engine::host::memory;
use engine::host::random::Random;
use rayon::prelude::*;

struct Options {
    prediction: usize,
    reference: usize,
    threads: usize,
}

impl Options {
    fn parse() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut o = Self { prediction: 30_000_000, reference: 20_000_000, threads };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let number = match argument.as_str() {
                "--prediction" => &mut o.prediction,
                "--reference" => &mut o.reference,
                "--threads" => &mut o.threads,
                // What cargo itself passes.
                "--bench" => continue,
                other => panic!("{other}: no such option; see the head of benches/evaluation.rs"),
            };
            let value = arguments.next().and_then(|v| v.parse().ok()).filter(|n| *n > 0);
            *number = value.unwrap_or_else(|| panic!("{argument} needs a number above 0"));
        }
        o
    }
}

/// Points of the surface in the order of photos' rows, with noise, and so many percent anywhere.
fn points(count: usize, noise: f64, astray: f64, purpose: u64) -> Vec<[f64; 3]> {
    let row = (count as f64).sqrt() as usize;
    let point = |i: usize| {
        let mut random = Random::new(&[purpose, i as u64]);
        if random.chance(astray) {
            return [0; 3].map(|_| random.range(-300.0, 300.0));
        }
        let [x, y] = [i % row, i / row].map(|v| (v as f64 + random.unit()) / row as f64 * 600.0 - 300.0);
        let z = 80.0 * (x / 90.0).sin() * (y / 70.0).cos();
        [x, y, z].map(|v| v + noise * random.normal())
    };
    (0..count).into_par_iter().map(point).collect()
}

/// Runs a step and prints what it took for so many points.
fn timed<T>(name: &str, count: usize, report: &mut Vec<String>, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let made = run();
    let seconds = began.elapsed().as_secs_f64();
    println!("{name:<44} {seconds:8.2} s {:8.2} million points/s", count as f64 / seconds / 1e6);
    report.push(format!("\"{name}\": {seconds:.3}"));
    made
}

fn main() {
    let o = Options::parse();
    rayon::ThreadPoolBuilder::new().num_threads(o.threads).build_global().expect("threads");
    println!("prediction {}, reference {}, {} threads", o.prediction, o.reference, o.threads);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prediction.ply");
    ply::write_coloured(&file, &points(o.prediction, 0.3, 0.05, 1), |_| [0; 3], Storage::default(), &[])
        .expect("written");
    let mut report = Vec::new();

    let read = || ply_points::read(&file).expect("read").points;
    let prediction = timed("reading the prediction", o.prediction, &mut report, read);
    let surface = points(o.reference, 0.0, 0.0, 2);
    {
        let thinned = timed("thinning the prediction", o.prediction, &mut report, || thin(&prediction, THINNING, 0));
        let count = thinned.len();
        let data = timed("tree of the thinned prediction", count, &mut report, || Tree::new(thinned));
        let stl = surface.clone();
        let stl = timed("tree of the reference", o.reference, &mut report, || Tree::new(stl));
        timed("distances from the thinned prediction", count, &mut report, || stl.distances(data.points(), OUTLIER));
        timed("distances from the reference", o.reference, &mut report, || data.distances(stl.points(), OUTLIER));
        timed("distances from the unthinned, in file order", o.prediction, &mut report, || {
            stl.distances(&prediction, OUTLIER)
        });
    }
    let mask = ObservabilityMask {
        min: [-300.0; 3],
        max: [300.0; 3],
        resolution: 4.0,
        size: [151; 3],
        seen: vec![1; 151 * 151 * 151],
    };
    let reference = Reference { points: surface, mask, plane: [0.0, 0.0, 0.0, 1.0] };
    let all = o.prediction + o.reference;
    let scan = timed("a whole scan", all, &mut report, || evaluate(prediction, reference, DtuSettings::default()));
    let n = scan.numbers;
    println!("thinned to {}, accuracy {:.4}, completeness {:.4}", n.thinned, n.accuracy.mean, n.completeness.mean);
    if let Some(peak) = memory::peak() {
        println!("peak memory {}", memory::readable(peak));
        report.push(format!("\"peak_bytes\": {peak}"));
    }
    println!("{{{}}}", report.join(", "));
}
