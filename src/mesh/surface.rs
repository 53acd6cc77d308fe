//! Where the distance is zero, as quads: one for every edge of the grid between voxels of which one lies inside and one
//! outside, whose corners are the [`patches`] of the four cells around the edge. A corner lies at the mean of the
//! places where its cell's edges are crossed (S. F. F. Gibson, "Constrained elastic surface nets", 1998, without the
//! nets' later relaxation).
//!
//! [`patches`]: crate::mesh::patches

use glam::{DVec3, IVec3};
use rayon::prelude::*;

use crate::mesh::grid::{BESIDE, BlockKey, Grid, SIDE, VOXELS};
use crate::mesh::patches::{self, NOT_CROSSED, PATCHES};
use crate::mesh::triangles::Triangles;
use crate::mesh::volume::Volume;

/// A distance changes from voxel to voxel by at most their own distance, but for noise and beside edges, where some
/// views see free space. Where it jumps from behind one surface to what is nothing but free, there is no surface.
const MOST_CHANGE_VOXELS: f32 = 3.0;
/// Voxels along a side of what the cells of a block and their neighbours need.
const WIDE: usize = SIDE as usize + 2;
/// Cells along a side.
const CELLS: usize = SIDE as usize + 1;

/// A piece of surface in a cell: the block's number, the cell in it, the piece in the cell.
pub type VertexKey = u64;
/// A vertex: its key, and where it is.
pub type Vertex = (VertexKey, [f32; 3]);
/// The corners of a quad.
pub type Corners = [VertexKey; 4];
/// Bits of the cell and the piece.
const KEY_BITS_IN_BLOCK: u32 = 11;

/// Surface so far: of some blocks, in the order of their numbers.
#[derive(Default)]
pub struct Quads {
    /// Anticlockwise as seen from outside.
    corners: Vec<Corners>,
    /// Positions relative to the grid's origin; a vertex may be there more than once, with the same position.
    vertices: Vec<Vertex>,
}

/// Bytes that a quad takes until the mesh is finished: its corners, its vertex (there are about as many), their
/// triangles, and the bookkeeping of edges while pieces are told apart.
pub const BYTES_A_QUAD: u64 = 32 + 24 + (12 + 24) + 6 * 16 + 24;

impl Quads {
    /// How many.
    pub fn len(&self) -> usize {
        self.corners.len()
    }

    /// Whether there is no surface.
    pub fn is_empty(&self) -> bool {
        self.corners.is_empty()
    }

    /// Adds the surface that the blocks in `own` have, in their order. Blocks beside them must be in the volume if they
    /// exist.
    pub fn add(&mut self, grid: Grid, volume: &Volume, own: &[BlockKey]) {
        let parts: Vec<Quads> = own.par_iter().filter_map(|&key| of_block(grid, volume, key)).collect();
        for part in parts {
            self.corners.extend(part.corners);
            self.vertices.extend(part.vertices);
        }
        self.vertices.par_sort_unstable_by_key(|&(key, _)| key);
        self.vertices.dedup_by_key(|(key, _)| *key);
    }

    /// Those of other blocks behind one's own.
    pub fn append(&mut self, mut other: Self) {
        self.corners.append(&mut other.corners);
        self.vertices.append(&mut other.vertices);
    }

    /// Brings quads that were appended into the order of their blocks, as if the blocks had been added in it; whether
    /// all that share a vertex agree where it is.
    pub fn sort(&mut self) -> bool {
        // A quad's first corner lies in the block that it is of; the sort keeps the order within a block.
        self.corners.par_sort_by_key(|corners| corners[0] >> KEY_BITS_IN_BLOCK);
        self.vertices.par_sort_unstable_by_key(|&(key, _)| key);
        let agree = self.vertices.par_windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1);
        self.vertices.dedup_by_key(|(key, _)| *key);
        agree
    }

    /// Corners and vertices, as files have them.
    pub fn parts(&self) -> (&[Corners], &[Vertex]) {
        (&self.corners, &self.vertices)
    }

    /// Of corners and vertices; `None` where a corner has no vertex.
    pub fn of_parts(corners: Vec<Corners>, vertices: Vec<Vertex>) -> Option<Self> {
        let is_there = |key: &VertexKey| vertices.binary_search_by_key(key, |&(key, _)| key).is_ok();
        corners.par_iter().flatten().all(is_there).then_some(Self { corners, vertices })
    }

    /// Two triangles for each quad, along the shorter diagonal.
    pub fn into_triangles(self) -> Triangles {
        let Self { corners, vertices } = self;
        let index = |key: VertexKey| vertices.binary_search_by_key(&key, |&(key, _)| key).unwrap_or_default() as u32;
        let position = |i: u32| DVec3::from(vertices[i as usize].1.map(f64::from));
        let two = |quad: &Corners| {
            let [a, b, c, d] = quad.map(index);
            let [first, second] = [(a, c), (b, d)].map(|(p, q)| position(p).distance_squared(position(q)));
            if first <= second { [[a, b, c], [a, c, d]] } else { [[a, b, d], [b, c, d]] }
        };
        let faces = corners.par_iter().flat_map_iter(two).collect();
        Triangles { positions: vertices.into_iter().map(|(_, position)| position).collect(), faces }
    }
}

/// The distances around a block; NaN where nothing is known.
struct Around {
    distances: Vec<f32>,
}

impl Around {
    fn of(volume: &Volume, key: BlockKey) -> Option<Self> {
        let side = SIDE as usize;
        // The block itself and those beside it, by the bits of the step.
        let mut blocks = [volume.find(key); 8];
        for step in BESIDE {
            let at = (step.x + 2 * step.y + 4 * step.z) as usize;
            blocks[at] = key.beside(step).and_then(|key| volume.find(key));
        }
        blocks[0]?;
        let mut distances = vec![f32::NAN; WIDE * WIDE * WIDE];
        for (i, distance) in distances.iter_mut().enumerate() {
            let [x, y, z] = [i % WIDE, i / WIDE % WIDE, i / WIDE / WIDE];
            let block = blocks[x / side + 2 * (y / side) + 4 * (z / side)];
            let voxel = x % side + side * (y % side) + side * side * (z % side);
            if let Some(known) = block.and_then(|block| volume.distance(block, voxel)) {
                *distance = known;
            }
        }
        Some(Self { distances })
    }

    fn at(&self, [x, y, z]: [usize; 3]) -> f32 {
        self.distances[x + WIDE * (y + WIDE * z)]
    }

    /// The distances at the corners of a cell.
    fn corners(&self, [x, y, z]: [usize; 3]) -> [f32; 8] {
        std::array::from_fn(|corner| self.at([x + corner % 2, y + corner / 2 % 2, z + corner / 4]))
    }

    /// Which corners of a cell lie inside; `None` where one is not known or the distance jumps.
    fn signs(&self, cell: [usize; 3], most_change: f32) -> Option<u8> {
        let distances = self.corners(cell);
        let mut signs = 0;
        for (corner, distance) in distances.into_iter().enumerate() {
            if distance.is_nan() {
                return None;
            }
            signs |= u8::from(distance < 0.0) << corner;
        }
        let jumps = |edge: usize| {
            let [a, b] = patches::corners(edge).map(|corner| distances[corner]);
            (a < 0.0) != (b < 0.0) && (a - b).abs() > most_change
        };
        (!(0..12).any(jumps)).then_some(signs)
    }
}

fn of_block(grid: Grid, volume: &Volume, key: BlockKey) -> Option<Quads> {
    let around = Around::of(volume, key)?;
    let low = around.distances.iter().copied().fold(f32::INFINITY, f32::min);
    let high = around.distances.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !(low < 0.0 && high >= 0.0) {
        return None;
    }
    let most_change = MOST_CHANGE_VOXELS * grid.side as f32;
    let cell_at = |i: usize| [i % CELLS, i / CELLS % CELLS, i / CELLS / CELLS];
    let signs: Vec<Option<u8>> = (0..CELLS * CELLS * CELLS).map(|i| around.signs(cell_at(i), most_change)).collect();
    let signs_of = |[x, y, z]: [usize; 3]| signs[x + CELLS * (y + CELLS * z)];
    let mut quads = Quads::default();
    for (cell, axis) in (0..VOXELS).flat_map(|i| (0..3).map(move |axis| (i, axis))) {
        let side = SIDE as usize;
        let cell = [cell % side, cell / side % side, cell / side / side];
        // The edge that this cell shares with those one further along the other axes.
        let [p, q] = [(axis + 1) % 3, (axis + 2) % 3];
        let mut start = cell;
        start[p] += 1;
        start[q] += 1;
        let mut end = start;
        end[axis] += 1;
        let (first, second) = (around.at(start), around.at(end));
        if (first < 0.0) == (second < 0.0) || first.is_nan() || second.is_nan() {
            continue;
        }
        let corner = |i: usize, j: usize| {
            let mut at = cell;
            at[p] += i;
            at[q] += j;
            let patch = PATCHES[usize::from(signs_of(at)?)].of_edge[patches::edge(axis, 1 - i, 1 - j)];
            Some((at, patch))
        };
        // Anticlockwise seen from the end of the edge, which is outside if its start is inside.
        let ring = if first < 0.0 { [(0, 0), (1, 0), (1, 1), (0, 1)] } else { [(0, 0), (0, 1), (1, 1), (1, 0)] };
        let Some(ring) = all_of(ring.map(|(i, j)| corner(i, j))) else { continue };
        let Some(keys) = all_of(ring.map(|(at, patch)| vertex_key(key, at, patch))) else { continue };
        quads.corners.push(keys);
        for (key_of, (at, patch)) in keys.into_iter().zip(ring) {
            quads.vertices.push((key_of, around.position(grid, key, at, patch)));
        }
    }
    quads.vertices.sort_unstable_by_key(|&(key, _)| key);
    quads.vertices.dedup_by_key(|(key, _)| *key);
    Some(quads)
}

/// All four, if they are there.
fn all_of<T: Copy>(items: [Option<T>; 4]) -> Option<[T; 4]> {
    let [a, b, c, d] = items;
    Some([a?, b?, c?, d?])
}

/// The number of a piece in a cell that is counted from a block's first one.
fn vertex_key(block: BlockKey, cell: [usize; 3], patch: u8) -> Option<VertexKey> {
    let side = SIDE as usize;
    let step = cell.map(|at| (at / side) as i32);
    let [x, y, z] = cell.map(|at| (at % side) as u64);
    let block = if step == [0; 3] { block } else { block.beside(IVec3::from(step))? };
    Some(block.0 << KEY_BITS_IN_BLOCK | (x + 8 * y + 64 * z) << 2 | u64::from(patch))
}

impl Around {
    /// The mean of the places where the piece crosses the cell's edges, relative to the grid's origin.
    fn position(&self, grid: Grid, block: BlockKey, cell: [usize; 3], patch: u8) -> [f32; 3] {
        let distances = self.corners(cell);
        let signs = distances.iter().enumerate().map(|(corner, d)| u8::from(*d < 0.0) << corner).sum::<u8>();
        let (mut sum, mut count) = (DVec3::ZERO, 0);
        for (edge, &of_edge) in PATCHES[usize::from(signs)].of_edge.iter().enumerate() {
            if of_edge == NOT_CROSSED || of_edge != patch {
                continue;
            }
            let [a, b] = patches::corners(edge);
            let [from, to] = [a, b].map(|corner| f64::from(distances[corner]));
            let place = |corner: usize| DVec3::from([0, 1, 2].map(|axis| (corner >> axis & 1) as f64));
            sum += place(a).lerp(place(b), from / (from - to));
            count += 1;
        }
        let first = (block.block() * SIDE).as_dvec3() + DVec3::from(cell.map(|at| at as f64));
        ((first + sum / f64::from(count)) * grid.side).as_vec3().to_array()
    }
}
