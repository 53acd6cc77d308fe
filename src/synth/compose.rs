//! Random compositions: what stands where, made of what, in which light.

use std::sync::Arc;

use glam::{DMat3, DVec3, Vec3};

use super::height_field::HeightField;
use super::material::{Laid, Material};
use super::mesh::Mesh;
use super::object::Object;
use super::pattern::Noise;
use super::ray::Ray;
use super::rig::{Rig, Rigged};
use super::shapes::Shape;
use super::texture::Library;
use super::world::{Backdrop, Lights, World};
use crate::host::random::Random;

/// What compositions draw from.
pub struct Stock<'a> {
    /// Textures.
    pub library: &'a Library,
    /// Meshes from files.
    pub meshes: &'a [Arc<Mesh>],
    /// Probability that an object has little texture or nearly none.
    pub low_texture: f64,
}

/// A composition in the making.
struct Composition<'a> {
    stock: &'a Stock<'a>,
    rigged: &'a Rigged,
    random: &'a mut Random,
    objects: Vec<Object>,
    /// Radius around the origin that all cameras see.
    radius: f64,
}

/// Builds a world in front of the cameras: one thing before a blank backdrop if it is to stand `alone`.
pub fn compose(stock: &Stock, alone: bool, rigged: &Rigged, random: &mut Random) -> World {
    let radius = rigged.half_view.min(0.45 * rigged.distance);
    let mut c = Composition { stock, rigged, random, objects: Vec::new(), radius };
    if alone {
        let backdrop = c.alone();
        let lights = c.lights();
        return World::new(c.objects, backdrop, lights, radius);
    }
    // Worlds with a front need cameras that stand on one side of it.
    match c.random.below(if rigged.one_sided { 8 } else { 6 }) {
        0 | 1 => c.table(),
        2 | 3 => c.clutter(),
        4 => c.terrain(),
        5 => c.single(),
        6 => c.facade(),
        _ => c.corner(),
    }
    let backdrop = c.backdrop();
    let lights = c.lights();
    World::new(c.objects, backdrop, lights, radius)
}

impl Composition<'_> {
    fn material(&mut self, size: f64, laid: Laid) -> Material {
        Material::random(self.stock.library, size, self.stock.low_texture, laid, self.random)
    }

    fn add(&mut self, shape: Shape, rotation: DMat3, origin: DVec3, scale: f64, size: f64) {
        let laid = match shape {
            Shape::Plane { .. } | Shape::HeightField(_) => Laid::FromAbove,
            _ => Laid::ByNormal,
        };
        let material = self.material(size, laid);
        self.objects.push(Object { shape, rotation, origin, scale, material });
    }

    /// A shape about `size` large (its radius), with its scale.
    fn shape(&mut self, size: f64) -> (Shape, f64) {
        let r = &mut *self.random;
        if !self.stock.meshes.is_empty() && r.chance(0.35) {
            return (Shape::Mesh(self.stock.meshes[r.below(self.stock.meshes.len())].clone()), size);
        }
        let kind = r.below(8);
        let mut side = |low: f64| size * r.range(low, 1.0);
        let shape = match kind {
            0 => Shape::Ellipsoid { radii: DVec3::splat(size) },
            1 => Shape::Ellipsoid { radii: DVec3::new(side(0.35), side(0.35), side(0.35)) },
            2 | 3 => Shape::Box { half: DVec3::new(side(0.25), side(0.25), side(0.25)) },
            4 => Shape::Cylinder { radius: side(0.2), half_length: side(0.3) },
            5 => Shape::Cylinder { radius: 0.06 * side(0.3), half_length: 1.4 * size },
            6 => Shape::Plane { half: [side(0.4), side(0.4)] },
            _ => return (self.stone(), size),
        };
        (shape, 1.0)
    }

    /// A closed, lumpy mesh: a ball whose radius follows noise.
    fn stone(&mut self) -> Shape {
        const TURNS: usize = 40;
        const RINGS: usize = 20;
        let noise = Noise { first: self.random.between(2, 7), octaves: 3, gain: 0.5, salt: self.random.bits() };
        let rough = self.random.range(0.3, 2.0);
        let mut points = Vec::with_capacity(TURNS * (RINGS - 1) + 2);
        let place = |turn: f64, lift: f64| {
            // The noise is the same at both ends of a turn; towards the poles it is faded out, where turns meet.
            let n = noise.at(turn / std::f64::consts::TAU, 0.5 + lift / std::f64::consts::TAU) - 0.5;
            let radius = 1.0 + rough * n * lift.cos();
            DVec3::new(lift.cos() * turn.cos(), lift.cos() * turn.sin(), lift.sin()) * radius
        };
        for ring in 1..RINGS {
            let lift = std::f64::consts::PI * (ring as f64 / RINGS as f64 - 0.5);
            points.extend((0..TURNS).map(|i| place(std::f64::consts::TAU * i as f64 / TURNS as f64, lift)));
        }
        points.push(-DVec3::Z);
        points.push(DVec3::Z);
        let (south, north) = (points.len() - 2, points.len() - 1);
        let at = |ring: usize, i: usize| (ring - 1) * TURNS + i % TURNS;
        let mut faces = Vec::new();
        for i in 0..TURNS {
            faces.push([south, at(1, i + 1), at(1, i)]);
            faces.push([north, at(RINGS - 1, i), at(RINGS - 1, i + 1)]);
            for ring in 1..RINGS - 1 {
                let [a, b, c, d] = [at(ring, i), at(ring, i + 1), at(ring + 1, i + 1), at(ring + 1, i)];
                faces.push([a, b, c]);
                faces.push([a, c, d]);
            }
        }
        match Mesh::new(&points, &faces) {
            Ok(mesh) => Shape::Mesh(Arc::new(mesh)),
            // Not reached with these indices; a ball is what it would be without noise.
            Err(_) => Shape::Ellipsoid { radii: DVec3::ONE },
        }
    }

    /// An upright or any rotation.
    fn rotation(&mut self) -> DMat3 {
        if self.random.chance(0.6) {
            DMat3::from_rotation_z(self.random.range(0.0, std::f64::consts::TAU))
        } else {
            self.random.rotation()
        }
    }

    /// Objects that stand on the height `ground` (given at x and y) around the origin.
    fn standing(&mut self, count: usize, spread: f64, sizes: [f64; 2], ground: impl Fn(f64, f64) -> f64) {
        for _ in 0..count {
            let size = self.random.log_range(sizes[0], sizes[1]);
            let (shape, scale) = self.shape(size);
            let mut rotation = self.rotation();
            // Thin plates lie flat less often than they lean.
            if matches!(shape, Shape::Plane { .. }) && self.random.chance(0.7) {
                rotation *= DMat3::from_rotation_x(self.random.range(0.6, 1.5));
            }
            let (turn, r) = (self.random.range(0.0, std::f64::consts::TAU), spread * self.random.unit().sqrt());
            let (x, y) = (r * turn.cos(), r * turn.sin());
            self.add(shape, rotation, DVec3::new(x, y, 0.0), scale, size);
            if let Some(object) = self.objects.last_mut() {
                let low = object.bounds().low.z;
                // A little below the ground, so that nothing hovers on a slope.
                object.origin.z = ground(x, y) - low - 0.05 * size;
            }
        }
    }

    /// Thin rods: a fence, a bundle, or some here and there.
    fn rods(&mut self, middle: DVec3, reach: f64) {
        let count = self.random.between(3, 14);
        // From about one pixel to several: the photo's half width is the radius.
        let radius = self.radius * self.random.log_range(0.006, 0.03);
        let fence = self.random.chance(0.5);
        let rotation = self.rotation();
        let material = self.material(reach, Laid::ByNormal);
        for i in 0..count {
            let (turn, shift) = if fence {
                let along = (i as f64 + 0.5) / count as f64 * 2.0 - 1.0;
                (rotation, rotation * DVec3::X * along * reach)
            } else {
                (self.random.rotation(), self.random.direction() * reach * self.random.unit())
            };
            let half_length = reach * self.random.range(0.6, 1.0);
            let shape = Shape::Cylinder { radius, half_length };
            let mut material = material.clone();
            if !fence {
                material = self.material(reach, Laid::ByNormal);
            }
            self.objects.push(Object { shape, rotation: turn, origin: middle + shift, scale: 1.0, material });
        }
    }

    /// A field of soft or rough hills with this half side and height.
    fn hills(&mut self, half: f64, height: f64, cells: usize) -> Arc<HeightField> {
        let noise = Noise {
            first: self.random.between(2, 5),
            octaves: self.random.between(1, 4),
            gain: self.random.range(0.3, 0.55),
            salt: self.random.bits(),
        };
        let ridged = self.random.chance(0.3);
        Arc::new(HeightField::new(cells, cells, [half, half], |x, y| {
            let n = noise.at(0.5 + 0.5 * x / half, 0.5 + 0.5 * y / half) - 0.5;
            height * if ridged { 0.5 - 2.0 * n.abs() } else { 2.0 * n }
        }))
    }

    /// Things on a table, perhaps a wall behind.
    fn table(&mut self) {
        let radius = self.radius;
        let ground = -radius * self.random.range(0.1, 0.5);
        let half = radius * self.random.range(0.9, if self.rigged.rig == Rig::Arc { 1.5 } else { 2.5 });
        let turn = DMat3::from_rotation_z(self.random.range(0.0, std::f64::consts::TAU));
        self.add(Shape::Plane { half: [half, half] }, turn, DVec3::Z * ground, 1.0, half);
        let count = self.random.between(3, 14);
        self.standing(count, 0.75 * radius, [0.1 * radius, 0.5 * radius], |_, _| ground);
        if self.random.chance(0.35) {
            self.rods(DVec3::Z * (ground + 0.4 * radius), 0.6 * radius);
        }
        if self.rigged.one_sided && self.random.chance(0.3) {
            let behind = radius * self.random.range(0.8, 1.2);
            self.wall(behind, 0.15);
        }
    }

    /// A plane or relief that faces the cameras from `behind` the middle, turned by up to `tilt` radians.
    fn wall(&mut self, behind: f64, tilt: f64) {
        let towards = self.rigged.towards;
        let x = towards.cross(DVec3::Z).try_normalize().unwrap_or(DVec3::X);
        let front = DMat3::from_cols(x, towards.cross(x), towards);
        let lean = DMat3::from_rotation_x(self.random.range(-tilt, tilt));
        let rotation = front * lean * DMat3::from_rotation_y(self.random.range(-tilt, tilt));
        let half = (self.radius + behind) * self.random.range(1.6, 2.6);
        let shape = if self.random.chance(0.4) {
            let height = self.radius * self.random.range(0.05, 0.3);
            Shape::HeightField(self.hills(half, height, 64))
        } else {
            Shape::Plane { half: [half, half] }
        };
        self.add(shape, rotation, -towards * behind, 1.0, 0.6 * half);
    }

    /// A wall with things in front of it.
    fn facade(&mut self) {
        let radius = self.radius;
        let behind = radius * self.random.range(0.1, 0.9);
        self.wall(behind, 0.6);
        let towards = self.rigged.towards;
        for _ in 0..self.random.between(2, 8) {
            let size = radius * self.random.log_range(0.08, 0.4);
            let (shape, scale) = self.shape(size);
            let rotation = self.rotation();
            let aside = self.random.direction() * 0.8 * radius;
            let aside = aside - towards * aside.dot(towards);
            let depth = self.random.range(-0.8 * behind, 0.5 * radius);
            self.add(shape, rotation, aside + towards * depth, scale, size);
        }
        if self.random.chance(0.35) {
            self.rods(DVec3::ZERO, 0.7 * radius);
        }
    }

    /// Shapes of all sizes at all depths.
    fn clutter(&mut self) {
        let radius = self.radius;
        if self.rigged.one_sided && self.random.chance(0.7) {
            let behind = radius * self.random.range(0.7, 1.2);
            self.wall(behind, 0.4);
        }
        for _ in 0..self.random.between(8, 28) {
            let size = radius * self.random.log_range(0.06, 0.4);
            let (shape, scale) = self.shape(size);
            let rotation = self.random.rotation();
            let origin = self.random.direction() * 0.9 * radius * self.random.unit().cbrt();
            self.add(shape, rotation, origin, scale, size);
        }
        if self.random.chance(0.5) {
            self.rods(DVec3::ZERO, 0.7 * radius);
        }
    }

    /// A landscape with things on it.
    fn terrain(&mut self) {
        let radius = self.radius;
        let half = radius * self.random.range(1.1, if self.rigged.rig == Rig::Arc { 1.5 } else { 2.2 });
        let height = radius * self.random.range(0.08, 0.35);
        let field = self.hills(half, height, 96);
        let ground = field.clone();
        self.add(Shape::HeightField(field), DMat3::IDENTITY, DVec3::ZERO, 1.0, half);
        let level = |x: f64, y: f64| {
            let ray = Ray::new(DVec3::new(x, y, 10.0 * half), -DVec3::Z);
            ground.hit(&ray, 0.0, f64::INFINITY).map_or(0.0, |hit| 10.0 * half - hit.t)
        };
        let count = self.random.below(7);
        self.standing(count, 0.8 * radius, [0.06 * radius, 0.3 * radius], level);
    }

    /// A floor and two walls that enclose the things in front of them.
    fn corner(&mut self) {
        let radius = self.radius;
        let ground = -radius * self.random.range(0.2, 0.5);
        let flat = DVec3::new(self.rigged.towards.x, self.rigged.towards.y, 0.0).try_normalize().unwrap_or(DVec3::X);
        let behind = radius * self.random.range(0.5, 1.0);
        let half = 2.0 * radius;
        self.add(Shape::Plane { half: [half, half] }, DMat3::IDENTITY, DVec3::Z * ground, 1.0, half);
        let turn = self.random.range(0.5, 1.1);
        for side in [turn, turn - std::f64::consts::FRAC_PI_2] {
            // The wall's normal, level, turned off the cameras' direction to either side.
            let normal = DMat3::from_rotation_z(side) * flat;
            let rotation = DMat3::from_cols(DVec3::Z.cross(normal), DVec3::Z, normal);
            self.add(Shape::Plane { half: [half, half] }, rotation, -normal * behind, 1.0, half);
        }
        let count = self.random.between(2, 8);
        self.standing(count, 0.6 * radius, [0.1 * radius, 0.45 * radius], |_, _| ground);
    }

    /// One large thing, perhaps with parts, before nothing or a wall.
    fn single(&mut self) {
        let radius = self.radius;
        let size = radius * self.random.range(0.4, 0.9);
        let (shape, scale) = match self.stock.meshes {
            [] => (self.stone(), size),
            meshes => (Shape::Mesh(meshes[self.random.below(meshes.len())].clone()), size),
        };
        let rotation = self.rotation();
        self.add(shape, rotation, DVec3::ZERO, scale, size);
        for _ in 0..self.random.below(14) {
            let part = size * self.random.range(0.15, 0.5);
            let (shape, scale) = self.shape(part);
            let rotation = self.random.rotation();
            let origin = self.random.direction() * size * 0.8;
            self.add(shape, rotation, origin, scale, part);
        }
        if self.rigged.one_sided && self.random.chance(0.5) {
            let behind = radius * self.random.range(0.9, 1.3);
            self.wall(behind, 0.3);
        } else if self.random.chance(0.6) {
            let half = radius * self.random.range(1.0, 1.5);
            self.add(Shape::Plane { half: [half, half] }, DMat3::IDENTITY, -DVec3::Z * 0.7 * size, 1.0, half);
        }
    }

    /// One thing before a blank backdrop, often black: nothing behind its silhouette can be matched. Sometimes its
    /// colours are nearly those of the backdrop.
    fn alone(&mut self) -> Backdrop {
        let radius = self.radius;
        if self.random.chance(0.35) {
            self.bush(0.8 * radius);
        } else {
            let size = radius * self.random.range(0.45, 0.85);
            let (shape, scale) = if self.random.chance(0.5) { (self.stone(), size) } else { self.shape(size) };
            let rotation = self.rotation();
            self.add(shape, rotation, DVec3::ZERO, scale, size);
            for _ in 0..self.random.below(8) {
                let part = size * self.random.range(0.12, 0.45);
                let (shape, scale) = self.shape(part);
                let (rotation, origin) = (self.random.rotation(), self.random.direction() * size * 0.8);
                self.add(shape, rotation, origin, scale, part);
            }
        }
        if self.random.chance(0.25) {
            // A stand below it.
            let half = radius * self.random.range(0.3, 0.7);
            self.add(Shape::Plane { half: [half, half] }, DMat3::IDENTITY, -DVec3::Z * 0.7 * radius, 1.0, half);
        }
        let level = if self.random.chance(0.6) { 0.002 } else { self.random.log_range(0.005, 0.9) };
        let tint = DVec3::from_array([0, 1, 2].map(|_| self.random.range(0.7, 1.0)));
        Backdrop::Plain((tint * level).as_vec3())
    }

    /// Twigs with leaves: thin things at many depths, with gaps between them.
    fn bush(&mut self, reach: f64) {
        let kinds: Vec<Material> = (0..3).map(|_| self.material(0.5 * reach, Laid::ByNormal)).collect();
        let leaves = self.random.between(25, 70);
        let size = reach * self.random.log_range(0.06, 0.2);
        for i in 0..leaves {
            let side = size * self.random.range(0.5, 1.0);
            let shape = Shape::Plane { half: [side, side * self.random.range(0.3, 0.9)] };
            let origin = self.random.direction() * reach * self.random.unit().cbrt();
            let material = kinds[i % kinds.len()].clone();
            self.objects.push(Object { shape, rotation: self.random.rotation(), origin, scale: 1.0, material });
        }
        self.rods(DVec3::ZERO, 0.8 * reach);
    }

    fn backdrop(&mut self) -> Backdrop {
        let dark = if self.random.chance(0.5) { 0.002 } else { self.random.log_range(0.005, 0.6) };
        if self.random.chance(0.4) {
            return Backdrop::Plain(Vec3::splat(dark as f32));
        }
        let photo = if self.random.chance(0.7) { self.stock.library.photo(self.random) } else { None };
        let texture = photo.unwrap_or_else(|| self.stock.library.pattern(self.random));
        let mean = texture.mean().max_element().max(0.02);
        let gain = self.random.log_range(0.03, 0.6) as f32 / mean;
        Backdrop::Around { texture, repeats: self.random.between(2, 12) as f64, gain: Vec3::splat(gain.min(2.0)) }
    }

    fn lights(&mut self) -> Lights {
        let r = &mut *self.random;
        // Somewhere on the cameras' side, so that what they see is not all in the shade.
        let mut beside = |wide: f64| {
            let d = self.rigged.towards + r.direction() * wide + DVec3::Z * 0.3;
            d.try_normalize().unwrap_or(DVec3::Z)
        };
        let (to_sun, to_fill) = (beside(1.0), beside(1.4));
        let tone = |r: &mut Random, strength: f64| {
            let warm = r.range(-0.12, 0.12);
            Vec3::new((strength * (1.0 + warm)) as f32, strength as f32, (strength * (1.0 - warm)) as f32)
        };
        let hard = r.range(0.2, 1.0);
        let (sun, fill) = (tone(r, hard), tone(r, 0.6 * (1.0 - hard) + 0.1));
        let ambient_strength = r.range(0.15, 0.6);
        let ambient = tone(r, ambient_strength);
        Lights { to_sun, sun, to_fill, fill, ambient, up: DVec3::Z }
    }
}
