//! What a matrix of a camera's pose can be: which way it goes, and which way the camera's axes point.

use glam::{DMat3, DVec3};
use serde::{Deserialize, Serialize};

/// How a matrix [R t] stands for a camera. What is not OpenGL's has x right, y down, z forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PoseForm {
    /// R x + t is in the camera's axes.
    WorldToCamera,
    /// R x + t is in the world's axes; t is the camera's place.
    CameraToWorld,
    /// As world-to-camera, with the camera's y up and z backward.
    #[value(name = "world-to-camera-opengl")]
    #[serde(rename = "world-to-camera-opengl")]
    WorldToCameraOpenGl,
    /// As camera-to-world, with the camera's y up and z backward (NeRF, Blender).
    #[value(name = "camera-to-world-opengl")]
    #[serde(rename = "camera-to-world-opengl")]
    CameraToWorldOpenGl,
}

/// Half a turn about the camera's x axis: between y down, z forward and y up, z backward.
pub const OPENGL: DMat3 = DMat3::from_cols(DVec3::X, DVec3::NEG_Y, DVec3::NEG_Z);

impl PoseForm {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::WorldToCamera, Self::CameraToWorld, Self::WorldToCameraOpenGl, Self::CameraToWorldOpenGl];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorldToCamera => "world-to-camera",
            Self::CameraToWorld => "camera-to-world",
            Self::WorldToCameraOpenGl => "world-to-camera-opengl",
            Self::CameraToWorldOpenGl => "camera-to-world-opengl",
        }
    }

    /// World to camera (y down, z forward) of a matrix that is this.
    fn world_to_camera(self, (r, t): (DMat3, DVec3)) -> (DMat3, DVec3) {
        let axes = if self.is_opengl() { OPENGL } else { DMat3::IDENTITY };
        let (r, t) = if self.is_from_camera() { (r.transpose(), -(r.transpose() * t)) } else { (r, t) };
        (axes * r, axes * t)
    }

    /// The matrix of this form that such a camera has.
    fn matrix(self, (r, t): (DMat3, DVec3)) -> (DMat3, DVec3) {
        let axes = if self.is_opengl() { OPENGL } else { DMat3::IDENTITY };
        let (r, t) = (axes * r, axes * t);
        if self.is_from_camera() { (r.transpose(), -(r.transpose() * t)) } else { (r, t) }
    }

    /// World to camera, if what was read as `self` is `form`.
    pub fn read_as(self, form: Self, camera: (DMat3, DVec3)) -> (DMat3, DVec3) {
        form.world_to_camera(self.matrix(camera))
    }

    fn is_opengl(self) -> bool {
        matches!(self, Self::WorldToCameraOpenGl | Self::CameraToWorldOpenGl)
    }

    fn is_from_camera(self) -> bool {
        matches!(self, Self::CameraToWorld | Self::CameraToWorldOpenGl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_camera_are_read_as_that_camera() {
        let r = DMat3::from_rotation_y(0.4) * DMat3::from_rotation_x(-0.2);
        let (t, centre) = (DVec3::new(0.3, -0.2, 2.0), -(r.transpose() * DVec3::new(0.3, -0.2, 2.0)));
        // Columns of a matrix from the camera are the camera's axes in the world; OpenGL's point the other way.
        let axes = [r.row(0), r.row(1), r.row(2)];
        let files = [
            (PoseForm::WorldToCamera, (r, t)),
            (PoseForm::CameraToWorld, (DMat3::from_cols(axes[0], axes[1], axes[2]), centre)),
            (PoseForm::WorldToCameraOpenGl, (OPENGL * r, DVec3::new(t.x, -t.y, -t.z))),
            (PoseForm::CameraToWorldOpenGl, (DMat3::from_cols(axes[0], -axes[1], -axes[2]), centre)),
        ];
        for (form, matrix) in files {
            for own in PoseForm::ALL {
                // A reader that takes the file for `own`.
                let read = own.world_to_camera(matrix);
                let (found, place) = own.read_as(form, read);
                assert!(found.abs_diff_eq(r, 1e-12) && place.abs_diff_eq(t, 1e-12), "{form:?} read as {own:?}");
            }
        }
    }
}
