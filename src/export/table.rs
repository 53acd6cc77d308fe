//! The formats: one line each.

use crate::error::Result;
use crate::export::job::Job;
use crate::export::{copc, e57, exr, glb, las, npz, openmvs, pcd, ply, png16, points3d, tiff32, workspace, xyz};

/// A format that results can be exported to.
pub struct Format {
    /// As it is typed.
    pub name: &'static str,
    /// What is written, in a few words.
    pub what: &'static str,
    /// What it does with the cloud, which a run may lack.
    pub cloud: Use,
    /// Writes it.
    pub write: fn(&Job) -> Result<()>,
}

/// What a format does with a run's cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is of the cloud: there must be one.
    Needed,
    /// It has the cloud, too, where there is one.
    Welcome,
    /// Nothing.
    Unused,
}

/// All formats.
pub const FORMATS: [Format; 15] = [
    Format { name: "las", what: "cloud.las, LAS 1.4", cloud: Use::Needed, write: las::write_las },
    Format { name: "laz", what: "cloud.laz, the same compressed", cloud: Use::Needed, write: las::write_laz },
    Format { name: "copc", what: "cloud.copc.laz, COPC 1.0", cloud: Use::Needed, write: copc::write },
    Format { name: "e57", what: "cloud.e57, ASTM E2807", cloud: Use::Needed, write: e57::write },
    Format { name: "glb", what: "cloud.glb, glTF 2.0", cloud: Use::Needed, write: glb::write },
    Format { name: "xyz", what: "cloud.xyz, text", cloud: Use::Needed, write: xyz::write },
    Format { name: "pcd", what: "cloud.pcd, of PCL", cloud: Use::Needed, write: pcd::write },
    Format { name: "ply", what: "cloud.ply, see --ply-names", cloud: Use::Needed, write: ply::write },
    Format { name: "npz", what: "npz/NAME.npz, NumPy arrays", cloud: Use::Unused, write: npz::write },
    Format { name: "exr", what: "exr/NAME.exr, one file of five channels", cloud: Use::Unused, write: exr::write },
    Format { name: "png16", what: "png16/KIND/NAME.png, whole numbers", cloud: Use::Unused, write: png16::write },
    Format { name: "tiff32", what: "tiff32/KIND/NAME.tif, floats", cloud: Use::Unused, write: tiff32::write },
    Format {
        name: "workspace",
        what: "workspace/, undistorted photos, cameras, and COLMAP's dense workspace",
        cloud: Use::Welcome,
        write: workspace::write,
    },
    Format {
        name: "points3D",
        what: "points3D/, photos and a COLMAP model with the cloud as its points",
        cloud: Use::Needed,
        write: points3d::write,
    },
    Format {
        name: "openmvs",
        what: "openmvs/, scene.mvs, depth maps and photos",
        cloud: Use::Welcome,
        write: openmvs::write,
    },
];

/// The format of a name.
pub fn named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
