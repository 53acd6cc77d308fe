//! The last stage: views fused, the cloud written, and everything told.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use glam::DVec3;
use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::folder::write_file;
use crate::files::ply::{self, Point};
use crate::files::ply_storage::{OffsetOption, Storage};
use crate::files::point_file::PointFile;
use crate::fusion::funnel::{Funnel, explain};
use crate::fusion::origin::Origin;
use crate::fusion::settings::FusionOptions;
use crate::fusion::spilled::Spilling;
use crate::fusion::thin::{Voxels, thin};
use crate::fusion::view::{FusionView, ViewFacts};
use crate::host::memory::readable;
use crate::host::progress::{Progress, one_line};
use crate::host::trace::Clock;
use crate::host::{interrupt, memory};
use crate::manifest::{MANIFEST, Manifest};
use crate::run::device::Backend;
use crate::run::fusion_memory::Streaming;
use crate::run::joining::Parts;
use crate::run::products::{CLOUD, CLOUD_MADE_BY};
use crate::run::report;
use crate::scene::camera::Camera;
use crate::scene::region::Region;

/// Views with their maps, ready for fusion.
pub enum Views {
    /// In memory.
    Held(Vec<FusionView>),
    /// On disk, with what may be held of them at a time.
    Aside(Box<Spilling>, Streaming),
    /// Fused already, tile by tile.
    Fused(Box<Parts>),
}

impl Views {
    /// None so far: in memory, or on the disk of the folder where they are to stream, for these options.
    ///
    /// # Errors
    /// A disk on which nothing can be put aside.
    pub fn new(streaming: Option<Streaming>, folder: &Path, options: &FusionOptions) -> Result<Self> {
        Ok(match streaming {
            None => Self::Held(Vec::new()),
            Some(streaming) => Self::Aside(Box::new(Spilling::new(folder, options)?), streaming),
        })
    }

    /// Adds views behind those that are there.
    ///
    /// # Errors
    /// A full disk; [`Error::Interrupted`].
    pub fn add(&mut self, views: Vec<FusionView>) -> Result<()> {
        let at_once = self.at_once();
        match self {
            Self::Held(all) => all.extend(views),
            Self::Aside(spilling, _) => {
                let mut views = views.into_iter().peekable();
                while views.peek().is_some() {
                    interrupt::check()?;
                    spilling.add(views.by_ref().take(at_once).collect())?;
                }
            }
            Self::Fused(_) => {}
        }
        Ok(())
    }

    /// How many are to be added at once.
    pub fn at_once(&self) -> usize {
        match self {
            Self::Held(_) | Self::Fused(_) => 1,
            Self::Aside(_, streaming) => streaming.views_at_once,
        }
    }

    /// Says which views confirm view `at`.
    pub fn set_sources(&mut self, at: usize, sources: Vec<usize>) {
        match self {
            Self::Held(views) => views[at].sources = sources,
            Self::Aside(spilling, _) => spilling.set_sources(at, sources),
            Self::Fused(_) => {}
        }
    }

    /// Those that are in memory.
    pub fn held(&mut self) -> &mut [FusionView] {
        match self {
            Self::Held(views) => views,
            Self::Aside(..) | Self::Fused(_) => &mut [],
        }
    }

    /// What is known of them without their maps.
    pub fn facts(&self) -> Vec<ViewFacts> {
        match self {
            Self::Held(views) => views.iter().map(FusionView::facts).collect(),
            Self::Aside(spilling, _) => spilling.facts().to_vec(),
            Self::Fused(parts) => parts.facts().to_vec(),
        }
    }
}

/// What is said where maps are put aside in a folder, since so many bytes would be needed and are not there.
pub fn streaming_note(needed: u64, there: u64, folder: &Path) -> String {
    format!(
        "fusing all maps at once would take {}, and {} are available: they are put aside in a scratch file in {}, and \
         fused view by view",
        readable(needed),
        readable(there),
        one_line(&folder.display().to_string())
    )
}

/// How and where a cloud is made.
#[derive(Clone, Copy)]
pub struct Fusion<'a> {
    /// Which pixels become points.
    pub options: &'a FusionOptions,
    /// Side of the voxels of which each keeps one point; `None`: all points.
    pub thin: Option<f64>,
    /// Outside of which there are no points.
    pub region: Option<Region>,
    /// What is taken from the cloud's coordinates.
    pub ply_offset: OffsetOption,
    /// Where it is computed.
    pub backend: &'a Backend,
}

/// Fuses, where `fusion` says how and where, writes the cloud and the manifest, and prints the closing summary. Gives
/// the SHA-256 of the cloud, where there is one.
///
/// # Errors
/// Files that cannot be written; [`Error::Nothing`] with the likely reason where no point survived.
pub fn fuse_and_report(
    mut manifest: Manifest,
    mut clock: Clock,
    views: Views,
    fusion: Option<Fusion>,
    progress: &Progress,
) -> Result<Option<String>> {
    let (mut advice, mut cloud) = (None, None);
    if let Some(fusion) = fusion {
        let Fusion { options, ply_offset, .. } = fusion;
        interrupt::check()?;
        let mut stage = progress.stage("fusion", 1, 1);
        let Made { points, funnels, all } = match views {
            Views::Held(views) => cloud_of(views, fusion, progress)?,
            Views::Aside(spilling, streaming) => streamed_cloud(*spilling, &streaming, fusion)?,
            Views::Fused(parts) => joined_cloud(&parts, fusion)?,
        };
        for (summary, funnel) in manifest.views.iter_mut().zip(&funnels) {
            summary.funnel = Some(funnel.clone());
        }
        advice = explain(&funnels, options);
        manifest.funnel = Some(all);
        manifest.points = points.len();
        interrupt::check()?;
        if let Some((sha256, note)) = write_cloud(&points, ply_offset, &mut manifest)? {
            cloud = Some(sha256);
            note.iter().for_each(|note| progress.note(note));
            manifest.notes.extend(note);
        }
        stage.step(&format!("{} points", points.len()), 1, json!({ "points": points.len() }));
        drop(stage);
        clock.lap("fusion");
    }
    manifest.machine.memory_peak = memory::peak();
    manifest.ended_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    manifest.seconds = clock.seconds();
    manifest.outputs.push(MANIFEST.into());
    manifest.write()?;

    let options = fusion.map(|fusion| fusion.options);
    let empty = options.is_some() && manifest.points == 0;
    report::summary(&manifest, options, (advice.as_deref(), !empty), clock.total(), progress);
    if empty { Err(empty_cloud(advice)) } else { Ok(cloud) }
}

/// That no point survived. `advice` is the likely reason ([`explain`]), where there is one.
fn empty_cloud(advice: Option<String>) -> Error {
    let reason = advice.unwrap_or_else(|| "no pixel passed the filters".into());
    Error::Nothing(format!("the cloud is empty: {reason}"))
}

/// The points of views in memory, without any files.
///
/// # Errors
/// The fusion's; [`Error::Nothing`] with the likely reason where no point survived.
pub fn points_of(views: Vec<FusionView>, fusion: Fusion, progress: &Progress) -> Result<Vec<Point>> {
    let Made { points, funnels, .. } = cloud_of(views, fusion, progress)?;
    match points {
        Points::Held(points) if !points.is_empty() => Ok(points),
        _ => Err(empty_cloud(explain(&funnels, fusion.options))),
    }
}

/// A cloud and what became of all pixels.
struct Made {
    points: Points,
    /// By view.
    funnels: Vec<Funnel>,
    all: Funnel,
}

/// A finished cloud.
enum Points {
    Held(Vec<Point>),
    Aside(PointFile),
}

impl Points {
    fn len(&self) -> usize {
        match self {
            Self::Held(points) => points.len(),
            Self::Aside(file) => file.len(),
        }
    }

    fn storage(&self, offset: OffsetOption) -> Result<Storage> {
        match self {
            Self::Held(points) => Ok(ply::storage_of(points, offset)),
            Self::Aside(file) => file.storage(offset),
        }
    }

    fn write(&self, path: &Path, storage: Storage, comments: &[String]) -> Result<String> {
        match self {
            Self::Held(points) => ply::write_hashed(path, points, storage, comments),
            Self::Aside(file) => file.write_ply(path, storage, comments),
        }
    }
}

/// The cloud of some views.
fn cloud_of(mut views: Vec<FusionView>, fusion: Fusion, progress: &Progress) -> Result<Made> {
    let Fusion { options, thin: side, region, backend, .. } = fusion;
    let origin = Origin::near(&views);
    origin.enter(&mut views);
    let mut fused = backend.fuse(&views, options, progress)?;
    let mut all = Funnel::sum(&fused.funnels);
    if let Some(region) = region {
        fused.points.retain(|point| is_inside(region, point, origin));
        all.beyond = all.fused - fused.points.len();
    }
    if let Some(side) = side {
        let points = fused.points.len();
        fused.points = thin(&fused.points, side, corner_of_voxels(views.first().map(|view| &view.camera), side));
        all.thinned = points - fused.points.len();
    }
    origin.leave(&mut fused.points);
    Ok(Made { points: Points::Held(fused.points), funnels: fused.funnels, all })
}

/// As [`cloud_of`], of views that are on disk.
fn streamed_cloud(spilling: Spilling, streaming: &Streaming, fusion: Fusion) -> Result<Made> {
    let folder = spilling.folder().to_owned();
    let mut views = spilling.finish(streaming.budget)?;
    let origin = Origin::near_cameras(views.facts().iter().map(|view| &view.camera));
    views.enter(origin);
    let first = views.facts().first().map(|view| view.camera);
    gathered(&folder, (origin, first, streaming.voxels), fusion, |pass| views.fuse(pass))
}

/// As [`cloud_of`], of points that are there.
fn joined_cloud(parts: &Parts, fusion: Fusion) -> Result<Made> {
    let origin = Origin::near_cameras(parts.facts().iter().map(|view| &view.camera));
    let mut first = parts.facts().first().map(|view| view.camera);
    first.iter_mut().for_each(|camera| origin.enter_camera(camera));
    let points = |pass: &mut dyn FnMut(Vec<Point>) -> Result<()>| parts.join(pass).map(|()| parts.funnels());
    gathered(parts.folder(), (origin, first, parts.voxel_bytes()), fusion, points)
}

/// Points that `fuse` makes near an origin; they go to the disk of the folder, unless they are thinned. For that the
/// first camera and room for voxels are needed.
fn gathered(
    folder: &Path,
    (origin, first, room): (Origin, Option<Camera>, u64),
    Fusion { thin: side, region, .. }: Fusion,
    fuse: impl FnOnce(&mut dyn FnMut(Vec<Point>) -> Result<()>) -> Result<Vec<Funnel>>,
) -> Result<Made> {
    let mut file = PointFile::new(folder)?;
    let mut voxels = side.map(|side| Voxels::new(side, corner_of_voxels(first.as_ref(), side)));
    let mut inside = 0;
    let mut pass = |mut points: Vec<Point>| {
        if let Some(region) = region {
            points.retain(|point| is_inside(region, point, origin));
        }
        inside += points.len();
        let Some(voxels) = &mut voxels else {
            origin.leave(&mut points);
            return file.append(&points);
        };
        points.iter().for_each(|point| voxels.add(point));
        expect_room_for_voxels(voxels, room)
    };
    let funnels = fuse(&mut pass)?;
    let mut all = Funnel::sum(&funnels);
    all.beyond = all.fused - inside;
    let points = match voxels {
        None => Points::Aside(file),
        Some(voxels) => {
            let mut points = voxels.points();
            all.thinned = inside - points.len();
            origin.leave(&mut points);
            Points::Held(points)
        }
    };
    Ok(Made { points, funnels, all })
}

/// Thinned clouds are made in memory.
fn expect_room_for_voxels(voxels: &Voxels, room: u64) -> Result<()> {
    let bytes = voxels.len() as u64 * Voxels::BYTES;
    if bytes <= room {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "the thinned cloud has more than {}, which take {}, and {} are left for them; expected a larger --thin, or \
         more --memory",
        counted(voxels.len(), "point"),
        readable(bytes),
        readable(room)
    )))
}

/// Whether a point that was made near an origin lies in the region.
fn is_inside(region: Region, point: &Point, origin: Origin) -> bool {
    region.contains(DVec3::from(point.position) + origin.place())
}

/// A corner of the voxels of a cloud: such that the first view's camera stands in the middle of one. A scene that is
/// moved is thinned as it was before.
fn corner_of_voxels(first: Option<&Camera>, side: f64) -> DVec3 {
    first.map_or(DVec3::ZERO, |camera| camera.centre() - 0.5 * side)
}

/// An empty cloud is not written. Returns what a reader of the file must know.
fn write_cloud(
    points: &Points,
    offset: OffsetOption,
    manifest: &mut Manifest,
) -> Result<Option<(String, Option<String>)>> {
    if points.len() == 0 {
        return Ok(None);
    }
    let path = manifest.folder.join(CLOUD);
    let storage = points.storage(offset)?;
    let comments = [format!("{CLOUD_MADE_BY} {}", manifest.version)];
    let sha256 = write_file(&path, |path| points.write(path, storage, &comments))?;
    manifest.outputs.push(CLOUD.into());
    manifest.cloud = Some(storage);
    Ok(Some((sha256, storage.note(CLOUD))))
}
