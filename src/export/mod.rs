//! What people's next tool wants: a finished run's cloud, maps, cameras and photos in the files of other programs.
//!
//! [`exporting`] reads a finished run ([`results`]) as it was told ([`options`]) and writes into a folder of its own
//! ([`job`]), one format after the other, each of which has a file here and a line in the [`table`]. A cloud is read
//! point by point ([`cloud`]) unless it is to be thinned; of maps those of one view are held at a time, and with
//! `--filtered-depth` those that confirm it ([`confirmed`]). docs/EXPORT.md says what survives in which format.

pub mod cloud;
pub mod confirmed;
pub mod copc;
pub mod crs;
pub mod e57;
pub mod earth;
pub mod exporting;
pub mod exr;
pub mod glb;
pub mod job;
pub mod las;
pub mod model;
pub mod npz;
pub mod octree;
pub mod openmvs;
pub mod options;
pub mod outliers;
pub mod pcd;
pub mod photos;
pub mod ply;
pub mod png16;
pub mod points3d;
pub mod results;
pub mod stereo;
pub mod table;
pub mod tiff32;
pub mod tracks;
pub mod workspace;
pub mod xyz;
