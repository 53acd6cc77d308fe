//! One view on a GPU: the whole of it as one graph, replayed, and timed by the device's own clock.

use std::sync::Arc;
use std::time::Instant;

use super::counts::{Counts, ViewGraph, layers_of_steps, place};
use super::work::Inputs;
use super::{Measurement, MemoryTaken, Repetitions, Stage, Times, roofs};
use crate::cpu::ops::depth::Expectation;
use crate::cuda::driver::{Driver, Stream};
use crate::cuda::folded::Slabs;
use crate::cuda::ops::sweep;
use crate::cuda::program::Program;
use crate::cuda::storage::Element;
use crate::error::Result;
use crate::host::{interrupt, memory};
use crate::net::parameters::Parameters;

/// Runs until nothing changes any more: the first loads kernels, the second records the work.
const LEAST_WARM_UP: usize = 3;

/// Measures the network on these inputs.
///
/// # Errors
/// [`crate::Error::Memory`] where the device has too little, [`crate::Error::Interrupted`], the device's.
pub fn measure(
    driver: &Arc<dyn Driver>,
    parameters: &Parameters,
    inputs: &Inputs,
    element: Element,
    slabs: Slabs,
    repetitions: Repetitions,
) -> Result<Measurement> {
    let size = inputs.size().check()?;
    memory::restart_peak();
    let (free, _) = driver.memory()?;
    let view = ViewGraph::new(parameters, size, element, slabs)?;
    let counts = Counts::new(&view.graph);
    let layers = layers_of_steps(&view.graph);
    let ViewGraph { graph, photos, sources, depths, offsets, middle, depth, confidence } = view;
    let mut program = Program::new(driver, Stream::FIRST, graph)?;

    let pixels: Vec<f32> = inputs.photos.iter().flat_map(|p| p.rgb.iter().copied()).collect();
    let (height, width) = (size.height / 4, size.width / 4);
    let rows: Vec<f32> = inputs.sweeps().iter().flat_map(|sweep| sweep::source_row(sweep, height, width)).collect();
    let planes: Vec<f32> = inputs.hypotheses.depths.iter().map(|&d| d as f32).collect();
    let expectation = Expectation::new(&inputs.hypotheses);
    let put = |program: &Program| -> Result<()> {
        program.upload(photos, bytemuck::cast_slice(&pixels))?;
        program.upload(sources, bytemuck::cast_slice(&rows))?;
        program.upload(depths, bytemuck::cast_slice(&planes))?;
        program.upload(offsets, bytemuck::cast_slice(expectation.offsets()))?;
        program.upload(middle, &expectation.middle().to_le_bytes())
    };
    let get = |program: &Program| -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((program.download_f32(depth)?, program.download_f32(confidence)?))
    };

    put(&program)?;
    for _ in 0..repetitions.warm_up.max(LEAST_WARM_UP) {
        program.run()?;
    }
    program.synchronize()?;
    let mut seconds = Vec::new();
    for _ in 0..repetitions.counted {
        interrupt::check()?;
        let begin = driver.event(Stream::FIRST)?;
        program.run()?;
        let end = driver.event(Stream::FIRST)?;
        program.synchronize()?;
        seconds.push(f64::from(end.milliseconds_since(&*begin)?) / 1e3);
    }
    let (mut with_transfers, mut maps) = (Vec::new(), (Vec::new(), Vec::new()));
    for _ in 0..repetitions.counted {
        interrupt::check()?;
        let start = Instant::now();
        put(&program)?;
        program.run()?;
        maps = get(&program)?;
        with_transfers.push(start.elapsed().as_secs_f64());
    }
    let stages = stages(&program, &counts, &layers, repetitions)?;

    let (left, _) = driver.memory()?;
    let taken = MemoryTaken {
        host_peak: memory::peak(),
        planned: program.placement().arena + program.placement().lasting,
        device: (left <= free).then(|| free - left),
    };
    drop(program);
    Ok(Measurement {
        device: driver.name(),
        precision: element.suffix(),
        threads: rayon::current_num_threads(),
        simd: crate::cpu::network::simd_level(),
        seconds: Times::new(seconds),
        seconds_with_transfers: Some(Times::new(with_transfers)),
        stages,
        roofs: roofs::device(driver, element)?,
        memory: taken,
        depth: maps.0,
        confidence: maps.1,
    })
}

/// Every layer's time, in the order in which they begin.
fn stages(program: &Program, counts: &Counts, layers: &[String], repetitions: Repetitions) -> Result<Vec<Stage>> {
    let mut order: Vec<&str> = Vec::new();
    for layer in layers {
        if !order.contains(&layer.as_str()) {
            order.push(layer);
        }
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); order.len()];
    for repetition in 0..=repetitions.counted {
        interrupt::check()?;
        let steps = program.timed()?;
        // Launched one by one for the first time: not counted.
        if repetition == 0 {
            continue;
        }
        for (layer, times) in order.iter().zip(&mut times) {
            let of_layer = steps.iter().zip(layers).filter(|(_, of)| of == layer);
            times.push(of_layer.map(|(milliseconds, _)| f64::from(*milliseconds) / 1e3).sum());
        }
    }
    let stage = |(layer, times): (&str, Vec<f64>)| {
        let (group, name) = place(layer);
        let count = counts.by_steps(layer);
        let (flops, bytes) = (Some(count.flops), Some(count.bytes));
        Stage { name: name.to_owned(), group, seconds: Times::new(times), flops, bytes }
    };
    Ok(order.into_iter().zip(times).map(stage).collect())
}
