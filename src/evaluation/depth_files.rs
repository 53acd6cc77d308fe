//! Depth maps with their truth: which files belong together, and how maps of different sizes are laid over each other.
//!
//! A map keeps every n-th pixel of the photo, from pixel 0 on (SPEC "Geometry"), so that of two maps of one photo the
//! finer one has a pixel that coincides with every pixel of the coarser one: those are compared, and nothing is
//! interpolated.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, counted};
use crate::files::map::Map;
use crate::files::subfolders::{find, listed};
use crate::files::{lock, pfm};
use crate::manifest::{DepthSummary, Manifest, made};
use crate::maps::valid::{Invalid, take_out_invalid};

/// A depth map and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct MapFiles {
    /// The view's name.
    pub name: String,
    depth: PathBuf,
    confidence: Option<PathBuf>,
    truth: PathBuf,
    /// The mean distance of two hypotheses in scene units, where it is known.
    pub interval: Option<f64>,
}

impl MapFiles {
    /// Bytes that measuring it holds: each file's values, and once more where two sizes are brought together.
    pub fn bytes(&self) -> u64 {
        let files = [Some(&self.depth), self.confidence.as_ref(), Some(&self.truth)];
        let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |data| data.len());
        2 * files.into_iter().flatten().map(size).sum::<u64>()
    }
}

/// Maps that can be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundMaps {
    /// Those with a truth, sorted by name.
    pub maps: Vec<MapFiles>,
    /// What was assumed or left out, one sentence each.
    pub notes: Vec<String>,
}

/// Maps of one view at the same pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlaid {
    /// Depth.
    pub depth: Map,
    /// Confidence, where there is one.
    pub confidence: Option<Map>,
    /// True depth.
    pub truth: Map,
    /// Pixels of the map as it is stored that could not be used and count as without depth.
    pub invalid: Invalid,
    /// How the sizes were brought together, for people; `None` where they were equal.
    pub resampling: Option<String>,
}

/// Finds MAPS/depth/NAME.pfm with MAPS/confidence/NAME.pfm, and TRUTH/NAME.pfm or TRUTH/depth/NAME.pfm for each.
///
/// `interval` is taken for all views where it is given, else each view's from MAPS/manifest.json.
///
/// # Errors
/// No maps, or no truth for any of them; a manifest that cannot be read.
pub fn find_maps(maps: &Path, truth: &Path, interval: Option<f64>) -> Result<FoundMaps> {
    let names = pfm_names(&maps.join("depth"))?;
    let truth_folder = if truth.join("depth").is_dir() { truth.join("depth") } else { truth.to_owned() };
    let truths = pfm_names(&truth_folder)?;
    let run = if interval.is_none() { Manifest::read(maps)? } else { None };
    let views = run.iter().flat_map(|run| &run.views);
    let intervals: HashMap<&str, Option<f64>> =
        views.map(|v| (v.name.as_str(), v.depth.as_ref().and_then(DepthSummary::interval))).collect();
    let of_manifest = |name: &str| *intervals.get(name)?;
    let has_confidence = maps.join("confidence").is_dir();
    let file = |folder: &Path, name: &str| find(folder, name, "pfm");
    let (with_truth, without): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|n| truths.binary_search(n).is_ok());
    let mut notes = Vec::new();
    if with_truth.is_empty() {
        return Err(Error::input(
            truth_folder.display().to_string(),
            format!("no truth for any of {} (there are {}.pfm, ...)", counted(names.len(), "map"), truths[0]),
            format!("{}.pfm, the true depth of the map with this name", names[0]),
        ));
    }
    if let Some(first) = without.first() {
        let count = counted(without.len(), "map");
        notes.push(format!("{count} without a truth left out (first: {first})"));
    }
    if let Some(who) = lock::at_work(maps) {
        notes.push(format!("another run is at work on the maps ({who}): they may change meanwhile"));
    }
    notes.extend(made::mixture(maps, with_truth.iter().map(|name| name.as_str())));
    if !has_confidence {
        notes.push("there is no confidence/ beside depth/: nothing is said about confidence".into());
    }
    let maps: Vec<MapFiles> = with_truth
        .into_iter()
        .map(|name| MapFiles {
            name: name.clone(),
            depth: file(&maps.join("depth"), name),
            confidence: has_confidence.then(|| file(&maps.join("confidence"), name)),
            truth: file(&truth_folder, name),
            interval: interval.or_else(|| of_manifest(name)),
        })
        .collect();
    let unknown = maps.iter().filter(|m| m.interval.is_none()).count();
    if unknown > 0 {
        notes.push(format!(
            "the interval of {unknown} of {} maps is not known (no manifest.json beside them says it): --interval \
             gives it",
            maps.len()
        ));
    }
    Ok(FoundMaps { maps, notes })
}

/// Names of the maps in a folder, sorted.
fn pfm_names(folder: &Path) -> Result<Vec<String>> {
    let action = "list the maps";
    let mut names = Vec::new();
    for path in listed(folder).map_err(Error::io(action, folder))? {
        let path = path.map_err(Error::io(action, folder))?;
        let is_map = path.extension().is_some_and(|e| e == "pfm");
        let hidden = |stem: &&str| stem.starts_with('.');
        if let (true, Some(stem)) = (is_map, path.file_stem().and_then(|s| s.to_str())) {
            names.extend((!hidden(&stem)).then(|| stem.to_owned()));
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(Error::input(folder.display().to_string(), "no .pfm file", "maps NAME.pfm"));
    }
    Ok(names)
}

impl MapFiles {
    /// Reads the maps and lays them over each other.
    ///
    /// # Errors
    /// Files that cannot be read; sizes that do not fit.
    pub fn read(&self) -> Result<Overlaid> {
        let mut depth = pfm::read(&self.depth)?;
        let mut confidence = self.confidence.as_deref().map(pfm::read).transpose()?;
        if let (Some(map), Some(path)) = (&confidence, &self.confidence)
            && size(map) != size(&depth)
        {
            return Err(Error::input(
                path.display().to_string(),
                format!("a map of {} x {}", map.width, map.height),
                format!("the size of its depth map, {} x {}", depth.width, depth.height),
            ));
        }
        let invalid = match &mut confidence {
            Some(confidence) => take_out_invalid(&mut depth, confidence),
            None => Invalid::default(),
        };
        let truth = pfm::read(&self.truth)?;
        let fits = |fine: &Map, coarse: &Map| factor(size(fine), size(coarse));
        let named = |n: usize, which: &str| Some(format!("every {n}. pixel of {which}, from pixel 0 on"));
        if let Some(n) = fits(&truth, &depth) {
            let resampling = if n > 1 { named(n, "the truth") } else { None };
            return Ok(Overlaid { truth: every(&truth, n), depth, confidence, invalid, resampling });
        }
        if let Some(n) = fits(&depth, &truth) {
            let confidence = confidence.map(|map| every(&map, n));
            let resampling = named(n, "the map");
            return Ok(Overlaid { depth: every(&depth, n), confidence, truth, invalid, resampling });
        }
        Err(Error::input(
            self.truth.display().to_string(),
            format!("a truth of {} x {} for a map of {} x {}", truth.width, truth.height, depth.width, depth.height),
            "the same size, or one that keeps every n-th pixel of the other (ceil(W / n) x ceil(H / n)); resample the \
             truth by keeping pixels, not by averaging",
        ))
    }
}

fn size(map: &Map) -> (usize, usize) {
    (map.width, map.height)
}

/// The n for which the coarse map keeps every n-th pixel of the fine one; of several (of tiny maps) one that divides
/// both sides, else the smallest.
fn factor(fine: (usize, usize), coarse: (usize, usize)) -> Option<usize> {
    let most = fine.0.max(fine.1);
    let fits = |n: &usize| (fine.0.div_ceil(*n), fine.1.div_ceil(*n)) == coarse;
    let whole = |n: &usize| fine.0.is_multiple_of(*n) && fine.1.is_multiple_of(*n);
    let all = || (1..=most).filter(fits);
    all().find(whole).or_else(|| all().next())
}

/// Keeps every n-th pixel of every n-th row, from the first on.
fn every(map: &Map, n: usize) -> Map {
    let (width, height) = (map.width.div_ceil(n), map.height.div_ceil(n));
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Map { width, height, data: rows.map(|(x, y)| map.at(x * n, y * n)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarser_map_keeps_every_nth_pixel() {
        assert_eq!(factor((1600, 1200), (400, 300)), Some(4));
        assert_eq!(factor((1598, 1199), (400, 300)), Some(4));
        assert_eq!(factor((400, 300), (400, 300)), Some(1));
        assert_eq!(factor((1600, 1200), (400, 301)), None);
        assert_eq!(factor((400, 300), (1600, 1200)), None);
        // 3 and 4 both leave three pixels of nine.
        assert_eq!(factor((9, 9), (3, 3)), Some(3));
        let map = Map { width: 3, height: 3, data: (0..9).map(|v| v as f32).collect() };
        assert_eq!(every(&map, 2).data, [0.0, 2.0, 6.0, 8.0]);
    }
}
