//! A finding: what a check has found, how bad it is, and the words that all checks share.
//!
//! A *problem* makes results wrong or impossible, a *warning* makes them worse than they need be, a *note* is worth
//! knowing.

use serde::Serialize;
use serde_json::{Value, json};

use crate::host::progress::one_line;
use crate::scene::Scene;
use crate::scene::camera::DepthRange;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Results will be worse than they could be.
    Warning,
    /// Results will be wrong or missing.
    Problem,
}

impl Grade {
    /// The grade in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that a check has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `intrinsics`, `range`.
    pub check: &'static str,
    /// The finding's fixed name, for programs: `scaled-intrinsics`.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected; empty where all is well.
    pub expected: String,
    /// What to do; empty where nothing has to be done.
    pub advice: String,
    /// Names of the views that it is about; empty where it is about all.
    pub views: Vec<String>,
    /// The numbers behind it.
    pub numbers: Value,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, name: &'static str, found: impl Into<String>) -> Self {
        Self::new(Grade::Ok, check, name, found, "", "")
    }

    /// A finding about all views.
    pub fn new(
        grade: Grade,
        check: &'static str,
        name: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let [found, expected, advice] = [found.into(), expected.into(), advice.into()];
        Self { grade, check, name, found, expected, advice, views: Vec::new(), numbers: Value::Null }
    }

    /// With the views that it is about.
    pub fn of_views(mut self, views: Vec<String>) -> Self {
        self.views = views;
        self
    }

    /// With the numbers behind it.
    pub fn with(mut self, numbers: Value) -> Self {
        self.numbers = numbers;
        self
    }

    /// `warning  range: 3 of 7 views ...; expected ...; do ...`.
    pub fn line(&self) -> String {
        let mut line = format!("{:<8} {}: {}", self.grade.word(), self.check, self.found);
        for (before, part) in [("; expected ", &self.expected), ("; ", &self.advice)] {
            if !part.is_empty() {
                line += before;
                line += part;
            }
        }
        one_line(&line)
    }
}

/// Names for a message: all of a few, else the first.
pub(crate) fn names(views: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = if views.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", views[..views.len().min(SHOWN)].join(", "))
}

/// The name of a view.
pub(crate) fn name_of(scene: &Scene, view: usize) -> String {
    scene.views[view].name.clone()
}

/// A share for a message: `12 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Views by what they have in common, for a finding about several.
pub(crate) fn counted_views(views: &[String], all: usize) -> String {
    match views {
        [one] => format!("view {one}"),
        _ if views.len() == all => format!("all {all} views"),
        _ => format!("{} of {all} views ({})", views.len(), names(views)),
    }
}

/// A length in scene units, whatever they are, to four digits.
pub(crate) fn units(value: f64) -> String {
    let digits = 3 - value.abs().max(1e-12).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 12) as usize)
}

/// A range in scene units.
pub(crate) fn range_text(range: DepthRange) -> String {
    format!("{} to {}", units(range.near), units(range.far))
}

/// A range as numbers.
pub(crate) fn range_json(range: DepthRange) -> Value {
    json!([range.near, range.far])
}
