//! A cloud in a coordinate system of the earth, where the scene's files say how its own coordinates lie on earth.
//!
//! Places go through geocentric coordinates or the scene's projected ones to the system that is wanted, by proj4rs;
//! heights stay above the ellipsoid. Normals are turned as the cloud's middle is: over ten kilometres the vertical
//! turns by a twelfth of a degree.

use glam::{DMat3, DVec3};
use proj4rs::Proj;
use proj4rs::adaptors::transform_xyz;

use crate::error::{Error, Result};
use crate::export::cloud::{Bounds, Cloud};
use crate::export::crs::{Crs, CrsOption};
use crate::export::job::Job;
use crate::files::ply::Point;
use crate::scene::georeference::Georeference;

/// A cloud with the system that its coordinates are in, if one is known.
pub struct Placed<'a> {
    cloud: &'a Cloud,
    placement: Option<Placement>,
    /// The system.
    pub crs: Option<Crs>,
}

/// How coordinates become those of a system.
struct Placement {
    /// To the system that the scene's coordinates have a plain way to.
    axes: DMat3,
    origin: DVec3,
    /// From there on, where that is another one.
    systems: Option<(Proj, Proj)>,
    /// What it does to directions, as a matrix for normals.
    normals: DMat3,
    crs: Crs,
}

impl<'a> Placed<'a> {
    /// The cloud of an export as the options and the scene want it; what was done is noted.
    ///
    /// # Errors
    /// A run without a cloud, a system in which the scene has no place.
    pub fn of(job: &Job<'a>) -> Result<Self> {
        let cloud = job.cloud()?;
        let (own, wanted) = (job.results.manifest.scene.georeference, job.options.crs);
        let crs = match (own, wanted) {
            (_, Some(CrsOption::Scene)) => None,
            (Some(own), wanted) if cloud.count > 0 => {
                let made = Placement::new(own, wanted.and_then(CrsOption::code), cloud.bounds()?.middle());
                let placement = match made {
                    Ok(placement) => placement,
                    Err(error) if wanted.is_none() => {
                        job.note(format!("the scene's coordinates are {}, and stay so: {error}", own.in_words()));
                        return Ok(Self { cloud, placement: None, crs: None });
                    }
                    Err(error) => return Err(error),
                };
                job.note(format!(
                    "the scene's coordinates are {}: they become those of EPSG:{} (heights above the ellipsoid); \
                     --crs scene leaves them as they are",
                    own.in_words(),
                    placement.crs.code
                ));
                return Ok(Self { cloud, crs: Some(placement.crs), placement: Some(placement) });
            }
            (_, wanted) => wanted.and_then(CrsOption::code),
        };
        Ok(Self { cloud, placement: None, crs })
    }

    /// How many points there are.
    pub fn count(&self) -> u64 {
        self.cloud.count
    }

    /// Whether its coordinates are as large as those of a system that is not named.
    pub fn needs_crs(&self) -> bool {
        self.crs.is_none() && self.cloud.needs_doubles()
    }

    /// Gives every point.
    ///
    /// # Errors
    /// Those of reading the cloud; a point without a place in the system; what `take` says.
    pub fn each(&self, mut take: impl FnMut(&Point) -> Result<()>) -> Result<()> {
        let Some(placement) = &self.placement else { return self.cloud.each(take) };
        self.cloud.each(|point| {
            let position = placement.place(point.position.into())?.to_array();
            let normal = (placement.normals * DVec3::from(point.normal.map(f64::from))).normalize_or_zero();
            take(&Point { position, normal: normal.to_array().map(|v| v as f32), ..*point })
        })
    }

    /// The box around the points; of an empty cloud, the origin.
    ///
    /// # Errors
    /// As [`Self::each`].
    pub fn bounds(&self) -> Result<Bounds> {
        let Some(placement) = &self.placement else { return self.cloud.bounds() };
        let mut bounds = Bounds { low: DVec3::INFINITY, high: DVec3::NEG_INFINITY };
        self.cloud.each(|point| {
            let position = placement.place(point.position.into())?;
            bounds = Bounds { low: bounds.low.min(position), high: bounds.high.max(position) };
            Ok(())
        })?;
        Ok(bounds)
    }
}

impl Placement {
    /// From the scene's coordinates to `wanted`, else to the system of the scene's files, else to UTM's zone at
    /// `middle`, a place in the scene.
    fn new(own: Georeference, wanted: Option<Crs>, middle: DVec3) -> Result<Self> {
        let (axes, origin, from) = match own {
            Georeference::Local { latitude, longitude, altitude } => {
                let origin = converted(&degrees()?, &system(Crs::GEOCENTRIC)?, {
                    DVec3::new(longitude.to_radians(), latitude.to_radians(), altitude)
                });
                let origin = origin.map_err(|e| nowhere(Crs::GEOCENTRIC, &e))?;
                (axes_at(latitude, longitude), origin, Crs::GEOCENTRIC)
            }
            Georeference::Geocentric { .. } => (DMat3::IDENTITY, DVec3::ZERO, Crs::GEOCENTRIC),
            Georeference::Projected { epsg, offset } => {
                (DMat3::IDENTITY, offset.into(), Crs::of_code(epsg).ok_or_else(|| unknown(epsg))?)
            }
        };
        let of_files = match own {
            Georeference::Local { .. } => None,
            Georeference::Geocentric { epsg } => epsg.and_then(Crs::of_code),
            Georeference::Projected { .. } => Some(from),
        };
        let crs = match wanted.or(of_files) {
            Some(crs) => crs,
            None => {
                let place = converted(&system(from)?, &degrees()?, axes * middle + origin);
                let place = place.map_err(|e| nowhere(from, &e))?;
                utm_zone(place.y.to_degrees(), place.x.to_degrees())
            }
        };
        let systems = if crs == from { None } else { Some((system(from)?, system(crs)?)) };
        let mut placement = Self { axes, origin, systems, normals: DMat3::IDENTITY, crs };
        placement.normals = placement.turned_at(middle)?;
        Ok(placement)
    }

    fn place(&self, position: DVec3) -> Result<DVec3> {
        let there = self.axes * position + self.origin;
        match &self.systems {
            None => Ok(there),
            Some((from, to)) => converted(from, to, there).map_err(|e| nowhere(self.crs, &e)),
        }
    }

    /// By differences over a metre both ways; normals go by the inverse transpose of what directions go by.
    fn turned_at(&self, middle: DVec3) -> Result<DMat3> {
        let along = |axis: DVec3| Ok(0.5 * (self.place(middle + axis)? - self.place(middle - axis)?));
        let directions = DMat3::from_cols(along(DVec3::X)?, along(DVec3::Y)?, along(DVec3::Z)?);
        Ok(directions.inverse().transpose())
    }
}

/// Geocentric axes of metres east, north and up of a place, as columns.
fn axes_at(latitude: f64, longitude: f64) -> DMat3 {
    let ((sin_b, cos_b), (sin_l, cos_l)) = (latitude.to_radians().sin_cos(), longitude.to_radians().sin_cos());
    DMat3::from_cols(
        DVec3::new(-sin_l, cos_l, 0.0),
        DVec3::new(-sin_b * cos_l, -sin_b * sin_l, cos_b),
        DVec3::new(cos_b * cos_l, cos_b * sin_l, sin_b),
    )
}

/// UTM's zone of WGS 84, by the longitude alone (degrees).
fn utm_zone(latitude: f64, longitude: f64) -> Crs {
    let zone = ((longitude + 180.0) / 6.0).floor().clamp(0.0, 59.0) as u16 + 1;
    Crs { code: if latitude < 0.0 { 32700 } else { 32600 } + zone }
}

fn converted(from: &Proj, to: &Proj, place: DVec3) -> std::result::Result<DVec3, String> {
    let found = transform_xyz(from, to, place.x, place.y, place.z).map_err(|e| e.to_string())?;
    let found = DVec3::from(found);
    if found.is_finite() { Ok(found) } else { Err("no finite coordinates".into()) }
}

/// Longitude and latitude in radians, height in metres (WGS 84).
fn degrees() -> Result<Proj> {
    let made = Proj::from_proj_string("+proj=longlat +datum=WGS84 +no_defs");
    made.map_err(|e| Error::Bug { place: "proj4rs", problem: e.to_string() })
}

fn system(crs: Crs) -> Result<Proj> {
    let Some(words) = crs.proj4() else { return Err(unknown(crs.code)) };
    Proj::from_proj_string(words).map_err(|e| {
        let found = format!("EPSG:{}, which cannot be computed here ({e})", crs.code);
        Error::input("--crs", found, INSTEAD)
    })
}

const INSTEAD: &str = "a system of the same datum, such as UTM's of WGS 84 (EPSG:32601 to 32760), or --crs scene";

fn unknown(code: u16) -> Error {
    Error::input("--crs", format!("EPSG:{code}, whose formula is not known here"), INSTEAD)
}

fn nowhere(crs: Crs, why: &str) -> Error {
    Error::input("--crs", format!("the scene has no place in EPSG:{} ({why})", crs.code), INSTEAD)
}
