//! The plane sweep as ops on the tape: feature maps of all views to the cost volume ([`crate::cpu::ops::sweep`]), and
//! to the pixel gate's statistics.
//!
//! The warped volumes, the largest of all, are never stored: backward computes them again
//! ([`crate::cpu::ops::sweep_backward`]). What is saved is the feature maps and the gate's few parameters.

use crate::cpu::device::Cpu;
use crate::cpu::ops::narrow::Around;
use crate::cpu::ops::pixel_statistics::pixel_statistics;
use crate::cpu::ops::pixel_statistics_backward::pixel_statistics_backward;
use crate::cpu::ops::sweep::{self, Aggregation, Search, Sweep, VoxelGate, transposed};
use crate::cpu::ops::sweep_backward::cost_volume_backward;
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::net::config::{self, Difference};
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// Hidden channels of the voxel gate.
const HIDDEN: usize = 8;

/// Where the reference's pixels lie in the source views, at every hypothesis.
#[derive(Clone)]
pub struct Rays {
    /// One for each source view, in the order of the feature maps after the reference's.
    pub sweeps: Vec<PlaneSweep>,
    /// The hypotheses.
    pub hypotheses: Searched,
}

/// The hypotheses of a cost volume, but for the guess, which is an input.
#[derive(Clone)]
pub enum Searched {
    /// The same depths at all pixels.
    Planes(Vec<f32>),
    /// A few around a guess.
    Around(Around),
}

/// The planes of a tensor [D, H, W, C], one tensor [1, H, W, C] each.
pub fn planes(cpu: &Cpu, all: &Tensor) -> Vec<Tensor> {
    let plane = Shape { d: 1, ..all.shape };
    let one = |values: &[f32]| {
        let mut one = cpu.tensor(plane);
        one.data.copy_from_slice(values);
        one
    };
    all.data.chunks_exact(plane.len().max(1)).map(one).collect()
}

/// Planes as one tensor of this shape; theirs go back to the pool.
pub fn joined(cpu: &Cpu, shape: Shape, planes: Vec<Tensor>) -> Tensor {
    let mut all = cpu.tensor(shape);
    let len = shape.len() / shape.d;
    for (part, plane) in all.data.chunks_exact_mut(len).zip(planes) {
        part.copy_from_slice(&plane.data);
        cpu.recycle(plane);
    }
    all
}

impl Rays {
    /// The feature maps [V, H, W, 32], one tensor a view.
    fn maps(&self, cpu: &Cpu, features: &Tensor) -> Result<Vec<Tensor>> {
        if features.shape.d == self.sweeps.len() + 1 {
            return Ok(planes(cpu, features));
        }
        let problem = format!("feature maps {} for a reference and {} sources", features.shape, self.sweeps.len());
        Err(Error::Shape { op: "plane sweep", problem })
    }

    /// Runs `work` on the sweep over these maps; `guess` is where there is one to search around.
    fn sweep<T>(
        &self,
        maps: &[Tensor],
        guess: Option<&Tensor>,
        aggregation: Aggregation,
        difference: Difference,
        work: impl FnOnce(&Sweep) -> Result<T>,
    ) -> Result<T> {
        let sources: Vec<_> = maps[1..].iter().zip(self.sweeps.iter().copied()).collect();
        let squared = difference == Difference::Squared;
        let search = match (&self.hypotheses, guess) {
            (Searched::Planes(depths), _) => Search::Planes(depths),
            (Searched::Around(around), Some(guess)) => {
                Search::Around { guess, offsets: &around.offsets, spacing: around.spacing, top: 0 }
            }
            (Searched::Around(_), None) => {
                return Err(Error::Bug { place: "plane sweep", problem: "no guess to search around".into() });
            }
        };
        work(&Sweep { reference: &maps[0], sources: &sources, search, aggregation, squared })
    }
}

/// The cost volume [D, H, W, C] as an op. Inputs: the features [V, H, W, C], the reference's first; what weighs the
/// sources: of a gate per voxel reduce.weight (8 x C), reduce.bias (8), weight.weight (8) and weight.bias (1); the
/// weights per pixel, [S, H, W, 1]; otherwise nothing; and last, where one is searched around, a guess [1, H, W, 1].
pub struct CostVolumeOp {
    /// Cameras and depths.
    pub rays: Rays,
    /// What a difference is.
    pub difference: Difference,
    /// How sources are weighted.
    pub aggregation: config::Aggregation,
}

/// The inputs that weigh the sources, as the sweep takes them.
type Weights = config::Aggregation<VoxelGate, Vec<Tensor>>;

fn borrowed(weights: &Weights) -> Aggregation<'_> {
    match weights {
        Weights::Voxel(gate) => Aggregation::Voxel(gate),
        Weights::Pixel(weights) => Aggregation::Pixel(weights),
        Weights::Mean => Aggregation::Mean,
        Weights::Variance => Aggregation::Variance,
    }
}

impl CostVolumeOp {
    fn searches(&self) -> bool {
        matches!(self.rays.hypotheses, Searched::Around(_))
    }

    /// The guess, and the inputs before it.
    fn split<'t, 'i>(&self, inputs: &'i [&'t Tensor]) -> (&'i [&'t Tensor], Option<&'t Tensor>) {
        match inputs.split_last() {
            Some((guess, rest)) if self.searches() => (rest, Some(guess)),
            _ => (inputs, None),
        }
    }

    fn weights(&self, cpu: &Cpu, channels: usize, inputs: &[&Tensor]) -> Result<Weights> {
        Ok(match self.aggregation {
            config::Aggregation::Mean => Weights::Mean,
            config::Aggregation::Variance => Weights::Variance,
            config::Aggregation::Voxel(()) => {
                let lengths = [channels * HIDDEN, HIDDEN, HIDDEN, 1];
                if inputs.len() != 4 || inputs.iter().zip(lengths).any(|(t, n)| t.data.len() != n) {
                    let found: Vec<usize> = inputs.iter().map(|t| t.data.len()).collect();
                    let problem = format!("gate parameters of {found:?} values, expected {lengths:?}");
                    return Err(Error::Shape { op: "plane sweep", problem });
                }
                let [reduce, reduce_bias, weight, weight_bias] = [0, 1, 2, 3].map(|i| &inputs[i].data);
                Weights::Voxel(VoxelGate::new(reduce, reduce_bias, weight, weight_bias[0]))
            }
            config::Aggregation::Pixel(()) => Weights::Pixel(planes(cpu, inputs[0])),
        })
    }
}

impl Op for CostVolumeOp {
    fn name(&self) -> &'static str {
        "plane sweep"
    }

    fn saves(&self) -> Saves {
        // With a guess, one more.
        Saves::inputs(match (self.aggregation, self.searches()) {
            (config::Aggregation::Voxel(()), true) => &[0, 1, 2, 3, 4, 5],
            (config::Aggregation::Voxel(()), false) => &[0, 1, 2, 3, 4],
            (config::Aggregation::Pixel(()), true) => &[0, 1, 2],
            (config::Aggregation::Pixel(()), false) | (_, true) => &[0, 1],
            (config::Aggregation::Mean | config::Aggregation::Variance, false) => &[0],
        })
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let (inputs, guess) = self.split(inputs);
        let maps = self.rays.maps(cpu, inputs[0])?;
        let weights = self.weights(cpu, inputs[0].shape.c, &inputs[1..])?;
        let made = |sweep: &Sweep| sweep::cost_volume(cpu, sweep);
        let cost = self.rays.sweep(&maps, guess, borrowed(&weights), self.difference, made);
        maps.into_iter().for_each(|map| cpu.recycle(map));
        cost
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.saves().inputs.iter().map(|&i| saved.input(i)).collect::<Result<Vec<_>>>()?;
        let (inputs, guess) = self.split(&inputs);
        let channels = inputs[0].shape.c;
        let maps = self.rays.maps(cpu, inputs[0])?;
        let weights = self.weights(cpu, channels, &inputs[1..])?;
        let back = |sweep: &Sweep| cost_volume_backward(cpu, sweep, &dy);
        let found = self.rays.sweep(&maps, guess, borrowed(&weights), self.difference, back)?;
        cpu.recycle(dy);
        maps.into_iter().for_each(|map| cpu.recycle(map));
        let all = std::iter::once(found.reference).chain(found.sources).collect();
        let mut parts = vec![Some(joined(cpu, saved.shape(0), all))];
        if let Some(gate) = found.gate {
            let values: [&[f32]; 4] =
                [&transposed(&gate.reduce, channels, HIDDEN), &gate.reduce_bias, &gate.weight, &[gate.weight_bias]];
            for (i, values) in values.into_iter().enumerate() {
                parts.push(Some(Tensor::from_slice(saved.shape(i + 1), values)?));
            }
        }
        if self.aggregation == config::Aggregation::Pixel(()) {
            parts.push(Some(joined(cpu, saved.shape(1), found.weights)));
        }
        // The guess is a constant.
        parts.extend(guess.map(|_| None));
        Ok(parts)
    }
}

/// For the pixel gate, maximum and mean over the planes of the channel-mean |difference| of every source, [S, H, W,
/// 2], as an op: input the features [V, H, W, 32].
pub struct PixelStatisticsOp {
    /// Cameras and depths.
    pub rays: Rays,
    /// What a difference is.
    pub difference: Difference,
}

impl Op for PixelStatisticsOp {
    fn name(&self) -> &'static str {
        "pixel statistics"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let maps = self.rays.maps(cpu, inputs[0])?;
        let statistics = (0..self.rays.sweeps.len())
            .map(|source| {
                self.rays.sweep(&maps, None, Aggregation::Mean, self.difference, |sweep| {
                    pixel_statistics(cpu, sweep, source)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        maps.into_iter().for_each(|map| cpu.recycle(map));
        let shape = Shape { d: statistics.len(), c: 2, ..inputs[0].shape };
        Ok(joined(cpu, shape, statistics))
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let features = saved.input(0)?;
        let maps = self.rays.maps(cpu, features)?;
        let Shape { h, w, c, .. } = dy.shape;
        let mut all: Vec<Tensor> = Vec::with_capacity(maps.len());
        for (source, gradient) in dy.data.chunks_exact(h * w * c).enumerate() {
            let gradient = Tensor::from_slice(Shape { d: 1, h, w, c }, gradient)?;
            let (reference, own) = self.rays.sweep(&maps, None, Aggregation::Mean, self.difference, |sweep| {
                pixel_statistics_backward(cpu, sweep, source, &gradient)
            })?;
            match all.first_mut() {
                None => all.push(reference),
                Some(sum) => {
                    crate::cpu::device::add(sum, &reference);
                    cpu.recycle(reference);
                }
            }
            all.push(own);
        }
        cpu.recycle(dy);
        maps.into_iter().for_each(|map| cpu.recycle(map));
        Ok(vec![Some(joined(cpu, features.shape, all))])
    }
}
