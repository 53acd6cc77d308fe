//! Memory for the programs of one stream. They run one after another, so that they share one arena; each has a block of
//! its own for weights and inputs. Only so many programs are kept as there are blocks: the one that was used least
//! recently makes room for a new one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::driver::Driver;
use super::placement::Placement;
use super::pool::PAGE;
use super::program::Owned;
use crate::error::Result;
use crate::host::memory::readable;

/// Programs of a stream that are kept where there is memory for them.
pub(super) const KEPT: usize = 4;

/// How large a room is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of the arena.
    pub arena: u64,
    /// Bytes of a block.
    pub block: u64,
    /// Blocks.
    pub kept: usize,
}

impl Size {
    /// So large that each of these programs fits, and so many blocks as there are programs, `most` at most.
    pub fn of<'a>(placements: impl IntoIterator<Item = &'a Placement>, most: usize) -> Self {
        let all = placements.into_iter().fold(Self::default(), |size, placement| Self {
            arena: size.arena.max(placement.arena),
            block: size.block.max(placement.lasting),
            kept: size.kept + 1,
        });
        Self { kept: all.kept.min(most), ..all }
    }

    /// What the device takes for it.
    pub fn bytes(&self) -> u64 {
        if self.kept == 0 {
            return 0;
        }
        let pages = |bytes: u64| bytes.max(1).next_multiple_of(PAGE);
        pages(self.arena) + pages(self.block * self.kept as u64)
    }
}

/// A program's block.
pub(super) struct Block {
    /// All blocks of the room.
    pub memory: Arc<Owned>,
    /// Where this one begins in them.
    pub offset: u64,
    /// Which it is.
    index: usize,
}

struct Kept<P> {
    program: P,
    index: usize,
    used: u64,
}

/// The programs with their memory.
pub(super) struct Room<K, P> {
    /// Programs before memory: what they recorded goes first.
    programs: HashMap<K, Kept<P>>,
    memory: Option<(Arc<Owned>, Arc<Owned>)>,
    size: Size,
    uses: u64,
}

impl<K: Hash + Eq + Copy, P> Room<K, P> {
    /// Without memory; the first program brings it as large as it needs.
    pub fn empty() -> Self {
        Self { programs: HashMap::new(), memory: None, size: Size::default(), uses: 0 }
    }

    /// Takes the memory for all that will come.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] where the device has not so much.
    pub fn reserve(&mut self, driver: &Arc<dyn Driver>, size: Size) -> Result<()> {
        if size.kept == 0 || (self.memory.is_some() && size == self.size) {
            return Ok(());
        }
        // What is there goes first: there may be no room for both.
        self.programs.clear();
        self.memory = None;
        let blocks = size.block * size.kept as u64;
        let what = || {
            let [all, arena, lasting] = [size.arena + blocks, size.arena, blocks].map(readable);
            format!("a plan of {all} (arena {arena}, weights and inputs {lasting})")
        };
        let arena = Arc::new(Owned::new(driver, size.arena, what)?);
        let blocks = Arc::new(Owned::new(driver, blocks, what)?);
        self.memory = Some((arena, blocks));
        self.size = size;
        Ok(())
    }

    /// The program of this key, if it is kept.
    pub fn get(&mut self, key: &K) -> Option<&mut P> {
        self.uses += 1;
        let kept = self.programs.get_mut(key)?;
        kept.used = self.uses;
        Some(&mut kept.program)
    }

    /// The arena and a block for a new program. A room that is too small becomes larger, and all its programs go.
    ///
    /// # Errors
    /// As [`Room::reserve`].
    pub fn block(&mut self, driver: &Arc<dyn Driver>, placement: &Placement) -> Result<(Arc<Owned>, Block)> {
        let Size { arena, block, kept } = self.size;
        if self.memory.is_none() || placement.arena > arena || placement.lasting > block {
            let size = Size {
                arena: arena.max(placement.arena),
                block: block.max(placement.lasting),
                kept: if kept == 0 { KEPT } else { kept },
            };
            self.reserve(driver, size)?;
        }
        let Some((arena, blocks)) = self.memory.clone() else {
            let problem = "a room without memory".into();
            return Err(crate::error::Error::Bug { place: "device network", problem });
        };
        let taken = |index: usize| self.programs.values().any(|kept| kept.index == index);
        let index = match (0..self.size.kept).find(|&index| !taken(index)) {
            Some(index) => index,
            None => {
                let oldest = self.programs.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
                let gone = oldest.and_then(|key| self.programs.remove(&key));
                gone.map_or(0, |gone| gone.index)
            }
        };
        Ok((arena, Block { memory: blocks, offset: index as u64 * self.size.block, index }))
    }

    /// Keeps a program that was made in a block.
    pub fn insert(&mut self, key: K, block: &Block, program: P) -> &mut P {
        self.uses += 1;
        let kept = Kept { program, index: block.index, used: self.uses };
        let place = self.programs.entry(key).insert_entry(kept);
        &mut place.into_mut().program
    }
}
