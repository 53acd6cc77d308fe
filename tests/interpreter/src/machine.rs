//! Launches: blocks one after another, a block's warps in turns from barrier to barrier.

use super::code::{Action, Kernel};
use super::figures::Figures;
use super::memory::{Area, Memory};
use super::warp::{Around, Fault, Reached, Warp};

/// What a device grants a block at most: an H100's shared memory.
const SHARED_LIMIT: u64 = 227 << 10;
/// Of it, what may be had without a size at the launch.
const STATIC_LIMIT: u64 = 48 << 10;
/// Instructions of warps after which a launch is taken for endless; the largest of the tests' has a thousandth of it.
const BUDGET: u64 = 1 << 36;

/// Blocks and threads of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// A device without anything but memory.
pub struct Machine {
    /// Device memory.
    pub global: Memory,
    /// Blocks that ran so far, over all launches.
    blocks: u32,
    /// Instructions that a launch may take.
    pub budget: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { global: Memory::new("device"), blocks: 0, budget: BUDGET }
    }
}

impl Machine {
    /// Runs a kernel; what it asked of the memory, or the first thing that is wrong, in one line.
    ///
    /// # Errors
    /// Where the device would refuse the launch, and where a thread does what it should not.
    pub fn launch(&mut self, kernel: &Kernel, shape: Shape, parameters: &[&[u8]]) -> Result<Figures, String> {
        let Shape { grid, block, shared } = shape;
        let blocks: u64 = grid.iter().map(|&n| u64::from(n)).product();
        let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
        let fixed: u64 = kernel.arrays.iter().map(|&(_, bytes)| bytes).sum();
        let most = kernel.most_threads.unwrap_or(1024).min(1024);
        let fits = (1..=u64::from(most)).contains(&threads) && block[2] <= 64;
        let few = blocks > 0 && grid[0] <= i32::MAX as u32 && grid[1] <= 65535 && grid[2] <= 65535;
        if !fits || !few || fixed > STATIC_LIMIT || fixed + u64::from(shared) > SHARED_LIMIT {
            return Err(format!(
                "`{}`: a device would refuse grid {grid:?} of {block:?} threads (at most {most}) with {fixed} and \
                 {shared} bytes of shared memory",
                kernel.name
            ));
        }
        let sizes: Vec<usize> = parameters.iter().map(|bytes| bytes.len()).collect();
        let takes: Vec<usize> = kernel.parameters.iter().map(|(bytes, _)| *bytes).collect();
        if sizes != takes {
            return Err(format!("`{}` takes parameters of {takes:?} bytes, not {sizes:?}", kernel.name));
        }
        let mut packed = vec![0; kernel.parameters.last().map_or(0, |(bytes, offset)| bytes + offset)];
        for (bytes, (size, offset)) in parameters.iter().zip(&kernel.parameters) {
            packed[*offset..offset + size].copy_from_slice(bytes);
        }
        let mut memory = Memory::new("shared");
        let dynamic = (kernel.dynamic, u64::from(shared));
        let arrays = kernel.arrays.iter().chain((shared > 0).then_some(&dynamic));
        memory.areas = arrays.map(|&(at, bytes)| Area::new(at, bytes as usize)).collect();
        self.global.begin(self.blocks + 1, kernel.grain[0]);
        let mut around = Around {
            kernel,
            parameters: &packed,
            global: &mut self.global,
            shared: &mut memory,
            figures: Figures { launches: 1, ..Figures::default() },
            block: 0,
            epoch: 0,
            budget: self.budget,
        };
        let mut warps: Vec<Warp> = Vec::new();
        for number in 0..blocks {
            let (x, y) = (u64::from(grid[0]), u64::from(grid[1]));
            let at = [number % x, number / x % y, number / (x * y)].map(|n| n as u32);
            let special = |thread: u32| {
                let [x, y, _] = block;
                let tid = [thread % x, thread / x % y, thread / (x * y)];
                let lists = [tid, block, at, grid];
                let mut all = [0; 13];
                all.iter_mut().zip(lists.concat()).for_each(|(to, value)| *to = value);
                all[12] = thread % 32;
                all
            };
            if warps.is_empty() {
                let firsts = (0..threads as u32).step_by(32);
                warps.extend(firsts.map(|first| Warp::new(kernel, first, threads as u32 - first, special)));
            } else {
                warps.iter_mut().for_each(|warp| warp.restart(special));
            }
            self.blocks = self.blocks.checked_add(1).ok_or("more blocks than the detector can count")?;
            (around.block, around.epoch) = (self.blocks, 0);
            around.shared.begin(self.blocks, kernel.grain[1]);
            around.shared.areas.iter_mut().for_each(Area::forget);
            run_block(&mut warps, &mut around).map_err(|fault| told(kernel, at, block, &fault))?;
        }
        Ok(around.figures)
    }
}

/// A fault in one line.
fn told(kernel: &Kernel, at: [u32; 3], block: [u32; 3], fault: &Fault) -> String {
    let (line, text) = match kernel.code.get(fault.pc as usize) {
        Some(instruction) => (instruction.line, kernel.texts[fault.pc as usize].as_str()),
        None => (0, ""),
    };
    let thread = [fault.thread % block[0], fault.thread / block[0] % block[1], fault.thread / (block[0] * block[1])];
    format!("`{}`, line {line}, `{text}`: block {at:?}, thread {thread:?} {}", kernel.name, fault.what)
}

/// Runs the warps from barrier to barrier.
fn run_block(warps: &mut [Warp], around: &mut Around) -> Result<(), Fault> {
    loop {
        let mut places: Vec<Reached> = Vec::new();
        for warp in warps.iter_mut() {
            places.push(warp.run(around)?);
        }
        let barrier = places.iter().find_map(|place| match place {
            Reached::Barrier(pc) => Some(*pc),
            Reached::End => None,
        });
        let Some(pc) = barrier else { break };
        if let Some(other) = places.iter().position(|place| *place != Reached::Barrier(pc)) {
            let line = around.kernel.code[pc as usize].line;
            let (pc, what) = match places[other] {
                Reached::End => (pc, format!("never comes to the barrier at line {line}: it has left")),
                Reached::Barrier(own) => (own, format!("waits here, but others at the barrier at line {line}")),
            };
            return Err(Fault { pc, thread: warps[other].first, what: format!("DIVERGENCE: {what}") });
        }
        if let Action::Barrier { count: Some((to, from)) } = around.kernel.code[pc as usize].action {
            let count =
                |warp: &Warp| (0..32).filter(|&i| warp.live >> i & 1 == 1 && warp.value(from, i) & 1 == 1).count();
            let sum: usize = warps.iter().map(count).sum();
            for warp in warps.iter_mut() {
                (0..32).for_each(|lane| warp.set(to, lane, sum as u64));
            }
        }
        around.epoch += 1;
        warps.iter_mut().for_each(|warp| warp.pass(pc));
    }
    for warp in warps.iter() {
        if let Some(copy) = warp.copies.first() {
            let what = "leaves while an asynchronous copy of its own is under way".to_owned();
            let pc = around.kernel.code.len() as u32 - 1;
            return Err(Fault { pc, thread: warp.first + copy.lane as u32, what });
        }
    }
    Ok(())
}
