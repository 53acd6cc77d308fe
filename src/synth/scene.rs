//! A synthetic scene: a world with cameras and depth ranges, chosen so that its cameras see it well.

use glam::DVec3;
use rayon::prelude::*;

use super::compose::{Stock, compose};
use super::render::{self, Look};
use super::rig::{Rig, Rigged};
use super::sight::Sight;
use super::world::{World, sees};
use crate::host::random::Random;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::scene::{Layout, Scene, ScenePoint, SourceView, View};

/// A world with the cameras that look at it.
#[derive(Clone, Debug)]
pub struct SyntheticScene {
    /// Surfaces and light.
    pub world: World,
    /// The rig that the cameras stand on, never [`Rig::Mixed`].
    pub rig: Rig,
    /// Width and height of the photos.
    pub size: (usize, usize),
    /// One for each view.
    pub cameras: Vec<Camera>,
    /// Depths between which each view is searched; surfaces outside count as having no depth.
    pub ranges: Vec<DepthRange>,
    /// How each view's photo differs from what is there.
    pub looks: Vec<Look>,
}

/// What a scene is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where the cameras stand.
    pub rig: Rig,
    /// How many.
    pub views: usize,
    /// Width and height of the photos.
    pub size: (usize, usize),
    /// Share of the scenes that are one thing before a blank backdrop.
    pub alone: f64,
    /// How much the photos differ, 0..1.
    pub variation: f64,
}

/// Compositions that are tried for one scene; the best is taken where none is good.
const ATTEMPTS: u64 = 24;
/// Rays along the longer side with which a composition is judged.
const PROBES: usize = 20;
/// Share of every view's pixels that should have a depth.
const LEAST_COVERED: f64 = 0.4;
/// The same where one thing stands alone.
const LEAST_COVERED_ALONE: f64 = 0.12;
/// Share of the reference view's pixels with a depth that another view should see, too.
const LEAST_SHARED: f64 = 0.6;
/// Farthest over nearest depth of a view.
const MOST_RATIO: f64 = 6.0;
/// The arc's depths, in mm (those of the DTU set's experiments).
pub const ARC_RANGE: DepthRange = DepthRange { near: 450.0, far: 950.0 };

/// What a composition is judged by.
struct Verdict {
    score: f64,
    /// Nearest and farthest depth of every view's probes.
    depths: Vec<(f64, f64)>,
    /// Mean light that the reference view gets.
    light: f32,
}

impl SyntheticScene {
    /// The scene of these words (seed, index): cameras, a world in front of them, ranges and looks.
    pub fn random(stock: &Stock, wanted: &Wanted, words: &[u64]) -> Self {
        let &Wanted { rig, views, size, alone, variation } = wanted;
        // Chosen once: compositions that suit one rig less, or fill less of a photo, must not make theirs rarer.
        let alone = alone > 0.0 && Random::new(&[words, &[3]].concat()).chance(alone);
        let least = if alone { LEAST_COVERED_ALONE } else { LEAST_COVERED };
        let rig = Rigged::random(rig, 1, size, &mut Random::new(words)).rig;
        let attempt = |number: u64| {
            let mut random = Random::new(&[words, &[1, number]].concat());
            let rigged = Rigged::random(rig, views, size, &mut random);
            let world = compose(stock, alone, &rigged, &mut random);
            (judge(&world, &rigged, size, least), rigged, world)
        };
        let mut best = attempt(0);
        for number in 1..ATTEMPTS {
            if best.0.score >= 1.0 {
                break;
            }
            let next = attempt(number);
            if next.0.score > best.0.score {
                best = next;
            }
        }
        let (verdict, rigged, world) = best;
        let mut random = Random::new(&[words, &[2]].concat());
        let widen = |random: &mut Random| (1.0 - random.range(0.03, 0.15), 1.0 + random.range(0.03, 0.25));
        let range = |&(near, far): &(f64, f64)| {
            let (less, more) = widen(&mut random);
            match rigged.rig {
                Rig::Arc => ARC_RANGE,
                // A view that sees nothing at all still has some range.
                _ if near > far => DepthRange { near: 0.5 * rigged.distance, far: 2.0 * rigged.distance },
                _ => DepthRange { near: near * less, far: far * more },
            }
        };
        let ranges = verdict.depths.iter().map(range).collect();
        // Photos in which the middle is neither black nor burnt out.
        let exposure = random.range(0.16, 0.38) as f32 / verdict.light.max(1e-3);
        let looks = Look::random(rigged.cameras.len(), exposure, variation, &mut random);
        Self { world, rig: rigged.rig, size, cameras: rigged.cameras, ranges, looks }
    }

    /// The photo of a view, its values multiples of 1 / 255: what a PNG file holds.
    pub fn photo(&self, view: usize) -> Photo {
        render::photo(&self.world, &self.cameras[view], self.size, &self.looks[view])
    }

    /// The views as a scene without files, with the points of a coarse grid over every view's depth: for the selection
    /// of source views.
    fn with_points(&self) -> Scene {
        const ACROSS: usize = 12;
        let view = |i: usize| View {
            id: i as u32,
            name: name(i),
            image: format!("images/{}.png", name(i)).into(),
            size: self.size,
            camera: self.cameras[i],
            lens: None,
            mask: None,
            in_memory: None,
            known: None,
            range: Some(self.ranges[i]),
            sweep: None,
            planes: None,
            sources: Vec::new(),
        };
        let step = self.size.0.max(self.size.1).div_ceil(ACROSS);
        let of_view = |v: usize| {
            let (sight, range) = (Sight::new(&self.world, &self.cameras[v], self.size), self.ranges[v]);
            let places = (step / 2..self.size.1)
                .step_by(step)
                .flat_map(|y| (step / 2..self.size.0).step_by(step).map(move |x| (x, y)));
            let hits = places.filter_map(|(x, y)| sight.first(x as f64, y as f64, range.near, range.far));
            let points = hits.map(|hit| ScenePoint {
                position: hit.position,
                error: 0.0,
                views: (0..self.cameras.len()).filter(|&other| other == v || self.sees(other, hit.position)).collect(),
            });
            points.collect::<Vec<_>>()
        };
        let points = (0..self.cameras.len()).into_par_iter().map(of_view).collect::<Vec<_>>().concat();
        let views = (0..self.cameras.len()).map(view).collect();
        Scene {
            root: Default::default(),
            layout: Layout::MvsNet,
            views,
            points,
            region: None,
            region_of_files: None,
            poses: None,
            georeference: None,
            notes: Vec::new(),
        }
    }

    /// The views of [`Scene`] with source views for each, selected as for any scene with sparse points
    /// ([`Scene::select_sources`]), the points being exact ones on the surfaces.
    pub fn views(&self) -> Vec<View> {
        let mut scene = self.with_points();
        scene.select_sources();
        scene.views
    }

    /// The other views as sources of `view`, best first; views that share nothing with it come last with a score of 0.
    pub fn sources(&self, view: usize) -> Vec<SourceView> {
        self.all_sources().swap_remove(view)
    }

    /// [`Self::sources`] of every view.
    pub fn all_sources(&self) -> Vec<Vec<SourceView>> {
        let mut all: Vec<_> = self.views().into_iter().map(|view| view.sources).collect();
        for (view, sources) in all.iter_mut().enumerate() {
            for other in (0..self.cameras.len()).filter(|&other| other != view) {
                if sources.iter().all(|s| s.view != other) {
                    sources.push(SourceView { view: other, score: 0.0 });
                }
            }
        }
        all
    }

    /// Whether a view sees a point of a surface within its photo and range.
    pub fn sees(&self, view: usize, point: DVec3) -> bool {
        let camera = &self.cameras[view];
        let depth = (camera.r * point + camera.t).z;
        let DepthRange { near, far } = self.ranges[view];
        (near..=far).contains(&depth) && sees(&self.world, camera, self.size, point)
    }
}

/// The file name of a view without extension.
pub fn name(view: usize) -> String {
    format!("{view:08}")
}

/// Casts a few rays: how much of each view is covered (at `least` so much it should be), how much of the reference is
/// shared, how deep it is.
fn judge(world: &World, rigged: &Rigged, size: (usize, usize), least: f64) -> Verdict {
    let step = (size.0.max(size.1) as f64 / PROBES as f64).max(1.0);
    let steps = |length: usize| ((length as f64 / step) as usize).max(1);
    let (columns, rows) = (steps(size.0), steps(size.1));
    let fixed = (rigged.rig == Rig::Arc).then_some(ARC_RANGE);
    let DepthRange { near, far } =
        fixed.unwrap_or(DepthRange { near: 0.3 * rigged.distance, far: 3.0 * rigged.distance });
    let (mut worst, mut shared, mut light, mut depths) = (1f64, 0.0, 0f32, Vec::new());
    for (view, camera) in rigged.cameras.iter().enumerate() {
        let sight = Sight::new(world, camera, size);
        let rays = sight.rays();
        let (mut covered, mut blocked, mut common, mut lowest, mut highest) = (0, 0, 0, f64::INFINITY, 0f64);
        for i in 0..columns * rows {
            let place = |i: usize, count: usize, length: usize| (i as f64 + 0.5) / count as f64 * length as f64 - 0.5;
            let (u, v) = (place(i % columns, columns, size.0), place(i / columns, rows, size.1));
            let ray = rays.through(u, v);
            let Some(hit) = sight.first(u, v, 1e-3 * rigged.distance, f64::INFINITY) else {
                continue;
            };
            if view == 0 {
                light += world
                    .shade(&hit, f32::from(u8::from(world.lit(&hit))), ray.direction, rays.across().map(|a| a * step))
                    .element_sum()
                    / 3.0;
            }
            if !(near..=far).contains(&hit.depth) {
                blocked += usize::from(hit.depth < near);
                continue;
            }
            covered += 1;
            (lowest, highest) = (lowest.min(hit.depth), highest.max(hit.depth));
            if view == 0 && rigged.cameras[1..].iter().any(|c| sees(world, c, size, hit.position)) {
                common += 1;
            }
        }
        let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
        // Something right before the lens hides what could be matched.
        let own = share(covered, columns * rows) - 3.0 * share(blocked, columns * rows);
        worst = worst.min(own / least);
        if highest > MOST_RATIO * lowest {
            worst = worst.min(MOST_RATIO * lowest / highest);
        }
        if view == 0 {
            light /= (covered + blocked).max(1) as f32;
            shared = share(common, covered) / LEAST_SHARED;
        }
        depths.push((lowest, highest));
    }
    if rigged.cameras.len() > 1 {
        worst = worst.min(shared);
    }
    Verdict { score: worst, depths, light }
}
