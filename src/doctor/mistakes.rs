//! Mistakes in cameras that are recognised by undoing them: if the photos or points fit only then, it was this mistake.

use glam::DVec3;

use crate::scene::camera::Camera;
use crate::scene::pose_form::OPENGL;

/// What may be wrong with a camera as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
    /// K is that of a photo so many times as large as the stored one.
    ScaledIntrinsics(f64),
    /// The focal lengths are so many times what they should be, about the same principal point.
    ScaledFocal(f64),
    /// The principal point is off by so many pixels.
    ShiftedPrincipal(f64, f64),
    /// Camera to world instead of world to camera.
    InvertedPose,
    /// World to camera, but with the camera's y axis up and z axis backwards, as OpenGL has them.
    FlippedAxes,
    /// Camera to world with OpenGL's axes, as NeRF's and Blender's files have them.
    InvertedFlipped,
}

impl Mistake {
    /// The mistakes without numbers, and K for photos of a half, a quarter, two and four times the size, which are the
    /// usual ones.
    pub const USUAL: [Self; 11] = [
        Self::InvertedPose,
        Self::FlippedAxes,
        Self::InvertedFlipped,
        Self::ScaledIntrinsics(0.5),
        Self::ScaledIntrinsics(2.0),
        Self::ScaledIntrinsics(0.25),
        Self::ScaledIntrinsics(4.0),
        Self::ScaledFocal(0.5),
        Self::ScaledFocal(2.0),
        Self::ScaledFocal(0.25),
        Self::ScaledFocal(4.0),
    ];

    /// The camera as it would be without the mistake.
    pub fn undone(self, camera: &Camera) -> Camera {
        let Camera { k, r, t } = *camera;
        match self {
            Self::ScaledIntrinsics(scale) => camera.decimated(1.0 / scale),
            Self::ScaledFocal(scale) => {
                let mut k = k;
                k.x_axis /= scale;
                k.y_axis /= scale;
                Camera { k, r, t }
            }
            Self::ShiftedPrincipal(x, y) => {
                let mut k = k;
                k.z_axis -= DVec3::new(x, y, 0.0);
                Camera { k, r, t }
            }
            Self::InvertedPose => Camera { k, r: r.transpose(), t: -(r.transpose() * t) },
            Self::FlippedAxes => Camera { k, r: OPENGL * r, t: OPENGL * t },
            Self::InvertedFlipped => {
                let r = OPENGL * r.transpose();
                Camera { k, r, t: -(r * t) }
            }
        }
    }

    /// The finding's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaledIntrinsics(_) => "scaled-intrinsics",
            Self::ScaledFocal(_) => "scaled-focal-length",
            Self::ShiftedPrincipal(..) => "shifted-principal-point",
            Self::InvertedPose => "inverted-poses",
            Self::FlippedAxes => "flipped-axes",
            Self::InvertedFlipped => "inverted-flipped-poses",
        }
    }

    /// What it is, in words.
    pub fn words(self) -> String {
        match self {
            Self::ScaledIntrinsics(s) => {
                format!("K belongs to photos {s:.3} times as large as these")
            }
            Self::ScaledFocal(s) => format!("the focal lengths are {s:.3} times what they should be"),
            Self::ShiftedPrincipal(x, y) => {
                format!("the principal point is off by {x:.2} px in x and {y:.2} px in y")
            }
            Self::InvertedPose => "the poses are camera to world".into(),
            Self::FlippedAxes => "the cameras' y axes point up and their z axes backwards (OpenGL)".into(),
            Self::InvertedFlipped => {
                "the poses are camera to world with y up and z backwards (OpenGL, NeRF, Blender)".into()
            }
        }
    }

    /// What was expected instead, and what to do.
    pub fn remedy(self) -> (String, String) {
        match self {
            Self::ScaledIntrinsics(s) => (
                "K for the stored photos, in pixels".into(),
                format!("multiply the first two rows of K by {:.4}, or use photos of the size that K is for", 1.0 / s),
            ),
            Self::ScaledFocal(s) => {
                ("focal lengths in pixels of the stored photos".into(), format!("multiply fx and fy by {:.4}", 1.0 / s))
            }
            Self::ShiftedPrincipal(x, y) => (
                "cx and cy for pixel centres at integers (COLMAP: at halves)".into(),
                format!("subtract {x:.2} from cx and {y:.2} from cy"),
            ),
            Self::InvertedPose => {
                ("world to camera, x_cam = R X + t".into(), "invert each matrix: R transposed, and t = -R^T t".into())
            }
            Self::FlippedAxes => (
                "x right, y down, z forwards".into(),
                "negate the second and third row of each world-to-camera matrix".into(),
            ),
            Self::InvertedFlipped => (
                "world to camera with x right, y down, z forwards".into(),
                "negate the second and third column of each matrix, then invert it".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use glam::DMat3;

    use super::*;

    #[test]
    fn undoing_is_the_inverse_of_the_mistake() {
        let r = DMat3::from_rotation_y(0.4) * DMat3::from_rotation_x(-0.2);
        let k =
            DMat3::from_cols(DVec3::new(800.0, 0.0, 0.0), DVec3::new(0.0, 810.0, 0.0), DVec3::new(320.0, 240.0, 1.0));
        let right = Camera { k, r, t: DVec3::new(0.3, -0.2, 2.0) };
        let centre = right.centre();
        let wrong = [
            (Mistake::InvertedPose, Camera { k, r: r.transpose(), t: centre }),
            (Mistake::FlippedAxes, Camera { k, r: OPENGL * r, t: OPENGL * right.t }),
            // OpenGL's camera to world: its axes in the world are the columns, its place is the centre.
            (Mistake::InvertedFlipped, Camera { k, r: r.transpose() * OPENGL, t: centre }),
            (Mistake::ScaledIntrinsics(0.5), right.decimated(0.5)),
            (Mistake::ScaledFocal(2.0), {
                let mut k = k;
                k.x_axis *= 2.0;
                k.y_axis *= 2.0;
                Camera { k, ..right }
            }),
            (Mistake::ShiftedPrincipal(0.5, -2.0), {
                let mut k = k;
                k.z_axis += DVec3::new(0.5, -2.0, 0.0);
                Camera { k, ..right }
            }),
        ];
        for (mistake, camera) in wrong {
            let undone = mistake.undone(&camera);
            let difference =
                (undone.k - right.k).to_cols_array().into_iter().chain((undone.r - right.r).to_cols_array());
            let most = difference.chain((undone.t - right.t).to_array()).fold(0f64, |m, v| m.max(v.abs()));
            assert!(most < 1e-12, "{mistake:?}: {undone:?}");
        }
    }
}
