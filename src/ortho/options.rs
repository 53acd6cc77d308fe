//! What a map can be told.

use std::path::PathBuf;
use std::str::FromStr;

use glam::DVec3;

use crate::export::crs::Crs;
use crate::files::folder::OutputOptions;

/// Everything that [`crate::ortho::mapping::map`] can be told, beside the run.
#[derive(Clone, Debug)]
pub struct MapOptions {
    /// Where the map goes; no folder named: `map` in the run's.
    pub output: OutputOptions,
    /// Side of a cell in scene units; `None`: by the maps' pixels.
    pub gsd: Option<f64>,
    /// The coordinate system that the scene's coordinates, with the offset, are in.
    pub crs: Option<Crs>,
    /// Added to the scene's coordinates.
    pub offset: DVec3,
    /// Which direction is up.
    pub up: Up,
    /// What is mapped: left, lower, right and upper side; `None`: all that is seen.
    pub bounds: Option<[f64; 4]>,
    /// Holes are closed where surface is so many cells away all around.
    pub fill: usize,
    /// Whether there will be an orthophoto.
    pub photo: bool,
    /// The scene's folder, where it is no longer where the run has found it.
    pub scene: Option<PathBuf>,
    /// Memory that the run may use, in bytes; `None`: what the system has.
    pub memory: Option<u64>,
}

/// Holes are closed where surface is so near all around, unless told otherwise: slits between what several views see of
/// one surface.
pub const FILL_CELLS: usize = 3;

impl Default for MapOptions {
    /// All that is seen, with an orthophoto, at the resolution of the maps.
    fn default() -> Self {
        Self {
            output: OutputOptions::default(),
            gsd: None,
            crs: None,
            offset: DVec3::ZERO,
            up: Up::Auto,
            bounds: None,
            fill: FILL_CELLS,
            photo: true,
            scene: None,
            memory: None,
        }
    }
}

/// Which direction of the scene is up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Up {
    /// z where a coordinate system or the scene's format says so, else by the cameras.
    #[default]
    Auto,
    /// By the cameras.
    Cameras,
    /// This one, of any length.
    Direction(DVec3),
}

impl FromStr for Up {
    type Err = String;

    /// `x`, `-z`, `cameras` or `X,Y,Z`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (sign, name) = text.strip_prefix('-').map_or((1.0, text), |name| (-1.0, name));
        let direction = match name {
            "x" => sign * DVec3::X,
            "y" => sign * DVec3::Y,
            "z" => sign * DVec3::Z,
            "cameras" if sign > 0.0 => return Ok(Self::Cameras),
            _ => numbers::<3>(text).map_or(DVec3::ZERO, DVec3::from),
        };
        let is_one = direction.length() > 1e-9 && direction.length() < 1e9;
        is_one.then_some(Self::Direction(direction)).ok_or_else(|| {
            "expected a direction: x, -x, y, -y, z, -z, X,Y,Z (three numbers, not all 0), or cameras".into()
        })
    }
}

/// So many finite numbers with commas between.
pub fn numbers<const N: usize>(text: &str) -> Option<[f64; N]> {
    let numbers: Option<Vec<f64>> =
        text.split(',').map(|word| word.trim().parse().ok().filter(|n: &f64| n.is_finite())).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_axes_numbers_or_what_cameras_say() {
        assert_eq!("-y".parse(), Ok(Up::Direction(-DVec3::Y)));
        assert_eq!("0,0.1, -2".parse(), Ok(Up::Direction(DVec3::new(0.0, 0.1, -2.0))));
        assert_eq!("cameras".parse(), Ok(Up::Cameras));
        for bad in ["", "w", "-cameras", "0,0,0", "1,2", "1,2,3,4", "nan,0,1", "1e300,0,0", "--x"] {
            assert!(bad.parse::<Up>().is_err(), "{bad}");
        }
    }
}
