//! Batch normalisation with the statistics of the batch, and the running statistics (`kernels/norm.cu`); f32, for
//! training.
//!
//! As [`crate::cpu::ops::norm`]; inference never runs this, there the norm is folded into the convolution.

use super::reduce::Chunks;
use super::{expect_f32, expect_shape, expect_some};
use crate::cuda::graph::{Arg, Graph, Value, float, index, int, read, update, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

const OP: &str = "batch_norm";
/// Threads of a block over positions, and positions that each walks down (`kernels/norm.cu`).
const THREADS: usize = 256;
const WALK: usize = 8;

/// A normalised batch and what was found of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normed {
    /// relu?(gamma (x - mean) / sqrt(variance + 1e-5) + beta), of x's shape.
    pub y: Value,
    /// Each channel's mean, [1, 1, 1, C] in f64.
    pub mean: Value,
    /// Each channel's biased variance, [1, 1, 1, C] in f64.
    pub variance: Value,
}

/// Blocks over all positions: each thread of a block keeps its channels.
fn grid(shape: Shape) -> [u32; 3] {
    let pack = if shape.c.is_multiple_of(4) { 4 } else { 1 };
    let rows = THREADS / (shape.c / pack).min(THREADS);
    [shape.positions().div_ceil(rows * WALK) as u32, 1, 1]
}

/// Normalises x with its own mean and variance over all positions, `activation` follows. gamma and beta
/// have C elements.
///
/// # Errors
/// [`Error::Shape`] where x is empty, gamma or beta have another length than its channels, or one is not f32.
pub fn batch_norm(
    graph: &mut Graph,
    label: &str,
    x: Value,
    gamma: Value,
    beta: Value,
    activation: Activation,
) -> Result<Normed> {
    let relu = activation.is_relu();
    expect_some(graph, OP, x)?;
    expect_f32(graph, OP, &[x, gamma, beta])?;
    let shape = graph.shape(x);
    let lengths = [gamma, beta].map(|v| graph.shape(v).len());
    if lengths != [shape.c; 2] {
        let problem = format!("input {shape} with {} and {} parameters", lengths[0], lengths[1]);
        return Err(Error::Shape { op: OP, problem });
    }
    let positions = shape.positions() as f64;
    let vector = Shape { d: 1, h: 1, w: 1, c: shape.c };
    let chunks = Chunks::new(1, shape.positions(), shape.c);
    let partial = chunks.partial(graph, label, 2);
    let args = [vec![read(x), write(partial)], chunks.args()].concat();
    chunks.launch(graph, OP, label, "batch_norm_forward_sums_f32", 2, args);
    let [mean, variance] =
        ["mean", "variance"].map(|what| graph.temporary(format!("{label} {what}"), vector, Element::F64));
    let affine = graph.temporary(format!("{label} affine map"), Shape { h: 3, ..vector }, Element::F32);
    let args = vec![
        read(partial),
        read(x),
        read(gamma),
        read(beta),
        write(mean),
        write(variance),
        write(affine),
        int(chunks.chunks),
        int(shape.c),
        Arg::plain(positions),
    ];
    chunks.launch_finish(graph, OP, label, "batch_norm_forward_finish_f32", args);
    let y = graph.temporary(format!("{label} normalised"), shape, Element::F32);
    let low = if relu { 0.0 } else { f32::NEG_INFINITY };
    let args = vec![read(x), read(affine), write(y), index(shape.positions()), int(shape.c), float(low)];
    graph.launch(OP, label, "batch_norm_forward_f32", grid(shape), [THREADS as u32, 1, 1], 0, args);
    graph.flops(4 * shape.len() as u64);
    let name = label.to_owned();
    graph.record(label, &[x, gamma, beta], y, move |graph, dy, _| {
        expect_f32(graph, OP, &[dy])?;
        let relu = Arg::plain(i32::from(relu));
        let partial = chunks.partial(graph, &name, 2);
        let sums = vec![read(x), read(dy), read(affine), write(partial)];
        let args = [sums, chunks.args(), vec![relu.clone()]].concat();
        chunks.launch(graph, OP, &name, "batch_norm_backward_sums_f32", 2, args);
        let (of_gamma, of_beta) = (graph.shape(gamma), graph.shape(beta));
        let dgamma = graph.temporary(format!("{name} gradient in gamma"), of_gamma, Element::F32);
        let dbeta = graph.temporary(format!("{name} gradient in beta"), of_beta, Element::F32);
        let coefficients = graph.temporary(format!("{name} coefficients"), Shape { h: 2, ..vector }, Element::F32);
        let args = vec![
            read(partial),
            read(variance),
            read(affine),
            write(dgamma),
            write(dbeta),
            write(coefficients),
            int(chunks.chunks),
            int(shape.c),
            Arg::plain(positions),
        ];
        chunks.launch_finish(graph, OP, &name, "batch_norm_backward_finish_f32", args);
        let dx = graph.temporary(format!("{name} gradient in x"), shape, Element::F32);
        let args = vec![
            read(x),
            read(dy),
            read(affine),
            read(coefficients),
            write(dx),
            index(shape.positions()),
            int(shape.c),
            relu,
        ];
        let threads = [THREADS as u32, 1, 1];
        graph.launch(OP, &name, "batch_norm_backward_f32", grid(shape), threads, 0, args);
        graph.flops(6 * shape.len() as u64);
        Ok(vec![Some(dx), Some(dgamma), Some(dbeta)])
    });
    Ok(Normed { y, mean, variance })
}

/// The running statistics after a step: (1 - momentum) old + momentum new, the variance unbiased over `positions`, as
/// [`crate::cpu::train::follow`]. `running_*`, of C elements, are f32 states.
///
/// # Errors
/// [`Error::Shape`] where the lengths or elements do not fit together.
pub fn follow(
    graph: &mut Graph,
    label: &str,
    (mean, variance): (Value, Value),
    positions: usize,
    (running_mean, running_variance): (Value, Value),
    momentum: f64,
) -> Result<()> {
    const OP: &str = "batch_norm_follow";
    let shape = graph.shape(mean);
    expect_shape(graph, OP, "variance", variance, shape)?;
    expect_f32(graph, OP, &[running_mean, running_variance])?;
    let lengths = [running_mean, running_variance].map(|v| graph.shape(v).len());
    if lengths != [shape.len(); 2] || [mean, variance].iter().any(|&v| graph.element(v) != Element::F64) {
        let problem = format!(
            "statistics {shape} of {} for running ones of {} and {} elements",
            graph.element(mean).suffix(),
            lengths[0],
            lengths[1]
        );
        return Err(Error::Shape { op: OP, problem });
    }
    let n = positions as f64;
    let unbiased = if positions > 1 { n / (n - 1.0) } else { 1.0 };
    let args = vec![
        read(mean),
        read(variance),
        update(running_mean),
        update(running_variance),
        int(shape.len()),
        Arg::plain(unbiased),
        Arg::plain(momentum),
    ];
    let grid = [shape.len().div_ceil(128) as u32, 1, 1];
    graph.launch(OP, label, "batch_norm_follow_f32", grid, [128, 1, 1], 0, args);
    Ok(())
}
