//! `engine report` through the binary, on a run whose maps are known. [`page`] looks at the page as HTML, [`packed`]
//! unpacks what the scripts get, and [`browser`] opens it where there is a Chromium.

mod browser;
#[path = "../support/in_browser.rs"]
mod in_browser;
mod packed;
mod page;
#[path = "../support/page_reading.rs"]
mod page_reading;
#[path = "../support/plane_run.rs"]
mod plane_run;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/scene_files.rs"]
mod scene_files;
