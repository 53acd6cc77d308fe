//! Finished maps of one view, with its photo's colours, ready for fusion.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::depth_maps::DepthMaps;
use crate::files::map::Map;
use crate::files::pfm;
use crate::files::subfolders::find;
use crate::fusion::view::FusionView;
use crate::maps::merge::LevelMaps;
use crate::maps::valid::{Invalid, take_out_invalid};
use crate::run::options::MapsOptions;
use crate::run::plan::Frame;
use crate::run::write::Colours;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::mask::Mask;
use crate::scene::photo::Photo;
use crate::scene::{Scene, View};

/// All positive depths.
pub const ANY_DEPTH: DepthRange = DepthRange { near: f64::MIN_POSITIVE, far: f64::MAX };

/// A view that was read.
pub struct ReadView {
    /// Without sources.
    pub view: FusionView,
    /// Whether there is a map of its confidence.
    pub has_confidence: bool,
    /// Whether a part of its photo does not belong to the scene; it is cut out of its maps.
    pub is_masked: bool,
    /// Whether none of it does.
    pub is_empty: bool,
    /// What was taken out of its finished maps.
    pub invalid: Invalid,
}

/// Maps and colours of a view of the scene, whose depth map is the file `path` of those in `files`, with so many levels
/// beside the finished maps.
///
/// # Errors
/// Maps and photos that cannot be read or do not belong together.
pub fn read_view(
    scene: &Scene,
    at: usize,
    (frame, path, files): (&Frame, &Path, &DepthMaps),
    levels: usize,
    options: &MapsOptions,
) -> Result<ReadView> {
    let (view, maps) = (&scene.views[at], &options.maps);
    let read = read_maps(&view.name, (frame, path, files), maps)?;
    let ReadMaps { mut depth, mut confidence, camera, scale, has_confidence, invalid } = read;
    let size = (depth.width, depth.height);
    let level = |level: usize| read_level(maps, &view.name, level, camera, size);
    let mut levels = (0..levels).map(level).collect::<Result<Vec<_>>>()?;
    let mut loaded = Photo::load(view, options.max_side)?;
    let mask = loaded.take_mask(view)?;
    let is_masked = mask.is_some();
    let is_empty = mask.as_ref().is_some_and(Mask::is_all);
    if let Some(mask) = mask {
        let mut mask = scale.mask(&mask, size);
        mask.cut(&mut depth, &mut confidence);
        for level in &mut levels {
            if mask.size() != (level.depth.width, level.depth.height) {
                mask = mask.coarser();
            }
            mask.cut(&mut level.depth, &mut level.confidence);
        }
    }
    let colour = scale.colours(loaded.photo, size);
    let range = options.range.unwrap_or(ANY_DEPTH);
    let name = view.name.clone();
    let view = FusionView { name, camera, depth, confidence, colour, range, sources: Vec::new(), levels };
    Ok(ReadView { view, has_confidence, is_masked, is_empty, invalid })
}

/// The finished maps of a view, without its photo.
pub struct ReadMaps {
    /// Depth.
    pub depth: Map,
    /// Confidence; 1 where there is no map of it.
    pub confidence: Map,
    /// Camera of the maps' pixels.
    pub camera: Camera,
    scale: MapScale,
    /// As in [`ReadView`].
    pub has_confidence: bool,
    /// As in [`ReadView`].
    pub invalid: Invalid,
}

/// Where a view's confidences lie, if there are any.
pub fn confidence_file(maps: &Path, name: &str) -> PathBuf {
    find(&maps.join("confidence"), name, "pfm")
}

/// The maps of the view of this name in the folder `maps`, of which the depth map is the file `path` of those in
/// `files`.
///
/// # Errors
/// Maps that cannot be read or do not belong together.
pub fn read_maps(name: &str, (frame, path, files): (&Frame, &Path, &DepthMaps), maps: &Path) -> Result<ReadMaps> {
    let mut depth = files.read(path)?;
    // Before the confidences, which are told to be of another size where the depth map is the one that is wrong.
    let scale = MapScale::find(frame, (depth.width, depth.height), path)?;
    let confidence_path = confidence_file(maps, name);
    let has_confidence = confidence_path.exists();
    let mut confidence = match has_confidence {
        true => read_sized(&confidence_path, (depth.width, depth.height), "the size of its depth map")?,
        false => Map::filled(depth.width, depth.height, 1.0),
    };
    let invalid = take_out_invalid(&mut depth, &mut confidence);
    Ok(ReadMaps { depth, confidence, camera: scale.camera(frame), scale, has_confidence, invalid })
}

/// The camera of a view's maps of this size, as they lie on its photo's pixels.
///
/// # Errors
/// A size that is none of the photo's, naming the map's file.
pub fn map_camera(frame: &Frame, size: (usize, usize), path: &Path) -> Result<Camera> {
    Ok(MapScale::find(frame, size, path)?.camera(frame))
}

/// The file of a chosen view's depth map.
///
/// # Errors
/// A view without one, which is a bug.
pub fn map_of<'a>(files: &'a DepthMaps, view: &View) -> Result<&'a Path> {
    let problem = || Error::Bug { place: "reading maps", problem: format!("view {} has none", view.name) };
    files.of_view(&view.name, &view.image).map(|(_, file)| file).ok_or_else(problem)
}

/// Depth and confidence of one level before levels were merged; `finest` is the size of the view's finished maps.
fn read_level(maps: &Path, name: &str, level: usize, camera: Camera, finest: (usize, usize)) -> Result<LevelMaps> {
    let size = (finest.0.div_ceil(1 << level), finest.1.div_ceil(1 << level));
    let read = |kind: &str| {
        let path = find(&maps.join("levels").join(level.to_string()).join(kind), name, "pfm");
        if !path.exists() {
            return Err(Error::input(
                path.display().to_string(),
                "no such map",
                "the maps of every level that is merged, as `engine infer` keeps them for its --levels: run it with \
                 more, or ask for fewer here",
            ));
        }
        read_sized(&path, size, &format!("the size of level {level} of this view"))
    };
    let (mut depth, mut confidence) = (read("depth")?, read("confidence")?);
    take_out_invalid(&mut depth, &mut confidence);
    Ok(LevelMaps { camera: camera.decimated(0.5f64.powi(level as i32)), depth, confidence })
}

fn read_sized(path: &Path, size: (usize, usize), what: &str) -> Result<Map> {
    let map = pfm::read(path)?;
    if (map.width, map.height) == size {
        return Ok(map);
    }
    Err(Error::input(
        path.display().to_string(),
        format!("a map of {} x {}", map.width, map.height),
        format!("{what}, {} x {}", size.0, size.1),
    ))
}

/// How a map's pixels lie on its photo's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MapScale {
    /// Every 2^n-th pixel, aligned at pixel 0.
    Decimated(u32),
    /// The photo resized, areas to areas.
    Resized(f64, f64),
}

impl MapScale {
    /// From the two sizes: half, a quarter ... of the photo, rounded up, or else any size of about its shape.
    fn find(frame: &Frame, map: (usize, usize), path: &Path) -> Result<Self> {
        let photo = (frame.width, frame.height);
        for n in 0..8 {
            if (photo.0.div_ceil(1 << n), photo.1.div_ceil(1 << n)) == map {
                return Ok(Self::Decimated(n));
            }
        }
        let (sx, sy) = (map.0 as f64 / photo.0 as f64, map.1 as f64 / photo.1 as f64);
        // Rounding to whole pixels changes either side by less than one.
        let same_shape =
            (photo.1 as f64 * sx - map.1 as f64).abs() < 1.0 || (photo.0 as f64 * sy - map.0 as f64).abs() < 1.0;
        if same_shape && sx <= 1.0 && sy <= 1.0 && map.0 > 0 && map.1 > 0 {
            return Ok(Self::Resized(sx, sy));
        }
        Err(Error::input(
            path.display().to_string(),
            format!("a map of {} x {} for a photo of {} x {}", map.0, map.1, photo.0, photo.1),
            "a map of the photo's shape, not larger (--max-side reduces the photos)",
        ))
    }

    fn camera(self, frame: &Frame) -> Camera {
        match self {
            Self::Decimated(n) => frame.camera.decimated(0.5f64.powi(n as i32)),
            Self::Resized(sx, sy) => frame.camera.resized(sx, sy),
        }
    }

    /// The photo's mask at the map's pixels.
    fn mask(self, mask: &Mask, (width, height): (usize, usize)) -> Mask {
        match self {
            Self::Decimated(n) => mask.decimated(n),
            Self::Resized(..) => mask.resized(width, height),
        }
    }

    /// The photo's colours at the map's pixels, smoothed so that finer texture does not alias.
    fn colours(self, mut photo: Photo, (width, height): (usize, usize)) -> Colours {
        match self {
            Self::Decimated(n) => {
                for _ in 0..n {
                    photo = photo.pyramid_level();
                }
                photo.colours()
            }
            Self::Resized(..) => photo.area_averaged(width, height).colours(),
        }
    }
}

#[cfg(test)]
mod tests {
    use glam::{DMat3, DVec3};

    use super::*;
    use crate::net::config::Resolution;

    #[test]
    fn the_maps_size_tells_its_scale() {
        let camera = Camera { k: DMat3::IDENTITY, r: DMat3::IDENTITY, t: DVec3::ZERO };
        let frame = Frame { width: 101, height: 67, camera, resolution: Resolution::Full };
        let find = |size| MapScale::find(&frame, size, Path::new("a.pfm"));
        assert_eq!(find((101, 67)).unwrap(), MapScale::Decimated(0));
        assert_eq!(find((51, 34)).unwrap(), MapScale::Decimated(1));
        assert_eq!(find((26, 17)).unwrap(), MapScale::Decimated(2));
        assert_eq!(find((75, 50)).unwrap(), MapScale::Resized(75.0 / 101.0, 50.0 / 67.0));
        for wrong in [(67, 101), (80, 80), (202, 134), (0, 0)] {
            assert!(find(wrong).is_err(), "{wrong:?}");
        }
        let message = find((80, 80)).unwrap_err().to_string();
        assert_eq!(
            message,
            "a.pfm: a map of 80 x 80 for a photo of 101 x 67; expected a map of the photo's shape, not larger \
             (--max-side reduces the photos)"
        );
    }
}
