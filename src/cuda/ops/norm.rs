//! Batch norm with the batch's statistics, and ReLU (`kernels/norm.cu`). Inference never runs this: there norms are folded into convolutions.

use super::pointwise::expect_quads;
use super::reduce::{Groups, partials};
use crate::cuda::graph::{Element, Graph, Value, blocks, index, int, read, write};
use crate::error::{Error, Result};
use crate::tensor::Shape;

const THREADS: u32 = 256;
const OP: &str = "batch norm";

/// What [`batch_norm`] makes.
#[derive(Clone, Copy, Debug)]
pub struct Normed {
    /// The result, of x's shape.
    pub y: Value,
    /// [1, 1, 1, C]: of the batch.
    pub mean: Value,
    /// [1, 1, 1, C]: biased, of the batch.
    pub variance: Value,
}

/// `relu?(gamma (x - mean) / sqrt(variance + 1e-5) + beta)`, f32; gamma and beta have C elements.
///
/// # Errors
/// [`Error::Shape`] where they have not, or C is no multiple of 4 or above 256.
pub fn batch_norm(
    graph: &mut Graph,
    label: &str,
    x: Value,
    gamma: Value,
    beta: Value,
    relu: bool,
) -> Result<Normed> {
    let shape = graph.shape(x);
    expect_quads(OP, shape)?;
    if [gamma, beta].iter().any(|&p| graph.shape(p).len() != shape.c) {
        let problem = format!("{shape} with {} and {} parameters", graph.shape(gamma), graph.shape(beta));
        return Err(Error::Shape { op: OP, problem });
    }
    let groups = Groups { groups: 1, positions: shape.positions(), channels: shape.c };
    let (parts, c) = (int(groups.parts()), shape.c);
    let vector = Shape { d: 1, h: 1, w: 1, c };
    let kernel = "batch_norm_forward_statistics_f32";
    let partial = partials(graph, OP, label, kernel, &groups, 2, vec![read(x)])?;
    let mean = graph.temporary(format!("{label} mean"), vector, Element::F32);
    let variance = graph.temporary(format!("{label} variance"), vector, Element::F32);
    let y = graph.temporary(format!("{label} result"), shape, Element::F32);
    let args = vec![
        read(partial),
        read(x),
        write(mean),
        write(variance),
        index(groups.positions),
        parts.clone(),
        int(c),
    ];
    let per_channel = blocks(c, THREADS);
    graph.launch(OP, label, "batch_norm_forward_finish_f32", per_channel, [THREADS, 1, 1], 0, args);
    let flag = int(usize::from(relu));
    let args = vec![
        read(x),
        read(gamma),
        read(beta),
        read(mean),
        read(variance),
        write(y),
        flag.clone(),
        int(c),
        index(shape.len()),
    ];
    graph.launch(
        OP,
        label,
        "batch_norm_forward_f32",
        blocks(shape.len() / 4, THREADS),
        [THREADS, 1, 1],
        0,
        args,
    );
    let name = label.to_owned();
    graph.record(label, &[x, gamma, beta], y, move |graph, gradient, _| {
        let known = || vec![read(x), read(gradient), read(gamma), read(beta), read(mean), read(variance)];
        let parameter = |graph: &mut Graph, what: &str| {
            graph.temporary(format!("{name} {what} gradient"), vector, Element::F32)
        };
        let (dgamma, dbeta) = (parameter(graph, "gamma"), parameter(graph, "beta"));
        // The kernel takes the flag after the partial sums.
        let shape_of_partial = Shape { d: 1, h: groups.parts(), w: 2, c };
        let partial = graph.temporary(format!("{name} partial sums"), shape_of_partial, Element::F64);
        let args = [known(), vec![write(partial), flag.clone(), index(groups.positions), int(c)]].concat();
        let grid = [groups.parts() as u32, 1, 1];
        graph.launch(OP, &name, "batch_norm_backward_sums_f32", grid, [THREADS, 1, 1], 0, args);
        let args = vec![read(partial), write(dgamma), write(dbeta), parts, int(c)];
        graph.launch(OP, &name, "batch_norm_backward_finish_f32", per_channel, [THREADS, 1, 1], 0, args);
        let dx = graph.temporary(format!("{name} gradient"), shape, Element::F32);
        let rest = vec![
            read(dgamma),
            read(dbeta),
            write(dx),
            flag,
            index(groups.positions),
            int(c),
            index(shape.len()),
        ];
        let grid = blocks(shape.len(), THREADS);
        let args = [known(), rest].concat();
        graph.launch(OP, &name, "batch_norm_backward_f32", grid, [THREADS, 1, 1], 0, args);
        Ok(vec![Some(dx), Some(dgamma), Some(dbeta)])
    });
    Ok(Normed { y, mean, variance })
}
