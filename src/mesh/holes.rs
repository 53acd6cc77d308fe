//! Closing holes: each is a closed line of edges without a neighbour. It is filled with the triangles over its vertices
//! whose areas have the least sum (G. Barequet and M. Sharir, "Filling gaps in the boundary of a polyhedron", 1995); a
//! line of many vertices is parted first where two of them that lie far apart along it are near in space.

use std::collections::{HashMap, HashSet};

use glam::DVec3;
use rayon::prelude::*;

use crate::mesh::triangles::Triangles;

/// Lines of more vertices are parted: the search for the least area takes the cube of their number.
const MOST_AT_ONCE: usize = 120;

/// What was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Holes that were closed.
    pub closed: usize,
    /// Holes that stay: the border is too long.
    pub longer: usize,
    /// Holes that stay because every way to close them would run along edges that the mesh has already.
    pub entangled: usize,
}

/// Closes the holes whose border is at most this long. The mesh must be a manifold one, and stays one.
pub fn close(mesh: &mut Triangles, longest: f64) -> Closed {
    let lines = lines(mesh);
    let length = |line: &[u32]| -> f64 {
        (0..line.len()).map(|i| mesh.at(line[i]).distance(mesh.at(line[(i + 1) % line.len()]))).sum()
    };
    let (short, long): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| length(line) <= longest);
    let edges = edges_among(mesh, &short);
    let filled: Vec<Option<Vec<[u32; 3]>>> = short.par_iter().map(|line| fill(mesh, &edges, line)).collect();
    let mut closed = Closed { longer: long.len(), ..Closed::default() };
    for faces in filled {
        match faces {
            Some(faces) => {
                closed.closed += 1;
                mesh.faces.extend(faces);
            }
            None => closed.entangled += 1,
        }
    }
    closed
}

/// The closed lines of the border, against the direction of the faces beside them: as a face that fills them has it.
fn lines(mesh: &Triangles) -> Vec<Vec<u32>> {
    // In a manifold mesh a vertex has at most one way in and one way out.
    let next: HashMap<u32, u32> = mesh.border().into_iter().map(|[from, to]| (to, from)).collect();
    let mut starts: Vec<u32> = next.keys().copied().collect();
    starts.sort_unstable();
    let (mut seen, mut lines) = (HashSet::new(), Vec::new());
    for start in starts {
        let mut line = Vec::new();
        let mut at = start;
        while seen.insert(at) {
            line.push(at);
            match next.get(&at) {
                Some(&to) => at = to,
                None => break,
            }
        }
        if line.len() >= 3 && at == start {
            lines.push(line);
        }
    }
    lines
}

/// The edges of the mesh between vertices of the lines.
fn edges_among(mesh: &Triangles, lines: &[Vec<u32>]) -> HashSet<(u32, u32)> {
    let of_lines: HashSet<u32> = lines.iter().flatten().copied().collect();
    let mut edges = HashSet::new();
    for face in &mesh.faces {
        for (a, b) in [(face[0], face[1]), (face[1], face[2]), (face[2], face[0])] {
            if of_lines.contains(&a) && of_lines.contains(&b) {
                edges.insert((a.min(b), a.max(b)));
            }
        }
    }
    edges
}

/// The triangles that fill a line; `None` where there are none that keep the mesh a manifold.
fn fill(mesh: &Triangles, edges: &HashSet<(u32, u32)>, line: &[u32]) -> Option<Vec<[u32; 3]>> {
    if line.len() <= MOST_AT_ONCE {
        return least_area(mesh, edges, line);
    }
    // The nearest two vertices with at least a quarter of the line on either side.
    let (count, least) = (line.len(), line.len() / 4);
    let is_free = |i: usize, j: usize| !edges.contains(&(line[i].min(line[j]), line[i].max(line[j])));
    let mut best: Option<(f64, usize, usize)> = None;
    for i in 0..count {
        for j in i + least..count.min(i + count - least + 1) {
            let apart = mesh.at(line[i]).distance_squared(mesh.at(line[j]));
            if best.is_none_or(|(least, ..)| apart < least) && is_free(i, j) {
                best = Some((apart, i, j));
            }
        }
    }
    let (_, i, j) = best?;
    let mut faces = fill(mesh, edges, &line[i..=j])?;
    let other: Vec<u32> = line[j..].iter().chain(&line[..=i]).copied().collect();
    faces.extend(fill(mesh, edges, &other)?);
    Some(faces)
}

/// The triangles over a line's vertices with the least area, none of whose inner edges the mesh has already.
fn least_area(mesh: &Triangles, edges: &HashSet<(u32, u32)>, line: &[u32]) -> Option<Vec<[u32; 3]>> {
    let count = line.len();
    let points: Vec<DVec3> = line.iter().map(|&vertex| mesh.at(vertex)).collect();
    let area = |i: usize, k: usize, j: usize| (points[k] - points[i]).cross(points[j] - points[i]).length();
    // An edge of the line itself is there, and is to get its second triangle.
    let is_free = |i: usize, j: usize| {
        j == i + 1 || (i == 0 && j == count - 1) || !edges.contains(&(line[i].min(line[j]), line[i].max(line[j])))
    };
    // Of the part of the line from i to j: the least area, and the vertex that makes a triangle with its ends.
    let mut best = vec![(f64::INFINITY, 0usize); count * count];
    for i in 0..count - 1 {
        best[i * count + i + 1].0 = 0.0;
    }
    for span in 2..count {
        for i in 0..count - span {
            let j = i + span;
            if !is_free(i, j) {
                continue;
            }
            let choices = (i + 1..j).map(|k| (best[i * count + k].0 + best[k * count + j].0 + area(i, k, j), k));
            if let Some(least) = choices.min_by(|a, b| a.0.total_cmp(&b.0)) {
                best[i * count + j] = least;
            }
        }
    }
    if !best[count - 1].0.is_finite() {
        return None;
    }
    let (mut faces, mut left) = (Vec::with_capacity(count - 2), vec![(0, count - 1)]);
    while let Some((i, j)) = left.pop() {
        if j > i + 1 {
            let k = best[i * count + j].1;
            faces.push([line[i], line[k], line[j]]);
            left.extend([(i, k), (k, j)]);
        }
    }
    Some(faces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::triangles::EdgeCount;

    /// A net of `side` x `side` squares over a bowl, without those that `is_hole` names.
    fn net(side: u32, is_hole: impl Fn(u32, u32) -> bool) -> Triangles {
        let across = side + 1;
        let place = |i: u32| (f64::from(i % across), f64::from(i / across));
        let position = |i: u32| {
            let (x, y) = place(i);
            [x as f32, y as f32, (0.01 * (x * x + y * y)) as f32]
        };
        let squares = (0..side * side).map(|i| (i % side, i / side)).filter(|&(x, y)| !is_hole(x, y));
        let two = |(x, y): (u32, u32)| {
            let a = x + y * across;
            [[a, a + 1, a + across], [a + 1, a + across + 1, a + across]]
        };
        let mut mesh = Triangles {
            positions: (0..across * across).map(position).collect(),
            faces: squares.flat_map(two).collect(),
        };
        mesh.make_manifold();
        mesh
    }

    #[test]
    fn a_hole_is_closed_and_the_rim_stays_open() {
        // 28 edges around a hole, 80 around the net; a larger hole of 128 edges in a larger net.
        for (side, hole, rim) in [(20, 4..11, 80), (60, 10..42, 240)] {
            let mut mesh = net(side, |x, y| hole.contains(&x) && hole.contains(&y));
            let around = 4 * hole.len();
            assert_eq!(mesh.count_edges().border, around + rim);
            let longest = 1.2 * around as f64;
            assert_eq!(close(&mut mesh, 0.9 * around as f64), Closed { closed: 0, longer: 2, entangled: 0 });
            assert_eq!(close(&mut mesh, longest), Closed { closed: 1, longer: 1, entangled: 0 });
            let EdgeCount { border, bad, .. } = mesh.count_edges();
            assert_eq!((border, bad), (rim, 0));
            // The least area is nearly that of the plane below: everything faces up.
            assert!(mesh.faces.iter().all(|&face| mesh.area_vector(face).z > 0.0));
        }
    }
}
