//! One view on this processor: photos to depth, timed by stage.

use std::time::Instant;

use super::counts::Counts;
use super::work::{Inputs, Size};
use super::{Group, Measurement, MemoryTaken, Repetitions, Stage, Times, roofs};
use crate::cpu::network::BsMvsNet;
use crate::error::{Error, Result};
use crate::host::memory_limits::Room;
use crate::host::{interrupt, memory};
use crate::net::config::Resolution;
use crate::net::tensor::Tensor;

/// Layers that are timed together, by the name of the probe that ends them; `None`: a probe of a pass that has been
/// timed with another.
///
/// The processor makes the cost volume and what reads it first in one pass.
fn section(probe: &str) -> Option<(String, Group, Vec<&str>)> {
    let name = probe.strip_prefix("regularizer.").unwrap_or(probe);
    let whole = |text: &str, group, layers: &[&'static str]| Some((text.to_owned(), group, layers.to_vec()));
    match name {
        name if name.starts_with("gate") => None,
        // A layer of a block, which shows itself at its end.
        name if name.contains('.') => None,
        "spatial2" => whole("plane sweep, spatial2 + context2, cost_skip", Group::Sweep, &["aggregation", "spatial2"]),
        "context2" | "cost_skip" | "spatial4" | "context_global" | "up4" => None,
        "spatial8" => whole("spatial4, spatial8", Group::Regularizer, &["spatial4", "spatial8"]),
        "arm32" => whole("context_global, arm32", Group::Regularizer, &["context_global", "arm32"]),
        "decode4" => whole("up4, decode4", Group::Regularizer, &["up4", "decode4"]),
        "logits" => None,
        name => Some((name.to_owned(), Group::Regularizer, vec![name])),
    }
}

/// Times of the stages as they come by.
#[derive(Default)]
struct Stopwatch {
    stages: Vec<(String, Group, Vec<String>, Vec<f64>)>,
    next: usize,
    counted: bool,
}

impl Stopwatch {
    fn record(&mut self, name: &str, group: Group, layers: &[&str], seconds: f64) {
        if self.stages.len() <= self.next {
            let layers = layers.iter().map(|&l| l.to_owned()).collect();
            self.stages.push((name.to_owned(), group, layers, Vec::new()));
        }
        if self.counted {
            self.stages[self.next].3.push(seconds);
        }
        self.next += 1;
    }
}

/// Whether photos of this size, and the processor's network (where it is measured), fit into memory: to be asked
/// before they are made.
///
/// # Errors
/// [`Error::Memory`] where they do not.
pub fn expect_room(size: Size, net: Option<&BsMvsNet>, there: &Room) -> Result<()> {
    let photos = (size.views as u64).saturating_mul(photo_bytes(size));
    let needed = net.map_or(photos, |net| planned(net, size));
    if needed <= there.bytes {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "a view of this size needs {}, and {} are available{}; measure a smaller --width, --height or --planes ({})",
        memory::readable(needed),
        memory::readable(there.bytes),
        there.limit,
        there.limit.advice()
    )))
}

/// Bytes that the network plans with for a view of this size, and the photos that are held beside the one that it
/// works on.
pub fn planned(net: &BsMvsNet, size: Size) -> u64 {
    let plan =
        net.memory_plan((size.width, size.height), size.planes, rayon::current_num_threads(), Resolution::Quarter);
    plan.peak(size.views) + (size.views as u64 - 1) * photo_bytes(size)
}

fn photo_bytes(size: Size) -> u64 {
    12 * (size.width * size.height) as u64
}

/// Measures the network on these inputs.
///
/// # Errors
/// [`Error::Interrupted`], the network's.
pub fn measure(net: &BsMvsNet, inputs: &Inputs, repetitions: Repetitions) -> Result<Measurement> {
    let size = inputs.size().check()?;
    let threads = rayon::current_num_threads();
    let planned = planned(net, size);
    memory::restart_peak();
    let sweeps = inputs.sweeps();
    let mut watch = Stopwatch::default();
    let mut totals = Vec::new();
    let (mut depth, mut confidence) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions.warm_up + repetitions.counted {
        interrupt::check()?;
        watch.next = 0;
        watch.counted = repetition >= repetitions.warm_up;
        let start = Instant::now();
        let mut lap = start;
        let maps = inputs.photos.iter();
        let maps = maps.map(|photo| net.features_probed(photo, Resolution::Quarter, &mut |_, _| ()));
        let maps = maps.collect::<Result<Vec<_>>>()?;
        watch.record(Group::Features.name(), Group::Features, &["features"], lap.elapsed().as_secs_f64());
        lap = Instant::now();
        let sources: Vec<_> = maps[1..].iter().zip(sweeps.iter().copied()).collect();
        let mut probe = |name: &str, _: &Tensor| {
            if let Some((name, group, layers)) = section(name) {
                watch.record(&name, group, &layers, lap.elapsed().as_secs_f64());
                lap = Instant::now();
            }
        };
        let out = net.depth_probed(&maps[0], &sources, (&inputs.hypotheses, 0), false, &mut probe)?;
        watch.record(Group::Regression.name(), Group::Regression, &["logits"], lap.elapsed().as_secs_f64());
        if watch.counted {
            totals.push(start.elapsed().as_secs_f64());
        }
        (depth, confidence) = (out.depth.data, out.confidence.data);
        for map in maps {
            net.recycle(map);
        }
    }
    let host_peak = memory::peak();
    net.cpu().trim();
    let counts = Counts::of_view(net.config(), size)?;
    let stages = watch.stages.into_iter().map(|(name, group, layers, times)| {
        let count = counts.fused(&layers);
        let (flops, bytes) = (Some(count.flops), Some(count.bytes));
        Stage { name, group, seconds: Times::new(times), flops, bytes }
    });
    Ok(Measurement {
        device: "cpu".into(),
        precision: "f32",
        threads,
        simd: net.cpu().level().name(),
        seconds: Times::new(totals),
        seconds_with_transfers: None,
        stages: stages.collect(),
        roofs: roofs::host(),
        memory: MemoryTaken { host_peak, planned, device: None },
        depth,
        confidence,
    })
}
