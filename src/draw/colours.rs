//! The colours of pictures. Maps have gradients whose equal steps look equal, charts the set of Okabe and Ito: both can
//! be read without colour vision.

use colorous::Gradient;

/// Depth is drawn reversed ([`depth`]): near is bright, as if lit from the camera.
const DEPTH: Gradient = colorous::PLASMA;
const CONFIDENCE: Gradient = colorous::VIRIDIS;
/// From pale, where all is well, to dark: that nothing is known has no shade of it.
const ERROR: Gradient = colorous::YELLOW_ORANGE_RED;

/// Of pixels without a depth in maps of depth, error and confidence: neutral grey, in none of their colours.
pub const NO_DEPTH: [u8; 3] = [176; 3];
/// Of pixels without a truth in maps of truth and error.
pub const NO_TRUTH: [u8; 3] = [72; 3];

/// Okabe and Ito's.
pub const BLUE: [u8; 3] = [0, 114, 178];
/// Okabe and Ito's.
pub const VERMILION: [u8; 3] = [213, 94, 0];
/// Okabe and Ito's.
pub const GREEN: [u8; 3] = [0, 158, 115];

/// What everything stands on.
pub const PAPER: [u8; 3] = [255; 3];
/// Of what is read first.
pub const INK: [u8; 3] = [45, 48, 54];
/// Of remarks.
pub const PALE_INK: [u8; 3] = [105, 110, 118];
/// Of lines to compare with.
pub const GREY: [u8; 3] = [140, 144, 150];
/// Of grids.
pub const GRID: [u8; 3] = [228, 230, 234];

/// The colour of a depth, 0 (near) to 1 (far).
pub fn depth(t: f64) -> [u8; 3] {
    at(DEPTH, 1.0 - t)
}

/// The colour of a confidence, 0..1.
pub fn confidence(t: f64) -> [u8; 3] {
    at(CONFIDENCE, t)
}

/// The colour of an error, 0 to 1 (as large as the scale goes).
pub fn error(t: f64) -> [u8; 3] {
    at(ERROR, t)
}

/// The colour at 0..1 of a gradient; what lies beyond has the end's.
fn at(gradient: Gradient, t: f64) -> [u8; 3] {
    let c = gradient.eval_continuous(t.clamp(0.0, 1.0));
    [c.r, c.g, c.b]
}
