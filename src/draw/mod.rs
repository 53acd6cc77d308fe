//! Pictures of what was computed elsewhere; nothing here decides a number.
//!
//! Maps become PNG files: [`map_panels`] puts them side by side on a [`canvas`], each with its scale, in [`colours`]
//! and with the words of a [`font`] that the program brings along; [`preview`] and [`error_maps`] say which. A
//! [`thumbnail`] is for terminals. Numbers
//! become charts in SVG: [`chart`] draws panels with axes, legends and curves, and [`depth_charts`], [`cloud_chart`]
//! and [`pareto`] say what stands in them. [`ticks`] finds round numbers for the scales of both.

pub mod canvas;
pub mod chart;
pub mod cloud_chart;
pub mod colours;
pub mod depth_charts;
pub mod error_maps;
pub mod font;
pub mod map_panels;
pub mod pareto;
pub mod preview;
pub mod thumbnail;
pub mod ticks;
