//! What a kernel asked of the memory: figures that depend on addresses alone, and so hold for a device as well.

use std::fmt;
use std::ops::AddAssign;

use super::lanes::{Lanes, lanes_of};

/// Bytes that device memory moves at least.
const SECTOR: u64 = 32;
/// Shared memory has so many banks of 4 bytes; each serves one word at a time.
const BANKS: usize = 32;

/// Sums over the launches of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Launches.
    pub launches: u64,
    /// Instructions of warps.
    pub instructions: u64,
    /// Instructions of threads: at most 32 times as many.
    pub lane_instructions: u64,
    /// Bytes that loads and stores of device memory asked for, lane by lane.
    pub wanted_bytes: u64,
    /// Sectors of 32 bytes that they touched, each counted once for an instruction of a warp.
    pub sectors: u64,
    /// Rounds that loads and stores of shared memory took.
    pub rounds: u64,
    /// Rounds that they would have taken without bank conflicts.
    pub least_rounds: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.launches += other.launches;
        self.instructions += other.instructions;
        self.lane_instructions += other.lane_instructions;
        self.wanted_bytes += other.wanted_bytes;
        self.sectors += other.sectors;
        self.rounds += other.rounds;
        self.least_rounds += other.least_rounds;
    }
}

impl Figures {
    /// An access to device memory, `size` bytes a lane.
    pub fn device(&mut self, addresses: &Lanes, active: u32, size: usize) {
        self.wanted_bytes += u64::from(active.count_ones()) * size as u64;
        let mut sectors = [0; 32];
        let mut count = 0;
        // An aligned access lies in one sector.
        for lane in lanes_of(active) {
            let sector = addresses[lane] / SECTOR;
            if count == 0 || sectors[count - 1] != sector {
                sectors[count] = sector;
                count += 1;
            }
        }
        let sectors = &mut sectors[..count];
        if !sectors.is_sorted_by(|a, b| a < b) {
            sectors.sort_unstable();
            self.sectors += sectors.chunk_by(|a, b| a == b).count() as u64;
        } else {
            self.sectors += count as u64;
        }
    }

    /// An access to shared memory. All lanes take part in one round where they ask for 4 bytes or less; of 8 bytes half
    /// a warp at a time, of 16 a quarter.
    pub fn shared(&mut self, addresses: &Lanes, active: u32, size: usize) {
        let lanes = (128 / size).min(32);
        for first in (0..32).step_by(lanes) {
            let part = active & (u32::MAX >> (32 - lanes)) << first;
            if part != 0 {
                self.rounds += rounds(addresses, part, size);
                self.least_rounds += 1;
            }
        }
    }
}

/// The most words that one bank must serve; the same word for several lanes is served once.
fn rounds(addresses: &Lanes, active: u32, size: usize) -> u64 {
    let words = size.div_ceil(4) as u64;
    let mut seen = [[0; BANKS]; BANKS];
    let mut counts = [0; BANKS];
    for lane in lanes_of(active) {
        let first = addresses[lane] / 4;
        for word in first..first + words {
            let bank = word as usize % BANKS;
            if !seen[bank][..counts[bank]].contains(&word) {
                seen[bank][counts[bank]] = word;
                counts[bank] += 1;
            }
        }
    }
    counts.into_iter().max().unwrap_or(0) as u64
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let share = |part: u64, whole: u64| if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 };
        write!(
            f,
            "{} launches, {} instructions, {:.0} % of the lanes, {:.0} % of the sectors' bytes, {:.2} rounds an access",
            self.launches,
            self.instructions,
            share(self.lane_instructions, 32 * self.instructions),
            share(self.wanted_bytes, SECTOR * self.sectors),
            share(self.rounds, self.least_rounds) / 100.0,
        )
    }
}
