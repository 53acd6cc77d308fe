//! What a surface looks like: its colours by place, from strong texture to nearly none, and how it shines.

use std::sync::Arc;

use glam::{DVec2, DVec3, Vec3};

use super::texture::{Library, Texture};
use crate::host::random::Random;

/// A point of a surface with the footprint of the pixel that looks at it, all in the surface's own coordinates in world
/// units.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// Where.
    pub position: DVec3,
    /// The surface's normal there, of any length.
    pub normal: DVec3,
    /// How far the point moves from this pixel to the next one to the right and below.
    pub steps: [DVec3; 2],
}

/// How a texture is laid over a surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Laid {
    /// Along z: on planes and height fields.
    FromAbove,
    /// Along the axis that the normal is closest to.
    ByNormal,
}

/// A texture laid over a surface.
#[derive(Clone, Debug)]
struct Layer {
    texture: Arc<Texture>,
    /// Texture widths a world unit.
    scale: f64,
    turn: DVec2,
    offset: DVec2,
}

impl Layer {
    fn new(texture: Arc<Texture>, width: f64, random: &mut Random) -> Self {
        let angle = if random.chance(0.5) { random.range(-0.1, 0.1) } else { random.range(0.0, std::f64::consts::TAU) };
        let offset = DVec2::new(random.range(0.0, 8.0), random.range(0.0, 8.0));
        Self { texture, scale: 1.0 / width, turn: DVec2::from_angle(angle), offset }
    }

    /// The texture's mean over the patch, projected along the axis that the normal is closest to.
    #[inline]
    fn sample(&self, patch: &Patch, axis: usize) -> Vec3 {
        let flat = |v: DVec3| match axis {
            0 => DVec2::new(v.y, v.z),
            1 => DVec2::new(v.x, v.z),
            _ => DVec2::new(v.x, v.y),
        };
        let place = |v: DVec3| self.turn.rotate(flat(v)) * self.scale;
        let [dx, dy] = patch.steps.map(place);
        self.texture.sample(place(patch.position) + self.offset, dx, dy)
    }
}

#[derive(Clone, Debug)]
enum Colours {
    /// The photo's, in another order and with a gain each.
    Photo { gain: Vec3, order: [usize; 3] },
    /// Between two colours by the pattern's first value, towards a third by the second.
    Ramp { low: Vec3, high: Vec3, tint: Vec3, tinted: f32 },
}

impl Colours {
    fn of(&self, sample: Vec3) -> Vec3 {
        match self {
            Self::Photo { gain, order } => *gain * Vec3::from_array(order.map(|k| sample[k])),
            Self::Ramp { low, high, tint, tinted } => low.lerp(*high, sample.x).lerp(*tint, sample.y * tinted),
        }
    }
}

/// The material of an object.
#[derive(Clone, Debug)]
pub struct Material {
    base: Layer,
    colours: Colours,
    /// What the colours are pulled to, and how much of the difference is left: 0 is one plain colour.
    mean: Vec3,
    contrast: f32,
    /// A finer pattern over it and how strongly it darkens and lightens.
    detail: Layer,
    detail_strength: f32,
    /// Share of light that is mirrored, and how narrowly.
    pub shine: f32,
    /// Exponent of the highlight.
    pub narrowness: f32,
    laid: Laid,
}

impl Material {
    /// A material for surfaces of about `size` world units; with the probability `low_texture` one with little texture
    /// or nearly none.
    pub fn random(library: &Library, size: f64, low_texture: f64, laid: Laid, random: &mut Random) -> Self {
        let photo = if random.chance(0.7) { library.photo(random) } else { None };
        let of_photo = photo.is_some();
        let texture = photo.unwrap_or_else(|| library.pattern(random));
        // Mostly a piece of a photo, so that nothing repeats; now and then so small that it becomes a repeated pattern.
        let (least, most) = if of_photo { (1.0, 5.0) } else { (0.25, 2.0) };
        let width = size * random.log_range(least, most) * if random.chance(0.15) { 0.15 } else { 1.0 };
        let base = Layer::new(texture, width, random);
        let brightness = random.range(0.12, 0.6) as f32;
        let colours = if of_photo {
            let mean = base.texture.mean();
            let luminance = mean.dot(Vec3::new(0.2, 0.7, 0.1)).max(0.01);
            let gain = (brightness / luminance).clamp(0.5, 3.0);
            let tint = Vec3::from_array([0, 1, 2].map(|_| random.log_range(0.75, 1.33) as f32));
            let order = if random.chance(0.75) {
                [0, 1, 2]
            } else {
                [[0, 2, 1], [1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]][random.below(5)]
            };
            Colours::Photo { gain: tint * gain, order }
        } else {
            let saturation = random.range(0.0, 0.7) as f32;
            let mut colour = |level: f32| {
                let hue = Vec3::from_array([0, 1, 2].map(|_| random.unit() as f32));
                (Vec3::splat(level) * (1.0 - saturation) + hue * 2.0 * level * saturation).clamp(Vec3::ZERO, Vec3::ONE)
            };
            let (low, high, tint) = (colour(0.3 * brightness), colour(1.5 * brightness), colour(brightness));
            let (low, high) = if random.chance(0.5) { (low, high) } else { (high, low) };
            Colours::Ramp { low, high, tint, tinted: random.range(0.0, 0.6) as f32 }
        };
        let mean = colours.of(base.texture.mean());
        let detail = Layer::new(library.pattern(random), size * random.log_range(0.08, 0.8), random);
        let (contrast, detail_strength) = if random.chance(low_texture) {
            // From a faint pattern to a painted wall.
            let left = random.log_range(0.003, 0.25) as f32;
            (left, 0.3 * left)
        } else {
            (random.range(0.4, 1.2) as f32, if random.chance(0.6) { random.range(0.05, 0.5) as f32 } else { 0.0 })
        };
        let shiny = random.chance(0.35);
        Self {
            base,
            colours,
            mean,
            contrast,
            detail,
            detail_strength,
            shine: if shiny { random.range(0.02, 0.25) as f32 } else { 0.0 },
            narrowness: random.log_range(8.0, 120.0) as f32,
            laid,
        }
    }

    /// One plain colour without shine.
    pub fn plain(colour: Vec3) -> Self {
        let texture = Arc::new(Texture::from_pattern(1, &[[0.5, 0.5]]));
        let layer = Layer { texture, scale: 1.0, turn: DVec2::X, offset: DVec2::ZERO };
        Self {
            base: layer.clone(),
            colours: Colours::Ramp { low: colour, high: colour, tint: colour, tinted: 0.0 },
            mean: colour,
            contrast: 0.0,
            detail: layer,
            detail_strength: 0.0,
            shine: 0.0,
            narrowness: 1.0,
            laid: Laid::FromAbove,
        }
    }

    /// The share of red, green and blue light that the patch throws back.
    pub fn colour(&self, patch: &Patch) -> Vec3 {
        let axis = if self.laid == Laid::FromAbove { 2 } else { patch.normal.abs().max_position() };
        let own = self.colours.of(self.base.sample(patch, axis));
        let mut colour = self.mean + (own - self.mean) * self.contrast;
        if self.detail_strength > 0.0 {
            let detail = self.detail.sample(patch, axis).x;
            colour *= 1.0 + self.detail_strength * 2.0 * (detail - 0.5);
        }
        colour.clamp(Vec3::splat(0.01), Vec3::splat(0.97))
    }
}
