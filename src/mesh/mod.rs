//! A finished run's depth maps as one triangle mesh.
//!
//! [`meshing`] does it as it was told ([`options`]). Maps are filtered view by view and put aside in a file without a
//! name ([`spool`]). A grid of voxels in sparse blocks ([`grid`]) gathers what every view says of the distance to the
//! surface ([`volume`]; B. Curless and M. Levoy, "A volumetric method for building complex models from range images",
//! SIGGRAPH 1996), slab by slab where memory is scarce ([`gather`]). [`surface`] finds where that distance is zero,
//! with the [`patches`] of each cell as vertices. Space may be cut into tiles ([`tile_plan`]) whose surfaces are made
//! one by one ([`tiles`]) and kept in files ([`tile_part`]) until they are joined. COLMAP's [`poisson`] meshing may
//! stand in for all that. What follows works on [`triangles`]: small [`parts`] are dropped, [`holes`] closed,
//! [`simplify`] takes triangles away, [`colour`] looks at the photos, with [`raster`] to know what hides what. A
//! [`texture`] is [painted](painting) from the photos by [`charts`], its [`seams`] levelled. [`ply`], [`obj`] and
//! [`glb`] write it. docs/MESH.md tells how good it is.

pub mod charts;
pub mod colour;
pub mod finished;
pub mod folder;
pub mod gather;
pub mod glb;
pub mod grid;
pub mod holes;
pub mod meshing;
pub mod obj;
pub mod options;
pub mod painting;
pub mod parts;
pub mod patches;
pub mod plan;
pub mod ply;
pub mod poisson;
pub mod raster;
pub mod seams;
pub mod simplify;
pub mod spool;
pub mod surface;
pub mod texture;
pub mod tile_part;
pub mod tile_plan;
pub mod tiles;
pub mod triangles;
pub mod volume;
