//! What one step of training looks at, and where it comes from.

use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::random::Random;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;

/// A reference view with its source views and the truth.
#[derive(Clone, Debug)]
pub struct TrainingSample {
    /// Where it came from, for messages and logs: `scan2/rect_006_3_r5000`, `synth 1234`.
    pub name: String,
    /// Of every view, all of one size whose sides are multiples of 4; the first is the reference view's.
    pub photos: Vec<Photo>,
    /// Of every view, at the photos' size.
    pub cameras: Vec<Camera>,
    /// True depth of the reference view at every fourth pixel, [H/4, W/4]; 0 where there is none.
    pub depth: Map,
    /// The same at every pixel, [H, W], where it is known: what narrow stages learn from.
    pub fine: Option<Map>,
    /// The depths to search.
    pub range: DepthRange,
}

/// Samples by index. The same index gives the same sample, on any thread and in any order, so that a training run that
/// goes on sees what it would have seen.
pub trait Dataset: Send + Sync {
    /// One line for the log: what it is and how much of it there is.
    fn describe(&self) -> String;

    /// How many different samples there are; `None` for an endless row. An index beyond begins anew.
    fn len(&self) -> Option<u64>;

    /// The sample of an index with at most `views` views (fewer where a scene has fewer), at least two.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should.
    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample>;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Which source views a sample takes: places in a list that has the best ones first, in increasing order.
///
/// The `count` best ones; with probability `worse` one of the two best and any others, so that a network learns what
/// to do with views that see little of the same surface.
pub fn choose_sources(available: usize, count: usize, worse: f64, random: &mut Random) -> Vec<usize> {
    if count >= available || count == 0 || !random.chance(worse) {
        return (0..available.min(count)).collect();
    }
    let mut rest: Vec<usize> = (0..available).collect();
    let mut chosen = vec![rest.remove(random.below(2.min(available)))];
    while chosen.len() < count {
        chosen.push(rest.swap_remove(random.below(rest.len())));
    }
    chosen.sort_unstable();
    chosen
}

/// Fails unless the value of an option is a probability or a share.
pub(super) fn expect_share(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::input(name, value.to_string(), "a number from 0 to 1"))
}
