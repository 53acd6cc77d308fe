//! How fast scenes are made: samples for training by size, and photos of a DTU-like scan.
//!
//!     cargo bench --bench synth -- [--textures DIR] [--seconds 5] [--threads N]
//!
//! The last line is JSON. Mpixel counts photo pixels; depth of the reference view is included.

use std::time::Instant;

use engine::synth::rig::Rig;
use engine::synth::{Generator, GeneratorOptions};

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
        (Rig::Mixed, 4, (192, 160)),
        (Rig::Mixed, 3, (320, 256)),
        (Rig::Mixed, 5, (640, 512)),
        (Rig::Arc, 5, (1600, 1200)),
    ] {
        let options = GeneratorOptions { rig, views, size, textures: textures.clone(), ..Default::default() };
        let generator = Generator::new(options).expect("readable textures");
        std::hint::black_box(generator.sample(0, false));
        let (began, mut count) = (Instant::now(), 0u64);
        while began.elapsed().as_secs_f64() < seconds {
            count += 1;
            std::hint::black_box(generator.sample(count, false));
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        let megapixels = rate * (views * size.0 * size.1) as f64 / 1e6;
        println!(
            "{views} x {} x {}: {rate:8.2} samples/s {megapixels:6.2} Mpixel/s ({count} samples)",
            size.0, size.1
        );
        results.push(serde_json::json!({
            "views": views, "width": size.0, "height": size.1, "samples_per_second": rate, "megapixels_per_second": megapixels,
        }));
    }
    println!("{}", serde_json::Value::from(results));
}
