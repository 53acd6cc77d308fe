//! Source views that a scene's folder lists beside cameras of any format: `pair.txt` as in the MVSNet layout, or
//! `patch-match.cfg` of COLMAP's dense workspace.
//!
//! `patch-match.cfg` has two lines for each photo: its name, and the names of its source photos with commas between,
//! or `__all__`, or `__auto__, N` for N that COLMAP selects. Empty lines and those that begin with `#` say nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::counted;
use crate::files::input;
use crate::scene::mvsnet::{NO_PAIRS, camera_folder, read_pairs};
use crate::scene::{Layout, Scene, SourceView, View};
use crate::{Error, Result};

impl Scene {
    /// Takes the source views that are listed beside the cameras, if any, with a note: those of `pair.txt` before those
    /// of `patch-match.cfg` before those that the file of cameras has itself.
    ///
    /// # Errors
    /// A list that cannot be read or does not hold what it should; the message names the line.
    pub(super) fn take_listed_sources(&mut self) -> Result<()> {
        // In the MVSNet layout pair.txt is part of the scene. Beside its cameras it is not that of others.
        let pairs = self.root.join("pair.txt");
        if self.layout != Layout::MvsNet && camera_folder(&self.root).is_none() && pairs.is_file() {
            return self.take_pairs(&pairs);
        }
        let listed = self.views.iter().filter(|view| !view.sources.is_empty()).count();
        if self.layout == Layout::MvsNet && listed > 0 {
            return Ok(());
        }
        if let Some(list) =
            workspaces(&self.root).iter().map(|at| at.join("stereo/patch-match.cfg")).find(|p| p.is_file())
            && self.take_patch_match(&list)?
        {
            return Ok(());
        }
        if listed > 0 {
            let (all, what) = (self.views.len(), self.layout.names().1);
            self.notes.push(format!("source views of {listed} of {all} views are those that {what} lists"));
        }
        Ok(())
    }

    /// The numbers in it are the views' own, or else their places in the order of these, from 0 on.
    fn take_pairs(&mut self, file: &Path) -> Result<()> {
        let own: Vec<u32> = self.views.iter().map(|view| view.id).collect();
        let places: Vec<u32> = (0..self.views.len() as u32).collect();
        let mut notes = Vec::new();
        let mut read = |numbers: &[u32]| {
            let index = numbers.iter().enumerate().map(|(i, &number)| (number, i)).collect();
            let known = numbers.iter().zip(&self.views).map(|(&number, view)| (number, view.image.clone())).collect();
            let mut of_these = Vec::new();
            let sources = read_pairs(file, &known, &index, &mut of_these)?;
            notes = of_these;
            Ok::<_, Error>(sources)
        };
        let (sources, numbers) = match read(&own) {
            Ok(sources) => (sources, "the cameras' own"),
            // Programs that convert models count from 0.
            Err(error) => match read(&places) {
                Ok(sources) if own != places => (sources, "their places among the cameras, from 0 on"),
                _ => return Err(error),
            },
        };
        let listed = sources.iter().filter(|sources| !sources.is_empty()).count();
        notes.push(format!(
            "source views of {listed} of {} views are those of {}; numbers of views are {numbers}",
            self.views.len(),
            file.display()
        ));
        for (view, sources) in self.views.iter_mut().zip(sources) {
            view.sources = sources;
        }
        self.notes.append(&mut notes);
        Ok(())
    }

    /// Whether the list is of photos of this scene.
    fn take_patch_match(&mut self, file: &Path) -> Result<bool> {
        let entries = read_patch_match(file)?;
        let names = Names::new(&self.views);
        let (mut named, mut selected, mut unknown) = (0, 0, Vec::new());
        let mut of_views: BTreeMap<usize, Vec<SourceView>> = BTreeMap::new();
        for Entry { photo, sources } in &entries {
            let Some(view) = names.view(photo) else {
                unknown.push(photo);
                continue;
            };
            let Sources::Named(photos) = sources else {
                selected += 1;
                of_views.insert(view, Vec::new());
                continue;
            };
            named += 1;
            let mut known = HashSet::from([view]);
            let mut found = Vec::with_capacity(photos.len());
            for (i, photo) in photos.iter().enumerate() {
                match names.view(photo) {
                    // The order is all that there is.
                    Some(view) if known.insert(view) => {
                        found.push(SourceView { view, score: (photos.len() - i) as f64 });
                    }
                    Some(_) => {}
                    None => unknown.push(photo),
                }
            }
            of_views.insert(view, found);
        }
        let place = file.display();
        if of_views.is_empty() {
            self.notes.push(format!("{place} names no photo of the scene and is not used"));
            return Ok(false);
        }
        if named > 0 {
            self.notes.push(format!("source views of {named} of {} views are those of {place}", self.views.len()));
        }
        if selected > 0 {
            self.notes.push(format!(
                "{place} leaves the source views of {} to be selected (`__auto__` or `__all__`)",
                counted(selected, "view")
            ));
        }
        if let Some(first) = unknown.first() {
            let names = counted(unknown.len(), "name");
            self.notes.push(format!("{names} in {place} that are of no photo of the scene (first: {first})"));
        }
        for (view, sources) in of_views {
            self.views[view].sources = sources;
        }
        if named > 0 {
            self.notes.retain(|note| note != NO_PAIRS);
        }
        Ok(true)
    }
}

/// Where COLMAP's folder `stereo` may lie: in the scene's folder or its `dense`, or, where that is a model's folder,
/// beside `sparse`.
fn workspaces(root: &Path) -> Vec<PathBuf> {
    let whole = dunce::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let around = whole
        .ancestors()
        .take(3)
        .skip(1)
        .find(|folder| whole.strip_prefix(folder).is_ok_and(|below| below.starts_with("sparse")));
    let inside = ["", "dense", "dense/0"].map(|below| root.join(below));
    inside.into_iter().chain(around.map(Path::to_owned)).collect()
}

/// Views by the names of their photos.
struct Names<'a> {
    views: &'a [View],
    by_file: HashMap<&'a std::ffi::OsStr, Vec<usize>>,
}

impl<'a> Names<'a> {
    fn new(views: &'a [View]) -> Self {
        let mut by_file: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, view) in views.iter().enumerate() {
            by_file.entry(view.image.file_name().unwrap_or_default()).or_default().push(i);
        }
        Self { views, by_file }
    }

    /// The view whose photo's path ends so; `None` where there is none or several.
    fn view(&self, name: &str) -> Option<usize> {
        let name = Path::new(name);
        let candidates = self.by_file.get(name.file_name()?)?;
        let mut fitting = candidates.iter().filter(|&&i| self.views[i].image.ends_with(name));
        fitting.next().copied().filter(|_| fitting.next().is_none())
    }
}

/// Two lines of `patch-match.cfg`.
#[derive(Debug, PartialEq)]
struct Entry {
    photo: String,
    sources: Sources,
}

#[derive(Debug, PartialEq)]
enum Sources {
    /// `__auto__, N` or `__all__`: which are best is for the reader to say.
    Selected,
    Named(Vec<String>),
}

fn read_patch_match(file: &Path) -> Result<Vec<Entry>> {
    let text = input::read_text(file, "read the list of source photos")?;
    let said = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let mut said = said.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut entries = Vec::new();
    while let Some((line, photo)) = said.next() {
        let expected = "a line with the names of its source photos, `__all__`, or `__auto__, N`";
        let Some((next, sources)) = said.next() else {
            let place = format!("{}: line {line}", file.display());
            return Err(Error::input(place, format!("the file ends after {photo}"), expected));
        };
        let words: Vec<&str> = sources.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let sources = match words[..] {
            ["__all__"] => Sources::Selected,
            ["__auto__", count] if count.parse::<i64>().is_ok() => Sources::Selected,
            [] | ["__auto__" | "__all__", ..] => {
                let place = format!("{}: line {next}", file.display());
                return Err(Error::input(place, format!("`{sources}`"), expected));
            }
            _ => Sources::Named(words.into_iter().map(str::to_owned).collect()),
        };
        entries.push(Entry { photo: photo.to_owned(), sources });
    }
    Ok(entries)
}
