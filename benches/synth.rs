//! How fast scenes are made: samples for training by size, and photos of a DTU-like scan, with the processor time that
//! each stage takes.
//!
//!     cargo bench --bench synth -- [--textures DIR] [--seconds 5] [--threads N]
//!
//! The last line is JSON. Mpixel counts photo pixels; depth of the reference view is included. Rates are by the clock;
//! the milliseconds a sample are processor time of all threads where the system tells it (Linux), so that they hold on
//! a busy machine, too. It is counted in ticks of some milliseconds: short stages need many samples (`--seconds 30`).

use std::time::{Duration, Instant};

use engine::synth::rig::Rig;
use engine::synth::{Generator, GeneratorOptions, Truth};

/// What a sample consists of, in the order of its making.
const STAGES: [&str; 4] = ["scene", "photos", "depth", "sources"];

/// Processor time of all threads so far, or the time by the clock where the system does not tell.
fn processor_time(began: Instant) -> Duration {
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let text = std::fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let nanoseconds: Option<u64> =
        std::fs::read_dir("/proc/self/task").ok().and_then(|tasks| tasks.map(of_thread).sum());
    nanoseconds.map_or(began.elapsed(), Duration::from_nanos)
}

fn main() {
    let (mut textures, mut seconds, mut threads) = (None, 5.0, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--textures" => textures = Some(value().into()),
            "--seconds" => seconds = value().parse().expect("a number"),
            "--threads" => threads = value().parse().expect("a number"),
            "--bench" => {} // what cargo adds
            other => panic!("unknown option {other}"),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads");
    println!("{} threads", rayon::current_num_threads());
    let mut results = Vec::new();
    for (rig, views, size) in [
        (Rig::Mixed, 3, (160, 128)),
        (Rig::Mixed, 5, (256, 192)),
        (Rig::Mixed, 3, (320, 256)),
        (Rig::Mixed, 5, (640, 512)),
        (Rig::Arc, 5, (1600, 1200)),
    ] {
        let options = GeneratorOptions { rig, views, size, textures: textures.clone(), ..Default::default() };
        let generator = Generator::new(options).expect("readable textures");
        std::hint::black_box(generator.sample(0, Truth::OfReference));
        let (began, mut count) = (Instant::now(), 0u64);
        let before = processor_time(began);
        while began.elapsed().as_secs_f64() < seconds {
            count += 1;
            std::hint::black_box(generator.sample(count, Truth::OfReference));
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        let whole = (processor_time(began) - before).as_secs_f64() * 1e3 / count as f64;
        // The same samples again, stage by stage.
        let mut stages = [Duration::ZERO; STAGES.len()];
        let (began, mut split) = (Instant::now(), 0u64);
        while split < count && began.elapsed().as_secs_f64() < seconds {
            split += 1;
            let mut last = processor_time(began);
            let mut lap = |stage: usize| {
                let now = processor_time(began);
                stages[stage] += now - last;
                last = now;
            };
            let scene = generator.scene(split);
            lap(0);
            (0..views).for_each(|v| drop(std::hint::black_box(scene.photo(v))));
            lap(1);
            std::hint::black_box(scene.depth(0, 4));
            lap(2);
            std::hint::black_box(scene.views());
            lap(3);
        }
        let stages = stages.map(|time| time.as_secs_f64() * 1e3 / split as f64);
        let megapixels = rate * (views * size.0 * size.1) as f64 / 1e6;
        let listed = STAGES.iter().zip(stages).map(|(name, ms)| format!("{name} {ms:.2}"));
        println!(
            "{views} x {} x {}: {rate:8.2} samples/s {megapixels:6.2} Mpixel/s; {whole:.1} ms a sample: {} ({count} \
             samples)",
            size.0,
            size.1,
            listed.collect::<Vec<_>>().join(", ")
        );
        results.push(serde_json::json!({
            "views": views, "width": size.0, "height": size.1, "samples_per_second": rate,
            "megapixels_per_second": megapixels, "processor_ms": whole, "scene_ms": stages[0], "photos_ms": stages[1],
            "depth_ms": stages[2], "sources_ms": stages[3],
        }));
    }
    println!("{}", serde_json::Value::from(results));
}
