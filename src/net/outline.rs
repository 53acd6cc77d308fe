//! The network without numbers: the model run over shapes, for the list of its layers and of their tensors.

use super::config::{Aggregation, Config, Difference};
use super::layers::{Conv, Depthwise, Layers, NarrowLayers, VoxelGate, Weighting};
use super::stage::{self, Stage};
use super::tensor::Shape;
use super::{model, narrow};
use crate::error::Result;

/// A layer with tensors of its own, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A convolution with bias.
    Conv(Conv),
    /// A convolution before a batch norm.
    ConvBn(Conv),
    /// Two of one kernel on the same input.
    Pair([Conv; 2]),
    /// A depthwise convolution.
    Depthwise(Depthwise),
    /// The gate of eq. 5.
    VoxelGate(VoxelGate),
    /// The last convolution of the skip decoder, whose output is the logits.
    Logits(Conv),
}

/// A tensor's name and shape in PyTorch's order.
pub type NamedShape = (String, Vec<usize>);

/// What follows a convolution's name in those of its batch norm's tensors: gamma, beta, running mean and variance.
pub const NORM: [&str; 4] = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];

impl Layer {
    /// Its tensors, weights before biases.
    pub fn tensors(&self) -> Vec<NamedShape> {
        let biased = |c: &Conv| {
            vec![(format!("{}.weight", c.name), c.weight_shape()), (format!("{}.bias", c.name), vec![c.channels.1])]
        };
        let normed = |c: &Conv| {
            let mut all = vec![(format!("{}.conv.weight", c.name), c.weight_shape())];
            all.extend(NORM.map(|what| (format!("{}.{what}", c.name), vec![c.channels.1])));
            all
        };
        match self {
            Self::Conv(c) | Self::Logits(c) => biased(c),
            Self::ConvBn(c) => normed(c),
            Self::Pair(pair) => pair.iter().flat_map(normed).collect(),
            Self::Depthwise(d) => vec![(format!("{}.weight", d.name), vec![d.channels, 1, 3, 3, 3])],
            Self::VoxelGate(gate) => [&gate.reduce, &gate.weight].into_iter().flat_map(biased).collect(),
        }
    }
}

/// All layers of a configuration in the order in which data flow, each with its input's shape, for a photo of
/// `height` x `width` and `planes` hypotheses.
///
/// # Errors
/// Never for a model that is consistent.
pub fn layers(config: Config, height: usize, width: usize, planes: usize) -> Result<Vec<(Layer, Shape)>> {
    let mut outline = Outline::default();
    let features = model::features(&mut outline, config.resolution, Shape::plane(height, width, 3))?;
    let views = Shape { d: planes, ..features.quarter };
    model::depth(&mut outline, config, &views)?;
    for stage in stage::stages(config.resolution) {
        narrow::refine(&mut outline, stage, &Shape::plane(height, width, 3), &())?;
    }
    Ok(outline.layers)
}

/// Names and shapes of a configuration's tensors.
///
/// # Errors
/// As [`layers`].
pub fn tensors(config: Config) -> Result<Vec<NamedShape>> {
    Ok(layers(config, 4, 4, 1)?.iter().flat_map(|(layer, _)| layer.tensors()).collect())
}

/// The executor; a value is its shape, the views are the cost volume's.
#[derive(Default)]
struct Outline {
    layers: Vec<(Layer, Shape)>,
}

impl Outline {
    fn dense(&mut self, layer: Layer, conv: &Conv, x: Shape) -> Shape {
        self.layers.push((layer, x));
        conv.output_shape(x)
    }
}

impl Layers for Outline {
    type Value = Shape;
    type Views = Shape;
    type Estimate = ();

    fn shape(&self, x: &Shape) -> Shape {
        *x
    }

    fn conv(&mut self, layer: Conv, x: Shape) -> Result<Shape> {
        Ok(self.dense(Layer::Conv(layer.clone()), &layer, x))
    }

    fn conv_bn(&mut self, layer: Conv, x: Shape) -> Result<Shape> {
        Ok(self.dense(Layer::ConvBn(layer.clone()), &layer, x))
    }

    fn conv_bn_add(&mut self, _: &str, layer: Conv, x: Shape, _: Shape) -> Result<Shape> {
        self.conv_bn(layer, x)
    }

    fn depthwise(&mut self, layer: Depthwise, x: Shape) -> Result<Shape> {
        let y = if layer.stride == 2 { x.halved() } else { x };
        self.layers.push((Layer::Depthwise(layer), x));
        Ok(y)
    }

    fn upsample(&mut self, _: &str, x: Shape, _: usize, size: Shape) -> Result<Shape> {
        Ok(size.with_channels(x.c))
    }

    fn upsample_add(&mut self, _: &str, _: Shape, skip: Shape) -> Result<Shape> {
        Ok(skip)
    }

    fn volume_mean(&mut self, _: &str, x: Shape) -> Result<Shape> {
        Ok(Shape::plane(1, 1, x.c))
    }

    fn plane_mean(&mut self, _: &str, x: Shape) -> Result<Shape> {
        Ok(Shape { h: 1, w: 1, ..x })
    }

    fn refine(&mut self, _: &str, x: Shape, _: Shape) -> Result<Shape> {
        Ok(x)
    }

    fn excite(&mut self, _: &str, x: Shape, _: Shape) -> Result<Shape> {
        Ok(x)
    }

    fn add_vector(&mut self, _: &str, x: Shape, _: Shape) -> Result<Shape> {
        Ok(x)
    }

    fn concat(&mut self, _: &str, a: Shape, b: Shape) -> Result<Shape> {
        Ok(a.with_channels(a.c + b.c))
    }

    fn volume(&self, views: &Shape) -> Shape {
        *views
    }

    fn pixel_statistics(&mut self, _: &str, views: &Shape, _: Difference) -> Result<Shape> {
        Ok(Shape { d: 1, c: 2, ..*views })
    }

    fn cost(
        &mut self,
        views: &Shape,
        _: Difference,
        weighting: Weighting<Shape>,
        first: [Conv; 2],
    ) -> Result<[Shape; 2]> {
        if let Aggregation::Voxel(gate) = weighting {
            self.layers.push((Layer::VoxelGate(gate), *views));
        }
        let read = first.each_ref().map(|conv| conv.output_shape(*views));
        self.layers.push((Layer::Pair(first), *views));
        Ok(read)
    }

    fn cost_and_skip(
        &mut self,
        views: &Shape,
        difference: Difference,
        weighting: Weighting<Shape>,
        first: [Conv; 2],
        skip: Conv,
    ) -> Result<([Shape; 2], Shape)> {
        Ok((self.cost(views, difference, weighting, first)?, self.conv(skip, *views)?))
    }

    fn regress_skip(&mut self, _: &Shape, logits: Conv, _: Shape, skip: Shape) -> Result<()> {
        self.layers.push((Layer::Logits(logits), skip));
        Ok(())
    }

    fn regress_trilinear(&mut self, _: &Shape, _: &str, _: Shape) -> Result<()> {
        Ok(())
    }
}

/// Of the narrow stages the views are the photo.
impl NarrowLayers for Outline {
    fn inverse_depth(&mut self, (): &()) -> Result<Shape> {
        Ok(Shape::plane(1, 1, 1))
    }

    fn reference(&mut self, photo: &Shape, stage: &Stage) -> Result<Shape> {
        Ok(Shape::plane(photo.h / stage.step, photo.w / stage.step, stage.channels))
    }

    fn upsample_convex(&mut self, _: &str, _: Shape, weights: Shape) -> Result<Shape> {
        Ok(Shape::plane(2 * weights.h, 2 * weights.w, 1))
    }

    fn narrow_cost(&mut self, photo: &Shape, stage: &Stage, _: &Shape, gate: VoxelGate) -> Result<Shape> {
        let cost = Shape { d: stage.hypotheses, ..self.reference(photo, stage)? };
        self.layers.push((Layer::VoxelGate(gate), cost));
        Ok(cost)
    }

    fn regress_narrow(
        &mut self,
        _: &Shape,
        _: &Stage,
        (): &(),
        _: Shape,
        logits: Conv,
        _: Shape,
        skip: Shape,
    ) -> Result<()> {
        self.layers.push((Layer::Logits(logits), skip));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::config::{Decoder, Resolution};
    use crate::net::model::CHANNELS;

    #[test]
    fn the_outline_has_the_papers_shapes() {
        let config = Config {
            aggregation: Aggregation::Voxel(()),
            difference: Difference::Squared,
            decoder: Decoder::Skip,
            resolution: Resolution::Full,
        };
        let all = layers(config, 1200, 1600, 192).unwrap();
        let input = |name: &str| {
            let found = all.iter().find(|(layer, _)| layer.tensors()[0].0.starts_with(name));
            found.unwrap_or_else(|| panic!("no layer {name}")).1
        };
        assert_eq!(input("features.output."), Shape { d: 1, h: 300, w: 400, c: 32 });
        assert_eq!(input("regularizer.spatial2."), Shape { d: 192, h: 300, w: 400, c: CHANNELS });
        assert_eq!(input("regularizer.fusion.merge."), Shape { d: 24, h: 38, w: 50, c: 128 });
        assert_eq!(input("regularizer.logits."), Shape { d: 192, h: 300, w: 400, c: 8 });
        let names: Vec<String> = tensors(config).unwrap().into_iter().map(|(name, _)| name).collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len(), "no tensor belongs to two layers");
    }
}
