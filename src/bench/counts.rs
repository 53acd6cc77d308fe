//! How much arithmetic and memory traffic a view is, counted on its graph: the same numbers for every device.
//!
//! Arithmetic is what the graph's steps say of themselves. Traffic is the least that memory must see: a tensor that a
//! layer reads counts once however often it is read again from a cache, and one that it writes counts once. Where
//! layers run as one pass ([`Counts::fused`]), what they hand on to each other needs no memory and is not counted.

use std::collections::{BTreeMap, BTreeSet};

use super::Group;
use super::work::Size;
use crate::cuda::folded::{Folded, FoldedViews, NarrowViews, Slabs};
use crate::cuda::graph::{Arg, Graph, Kind, Value};
use crate::cuda::layers::DeviceLayers;
use crate::cuda::narrow as cuda_narrow;
use crate::cuda::ops::head::Depths;
use crate::cuda::ops::{image, narrow, narrow_gradient, sweep};
use crate::cuda::storage::Element;
use crate::error::Result;
use crate::net::confidence::{DEVICE_HEAD, NARROW};
use crate::net::config::{Config, Resolution};
use crate::net::parameters::Parameters;
use crate::net::tensor::Shape;
use crate::net::{model, stage};

/// The whole view as one graph: photos to depth and confidence.
pub struct ViewGraph {
    /// Its steps.
    pub graph: Graph,
    /// [V, H, W, 3] f32 in 0..1, the reference's first.
    pub photos: Value,
    /// [S, 1, 1, 16].
    pub sources: Value,
    /// D values, f32.
    pub depths: Value,
    /// D values, f32, see [`crate::cpu::ops::depth::Expectation`].
    pub offsets: Value,
    /// One f64.
    pub middle: Value,
    /// [H/4, W/4], or as fine as the graph goes.
    pub depth: Value,
    /// As depth.
    pub confidence: Value,
}

impl ViewGraph {
    /// All photos are normalised and go through the features as one batch.
    ///
    /// # Errors
    /// Where the parameters are not those of this network, or the photos' sides are no multiples of 4.
    pub fn new(parameters: &Parameters, size: Size, element: Element, slabs: Slabs) -> Result<Self> {
        Self::up_to(Resolution::Quarter, parameters, size, element, slabs)
    }

    /// The same with narrow stages, whose cameras, spacings and coefficients nobody fills in: to be counted, not run.
    ///
    /// # Errors
    /// As [`ViewGraph::new`].
    pub fn up_to(
        finest: Resolution,
        parameters: &Parameters,
        size: Size,
        element: Element,
        slabs: Slabs,
    ) -> Result<Self> {
        let mut graph = Graph::new();
        let list = |n: usize| Shape::plane(1, 1, n);
        let photo = Shape { d: size.views, ..Shape::plane(size.height, size.width, 3) };
        let photos = graph.input("photos", photo, Element::F32);
        let sources = graph.input("sources", Shape { d: size.views - 1, ..list(16) }, Element::F32);
        let depths = graph.input("depths", list(size.planes), Element::F32);
        let expectation = Depths {
            expected: None,
            offsets: graph.input("depth offsets", list(size.planes), Element::F32),
            middle: graph.input("middle depth", list(1), Element::F64),
            inverse: false,
        };
        let image = image::normalise(&mut graph, "features", photos, element)?;
        let mode = Folded { parameters, file: "bench", element, library: None };
        let mut layers = DeviceLayers { graph: &mut graph, mode };
        let features = model::features(&mut layers, finest, image)?;
        let sweep = sweep::Views { features: features.quarter, sources, depths, squared: false, reference: None };
        let views = FoldedViews { sweep, depths: expectation, slabs, keep_logits: false, narrow: None };
        let mut made = model::depth(&mut layers, parameters.config, &views)?;
        for stage in stage::stages(finest) {
            let Some(&stack) = features.of_stage(stage) else { continue };
            let name = |what: &str| format!("{} {what}", stage.name);
            let graph = &mut *layers.graph;
            let own = narrow::Views {
                reference: narrow_gradient::first(graph, stage.name, stack)?,
                sources: stack,
                first: 1,
                rows: graph.input(name("cameras"), Shape { d: size.views - 1, ..list(16) }, Element::F32),
                spacing: graph.input(name("spacing"), list(2), Element::F32),
                top: 0,
            };
            let judge = graph.input(name("confidence"), list(DEVICE_HEAD + NARROW), Element::F32);
            let own = NarrowViews { sweep: own, judge, step: stage.step };
            made = cuda_narrow::refine(&mut layers, stage, &FoldedViews { narrow: Some(own), ..views }, &made)?;
        }
        graph.keep(made.depth);
        graph.keep(made.confidence);
        let Depths { offsets, middle, .. } = expectation;
        let (depth, confidence) = (made.depth, made.confidence);
        Ok(Self { graph, photos, sources, depths, offsets, middle, depth, confidence })
    }
}

/// Which stage a step belongs to, by its label: `features`, `aggregation`, `logits`, or the layer's name in the
/// regularizer.
pub fn layer_of(label: &str) -> &str {
    let mut parts = label.split('.');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("features", _) => "features",
        ("gate" | "aggregation", _) => "aggregation",
        ("regularizer", Some(layer)) => match layer.split(' ').next().unwrap_or(layer) {
            "context2" => "spatial2",
            "cost_skip" => "aggregation",
            layer => layer,
        },
        (other, _) => other,
    }
}

/// What a layer is a part of, and its name in reports.
pub fn place(layer: &str) -> (Group, &str) {
    match layer {
        "features" => (Group::Features, Group::Features.name()),
        "aggregation" => (Group::Sweep, Group::Sweep.name()),
        "logits" => (Group::Regression, Group::Regression.name()),
        "spatial2" => (Group::Regularizer, "spatial2 + context2"),
        layer => (Group::Regularizer, layer),
    }
}

/// The layer of each step of a graph; a step without a label (a fill) belongs to the one that it prepares.
pub fn layers_of_steps(graph: &Graph) -> Vec<String> {
    let mut layers: Vec<String> = Vec::new();
    let mut following = String::from("features");
    for step in graph.steps().iter().rev() {
        if !step.label.is_empty() {
            following = layer_of(&step.label).to_owned();
        }
        layers.push(following.clone());
    }
    layers.reverse();
    layers
}

/// Arithmetic and traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Floating-point operations, a multiply-add being two.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

/// What a step touches.
struct Touched {
    layer: String,
    label: String,
    flops: u64,
    reads: Vec<Value>,
    writes: Vec<Value>,
}

/// The counts of a graph, by layer.
pub struct Counts {
    steps: Vec<Touched>,
    bytes: BTreeMap<Value, u64>,
    kept: BTreeSet<Value>,
}

impl Counts {
    /// Of a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut counts = Self { steps: Vec::new(), bytes: BTreeMap::new(), kept: BTreeSet::new() };
        for (step, layer) in graph.steps().iter().zip(layers_of_steps(graph)) {
            let (mut reads, mut writes) = (Vec::new(), Vec::new());
            for arg in step.args.iter().flat_map(Arg::addresses) {
                match arg {
                    Arg::Read(v, _) => reads.push(*v),
                    Arg::Write(v, _) => writes.push(*v),
                    Arg::Update(v, _) => {
                        reads.push(*v);
                        writes.push(*v);
                    }
                    Arg::Null | Arg::Plain(_) | Arg::Table(_) => {}
                }
            }
            for &value in reads.iter().chain(&writes) {
                counts.bytes.insert(value, graph.info(value).bytes());
                if graph.info(value).kind == Kind::Output {
                    counts.kept.insert(value);
                }
            }
            counts.steps.push(Touched { layer, label: step.label.clone(), flops: step.flops, reads, writes });
        }
        counts
    }

    /// Of a view in f32 with the whole cost volume at once: what the processor's stages are counted by.
    ///
    /// # Errors
    /// As [`ViewGraph::new`].
    pub fn of_view(config: Config, size: Size) -> Result<Self> {
        let parameters = Parameters::random(config, 0)?;
        Ok(Self::new(&ViewGraph::new(&parameters, size, Element::F32, Slabs::WHOLE)?.graph))
    }

    fn total(&self, values: &BTreeSet<Value>) -> u64 {
        values.iter().map(|v| self.bytes[v]).sum()
    }

    /// Of a layer whose steps run one after another, each name of the reference by itself.
    pub fn by_steps(&self, layer: &str) -> Count {
        let mut flops = 0;
        let mut read: BTreeMap<&str, BTreeSet<Value>> = BTreeMap::new();
        let mut written: BTreeMap<&str, BTreeSet<Value>> = BTreeMap::new();
        for step in self.steps.iter().filter(|s| s.layer == layer) {
            flops += step.flops;
            read.entry(&step.label).or_default().extend(&step.reads);
            written.entry(&step.label).or_default().extend(&step.writes);
        }
        let bytes = read.values().chain(written.values()).map(|values| self.total(values)).sum();
        Count { flops, bytes }
    }

    /// Of layers that run as one pass: what they read from outside, and what they write for outside.
    pub fn fused<S: AsRef<str>>(&self, layers: &[S]) -> Count {
        let inside = |step: &&Touched| layers.iter().any(|l| l.as_ref() == step.layer);
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        let mut flops = 0;
        for step in self.steps.iter().filter(inside) {
            flops += step.flops;
            // A value that was written in here before comes from in here.
            read.extend(step.reads.iter().filter(|v| !written.contains(*v)));
            written.extend(&step.writes);
        }
        let outside = self.steps.iter().filter(|step| !inside(step)).flat_map(|step| &step.reads);
        let wanted: BTreeSet<Value> = outside.chain(&self.kept).copied().collect();
        written.retain(|v| wanted.contains(v));
        Count { flops, bytes: self.total(&read) + self.total(&written) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::graph::{read, write};

    #[test]
    fn labels_are_the_references_names() {
        for (label, layer) in [
            ("features", "features"),
            ("features.stage4.1", "features"),
            ("gate.conv1", "aggregation"),
            ("regularizer.context2", "spatial2"),
            ("regularizer.context4.depthwise1", "context4"),
            ("regularizer.logits", "logits"),
        ] {
            assert_eq!(layer_of(label), layer, "{label}");
        }
    }

    #[test]
    fn a_tensor_counts_once_and_one_between_fused_layers_not_at_all() {
        let mut graph = Graph::new();
        let value = |n: usize| Shape::plane(1, 1, n);
        let x = graph.input("x", value(100), Element::F32);
        let y = graph.temporary("y", value(10), Element::F32);
        let z = graph.temporary("z", value(1), Element::F16);
        graph.keep(z);
        graph.fill(y, 0);
        for (label, args) in [
            ("regularizer.a.first", vec![read(x), write(y)]),
            ("regularizer.a.first", vec![read(x), write(y)]),
            ("regularizer.b", vec![read(y), read(x), write(z)]),
        ] {
            graph.launch("op", label, "kernel", [1; 3], [1; 3], 0, args);
            graph.flops(5);
        }
        assert_eq!(layers_of_steps(&graph), ["a", "a", "a", "b"]);
        let counts = Counts::new(&graph);
        // The fill has no label of its own and counts as a write of its own.
        assert_eq!(counts.by_steps("a"), Count { flops: 10, bytes: 40 + 400 + 40 });
        assert_eq!(counts.by_steps("b"), Count { flops: 5, bytes: 40 + 400 + 2 });
        assert_eq!(counts.fused(&["a"]), Count { flops: 10, bytes: 400 + 40 });
        assert_eq!(counts.fused(&["a", "b"]), Count { flops: 15, bytes: 400 + 2 });
    }
}
