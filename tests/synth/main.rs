//! Synthetic scenes: exact depth that agrees between views, antialiased photos, the same bytes on any number of
//! threads, and folders that the engine itself reconstructs.

use std::fs;
use std::path::Path;

use engine::files::map::Map;
use engine::files::{image, pfm};
use engine::maps::consistency::{DepthView, Thresholds, agreement};
use engine::scene::camera::{Camera, DepthRange};
use engine::scene::{OpenOptions, Scene};
use engine::synth::maps::texture_strength;
use engine::synth::material::Material;
use engine::synth::object::Object;
use engine::synth::ray::{PixelRays, Ray};
use engine::synth::render::{Look, photo};
use engine::synth::rig::Rig;
use engine::synth::scene::SyntheticScene;
use engine::synth::shapes::Shape;
use engine::synth::sight::Sight;
use engine::synth::texture::light;
use engine::synth::world::{Backdrop, Lights, World, sees};
use engine::synth::{Generator, GeneratorOptions, Sample, Truth};
use glam::{DMat3, DVec3, Vec3};

#[path = "../support/program.rs"]
mod program;
mod written;

use program::{engine, files, json, text};

fn options(rig: Rig, views: usize, size: (usize, usize), seed: u64) -> GeneratorOptions {
    GeneratorOptions { rig, views, size, seed, ..GeneratorOptions::default() }
}

fn generator(rig: Rig, views: usize, size: (usize, usize), seed: u64) -> Generator {
    Generator::new(options(rig, views, size, seed)).unwrap()
}

/// A camera at the origin that looks along z.
fn camera(focal: f64, size: (usize, usize)) -> Camera {
    let middle = |length: usize| 0.5 * (length as f64 - 1.0);
    let k = DMat3::from_cols(
        DVec3::new(focal, 0.0, 0.0),
        DVec3::new(0.0, focal, 0.0),
        DVec3::new(middle(size.0), middle(size.1), 1.0),
    );
    Camera { k, r: DMat3::IDENTITY, t: DVec3::ZERO }
}

/// Plain white-grey objects in even light on black.
fn plain_world(objects: Vec<(Shape, DMat3, DVec3)>) -> World {
    let material = Material::plain(Vec3::splat(0.5));
    let object = |(shape, rotation, origin)| Object { shape, rotation, origin, scale: 1.0, material: material.clone() };
    let dark = Vec3::ZERO;
    let (to_sun, up) = (-DVec3::Z, DVec3::X);
    // Nothing that the camera sees faces along x, so the light is 0.8 * 0.5 * 0.5 = 0.2 everywhere.
    let lights = Lights { to_sun, sun: dark, to_fill: to_sun, fill: dark, ambient: Vec3::splat(0.5), up };
    World::new(objects.into_iter().map(object).collect(), Backdrop::Plain(dark), lights, 1.0)
}

/// The depth at every `step`-th pixel of a camera that looks at a world.
fn depth(world: &World, camera: &Camera, size: (usize, usize), range: DepthRange, step: usize) -> Map {
    let (cameras, ranges) = (vec![*camera], vec![range]);
    SyntheticScene { world: world.clone(), rig: Rig::Arc, size, cameras, ranges, looks: Vec::new() }.depth(0, step)
}

const PLAIN_LIGHT: f64 = 0.2;
const PLAIN_LOOK: Look = Look { gain: Vec3::ONE, gamma: 1.0, noise: 0.0, blur: 0.0, vignette: 0.0, seed: 0 };

/// Red light of every pixel, back from the photo's values.
fn lights_of(world: &World, camera: &Camera, size: (usize, usize)) -> Vec<f64> {
    let photo = photo(world, camera, size, &PLAIN_LOOK);
    photo.rgb.chunks_exact(3).map(|p| f64::from(light(p[0]))).collect()
}

#[test]
fn depth_is_z_at_the_pixels_of_the_map() {
    let size = (41, 30);
    let camera = camera(50.0, size);
    // A plane through (0, 0, 5) with normal (0.6, 0, -0.8): its depth at ray (a, b, 1) is -4 / (0.6 a - 0.8).
    let normal = DVec3::new(0.6, 0.0, -0.8);
    let rotation = DMat3::from_cols(DVec3::Y, normal.cross(DVec3::Y), normal);
    let world = plain_world(vec![(Shape::Plane { half: [50.0, 50.0] }, rotation, DVec3::Z * 5.0)]);
    let range = DepthRange { near: 1.0, far: 6.0 };
    for step in [1, 4] {
        let map = depth(&world, &camera, size, range, step);
        assert_eq!((map.width, map.height), (41usize.div_ceil(step), 30usize.div_ceil(step)));
        let mut outside = 0;
        for y in 0..map.height {
            for x in 0..map.width {
                let a = ((x * step) as f64 - 20.0) / 50.0;
                let z = -4.0 / (0.6 * a - 0.8);
                let expected = if z <= range.far { z as f32 } else { 0.0 };
                outside += usize::from(expected == 0.0);
                // The map's own rounding: one part in 2^24 at 4..8 is 5e-7.
                assert!((map.at(x, y) - expected).abs() < 1e-6, "{x} {y}");
            }
        }
        assert!(outside > 0);
    }
}

#[test]
fn edges_and_thin_rods_get_the_share_of_the_pixel_that_they_cover() {
    let size = (40, 32);
    let camera = camera(40.0, size);
    // At depth 4 a pixel is 0.1 wide. A tilted square of side 1.5 (2.25 = 225 pixels): its photo's light sums up to
    // its area, though hardly any pixel at its rim is covered whole.
    let turn = DMat3::from_rotation_z(0.3);
    let square = plain_world(vec![(Shape::Plane { half: [0.75, 0.75] }, turn, DVec3::new(0.03, 0.01, 4.0))]);
    let lights = lights_of(&square, &camera, size);
    let sum: f64 = lights.iter().sum::<f64>() / PLAIN_LIGHT;
    // 16 rays on each of some 60 rim pixels, each off by about 1 / 16: half a pixel all in all; bytes and the tone
    // curve's shoulder (0.04 %) add less than 1 %.
    assert!((sum - 225.0).abs() < 0.012 * 225.0, "{sum}");
    let partly = lights.iter().filter(|&&l| l > 0.1 * PLAIN_LIGHT && l < 0.9 * PLAIN_LIGHT).count();
    assert!(partly > 40, "{partly}");

    // An upright rod 0.4 pixels wide between two columns of pixel centres, where no centre's ray meets it.
    let upright = DMat3::from_rotation_x(std::f64::consts::FRAC_PI_2);
    let shape = Shape::Cylinder { radius: 0.02, half_length: 3.0 };
    let rod = plain_world(vec![(shape, upright, DVec3::new(0.1, 0.0, 4.0))]);
    let map = depth(&rod, &camera, size, DepthRange { near: 1.0, far: 9.0 }, 1);
    assert!(map.data.iter().all(|&z| z == 0.0));
    let lights = lights_of(&rod, &camera, size);
    for y in 2..size.1 - 2 {
        let row: f64 = lights[y * size.0..(y + 1) * size.0].iter().sum::<f64>() / PLAIN_LIGHT;
        // Four rays a pixel along the row: two of eight columns hit, in all 0.5 for a width of 0.4.
        assert!((0.25..=0.55).contains(&row), "{y}: {row}");
    }
}

#[test]
fn a_view_sees_what_nothing_hides() {
    let size = (40, 32);
    let camera = camera(40.0, size);
    let plane = |z: f64, half: f64| (Shape::Plane { half: [half, half] }, DMat3::IDENTITY, DVec3::Z * z);
    let world = plain_world(vec![plane(8.0, 10.0), plane(4.0, 0.5)]);
    assert!(sees(&world, &camera, size, DVec3::new(0.2, 0.1, 4.0)));
    assert!(!sees(&world, &camera, size, DVec3::new(0.4, 0.2, 8.0)), "behind the small plane");
    assert!(sees(&world, &camera, size, DVec3::new(2.0, 0.2, 8.0)));
    assert!(!sees(&world, &camera, size, DVec3::new(5.0, 0.2, 8.0)), "outside the photo");
    assert!(!sees(&world, &camera, size, DVec3::new(0.0, 0.0, -8.0)), "behind the camera");
}

/// A camera's and the lamp's shortcuts against rays that are tested with all objects.
#[test]
fn sights_and_shadows_find_what_every_ray_finds() {
    for (rig, seed) in [(Rig::Arc, 21), (Rig::Circle, 22), (Rig::Cluster, 23)] {
        let size = (90, 70);
        let generator = generator(rig, 2, size, seed);
        let (mut met, mut dark) = (0, 0);
        for index in 0..12 {
            let scene = generator.scene(index);
            let world = &scene.world;
            let sight = Sight::new(world, &scene.cameras[1], size);
            let rays = PixelRays::new(&scene.cameras[1]);
            for i in 0..size.0 * size.1 {
                // Also between the pixels' middles, up to the photo's rim.
                let (u, v) = ((i % size.0) as f64 + 0.375, (i / size.0) as f64 - 0.375);
                let found = sight.first(u, v, 0.0, f64::INFINITY);
                let plain = world.first(&rays.through(u, v), 0.0, f64::INFINITY);
                assert_eq!(found.map(|s| s.object), plain.map(|s| s.object), "{rig:?} {index} {u} {v}");
                let Some((found, plain)) = found.zip(plain) else { continue };
                // Coordinates of about 1 depth with some ten roundings of 1e-16; grazing rays lose digits.
                assert!((found.depth - plain.depth).abs() < 1e-9 * plain.depth, "{rig:?} {index} {u} {v}");
                met += 1;
                let to_sun = world.lights().to_sun;
                let point = found.position + found.normal * 1e-6 * (world.unit() + found.depth);
                let lit =
                    found.normal.dot(to_sun) > 0.0 && !world.blocked(&Ray::new(point, to_sun), 0.0, f64::INFINITY);
                assert_eq!(world.lit(&found), lit, "{rig:?} {index} {u} {v}");
                dark += usize::from(!lit);
            }
        }
        assert!(met > 30_000 && dark > 1000, "{rig:?}: {met} {dark}");
    }
}

/// On the whole depth maps of random scenes: pixels whose surface another view sees must agree with its depth map,
/// those that it does not see must not.
#[test]
fn depth_maps_agree_wherever_two_views_see_the_same_point() {
    for (rig, seed) in [(Rig::Arc, 1), (Rig::Circle, 2), (Rig::Cluster, 3), (Rig::Mixed, 4)] {
        let generator = generator(rig, 4, (320, 240), seed);
        let (mut visible, mut agreed, mut hidden, mut wrong) = (0, 0, 0, 0);
        for index in 0..3 {
            let scene = generator.scene(index);
            let maps: Vec<Map> = (0..4).map(|v| scene.depth(v, 1)).collect();
            let confidence = Map::filled(320, 240, 1.0);
            let views: Vec<DepthView> = maps
                .iter()
                .zip(&scene.cameras)
                .map(|(depth, &camera)| DepthView { camera, depth, confidence: &confidence })
                .collect();
            let rays = PixelRays::new(&scene.cameras[0]);
            for other in 1..4 {
                let found = agreement(&views[0], &[&views[other]], &Thresholds::default());
                for (i, &depth) in maps[0].data.iter().enumerate().filter(|(_, z)| **z > 0.0) {
                    let point = rays.through((i % 320) as f64, (i / 320) as f64).at(f64::from(depth));
                    // The map's depth is rounded to f32, which lifts the point off its surface by 6e-8 of its depth:
                    // less than what counts as the same place.
                    if scene.sees(other, point) {
                        visible += 1;
                        agreed += usize::from(found.count[i] > 0);
                    } else {
                        hidden += 1;
                        wrong += usize::from(found.count[i] > 0);
                    }
                }
            }
        }
        // What fails: pixels whose four neighbours in the other map straddle a depth edge (rods and heaps have many).
        assert!(visible > 50_000, "{rig:?} {visible}");
        assert!(agreed as f64 > 0.95 * visible as f64, "{rig:?}: {agreed} of {visible} agree");
        // Hidden pixels agree only next to where they come into view, where surfaces touch.
        assert!((wrong as f64) < 0.01 * (visible + hidden) as f64, "{rig:?}: {wrong} of {hidden} hidden ones");
    }
}

#[test]
fn extras_tell_slant_visibility_and_texture() {
    let generator = generator(Rig::Cluster, 3, (120, 90), 8);
    let scene = generator.scene(0);
    let (depth, slant, visible) = (scene.depth(0, 4), scene.slant(0, 4), scene.visible(0, 4));
    let normals = scene.normals(0, 4);
    let rays = PixelRays::new(&scene.cameras[0]);
    let mut seen = [0; 3];
    for i in 0..depth.data.len() {
        let (x, y) = (i % depth.width, i / depth.width);
        if depth.data[i] == 0.0 {
            assert_eq!((slant.data[i], visible.data[i], normals[i]), (0.0, 0.0, [0.0; 3]));
            continue;
        }
        let ray = rays.through(4.0 * x as f64, 4.0 * y as f64);
        let cosine = -ray.direction.normalize().dot(DVec3::from_array(normals[i].map(f64::from)));
        assert!((f64::from(slant.data[i]).to_radians().cos() - cosine).abs() < 1e-5);
        assert!((0.0..=90.0).contains(&slant.data[i]));
        seen[visible.data[i] as usize] += 1;
    }
    assert!(seen[2] > seen[0], "{seen:?}");

    // A photo that is flat on the left and a checkerboard of 0.25 and 0.75 on the right: deviation 0.25.
    let rgb = (0..40 * 20).flat_map(|i| {
        let (x, y) = (i % 40, i / 40);
        [if x < 20 { 0.5 } else { 0.25 + 0.5 * ((x + y) % 2) as f32 }; 3]
    });
    let photo = engine::scene::photo::Photo { width: 40, height: 20, rgb: rgb.collect() };
    let strength = texture_strength(&photo, 4);
    assert_eq!((strength.width, strength.height), (10, 5));
    assert!(strength.at(2, 2) < 1e-4);
    // 81 pixels cannot be half and half: the deviation is 0.25 * sqrt(1 - 1 / 81^2).
    assert!((strength.at(7, 2) - 0.25).abs() < 1e-4);
}

fn bytes(sample: &Sample) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |values: &[f32]| bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    sample.photos.iter().for_each(|p| add(&p.rgb));
    sample.depth.iter().for_each(|d| add(&d.data));
    let rest = format!("{:?} {:?} {:?}", sample.cameras, sample.range, sample.sources);
    bytes.extend(rest.bytes());
    bytes
}

#[test]
fn a_sample_is_a_function_of_seed_and_index_alone() {
    let make = |threads: usize, order: &[u64], seed: u64| -> Vec<Vec<u8>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let generator = generator(Rig::Mixed, 3, (98, 75), seed);
            order.iter().map(|&i| bytes(&generator.sample(i, Truth::OfAll))).collect()
        })
    };
    let forward = make(1, &[0, 1, 2, 70_000], 5);
    let backward = make(3, &[70_000, 2, 1, 0], 5);
    assert!(forward.iter().eq(backward.iter().rev()));
    for (i, a) in forward.iter().enumerate() {
        assert!(forward[i + 1..].iter().all(|b| a != b));
    }
    assert_ne!(make(2, &[0], 6)[0], forward[0]);
}

#[test]
fn samples_have_what_training_needs() {
    for (rig, size) in [(Rig::Arc, (160, 128)), (Rig::Circle, (97, 61)), (Rig::Cluster, (160, 128))] {
        let generator = generator(rig, 3, size, 9);
        let mut covered = 0.0;
        for index in 0..6 {
            let sample = generator.sample(index, Truth::OfReference);
            assert_eq!((sample.photos.len(), sample.cameras.len(), sample.depth.len()), (3, 3, 1));
            let mut sources: Vec<usize> = sample.sources.iter().map(|s| s.view).collect();
            assert!(sample.sources.is_sorted_by(|a, b| a.score >= b.score));
            sources.sort_unstable();
            assert_eq!(sources, [1, 2]);
            let depth = &sample.depth[0];
            assert_eq!((depth.width, depth.height), (size.0.div_ceil(4), size.1.div_ceil(4)));
            let range = sample.range;
            assert!(depth.data.iter().all(|&z| z == 0.0 || (range.near..=range.far).contains(&f64::from(z))));
            if rig == Rig::Arc {
                assert_eq!((range.near, range.far), (450.0, 950.0));
            }
            covered += depth.data.iter().filter(|&&z| z > 0.0).count() as f64 / depth.data.len() as f64;
            for photo in &sample.photos {
                assert_eq!((photo.width, photo.height), size);
                assert!(photo.rgb.iter().all(|v| (0.0..=1.0).contains(v)));
                let mean = photo.rgb.iter().sum::<f32>() / photo.rgb.len() as f32;
                assert!((0.02..0.95).contains(&mean), "{rig:?} {index}: {mean}");
            }
        }
        assert!(covered / 6.0 > 0.4, "{rig:?}: {covered}");
    }
}
