//! A room that is seen from within by any camera, and photos of it: what panoramas and wide fisheyes show all around.

#![allow(dead_code)] // each test file uses its own part

use std::f64::consts::PI;

use glam::{DMat3, DQuat, DVec2, DVec3};

use crate::scene_files::{TestScene, TestView};

/// Half the room's sides; its middle is the origin.
pub const HALF: DVec3 = DVec3::new(3.0, 2.0, 3.5);

/// The place on the walls that a ray from within meets.
pub fn wall(from: DVec3, direction: DVec3) -> DVec3 {
    let along = |i: usize| (HALF[i].copysign(direction[i]) - from[i]) / direction[i];
    let distance = (0..3).filter(|&i| direction[i] != 0.0).map(along).fold(f64::INFINITY, f64::min);
    from + direction * distance
}

/// How far a place within the room is from the walls.
pub fn to_wall(place: DVec3) -> f64 {
    (HALF - place.abs()).to_array().into_iter().fold(f64::INFINITY, |least, d| least.min(d.abs()))
}

/// Waves in space, with `octaves` lengths from 1.6 on, each half the one before: continuous over the room's edges.
pub fn colour(place: DVec3, octaves: i32) -> [f64; 3] {
    [0.0, 1.0, 2.0].map(|channel| {
        let wave = |octave: i32| {
            let turned = DQuat::from_euler(glam::EulerRot::XYZ, 0.7 * f64::from(octave) + channel, 0.4, 1.1) * place;
            let phase = turned * (2.0 * PI / 1.6 * 2f64.powi(octave));
            (phase.x.sin() + (phase.y + channel).sin() + (phase.z + 2.0 * channel).sin()) / 3.0
        };
        let sum: f64 = (0..octaves).map(|octave| wave(octave) * 0.75f64.powi(octave)).sum();
        let most: f64 = (0..octaves).map(|octave| 0.75f64.powi(octave)).sum();
        0.5 + 0.45 * sum / most
    })
}

/// A way of seeing: the direction of a pixel in the camera's axes (pixel centres are integers).
pub type Sight = fn(DVec2, (u32, u32)) -> Option<DVec3>;

/// All around, longitude by latitude.
pub fn panorama(pixel: DVec2, (width, height): (u32, u32)) -> Option<DVec3> {
    let (longitude, latitude) =
        (((pixel.x + 0.5) / f64::from(width) - 0.5) * 2.0 * PI, ((pixel.y + 0.5) / f64::from(height) - 0.5) * PI);
    let across = latitude.cos();
    Some(DVec3::new(across * longitude.sin(), latitude.sin(), across * longitude.cos()))
}

/// What [`fisheye`]'s angles are multiplied with, by their squares.
pub const FISHEYE_K1: f64 = 0.015;

/// Pixels for a radian in a fisheye's middle: its circle touches the border at 95 degrees off the axis.
pub fn fisheye_focal(size: (u32, u32)) -> f64 {
    let angle = 95f64.to_radians();
    0.5 * f64::from(size.0) / (angle + FISHEYE_K1 * angle.powi(3))
}

/// A circle of 190 degrees.
pub fn fisheye(pixel: DVec2, size: (u32, u32)) -> Option<DVec3> {
    let side = pixel + 0.5 - DVec2::new(f64::from(size.0), f64::from(size.1)) * 0.5;
    let radius = side.length() / fisheye_focal(size);
    let (mut low, mut high) = (0.0, 2.0);
    for _ in 0..60 {
        let middle: f64 = 0.5 * (low + high);
        if middle + FISHEYE_K1 * middle.powi(3) < radius { low = middle } else { high = middle }
    }
    let off = side.normalize_or_zero() * low.sin();
    (low < 95f64.to_radians()).then(|| DVec3::new(off.x, off.y, low.cos()))
}

/// What a camera at this pose sees of the room, as 0..1; black where it sees nothing. A pixel is the mean over
/// `samples` by `samples` places in it.
pub fn render(
    (r, t): (DMat3, DVec3),
    size: (u32, u32),
    sight: impl Fn(DVec2) -> Option<DVec3> + Sync,
    (octaves, samples): (i32, u32),
) -> Vec<[f64; 3]> {
    use rayon::prelude::*;
    let centre = -(r.transpose() * t);
    let at = |i: u32| {
        let mut sum = [0.0; 3];
        for j in 0..samples * samples {
            let within = |k: u32| (f64::from(k) + 0.5) / f64::from(samples) - 0.5;
            let pixel = DVec2::new(f64::from(i % size.0), f64::from(i / size.0))
                + DVec2::new(within(j % samples), within(j / samples));
            let Some(direction) = sight(pixel) else { continue };
            let of_wall = colour(wall(centre, r.transpose() * direction), octaves);
            sum.iter_mut().zip(of_wall).for_each(|(sum, value)| *sum += value / f64::from(samples * samples));
        }
        sum
    };
    (0..size.0 * size.1).into_par_iter().map(at).collect()
}

/// A photo's file.
pub fn picture(size: (u32, u32), pixels: &[[f64; 3]]) -> image::RgbImage {
    let byte = |value: f64| (value * 255.0).round() as u8;
    image::RgbImage::from_fn(size.0, size.1, |x, y| image::Rgb(pixels[(y * size.0 + x) as usize].map(byte)))
}

/// Photos of this size taken around the room's middle, with sparse points on its walls.
pub fn scene(count: u32, size: (u32, u32), model: (i32, &'static str, Vec<f64>)) -> TestScene {
    let view = |i: u32| {
        let a = f64::from(i);
        let centre = DVec3::new(0.5 * (2.4 * a).cos(), 0.25 * (1.9 * a).sin(), 0.5 * (2.4 * a).sin());
        let r = DMat3::from_euler(glam::EulerRot::YXZ, 0.1 * a.sin(), 0.05 * a.cos(), 0.04 * (2.0 * a).sin());
        TestView { id: i + 1, camera: i + 1, file: format!("{i:03}.png"), k: DMat3::IDENTITY, r, t: -(r * centre) }
    };
    let ids: Vec<u32> = (1..=count).collect();
    let point = |i: i32| {
        // Directions all around, by the golden angle.
        let (y, turn) = (1.0 - (2.0 * f64::from(i) + 1.0) / 600.0, 2.399963229728653 * f64::from(i));
        let across = (1.0 - y * y).sqrt();
        (wall(DVec3::ZERO, DVec3::new(across * turn.cos(), y, across * turn.sin())), ids.clone())
    };
    TestScene { size, views: (0..count).map(view).collect(), points: (0..600).map(point).collect(), model: Some(model) }
}

/// Panoramas as COLMAP 4 has them.
pub fn panoramas(count: u32, width: u32) -> TestScene {
    scene(count, (width, width / 2), (17, "EQUIRECTANGULAR", vec![f64::from(width), f64::from(width / 2)]))
}

/// Fisheyes of 190 degrees.
pub fn fisheyes(count: u32, side: u32) -> TestScene {
    let (f, c) = (fisheye_focal((side, side)), 0.5 * f64::from(side));
    scene(count, (side, side), (5, "OPENCV_FISHEYE", vec![f, f, c, c, FISHEYE_K1, 0.0, 0.0, 0.0]))
}
