//! What narrow stages need in training (`kernels/narrow_gradient.cu`): the differences of every source, whose gate is
//! then made of ordinary layers, their weighted sum, and the losses; f32, with gradients.
//!
//! Differences are stored, [S, K, H, W, C]: training's photos are small, and the gate's gradients are those of layers
//! that exist.

use super::narrow::{Extent, Views, expect_map, expect_numbers};
use super::{expect_f32, expect_shape, expect_some};
use crate::cpu::ops::narrow::NarrowLoss;
use crate::cpu::ops::warp::MAX_FEATURE_PIXELS;
use crate::cuda::graph::{Arg, Graph, Value, blocks, float, index, int, read, update, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

const THREADS: u32 = 256;
/// Threads of a block of the loss, and of the single blocks that count and add up.
const LOSS_THREADS: u32 = 128;
const ONE_BLOCK: u32 = 1024;
/// More hypotheses than any stage has.
const MOST_HYPOTHESES: usize = 16;

/// The reference's map [1, H, W, C] of features [V, H, W, C], with its gradient.
///
/// # Errors
/// [`Error::Shape`] where there are none.
pub fn first(graph: &mut Graph, label: &str, features: Value) -> Result<Value> {
    expect_some(graph, "first map", features)?;
    let (shape, element) = (graph.shape(features), graph.element(features));
    let one = Shape { d: 1, ..shape };
    let bytes = one.len() as u64 * element.bytes();
    let y = graph.temporary(format!("{label} reference"), one, element);
    graph.copy(label, (features, 0), (y, 0), bytes);
    let name = label.to_owned();
    graph.record(label, &[features], y, move |graph, dy, _| {
        let all = graph.temporary(format!("{name} reference gradient"), shape, element);
        graph.fill(all, 0);
        graph.copy(&name, (dy, 0), (all, 0), bytes);
        Ok(vec![Some(all)])
    });
    Ok(y)
}

/// Squared differences of each source from the reference at `hypotheses` around `guess` [1, H, W, 1], [S K, H, W, C]
/// f32, of a stack of features; their gradient in the features is noted, none in the guess.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn differences(graph: &mut Graph, label: &str, views: &Views, guess: Value, hypotheses: usize) -> Result<Value> {
    const OP: &str = "narrow differences";
    let features = views.sources;
    let Shape { d, h, w, c } = graph.shape(features);
    expect_f32(graph, OP, &[features, guess])?;
    let stacked = views.reference == features && views.first == 1 && views.top == 0;
    if !stacked || d < 2 || !matches!(c, 8 | 16) || h * w == 0 || h * w > MAX_FEATURE_PIXELS || hypotheses == 0 {
        let problem = format!(
            "features {} and {hypotheses} hypotheses; expected a stack of at least two views of 16 or 8 channels and \
             of 1 to {MAX_FEATURE_PIXELS} pixels, the reference first",
            graph.shape(features)
        );
        return Err(Error::Shape { op: OP, problem });
    }
    let count = d - 1;
    expect_shape(graph, OP, "guess", guess, Shape::plane(h, w, 1))?;
    expect_numbers(graph, OP, "cameras", views.rows, count * super::sweep::SOURCE)?;
    expect_numbers(graph, OP, "spacing", views.spacing, 2)?;
    let extent = Extent { shape: Shape { d: hypotheses, h, w, c }, count, map: (h, w), element: Element::F32 };
    let shape = views.shape(&extent);
    let common = [read(features), read(views.rows), read(guess), read(views.spacing)];
    let y = graph.temporary(format!("{label} differences"), Shape { d: count * hypotheses, h, w, c }, Element::F32);
    let (grid, block) = (blocks(h * w, THREADS), [THREADS, 1, 1]);
    let kernel = move |what: &str| format!("narrow_differences_{what}_c{c}_f32");
    let args = common.iter().cloned().chain([write(y), shape.clone()]).collect();
    graph.launch(OP, label, kernel("forward"), grid, block, 0, args);
    let work = (count * hypotheses * h * w * 10 * c) as u64;
    graph.flops(work);
    let name = label.to_owned();
    graph.record(label, &[features], y, move |graph, dy, _| {
        let gradient = graph.temporary(format!("{name} features gradient"), Shape { d, h, w, c }, Element::F32);
        let largest = graph.temporary(format!("{name} largest gradient"), Shape::plane(1, 1, 1), Element::U32);
        // Integers, for which f64 stands: 8 bytes each.
        let sums = Shape { d: count, h, w, c };
        let sums = graph.temporary(format!("{name} fixed-point gradients"), sums, Element::F64);
        graph.fill(largest, 0);
        let mut args: Vec<Arg> = common.iter().cloned().chain([read(dy), write(gradient), update(largest)]).collect();
        args.push(shape.clone());
        graph.launch(OP, &name, kernel("backward"), grid, block, 0, args);
        graph.flops(work);
        graph.fill(sums, 0);
        // Terms that can meet in one feature: no more than there are voxels.
        let terms = (hypotheses * h * w).next_power_of_two().ilog2() as usize;
        let mut args: Vec<Arg> = common.iter().cloned().chain([read(dy), read(largest), int(terms)]).collect();
        args.extend([update(sums), shape.clone()]);
        graph.launch(OP, &name, kernel("backward_sources"), grid, block, 0, args);
        graph.flops(work);
        let (map, n) = (4 * (h * w * c) as u64, count * h * w * c);
        let args = vec![read(sums), read(largest), int(terms), Arg::Write(gradient, map), index(n)];
        graph.launch(OP, &name, "sweep_backward_finish_f32", blocks(n, THREADS), block, 0, args);
        Ok(vec![Some(gradient)])
    });
    Ok(y)
}

/// The cost volume [K, H, W, C]: the sum of (1 + w) f / S over S = `sources`, from f [S K, H, W, C] and weights [S K,
/// H, W, 1] f32, with gradients in both.
///
/// # Errors
/// [`Error::Shape`] where they do not fit together.
pub fn weighted(graph: &mut Graph, label: &str, f: Value, weights: Value, sources: usize) -> Result<Value> {
    const OP: &str = "narrow weighting";
    let all = graph.shape(f);
    expect_f32(graph, OP, &[f, weights])?;
    expect_shape(graph, OP, "weights", weights, all.with_channels(1))?;
    if sources == 0 || !all.d.is_multiple_of(sources) || !all.c.is_multiple_of(4) || all.is_empty() {
        let problem = format!("differences {all} of {sources} sources; expected whole volumes of 4 n channels");
        return Err(Error::Shape { op: OP, problem });
    }
    let shape = Shape { d: all.d / sources, ..all };
    let voxels = shape.positions();
    let cost = graph.temporary(format!("{label} cost"), shape, Element::F32);
    let args = vec![read(f), read(weights), write(cost), int(sources), int(all.c), index(voxels)];
    let block = [THREADS, 1, 1];
    let grid = blocks(shape.len() / 4, THREADS);
    graph.launch(OP, label, "narrow_weighted_forward_f32", grid, block, 0, args);
    graph.flops(2 * all.len() as u64);
    let name = label.to_owned();
    graph.record(label, &[f, weights], cost, move |graph, dy, _| {
        let df = graph.temporary(format!("{name} differences gradient"), all, Element::F32);
        let dw = graph.temporary(format!("{name} weights gradient"), all.with_channels(1), Element::F32);
        let args = vec![read(f), read(weights), read(dy), write(df), write(dw), int(sources), int(all.c)];
        let args = args.into_iter().chain([index(voxels)]).collect();
        let grid = blocks(all.positions(), THREADS);
        graph.launch(OP, &name, "narrow_weighted_backward_f32", grid, block, 0, args);
        graph.flops(3 * all.len() as u64);
        Ok(vec![Some(df), Some(dw)])
    });
    Ok(cost)
}

/// What [`narrow_loss`] finds.
#[derive(Clone, Copy, Debug)]
pub struct NarrowLossParts {
    /// `[3]` f64: the weighted loss, the mean |found - truth| in units of the spacing, the share of pixels in reach.
    pub losses: Value,
    /// In the logits, [K, H, W, 1] f32.
    pub logits: Value,
    /// In the guess, [1, H, W, 1] f32.
    pub guess: Value,
}

/// Loss and gradients of `logits` [K, H, W, 1] around `guess` [1, H, W, 1] against `truth` [1, H, W, 1] in scene units
/// (none where it is not finite or not above 0), as [`NarrowLoss::apply`] defines them.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn narrow_loss(
    graph: &mut Graph,
    label: &str,
    logits: Value,
    (guess, truth): (Value, Value),
    spacing: Value,
    weights: NarrowLoss,
) -> Result<NarrowLossParts> {
    const OP: &str = "narrow loss";
    let shape = graph.shape(logits);
    let Shape { h, w, .. } = expect_map(graph, OP, "guess", guess)?;
    expect_map(graph, OP, "truth", truth)?;
    expect_f32(graph, OP, &[logits])?;
    expect_shape(graph, OP, "truth", truth, Shape::plane(h, w, 1))?;
    expect_shape(graph, OP, "logits", logits, Shape { d: shape.d, ..Shape::plane(h, w, 1) })?;
    expect_numbers(graph, OP, "spacing", spacing, 2)?;
    let pixels = h * w;
    let grid = blocks(pixels, LOSS_THREADS);
    if !(1..=MOST_HYPOTHESES).contains(&shape.d) || grid[0] as usize * (LOSS_THREADS as usize) < pixels {
        let problem = format!("logits {shape}; expected 1 to {MOST_HYPOTHESES} hypotheses of at most 2^27 pixels");
        return Err(Error::Shape { op: OP, problem });
    }
    let row = |n: usize| Shape::plane(1, 1, n);
    let counts = graph.temporary(format!("{label} counts"), row(2), Element::F64);
    let losses = graph.temporary(format!("{label} losses"), row(3), Element::F64);
    let into_logits = graph.temporary(format!("{label} logits gradient"), shape, Element::F32);
    let into_guess = graph.temporary(format!("{label} guess gradient"), Shape::plane(h, w, 1), Element::F32);
    let sums = graph.temporary(format!("{label} sums of blocks"), Shape::plane(1, grid[0] as usize, 3), Element::F64);
    let (one, threads) = ([1, 1, 1], [ONE_BLOCK, 1, 1]);
    let args = vec![read(guess), read(truth), read(spacing), int(shape.d), index(pixels), write(counts)];
    graph.launch(OP, label, "narrow_loss_forward_count_f32", one, threads, 0, args);
    let NarrowLoss { l1, cross_entropy, guess: of_guess } = weights;
    let weights = || [l1, cross_entropy, of_guess].map(float);
    let mut args = vec![read(logits), read(guess), read(truth), read(spacing), read(counts)];
    args.extend(weights());
    args.extend([int(shape.d), index(pixels), write(into_logits), write(into_guess), write(sums)]);
    graph.launch(OP, label, "narrow_loss_forward_f32", grid, [LOSS_THREADS, 1, 1], 0, args);
    graph.flops((shape.len() * 12 + 20 * pixels) as u64);
    let mut args = vec![read(sums), int(grid[0] as usize), read(counts)];
    args.extend(weights());
    args.push(write(losses));
    graph.launch(OP, label, "narrow_loss_forward_sum_f32", one, threads, 0, args);
    Ok(NarrowLossParts { losses, logits: into_logits, guess: into_guess })
}
