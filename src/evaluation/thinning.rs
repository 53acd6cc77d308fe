//! Fewer points of a crowded cloud: by a least distance, as the DTU protocol does, or one a voxel.
//!
//! The protocol (page D.3, step 2) walks through all points in random order; a point that is still there takes out
//! every other one within the radius. The same set, without the walk: a point stays exactly if no point of smaller
//! rank that stays lies within the radius. Threads decide points in any order, each as soon as its neighbours of
//! smaller rank tell; what is undecided after one round over all points is looked at again. The outcome depends on
//! points, radius and seed alone.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::cells::{self, Cells, Rows};
use super::nearest::{difference, squared};
use crate::host::interrupt;
use crate::host::random::mixed;
use crate::{Error, Result};

const UNDECIDED: u8 = 0;
const STAYS: u8 = 1;
const GOES: u8 = 2;

/// Cells that one task looks at.
const CHUNK: usize = 4096;

/// The place of a point in the random order: smaller ranks come first. A permutation of 64-bit numbers, so no two
/// points of a cloud have the same.
#[inline]
pub fn rank(index: u32, seed: u64) -> u64 {
    mixed(u64::from(index) ^ mixed(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The points that stay, in their order: no two within `radius` of each other (a distance of exactly `radius` counts as
/// within), every other one within it of one that stays. Finite points, at most 2^32 - 1. Where the user asks to stop
/// ([`interrupt`]) the set is of no use.
pub fn thin(points: &[[f64; 3]], radius: f64, seed: u64) -> Vec<[f64; 3]> {
    // A little more than the radius: two points exactly the radius apart must not round to cells two apart. Cells are
    // counted up to 2^20 from the centre, where a quotient is rounded by less than 2^-32.
    let cells = Cells::new(points, radius * (1.0 + 1e-6), |index| rank(index, seed));
    let states: Vec<AtomicU8> = (0..points.len()).map(|_| AtomicU8::new(UNDECIDED)).collect();
    let chunks = cells.keys.len().div_ceil(CHUNK);
    let pass = Pass { cells: &cells, states: &states, radius_squared: radius * radius, seed };
    loop {
        let left = AtomicUsize::new(0);
        (0..chunks).into_par_iter().for_each(|chunk| {
            if interrupt::is_asked_to_stop() {
                return;
            }
            let end = cells.keys.len().min((chunk + 1) * CHUNK);
            left.fetch_add(pass.look_at(chunk * CHUNK..end), Ordering::Relaxed);
        });
        // The undecided point of smallest rank is decided by every round, so this ends.
        if left.into_inner() == 0 {
            break;
        }
    }
    let mut stays = vec![false; points.len()];
    for (state, &index) in states.iter().zip(&cells.indices) {
        stays[index as usize] = state.load(Ordering::Relaxed) == STAYS;
    }
    points.iter().zip(stays).filter_map(|(point, stays)| stays.then_some(*point)).collect()
}

/// What a round over the points needs.
struct Pass<'a> {
    cells: &'a Cells,
    states: &'a [AtomicU8],
    radius_squared: f64,
    seed: u64,
}

impl Pass<'_> {
    /// Decides what can be decided in these cells; the number of points that cannot yet.
    fn look_at(&self, cells: Range<usize>) -> usize {
        let mut rows: Option<Rows> = None;
        let mut around = Vec::with_capacity(27);
        let mut left = 0;
        for cell in cells {
            let own = self.cells.range(cell);
            if self.states[own.clone()].iter().all(|s| s.load(Ordering::Relaxed) != UNDECIDED) {
                continue;
            }
            let rows = rows.get_or_insert_with(|| self.cells.rows(cell));
            self.cells.around(cell, rows, &mut around);
            for at in own {
                if self.states[at].load(Ordering::Relaxed) == UNDECIDED {
                    let state = self.state(at, &around);
                    self.states[at].store(state, Ordering::Relaxed);
                    left += usize::from(state == UNDECIDED);
                }
            }
        }
        left
    }

    /// What the neighbours of smaller rank make of a point. A state never changes once it is decided, so reading one
    /// while another thread decides it can only delay this point, not change it.
    fn state(&self, at: usize, around: &[Range<usize>]) -> u8 {
        let point = self.cells.points[at];
        let own_rank = rank(self.cells.indices[at], self.seed);
        let mut verdict = STAYS;
        for range in around {
            for other in range.clone() {
                let state = self.states[other].load(Ordering::Relaxed);
                if state == GOES {
                    continue;
                }
                // In a cell ranks rise: nothing further on matters.
                if rank(self.cells.indices[other], self.seed) >= own_rank {
                    break;
                }
                if squared(difference(point, self.cells.points[other])) > self.radius_squared {
                    continue;
                }
                if state == STAYS {
                    return GOES;
                }
                verdict = UNDECIDED;
            }
        }
        verdict
    }
}

/// One point for each cubic voxel of this edge that holds any: the mean of its points, in the order of the voxels.
///
/// # Errors
/// An edge so small that the cloud is more than two million voxels wide.
pub fn one_a_voxel(points: &[[f64; 3]], edge: f64) -> Result<Vec<[f64; 3]>> {
    if !cells::fits(points, edge) {
        return Err(Error::input(
            "--voxel",
            format!("{edge}, of which a cloud here is more than two million wide"),
            "a larger edge, or a cloud without points far outside",
        ));
    }
    interrupt::check()?;
    let cells = Cells::new(points, edge, u64::from);
    interrupt::check()?;
    let mean = |cell: usize| {
        let points = &cells.points[cells.range(cell)];
        [0, 1, 2].map(|axis| {
            let sum: f64 = points.iter().map(|p| p[axis]).sum();
            sum / points.len() as f64
        })
    };
    Ok((0..cells.keys.len()).into_par_iter().map(mean).collect())
}
