//! Geometry of depth maps: whether two agree ([`consistency`]), normals, connected surfaces ([`segments`]), the
//! merge of pyramid levels, and which pixels of maps from files are usable at all ([`valid`]).
//!
//! All of it in f64 and without a tensor; points are made in [`crate::fusion`].

pub mod consistency;
pub mod joint;
pub mod merge;
pub mod normals;
pub mod segments;
pub mod valid;
