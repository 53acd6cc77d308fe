//! A kernel that is ready to run: what an instruction can be, with slots of the register file for its operands.

use std::sync::atomic::AtomicBool;

use super::lanes::Rule;
use super::memory::Change;

/// A register's place in the file of a warp. Constants and special registers have places, too.
pub type Slot = u32;

/// Always zero, and nothing writes to it: what an instruction has no operand for.
pub const ZERO: Slot = 0;
/// Takes what nobody asks for.
pub const SINK: Slot = 1;
/// The first special register's place; they follow in the order of [`SPECIAL`].
pub const FIRST_SPECIAL: Slot = 2;
/// Registers whose values the launch gives.
pub const SPECIAL: [&str; 13] = [
    "%tid.x",
    "%tid.y",
    "%tid.z",
    "%ntid.x",
    "%ntid.y",
    "%ntid.z",
    "%ctaid.x",
    "%ctaid.y",
    "%ctaid.z",
    "%nctaid.x",
    "%nctaid.y",
    "%nctaid.z",
    "%laneid",
];

/// Which memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The device's. Generic addresses are counted here: no kernel makes one of shared memory.
    Global,
    /// The block's.
    Shared,
}

/// A register and a constant: `[%rd4+-16]`.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// The register.
    pub base: Slot,
    /// What is added, in bytes.
    pub offset: i64,
}

/// Up to four values that lie side by side in memory.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    /// Their registers.
    pub slots: [Slot; 4],
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub bytes: usize,
}

/// Where a shuffle's lane takes its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The lane that is named.
    Index,
    /// The lane whose number differs in these bits.
    Butterfly,
    /// So many lanes below.
    Up,
    /// So many lanes above.
    Down,
}

/// What an instruction does.
#[derive(Clone, Copy)]
pub enum Action {
    /// A register from others.
    Compute { rule: Rule, to: Slot, from: [Slot; 3] },
    /// Two registers from the halves of one, the lower half first.
    Unpack { to: [Slot; 2], from: Slot, bits: u32 },
    /// A parameter's bytes; addresses count from the first parameter.
    Parameter { to: Slot, at: Address, bytes: usize },
    /// Memory to registers; `constant` through the cache that does not see writes.
    Load { space: Space, to: Vector, at: Address, constant: bool },
    /// Registers to memory.
    Store { space: Space, at: Address, from: Vector },
    /// Memory changed by a value; what was there before goes to a register.
    Atomic { space: Space, change: Change, bytes: usize, to: Slot, at: Address, from: Slot },
    /// 16 bytes from global to shared memory, of which `bytes` are read and the others become zero.
    CopyAsync { to: Address, from: Address, bytes: Slot },
    /// Ends a group of copies.
    CommitCopies,
    /// Waits until at most so many groups are under way.
    WaitCopies { groups: usize },
    /// Four 8 x 8 tiles of f16 from shared memory.
    LoadMatrix { to: [Slot; 4], at: Address },
    /// d = a b + c, 16 x 16 by 16 x 8.
    MultiplyAdd { d: [Slot; 4], a: [Slot; 4], b: [Slot; 2], c: [Slot; 4] },
    /// Values between the lanes of a warp.
    Shuffle { how: Exchange, to: Slot, inside: Slot, from: Slot, by: Slot, limits: Slot, members: Slot },
    /// One bit of each lane.
    Ballot { to: Slot, from: Slot, members: Slot },
    /// A barrier of a warp's lanes.
    WarpBarrier { members: Slot },
    /// A barrier of the block; with `count`, how many threads' predicate is true.
    Barrier { count: Option<(Slot, Slot)> },
    /// Goes on elsewhere.
    Branch { to: u32 },
    /// The thread's end.
    Exit,
}

/// An instruction.
#[derive(Clone, Copy)]
pub struct Instruction {
    /// The predicate that must be true, or false where the second says so.
    pub guard: Option<(Slot, bool)>,
    /// What it does.
    pub action: Action,
    /// Its line in the PTX.
    pub line: u32,
}

/// A kernel that can be run.
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Sizes of its parameters, in order, and where they lie.
    pub parameters: Vec<(usize, usize)>,
    /// The most threads of a block.
    pub most_threads: Option<u32>,
    /// Its instructions.
    pub code: Vec<Instruction>,
    /// Their text.
    pub texts: Vec<String>,
    /// Which of them ran so far.
    pub reached: Vec<AtomicBool>,
    /// Registers of a warp.
    pub slots: usize,
    /// Places that hold constants.
    pub constants: Vec<(Slot, u64)>,
    /// Shared arrays of a known size: where and how long.
    pub arrays: Vec<(u64, u64)>,
    /// Where the dynamic array begins.
    pub dynamic: u64,
    /// Bytes of the smallest access to each memory: the detector looks at pieces of this size.
    pub grain: [usize; 2],
    /// Whether it has no approximations and no products on tensor cores.
    pub exact: bool,
}
