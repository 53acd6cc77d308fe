//! What there is to see: a run or a cloud, read once, and the pieces of it that a page asks for.

use std::ffi::OsStr;
use std::path::{Component, Path};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};

use crate::error::{Error, Result};
use crate::export::photos::Photos;
use crate::export::results::Results;
use crate::files::ply::Point;
use crate::files::ply_cloud::CloudFile;
use crate::files::ply_points;
use crate::host::memory::expect_room;
use crate::report::data::{self, Data, ViewData};
use crate::report::levels::{self, Node};
use crate::report::pack::deflated_soon;
use crate::report::page::{self, Bytes, Known, Page};
use crate::report::quantise::{Packed, PointSource, QuantisedCloud};
use crate::report::reading::{self, Notes};
use crate::report::{charts, views};
use crate::run::products::CLOUD;
use crate::view::options::ViewOptions;

/// Bytes that a point of somebody else's cloud takes while it is read: a position and a colour.
const BYTES_OF_OTHERS: u64 = 27;

/// What a server shows.
pub struct Shown {
    /// The page.
    pub page: String,
    points: Vec<Packed>,
    nodes: Vec<Node>,
    run: Option<Run>,
}

/// A run's folder.
struct Run {
    results: Results,
    photos: Option<Photos>,
    /// Sizes of the pictures of the views.
    sizes: Vec<(usize, usize)>,
    /// Nothing is opened but through it, and nothing outside of it can be.
    folder: Dir,
}

impl Shown {
    /// Reads the folder of a finished run, or a PLY file.
    ///
    /// # Errors
    /// What cannot be read; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn open(path: &Path, options: &ViewOptions, notes: &mut Notes) -> Result<Self> {
        let most = options.max_points.unwrap_or(usize::MAX);
        // A folder is left to the reader of runs, as is what is not there.
        if path.is_dir() || !path.exists() { of_run(path, most, options, notes) } else { of_cloud(path, most, notes) }
    }

    /// How many points there are to see.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// The bytes of a tile, deflated; nothing where there is none of this number.
    ///
    /// # Errors
    /// None in practice: nothing is written but memory.
    pub fn tile(&self, at: usize) -> Option<Result<Vec<u8>>> {
        self.nodes.get(at).map(|node| deflated_soon(&node.bytes(&self.points)))
    }

    /// The maps of a view: its least depth and the step of its logarithm as doubles, and what
    /// [`crate::report::views`] packs; deflated.
    ///
    /// # Errors
    /// Maps that cannot be read.
    pub fn maps(&self, view: usize) -> Option<Result<Vec<u8>>> {
        let run = self.run.as_ref().filter(|run| view < run.sizes.len())?;
        let packed = || {
            let maps = run.results.maps(view)?;
            let packed = views::pack(&maps.depth, &maps.confidence, run.sizes[view]);
            let head = [packed.near, packed.step].map(f64::to_le_bytes);
            deflated_soon(&[head.as_flattened(), &packed.bytes].concat())
        };
        Some(packed())
    }

    /// The photo of a view, a JPEG.
    ///
    /// # Errors
    /// A photo that cannot be read.
    pub fn photo(&self, view: usize) -> Option<Result<Vec<u8>>> {
        let run = self.run.as_ref().filter(|run| view < run.sizes.len())?;
        let photos = run.photos.as_ref()?;
        Some(photos.load(&run.results, view).and_then(|(photo, _)| views::jpeg(photo, run.sizes[view])))
    }

    /// A file of the run, by its name in the run's folder, and its size. Hidden ones are the program's own.
    pub fn file(&self, name: &OsStr) -> Option<(File, u64)> {
        let run = self.run.as_ref()?;
        let path = Path::new(name);
        let is_plain = |part: Component| match part {
            Component::Normal(part) => !part.as_encoded_bytes().starts_with(b"."),
            _ => false,
        };
        if !path.components().all(is_plain) {
            return None;
        }
        let file = run.folder.open_with(path, &at_once()).ok()?;
        let kind = file.metadata().ok()?;
        kind.is_file().then(|| (file, kind.len()))
    }
}

/// Reads without waiting for anyone: a pipe without a writer would make it wait for ever.
fn at_once() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    options
}

fn of_run(path: &Path, most: usize, options: &ViewOptions, notes: &mut Notes) -> Result<Shown> {
    let results = Results::open_idle(path)?;
    let folder = Dir::open_ambient_dir(path, ambient_authority()).map_err(Error::io("open the results", path))?;
    let photos = reading::photos(&results, options.scene.as_deref(), notes)?;
    let cloud = reading::cloud(&results, most, 0, notes)?;
    let nodes = cloud.as_ref().map_or_else(Vec::new, |cloud| levels::tree(&cloud.points));
    let sizes: Vec<_> = results.views.iter().map(|view| views::size_of(view.size, 1, options.picture_side)).collect();
    let view = |(view, &size)| ViewData::served(view, size, photos.is_some());
    let data = Data {
        cloud: cloud.as_ref().map(|cloud| data::served(cloud, &nodes, data::up(&results))),
        views: results.views.iter().zip(&sizes).map(view).collect(),
        palettes: data::palettes(),
    };
    if let Some(cloud) = &data.cloud {
        notes.keep(reading::grid_note(cloud, CLOUD));
    }
    notes.keep("the doctor was not asked: `engine report` and `engine doctor` do".into());
    let charts = match &cloud {
        Some(cloud) if !cloud.points.is_empty() => Some(charts::of_points(&cloud.points)?),
        _ => None,
    };
    let page = Page {
        title: page::title(&results.manifest),
        manifest: Some(&results.manifest),
        data: &data,
        known: Known::All,
        bytes: Bytes::Served { files: &files_of(&folder, path)? },
        charts,
        findings: None,
        notes: &notes.said,
    };
    let page = page.html();
    let points = cloud.map_or_else(Vec::new, |cloud| cloud.points);
    Ok(Shown { page, points, nodes, run: Some(Run { results, photos, sizes, folder }) })
}

/// The files that lie in the folder itself, by name.
fn files_of(folder: &Dir, path: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in folder.entries().map_err(Error::io("list the results", path))? {
        let entry = entry.map_err(Error::io("list the results", path))?;
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if kind.is_file() && !name.starts_with('.') {
            files.push((name, kind.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Somebody else's points in memory.
struct Others(ply_points::Cloud);

impl PointSource for Others {
    fn count(&self) -> u64 {
        self.0.points.len() as u64
    }

    fn each(&self, mut take: impl FnMut(&Point) -> Result<()>) -> Result<()> {
        let grey = [200; 3];
        self.0.points.iter().enumerate().try_for_each(|(at, &position)| {
            let colour = self.0.colours.as_ref().map_or(grey, |colours| colours[at]);
            take(&Point { position, normal: [0.0; 3], colour, confidence: 1.0, views: 0 })
        })
    }
}

fn of_cloud(path: &Path, most: usize, notes: &mut Notes) -> Result<Shown> {
    // What is no whole cloud of this program is read as anybody's, and refused as such where it is none.
    let (cloud, known) = match CloudFile::open(path) {
        Ok(file) => (reading::part_of(&file, path, most, 0, notes)?, Known::All),
        Err(_) => {
            expect_room(path, ply_points::vertices(path)?.saturating_mul(BYTES_OF_OTHERS))?;
            let read = ply_points::read_coloured(path)?;
            read.notes(path).into_iter().for_each(|note| notes.say(note));
            let known = if read.colours.is_some() { Known::Colours } else { Known::Nothing };
            if known == Known::Nothing {
                notes.say(format!("{}: no colours (red, green and blue of one byte each)", path.display()));
            }
            (reading::part_of(&Others(read), path, most, 0, notes)?, known)
        }
    };
    let QuantisedCloud { points, .. } = &cloud;
    let nodes = levels::tree(points);
    let served = data::served(&cloud, &nodes, glam::DVec3::Z);
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    notes.keep(reading::grid_note(&served, &name));
    let data = Data { cloud: Some(served), views: Vec::new(), palettes: data::palettes() };
    let page = Page {
        title: name,
        manifest: None,
        data: &data,
        known,
        bytes: Bytes::Served { files: &[] },
        charts: None,
        findings: None,
        notes: &notes.said,
    };
    let page = page.html();
    Ok(Shown { page, points: cloud.points, nodes, run: None })
}
