//! Geometry of depth maps: whether two agree ([`consistency`]), normals, connected surfaces ([`segments`]), and the
//! merge of pyramid levels.
//!
//! All of it in f64 and without a tensor; points are made in [`crate::fusion`].

pub mod consistency;
pub mod merge;
pub mod normals;
pub mod segments;
