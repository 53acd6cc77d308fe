//! K against the photo: the principal point says how large the photo is that K was made for.

use serde_json::json;

use super::finding::{Finding, Grade, counted_views};
use crate::scene::{Scene, View};

/// K belongs to another size where both sides say so by more than this share: photos are cropped by less (DTU: 1 %),
/// and the principal points of real lenses lie within some 5 % of the middle.
const OTHER_SIZE: f64 = 0.2;
/// Both sides tell the same scale within this share.
const SAME_SCALE: f64 = 0.12;
/// A principal point further from the middle than this share of the side is unusual, though a crop can do it.
const OFF_CENTRE: f64 = 0.1;
/// Opening angles across the photo, in degrees, beyond which a focal length is more likely wrong than real.
const OPENING: (f64, f64) = (4.0, 130.0);
/// Pixels that are not square by more than this share: sensors have square ones, so that the photo was stretched.
const NOT_SQUARE: f64 = 0.02;

/// What K says about a photo.
struct Seen {
    /// Implied width by width, implied height by height: an implied side is twice the principal point's distance from
    /// it.
    implied: (f64, f64),
    /// The same against the other side.
    crossed: (f64, f64),
    opening_degrees: f64,
    aspect: f64,
}

fn seen(view: &View) -> Seen {
    let k = view.camera.k;
    let (width, height) = (view.size.0 as f64, view.size.1 as f64);
    // Pixel centres are integers: the middle of n pixels is (n - 1) / 2.
    let (w, h) = (2.0 * k.z_axis.x + 1.0, 2.0 * k.z_axis.y + 1.0);
    Seen {
        implied: (w / width, h / height),
        crossed: (w / height, h / width),
        opening_degrees: 2.0 * (0.5 * width / k.x_axis.x).atan().to_degrees(),
        aspect: k.x_axis.x / k.y_axis.y,
    }
}

/// The scale that both sides agree on, where they do.
fn common((x, y): (f64, f64)) -> Option<f64> {
    (x > 0.0 && y > 0.0 && (x / y - 1.0).abs() < SAME_SCALE).then(|| (x * y).sqrt())
}

/// Looks at every K.
pub fn check(scene: &Scene, findings: &mut Vec<Finding>) {
    let all = scene.views.len();
    let (mut scaled, mut swapped, mut off, mut opening, mut stretched) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // Faces have a K of the program's own, with the principal point where the face was cropped.
    for view in scene.views.iter().filter(|view| view.face().is_none()) {
        let seen = seen(view);
        let name = view.name.clone();
        let is_one = |s: f64| (s - 1.0).abs() <= OTHER_SIZE;
        let square = view.size.0 == view.size.1;
        let ((x, y), crossed) = (seen.implied, common(seen.crossed));
        if let Some(scale) = common(seen.implied).filter(|&s| !is_one(s)) {
            scaled.push((name, scale));
        } else if !square && crossed.is_some_and(is_one) && !(is_one(x) && is_one(y)) {
            swapped.push(name);
        } else if (x - 1.0).abs().max((y - 1.0).abs()) > 2.0 * OFF_CENTRE {
            off.push((name, (x - 1.0) / 2.0, (y - 1.0) / 2.0));
        }
        if !(OPENING.0..=OPENING.1).contains(&seen.opening_degrees) {
            opening.push((view.name.clone(), seen.opening_degrees));
        }
        if (seen.aspect - 1.0).abs() > NOT_SQUARE {
            stretched.push((view.name.clone(), seen.aspect));
        }
    }
    let before = findings.len();
    let mut push = |grade, name, found, expected: &str, advice: String, views: Vec<String>, numbers| {
        let finding = Finding::new(grade, "intrinsics", name, found, expected, advice);
        findings.push(finding.of_views(views).with(numbers));
    };
    if let Some(&(_, scale)) = scaled.first() {
        let views: Vec<String> = scaled.iter().map(|(name, _)| name.clone()).collect();
        let (width, height) = scene.views.iter().find(|v| v.name == views[0]).map_or((0, 0), |v| v.size);
        let (w, h) = (scale * width as f64, scale * height as f64);
        push(
            Grade::Problem,
            "scaled-intrinsics",
            format!(
                "{}: the principal point is the middle of a photo of about {w:.0} x {h:.0}, {scale:.3} times the \
                 stored {width} x {height}",
                counted_views(&views, all)
            ),
            "K for the stored photos, in pixels",
            format!("multiply the first two rows of K by {:.4}, or use photos of the size that K is for", 1.0 / scale),
            views,
            json!({ "scale": scale }),
        );
    }
    if !swapped.is_empty() {
        push(
            Grade::Problem,
            "swapped-sides",
            format!(
                "{}: the principal point is the middle of the photo only if width and height are exchanged",
                counted_views(&swapped, all)
            ),
            "cx near half the width and cy near half the height",
            "exchange fx with fy and cx with cy, or turn the photos as they were calibrated (EXIF rotation is not \
             applied)"
                .into(),
            swapped,
            json!(null),
        );
    }
    if let Some((_, x, y)) = off.first() {
        let views: Vec<String> = off.iter().map(|(name, ..)| name.clone()).collect();
        push(
            Grade::Warning,
            "off-centre",
            format!(
                "{}: the principal point is {:.0} % of the width and {:.0} % of the height from the middle",
                counted_views(&views, all),
                100.0 * x,
                100.0 * y
            ),
            "a principal point near the middle, unless the photos were cropped on one side",
            "check that cx and cy were shifted with the crop".into(),
            views,
            json!({ "x": x, "y": y }),
        );
    }
    if let Some(&(_, degrees)) = opening.first() {
        let views: Vec<String> = opening.iter().map(|(name, _)| name.clone()).collect();
        push(
            Grade::Warning,
            "focal-length",
            format!("{}: the focal length gives an opening of {degrees:.1} degrees", counted_views(&views, all)),
            "4 to 130 degrees",
            "give focal lengths in pixels of the stored photo, not in millimetres or as shares of the width".into(),
            views,
            json!({ "degrees": degrees }),
        );
    }
    if let Some(&(_, aspect)) = stretched.first() {
        let views: Vec<String> = stretched.iter().map(|(name, _)| name.clone()).collect();
        push(
            Grade::Warning,
            "not-square",
            format!("{}: fx / fy is {aspect:.3}", counted_views(&views, all)),
            "square pixels",
            "check that both were scaled by their own side's ratio, and that the photos were not stretched".into(),
            views,
            json!({ "aspect": aspect }),
        );
    }
    if findings.len() == before {
        let degrees: Vec<f64> = scene.views.iter().map(|v| seen(v).opening_degrees).collect();
        let (least, most) = degrees.iter().fold((f64::MAX, 0f64), |(a, b), &d| (a.min(d), b.max(d)));
        findings.push(
            Finding::ok(
                "intrinsics",
                "intrinsics",
                format!("K fits the photos of all {all} views; they open {least:.0} to {most:.0} degrees across"),
            )
            .with(json!({ "least_degrees": least, "most_degrees": most })),
        );
    }
}
