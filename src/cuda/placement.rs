//! Where every value of a graph lies in memory: known before anything runs.
//!
//! A temporary lives from the first step that writes it to the last that uses it. Two whose lives do not meet may lie
//! at the same place. The largest values are placed first, each at the lowest address where it meets no value that is
//! placed already and lives at the same time: a greedy rule that for this network's graphs comes within a few percent
//! of the largest sum of lives at one step, which no placement can beat.

use super::branches::{Aside, asides, used};
use super::graph::{Arg, Graph, Kind};
use crate::error::{Error, Result};

/// Addresses are multiples of this: what a device's allocations are, and enough for every vector access.
pub const ALIGNMENT: u64 = 256;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// At this offset of the arena, which values share over time.
    Arena(u64),
    /// At this offset of the memory that lasts: inputs, weights, states.
    Lasting(u64),
    /// Nowhere: no step uses it, or somebody else owns it.
    Unused,
}

/// Steps between which a value must not be overwritten, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first step that writes it.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// The memory of a graph.
#[derive(Clone, Debug)]
pub struct Placement {
    /// By value.
    pub homes: Vec<Home>,
    /// By value; `None` for those that last or that nothing uses.
    pub lives: Vec<Option<Life>>,
    /// Bytes of the arena.
    pub arena: u64,
    /// Bytes of what lasts.
    pub lasting: u64,
    /// The largest sum of temporaries that live at one step, in bytes: the floor of `arena`.
    pub least: u64,
    /// The step where that is, if there is any.
    pub fullest: Option<usize>,
}

fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Places all values of a graph.
///
/// # Errors
/// [`Error::Bug`] where a step reads a temporary that no earlier step writes.
pub fn place(graph: &Graph) -> Result<Placement> {
    let mut lives = lives(graph)?;
    lengthened(graph, &mut lives);
    let mut homes = vec![Home::Unused; graph.values.len()];
    let mut lasting = 0;
    let args = || graph.steps.iter().flat_map(|s| &s.args).flat_map(Arg::addresses);
    let mut used = vec![false; homes.len()];
    args().filter_map(Arg::value).for_each(|v| used[v.0] = true);
    for (i, info) in graph.values.iter().enumerate() {
        let stays = match info.kind {
            Kind::Input | Kind::State(_) => true,
            Kind::Constant(_) => used[i],
            Kind::Temporary | Kind::Output | Kind::External(_) => false,
        };
        if stays {
            homes[i] = Home::Lasting(lasting);
            lasting += aligned(info.bytes());
        }
    }
    let mut order: Vec<usize> = (0..homes.len()).filter(|&i| lives[i].is_some()).collect();
    // Ties in the order of the values, so that a plan is a function of the graph.
    order.sort_by_key(|&i| (std::cmp::Reverse(graph.values[i].bytes()), i));
    let mut placed: Vec<(u64, u64, Life)> = Vec::new();
    let mut arena = 0;
    for i in order {
        let Some(life) = lives[i] else { continue };
        let bytes = aligned(graph.values[i].bytes().max(1));
        let mut meeting: Vec<(u64, u64)> = placed
            .iter()
            .filter(|(_, _, other)| other.first <= life.last && life.first <= other.last)
            .map(|&(start, end, _)| (start, end))
            .collect();
        meeting.sort_unstable();
        let mut at = 0;
        for (start, end) in meeting {
            if start >= at + bytes {
                break;
            }
            at = at.max(end);
        }
        placed.push((at, at + bytes, life));
        arena = arena.max(at + bytes);
        homes[i] = Home::Arena(at);
    }
    let at_step = |step: usize| -> u64 {
        let alive = |(i, life): (usize, &Option<Life>)| {
            life.filter(|l| l.first <= step && step <= l.last).map(|_| aligned(graph.values[i].bytes().max(1)))
        };
        lives.iter().enumerate().filter_map(alive).sum()
    };
    let fullest = (0..graph.steps.len()).max_by_key(|&s| (at_step(s), std::cmp::Reverse(s)));
    let least = fullest.map_or(0, at_step);
    Ok(Placement { homes, lives, arena, lasting, least, fullest })
}

fn lives(graph: &Graph) -> Result<Vec<Option<Life>>> {
    let mut lives: Vec<Option<Life>> = vec![None; graph.values.len()];
    for (step, what) in graph.steps.iter().enumerate() {
        for arg in what.args.iter().flat_map(Arg::addresses) {
            let Some(value) = arg.value() else { continue };
            let info = graph.info(value);
            if !matches!(info.kind, Kind::Temporary | Kind::Output) {
                continue;
            }
            match (&mut lives[value.0], arg) {
                (Some(life), _) => life.last = step,
                (empty @ None, Arg::Write(..)) => *empty = Some(Life { first: step, last: step }),
                (None, _) => {
                    let problem = format!("{} at {} reads `{}` before it is made", what.op, what.label, info.name);
                    return Err(Error::Bug { place: "device memory", problem });
                }
            }
        }
    }
    for (life, info) in lives.iter_mut().zip(&graph.values) {
        if let (Some(life), Kind::Output) = (life, &info.kind) {
            life.last = graph.steps.len();
        }
    }
    Ok(lives)
}

/// Lets what steps aside use live until they are waited for.
fn lengthened(graph: &Graph, lives: &mut [Option<Life>]) {
    for Aside { steps, join } in asides(graph) {
        for value in used(&graph.steps()[steps.clone()]).iter().flatten() {
            if let Some(life) = &mut lives[value.0] {
                life.last = life.last.max(join - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::graph::{read, write};
    use crate::cuda::storage::Element;
    use crate::net::tensor::Shape;

    fn step(graph: &mut Graph, args: Vec<Arg>) {
        graph.launch("step", "", "step", [1; 3], [1; 3], 0, args);
    }

    /// input -> a (1000) -> b (2000) -> c (1000), d from a and c.
    #[test]
    fn values_that_do_not_live_at_the_same_time_share_memory() {
        let mut graph = Graph::new();
        let shape = |n| Shape::plane(1, 1, n);
        let input = graph.input("input", shape(16), Element::F32);
        let [a, b, c, d, e] =
            [1000, 2000, 1000, 64, 3000].map(|n| graph.temporary(format!("{n}"), shape(n), Element::F32));
        step(&mut graph, vec![read(input), write(a)]);
        step(&mut graph, vec![read(a), write(b)]);
        step(&mut graph, vec![read(b), write(c)]);
        step(&mut graph, vec![read(a), read(c), write(d)]);
        step(&mut graph, vec![read(d), write(e)]);
        graph.keep(e);
        let plan = place(&graph).unwrap();
        assert_eq!(plan.lives[a.0], Some(Life { first: 0, last: 3 }));
        assert_eq!(plan.lives[e.0], Some(Life { first: 4, last: 5 }), "an output lives to the end");
        let bytes = |n: u64| (4 * n).next_multiple_of(ALIGNMENT);
        assert_eq!(plan.least, bytes(1000) + bytes(2000) + bytes(1000));
        assert_eq!(plan.fullest, Some(2));
        // The rule is greedy: here the smallest value finds no gap.
        assert!(plan.least <= plan.arena && plan.arena <= plan.least + bytes(64), "{}", plan.arena);
        assert_eq!(plan.homes[input.0], Home::Lasting(0));
        assert_eq!(plan.lasting, ALIGNMENT);
        // No two values that live at the same time overlap.
        for (i, j) in [(a, b), (b, c), (a, c), (a, d), (c, d), (d, e)] {
            let span = |v: crate::cuda::graph::Value| match plan.homes[v.0] {
                Home::Arena(at) => (at, at + aligned(graph.info(v).bytes())),
                other => panic!("{other:?}"),
            };
            let ((s, t), (u, v)) = (span(i), span(j));
            assert!(t <= u || v <= s, "{i:?} {j:?}");
        }
    }

    #[test]
    fn a_value_that_is_read_before_it_is_made_is_a_bug() {
        let mut graph = Graph::new();
        let a = graph.temporary("a", Shape::plane(1, 1, 4), Element::F32);
        step(&mut graph, vec![read(a)]);
        let error = place(&graph).unwrap_err().to_string();
        assert!(error.contains("reads `a` before it is made"), "{error}");
    }
}
