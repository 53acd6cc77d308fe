//! Where a scene's coordinates lie on earth, as far as its files say.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What the coordinates of a scene are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Georeference {
    /// Metres east, north and up of a place (topocentric coordinates).
    Local {
        /// Degrees, WGS 84.
        latitude: f64,
        /// Degrees, WGS 84.
        longitude: f64,
        /// Metres above the ellipsoid.
        altitude: f64,
    },
    /// Metres from the earth's centre (EPSG:4978), of a project that has its results in a system of its own.
    Geocentric {
        /// That system's EPSG code, where it is known.
        epsg: Option<u16>,
    },
    /// Those of a projected system, less an offset.
    Projected {
        /// The system's EPSG code.
        epsg: u16,
        /// The offset, to be added.
        offset: [f64; 3],
    },
}

impl Georeference {
    /// Around a place.
    ///
    /// # Errors
    /// Numbers that are no place on earth.
    pub fn local(place: &str, [latitude, longitude, altitude]: [f64; 3]) -> Result<Self> {
        let is_place = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && altitude.is_finite();
        if !is_place {
            let found = format!("latitude {latitude}, longitude {longitude}, altitude {altitude}");
            let expected = "degrees from -90 to 90 and from -180 to 180, and metres";
            return Err(Error::input(place, found, expected));
        }
        Ok(Self::Local { latitude, longitude, altitude })
    }

    /// For a note.
    pub fn in_words(&self) -> String {
        match self {
            Self::Local { latitude, longitude, altitude } => {
                format!("metres east, north and up of latitude {latitude}, longitude {longitude}, altitude {altitude}")
            }
            Self::Geocentric { epsg: None } => "geocentric (EPSG:4978)".to_owned(),
            Self::Geocentric { epsg: Some(epsg) } => format!("geocentric (EPSG:4978), of a project in EPSG:{epsg}"),
            Self::Projected { epsg, offset: [x, y, z] } => format!("those of EPSG:{epsg} less {x} {y} {z}"),
        }
    }
}

/// The EPSG code of a system in words (WKT 1 or 2): what the outermost of its brackets ends with; or of `EPSG:n`, of
/// which a vertical system may follow after a plus.
pub fn epsg_of_words(words: &str) -> Option<u16> {
    if let Some((authority, code)) = words.split_once(':').filter(|_| !words.contains('[')) {
        let code = code.split('+').next()?.trim().parse().ok();
        return code.filter(|_| authority.trim().eq_ignore_ascii_case("EPSG"));
    }
    let last = words.trim_end().strip_suffix(']')?.trim_end();
    let (before, code) = last.rsplit_once('[')?;
    let name = before.rsplit(|c: char| c == ',' || c == '[' || c.is_whitespace()).next()?;
    let code = code.strip_suffix(']').filter(|_| matches!(name, "AUTHORITY" | "ID"))?;
    let (authority, code) = code.split_once(',')?;
    let is_epsg = authority.trim().trim_matches('"').eq_ignore_ascii_case("EPSG");
    is_epsg.then(|| code.trim().trim_matches('"').parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_whole_system() {
        for (words, code) in [
            (r#"PROJCS["a",GEOGCS["b",AUTHORITY["EPSG","4326"]],AUTHORITY["EPSG","32632"]]"#, Some(32632)),
            (r#"PROJCRS["a", BASEGEOGCRS["b", ID["EPSG",4326]], ID["EPSG", 32616] ] "#, Some(32616)),
            (r#"PROJCS["a",GEOGCS["b",AUTHORITY["EPSG","4326"]],UNIT["metre",1]]"#, None),
            (r#"LOCAL_CS["Local Coordinates (m)",UNIT["metre",1,AUTHORITY["EPSG","9001"]]]"#, None),
            (r#"GEOGCS["a",AUTHORITY["ESRI","104000"]]"#, None),
            ("", None),
            ("]", None),
            ("EPSG:32632", Some(32632)),
            ("epsg:2056+5728", Some(2056)),
            ("ESRI:102100", None),
            ("WGS 84", None),
        ] {
            assert_eq!(epsg_of_words(words), code, "{words}");
        }
    }
}
