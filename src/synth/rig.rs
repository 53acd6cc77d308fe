//! Where the cameras stand: an arc like that of the DTU set, a walk around, or a cluster around a reference view.

use glam::{DMat3, DVec3};
use serde::{Deserialize, Serialize};

use crate::host::random::Random;
use crate::scene::camera::Camera;

/// How the cameras of a scene are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rig {
    /// 49 positions on a spherical cap about 650 mm from the centre, as on DTU's robot arm, with DTU's intrinsics and
    /// depths of 450 to 950 mm. With fewer views: a random position and some of its neighbours.
    Arc,
    /// A walk around the centre, up to a full circle; in any unit.
    Circle,
    /// A reference view and others scattered around it; in any unit.
    Cluster,
    /// One of the others, at random for each scene.
    Mixed,
}

/// Cameras that look at the origin's surroundings; z is up.
#[derive(Clone, Debug)]
pub struct Rigged {
    /// The rig, never [`Rig::Mixed`].
    pub rig: Rig,
    /// One for each view; the first is the reference view of a sample.
    pub cameras: Vec<Camera>,
    /// The middle of the cameras' distances to the origin.
    pub distance: f64,
    /// Half the width of what the cameras see at that distance, the smaller of width and height.
    pub half_view: f64,
    /// Unit vector from the origin to the cameras' mean direction.
    pub towards: DVec3,
    /// Whether the cameras stand within 90 degrees, so that a scene may have a front.
    pub one_sided: bool,
}

/// Positions of the arc.
pub const ARC_POSITIONS: usize = 49;
/// DTU's focal lengths and principal point for 1600 x 1200 pixels.
const ARC_FOCAL: [f64; 2] = [2892.33, 2883.18];
const ARC_PRINCIPAL: [f64; 2] = [823.21, 619.07];
const ARC_SIZE: [f64; 2] = [1600.0, 1200.0];

impl Rigged {
    /// `views` cameras for photos of `size`.
    pub fn random(rig: Rig, views: usize, size: (usize, usize), random: &mut Random) -> Self {
        let rig = match rig {
            Rig::Mixed => [Rig::Arc, Rig::Circle, Rig::Cluster][random.below(3)],
            one => one,
        };
        let (directions, spread, distance) = match rig {
            Rig::Arc | Rig::Mixed => {
                let directions = arc_directions(views, random);
                // Everything that stands within 200 mm of the middle is between 450 and 950 mm away.
                (directions, 0.006, random.range(620.0, 710.0))
            }
            Rig::Circle => {
                let elevation = random.range(8f64, 50.0).to_radians();
                let step = random.range(5f64, 14.0).to_radians().min(std::f64::consts::TAU / views.max(1) as f64);
                let start = random.range(0.0, std::f64::consts::TAU);
                let wave = (random.range(0.0, 0.12), random.range(0.5, 3.0), random.range(0.0, 6.0));
                let direction = |i: usize| {
                    let turn = start + step * (i as f64 + random.range(-0.2, 0.2));
                    let lift = elevation + wave.0 * (wave.1 * turn + wave.2).sin() + random.range(-0.02, 0.02);
                    on_sphere(turn, lift)
                };
                ((0..views).map(direction).collect::<Vec<_>>(), 0.06, random.log_range(0.3, 30.0))
            }
            Rig::Cluster => {
                let reference =
                    on_sphere(random.range(0.0, std::f64::consts::TAU), random.range(5f64, 75.0).to_radians());
                let widest = random.range(3f64, 30.0).to_radians();
                let mut directions = vec![reference];
                while directions.len() < views {
                    // Never right beside the reference view: from there nothing can be triangulated.
                    let (aside, turn) = (widest * random.range(0.2, 1.0), random.range(0.0, std::f64::consts::TAU));
                    let x = reference.any_orthonormal_vector();
                    let y = reference.cross(x);
                    let across = x * turn.cos() + y * turn.sin();
                    directions.push((reference * aside.cos() + across * aside.sin()).normalize());
                }
                (directions, 0.12, random.log_range(0.3, 30.0))
            }
        };
        let focal = random.range(0.8, 1.6);
        let k = |random: &mut Random| match rig {
            Rig::Arc | Rig::Mixed => arc_intrinsics(size, random.range(0.995, 1.005)),
            _ => intrinsics(size, focal * random.range(0.97, 1.03), random),
        };
        let sizes = (size.0 as f64, size.1 as f64);
        let aim = if rig == Rig::Arc { 0.015 } else { 0.06 };
        let roll = if rig == Rig::Arc { 0.02 } else { 0.12 };
        let cameras: Vec<Camera> = directions
            .iter()
            .map(|&direction| {
                let centre = direction * distance * (1.0 + random.range(-spread, spread));
                let target = random.direction() * distance * aim * random.unit();
                look_at(k(random), centre, target, random.range(-roll, roll))
            })
            .collect();
        let first_k = cameras.first().map_or(DMat3::IDENTITY, |c| c.k);
        let half_view = distance * (0.5 * sizes.0 / first_k.x_axis.x).min(0.5 * sizes.1 / first_k.y_axis.y);
        let sum: DVec3 = directions.iter().sum();
        let towards = sum.try_normalize().unwrap_or(DVec3::Z);
        let one_sided = directions.iter().all(|d| d.dot(towards) > 0.7);
        Self { rig, cameras, distance, half_view, towards, one_sided }
    }
}

fn on_sphere(turn: f64, lift: f64) -> DVec3 {
    DVec3::new(lift.cos() * turn.cos(), lift.cos() * turn.sin(), lift.sin())
}

/// Directions of the arc's positions: rows over a cap, walked to and fro, about 5.5 degrees apart; of fewer views than
/// positions a random one and some of those nearest to it.
fn arc_directions(views: usize, random: &mut Random) -> Vec<DVec3> {
    let count = views.max(ARC_POSITIONS);
    let rows = ((count as f64).sqrt().round() as usize).max(1);
    let apart = 5.5f64.to_radians() * (ARC_POSITIONS as f64 / count as f64).sqrt();
    let (start, lift) = (random.range(0.0, std::f64::consts::TAU), random.range(30f64, 55.0).to_radians());
    let mut all = Vec::with_capacity(count);
    for row in 0..rows {
        let in_row = count * (row + 1) / rows - count * row / rows;
        let row_lift = lift + apart * (row as f64 - 0.5 * (rows as f64 - 1.0));
        for i in 0..in_row {
            let i = if row % 2 == 0 { i } else { in_row - 1 - i };
            let aside = apart * (i as f64 - 0.5 * (in_row as f64 - 1.0)) / row_lift.cos().max(0.3);
            all.push(on_sphere(start + aside, row_lift));
        }
    }
    if views >= all.len() {
        return all;
    }
    let reference = all[random.below(all.len())];
    all.sort_by(|a, b| b.dot(reference).total_cmp(&a.dot(reference)));
    // Some of the nearest, so that samples of one arc differ; the reference itself stays first.
    let mut others = all[1..(views + 6).min(all.len())].to_vec();
    while others.len() + 1 > views.max(1) {
        others.remove(random.below(others.len()));
    }
    let mut chosen = vec![reference];
    chosen.extend(others);
    chosen
}

fn arc_intrinsics(size: (usize, usize), zoom: f64) -> DMat3 {
    // The wider side decides, so that other shapes of photos see as much as the arc's own.
    let scale = (size.0 as f64 / ARC_SIZE[0]).max(size.1 as f64 / ARC_SIZE[1]);
    let shift =
        |k: usize, length: usize| 0.5 * (length as f64 - 1.0) + scale * (ARC_PRINCIPAL[k] - 0.5 * (ARC_SIZE[k] - 1.0));
    DMat3::from_cols(
        DVec3::new(ARC_FOCAL[0] * scale * zoom, 0.0, 0.0),
        DVec3::new(0.0, ARC_FOCAL[1] * scale * zoom, 0.0),
        DVec3::new(shift(0, size.0), shift(1, size.1), 1.0),
    )
}

/// A camera's K with a focal length of `focal` times the longer side.
fn intrinsics(size: (usize, usize), focal: f64, random: &mut Random) -> DMat3 {
    let longer = size.0.max(size.1) as f64;
    let f = focal * longer;
    let middle = |length: usize, off: f64| 0.5 * (length as f64 - 1.0) + off * longer;
    let (dx, dy) = (random.range(-0.015, 0.015), random.range(-0.015, 0.015));
    DMat3::from_cols(
        DVec3::new(f, 0.0, 0.0),
        DVec3::new(0.0, f * random.range(0.995, 1.005), 0.0),
        DVec3::new(middle(size.0, dx), middle(size.1, dy), 1.0),
    )
}

/// A camera at `centre` that looks at `target`, z up in the picture, turned by `roll`.
fn look_at(k: DMat3, centre: DVec3, target: DVec3, roll: f64) -> Camera {
    let ahead = (target - centre).normalize();
    let right = ahead.cross(DVec3::Z).try_normalize().unwrap_or(DVec3::X);
    let down = ahead.cross(right);
    let (sin, cos) = roll.sin_cos();
    let (right, down) = (right * cos + down * sin, down * cos - right * sin);
    let r = DMat3::from_cols(right, down, ahead).transpose();
    Camera { k, r, t: -(r * centre) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rig_looks_at_the_middle_from_where_it_should() {
        for (rig, views) in [(Rig::Arc, 49), (Rig::Arc, 5), (Rig::Arc, 64), (Rig::Circle, 9), (Rig::Cluster, 5)] {
            for seed in 0..20 {
                let size = (320, 256);
                let rigged = Rigged::random(rig, views, size, &mut Random::new(&[seed]));
                assert_eq!(rigged.cameras.len(), views);
                for camera in &rigged.cameras {
                    assert!(
                        (camera.r * camera.r.transpose() - DMat3::IDENTITY)
                            .to_cols_array()
                            .iter()
                            .all(|v| v.abs() < 1e-14)
                    );
                    assert!((camera.r.determinant() - 1.0).abs() < 1e-14);
                    let (pixel, depth) = camera.pixel(DVec3::ZERO).expect("the middle lies ahead");
                    assert!(pixel.x > 0.0 && pixel.y > 0.0 && pixel.x < 319.0 && pixel.y < 255.0, "{pixel}");
                    assert!((depth / rigged.distance - 1.0).abs() < 0.16);
                    if rig == Rig::Arc {
                        assert!((600.0..725.0).contains(&depth), "{depth}");
                    }
                    // z is up: what lies higher appears higher, unless the camera looks straight down.
                    let above = camera.pixel(DVec3::Z * 0.1 * rigged.distance).unwrap().0;
                    assert!(above.y < pixel.y);
                }
            }
        }
    }

    #[test]
    fn the_arcs_cameras_are_those_of_its_own_size_at_that_size() {
        let k = arc_intrinsics((1600, 1200), 1.0);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(k.x_axis.x, 2892.33) && close(k.y_axis.y, 2883.18));
        assert!(close(k.z_axis.x, 823.21) && close(k.z_axis.y, 619.07));
    }

    #[test]
    fn neighbours_on_the_arc_stand_some_degrees_apart() {
        let directions = arc_directions(ARC_POSITIONS, &mut Random::new(&[1]));
        for (i, a) in directions.iter().enumerate() {
            let others = directions.iter().enumerate().filter(|(j, _)| *j != i);
            let nearest = others.map(|(_, b)| a.dot(*b).min(1.0).acos().to_degrees()).fold(f64::INFINITY, f64::min);
            assert!((3.0..7.0).contains(&nearest), "{nearest}");
        }
    }
}
