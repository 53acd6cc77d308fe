//! What runs kernels and holds memory: the interpreter of PTX, with all its checks, or compiled kernels with none.

use std::path::Path;
use std::sync::Arc;

use super::codes::Code;
use super::compiled::Compiled;
use ptx_interpreter::code::Kernel;
use ptx_interpreter::machine::{Machine, Shape};
use ptx_interpreter::memory::Area;

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
pub enum Silicon {
    /// The interpreter.
    Interpreted {
        machine: Machine,
        /// The address of the next allocation.
        next: u64,
    },
    /// Kernels that the C++ compiler made.
    Compiled(Compiled),
}

fn outside(what: &str, address: u64, bytes: u64) -> Failure {
    let problem = format!("{what} of {bytes} bytes at {address:#x}, which no allocation has as a whole");
    (Code::ILLEGAL_ADDRESS, problem)
}

impl Silicon {
    /// Of the context of this number; with the kernels of a library, or else those of the program's modules.
    pub fn new(context: u64, kernels: Option<&Path>) -> Self {
        match kernels {
            Some(path) => Self::Compiled(Compiled::open(path)),
            None => Self::Interpreted { machine: Machine::default(), next: FIRST_ADDRESS + context * OF_A_CONTEXT },
        }
    }

    /// Memory that nobody wrote; `None` where there are no more addresses.
    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        match self {
            Self::Interpreted { machine, next } => {
                let start = *next;
                // What the driver promises, and no more.
                *next = (start + bytes + GAP).next_multiple_of(512) + 256;
                machine.global.areas.push(Area::new(start, bytes as usize));
                Some(start)
            }
            Self::Compiled(compiled) => compiled.allocate(bytes),
        }
    }

    /// Frees what begins at this address; its size.
    pub fn free(&mut self, address: u64) -> Option<u64> {
        match self {
            Self::Interpreted { machine, .. } => {
                let areas = &mut machine.global.areas;
                let i = areas.iter().position(|area| area.start == address)?;
                Some(areas.remove(i).bytes.len() as u64)
            }
            Self::Compiled(compiled) => compiled.free(address),
        }
    }

    /// The allocation around an address: where it begins, and its bytes.
    pub fn around(&mut self, address: u64) -> Option<(u64, u64)> {
        match self {
            Self::Interpreted { machine, .. } => {
                let i = machine.global.find(address)?;
                let area = &machine.global.areas[i];
                Some((area.start, area.bytes.len() as u64))
            }
            Self::Compiled(compiled) => compiled.around(address),
        }
    }

    /// The size of each allocation that is not freed.
    pub fn left(&self) -> Vec<u64> {
        match self {
            Self::Interpreted { machine, .. } => {
                machine.global.areas.iter().map(|area| area.bytes.len() as u64).collect()
            }
            Self::Compiled(compiled) => compiled.each().collect(),
        }
    }

    /// Bytes to the device.
    pub fn put(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        let length = bytes.len() as u64;
        let no_room = || outside("a copy", to, length);
        match self {
            Self::Interpreted { machine, .. } => {
                let spot = machine.global.range(to, length).ok_or_else(no_room)?;
                machine.global.areas[spot.area].put(spot.offset, bytes);
            }
            Self::Compiled(compiled) => compiled.bytes_mut(to, length).ok_or_else(no_room)?.copy_from_slice(bytes),
        }
        Ok(())
    }

    /// Bytes from the device, and the first of them that nobody wrote, where that is known.
    pub fn get(&mut self, from: u64, bytes: u64) -> Result<(&[u8], Option<usize>), Failure> {
        let missing = || outside("a copy", from, bytes);
        match self {
            Self::Interpreted { machine, .. } => {
                let spot = machine.global.range(from, bytes).ok_or_else(missing)?;
                let unwritten = machine.global.unwritten(spot, bytes as usize);
                let of_area = &machine.global.areas[spot.area].bytes;
                Ok((&of_area[spot.offset..spot.offset + bytes as usize], unwritten))
            }
            Self::Compiled(compiled) => Ok((compiled.bytes(from, bytes).ok_or_else(missing)?, None)),
        }
    }

    /// Bytes within the device.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), Failure> {
        let meet = from < to + bytes && to < from + bytes;
        if meet && bytes > 0 {
            let problem = format!("a copy of {bytes} bytes whose ends overlap, {from:#x} and {to:#x}");
            return Err((Code::LAUNCH_FAILED, problem));
        }
        match self {
            Self::Interpreted { machine, .. } => {
                let global = &mut machine.global;
                let source = global.range(from, bytes).ok_or_else(|| outside("a copy", from, bytes))?;
                let target = global.range(to, bytes).ok_or_else(|| outside("a copy", to, bytes))?;
                global.copy(source, target, bytes as usize);
                Ok(())
            }
            Self::Compiled(_) => {
                let between = self.get(from, bytes)?.0.to_vec();
                self.put(to, &between)
            }
        }
    }

    /// Runs a kernel.
    pub fn launch(&mut self, kernel: &Arc<Kernel>, shape: Shape, parameters: &[Vec<u8>]) -> Result<(), Failure> {
        let machine = match self {
            Self::Interpreted { machine, .. } => machine,
            Self::Compiled(compiled) => return compiled.launch(&kernel.name, shape, parameters),
        };
        let parameters: Vec<&[u8]> = parameters.iter().map(Vec::as_slice).collect();
        match machine.launch(kernel, shape, &parameters) {
            Ok(_) => Ok(()),
            Err(problem) if problem.contains("out of bounds") => Err((Code::ILLEGAL_ADDRESS, problem)),
            Err(problem) if problem.contains("which is no multiple of") => Err((Code::MISALIGNED_ADDRESS, problem)),
            // What a device would not notice, such as a race, ends the run all the same.
            Err(problem) => Err((Code::LAUNCH_FAILED, problem)),
        }
    }
}
