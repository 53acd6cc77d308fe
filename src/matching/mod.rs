//! Photos matched with each other: corners that look alike, tracks of them, and what these say about the cameras.
//!
//! For the doctor, and for scenes whose files leave open what their poses are. No network has a part in it.

pub mod corners;
pub mod poses;
pub mod tracks;
