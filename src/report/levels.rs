//! A cloud as a tree of tiles, for who looks at it piece by piece: a tile of the tree has every so-many-th point of its
//! cell, those below it have more of the same points, and the lowest have all, each once.

use std::collections::VecDeque;
use std::ops::Range;

use crate::report::grid::BITS;
use crate::report::quantise::Packed;
use crate::report::tiles::{self, MOST, Tile};

/// Points of a tile that others stand below: half of the lowest ones' most, so that the first look is soon there.
pub const FEW: usize = MOST / 2;

/// A tile of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its cell, or a piece of one, with all of its points.
    pub tile: Tile,
    /// Of how many points it has one.
    pub every: usize,
    /// The nodes below it.
    pub below: Range<usize>,
}

impl Node {
    /// Points that it has.
    pub fn count(&self) -> usize {
        self.tile.points.len().div_ceil(self.every)
    }

    /// Its bytes, as [`tiles`] packs them.
    pub fn bytes(&self, points: &[Packed]) -> Vec<u8> {
        let mut bytes = Vec::new();
        tiles::encode(&self.tile, points, self.every, &mut bytes);
        bytes
    }
}

/// The tree over a cloud: the root is the first, and nodes come level by level. A cloud without points has none.
pub fn tree(points: &[Packed]) -> Vec<Node> {
    let mut root = Tile::root(points.len());
    // Down to where the cloud begins to part.
    while let [only] = &below(&root, points)[..] {
        root = only.clone();
    }
    let mut next: VecDeque<Tile> = (!points.is_empty()).then_some(root).into_iter().collect();
    let (mut nodes, mut known) = (Vec::new(), next.len());
    while let Some(tile) = next.pop_front() {
        let parts = below(&tile, points);
        let every = if parts.is_empty() { 1 } else { tile.points.len().div_ceil(FEW) };
        nodes.push(Node { tile, every, below: known..known + parts.len() });
        known += parts.len();
        next.extend(parts);
    }
    nodes
}

/// The tiles that a tile's points are parted into; none where it has all of them, each exactly.
fn below(tile: &Tile, points: &[Packed]) -> Vec<Tile> {
    if tile.shift() == 0 && tile.points.len() <= MOST {
        return Vec::new();
    }
    if tile.level == BITS {
        // More than a tile's points at one place.
        let Range { start, end } = tile.points;
        let piece = |from: usize| Tile { points: from..end.min(from + MOST), ..tile.clone() };
        return (start..end).step_by(MOST).map(piece).collect();
    }
    // A cell whose points all lie in one cell of the next level says nothing that this one does not say.
    match &tile.children(points)[..] {
        [only] if only.shift() > 0 || only.points.len() > MOST => below(only, points),
        children => children.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::random::Random;
    use crate::report::grid;

    /// On a surface, with a few strays, and more at one place than a tile holds.
    fn cloud(count: usize) -> Vec<Packed> {
        let mut random = Random::from_state(11);
        let mut below = |most: u32| (random.unit() * f64::from(most)) as u32;
        let mut places: Vec<[u32; 3]> = (0..count)
            .map(|_| {
                let (x, y) = (below(40_000), below(30_000));
                [700_000 + x, 900_000 + y, 800_000 + (x + y) / 8]
            })
            .collect();
        places.extend((0..40).map(|_| [below(1 << 21), below(1 << 21), below(1 << 21)]));
        places.extend(std::iter::repeat_n([5, 6, 7], MOST + 10));
        let point = |(i, at): (usize, [u32; 3])| Packed {
            key: grid::key(at),
            colour: [i as u8, (i >> 8) as u8, 3],
            confidence: (i % 251) as u8,
            views: 3,
            normal: [9, 9],
        };
        let mut points: Vec<Packed> = places.into_iter().enumerate().map(point).collect();
        points.sort_unstable();
        points
    }

    #[test]
    fn the_lowest_tiles_have_every_point_once_and_the_others_a_part_of_those_below() {
        let points = cloud(600_000);
        let nodes = tree(&points);
        assert_eq!(nodes[0].tile.points, 0..points.len());
        let mut times = vec![0u8; points.len()];
        let mut named = vec![0u8; nodes.len()];
        for node in &nodes {
            let Node { tile, every, below } = node;
            assert!(node.count() <= MOST && node.bytes(&points).len() == tiles::PLANES * node.count());
            if below.is_empty() {
                assert!(*every == 1 && tile.shift() == 0, "{node:?}");
                tile.points.clone().for_each(|at| times[at] += 1);
                continue;
            }
            assert!(node.count() <= FEW);
            below.clone().for_each(|at| named[at] += 1);
            // The parts are the whole, in its order.
            let mut end = tile.points.start;
            for part in &nodes[below.clone()] {
                assert_eq!(part.tile.points.start, end);
                end = part.tile.points.end;
                let inside = |axis: usize| {
                    part.tile.corner[axis] >= tile.corner[axis]
                        && part.tile.corner[axis] + part.tile.side() <= tile.corner[axis] + tile.side()
                };
                assert!((0..3).all(inside));
            }
            assert_eq!(end, tile.points.end);
        }
        assert!(times.iter().all(|&n| n == 1) && named[1..].iter().all(|&n| n == 1) && named[0] == 0);
        // A cell with more than a tile's points is parted, into eight at most; strays, and what lies at one place, have
        // tiles of their own. Every parted one has two below it, so that there are fewer of them than of the lowest.
        let lowest = 8 * points.len().div_ceil(MOST) + 40 + 2;
        assert!(nodes.len() < 2 * lowest, "{}", nodes.len());
    }

    #[test]
    fn small_clouds_are_one_tile_and_empty_ones_none() {
        assert!(tree(&[]).is_empty());
        let point = Packed { key: grid::key([9; 3]), colour: [0; 3], confidence: 0, views: 0, normal: [0; 2] };
        let nodes = tree(&[point; 3]);
        assert_eq!((nodes.len(), nodes[0].every, nodes[0].tile.shift()), (1, 1, 0));
    }
}
