//! The folder of a mesh: one run writes the mesh in it, several may make its tiles together.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::export::exporting::mark_of;
use crate::files::folder::{Claim, FolderKind};
use crate::files::lock::FolderLock;
use crate::files::together::join;
use crate::mesh::options::MeshOptions;
use crate::run::tile_files::TILES;

/// The folder of a mesh in that of results, unless another is given.
pub const MESH: &str = "mesh";
/// Folders with a mesh.
pub const MESHES: FolderKind = FolderKind {
    mark: ".engine-mesh.json",
    called: "folder of the mesh",
    foreign: (
        "it is not empty and holds no mesh of engine",
        "an empty or new folder (-o FOLDER), or --force to write into this one",
    ),
    list: "use this as the folder of the mesh",
    create: "create the folder of the mesh",
    write: "write into the folder of the mesh",
    own: |_| false,
    own_left: "",
};

/// Where the mesh of the run in `folder` goes.
pub fn out_of(folder: &Path, options: &MeshOptions) -> PathBuf {
    options.output.out.clone().unwrap_or_else(|| folder.join(MESH))
}

/// Takes part in making the tiles of a mesh.
///
/// # Errors
/// A folder that holds anything else, unless forced; one in which a run is at work alone.
pub fn join_folder(folder: &Path, options: &MeshOptions) -> Result<FolderLock> {
    let out = out_of(folder, options);
    let (mark, judge) = mark_of(&MESHES, folder, &out)?;
    join(Claim { path: &out, force: options.output.force, kind: &MESHES }, &mark, judge, |name| name == TILES)
}
