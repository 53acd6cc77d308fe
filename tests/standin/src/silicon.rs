//! What runs kernels and holds memory: the interpreter of PTX, with all its checks.

use std::sync::Arc;

use super::codes::Code;
use super::ptx::code::Kernel;
use super::ptx::machine::{Machine, Shape};
use super::ptx::memory::Area;

/// Addresses of a context begin here; each context has as many as any device has bytes, and none is used twice.
const FIRST_ADDRESS: u64 = 0x7000_0000_0000;
const OF_A_CONTEXT: u64 = 1 << 42;
/// Between allocations lies more than a kernel is off by mistake.
const GAP: u64 = 1 << 16;
/// A device gives memory in pages of this size.
pub const PAGE: u64 = 2 << 20;

/// What is wrong: the code that the driver gives, and what was found.
pub type Failure = (Code, String);

/// A context's memory and what runs in it.
pub struct Silicon {
    machine: Machine,
    next: u64,
}

impl Silicon {
    /// Of the context of this number.
    pub fn new(context: u64) -> Self {
        Self { machine: Machine::default(), next: FIRST_ADDRESS + context * OF_A_CONTEXT }
    }

    /// Memory that nobody wrote.
    pub fn allocate(&mut self, bytes: u64) -> u64 {
        let start = self.next;
        // What the driver promises, and no more.
        self.next = (start + bytes + GAP).next_multiple_of(512) + 256;
        self.machine.global.areas.push(Area::new(start, bytes as usize));
        start
    }

    /// Frees what begins at this address; its size.
    pub fn free(&mut self, address: u64) -> Option<u64> {
        let areas = &mut self.machine.global.areas;
        let i = areas.iter().position(|area| area.start == address)?;
        Some(areas.remove(i).bytes.len() as u64)
    }

    /// The allocation around an address: where it begins, and its bytes.
    pub fn around(&mut self, address: u64) -> Option<(u64, u64)> {
        let i = self.machine.global.find(address)?;
        let area = &self.machine.global.areas[i];
        Some((area.start, area.bytes.len() as u64))
    }

    /// All that is not freed: how many, and their bytes.
    pub fn left(&self) -> (usize, u64) {
        let areas = &self.machine.global.areas;
        (areas.len(), areas.iter().map(|area| area.bytes.len() as u64).sum())
    }

    /// The size of each allocation that is not freed.
    pub fn each(&self, work: impl FnMut(u64)) {
        self.machine.global.areas.iter().map(|area| area.bytes.len() as u64).for_each(work);
    }

    fn outside(what: &str, address: u64, bytes: u64) -> Failure {
        let problem = format!("{what} of {bytes} bytes at {address:#x}, which no allocation has as a whole");
        (Code::ILLEGAL_ADDRESS, problem)
    }

    /// Bytes to the device.
    pub fn put(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        let length = bytes.len() as u64;
        let spot = self.machine.global.range(to, length).ok_or_else(|| Self::outside("a copy", to, length))?;
        self.machine.global.areas[spot.area].put(spot.offset, bytes);
        Ok(())
    }

    /// Bytes from the device, and the first of them that nobody wrote.
    pub fn get(&mut self, from: u64, bytes: u64) -> Result<(&[u8], Option<usize>), Failure> {
        let spot = self.machine.global.range(from, bytes).ok_or_else(|| Self::outside("a copy", from, bytes))?;
        let unwritten = self.machine.global.unwritten(spot, bytes as usize);
        Ok((&self.machine.global.areas[spot.area].bytes[spot.offset..spot.offset + bytes as usize], unwritten))
    }

    /// Bytes within the device.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), Failure> {
        let global = &mut self.machine.global;
        let source = global.range(from, bytes).ok_or_else(|| Self::outside("a copy", from, bytes))?;
        let target = global.range(to, bytes).ok_or_else(|| Self::outside("a copy", to, bytes))?;
        let meet = from < to + bytes && to < from + bytes;
        if meet && bytes > 0 {
            let problem = format!("a copy of {bytes} bytes whose ends overlap, {from:#x} and {to:#x}");
            return Err((Code::LAUNCH_FAILED, problem));
        }
        global.copy(source, target, bytes as usize);
        Ok(())
    }

    /// Runs a kernel.
    pub fn launch(&mut self, kernel: &Arc<Kernel>, shape: Shape, parameters: &[Vec<u8>]) -> Result<(), Failure> {
        let parameters: Vec<&[u8]> = parameters.iter().map(Vec::as_slice).collect();
        match self.machine.launch(kernel, shape, &parameters) {
            Ok(_) => Ok(()),
            Err(problem) if problem.contains("out of bounds") => Err((Code::ILLEGAL_ADDRESS, problem)),
            Err(problem) if problem.contains("which is no multiple of") => Err((Code::MISALIGNED_ADDRESS, problem)),
            // What a device would not notice, such as a race, ends the run all the same.
            Err(problem) => Err((Code::LAUNCH_FAILED, problem)),
        }
    }
}
