//! Reads GeoTIFF files by the formats' descriptions, and holds them to the rules of cloud-optimised ones. Shares
//! nothing with the engine.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// One picture of a file.
#[derive(Debug)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub samples: usize,
    /// Samples of all cells, row by row; colours as numbers.
    pub values: Vec<f32>,
    /// Number of each field to its values.
    pub numbers: BTreeMap<u16, Vec<f64>>,
    pub nodata: Option<String>,
}

impl Picture {
    pub fn at(&self, column: usize, row: usize) -> &[f32] {
        &self.values[(row * self.width + column) * self.samples..][..self.samples]
    }

    /// The height of a cell, if it has one.
    pub fn height(&self, column: usize, row: usize) -> Option<f64> {
        let value = self.at(column, row)[0];
        (value != -9999.0).then_some(f64::from(value))
    }
}

/// A file: the picture, and its overviews.
pub struct Tiff {
    pub pictures: Vec<Picture>,
}

impl Tiff {
    pub fn full(&self) -> &Picture {
        &self.pictures[0]
    }

    /// Side of a cell, and the upper left corner.
    pub fn placed(&self) -> (f64, [f64; 2]) {
        let numbers = &self.full().numbers;
        let (scale, tie) = (&numbers[&33550], &numbers[&33922]);
        assert!(scale[0] == scale[1] && tie[..3] == [0.0; 3]);
        (scale[0], [tie[3], tie[4]])
    }

    /// x and y of a cell's middle.
    pub fn place(&self, column: usize, row: usize) -> (f64, f64) {
        let (side, [left, top]) = self.placed();
        (left + (column as f64 + 0.5) * side, top - (row as f64 + 0.5) * side)
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
}

/// Reads a classic TIFF, little endian.
pub fn read(path: &Path) -> Tiff {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..4], b"II*\0");
    let mut pictures = Vec::new();
    let mut next = number(&bytes, 4, 4) as usize;
    let (mut last_directory, mut places_of_data) = (0, Vec::new());
    while next > 0 {
        assert!(next > last_directory, "directories in order");
        last_directory = next;
        let count = number(&bytes, next, 2) as usize;
        let (mut numbers, mut nodata, mut tags) = (BTreeMap::new(), None, Vec::new());
        for entry in (0..count).map(|i| next + 2 + 12 * i) {
            let (tag, kind) = (number(&bytes, entry, 2) as u16, number(&bytes, entry + 2, 2));
            let count = number(&bytes, entry + 4, 4) as usize;
            let size = match kind {
                2 => 1,
                3 => 2,
                4 => 4,
                12 => 8,
                other => panic!("type {other}"),
            };
            let place = if size * count <= 4 { entry + 8 } else { number(&bytes, entry + 8, 4) as usize };
            let value = |i: usize| match kind {
                12 => f64::from_le_bytes(bytes[place + 8 * i..][..8].try_into().unwrap()),
                _ => number(&bytes, place + size * i, size) as f64,
            };
            if tag == 42113 {
                nodata = Some(String::from_utf8(bytes[place..place + count - 1].to_vec()).unwrap());
            }
            tags.push(tag);
            numbers.insert(tag, (0..count).map(value).collect::<Vec<f64>>());
        }
        assert!(tags.is_sorted(), "{tags:?}");
        next = number(&bytes, next + 2 + 12 * count, 4) as usize;
        places_of_data.push(numbers[&324].iter().copied().fold(f64::INFINITY, f64::min));
        pictures.push(picture(&bytes, numbers, nodata));
    }
    // All directories before all tiles, and tiles of smaller pictures first.
    assert!(places_of_data.is_sorted_by(|a, b| a > b), "{places_of_data:?}");
    assert!(places_of_data.iter().all(|place| *place > last_directory as f64));
    // Each half the size of the last, down to one tile.
    for pair in pictures.windows(2) {
        assert_eq!((pair[1].width, pair[1].height), (pair[0].width.div_ceil(2), pair[0].height.div_ceil(2)));
    }
    let last = pictures.last().unwrap();
    assert!(last.width.max(last.height) <= 512 && pictures.iter().all(|p| p.numbers[&322] == [512.0]));
    Tiff { pictures }
}

fn picture(bytes: &[u8], numbers: BTreeMap<u16, Vec<f64>>, nodata: Option<String>) -> Picture {
    let one = |tag: u16| numbers[&tag][0] as usize;
    let (width, height, samples, side) = (one(256), one(257), one(277), one(322));
    let (compression, predictor, bits) = (one(259), one(317), one(258));
    assert_eq!((compression, one(284), one(323)), (8, 1, side));
    let across = width.div_ceil(side);
    assert_eq!(numbers[&324].len(), across * height.div_ceil(side));
    let mut values = vec![0f32; width * height * samples];
    for (tile, (&place, &length)) in numbers[&324].iter().zip(&numbers[&325]).enumerate() {
        let mut data = Vec::new();
        let deflated = &bytes[place as usize..(place + length) as usize];
        flate2::read::ZlibDecoder::new(deflated).read_to_end(&mut data).unwrap();
        let row_bytes = side * samples * bits / 8;
        assert_eq!(data.len(), side * row_bytes);
        for (y, row) in data.chunks_exact_mut(row_bytes).enumerate() {
            let step = if predictor == 3 { 1 } else { samples };
            for i in step..row_bytes {
                row[i] = row[i].wrapping_add(row[i - step]);
            }
            let value = |i: usize| match predictor {
                3 => f32::from_be_bytes([0, 1, 2, 3].map(|byte| row[byte * side * samples + i])),
                _ => f32::from(row[i]),
            };
            let (left, top) = (tile % across * side, tile / across * side + y);
            if top < height {
                let there = (width - left).min(side) * samples;
                let to = (top * width + left) * samples;
                (0..there).for_each(|i| values[to + i] = value(i));
            }
        }
    }
    Picture { width, height, samples, values, numbers, nodata }
}
