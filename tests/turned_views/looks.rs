//! How a source is shown beside a reference, from their cameras alone, and that turned and enlarged photos and cameras
//! belong together.

use engine::scene::camera::{Camera, DepthRange};
use engine::scene::look::Look;
use engine::scene::photo::Photo;
use glam::{DMat3, DVec3};

use super::synthetic::{arc, ball_before_plane, render};

const RANGE: DepthRange = DepthRange { near: 400.0, far: 1000.0 };

fn photo(camera: Camera, (width, height): (usize, usize)) -> Photo {
    let rendered = render(&ball_before_plane(), camera, width, height);
    Photo { width, height, rgb: rendered.colour.iter().flatten().map(|&v| f32::from(v) / 255.0).collect() }
}

/// A camera rolled clockwise about its axis, as by hand: what it sees turns the other way in its photo.
fn rolled(camera: Camera, degrees: f64) -> Camera {
    let roll = DMat3::from_rotation_z(-degrees.to_radians());
    Camera { r: roll * camera.r, t: roll * camera.t, ..camera }
}

#[test]
fn turned_photos_are_what_turned_cameras_take() {
    let size = (46, 31);
    let camera = arc(3, 30.0, 600.0, size.0, size.1)[2];
    let upright = photo(camera, size);
    for turns in 0..4 {
        let turned = camera.turned(turns, size);
        let turned_size = if turns % 2 == 1 { (size.1, size.0) } else { size };
        let (expected, found) = (photo(turned, turned_size), upright.clone().turned(turns));
        assert_eq!((found.width, found.height), turned_size);
        // One grey value, where rounding falls otherwise.
        let worst = expected.rgb.iter().zip(&found.rgb).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1.5 / 255.0, "{turns}: {worst}");
        let k = turned.k;
        assert!(k.x_axis.x > 0.0 && k.y_axis.y > 0.0 && k.x_axis.y.abs() < 1e-9, "{turns}: {k}");
        assert!((turned.r.determinant() - 1.0).abs() < 1e-12 && turned.centre().distance(camera.centre()) < 1e-9);
        let back = turned.turned(4 - turns, turned_size);
        assert!(back.k.abs_diff_eq(camera.k, 1e-9) && back.r.abs_diff_eq(camera.r, 1e-12));
    }
}

#[test]
fn enlarged_photos_keep_their_pixels_and_are_smooth_between() {
    let size = (160, 120);
    let small = arc(1, 0.0, 600.0, size.0, size.1)[0];
    let stored = photo(small, size);
    for doublings in [0, 1, 2] {
        let step = 1 << doublings;
        let large = stored.enlarged(doublings);
        assert_eq!((large.width, large.height), (159 * step + 1, 119 * step + 1));
        for (y, x) in (0..120).flat_map(|y| (0..160).map(move |x| (y, x))) {
            let at = |p: &Photo, x: usize, y: usize| p.rgb[3 * (y * p.width + x)];
            assert!((at(&large, x * step, y * step) - at(&stored, x, y)).abs() < 1e-6);
        }
        let taken = photo(small.decimated(step as f64), (large.width, large.height));
        // The texture's waves are some twenty pixels long: cubic interpolation is off by a few grey values, and by more
        // only at the ball's outline.
        let off = large.rgb.iter().zip(&taken.rgb).filter(|(a, b)| (*a - *b).abs() > 8.0 / 255.0).count();
        assert!(off * 20 < large.rgb.len(), "{doublings}: {off} of {}", large.rgb.len());
    }
}

#[test]
fn a_source_is_turned_back_by_the_nearest_quarter() {
    let size = (64, 48);
    let cameras = arc(3, 40.0, 600.0, size.0, size.1);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        for reference_turns in 0..4u8 {
            for turns in 0..4u8 {
                for off in [-40.0, -10.0, 0.0, 25.0, 40.0] {
                    let reference = cameras[a].turned(reference_turns, size);
                    let source = rolled(cameras[b].turned(turns, size), off);
                    // Landscape beside portrait; which of the two sizes is which does not matter to the turn.
                    let look = Look::new((&reference, size), (&source, (size.1, size.0)), RANGE);
                    let back = (4 + reference_turns - turns) % 4;
                    assert_eq!(look.quarter_turns, back, "{a} {b}: {reference_turns} {turns} {off}");
                    assert_eq!(look.levels, 0);
                }
            }
        }
    }
    // From the other side there is no turn to speak of.
    let opposite = Camera { r: DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0)) * cameras[1].r, ..cameras[1] };
    let flipped = Camera { r: DMat3::from_diagonal(DVec3::new(-1.0, 1.0, -1.0)) * cameras[1].r, ..cameras[1] };
    for source in [opposite, flipped] {
        assert_eq!(Look::new((&cameras[1], size), (&source, size), RANGE), Look::AS_IT_IS);
    }
}

#[test]
fn the_level_follows_pixels_for_pixels_at_the_middle_of_the_range() {
    let size = (640, 480);
    let camera = arc(1, 0.0, 600.0, size.0, size.1)[0];
    let look = |source: &Camera, source_size: (usize, usize)| Look::new((&camera, size), (source, source_size), RANGE);
    // Larger and smaller photos from the same place.
    for (factor, levels, doublings) in
        [(0.25, -2, 2), (0.5, -1, 1), (0.7, -1, 1), (0.72, 0, 0), (1.0, 0, 0), (1.4, 0, 0), (1.42, 1, 0), (4.0, 2, 0)]
    {
        let source_size = ((640.0 * factor) as usize, (480.0 * factor) as usize);
        let found = look(&camera.resized(factor, factor), source_size);
        assert_eq!(found, Look { quarter_turns: 0, levels, doublings }, "{factor}");
        for level in 0..4 {
            assert_eq!(found.level(level), level as i32 + levels);
        }
    }
    // Nearer and further away on the axis: the middle of 400 to 1000 in 1 / depth is 571.4.
    for (depth, levels) in [(571.4 / 4.0, 2), (571.4 / 2.0, 1), (571.4 * 2.0, -1), (571.4 * 4.0, -2)] {
        let found = look(&Camera { t: camera.t + DVec3::new(0.0, 0.0, depth - 571.4), ..camera }, size);
        assert_eq!(found.levels, levels, "{depth}");
        // The photo is as large as the reference's already: level 0 is the finest that it is shown at.
        assert_eq!(found.doublings, 0);
        assert_eq!((found.level(0), found.level(3)), (levels.max(0), (3 + levels).max(0)));
    }
    // Behind the camera: nothing is known of its scale.
    let behind = Camera { t: camera.t - DVec3::new(0.0, 0.0, 2000.0), ..camera };
    assert_eq!(look(&behind, size).levels, 0);
}
