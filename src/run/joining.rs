//! The points of all tiles in the order of their pixels, which is that of a cloud that was made at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::ply::Point;
use crate::fusion::funnel::Funnel;
use crate::fusion::tiled::Pixel;
use crate::fusion::view::ViewFacts;
use crate::host::interrupt;
use crate::maps::valid::Invalid;
use crate::run::fusion_memory::PROGRAM_BYTES;
use crate::run::tile_files::{Words, all_parts};
use crate::run::tile_part::{Part, Reader, Told};
use crate::run::tile_plan::TilePlan;
use crate::scene::mask;

/// Bytes of points that are held of all parts together; of each a few at least.
const HELD: usize = 32 << 20;
/// Bytes of a point in memory, while those that were read become points: the file's bytes and the points.
const POINT: usize = 64 + 56;
/// Points of a part that are read at once.
const AT_ONCE: (usize, usize) = (64, 1 << 13);
/// Points that go on together.
const TOGETHER: usize = 1 << 14;

/// The parts of a plan, all of them.
pub struct Parts {
    facts: Vec<ViewFacts>,
    folder: PathBuf,
    parts: Vec<Part>,
    /// What was found in each view's maps, where a part tells.
    told: Vec<Option<Told>>,
    voxels: u64,
}

impl Parts {
    /// Those in a folder of results; `facts` are of the plan's views, and points of a thinned cloud may take what is
    /// left of so many bytes.
    ///
    /// # Errors
    /// Parts that are missing, by their names, or are of another plan.
    pub fn open(out: &Path, plan: &TilePlan, facts: Vec<ViewFacts>, room: u64) -> Result<Self> {
        let words = Words { hold: "points", that: "those", command: "engine fuse" };
        let is_of = |part: &Part, tile| part.header.plan == plan.id && part.header.tile == tile;
        let parts = all_parts(plan.tiles.len(), &words, |tile| plan.part(out, tile), Part::open, is_of)?;
        let voxels = room.saturating_sub(PROGRAM_BYTES + HELD as u64);
        let mut told = vec![None; facts.len()];
        // Several parts that tell of a view tell the same.
        for (view, of_view) in parts.iter().flat_map(|part: &Part| &part.header.views) {
            if let Some(told) = told.get_mut(*view) {
                told.get_or_insert(*of_view);
            }
        }
        Ok(Self { facts, folder: out.to_owned(), parts, told, voxels })
    }

    /// What is known of the views.
    pub fn facts(&self) -> &[ViewFacts] {
        &self.facts
    }

    /// The folder for results.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes for the voxels of a thinned cloud.
    pub fn voxel_bytes(&self) -> u64 {
        self.voxels
    }

    /// What became of every view's pixels.
    pub fn funnels(&self) -> Vec<Funnel> {
        let mut funnels: Vec<Funnel> = self.facts.iter().map(|_| Funnel::default()).collect();
        for (view, funnel) in self.parts.iter().flat_map(|part| &part.header.funnels) {
            if let Some(sum) = funnels.get_mut(*view) {
                *sum = Funnel::sum([&*sum, funnel]);
            }
        }
        for (view, (funnel, facts)) in funnels.iter_mut().zip(&self.facts).enumerate() {
            funnel.pixels = facts.size.0 * facts.size.1;
            funnel.agreed.resize(facts.sources.len(), 0);
            funnel.specks = self.told[view].map_or(0, |told| told.specks);
            funnel.in_range += funnel.specks;
        }
        funnels
    }

    /// What is to be said of the maps in this place.
    pub fn notes(&self, maps: &str) -> Vec<String> {
        let all: Vec<(&ViewFacts, Told)> =
            self.facts.iter().zip(&self.told).filter_map(|(facts, told)| Some((facts, (*told)?))).collect();
        let mut notes = Vec::new();
        let without = all.iter().filter(|(_, told)| !told.has_confidence).count();
        if without > 0 {
            notes.push(format!("{without} of {} views have no confidence map: 1 everywhere", self.facts.len()));
        }
        notes.extend(all.iter().fold(Invalid::default(), |sum, (_, told)| sum.and(told.invalid)).notes(maps));
        let masked = all.iter().filter(|(_, told)| told.is_masked).count();
        let empty = all.iter().filter(|(_, told)| told.is_empty).map(|(facts, _)| facts.name.clone());
        notes.extend(mask::notes(masked, self.facts.len(), &empty.collect::<Vec<_>>()));
        notes
    }

    /// Gives all points to `pass`, in the order of their pixels.
    ///
    /// # Errors
    /// Parts that cannot be read or were changed; those of `pass`; [`crate::Error::Interrupted`].
    pub fn join(&self, pass: &mut dyn FnMut(Vec<Point>) -> Result<()>) -> Result<()> {
        let at_once = (HELD / POINT / self.parts.len().max(1)).clamp(AT_ONCE.0, AT_ONCE.1);
        let mut readers: Vec<Reader> = self.parts.iter().map(|part| part.points(at_once)).collect();
        let mut next = BinaryHeap::<Reverse<(Pixel, usize)>>::new();
        let mut heads = Vec::with_capacity(readers.len());
        for (at, reader) in readers.iter_mut().enumerate() {
            let head = reader.next_point()?;
            next.extend(head.map(|point| Reverse((point.of, at))));
            heads.push(head.map(|point| point.point));
        }
        let mut together = Vec::with_capacity(TOGETHER);
        while let Some(Reverse((_, at))) = next.pop() {
            together.extend(heads[at].take());
            if let Some(point) = readers[at].next_point()? {
                next.push(Reverse((point.of, at)));
                heads[at] = Some(point.point);
            }
            if together.len() == TOGETHER {
                interrupt::check()?;
                pass(std::mem::replace(&mut together, Vec::with_capacity(TOGETHER)))?;
            }
        }
        pass(together)
    }
}
