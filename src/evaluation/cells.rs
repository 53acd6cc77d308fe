//! Points sorted into the cells of a cubic grid, for questions about neighbourhoods of one fixed size.
//!
//! Only cells that hold points exist: a sorted list of their numbers. A number is made of 21 bits an axis, x the
//! lowest, so that the three neighbours along x follow each other in the list and going through the list in order
//! moves each of the nine rows around a cell forward only. The grid is centred on the median of a sample of the
//! points; points beyond its two million cells an axis count to its outermost cells. That keeps neighbours in
//! neighbouring cells, so it costs time there, nothing else.

use std::ops::Range;

use rayon::prelude::*;

/// Bits of a cell's number for each axis.
const BITS: u32 = 21;
/// Cells of an axis, the outermost ones left free so that every cell has neighbours on both sides.
const LAST: f64 = ((1u64 << BITS) - 2) as f64;
/// Points that the grid is centred with.
const SAMPLE: usize = 1001;

/// Points by cell.
pub(super) struct Cells {
    /// The points, cell after cell, in a cell by rising rank.
    pub points: Vec<[f64; 3]>,
    /// Where each of them stood before.
    pub indices: Vec<u32>,
    /// The number of each cell that holds points, rising.
    pub keys: Vec<u64>,
    /// Where each cell's points begin in `points`, and their end.
    pub starts: Vec<u32>,
}

/// A place in the list of cells for each row of cells around the one at hand; goes forward only.
#[derive(Clone)]
pub(super) struct Rows([usize; 9]);

impl Cells {
    /// Sorts at most 2^32 - 1 finite points into cells of this edge, those of one cell by `rank` of their index.
    pub fn new(points: &[[f64; 3]], edge: f64, rank: impl Fn(u32) -> u64 + Sync) -> Self {
        let centre = centre(points);
        let mut order: Vec<(u64, u64, u32)> = points
            .par_iter()
            .enumerate()
            .map(|(index, point)| (key(*point, centre, edge), rank(index as u32), index as u32))
            .collect();
        order.par_sort_unstable();
        let mut keys = Vec::new();
        let mut starts = Vec::new();
        for (at, &(key, _, _)) in order.iter().enumerate() {
            if keys.last() != Some(&key) {
                keys.push(key);
                starts.push(at as u32);
            }
        }
        starts.push(order.len() as u32);
        let indices: Vec<u32> = order.into_par_iter().map(|(_, _, index)| index).collect();
        let points = indices.par_iter().map(|&index| points[index as usize]).collect();
        Self { points, indices, keys, starts }
    }

    /// Where a cell's points are.
    pub fn range(&self, cell: usize) -> Range<usize> {
        self.starts[cell] as usize..self.starts[cell + 1] as usize
    }

    /// The rows around a cell, to begin with.
    pub fn rows(&self, cell: usize) -> Rows {
        let key = self.keys[cell];
        Rows(row_starts(key).map(|first| self.keys.partition_point(|&k| k < first)))
    }

    /// Where the points of a cell and its 26 neighbours are, its own first. Cells must be asked for in rising order.
    pub fn around(&self, cell: usize, rows: &mut Rows, found: &mut Vec<Range<usize>>) {
        found.clear();
        found.push(self.range(cell));
        for (place, first) in rows.0.iter_mut().zip(row_starts(self.keys[cell])) {
            *place = self.forward(*place, first);
            let in_row = (*place..self.keys.len()).take_while(|&other| self.keys[other] <= first + 2);
            found.extend(in_row.filter(|&other| other != cell).map(|other| self.range(other)));
        }
    }

    /// The first cell from `from` on whose number is at least `key`: mostly a few steps away, so steps double.
    fn forward(&self, from: usize, key: u64) -> usize {
        let rest = &self.keys[from..];
        let mut reach = 1;
        while reach <= rest.len() && rest[reach - 1] < key {
            reach *= 2;
        }
        let (low, high) = (reach / 2, reach.min(rest.len()));
        from + low + rest[low..high].partition_point(|&k| k < key)
    }
}

/// The first number of each of the nine rows of three around a cell, in rising order.
fn row_starts(key: u64) -> [u64; 9] {
    std::array::from_fn(|row| {
        let (y, z) = (row as u64 % 3, row as u64 / 3);
        // No axis is ever 0, so nothing is borrowed from the next one.
        key + (y << BITS) + (z << (2 * BITS)) - (1 << BITS) - (1 << (2 * BITS)) - 1
    })
}

fn key(point: [f64; 3], centre: [f64; 3], edge: f64) -> u64 {
    let place = |axis: usize| {
        let cells = ((point[axis] - centre[axis]) / edge).floor() + (1u64 << (BITS - 1)) as f64;
        cells.clamp(1.0, LAST) as u64
    };
    place(0) | place(1) << BITS | place(2) << (2 * BITS)
}

/// Whether the grid of this edge has a cell of its own for every place in the points' box.
pub(super) fn fits(points: &[[f64; 3]], edge: f64) -> bool {
    let (low, high) = super::nearest::bounds(points);
    let centre = centre(points);
    let half = (1u64 << (BITS - 1)) as f64 - 2.0;
    (0..3).all(|a| {
        let reach = (high[a] - centre[a]).max(centre[a] - low[a]);
        points.is_empty() || reach / edge < half
    })
}

/// The median of every so-many-th point, axis by axis.
fn centre(points: &[[f64; 3]]) -> [f64; 3] {
    let step = (points.len() / SAMPLE).max(1);
    [0, 1, 2].map(|axis| {
        let mut values: Vec<f64> = points.iter().step_by(step).map(|p| p[axis]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    })
}
