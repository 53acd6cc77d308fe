//! Depth ranges in a list, as text: lines with a view's name, its nearest and its farthest depth, parted by blanks or
//! commas; lines that begin with `#` say nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::error::counted;
use crate::files::{input, names};
use crate::scene::Scene;
use crate::scene::camera::DepthRange;
use crate::{Error, Result};

const EXPECTED: &str = "NAME NEAR FAR, the name of a view or photo and 0 < NEAR < FAR";

impl Scene {
    /// Gives the views that the list names, by their own names or those of their photos, its ranges. The others keep
    /// what they have, with a note.
    ///
    /// # Errors
    /// A list that cannot be read or does not hold what it should, and one that names no view.
    pub(super) fn take_listed_ranges(&mut self, file: &Path) -> Result<()> {
        let text = input::read_text(file, "read the depth ranges")?;
        let mut listed: HashMap<String, (DepthRange, usize)> = HashMap::new();
        for (i, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |found: String| Error::input(format!("{}: line {i}", file.display()), found, EXPECTED);
            let (name, range) = entry(line).ok_or_else(|| refuse(format!("`{line}`")))?;
            if let Some((_, first)) = listed.insert(name.to_owned(), (range, i)) {
                return Err(refuse(format!("{name} for the second time, after line {first}")));
            }
        }
        let (all, mut found, mut without) = (self.views.len(), 0, Vec::new());
        let mut used = HashSet::new();
        for view in &mut self.views {
            let photo = names::readable(view.image.file_name().unwrap_or_default());
            // Faces of a photo have its range, if they have none of their own.
            match listed.get_key_value(&view.name).or_else(|| listed.get_key_value(&photo)) {
                Some((name, (range, _))) => {
                    view.range = Some(*range);
                    used.insert(name.clone());
                    found += 1;
                }
                None => without.push(&view.name),
            }
        }
        if found == 0 {
            let found = format!("{}, none of them of a view", counted(listed.len(), "range"));
            return Err(Error::input(file.display().to_string(), found, EXPECTED));
        }
        let mut note = format!("depth ranges of {found} of {all} views from {}", file.display());
        if let Some(first) = without.first() {
            note += &format!("; it does not name the others (first: {first})");
        }
        let mut unknown: Vec<(&usize, &String)> =
            listed.iter().filter(|(name, _)| !used.contains(*name)).map(|(name, (_, line))| (line, name)).collect();
        unknown.sort();
        if let Some((_, first)) = unknown.first() {
            note += &format!("; {} there of no view (first: {first})", counted(unknown.len(), "name"));
        }
        self.notes.push(note);
        Ok(())
    }
}

/// A name, which may have blanks in it, and a range.
fn entry(line: &str) -> Option<(&str, DepthRange)> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let mut rest = line;
    let mut last_number = || {
        let (before, word) = rest.trim_end_matches(is_between).rsplit_once(is_between)?;
        rest = before;
        word.parse::<f64>().ok().filter(|v| v.is_finite())
    };
    let (far, near) = (last_number()?, last_number()?);
    let name = rest.trim_end_matches(is_between);
    (0.0 < near && near < far && !name.is_empty()).then_some((name, DepthRange { near, far }))
}
