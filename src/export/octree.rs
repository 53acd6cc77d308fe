//! Points sorted into an octree in which every point is in one node, and coarser nodes thin out what lies below them.
//!
//! Built from the leaves up: a node takes from each of its children what falls into cells of its grid that are still
//! free, and the children keep the rest. Only what fits is in memory: more points than that are put aside on disk in
//! eight parts, octant by octant, and each part is built by itself. Beside it are held the nodes of one way up.

use std::path::Path;

use crate::Result;
use crate::files::scratch::Scratch;
use crate::host::interrupt;

/// Cells of a node's grid along each side: 2^7.
pub const GRID_BITS: u32 = 7;
/// Bytes that are put aside at once.
const BLOCK: usize = 1 << 16;

/// Level, and place on it along each axis.
pub type Key = [i32; 4];

/// A node with the records of its points.
pub struct Node {
    /// Where it is.
    pub key: Key,
    /// One behind the other.
    pub records: Vec<u8>,
}

/// How much a node and the memory may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Points of a node that is not divided.
    pub leaf: usize,
    /// Points in memory.
    pub held: usize,
}

/// The cube around all points, and what its tree is made with. Coordinates are the three i32 (little endian) that
/// records begin with.
#[derive(Clone, Copy, Debug)]
pub struct Cube {
    /// The least coordinates.
    pub low: [i32; 3],
    /// Its sides are 2 to this power.
    pub bits: u32,
    /// Bytes of a record.
    pub record: usize,
    /// Likewise.
    pub limits: Limits,
}

impl Cube {
    /// The smallest around a box.
    pub fn around(low: [i32; 3], high: [i32; 3], record: usize, limits: Limits) -> Self {
        let side = (0..3).map(|axis| high[axis].abs_diff(low[axis])).max().unwrap_or(0);
        Self { low, bits: u32::BITS - side.leading_zeros(), record, limits }
    }

    /// Steps from the least coordinates.
    fn steps(&self, record: &[u8]) -> [u32; 3] {
        [0, 1, 2].map(|axis| {
            let at = 4 * axis;
            let value = i32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            value.wrapping_sub(self.low[axis]) as u32
        })
    }

    /// In which child of a node on this level a record lies.
    fn octant(&self, level: u32, record: &[u8]) -> usize {
        let shift = self.bits - 1 - level;
        self.steps(record).iter().enumerate().map(|(axis, steps)| ((steps >> shift & 1) as usize) << axis).sum()
    }

    /// In which cell of the grid of a node on this level a record lies.
    fn cell(&self, level: u32, record: &[u8]) -> usize {
        let left = self.bits - level;
        let (shift, bits) = (left.saturating_sub(GRID_BITS), left.min(GRID_BITS));
        let along =
            |(axis, steps): (usize, &u32)| ((steps >> shift) as usize & ((1 << bits) - 1)) << (axis as u32 * bits);
        self.steps(record).iter().enumerate().map(along).sum()
    }

    /// Sorts the records that `source` gives, of which there are `count`; nodes go to `emit`, of which those of one
    /// call have the same parent. Scratch files go to the folder.
    ///
    /// # Errors
    /// Those of `source` and `emit`; a full disk.
    pub fn sort(
        &self,
        (count, source): (u64, &mut Source),
        folder: &Path,
        emit: &mut dyn FnMut(Vec<Node>) -> Result<()>,
    ) -> Result<()> {
        let root = [0; 4];
        let records = match self.fits(count, 0) {
            true => {
                let mut records = Vec::with_capacity(count as usize * self.record);
                source(&mut |record| {
                    records.extend_from_slice(record);
                    Ok(())
                })?;
                self.build(root, records, emit)?
            }
            false => self.build_apart(root, source, folder, emit)?,
        };
        emit(vec![Node { key: root, records }])
    }

    fn fits(&self, count: u64, level: u32) -> bool {
        count <= self.limits.held as u64 || level == self.bits
    }

    /// Builds what is below a node whose points do not fit; gives the node's own.
    fn build_apart(
        &self,
        key: Key,
        source: &mut Source,
        folder: &Path,
        emit: &mut dyn FnMut(Vec<Node>) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let level = key[0] as u32;
        let mut parts = Parts::new(Scratch::new(folder)?);
        source(&mut |record| parts.put(self.octant(level, record), record))?;
        let mut children = Vec::with_capacity(8);
        for octant in 0..8 {
            interrupt::check()?;
            let (bytes, key) = (parts.bytes(octant), child(key, octant));
            let records = if self.fits(bytes / self.record as u64, level + 1) {
                let mut records = Vec::with_capacity(bytes as usize);
                parts.each(octant, &mut |block| {
                    records.extend_from_slice(block);
                    Ok(())
                })?;
                self.build(key, records, emit)?
            } else {
                let mut again = |take: &mut dyn FnMut(&[u8]) -> Result<()>| {
                    parts.each(octant, &mut |block| block.chunks_exact(self.record).try_for_each(&mut *take))
                };
                self.build_apart(key, &mut again, folder, emit)?
            };
            children.push(Node { key, records });
        }
        self.join(level, children, emit)
    }

    /// Builds what is below a node, of all its points; gives the node's own.
    fn build(&self, key: Key, records: Vec<u8>, emit: &mut dyn FnMut(Vec<Node>) -> Result<()>) -> Result<Vec<u8>> {
        let level = key[0] as u32;
        if records.len() / self.record <= self.limits.leaf || level == self.bits {
            return Ok(records);
        }
        interrupt::check()?;
        let mut parts: [Vec<u8>; 8] = Default::default();
        records.chunks_exact(self.record).for_each(|r| parts[self.octant(level, r)].extend_from_slice(r));
        drop(records);
        let mut children = Vec::with_capacity(8);
        for (octant, records) in parts.into_iter().enumerate() {
            let key = child(key, octant);
            children.push(Node { key, records: self.build(key, records, emit)? });
        }
        self.join(level, children, emit)
    }

    /// Takes a node's points from its children, which are then done.
    fn join(
        &self,
        level: u32,
        mut children: Vec<Node>,
        emit: &mut dyn FnMut(Vec<Node>) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let mut taken = vec![0u64; 1 << (3 * GRID_BITS - 6)];
        let mut own = Vec::new();
        // A child that had points is a node, though its parent may take all of them: it may have children.
        children.retain(|child| !child.records.is_empty());
        for child in &mut children {
            let mut left = Vec::with_capacity(child.records.len());
            for record in child.records.chunks_exact(self.record) {
                let cell = self.cell(level, record);
                let (word, bit) = (&mut taken[cell / 64], 1 << (cell % 64));
                if *word & bit == 0 {
                    *word |= bit;
                    own.extend_from_slice(record);
                } else {
                    left.extend_from_slice(record);
                }
            }
            child.records = left;
        }
        emit(children)?;
        Ok(own)
    }
}

/// Gives records to whom it is handed.
pub type Source<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a;

fn child([level, x, y, z]: Key, octant: usize) -> Key {
    let along = |place: i32, axis: usize| 2 * place + (octant >> axis & 1) as i32;
    [level + 1, along(x, 0), along(y, 1), along(z, 2)]
}

/// Eight parts in one scratch file.
struct Parts {
    scratch: Scratch,
    buffers: [Vec<u8>; 8],
    /// Where each part's blocks begin, and their lengths.
    blocks: [Vec<(u64, usize)>; 8],
}

impl Parts {
    fn new(scratch: Scratch) -> Self {
        Self { scratch, buffers: Default::default(), blocks: Default::default() }
    }

    fn put(&mut self, part: usize, record: &[u8]) -> Result<()> {
        let buffer = &mut self.buffers[part];
        buffer.extend_from_slice(record);
        if buffer.len() >= BLOCK {
            self.blocks[part].push((self.scratch.append(buffer)?, buffer.len()));
            buffer.clear();
        }
        Ok(())
    }

    fn bytes(&self, part: usize) -> u64 {
        let aside: usize = self.blocks[part].iter().map(|(_, length)| length).sum();
        (aside + self.buffers[part].len()) as u64
    }

    fn each(&self, part: usize, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        for &(start, length) in &self.blocks[part] {
            bytes.resize(length, 0);
            self.scratch.read(start, &mut bytes)?;
            take(&bytes)?;
        }
        take(&self.buffers[part])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::host::random::Random;

    fn sorted(points: &[[i32; 3]], limits: Limits) -> (Cube, BTreeMap<Key, Vec<[i32; 3]>>) {
        let side = |axis: usize, least: bool| {
            let all = points.iter().map(|point| point[axis]);
            if least { all.min() } else { all.max() }.unwrap_or(0)
        };
        let cube = Cube::around([0, 1, 2].map(|a| side(a, true)), [0, 1, 2].map(|a| side(a, false)), 13, limits);
        let mut nodes = BTreeMap::new();
        let mut source = |take: &mut dyn FnMut(&[u8]) -> Result<()>| {
            points.iter().try_for_each(|point| {
                let mut record: Vec<u8> = point.iter().flat_map(|v| v.to_le_bytes()).collect();
                record.push(7);
                take(&record)
            })
        };
        let mut emit = |some: Vec<Node>| {
            for Node { key, records } in some {
                let point = |r: &[u8]| [0, 4, 8].map(|at| i32::from_le_bytes([r[at], r[at + 1], r[at + 2], r[at + 3]]));
                assert!(nodes.insert(key, records.chunks_exact(13).map(point).collect()).is_none());
            }
            Ok(())
        };
        let folder = tempfile::tempdir().unwrap();
        cube.sort((points.len() as u64, &mut source), folder.path(), &mut emit).unwrap();
        (cube, nodes)
    }

    fn check(points: &[[i32; 3]], limits: Limits) -> BTreeMap<Key, Vec<[i32; 3]>> {
        let (cube, nodes) = sorted(points, limits);
        let mut all: Vec<[i32; 3]> = nodes.values().flatten().copied().collect();
        let mut expected = points.to_vec();
        all.sort_unstable();
        expected.sort_unstable();
        assert!(all == expected, "every point is in one node");
        for (&[level, x, y, z], points) in &nodes {
            let mut cells = BTreeSet::new();
            let is_leaf = !nodes.keys().any(|k| k[0] == level + 1 && [k[1] / 2, k[2] / 2, k[3] / 2] == [x, y, z]);
            for point in points {
                let steps = [0, 1, 2].map(|axis| i64::from(point[axis]) - i64::from(cube.low[axis]));
                let side = 1i64 << (cube.bits - level as u32);
                assert_eq!(steps.map(|s| s / side), [x, y, z].map(i64::from));
                cells.insert(steps.map(|s| s % side / (side >> GRID_BITS).max(1)));
            }
            assert!(level == 0 || nodes.contains_key(&[level - 1, x / 2, y / 2, z / 2]), "no node without a parent");
            assert!(is_leaf || cells.len() == points.len(), "one point a cell in nodes with children");
            assert!(!is_leaf || points.len() <= limits.leaf || level as u32 == cube.bits);
        }
        nodes
    }

    #[test]
    fn every_point_is_in_one_node_and_memory_changes_nothing() {
        let mut random = Random::from_state(3);
        let mut plane = || {
            let [x, y] = [0, 1].map(|_| random.below(1 << 20) as i32 - (1 << 19));
            [x, y, (x / 3 + y / 5) / 2]
        };
        let mut points: Vec<[i32; 3]> = (0..60_000).map(|_| plane()).collect();
        points.push([i32::MAX, i32::MIN, 0]);
        let few = check(&points, Limits { leaf: 500, held: 100_000 });
        assert!(few.len() > 100);
        let apart = check(&points, Limits { leaf: 500, held: 2000 });
        assert!(few == apart);
        // All at one place, one point, and none.
        assert_eq!(check(&vec![[5; 3]; 1000], Limits { leaf: 10, held: 100 }).len(), 1);
        check(&[vec![[5; 3]; 1000], vec![[9, 5, 5]; 30]].concat(), Limits { leaf: 10, held: 100 });
        assert_eq!(check(&[[-3, 4, 5]], Limits { leaf: 10, held: 10 }).len(), 1);
        assert_eq!(check(&[], Limits { leaf: 10, held: 10 })[&[0; 4]].len(), 0);
    }
}
