//! Lens distortion of imported cameras.

/// A lens that bends rays away from the pinhole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {}
