//! Levelling seams: colours on both sides become alike, and change little within a piece.

use std::collections::HashMap;

use crate::mesh::texture::Texture;

/// How much a change of colour along an edge within a piece counts against a difference across a seam.
const SMOOTHNESS: f64 = 0.2;
/// How much a change counts at all, so that what has no seam stays as it is.
const STAY: f64 = 1e-4;
/// Steps of the search, at most; differences of less than half a grey value are not seen.
const STEPS: usize = 300;
/// Pixels around a triangle that change with it: those that a viewer mixes in.
const RINGS: usize = 2;

/// A piece's part of the picture: its upper left corner and size.
pub type Rectangle = ([usize; 2], [usize; 2]);

/// Levels the seams of a texture. `of_face` is each triangle's piece, `seen` which corners are on a photo, `rectangles`
/// where the pieces lie.
pub fn level(texture: &mut Texture, of_face: &[u32], (seen, rectangles): (&[bool], &[Rectangle])) {
    let changes = changes(texture, seen);
    let mut by_chart: Vec<Vec<u32>> = vec![Vec::new(); rectangles.len()];
    for (face, &chart) in of_face.iter().enumerate().filter(|(face, _)| seen[texture.faces[*face][0] as usize]) {
        by_chart[chart as usize].push(face as u32);
    }
    for (chart, faces) in by_chart.iter().enumerate().filter(|(_, faces)| !faces.is_empty()) {
        apply(texture, &changes, faces, rectangles[chart]);
    }
}

/// The change of every corner's colour, by the method of conjugate gradients.
fn changes(texture: &Texture, seen: &[bool]) -> Vec<[f32; 3]> {
    let count = texture.vertices.len();
    // Corners of one vertex: a seam runs between them.
    let mut of_vertex: HashMap<u32, Vec<u32>> = HashMap::new();
    for (corner, &vertex) in texture.vertices.iter().enumerate().filter(|(corner, _)| seen[*corner]) {
        of_vertex.entry(vertex).or_default().push(corner as u32);
    }
    let mut seams: Vec<(u32, u32)> = Vec::new();
    for corners in of_vertex.values().filter(|corners| corners.len() > 1) {
        for (i, &a) in corners.iter().enumerate() {
            seams.extend(corners[i + 1..].iter().map(|&b| (a, b)));
        }
    }
    // The same order every time: sums are rounded.
    seams.sort_unstable();
    let mut edges: Vec<(u32, u32)> = Vec::new();
    for face in texture.faces.iter().filter(|face| seen[face[0] as usize]) {
        edges.extend([(face[0], face[1]), (face[1], face[2]), (face[2], face[0])].map(|(a, b)| (a.min(b), a.max(b))));
    }
    edges.sort_unstable();
    edges.dedup();
    let colours: HashMap<u32, [f32; 3]> = seams
        .iter()
        .flat_map(|&(a, b)| [a, b])
        .map(|corner| (corner, texture.colour(texture.places[corner as usize])))
        .collect();
    let apply = |x: &[f64], out: &mut [f64]| {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = STAY * x);
        let mut pull = |pairs: &[(u32, u32)], weight: f64| {
            for &(a, b) in pairs {
                let d = weight * (x[a as usize] - x[b as usize]);
                out[a as usize] += d;
                out[b as usize] -= d;
            }
        };
        pull(&seams, 1.0);
        pull(&edges, SMOOTHNESS);
    };
    let mut changes = vec![[0f32; 3]; count];
    for channel in 0..3 {
        let mut right = vec![0f64; count];
        for &(a, b) in &seams {
            let d = f64::from(colours[&a][channel] - colours[&b][channel]);
            right[a as usize] -= d;
            right[b as usize] += d;
        }
        let solved = conjugate_gradients(&apply, right);
        changes.iter_mut().zip(solved).for_each(|(change, value)| change[channel] = value as f32);
    }
    changes
}

/// Solves `apply(x) = right` for a symmetric positive `apply`.
fn conjugate_gradients(apply: &impl Fn(&[f64], &mut [f64]), right: Vec<f64>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut x, mut residual) = (vec![0.0; right.len()], right);
    let mut direction = residual.clone();
    let mut applied = vec![0.0; x.len()];
    let mut error = dot(&residual, &residual);
    let enough = 1e-8 * error;
    for _ in 0..STEPS {
        if error <= enough {
            break;
        }
        apply(&direction, &mut applied);
        let step = error / dot(&direction, &applied);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        residual.iter_mut().zip(&applied).for_each(|(r, a)| *r -= step * a);
        let next = dot(&residual, &residual);
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / error * *d);
        error = next;
    }
    x
}

/// Changes the pixels of a piece: those in its triangles by what lies between their corners' changes, those around as
/// the next ones inside.
fn apply(texture: &mut Texture, changes: &[[f32; 3]], faces: &[u32], (to, size): Rectangle) {
    let [width, height] = size;
    let mut change: Vec<Option<[f32; 3]>> = vec![None; width * height];
    for &face in faces {
        let corners = texture.faces[face as usize];
        // Pixel centres at whole numbers, from the rectangle's corner.
        let [a, b, c] = corners.map(|corner| {
            let [x, y] = texture.places[corner as usize];
            [x - to[0] as f32 - 0.5, y - to[1] as f32 - 0.5]
        });
        let side = |p: [f32; 2], q: [f32; 2], x: f32, y: f32| (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]);
        let area = side(a, b, c[0], c[1]);
        if area == 0.0 {
            continue;
        }
        let range = |axis: usize, length: usize| {
            let low = a[axis].min(b[axis]).min(c[axis]).floor().max(0.0) as usize;
            let high = a[axis].max(b[axis]).max(c[axis]).ceil().max(0.0) as usize;
            low..=high.min(length - 1)
        };
        for y in range(1, height) {
            for x in range(0, width) {
                let at = (x as f32, y as f32);
                let shares = [side(b, c, at.0, at.1), side(c, a, at.0, at.1), side(a, b, at.0, at.1)].map(|s| s / area);
                if shares.iter().all(|share| *share >= -1e-4) {
                    let mix =
                        |channel: usize| (0..3).map(|i| shares[i] * changes[corners[i] as usize][channel]).sum::<f32>();
                    change[y * width + x] = Some([0, 1, 2].map(mix));
                }
            }
        }
    }
    for _ in 0..RINGS {
        let before = change.clone();
        for (at, change) in change.iter_mut().enumerate().filter(|(_, change)| change.is_none()) {
            let (x, y) = (at % width, at / width);
            let beside = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
            let inside = beside.into_iter().filter(|&(x, y)| x < width && y < height);
            let known: Vec<[f32; 3]> = inside.filter_map(|(x, y)| before[y * width + x]).collect();
            if !known.is_empty() {
                let mean = |c: usize| known.iter().map(|k| k[c]).sum::<f32>() / known.len() as f32;
                *change = Some([0, 1, 2].map(mean));
            }
        }
    }
    for (at, change) in change.into_iter().enumerate() {
        let Some(change) = change else { continue };
        let pixel = 3 * ((to[1] + at / width) * texture.size.0 + to[0] + at % width);
        for (value, change) in texture.pixels[pixel..pixel + 3].iter_mut().zip(change) {
            *value = (f32::from(*value) + change).round().clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two strips of squares, side by side in the mesh and apart in the picture, of one grey each.
    #[test]
    fn a_step_of_exposure_becomes_a_slope() {
        let (size, side) = ((64, 24), 20usize);
        let mut pixels = vec![0u8; size.0 * size.1 * 3];
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            pixel.fill(if i % size.0 < 32 { 100 } else { 140 });
        }
        // Vertices 0, 1 at the left end, 2, 3 on the seam, 4, 5 at the right end.
        let at = |x: f32, y: f32| [x + 2.0, y + 2.0];
        let (s, right) = (side as f32, 32.0);
        let places = vec![
            at(0.0, 0.0),
            at(0.0, s),
            at(s, 0.0),
            at(s, s),
            at(right, 0.0),
            at(right, s),
            at(right + s, 0.0),
            at(right + s, s),
        ];
        let vertices = vec![0, 1, 2, 3, 2, 3, 4, 5];
        let faces = vec![[0, 1, 2], [2, 1, 3], [4, 5, 6], [6, 5, 7]];
        let mut texture = Texture { size, pixels, faces, vertices, places };
        let rectangles = [([0, 0], [24, 24]), ([32, 0], [24, 24])];
        let changes = changes(&texture, &[true; 8]);
        level(&mut texture, &[0, 0, 1, 1], (&[true; 8], &rectangles));
        let grey = |x: usize| texture.pixels[3 * (12 * size.0 + x)];
        // Both sides of the seam are alike to what the smoothness holds back; the mean of both stays.
        let (left, right) = (f32::from(grey(21)), f32::from(grey(34)));
        assert!((left - right).abs() <= 12.0 && left > 112.0 && right < 128.0, "{left} {right}");
        assert!(grey(3) <= grey(12) && grey(12) <= grey(21) && grey(34) <= grey(45));
        assert!((changes[2][0] + changes[4][0]).abs() < 0.1, "{changes:?}");
        // What lies outside of the pieces stays.
        assert_eq!((grey(30), grey(62)), (100, 140));
    }
}
