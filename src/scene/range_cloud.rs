//! Depth ranges from a cloud that is there already: a scan, an earlier reconstruction, sparse points of another
//! program. Its points need no tracks.

use std::path::Path;

use rayon::prelude::*;

use crate::error::counted;
use crate::files::cloud_points;
use crate::scene::camera::DepthRange;
use crate::scene::{Scene, View};
use crate::{Error, Result};

/// Of larger clouds an even part is asked: percentiles need no more, and every point is projected into every view.
const MOST_POINTS: usize = 200_000;
/// A view that sees fewer of them keeps the range that it has.
const LEAST_POINTS: usize = 20;
/// Of the depths in front of a view, those that are left out at either end: points that something hides, strays.
const PERCENT: usize = 1;
/// How far a range goes beyond the others, as one from sparse points does by default.
const WIDEN: f64 = 0.1;

impl Scene {
    /// Gives each view the range of depths at which the points of a cloud (PLY, LAS, LAZ, E57) lie in its photo: the
    /// 1st to 99th percentile, widened by a tenth. A file that ends in `.txt` or `.csv` is a list of ranges. Whether
    /// one point hides another is not asked. Views that see less than 20 points keep the range that they have, with a
    /// note.
    ///
    /// # Errors
    /// A cloud that cannot be read, and one of which no view sees 20 points.
    pub fn take_ranges(&mut self, cloud: &Path) -> Result<()> {
        if is_list(cloud) {
            return self.take_listed_ranges(cloud);
        }
        let cloud_points::Part { points, notes } = cloud_points::read_part(cloud, MOST_POINTS)?;
        self.notes.extend(notes);
        let ranges: Vec<Option<DepthRange>> = self.views.par_iter().map(|view| range_of(view, &points)).collect();
        let found = ranges.iter().flatten().count();
        if found == 0 {
            let found = format!("{}, of which no view sees {LEAST_POINTS}", counted(points.len(), "point"));
            return Err(Error::input(cloud.display().to_string(), found, "a cloud in the scene's coordinates"));
        }
        let mut note = format!("depth ranges of {found} of {} views from {}", self.views.len(), cloud.display());
        if let Some(first) = self.views.iter().zip(&ranges).find(|(_, range)| range.is_none()).map(|(view, _)| view) {
            note += &format!("; the others (first: {}) see too little of it", first.name);
        }
        self.notes.push(note);
        for (view, range) in self.views.iter_mut().zip(ranges) {
            view.range = range.or(view.range);
        }
        Ok(())
    }
}

/// Whether a file is a list of ranges, by its name.
fn is_list(file: &Path) -> bool {
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["txt", "csv"].iter().any(|list| extension.eq_ignore_ascii_case(list))
}

fn range_of(view: &View, points: &[[f64; 3]]) -> Option<DepthRange> {
    let (width, height) = (view.size.0 as f64 - 0.5, view.size.1 as f64 - 0.5);
    let depth = |&point: &[f64; 3]| {
        let (pixel, depth) = view.camera.pixel(point.into())?;
        let is_in = (-0.5..=width).contains(&pixel.x) && (-0.5..=height).contains(&pixel.y);
        is_in.then_some(depth)
    };
    let mut depths: Vec<f64> = points.iter().filter_map(depth).collect();
    if depths.len() < LEAST_POINTS {
        return None;
    }
    depths.sort_unstable_by(f64::total_cmp);
    let percentile = |p: usize| depths[depths.len() * p / 100];
    let range =
        DepthRange { near: percentile(PERCENT) * (1.0 - WIDEN), far: percentile(100 - PERCENT) * (1.0 + WIDEN) };
    (range.near > 0.0 && range.far.is_finite()).then_some(range)
}
