//! Space divided into tiles: `OUT/tiles/plan.json`.
//!
//! The first process looks at all maps once, and writes down how far each reaches and where space is cut. All that
//! decides about the points is in a hash, by which the parts of different jobs are kept apart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glam::DVec3;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value};

use crate::error::{Error, Result};
use crate::files::hash;
use crate::fusion::tile::{Depths, Frustum, Tile, TileSides};
use crate::fusion::view::ViewFacts;
use crate::host::interrupt;
use crate::manifest::made::difference;
use crate::run::tile_files::{PLAN, TILES, part_file, plan_file, read_plan, write_plan};
use crate::run::tile_views::{Scan, TileViews};

/// The number of the file's schema; it grows when a field's meaning changes.
const SCHEMA: u32 = 1;
/// The most tiles: for each a file is looked at when they are joined.
pub const MOST_TILES: usize = 10_000;
/// A tile for so many pixels that may become points, where nobody says how many: a few minutes of work.
const PIXELS_OF_A_TILE: usize = 16 << 20;
/// The share of places on either side that a grid and the choice of an axis leave out: few pixels lie far away.
const FEW: f64 = 0.01;

/// Into how many tiles space is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    /// As many as the maps' pixels ask for.
    Auto,
    /// So many, of equally many pixels.
    Count(usize),
    /// A grid along the axes.
    Grid([usize; 3]),
}

impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Grid([x, y, z]) => write!(f, "{x}x{y}x{z}"),
        }
    }
}

impl FromStr for Tiling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected =
            || format!("expected auto, a number of tiles (40), or a grid (4x4x2); at most {MOST_TILES} tiles");
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = |word: &str| {
            let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            word.parse::<usize>().ok().filter(|&number| is_plain && (1..=MOST_TILES).contains(&number))
        };
        let sides: Option<Vec<usize>> = text.split('x').map(number).collect();
        match sides.as_deref() {
            Some(&[count]) => Ok(Self::Count(count)),
            Some(&[x, y, z]) if x * y * z <= MOST_TILES => Ok(Self::Grid([x, y, z])),
            _ => Err(expected()),
        }
    }
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TilePlan {
    /// Always `engine`.
    pub program: String,
    /// The number of the file's schema.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// A hash of all that the points and the tiles depend on.
    pub id: String,
    /// Into how many tiles space was to be cut.
    pub tiling: String,
    /// How the maps are fused.
    pub job: Fields<String, Value>,
    /// A hash of cameras, ranges, sources and maps of all views.
    pub views_sha256: String,
    /// Width and height of each view's maps.
    pub sizes: Vec<(usize, usize)>,
    /// How far each view's maps reach.
    pub depths: Vec<Depths>,
    /// The tiles, seen from the place near the cameras that fusion takes as the origin.
    pub tiles: Vec<TileSides>,
}

impl TilePlan {
    /// The plan in a folder, if it is of these views and cut so; where nobody says how it is cut, it must be of them.
    ///
    /// # Errors
    /// A file that cannot be read; a plan of other views or settings, where there must be one of these.
    pub fn find(out: &Path, views: &TileViews, tiling: Option<Tiling>) -> Result<Option<Self>> {
        let file = Self::file(out);
        let there = Self::read(&file)?;
        let (job, views_sha256) = (views.job(), views.sha256()?);
        let of_this = |plan: &Self| plan.job == job && plan.views_sha256 == views_sha256;
        if let Some(tiling) = tiling {
            return Ok(there.filter(|plan| of_this(plan) && plan.tiling == tiling.to_string()));
        }
        let place = file.display().to_string();
        let expected = "the options that the tiles were made with, or new tiles (--tiles N)";
        match there {
            None => Err(Error::input(out.display().to_string(), format!("no {TILES}/{PLAN}"), "tiles (--tiles N)")),
            Some(plan) if plan.job != job => {
                let found = format!("tiles of another job ({})", difference(&plan.job, &job));
                Err(Error::input(place, found, expected))
            }
            Some(plan) if !of_this(&plan) => {
                let found = "tiles of other maps, cameras, depth ranges or source views than there are now";
                Err(Error::input(place, found, expected))
            }
            plan => Ok(plan),
        }
    }

    /// Looks at all maps, cuts space, and writes the plan; another process may have been faster.
    ///
    /// # Errors
    /// Maps that cannot be read, a file that cannot be written; [`Error::Interrupted`].
    pub fn make(out: &Path, views: &TileViews, tiling: Tiling) -> Result<Self> {
        let wanted = match tiling {
            Tiling::Auto => views.pixels()?.0.div_ceil(PIXELS_OF_A_TILE),
            Tiling::Count(count) => count,
            // Only where most of the pixels end.
            Tiling::Grid(_) => 1,
        };
        let scans = views.scans(wanted.min(MOST_TILES))?;
        let sizes: Vec<(usize, usize)> = scans.iter().map(|scan| scan.size).collect();
        let depths = scans.iter().map(|scan| scan.depths).collect();
        let usable: usize = scans.iter().map(|scan| scan.usable).sum();
        let origin = views.origin(&sizes)?.place();
        let mut places = Vec::with_capacity(scans.iter().map(|scan| scan.places.len()).sum());
        for Scan { places: of_view, .. } in scans {
            places.extend(of_view.into_iter().map(|place| place - origin));
        }
        interrupt::check()?;
        let tiles = cut(tiling, usable.div_ceil(PIXELS_OF_A_TILE), places).into_iter().map(TileSides::from).collect();
        let (job, views_sha256) = (views.job(), views.sha256()?);
        let text = tiling.to_string();
        let id = hash::of_bytes(serde_json::json!([SCHEMA, job, views_sha256, text]).to_string().as_bytes());
        let (program, version) = ("engine".into(), env!("CARGO_PKG_VERSION").into());
        let plan = Self { program, schema: SCHEMA, version, id, tiling: text, job, views_sha256, sizes, depths, tiles };
        write_plan(&Self::file(out), &plan, Self::read)?;
        Ok(plan)
    }

    /// The file in a folder of results.
    pub fn file(out: &Path) -> PathBuf {
        plan_file(out)
    }

    /// What a file holds, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is no plan of this version.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        read_plan(file, |plan: &Self| {
            let views = plan.sizes.len();
            (plan.program.as_str(), plan.schema) == ("engine", SCHEMA)
                && plan.version == env!("CARGO_PKG_VERSION")
                && plan.depths.len() == views
                && !plan.tiles.is_empty()
        })
    }

    /// Whether the plan in a folder is this one, as far as it can be read.
    pub fn is_in(&self, out: &Path) -> bool {
        Self::read(&Self::file(out)).map_or(true, |there| there.is_some_and(|there| there.id == self.id))
    }

    /// The file of a tile's points, which are numbered from 1.
    pub fn part(&self, out: &Path, tile: usize) -> PathBuf {
        part_file(out, &self.id, tile)
    }

    /// A box around all that the views' maps reach.
    pub fn bounds(&self, facts: &[ViewFacts]) -> Tile {
        let bounds = |view: &ViewFacts, depths| Frustum::new(&view.camera, view.size, depths).bounds;
        let frusta = facts.iter().zip(&self.depths).map(|(view, depths)| bounds(view, *depths));
        frusta.fold(Tile::NOWHERE, |all, one| Tile { low: all.low.min(one.low), high: all.high.max(one.high) })
    }
}

/// Cuts space so that tiles have about equally many of these places, or into a grid. Where it is not said, there are
/// `auto` tiles.
pub fn cut(tiling: Tiling, auto: usize, mut places: Vec<DVec3>) -> Vec<Tile> {
    match tiling {
        Tiling::Auto => halved(Tile::EVERYWHERE, &mut places, auto.clamp(1, MOST_TILES)),
        Tiling::Count(count) => halved(Tile::EVERYWHERE, &mut places, count),
        Tiling::Grid(sides) => {
            let (low, high) = most_of(&mut places);
            let mut tiles = vec![Tile::EVERYWHERE];
            for (axis, count) in sides.into_iter().enumerate() {
                let step = (high[axis] - low[axis]) / count as f64;
                let along = |tile: Tile| {
                    let mut rest = tile;
                    let mut parts: Vec<Tile> = Vec::with_capacity(count);
                    for i in 1..count {
                        let [below, above] = rest.split(axis, low[axis] + i as f64 * step);
                        parts.push(below);
                        rest = above;
                    }
                    parts.push(rest);
                    parts
                };
                tiles = tiles.into_iter().flat_map(along).collect();
            }
            tiles
        }
    }
}

/// Coordinates that most of the places lie between, on each axis by itself.
fn most_of(places: &mut [DVec3]) -> (DVec3, DVec3) {
    let (mut low, mut high) = (DVec3::ZERO, DVec3::ZERO);
    if places.is_empty() {
        return (low, high);
    }
    let few = (places.len() as f64 * FEW) as usize;
    let last = places.len() - 1 - few;
    for axis in 0..3 {
        let mut at = |index: usize| places.select_nth_unstable_by(index, |a, b| a[axis].total_cmp(&b[axis])).1[axis];
        (low[axis], high[axis]) = (at(few), at(last));
    }
    (low, high)
}

/// Cuts a tile across its longest side, and each half again, until there are so many.
fn halved(tile: Tile, places: &mut [DVec3], count: usize) -> Vec<Tile> {
    if count <= 1 {
        return vec![tile];
    }
    let (low, high) = most_of(places);
    let size = high - low;
    let axis = (0..3).rev().max_by(|&a, &b| size[a].total_cmp(&size[b])).unwrap_or(0);
    let below = count / 2;
    let middle = places.len() * below / count;
    let at = match places.is_empty() {
        true => 0.0,
        false => places.select_nth_unstable_by(middle, |a, b| a[axis].total_cmp(&b[axis])).1[axis],
    };
    let [first, second] = tile.split(axis, at.clamp(tile.low[axis], tile.high[axis]));
    let (some, others) = places.split_at_mut(middle);
    let (mut tiles, more) = rayon::join(|| halved(first, some, below), || halved(second, others, count - below));
    tiles.extend(more);
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilings_are_read_as_they_are_written() {
        for text in ["auto", "1", "40", "10000", "4x4x2", "1x1x1", "100x100x1"] {
            assert_eq!(text.parse::<Tiling>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "0",
            "-1",
            "+3",
            "1.5",
            "10001",
            "AUTO",
            "x",
            "2x",
            "2x3",
            "2x3x",
            "2x3x0",
            "2x3x4x5",
            "2X3X4",
            "2*3*4",
            " 4",
            "4 ",
            "1e3",
            "101x100x1",
            "99999999999999999999",
            "10000x10000x10000",
            "two",
            "2,3,4",
            "-2x3x4",
            "NaN",
        ];
        for text in wrong {
            let message = text.parse::<Tiling>().unwrap_err();
            assert!(message.starts_with("expected auto, a number of tiles"), "{text:?}");
        }
    }

    #[test]
    fn space_is_cut_into_as_many_tiles_as_are_asked_for() {
        let place = |i: usize| DVec3::new((i % 31) as f64, (i * 7 % 57) as f64, 0.1 * (i % 11) as f64);
        let places: Vec<DVec3> = (0..10_000).map(place).collect();
        let cases = [Tiling::Count(1), Tiling::Count(2), Tiling::Count(7), Tiling::Count(40), Tiling::Grid([3, 4, 2])];
        for (tiling, expected) in cases.into_iter().zip([1, 2, 7, 40, 24]) {
            let tiles = cut(tiling, 0, places.clone());
            assert_eq!(tiles.len(), expected, "{tiling}");
            for point in places.iter().copied().chain([DVec3::splat(-1e300), DVec3::splat(1e9), DVec3::ZERO]) {
                assert_eq!(tiles.iter().filter(|tile| tile.has(point)).count(), 1, "{tiling}, {point}");
            }
            let most = tiles.iter().map(|tile| places.iter().filter(|p| tile.has(**p)).count()).max().unwrap();
            assert!(
                !matches!(tiling, Tiling::Count(_)) || most < 2 * places.len() / expected + 400,
                "{tiling}: {most}"
            );
        }
        assert_eq!(cut(Tiling::Auto, 3, places).len(), 3);
        // Nowhere, and all in one place: tiles without a point, but as many.
        for places in [vec![], vec![DVec3::ONE; 9]] {
            assert_eq!(cut(Tiling::Count(5), 0, places.clone()).len(), 5);
            assert_eq!(cut(Tiling::Grid([1, 2, 2]), 0, places).len(), 4);
        }
    }
}
