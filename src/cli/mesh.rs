//! `engine mesh`: a finished run's depth maps as a triangle mesh.

use std::path::PathBuf;

use clap::Args;
use engine::files::folder::OutputOptions;
use engine::files::ply_storage::OffsetOption;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::mesh::meshing::mesh;
use engine::mesh::options::{HOLE_VOXELS, Holes, MIN_COMPONENT, MeshFormat, MeshOptions, Reduced};
use engine::run::tile_plan::Tiling;
use engine::shards::mesh_tiling::mesh_tiles;
use engine::shards::tile_work::TileOptions;
use engine::shards::which::ShardOption;
use engine::{Error, Result};

use super::options::{self, LimitArgs, ReportArgs};
use super::places::{CacheArgs, Places};

/// Make one triangle mesh of a finished run's depth maps.
///
/// OUT is the folder of results of `engine infer` (or of `engine fuse`). The pixels that other views confirm are
/// gathered in a grid of voxels, with their confidence as weight; what views see through is free. The mesh goes to
/// FOLDER, by default OUT/mesh; mesh.json there tells of it. docs/MESH.md says how it is made and how good it is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine mesh out
  engine mesh out --to ply,obj,glb --triangles 200000
  engine mesh out --to glb --texture --simplify 0.1
  engine mesh out --poisson=7 -o poisson
  engine mesh out --voxel 0.01 --close-holes=0.5 -o fine
  engine mesh out --tiles 40 --shard 3/40
  engine mesh out --join --to glb")]
pub struct MeshArgs {
    /// The folder with the results of a finished run
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// Formats, with commas between
    #[arg(long, value_name = "LIST", default_value = "ply", value_delimiter = ',')]
    to: Vec<MeshFormat>,
    /// Folder for the mesh, created if missing [default: OUT/mesh]
    #[arg(short, long, value_name = "FOLDER", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write into FOLDER even if it holds other files or the mesh of another run
    #[arg(long, help_heading = "Output")]
    force: bool,
    #[command(flatten)]
    how: MeshHow,
    #[command(flatten)]
    tiles: MeshTiles,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How a mesh is made.
#[derive(Args, Debug)]
#[command(next_help_heading = "Mesh")]
struct MeshHow {
    /// Side of a voxel in the scene's units: half of it, twice the detail, four times the triangles [default: 1.5 times
    /// what a pixel's side is on the surface, in the median]
    #[arg(long, value_name = "SIZE", value_parser = options::positive_number)]
    voxel: Option<f64>,
    /// Take COLMAP's Poisson meshing of fused.ply instead, where Python has pycolmap; TRIM cuts away what few points
    /// stand for: the more, the larger it is [default without TRIM: 7]
    #[arg(long, value_name = "TRIM", num_args = 0..=1, require_equals = true, default_missing_value = "7")]
    #[arg(value_parser = trim, conflicts_with = "voxel")]
    poisson: Option<f64>,
    /// Drop connected pieces of fewer triangles than this
    #[arg(long, value_name = "TRIANGLES", value_parser = options::positive_integer, default_value_t = MIN_COMPONENT)]
    min_component: usize,
    /// Close holes whose border is at most this long, in the scene's units; without a length, 60 voxels [default: holes
    /// stay open]
    #[arg(long, value_name = "LENGTH", num_args = 0..=1, require_equals = true)]
    #[arg(value_parser = options::positive_number)]
    close_holes: Option<Option<f64>>,
    /// Reduce the mesh to at most this many triangles, where they make the least difference
    #[arg(long, value_name = "N", value_parser = options::positive_integer, conflicts_with = "simplify")]
    triangles: Option<usize>,
    /// Reduce the mesh to this share of its triangles, from 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    simplify: Option<f64>,
    /// Leave colours out; the photos are not read then
    #[arg(long)]
    no_colours: bool,
    /// Paint a texture for obj and glb from the photos: each triangle from the one that shows it best, seams levelled
    #[arg(long, conflicts_with = "no_colours")]
    texture: bool,
    /// The scene's folder, for colours, if it is no longer where the run has found it
    #[arg(long, value_name = "SCENE")]
    scene: Option<PathBuf>,
    /// Take this from the coordinates in mesh.ply, so that floats hold them: X,Y,Z, or auto (only where they lie far
    /// from the origin), or none (doubles there). The file's header names it
    #[arg(long, value_name = "X,Y,Z|auto|none", default_value_t, allow_hyphen_values = true)]
    ply_offset: OffsetOption,
}

/// Space cut into tiles.
#[derive(Args, Debug)]
#[command(next_help_heading = "Tiles")]
struct MeshTiles {
    /// Cut space into tiles and make the surface of one after the other, in FOLDER/tiles: a number, a grid (4x4x2), or
    /// auto. Each reads only the views that see something of it. The mesh is the same, byte for byte [default with
    /// --shard and --join: as FOLDER/tiles/plan.json says]
    #[arg(long, value_name = "N|NXxNYxNZ|auto", conflicts_with = "poisson")]
    tiles: Option<Tiling>,
    /// Make only the surface of this part of the tiles: J/M, or auto, which takes the number from the task of a
    /// scheduler's array. Of the options under Mesh, --voxel alone is heeded
    #[arg(long, value_name = "J/M|auto", conflicts_with = "poisson")]
    shard: Option<ShardOption>,
    /// Join the surfaces of all tiles to the mesh: pieces, holes, triangles, colours and texture as without tiles
    #[arg(long, conflicts_with_all = ["poisson", "shard"])]
    join: bool,
}

/// A share of triangles.
fn share(text: &str) -> Result<f64, String> {
    options::number(text, |n| n > 0.0 && n <= 1.0, "a number above 0, up to 1")
}

/// How much is cut away.
fn trim(text: &str) -> Result<f64, String> {
    options::number(text, |n| (0.0..=20.0).contains(&n), "a number from 0 to 20")
}

impl MeshArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.how.scene.is_none().then(|| self.results.clone());
        let folders = std::iter::once(&mut self.results).chain(&mut self.how.scene).chain(&mut self.out).collect();
        Places { folders, results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it.
pub fn run(args: MeshArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let MeshHow {
        voxel,
        poisson,
        min_component,
        close_holes,
        triangles,
        simplify,
        no_colours,
        texture,
        scene,
        ply_offset,
    } = args.how;
    if texture && !args.to.iter().any(|format| *format != MeshFormat::Ply) {
        return Err(Error::input("--texture", "only ply in --to, which holds no texture", "obj or glb in --to"));
    }
    let options = MeshOptions {
        output: OutputOptions { out: args.out, force: args.force },
        to: args.to,
        scene,
        voxel,
        poisson,
        min_component,
        close_holes: match close_holes {
            None => Holes::Open,
            Some(None) => Holes::UpToVoxels(HOLE_VOXELS),
            Some(Some(length)) => Holes::UpTo(length),
        },
        reduced: match (triangles, simplify) {
            (Some(count), _) => Reduced::To(count),
            (None, Some(share)) => Reduced::By(share),
            (None, None) => Reduced::Not,
        },
        colours: !no_colours,
        texture,
        ply_offset,
        memory: args.limits.memory,
    };
    match TileOptions::told(args.tiles.tiles, args.tiles.shard, args.tiles.join) {
        None => mesh(&args.results, &options, progress),
        Some(told) => mesh_tiles(&args.results, &options, &told, progress),
    }
}
