//! How a cloud's coordinates are stored in a PLY file: as f32 where that is fine enough for the cloud, else as f64, and
//! with or without an offset that is taken from all of them.
//!
//! The rule: rounding to f32 may move a point by a thousandth of the cloud's spacing, not by more. Near the origin f32
//! does; at UTM or ECEF coordinates (10^6 to 10^7 units, where f32 has steps of 1/16 to 1) it does not.

use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Share of the cloud's spacing that rounding may move a point by.
const MOST_ROUNDING: f64 = 1e-3;
/// Neighbouring pairs of points, in the file's order, that the spacing is estimated from.
const SAMPLE: usize = 4096;
/// The word of the comment that names an offset in a file's header.
pub const OFFSET_COMMENT: &str = "ply-offset";

/// What is to be taken from all coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum OffsetOption {
    /// Nothing: coordinates are stored as f64 where f32 is too coarse.
    #[default]
    None,
    /// Whole numbers near the cloud's middle, where f32 is too coarse without; nothing else.
    Auto,
    /// This, in scene units.
    Given([f64; 3]),
}

impl fmt::Display for OffsetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Given([x, y, z]) => write!(f, "{x},{y},{z}"),
        }
    }
}

impl From<OffsetOption> for String {
    fn from(option: OffsetOption) -> Self {
        option.to_string()
    }
}

impl std::str::FromStr for OffsetOption {
    type Err = String;

    /// `none`, `auto`, or three finite numbers with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let numbers: Vec<f64> = text.split(',').map_while(|word| word.trim().parse().ok()).collect();
        match numbers[..] {
            [x, y, z] if text.split(',').count() == 3 && [x, y, z].iter().all(|v| v.is_finite()) => {
                Ok(Self::Given([x, y, z]))
            }
            _ => Err("expected auto, none, or three numbers X,Y,Z".into()),
        }
    }
}

/// The box around positions.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    low: [f64; 3],
    high: [f64; 3],
}

impl Default for Extent {
    /// Around none.
    fn default() -> Self {
        Self { low: [f64::INFINITY; 3], high: [f64::NEG_INFINITY; 3] }
    }
}

impl Extent {
    /// Makes room for one more.
    pub fn add(&mut self, position: [f64; 3]) {
        self.low = std::array::from_fn(|axis| self.low[axis].min(position[axis]));
        self.high = std::array::from_fn(|axis| self.high[axis].max(position[axis]));
    }
}

/// How the coordinates of one file are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Whether they are f64; else f32.
    pub double: bool,
    /// What was taken from them; the file's header names it where it is not zero.
    pub offset: [f64; 3],
}

impl Storage {
    /// Of `count` finite positions in the order of the file, in which most neighbours are to be neighbours in space.
    pub fn of(count: usize, position: impl Fn(usize) -> [f64; 3], option: OffsetOption) -> Self {
        let mut extent = Extent::default();
        (0..count).for_each(|i| extent.add(position(i)));
        let Ok(storage) = Self::of_extent(count, &extent, |i| Ok::<_, Infallible>(position(i)), option);
        storage
    }

    /// As [`Self::of`], of positions that are within `extent` and of which only some are asked for.
    ///
    /// # Errors
    /// Those of `position`.
    pub fn of_extent<E>(
        count: usize,
        extent: &Extent,
        position: impl Fn(usize) -> Result<[f64; 3], E>,
        option: OffsetOption,
    ) -> Result<Self, E> {
        let spacing = spacing(count, extent, &position)?;
        // Differences are rounded alike at every size: the farthest position is at an end of the extent.
        let with = |offset: [f64; 3]| {
            let far = |end: &[f64; 3]| (0..3).map(|a| (end[a] - offset[a]).abs()).fold(0.0, f64::max);
            let far = if count == 0 { 0.0 } else { far(&extent.low).max(far(&extent.high)) };
            Self { double: 3f64.sqrt() * rounding(far) > MOST_ROUNDING * spacing, offset }
        };
        Ok(match option {
            OffsetOption::None => with([0.0; 3]),
            OffsetOption::Given(offset) => with(offset),
            OffsetOption::Auto => match with([0.0; 3]) {
                as_it_is @ Self { double: false, .. } => as_it_is,
                _ => with(middle(count, &position)?),
            },
        })
    }

    /// Whether an offset was taken.
    pub fn is_moved(&self) -> bool {
        self.offset != [0.0; 3]
    }

    /// A position as it is stored, but for rounding.
    pub fn stored(&self, position: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|axis| position[axis] - self.offset[axis])
    }

    /// The position that a reader of the file gets, the offset added.
    pub fn read_back(&self, position: [f64; 3]) -> [f64; 3] {
        let stored = self.stored(position).map(|value| if self.double { value } else { f64::from(value as f32) });
        [0, 1, 2].map(|axis| stored[axis] + self.offset[axis])
    }

    /// What a reader of the file must know, in one sentence; `None` where coordinates are plain f32.
    pub fn note(&self, file: &str) -> Option<String> {
        let [x, y, z] = self.offset;
        let moved = format!("{file} has coordinates less {x} {y} {z}, as its header says: add them to get the scene's");
        match (self.is_moved(), self.double) {
            (true, true) => Some(format!("{moved}; they are doubles, since floats are too coarse even so")),
            (true, false) => Some(moved),
            (false, true) => Some(format!(
                "{file} has coordinates of type double: floats are too coarse so far from the origin (--ply-offset \
                 auto writes floats less an offset)"
            )),
            (false, false) => None,
        }
    }
}

/// By how much rounding to f32 may move a coordinate of at most this size.
fn rounding(far: f64) -> f64 {
    let nearest = far as f32;
    if nearest.is_finite() { 0.5 * (f64::from(nearest.next_up()) - f64::from(nearest)) } else { f64::INFINITY }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f64>().sqrt()
}

/// About how far points lie from their neighbours: a quarter of the pairs that follow each other are nearer; or the
/// diagonal of the box over the root of their number, where the order says less. 1 for a cloud without extent.
fn spacing<E>(count: usize, extent: &Extent, position: &impl Fn(usize) -> Result<[f64; 3], E>) -> Result<f64, E> {
    let pairs = count.saturating_sub(1);
    let step = pairs.div_ceil(SAMPLE).max(1);
    let apart = (0..pairs).step_by(step).map(|i| Ok(distance(position(i)?, position(i + 1)?)));
    let mut apart: Vec<f64> = apart.collect::<Result<_, E>>()?;
    apart.retain(|d| *d > 0.0);
    apart.sort_unstable_by(f64::total_cmp);
    let by_box = if count > 1 { distance(extent.low, extent.high) / (count as f64).sqrt() } else { 0.0 };
    Ok(match apart.get(apart.len() / 4) {
        Some(&quarter) => quarter.min(by_box),
        None if by_box > 0.0 => by_box,
        None => 1.0,
    })
}

/// The median of a sample of the points, axis by axis, in whole numbers.
fn middle<E>(count: usize, position: &impl Fn(usize) -> Result<[f64; 3], E>) -> Result<[f64; 3], E> {
    let step = count.div_ceil(SAMPLE).max(1);
    let sample: Vec<[f64; 3]> = (0..count).step_by(step).map(position).collect::<Result<_, E>>()?;
    Ok([0, 1, 2].map(|axis| {
        let mut values: Vec<f64> = sample.iter().map(|position| position[axis]).collect();
        values.sort_unstable_by(f64::total_cmp);
        // 0 added makes one zero of the two.
        values.get(values.len() / 2).map_or(0.0, |v| v.round() + 0.0)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of 100 x 100 points, 0.01 apart, in rows.
    fn square(offset: [f64; 3]) -> Vec<[f64; 3]> {
        let at = |i: usize| [0.01 * (i % 100) as f64 + offset[0], 0.01 * (i / 100) as f64 + offset[1], offset[2]];
        (0..10_000).map(at).collect()
    }

    fn of(points: &[[f64; 3]], option: OffsetOption) -> Storage {
        Storage::of(points.len(), |i| points[i], option)
    }

    #[test]
    fn doubles_are_asked_for_by_the_spacing() {
        // A thousandth of 0.01 is 1e-5; half a step of f32 along three axes is 6.6e-6 below 128 and 1.3e-5 above.
        for (x, double) in [(0.0, false), (126.0, false), (-127.9, false), (128.5, true), (-4e6, true), (1e7, true)] {
            assert_eq!(of(&square([0.0, x, 0.0]), OffsetOption::None), Storage { double, offset: [0.0; 3] }, "{x}");
        }
        // However the points are ordered, and whatever strays far away.
        let mut shuffled: Vec<[f64; 3]> = (0..10_000).map(|i| square([300.0, 0.0, 0.0])[i * 7919 % 10_000]).collect();
        assert!(of(&shuffled, OffsetOption::None).double);
        shuffled.push([0.0, 0.0, 4e5]);
        assert!(of(&shuffled, OffsetOption::None).double);
        // Nothing is known of the spacing of one place.
        for (points, double) in [(&[][..], false), (&[[9.0; 3]], false), (&[[4e6; 3]; 3], true)] {
            assert_eq!(of(points, OffsetOption::None).double, double);
        }
        assert!(of(&[[1e39, 0.0, 0.0], [0.0; 3]], OffsetOption::None).double);
    }

    #[test]
    fn offsets_are_taken_where_they_are_asked_for() {
        let far = square([448_262.0, 5_411_932.0, 320.0]);
        let auto = of(&far, OffsetOption::Auto);
        assert_eq!(auto, Storage { double: false, offset: [448_263.0, 5_411_933.0, 320.0] });
        assert_eq!(of(&square([0.0; 3]), OffsetOption::Auto), Storage::default());
        let given = OffsetOption::Given([448_000.0, 5_411_000.0, 0.0]);
        assert_eq!(of(&far, given), Storage { double: true, offset: [448_000.0, 5_411_000.0, 0.0] });
        assert_eq!(auto.stored([448_263.5, 5_411_932.0, 321.0]), [0.5, -1.0, 1.0]);
        assert!(auto.note("a.ply").unwrap().starts_with("a.ply has coordinates less 448263 5411933 320,"));
        assert!(of(&far, OffsetOption::None).note("a.ply").unwrap().contains("type double"));
        assert_eq!(Storage::default().note("a.ply"), None);
    }

    #[test]
    fn options_read_as_they_are_shown() {
        for text in ["none", "auto", "1.5,-2,3000000"] {
            assert_eq!(text.parse::<OffsetOption>().unwrap().to_string(), text);
        }
        assert_eq!("1, 2 ,3".parse(), Ok(OffsetOption::Given([1.0, 2.0, 3.0])));
        for bad in ["", "1,2", "1,2,3,4", "1,2,x", "1,2,nan", "1,inf,2", "Auto"] {
            assert!(bad.parse::<OffsetOption>().is_err(), "{bad}");
        }
    }
}
