//! Depth maps and a cloud from the library, without the command line: three views of a scene at a small size.
//!
//!     cargo run --release --example depth_and_cloud -- [SCENE] [CLOUD.ply]
//!
//! Without arguments it reads `examples/scene` and writes `cloud.ply` into the system's temporary folder. The whole
//! job, with pyramid levels, memory planning and resuming, is `engine::run::infer`.

use std::path::PathBuf;

use engine::cpu::network::BsMvsNet;
use engine::files::ply;
use engine::fusion::{FusionOptions, FusionView, fuse};
use engine::scene::camera::{Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};

/// Depths that are tried at every pixel.
const PLANES: usize = 96;

fn main() -> engine::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let scene_folder =
        arguments.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scene").into());
    let cloud = arguments.next().unwrap_or_else(|| std::env::temp_dir().join("cloud.ply"));

    let mut scene = Scene::open(&scene_folder, &OpenOptions::default())?;
    scene.select_sources();
    let network = BsMvsNet::built_in()?;
    let load = |view| Photo::load(view, Some(256)); // The longer side has at most 256 pixels.
    let photos = scene.views.iter().map(load).collect::<engine::Result<Vec<_>>>()?;
    let features = photos.iter().map(|p| network.features(&p.photo.padded_to_multiple_of_4()));
    let features = features.collect::<engine::Result<Vec<_>>>()?;
    let camera = |view: usize| photos[view].camera.decimated(0.25); // Maps keep every fourth pixel.

    let range = |v: usize| scene.views[v].depth_range(PLANES).or_else(|| scene.point_depth_range(v, 0.1));
    let chosen: Vec<_> = (0..photos.len()).filter_map(|v| Some((v, range(v)?))).take(3).collect();
    let mut views = Vec::new();
    for (place, &(reference, range)) in chosen.iter().enumerate() {
        let view = &scene.views[reference];
        let sweep = |source: usize| (&features[source], PlaneSweep::new(&camera(reference), &camera(source)));
        let sources: Vec<_> = view.sources.iter().take(4).map(|s| sweep(s.view)).collect();
        let depths = Hypotheses::new(range, PLANES, Sampling::Inverse);
        let maps = network.depth(&features[reference], &sources, &depths)?;
        println!("view {}: a depth map of {} x {} pixels", view.name, maps.depth.width, maps.depth.height);
        let quarter = photos[reference].photo.pyramid_level().pyramid_level();
        let colour = quarter.rgb.chunks_exact(3).map(|p| [0, 1, 2].map(|c| (p[c] * 255.0).round() as u8)).collect();
        views.push(FusionView {
            name: view.name.clone(),
            camera: camera(reference),
            depth: maps.depth,
            confidence: maps.confidence,
            colour,
            range,
            sources: (0..chosen.len()).filter(|&other| other != place).collect(),
            levels: Vec::new(),
        });
    }
    let points = fuse(&views, &FusionOptions::default())?.points;
    ply::write(&cloud, &points, &[])?;
    println!("{} points in {}", points.len(), cloud.display());
    Ok(())
}
