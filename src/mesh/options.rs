//! What a mesh can be told.

use std::path::PathBuf;

use crate::files::folder::OutputOptions;
use crate::files::ply_storage::OffsetOption;

/// Everything that [`crate::mesh::meshing::mesh`] can be told, beside the run.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// Where the mesh goes; no folder named: `mesh` in the run's.
    pub output: OutputOptions,
    /// In which formats.
    pub to: Vec<MeshFormat>,
    /// The scene's folder, where colours are wanted and it is no longer where the run has found it.
    pub scene: Option<PathBuf>,
    /// Side of a voxel in scene units; `None`: by the maps' pixels.
    pub voxel: Option<f64>,
    /// COLMAP's Poisson meshing of the cloud, with this trim, instead of the grid of voxels.
    pub poisson: Option<f64>,
    /// Connected pieces of fewer triangles are dropped.
    pub min_component: usize,
    /// Whether holes are closed, and how long their border may be.
    pub close_holes: Holes,
    /// What is left of the triangles.
    pub reduced: Reduced,
    /// Whether vertices get colours of the photos.
    pub colours: bool,
    /// Whether the mesh gets a picture of its surface, in OBJ and GLB.
    pub texture: bool,
    /// What is taken from coordinates in the PLY file.
    pub ply_offset: OffsetOption,
    /// Memory that the run may use, in bytes; `None`: what the system has.
    pub memory: Option<u64>,
}

/// Pieces of fewer triangles are dropped unless told otherwise: a patch of some ten by ten voxels.
pub const MIN_COMPONENT: usize = 200;

impl Default for MeshOptions {
    /// A PLY file in full resolution with colours; holes stay open.
    fn default() -> Self {
        Self {
            output: OutputOptions::default(),
            to: vec![MeshFormat::Ply],
            scene: None,
            voxel: None,
            poisson: None,
            min_component: MIN_COMPONENT,
            close_holes: Holes::Open,
            reduced: Reduced::Not,
            colours: true,
            texture: false,
            ply_offset: OffsetOption::None,
            memory: None,
        }
    }
}

/// A file format of meshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MeshFormat {
    /// `mesh.ply`, binary.
    Ply,
    /// `mesh.obj`, text.
    Obj,
    /// `mesh.glb`, binary glTF 2.0.
    Glb,
}

impl MeshFormat {
    /// The file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Ply => "mesh.ply",
            Self::Obj => "mesh.obj",
            Self::Glb => "mesh.glb",
        }
    }
}

/// What becomes of holes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holes {
    /// They stay.
    Open,
    /// Those with a border of at most so many voxels' length are closed.
    UpToVoxels(f64),
    /// Those with a border of at most this length, in scene units, are closed.
    UpTo(f64),
}

/// How long a border may be, in voxels, where it is not said.
pub const HOLE_VOXELS: f64 = 60.0;

/// How many triangles are left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduced {
    /// All.
    Not,
    /// At most so many.
    To(usize),
    /// This share of them.
    By(f64),
}

impl Reduced {
    /// How many of so many; `None`: all.
    pub fn of(self, triangles: usize) -> Option<usize> {
        let wanted = match self {
            Self::Not => return None,
            Self::To(count) => count,
            Self::By(share) => (triangles as f64 * share).round() as usize,
        };
        (wanted < triangles).then_some(wanted)
    }
}
