//! Where up is, and the grid of cells of a map.

use glam::{DMat3, DVec2, DVec3};

use crate::error::{Error, Result};
use crate::export::results::Results;
use crate::ortho::options::{MapOptions, Up};
use crate::scene::Layout;
use crate::scene::camera::Camera;

/// Views that a plane through their places needs to say more than their directions do.
const LEAST_VIEWS: usize = 6;
/// Their places are spread in the narrower direction at least so much as in the wider one ...
const LEAST_SPREAD: f64 = 0.15;
/// ... and lie off their plane by at most this share of that spread, ...
const MOST_ROUGHNESS: f64 = 0.1;
/// ... which is inclined to the mean view by at most this tangent: 20 degrees. Flights are level, slopes are not.
const MOST_INCLINATION: f64 = 0.364;

/// The coordinates of a map: x to the right (east), y upwards on the page (north), z the height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// From directions in the world to directions in the map.
    pub axes: DMat3,
    /// Added after that.
    pub offset: DVec3,
}

impl Frame {
    /// As the options, the format of the scene or the cameras have it, and what is to be said of that.
    ///
    /// # Errors
    /// Cameras without a common direction, which leave it to the options.
    pub fn of(results: &Results, options: &MapOptions) -> Result<(Self, String)> {
        let (up, why) = match options.up {
            Up::Direction(up) => (up.normalize(), "as --up says".to_owned()),
            Up::Cameras => by_cameras(results)?,
            Up::Auto => match (options.crs, results.manifest.scene.layout) {
                (Some(crs), _) => (DVec3::Z, format!("x is east, y north and z up, as in EPSG:{}", crs.code)),
                (None, Some(layout @ (Layout::OpenSfm | Layout::Opf | Layout::RealityCapture))) => {
                    (DVec3::Z, format!("z, as in {}", layout.names().1))
                }
                _ => by_cameras(results)?,
            },
        };
        let axes = axes(up);
        let told = match axes == DMat3::IDENTITY {
            true => format!("up is {why}"),
            false => {
                let [x, y, z] = up.to_array().map(|v| (v * 1e6).round() / 1e6 + 0.0);
                let turned = "; the map's axes are turned so (map.json has them), its lengths are the scene's";
                format!("up is {x},{y},{z} of the scene, {why}{turned}")
            }
        };
        Ok((Self { axes, offset: options.offset }, told))
    }

    /// A camera that sees the map's coordinates.
    pub fn camera(&self, camera: &Camera) -> Camera {
        let r = camera.r * self.axes.transpose();
        Camera { r, t: camera.t - r * self.offset, ..*camera }
    }

    /// Refuses a direction that views look up in, and tells where they look from the side.
    ///
    /// # Errors
    /// Most views look up.
    pub fn expect_from_above(&self, results: &Results) -> Result<Option<String>> {
        let mut down: Vec<f64> = results.views.iter().map(|view| -(self.axes * view.camera.r.row(2)).z).collect();
        down.sort_unstable_by(f64::total_cmp);
        let median = down[down.len() / 2];
        if median < 0.0 {
            let looking = down.iter().filter(|down| **down < 0.0).count();
            return Err(Error::input(
                "up",
                format!("{looking} of {} views look upwards", down.len()),
                "a scene seen from above, and its direction up: --up X,Y,Z, or --up cameras",
            ));
        }
        let degrees = median.min(1.0).acos().to_degrees();
        Ok((degrees > 50.0).then(|| {
            format!(
                "most views look {degrees:.0} degrees or more away from straight down: a map shows what is seen from \
                 above"
            )
        }))
    }
}

/// The directions of a map whose third is `up`: the first is the scene's x, or else its y, without its height.
fn axes(up: DVec3) -> DMat3 {
    let side = if up.x.abs() < 0.9 { DVec3::X } else { DVec3::Y };
    let x = (side - side.dot(up) * up).normalize();
    // Rows; up itself keeps every bit.
    DMat3::from_cols(x, up.cross(x), up).transpose()
}

/// Up by the cameras: across the plane that they lie in where they lie in one, else against their mean view.
fn by_cameras(results: &Results) -> Result<(DVec3, String)> {
    let sum: DVec3 = results.views.iter().map(|view| -view.camera.r.row(2)).sum();
    let count = results.views.len() as f64;
    if sum.length() < 0.5 * count {
        return Err(Error::input(
            "up",
            "neither a coordinate system nor cameras that look the same way",
            "--crs EPSG:N if the scene's coordinates are in such a system, or --up X,Y,Z, its direction up",
        ));
    }
    let mean_view = sum.normalize();
    let assumed = "assumed: neither a coordinate system nor --up says";
    let centres: Vec<DVec3> = results.views.iter().map(|view| view.camera.centre()).collect();
    let Some(across) = across_plane(&centres, mean_view) else {
        return Ok((mean_view, format!("against the mean view of the cameras ({assumed})")));
    };
    let degrees = across.dot(mean_view).min(1.0).acos().to_degrees();
    Ok((
        across,
        format!("across the plane that the cameras lie in, {degrees:.1} degrees off their mean view ({assumed})"),
    ))
}

/// The direction across the plane through places, if they lie in one that is nearly across `up`.
fn across_plane(places: &[DVec3], up: DVec3) -> Option<DVec3> {
    if places.len() < LEAST_VIEWS {
        return None;
    }
    let turn = axes(up);
    let count = places.len() as f64;
    let middle = places.iter().copied().sum::<DVec3>() / count;
    let local: Vec<DVec3> = places.iter().map(|&place| turn * (place - middle)).collect();
    let mean = |of: &dyn Fn(&DVec3) -> f64| local.iter().map(of).sum::<f64>() / count;
    let (xx, xy, yy) = (mean(&|p| p.x * p.x), mean(&|p| p.x * p.y), mean(&|p| p.y * p.y));
    // The spread along the narrower direction: the smaller eigenvalue.
    let half = 0.5 * (xx + yy);
    let root = (half * half - (xx * yy - xy * xy)).max(0.0).sqrt();
    let (wide, narrow) = (half + root, half - root);
    if narrow <= LEAST_SPREAD * LEAST_SPREAD * wide {
        return None;
    }
    let (xz, yz) = (mean(&|p| p.x * p.z), mean(&|p| p.y * p.z));
    let slope = DVec2::new(xz * yy - yz * xy, yz * xx - xz * xy) / (xx * yy - xy * xy);
    let rough = mean(&|p| (p.z - slope.dot(p.truncate())).powi(2)).sqrt();
    if rough > MOST_ROUGHNESS * narrow.sqrt() || slope.length() > MOST_INCLINATION {
        return None;
    }
    Some(turn.transpose() * DVec3::new(-slope.x, -slope.y, 1.0).normalize())
}

/// Cells of a map: squares whose sides are whole multiples of the ground sample, so that maps of the same scene fit
/// onto each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Side of a cell: the ground sample distance.
    pub gsd: f64,
    /// The left side, in cells from x = 0.
    pub column: i64,
    /// The upper side, in cells from y = 0.
    pub row: i64,
    /// Cells a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Grid {
    /// The x of its left side.
    pub fn left(&self) -> f64 {
        self.column as f64 * self.gsd
    }

    /// The y of its upper side.
    pub fn top(&self) -> f64 {
        self.row as f64 * self.gsd
    }

    /// x and y of a place that is given in cells from the upper left corner; cells' middles end in a half.
    pub fn place(&self, column: f64, row: f64) -> DVec2 {
        DVec2::new((self.column as f64 + column) * self.gsd, (self.row as f64 - row) * self.gsd)
    }

    /// Columns and rows from the upper left corner.
    pub fn cells(&self, place: DVec2) -> DVec2 {
        DVec2::new(place.x / self.gsd - self.column as f64, self.row as f64 - place.y / self.gsd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_right_handed_and_keep_the_scene_s_own() {
        assert_eq!(axes(DVec3::Z), DMat3::IDENTITY);
        assert_eq!(axes(-DVec3::Z) * DVec3::new(1.0, 2.0, 3.0), DVec3::new(1.0, -2.0, -3.0));
        for up in [DVec3::X, -DVec3::Y, DVec3::new(0.3, -0.5, 0.7).normalize(), DVec3::new(-1.0, 0.1, 0.0).normalize()]
        {
            let axes = axes(up);
            assert!((axes * up - DVec3::Z).length() < 1e-12);
            assert!((axes * axes.transpose() - DMat3::IDENTITY).to_cols_array().iter().all(|v| v.abs() < 1e-12));
            assert!((axes.determinant() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_level_flight_says_where_up_is_and_a_strip_does_not() {
        let up = DVec3::new(0.1, -0.2, -1.0).normalize();
        let turn = axes(up).transpose();
        let places: Vec<DVec3> = (0..20)
            .map(|i| turn * DVec3::new(f64::from(i % 5), f64::from(i / 5), 50.0 + 0.01 * f64::from(i % 3)))
            .collect();
        let found = across_plane(&places, DVec3::new(0.0, 0.0, -1.0)).unwrap();
        assert!(found.dot(up) > 0.999_95, "{found} {up}");
        let strip: Vec<DVec3> =
            (0..20).map(|i| turn * DVec3::new(f64::from(i), 0.1 * f64::from(i % 2), 50.0)).collect();
        assert_eq!(across_plane(&strip, up), None);
        let orbit: Vec<DVec3> =
            (0..20).map(|i| DVec3::new(f64::from(i).cos(), f64::from(i).sin(), f64::from(i % 7))).collect();
        assert_eq!(across_plane(&orbit, DVec3::Z), None);
        assert_eq!(across_plane(&places[..5], up), None);
    }

    #[test]
    fn cells_and_places_are_inverse() {
        let grid = Grid { gsd: 0.25, column: -8, row: 12, width: 10, height: 10 };
        assert_eq!((grid.left(), grid.top()), (-2.0, 3.0));
        assert_eq!(grid.place(0.5, 0.5), DVec2::new(-1.875, 2.875));
        assert_eq!(grid.cells(grid.place(3.5, 7.25)), DVec2::new(3.5, 7.25));
    }
}
