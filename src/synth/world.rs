//! A world: objects, the light on them, and what rays meet. Which camera looks is not known here, but in
//! [`super::sight`].

use std::sync::{Arc, OnceLock};

use glam::{DVec2, DVec3, Vec3};

use super::bounds::{Bounds, Tree};
use super::material::Patch;
use super::object::Object;
use super::ray::{Hit, Ray};
use super::shadows::Shadows;
use super::shapes::Shape;
use super::texture::{Coding, Texture};
use crate::scene::camera::Camera;

/// What is seen where no surface is; it has no depth.
#[derive(Clone, Debug)]
pub enum Backdrop {
    /// One colour.
    Plain(Vec3),
    /// A picture all around, infinitely far away: `repeats` times around.
    Around {
        /// The picture.
        texture: Arc<Texture>,
        /// How often it fits around.
        repeats: f64,
        /// Gain.
        gain: Vec3,
    },
}

/// Where light comes from.
#[derive(Clone, Copy, Debug)]
pub struct Lights {
    /// Unit vector to the lamp whose light casts shadows.
    pub to_sun: DVec3,
    /// Its light.
    pub sun: Vec3,
    /// Unit vector to a wide lamp without shadows.
    pub to_fill: DVec3,
    /// Its light.
    pub fill: Vec3,
    /// Light from everywhere; somewhat stronger from `up`.
    pub ambient: Vec3,
    /// Unit vector.
    pub up: DVec3,
}

/// A point of a surface that a ray meets.
#[derive(Clone, Copy, Debug)]
pub struct Surface {
    /// Index of the object.
    pub object: usize,
    /// The ray's t: for a pixel's ray the depth.
    pub depth: f64,
    /// In the world.
    pub position: DVec3,
    /// Unit normal in the world, on the ray's side.
    pub normal: DVec3,
    /// The same, smooth over faces.
    pub smooth: DVec3,
    /// Whether the shape's own normal there points away from the ray: from inside where the shape is solid.
    from_inside: bool,
    /// Position in the object's axes, in world units.
    own_position: DVec3,
    /// Normal in the object's axes.
    own_normal: DVec3,
}

/// All of a scene but its cameras.
#[derive(Clone, Debug)]
pub struct World {
    objects: Vec<Object>,
    tree: Tree,
    /// Behind everything.
    backdrop: Backdrop,
    /// The light.
    lights: Lights,
    /// A length against which gaps between surfaces are small, in world units.
    unit: f64,
    /// Worked out with the first shadow that is asked for.
    shadows: OnceLock<Shadows>,
}

impl World {
    /// A world of objects that are about `unit` large.
    pub fn new(objects: Vec<Object>, backdrop: Backdrop, lights: Lights, unit: f64) -> Self {
        let boxes: Vec<Bounds> = objects.iter().map(Object::bounds).collect();
        Self { tree: Tree::new(&boxes), objects, backdrop, lights, unit, shadows: OnceLock::new() }
    }

    /// The objects.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The light.
    pub fn lights(&self) -> &Lights {
        &self.lights
    }

    /// A length against which gaps between surfaces are small, in world units.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// The first surface along the ray with `from < t < to`.
    pub fn first(&self, ray: &Ray, from: f64, to: f64) -> Option<Surface> {
        let mut best: Option<(usize, Hit)> = None;
        self.tree.walk(ray, from, to, |item, end| {
            let object = &self.objects[item];
            match object.shape.hit(&object.own(ray), from, end) {
                Some(hit) => {
                    best = Some((item, hit));
                    hit.t
                }
                None => end,
            }
        });
        let (index, hit) = best?;
        Some(self.surface(ray, index, &hit))
    }

    /// The surface of an object where a ray meets it.
    #[inline]
    pub fn surface(&self, ray: &Ray, index: usize, hit: &Hit) -> Surface {
        let object = &self.objects[index];
        let position = ray.at(hit.t);
        let outward = (object.rotation * hit.normal).normalize_or_zero();
        let from_inside = outward.dot(ray.direction) > 0.0;
        let normal = if from_inside { -outward } else { outward };
        let smooth = if hit.smooth == hit.normal {
            normal
        } else {
            let smooth = (object.rotation * hit.smooth).normalize_or_zero();
            if smooth.dot(normal) < 0.0 { -smooth } else { smooth }
        };
        Surface {
            object: index,
            depth: hit.t,
            position,
            normal,
            smooth,
            from_inside,
            own_position: object.rotation.transpose() * (position - object.origin),
            own_normal: hit.normal,
        }
    }

    /// Whether any surface lies along the ray with `from < t < to`.
    pub fn blocked(&self, ray: &Ray, from: f64, to: f64) -> bool {
        let mut found = false;
        self.tree.walk(ray, from, to, |item, end| {
            let object = &self.objects[item];
            found = found || object.shape.hit(&object.own(ray), from, end).is_some();
            if found { from } else { end }
        });
        found
    }

    /// Whether the lamp shines on the surface.
    pub fn lit(&self, surface: &Surface) -> bool {
        if surface.normal.dot(self.lights.to_sun) <= 0.0 {
            return false;
        }
        let lift = 1e-6 * (self.unit + surface.depth);
        let shape = &self.objects[surface.object].shape;
        // What faces the lamp on the outside of something convex cannot be in that thing's own shadow.
        let clear = shape.is_convex() && (!surface.from_inside || matches!(shape, Shape::Plane { .. }));
        let shadows = self.shadows.get_or_init(|| Shadows::new(&self.objects, self.lights.to_sun));
        let point = surface.position + surface.normal * lift;
        !shadows.covers(&self.objects, point, clear.then_some(surface.object))
    }

    /// The light that the surface, a share `lit` of which the lamp shines on, sends back along a ray of `direction`,
    /// whose neighbours to the right and below have directions that differ by `across`.
    pub fn shade(&self, surface: &Surface, lit: f32, direction: DVec3, across: [DVec3; 2]) -> Vec3 {
        let object = &self.objects[surface.object];
        let n = surface.normal;
        // Where the neighbour's ray meets the tangent plane; grazing views are cut at 1 : 50.
        let facing = n.dot(direction).abs().max(0.02 * direction.length());
        let steps = across.map(|a| {
            let along = a + direction * (n.dot(a) / facing);
            object.rotation.transpose() * (along * surface.depth)
        });
        let patch = Patch { position: surface.own_position, normal: surface.own_normal, steps };
        let colour = object.material.colour(&patch);
        let Lights { to_sun, sun, to_fill, fill, ambient, up } = self.lights;
        let smooth = surface.smooth;
        let cosine = |to: DVec3| smooth.dot(to).max(0.0) as f32;
        let mut light = ambient * (0.8 + 0.2 * smooth.dot(up) as f32) + fill * cosine(to_fill);
        let mut mirrored = Vec3::ZERO;
        let highlight = |to: DVec3| {
            let middle = (to - direction.normalize()).normalize_or_zero();
            object.material.shine * 4.0 * (smooth.dot(middle).max(0.0) as f32).powf(object.material.narrowness)
        };
        let shiny = object.material.shine > 0.0;
        if lit > 0.0 {
            light += sun * (lit * cosine(to_sun));
            if shiny {
                mirrored += sun * (lit * highlight(to_sun));
            }
        }
        if shiny {
            mirrored += fill * highlight(to_fill);
        }
        colour * light + mirrored
    }

    /// The light from behind everything in a direction, over an angle of `pixel`.
    pub fn behind(&self, direction: DVec3, pixel: f64) -> Vec3 {
        match &self.backdrop {
            Backdrop::Plain(colour) => *colour,
            Backdrop::Around { texture, repeats, gain } => {
                let d = direction.normalize();
                let turn = 1.0 / std::f64::consts::TAU;
                let at = DVec2::new(d.y.atan2(d.x), -d.z.clamp(-1.0, 1.0).asin()) * turn * *repeats;
                let size = pixel * turn * repeats;
                let sample = texture.sample(at, DVec2::X * size, DVec2::Y * size);
                // A pattern's two values are no colours.
                let colour =
                    if texture.coding() == Coding::Light { sample } else { Vec3::splat(0.5 * (sample.x + sample.y)) };
                *gain * colour
            }
        }
    }
}

/// A point seen by a camera lies within this share of the depth that its ray finds: far above the rounding of f64 on
/// surfaces seen at an angle, far below what makes a difference to any depth map (1e-6 of 1 m is a micrometre).
const SAME_DEPTH: f64 = 1e-6;

/// Whether a camera with photos of `size` sees a point of a surface: inside the photo's outermost pixel centres, in
/// front of it, and with nothing in between.
pub fn sees(world: &World, camera: &Camera, size: (usize, usize), point: DVec3) -> bool {
    let Some((pixel, _)) = camera.pixel(point) else { return false };
    let last = DVec2::new(size.0 as f64 - 1.0, size.1 as f64 - 1.0);
    if !(pixel.cmpge(DVec2::ZERO).all() && pixel.cmple(last).all()) {
        return false;
    }
    let centre = camera.centre();
    // Straight at the point, so that t = 1 there whatever the pixel's rounding.
    !world.blocked(&Ray::new(centre, point - centre), 0.0, 1.0 - SAME_DEPTH)
}
