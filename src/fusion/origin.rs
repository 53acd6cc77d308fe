//! Scenes far from the origin, fused as if they stood near it.
//!
//! A camera's `t` is minus its place, turned: at coordinates of 10^7 it has steps of 2e-9 units, and its products with
//! points of that size lose as much again, differently for every pixel. That decides where methods ask for whole pixels
//! or compare a pixel with itself. So cameras are moved before anything is computed, once each, and points are moved
//! back at the end.

use glam::DVec3;

use super::view::{Fused, FusionView};
use crate::Result;
use crate::files::ply::Point;
use crate::scene::camera::Camera;

/// Cameras further from the origin than so many times their own spread are moved. Nearer ones lose nothing that shows:
/// 1e-13 of a pixel's ray.
const MOST_SPREADS: f64 = 100.0;

/// A place near the cameras that is taken as the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Origin(DVec3);

impl Origin {
    /// Near the views' cameras, in whole numbers; where it is where they are near it.
    pub fn near(views: &[FusionView]) -> Self {
        Self::near_cameras(views.iter().map(|view| &view.camera))
    }

    /// As [`Self::near`].
    pub fn near_cameras<'a>(cameras: impl Iterator<Item = &'a Camera>) -> Self {
        let centres: Vec<DVec3> = cameras.map(Camera::centre).filter(|centre| centre.is_finite()).collect();
        let mean = centres.iter().sum::<DVec3>() / centres.len().max(1) as f64;
        let spread = centres.iter().map(|centre| centre.distance(mean)).fold(0.0, f64::max);
        Self(if mean.length() > MOST_SPREADS * spread { mean.round() } else { DVec3::ZERO })
    }

    /// Where it is in the world.
    pub fn place(self) -> DVec3 {
        self.0
    }

    /// Whether the views are to be moved.
    pub fn is_moved(self) -> bool {
        self.0 != DVec3::ZERO
    }

    /// Moves the views' cameras so that they see the same with the origin here.
    pub fn enter(self, views: &mut [FusionView]) {
        for view in views {
            self.enter_camera(&mut view.camera);
            view.levels.iter_mut().for_each(|level| self.enter_camera(&mut level.camera));
        }
    }

    /// Moves one camera so.
    pub fn enter_camera(self, camera: &mut Camera) {
        if self.is_moved() {
            camera.t += camera.r * self.0;
        }
    }

    /// Moves points back to where the scene is.
    pub fn leave(self, points: &mut [Point]) {
        if self.is_moved() {
            points.iter_mut().for_each(|point| point.position = (DVec3::from(point.position) + self.0).to_array());
        }
    }
}

/// Fuses views near the origin, wherever the scene is. Views that are far from it are copied for that: callers that may
/// change theirs do better to [`Origin::enter`] themselves.
///
/// # Errors
/// Those of `fuse`.
pub fn near_origin(views: &[FusionView], fuse: impl FnOnce(&[FusionView]) -> Result<Fused>) -> Result<Fused> {
    let origin = Origin::near(views);
    if !origin.is_moved() {
        return fuse(views);
    }
    let mut near = views.to_vec();
    origin.enter(&mut near);
    let mut fused = fuse(&near)?;
    origin.leave(&mut fused.points);
    Ok(fused)
}

#[cfg(test)]
mod tests {
    use glam::DMat3;

    use super::*;
    use crate::files::map::Map;
    use crate::scene::camera::DepthRange;

    fn view(centre: DVec3) -> FusionView {
        let r = DMat3::from_rotation_y(0.3);
        FusionView {
            name: String::new(),
            camera: Camera { k: DMat3::IDENTITY, r, t: -(r * centre) },
            depth: Map::filled(0, 0, 0.0),
            confidence: Map::filled(0, 0, 0.0),
            colour: Vec::new(),
            range: DepthRange { near: 1.0, far: 2.0 },
            sources: Vec::new(),
            levels: Vec::new(),
        }
    }

    #[test]
    fn only_cameras_far_from_the_origin_are_moved() {
        for (offset, moved) in [(0.0, false), (90.0, false), (-140.0, true), (5e6, true)] {
            let offset = DVec3::new(0.4, offset, -0.3);
            let mut views = [-1.0, 1.0].map(|x| view(DVec3::new(x, 0.0, 0.0) + offset));
            let origin = Origin::near(&views);
            assert_eq!(origin.is_moved(), moved, "{offset}");
            let before = views[0].camera.unproject(3.0, 4.0, 5.0);
            origin.enter(&mut views);
            assert!(views.iter().all(|v| v.camera.centre().length() < if moved { 2.0 } else { 100.0 }));
            let position = views[0].camera.unproject(3.0, 4.0, 5.0).to_array();
            let mut points = [Point { position, normal: [0.0; 3], colour: [0; 3], confidence: 1.0, views: 1 }];
            origin.leave(&mut points);
            assert!(before.distance(points[0].position.into()) < 1e-8);
        }
        assert!(!Origin::near(&[]).is_moved());
    }
}
