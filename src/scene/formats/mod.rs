//! Foreign camera formats: files of other programs that say where photos were taken, and with which lens.
//!
//! [`table`] has a line for each format. A format is a file here: it recognises its files in a [`listing`] and reads
//! them into a [`calibration`] without looking at photos. `photos.rs` then finds these, and `assemble.rs` makes the
//! scene. Nothing of a format is known outside of its file.

mod alicevision;
pub mod assemble;
mod bundler;
pub mod calibration;
mod json;
mod kapture;
pub mod listing;
mod llff;
pub(super) mod metashape;
mod middlebury;
mod neus;
mod nvm;
mod open3d;
mod openmvg;
mod openmvs;
mod opensfm;
mod opf;
mod opf_tracks;
mod photos;
mod poses;
mod realitycapture;
mod sevenscenes;
mod strecha;
pub mod table;
mod text;
mod transforms;
mod xml;
