//! Boxes along the axes and a tree of them (a bounding volume hierarchy), for the objects of a scene and for the
//! triangles of a mesh.

use glam::DVec3;

use super::ray::Ray;

/// A box along the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Its least corner.
    pub low: DVec3,
    /// Its greatest corner.
    pub high: DVec3,
}

impl Bounds {
    /// Holds nothing; a union with it changes nothing.
    pub const EMPTY: Self = Self { low: DVec3::INFINITY, high: DVec3::NEG_INFINITY };

    /// The smallest box around some points.
    pub fn of(points: impl IntoIterator<Item = DVec3>) -> Self {
        points.into_iter().fold(Self::EMPTY, |b, p| Self { low: b.low.min(p), high: b.high.max(p) })
    }

    /// The smallest box around both.
    pub fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Its middle.
    pub fn middle(&self) -> DVec3 {
        (self.low + self.high) * 0.5
    }

    /// Where the ray is inside: from t to t, within `from..to`; `None` where it misses.
    #[inline]
    pub fn crossing(&self, ray: &Ray, from: f64, to: f64) -> Option<(f64, f64)> {
        let a = (self.low - ray.origin) * ray.inverse;
        let b = (self.high - ray.origin) * ray.inverse;
        // A ray in a face's plane gives 0 * inf = NaN; f64::min and max then take the other operand, which lets the
        // ray in.
        let near = a.x.min(b.x).max(a.y.min(b.y)).max(a.z.min(b.z)).max(from);
        let far = a.x.max(b.x).min(a.y.max(b.y)).min(a.z.max(b.z)).min(to);
        // The slabs are rounded: a relative slack of some ulps keeps rays through edges and flat boxes.
        (near <= far * (1.0 + 4e-15) + f64::MIN_POSITIVE).then_some((near, far))
    }
}

/// A node: a leaf holds `count` items from `first` on, an inner node (`count` = 0) its left child right behind it and
/// its right child at `first`.
#[derive(Clone, Copy, Debug)]
struct Node {
    bounds: Bounds,
    first: u32,
    count: u32,
}

/// A tree over items that are known by their boxes.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Indices of the items, leaf by leaf.
    items: Vec<u32>,
}

/// Items in a leaf: testing a few is cheaper than another box.
const LEAF: usize = 3;
/// The tree is balanced, so 2^60 items would not need more.
const DEPTH: usize = 64;

impl Tree {
    /// Builds a tree by halving at the median along the longest axis of the middles.
    pub fn new(boxes: &[Bounds]) -> Self {
        let mut tree = Self { nodes: Vec::new(), items: (0..boxes.len() as u32).collect() };
        if !boxes.is_empty() {
            tree.split(boxes, 0, boxes.len());
        }
        tree
    }

    /// The box around everything.
    pub fn bounds(&self) -> Bounds {
        self.nodes.first().map_or(Bounds::EMPTY, |n| n.bounds)
    }

    fn split(&mut self, boxes: &[Bounds], start: usize, end: usize) {
        let items = &mut self.items[start..end];
        let bounds = items.iter().fold(Bounds::EMPTY, |b, &i| b.union(boxes[i as usize]));
        let at = self.nodes.len();
        self.nodes.push(Node { bounds, first: start as u32, count: items.len() as u32 });
        if items.len() <= LEAF {
            return;
        }
        let middles = Bounds::of(items.iter().map(|&i| boxes[i as usize].middle()));
        let size = middles.high - middles.low;
        let axis = size.max_position();
        let half = items.len() / 2;
        let key = |i: &u32| boxes[*i as usize].middle()[axis];
        items.select_nth_unstable_by(half, |a, b| key(a).total_cmp(&key(b)).then(a.cmp(b)));
        self.split(boxes, start, start + half);
        self.nodes[at].first = self.nodes.len() as u32;
        self.nodes[at].count = 0;
        self.split(boxes, start + half, end);
    }

    /// Calls `test` with each item whose box the ray crosses between `from` and `to`, nearer boxes first, as far as
    /// that is cheap. `test` gets the item and the current end and returns the new one: the hit's t, or the end
    /// unchanged; one at or below `from` ends the walk.
    #[inline]
    pub fn walk(&self, ray: &Ray, from: f64, to: f64, mut test: impl FnMut(usize, f64) -> f64) {
        let mut to = to;
        let mut waiting = [(0u32, 0f64); DEPTH];
        let mut count = 0;
        let Some(root) = self.nodes.first() else { return };
        if let Some((near, _)) = root.bounds.crossing(ray, from, to) {
            waiting[0] = (0, near);
            count = 1;
        }
        while count > 0 {
            count -= 1;
            let (mut at, near) = waiting[count];
            if near > to {
                continue;
            }
            loop {
                let node = &self.nodes[at as usize];
                if node.count > 0 {
                    for &item in &self.items[node.first as usize..(node.first + node.count) as usize] {
                        to = test(item as usize, to);
                        if to <= from {
                            return;
                        }
                    }
                    break;
                }
                let (left, right) = (at + 1, node.first);
                let entry = |child: u32| self.nodes[child as usize].bounds.crossing(ray, from, to);
                match (entry(left), entry(right)) {
                    (Some((a, _)), Some((b, _))) => {
                        let (next, later) = if a <= b { (left, (right, b)) } else { (right, (left, a)) };
                        waiting[count] = later;
                        count += 1;
                        at = next;
                    }
                    (Some(_), None) => at = left,
                    (None, Some(_)) => at = right,
                    (None, None) => break,
                }
            }
        }
    }
}
