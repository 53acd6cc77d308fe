//! What a map takes of memory, and the blocks of tiles that it is made in so that it fits.

use crate::error::Result;
use crate::export::results::Results;
use crate::host::memory::{MemoryNeed, Part, StageMemory, refuse_if_too_large};
use crate::host::memory_limits::{Room, room};
use crate::mesh::plan::filtering_bytes;
use crate::mesh::spool;
use crate::ortho::frame::Grid;
use crate::ortho::tiles::{Block, SIDE};
use crate::ortho::{colours, heights};

/// The program and the threads' stacks; measured, rounded up.
const PROGRAM_BYTES: u64 = 48 << 20;
/// A tile as it is read, mended, drawn into a view or deflated, for one thread.
const TILE_BYTES: u64 = 20 * (SIDE * SIDE) as u64;

/// The room that there is, and what stays the same for every block.
pub struct Plan {
    room: Room,
    /// Pixels of the largest view.
    largest: u64,
    /// What reading a photo takes.
    photo: u64,
}

impl Plan {
    /// Looks whether the maps of a run can be filtered, and mapped tile by tile. `photo` is what reading one photo
    /// takes, 0 without an orthophoto.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] where there is no room for that.
    pub fn new(results: &Results, photo: u64, memory: Option<u64>) -> Result<Self> {
        let largest = results.views.iter().map(|view| (view.size.0 * view.size.1) as u64).max().unwrap_or(0);
        let plan = Self { room: room(memory), largest, photo };
        let maps = Part::new("maps of a view and of those beside it", filtering_bytes(results));
        let filter = StageMemory::new("filter", vec![program(), maps]);
        let need = MemoryNeed { stages: vec![filter, plan.heights(1), plan.colours(1)] };
        refuse_if_too_large(&need, &plan.room, &[], "smaller maps would help (`engine infer --max-side`)")?;
        Ok(plan)
    }

    fn heights(&self, tiles: u64) -> StageMemory {
        let parts = vec![
            program(),
            tiles_of_threads(),
            Part::new("maps of a view", (spool::BYTES_A_PIXEL + heights::BYTES_A_PIXEL) * self.largest),
            Part::new("what views say of cells", heights::BYTES_A_CELL * tiles * (SIDE * SIDE) as u64),
        ];
        StageMemory::new("heights", parts)
    }

    fn colours(&self, tiles: u64) -> StageMemory {
        let parts = vec![
            program(),
            tiles_of_threads(),
            Part::new("a photo", self.photo),
            Part::new("what a view sees", (spool::BYTES_A_PIXEL + 4) * self.largest),
            Part::new("colours of cells", colours::BYTES_A_CELL * tiles * (SIDE * SIDE) as u64),
        ];
        StageMemory::new("colours", parts)
    }

    /// The blocks in which heights are made.
    pub fn blocks_of_heights(&self, grid: &Grid) -> Vec<Block> {
        self.blocks(grid, |tiles| self.heights(tiles))
    }

    /// The blocks in which colours are.
    pub fn blocks_of_colours(&self, grid: &Grid) -> Vec<Block> {
        self.blocks(grid, |tiles| self.colours(tiles))
    }

    fn blocks(&self, grid: &Grid, need: impl Fn(u64) -> StageMemory) -> Vec<Block> {
        let left = self.room.bytes.saturating_sub(need(0).total());
        let at_once = left / (need(1).total() - need(0).total()).max(1);
        blocks((grid.width, grid.height), at_once)
    }
}

fn program() -> Part {
    Part::new("the program", PROGRAM_BYTES)
}

fn tiles_of_threads() -> Part {
    Part::new("tiles that are read and written", TILE_BYTES * (rayon::current_num_threads() as u64 + 1))
}

/// Blocks of at most so many tiles, as square as that goes; at least one.
fn blocks((width, height): (usize, usize), at_once: u64) -> Vec<Block> {
    let (across, down) = (width.div_ceil(SIDE), height.div_ceil(SIDE));
    let at_once = usize::try_from(at_once).unwrap_or(usize::MAX).clamp(1, across * down);
    // What a narrow map leaves goes to its longer side.
    let rows = (at_once.isqrt()).clamp(1, down).max(at_once / across.min(at_once)).min(down);
    let columns = (at_once / rows).clamp(1, across);
    let mut blocks = Vec::new();
    for top in (0..height).step_by(rows * SIDE) {
        for left in (0..width).step_by(columns * SIDE) {
            let (width, height) = ((columns * SIDE).min(width - left), (rows * SIDE).min(height - top));
            blocks.push(Block { left, top, width, height });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_map_once_and_hold_no_more_tiles_than_there_is_room_for() {
        for size in [(1, 1), (SIDE, SIDE), (5 * SIDE + 7, 3 * SIDE), (100, 9 * SIDE + 1), (9 * SIDE + 1, 100)] {
            for at_once in [0, 1, 2, 3, 5, 8, 100] {
                let blocks = blocks(size, at_once);
                let area: usize = blocks.iter().map(|block| block.width * block.height).sum();
                assert_eq!(area, size.0 * size.1);
                for block in &blocks {
                    let tiles = block.width.div_ceil(SIDE) * block.height.div_ceil(SIDE);
                    assert!(tiles as u64 <= at_once.max(1), "{size:?} {at_once}: {block:?}");
                    assert!(block.left % SIDE == 0 && block.top % SIDE == 0);
                }
                if at_once == 100 {
                    assert_eq!(blocks.len(), 1, "{size:?}");
                }
            }
        }
    }
}
