//! Photos by ray casting: one ray a pixel where a surface goes on smoothly, many where something ends, and then what a
//! real camera does to the light.
//!
//! Textures are averaged over a pixel's footprint by their levels ([`super::texture`]), so one ray is enough inside a
//! surface. Pixels beside which the object, the normal, the plane or the shadow changes, and those that a thin rod
//! crosses, get `SUB` x `SUB` rays for what covers them; the colour of each piece of surface among these is looked up
//! once.

use glam::{DVec3, Vec3};
use rayon::prelude::*;

use super::shapes::Shape;
use super::sight::Sight;
use super::texture::photo_value;
use super::world::{Surface, World};
use crate::host::random::Random;
use crate::scene::camera::Camera;
use crate::scene::photo::Photo;

/// Rays along each side of a pixel at an edge.
const SUB: usize = 4;

/// How a camera turns light into values.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Gain of red, green and blue light: exposure and white balance.
    pub gain: Vec3,
    /// Exponent on top of the usual tone curve.
    pub gamma: f32,
    /// Deviation of the noise in dark parts, in values 0..1; it grows towards the light.
    pub noise: f32,
    /// Deviation of the blur in pixels.
    pub blur: f32,
    /// How much darker the corners are.
    pub vignette: f32,
    /// Where the noise comes from.
    pub seed: u64,
}

impl Look {
    /// One for each view: alike up to `variation` (0: the same for all and free of noise; 1: as different as photos of
    /// one walk by an automatic camera).
    pub fn random(views: usize, exposure: f32, variation: f64, random: &mut Random) -> Vec<Self> {
        let differ = variation * random.range(0.1, 1.0);
        let noise = variation * random.log_range(0.001, 0.02);
        let blur = random.range(0.2, 0.45) + variation * random.range(0.0, 0.25);
        let vignette = variation * random.range(0.0, 0.2);
        let mut one = || {
            let stops = differ * random.range(-0.4, 0.4);
            let tint = [0, 1, 2].map(|_| (1.0 + differ * random.range(-0.06, 0.06)) as f32);
            Self {
                gain: Vec3::from_array(tint) * exposure * 2f64.powf(stops) as f32,
                gamma: (1.0 + differ * random.range(-0.1, 0.1)) as f32,
                noise: (noise * (1.0 + differ * random.range(-0.5, 0.5))) as f32,
                blur: (blur * (1.0 + differ * random.range(-0.5, 0.5))) as f32,
                vignette: vignette as f32,
                seed: random.bits(),
            }
        };
        (0..views).map(|_| one()).collect()
    }
}

/// What the ray through a pixel's middle found, for the comparison with its neighbours.
#[derive(Clone, Copy)]
struct Seen {
    light: Vec3,
    /// Object, or `u32::MAX` for none.
    object: u32,
    lit: bool,
    normal: Vec3,
    /// The point relative to the camera's centre: f32 is exact enough for comparisons.
    position: Vec3,
    depth: f32,
}

/// The photo that a camera takes.
pub fn photo(world: &World, camera: &Camera, size: (usize, usize), look: &Look) -> Photo {
    let light = light(world, camera, size);
    let light = blurred(light, size, look.blur);
    let mut rgb = vec![0f32; 3 * size.0 * size.1];
    let middle = (0.5 * (size.0 as f32 - 1.0), 0.5 * (size.1 as f32 - 1.0));
    let tones = Tones::new(look.gamma);
    let corner = (middle.0 * middle.0 + middle.1 * middle.1).max(1.0);
    rgb.par_chunks_mut(3 * size.0).zip(light.par_chunks(size.0)).enumerate().for_each(|(y, (row, light))| {
        let mut random = Random::new(&[look.seed, y as u64]);
        for (x, (out, light)) in row.chunks_exact_mut(3).zip(light).enumerate() {
            let (dx, dy) = (x as f32 - middle.0, y as f32 - middle.1);
            let gain = look.gain * (1.0 - look.vignette * (dx * dx + dy * dy) / corner);
            for (out, light) in out.iter_mut().zip((*light * gain).to_array()) {
                let value = tones.at(light);
                let noise = look.noise * (0.5 + value) * random.normal() as f32;
                *out = ((value + noise).clamp(0.0, 1.0) * 255.0).round() / 255.0;
            }
        }
    });
    Photo { width: size.0, height: size.1, rgb }
}

/// The values that light gets in a photo: a table over the fourth root of light, which spreads the dark tones.
struct Tones(Vec<f32>);

/// Steps of the table up to light 1: interpolation between them is off by less than a tenth of a byte's step.
const TONES: usize = 512;
/// Fourth root of the most light in the table, 16: the shoulder is flat there.
const TONES_END: usize = 2;

impl Tones {
    fn new(gamma: f32) -> Self {
        let value = |i: usize| {
            let root = i as f32 / TONES as f32;
            let light = root.powi(4);
            // A soft shoulder instead of hard clipping: at one half and below next to nothing changes.
            let light = light / (1.0 + light.powi(4)).sqrt().sqrt();
            photo_value(light).powf(gamma)
        };
        Self((0..=TONES * TONES_END).map(value).collect())
    }

    #[inline]
    fn at(&self, light: f32) -> f32 {
        let place = light.max(0.0).sqrt().sqrt() * TONES as f32;
        let low = (place as usize).min(TONES * TONES_END - 1);
        let share = (place - low as f32).min(1.0);
        self.0[low] + (self.0[low + 1] - self.0[low]) * share
    }
}

/// The light that every pixel gets, averaged over its area.
fn light(world: &World, camera: &Camera, size: (usize, usize)) -> Vec<Vec3> {
    let (width, height) = size;
    let sight = Sight::new(world, camera, size);
    let across = sight.rays().across();
    let mut seen: Vec<Seen> = Vec::new();
    (0..width * height)
        .into_par_iter()
        .with_min_len(width.max(64))
        .map(|i| middle(world, &sight, across, (i % width) as f64, (i / width) as f64))
        .collect_into_vec(&mut seen);
    let thin = thin_rods(world, camera, size);
    let mut light = vec![Vec3::ZERO; width * height];
    light.par_chunks_mut(width).enumerate().for_each(|(y, row)| {
        for (x, out) in row.iter_mut().enumerate() {
            let own = &seen[y * width + x];
            let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
            let (above, below) = (y.saturating_sub(1), (y + 1).min(height - 1));
            let around = [above, y, below].map(|b| &seen[b * width + left..=b * width + right]);
            let smooth = around.iter().all(|row| row.iter().all(|other| goes_on(own, other)));
            *out = if smooth && !thin[y * width + x] {
                own.light
            } else {
                whole(world, &sight, across, (x as f64, y as f64), &around)
            };
        }
    });
    light
}

/// What a pixel's middle shows.
fn middle(world: &World, sight: &Sight, across: [DVec3; 2], u: f64, v: f64) -> Seen {
    let ray = sight.rays().through(u, v);
    match sight.first(u, v, 0.0, f64::INFINITY) {
        Some(surface) => {
            let lit = world.lit(&surface);
            Seen {
                light: world.shade(&surface, f32::from(u8::from(lit)), ray.direction, across),
                object: surface.object as u32,
                lit,
                normal: surface.normal.as_vec3(),
                position: (surface.position - ray.origin).as_vec3(),
                depth: surface.depth as f32,
            }
        }
        None => Seen {
            light: world.behind(ray.direction, across[0].length()),
            object: u32::MAX,
            lit: false,
            normal: Vec3::ZERO,
            position: Vec3::ZERO,
            depth: 0.0,
        },
    }
}

/// Rays of one pixel that meet the same smooth piece of surface.
#[derive(Clone, Copy)]
struct Piece {
    surface: Surface,
    direction: DVec3,
    rays: u8,
    lit: u8,
    /// Whether the lamp shines on all of it, where the neighbours agree about that.
    known: Option<bool>,
}

/// A pixel where something ends: many rays tell what covers it and what of that lies in the light; every piece gets
/// its colour once.
fn whole(world: &World, sight: &Sight, across: [DVec3; 2], (u, v): (f64, f64), around: &[&[Seen]; 3]) -> Vec3 {
    let mut pieces: [Option<Piece>; SUB * SUB] = [None; SUB * SUB];
    let mut open = 0;
    for k in 0..SUB * SUB {
        let shift = |k: usize| (k as f64 + 0.5) / SUB as f64 - 0.5;
        let (u, v) = (u + shift(k % SUB), v + shift(k / SUB));
        let Some(surface) = sight.first(u, v, 0.0, f64::INFINITY) else {
            open += 1;
            continue;
        };
        let same = |piece: &&mut Option<Piece>| piece.as_ref().is_none_or(|p| is_same_piece(&p.surface, &surface));
        let Some(slot) = pieces.iter_mut().find(same) else { continue };
        let piece = slot.get_or_insert_with(|| Piece {
            direction: sight.rays().through(u, v).direction,
            rays: 0,
            lit: 0,
            known: common_light(surface.object as u32, around),
            surface,
        });
        piece.rays += 1;
        piece.lit += u8::from(piece.known.unwrap_or_else(|| world.lit(&surface)));
    }
    let mut sum = Vec3::ZERO;
    for piece in pieces.iter().map_while(Option::as_ref) {
        let rays = f32::from(piece.rays);
        // The footprint is as large as the piece.
        let part = f64::from(piece.rays).sqrt() / SUB as f64;
        let share = f32::from(piece.lit) / rays;
        sum += rays * world.shade(&piece.surface, share, piece.direction, across.map(|a| a * part));
    }
    if open > 0 {
        let part = f64::from(open).sqrt() / SUB as f64;
        sum += open as f32 * world.behind(sight.rays().through(u, v).direction, across[0].length() * part);
    }
    sum / (SUB * SUB) as f32
}

/// What all neighbours that show the object say about its light; `None` where they differ or none shows it.
fn common_light(object: u32, around: &[&[Seen]; 3]) -> Option<bool> {
    let mut lights = around.iter().flat_map(|row| row.iter()).filter(|s| s.object == object).map(|s| s.lit);
    let first = lights.next()?;
    lights.all(|lit| lit == first).then_some(first)
}

/// The same for two rays of one pixel as [`goes_on`] for neighbouring pixels.
fn is_same_piece(a: &Surface, b: &Surface) -> bool {
    a.object == b.object
        && a.normal.dot(b.normal) > 0.9
        && a.normal.dot(b.position - a.position).abs() < 0.005 * a.depth
}

/// Whether two neighbouring rays meet the same smooth piece of surface in the same light.
fn goes_on(a: &Seen, b: &Seen) -> bool {
    if a.object != b.object || a.lit != b.lit {
        return false;
    }
    // 26 degrees between the normals; off the tangent plane by half a percent of the depth.
    a.object == u32::MAX
        || (a.normal.dot(b.normal) > 0.9 && a.normal.dot(b.position - a.position).abs() < 0.005 * a.depth)
}

/// Marks the pixels around rods so thin that rays through pixel centres may miss them.
fn thin_rods(world: &World, camera: &Camera, (width, height): (usize, usize)) -> Vec<bool> {
    let mut marked = vec![false; width * height];
    for object in world.objects() {
        let Shape::Cylinder { radius, half_length } = object.shape else { continue };
        let axis = object.rotation * DVec3::Z * half_length * object.scale;
        let ends = [object.origin - axis, object.origin + axis];
        let depths = ends.map(|p| (camera.r * p + camera.t).z);
        let nearest = depths[0].min(depths[1]);
        // Rods that pass beside the camera are not thin.
        if nearest <= 0.0 || 2.0 * radius * object.scale * camera.k.x_axis.x / nearest > 3.0 {
            continue;
        }
        let [Some((a, _)), Some((b, _))] = ends.map(|p| camera.pixel(p)) else { continue };
        let steps = (2.0 * a.distance(b)).ceil().clamp(1.0, 8.0 * (width + height) as f64);
        for i in 0..=steps as usize {
            let p = a.lerp(b, i as f64 / steps);
            if p.x < -3.0 || p.y < -3.0 || p.x > width as f64 + 3.0 || p.y > height as f64 + 3.0 {
                continue;
            }
            for y in (p.y - 2.0).max(0.0) as usize..=((p.y + 2.0).max(0.0) as usize).min(height - 1) {
                for x in (p.x - 2.0).max(0.0) as usize..=((p.x + 2.0).max(0.0) as usize).min(width - 1) {
                    marked[y * width + x] = true;
                }
            }
        }
    }
    marked
}

/// A Gaussian blur of less than a pixel: three taps each way.
fn blurred(light: Vec<Vec3>, (width, height): (usize, usize), sigma: f32) -> Vec<Vec3> {
    if sigma <= 0.0 {
        return light;
    }
    // The taps' variance is sigma squared, at most that of 1 2 1.
    let side = (0.5 * sigma * sigma).min(0.25);
    let mix = |a: Vec3, b: Vec3, c: Vec3| b * (1.0 - 2.0 * side) + (a + c) * side;
    let mut rows = vec![Vec3::ZERO; light.len()];
    rows.par_chunks_mut(width).zip(light.par_chunks(width)).for_each(|(out, row)| {
        for (x, out) in out.iter_mut().enumerate() {
            *out = mix(row[x.saturating_sub(1)], row[x], row[(x + 1).min(width - 1)]);
        }
    });
    let mut both = light;
    both.par_chunks_mut(width).enumerate().for_each(|(y, out)| {
        let (above, below) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
        for (x, out) in out.iter_mut().enumerate() {
            *out = mix(rows[above + x], rows[y * width + x], rows[below + x]);
        }
    });
    both
}
