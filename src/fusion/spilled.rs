//! Fusion of more maps than fit into memory: they are put aside on disk, and one view after the other gets what it
//! needs. The cloud is that of maps in memory, bit for bit.
//!
//! In memory are the depths of the view whose turn it is and of its sources, kept for later turns as far as there is
//! room: the turns are known, so those go first that are needed last. All views are heard about a point
//! (`guard.rs`), but only in small windows of their maps, around the places where the points of a small square of
//! the view fall. Points go on as they are made; where they lie stays on disk, too, for the views that come later.
//!
//! A view's depths lie together; behind them, pixel by pixel, its confidences and colours.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::block::{Candidate, POINTS_OF_A_BLOCK};
use super::cloud::Cloud;
use super::funnel::Funnel;
use super::guard::without_specks_of;
use super::origin::Origin;
use super::settings::{FusionOptions, Method};
use super::store::{Area, Depth, Known, Own, Pace, Store, Window, farthest};
use super::view::{FusionView, ViewFacts, check_sizes, check_sources};
use super::{dynamic, reprojection};
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::files::scratch::Scratch;
use crate::maps::valid::take_out_invalid;
use crate::{Error, Result};

/// Bytes of a pixel's confidence and colour.
const REST: usize = 7;
/// Pixels that are read or written at once.
const SOME: usize = 1 << 15;
/// Side of the squares of pixels whose points are heard together: large enough that the borders of their windows do not
/// count for much.
const SQUARE: usize = 128;

/// Bytes of memory a pixel while a view is cleaned, beside its maps: segments (inverse depth, parent and segment of
/// each pixel, the sizes of segments) and the map without some of them.
pub const CLEANING_BYTES: u64 = 8 + 4 + 4 + 4 + 4;
/// Bytes of memory a pixel of the view whose turn it is, beside its depths: confidence and colour, what its sources say
/// as it comes and sorted, and which pixels are explained.
pub const OWN_BYTES: u64 = 7 + 8 + 5 + 1;
/// Bytes of memory a pixel whose points are made: the point on its way (a candidate), once more while
/// the threads' points are put together; its place in the order and its verdict.
pub const POINT_BYTES: u64 = 2 * size_of::<Candidate>() as u64 + 4 + 4 + 16;

/// Bytes of memory of a cloud whose points are on disk, at most as many as these pixels.
pub fn cloud_bytes(pixels: u64) -> u64 {
    pixels.div_ceil(POINTS_OF_A_BLOCK as u64) * Cloud::BLOCK_BYTES
}

/// Memory for maps.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of depths. A view's and its sources' are held in any case.
    pub depths: u64,
    /// Bytes of windows of maps for each thread. The windows of a single point are held in any case.
    pub windows: u64,
    /// Pixels whose points are made at once; a row in any case.
    pub pixels: usize,
}

/// Views that are being put aside.
pub struct Spilling {
    options: FusionOptions,
    folder: PathBuf,
    maps: Arc<Scratch>,
    known: Known,
    /// Where each view's maps begin; `None` of a view that takes no part.
    places: Vec<Option<u64>>,
}

impl Spilling {
    /// On the disk of the folder, for fusion with these options.
    ///
    /// # Errors
    /// [`Error::Io`] where nothing can be put aside there; [`Error::Shape`] for a method that needs all maps at once.
    pub fn new(folder: &Path, options: &FusionOptions) -> Result<Self> {
        if !options.method.takes_views_one_by_one() {
            let problem = format!("the method {} needs all maps in memory", options.method.name());
            return Err(Error::Shape { op: "fusion::spilled", problem });
        }
        let (maps, folder) = (Arc::new(Scratch::new(folder)?), folder.to_owned());
        Ok(Self { options: *options, folder, maps, known: Known::default(), places: Vec::new() })
    }

    /// As [`Self::new`], with all views, of which only those take part that are put aside by their places
    /// ([`Self::add_at`]): the others confirm nothing and have nothing to say.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_some(folder: &Path, options: &FusionOptions, facts: Vec<ViewFacts>) -> Result<Self> {
        let count = facts.len();
        let known = Known { facts, specks: vec![0; count], farthest: vec![0.0; count] };
        Ok(Self { known, places: vec![None; count], ..Self::new(folder, options)? })
    }

    /// Puts views aside behind those before. Their sources may still be set ([`Self::set_sources`]).
    ///
    /// # Errors
    /// [`Error::Shape`], naming the view, where its maps differ in size; a full disk.
    pub fn add(&mut self, views: Vec<FusionView>) -> Result<()> {
        let first = self.places.len();
        self.known.facts.extend(views.iter().map(FusionView::facts));
        let count = self.known.facts.len();
        self.known.specks.resize(count, 0);
        self.known.farthest.resize(count, 0.0);
        self.places.resize(count, None);
        self.add_at(&(first..count).collect::<Vec<_>>(), views)
    }

    /// Puts the views of these places aside.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_at(&mut self, places: &[usize], mut views: Vec<FusionView>) -> Result<()> {
        let options = &self.options;
        let problem = "views are put aside while others are fused";
        let maps = Arc::get_mut(&mut self.maps);
        let maps = maps.ok_or_else(|| Error::Bug { place: "streaming fusion", problem: problem.into() })?;
        let specks: Vec<Result<usize>> = views.par_iter_mut().map(|view| clean(view, options)).collect();
        for ((view, specks), &at) in views.into_iter().zip(specks).zip(places) {
            self.known.specks[at] = specks?;
            self.known.farthest[at] = farthest(&view.depth.data);
            self.places[at] = Some(maps.append(bytemuck::cast_slice(&view.depth.data))?);
            let rest = view.confidence.data.chunks(SOME).zip(view.colour.chunks(SOME));
            for (confidence, colour) in rest {
                let pixels = confidence.iter().zip(colour);
                let bytes: Vec<u8> = pixels.flat_map(|(confidence, colour)| rest_of(*confidence, *colour)).collect();
                maps.append(&bytes)?;
            }
        }
        Ok(())
    }

    /// What is known of the views without their maps.
    pub fn facts(&self) -> &[ViewFacts] {
        &self.known.facts
    }

    /// Says which views confirm view `at`.
    pub fn set_sources(&mut self, at: usize, sources: Vec<usize>) {
        self.known.facts[at].sources = sources;
    }

    /// Bytes that were put aside.
    pub fn bytes(&self) -> u64 {
        self.maps.len()
    }

    /// The folder whose disk they are on.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a view was put aside.
    pub fn has(&self, at: usize) -> bool {
        self.places[at].is_some()
    }

    /// Pixels in range that a view lost with its specks.
    pub fn specks(&self, at: usize) -> usize {
        self.known.specks[at]
    }

    /// Some of the views that were put aside: as if there were no others. No more are put aside until they are done
    /// with.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn only(&self, views: &BTreeSet<usize>, budget: Budget) -> Result<Spilled> {
        let mut only = Self {
            options: self.options,
            folder: self.folder.clone(),
            maps: self.maps.clone(),
            known: self.known.clone(),
            places: self.places.clone(),
        };
        for at in (0..self.places.len()).filter(|at| !views.contains(at)) {
            (only.places[at], only.known.farthest[at]) = (None, 0.0);
        }
        only.finish(budget)
    }

    /// All views are there.
    ///
    /// # Errors
    /// [`Error::Shape`], naming the view, where a source is not another view.
    pub fn finish(self, budget: Budget) -> Result<Spilled> {
        let Self { options, folder, maps, known, places } = self;
        let mut turns = vec![Vec::new(); places.len()];
        for (at, view) in known.facts.iter().enumerate() {
            check_sources((at, places.len()), &view.name, &view.sources)?;
            if places[at].is_some() {
                view.sources.iter().chain([&at]).for_each(|&needed| turns[needed].push(at));
            }
        }
        let cache = Mutex::default();
        Ok(Spilled { options, folder, maps, known, places, turns, cache, budget })
    }
}

/// Takes out pixels that are none and specks, of which it says how many pixels in range they had.
fn clean(view: &mut FusionView, options: &FusionOptions) -> Result<usize> {
    check_sizes(view)?;
    take_out_invalid(&mut view.depth, &mut view.confidence);
    let left = match &options.method {
        Method::Reprojection(constants) => without_specks_of(view, constants),
        _ => None,
    };
    Ok(left.map_or(0, |(depth, lost)| {
        view.depth = depth;
        lost
    }))
}

fn rest_of(confidence: f32, [red, green, blue]: [u8; 3]) -> [u8; REST] {
    let [a, b, c, d] = confidence.to_ne_bytes();
    [a, b, c, d, red, green, blue]
}

fn confidence_and_colour(&[a, b, c, d, red, green, blue]: &[u8; REST]) -> (f32, [u8; 3]) {
    (f32::from_ne_bytes([a, b, c, d]), [red, green, blue])
}

/// Views that are put aside, ready for fusion.
pub struct Spilled {
    options: FusionOptions,
    folder: PathBuf,
    maps: Arc<Scratch>,
    known: Known,
    places: Vec<Option<u64>>,
    /// For each view the turns that need its depths, in order.
    turns: Vec<Vec<usize>>,
    cache: Mutex<Cache>,
    budget: Budget,
}

/// Depths that are kept for later turns.
#[derive(Default)]
struct Cache {
    depths: BTreeMap<usize, Arc<Map>>,
    /// Of those and of what is being read.
    bytes: u64,
}

impl Spilled {
    /// What is known of the views without their maps.
    pub fn facts(&self) -> &[ViewFacts] {
        &self.known.facts
    }

    /// How they are fused.
    pub fn options(&self) -> &FusionOptions {
        &self.options
    }

    /// The folder whose disk they are on.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The views that take part.
    pub fn views(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|&at| self.places[at].is_some()).collect()
    }

    /// Moves the views' cameras so that they see the same with the origin here.
    pub fn enter(&mut self, origin: Origin) {
        self.known.facts.iter_mut().for_each(|view| origin.enter_camera(&mut view.camera));
    }

    /// Makes the cloud that [`super::fuse::fuse`] makes of the views in memory; its points go to `pass`, in their
    /// order. Returns what became of every view's pixels.
    ///
    /// # Errors
    /// A full disk, maps that cannot be read back, [`Error::Interrupted`]; those of `pass`.
    pub fn fuse(mut self, pass: &mut dyn FnMut(Vec<Point>) -> Result<()>) -> Result<Vec<Funnel>> {
        let origin = Origin::near_cameras(self.known.facts.iter().map(|view| &view.camera));
        self.enter(origin);
        let mut leave = |mut points: Vec<Point>| {
            origin.leave(&mut points);
            pass(points)
        };
        let scratch = |keep_duplicates: bool| (!keep_duplicates).then(|| Scratch::new(&self.folder)).transpose();
        let least = self.options.min_confidence;
        match &self.options.method {
            Method::Reprojection(constants) => {
                let mut cloud = Cloud::on(scratch(constants.keep_duplicates)?, &mut leave);
                reprojection::fuse_from(&self, least, constants, &mut cloud)
            }
            Method::Dynamic(constants) => {
                let mut cloud = Cloud::on(scratch(constants.keep_duplicates)?, &mut leave);
                dynamic::fuse_from(&self, least, constants, &mut cloud)
            }
            method => Err(Error::Bug { place: "streaming fusion", problem: format!("method {}", method.name()) }),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first turn after this one that needs a view's depths; the largest number where none does.
    fn next_turn(&self, view: usize, turn: usize) -> usize {
        let turns = &self.turns[view];
        turns.get(turns.partition_point(|&t| t < turn)).copied().unwrap_or(usize::MAX)
    }

    fn depth_bytes(&self, view: usize) -> u64 {
        let (width, height) = self.known.facts[view].size;
        (width * height * size_of::<f32>()) as u64
    }

    /// Forgets the depths that are needed last, until so many bytes more would fit or all are needed this turn.
    fn make_room(&self, cache: &mut Cache, bytes: u64, turn: usize) {
        while cache.bytes + bytes > self.budget.depths {
            let last = cache.depths.keys().map(|&view| (self.next_turn(view, turn), view)).max();
            let Some((_, view)) = last.filter(|(next, _)| *next > turn) else { return };
            cache.depths.remove(&view);
            cache.bytes -= self.depth_bytes(view);
        }
    }

    fn place(&self, view: usize) -> Result<u64> {
        let problem = || format!("view {} takes no part", self.known.facts[view].name);
        self.places[view].ok_or_else(|| Error::Bug { place: "streaming fusion", problem: problem() })
    }

    /// Reads confidences and colours of as many pixels of a view as `confidence` has, from its pixel `first` on.
    fn read_rest(&self, view: usize, first: usize, confidence: &mut [f32], colour: &mut [[u8; 3]]) -> Result<()> {
        let mut bytes = vec![0; confidence.len() * REST];
        self.maps.read(self.place(view)? + self.depth_bytes(view) + (first * REST) as u64, &mut bytes)?;
        for ((confidence, colour), rest) in confidence.iter_mut().zip(colour).zip(bytes.as_chunks().0) {
            (*confidence, *colour) = confidence_and_colour(rest);
        }
        Ok(())
    }

    fn read_depth(&self, view: usize, first: usize, depth: &mut [f32]) -> Result<()> {
        self.maps.read(self.place(view)? + (first * size_of::<f32>()) as u64, bytemuck::cast_slice_mut(depth))
    }
}

impl Store for Spilled {
    fn known(&self) -> &Known {
        &self.known
    }

    fn depth(&self, view: usize, turn: usize) -> Result<Depth<'_>> {
        if self.places[view].is_none() {
            return Ok(Depth::Shared(Arc::new(Map::filled(0, 0, 0.0))));
        }
        let bytes = self.depth_bytes(view);
        {
            let mut cache = self.cache();
            if let Some(depth) = cache.depths.get(&view) {
                return Ok(Depth::Shared(depth.clone()));
            }
            self.make_room(&mut cache, bytes, turn);
            cache.bytes += bytes;
        }
        let (width, height) = self.known.facts[view].size;
        let mut map = Map::filled(width, height, 0.0);
        map.data
            .par_chunks_mut(SOME)
            .enumerate()
            .try_for_each(|(part, depth)| self.read_depth(view, part * SOME, depth))?;
        let map = Arc::new(map);
        self.cache().depths.insert(view, map.clone());
        Ok(Depth::Shared(map))
    }

    fn own(&self, view: usize) -> Result<Own<'_>> {
        let (width, height) = self.known.facts[view].size;
        let mut confidence = Map::filled(width, height, 0.0);
        let mut colour = vec![[0; 3]; width * height];
        let parts = confidence.data.par_chunks_mut(SOME).zip(colour.par_chunks_mut(SOME)).enumerate();
        parts.try_for_each(|(part, (confidence, colour))| self.read_rest(view, part * SOME, confidence, colour))?;
        Ok(Own { confidence: Cow::Owned(confidence), colour: Cow::Owned(colour) })
    }

    fn window(&self, view: usize, area: Area) -> Result<Window<'_>> {
        let (width, pixels) = (area.size().0.max(1), area.pixels());
        let (mut depth, mut confidence, mut colour) = (vec![0.0; pixels], vec![0.0; pixels], vec![[0; 3]; pixels]);
        let rows = depth.chunks_mut(width).zip(confidence.chunks_mut(width)).zip(colour.chunks_mut(width));
        for (y, ((depth, confidence), colour)) in (area.start.1..).zip(rows) {
            let first = y * self.known.facts[view].size.0 + area.start.0;
            self.read_depth(view, first, depth)?;
            self.read_rest(view, first, confidence, colour)?;
        }
        let (depth, confidence, colour) = (Cow::Owned(depth), Cow::Owned(confidence), Cow::Owned(colour));
        Ok(Window { area, depth, confidence, colour })
    }

    fn pace(&self) -> Pace {
        let Budget { windows, pixels, .. } = self.budget;
        Pace { views: 1, pixels, square: SQUARE, window_bytes: Some(windows) }
    }
}
