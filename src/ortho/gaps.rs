//! Small gaps are closed, and lone spikes taken out, cell by cell from what lies around: so no result depends on how a
//! raster is cut into tiles.

use rayon::prelude::*;

use crate::error::Result;
use crate::host::interrupt;
use crate::ortho::tiles::{Block, Cell, Tiles};

/// Directions in which a gap is looked out of.
const AROUND: [(isize, isize); 8] = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];
/// A gap is closed where surface is met in so many of them: a slit has six, a straight border five at most.
const LEAST_MET: usize = 6;
/// A spike has fewer neighbours than this that are as high, ...
const LEAST_ALIKE: usize = 2;
/// ... and at least so many neighbours with a height.
const LEAST_NEIGHBOURS: usize = 4;

/// What a cell of a kind becomes where there are such cells around.
pub trait Mend: Cell {
    /// Cells beyond a window that [`Self::cleaned`] looks at.
    const MARGIN: usize;

    /// What is left of the cell at a place that has eight neighbours.
    fn cleaned(window: &[Self], width: usize, at: usize, level: f32) -> Self;

    /// What closes a gap: the nearest cells around, each with its distance.
    fn closed(met: &[(Self, f32)], level: f32) -> Self;
}

impl Mend for f32 {
    const MARGIN: usize = 1;

    /// Nothing, where it stands out by more than two levels' thickness from its neighbours and hardly any is as high.
    fn cleaned(window: &[Self], width: usize, at: usize, level: f32) -> Self {
        let own = window[at];
        let around = AROUND.map(|(dx, dy)| window[(at as isize + dy * width as isize + dx) as usize]);
        let mut near: Vec<f32> = around.into_iter().filter(|height| !height.is_nan()).collect();
        let alike = near.iter().filter(|height| (**height - own).abs() <= level).count();
        if own.is_nan() || alike >= LEAST_ALIKE || near.len() < LEAST_NEIGHBOURS {
            return own;
        }
        near.sort_unstable_by(f32::total_cmp);
        if (own - near[near.len() / 2]).abs() > 2.0 * level { Self::NAN } else { own }
    }

    /// What cannot be seen beside a step is the lower side of it.
    fn closed(met: &[(Self, f32)], level: f32) -> Self {
        let lowest = met.iter().map(|(height, _)| *height).fold(f32::INFINITY, f32::min);
        let low = met.iter().filter(|(height, _)| *height <= lowest + level);
        let (sum, weight) = low.fold((0.0, 0.0), |(sum, weight), (height, distance)| {
            (sum + f64::from(*height / *distance), weight + 1.0 / f64::from(*distance))
        });
        (sum / weight) as Self
    }
}

impl Mend for [u8; 4] {
    const MARGIN: usize = 0;

    fn cleaned(window: &[Self], _: usize, at: usize, _: f32) -> Self {
        window[at]
    }

    fn closed(met: &[(Self, f32)], _: f32) -> Self {
        let total: f32 = met.iter().map(|(_, distance)| 1.0 / distance).sum();
        let mean = |c: usize| met.iter().map(|(colour, distance)| f32::from(colour[c]) / distance).sum::<f32>() / total;
        let [r, g, b] = [0, 1, 2].map(|c| mean(c).round() as u8);
        [r, g, b, 255]
    }
}

/// What was done to a raster, in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Those with a value now.
    pub there: u64,
    /// Of these, those that were gaps.
    pub closed: u64,
    /// Those that were spikes.
    pub removed: u64,
}

/// Cleans and closes block by block, into `mended`. A gap is closed where enough surface is `reach` cells away or
/// nearer, and where `may` says so of its column and row in the block.
///
/// # Errors
/// Those of reading and writing; [`crate::Error::Interrupted`].
pub fn mend<T: Mend>(
    (raw, mended): (&Tiles<T>, &mut Tiles<T>),
    blocks: &[Block],
    (reach, level): (usize, f32),
    mut may: impl FnMut(&Block) -> Result<Option<Vec<bool>>>,
) -> Result<Mended> {
    let mut done = Mended::default();
    let margin = reach + T::MARGIN;
    for block in blocks {
        interrupt::check()?;
        let (width, height) = (block.width + 2 * margin, block.height + 2 * margin);
        let corner = (block.left as isize - margin as isize, block.top as isize - margin as isize);
        let mut window = raw.window(corner, (width, height))?;
        let before = window.clone();
        if T::MARGIN > 0 {
            window.par_chunks_mut(width).enumerate().skip(1).take(height - 2).for_each(|(y, row)| {
                row[1..width - 1].iter_mut().enumerate().for_each(|(x, cell)| {
                    *cell = T::cleaned(&before, width, y * width + x + 1, level);
                });
            });
        }
        let may = may(block)?;
        let mut cells = vec![T::NONE; block.width * block.height];
        let close = |(y, row): (usize, &mut [T])| -> (u64, u64, u64) {
            let mut counts = (0, 0, 0);
            for (x, cell) in row.iter_mut().enumerate() {
                let at = (y + margin) * width + x + margin;
                *cell = window[at];
                let was_there = !before[at].is_none();
                let is_open = may.as_ref().is_none_or(|may| may[y * block.width + x]);
                if cell.is_none()
                    && is_open
                    && let Some(closed) = closed(&window, width, at, (reach, level))
                {
                    *cell = closed;
                    counts.1 += u64::from(!was_there);
                }
                counts.0 += u64::from(!cell.is_none());
                counts.2 += u64::from(was_there && window[at].is_none());
            }
            counts
        };
        let rows = cells.par_chunks_mut(block.width).enumerate().map(close);
        let (there, closed, removed) = rows.reduce(|| (0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        done = Mended { there: done.there + there, closed: done.closed + closed, removed: done.removed + removed };
        mended.put((block.left, block.top), (block.width, block.height), &cells)?;
    }
    Ok(done)
}

fn closed<T: Mend>(window: &[T], width: usize, at: usize, (reach, level): (usize, f32)) -> Option<T> {
    let mut met = [(T::NONE, 0.0); AROUND.len()];
    let mut count = 0;
    for (dx, dy) in AROUND {
        let step = dy * width as isize + dx;
        let along = (1..=reach).find_map(|i| {
            let cell = window[(at as isize + step * i as isize) as usize];
            (!cell.is_none()).then_some((cell, i as f32 * ((dx * dx + dy * dy) as f32).sqrt()))
        });
        if let Some(found) = along {
            met[count] = found;
            count += 1;
        }
    }
    (count >= LEAST_MET).then(|| T::closed(&met[..count], level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ortho::tiles::SIDE;

    /// Mends a raster block by block.
    fn mended(cells: &[f32], (width, height): (usize, usize), blocks: &[Block]) -> (Vec<f32>, Mended) {
        let folder = tempfile::tempdir().unwrap();
        let make = || Tiles::<f32>::new(folder.path(), (width, height)).unwrap();
        let (mut raw, mut new) = (make(), make());
        raw.put((0, 0), (width, height), cells).unwrap();
        let done = mend((&raw, &mut new), blocks, (3, 0.5), |_| Ok(None)).unwrap();
        (new.window((0, 0), (width, height)).unwrap(), done)
    }

    #[test]
    fn slits_and_small_holes_are_closed_with_the_lower_side_and_borders_stay() {
        let (width, height) = (SIDE + 40, 60);
        // A step at column 500, a slit of three beside it; holes of 3 x 3 and 12 x 12; nothing right of column 540.
        let is_hole = |x: usize, y: usize| {
            (500..503).contains(&x)
                || (100..103).contains(&x) && (20..23).contains(&y)
                || (200..212).contains(&x) && (20..32).contains(&y)
                || x >= 540
        };
        let mut cells: Vec<f32> = (0..width * height)
            .map(|i| match (i % width, i / width) {
                (x, y) if is_hole(x, y) => f32::NAN,
                (x, _) => {
                    if x < 500 {
                        9.0
                    } else {
                        2.0
                    }
                }
            })
            .collect();
        // A spike, and two cells that are as high as each other only.
        cells[40 * width + 300] = 30.0;
        cells[40 * width + 320] = 30.0;
        cells[40 * width + 321] = 30.0;
        cells[41 * width + 320] = 30.0;
        let one = Block { left: 0, top: 0, width, height };
        let (all, done) = mended(&cells, (width, height), &[one]);
        let at = |x: usize, y: usize| all[y * width + x];
        assert!((4..56).all(|y| (500..503).all(|x| at(x, y) == 2.0)));
        assert!((20..23).all(|y| (100..103).all(|x| at(x, y) == 9.0)));
        assert!(at(206, 26).is_nan() && at(540, 30).is_nan());
        assert_eq!((at(300, 40), at(320, 40), done.removed), (9.0, 30.0, 1));
        assert_eq!(done.there, all.iter().filter(|v| !v.is_nan()).count() as u64);
        let halves = [Block { width: SIDE, ..one }, Block { left: SIDE, width: width - SIDE, ..one }];
        let (again, same) = mended(&cells, (width, height), &halves);
        assert!(same == done && again.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn colours_are_means_by_distance() {
        let met = [([10, 0, 100, 255], 1.0), ([40, 0, 0, 255], 2.0)];
        assert_eq!(<[u8; 4]>::closed(&met, 0.0), [20, 0, 67, 255]);
    }
}
