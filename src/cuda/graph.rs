//! What is to be done on a device, written down before it is done: values and the steps that make them.
//!
//! A network's work is the same for every view of one size, so it is noted once as a [`Graph`]. From that follow how
//! long each value lives and where it lies in memory ([`super::placement`]), and a program that is replayed view after
//! view ([`super::program`]). For training the same ops note how their gradients are made, and [`Graph::backward`]
//! appends those steps; what a gradient reads lives until then, by the same rule.

use super::convolution;
use super::storage::{Element, Pointer, stored};
use crate::error::Result;
use crate::net::tensor::Shape;

/// A value of a graph: a tensor in device memory once the graph runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) usize);

/// Where a value's contents come from and how long they live.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Made by a step, gone after the last that reads it.
    Temporary,
    /// Put there from outside before each run.
    Input,
    /// Made by a step and there after the run.
    Output,
    /// The same in all runs: weights. Little-endian bytes.
    Constant(Vec<u8>),
    /// Memory that somebody else owns and keeps longer than the program: parameters that programs of several shapes
    /// share.
    External(Pointer),
    /// Changed by steps and kept between runs, beginning with these bytes: parameters, moments, running statistics.
    State(Vec<u8>),
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct ValueInfo {
    /// Its extent.
    pub shape: Shape,
    /// Its elements.
    pub element: Element,
    /// Where it comes from.
    pub kind: Kind,
    /// For messages and plans.
    pub name: String,
}

impl ValueInfo {
    /// Bytes of the value.
    pub fn bytes(&self) -> u64 {
        self.shape.len() as u64 * self.element.bytes()
    }
}

/// One parameter of a kernel.
#[derive(Clone, Debug)]
pub enum Arg {
    /// The address of a value that the kernel reads, `offset` bytes into it.
    Read(Value, u64),
    /// Of one that it writes as a whole (several steps may write parts).
    Write(Value, u64),
    /// Of one that it reads and changes.
    Update(Value, u64),
    /// A null pointer: an optional tensor that is absent.
    Null,
    /// A number or a plain struct.
    Plain(Vec<u8>),
    /// The address of a list of addresses, one for each of these: what kernels over many tensors take.
    Table(Vec<Arg>),
}

impl Arg {
    /// A number or a `#[repr(C)]` struct without padding, passed by value.
    pub fn plain<T: bytemuck::NoUninit>(value: T) -> Self {
        Self::Plain(bytemuck::bytes_of(&value).to_vec())
    }

    /// The value whose address this is.
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::Read(v, _) | Self::Write(v, _) | Self::Update(v, _) => Some(*v),
            Self::Null | Self::Plain(_) | Self::Table(_) => None,
        }
    }

    /// Every address in it: its own, or those of its table.
    pub fn addresses(&self) -> &[Arg] {
        match self {
            Self::Table(args) => args,
            arg => std::slice::from_ref(arg),
        }
    }
}

/// A value that a kernel reads, from its beginning.
pub fn read(value: Value) -> Arg {
    Arg::Read(value, 0)
}

/// As [`read`], or a null pointer.
pub fn read_or_null(value: Option<Value>) -> Arg {
    value.map_or(Arg::Null, read)
}

/// A value that a kernel writes, from its beginning.
pub fn write(value: Value) -> Arg {
    Arg::Write(value, 0)
}

/// A value that a kernel reads and changes.
pub fn update(value: Value) -> Arg {
    Arg::Update(value, 0)
}

/// A 32-bit integer parameter.
///
/// # Panics
/// Where it does not fit: extents of tensors do.
pub fn int(n: usize) -> Arg {
    Arg::plain(i32::try_from(n).expect("an extent fits in 31 bits"))
}

/// A 64-bit `Index` parameter.
pub fn index(n: usize) -> Arg {
    Arg::plain(n as i64)
}

/// An f32 parameter.
pub fn float(x: f32) -> Arg {
    Arg::plain(x)
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Work {
    /// One kernel.
    Kernel {
        /// Its name in the kernel files.
        kernel: String,
        /// Blocks.
        grid: [u32; 3],
        /// Threads of a block.
        block: [u32; 3],
        /// Bytes of dynamic shared memory.
        shared: u32,
    },
    /// Sets all bytes of the first argument's value.
    Fill(u8),
    /// Copies this many bytes from the first argument to the second.
    Copy(u64),
    /// A convolution by cuDNN; the arguments are x, w, bias, residual, y, workspace.
    Convolution(convolution::Call),
}

/// One piece of work on values.
#[derive(Clone, Debug)]
pub struct Step {
    /// The op's name: what profiles and NVTX ranges show.
    pub op: &'static str,
    /// Where in the network it is.
    pub label: String,
    /// What it does.
    pub work: Work,
    /// On what.
    pub args: Vec<Arg>,
    /// Floating-point operations, a multiply-add being two.
    pub flops: u64,
    /// Whether it may run beside the steps behind it ([`Graph::set_aside`]).
    pub aside: bool,
}

/// How the gradients in an op's inputs are made from the one in its output: appends steps, and returns one value for
/// each input that is wanted.
pub type Backward = Box<dyn FnOnce(&mut Graph, Value, &[bool]) -> Result<Vec<Option<Value>>> + Send>;

/// An op whose gradients may be wanted.
pub(super) struct Node {
    pub(super) label: String,
    pub(super) inputs: Vec<Value>,
    pub(super) output: Value,
    pub(super) backward: Backward,
}

/// Values and steps in the order in which they run.
#[derive(Default)]
pub struct Graph {
    pub(super) values: Vec<ValueInfo>,
    pub(super) steps: Vec<Step>,
    pub(super) nodes: Vec<Node>,
    /// Whether a gradient is wanted, by value.
    wanted: Vec<bool>,
    /// Whether what is appended now may run beside what comes after it.
    is_aside: bool,
}

impl Graph {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, name: impl Into<String>, shape: Shape, element: Element, kind: Kind) -> Value {
        self.values.push(ValueInfo { shape, element, kind, name: name.into() });
        self.wanted.push(false);
        Value(self.values.len() - 1)
    }

    /// A value that is put there before each run.
    pub fn input(&mut self, name: impl Into<String>, shape: Shape, element: Element) -> Value {
        self.add(name, shape, element, Kind::Input)
    }

    /// A value that a step will make.
    pub fn temporary(&mut self, name: impl Into<String>, shape: Shape, element: Element) -> Value {
        self.add(name, shape, element, Kind::Temporary)
    }

    /// Values that never change, given as f32 and stored as `element` (F32, F16 or F64).
    pub fn constant(&mut self, name: impl Into<String>, shape: Shape, element: Element, values: &[f32]) -> Value {
        self.add(name, shape, element, Kind::Constant(stored(element, values)))
    }

    /// Bytes that never change.
    pub fn constant_bytes(&mut self, name: impl Into<String>, shape: Shape, element: Element, bytes: Vec<u8>) -> Value {
        self.add(name, shape, element, Kind::Constant(bytes))
    }

    /// Values that steps change and that stay between runs.
    pub fn state(&mut self, name: impl Into<String>, shape: Shape, element: Element, values: &[f32]) -> Value {
        self.add(name, shape, element, Kind::State(stored(element, values)))
    }

    /// A value at an address that somebody else owns.
    pub fn external(&mut self, name: impl Into<String>, shape: Shape, element: Element, pointer: Pointer) -> Value {
        self.add(name, shape, element, Kind::External(pointer))
    }

    /// Keeps a value that a step makes until the run's end, so that it can be read.
    pub fn keep(&mut self, value: Value) {
        if self.values[value.0].kind == Kind::Temporary {
            self.values[value.0].kind = Kind::Output;
        }
    }

    /// All values so far, in the order in which they were added.
    pub fn values(&self) -> &[ValueInfo] {
        &self.values
    }

    /// What is known of a value.
    pub fn info(&self, value: Value) -> &ValueInfo {
        &self.values[value.0]
    }

    /// A value's extent.
    pub fn shape(&self, value: Value) -> Shape {
        self.info(value).shape
    }

    /// How a value is stored.
    pub fn element(&self, value: Value) -> Element {
        self.info(value).element
    }

    /// All steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Appends a kernel. `block` threads by `grid` blocks; a grid without blocks is left out.
    #[allow(clippy::too_many_arguments, reason = "what a launch consists of")]
    pub fn launch(
        &mut self,
        op: &'static str,
        label: &str,
        kernel: impl Into<String>,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: Vec<Arg>,
    ) {
        if grid.contains(&0) {
            return;
        }
        self.push(op, label, Work::Kernel { kernel: kernel.into(), grid, block, shared }, args);
    }

    /// Notes how much arithmetic the last step is.
    pub fn flops(&mut self, flops: u64) {
        if let Some(step) = self.steps.last_mut() {
            step.flops = flops;
        }
    }

    /// Appends any step.
    pub fn push(&mut self, op: &'static str, label: &str, work: Work, args: Vec<Arg>) {
        let (label, aside) = (label.to_owned(), self.is_aside);
        self.steps.push(Step { op, label, work, args, flops: 0, aside });
    }

    /// Whether steps that are appended from now on may run beside those behind them, until something of theirs is used.
    pub fn set_aside(&mut self, is_aside: bool) {
        self.is_aside = is_aside;
    }

    /// Sets all bytes of a value.
    pub fn fill(&mut self, value: Value, byte: u8) {
        self.push("fill", "", Work::Fill(byte), vec![write(value)]);
    }

    /// Copies `bytes` from an offset of one value to an offset of another.
    pub fn copy(&mut self, label: &str, (from, at): (Value, u64), (to, offset): (Value, u64), bytes: u64) {
        self.push("copy", label, Work::Copy(bytes), vec![Arg::Read(from, at), Arg::Write(to, offset)]);
    }

    /// Wants a gradient of this value.
    pub fn want_gradient(&mut self, value: Value) {
        self.wanted[value.0] = true;
    }

    /// Whether a gradient of this value is wanted, by itself or because of what it was made from.
    pub fn wants_gradient(&self, value: Value) -> bool {
        self.wanted[value.0]
    }

    /// Notes how an op's gradients are made, where one of its inputs wants any.
    pub fn record(
        &mut self,
        label: &str,
        inputs: &[Value],
        output: Value,
        backward: impl FnOnce(&mut Graph, Value, &[bool]) -> Result<Vec<Option<Value>>> + Send + 'static,
    ) {
        if inputs.iter().any(|v| self.wanted[v.0]) {
            self.wanted[output.0] = true;
            let (label, inputs) = (label.to_owned(), inputs.to_vec());
            self.nodes.push(Node { label, inputs, output, backward: Box::new(backward) });
        }
    }
}

/// Blocks of `threads` that hold `n` threads between them: a one-dimensional grid. Kernels loop where the grid is cut
/// off at what keeps a device busy.
pub fn blocks(n: usize, threads: u32) -> [u32; 3] {
    const MOST: usize = 1 << 20;
    [n.div_ceil(threads as usize).min(MOST) as u32, 1, 1]
}
