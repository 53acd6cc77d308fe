//! A picture of the mesh's surface: the pieces of [`charts`] cut out of their photos and laid side by side, with seams
//! levelled.
//!
//! Photos differ in exposure, so that pieces from two of them do not meet in colour. Every corner of a piece gets a
//! change of colour that makes both sides of a seam alike and differs little from its neighbours' in the piece (V.
//! Lempitsky and D. Ivanov, "Seamless mosaicing of image-based texture maps", CVPR 2007). Between corners it is
//! interpolated.
//!
//! [`charts`]: crate::mesh::charts

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::export::job::Job;
use crate::export::photos::Photos;
use crate::mesh::charts::{Charts, NO_VIEW};
use crate::mesh::colour::bilinear;
use crate::mesh::grid::Grid;
use crate::mesh::raster;
use crate::mesh::seams;
use crate::mesh::texture::Texture;
use crate::mesh::triangles::Triangles;

/// Pixels of a photo around a piece that are cut out with it.
const MARGIN: usize = 3;
/// A picture's longest side; larger ones are too much for many graphics cards.
const LONGEST: usize = 16_384;
/// The side of the spot of one colour for a piece that no photo shows.
const SPOT: usize = 4;

/// A rectangle of a photo and of the picture.
#[derive(Clone, Copy, Default)]
struct Cut {
    /// Least column and row in the photo.
    from: [usize; 2],
    size: [usize; 2],
    /// Least column and row in the picture.
    to: [usize; 2],
}

/// Paints it. `colours` are the vertices' own, for pieces that no photo shows.
///
/// # Errors
/// Photos that cannot be read; pieces that are more than a picture holds; [`Error::Interrupted`].
pub fn paint(
    job: &Job,
    photos: &Photos,
    grid: Grid,
    mesh: &Triangles,
    (charts, colours): (&Charts, &[[u8; 3]]),
) -> Result<Texture> {
    // One corner for each vertex and piece.
    let mut corner_of: HashMap<(u32, u32), u32> = HashMap::new();
    let (mut vertices, mut chart_of) = (Vec::new(), Vec::new());
    let mut faces = Vec::with_capacity(mesh.faces.len());
    for (face, &chart) in mesh.faces.iter().zip(&charts.of_face) {
        faces.push(face.map(|vertex| {
            *corner_of.entry((vertex, chart)).or_insert_with(|| {
                vertices.push(vertex);
                chart_of.push(chart);
                vertices.len() as u32 - 1
            })
        }));
    }
    drop(corner_of);
    // Where corners lie in their photos, view by view.
    let mut places = vec![[0f32; 2]; vertices.len()];
    let by_view = by_view(charts, &chart_of);
    for (view, corners) in &by_view {
        let of_run = &job.results.views[*view as usize];
        let all = raster::project(mesh, &grid.local(&of_run.camera));
        corners.iter().for_each(|&corner| {
            let [u, v, _] = all[vertices[corner as usize] as usize];
            places[corner as usize] = [u, v];
        });
    }
    let mut cuts = cuts(job, charts, (&chart_of, &places));
    let size = lay_out(&mut cuts).ok_or_else(|| {
        Error::input(
            job.results.folder().display().to_string(),
            format!("a texture that is longer than {LONGEST} pixels"),
            "a smaller one: smaller photos (`engine infer --max-side`), or no --texture",
        )
    })?;
    let mut pixels = vec![0u8; size.0 * size.1 * 3];
    let charts_of_view = charts_by_view(charts);
    job.each_view("paint", |view| {
        let Some(own) = charts_of_view.get(&(view as u32)) else { return Ok(()) };
        let photo = photos.of_map(job, view)?;
        for &chart in own {
            let Cut { from, size: [width, height], to } = cuts[chart as usize];
            for y in 0..height {
                for x in 0..width {
                    let colour = bilinear(&photo, (from[0] + x) as f32, (from[1] + y) as f32);
                    let at = 3 * ((to[1] + y) * size.0 + to[0] + x);
                    pixels[at..at + 3].copy_from_slice(&colour);
                }
            }
        }
        Ok(())
    })?;
    spots(charts, &cuts, (&vertices, &chart_of, colours), (&mut pixels, size));
    // From photo to picture; of spots, their middle.
    for (place, &chart) in places.iter_mut().zip(&chart_of) {
        let Cut { from, to, .. } = cuts[chart as usize];
        *place = match charts.views[chart as usize] {
            NO_VIEW => [0, 1].map(|axis| to[axis] as f32 + 0.5 * SPOT as f32),
            _ => [0, 1].map(|axis| place[axis] - from[axis] as f32 + to[axis] as f32 + 0.5),
        };
    }
    let mut texture = Texture { size, pixels, faces, vertices, places };
    let seen: Vec<bool> = chart_of.iter().map(|&chart| charts.views[chart as usize] != NO_VIEW).collect();
    let rectangles = cuts.iter().map(|cut| (cut.to, cut.size)).collect::<Vec<_>>();
    seams::level(&mut texture, &charts.of_face, (&seen, &rectangles));
    Ok(texture)
}

/// The corners of each photo.
fn by_view(charts: &Charts, chart_of: &[u32]) -> std::collections::BTreeMap<u32, Vec<u32>> {
    let mut by_view = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    for (corner, &chart) in chart_of.iter().enumerate() {
        let view = charts.views[chart as usize];
        if view != NO_VIEW {
            by_view.entry(view).or_default().push(corner as u32);
        }
    }
    by_view
}

fn charts_by_view(charts: &Charts) -> HashMap<u32, Vec<u32>> {
    let mut by_view = HashMap::<u32, Vec<u32>>::new();
    for (chart, &view) in charts.views.iter().enumerate() {
        by_view.entry(view).or_default().push(chart as u32);
    }
    by_view
}

/// The rectangles of the photos that hold the pieces.
fn cuts(job: &Job, charts: &Charts, (chart_of, places): (&[u32], &[[f32; 2]])) -> Vec<Cut> {
    let mut bounds = vec![([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]); charts.views.len()];
    for (&chart, place) in chart_of.iter().zip(places) {
        let (low, high) = &mut bounds[chart as usize];
        for axis in 0..2 {
            low[axis] = low[axis].min(place[axis]);
            high[axis] = high[axis].max(place[axis]);
        }
    }
    let cut = |(chart, (low, high)): (usize, ([f32; 2], [f32; 2]))| {
        let view = charts.views[chart];
        if view == NO_VIEW {
            return Cut { size: [SPOT; 2], ..Cut::default() };
        }
        let (width, height) = job.results.views[view as usize].size;
        let from = low.map(|v| (v as usize).saturating_sub(MARGIN));
        let last = [(high[0], width), (high[1], height)].map(|(v, side)| (v.ceil() as usize + MARGIN).min(side - 1));
        Cut { from, size: [last[0] - from[0] + 1, last[1] - from[1] + 1], to: [0; 2] }
    };
    bounds.into_iter().enumerate().map(cut).collect()
}

/// Lays rectangles in rows, the highest first, into a picture about as high as wide; `None` where it gets too large.
fn lay_out(cuts: &mut [Cut]) -> Option<(usize, usize)> {
    let area: usize = cuts.iter().map(|cut| cut.size[0] * cut.size[1]).sum();
    let widest = cuts.iter().map(|cut| cut.size[0]).max()?;
    let width = ((1.08 * area as f64).sqrt().ceil() as usize).max(widest).next_multiple_of(4);
    let mut order: Vec<usize> = (0..cuts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(cuts[i].size[1]), std::cmp::Reverse(cuts[i].size[0]), i));
    let (mut x, mut y, mut row) = (0, 0, 0);
    for i in order {
        let [w, h] = cuts[i].size;
        if x + w > width {
            (x, y, row) = (0, y + row, 0);
        }
        cuts[i].to = [x, y];
        x += w;
        row = row.max(h);
    }
    let height = (y + row).next_multiple_of(4);
    (width <= LONGEST && height <= LONGEST).then_some((width, height))
}

/// Paints pieces that no photo shows in the mean of their vertices' colours.
fn spots(
    charts: &Charts,
    cuts: &[Cut],
    (vertices, chart_of, colours): (&[u32], &[u32], &[[u8; 3]]),
    (pixels, size): (&mut [u8], (usize, usize)),
) {
    let mut sums: HashMap<u32, [u64; 4]> = HashMap::new();
    for (&vertex, &chart) in vertices.iter().zip(chart_of) {
        if charts.views[chart as usize] == NO_VIEW {
            let sum = sums.entry(chart).or_default();
            (0..3).for_each(|c| sum[c] += u64::from(colours[vertex as usize][c]));
            sum[3] += 1;
        }
    }
    for (chart, [r, g, b, count]) in sums {
        let colour = [r, g, b].map(|sum| (sum / count) as u8);
        let [left, top] = cuts[chart as usize].to;
        for (x, y) in (0..SPOT * SPOT).map(|i| (left + i % SPOT, top + i / SPOT)) {
            pixels[3 * (y * size.0 + x)..][..3].copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_lie_side_by_side() {
        let sizes = (1..60usize).map(|i| [3 + i * 7 % 40, 2 + i * 13 % 50]);
        let mut cuts: Vec<Cut> = sizes.map(|size| Cut { size, ..Cut::default() }).collect();
        let (width, height) = lay_out(&mut cuts).unwrap();
        let mut taken = vec![false; width * height];
        for cut in &cuts {
            for (x, y) in (0..cut.size[0] * cut.size[1]).map(|i| (i % cut.size[0], i / cut.size[0])) {
                let at = (cut.to[1] + y) * width + cut.to[0] + x;
                assert!(!taken[at]);
                taken[at] = true;
            }
        }
        let share = taken.iter().filter(|t| **t).count() as f64 / taken.len() as f64;
        assert!(share > 0.75, "{share}");
        let mut large = vec![Cut { size: [20_000, 10], ..Cut::default() }];
        assert!(lay_out(&mut large).is_none());
    }
}
