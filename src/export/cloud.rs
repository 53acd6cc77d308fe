//! The cloud that is exported: the run's file, read point by point as often as a format asks, or a part of its points
//! in memory.

use glam::DVec3;

use crate::error::{Error, Result, counted};
use crate::export::options::ExportOptions;
use crate::export::outliers;
use crate::export::results::Results;
use crate::files::ply::Point;
use crate::files::ply_cloud::CloudFile;
use crate::files::ply_storage::{OffsetOption, Storage};
use crate::fusion::thin::thin;
use crate::host::allocator::may_fail;
use crate::host::memory::expect_room;

/// Points, in the order of the run's cloud.
pub struct Cloud {
    points: Points,
    /// How many there are.
    pub count: u64,
    /// Whether floats are fine enough for their coordinates; and what the run has taken from them in its file.
    pub storage: Storage,
}

enum Points {
    File(CloudFile),
    Memory(Vec<Point>),
}

/// The box around all points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Least coordinates.
    pub low: DVec3,
    /// Greatest coordinates.
    pub high: DVec3,
}

impl Bounds {
    /// Whole numbers near its middle, where its sides are larger than a unit; else the middle.
    pub fn middle(&self) -> DVec3 {
        let middle = 0.5 * (self.low + self.high);
        // 0 added makes one zero of the two.
        if (self.high - self.low).max_element() > 1.0 { middle.round() + DVec3::ZERO } else { middle }
    }
}

impl Cloud {
    /// The run's cloud as the options want it, and what there is to say of what was taken out; `None` where the run has
    /// none.
    ///
    /// # Errors
    /// A file that is no cloud of this program, or whose points do not fit into memory where they must.
    pub fn open(results: &Results, options: &ExportOptions) -> Result<Option<(Self, Vec<String>)>> {
        let path = results.cloud();
        if !path.exists() {
            return Ok(None);
        }
        let file = CloudFile::open(&path)?;
        if !options.changes_cloud() {
            let (count, storage) = (file.count, file.storage);
            return Ok(Some((Self { points: Points::File(file), count, storage }, Vec::new())));
        }
        // Beside the points: what the search for neighbours and the voxels take.
        const BYTES_A_POINT: u64 = 3 * size_of::<Point>() as u64;
        expect_room(&path, file.count.saturating_mul(BYTES_A_POINT))?;
        let mut points = Vec::new();
        may_fail(|| points.try_reserve_exact(usize::try_from(file.count).unwrap_or(usize::MAX))).map_err(|e| {
            let found = format!("{}: its {} points do not fit: {e}", path.display(), file.count);
            Error::Memory(format!("{found}; expected a smaller file, or more memory"))
        })?;
        file.each(|point| {
            points.push(*point);
            Ok(())
        })?;
        let mut notes = Vec::new();
        if let Some(deviations) = options.outliers {
            let before = points.len();
            points = outliers::without(points, deviations)?;
            notes.push(format!(
                "{} left out: their {} nearest neighbours are on average farther than {deviations} standard deviations \
                 above what is usual",
                counted(before - points.len(), "outlier"),
                outliers::NEIGHBOURS
            ));
        }
        if let Some(side) = options.spacing {
            let before = points.len();
            let corner = results.views.first().map_or(DVec3::ZERO, |view| view.camera.centre() - 0.5 * side);
            points = thin(&points, side, corner);
            notes.push(format!("{before} points thinned to {}, one a cube of side {side}", points.len()));
        }
        if let Some(most) = options.max_points.filter(|&most| most < points.len()) {
            let before = points.len();
            // Evenly in the file's order, which goes view by view and row by row.
            points = (0..most).map(|i| points[(i as u128 * before as u128 / most as u128) as usize]).collect();
            notes.push(format!("{most} of {before} points kept, evenly in the cloud's order"));
        }
        let storage =
            Storage { offset: file.storage.offset, ..crate::files::ply::storage_of(&points, OffsetOption::None) };
        Ok(Some((Self { count: points.len() as u64, points: Points::Memory(points), storage }, notes)))
    }

    /// Gives every point.
    ///
    /// # Errors
    /// Those of reading the file; what `take` says.
    pub fn each(&self, mut take: impl FnMut(&Point) -> Result<()>) -> Result<()> {
        match &self.points {
            Points::File(file) => file.each(take),
            Points::Memory(points) => points.iter().try_for_each(&mut take),
        }
    }

    /// The box around the points; of an empty cloud, the origin.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn bounds(&self) -> Result<Bounds> {
        let mut bounds = Bounds { low: DVec3::INFINITY, high: DVec3::NEG_INFINITY };
        self.each(|point| {
            let position = DVec3::from(point.position);
            bounds = Bounds { low: bounds.low.min(position), high: bounds.high.max(position) };
            Ok(())
        })?;
        Ok(if self.count > 0 { bounds } else { Bounds { low: DVec3::ZERO, high: DVec3::ZERO } })
    }

    /// Whether coordinates need doubles where no offset is taken from them.
    pub fn needs_doubles(&self) -> bool {
        self.storage.double || self.storage.is_moved()
    }
}
