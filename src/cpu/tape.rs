//! A tape for reverse-mode differentiation: what ran forward is noted, and the gradient of a result flows back through
//! it.
//!
//! An [`Op`] says which of its inputs and whether its output its gradient reads. Everything else is given back to the
//! device's pool as soon as the forward pass drops its last [`Var`], so that a training step holds no more than the
//! gradients need. Ops whose intermediate volumes are large (the plane sweep) save small inputs and compute the rest
//! again.
//!
//! Gradients are added up in the reverse order of the forward pass: the same bits on every run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cpu::device::{self, Cpu, Pooled};
use crate::error::{Error, Result};
use crate::host::trace::span_of;
use crate::net::tensor::{Shape, Tensor};

/// A differentiable operation on tensors.
pub trait Op {
    /// For messages and profiles.
    fn name(&self) -> &'static str;

    /// What [`Op::backward`] reads.
    fn saves(&self) -> Saves;

    /// The result. Small things that backward needs (statistics) may be kept in the op.
    ///
    /// # Errors
    /// [`Error::Shape`] where the inputs do not fit together.
    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor>;

    /// The gradients in the inputs from the `gradient` in the result, one for each input; `None` for those that
    /// nothing flows into. Inputs that are not `wanted` may be left out.
    ///
    /// # Errors
    /// [`Error::Shape`] where the gradient does not fit.
    fn backward(&self, cpu: &Cpu, saved: &Saved, gradient: Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>>;
}

/// What of an op's inputs and output its gradient reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saves {
    /// The inputs' places.
    pub inputs: &'static [usize],
    /// Whether the output is needed.
    pub output: bool,
}

impl Saves {
    /// Only shapes.
    pub const NOTHING: Self = Self { inputs: &[], output: false };

    /// These inputs.
    pub const fn inputs(inputs: &'static [usize]) -> Self {
        Self { inputs, output: false }
    }
}

/// A value on the tape. Cheap to clone; the tensor lives as long as a clone or a gradient that needs it.
#[derive(Clone)]
pub struct Var<'a> {
    value: Pooled<'a>,
    /// Its place among the gradients; `None` for constants.
    slot: Option<usize>,
}

impl Var<'_> {
    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.value
    }

    /// The value's shape.
    pub fn shape(&self) -> Shape {
        self.tensor().shape
    }
}

/// What an op's gradient may read.
pub struct Saved<'s, 'a> {
    shapes: &'s [Shape],
    inputs: &'s [Option<Pooled<'a>>],
    output: Option<&'s Pooled<'a>>,
}

impl Saved<'_, '_> {
    /// An input's value.
    ///
    /// # Errors
    /// [`Error::Bug`] for one that [`Op::saves`] does not name.
    pub fn input(&self, i: usize) -> Result<&Tensor> {
        let held = self.inputs.get(i).and_then(Option::as_ref);
        held.map(|h| &**h).ok_or_else(|| not_saved(format!("input {i}")))
    }

    /// An input's shape, whether saved or not.
    pub fn shape(&self, i: usize) -> Shape {
        self.shapes[i]
    }

    /// The output's value.
    ///
    /// # Errors
    /// [`Error::Bug`] where [`Op::saves`] does not name it.
    pub fn output(&self) -> Result<&Tensor> {
        self.output.map(|h| &**h).ok_or_else(|| not_saved("output".into()))
    }
}

fn not_saved(what: String) -> Error {
    Error::Bug { place: "tape", problem: format!("{what} was not saved; the op's `saves` must name it") }
}

struct Node<'a> {
    op: Box<dyn Op + 'a>,
    label: String,
    output_slot: usize,
    input_slots: Vec<Option<usize>>,
    shapes: Vec<Shape>,
    inputs: Vec<Option<Pooled<'a>>>,
    output: Option<Pooled<'a>>,
}

/// Time that an op took in all its calls, forward and backward.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpTime {
    /// Calls.
    pub calls: usize,
    /// Of all forward calls together.
    pub forward: Duration,
    /// Of all backward calls together.
    pub backward: Duration,
}

/// The record of one forward pass.
pub struct Tape<'a> {
    cpu: &'a Cpu,
    nodes: RefCell<Vec<Node<'a>>>,
    slots: Cell<usize>,
    watch: bool,
    times: RefCell<BTreeMap<&'static str, OpTime>>,
}

impl<'a> Tape<'a> {
    /// An empty tape on a device.
    pub fn new(cpu: &'a Cpu) -> Self {
        Self { cpu, nodes: RefCell::default(), slots: Cell::new(0), watch: false, times: RefCell::default() }
    }

    /// Looks at every value and gradient, and fails with the name of the first op that makes one which is not finite.
    /// Slow: for finding out where a step went wrong.
    pub fn watching(cpu: &'a Cpu) -> Self {
        Self { watch: true, ..Self::new(cpu) }
    }

    /// The device.
    pub fn cpu(&self) -> &'a Cpu {
        self.cpu
    }

    fn slot(&self) -> usize {
        self.slots.replace(self.slots.get() + 1)
    }

    /// A value without gradient.
    pub fn constant(&self, tensor: Tensor) -> Var<'a> {
        Var { value: Pooled::new(self.cpu, tensor), slot: None }
    }

    /// A value whose gradient is wanted: a parameter, which stays its owner's.
    pub fn parameter(&self, tensor: &'a Tensor) -> Var<'a> {
        Var { value: Pooled::borrowed(tensor), slot: Some(self.slot()) }
    }

    /// Runs an op on `inputs` and notes it where one of them wants a gradient; `label` says where in the network this
    /// is.
    ///
    /// # Errors
    /// The op's; [`Error::NotFinite`] on a watching tape.
    pub fn apply(&self, mut op: impl Op + 'a, label: &str, inputs: &[&Var<'a>]) -> Result<Var<'a>> {
        let tensors: Vec<&Tensor> = inputs.iter().map(|v| v.tensor()).collect();
        let began = Instant::now();
        let noted = span_of(op.name(), || label.to_owned());
        let tensor = op.forward(self.cpu, &tensors)?;
        drop(noted);
        {
            let mut times = self.times.borrow_mut();
            let time = times.entry(op.name()).or_default();
            time.calls += 1;
            time.forward += began.elapsed();
        }
        if self.watch {
            expect_finite(&tensor, || format!("the result of {} at {label}", op.name()))?;
        }
        let value = Pooled::new(self.cpu, tensor);
        if inputs.iter().all(|v| v.slot.is_none()) {
            return Ok(Var { value, slot: None });
        }
        let slot = self.slot();
        let saves = op.saves();
        let keep = |(i, v): (usize, &&Var<'a>)| saves.inputs.contains(&i).then(|| v.value.clone());
        self.nodes.borrow_mut().push(Node {
            label: label.to_owned(),
            output_slot: slot,
            input_slots: inputs.iter().map(|v| v.slot).collect(),
            shapes: tensors.iter().map(|t| t.shape).collect(),
            inputs: inputs.iter().enumerate().map(keep).collect(),
            output: saves.output.then(|| value.clone()),
            op: Box::new(op),
        });
        Ok(Var { value, slot: Some(slot) })
    }

    /// Runs the tape backward from the gradients of something in `of`, and returns the gradients of all parameters.
    /// What the tape holds is given back on the way.
    ///
    /// # Errors
    /// [`Error::Shape`] where the gradient has not the value's shape; the ops'; [`Error::NotFinite`] on a watching
    /// tape.
    pub fn backward(self, of: impl IntoIterator<Item = (Var<'a>, Tensor)>) -> Result<Gradients<'a>> {
        let mut gradients: Vec<Option<Tensor>> = (0..self.slots.get()).map(|_| None).collect();
        for (var, gradient) in of {
            gradient.expect_shape("tape", "gradient", var.shape())?;
            match var.slot.map(|slot| &mut gradients[slot]) {
                None => self.cpu.recycle(gradient),
                Some(empty @ None) => *empty = Some(gradient),
                Some(Some(sum)) => {
                    device::add(sum, &gradient);
                    self.cpu.recycle(gradient);
                }
            }
        }
        let mut times = self.times.into_inner();
        for node in self.nodes.into_inner().into_iter().rev() {
            let Some(gradient) = gradients[node.output_slot].take() else { continue };
            let wanted: Vec<bool> = node.input_slots.iter().map(Option::is_some).collect();
            let saved = Saved { shapes: &node.shapes, inputs: &node.inputs, output: node.output.as_ref() };
            let began = Instant::now();
            let noted = span_of(node.op.name(), || format!("{}, backward", node.label));
            let parts = node.op.backward(self.cpu, &saved, gradient, &wanted)?;
            drop(noted);
            if parts.len() != node.input_slots.len() {
                let problem = format!("{} gradients of {} inputs at {}", parts.len(), wanted.len(), node.label);
                return Err(Error::Bug { place: node.op.name(), problem });
            }
            for ((slot, part), shape) in node.input_slots.iter().zip(parts).zip(&node.shapes) {
                let (Some(slot), Some(part)) = (*slot, part) else { continue };
                part.expect_shape("tape", "gradient of an input", *shape)?;
                if self.watch {
                    expect_finite(&part, || format!("a gradient of {} at {}", node.op.name(), node.label))?;
                }
                match &mut gradients[slot] {
                    empty @ None => *empty = Some(part),
                    Some(sum) => {
                        device::add(sum, &part);
                        self.cpu.recycle(part);
                    }
                }
            }
            times.entry(node.op.name()).or_default().backward += began.elapsed();
        }
        Ok(Gradients { cpu: self.cpu, gradients, times })
    }
}

fn expect_finite(tensor: &Tensor, what: impl FnOnce() -> String) -> Result<()> {
    match tensor.data.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => {
            Err(Error::NotFinite(format!("{} holds {} at element {i} of {}", what(), tensor.data[i], tensor.shape)))
        }
    }
}

/// What a tape ran back to.
pub struct Gradients<'a> {
    cpu: &'a Cpu,
    gradients: Vec<Option<Tensor>>,
    /// By op.
    pub times: BTreeMap<&'static str, OpTime>,
}

impl Gradients<'_> {
    /// The gradient of a parameter; `None` where nothing flowed into it.
    pub fn of(&self, parameter: &Var) -> Option<&Tensor> {
        parameter.slot.and_then(|slot| self.gradients[slot].as_ref())
    }
}

impl Drop for Gradients<'_> {
    fn drop(&mut self) {
        for gradient in self.gradients.drain(..).flatten() {
            self.cpu.recycle(gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = a b, element by element.
    struct Product;

    impl Op for Product {
        fn name(&self) -> &'static str {
            "product"
        }
        fn saves(&self) -> Saves {
            Saves::inputs(&[0, 1])
        }
        fn forward(&mut self, _: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
            let mut y = inputs[0].clone();
            y.data.iter_mut().zip(inputs[1].data.iter()).for_each(|(y, b)| *y *= b);
            Ok(y)
        }
        fn backward(&self, _: &Cpu, saved: &Saved, gradient: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
            let times = |other: &Tensor| {
                let mut g = gradient.clone();
                g.data.iter_mut().zip(other.data.iter()).for_each(|(g, o)| *g *= o);
                g
            };
            Ok(vec![Some(times(saved.input(1)?)), Some(times(saved.input(0)?))])
        }
    }

    fn vector(values: &[f32]) -> Tensor {
        Tensor::from_slice(Shape::plane(1, 1, values.len()), values).unwrap()
    }

    #[test]
    fn gradients_of_a_value_that_is_used_often_are_added_up() {
        let cpu = Cpu::new();
        let (a, b) = (vector(&[2.0, -3.0]), vector(&[5.0, 7.0]));
        let tape = Tape::new(&cpu);
        let (a, b, c) = (tape.parameter(&a), tape.parameter(&b), tape.constant(vector(&[10.0, 1.0])));
        // a^2 b c.
        let square = tape.apply(Product, "square", &[&a, &a]).unwrap();
        let ab = tape.apply(Product, "ab", &[&square, &b]).unwrap();
        drop(square);
        let y = tape.apply(Product, "y", &[&ab, &c]).unwrap();
        assert_eq!(&y.tensor().data[..], [200.0, 63.0]);
        let gradients = tape.backward([(y, vector(&[1.0, 0.5]))]).unwrap();
        assert_eq!(&gradients.of(&a).unwrap().data[..], [200.0, -21.0]);
        assert_eq!(&gradients.of(&b).unwrap().data[..], [40.0, 4.5]);
        assert!(gradients.of(&c).is_none());
        assert_eq!(gradients.times["product"].calls, 3);
    }

    #[test]
    fn what_no_parameter_flows_into_is_not_noted() {
        let cpu = Cpu::new();
        let tape = Tape::new(&cpu);
        let c = tape.constant(vector(&[1.0]));
        let y = tape.apply(Product, "y", &[&c, &c]).unwrap();
        assert!(tape.nodes.borrow().is_empty() && y.slot.is_none());
    }

    #[test]
    fn a_watching_tape_names_the_first_op_that_goes_wrong() {
        let cpu = Cpu::new();
        let (a, b) = (vector(&[1e30]), vector(&[1e20]));
        let tape = Tape::watching(&cpu);
        let (a, b) = (tape.parameter(&a), tape.parameter(&b));
        let error = tape.apply(Product, "gate", &[&a, &b]).err().unwrap().to_string();
        assert!(error.contains("the result of product at gate holds inf at element 0"), "{error}");
    }
}
