//! Where the methods that take one view after the other get its maps from: all of them in memory
//! ([`InMemory`]), or on disk with a part in memory ([`super::spilled`]). The cloud is the same.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use rayon::prelude::*;

use super::view::{FusionView, ViewFacts};
use crate::Result;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;

/// What is held of all views.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What is known without their maps.
    pub facts: Vec<ViewFacts>,
    /// Pixels in range that each lost with its specks.
    pub specks: Vec<usize>,
    /// At least the greatest depth of each; 0 of one that is not looked at.
    pub farthest: Vec<f64>,
}

/// Maps of views without invalid pixels and without specks.
pub trait Store: Sync {
    /// What is held of all views.
    fn known(&self) -> &Known;

    /// What is known of the views without their maps.
    fn facts(&self) -> &[ViewFacts] {
        &self.known().facts
    }

    /// Pixels in range that a view lost with its specks.
    fn specks(&self, view: usize) -> usize {
        self.known().specks[view]
    }

    /// At least the greatest depth of a view; 0 of one that has none, or is not looked at.
    fn farthest(&self, view: usize) -> f64 {
        self.known().farthest[view]
    }

    /// A view's depths, for the turn of view `turn`: its own, or those of one of its sources.
    ///
    /// # Errors
    /// Maps that cannot be read back.
    fn depth(&self, view: usize, turn: usize) -> Result<Depth<'_>>;

    /// The rest of a view's maps.
    ///
    /// # Errors
    /// As [`Self::depth`].
    fn own(&self, view: usize) -> Result<Own<'_>>;

    /// All maps of a view, at least in this area.
    ///
    /// # Errors
    /// As [`Self::depth`].
    fn window(&self, view: usize, area: Area) -> Result<Window<'_>>;

    /// How much is to be taken at a time.
    fn pace(&self) -> Pace;
}

/// How much of the work is in memory at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Views that are confirmed at once.
    pub views: usize,
    /// Pixels of a view whose points are made at once.
    pub pixels: usize,
    /// Side of the squares of a view's pixels whose points are heard together.
    pub square: usize,
    /// Bytes of windows that each thread may hold; `None`: whole maps are there anyway.
    pub window_bytes: Option<u64>,
}

/// Depths of a view.
pub enum Depth<'a> {
    /// In memory all along.
    Held(&'a Map),
    /// In memory as long as somebody has it.
    Shared(Arc<Map>),
}

impl Deref for Depth<'_> {
    type Target = Map;

    fn deref(&self) -> &Map {
        match self {
            Self::Held(map) => map,
            Self::Shared(map) => map,
        }
    }
}

/// Confidences and colours of a view.
pub struct Own<'a> {
    /// As in [`FusionView`].
    pub confidence: Cow<'a, Map>,
    /// As in [`FusionView`].
    pub colour: Cow<'a, [[u8; 3]]>,
}

impl Own<'_> {
    /// The same, without a copy.
    pub fn borrowed(&self) -> Own<'_> {
        Own { confidence: Cow::Borrowed(&self.confidence), colour: Cow::Borrowed(&self.colour) }
    }
}

/// A rectangle of a map's pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// Its first column and row.
    pub start: (usize, usize),
    /// Behind its last column and row.
    pub end: (usize, usize),
}

impl Area {
    /// A whole map.
    pub fn whole(size: (usize, usize)) -> Self {
        Self { start: (0, 0), end: size }
    }

    /// Around both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            start: (self.start.0.min(other.start.0), self.start.1.min(other.start.1)),
            end: (self.end.0.max(other.end.0), self.end.1.max(other.end.1)),
        }
    }

    /// Columns and rows.
    pub fn size(self) -> (usize, usize) {
        (self.end.0 - self.start.0, self.end.1 - self.start.1)
    }

    /// How many pixels it has.
    pub fn pixels(self) -> usize {
        self.size().0 * self.size().1
    }
}

/// The maps of a view in an area, row by row.
pub struct Window<'a> {
    /// The area.
    pub area: Area,
    /// Depths.
    pub depth: Cow<'a, [f32]>,
    /// Confidences.
    pub confidence: Cow<'a, [f32]>,
    /// Colours.
    pub colour: Cow<'a, [[u8; 3]]>,
}

impl Window<'_> {
    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.area.end.0 - self.area.start.0
    }

    /// The place of a pixel of the map, which must be in the area.
    pub fn index(&self, x: usize, y: usize) -> usize {
        (y - self.area.start.1) * self.width() + (x - self.area.start.0)
    }
}

/// Depths are rounded when they are interpolated, by much less.
const ROUNDING: f64 = 1e-6;

/// At least the greatest depth of some pixels.
pub(crate) fn farthest(depths: &[f32]) -> f64 {
    let greatest = depths.iter().copied().filter(|&depth| is_depth(depth)).fold(0.0, f32::max);
    f64::from(greatest) * (1.0 + ROUNDING)
}

/// Views whose maps are all in memory.
pub struct InMemory<'a> {
    views: &'a [FusionView],
    known: Known,
}

impl<'a> InMemory<'a> {
    /// Of views that have lost so many pixels with their specks.
    pub fn new(views: &'a [FusionView], specks: Vec<usize>) -> Self {
        let farthest = views.par_iter().map(|view| farthest(&view.depth.data)).collect();
        Self { views, known: Known { facts: views.iter().map(FusionView::facts).collect(), specks, farthest } }
    }
}

impl Store for InMemory<'_> {
    fn known(&self) -> &Known {
        &self.known
    }

    fn depth(&self, view: usize, _: usize) -> Result<Depth<'_>> {
        Ok(Depth::Held(&self.views[view].depth))
    }

    fn own(&self, view: usize) -> Result<Own<'_>> {
        let FusionView { confidence, colour, .. } = &self.views[view];
        Ok(Own { confidence: Cow::Borrowed(confidence), colour: Cow::Borrowed(colour) })
    }

    fn window(&self, view: usize, _: Area) -> Result<Window<'_>> {
        let FusionView { depth, confidence, colour, .. } = &self.views[view];
        Ok(Window {
            area: Area::whole(self.known.facts[view].size),
            depth: Cow::Borrowed(&depth.data),
            confidence: Cow::Borrowed(&confidence.data),
            colour: Cow::Borrowed(colour),
        })
    }

    fn pace(&self) -> Pace {
        // Squares have as many pixels as blocks have points.
        Pace { views: rayon::current_num_threads(), pixels: usize::MAX, square: 32, window_bytes: None }
    }
}
