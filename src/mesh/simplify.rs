//! Fewer triangles, with meshoptimizer (M. Garland and P. S. Heckbert, "Surface simplification using quadric error
//! metrics", 1997): edges are collapsed in the order of the error that this makes.

use crate::mesh::triangles::Triangles;

/// Reduces a mesh to about this many triangles, or as few as its shape allows.
pub fn simplify(mesh: &mut Triangles, triangles: usize) {
    let indices: Vec<u32> = mesh.faces.iter().flatten().copied().collect();
    let wanted = (3 * triangles).min(indices.len());
    let mut left = vec![0; indices.len()];
    // The goal is the count: any error is allowed (it is squared, so the largest number would be infinite, as good).
    let count = meshopt_rs::simplify::simplify(&mut left, &indices, &mesh.positions, wanted, f32::MAX);
    mesh.faces = left[..count].chunks_exact(3).map(|corners| [corners[0], corners[1], corners[2]]).collect();
    // Collapses may leave what is no surface, seldom; and vertices without faces.
    mesh.make_manifold();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_things_need_few_triangles() {
        let across = 33u32;
        let position = |i: u32| [(i % across) as f32, (i / across) as f32, 0.0];
        let squares = (0..32 * 32u32).map(|i| i % 32 + across * (i / 32));
        let faces = squares.flat_map(|a| [[a, a + 1, a + across], [a + 1, a + across + 1, a + across]]);
        let mut mesh = Triangles { positions: (0..across * across).map(position).collect(), faces: faces.collect() };
        simplify(&mut mesh, 100);
        assert!(mesh.faces.len() <= 100 && mesh.faces.len() >= 2, "{}", mesh.faces.len());
        let area: f64 = mesh.faces.iter().map(|&face| 0.5 * mesh.area_vector(face).z).sum();
        // Its border is straight: nothing of the area is lost but by rounding.
        assert!((area - 1024.0).abs() < 0.1, "{area}");
        assert_eq!(mesh.count_edges().bad, 0);
    }
}
