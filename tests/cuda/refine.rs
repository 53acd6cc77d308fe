//! Refinement against the photos on the device: against plain loops in f64, and against the processor's.

use std::sync::Arc;

use engine::cpu::device::Cpu;
use engine::cpu::ops::ncc::{self, Photos, STEP_PX};
use engine::cuda::driver::Driver;
use engine::cuda::driver::Stream;
use engine::cuda::program::Owned;
use engine::cuda::refine::{self, Grey, Refinement};
use engine::files::map::Map;
use engine::net::tensor::{Shape, Tensor};
use engine::scene::camera::PlaneSweep;

use crate::consistency::checked;
use crate::painted_plane::{Scene, by_plain_loops, shaken};

fn step(scene: &Scene) -> f32 {
    STEP_PX * scene.pixel()
}

/// Photos and what a refinement works in, which is as large as is said and no larger.
fn refined(
    device: &Arc<dyn Driver>,
    reference: &Tensor,
    sources: &[(&Tensor, PlaneSweep)],
    step: f32,
    depth: &mut Map,
) -> engine::Result<usize> {
    let mut memory = Vec::new();
    let mut held = |bytes: u64| {
        memory.push(Owned::new(device, bytes, || "a test".into()).unwrap());
        memory.last().unwrap().pointer()
    };
    let mut grey = |photo: &Tensor| {
        let at = held(4 * photo.data.len() as u64);
        device.upload(at, bytemuck::cast_slice(&photo.data), Stream::FIRST).unwrap();
        Grey { shape: photo.shape, at }
    };
    let reference = grey(reference);
    let sources: Vec<_> = sources.iter().map(|(photo, sweep)| (grey(photo), *sweep)).collect();
    let size = (depth.width, depth.height);
    let map = 4 * depth.data.len() as u64;
    let depths = [held(map), held(map)];
    let to_work_in = held(refine::room(size, sources.len()));
    let refinement = Refinement { reference, sources: &sources, step, size, depths, to_work_in };
    if !refinement.is_possible()? {
        return Ok(0);
    }
    device.upload(to_work_in, &refinement.seen(), Stream::FIRST)?;
    device.upload(depths[0], bytemuck::cast_slice(&depth.data), Stream::FIRST)?;
    refinement.queue(device, Stream::FIRST)?;
    let mut moved = vec![0u32; refine::blocks(size)];
    device.download(refinement.counts(), bytemuck::cast_slice_mut(&mut moved), Stream::FIRST)?;
    device.download(depths[1], bytemuck::cast_slice_mut(&mut depth.data), Stream::FIRST)?;
    Ok(moved.into_iter().map(|count| count as usize).sum())
}

fn on_device(device: &Arc<dyn Driver>, scene: &Scene, greys: &[Tensor], depth: &Map) -> (Map, usize) {
    let sources: Vec<_> = greys[1..].iter().zip(scene.sweeps()).collect();
    let mut depth = depth.clone();
    let moved = refined(device, &greys[0], &sources, step(scene), &mut depth).unwrap();
    (depth, moved)
}

fn on_processor(scene: &Scene, greys: &[Tensor], depth: &Map) -> (Map, usize) {
    let sources: Vec<_> = greys[1..].iter().zip(scene.sweeps()).collect();
    let photos = Photos { reference: &greys[0], sources: &sources, step: step(scene) };
    let mut depth = depth.clone();
    let moved = ncc::refine(&Cpu::new(), &photos, &mut depth).unwrap();
    (depth, moved)
}

#[test]
pub fn refined_depths_are_what_plain_loops_and_the_processor_say() {
    let Some(device) = checked() else { return };
    // A pixel; less than a window; sides that are multiples of a tile, and others.
    for size in [(1, 1), (3, 2), (64, 16), (71, 37)] {
        let scene = Scene::new(size, 1.0);
        let greys: Vec<Tensor> = scene.greys().into_iter().collect();
        let guess = shaken(&scene.truth(), scene.pixel(), 0.5);
        let (depth, moved) = on_device(&device, &scene, &greys, &guess);
        let (expected, moved_there) = on_processor(&scene, &greys, &guess);
        let exact: Vec<Vec<f64>> = greys.iter().map(|g| g.data.iter().map(|&v| f64::from(v)).collect()).collect();
        let rho: Vec<f64> = guess.data.iter().map(|&z| f64::from(1.0 / z)).collect();
        let step = f64::from(step(&scene));
        let (mut compared, mut apart) = (0, 0);
        for i in 0..depth.data.len() {
            let found = f64::from(1.0 / depth.data[i]);
            apart += usize::from((found - f64::from(1.0 / expected.data[i])).abs() > 0.01 * step);
            let Some(truth) = by_plain_loops(&exact, &scene, &rho, (i % size.0, i / size.0)) else { continue };
            let truth = truth.unwrap_or(rho[i]);
            // As for the processor: tests/refinement.rs has the reason.
            assert!((found - truth).abs() < 0.1 * step, "{size:?} pixel {i}: {found} for {truth}");
            compared += 1;
        }
        // A position that is rounded otherwise moves by a millionth of a pixel, a correlation by as much: that shows
        // where two hypotheses, or a hypothesis and a threshold, are that close.
        assert!(apart * 200 <= depth.data.len(), "{size:?}: {apart} pixels differ from the processor's");
        assert!(moved.abs_diff(moved_there) * 200 <= depth.data.len(), "{size:?}: {moved}, {moved_there}");
        if depth.data.len() > 1000 {
            assert!(
                2 * compared > depth.data.len() && 10 * moved > 8 * depth.data.len(),
                "{size:?}: {compared}, {moved}"
            );
        }
        assert_eq!(on_device(&device, &scene, &greys, &guess).0, depth, "two runs differ");
    }
}

#[test]
pub fn what_is_no_depth_stays_and_sources_out_of_sight_count_for_nothing() {
    let Some(device) = checked() else { return };
    let scene = Scene::new((45, 20), 1.0);
    let greys: Vec<Tensor> = scene.greys().into_iter().collect();
    let mut guess = shaken(&scene.truth(), scene.pixel(), 0.3);
    for (i, bad) in [f32::NAN, 0.0, -1.0].into_iter().enumerate() {
        guess.data[450 + 10 * i] = bad;
    }
    let (depth, moved) = on_device(&device, &scene, &greys, &guess);
    for i in [450, 460, 470] {
        assert_eq!(depth.data[i].to_bits(), guess.data[i].to_bits());
    }
    assert!(moved > 100, "{moved}");
    // Depths of a thousandth put every pixel outside of every source.
    let near = Map::filled(45, 20, 1e-3);
    assert_eq!(on_device(&device, &scene, &greys, &near), (near, 0));
    // Nothing to hold depths against.
    let mut same = guess.clone();
    assert_eq!(refined(&device, &greys[0], &[], step(&scene), &mut same).unwrap(), 0);
    assert_eq!(
        same.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        guess.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    );
    let colours = Tensor::zeros(Shape::plane(20, 45, 3));
    let sources = [(&colours, scene.sweeps()[0])];
    assert!(refined(&device, &greys[0], &sources, 0.1, &mut same).is_err());
    let mut small = Map::filled(44, 20, 1.0);
    let sources = [(&greys[1], scene.sweeps()[0])];
    let message = refined(&device, &greys[0], &sources, 0.1, &mut small).unwrap_err().to_string();
    assert!(message.contains("a map of 44 x 20 for a photo of 45 x 20"), "{message}");
}
