//! Coordinate systems by their EPSG code: which of them may be that of a reconstruction.
//!
//! A reconstruction has one unit of length along three axes at right angles. That is so in a projected system and in
//! the geocentric one of WGS 84, not in a geographic one, whose axes count degrees.

/// The geocentric system of WGS 84 (ECEF).
const GEOCENTRIC: u16 = 4978;

/// First and last codes of projected systems. Between the two of a pair may be codes that stand for nothing, but none
/// of another kind of system (EPSG registry as of PROJ 9.5; tools/check_exports.py --crs compares it with pyproj's).
#[rustfmt::skip]
const PROJECTED: [(u16, u16); 201] = [
    (2000, 3816), (3825, 3854), (3857, 3885), (3890, 3893), (3907, 3997), (4026, 4026), (4037, 4038), (4048, 4051),
    (4056, 4071), (4082, 4096), (4217, 4217), (4390, 4439), (4455, 4457), (4462, 4462), (4467, 4467), (4471, 4471),
    (4474, 4474), (4484, 4489), (4491, 4554), (4559, 4589), (4647, 4656), (4766, 4800), (4812, 4812), (4822, 4822),
    (4826, 4880), (5014, 5130), (5167, 5188), (5221, 5225), (5234, 5235), (5243, 5243), (5247, 5247), (5253, 5259),
    (5266, 5316), (5320, 5321), (5325, 5331), (5337, 5337), (5343, 5349), (5355, 5357), (5361, 5362), (5367, 5367),
    (5382, 5389), (5396, 5396), (5456, 5463), (5466, 5466), (5469, 5482), (5490, 5490), (5513, 5523), (5530, 5539),
    (5550, 5552), (5559, 5559), (5562, 5589), (5596, 5596), (5623, 5627), (5629, 5680), (5682, 5685), (5700, 5700),
    (5825, 5825), (5836, 5842), (5844, 5844), (5858, 5858), (5875, 5880), (5887, 5940), (6050, 6129), (6141, 6141),
    (6200, 6204), (6210, 6307), (6312, 6316), (6328, 6348), (6350, 6356), (6362, 6362), (6366, 6637), (6646, 6646),
    (6669, 6692), (6703, 6703), (6707, 6738), (6784, 6870), (6875, 6880), (6884, 6887), (6915, 6915), (6922, 6925),
    (6931, 6933), (6956, 6966), (6984, 6984), (6991, 7007), (7057, 7070), (7074, 7082), (7109, 7132), (7142, 7370),
    (7374, 7376), (7528, 7645), (7692, 7696), (7755, 7787), (7791, 7795), (7799, 7805), (7825, 7831), (7845, 7878),
    (7882, 7883), (7887, 7887), (7899, 7899), (7991, 8036), (8044, 8045), (8058, 8083), (8088, 8088), (8090, 8226),
    (8311, 8348), (8352, 8353), (8379, 8395), (8433, 8433), (8441, 8441), (8455, 8540), (8677, 8682), (8686, 8687),
    (8692, 8693), (8826, 8840), (8857, 8859), (8903, 8903), (8908, 8910), (8950, 8951), (9039, 9040), (9141, 9141),
    (9149, 9150), (9154, 9159), (9191, 9222), (9249, 9250), (9252, 9252), (9254, 9254), (9265, 9265), (9271, 9273),
    (9284, 9285), (9295, 9297), (9300, 9300), (9311, 9311), (9354, 9360), (9367, 9367), (9373, 9373), (9377, 9377),
    (9387, 9387), (9391, 9391), (9404, 9407), (9456, 9456), (9473, 9473), (9476, 9498), (9549, 9549), (9674, 9674),
    (9678, 9680), (9697, 9699), (9709, 9709), (9712, 9713), (9716, 9716), (9741, 9741), (9748, 9749), (9761, 9761),
    (9766, 9766), (9793, 9865), (9869, 9869), (9874, 9880), (9895, 9895), (9943, 9943), (9945, 9947), (9967, 9967),
    (9972, 9972), (9977, 9977), (10160, 10160), (10183, 10183), (10188, 10188), (10194, 10194), (10199, 10199),
    (10207, 10207), (10212, 10212), (10217, 10217), (10222, 10222), (10227, 10227), (10235, 10235), (10240, 10240),
    (10250, 10250), (10254, 10254), (10258, 10258), (10262, 10262), (10266, 10266), (10270, 10270), (10275, 10275),
    (10280, 10280), (10285, 10291), (10306, 10306), (10314, 10317), (10329, 10329), (10448, 10465), (10471, 10471),
    (10477, 10481), (10516, 10516), (10592, 10603), (10622, 10622), (10626, 10626), (10632, 10632), (10665, 10665),
    (10674, 10674), (10731, 11118), (20002, 20002), (20004, 20032), (20042, 20042), (20047, 32766),
];

/// A coordinate system that a cloud may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crs {
    /// Its EPSG code.
    pub code: u16,
}

impl Crs {
    /// The geocentric one.
    pub const GEOCENTRIC: Self = Self { code: GEOCENTRIC };

    /// Of a code that a cloud may be in.
    pub fn of_code(code: u16) -> Option<Self> {
        let place = PROJECTED.partition_point(|&(_, last)| last < code);
        let is_projected = PROJECTED.get(place).is_some_and(|&(first, _)| first <= code);
        (is_projected || code == GEOCENTRIC).then_some(Self { code })
    }

    /// Its formula as PROJ has it, where the table of these has it.
    pub fn proj4(self) -> Option<&'static str> {
        crs_definitions::from_code(self.code).map(|definition| definition.proj4)
    }

    /// It in words (OGC's well-known text, version 1), where the table of these has it. The table's shifts to WGS 84
    /// are no part of the systems, and PROJ does not recognise these with them.
    pub fn wkt(self) -> Option<String> {
        let words = crs_definitions::from_code(self.code)?.wkt;
        let Some((before, shift)) = words.split_once(",TOWGS84[") else { return Some(words.to_owned()) };
        Some(before.to_owned() + shift.split_once(']')?.1)
    }

    /// Whether it is geocentric; else it is projected.
    pub fn is_geocentric(self) -> bool {
        self.code == GEOCENTRIC
    }
}

impl std::str::FromStr for Crs {
    type Err = String;

    /// `EPSG:n`.
    fn from_str(text: &str) -> Result<Self, String> {
        let code = text.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("epsg"));
        let Some(code) = code.and_then(|(_, code)| code.parse::<u16>().ok()) else {
            return Err("expected EPSG: and a number, such as EPSG:32632".into());
        };
        Self::of_code(code).ok_or_else(|| {
            "expected the code of a projected system, whose axes are lengths, such as EPSG:32632 (UTM), or EPSG:4978 \
             (geocentric); of a compound one, its horizontal part's"
                .into()
        })
    }
}

/// What `--crs` says of a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrsOption {
    /// The scene's own coordinates, whatever is known of them.
    Scene,
    /// This system.
    Of(Crs),
}

impl CrsOption {
    /// The system.
    pub fn code(self) -> Option<Crs> {
        match self {
            Self::Scene => None,
            Self::Of(crs) => Some(crs),
        }
    }
}

impl std::fmt::Display for CrsOption {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Scene => f.write_str("scene"),
            Self::Of(crs) => write!(f, "EPSG:{}", crs.code),
        }
    }
}

impl std::str::FromStr for CrsOption {
    type Err = String;

    /// `EPSG:n`, or `scene`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("scene") { Ok(Self::Scene) } else { text.parse().map(Self::Of) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_systems_with_lengths_along_their_axes_are_taken() {
        // UTM 32N of WGS 84 and of ETRS89, Gauss-Krueger zone 3, Lambert 93, Web Mercator, British grid, Swiss LV95.
        for code in [32632, 25832, 31467, 2154, 3857, 27700, 2056, 4978] {
            assert_eq!(format!("EPSG:{code}").parse(), Ok(Crs { code }));
            let words = Crs { code }.wkt().unwrap();
            let kind = if code == 4978 { "GEOCCS[" } else { "PROJCS[" };
            assert!(!words.contains("TOWGS84") && words.matches('[').count() == words.matches(']').count(), "{words}");
            assert!(words.starts_with(kind) && words.ends_with(&format!("AUTHORITY[\"EPSG\",\"{code}\"]]")), "{words}");
        }
        // Geographic (WGS 84, ETRS89, NAD83), 3D, another geocentric, vertical, compound, none.
        for bad in ["4326", "4258", "4269", "4979", "4936", "5783", "5555", "0", "65535", "70000", "x", ""] {
            assert!(format!("EPSG:{bad}").parse::<Crs>().is_err(), "{bad}");
        }
        assert!("32632".parse::<Crs>().is_err());
        assert!(PROJECTED.windows(2).all(|w| w[0].0 <= w[0].1 && w[0].1 < w[1].0));
        assert!("epsg:4978".parse::<Crs>().unwrap().is_geocentric());
    }
}
