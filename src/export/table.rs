//! The formats: one line each.

use crate::error::Result;
use crate::export::job::Job;
use crate::export::{exr, glb, las, npz, pcd, ply, png16, tiff32, xyz};

/// A format that results can be exported to.
pub struct Format {
    /// As it is typed.
    pub name: &'static str,
    /// What is written, in a few words.
    pub what: &'static str,
    /// Whether it is of the cloud, which a run may lack.
    pub of_cloud: bool,
    /// Writes it.
    pub write: fn(&Job) -> Result<()>,
}

/// All formats.
pub const FORMATS: [Format; 10] = [
    Format { name: "las", what: "cloud.las, LAS 1.4", of_cloud: true, write: las::write_las },
    Format { name: "laz", what: "cloud.laz, the same compressed", of_cloud: true, write: las::write_laz },
    Format { name: "glb", what: "cloud.glb, glTF 2.0", of_cloud: true, write: glb::write },
    Format { name: "xyz", what: "cloud.xyz, text", of_cloud: true, write: xyz::write },
    Format { name: "pcd", what: "cloud.pcd, of PCL", of_cloud: true, write: pcd::write },
    Format { name: "ply", what: "cloud.ply, see --ply-names", of_cloud: true, write: ply::write },
    Format { name: "npz", what: "npz/NAME.npz, NumPy arrays", of_cloud: false, write: npz::write },
    Format { name: "exr", what: "exr/NAME.exr, one file of five channels", of_cloud: false, write: exr::write },
    Format { name: "png16", what: "png16/KIND/NAME.png, whole numbers", of_cloud: false, write: png16::write },
    Format { name: "tiff32", what: "tiff32/KIND/NAME.tif, floats", of_cloud: false, write: tiff32::write },
];

/// The format of a name.
pub fn named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
