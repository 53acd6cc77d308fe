//! Adam with gradient clipping, and the moving average of the weights, over all tensors in one launch each
//! (`kernels/optimizer.cu`).
//!
//! As [`crate::train::optimizer`], whose roundings the kernels repeat: with one scale the weights and moments are the
//! processor's to the bit. The norm is a sum in another order, so it and the scale may differ in the last digits of an
//! f64.
//!
//! What changes from step to step lies in device memory ([`numbers`]): a graph that was recorded once takes every step.

use super::expect_f32;
use crate::cuda::graph::{Arg, Graph, Value, float, int, read, update, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

/// Elements of a block (`kernels/optimizer.cu`).
const CHUNK: usize = 2048;

/// Numbers that the kernels read: `struct Numbers`.
const NUMBERS: usize = 7;

/// What a step depends on beside the gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// Gradients are multiplied with it before they are looked at: one over the samples that taught something.
    pub share: f64,
    /// The largest norm of all gradients; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// The learning rate.
    pub rate: f64,
    /// Adam's steps, this one included.
    pub steps: u64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Each step takes rate times this share of every decayed weight away.
    pub weight_decay: f64,
    /// Decay of the moving average, as it is at this step.
    pub average_decay: f64,
    /// Whether weights move at all: not where no sample taught anything.
    pub moves: bool,
}

impl StepNumbers {
    /// As the kernels read them, to be put into the value of [`numbers`] before a run.
    pub fn bytes(&self) -> Vec<u8> {
        let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (first, second) = (1.0 - self.beta1.powi(power), 1.0 - self.beta2.powi(power));
        // Rounded to f32 as the processor has them.
        let short = |x: f64| f64::from(x as f32);
        let all: [f64; NUMBERS] = [
            self.share,
            self.clip.unwrap_or(f64::INFINITY),
            short(self.rate / first),
            short(1.0 / second.sqrt()),
            short(1.0 - self.rate * self.weight_decay),
            short(self.average_decay),
            f64::from(u8::from(self.moves)),
        ];
        bytemuck::bytes_of(&all).to_vec()
    }
}

/// The decay of the moving average after `steps` earlier ones: smaller early on, so that the first values are
/// forgotten.
pub fn average_decay(decay: f64, steps: u64) -> f64 {
    decay.min((1 + steps) as f64 / (10 + steps) as f64)
}

/// The input that takes [`StepNumbers::bytes`].
pub fn numbers(graph: &mut Graph) -> Value {
    graph.input("numbers of the step", Shape::plane(1, 1, NUMBERS), Element::F64)
}

/// A tensor that Adam moves; all four values have its length and are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    /// The weights, changed.
    pub parameter: Value,
    /// Their gradient.
    pub gradient: Value,
    /// Mean gradient and mean squared gradient, changed; zeros at first.
    pub moments: [Value; 2],
    /// Whether weight decay is for it: not for norms and biases.
    pub decayed: bool,
}

/// How tensors are cut into blocks' pieces.
struct Pieces {
    pieces: Value,
    sizes: Value,
    blocks: usize,
}

fn words(graph: &mut Graph, name: &str, words: &[u32]) -> Value {
    let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    graph.constant_bytes(name, Shape::plane(1, 1, words.len()), Element::U32, bytes)
}

impl Pieces {
    /// Of tensors, each given with all that must have its length.
    fn new(graph: &mut Graph, op: &'static str, tensors: &[Vec<Value>]) -> Result<Self> {
        let (mut pieces, mut sizes) = (Vec::new(), Vec::new());
        for (i, values) in tensors.iter().enumerate() {
            expect_f32(graph, op, values)?;
            let lengths: Vec<usize> = values.iter().map(|&v| graph.shape(v).len()).collect();
            let len = lengths[0];
            if lengths.iter().any(|&l| l != len) || u32::try_from(len).is_err() {
                let name = &graph.info(values[0]).name;
                let problem = format!("`{name}` goes with values of {lengths:?} elements; expected one length");
                return Err(Error::Shape { op, problem });
            }
            sizes.push(len as u32);
            pieces.extend((0..len.div_ceil(CHUNK)).flat_map(|chunk| [i as u32, chunk as u32]));
        }
        if pieces.is_empty() {
            return Err(Error::Shape { op, problem: "no tensor with an element".into() });
        }
        let blocks = pieces.len() / 2;
        Ok(Self { pieces: words(graph, "pieces", &pieces), sizes: words(graph, "sizes", &sizes), blocks })
    }

    fn launch(&self, graph: &mut Graph, op: &'static str, kernel: &str, args: Vec<Arg>) {
        graph.launch(op, "", kernel, [self.blocks as u32, 1, 1], [256, 1, 1], 0, args);
    }
}

fn table(args: impl IntoIterator<Item = Arg>) -> Arg {
    Arg::Table(args.into_iter().collect())
}

/// The norm of all gradients times the share, and what a step multiplies gradients with (the share, and less where the
/// norm is clipped): [1, 1, 1, 2] of f64.
///
/// # Errors
/// [`Error::Shape`] where there is no gradient or one is not f32.
pub fn gradient_norm(graph: &mut Graph, gradients: &[Value], numbers: Value) -> Result<Value> {
    const OP: &str = "gradient_norm";
    let tensors: Vec<Vec<Value>> = gradients.iter().map(|&g| vec![g]).collect();
    let pieces = Pieces::new(graph, OP, &tensors)?;
    let partial = graph.temporary("squares of pieces", Shape::plane(1, 1, pieces.blocks), Element::F64);
    let args = vec![table(gradients.iter().map(|&g| read(g))), read(pieces.pieces), read(pieces.sizes), write(partial)];
    pieces.launch(graph, OP, "gradient_norm_sums_f32", args);
    let result = graph.temporary("gradient norm and scale", Shape::plane(1, 1, 2), Element::F64);
    let args = vec![read(partial), int(pieces.blocks), read(numbers), write(result)];
    graph.launch(OP, "", "gradient_norm_finish_f32", [1; 3], [256, 1, 1], 0, args);
    Ok(result)
}

/// One step of Adam over all tensors, with the scale that [`gradient_norm`] found. Where the norm is not finite or the
/// numbers say that nothing moves, nothing does. `beta1`, `beta2` and `epsilon` are those of the numbers' steps.
///
/// # Errors
/// [`Error::Shape`] where there is no tensor, or one's values differ in length or are not f32.
pub fn adam(
    graph: &mut Graph,
    tensors: &[Trained],
    norm_and_scale: Value,
    numbers: Value,
    [beta1, beta2, epsilon]: [f64; 3],
) -> Result<()> {
    const OP: &str = "adam";
    let all: Vec<Vec<Value>> =
        tensors.iter().map(|t| vec![t.parameter, t.gradient, t.moments[0], t.moments[1]]).collect();
    let pieces = Pieces::new(graph, OP, &all)?;
    let decayed: Vec<u32> = tensors.iter().map(|t| u32::from(t.decayed)).collect();
    let decayed = words(graph, "decayed tensors", &decayed);
    let args = vec![
        table(tensors.iter().map(|t| read(t.gradient))),
        table(tensors.iter().map(|t| update(t.parameter))),
        table(tensors.iter().map(|t| update(t.moments[0]))),
        table(tensors.iter().map(|t| update(t.moments[1]))),
        read(pieces.pieces),
        read(pieces.sizes),
        read(decayed),
        read(norm_and_scale),
        read(numbers),
        float(beta1 as f32),
        float(beta2 as f32),
        float(epsilon as f32),
    ];
    pieces.launch(graph, OP, "adam_step_f32", args);
    Ok(())
}

/// average = decay average + (1 - decay) value, for pairs of average and value; running statistics are averaged alike.
///
/// # Errors
/// [`Error::Shape`] where there is no pair, or one's values differ in length or are not f32.
pub fn average(graph: &mut Graph, pairs: &[(Value, Value)], numbers: Value) -> Result<()> {
    const OP: &str = "average weights";
    let all: Vec<Vec<Value>> = pairs.iter().map(|&(average, value)| vec![average, value]).collect();
    let pieces = Pieces::new(graph, OP, &all)?;
    let args = vec![
        table(pairs.iter().map(|&(average, _)| update(average))),
        table(pairs.iter().map(|&(_, value)| read(value))),
        read(pieces.pieces),
        read(pieces.sizes),
        read(numbers),
    ];
    pieces.launch(graph, OP, "average_weights_f32", args);
    Ok(())
}
