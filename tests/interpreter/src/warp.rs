//! The lanes of a warp: which of them run together, where the others wait, and what each instruction does to them.
//!
//! Lanes at the same instruction run as one group. Where they part, the group that is furthest behind runs first, and
//! groups that meet again join: code that nvcc lays out in order comes together where its branches end. An instruction
//! for several lanes (`.sync`, barriers) waits until all its lanes have come to it; where they never do, that is
//! reported with the places at which they wait.

use std::sync::atomic::Ordering;

use super::code::{Action, Address, FIRST_SPECIAL, Kernel, SINK, Slot, Space, Vector, ZERO};
use super::figures::Figures;
use super::lanes::{Lanes, Rule, lanes_of, mask_of};
use super::memory::{Memory, Moment, Spot, Touch};

/// What a warp may use while it runs.
pub struct Around<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Bytes of its parameters.
    pub parameters: &'a [u8],
    /// Device memory.
    pub global: &'a mut Memory,
    /// The block's memory.
    pub shared: &'a mut Memory,
    /// What is counted.
    pub figures: Figures,
    /// The block, counted over all launches.
    pub block: u32,
    /// Barriers that it passed.
    pub epoch: u32,
    /// Instructions that the launch may still run.
    pub budget: u64,
}

/// Something wrong: what, and where it was found.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The instruction's index.
    pub pc: u32,
    /// The thread in its block.
    pub thread: u32,
    /// What it did.
    pub what: String,
}

/// Lanes that are at the same instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    lanes: u32,
    /// For lanes that have not come yet.
    waits: bool,
}

/// An asynchronous copy that its lane has not waited for.
pub struct Copy {
    pub lane: usize,
    /// The group it belongs to, counted from the lane's first.
    pub group: u32,
    pub to: Spot,
    pub address: u64,
    pub bytes: [u8; 16],
}

/// A warp.
pub struct Warp {
    /// Its first thread.
    pub first: u32,
    /// Lanes that there are.
    pub existing: u32,
    /// Lanes that have not left.
    pub live: u32,
    groups: Vec<Group>,
    /// All registers.
    pub registers: Vec<Lanes>,
    scratch: Lanes,
    /// Copies under way.
    pub copies: Vec<Copy>,
    /// Groups of copies that each lane has ended.
    pub ended: [u32; 32],
    /// Barriers among its lanes.
    pub epoch: u16,
}

/// How far a warp came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// All lanes have left.
    End,
    /// All lanes are at the block's barrier at this instruction.
    Barrier(u32),
}

impl Warp {
    /// At the kernel's beginning. `special` gives the special registers of a thread in the order of
    /// [`super::code::SPECIAL`].
    pub fn new(kernel: &Kernel, first: u32, threads: u32, special: impl Fn(u32) -> [u32; 13]) -> Self {
        let existing = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
        let mut warp = Self {
            first,
            existing,
            live: existing,
            groups: vec![Group { pc: 0, lanes: existing, waits: false }],
            registers: vec![[0; 32]; kernel.slots],
            scratch: [0; 32],
            copies: Vec::new(),
            ended: [0; 32],
            epoch: 0,
        };
        for &(slot, value) in &kernel.constants {
            warp.registers[slot as usize] = [value; 32];
        }
        for lane in 0..32 {
            for (i, value) in special(first + lane).into_iter().enumerate() {
                warp.registers[FIRST_SPECIAL as usize + i][lane as usize] = value.into();
            }
        }
        warp
    }

    /// Begins again, for another block: registers keep what they held, as a device's do, but special ones are new.
    pub fn restart(&mut self, special: impl Fn(u32) -> [u32; 13]) {
        self.live = self.existing;
        self.groups = vec![Group { pc: 0, lanes: self.existing, waits: false }];
        self.copies.clear();
        self.ended = [0; 32];
        self.epoch = 0;
        for lane in 0..32 {
            for (i, value) in special(self.first + lane).into_iter().enumerate() {
                self.registers[FIRST_SPECIAL as usize + i][lane as usize] = value.into();
            }
        }
    }

    /// Goes on after a barrier of the block.
    pub fn pass(&mut self, pc: u32) {
        self.groups = vec![Group { pc: pc + 1, lanes: self.live, waits: false }];
    }

    /// Adds lanes at an instruction to those that are there.
    fn join(&mut self, pc: u32, lanes: u32) {
        if lanes == 0 {
            return;
        }
        match self.groups.iter_mut().find(|group| group.pc == pc) {
            Some(group) => {
                group.lanes |= lanes;
                group.waits = false;
            }
            None => self.groups.push(Group { pc, lanes, waits: false }),
        }
    }

    /// A register's value for a lane.
    pub fn value(&self, slot: Slot, lane: usize) -> u64 {
        self.registers[slot as usize][lane]
    }

    /// Sets it.
    pub fn set(&mut self, slot: Slot, lane: usize, value: u64) {
        self.registers[slot as usize][lane] = value;
    }

    /// An address for each lane.
    pub fn addresses(&self, at: Address) -> Lanes {
        self.registers[at.base as usize].map(|base| base.wrapping_add_signed(at.offset))
    }

    /// A lane's moment.
    pub fn moment(&self, lane: usize, around: &Around) -> Moment {
        let thread = (self.first as usize + lane) as u16;
        Moment { block: around.block, epoch: around.epoch, thread, warp_epoch: self.epoch }
    }

    fn fault(&self, pc: u32, lane: usize, what: impl Into<String>) -> Fault {
        Fault { pc, thread: self.first + lane as u32, what: what.into() }
    }

    /// Runs until all lanes have left or stand at one barrier of the block.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn run(&mut self, around: &mut Around) -> Result<Reached, Fault> {
        loop {
            let ready = self.groups.iter().enumerate().filter(|(_, group)| !group.waits);
            let Some((i, _)) = ready.min_by_key(|(_, group)| group.pc) else {
                return if self.groups.is_empty() { Ok(Reached::End) } else { Err(self.stuck(around)) };
            };
            let group = self.groups.swap_remove(i);
            if let Some(reached) = self.run_group(group, around)? {
                return Ok(reached);
            }
        }
    }

    /// Why no lane can go on.
    fn stuck(&self, around: &Around) -> Fault {
        let mut places: Vec<String> = Vec::new();
        for group in &self.groups {
            let line = around.kernel.code[group.pc as usize].line;
            places.push(format!("lanes {:#x} wait at line {line}", group.lanes));
        }
        let left = self.existing & !self.live;
        if left != 0 {
            places.push(format!("lanes {left:#x} have left"));
        }
        let first = self.groups[0];
        let what = format!("DIVERGENCE: waits for lanes that never come: {}", places.join(", "));
        self.fault(first.pc, first.lanes.trailing_zeros() as usize, what)
    }

    /// Runs lanes until they part, leave, wait, or come to where others are.
    fn run_group(&mut self, group: Group, around: &mut Around) -> Result<Option<Reached>, Fault> {
        let Group { mut pc, lanes, .. } = group;
        let kernel = around.kernel;
        // Other lanes that may run stand there: no further than that alone.
        let limit = self.groups.iter().filter(|g| !g.waits).map(|g| g.pc).min().unwrap_or(u32::MAX);
        let meets = |pc: u32, groups: &[Group]| groups.iter().any(|group| group.pc == pc);
        let mut first = true;
        loop {
            if pc >= limit || !first && !self.groups.is_empty() && meets(pc, &self.groups) {
                self.join(pc, lanes);
                return Ok(None);
            }
            first = false;
            let Some(instruction) = kernel.code.get(pc as usize) else {
                return Err(self.fault(pc - 1, lanes.trailing_zeros() as usize, "runs past the kernel's end"));
            };
            let mut active = lanes;
            if let Some((slot, inverted)) = instruction.guard {
                let mask = mask_of(&self.registers[slot as usize]);
                active &= if inverted { !mask } else { mask };
            }
            kernel.reached[pc as usize].store(true, Ordering::Relaxed);
            around.figures.instructions += 1;
            around.figures.lane_instructions += u64::from(active.count_ones());
            if around.figures.instructions > around.budget {
                return Err(self.fault(pc, lanes.trailing_zeros() as usize, "the launch does not end"));
            }
            match instruction.action {
                Action::Compute { rule, to, from } if active != 0 => self.compute(rule, to, from, active),
                Action::Branch { to } => {
                    if active == lanes {
                        pc = to;
                        continue;
                    }
                    if active != 0 {
                        self.join(to, active);
                        self.join(pc + 1, lanes & !active);
                        return Ok(None);
                    }
                }
                Action::Exit => {
                    self.live &= !active;
                    self.join(pc + 1, lanes & !active);
                    return Ok(None);
                }
                _ if active == 0 => {}
                action => {
                    if let Some(needed) = self
                        .needed(action, active)
                        .map_err(|what| self.fault(pc, active.trailing_zeros() as usize, what))?
                    {
                        if active != lanes {
                            // Those whose guard is false go on; the others come back alone.
                            self.join(pc + 1, lanes & !active);
                        }
                        if needed & !active != 0 {
                            self.groups.push(Group { pc, lanes: active, waits: true });
                            return Ok(None);
                        }
                        if let Action::Barrier { .. } = action {
                            return Ok(Some(Reached::Barrier(pc)));
                        }
                        self.meet(action, active, around).map_err(|(lane, what)| self.fault(pc, lane, what))?;
                        if active != lanes {
                            self.join(pc + 1, active);
                            return Ok(None);
                        }
                    } else {
                        self.access(action, active, around).map_err(|(lane, what)| self.fault(pc, lane, what))?;
                    }
                }
            }
            pc += 1;
        }
    }

    /// Lanes that must come to an instruction together; `None` for one that each lane does for itself.
    fn needed(&self, action: Action, active: u32) -> Result<Option<u32>, String> {
        let members = match action {
            Action::Barrier { .. } | Action::MultiplyAdd { .. } | Action::LoadMatrix { .. } => {
                // Lanes that have left can never take part, and are never meant to.
                return Ok(Some(self.existing));
            }
            Action::Shuffle { members, .. } | Action::Ballot { members, .. } | Action::WarpBarrier { members } => {
                members
            }
            _ => return Ok(None),
        };
        let mut named = 0;
        for lane in lanes_of(active) {
            let mask = self.value(members, lane) as u32;
            if mask >> lane & 1 == 0 {
                return Err(format!("takes part in an instruction of the lanes {mask:#x}, of which it is none"));
            }
            named |= mask;
        }
        Ok(Some(named & self.existing))
    }

    fn compute(&mut self, rule: Rule, to: Slot, from: [Slot; 3], active: u32) {
        let [a, b, c] = from.map(|slot| &self.registers[slot as usize]);
        rule(a, b, c, &mut self.scratch);
        let to = &mut self.registers[to as usize];
        if active == u32::MAX {
            *to = self.scratch;
        } else {
            for (lane, (to, new)) in to.iter_mut().zip(self.scratch).enumerate() {
                let keep = (u64::from(active >> lane) & 1).wrapping_sub(1);
                *to = *to & keep | new & !keep;
            }
        }
        debug_assert!(self.registers[ZERO as usize] == [0; 32], "nothing writes to what is always zero");
    }

    /// What each lane does for itself, but computing. An error comes with its lane.
    fn access(&mut self, action: Action, active: u32, around: &mut Around) -> Result<(), (usize, String)> {
        match action {
            Action::Unpack { to, from, bits } => {
                let mask = u64::MAX >> (64 - bits);
                for lane in lanes_of(active) {
                    let value = self.value(from, lane);
                    self.set(to[0], lane, value & mask);
                    self.set(to[1], lane, value >> bits & mask);
                }
            }
            Action::Parameter { to, at, bytes } => {
                let addresses = self.addresses(at);
                for lane in lanes_of(active) {
                    let from = addresses[lane] as usize;
                    let bytes = from.checked_add(bytes).and_then(|end| around.parameters.get(from..end));
                    let bytes = bytes.ok_or_else(|| (lane, format!("reads a parameter out of bounds, at {from}")))?;
                    let mut word = [0; 8];
                    word[..bytes.len()].copy_from_slice(bytes);
                    self.set(to, lane, u64::from_le_bytes(word));
                }
            }
            Action::Load { space, to, at, constant } => {
                let how = if constant { Touch::ReadConstant } else { Touch::Read };
                self.transfer(space, at, to, how, active, around)?;
            }
            Action::Store { space, at, from } => self.transfer(space, at, from, Touch::Write, active, around)?,
            Action::Atomic { space, change, bytes, to, at, from } => {
                let addresses = self.addresses(at);
                for lane in lanes_of(active) {
                    let now = self.moment(lane, around);
                    let memory = if space == Space::Global { &mut *around.global } else { &mut *around.shared };
                    let spot = memory.touch(now, addresses[lane], bytes, Touch::Atomic).map_err(|w| (lane, w))?;
                    let old = memory.read(spot, bytes);
                    memory.write(spot, bytes, change(old, self.value(from, lane)));
                    if to != SINK {
                        self.set(to, lane, old);
                    }
                }
            }
            Action::CopyAsync { to, from, bytes } => self.copy_async(to, from, bytes, active, around)?,
            Action::CommitCopies => lanes_of(active).for_each(|lane| self.ended[lane] += 1),
            Action::WaitCopies { groups } => self.wait_for_copies(groups as u32, active, around)?,
            _ => unreachable!("`needed` knows all others"),
        }
        Ok(())
    }

    /// A load or store of all active lanes.
    fn transfer(
        &mut self,
        space: Space,
        at: Address,
        vector: Vector,
        how: Touch,
        active: u32,
        around: &mut Around,
    ) -> Result<(), (usize, String)> {
        let addresses = self.addresses(at);
        let Vector { slots, count, bytes } = vector;
        let size = count * bytes;
        match space {
            Space::Global => around.figures.device(&addresses, active, size),
            Space::Shared => around.figures.shared(&addresses, active, size),
        }
        for lane in lanes_of(active) {
            let now = self.moment(lane, around);
            let memory = if space == Space::Global { &mut *around.global } else { &mut *around.shared };
            let mut spot = memory.touch(now, addresses[lane], size, how).map_err(|what| (lane, verb(how) + &what))?;
            for &slot in &slots[..count] {
                if how == Touch::Write {
                    memory.write(spot, bytes, self.registers[slot as usize][lane]);
                } else {
                    self.registers[slot as usize][lane] = memory.read(spot, bytes);
                }
                spot.offset += bytes;
            }
        }
        Ok(())
    }
}

/// How a message about memory begins.
pub fn verb(how: Touch) -> String {
    match how {
        Touch::Write => "writes ".to_owned(),
        Touch::Atomic => "changes ".to_owned(),
        Touch::Read | Touch::ReadConstant => "reads ".to_owned(),
    }
}
