//! Foreign camera formats: files of other programs that say where photos were taken, and with which lens.
//!
//! [`table`] has a line for each format. A format is a file here: it recognises its files in a [`listing`] and reads
//! them into a [`calibration`] without looking at photos. [`photos`] then finds these, and [`assemble`] makes the
//! scene. Nothing of a format is known outside of its file.

pub mod assemble;
mod bundler;
pub mod calibration;
mod json;
pub mod listing;
mod metashape;
mod nvm;
mod photos;
pub mod table;
mod text;
mod transforms;
mod xml;
