//! Corners of a photo with what they look like, and which corners of two photos look alike.
//!
//! A corner is where the smaller eigenvalue of the gradients' second moments is largest (Shi and Tomasi, "Good
//! features to track", CVPR 1994), some in every part of the photo. It looks like the 11 x 11 pixels around it, less
//! their mean and divided by their deviation, so that exposure and contrast have no part. Two corners match where each
//! is the other's best, the best is clearly better than the second, and the correlation is high. That bears turns of
//! some 20 degrees and sizes that differ by some 20 %, which neighbours in a scene seldom exceed.

use glam::DVec2;
use rayon::prelude::*;

use crate::scene::photo::Photo;

/// Pixels to either side of a corner that belong to it.
const REACH: usize = 5;
/// Numbers of a corner's look.
const LOOK: usize = (2 * REACH + 1) * (2 * REACH + 1);
/// The photo's parts, columns and rows, and the corners that are kept in each.
const PARTS: (usize, usize) = (12, 9);
const IN_PART: usize = 8;
/// Corners are this far apart, in pixels.
const APART: usize = 3;
/// Grey values must deviate by this much around a corner: half of what strong noise does (5 of 255 levels).
const LEAST_DEVIATION: f32 = 0.01;
/// Correlations below this are no match.
const LEAST_CORRELATION: f32 = 0.8;
/// The best match's distance, 1 less the correlation, must be under this share of the second best's, as Lowe does it
/// (IJCV 2004). With 0.7, half of the matches of difficult scenes are false; with 0.5, half of the right ones are
/// lost.
const RATIO: f32 = 0.6;

/// A corner.
#[derive(Clone, Debug, PartialEq)]
pub struct Corner {
    /// Where it is, in pixels of the photo, to a part of a pixel.
    pub pixel: DVec2,
    look: Vec<f32>,
}

/// Grey values after a 3 x 3 binomial blur, row by row; the border repeats its neighbours.
fn smooth_grey(photo: &Photo) -> Vec<f32> {
    let (width, height) = (photo.width, photo.height);
    let grey: Vec<f32> = photo.rgb.chunks_exact(3).map(|p| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]).collect();
    let at = |x: isize, y: isize| {
        let clamp = |v: isize, n: usize| v.clamp(0, n as isize - 1) as usize;
        grey[clamp(y, height) * width + clamp(x, width)]
    };
    let blurred = |i: usize| {
        let (x, y) = ((i % width) as isize, (i / width) as isize);
        let row = |y: isize| 0.25 * at(x - 1, y) + 0.5 * at(x, y) + 0.25 * at(x + 1, y);
        0.25 * row(y - 1) + 0.5 * row(y) + 0.25 * row(y + 1)
    };
    (0..width * height).into_par_iter().map(blurred).collect()
}

/// The smaller eigenvalue of the gradients' second moments over 5 x 5 pixels; 0 near the border.
fn strengths(grey: &[f32], width: usize, height: usize) -> Vec<f32> {
    let border = REACH + 1;
    let strength = |i: usize| {
        let (x, y) = (i % width, i / width);
        if x < border || y < border || x + border >= width || y + border >= height {
            return 0.0;
        }
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for b in y - 2..=y + 2 {
            for a in x - 2..=x + 2 {
                let at = b * width + a;
                let (dx, dy) = (grey[at + 1] - grey[at - 1], grey[at + width] - grey[at - width]);
                xx += dx * dx;
                xy += dx * dy;
                yy += dy * dy;
            }
        }
        0.5 * (xx + yy - ((xx - yy) * (xx - yy) + 4.0 * xy * xy).sqrt())
    };
    (0..width * height).into_par_iter().map(strength).collect()
}

/// The best corners of every part of a photo, row by row of parts.
pub fn corners(photo: &Photo) -> Vec<Corner> {
    let (width, height) = (photo.width, photo.height);
    if width < 4 * REACH || height < 4 * REACH {
        return Vec::new();
    }
    let grey = smooth_grey(photo);
    let strength = strengths(&grey, width, height);
    let is_peak = |x: usize, y: usize| {
        let own = strength[y * width + x];
        let around = (y - APART..=y + APART).flat_map(|b| (x - APART..=x + APART).map(move |a| (a, b)));
        // Of equal neighbours the first counts.
        own > 0.0
            && around.into_iter().filter(|&p| p != (x, y)).all(|(a, b)| {
                let other = strength[b * width + a];
                other < own || other == own && (b, a) > (y, x)
            })
    };
    let of_part = |part: usize| {
        let (px, py) = (part % PARTS.0, part / PARTS.0);
        let span = |i: usize, n: usize, length: usize| {
            (i * length / n).max(REACH + 1)..((i + 1) * length / n).min(length - REACH - 1)
        };
        let mut peaks = Vec::new();
        for y in span(py, PARTS.1, height) {
            for x in span(px, PARTS.0, width) {
                if is_peak(x, y) {
                    peaks.push((strength[y * width + x], x, y));
                }
            }
        }
        peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
        let of_peak = |&(_, x, y): &(f32, usize, usize)| {
            let look = look(&grey, width, x, y)?;
            // The summit of the parabola through the peak and its neighbours.
            let at = |dx: isize, dy: isize| {
                f64::from(strength[(y as isize + dy) as usize * width + (x as isize + dx) as usize])
            };
            let summit = |before: f64, own: f64, after: f64| {
                let bend = before - 2.0 * own + after;
                if bend < 0.0 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 }
            };
            let pixel = DVec2::new(
                x as f64 + summit(at(-1, 0), at(0, 0), at(1, 0)),
                y as f64 + summit(at(0, -1), at(0, 0), at(0, 1)),
            );
            Some(Corner { pixel, look })
        };
        peaks.iter().filter_map(of_peak).take(IN_PART).collect::<Vec<Corner>>()
    };
    let parts: Vec<Vec<Corner>> = (0..PARTS.0 * PARTS.1).into_par_iter().map(of_part).collect();
    parts.concat()
}

/// `None` where nothing can be seen.
fn look(grey: &[f32], width: usize, x: usize, y: usize) -> Option<Vec<f32>> {
    let mut look: Vec<f32> = Vec::with_capacity(LOOK);
    for b in y - REACH..=y + REACH {
        look.extend_from_slice(&grey[b * width + x - REACH..=b * width + x + REACH]);
    }
    let mean = look.iter().sum::<f32>() / LOOK as f32;
    look.iter_mut().for_each(|v| *v -= mean);
    let length = look.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length < LEAST_DEVIATION * (LOOK as f32).sqrt() {
        return None;
    }
    look.iter_mut().for_each(|v| *v /= length);
    Some(look)
}

fn correlation(a: &Corner, b: &Corner) -> f32 {
    // Eight sums side by side, which the compiler puts into one register.
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.look.as_chunks::<8>(), b.look.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f32>()
}

/// Pairs of corners of two photos that look alike, in the order of the first photo's corners.
pub fn matches(a: &[Corner], b: &[Corner]) -> Vec<(usize, usize)> {
    // The best and the second best of each row and column of the table of correlations.
    #[derive(Clone, Copy)]
    struct Best {
        at: usize,
        best: f32,
        second: f32,
    }
    const NONE: Best = Best { at: usize::MAX, best: -1.0, second: -1.0 };
    let take = |found: &mut Best, at: usize, value: f32| {
        if value > found.best {
            *found = Best { at, best: value, second: found.best };
        } else if value > found.second {
            found.second = value;
        }
    };
    let (mut of_a, mut of_b) = (vec![NONE; a.len()], vec![NONE; b.len()]);
    for (i, corner) in a.iter().enumerate() {
        for (j, other) in b.iter().enumerate() {
            let value = correlation(corner, other);
            take(&mut of_a[i], j, value);
            take(&mut of_b[j], i, value);
        }
    }
    let clear = |found: &Best| found.best >= LEAST_CORRELATION && 1.0 - found.best < RATIO * (1.0 - found.second);
    let pair = |(i, found): (usize, &Best)| {
        let back = of_b.get(found.at)?;
        (clear(found) && clear(back) && back.at == i).then_some((i, found.at))
    };
    of_a.iter().enumerate().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blobs of chance brightness, smooth between, moved by a part of a pixel and brightened.
    fn photo(shift: f64, gain: f32) -> Photo {
        const CELL: f64 = 6.0;
        let (width, height) = (240, 180);
        // A number for each corner of the cells, by the digits of a product that no two of them share.
        let chance = |x: f64, y: f64| ((x * 12.9898 + y * 78.233).sin() * 43758.5453).rem_euclid(1.0);
        let value = |x: f64, y: f64| {
            let (x, y) = (x / CELL, y / CELL);
            let (a, b) = (x.floor(), y.floor());
            let ease = |t: f64| t * t * (3.0 - 2.0 * t);
            let (fx, fy) = (ease(x - a), ease(y - b));
            let row = |y: f64| chance(a, y) * (1.0 - fx) + chance(a + 1.0, y) * fx;
            row(b) * (1.0 - fy) + row(b + 1.0) * fy
        };
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let v = gain * value(x as f64 - shift, y as f64 - 2.0 * shift) as f32;
                rgb.extend([v; 3]);
            }
        }
        Photo { width, height, rgb }
    }

    #[test]
    fn the_same_corners_are_found_after_a_shift() {
        let [a, b] = [corners(&photo(0.0, 1.0)), corners(&photo(3.25, 0.8))];
        assert!(a.len() > 60, "{}", a.len());
        let found = matches(&a, &b);
        assert!(found.len() * 3 > a.len(), "{} of {}", found.len(), a.len());
        // Half of what a track may be off: two corners that are both off by so much still fit.
        let most = 0.5 * crate::matching::tracks::FITS_PX;
        let right = |&&(i, j): &&(usize, usize)| (b[j].pixel - a[i].pixel).distance(DVec2::new(3.25, 6.5)) < most;
        let share = found.iter().filter(right).count() as f64 / found.len() as f64;
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn nothing_is_found_on_a_wall() {
        let wall = Photo { width: 160, height: 120, rgb: vec![0.5; 160 * 120 * 3] };
        assert!(corners(&wall).is_empty());
    }
}
