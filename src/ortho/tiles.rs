//! A raster that need not fit into memory: its tiles lie in a file without a name, and are read back in any order.

use std::path::Path;

use bytemuck::Pod;

use crate::error::Result;
use crate::files::scratch::Scratch;

/// Side of a tile, in cells: what GDAL's writer of cloud-optimised files takes.
pub const SIDE: usize = 512;

/// A part of a map that is in memory at once: it begins and ends at tiles' sides, or at the map's border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first column.
    pub left: usize,
    /// Its first row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// What a cell holds.
pub trait Cell: Pod + Send + Sync {
    /// No value.
    const NONE: Self;

    /// Whether it holds nothing.
    fn is_none(&self) -> bool;

    /// What stands for four cells, of which some may hold nothing.
    fn mean(four: [Self; 4]) -> Self;
}

/// A height: NaN where there is none.
impl Cell for f32 {
    const NONE: Self = Self::NAN;

    fn is_none(&self) -> bool {
        self.is_nan()
    }

    fn mean(four: [Self; 4]) -> Self {
        let there = four.into_iter().filter(|height| !height.is_nan());
        let (sum, count) = there.fold((0.0, 0), |(sum, count), height| (sum + f64::from(height), count + 1));
        // None of four: 0 / 0 is NaN, as it must be.
        (sum / f64::from(count)) as Self
    }
}

/// A colour: red, green, blue, and alpha, 0 where there is none.
impl Cell for [u8; 4] {
    const NONE: Self = [0; 4];

    fn is_none(&self) -> bool {
        self[3] == 0
    }

    fn mean(four: [Self; 4]) -> Self {
        let mut sum = [0; 3];
        let mut count = 0u32;
        for [r, g, b, _] in four.into_iter().filter(|colour| !colour.is_none()) {
            [r, g, b].iter().zip(&mut sum).for_each(|(value, sum)| *sum += u32::from(*value));
            count += 1;
        }
        if count == 0 {
            return Self::NONE;
        }
        let [r, g, b] = sum.map(|sum| ((sum + count / 2) / count) as u8);
        [r, g, b, 255]
    }
}

/// A raster in tiles, rows from the top.
pub struct Tiles<T> {
    /// Cells a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    scratch: Scratch,
    /// Where each tile lies, row by row; one without a value is not stored.
    places: Vec<Option<u64>>,
    cells: std::marker::PhantomData<T>,
}

impl<T: Cell> Tiles<T> {
    /// An empty one, with its file on the disk that the folder is on.
    ///
    /// # Errors
    /// A folder that takes no file.
    pub fn new(folder: &Path, (width, height): (usize, usize)) -> Result<Self> {
        let places = vec![None; width.div_ceil(SIDE) * height.div_ceil(SIDE)];
        Ok(Self { width, height, scratch: Scratch::new(folder)?, places, cells: std::marker::PhantomData })
    }

    /// Tiles across, and down.
    pub fn count(&self) -> (usize, usize) {
        (self.width.div_ceil(SIDE), self.height.div_ceil(SIDE))
    }

    /// Stores a window that begins at a tile's corner and ends at one, or at the raster's border.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn put(&mut self, (left, top): (usize, usize), (width, height): (usize, usize), cells: &[T]) -> Result<()> {
        debug_assert!(left % SIDE == 0 && top % SIDE == 0 && cells.len() == width * height);
        let mut tile = vec![T::NONE; SIDE * SIDE];
        for (y, x) in (0..height).step_by(SIDE).flat_map(|y| (0..width).step_by(SIDE).map(move |x| (y, x))) {
            let (across, down) = (SIDE.min(width - x), SIDE.min(height - y));
            tile.fill(T::NONE);
            for row in 0..down {
                let from = (y + row) * width + x;
                tile[row * SIDE..][..across].copy_from_slice(&cells[from..from + across]);
            }
            if tile.iter().any(|cell| !cell.is_none()) {
                let place = (top + y) / SIDE * self.count().0 + (left + x) / SIDE;
                self.places[place] = Some(self.scratch.append(bytemuck::cast_slice(&tile))?);
            }
        }
        Ok(())
    }

    /// A tile, with nothing beyond the border; `None` where it holds nothing at all.
    ///
    /// # Errors
    /// A file that cannot be read back.
    pub fn tile(&self, (column, row): (usize, usize)) -> Result<Option<Vec<T>>> {
        let Some(place) = self.places[row * self.count().0 + column] else { return Ok(None) };
        let mut tile = vec![T::NONE; SIDE * SIDE];
        self.scratch.read(place, bytemuck::cast_slice_mut(&mut tile))?;
        Ok(Some(tile))
    }

    /// A window anywhere, with nothing beyond the border.
    ///
    /// # Errors
    /// As [`Self::tile`].
    pub fn window(&self, (left, top): (isize, isize), (width, height): (usize, usize)) -> Result<Vec<T>> {
        let mut window = vec![T::NONE; width * height];
        let ends = |first: isize, length: usize, all: usize| {
            let clamped = |at: isize| at.clamp(0, all as isize) as usize;
            clamped(first)..clamped(first + length as isize)
        };
        let (columns, rows) = (ends(left, width, self.width), ends(top, height, self.height));
        if columns.is_empty() || rows.is_empty() {
            return Ok(window);
        }
        for tile_row in rows.start / SIDE..=(rows.end - 1) / SIDE {
            for tile_column in columns.start / SIDE..=(columns.end - 1) / SIDE {
                let Some(tile) = self.tile((tile_column, tile_row))? else { continue };
                let first = columns.start.max(tile_column * SIDE);
                let last = columns.end.min((tile_column + 1) * SIDE);
                for row in rows.start.max(tile_row * SIDE)..rows.end.min((tile_row + 1) * SIDE) {
                    let from = (row - tile_row * SIDE) * SIDE + first - tile_column * SIDE;
                    let to = (row as isize - top) as usize * width + (first as isize - left) as usize;
                    window[to..to + last - first].copy_from_slice(&tile[from..from + last - first]);
                }
            }
        }
        Ok(window)
    }

    /// The same at half the resolution, rounded up: each cell stands for up to four.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn halved(&self, folder: &Path) -> Result<Self> {
        let mut half = Self::new(folder, (self.width.div_ceil(2), self.height.div_ceil(2)))?;
        let (across, down) = half.count();
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column))) {
            let (left, top) = (column * SIDE, row * SIDE);
            let (width, height) = (SIDE.min(half.width - left), SIDE.min(half.height - top));
            let fine = self.window((2 * left as isize, 2 * top as isize), (2 * width, 2 * height))?;
            let mean = |i: usize| {
                let corner = 2 * (i / width) * 2 * width + 2 * (i % width);
                T::mean([corner, corner + 1, corner + 2 * width, corner + 2 * width + 1].map(|at| fine[at]))
            };
            let cells: Vec<T> = (0..width * height).map(mean).collect();
            half.put((left, top), (width, height), &cells)?;
        }
        Ok(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_was_put_and_halves_stand_for_fours() {
        let folder = tempfile::tempdir().unwrap();
        let (width, height) = (SIDE + 37, 2 * SIDE + 1);
        let mut tiles = Tiles::<f32>::new(folder.path(), (width, height)).unwrap();
        assert_eq!(tiles.count(), (2, 3));
        let value = |x: usize, y: usize| (y * width + x) as f32;
        // The upper two rows of tiles, then the last; the first tile stays empty.
        let cells: Vec<f32> = (0..width * 2 * SIDE)
            .map(|i| if i % width < SIDE && i / width < SIDE { f32::NAN } else { value(i % width, i / width) })
            .collect();
        tiles.put((0, 0), (width, 2 * SIDE), &cells).unwrap();
        let last: Vec<f32> = (0..width).map(|x| value(x, 2 * SIDE)).collect();
        tiles.put((0, 2 * SIDE), (width, 1), &last).unwrap();
        assert!(tiles.tile((0, 0)).unwrap().is_none());
        let (left, top) = (SIDE as isize - 3, SIDE as isize - 2);
        let window = tiles.window((left, top), (50, SIDE + 5)).unwrap();
        for (i, found) in window.into_iter().enumerate() {
            let (x, y) = (left + (i % 50) as isize, top + (i / 50) as isize);
            let is_there = (x as usize) < width && (y as usize) < height && (x as usize >= SIDE || y as usize >= SIDE);
            let expected = is_there.then(|| value(x as usize, y as usize));
            assert_eq!((!found.is_nan()).then_some(found), expected, "{x} {y}");
        }
        assert!(tiles.window((-9, -9), (9, 9)).unwrap().iter().all(|v| v.is_nan()));
        let half = tiles.halved(folder.path()).unwrap();
        assert_eq!((half.width, half.height), (width.div_ceil(2), SIDE + 1));
        let all = half.window((0, 0), (half.width, half.height)).unwrap();
        // Four; at the right border two, at the lower right corner one.
        let at = |x: usize, y: usize| all[y * half.width + x];
        assert_eq!(at(5, SIDE / 2 + 1), value(10, SIDE + 2) / 2.0 + value(11, SIDE + 3) / 2.0);
        assert_eq!(at(half.width - 1, 300), value(width - 1, 600) / 2.0 + value(width - 1, 601) / 2.0);
        assert_eq!(at(half.width - 1, SIDE), value(width - 1, 2 * SIDE));
        assert!(at(5, 5).is_nan());
        assert_eq!(<[u8; 4]>::mean([[10, 0, 1, 255], [0; 4], [21, 0, 2, 255], [0; 4]]), [16, 0, 2, 255]);
        assert_eq!(<[u8; 4]>::mean([[0; 4]; 4]), [0; 4]);
    }
}
