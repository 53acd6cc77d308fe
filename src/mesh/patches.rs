//! Which pieces of surface cross a cell, by the signs at its eight corners.
//!
//! Corner `x + 2 y + 4 z` of a cell is its corner at (x, y, z), each 0 or 1. Edge `4 a + i + 2 j` runs along axis a; it
//! lies at i along the axis after a and at j along the one after that. An edge whose corners differ in sign is crossed.
//! On a face with four crossed edges, the two of each inner corner belong together. That is the same seen from both
//! cells of the face, so that the pieces of a cell continue in its neighbours and close. The vertices of the mesh are
//! these pieces, not the cells: G. M. Nielson, "Dual marching cubes", IEEE Visualization 2004.

use std::sync::LazyLock;

/// No piece crosses the edge.
pub const NOT_CROSSED: u8 = u8::MAX;

/// The pieces of one combination of signs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patches {
    /// Of each edge, the number of the piece that crosses it, or [`NOT_CROSSED`].
    pub of_edge: [u8; 12],
    /// How many there are: 0 to 4.
    pub count: u8,
}

/// By the signs: bit `c` is set where corner c lies inside.
pub static PATCHES: LazyLock<[Patches; 256]> = LazyLock::new(|| std::array::from_fn(|signs| Patches::of(signs as u8)));

/// The two corners of an edge.
pub fn corners(edge: usize) -> [usize; 2] {
    let (axis, i, j) = (edge / 4, edge % 2, edge / 2 % 2);
    let first = i << ((axis + 1) % 3) | j << ((axis + 2) % 3);
    [first, first | 1 << axis]
}

/// The edge along an axis at (i, j) of the next two axes.
pub fn edge(axis: usize, i: usize, j: usize) -> usize {
    4 * axis + i + 2 * j
}

impl Patches {
    fn of(signs: u8) -> Self {
        let inside = |corner: usize| signs >> corner & 1 == 1;
        let crossed =
            |edge: usize| corners(edge).map(inside) == [true, false] || corners(edge).map(inside) == [false, true];
        // Each crossed edge begins as a piece of its own, and takes the least number of those it belongs to.
        let mut piece: [u8; 12] = std::array::from_fn(|edge| if crossed(edge) { edge as u8 } else { NOT_CROSSED });
        let mut join = |a: usize, b: usize| {
            let (from, to) = (piece[a].max(piece[b]), piece[a].min(piece[b]));
            piece.iter_mut().filter(|p| **p == from).for_each(|p| *p = to);
        };
        for (axis, side) in (0..6).map(|face| (face / 2, face % 2)) {
            let [p, q] = [(axis + 1) % 3, (axis + 2) % 3];
            // Edges of the face along p at j of q, and along q at i of p.
            let along_p = |j: usize| edge(p, j, side);
            let along_q = |i: usize| edge(q, side, i);
            let all = [along_p(0), along_p(1), along_q(0), along_q(1)];
            let there: Vec<usize> = all.into_iter().filter(|&e| crossed(e)).collect();
            match there[..] {
                [a, b] => join(a, b),
                [_, _, _, _] => {
                    let corner = |i: usize, j: usize| side << axis | i << p | j << q;
                    for (i, j) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().filter(|&(i, j)| inside(corner(i, j))) {
                        join(along_p(j), along_q(i));
                    }
                }
                _ => {}
            }
        }
        // Numbered from 0.
        let mut numbers: Vec<u8> = piece.iter().copied().filter(|&p| p != NOT_CROSSED).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let number = |p: u8| numbers.iter().position(|&n| n == p).map_or(NOT_CROSSED, |at| at as u8);
        Self { of_edge: piece.map(number), count: numbers.len() as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_marching_cubes() {
        let of = |corners: &[usize]| PATCHES[corners.iter().map(|c| 1 << c).sum::<usize>()];
        assert_eq!((of(&[]).count, of(&[0, 1, 2, 3, 4, 5, 6, 7]).count), (0, 0));
        // One corner; an edge; two corners across a face, and across the cell; four that share no edge.
        assert_eq!(of(&[0]).of_edge.map(|p| p == 0).iter().filter(|is| **is).count(), 3);
        assert_eq!((of(&[0, 1]).count, of(&[0, 3]).count, of(&[0, 7]).count, of(&[0, 3, 5, 6]).count), (1, 2, 2, 4));
        // Inner corners are parted on every face, outer ones are not: the inverse has one piece.
        assert_eq!(of(&[1, 2, 4, 5, 6, 7]).count, 1);
        for (signs, patches) in PATCHES.iter().enumerate() {
            for (edge, &piece) in patches.of_edge.iter().enumerate() {
                let [a, b] = corners(edge).map(|corner| signs >> corner & 1);
                assert_eq!(piece == NOT_CROSSED, a == b, "{signs} {edge}");
                assert!(piece == NOT_CROSSED || piece < patches.count);
            }
            // A piece is a closed line over at least three edges.
            for piece in 0..patches.count {
                assert!(patches.of_edge.iter().filter(|p| **p == piece).count() >= 3, "{signs}");
            }
        }
    }

    #[test]
    fn edges_are_numbered_by_axis_and_place() {
        let mut all: Vec<[usize; 2]> = (0..12).map(corners).collect();
        assert!(all.iter().all(|[a, b]| (a ^ b).is_power_of_two() && a < b && *b < 8));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
        // Along y (axis 1), at z = 1 and x = 0: from corner 4 to corner 6.
        assert_eq!(corners(edge(1, 1, 0)), [4, 6]);
    }
}
