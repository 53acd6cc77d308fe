//! Computed textures that fit to themselves: noise of all kinds, stone, bricks, tiles, stripes, dots, text.

use std::sync::Arc;

use rayon::prelude::*;

use super::texture::Texture;
use crate::host::random::{Random, mixed};

/// Texels a side.
const SIDE: usize = 256;
/// How many of each kind there are.
const OF_EACH: usize = 4;
const KINDS: usize = 12;
/// The printed characters of ASCII.
const FIRST_LETTER: u8 = 33;
const LAST_LETTER: u8 = 126;
/// Eight bytes for each of them: rows from the top, the lowest bit leftmost.
static LETTERS: &[u8; 8 * (LAST_LETTER - FIRST_LETTER + 1) as usize] =
    include_bytes!("../../assets/fonts/letters_8x8.bin");

/// All computed textures of a seed.
pub fn patterns(seed: u64) -> Vec<Arc<Texture>> {
    (0..KINDS * OF_EACH)
        .into_par_iter()
        .map(|i| {
            let random = Random::new(&[seed, i as u64, 0x7061_7474]);
            Arc::new(Texture::from_pattern(SIDE, &pattern(i % KINDS, random)))
        })
        .collect()
}

/// Two values 0..1 a texel: the pattern, and a soft variation that tints it.
fn pattern(kind: usize, mut random: Random) -> Vec<[f32; 2]> {
    let salt = random.bits();
    let noise = |first: usize, octaves: usize, gain: f64, salt: u64| Noise { first, octaves, gain, salt };
    let soft = noise(random.between(2, 5), 3, 0.6, salt ^ 1);
    let rough = noise(1 << random.between(3, 5), 4, random.range(0.6, 0.95), salt ^ 2);
    let smooth = noise(random.between(3, 8), 3, random.range(0.35, 0.6), salt ^ 3);
    let count = random.between(3, 10) as f64;
    let waves = random.range(3.0, 12.0);
    let gap = random.range(0.03, 0.12);
    let radius = random.range(0.2, 0.45);
    let threshold = random.range(0.5, 0.7);
    let letters: Vec<u8> =
        (0..32 * 32).map(|_| random.between(FIRST_LETTER.into(), LAST_LETTER.into()) as u8).collect();
    let spaces = random.range(0.05, 0.4);
    let stretch = if random.chance(0.5) { 1 } else { 2 };
    let value = |x: f64, y: f64| -> f64 {
        match kind {
            // Noise of all sizes; soft noise; fine grain.
            0 => contrast(rough.at(x, y), 2.2),
            1 => contrast(smooth.at(x, y), 2.0),
            2 => hash01((x * SIDE as f64) as u64, (y * SIDE as f64) as u64, salt),
            // Veins and contour rings, as in marble and wood.
            3 => (waves * 3.0 * smooth.at(x, y)).sin().abs().powf(0.7),
            4 => 0.5 + 0.5 * (waves * 9.0 * smooth.at(x, y)).sin() * (0.4 + 0.6 * rough.at(x, y)),
            // Speckles.
            5 => {
                if rough.at(x, y) > threshold {
                    0.95
                } else {
                    0.25 + 0.3 * soft.at(x, y)
                }
            }
            // Bricks, each with its own shade.
            6 => {
                let rows = 2.0 * count;
                let row = (y * rows).floor();
                let along = (x * count + 0.5 * (row % 2.0)).rem_euclid(count);
                let (fx, fy) = (along - along.floor(), y * rows - row);
                let mortar = fx < gap || fy < 2.0 * gap;
                let shade = hash01(along as u64, row as u64, salt);
                if mortar { 0.9 } else { 0.1 + 0.5 * shade + 0.25 * (rough.at(x, y) - 0.5) }
            }
            // A checkerboard, stripes, dots.
            7 => {
                let n = 2.0 * count;
                0.1 + 0.8 * (((x * n).floor() + (y * n).floor()) % 2.0) + 0.2 * (rough.at(x, y) - 0.5)
            }
            8 => {
                let wave = (std::f64::consts::TAU * count * (x + f64::from(stretch) * y)).sin();
                contrast(0.5 + 0.5 * wave, 3.0)
            }
            9 => {
                let (fx, fy) = ((x * count).fract() - 0.5, (y * count).fract() - 0.5);
                if fx.hypot(fy) < radius { 0.9 } else { 0.15 + 0.2 * soft.at(x, y) }
            }
            // Lines of text.
            10 => {
                let (px, py) = ((x * SIDE as f64) as usize, (y * SIDE as f64) as usize);
                let (column, row) = (px / 8, py / 8);
                let blank = hash01(column as u64, row as u64, salt) < spaces || row % 2 == 1;
                let letter = usize::from(letters[row * 32 + column] - FIRST_LETTER);
                let ink = !blank && LETTERS[8 * letter + py % 8] >> (px % 8) & 1 == 1;
                if ink { 0.08 } else { 0.85 + 0.1 * soft.at(x, y) }
            }
            // Cells around scattered middles, as in cobbles.
            _ => cells(x, y, count * 2.0, salt),
        }
    };
    let texel = |i: usize| {
        let (x, y) = ((i % SIDE) as f64 + 0.5, (i / SIDE) as f64 + 0.5);
        let (x, y) = (x / SIDE as f64, y / SIDE as f64);
        [value(x, y).clamp(0.0, 1.0) as f32, contrast(soft.at(x, y), 1.8).clamp(0.0, 1.0) as f32]
    };
    (0..SIDE * SIDE).map(texel).collect()
}

fn contrast(value: f64, factor: f64) -> f64 {
    (0.5 + factor * (value - 0.5)).clamp(0.0, 1.0)
}

/// 0..1 by place.
fn hash01(x: u64, y: u64, salt: u64) -> f64 {
    (mixed(mixed(x ^ salt).wrapping_add(y.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 11) as f64 / (1u64 << 53) as f64
}

/// Value noise over the unit square that fits to itself: `octaves` lattices from `first` cells a side on, each twice as
/// fine and `gain` times as strong as the one before.
pub struct Noise {
    /// Cells a side of the coarsest lattice.
    pub first: usize,
    /// Number of lattices.
    pub octaves: usize,
    /// Strength of each against the one before.
    pub gain: f64,
    /// What makes it differ from others.
    pub salt: u64,
}

impl Noise {
    /// 0..1, mean one half.
    pub fn at(&self, x: f64, y: f64) -> f64 {
        let (mut sum, mut weight, mut strength) = (0.0, 0.0, 1.0);
        for octave in 0..self.octaves {
            sum += strength * lattice(x, y, (self.first << octave) as u64, self.salt.wrapping_add(octave as u64));
            weight += strength;
            strength *= self.gain;
        }
        sum / weight
    }
}

fn lattice(x: f64, y: f64, cells: u64, salt: u64) -> f64 {
    let split = |v: f64| {
        let v = v.rem_euclid(1.0) * cells as f64;
        let f = v - v.floor();
        (v as u64 % cells, (v as u64 + 1) % cells, f * f * (3.0 - 2.0 * f))
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (split(x), split(y));
    let row = |y: u64| {
        let (a, b) = (hash01(x0, y, salt), hash01(x1, y, salt));
        a + (b - a) * fx
    };
    let (a, b) = (row(y0), row(y1));
    a + (b - a) * fy
}

/// Shade of the nearest of the scattered middles, darker towards the gap between two.
fn cells(x: f64, y: f64, count: f64, salt: u64) -> f64 {
    let n = count as i64;
    let (cx, cy) = ((x * count).floor() as i64, (y * count).floor() as i64);
    let (mut first, mut second, mut shade) = (f64::INFINITY, f64::INFINITY, 0.0);
    for j in cy - 1..=cy + 1 {
        for i in cx - 1..=cx + 1 {
            let (a, b) = (i.rem_euclid(n) as u64, j.rem_euclid(n) as u64);
            let (px, py) = (i as f64 + hash01(a, b, salt), j as f64 + hash01(a, b, salt ^ 7));
            let distance = (px - x * count).hypot(py - y * count);
            if distance < first {
                (second, first, shade) = (first, distance, hash01(a, b, salt ^ 9));
            } else if distance < second {
                second = distance;
            }
        }
    }
    ((second - first) * 6.0).min(1.0) * (0.3 + 0.7 * shade)
}
