//! `engine map`: a finished run into a surface model and an orthophoto.

use std::path::Path;

use glam::{DVec2, DVec3};
use serde::Serialize;
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result};
use crate::export::exporting::claim;
use crate::export::job::Job;
use crate::export::options::ExportOptions;
use crate::export::photos::Photos;
use crate::export::results::Results;
use crate::files::folder::{FolderKind, remove, write_json};
use crate::files::hash;
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::progress::{Progress, duration};
use crate::host::trace::Clock;
use crate::manifest::{MANIFEST, Rows, rows};
use crate::mesh::spool::Spool;
use crate::ortho::colours::{self, Surface};
use crate::ortho::frame::{Frame, Grid};
use crate::ortho::gaps::{Mended, mend};
use crate::ortho::heights::{Samples, hear};
use crate::ortho::options::MapOptions;
use crate::ortho::plan::Plan;
use crate::ortho::tiles::{Block, Tiles};
use crate::ortho::{geotiff, sight};

/// The surface model.
const MODEL: &str = "dsm.tif";
/// The orthophoto.
const PHOTO: &str = "ortho.tif";
/// What tells of them.
const REPORT: &str = "map.json";
/// How thick a level of the surface is, in the larger of a cell's and a pixel's side: what depths that views confirm
/// differ by.
const LEVEL_CELLS: f64 = 4.0;
/// Points beyond these shares of all, by more than so many times what lies between, are left out of a map whose bounds
/// nobody has said.
const USUAL: (f64, f64) = (0.002, 0.1);
/// More cells a side than this are a mistake.
const MOST_CELLS: f64 = 1e6;

/// Folders with maps.
const MAPS: FolderKind = FolderKind {
    mark: ".engine-map.json",
    called: "folder of the map",
    foreign: (
        "it is not empty and holds no map of engine",
        "an empty or new folder (-o FOLDER), or --force to write into this one",
    ),
    list: "use this as the folder of the map",
    create: "create the folder of the map",
    write: "write into the folder of the map",
    own: |_| false,
    own_left: "",
};

/// The content of [`REPORT`].
#[derive(Debug, Serialize)]
struct Report {
    program: &'static str,
    version: &'static str,
    /// The run's folder.
    run: String,
    /// SHA-256 of the run's manifest.
    manifest_sha256: String,
    /// How it was asked for.
    options: Fields<String, Value>,
    /// What was assumed or must be known.
    notes: Vec<String>,
    /// Side of a cell.
    gsd: f64,
    /// Columns and rows.
    size: (usize, usize),
    /// Left, lower, right and upper side.
    bounds: [f64; 4],
    /// From the scene's coordinates to the map's: a rotation, row by row, and what is added then.
    map_from_scene: (Rows, [f64; 3]),
    /// Cells with a height, among them those that were closed, and those without one.
    heights: u64,
    closed: u64,
    without_height: u64,
    /// Cells with a height that no photo shows.
    unseen: Option<u64>,
    /// Blocks that heights and colours were made in.
    blocks: (usize, usize),
    seconds: Fields<String, Value>,
    /// Relative to the folder.
    files: Vec<String>,
}

/// Maps the run in `folder`.
///
/// # Errors
/// A folder that is not that of a finished run, no direction that is up, maps or photos that cannot be read, files that
/// cannot be written, what does not fit into memory, [`Error::Nothing`] where there is no surface,
/// [`Error::Interrupted`].
pub fn map(folder: &Path, options: &MapOptions, progress: &Progress) -> Result<()> {
    let results = Results::open_idle(folder)?;
    let out = options.output.out.clone().unwrap_or_else(|| folder.join("map"));
    let mut claimed = claim(&MAPS, folder, &out, options.output.force)?;
    progress.event(
        "start",
        json!({ "command": "map", "version": env!("CARGO_PKG_VERSION"), "run": in_json(folder), "out": in_json(&out) }),
    );
    let export = ExportOptions { filtered_depth: true, scene: options.scene.clone(), ..ExportOptions::default() };
    let job = Job::new(&results, None, &export, (&out, progress));
    // Before any work: which way is up, a scene that is gone, and a run that does not fit.
    let (mut frame, told) = Frame::of(&results, options)?;
    job.note(told);
    frame.expect_from_above(&results)?.into_iter().for_each(|note| job.note(note));
    let photos = options.photo.then(|| Photos::open(&job)).transpose()?;
    let plan = Plan::new(&results, photos.as_ref().map_or(0, Photos::bytes), options.memory)?;
    claimed.claim()?;
    claimed.note().into_iter().for_each(|note| job.note(note));

    let mut clock = Clock::start();
    let mut spool = Spool::of_run(&job, &out)?;
    clock.lap("filter");
    let Some(footprint) = spool.footprint() else {
        return Err(Error::Nothing(format!(
            "{}: no surface: no pixel of any depth map is confirmed by other views; try the run again with a smaller \
             --min-confidence or --min-views",
            folder.display()
        )));
    };
    let grid = grid(&job, options, &spool, (&mut frame, footprint))?;
    let level = (LEVEL_CELLS * grid.gsd.max(footprint)) as f32;
    let blocks = plan.blocks_of_heights(&grid);
    let raw = heights(&job, &mut spool, (&grid, &frame), &blocks, level)?;
    clock.lap("heights");
    let size = (grid.width, grid.height);
    let mut model = Tiles::new(&out, size)?;
    let done = mend((&raw, &mut model), &blocks, (options.fill, level), |_| Ok(None))?;
    drop(raw);
    if done.there == 0 {
        return Err(Error::Nothing(format!(
            "{}: no surface within the bounds of the map; try others for --bounds",
            folder.display()
        )));
    }
    tell(&job, options, &grid, &done);
    clock.lap("fill");
    geotiff::write(&job, MODEL, &model, (&grid, options.crs))?;
    clock.lap("write");
    let (mut unseen, mut blocks) = (None, (blocks.len(), 0));
    match &photos {
        Some(photos) => {
            let parts = plan.blocks_of_colours(&grid);
            blocks.1 = parts.len();
            let photo = orthophoto(&job, photos, options, (&mut spool, &model), ((&grid, &frame), &parts))?;
            unseen = Some(done.there.saturating_sub(photo.1));
            clock.lap("colours");
            geotiff::write(&job, PHOTO, &photo.0, (&grid, options.crs))?;
            clock.lap("write photo");
        }
        // Of another map than this one.
        None => remove(&out.join(PHOTO), "remove the file of an earlier map")?,
    }
    if let Some(unseen @ 1..) = unseen {
        job.note(format!("{unseen} cells with a height are shown by no photo: they are transparent in {PHOTO}"));
    }
    if blocks.0.max(blocks.1) > 1 {
        job.note(format!(
            "heights in {} and colours in {} blocks, one after the other, so that they fit into memory",
            blocks.0, blocks.1
        ));
    }
    let (files, notes) = job.take();
    let lower = grid.place(0.0, grid.height as f64);
    let upper = grid.place(grid.width as f64, 0.0);
    let report = Report {
        program: "engine",
        version: env!("CARGO_PKG_VERSION"),
        run: in_json(&dunce::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())),
        manifest_sha256: hash::of_file(&folder.join(MANIFEST))?,
        options: said(options),
        notes,
        gsd: grid.gsd,
        size,
        bounds: [lower.x, lower.y, upper.x, upper.y],
        map_from_scene: (rows(frame.axes), frame.offset.to_array()),
        heights: done.there,
        closed: done.closed,
        without_height: size.0 as u64 * size.1 as u64 - done.there,
        unseen,
        blocks,
        seconds: clock.seconds(),
        files,
    };
    write_json(&out.join(REPORT), "write the report of the map", &report)?;
    let what = if photos.is_some() { "surface model and orthophoto" } else { "surface model" };
    let text = format!(
        "{what} of {} x {} cells of {} in {} into {}",
        size.0,
        size.1,
        grid.gsd,
        duration(clock.total()),
        out.display()
    );
    let mut fields = serde_json::to_value(&report).unwrap_or_default();
    fields["out"] = in_json(&out).into();
    progress.summary(&text, fields);
    Ok(())
}

/// The cells, by the options and what is seen. Heights that floats are too coarse for lose a whole number.
fn grid(job: &Job, options: &MapOptions, spool: &Spool, (frame, footprint): (&mut Frame, f64)) -> Result<Grid> {
    let gsd = options.gsd.unwrap_or_else(|| two_digits(footprint));
    if options.gsd.is_none() {
        job.note(format!(
            "cells of {gsd}, what a pixel of the maps covers on the ground (median, two digits); --gsd sets them"
        ));
    }
    let places: Vec<DVec3> = spool.points().map(|point| frame.axes * point + frame.offset).collect();
    let [x, y, z] = [0, 1, 2].map(|axis| {
        let mut values: Vec<f64> = places.iter().map(|place| place[axis]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    });
    let middle = z[z.len() / 2];
    let highest = z[0].abs().max(z[z.len() - 1].abs());
    if f64::from((highest as f32).next_up()) - f64::from(highest as f32) > gsd / 64.0 {
        frame.offset.z -= middle.round();
        job.note(format!(
            "heights are less {}: floats are too coarse for them with cells of {gsd}; map.json has the offset",
            middle.round()
        ));
    }
    let [left, lower, right, upper] = options.bounds.unwrap_or_else(|| {
        let (bounds, beyond) = usual(&x, &y);
        if beyond > 0.0 {
            job.note(format!(
                "{:.2} % of the surface left out: it lies far from the rest; --bounds says what is mapped",
                100.0 * beyond
            ));
        }
        bounds
    });
    let columns = ((left / gsd + 1e-9).floor(), (right / gsd - 1e-9).ceil());
    let rows = ((lower / gsd + 1e-9).floor(), (upper / gsd - 1e-9).ceil());
    let (width, height) = ((columns.1 - columns.0).max(1.0), (rows.1 - rows.0).max(1.0));
    if width.max(height) > MOST_CELLS {
        return Err(Error::input(
            if options.gsd.is_some() { "--gsd" } else { "the map" },
            format!("{width} x {height} cells of {gsd}"),
            format!("at most {MOST_CELLS} a side: a larger --gsd, or --bounds"),
        ));
    }
    let (width, height) = (width as usize, height as usize);
    Ok(Grid { gsd, column: columns.0 as i64, row: rows.1 as i64, width, height })
}

/// Two digits of a number.
fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// The bounds of sorted coordinates without what lies far from nearly all, and the share that is left out.
fn usual(x: &[f64], y: &[f64]) -> ([f64; 4], f64) {
    let of = |values: &[f64]| {
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        let (low, high) = (at(USUAL.0), at(1.0 - USUAL.0));
        let beyond = USUAL.1 * (high - low);
        let (low, high) = (values[0].max(low - beyond), values[values.len() - 1].min(high + beyond));
        let out = values.iter().filter(|v| **v < low || **v > high).count();
        (low, high, out as f64 / values.len() as f64)
    };
    let ((left, right, out_x), (lower, upper, out_y)) = (of(x), of(y));
    ([left, lower, right, upper], out_x.max(out_y))
}

/// What all views say of the heights.
fn heights(
    job: &Job,
    spool: &mut Spool,
    (grid, frame): (&Grid, &Frame),
    blocks: &[Block],
    level: f32,
) -> Result<Tiles<f32>> {
    let mut raw = Tiles::new(job.out(), (grid.width, grid.height))?;
    let count = spool.views.len();
    let seen: Vec<Option<[DVec2; 2]>> = (0..count).map(|view| reach(spool, frame, view)).collect::<Result<_>>()?;
    let mut stage = job.progress.stage("heights", blocks.len() * count, (blocks.len() * count) as u64);
    for block in blocks {
        let mut samples = vec![Samples::default(); block.width * block.height];
        let low = grid.place(block.left as f64, (block.top + block.height) as f64);
        let high = grid.place((block.left + block.width) as f64, block.top as f64);
        for (view, seen) in seen.iter().enumerate() {
            interrupt::check()?;
            if seen.is_some_and(|[least, most]| least.cmple(high).all() && most.cmpge(low).all()) {
                let maps = spool.read(view)?;
                hear(&mut samples, (grid, block), &frame.camera(&spool.views[view].camera), &maps);
            }
            let name = &job.results.views[view].name;
            stage.step(name, 1, json!({ "view": name }));
        }
        use rayon::prelude::*;
        let heights: Vec<f32> = samples.par_iter().map(|samples| samples.surface(level)).collect();
        raw.put((block.left, block.top), (block.width, block.height), &heights)?;
    }
    Ok(raw)
}

/// The part of the map that a view's confirmed pixels lie in.
fn reach(spool: &mut Spool, frame: &Frame, view: usize) -> Result<Option<[DVec2; 2]>> {
    if spool.views[view].is_empty {
        return Ok(None);
    }
    interrupt::check()?;
    let camera = frame.camera(&spool.views[view].camera);
    let inverse = spool.read(view)?.inverse;
    let (ray_of, centre) = (camera.r.transpose() * camera.k.inverse(), camera.centre());
    let (mut least, mut most) = (DVec2::INFINITY, DVec2::NEG_INFINITY);
    for (i, &inverse_depth) in inverse.data.iter().enumerate().filter(|(_, v)| **v > 0.0) {
        let pixel = DVec3::new((i % inverse.width) as f64, (i / inverse.width) as f64, 1.0);
        let place = (centre + ray_of * pixel / f64::from(inverse_depth)).truncate();
        (least, most) = (least.min(place), most.max(place));
    }
    Ok(Some([least, most]))
}

/// Tells how many cells have a height.
fn tell(job: &Job, options: &MapOptions, grid: &Grid, done: &Mended) {
    let all = grid.width as u64 * grid.height as u64;
    let share = 100.0 * done.there as f64 / all as f64;
    let closed = match (options.fill, done.closed) {
        (0, _) => "no hole was closed (--fill 0)".to_owned(),
        (fill, closed) => format!("{closed} of them closed holes of up to {} cells across (--fill {fill})", 2 * fill),
    };
    job.note(format!("{share:.1} % of {all} cells have a height, {closed}; {} have none", all - done.there));
    if done.removed > 0 {
        job.note(format!("{} cells stood out alone and were taken as mistakes", done.removed));
    }
}

/// The orthophoto, and how many cells it shows.
fn orthophoto(
    job: &Job,
    photos: &Photos,
    options: &MapOptions,
    (spool, model): (&mut Spool, &Tiles<f32>),
    ((grid, frame), blocks): ((&Grid, &Frame), &[Block]),
) -> Result<(Tiles<[u8; 4]>, u64)> {
    let reaches = sight::reaches(model)?;
    let mut usual: Vec<f64> =
        reaches.iter().flatten().map(|&(low, high)| 0.5 * (f64::from(low) + f64::from(high))).collect();
    usual.sort_unstable_by(f64::total_cmp);
    let middle = usual.get(usual.len() / 2).copied().unwrap_or(0.0);
    let surface = Surface { heights: model, reaches: &reaches, grid, frame, middle };
    let mut raw = Tiles::new(job.out(), (grid.width, grid.height))?;
    colours::colour(job, photos, &surface, (spool, blocks), &mut raw)?;
    let mut photo = Tiles::new(job.out(), (grid.width, grid.height))?;
    let done = mend((&raw, &mut photo), blocks, (options.fill, 0.0), |block| {
        let heights = model.window((block.left as isize, block.top as isize), (block.width, block.height))?;
        Ok(Some(heights.iter().map(|height| !height.is_nan()).collect()))
    })?;
    Ok((photo, done.there))
}

/// Options that change what is written.
fn said(options: &MapOptions) -> Fields<String, Value> {
    let fields = json!({
        "gsd": options.gsd,
        "crs": options.crs.map(|crs| format!("EPSG:{}", crs.code)),
        "offset": options.offset.to_array(),
        "up": format!("{:?}", options.up),
        "bounds": options.bounds,
        "fill": options.fill,
        "photo": options.photo,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_out_what_is_far_away() {
        let mut x: Vec<f64> = (0..2000).map(|i| f64::from(i) * 0.01).collect();
        let y = x.clone();
        let last = y[1999];
        assert_eq!(usual(&x, &y), ([0.0, 0.0, last, last], 0.0));
        x[1999] = 5e4;
        let ([left, lower, right, upper], beyond) = usual(&x, &y);
        assert!(left == 0.0 && lower == 0.0 && upper == last && beyond == 1.0 / 2000.0);
        assert!((21.9..22.0).contains(&right), "{right}");
        assert_eq!((two_digits(0.012_345), two_digits(7.77)), (0.012, 7.8));
    }
}
