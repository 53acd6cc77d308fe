//! Memory of the device and of a block: what was allocated, what was written, and who touched it last.
//!
//! Every access is checked against its allocation, its alignment, what was written before, and the accesses of other
//! threads. Two accesses of different threads to the same bytes, one of them a write and not both atomic, are a race
//! unless a barrier lies between: one of the block for its threads, `bar.warp.sync` for lanes of a warp (a shuffle
//! orders no memory), and nothing at all for blocks of one launch. This does not depend on the order in which they
//! happen to run.

/// Changes a value in memory, given what is there and what comes.
pub type Change = fn(u64, u64) -> u64;

/// The change of an atomic instruction: `add` on `u64`.
pub fn change(what: &str, kind: &str) -> Option<Change> {
    Some(match (what, kind) {
        ("add", "u32") => |old, new| u64::from((old as u32).wrapping_add(new as u32)),
        ("add", "u64") => |old, new| old.wrapping_add(new),
        ("add", "f32") => |old, new| u64::from((f32::from_bits(old as u32) + f32::from_bits(new as u32)).to_bits()),
        ("max", "u32" | "u64") => |old, new| old.max(new),
        ("min", "u32" | "u64") => |old, new| old.min(new),
        ("max", "s32") => |old, new| u64::from((old as i32).max(new as i32) as u32),
        ("min", "s32") => |old, new| u64::from((old as i32).min(new as i32) as u32),
        ("or", "b32") => |old, new| old | new,
        ("and", "b32") => |old, new| old & new,
        ("exch", "b32") => |_, new| new,
        _ => return None,
    })
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// An ordinary read.
    Read,
    /// A read through the cache that does not see the launch's writes.
    ReadConstant,
    /// A write.
    Write,
    /// Both at once, in order with other atomics.
    Atomic,
}

/// A thread at a point of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The block, counted over all launches from 1; 0 is nobody.
    pub block: u32,
    /// Barriers that the block has passed.
    pub epoch: u32,
    /// The thread in its block, or one of the values below for several.
    pub thread: u16,
    /// Barriers of its warp.
    pub warp_epoch: u16,
}

/// Lanes of one warp, of which `Moment::warp_epoch` keeps no more than the last.
const OF_A_WARP: u16 = 0x8000;
const OF_A_BLOCK: u16 = 0xfffe;
const OF_A_GRID: u16 = 0xffff;

impl Moment {
    fn warp(self) -> u16 {
        if self.thread >= OF_A_BLOCK { u16::MAX } else { (self.thread & !OF_A_WARP) / 32 }
    }

    /// Whether what happened then is surely over now.
    fn before(self, now: Self) -> bool {
        if self.block != now.block || self.thread == OF_A_GRID {
            return false;
        }
        self.thread == now.thread
            || self.epoch < now.epoch
            || (self.warp() == now.warp() && self.warp_epoch < now.warp_epoch)
    }

    /// This reader and another one, which may still read, in one stamp.
    fn with(self, earlier: Self) -> Self {
        let thread = if earlier.block != self.block || earlier.thread == OF_A_GRID {
            OF_A_GRID
        } else if earlier.warp() == self.warp() {
            (self.warp() * 32) | OF_A_WARP
        } else {
            OF_A_BLOCK
        };
        Self { thread, ..self }
    }
}

/// Who touched a piece of memory last.
#[derive(Clone, Copy, Default)]
struct Cell {
    write: Moment,
    read: Moment,
    atomic_write: bool,
    atomic_read: bool,
    constant: bool,
}

/// What a byte holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    Unwritten,
    Written,
    /// An asynchronous copy is under way to it.
    Promised,
}

/// An allocation.
pub struct Area {
    /// Its address.
    pub start: u64,
    /// Its contents. What was not written is 0xff: NaN in f16, f32 and f64.
    pub bytes: Vec<u8>,
    state: Vec<Byte>,
    cells: Vec<Cell>,
}

impl Area {
    /// Memory that nobody wrote.
    pub fn new(start: u64, bytes: usize) -> Self {
        Self { start, bytes: vec![0xff; bytes], state: vec![Byte::Unwritten; bytes], cells: Vec::new() }
    }

    /// As if it had just been allocated.
    pub fn forget(&mut self) {
        self.bytes.fill(0xff);
        self.state.fill(Byte::Unwritten);
    }

    /// Writes from outside of kernels.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.state[at..at + bytes.len()].fill(Byte::Written);
    }
}

/// Allocations by their address.
pub struct Memory {
    /// What messages call it.
    pub name: &'static str,
    /// Sorted by address.
    pub areas: Vec<Area>,
    last: usize,
    /// Bytes of a cell.
    grain: usize,
    /// Blocks before this one have nothing to do with what runs now.
    since: u32,
}

/// A place in an area.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Its index.
    pub area: usize,
    /// Bytes from its start.
    pub offset: usize,
}

impl Memory {
    /// Without any.
    pub fn new(name: &'static str) -> Self {
        Self { name, areas: Vec::new(), last: 0, grain: 4, since: 1 }
    }

    /// Forgets who touched what: a launch begins, or a block, whose first block this is.
    pub fn begin(&mut self, since: u32, grain: usize) {
        if grain != self.grain {
            self.areas.iter_mut().for_each(|area| area.cells.clear());
            self.grain = grain;
        }
        self.since = since;
    }

    /// The area of an address, if it is in one.
    pub fn find(&mut self, address: u64) -> Option<usize> {
        let inside = |area: &Area| address >= area.start && address - area.start < area.bytes.len() as u64;
        if self.areas.get(self.last).is_some_and(inside) {
            return Some(self.last);
        }
        let i = self.areas.partition_point(|area| area.start <= address).checked_sub(1)?;
        if !inside(&self.areas[i]) {
            return None;
        }
        self.last = i;
        Some(i)
    }

    fn outside(&self, address: u64, size: usize) -> String {
        let below = self.areas.partition_point(|area| area.start <= address);
        let near = below.checked_sub(1).map(|i| &self.areas[i]).filter(|area| address - area.start < 1 << 20);
        match near {
            Some(area) => {
                let offset = address - area.start;
                let (end, length) = (offset + size as u64, area.bytes.len());
                format!("{} memory out of bounds: bytes {offset} to {end} of {length}", self.name)
            }
            None => format!("{} memory out of bounds: address {address:#x}, {size} bytes", self.name),
        }
    }

    /// One thread's access; where it is, or what is wrong with it.
    ///
    /// # Errors
    /// What the thread does and should not.
    pub fn touch(&mut self, now: Moment, address: u64, size: usize, how: Touch) -> Result<Spot, String> {
        let area = self.find(address).ok_or_else(|| self.outside(address, size))?;
        let Area { start, bytes, state, cells } = &mut self.areas[area];
        let offset = (address - *start) as usize;
        if offset + size > bytes.len() {
            return Err(self.outside(address, size));
        }
        if address & (size as u64 - 1) != 0 {
            return Err(format!("{} memory at {address:#x}, which is no multiple of {size}", self.name));
        }
        if cells.is_empty() {
            cells.resize(bytes.len().div_ceil(self.grain), Cell::default());
        }
        let states = &mut state[offset..offset + size];
        if states.contains(&Byte::Promised) {
            return Err(format!("{} memory to which an asynchronous copy is under way", self.name));
        }
        if how != Touch::Write && states.contains(&Byte::Unwritten) {
            return Err(format!("{} memory that nobody wrote: byte {offset} of {}", self.name, bytes.len()));
        }
        if matches!(how, Touch::Write | Touch::Atomic) {
            states.fill(Byte::Written);
        }
        for cell in &mut cells[offset / self.grain..(offset + size).div_ceil(self.grain)] {
            if let Some(problem) = cell.note(now, how, self.since) {
                return Err(format!("{} memory (byte {offset} of {}) {problem}", self.name, bytes.len()));
            }
        }
        Ok(Spot { area, offset })
    }

    /// Where a range lies, if one allocation has all of it.
    pub fn range(&mut self, address: u64, bytes: u64) -> Option<Spot> {
        let area = self.find(address)?;
        let Area { start, bytes: all, .. } = &self.areas[area];
        let offset = (address - start) as usize;
        (offset as u64 + bytes <= all.len() as u64).then_some(Spot { area, offset })
    }

    /// Copies bytes from outside of kernels: what nobody wrote stays what nobody wrote.
    pub fn copy(&mut self, from: Spot, to: Spot, size: usize) {
        let Area { bytes, state, .. } = &self.areas[from.area];
        let own = from.offset..from.offset + size;
        let (bytes, state) = (bytes[own.clone()].to_vec(), state[own].to_vec());
        let area = &mut self.areas[to.area];
        area.bytes[to.offset..to.offset + size].copy_from_slice(&bytes);
        area.state[to.offset..to.offset + size].copy_from_slice(&state);
    }

    /// The first of these bytes that nobody wrote, counted from the first.
    pub fn unwritten(&self, at: Spot, size: usize) -> Option<usize> {
        self.areas[at.area].state[at.offset..at.offset + size].iter().position(|&byte| byte != Byte::Written)
    }

    /// Marks bytes that an asynchronous copy will write.
    pub fn promise(&mut self, at: Spot, size: usize) {
        let area = &mut self.areas[at.area];
        area.state[at.offset..at.offset + size].fill(Byte::Promised);
        area.bytes[at.offset..at.offset + size].fill(0xff);
    }

    /// The copy's end.
    pub fn keep_promise(&mut self, at: Spot, bytes: &[u8]) {
        self.areas[at.area].put(at.offset, bytes);
    }

    /// A value of up to 8 bytes.
    pub fn read(&self, at: Spot, size: usize) -> u64 {
        let bytes = &self.areas[at.area].bytes[at.offset..at.offset + size];
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    /// Writes a value of up to 8 bytes.
    pub fn write(&mut self, at: Spot, size: usize, value: u64) {
        self.areas[at.area].bytes[at.offset..at.offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

impl Cell {
    /// Notes an access; says so where it races with an earlier one.
    fn note(&mut self, now: Moment, how: Touch, since: u32) -> Option<String> {
        if self.write.block < since {
            self.write = Moment::default();
        }
        if self.read.block < since {
            self.read = Moment::default();
            self.constant = false;
        }
        let (atomic, writes) = (how == Touch::Atomic, matches!(how, Touch::Write | Touch::Atomic));
        let wrote = self.write.block != 0;
        if wrote && !self.write.before(now) && !(atomic && self.atomic_write) {
            let verb = if writes { "writes over" } else { "reads" };
            let who = format!("thread {} of block {}", self.write.thread, self.write.block - since);
            return Some(format!("RACE: {verb} what {who} wrote, no barrier between"));
        }
        if wrote && how == Touch::ReadConstant {
            return Some("reads through the read-only cache what this launch wrote".to_owned());
        }
        if writes && self.read.block != 0 {
            if self.constant {
                return Some("writes what this launch reads through the read-only cache".to_owned());
            }
            if !(self.read.before(now) || atomic && self.atomic_read) {
                let who = match self.read.thread {
                    OF_A_GRID => "threads of several blocks read".to_owned(),
                    OF_A_BLOCK => format!("threads of block {} read", self.read.block - since),
                    t if t & OF_A_WARP != 0 => format!("lanes of warp {} read", self.read.warp()),
                    t => format!("thread {t} of block {} reads", self.read.block - since),
                };
                return Some(format!("RACE: writes over what {who}, no barrier between"));
            }
        }
        if writes {
            (self.write, self.atomic_write) = (now, atomic);
        }
        if !writes || atomic {
            let alone = self.read.block == 0 || self.read.before(now);
            self.atomic_read = atomic && (alone || self.atomic_read);
            self.constant |= how == Touch::ReadConstant;
            self.read = if alone { now } else { now.with(self.read) };
        }
        None
    }
}
