//! Multi-view stereo: calibrated photos in, dense depth maps and one coloured point cloud out.
//!
//! `docs/ARCHITECTURE.md` is the map of the source tree; this page is its short form.
//!
//! # Rooms
//!
//! Each room is a module. It imports only from rooms below it; `tests/structure.rs` checks that.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `cli` ([`command_line()`], [`embedded`]) | the command line: options, exit codes |
//! | [`view`] | a finished run, or a cloud, in the browser |
//! | [`mod@report`] | a finished run as one HTML page |
//! | [`shards`] | one job on many machines |
//! | [`doctor`], [`mod@bench`] | what is wrong with a scene; how fast the engine is here |
//! | [`train`] | training: samples, optimizer, checkpoints, logs |
//! | [`ortho`] | a finished run as a surface model and an orthophoto |
//! | [`mesh`] | a finished run's maps as a triangle mesh |
//! | [`mod@export`] | a finished run in the formats of other programs |
//! | [`run`] | the main job: plan, depth maps, merge, fusion, files, resuming |
//! | [`draw`], [`evaluation`], [`synth`] | charts and previews; scores of maps and clouds; rendered scenes |
//! | [`manifest`] | `manifest.json` |
//! | [`cuda`], [`cpu`], [`net`] | the two devices, and the network that runs on them |
//! | [`fusion`], [`maps`] | depth maps to points; geometry of depth maps |
//! | [`scene`], [`files`] | cameras, photos, MVSNet and COLMAP layouts, other programs' cameras; file formats |
//! | [`host`], [`error`] | memory, progress, interruption; errors |
//!
//! # The way of one pixel
//!
//! [`scene`] finds the photos, cameras and source views; [`scene::photo`] decodes, undistorts and scales the photo.
//! [`net`] turns it into features, sweeps depth planes through the source views and regresses depth and confidence.
//! [`maps`] lets a coarser pyramid level repair what a finer one is unsure of. [`fusion`] keeps the pixels that other
//! views confirm and turns them into points. [`files::ply`] writes the cloud. [`run::infer`] does all of this and more.
//!
//! # Example
//!
//! Depth maps of three views at a small size, fused into one cloud. `examples/depth_and_cloud.rs` is the same as a
//! program.
//!
//! ```
//! use engine::files::ply;
//! use engine::files::ply_storage::OffsetOption;
//! use engine::fusion::fuse::fuse;
//! use engine::fusion::settings::FusionOptions;
//! use engine::fusion::view::FusionView;
//! use engine::cpu::network::BsMvsNet;
//! use engine::scene::camera::{Hypotheses, PlaneSweep, Sampling};
//! use engine::scene::photo::Photo;
//! use engine::scene::{OpenOptions, Scene};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let cloud = folder.path().join("cloud.ply");
//! let mut scene = Scene::open("examples/scene".as_ref(), &OpenOptions::default())?;
//! scene.select_sources();
//!
//! // Photos with at most 256 pixels on the longer side, and the features of each.
//! let network = BsMvsNet::built_in()?;
//! let mut photos = Vec::new();
//! let mut features = Vec::new();
//! for view in &scene.views {
//!     let loaded = Photo::load(view, Some(256))?;
//!     features.push(network.features(&loaded.photo.padded_to_multiple_of_4())?);
//!     photos.push(loaded);
//! }
//!
//! // The sweeps are those between every fourth pixel of the photos; maps have the photos' own pixels.
//! let camera = |view: usize| photos[view].camera.decimated(0.25);
//! let mut views = Vec::new();
//! for reference in 0..3 {
//!     let view = &scene.views[reference];
//!     let range = view.depth_range(96).ok_or("no depth range")?;
//!     let sweep = |source: usize| (&features[source], PlaneSweep::new(&camera(reference), &camera(source)));
//!     let sources: Vec<_> = view.sources.iter().take(4).map(|s| sweep(s.view)).collect();
//!     let depths = Hypotheses::new(range, 96, Sampling::Inverse);
//!     let maps = network.depth(&features[reference], &sources, &depths)?;
//!     assert_eq!((maps.depth.width, maps.depth.height), (256, 192));
//!     views.push(FusionView {
//!         name: view.name.clone(),
//!         camera: photos[reference].camera,
//!         depth: maps.depth,
//!         confidence: maps.confidence,
//!         colour: photos[reference].photo.colours(),
//!         range,
//!         sources: (0..3).filter(|&other| other != reference).collect(),
//!         levels: Vec::new(),
//!     });
//! }
//!
//! let points = fuse(&views, &FusionOptions::default())?.points;
//! assert!(!points.is_empty());
//! ply::write(&cloud, &points, ply::storage_of(&points, OffsetOption::None), &[])?;
//! # Ok(())
//! # }
//! ```

// `src/cli` calls the library as another program would: by this name.
extern crate self as engine;

mod cli;

pub use cli::command::{command_line, refusal};
pub use cli::embedded;
pub mod view;

pub mod report;

pub mod shards;

pub mod bench;
pub mod doctor;

pub mod train;

pub mod mesh;
pub mod ortho;

pub mod export;

pub mod run;

pub mod matching;

pub mod draw;

pub mod evaluation;
pub mod synth;

pub mod manifest;

pub mod cuda;

pub mod cpu;

pub mod net;

pub mod fusion;

pub mod maps;

pub mod scene;

pub mod remote;

pub mod files;

pub mod host;

pub mod error;

pub use error::{Error, Result};
