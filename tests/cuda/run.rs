//! Runs a graph of one op and returns what it made.

use std::sync::Arc;

use engine::cuda::driver::{Driver, Stream};
use engine::cuda::graph::{Graph, Value};
use engine::cuda::placement::{Home, place};
use engine::cuda::program::{Owned, Program};
use engine::cuda::storage::{Element, stored};

use crate::emulator::{Build, emulator};
use crate::test_device::interpreter::{Interpreter, library};
use crate::test_device::nvcc::Sums;
use crate::test_device::{on_interpreter, test_device};

/// What a graph's case is: its inputs with their values, and the values that it is asked for.
type Case = (Vec<(Value, Vec<f32>)>, Vec<Value>);

/// The values of `kept` after two runs of the graph with these inputs, on the build with the detector and every value
/// in an allocation of its own. The second run must give the same bits: nothing may be left over from the first, and
/// nothing may depend on an order. `None` where there is no emulator.
///
/// On the interpreter whose kernels round after every operation, the emulator's bits must come out, too.
pub fn run(graph: impl Fn(&mut Graph) -> Case) -> Option<Vec<Vec<f32>>> {
    if on_interpreter() == Some(Sums::Apart) {
        let interpreter = Arc::new(Interpreter::new(library(Sums::Apart)?));
        let device: Arc<dyn Driver> = interpreter.clone();
        let found = run_on(&device, &graph);
        if interpreter.only_exact() {
            let expected = run_on(&emulator(Build::Fast)?, &graph);
            // The bits of a NaN are nobody's promise.
            let one = |v: &f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
            let bits = |all: &[Vec<f32>]| -> Vec<u32> { all.iter().flatten().map(one).collect() };
            assert_eq!(bits(&found), bits(&expected), "the interpreter and the emulator differ");
        }
        return Some(found);
    }
    Some(run_on(&test_device(Build::Checked)?, &graph))
}

fn run_on(device: &Arc<dyn Driver>, graph: &impl Fn(&mut Graph) -> Case) -> Vec<Vec<f32>> {
    let mut built = Graph::new();
    let (inputs, kept) = graph(&mut built);
    kept.iter().for_each(|&value| built.keep(value));
    let mut program = program_apart(device, built).unwrap();
    let mut results: Vec<Vec<Vec<f32>>> = Vec::new();
    for _ in 0..2 {
        for (value, values) in &inputs {
            let element = program.graph().element(*value);
            program.upload(*value, &stored(element, values)).unwrap();
        }
        program.run().unwrap_or_else(|error| panic!("{error}"));
        program.synchronize().unwrap();
        results.push(kept.iter().map(|&value| program.download_f32(value).unwrap()).collect());
    }
    let bits = |all: &Vec<Vec<f32>>| all.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&results[0]), bits(&results[1]), "two runs differ");
    results.swap_remove(1)
}

/// A program whose values each have an allocation of their own: an access beside one is noticed by whoever watches
/// allocations.
pub fn program_apart(device: &Arc<dyn Driver>, graph: Graph) -> engine::Result<Program> {
    let plan = place(&graph)?;
    let (mut pointers, mut memory) = (Vec::new(), Vec::new());
    for (info, home) in graph.values().iter().zip(&plan.homes) {
        if *home == Home::Unused {
            pointers.push(0);
            continue;
        }
        let owned = Owned::new(device, info.bytes(), || format!("value `{}`", info.name))?;
        pointers.push(owned.pointer());
        memory.push(owned);
    }
    Program::placed(device, Stream::FIRST, graph, plan, pointers, memory)
}

/// What a value becomes when it is stored: rounded to f16, or as it is.
pub fn rounded(element: Element, values: &[f32]) -> Vec<f32> {
    match element {
        Element::F16 => values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect(),
        _ => values.to_vec(),
    }
}
