//! Steps that run beside others: which they are, and where they must be done.
//!
//! Steps that were noted aside ([`Graph::set_aside`]) go to a stream of their own, after all that stands before them.
//! The steps behind them do not wait, up to the first that reads what they write, or writes what they use: their join.
//! What they use must not be overwritten before that, whatever the order of steps says ([`super::placement`]).

use std::collections::BTreeSet;
use std::ops::Range;

use super::graph::{Arg, Graph, Step, Value};

/// A run of steps that are done beside those behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Which.
    pub steps: Range<usize>,
    /// The first step that has to wait for them; the number of all steps where none has to.
    pub join: usize,
}

/// What steps read only, and what they write.
pub fn used(steps: &[Step]) -> [BTreeSet<Value>; 2] {
    let [mut read, mut written] = [BTreeSet::new(), BTreeSet::new()];
    for arg in steps.iter().flat_map(|step| &step.args).flat_map(Arg::addresses) {
        let Some(value) = arg.value() else { continue };
        match arg {
            Arg::Write(..) | Arg::Update(..) => written.insert(value),
            _ => read.insert(value),
        };
    }
    [read, written]
}

/// All of a graph, in its order.
pub fn asides(graph: &Graph) -> Vec<Aside> {
    let steps = graph.steps();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = (at..steps.len()).find(|&i| steps[i].aside) {
        let end = (first..steps.len()).find(|&i| !steps[i].aside).unwrap_or(steps.len());
        let [read, written] = used(&steps[first..end]);
        let waits = |step: &Step| {
            let [reads, writes] = used(std::slice::from_ref(step));
            !reads.is_disjoint(&written) || !writes.is_disjoint(&written) || !writes.is_disjoint(&read)
        };
        let join = (end..steps.len()).find(|&i| waits(&steps[i])).unwrap_or(steps.len());
        found.push(Aside { steps: first..end, join });
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::graph::{read, write};
    use crate::cuda::placement::{Home, place};
    use crate::cuda::storage::Element;
    use crate::net::tensor::Shape;

    fn step(graph: &mut Graph, args: Vec<Arg>) {
        graph.launch("step", "", "step", [1; 3], [1; 3], 0, args);
    }

    /// input -> [a -> b] beside c -> d, then e of b and d.
    #[test]
    fn what_runs_beside_others_is_waited_for_and_shares_no_memory_with_them() {
        let mut graph = Graph::new();
        let shape = Shape::plane(1, 1, 64);
        let input = graph.input("input", shape, Element::F32);
        let [a, b, c, d, e, f] = ["a", "b", "c", "d", "e", "f"].map(|name| graph.temporary(name, shape, Element::F32));
        step(&mut graph, vec![read(input), write(f)]);
        graph.set_aside(true);
        step(&mut graph, vec![read(f), write(a)]);
        step(&mut graph, vec![read(a), write(b)]);
        graph.set_aside(false);
        step(&mut graph, vec![read(input), write(c)]);
        step(&mut graph, vec![read(c), write(d)]);
        step(&mut graph, vec![read(b), read(d), write(e)]);
        graph.keep(e);
        assert_eq!(asides(&graph), [Aside { steps: 1..3, join: 5 }]);
        let plan = place(&graph).unwrap();
        let Some(life) = plan.lives[a.0] else { panic!("`a` is used") };
        assert_eq!((life.first, life.last), (1, 4));
        assert_eq!(plan.lives[f.0].unwrap().last, 4, "what is read aside stays, too");
        // c and d, which run meanwhile, lie elsewhere.
        for (beside, other) in [(a, c), (a, d), (b, c), (b, d), (f, c), (f, d)] {
            let at = |v: Value| match plan.homes[v.0] {
                Home::Arena(at) => at,
                home => panic!("{home:?}"),
            };
            assert_ne!(at(beside), at(other));
        }
    }

    #[test]
    fn writing_what_is_read_aside_waits_and_so_does_the_end() {
        let mut graph = Graph::new();
        let shape = Shape::plane(1, 1, 64);
        let state = graph.state("state", shape, Element::F32, &[0.0; 64]);
        let [a, b] = ["a", "b"].map(|name| graph.temporary(name, shape, Element::F32));
        graph.set_aside(true);
        step(&mut graph, vec![read(state), write(a)]);
        graph.set_aside(false);
        step(&mut graph, vec![read(state), write(b)]);
        step(&mut graph, vec![write(state)]);
        graph.set_aside(true);
        step(&mut graph, vec![read(b), write(a)]);
        assert_eq!(asides(&graph), [Aside { steps: 0..1, join: 2 }, Aside { steps: 3..4, join: 4 }]);
    }
}
