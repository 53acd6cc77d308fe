//! What sparse points say of the depths in front of a view.
//!
//! The depths of the points that a view itself tracks give its range. A view does not track all that it sees: near
//! ground, which few photos show in detail, and what lies beside the main thing may have points of its neighbours only.
//! The range is widened to such points where nothing speaks against them, and no further, since planes are coarser in a
//! wider range.

use glam::DVec2;
use rayon::prelude::*;

use crate::scene::camera::DepthRange;
use crate::scene::tracks::Tracks;
use crate::scene::{ScenePoint, View};

/// Points that widen a range have at least this many views: two agree by chance along an epipolar line.
const LEAST_VIEWS: usize = 3;
/// Of the points that count, one in so many must lie beyond an end of the range, or planes that all pixels need would
/// be spent on next to none of them. (Measured on sceaux: four of 4254 points would have widened a range by 2.4.)
const WORTH: usize = 200;
/// Planes behind the range must hold at least one for so many of the points that as many planes hold on average. (With
/// 20, three to nine points in a hundred took a third of the planes of some views of monstree, and depths within 1 %
/// became fewer by a tenth, at points that the view tracks and at others.)
const THINNEST: f64 = 4.0;
/// As many points must support a depth that a range is widened to, ...
const SUPPORT: usize = 3;
/// ... within a tenth of it.
const SUPPORT_RATIO: f64 = 1.1;
/// How far outside of the photo points tell of what its border shows, and how far out the views that track a point may
/// see it (distortion moves points across the border), in parts of the photo's side.
const BORDER: f64 = 0.1;
/// Points this close in the photo, in parts of its longer side, belong to the same surface or to one before or behind
/// it.
const CLOSE: f64 = 1.0 / 32.0;
/// On the same surface, their depths differ by less than this factor.
const SAME_SURFACE: f64 = 1.3;

impl Tracks<'_> {
    /// The 1st to 99th percentile of the depths of the view's own sparse points, strays left out
    /// ([`without_strays`]), `near` times `1 - widen` and `far` times `1 + widen` (protocol page E.1: elements
    /// floor(0.01 n) and floor(0.99 n) of the sorted depths). `None` where the view sees no point in front of it, or
    /// where that gives no range.
    pub fn point_depth_range(&self, view: usize, widen: f64) -> Option<DepthRange> {
        let depths = self.own_depths(view);
        let depths = without_strays(&depths);
        if depths.is_empty() {
            return None;
        }
        let percentile = |p: usize| depths[depths.len() * p / 100];
        let range = DepthRange { near: percentile(1) * (1.0 - widen), far: percentile(99) * (1.0 + widen) };
        (range.near > 0.0 && range.far > range.near).then_some(range)
    }

    /// A range that was taken from the view's own points ([`Self::point_depth_range`]), widened to what else of the
    /// sparse points the view must see:
    ///
    /// - its own points outside of the range;
    /// - points that only its source views (`sources`) track and that lie in its photo, unless all of its own points
    ///   close by in the photo lie at other depths: then the point is hidden behind what they are on, or would hide
    ///   them;
    /// - towards the camera also such points beyond the photo's border, up to a tenth of its side: ground goes on
    ///   between them and the nearest point that the photo shows.
    ///
    /// Only points count that three or more views track, all of which have them in their photo, and only depths at
    /// which three of them lie within a tenth; strays ([`without_strays`]) are left out before. An end stays where it
    /// is unless half a percent of the points lie beyond it, and the far one also unless that is a quarter of the
    /// share of the planes, evenly spaced in 1 / depth, that would come to lie there.
    pub fn widened_range(&self, view: usize, sources: &[usize], range: DepthRange) -> DepthRange {
        let Some(of) = self.scene.views.get(view) else { return range };
        let seen = Seen::new(of, self.points(view));
        let of_point = |point: &&ScenePoint| {
            let own = point.views.binary_search(&view).is_ok();
            if point.views.len() < LEAST_VIEWS {
                return None;
            }
            let (pixel, depth) = of.camera.pixel(point.position)?;
            // Far points beside the photo say nothing of what it shows.
            let beside = if own { 0.0 } else { border_distance(of, pixel) };
            if beside > if depth < range.near { BORDER } else { 0.0 } {
                return None;
            }
            let in_range = (range.near..=range.far).contains(&depth);
            let may_be_seen = own || beside > 0.0 || seen.allows(pixel, depth);
            (in_range || may_be_seen && self.is_where_its_views_look(point)).then_some(depth)
        };
        let around = self.points_of_any(sources.iter().copied().chain([view]));
        let mut depths: Vec<f64> = around.par_iter().filter_map(of_point).collect();
        depths.sort_unstable_by(f64::total_cmp);
        let depths = without_strays(&depths);
        let least = SUPPORT.max(depths.len().div_ceil(WORTH));
        let nearer = depths.partition_point(|&z| z < range.near);
        let farther = depths.len() - depths.partition_point(|&z| z <= range.far);
        let mut supported = depths.windows(SUPPORT).filter(|w| w[SUPPORT - 1] <= SUPPORT_RATIO * w[0]);
        let Some(first) = supported.next() else { return range };
        let near = if nearer >= least { range.near.min(first[0]) } else { range.near };
        let far = supported.next_back().unwrap_or(first)[SUPPORT - 1].max(range.far);
        let planes_behind = (1.0 / range.far - 1.0 / far) / (1.0 / near - 1.0 / far);
        let least = least.max((depths.len() as f64 * planes_behind / THINNEST).ceil() as usize);
        DepthRange { near, far: if farther >= least { far } else { range.far } }
    }

    /// Whether every view that tracks a point has it before it and in its photo, or close to it.
    fn is_where_its_views_look(&self, point: &ScenePoint) -> bool {
        point.views.iter().filter_map(|&v| self.scene.views.get(v)).all(|view| {
            view.camera.pixel(point.position).is_some_and(|(pixel, _)| border_distance(view, pixel) <= BORDER)
        })
    }

    /// How many of the view's own sparse points are strays, which no depth range follows.
    pub fn stray_points(&self, view: usize) -> usize {
        let depths = self.own_depths(view);
        depths.len() - without_strays(&depths).len()
    }

    /// Depths of the view's own sparse points in front of it, sorted.
    fn own_depths(&self, view: usize) -> Vec<f64> {
        let Some(View { camera, .. }) = self.scene.views.get(view) else { return Vec::new() };
        let depths = self.points(view).map(|p| (camera.r * p.position + camera.t).z);
        let mut depths: Vec<f64> = depths.filter(|&z| z > 0.0 && z.is_finite()).collect();
        depths.sort_unstable_by(f64::total_cmp);
        depths
    }
}

/// How far outside of a view's photo a pixel lies, in parts of the side; 0 or less inside.
fn border_distance(view: &View, pixel: DVec2) -> f64 {
    let size = DVec2::new(view.size.0 as f64, view.size.1 as f64);
    let out = (-pixel - 0.5).max(pixel + 0.5 - size) / size;
    out.max_element()
}

/// The points that a view tracks, by their place in its photo.
struct Seen {
    /// Pixels a cell of the grid.
    cell: f64,
    columns: usize,
    rows: usize,
    /// Pixel and depth of the points in each cell.
    cells: Vec<Vec<(DVec2, f64)>>,
}

impl Seen {
    fn new<'a>(view: &View, points: impl Iterator<Item = &'a ScenePoint>) -> Self {
        let cell = CLOSE * view.size.0.max(view.size.1) as f64;
        let cells = |side: usize| (side as f64 / cell).ceil().max(1.0) as usize;
        let (columns, rows) = (cells(view.size.0), cells(view.size.1));
        let mut seen = Self { cell, columns, rows, cells: vec![Vec::new(); columns * rows] };
        let found = points.filter_map(|p| view.camera.pixel(p.position));
        for (pixel, depth) in found.filter(|(pixel, _)| border_distance(view, *pixel) <= 0.0) {
            let (x, y) = seen.place(pixel);
            seen.cells[y * columns + x].push((pixel, depth));
        }
        seen
    }

    fn place(&self, pixel: DVec2) -> (usize, usize) {
        let at = |v: f64, count: usize| ((v / self.cell).max(0.0) as usize).min(count - 1);
        (at(pixel.x, self.columns), at(pixel.y, self.rows))
    }

    /// Whether a point may be seen there: one close by is on the same surface, or none is close.
    fn allows(&self, pixel: DVec2, depth: f64) -> bool {
        let (x, y) = self.place(pixel);
        let around = |at: usize, count: usize| at.saturating_sub(1)..=(at + 1).min(count - 1);
        let cells = around(y, self.rows).flat_map(|y| around(x, self.columns).map(move |x| y * self.columns + x));
        let mut close = cells.flat_map(|i| &self.cells[i]).filter(|(p, _)| p.distance(pixel) <= self.cell).peekable();
        close.peek().is_none() || close.any(|&(_, z)| (z / depth).max(depth / z) < SAME_SURFACE)
    }
}

/// Sorted depths without those at either end that a reconstruction has got wrong: wrong matches give points right
/// before a camera or far behind everything, and one of them would set the range of a whole view.
///
/// Depths at an end are strays where the next one is at least three times as far and they are a twentieth of all at
/// most (one, where there are five or more); or twice as far and up to a tenth, if hardly two of them agree, as those
/// on a surface do; or one and a half times as far, if there are one or two. Thin things that stand out, such as a pole
/// before a wall, have more points, or points that agree, or lie nearer to the rest.
pub fn without_strays(sorted: &[f64]) -> &[f64] {
    let n = sorted.len();
    let most = (n / 10).max(usize::from(n >= 5));
    let count = |end: &dyn Fn(usize) -> f64| {
        let ratio = |i: usize, j: usize| (end(i) / end(j)).max(end(j) / end(i));
        // Before the first four within a tenth of each other.
        let lone = (0..most).find(|&i| i + 3 < n && ratio(i, i + 3) <= 1.1).map_or(most, |i| i + 3);
        let is_apart = |&k: &usize| {
            let apart = ratio(k - 1, k);
            apart >= 3.0 && (20 * k <= n || k == 1) || apart >= 2.0 && k <= lone || apart >= 1.5 && k < 3
        };
        (1..=most).rev().find(is_apart).unwrap_or(0)
    };
    let (near, far) = (count(&|i| sorted[i]), count(&|i| sorted[n - 1 - i]));
    &sorted[near..n - far]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n depths, evenly spaced over a factor of 2.5.
    fn surface(n: usize) -> Vec<f64> {
        (0..n).map(|i| 4.0 + 6.0 * i as f64 / (n - 1) as f64).collect()
    }

    #[test]
    fn strays_at_both_ends_set_no_range() {
        for n in [5, 12, 60, 86, 800, 20_000] {
            let surface = surface(n);
            for share in [0.0, 0.01, 0.03, 0.045] {
                let strays = ((n as f64 * share) as usize).max(1);
                for factor in [3.1, 10.0, 100.0, 1e6] {
                    for near in [true, false] {
                        let apart = if near { 4.0 / factor } else { 10.0 * factor };
                        // All at one place, or spread over a factor of two away from the surface.
                        for spread in [0.0, 1.0] {
                            let stray = |i: usize| {
                                let away = 1.0 + spread * i as f64 / strays as f64;
                                if near { apart / away } else { apart * away }
                            };
                            let mut all: Vec<f64> = (0..strays).map(stray).chain(surface.iter().copied()).collect();
                            all.sort_unstable_by(f64::total_cmp);
                            assert_eq!(without_strays(&all), surface, "{n} {share} {factor} {near} {spread}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn many_strays_that_do_not_agree_set_no_range() {
        let strays = [0.103, 0.15, 0.208, 0.345, 0.438, 0.717];
        let all: Vec<f64> = strays.into_iter().chain(surface(74)).collect();
        assert_eq!(without_strays(&all), surface(74));
        // The same number on a surface of their own, and one more than a tenth of all.
        let all: Vec<f64> = (0..6).map(|i| 1.0 + 0.01 * f64::from(i)).chain(surface(74)).collect();
        assert_eq!(without_strays(&all), all);
        let all: Vec<f64> = (0..9).map(|i| 0.1 * 1.3f64.powi(i)).chain(surface(74)).collect();
        assert_eq!(without_strays(&all), all);
    }

    #[test]
    fn what_stands_out_but_has_points_enough_is_kept() {
        for n in [60, 800] {
            // A pole at half the distance of the wall, with a thirtieth of the points; half of them before the rest.
            let pole = (0..n / 30).map(|i| 2.0 + 0.1 * i as f64 / n as f64);
            let mut all: Vec<f64> = pole.chain(surface(n)).collect();
            all.sort_unstable_by(f64::total_cmp);
            let kept = without_strays(&all);
            assert!(n < 100 || kept.len() == all.len(), "{n}: {} of {}", kept.len(), all.len());
            // Two surfaces far apart, an eighth as many points on the nearer one.
            let mut all: Vec<f64> = surface(n / 8).iter().map(|z| z / 20.0).chain(surface(n)).collect();
            all.sort_unstable_by(f64::total_cmp);
            assert_eq!(without_strays(&all), all, "{n}");
        }
        for few in [vec![], vec![1.0], vec![1.0, 50.0], vec![1.0, 50.0, 51.0, 52.0]] {
            assert_eq!(without_strays(&few), few);
        }
    }
}
