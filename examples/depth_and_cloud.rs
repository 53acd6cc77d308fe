//! Depth maps and a cloud from the library, without the command line: three views of the scene in the tree, at a small
//! size. The whole job, with pyramid levels, memory planning and resuming, is `engine::run::infer`.
//!
//!     cargo run --release --example depth_and_cloud -- [CLOUD.ply]

use engine::cpu::network::BsMvsNet;
use engine::files::ply;
use engine::files::ply_storage::OffsetOption;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::FusionOptions;
use engine::fusion::view::FusionView;
use engine::scene::camera::{Hypotheses, PlaneSweep, Sampling};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cloud = std::env::args().nth(1).unwrap_or_else(|| "cloud.ply".into());
    let mut scene = Scene::open("examples/scene".as_ref(), &OpenOptions::default())?;
    scene.select_sources();
    let network = BsMvsNet::built_in()?;
    // The longer side has at most 256 pixels.
    let photos = scene.views.iter().map(|view| Photo::load(view, Some(256))).collect::<engine::Result<Vec<_>>>()?;
    let features = photos.iter().map(|p| network.features(&p.photo.padded_to_multiple_of_4()));
    let features = features.collect::<engine::Result<Vec<_>>>()?;
    // Maps keep every fourth pixel.
    let camera = |view: usize| photos[view].camera.decimated(0.25);

    let mut views = Vec::new();
    for (reference, view) in scene.views.iter().enumerate().take(3) {
        let range = view.depth_range(96).ok_or("the scene's files say no depth range")?;
        let sweep = |source: usize| (&features[source], PlaneSweep::new(&camera(reference), &camera(source)));
        let sources: Vec<_> = view.sources.iter().take(4).map(|s| sweep(s.view)).collect();
        let depths = Hypotheses::new(range, 96, Sampling::Inverse);
        let maps = network.depth(&features[reference], &sources, &depths)?;
        println!("view {}: a depth map of {} x {} pixels", view.name, maps.depth.width, maps.depth.height);
        views.push(FusionView {
            name: view.name.clone(),
            camera: camera(reference),
            depth: maps.depth,
            confidence: maps.confidence,
            colour: photos[reference].photo.pyramid_level().pyramid_level().colours(),
            range,
            sources: (0..3).filter(|&other| other != reference).collect(),
            levels: Vec::new(),
        });
    }
    let points = fuse(&views, &FusionOptions::default())?.points;
    ply::write(cloud.as_ref(), &points, ply::storage_of(&points, OffsetOption::None), &[])?;
    println!("{} points in {cloud}", points.len());
    Ok(())
}
