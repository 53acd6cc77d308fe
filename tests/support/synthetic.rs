//! Analytic scenes: planes and spheres with a smooth texture, rendered exactly. Every pixel's ray is intersected with
//! every surface in f64, so depth, normal and colour carry no sampling error. Shares no geometry with the engine.

use engine::files::map::Map;
use engine::scene::camera::Camera;
use glam::{DMat3, DVec3};

/// A surface in the world.
#[derive(Clone, Copy, Debug)]
pub enum Surface {
    /// All points X with `normal . (X - point) = 0`.
    Plane { point: DVec3, normal: DVec3 },
    /// A ball's skin.
    Sphere { centre: DVec3, radius: f64 },
}

impl Surface {
    /// The smallest positive s with `origin + s * direction` on the surface.
    fn hit(&self, origin: DVec3, direction: DVec3) -> Option<f64> {
        match *self {
            Surface::Plane { point, normal } => {
                let s = normal.dot(point - origin) / normal.dot(direction);
                (s.is_finite() && s > 0.0).then_some(s)
            }
            Surface::Sphere { centre, radius } => {
                let (a, b) = (direction.dot(direction), direction.dot(origin - centre));
                let c = (origin - centre).length_squared() - radius * radius;
                let root = (b * b - a * c).sqrt();
                [(-b - root) / a, (-b + root) / a].into_iter().find(|s| *s > 0.0)
            }
        }
    }

    /// Unit normal at a point of the surface, towards `eye`.
    pub fn normal(&self, at: DVec3, eye: DVec3) -> DVec3 {
        let normal = match *self {
            Surface::Plane { normal, .. } => normal.normalize(),
            Surface::Sphere { centre, .. } => (at - centre).normalize(),
        };
        if normal.dot(eye - at) < 0.0 { -normal } else { normal }
    }

    /// How far a point lies from the surface.
    pub fn distance(&self, at: DVec3) -> f64 {
        match *self {
            Surface::Plane { point, normal } => normal.normalize().dot(at - point).abs(),
            Surface::Sphere { centre, radius } => ((at - centre).length() - radius).abs(),
        }
    }
}

/// A view of a scene, with the truth for every pixel.
pub struct Rendered {
    pub camera: Camera,
    /// 0 where no surface is seen.
    pub depth: Map,
    pub colour: Vec<[u8; 3]>,
    /// The seen point, the surface's index and the normal towards the camera.
    pub seen: Vec<Option<(DVec3, usize, DVec3)>>,
}

/// Renders the nearest surface in every pixel.
pub fn render(surfaces: &[Surface], camera: Camera, width: usize, height: usize) -> Rendered {
    let eye = -(camera.r.transpose() * camera.t);
    let k = camera.k;
    let mut view = Rendered {
        camera,
        depth: Map::filled(width, height, 0.0),
        colour: vec![[0; 3]; width * height],
        seen: vec![None; width * height],
    };
    for y in 0..height {
        for x in 0..width {
            // K is upper triangular: solved by hand. The ray has z = 1 in the camera, so s is the depth.
            let ray_y = (y as f64 - k.z_axis.y) / k.y_axis.y;
            let ray_x = (x as f64 - k.z_axis.x - k.y_axis.x * ray_y) / k.x_axis.x;
            let direction = camera.r.transpose() * DVec3::new(ray_x, ray_y, 1.0);
            let hits = surfaces.iter().enumerate().filter_map(|(i, s)| Some((s.hit(eye, direction)?, i)));
            let Some((depth, surface)) = hits.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
            let point = eye + direction * depth;
            let at = y * width + x;
            view.depth.data[at] = depth as f32;
            view.colour[at] = texture(point, surface).map(|v| (255.0 * v).round() as u8);
            view.seen[at] = Some((point, surface, surfaces[surface].normal(point, eye)));
        }
    }
    view
}

/// Red, green, blue in 0..1: three waves over the surface point, of other directions on each surface.
pub fn texture(point: DVec3, surface: usize) -> [f64; 3] {
    let turn = surface as f64;
    let wave = |a: f64, b: f64, c: f64| {
        0.5 + 0.25 * (0.11 * point.dot(DVec3::new(a, b, c)) + turn).sin()
            + 0.2 * (0.031 * point.dot(DVec3::new(c, a, b)) - turn).cos()
    };
    [wave(1.0, 0.3, 0.2), wave(-0.4, 1.0, 0.5), wave(0.7, -0.8, 0.6)]
}

/// `count` cameras on an arc of `degrees` about the world's origin at `distance`, slightly above it and looking at
/// it; maps of `width` x `height` pixels with about 45 degrees across.
pub fn arc(count: usize, degrees: f64, distance: f64, width: usize, height: usize) -> Vec<Camera> {
    let focal = 1.2 * width as f64;
    let centre = ((width - 1) as f64 / 2.0, (height - 1) as f64 / 2.0);
    let k =
        DMat3::from_cols(DVec3::new(focal, 0.0, 0.0), DVec3::new(0.0, focal, 0.0), DVec3::new(centre.0, centre.1, 1.0));
    (0..count)
        .map(|i| {
            let share = if count > 1 { i as f64 / (count - 1) as f64 - 0.5 } else { 0.0 };
            let angle = (degrees * share).to_radians();
            // The height varies, so that epipolar lines are not the maps' rows.
            let tilt = 0.08 + 0.05 * (1.7 * i as f64).sin();
            let eye = DVec3::new(angle.sin(), -tilt, -angle.cos()) * distance;
            let forward = -eye.normalize();
            let right = DVec3::Y.cross(forward).normalize();
            let down = forward.cross(right);
            let r = DMat3::from_cols(right, down, forward).transpose();
            Camera { k, r, t: -(r * eye) }
        })
        .collect()
}

/// A slanted plane behind the origin, and before it a ball.
pub fn ball_before_plane() -> [Surface; 2] {
    [
        Surface::Plane { point: DVec3::new(0.0, 0.0, 120.0), normal: DVec3::new(0.15, 0.1, -1.0) },
        Surface::Sphere { centre: DVec3::new(10.0, -5.0, -40.0), radius: 90.0 },
    ]
}

/// A slanted plane through the origin.
pub fn slanted_plane() -> [Surface; 1] {
    [Surface::Plane { point: DVec3::ZERO, normal: DVec3::new(0.3, -0.4, -1.0) }]
}

/// For each of `count` views in a row its `most` nearest others, nearest first.
pub fn neighbours(count: usize, most: usize) -> Vec<Vec<usize>> {
    let of = |view: usize| {
        let mut others: Vec<usize> = (0..count).filter(|&other| other != view).collect();
        others.sort_by_key(|&other| (other.abs_diff(view), other));
        others.truncate(most);
        others
    };
    (0..count).map(of).collect()
}
