//! Which views see which points of the cloud: tracks, as sparse models have them.
//!
//! A view sees a point where the point falls onto a pixel of its map whose depth differs from the point's by less than
//! the run's `--max-depth-error-rel`. Maps are read one after the other; of each only the numbers of the points that
//! are seen stay in memory.

use crate::error::{Result, counted};
use crate::export::job::Job;
use crate::fusion::settings::{Method, Pyramid};
use crate::host::memory::expect_room;
use crate::maps::consistency::{Thresholds, is_depth};

/// Who sees what.
pub struct Tracks {
    /// For each view the numbers of the points that it sees, from 0, rising.
    pub seen: Vec<Vec<u32>>,
    /// Where each point's entries begin, and the end.
    starts: Vec<usize>,
    /// View, and the place of the point in the view's `seen`.
    entries: Vec<(u32, u32)>,
}

impl Tracks {
    /// Of the exported cloud.
    ///
    /// # Errors
    /// A run without a cloud, maps that cannot be read, too little memory.
    pub fn find(job: &Job) -> Result<Self> {
        let (results, cloud) = (job.results, job.cloud()?);
        let tolerance = match results.fusion()?.method {
            Method::Reprojection(m) | Method::Pyramid(Pyramid { reprojection: m, .. }) => m.thresholds,
            _ => Thresholds::default(),
        };
        let tolerance = tolerance.max_depth_error_rel;
        let mut agreeing = 0;
        cloud.each(|point| {
            agreeing += u64::from(point.views);
            Ok(())
        })?;
        // Once by view and twice by point; other views may see a point that were not asked when it was made.
        expect_room(&results.cloud(), 2 * agreeing * 12 + 8 * cloud.count)?;

        let count = cloud.count as usize;
        let mut lengths = vec![0u32; count];
        let mut seen = Vec::with_capacity(results.views.len());
        job.each_view("tracks", |view| {
            let (camera, depth) = (results.views[view].camera, results.maps(view)?.depth);
            let last = [depth.width, depth.height].map(|side| side as f64 - 0.5);
            let (mut of_view, mut index) = (Vec::new(), 0u32);
            cloud.each(|point| {
                if let Some((p, z)) = camera.pixel(point.position.into())
                    && (-0.5..last[0]).contains(&p.x)
                    && (-0.5..last[1]).contains(&p.y)
                {
                    let there = depth.at((p.x + 0.5) as usize, (p.y + 0.5) as usize);
                    if is_depth(there) && (f64::from(there) - z).abs() < tolerance * z {
                        of_view.push(index);
                        lengths[index as usize] += 1;
                    }
                }
                index += 1;
                Ok(())
            })?;
            seen.push(of_view);
            Ok(())
        })?;
        let unseen = lengths.iter().filter(|&&length| length == 0).count();
        if unseen > 0 {
            job.note(format!(
                "{} that no view's map shows have no track and are not in points3D",
                counted(unseen, "point")
            ));
        }
        Ok(Self::of(seen, count))
    }

    /// Of what each view sees of so many points.
    fn of(seen: Vec<Vec<u32>>, count: usize) -> Self {
        let mut starts = vec![0; count + 1];
        seen.iter().flatten().for_each(|&point| starts[point as usize + 1] += 1);
        for i in 0..count {
            starts[i + 1] += starts[i];
        }
        let end = starts[count];
        let mut next = starts.clone();
        let mut entries = vec![(0, 0); end];
        for (view, of_view) in seen.iter().enumerate() {
            for (place, &point) in of_view.iter().enumerate() {
                entries[next[point as usize]] = (view as u32, place as u32);
                next[point as usize] += 1;
            }
        }
        Self { seen, starts, entries }
    }

    /// With tracks of every n-th point only, so that at most so many have one.
    pub fn thinned(&self, most: usize) -> Self {
        let count = self.starts.len() - 1;
        let step = count.div_ceil(most.max(1)).max(1);
        let kept = |of_view: &Vec<u32>| {
            of_view.iter().copied().filter(|&point| (point as usize).is_multiple_of(step)).collect()
        };
        Self::of(self.seen.iter().map(kept).collect(), count)
    }

    /// The views that see a point, in their order, each with the point's place in what it sees.
    pub fn of_point(&self, index: usize) -> &[(u32, u32)] {
        &self.entries[self.starts[index]..self.starts[index + 1]]
    }

    /// How many points any view sees.
    pub fn seen_points(&self) -> usize {
        self.starts.windows(2).filter(|w| w[0] < w[1]).count()
    }
}
