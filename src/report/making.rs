//! `engine report`: reads a finished run and writes its page.

use std::path::Path;

use serde_json::json;

use crate::doctor::finding::Finding;
use crate::error::{Error, Result};
use crate::export::results::Results;
use crate::files::atomic::write_whole;
use crate::files::folder::write_file;
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::memory::readable;
use crate::host::progress::Progress;
use crate::report::data::{self, Data, ViewData};
use crate::report::options::ReportOptions;
use crate::report::pack::letters;
use crate::report::page::{self, Bytes, Known, Page};
use crate::report::reading::{self, Notes};
use crate::report::{charts, findings, views};
use crate::run::products::{CLOUD, REPORT, is_report};

/// Bytes of text a point: what it takes at most where nothing can be packed, in base64, and once more as the page.
const TEXT_A_POINT: u64 = 40;

/// Writes the page of the run in `folder`.
///
/// # Errors
/// A folder that is not that of a finished run, a cloud, maps or photos that cannot be read, a file that is somebody
/// else's or cannot be written, [`Error::Memory`], [`Error::Interrupted`].
pub fn report(folder: &Path, options: &ReportOptions, progress: &Progress) -> Result<()> {
    let results = Results::open_idle(folder)?;
    let file = options.file.clone().unwrap_or_else(|| folder.join(REPORT));
    if file.exists() && !options.force && !is_report(&file) {
        return Err(Error::input(
            file.display().to_string(),
            "a file that `engine report` has not written",
            "another name (-o FILE), or --force to write over it",
        ));
    }
    progress.event(
        "start",
        json!({ "command": "report", "version": env!("CARGO_PKG_VERSION"), "run": in_json(folder),
                "file": in_json(&file) }),
    );
    let mut notes = Notes::new(progress);
    let cloud = reading::cloud(&results, options.max_points, TEXT_A_POINT, &mut notes)?;
    let (packed, parts) = match &cloud {
        Some(cloud) => data::pack(cloud, data::up(&results)).map(|(data, parts)| (Some(data), parts))?,
        None => (None, Vec::new()),
    };
    let charts = match &cloud {
        Some(cloud) if !cloud.points.is_empty() => Some(charts::of_points(&cloud.points)?),
        _ => None,
    };
    drop(cloud);
    let (views, pictures) = all_views(&results, options, &mut notes)?;
    let findings = ask_doctor(&results, options, &mut notes)?;
    let data = Data { cloud: packed, views, palettes: data::palettes() };
    say_what_was_reduced(&data, &mut notes);
    let page = Page {
        title: page::title(&results.manifest),
        manifest: Some(&results.manifest),
        data: &data,
        known: Known::All,
        bytes: Bytes::InPage { parts: &parts, pictures: &pictures },
        charts,
        findings: findings.as_deref(),
        notes: &notes.said,
    };
    let html = page.html();
    interrupt::check()?;
    write_file(&file, |path| {
        write_whole(path, "write the report", |out| std::io::Write::write_all(out, html.as_bytes()))
    })?;
    let text = format!("wrote {} ({})", file.display(), readable(html.len() as u64));
    progress.summary(&text, json!({ "file": in_json(&file), "bytes": html.len(), "notes": notes.said }));
    Ok(())
}

/// Photo and maps in base64.
type Pictures = Vec<(Option<String>, String)>;

/// Pictures of all views.
fn all_views(results: &Results, options: &ReportOptions, notes: &mut Notes) -> Result<(Vec<ViewData>, Pictures)> {
    let photos = reading::photos(results, options.scene.as_deref(), notes)?;
    let mut stage = notes.progress.stage("views", results.views.len(), results.views.len() as u64);
    let (mut views, mut pictures) = (Vec::new(), Vec::new());
    for (at, view) in results.views.iter().enumerate() {
        interrupt::check()?;
        let maps = results.maps(at)?;
        let photo = match &photos {
            Some(photos) => Some(photos.load(results, at)?.0),
            None => None,
        };
        let size = views::size_of(view.size, results.views.len(), options.picture_side);
        let picture = views::picture(&maps.depth, &maps.confidence, photo, size)?;
        views.push(ViewData::new(view, &picture));
        pictures.push((picture.photo.map(|photo| letters(&photo)), letters(&picture.maps)));
        stage.step(&view.name, 1, json!({ "view": view.name }));
    }
    Ok((views, pictures))
}

/// What the doctor has found, where it is asked and the scene is there.
fn ask_doctor(results: &Results, options: &ReportOptions, notes: &mut Notes) -> Result<Option<Vec<Finding>>> {
    let scene = reading::scene_of(results, options.scene.as_deref());
    if !options.doctor || !scene.exists() {
        notes.keep("the doctor was not asked".into());
        return Ok(None);
    }
    if !options.match_photos {
        notes.keep(
            "the doctor has not matched the photos (`engine doctor` does, and `engine report --match-photos`)".into(),
        );
    }
    findings::findings(&results.manifest, &scene, options.match_photos).map(Some)
}

/// What the page has less of than the run.
fn say_what_was_reduced(data: &Data, notes: &mut Notes) {
    if let Some(cloud) = &data.cloud {
        notes.keep(reading::grid_note(cloud, CLOUD));
    }
    let reduced = data.views.iter().filter(|view| view.size != view.map_size).count();
    if reduced > 0 {
        let (width, height) = data.views.first().map_or((0, 0), |view| view.size);
        notes.keep(format!(
            "pictures of {reduced} of {} views are smaller than their maps ({width} x {height} in the first): photos \
             are area means, maps the pixel in the middle of each area (--picture-side)",
            data.views.len()
        ));
    }
    notes.keep(format!(
        "depth in pictures is known to {} % of itself, confidence to 0.2 %",
        50.0 * data.views.iter().map(|view| view.depth[1]).fold(views::STEP, f64::max)
    ));
}
