//! The DTU training set as MVSNet lays it out (protocol page D.5, E.1, E.4): one set of cameras for all scans, photos
//! of 640 x 512 pixels in seven lights, depth at every fourth pixel with a mask.
//!
//! - `Cameras/train/VIEW_cam.txt`: intrinsics for the depth maps, so four times as large for the photos;
//! - `Cameras/pair.txt`: source views of each view;
//! - `Rectified/scanN_train/rect_VIEW_LIGHT_r5000.png`, views counted from 001 here;
//! - `Depths/scanN_train/depth_map_VIEW.pfm` and `depth_visual_VIEW.png`, a mask that is white where the depth counts.

use std::path::{Path, PathBuf};

use super::frame::keep_within_of;
use super::sample::{Dataset, TrainingSample, choose_sources, expect_share};
use crate::error::counted;
use crate::files::map::Map;
use crate::files::{image, pfm};
use crate::host::random::Random;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::scene::{DepthNumbers, mvsnet};
use crate::{Error, Result};

/// Scans to train on.
pub const TRAIN_SCANS: [u32; 79] = [
    2, 6, 7, 8, 14, 16, 18, 19, 20, 22, 30, 31, 36, 39, 41, 42, 44, 45, 46, 47, 50, 51, 52, 53, 55, 57, 58, 60, 61, 63,
    64, 65, 68, 69, 70, 71, 72, 74, 76, 83, 84, 85, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102,
    103, 104, 105, 107, 108, 109, 111, 112, 113, 115, 116, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128,
];
/// Scans to choose a checkpoint on.
pub const VALIDATION_SCANS: [u32; 18] = [3, 5, 17, 21, 28, 35, 37, 38, 40, 43, 56, 59, 66, 67, 82, 86, 106, 117];
/// Scans that results are published on.
pub const TEST_SCANS: [u32; 22] =
    [1, 4, 9, 10, 11, 12, 13, 15, 23, 24, 29, 32, 33, 34, 48, 49, 62, 75, 77, 110, 114, 118];
/// Lights of every view.
pub const LIGHTS: u64 = 7;

/// Which scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// [`TRAIN_SCANS`].
    Train,
    /// [`VALIDATION_SCANS`].
    #[value(name = "val")]
    Validation,
    /// [`TEST_SCANS`].
    Test,
}

impl Split {
    /// The numbers of its scans.
    pub fn scans(self) -> &'static [u32] {
        match self {
            Self::Train => &TRAIN_SCANS,
            Self::Validation => &VALIDATION_SCANS,
            Self::Test => &TEST_SCANS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How the training set is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DtuOptions {
    /// Which scans.
    pub split: Split,
    /// The first so many lights, at most [`LIGHTS`].
    pub lights: u64,
    /// Planes that the range of a camera file with near and interval has.
    pub planes: usize,
    /// What that interval is multiplied by.
    pub interval_scale: f64,
    /// Probability of a sample whose source views are not the best ones of the pair list.
    pub worse_sources: f64,
    /// Every seed chooses other source views.
    pub seed: u64,
}

impl Default for DtuOptions {
    /// Training scans in all lights; 192 planes 1.06 intervals apart, which is 425 to 931 mm for the files' `425 2.5`;
    /// a quarter of the samples with worse source views.
    fn default() -> Self {
        Self { split: Split::Train, lights: LIGHTS, planes: 192, interval_scale: 1.06, worse_sources: 0.25, seed: 0 }
    }
}

/// A view of every scan.
#[derive(Clone, Debug)]
struct View {
    id: u32,
    /// At the photos' size.
    camera: Camera,
    range: DepthRange,
    /// Indices of other views, best first.
    sources: Vec<usize>,
}

/// A [`Dataset`] of DTU scans.
#[derive(Clone, Debug)]
pub struct Dtu {
    root: PathBuf,
    options: DtuOptions,
    scans: Vec<u32>,
    views: Vec<View>,
    /// Indices of the views that have source views.
    references: Vec<usize>,
    reading: String,
    notes: Vec<String>,
}

impl Dtu {
    /// Reads the cameras and the pair list, and looks which scans are there.
    ///
    /// # Errors
    /// Options out of their range; a camera or a pair list that is missing or does not hold what it should; no scan.
    pub fn open(root: &Path, options: DtuOptions) -> Result<Self> {
        expect_share("worse sources", options.worse_sources)?;
        if !(1..=LIGHTS).contains(&options.lights) {
            return Err(Error::input("lights", options.lights.to_string(), format!("1 to {LIGHTS}")));
        }
        let mut notes = Vec::new();
        let (views, reading) = read_views(root, &options, &mut notes)?;
        let references: Vec<usize> = (0..views.len()).filter(|&v| !views[v].sources.is_empty()).collect();
        if references.is_empty() {
            return Err(Error::input(
                root.join("Cameras/pair.txt").display().to_string(),
                "no view with source views",
                "source views for each view",
            ));
        }
        if references.len() < views.len() {
            let without = counted(views.len() - references.len(), "view");
            notes.push(format!("{without} without source views are no reference views"));
        }
        let all = options.split.scans();
        let has = |scan: u32, part: &str| root.join(part).join(format!("scan{scan}_train")).is_dir();
        let (scans, missing): (Vec<u32>, Vec<u32>) =
            all.iter().copied().partition(|&scan| has(scan, "Rectified") && has(scan, "Depths"));
        if scans.is_empty() {
            return Err(Error::input(
                root.display().to_string(),
                format!("none of the {} {} scans", all.len(), options.split.name()),
                "Rectified/scanN_train and Depths/scanN_train (MVSNet's training set, mvs_training/dtu)",
            ));
        }
        if let Some(&first) = missing.first() {
            let part = match (has(first, "Rectified"), has(first, "Depths")) {
                (true, false) => ", which has photos but no depth maps",
                (false, true) => ", which has depth maps but no photos",
                _ => "",
            };
            notes.push(format!(
                "{} of the {} {} scans are missing (first: scan{first}{part})",
                missing.len(),
                all.len(),
                options.split.name()
            ));
        }
        Ok(Self { root: root.to_owned(), options, scans, views, references, reading, notes })
    }

    /// What was assumed or is missing, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The scans that are there.
    pub fn scans(&self) -> &[u32] {
        &self.scans
    }

    /// Lights change first, then views, then scans: scan index, view index, light.
    fn place(&self, index: u64) -> (u32, usize, u64) {
        let index = index % self.count();
        let (rest, light) = (index / self.options.lights, index % self.options.lights);
        let views = self.references.len() as u64;
        (self.scans[(rest / views) as usize], self.references[(rest % views) as usize], light)
    }

    fn count(&self) -> u64 {
        self.scans.len() as u64 * self.references.len() as u64 * self.options.lights
    }

    fn photo(&self, scan: u32, view: usize, light: u64) -> Result<(PathBuf, Photo)> {
        // Photos count views from 1, cameras and depth maps from 0.
        let name = format!("rect_{:03}_{light}_r5000.png", self.views[view].id + 1);
        let path = self.root.join(format!("Rectified/scan{scan}_train")).join(name);
        let image::Pixels { size, rgb, .. } = image::read(&path)?;
        Ok((path, Photo { width: size.0, height: size.1, rgb }))
    }

    /// The truth of a view, for photos of `size`.
    fn truth(&self, scan: u32, view: usize, size: (usize, usize)) -> Result<Map> {
        let View { id, range, .. } = self.views[view];
        let folder = self.root.join(format!("Depths/scan{scan}_train"));
        let (map, mask) =
            (folder.join(format!("depth_map_{id:04}.pfm")), folder.join(format!("depth_visual_{id:04}.png")));
        let expected = (size.0 / 4, size.1 / 4);
        let check = |path: &Path, found: (usize, usize)| {
            if found == expected {
                return Ok(());
            }
            Err(Error::input(
                path.display().to_string(),
                format!("{} x {} pixels", found.0, found.1),
                format!("{} x {}, a quarter of the photo's {} x {}", expected.0, expected.1, size.0, size.1),
            ))
        };
        let mut truth = pfm::read(&map)?;
        check(&map, (truth.width, truth.height))?;
        keep_within_of(&map, &mut truth, range)?;
        let pixels = image::read(&mask)?;
        check(&mask, pixels.size)?;
        for (depth, mask) in truth.data.iter_mut().zip(pixels.rgb.chunks_exact(3)) {
            // Half of white and darker: not to be learned from (MVSNet's training).
            if mask[0] <= 0.5 {
                *depth = 0.0;
            }
        }
        Ok(truth)
    }
}

/// The cameras at the photos' size with their source views, and how the depth numbers were read.
fn read_views(root: &Path, options: &DtuOptions, notes: &mut Vec<String>) -> Result<(Vec<View>, String)> {
    let files = mvsnet::camera_files(&root.join("Cameras/train"))?;
    let mut views = Vec::with_capacity(files.len());
    let mut reading = String::new();
    for (&id, file) in &files {
        let read = mvsnet::read_camera(file, DepthNumbers::Auto)?;
        let (range, how) = match (read.range, read.sweep) {
            (Some(range), _) => (range, "the camera files' ranges".to_owned()),
            (None, Some(sweep)) => {
                let intervals = options.planes.saturating_sub(1).max(1) as f64;
                let far = sweep.near + sweep.interval * options.interval_scale * intervals;
                let how = format!("{} planes {} camera file's intervals apart", options.planes, options.interval_scale);
                (DepthRange { near: sweep.near, far }, how)
            }
            (None, None) => {
                return Err(Error::input(
                    file.display().to_string(),
                    "no depth numbers",
                    "near and interval after the intrinsics, for example `425 2.5`",
                ));
            }
        };
        reading = format!("{how}, depths {:.2} to {:.2}", range.near, range.far);
        views.push(View { id, camera: read.camera.decimated(4.0), range, sources: Vec::new() });
    }
    let index = views.iter().enumerate().map(|(i, view)| (view.id, i)).collect();
    let sources = mvsnet::read_pairs(&root.join("Cameras/pair.txt"), &files, &index, notes)?;
    for (view, sources) in views.iter_mut().zip(sources) {
        view.sources = sources.into_iter().map(|s| s.view).collect();
    }
    Ok((views, reading))
}

impl Dataset for Dtu {
    fn describe(&self) -> String {
        let all = self.options.split.scans().len();
        format!(
            "DTU {}, {} of {all} scans, {}, {}: {} samples; {}",
            self.options.split.name(),
            self.scans.len(),
            counted(self.references.len(), "view"),
            counted(self.options.lights as usize, "light"),
            self.count(),
            self.reading
        )
    }

    fn len(&self) -> Option<u64> {
        Some(self.count())
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        let (scan, reference, light) = self.place(index);
        let View { id, range, sources, .. } = &self.views[reference];
        let mut random = Random::new(&[self.options.seed, index, 0x0064_7475]);
        let chosen = choose_sources(sources.len(), views.max(2) - 1, self.options.worse_sources, &mut random);
        let chosen: Vec<usize> =
            std::iter::once(reference).chain(chosen.into_iter().map(|place| sources[place])).collect();
        let mut photos: Vec<Photo> = Vec::with_capacity(chosen.len());
        for &view in &chosen {
            let (path, photo) = self.photo(scan, view, light)?;
            let (expected, why) = match photos.first() {
                None => ((photo.width / 4 * 4, photo.height / 4 * 4), "sides of multiples of 4"),
                Some(first) => ((first.width, first.height), "the size of the scan's other photos"),
            };
            if (photo.width, photo.height) != expected || photo.rgb.is_empty() {
                return Err(Error::input(
                    path.display().to_string(),
                    format!("{} x {} pixels", photo.width, photo.height),
                    format!("{} x {}, {why}", expected.0, expected.1),
                ));
            }
            photos.push(photo);
        }
        let depth = self.truth(scan, reference, (photos[0].width, photos[0].height))?;
        Ok(TrainingSample {
            name: format!("scan{scan}/rect_{:03}_{light}_r5000", id + 1),
            cameras: chosen.iter().map(|&view| self.views[view].camera).collect(),
            photos,
            depth,
            fine: None,
            range: *range,
        })
    }
}
