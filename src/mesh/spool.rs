//! The filtered maps of all views in one temporary file, view by view: they are looked at several times, and those of
//! one view at a time are in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use glam::DVec3;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::export::confirmed;
use crate::export::job::Job;
use crate::export::results::{ResultView, Results, ViewMaps};
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::scene::camera::Camera;

/// How far confirmed surfaces are continued, in pixels.
const GROWN_PX: usize = 6;
/// A surface continues where depth changes from pixel to pixel by less than this share.
const MOST_STEP_REL: f32 = 0.005;
/// Pixels that are taken in have at least this confidence ...
const LEAST_CONFIDENCE: f32 = 0.3;
/// ... of which so much counts.
const GROWN_WEIGHT: f32 = 0.5;
/// Points and footprints that are kept of each view, at most, and of all views together.
const SAMPLES: (usize, usize) = (4096, 1 << 22);

/// The maps of every view of a run, with only their confirmed pixels.
pub struct Spool {
    file: File,
    folder: PathBuf,
    /// In the run's order.
    pub views: Vec<SpooledView>,
    /// Pixels that are left, of all views.
    pub pixels: u64,
    samples: Vec<Sample>,
    /// How many are kept of each view.
    samples_a_view: usize,
}

/// Where the maps of a view lie, and its camera.
pub struct SpooledView {
    /// As the run has it.
    pub camera: Camera,
    /// Width and height.
    pub size: (usize, usize),
    offset: u64,
    /// Whether no pixel is left.
    pub is_empty: bool,
    /// The greatest depth that is left.
    pub far: f64,
}

/// A pixel that stands for others.
struct Sample {
    point: DVec3,
    footprint: f32,
}

/// What is left of one view's maps, row by row.
pub struct Filtered {
    /// 1 / depth; 0 where there is no confirmed depth.
    pub inverse: Map,
    /// Confidence 0..1.
    pub confidence: Vec<f32>,
    /// The change of distance to the surface's plane with depth along the pixel's ray: the cosine of the angle between
    /// the surface's normal and the ray, times the ray's length at depth 1.
    pub facing: Vec<f32>,
}

/// Bytes of a pixel in [`Filtered`].
pub const BYTES_A_PIXEL: u64 = 12;

impl Spool {
    /// Filters the maps of a run, whose exports ask for confirmed depths, and writes what is left into a file without a
    /// name in `folder`.
    ///
    /// # Errors
    /// Maps that cannot be read, a folder that takes no file, [`Error::Interrupted`].
    pub fn of_run(job: &Job, folder: &Path) -> Result<Self> {
        let mut spool = Self::of_none(job.results, folder)?;
        spool.samples_a_view = samples_a_view(job.results);
        spool.samples.reserve_exact(sample_bytes(job.results) as usize / size_of::<Sample>());
        job.each_view("filter", |view| spool.filter(job, view))?;
        Ok(spool)
    }

    /// With no view's maps yet: as if nothing were left of any. No points are kept of those that are filtered.
    ///
    /// # Errors
    /// A folder that takes no file.
    pub fn of_none(results: &Results, folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(ACTION, folder))?;
        let none = |of_run: &ResultView| {
            let (camera, size) = (of_run.camera, of_run.size);
            SpooledView { camera, size, offset: 0, is_empty: true, far: 0.0 }
        };
        let views = results.views.iter().map(none).collect();
        Ok(Self { file, folder: folder.to_owned(), views, pixels: 0, samples: Vec::new(), samples_a_view: 0 })
    }

    /// Filters the maps of a view, and puts aside what is left.
    ///
    /// # Errors
    /// Maps that cannot be read; a full disk.
    pub fn filter(&mut self, job: &Job, view: usize) -> Result<()> {
        let ViewMaps { mut depth, mut confidence } = job.results.maps(view)?;
        let normals = job.results.normals(view, &depth)?;
        let mut kept = confirmed::confirmed(job, view, &depth, &confidence)?;
        grow(&depth, &mut confidence, &mut kept);
        depth.data.iter_mut().zip(kept).filter(|(_, kept)| !kept).for_each(|(depth, _)| *depth = 0.0);
        self.put(view, &depth, &confidence, &normals)
    }

    fn put(&mut self, view: usize, depth: &Map, confidence: &Map, normals: &[[f32; 3]]) -> Result<()> {
        let Map { width, height, .. } = *depth;
        let camera = self.views[view].camera;
        let offset = self.file.seek(SeekFrom::End(0)).map_err(Error::io(ACTION, &self.folder))?;
        let inverse: Vec<f32> =
            depth.data.par_iter().map(|&d| if is_depth(d) { (1.0 / f64::from(d)) as f32 } else { 0.0 }).collect();
        let world_from_pixel = camera.r.transpose() * camera.k.inverse();
        let mut facing = vec![0f32; inverse.len()];
        facing.par_chunks_mut(width.max(1)).enumerate().for_each(|(y, row)| {
            for (x, facing) in row.iter_mut().enumerate() {
                let ray = world_from_pixel * DVec3::new(x as f64, y as f64, 1.0);
                let normal = DVec3::from(normals[y * width + x].map(f64::from));
                *facing = -ray.dot(normal) as f32;
            }
        });
        // Small enough for a temporary file's buffers, and one after the other.
        for values in [&inverse, &confidence.data, &facing] {
            self.file.write_all(bytemuck::cast_slice(values)).map_err(Error::io(ACTION, &self.folder))?;
        }
        let there = inverse.iter().filter(|&&w| w > 0.0);
        let (left, least) = (there.clone().count(), there.copied().fold(f32::INFINITY, f32::min));
        let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
        let step = left.div_ceil(self.samples_a_view.max(1)).max(1);
        let kept = (0..inverse.len()).filter(|&i| inverse[i] > 0.0).step_by(step).take(self.samples_a_view);
        self.samples.extend(kept.map(|i| {
            let depth = f64::from(depth.data[i]);
            let point = camera.unproject((i % width) as f64, (i / width) as f64, depth);
            Sample { point, footprint: (depth / focal) as f32 }
        }));
        self.pixels += left as u64;
        let far = if left == 0 { 0.0 } else { 1.0 / f64::from(least) };
        self.views[view] = SpooledView { camera, size: (width, height), offset, is_empty: left == 0, far };
        Ok(())
    }

    /// The maps of a view.
    ///
    /// # Errors
    /// The system's reason where they cannot be read back.
    pub fn read(&mut self, view: usize) -> Result<Filtered> {
        let SpooledView { size: (width, height), offset, .. } = self.views[view];
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::io(ACTION, &self.folder))?;
        let mut values = || {
            let mut values = vec![0f32; width * height];
            let read = self.file.read_exact(bytemuck::cast_slice_mut(&mut values));
            read.map_err(Error::io(ACTION, &self.folder)).map(|()| values)
        };
        let inverse = Map { width, height, data: values()? };
        Ok(Filtered { inverse, confidence: values()?, facing: values()? })
    }

    /// What the side of a pixel comes to on the surface, in scene units, in the median of a sample of the pixels that
    /// are left; `None` where none is.
    pub fn footprint(&self) -> Option<f64> {
        let mut all: Vec<f32> = self.samples.iter().map(|sample| sample.footprint).collect();
        all.sort_unstable_by(f32::total_cmp);
        all.get(all.len() / 2).map(|&footprint| f64::from(footprint))
    }

    /// Points of a sample of the pixels that are left, view by view.
    pub fn points(&self) -> impl Iterator<Item = DVec3> {
        self.samples.iter().map(|sample| sample.point)
    }

    /// A place amid the surfaces: the median of the sample, axis by axis, in whole numbers where surfaces reach farther
    /// than a unit.
    pub fn middle(&self) -> DVec3 {
        let mut extent = 0f64;
        let middle = DVec3::from([0, 1, 2].map(|axis| {
            let mut values: Vec<f64> = self.samples.iter().map(|sample| sample.point[axis]).collect();
            values.sort_unstable_by(f64::total_cmp);
            if let (Some(first), Some(last)) = (values.first(), values.last()) {
                extent = extent.max(last - first);
            }
            values.get(values.len() / 2).copied().unwrap_or(0.0)
        }));
        if extent > 1.0 { middle.round() } else { middle }
    }

    /// Points are no longer asked for.
    pub fn forget_samples(&mut self) {
        self.samples = Vec::new();
    }

    /// Pixels of the largest view.
    pub fn largest(&self) -> u64 {
        self.views.iter().map(|view| (view.size.0 * view.size.1) as u64).max().unwrap_or(0)
    }
}

/// How many points are kept of each view of a run.
fn samples_a_view(results: &Results) -> usize {
    (SAMPLES.1 / results.views.len().max(1)).clamp(1, SAMPLES.0)
}

/// Bytes that the points kept of a run's views take, at most.
pub fn sample_bytes(results: &Results) -> u64 {
    let of_view = |view: &ResultView| (view.size.0 * view.size.1).min(samples_a_view(results));
    let samples: usize = results.views.iter().map(of_view).sum();
    (samples * size_of::<Sample>()) as u64
}

/// Takes in pixels beside confirmed ones, where the map itself continues: views that could confirm them are often
/// hidden just there.
fn grow(depth: &Map, confidence: &mut Map, kept: &mut [bool]) {
    let Map { width, height, ref data } = *depth;
    for _ in 0..GROWN_PX {
        let before = kept.to_vec();
        let continues = |at: usize, other: usize| {
            before[other] && (data[at] - data[other]).abs() <= MOST_STEP_REL * data[at].min(data[other])
        };
        let rows = kept.par_chunks_mut(width.max(1)).zip(confidence.data.par_chunks_mut(width.max(1)));
        rows.enumerate().for_each(|(y, (kept, confidence))| {
            for x in 0..width {
                let at = y * width + x;
                if before[at] || !is_depth(data[at]) || confidence[x] < LEAST_CONFIDENCE {
                    continue;
                }
                let beside = x > 0 && continues(at, at - 1)
                    || x + 1 < width && continues(at, at + 1)
                    || y > 0 && continues(at, at - width)
                    || y + 1 < height && continues(at, at + width);
                if beside {
                    kept[x] = true;
                    confidence[x] *= GROWN_WEIGHT;
                }
            }
        });
    }
}

const ACTION: &str = "put filtered maps aside in the folder";
