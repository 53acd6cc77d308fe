//! `engine view` through the binary and over TCP. [`pieces`] puts the cloud and the maps together again from what the
//! server gives, [`refusals`] asks for what it must not give, [`ways`] starts and stops it in all ways, and [`browser`]
//! opens its page where there is a Chromium.

// Signals and pipes.
#![cfg(unix)]

mod browser;
mod client;
#[path = "../support/in_browser.rs"]
mod in_browser;
#[path = "../support/page_reading.rs"]
mod page_reading;
mod pieces;
#[path = "../support/plane_run.rs"]
mod plane_run;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
mod refusals;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod ways;
