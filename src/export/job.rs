//! What every format is given: the run, its cloud, the options, and a place to write to.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::export::cloud::Cloud;
use crate::export::options::ExportOptions;
use crate::export::results::Results;
use crate::files::atomic::write_whole;
use crate::files::folder::write_file;
use crate::host::interrupt;
use crate::host::progress::Progress;

/// One export of one run.
pub struct Job<'a> {
    /// What is exported.
    pub results: &'a Results,
    /// The cloud, where the run has one.
    pub cloud: Option<&'a Cloud>,
    /// As it was told.
    pub options: &'a ExportOptions,
    /// Where it reports.
    pub progress: &'a Progress,
    out: &'a Path,
    written: RefCell<Vec<String>>,
    /// Told so far.
    told: RefCell<Vec<String>>,
    /// Said since [`Job::take`] was asked last.
    notes: RefCell<Vec<String>>,
}

/// The file that the `fill` of [`Job::write`] writes into.
pub type Out<'a, 'b> = &'a mut BufWriter<&'b mut File>;

impl<'a> Job<'a> {
    /// Into the folder `out`, which is claimed.
    pub fn new(
        results: &'a Results,
        cloud: Option<&'a Cloud>,
        options: &'a ExportOptions,
        (out, progress): (&'a Path, &'a Progress),
    ) -> Self {
        let (written, told, notes) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { results, cloud, options, progress, out, written, told, notes }
    }

    /// The folder that it writes into.
    pub fn out(&self) -> &'a Path {
        self.out
    }

    /// The cloud, for formats that are of it.
    ///
    /// # Errors
    /// A run without one.
    pub fn cloud(&self) -> Result<&'a Cloud> {
        self.cloud.ok_or_else(|| {
            Error::input(
                self.results.folder().display().to_string(),
                "a run without a cloud (--depth-only)",
                "a run with fused.ply, or formats of maps only (`engine export --help` lists them)",
            )
        })
    }

    /// Writes the file of this name (slashes between folders), whole or not at all.
    ///
    /// # Errors
    /// What `fill` says; [`Error::Io`] where the file cannot be written.
    pub fn write(&self, name: &str, fill: impl FnOnce(Out) -> Result<()>) -> Result<()> {
        interrupt::check()?;
        let mut problem = None;
        let written = write_file(&self.out.join(name), |path| {
            write_whole(path, "write the export", |file| {
                fill(file).map_err(|error| {
                    let told = io::Error::other(error.to_string());
                    match error {
                        Error::Io { action: WRITING, source, .. } => source,
                        other => {
                            problem = Some(other);
                            told
                        }
                    }
                })
            })
        });
        match problem {
            Some(problem) => return Err(problem),
            None => written?,
        }
        self.written.borrow_mut().push(name.to_owned());
        Ok(())
    }

    /// Something that was assumed or that a reader must know; told once however often it is said.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let (mut told, mut notes) = (self.told.borrow_mut(), self.notes.borrow_mut());
        if !told.contains(&text) {
            self.progress.note(&text);
            told.push(text.clone());
        }
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// Does something for each view, and tells how far it is.
    ///
    /// # Errors
    /// What `work` says; [`Error::Interrupted`].
    pub fn each_view(&self, stage: &'static str, mut work: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let views = &self.results.views;
        let mut stage = self.progress.stage(stage, views.len(), views.len() as u64);
        for (at, view) in views.iter().enumerate() {
            interrupt::check()?;
            work(at)?;
            stage.step(&view.name, 1, json!({ "view": view.name }));
        }
        Ok(())
    }

    /// Files that were written and notes that were said since this was asked last.
    pub fn take(&self) -> (Vec<String>, Vec<String>) {
        (self.written.take(), self.notes.take())
    }

    /// All notes so far.
    pub fn told(&self) -> Vec<String> {
        self.told.borrow().clone()
    }
}

/// The action by which an error of the file itself is told from one of what is read meanwhile.
const WRITING: &str = "write into the export";

/// Makes an error of what the system says while a file of the export is being written.
pub fn put(written: io::Result<()>) -> Result<()> {
    written.map_err(Error::io(WRITING, Path::new("")))
}
