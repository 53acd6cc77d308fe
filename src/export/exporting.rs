//! `engine export`: a finished run into the files of other programs.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result, counted};
use crate::export::cloud::Cloud;
use crate::export::job::Job;
use crate::export::options::ExportOptions;
use crate::export::results::Results;
use crate::export::table::{Format, Use, named};
use crate::files::folder::{Claim, FolderKind, Found, OutputFolder, remove, remove_empty_folder_of, write_json};
use crate::files::names::{from_json, in_json};
use crate::files::{hash, input};
use crate::host::progress::Progress;
use crate::manifest::{MANIFEST, takes_too_much};

/// What lists the exports in a folder.
const LIST: &str = "export.json";

/// Folders with exports.
const EXPORTS: FolderKind = FolderKind {
    mark: ".engine-export.json",
    called: "folder of exports",
    foreign: (
        "it is not empty and holds no exports of engine",
        "an empty or new folder (-o FOLDER), or --force to write into this one",
    ),
    list: "use this as the folder of exports",
    create: "create the folder of exports",
    write: "write into the folder of exports",
    own: |_| false,
    own_left: "",
};

/// The content of [`LIST`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct List {
    program: String,
    version: String,
    /// The run's folder.
    run: String,
    /// By format: what was written from which state of the run.
    formats: std::collections::BTreeMap<String, Exported>,
}

/// One format of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Exported {
    /// SHA-256 of the run's manifest.
    manifest_sha256: String,
    /// How it was asked for.
    options: Fields<String, Value>,
    /// What was assumed or must be known.
    notes: Vec<String>,
    /// Relative to the folder.
    files: Vec<String>,
}

/// Exports the run in `folder` to the formats that the options name, one after the other. What is finished stays if a
/// later one fails.
///
/// # Errors
/// A folder that is not that of a finished run, a cloud or maps that cannot be read, files that cannot be written,
/// [`Error::Interrupted`].
pub fn export(folder: &Path, options: &ExportOptions, progress: &Progress) -> Result<()> {
    let results = Results::open_idle(folder)?;
    let formats: Vec<&Format> = options.to.iter().filter_map(|name| named(name)).collect();
    let (cloud, of_cloud) = match formats.iter().any(|format| format.cloud != Use::Unused) {
        true => Cloud::open(&results, options)?.map_or((None, Vec::new()), |(cloud, notes)| (Some(cloud), notes)),
        false => (None, Vec::new()),
    };
    let out = options.output.out.clone().unwrap_or_else(|| folder.join("export"));
    let mut claimed = claim(&EXPORTS, folder, &out, options.output.force)?;
    progress.event(
        "start",
        json!({ "command": "export", "version": env!("CARGO_PKG_VERSION"), "run": in_json(folder),
                "out": in_json(&out), "formats": options.to }),
    );
    let job = Job::new(&results, cloud.as_ref(), options, (&out, progress));
    of_cloud.into_iter().for_each(|note| job.note(note));
    if formats.iter().any(|format| format.cloud == Use::Needed) {
        job.cloud()?;
    }
    claimed.claim()?;
    claimed.note().into_iter().for_each(|note| job.note(note));

    let manifest_sha256 = hash::of_file(&folder.join(MANIFEST))?;
    let mut list = read_list(&out, folder);
    let old = list.formats.iter().filter(|(_, e)| e.manifest_sha256 != manifest_sha256).map(|(name, _)| name.as_str());
    let old: Vec<&str> = old.filter(|name| !options.to.contains(name)).collect();
    if !old.is_empty() {
        job.note(format!(
            "{} in {} was exported from an earlier state of the run, which has since run again",
            old.join(", "),
            out.display()
        ));
    }
    let (mut files, (_, of_all)) = (0, job.take());
    for format in formats {
        (format.write)(&job)?;
        let (written, of_format) = job.take();
        let before = list.formats.remove(format.name).unwrap_or_default();
        remove_old(&out, &before.files, &written)?;
        files += written.len();
        let exported = Exported {
            manifest_sha256: manifest_sha256.clone(),
            options: said(options),
            notes: of_all.iter().cloned().chain(of_format).collect(),
            files: written,
        };
        list.formats.insert(format.name.to_owned(), exported);
        // After each, so that it tells what is there if the next one fails.
        write_json(&out.join(LIST), "write the list of exports", &list)?;
    }
    let text = format!("exported {} into {}", counted(files, "file"), out.display());
    progress.summary(&text, json!({ "out": in_json(&out), "files": files, "notes": job.told() }));
    Ok(())
}

/// A folder of some kind for what is made of the run in `folder`.
///
/// # Errors
/// A folder that holds anything else, unless forced.
pub fn claim(kind: &'static FolderKind, folder: &Path, out: &Path, force: bool) -> Result<OutputFolder> {
    let (mark, judge) = mark_of(kind, folder, out)?;
    OutputFolder::new(Claim { path: out, force, kind }, mark, judge)
}

/// What a folder's mark says of it.
pub type Judge = Box<dyn FnOnce(&[u8]) -> Result<Found>>;

/// The mark of such a folder, and what another mark says.
///
/// # Errors
/// A run's folder that is not there.
pub fn mark_of(kind: &'static FolderKind, folder: &Path, out: &Path) -> Result<(Value, Judge)> {
    let run = dunce::canonicalize(folder).map_err(Error::io("open the results", folder))?;
    let mark = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "exports_of": in_json(&run) });
    let place = format!("{} {}", kind.called, out.display());
    let judge = move |mark: &[u8]| {
        let found: Value = serde_json::from_slice(mark).unwrap_or_default();
        match found["exports_of"].as_str() {
            None => Ok(Found::Foreign),
            Some(same) if from_json(same) == run => Ok(Found::Same),
            Some(other) => Err(Error::input(
                place,
                format!("it holds the exports of another run, {}", from_json(other).display()),
                "an empty or new folder (-o FOLDER), or --force to replace them",
            )),
        }
    };
    Ok((mark, Box::new(judge)))
}

/// The list of earlier exports; an empty one where it cannot be read: it only serves to take old files away.
fn read_list(out: &Path, folder: &Path) -> List {
    let before = input::read(&out.join(LIST), "read the list of exports").ok();
    let before = before.filter(|bytes| !takes_too_much(bytes));
    let before: Option<List> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let run = in_json(&dunce::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()));
    let formats = before.filter(|list| list.run == run).map(|list| list.formats).unwrap_or_default();
    List { program: "engine".into(), version: env!("CARGO_PKG_VERSION").into(), run, formats }
}

/// Removes what an earlier export of the same format has left and this one has not written.
fn remove_old(out: &Path, before: &[String], now: &[String]) -> Result<()> {
    let now: std::collections::HashSet<&String> = now.iter().collect();
    for file in before.iter().filter(|file| !now.contains(file)) {
        // A list that somebody has changed leads to no file outside.
        if Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
            let path = out.join(file);
            remove(&path, "remove the file of an earlier export")?;
            remove_empty_folder_of(&path);
        }
    }
    Ok(())
}

/// Options that change what is written.
fn said(options: &ExportOptions) -> Fields<String, Value> {
    let fields = json!({
        "crs": options.crs.map(|crs| crs.to_string()),
        "ply_names": format!("{:?}", options.ply_names).to_lowercase(),
        "filtered_depth": options.filtered_depth,
        "outliers": options.outliers,
        "spacing": options.spacing,
        "max_points": options.max_points,
        "photos": options.photos.extension(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}
