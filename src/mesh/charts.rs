//! Which photo each triangle is painted from, and the pieces that are painted from one photo.
//!
//! A triangle is best painted from the photo in which it covers the most pixels. Next to that, neighbours should be
//! painted from the same photo: the sum of both is made smaller triangle by triangle, in their order (iterated
//! conditional modes; J. Besag, "On the statistical analysis of dirty pictures", 1986).

use rayon::prelude::*;

use crate::error::Result;
use crate::export::job::Job;
use crate::mesh::colour::HIDDEN_VOXELS;
use crate::mesh::grid::Grid;
use crate::mesh::raster::Sight;
use crate::mesh::triangles::{Triangles, first_of, join};

/// Photos that a triangle may be painted from.
const BEST: usize = 4;
/// What a neighbour with another photo costs, in shares of the pixels that the best photo has of a triangle.
const SEAM_COST: f32 = 0.35;
/// Rounds over all triangles, at most; few change after the first ones.
const ROUNDS: usize = 12;
/// A triangle beside which something nearer lies counts as if it had this share of its pixels.
const BESIDE_SHARE: f32 = 0.05;

/// Painted from no photo.
pub const NO_VIEW: u32 = u32::MAX;

/// Bytes that a triangle takes meanwhile.
pub const BYTES_A_FACE: u64 = (BEST * size_of::<Choice>() + 2 * 12 + 8) as u64;

/// A photo, and how many pixels a triangle covers there.
#[derive(Clone, Copy)]
struct Choice {
    view: u32,
    pixels: f32,
}

/// The pieces of a mesh that are painted from one photo.
pub struct Charts {
    /// Of each triangle, its piece.
    pub of_face: Vec<u32>,
    /// Of each piece, its photo, or [`NO_VIEW`].
    pub views: Vec<u32>,
}

/// Chooses a photo for every triangle.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn choose(job: &Job, grid: Grid, mesh: &Triangles) -> Result<Charts> {
    let normals = mesh.normals();
    let mut choices = vec![[Choice { view: NO_VIEW, pixels: 0.0 }; BEST]; mesh.faces.len()];
    job.each_view("look", |view| {
        let of_run = &job.results.views[view];
        let sight = Sight::new(mesh, &grid.local(&of_run.camera), of_run.size, HIDDEN_VOXELS * grid.side);
        choices.par_iter_mut().zip(&mesh.faces).for_each(|(choices, face)| {
            let [a, b, c] = face.map(|vertex| sight.look(vertex, normals[vertex as usize]));
            let (Some(a), Some(b), Some(c)) = (a, b, c) else { return };
            let side = |from: [f32; 2], to: [f32; 2]| [to[0] - from[0], to[1] - from[1]];
            let (p, q) = (side(a.at, b.at), side(a.at, c.at));
            // Seen from the front a triangle runs clockwise in a photo, whose rows run down.
            let mut pixels = -0.5 * (p[0] * q[1] - p[1] * q[0]);
            if a.beside || b.beside || c.beside {
                pixels *= BESIDE_SHARE;
            }
            if let Some(at) = choices.iter().position(|old| pixels > old.pixels) {
                choices[at..].rotate_right(1);
                choices[at] = Choice { view: view as u32, pixels };
            }
        });
        Ok(())
    })?;
    let neighbours = mesh.neighbours();
    let views = smoothed(&choices, &neighbours);
    Ok(charts(&views, &neighbours))
}

/// The photo of each triangle.
fn smoothed(choices: &[[Choice; BEST]], neighbours: &[[u32; 3]]) -> Vec<u32> {
    let mut views: Vec<u32> = choices.iter().map(|choices| choices[0].view).collect();
    for _ in 0..ROUNDS {
        let mut changed = 0;
        for (face, choices) in choices.iter().enumerate() {
            let around = neighbours[face].map(|other| views.get(other as usize).copied());
            let cost = |choice: &Choice| {
                let seams = around.iter().flatten().filter(|view| **view != choice.view).count();
                SEAM_COST * seams as f32 - choice.pixels / choices[0].pixels
            };
            let there = choices.iter().filter(|choice| choice.view != NO_VIEW);
            let Some(best) = there.min_by(|a, b| cost(a).total_cmp(&cost(b))) else { continue };
            changed += usize::from(views[face] != best.view);
            views[face] = best.view;
        }
        if changed == 0 {
            break;
        }
    }
    views
}

/// Neighbours with one photo are of one piece.
fn charts(views: &[u32], neighbours: &[[u32; 3]]) -> Charts {
    let mut parent: Vec<u32> = (0..views.len() as u32).collect();
    for (face, others) in neighbours.iter().enumerate() {
        for &other in others.iter().filter(|other| views.get(**other as usize) == Some(&views[face])) {
            join(&mut parent, face as u32, other);
        }
    }
    let (mut number, mut of_charts) = (vec![u32::MAX; views.len()], Vec::new());
    let of_face = (0..views.len() as u32)
        .map(|face| {
            // The first triangle of a piece comes before its others.
            let first = first_of(&mut parent, face) as usize;
            if number[first] == u32::MAX {
                number[first] = of_charts.len() as u32;
                of_charts.push(views[first]);
            }
            number[first]
        })
        .collect();
    Charts { of_face, views: of_charts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_triangle_joins_its_neighbours_photo_if_that_is_nearly_as_good() {
        // A strip of five triangles; the middle one sees photo 1 a little better than photo 0.
        let neighbours: Vec<[u32; 3]> =
            (0..5u32).map(|i| [i.wrapping_sub(1), if i < 4 { i + 1 } else { u32::MAX }, u32::MAX]).collect();
        let none = Choice { view: NO_VIEW, pixels: 0.0 };
        let of = |list: &[(u32, f32)]| {
            let mut choices = [none; BEST];
            choices.iter_mut().zip(list).for_each(|(c, &(view, pixels))| *c = Choice { view, pixels });
            choices
        };
        let with = |own: &[(u32, f32)]| {
            let plain = of(&[(0, 10.0), (1, 5.0)]);
            [plain, plain, of(own), plain, plain]
        };
        assert_eq!(smoothed(&with(&[(1, 10.0), (0, 9.0)]), &neighbours), [0; 5]);
        assert_eq!(smoothed(&with(&[(1, 10.0), (0, 2.0)]), &neighbours), [0, 0, 1, 0, 0]);
        let views = smoothed(&with(&[]), &neighbours);
        assert_eq!(views, [0, 0, NO_VIEW, 0, 0]);
        let Charts { of_face, views } = charts(&views, &neighbours);
        assert_eq!((of_face, views), (vec![0, 0, 1, 2, 2], vec![0, NO_VIEW, 0]));
    }
}
