//! Connected pieces of a mesh.

use crate::mesh::triangles::{Triangles, first_of, join};

/// What was dropped, and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Pieces that are left.
    pub kept: usize,
    /// Pieces that were dropped.
    pub dropped: usize,
    /// Their triangles.
    pub dropped_triangles: usize,
}

/// Drops pieces of fewer than `least` triangles. Triangles that share a vertex are of one piece.
pub fn drop_small(mesh: &mut Triangles, least: usize) -> Parts {
    let mut parent: Vec<u32> = (0..mesh.positions.len() as u32).collect();
    for [a, b, c] in &mesh.faces {
        join(&mut parent, *a, *b);
        join(&mut parent, *b, *c);
    }
    let piece: Vec<u32> = mesh.faces.iter().map(|face| first_of(&mut parent, face[0])).collect();
    let mut sizes = vec![0usize; mesh.positions.len()];
    piece.iter().for_each(|&piece| sizes[piece as usize] += 1);
    let mut parts = Parts::default();
    for &size in sizes.iter().filter(|size| **size > 0) {
        if size < least {
            parts.dropped += 1;
            parts.dropped_triangles += size;
        } else {
            parts.kept += 1;
        }
    }
    if parts.dropped > 0 {
        mesh.keep(|face| sizes[piece[face] as usize] >= least);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_go_and_the_others_stay_as_they_are() {
        let positions = (0..9).map(|i| [i as f32, 0.0, (i * i) as f32]).collect();
        let faces = vec![[6, 7, 8], [0, 1, 2], [2, 1, 3], [3, 4, 5]];
        let mut mesh = Triangles { positions, faces };
        let before = mesh.clone();
        assert_eq!(drop_small(&mut mesh, 1), Parts { kept: 2, dropped: 0, dropped_triangles: 0 });
        assert_eq!(mesh, before);
        assert_eq!(drop_small(&mut mesh, 2), Parts { kept: 1, dropped: 1, dropped_triangles: 1 });
        assert_eq!(mesh.faces, [[0, 1, 2], [2, 1, 3], [3, 4, 5]]);
        assert_eq!(mesh.positions, before.positions[..6]);
        assert_eq!(drop_small(&mut mesh, 4).kept, 0);
        assert!(mesh.positions.is_empty() && mesh.faces.is_empty());
    }
}
