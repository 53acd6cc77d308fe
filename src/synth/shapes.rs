//! Shapes in their own coordinates and where rays meet them, in f64: the depth of a pixel is as exact as that.

use std::sync::Arc;

use glam::DVec3;

use super::bounds::Bounds;
use super::height_field::HeightField;
use super::mesh::Mesh;
use super::ray::{Hit, Ray};

/// A surface around the origin.
#[derive(Clone, Debug)]
pub enum Shape {
    /// The piece |x| <= size.0, |y| <= size.1 of the plane z = 0, seen from both sides.
    Plane {
        /// Half its width and height.
        half: [f64; 2],
    },
    /// |x|, |y|, |z| <= half.
    Box {
        /// Half its sides.
        half: DVec3,
    },
    /// (x / a)^2 + (y / b)^2 + (z / c)^2 <= 1.
    Ellipsoid {
        /// Its semi-axes a, b and c; a sphere has three equal ones.
        radii: DVec3,
    },
    /// x^2 + y^2 <= radius^2, |z| <= half_length, with both caps; a thin rod where the radius is small.
    Cylinder {
        /// Its radius.
        radius: f64,
        /// Half its length.
        half_length: f64,
    },
    /// Heights over a grid.
    HeightField(Arc<HeightField>),
    /// Triangles.
    Mesh(Arc<Mesh>),
}

impl Shape {
    /// The first hit with `from < t < to`.
    #[inline]
    pub fn hit(&self, ray: &Ray, from: f64, to: f64) -> Option<Hit> {
        let within = |t: f64| t > from && t < to;
        match self {
            Self::Plane { half } => {
                let t = -ray.origin.z / ray.direction.z;
                let at = ray.at(t);
                let inside = at.x.abs() <= half[0] && at.y.abs() <= half[1];
                (within(t) && inside).then(|| Hit::flat(t, DVec3::Z))
            }
            Self::Box { half } => {
                let bounds = Bounds { low: -*half, high: *half };
                let (near, far) = bounds.crossing(ray, f64::NEG_INFINITY, f64::INFINITY)?;
                let t = [near, far].into_iter().find(|&t| within(t))?;
                // The face is the one that the point lies on: where its coordinate is largest against the half side.
                let share = ray.at(t) / *half;
                let axis = share.abs().max_position();
                let mut normal = DVec3::ZERO;
                normal[axis] = share[axis].signum();
                Some(Hit::flat(t, normal))
            }
            Self::Ellipsoid { radii } => {
                let (o, d) = (ray.origin / *radii, ray.direction / *radii);
                let (near, far) = roots(d.length_squared(), o.dot(d), o, d, 1.0)?;
                let t = [near, far].into_iter().find(|&t| within(t))?;
                Some(Hit::flat(t, ray.at(t) / (*radii * *radii)))
            }
            Self::Cylinder { radius, half_length } => cylinder(ray, *radius, *half_length, within),
            Self::HeightField(field) => field.hit(ray, from, to),
            Self::Mesh(mesh) => mesh.hit(ray, from, to),
        }
    }

    /// Whether a straight line that leaves it never meets it again.
    pub fn is_convex(&self) -> bool {
        !matches!(self, Self::HeightField(_) | Self::Mesh(_))
    }

    /// The box around it.
    pub fn bounds(&self) -> Bounds {
        let around = |half: DVec3| Bounds { low: -half, high: half };
        match self {
            Self::Plane { half } => around(DVec3::new(half[0], half[1], 0.0)),
            Self::Box { half } => around(*half),
            Self::Ellipsoid { radii } => around(*radii),
            Self::Cylinder { radius, half_length } => around(DVec3::new(*radius, *radius, *half_length)),
            Self::HeightField(field) => field.bounds(),
            Self::Mesh(mesh) => mesh.bounds(),
        }
    }
}

/// Both t with |o + t d|^2 = radius^2, in order; `a` = d d, `b` = o d. The discriminant comes from the distance of the
/// ray's foot point, which keeps its digits where the ray starts far away.
fn roots(a: f64, b: f64, o: DVec3, d: DVec3, radius: f64) -> Option<(f64, f64)> {
    let foot = o - d * (b / a);
    let left = radius * radius - foot.length_squared();
    if left.is_nan() || left < 0.0 {
        return None;
    }
    let half = (left / a).sqrt();
    let middle = -b / a;
    Some((middle - half, middle + half))
}

fn cylinder(ray: &Ray, radius: f64, half_length: f64, within: impl Fn(f64) -> bool) -> Option<Hit> {
    let flat = |v: DVec3| DVec3::new(v.x, v.y, 0.0);
    let (o, d) = (flat(ray.origin), flat(ray.direction));
    let a = d.length_squared();
    // A ray along the axis is inside or outside of the round side for ever.
    let (side_in, side_out) = if a > 0.0 {
        roots(a, o.dot(d), o, d, radius)?
    } else if o.length_squared() <= radius * radius {
        (f64::NEG_INFINITY, f64::INFINITY)
    } else {
        return None;
    };
    let (t1, t2) = ((-half_length - ray.origin.z) / ray.direction.z, (half_length - ray.origin.z) / ray.direction.z);
    // A ray across the axis never meets the caps: 0 / 0 is on a cap's edge, which counts as inside.
    let (cap_in, cap_out) = if ray.direction.z != 0.0 {
        (t1.min(t2), t1.max(t2))
    } else if ray.origin.z.abs() <= half_length {
        (f64::NEG_INFINITY, f64::INFINITY)
    } else {
        return None;
    };
    let (near, far) = (side_in.max(cap_in), side_out.min(cap_out));
    if near > far {
        return None;
    }
    let t = [near, far].into_iter().find(|&t| within(t))?;
    let on_cap = if t == near { cap_in > side_in } else { cap_out < side_out };
    let normal = if on_cap { DVec3::Z * ray.at(t).z.signum() } else { flat(ray.at(t)) };
    Some(Hit::flat(t, normal))
}
