//! The colour of every vertex: the mean of what the sharpest views show there.
//!
//! A view shows a vertex if it lies in the photo, faces the camera, and nothing of the mesh lies before it, nor before
//! the pixels around it, whose colours run into each other. How sharp it shows it is the number of pixels that a unit
//! of the surface has there. Of those that show it at least half as sharply as the sharpest, the best few are averaged.

use rayon::prelude::*;

use crate::error::Result;
use crate::export::job::Job;
use crate::export::photos::Photos;
use crate::host::interrupt;
use crate::mesh::grid::Grid;
use crate::mesh::raster::{Look, Sight};
use crate::mesh::triangles::Triangles;
use crate::scene::photo::Photo;

/// Views whose colours are averaged.
const BEST: usize = 4;
/// Views less sharp than this share of the best are left out.
const LEAST_SHARE: f32 = 0.5;
/// How much nearer the mesh must be to hide a vertex, in voxels.
pub const HIDDEN_VOXELS: f64 = 2.5;
/// A vertex that only views show where something else is near in the photo gets their colours, at this share.
const BESIDE_SHARE: f32 = 1e-3;
/// What no view shows, and nothing near it.
const GREY: [u8; 3] = [128; 3];

/// Bytes that a vertex takes meanwhile.
pub const BYTES_A_VERTEX: u64 = (BEST * size_of::<Shown>() + 12 + 12 + 3) as u64;

/// A view's colour of a vertex.
#[derive(Clone, Copy, Default)]
struct Shown {
    sharpness: f32,
    colour: [u8; 3],
}

/// Colours of a mesh's vertices, and how many of them no view shows: these take their neighbours' colours.
///
/// # Errors
/// Photos that cannot be read; [`crate::Error::Interrupted`].
pub fn colours(job: &Job, photos: &Photos, grid: Grid, mesh: &Triangles) -> Result<(Vec<[u8; 3]>, usize)> {
    let normals = mesh.normals();
    let mut shown = vec![[Shown::default(); BEST]; mesh.positions.len()];
    job.each_view("colour", |view| {
        let of_run = &job.results.views[view];
        let photo = photos.of_map(job, view)?;
        let sight = Sight::new(mesh, &grid.local(&of_run.camera), of_run.size, HIDDEN_VOXELS * grid.side);
        shown.par_iter_mut().enumerate().for_each(|(vertex, shown)| {
            if interrupt::is_asked_to_stop() {
                return;
            }
            if let Some(Look { at: [u, v], sharpness, beside }) = sight.look(vertex as u32, normals[vertex]) {
                let sharpness = if beside { BESIDE_SHARE * sharpness } else { sharpness };
                insert(shown, Shown { sharpness, colour: bilinear(&photo, u, v) });
            }
        });
        Ok(())
    })?;
    interrupt::check()?;
    let mut colours: Vec<Option<[u8; 3]>> = shown.par_iter().map(mean).collect();
    let unseen = colours.iter().filter(|colour| colour.is_none()).count();
    if unseen > 0 {
        spread(mesh, &mut colours);
    }
    Ok((colours.into_iter().map(|colour| colour.unwrap_or(GREY)).collect(), unseen))
}

/// Keeps the best, sharpest first; of equal ones the first that came.
fn insert(shown: &mut [Shown; BEST], new: Shown) {
    let at = shown.iter().position(|old| new.sharpness > old.sharpness);
    if let Some(at) = at {
        shown[at..].rotate_right(1);
        shown[at] = new;
    }
}

fn mean(shown: &[Shown; BEST]) -> Option<[u8; 3]> {
    let best = shown[0].sharpness;
    let taken: Vec<&Shown> = shown.iter().filter(|s| s.sharpness > 0.0 && s.sharpness >= LEAST_SHARE * best).collect();
    if taken.is_empty() {
        return None;
    }
    let total: f32 = taken.iter().map(|s| s.sharpness).sum();
    let channel = |c: usize| taken.iter().map(|s| s.sharpness * f32::from(s.colour[c])).sum::<f32>() / total;
    Some([0, 1, 2].map(|c| channel(c).round() as u8))
}

/// The colour of a photo between its pixels.
pub fn bilinear(photo: &Photo, u: f32, v: f32) -> [u8; 3] {
    let (x, y) = ((u as usize).min(photo.width - 1), (v as usize).min(photo.height - 1));
    let (right, below) = ((x + 1).min(photo.width - 1), (y + 1).min(photo.height - 1));
    let (fx, fy) = (u - x as f32, v - y as f32);
    let at = |x: usize, y: usize, c: usize| photo.rgb[3 * (y * photo.width + x) + c];
    [0, 1, 2].map(|c| {
        let top = at(x, y, c) * (1.0 - fx) + at(right, y, c) * fx;
        let bottom = at(x, below, c) * (1.0 - fx) + at(right, below, c) * fx;
        (255.0 * (top * (1.0 - fy) + bottom * fy)).round().clamp(0.0, 255.0) as u8
    })
}

/// Gives vertices without colour the mean of their neighbours' colours, again and again from where there are some.
fn spread(mesh: &Triangles, colours: &mut [Option<[u8; 3]>]) {
    loop {
        let mut sums: std::collections::BTreeMap<u32, [u32; 4]> = Default::default();
        for face in &mesh.faces {
            for (i, &vertex) in face.iter().enumerate().filter(|(_, v)| colours[**v as usize].is_none()) {
                for other in [face[(i + 1) % 3], face[(i + 2) % 3]] {
                    if let Some(colour) = colours[other as usize] {
                        let sum = sums.entry(vertex).or_default();
                        (0..3).for_each(|c| sum[c] += u32::from(colour[c]));
                        sum[3] += 1;
                    }
                }
            }
        }
        if sums.is_empty() || interrupt::is_asked_to_stop() {
            return;
        }
        for (vertex, [r, g, b, count]) in sums {
            colours[vertex as usize] = Some([r, g, b].map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sharpest_views_are_averaged() {
        let mut shown = [Shown::default(); BEST];
        assert_eq!(mean(&shown), None);
        for (sharpness, red) in [(1.0, 200), (4.0, 100), (3.0, 50), (1.9, 255), (0.5, 0), (2.0, 10)] {
            insert(&mut shown, Shown { sharpness, colour: [red, 7, 9] });
        }
        assert_eq!(shown.map(|s| s.sharpness), [4.0, 3.0, 2.0, 1.9]);
        // (4 * 100 + 3 * 50 + 2 * 10) / 9.
        assert_eq!(mean(&shown), Some([63, 7, 9]));
    }

    #[test]
    fn colours_spread_to_what_no_view_shows() {
        let mesh = Triangles { positions: vec![[0.0; 3]; 7], faces: vec![[0, 1, 2], [2, 1, 3], [4, 5, 6]] };
        let mut colours = [Some([10, 0, 0]), Some([20, 0, 0]), None, None, None, None, None];
        spread(&mesh, &mut colours);
        // 2 beside 0 and 1 in one face and 1 in another: 50 / 3; then 3 beside 1 and 2.
        assert_eq!(colours[2], Some([17, 0, 0]));
        assert_eq!(colours[3], Some([20, 0, 0]));
        assert_eq!(colours[4..], [None; 3]);
    }
}
