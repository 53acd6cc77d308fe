//! PVA-MVSNet's multi-metric pyramid (protocol page E.9): the maps of several levels are merged
//! ([`crate::maps::merge`]), doubled in size if asked for, and fused by reprojection.

use super::reprojection;
use super::settings::Pyramid;
use super::view::{Fused, FusionView};
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::maps::merge::{LevelMaps, merge_level};
use crate::{Error, Result};

/// The cloud of views that fit together.
///
/// # Errors
/// [`Error::Shape`], naming the view, where levels are missing or do not fit together; [`Error::Interrupted`].
pub fn fuse(views: &[FusionView], min_confidence: f64, constants: &Pyramid) -> Result<Fused> {
    let mut merged = merged(views, constants)?;
    for _ in 0..constants.doublings {
        merged = merged.iter().map(doubled).collect();
    }
    reprojection::fuse(&merged, min_confidence, &constants.reprojection)
}

/// The views with the maps of their finest level after all coarser ones have repaired them.
fn merged(views: &[FusionView], constants: &Pyramid) -> Result<Vec<FusionView>> {
    for view in views {
        let size = |maps: &LevelMaps| (maps.depth.width, maps.depth.height);
        let expected = (view.depth.width, view.depth.height);
        let found = view.levels.len();
        if found < constants.levels || view.levels.first().is_some_and(|finest| size(finest) != expected) {
            let (levels, name) = (constants.levels, &view.name);
            return Err(Error::Shape {
                op: "fusion::pyramid",
                problem: format!("view {name}: maps of {found} levels; expected {levels}, the finest of {expected:?}"),
            });
        }
    }
    let sources: Vec<Vec<usize>> = views.iter().map(|view| view.sources.clone()).collect();
    let of_level = |level: usize| -> Vec<LevelMaps> { views.iter().map(|v| v.levels[level].clone()).collect() };
    let mut maps = of_level(constants.levels - 1);
    for level in (0..constants.levels - 1).rev() {
        let mut finer = of_level(level);
        merge_level(&maps, &mut finer, &sources, &constants.merge())?;
        maps = finer;
    }
    let with_maps = |(view, maps): (&FusionView, LevelMaps)| FusionView {
        name: view.name.clone(),
        camera: maps.camera,
        depth: maps.depth,
        confidence: maps.confidence,
        colour: view.colour.clone(),
        range: view.range,
        sources: view.sources.clone(),
        levels: Vec::new(),
    };
    Ok(views.iter().zip(maps).map(with_maps).collect())
}

/// The view at twice the resolution: a sample more between every two, [2 height - 1, 2 width - 1]. Depth, confidence
/// and colour of a new pixel are the mean of the two or four samples around it; it has no depth where one of them has
/// none.
fn doubled(view: &FusionView) -> FusionView {
    let (width, height) = (view.depth.width, view.depth.height);
    let (wide, high) = ((2 * width).saturating_sub(1), (2 * height).saturating_sub(1));
    let mut depth = Map::filled(wide, high, 0.0);
    let mut confidence = Map::filled(wide, high, 0.0);
    let mut colour = vec![[0; 3]; wide * high];
    for y in 0..high {
        for x in 0..wide {
            // Where a side has one sample it is in the mean twice.
            let four = [(y / 2, x / 2), (y / 2, x.div_ceil(2)), (y.div_ceil(2), x / 2)];
            let four = [four[0], four[1], four[2], (y.div_ceil(2), x.div_ceil(2))].map(|(y, x)| y * width + x);
            let mean = |map: &Map| (four.iter().map(|&i| f64::from(map.data[i])).sum::<f64>() / 4.0) as f32;
            let at = y * wide + x;
            if four.iter().all(|&i| is_depth(view.depth.data[i])) {
                depth.data[at] = mean(&view.depth);
            }
            confidence.data[at] = mean(&view.confidence);
            colour[at] = [0, 1, 2].map(|channel| {
                let sum: u32 = four.iter().map(|&i| u32::from(view.colour[i][channel])).sum();
                ((sum + 2) / 4) as u8
            });
        }
    }
    FusionView {
        name: view.name.clone(),
        camera: view.camera.decimated(2.0),
        depth,
        confidence,
        colour,
        range: view.range,
        sources: view.sources.clone(),
        levels: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use glam::{DMat3, DVec3};

    use super::*;
    use crate::scene::camera::{Camera, DepthRange};

    #[test]
    fn doubling_keeps_samples_where_they_are_and_puts_means_between() {
        let k = DMat3::from_cols(DVec3::new(10.0, 0.0, 0.0), DVec3::new(0.0, 10.0, 0.0), DVec3::new(0.5, 1.0, 1.0));
        let map = |data: [f32; 6]| Map { width: 2, height: 3, data: data.to_vec() };
        let view = FusionView {
            name: "a".into(),
            camera: Camera { k, r: DMat3::IDENTITY, t: DVec3::ZERO },
            depth: map([2.0, 4.0, 6.0, 8.0, 0.0, 3.0]),
            confidence: map([0.0, 1.0, 0.5, 0.5, 1.0, 1.0]),
            colour: vec![[0, 10, 255], [1, 20, 255], [2, 30, 255], [3, 40, 255], [4, 50, 255], [5, 60, 255]],
            range: DepthRange { near: 1.0, far: 9.0 },
            sources: Vec::new(),
            levels: Vec::new(),
        };
        let twice = doubled(&view);
        assert_eq!((twice.depth.width, twice.depth.height), (3, 5));
        let expected = [2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 6.0, 7.0, 8.0, 0.0, 0.0, 5.5, 0.0, 0.0, 3.0];
        assert_eq!(twice.depth.data, expected);
        assert_eq!(twice.confidence.data[..6], [0.0, 0.5, 1.0, 0.25, 0.5, 0.75]);
        // (0 + 0 + 1 + 1 + 2) / 4 rounds down; the mean of 10, 20, 30 and 40 is 25.
        assert_eq!((twice.colour[1], twice.colour[4]), ([1, 15, 255], [2, 25, 255]));
        // The same ray through the same sample.
        let sample = |camera: &Camera, u, v| camera.unproject(u, v, 8.0);
        assert_eq!(sample(&view.camera, 1.0, 1.0), sample(&twice.camera, 2.0, 2.0));
    }
}
