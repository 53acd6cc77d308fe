//! A picture cut into squares, each with the objects that may cover it, so that a ray is tested only against these.
//!
//! The picture is a camera's ([`super::sight`]) or the lamp's ([`super::shadows`]); objects are known by their outlines
//! in it, which may be too large but never too small.

use glam::DVec2;

/// What an object covers of a picture.
pub enum Outline {
    /// Perhaps everything.
    Everywhere,
    /// At most this convex polygon, its corners in order so that the inside is on the left.
    Hull(Vec<DVec2>),
}

impl Outline {
    /// The convex hull of some points (Andrew's monotone chain).
    pub fn around(mut points: Vec<DVec2>) -> Self {
        if !points.iter().all(|p| p.is_finite()) {
            return Self::Everywhere;
        }
        points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
        let mut hull: Vec<DVec2> = Vec::with_capacity(2 * points.len());
        let mut chain = |points: &mut dyn Iterator<Item = &DVec2>| {
            let start = hull.len();
            for &p in points {
                while hull.len() >= start + 2 {
                    let (a, b) = (hull[hull.len() - 2], hull[hull.len() - 1]);
                    if (b - a).perp_dot(p - b) > 0.0 {
                        break;
                    }
                    hull.pop();
                }
                hull.push(p);
            }
            // The last point is the other chain's first.
            hull.pop();
        };
        chain(&mut points.iter());
        chain(&mut points.iter().rev());
        Self::Hull(hull)
    }

    /// Whether the rectangle may touch it: false only where a side of either parts them.
    fn touches(&self, low: DVec2, high: DVec2) -> bool {
        let Self::Hull(hull) = self else { return true };
        hull.iter().zip(hull.iter().cycle().skip(1)).all(|(&a, &b)| {
            let side = b - a;
            // The corner of the rectangle that lies farthest to the left of the side.
            let corner =
                DVec2::new(if side.y > 0.0 { low.x } else { high.x }, if side.x > 0.0 { high.y } else { low.y });
            side.perp_dot(corner - a) >= 0.0
        })
    }
}

/// A picture cut into squares, each with the objects that may cover it.
#[derive(Clone, Debug)]
pub struct Squares {
    low: DVec2,
    /// Squares a unit.
    scale: DVec2,
    columns: usize,
    rows: usize,
    /// Where each square's objects begin in `objects`; one more than squares.
    starts: Vec<u32>,
    objects: Vec<u32>,
}

impl Squares {
    /// `columns` x `rows` squares of `side` from `low` on; the objects of each square are in the order of `outlines`.
    pub fn new(low: DVec2, side: DVec2, columns: usize, rows: usize, outlines: &[(u32, Outline)]) -> Self {
        // Far more than the rounding of outlines and places.
        let margin = 0.01 * side;
        let mut starts = Vec::with_capacity(columns * rows + 1);
        let mut objects = Vec::with_capacity(4 * columns * rows);
        let reach: Vec<(DVec2, DVec2)> = outlines
            .iter()
            .map(|(_, outline)| match outline {
                Outline::Everywhere => (DVec2::NEG_INFINITY, DVec2::INFINITY),
                Outline::Hull(hull) => {
                    hull.iter().fold((DVec2::INFINITY, DVec2::NEG_INFINITY), |(l, h), &p| (l.min(p), h.max(p)))
                }
            })
            .collect();
        for i in 0..columns * rows {
            starts.push(objects.len() as u32);
            let from = low + side * DVec2::new((i % columns) as f64, (i / columns) as f64) - margin;
            let to = from + side + 2.0 * margin;
            for ((object, outline), (least, most)) in outlines.iter().zip(&reach) {
                if least.cmple(to).all() && most.cmpge(from).all() && outline.touches(from, to) {
                    objects.push(*object);
                }
            }
        }
        starts.push(objects.len() as u32);
        Self { low, scale: side.recip(), columns, rows, starts, objects }
    }

    /// The objects that may cover a place; beyond the squares those of the nearest square.
    #[inline]
    pub fn at(&self, place: DVec2) -> &[u32] {
        let square = (place - self.low) * self.scale;
        // Casts cut off what is negative.
        let (x, y) = ((square.x as usize).min(self.columns - 1), (square.y as usize).min(self.rows - 1));
        let i = y * self.columns + x;
        &self.objects[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}
