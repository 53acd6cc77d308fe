//! Pictures: maps as panels with scales ([`preview`], on a [`canvas`]), and charts of what an evaluation found.
//!
//! What is drawn is computed elsewhere; nothing here decides a number.

pub mod canvas;
pub mod cloud_plot;
pub mod depth_plot;
pub mod preview;
