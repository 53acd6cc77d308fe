//! What lanes of a warp do together: shuffles, ballots, products on tensor cores and the loads for them; and
//! asynchronous copies, which a lane starts and waits for.
//!
//! `mma` sums each element's sixteen products, which are exact in f64, from the lowest k to the highest in f64, adds
//! the accumulator, and rounds to f32 once. A device adds in an order of its own and cuts bits off the smaller terms;
//! the tests' bound, that of f32 sums in any order, covers both.
//!
//! A copy's 16 bytes arrive when its lane waits for its group. Until then its bytes in shared memory are promised:
//! whoever touches them is reported, since on a device they may or may not be there.

use half::f16;

use super::arithmetic::settled;
use super::code::{Action, Address, Exchange, Slot};
use super::lanes::{Lanes, lanes_of};
use super::memory::Touch;
use super::warp::{Around, Copy, Warp, verb};

impl Warp {
    /// What all active lanes do at once. An error comes with its lane.
    pub(super) fn meet(&mut self, action: Action, active: u32, around: &mut Around) -> Result<(), (usize, String)> {
        match action {
            Action::Shuffle { how, to, inside, from, by, limits, .. } => {
                let values = self.registers[from as usize];
                let (by, limits) = (self.registers[by as usize], self.registers[limits as usize]);
                for lane in lanes_of(active) {
                    let (source, there) = source_lane(how, lane, by[lane] as usize, limits[lane] as usize);
                    if active >> source & 1 == 0 {
                        return Err((lane, format!("takes a value from lane {source}, which takes no part")));
                    }
                    self.set(to, lane, values[source]);
                    self.set(inside, lane, there.into());
                }
            }
            Action::Ballot { to, from, .. } => {
                let votes = lanes_of(active).fold(0, |votes, lane| votes | (self.value(from, lane) & 1) << lane);
                lanes_of(active).for_each(|lane| self.set(to, lane, votes));
            }
            Action::WarpBarrier { .. } => self.epoch += 1,
            Action::LoadMatrix { to, at } => self.load_matrix(to, at, around)?,
            Action::MultiplyAdd { d, a, b, c } => self.multiply_add(d, a, b, c),
            _ => unreachable!("`needed` knows all others"),
        }
        Ok(())
    }

    /// Row r of tile t lies at the address of lane 8 t + r; its pair p goes to lane 4 r + p.
    fn load_matrix(&mut self, to: [Slot; 4], at: Address, around: &mut Around) -> Result<(), (usize, String)> {
        let addresses = self.addresses(at);
        around.figures.shared(&addresses, u32::MAX, 16);
        for giver in 0..32 {
            let now = self.moment(giver, around);
            let touched = around.shared.touch(now, addresses[giver], 16, Touch::Read);
            let mut spot = touched.map_err(|what| (giver, verb(Touch::Read) + &what))?;
            for pair in 0..4 {
                let word = around.shared.read(spot, 4);
                self.set(to[giver / 8], giver % 8 * 4 + pair, word);
                spot.offset += 4;
            }
        }
        Ok(())
    }

    /// Fragments as PTX lays them over the lanes ("Matrix fragments for mma.m16n8k16"): lane l holds of a the rows
    /// l/4 and l/4 + 8, columns 2 (l%4) + {0, 1} and + {8, 9}; of b the same rows as a's columns, and column l/4; of c
    /// and d the rows of a, and columns 2 (l%4) + {0, 1}.
    fn multiply_add(&mut self, d: [Slot; 4], a: [Slot; 4], b: [Slot; 2], c: [Slot; 4]) {
        let mut rows = [[0.0f64; 16]; 16];
        let mut columns = [[0.0f64; 16]; 8];
        for lane in 0..32 {
            let (row, pair) = (lane / 4, 2 * (lane % 4));
            for (i, slot) in a.into_iter().enumerate() {
                let [low, high] = pair_of(self.value(slot, lane));
                let (row, k) = (row + 8 * (i % 2), pair + 8 * (i / 2));
                (rows[row][k], rows[row][k + 1]) = (low, high);
            }
            for (i, slot) in b.into_iter().enumerate() {
                let [low, high] = pair_of(self.value(slot, lane));
                (columns[row][pair + 8 * i], columns[row][pair + 8 * i + 1]) = (low, high);
            }
        }
        let mut results: [Lanes; 4] = [[0; 32]; 4];
        for lane in 0..32 {
            for i in 0..4 {
                let (row, column) = (&rows[lane / 4 + 8 * (i / 2)], &columns[2 * (lane % 4) + i % 2]);
                let products: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                let sum = products + f64::from(f32::from_bits(self.value(c[i], lane) as u32));
                results[i][lane] = settled(sum as f32).into();
            }
        }
        for (slot, result) in d.into_iter().zip(results) {
            self.registers[slot as usize] = result;
        }
    }

    pub(super) fn copy_async(
        &mut self,
        to: Address,
        from: Address,
        bytes: Slot,
        active: u32,
        around: &mut Around,
    ) -> Result<(), (usize, String)> {
        let (to, from) = (self.addresses(to), self.addresses(from));
        around.figures.shared(&to, active, 16);
        let reading = lanes_of(active).filter(|&lane| self.value(bytes, lane) != 0).fold(0, |mask, l| mask | 1 << l);
        around.figures.device(&from, reading, 16);
        for lane in lanes_of(active) {
            let now = self.moment(lane, around);
            let wanted = self.value(bytes, lane) as usize;
            let mut copied = [0; 16];
            match wanted {
                0 => {}
                16 => {
                    let touched = around.global.touch(now, from[lane], 16, Touch::Read);
                    let spot = touched.map_err(|what| (lane, verb(Touch::Read) + &what))?;
                    copied.copy_from_slice(&around.global.areas[spot.area].bytes[spot.offset..spot.offset + 16]);
                }
                _ => return Err((lane, format!("copies {wanted} bytes, which is neither 0 nor 16"))),
            }
            let touched = around.shared.touch(now, to[lane], 16, Touch::Write);
            let spot = touched.map_err(|what| (lane, verb(Touch::Write) + &what))?;
            around.shared.promise(spot, 16);
            self.copies.push(Copy { lane, group: self.ended[lane], to: spot, address: to[lane], bytes: copied });
        }
        Ok(())
    }

    /// Copies of all but the last `groups` groups of each active lane are done.
    pub(super) fn wait_for_copies(
        &mut self,
        groups: u32,
        active: u32,
        around: &mut Around,
    ) -> Result<(), (usize, String)> {
        let over = |copy: &Copy| active >> copy.lane & 1 == 1 && copy.group + groups < self.ended[copy.lane];
        let (done, left): (Vec<Copy>, Vec<Copy>) = std::mem::take(&mut self.copies).into_iter().partition(over);
        self.copies = left;
        for copy in done {
            around.shared.keep_promise(copy.to, &copy.bytes);
            let now = self.moment(copy.lane, around);
            let touched = around.shared.touch(now, copy.address, 16, Touch::Write);
            touched.map_err(|what| (copy.lane, verb(Touch::Write) + &what))?;
        }
        Ok(())
    }
}

fn pair_of(word: u64) -> [f64; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f64())
}

/// From which lane a shuffle takes, and whether that is within its part of the warp (PTX ISA, "shfl.sync"). `limits`
/// holds a lane number in bits 0 to 4 and a mask of parts in bits 8 to 12.
fn source_lane(how: Exchange, lane: usize, by: usize, limits: usize) -> (usize, bool) {
    let (by, clamp, parts) = (by & 31, limits & 31, limits >> 8 & 31);
    let highest = lane & parts | clamp & !parts;
    let lowest = lane & parts;
    let (source, there) = match how {
        Exchange::Index => {
            let source = lowest | by & !parts;
            (source, source <= highest)
        }
        Exchange::Butterfly => (lane ^ by, lane ^ by <= highest),
        Exchange::Up => (lane.wrapping_sub(by), lane as isize - by as isize >= highest as isize),
        Exchange::Down => (lane + by, lane + by <= highest),
    };
    if there { (source, true) } else { (lane, false) }
}
