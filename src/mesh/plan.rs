//! What a mesh takes of memory, and the slabs that its grid is cut into so that it fits.

use std::collections::HashSet;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::export::results::Results;
use crate::host::memory::{MemoryNeed, Part, StageMemory, readable, refuse_if_too_large};
use crate::host::memory_limits::{Room, room};
use crate::mesh::grid::{BESIDE, BlockKey};
use crate::mesh::volume::BYTES_A_BLOCK;
use crate::mesh::{charts, colour, spool, surface};

/// The program and the threads' stacks; measured, rounded up.
const PROGRAM_BYTES: u64 = 48 << 20;
/// Bytes of a pixel that is being filtered: its maps, normal, agreement, and what is put aside of it.
const FILTERED_BYTES: u64 = 48;
/// Bytes of a pixel of a view that confirms it: depth and confidence.
const CONFIRMING_BYTES: u64 = 8;
/// Bytes that a quad's two triangles take while a texture is painted: their choices of a photo, and their corners with
/// places, changes of colour and what finds them.
const TEXTURE_BYTES_A_QUAD: u64 = 2 * charts::BYTES_A_FACE + 240;
/// Fewer blocks at once would mean to read all maps again for next to nothing.
const LEAST_BLOCKS: usize = 64;
/// What points that are kept of few views take is in the program's share.
const SAMPLES_IN_PROGRAM: u64 = 4 << 20;
/// More triangles than this cannot be numbered; see [`crate::mesh::triangles`].
const MOST_QUADS: usize = 300_000_000;

/// The room that there is, and what stays the same while there is a mesh.
pub struct Plan {
    room: Room,
    /// What filtering takes.
    filtering: u64,
    /// Pixels of the largest view.
    largest: u64,
    /// What reading a photo takes.
    photo: u64,
    /// What a texture takes at most, more or less: each surface is painted from one photo.
    picture: Option<u64>,
}

/// What filtering the maps of a run takes at most, view by view, beside the program.
pub fn filtering_bytes(results: &Results) -> u64 {
    let pixels = |view: usize| (results.views[view].size.0 * results.views[view].size.1) as u64;
    let of_view = |view: usize| {
        let others: u64 = results.views[view].checked_against.iter().map(|&other| pixels(other)).sum();
        FILTERED_BYTES * pixels(view) + CONFIRMING_BYTES * others
    };
    (0..results.views.len()).map(of_view).max().unwrap_or(0)
}

impl Plan {
    /// Looks whether the maps of a run can be filtered. `photo` is what reading one photo takes, 0 without colours;
    /// `texture`, whether there will be one.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is no room for that.
    pub fn new(results: &Results, (photo, texture): (u64, bool), memory: Option<u64>) -> Result<Self> {
        let pixels = |view: usize| (results.views[view].size.0 * results.views[view].size.1) as u64;
        let views = 0..results.views.len();
        let filtering = filtering_bytes(results);
        let picture = texture.then(|| 3 * views.clone().map(pixels).sum::<u64>());
        let samples = spool::sample_bytes(results).saturating_sub(SAMPLES_IN_PROGRAM);
        let maps = Part::new("maps of a view and of those beside it", filtering);
        let filter = StageMemory::new("filter", vec![program(), maps, Part::new("points of all views", samples)]);
        let (filtering, largest) = (filter.total(), views.map(pixels).max().unwrap_or(0));
        let plan = Self { room: room(memory), filtering, largest, photo, picture };
        let stages = vec![filter, plan.volume(LEAST_BLOCKS as u64, 0), plan.colouring(0)];
        refuse_if_too_large(
            &MemoryNeed { stages },
            &plan.room,
            &[],
            "smaller maps would help (`engine infer --max-side`)",
        )?;
        Ok(plan)
    }

    fn volume(&self, blocks: u64, quads: u64) -> StageMemory {
        let parts = vec![
            program(),
            Part::new("maps of a view", spool::BYTES_A_PIXEL * self.largest),
            Part::new("blocks of voxels", BYTES_A_BLOCK * blocks),
            Part::new("the mesh", surface::BYTES_A_QUAD * quads),
        ];
        StageMemory::new("volume", parts)
    }

    fn colouring(&self, quads: u64) -> StageMemory {
        if self.photo == 0 {
            return StageMemory::new("colours", vec![program()]);
        }
        // A vertex and two triangles a quad.
        let mesh = quads * (12 + 2 * 12 + colour::BYTES_A_VERTEX);
        let mut parts = vec![
            program(),
            Part::new("a photo", self.photo),
            Part::new("what is seen of the mesh", 4 * self.largest),
            Part::new("the mesh and what views show of it", mesh),
        ];
        if let Some(picture) = self.picture {
            parts.push(Part::new("the texture", picture + TEXTURE_BYTES_A_QUAD * quads));
        }
        StageMemory::new("colours", parts)
    }

    /// Bytes that filtering takes.
    pub fn filtering(&self) -> u64 {
        self.filtering
    }

    /// Bytes that so many blocks at once and the quads of a surface take, at most.
    pub fn gathering(&self, blocks: usize, quads: usize) -> u64 {
        self.volume(blocks as u64, quads as u64).total()
    }

    /// How many of all blocks may be in memory at once.
    pub fn blocks_at_once(&self, all: usize) -> usize {
        let taken = self.volume(0, 0).total() + 2 * 8 * all as u64;
        // The surface that is found in a block takes about twice what its voxels do; and some more.
        let left = self.room.bytes.saturating_sub(taken) / 4;
        ((left / BYTES_A_BLOCK) as usize).clamp(LEAST_BLOCKS, all.max(LEAST_BLOCKS))
    }

    /// Whether a mesh of so many quads fits.
    ///
    /// # Errors
    /// [`Error::Memory`] with the voxels that would make it fit.
    pub fn expect_room(&self, quads: usize, voxel: f64) -> Result<()> {
        let stages = vec![self.volume(0, quads as u64), self.colouring(quads as u64)];
        let need = MemoryNeed { stages }.peak();
        let share = (need as f64 / self.room.bytes as f64).max(quads as f64 / MOST_QUADS as f64);
        if share <= 1.0 {
            return Ok(());
        }
        // The number of quads goes with the square of the voxels' number along a side.
        Err(Error::Memory(format!(
            "a mesh of {} triangles and more needs {}, and {} are available{}; --voxel {} would fit ({})",
            2 * quads,
            readable(need),
            readable(self.room.bytes),
            self.room.limit,
            rounded_up(1.1 * voxel * share.sqrt()),
            self.room.limit.advice()
        )))
    }
}

fn program() -> Part {
    Part::new("the program", PROGRAM_BYTES)
}

/// Two digits, the last rounded up.
fn rounded_up(value: f64) -> f64 {
    let unit = 10f64.powf(value.log10().floor() - 1.0);
    let text = format!("{:.1e}", (value / unit).ceil() * unit);
    text.parse().unwrap_or(value)
}

/// Blocks that are in memory at once: those whose surface is found, and those beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Places in the list of blocks whose surface is wanted.
    pub own: Range<usize>,
    /// Sorted.
    pub blocks: Vec<BlockKey>,
}

/// Cuts a sorted list of blocks into slabs of at most so many blocks, with those beside them; at least one block and
/// those beside it. `all` has, sorted, the blocks that exist.
pub fn slabs(all: &[BlockKey], wanted: &[BlockKey], at_once: usize) -> Vec<Slab> {
    if wanted.is_empty() {
        return Vec::new();
    }
    if all.len() <= at_once {
        return vec![Slab { own: 0..wanted.len(), blocks: all.to_vec() }];
    }
    let (mut slabs, mut start) = (Vec::new(), 0);
    while start < wanted.len() {
        let (mut end, mut blocks) = (start, HashSet::new());
        while let Some(&key) = wanted.get(end) {
            let beside = BESIDE.iter().filter_map(|&step| key.beside(step));
            let there = beside.filter(|key| all.binary_search(key).is_ok());
            let new: Vec<BlockKey> = there.chain([key]).filter(|key| !blocks.contains(key)).collect();
            if end > start && blocks.len() + new.len() > at_once {
                break;
            }
            blocks.extend(new);
            end += 1;
        }
        let mut blocks: Vec<BlockKey> = blocks.into_iter().collect();
        blocks.sort_unstable();
        slabs.push(Slab { own: start..end, blocks });
        start = end;
    }
    slabs
}

#[cfg(test)]
mod tests {
    use super::*;
    use glam::IVec3;

    #[test]
    fn slabs_hold_their_blocks_and_all_beside_them() {
        let mut all: Vec<BlockKey> = (0..6 * 7 * 8)
            .filter(|i| i % 5 != 0)
            .filter_map(|i| BlockKey::new(IVec3::new(i % 6 - 3, i / 6 % 7, i / 42 - 4)))
            .collect();
        all.sort_unstable();
        assert_eq!(slabs(&all, &all, all.len()).len(), 1);
        let some: Vec<BlockKey> = all.iter().copied().filter(|key| key.block().y < 4).collect();
        for (wanted, at_once) in [&all, &some].into_iter().flat_map(|wanted| [1, 8, 40, 100].map(|n| (wanted, n))) {
            let slabs = slabs(&all, wanted, at_once);
            assert!(slabs.len() > 1);
            let own: Vec<usize> = slabs.iter().flat_map(|slab| slab.own.clone()).collect();
            assert_eq!(own, (0..wanted.len()).collect::<Vec<_>>());
            for slab in &slabs {
                assert!(slab.blocks.len() <= at_once.max(8), "{at_once}");
                for key in &wanted[slab.own.clone()] {
                    let beside = BESIDE.iter().filter_map(|&step| key.beside(step)).chain([*key]);
                    let there = |key: &BlockKey| all.binary_search(key).is_ok();
                    assert!(beside.filter(there).all(|key| slab.blocks.binary_search(&key).is_ok()));
                }
            }
        }
    }

    #[test]
    fn advice_has_two_digits() {
        assert_eq!(rounded_up(0.012_31), 0.013);
        assert_eq!((rounded_up(7.0), rounded_up(123.0)), (7.0, 130.0));
    }
}
