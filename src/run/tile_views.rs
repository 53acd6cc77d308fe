//! Finished maps of a scene's views, of which a tile reads those that it needs.

use std::path::Path;

use glam::DVec3;
use rayon::prelude::*;
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result};
use crate::files::depth_maps::DepthMaps;
use crate::files::hash;
use crate::fusion::origin::Origin;
use crate::fusion::settings::Settings;
use crate::fusion::shared::Rays;
use crate::fusion::tile::Depths;
use crate::fusion::view::{ViewFacts, is_in_range};
use crate::host::interrupt;
use crate::host::memory::{MemoryNeed, Part, StageMemory, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::manifest::made::stamp;
use crate::manifest::rows;
use crate::maps::consistency::is_depth;
use crate::run::fuse_views::{ReadMaps, ReadView, confidence_file, map_camera, map_of, read_maps, read_view};
use crate::run::fusion_memory::{PROGRAM_BYTES, VIEW_BYTES};
use crate::run::memory::photo_bytes;
use crate::run::options::{MapsOptions, parameters};
use crate::run::plan::Frame;
use crate::scene::Scene;
use crate::scene::camera::DepthRange;

/// A pixel of so many in either direction is looked at to find where space is cut, at least.
const EVERY: usize = 4;
/// Enough of them for each tile to be cut as it should be; and how many there are at least and at most.
const PLACES_OF_A_TILE: usize = 1 << 10;
const PLACES: (usize, usize) = (1 << 16, 1 << 22);
/// Bytes of a pixel of a view that is looked at: depth and confidence.
const SCANNED: u64 = 8;
/// Bytes of a place: of its view, then among those of all.
const PLACE: u64 = 2 * size_of::<DVec3>() as u64;

/// Views with their maps in files.
pub struct TileViews<'a> {
    /// Photos and cameras.
    pub scene: &'a Scene,
    /// Indices of the scene's views that are fused.
    pub chosen: &'a [usize],
    /// Of all views of the scene.
    pub frames: &'a [Frame],
    /// Where the maps lie.
    pub files: &'a DepthMaps,
    /// How they are read.
    pub maps: &'a MapsOptions,
    /// How they are fused.
    pub settings: &'a Settings,
    /// Depths of each chosen view that are used.
    pub ranges: Vec<DepthRange>,
    /// For each chosen view the places of those that confirm it.
    pub sources: Vec<Vec<usize>>,
}

/// What a view's maps look like from afar.
pub struct Scan {
    /// Width and height.
    pub size: (usize, usize),
    /// How far they reach.
    pub depths: Depths,
    /// Pixels that may become points.
    pub usable: usize,
    /// Where some of them lie.
    pub places: Vec<DVec3>,
}

impl TileViews<'_> {
    fn name(&self, at: usize) -> &str {
        &self.scene.views[self.chosen[at]].name
    }

    fn frame(&self, at: usize) -> &Frame {
        &self.frames[self.chosen[at]]
    }

    fn file(&self, at: usize) -> Result<&Path> {
        map_of(self.files, &self.scene.views[self.chosen[at]])
    }

    /// What is known of all views whose maps have these sizes.
    ///
    /// # Errors
    /// A size that is none of its photo's.
    pub fn facts(&self, sizes: &[(usize, usize)]) -> Result<Vec<ViewFacts>> {
        let facts = |(at, &size): (usize, &(usize, usize))| {
            let (name, camera) = (self.name(at).to_owned(), map_camera(self.frame(at), size, self.file(at)?)?);
            Ok(ViewFacts { name, camera, size, range: self.ranges[at], sources: self.sources[at].clone() })
        };
        sizes.iter().enumerate().map(facts).collect()
    }

    /// What fusion takes as the origin.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn origin(&self, sizes: &[(usize, usize)]) -> Result<Origin> {
        Ok(Origin::near_cameras(self.facts(sizes)?.iter().map(|view| &view.camera)))
    }

    /// Reads a view whole.
    ///
    /// # Errors
    /// Maps and photos that cannot be read or do not belong together.
    pub fn read(&self, at: usize) -> Result<ReadView> {
        let of_view = (self.frame(at), self.file(at)?, self.files);
        let mut read = read_view(self.scene, self.chosen[at], of_view, 0, self.maps)?;
        read.view.range = self.ranges[at];
        Ok(read)
    }

    /// Bytes that the largest photo takes while it is decoded.
    pub fn photo_bytes(&self) -> u64 {
        let bytes = |&view: &usize| photo_bytes(&self.scene.views[view], &self.frames[view], 1);
        self.chosen.iter().map(bytes).max().unwrap_or(0)
    }

    /// Pixels of the depth maps of all views, by their files' sizes: together, and of the largest.
    ///
    /// # Errors
    /// Files that cannot be looked at.
    pub fn pixels(&self) -> Result<(usize, usize)> {
        let (mut all, mut largest) = (0, 0);
        for at in 0..self.chosen.len() {
            let file = self.file(at)?;
            let pixels = std::fs::metadata(file).map_err(Error::io("read the depth map", file))?.len() as usize / 4;
            (all, largest) = (all + pixels, largest.max(pixels));
        }
        Ok((all, largest))
    }

    /// Looks at all maps, as well as so many tiles need it. What is found does not depend on the memory that there is.
    ///
    /// # Errors
    /// Maps that cannot be read; too little memory for one of them.
    pub fn scans(&self, tiles: usize) -> Result<Vec<Scan>> {
        let (all, largest) = self.pixels()?;
        let places = (tiles * PLACES_OF_A_TILE).clamp(PLACES.0, PLACES.1);
        let step = ((all as f64 / places as f64).sqrt().ceil() as usize).max(EVERY);
        let there = room(self.maps.memory);
        let places = (all as u64).div_ceil((step * step) as u64) * PLACE;
        let of_view = largest as u64 * SCANNED;
        let known = self.chosen.len() as u64 * VIEW_BYTES;
        let left = there.bytes.saturating_sub(PROGRAM_BYTES + known + places);
        let at_once = (left / of_view.max(1)).clamp(1, rayon::current_num_threads() as u64);
        let parts = vec![
            Part::new("depth and confidence of views that are looked at", at_once * of_view),
            Part::new("where some of their pixels lie", places),
            Part::new("cameras, names and sources of all views", known),
            Part::new("program and weights", PROGRAM_BYTES),
        ];
        let need = MemoryNeed { stages: vec![StageMemory::new("cutting space into tiles", parts)] };
        refuse_if_too_large(&need, &there, &[], "smaller maps or fewer --tiles would help")?;
        let views: Vec<usize> = (0..self.chosen.len()).collect();
        let mut scans = Vec::with_capacity(views.len());
        for some in views.chunks(at_once as usize) {
            scans.extend(each_view(some.len(), |at| self.scan(some[at], step))?);
        }
        Ok(scans)
    }

    fn scan(&self, at: usize, step: usize) -> Result<Scan> {
        let file = self.file(at)?;
        let of_view = (self.frame(at), file, self.files);
        let ReadMaps { depth, confidence, camera, .. } = read_maps(self.name(at), of_view, &self.maps.maps)?;
        let size = (depth.width, depth.height);
        let least = self.settings.fusion.min_confidence as f32;
        let is_usable =
            |pixel: &usize| is_in_range(depth.data[*pixel], self.ranges[at]) && confidence.data[*pixel] > least;
        let rays = Rays::new(&camera);
        let some = (0..size.1).step_by(step).flat_map(|y| (0..size.0).step_by(step).map(move |x| (x, y)));
        let index = |(x, y): (usize, usize)| y * size.0 + x;
        let some = some.filter(|pixel| is_usable(&index(*pixel)));
        let mut places: Vec<DVec3> = some.map(|pixel| rays.point(pixel, depth.data[index(pixel)])).collect();
        places.shrink_to_fit();
        Ok(Scan {
            size,
            depths: Depths::of(depth.data.iter().copied().filter(|depth| is_depth(*depth))),
            usable: (0..depth.data.len()).filter(is_usable).count(),
            places,
        })
    }

    /// How the maps are fused.
    pub fn job(&self) -> Fields<String, Value> {
        parameters(self.settings)
    }

    /// A hash of what the points depend on beside: cameras, ranges, sources and maps of all views. Maps are told apart
    /// by what the run has written down that made them, others by size and time; photos, which may be copies, by their
    /// size.
    ///
    /// # Errors
    /// Maps that cannot be looked at.
    pub fn sha256(&self) -> Result<String> {
        let of_view = |at: usize| {
            let frame = self.frame(at);
            let view = &self.scene.views[self.chosen[at]];
            let all = json!({
                "name": view.name,
                "size": [frame.width, frame.height],
                "camera": [rows(frame.camera.k), rows(frame.camera.r)],
                "translation": frame.camera.t.to_array(),
                "range": self.ranges[at],
                "sources": self.sources[at],
                "maps": self.stamp(at)?,
                "photo": std::fs::metadata(&view.image).map_or(0, |file| file.len()),
            });
            Ok(hash::of_bytes(all.to_string().as_bytes()))
        };
        let all = each_view(self.chosen.len(), of_view)?;
        Ok(hash::of_bytes(json!(all).to_string().as_bytes()))
    }

    fn stamp(&self, at: usize) -> Result<Value> {
        let (name, maps) = (self.name(at), &self.maps.maps);
        Ok(stamp(maps, name, &[("depth", self.file(at)?), ("confidence", &confidence_file(maps, name))]))
    }
}

/// Looks at views in parallel, in their order.
fn each_view<T: Send>(count: usize, look: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let look = |at: usize| {
        interrupt::check()?;
        look(at)
    };
    (0..count).into_par_iter().map(look).collect()
}
