//! `OUT/plan.json`: what is to be made, divided into shards.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value};

use crate::error::{Error, Result};
use crate::files::atomic::write_new;
use crate::files::{folder, input, names};
use crate::shards::which::Shard;

/// The file's name in the folder of the results.
pub const PLAN: &str = "plan.json";

/// The number of the file's schema; it grows when a field's meaning changes.
const SCHEMA: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Always `engine`.
    pub program: String,
    /// The number of the file's schema.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// A hash of all that the maps depend on but the photos' bytes, and of how the views are divided. Processes with
    /// different plans never work together.
    pub id: String,
    /// The scene's folder or file, where the plan was made.
    #[serde(with = "names")]
    pub scene: PathBuf,
    /// Options of `engine infer` that were given, by their long names, with their values.
    pub options: Vec<(String, String)>,
    /// What all maps depend on beside the photos: weights and options.
    pub job: Fields<String, Value>,
    /// A hash of what each view's maps depend on beside: cameras, ranges, sources, of all views together.
    pub views_sha256: String,
    /// The seconds that a view takes where the plan was made.
    pub pace: PaceSummary,
    /// The views, each beside those that it shares photos with.
    pub views: Vec<PlannedView>,
    /// The shards; each takes the next views.
    pub shards: Vec<PlannedShard>,
}

/// How fast the machine is that the plan was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaceSummary {
    /// `cpu`, or the GPU's name.
    pub device: String,
    /// Threads that worked.
    pub threads: usize,
    /// Seconds that the network takes for a view of the mean size, all levels.
    pub seconds_a_view: f64,
}

/// A view of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedView {
    /// The name of its maps.
    pub name: String,
    /// What its maps cost, in no unit.
    pub cost: u64,
}

/// A shard of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedShard {
    /// Views, from where the shard before ends.
    pub views: usize,
    /// Photos that it reads: of its views and their sources.
    pub photos: usize,
    /// Bytes of these photos' files.
    pub photo_bytes: u64,
    /// Seconds that it takes where the plan was made.
    pub seconds: f64,
    /// Bytes of memory that it needs at least.
    pub memory: u64,
    /// Bytes that it writes.
    pub disk: u64,
}

impl PlanFile {
    /// The fields that are the same in all files of this version.
    pub fn schema() -> (String, u32, String) {
        ("engine".into(), SCHEMA, env!("CARGO_PKG_VERSION").into())
    }

    /// Reads `plan.json` in a folder; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not a plan that this version can go on with.
    pub fn read(out: &Path) -> Result<Option<Self>> {
        let file = out.join(PLAN);
        if !file.exists() {
            return Ok(None);
        }
        let bytes = input::read(&file, "read the plan")?;
        let bad = |problem: String| {
            let expected = "a plan of this program and version; make a new one (engine plan SCENE -o OUT --shards N)";
            Error::input(file.display().to_string(), problem, expected)
        };
        let plan: Self = serde_json::from_slice(&bytes).map_err(|e| bad(format!("not a plan ({e})")))?;
        let (program, schema, version) = Self::schema();
        if plan.program != program || plan.schema != schema {
            return Err(bad(format!("a plan of schema {} by `{}`", plan.schema, plan.program)));
        }
        if plan.version != version {
            return Err(bad(format!("a plan of version {}, read by {version}", plan.version)));
        }
        let views: usize = plan.shards.iter().map(|shard| shard.views).sum();
        if views != plan.views.len() {
            return Err(bad(format!("{views} views in its shards, and {} in its list", plan.views.len())));
        }
        Ok(Some(plan))
    }

    /// The plan in a folder.
    ///
    /// # Errors
    /// As [`Self::read`]; where there is none.
    pub fn expect(out: &Path) -> Result<Self> {
        Self::read(out)?.ok_or_else(|| {
            let expected = "a folder that `engine plan SCENE -o OUT --shards N` has made a plan in";
            Error::input(out.display().to_string(), format!("no {PLAN}"), expected)
        })
    }

    /// Writes it in the place of another one.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        folder::write_json(&out.join(PLAN), "write the plan", self)
    }

    /// Writes it unless another process was faster; gives the one that is there then.
    ///
    /// # Errors
    /// The system's reason where it cannot be written; as [`Self::read`].
    pub fn write_first(&self, out: &Path) -> Result<Self> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_new(&out.join(PLAN), "write the plan", &text)?;
        Self::expect(out)
    }

    /// Whether the plan in a folder is this one, as far as it can be read.
    pub fn is_in(&self, out: &Path) -> bool {
        Self::read(out).map_or(true, |there| there.is_some_and(|there| there.id == self.id))
    }

    /// The places in [`Self::views`] of each shard's views, in the order of the shards.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.shards.iter().scan(0, |end, shard| {
            let first = *end;
            *end += shard.views;
            Some(first..*end)
        })
    }

    /// The places in [`Self::views`] of a shard's views.
    pub fn range(&self, shard: Shard) -> Range<usize> {
        let before = |count: usize| self.shards[..count].iter().map(|shard| shard.views).sum::<usize>();
        before(shard.number - 1)..before(shard.number)
    }

    /// The names of a shard's views.
    pub fn names(&self, shard: Shard) -> impl Iterator<Item = &str> {
        self.views[self.range(shard)].iter().map(|view| view.name.as_str())
    }

    /// The shard of the view at a place.
    pub fn shard_of(&self, view: usize) -> Shard {
        let mut end = 0;
        let ends_after = |shard: &PlannedShard| {
            end += shard.views;
            view < end
        };
        let number = self.shards.iter().position(ends_after).map_or(self.shards.len(), |at| at + 1);
        Shard { number, of: self.shards.len() }
    }
}

/// Divides items of these costs into runs whose costs are as equal as whole items allow; gives the numbers of items.
pub fn divided(costs: &[u64], parts: usize) -> Vec<usize> {
    let total: u128 = costs.iter().map(|&cost| u128::from(cost.max(1))).sum();
    let mut counts = vec![0; parts];
    let mut before = 0;
    for cost in costs.iter().map(|&cost| u128::from(cost.max(1))) {
        // An item belongs where its middle lies.
        let middle = 2 * before + cost;
        let part = middle * parts as u128 / (2 * total.max(1));
        if let Some(count) = counts.get_mut(usize::try_from(part).unwrap_or(parts).min(parts - 1)) {
            *count += 1;
        }
        before += cost;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_equal_and_in_order() {
        assert_eq!(divided(&[1; 7], 3), [2, 3, 2]);
        assert_eq!(divided(&[5; 4], 4), [1; 4]);
        assert_eq!(divided(&[], 2), [0, 0]);
        assert_eq!(divided(&[0, 0, 0, 0], 2), [2, 2]);
        assert_eq!(divided(&[100, 1, 1, 1, 1], 2), [1, 4]);
        assert_eq!(divided(&[1; 3], 7).iter().sum::<usize>(), 3);
        assert!(divided(&[u64::MAX; 5], 2).iter().sum::<usize>() == 5);
        // No part is larger than an equal share and one item.
        let costs: Vec<u64> = (0..1000).map(|i| 50 + (i * 7919) % 101).collect();
        for parts in [1, 2, 3, 8, 64, 999] {
            let (counts, total) = (divided(&costs, parts), costs.iter().sum::<u64>());
            assert_eq!(counts.iter().sum::<usize>(), costs.len());
            let mut rest = costs.as_slice();
            for count in counts {
                let (part, left) = rest.split_at(count);
                rest = left;
                assert!(part.iter().sum::<u64>() <= total / parts as u64 + 151, "{parts} parts");
            }
        }
    }
}
