//! Files of work that is done tile by tile, whatever is made of the tiles: the plan, `tiles/plan.json` in a folder, and
//! a part for each tile beside it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, counted};
use crate::files::atomic::write_new;
use crate::files::folder::{make_folder_of, write_json};
use crate::files::input;

/// The folder of tiles in a folder of results.
pub const TILES: &str = "tiles";
/// The plan's name there.
pub const PLAN: &str = "plan.json";

/// The plan in a folder of results.
pub fn plan_file(out: &Path) -> PathBuf {
    out.join(TILES).join(PLAN)
}

/// Reads a plan; `None` where there is none. `is_own`: whether this program and version have made it.
///
/// # Errors
/// A file that cannot be read, or is none of its own.
pub fn read_plan<P: DeserializeOwned>(file: &Path, is_own: impl Fn(&P) -> bool) -> Result<Option<P>> {
    if !file.exists() {
        return Ok(None);
    }
    let bytes = input::read(file, "read the plan of tiles")?;
    let plan: Option<P> = serde_json::from_slice(&bytes).ok();
    plan.filter(is_own).map(Some).ok_or_else(|| {
        let found = "not a plan of tiles that this version has made";
        Error::input(file.display().to_string(), found, "one of its own; remove the file to have it made again")
    })
}

/// Writes a plan where `read` does not find the same: another process may have been faster.
///
/// # Errors
/// A file that cannot be written; those of `read`, for one that is there.
pub fn write_plan<P: Serialize + PartialEq>(
    file: &Path,
    plan: &P,
    read: impl Fn(&Path) -> Result<Option<P>>,
) -> Result<()> {
    make_folder_of(file)?;
    let bytes = serde_json::to_vec(plan).unwrap_or_default();
    if !write_new(file, "write the plan of tiles", &bytes)? && read(file)?.as_ref() != Some(plan) {
        write_json(file, "write the plan of tiles", plan)?;
    }
    Ok(())
}

/// The file of a tile's part, by the hash of its plan; tiles are numbered from 1.
pub fn part_file(out: &Path, id: &str, tile: usize) -> PathBuf {
    let id: String = id.chars().take(16).collect();
    out.join(TILES).join(id).join(format!("{tile}.part"))
}

/// How messages speak of parts.
pub struct Words {
    /// What a part holds.
    pub hold: &'static str,
    /// `that` or `those`, in its place.
    pub that: &'static str,
    /// The command that makes them.
    pub command: &'static str,
}

/// Opens the parts of so many tiles. `is_of`: whether a part is of its tile.
///
/// # Errors
/// Parts that are missing, by their numbers, or are of another plan; those of `open`.
pub fn all_parts<T>(
    count: usize,
    words: &Words,
    file: impl Fn(usize) -> PathBuf,
    open: impl Fn(&Path) -> Result<Option<T>>,
    is_of: impl Fn(&T, usize) -> bool,
) -> Result<Vec<T>> {
    let Words { hold, that, command } = words;
    let again = |tile: usize| format!("{command} OUT --shard {tile}/{count}");
    let (mut parts, mut missing) = (Vec::with_capacity(count), Vec::new());
    for tile in 1..=count {
        let file = file(tile);
        match open(&file)? {
            None => missing.push(tile),
            Some(part) if !is_of(&part, tile) => {
                let (place, found) = (file.display().to_string(), format!("the {hold} of another plan or tile"));
                let expected = format!("{that} of tile {tile}; remove it, and make it again: {}", again(tile));
                return Err(Error::input(place, found, expected));
            }
            Some(part) => parts.push(part),
        }
    }
    let Some(&first) = missing.first() else { return Ok(parts) };
    let file = file(first);
    let place = file.parent().unwrap_or(&file).display().to_string();
    let found = format!("no {hold} of {} of {} ({})", missing.len(), counted(count, "tile"), listed(&missing));
    Err(Error::input(place, found, format!("all of them; make them first: {}", again(first))))
}

/// The first of some numbers.
fn listed(numbers: &[usize]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
    let dots = if numbers.len() > SHOWN { ", ..." } else { "" };
    format!("{}{dots}", shown.join(", "))
}
