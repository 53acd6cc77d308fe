//! A triangle mesh, and what its edges say of it.

use glam::{DVec3, Vec3};
use rayon::prelude::*;

/// Triangles over shared vertices, anticlockwise as seen from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Triangles {
    /// Relative to an origin that is kept elsewhere, in scene units.
    pub positions: Vec<[f32; 3]>,
    /// Three vertices each.
    pub faces: Vec<[u32; 3]>,
}

/// What an edge count finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCount {
    /// Edges.
    pub all: usize,
    /// Edges of one triangle: the mesh's border.
    pub border: usize,
    /// Edges of more than two triangles, or of two that disagree on which side is outside.
    pub bad: usize,
}

/// One side of a triangle: the edge's vertices, the smaller one first; then three times the face plus the side, times
/// two, and whether the smaller vertex comes second.
type HalfEdge = (u64, u32);

impl Triangles {
    /// A vertex as a vector.
    pub fn at(&self, vertex: u32) -> DVec3 {
        DVec3::from(self.positions[vertex as usize].map(f64::from))
    }

    /// The cross product of two sides of a face: twice its area along its normal.
    pub fn area_vector(&self, face: [u32; 3]) -> DVec3 {
        let [a, b, c] = face.map(|vertex| self.at(vertex));
        (b - a).cross(c - a)
    }

    /// All sides of all triangles, sorted by their edges.
    fn half_edges(&self) -> Vec<HalfEdge> {
        let of_face = |(face, corners): (usize, &[u32; 3])| {
            [0, 1, 2].map(|side| {
                let (from, to) = (corners[side], corners[(side + 1) % 3]);
                let edge = u64::from(from.min(to)) << 32 | u64::from(from.max(to));
                (edge, ((3 * face + side) as u32) << 1 | u32::from(from > to))
            })
        };
        let mut all: Vec<HalfEdge> = self.faces.par_iter().enumerate().flat_map_iter(of_face).collect();
        all.par_sort_unstable();
        all
    }

    /// Counts edges by their triangles.
    pub fn count_edges(&self) -> EdgeCount {
        let mut count = EdgeCount::default();
        for edge in self.half_edges().chunk_by(|a, b| a.0 == b.0) {
            count.all += 1;
            match edge {
                [_] => count.border += 1,
                [a, b] if (a.1 ^ b.1) & 1 == 1 => {}
                _ => count.bad += 1,
            }
        }
        count
    }

    /// The sides of triangles that have no neighbour, as (from, to) in their triangle's order.
    pub fn border(&self) -> Vec<[u32; 2]> {
        let sides = self.half_edges();
        let alone = sides.chunk_by(|a, b| a.0 == b.0).filter(|edge| edge.len() == 1);
        alone
            .map(|edge| {
                let (low, high) = ((edge[0].0 >> 32) as u32, edge[0].0 as u32);
                if edge[0].1 & 1 == 1 { [high, low] } else { [low, high] }
            })
            .collect()
    }

    /// Of each triangle, those that share its sides; `u32::MAX` where there is none. The mesh must be a manifold one.
    pub fn neighbours(&self) -> Vec<[u32; 3]> {
        let mut neighbours = vec![[u32::MAX; 3]; self.faces.len()];
        for edge in self.half_edges().chunk_by(|a, b| a.0 == b.0) {
            let [(_, a), (_, b)] = edge else { continue };
            let (a, b) = (a >> 1, b >> 1);
            neighbours[a as usize / 3][a as usize % 3] = b / 3;
            neighbours[b as usize / 3][b as usize % 3] = a / 3;
        }
        neighbours
    }

    /// Makes a surface of it wherever it is none: triangles without extent in vertices are dropped, where an edge has
    /// more than two triangles, or two that disagree, these are no neighbours any more, and a vertex where triangles
    /// meet that are no neighbours becomes one for each group of neighbours. What is left has edges of one or two
    /// triangles, and around each vertex one fan. Vertices are numbered in the order of their first use.
    pub fn make_manifold(&mut self) {
        self.faces.retain(|[a, b, c]| a != b && b != c && c != a);
        // Corners (three times the face plus the place in it) that are one vertex.
        let mut parent: Vec<u32> = (0..3 * self.faces.len() as u32).collect();
        for edge in self.half_edges().chunk_by(|a, b| a.0 == b.0) {
            let [(_, a), (_, b)] = edge else { continue };
            if (a ^ b) & 1 == 0 {
                continue;
            }
            // One side runs from p to q, the other from q to p.
            let next = |corner: u32| corner - corner % 3 + (corner + 1) % 3;
            let (a, b) = (a >> 1, b >> 1);
            join(&mut parent, a, next(b));
            join(&mut parent, next(a), b);
        }
        let corners: Vec<u32> = (0..parent.len()).map(|corner| first_of(&mut parent, corner as u32)).collect();
        let mut new = vec![u32::MAX; corners.len()];
        let mut positions = Vec::new();
        for (face, own) in self.faces.iter_mut().zip(corners.chunks_exact(3)) {
            for (vertex, &group) in face.iter_mut().zip(own) {
                let place = &mut new[group as usize];
                if *place == u32::MAX {
                    *place = positions.len() as u32;
                    positions.push(self.positions[*vertex as usize]);
                }
                *vertex = *place;
            }
        }
        self.positions = positions;
    }

    /// Keeps the faces that are wanted, and the vertices that they use, in their order of use.
    pub fn keep(&mut self, is_wanted: impl Fn(usize) -> bool) {
        let mut at = 0;
        self.faces.retain(|_| {
            at += 1;
            is_wanted(at - 1)
        });
        let mut new = vec![u32::MAX; self.positions.len()];
        let mut positions = Vec::new();
        for vertex in self.faces.iter_mut().flatten() {
            let place = &mut new[*vertex as usize];
            if *place == u32::MAX {
                *place = positions.len() as u32;
                positions.push(self.positions[*vertex as usize]);
            }
            *vertex = *place;
        }
        self.positions = positions;
    }

    /// Of every vertex, the sum of its faces' normals by their angles there (G. Thürmer and C. A. Wüthrich,
    /// "Computing vertex normals from polygonal facets", 1998), of length 1.
    pub fn normals(&self) -> Vec<Vec3> {
        let mut sums = vec![DVec3::ZERO; self.positions.len()];
        for &face in &self.faces {
            let normal = self.area_vector(face).normalize_or_zero();
            let corners = face.map(|vertex| self.at(vertex));
            for (i, vertex) in face.into_iter().enumerate() {
                let [to_next, to_last] = [1, 2].map(|step| corners[(i + step) % 3] - corners[i]);
                let angle = to_next.angle_between(to_last);
                sums[vertex as usize] += normal * if angle.is_finite() { angle } else { 0.0 };
            }
        }
        // Faces that cancel out have no better direction than any.
        sums.into_par_iter().map(|sum| sum.try_normalize().unwrap_or(DVec3::Z).as_vec3()).collect()
    }
}

/// Makes one of two groups.
pub fn join(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (first_of(parent, a), first_of(parent, b));
    parent[a.max(b) as usize] = a.min(b);
}

/// The first of a group; halves the way for the next time.
pub fn first_of(parent: &mut [u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        parent[at as usize] = parent[parent[at as usize] as usize];
        at = parent[at as usize];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(points: usize, faces: &[[u32; 3]]) -> Triangles {
        // No three of these points lie on a line.
        let positions = (0..points).map(|i| [i as f32, (i * i) as f32, (i * i * i) as f32]).collect();
        Triangles { positions, faces: faces.to_vec() }
    }

    #[test]
    fn edges_are_counted_by_their_triangles() {
        let solid = of(4, &[[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]);
        assert_eq!(solid.count_edges(), EdgeCount { all: 6, border: 0, bad: 0 });
        let turned = of(4, &[[0, 2, 1], [0, 3, 1], [1, 2, 3], [2, 0, 3]]);
        assert_eq!(turned.count_edges(), EdgeCount { all: 6, border: 0, bad: 3 });
        let open = of(4, &[[0, 2, 1], [0, 1, 3]]);
        assert_eq!(open.count_edges(), EdgeCount { all: 5, border: 4, bad: 0 });
        let mut border = open.border();
        border.sort_unstable();
        assert_eq!(border, [[0, 2], [1, 3], [2, 1], [3, 0]]);
    }

    #[test]
    fn what_is_no_surface_is_cut_where_it_is_none() {
        // Three triangles on one edge; two that touch at a vertex; one without extent.
        let mut book = of(5, &[[0, 1, 2], [1, 0, 3], [0, 1, 4], [2, 2, 3]]);
        book.make_manifold();
        assert_eq!((book.positions.len(), book.faces.len()), (9, 3));
        assert_eq!(book.count_edges(), EdgeCount { all: 9, border: 9, bad: 0 });
        let mut touching = of(5, &[[0, 1, 2], [0, 3, 4]]);
        touching.make_manifold();
        assert_eq!(touching.faces, [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(touching.positions[3], touching.positions[0]);
        let mut solid = of(4, &[[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]);
        solid.make_manifold();
        assert_eq!((solid.positions.len(), solid.count_edges().border), (4, 0));
        assert!(
            (0..4usize).all(|face| (0..4u32).filter(|other| solid.neighbours()[face].contains(other)).count() == 3)
        );
        assert_eq!(of(4, &[[0, 2, 1], [0, 1, 3]]).neighbours(), [[u32::MAX, u32::MAX, 1], [0, u32::MAX, u32::MAX]]);
    }

    #[test]
    fn normals_point_outside() {
        let solid = of(4, &[[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]);
        let middle = (0..4).map(|i| solid.at(i)).sum::<DVec3>() / 4.0;
        let side = solid.area_vector(solid.faces[0]).dot(solid.at(0) - middle).signum();
        for (vertex, normal) in solid.normals().into_iter().enumerate() {
            assert!((normal.length() - 1.0).abs() < 1e-6);
            assert!(side * normal.as_dvec3().dot(solid.at(vertex as u32) - middle) > 0.0);
        }
    }
}
