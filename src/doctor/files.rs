//! The scene as its files give it: which layout, how depth numbers were read, and what keeps it from being read at all.

use std::path::Path;

use serde_json::json;

use super::finding::{Finding, Grade, counted_views, names};
use crate::error::{Error, counted};
use crate::files::input;
use crate::scene::colmap::scene::{self, ImageSize};
use crate::scene::{OpenOptions, Scene};

/// Sizes count as the same shape within this share: photos that were reduced have rounded sides.
const SAME_SHAPE: f64 = 0.01;

/// A refusal of another part of the program, as a finding.
pub fn refused(check: &'static str, name: &'static str, error: &Error) -> Finding {
    match error {
        Error::Input { place, found, expected } => {
            let found = format!("{place}: {found}");
            Finding::new(Grade::Problem, check, name, found, expected.clone(), "")
        }
        other => Finding::new(Grade::Problem, check, name, other.to_string(), "", ""),
    }
}

/// A scene that could not be opened: why, and where sizes differ in a way that has a name, which.
pub fn unreadable(path: &Path, options: &OpenOptions, error: &Error, findings: &mut Vec<Finding>) {
    let text = error.to_string();
    let name = if text.contains("determinant -1") { "mirrored-camera" } else { "unreadable" };
    let mut finding = refused("files", name, error);
    if name == "mirrored-camera" {
        finding.advice = "an axis was negated alone, or the handedness changed: negate two axes, or none".into();
    }
    findings.push(finding);
    // A scene without a model, or one that cannot be read, has no sizes to compare.
    let Ok(sizes) = scene::sizes(path, options) else { return };
    let wrong: Vec<&ImageSize> = sizes.iter().filter(|s| real(s.camera) != real2(s.photo)).collect();
    let Some(first) = wrong.first() else { return };
    let list: Vec<String> = wrong.iter().map(|s| s.name.clone()).collect();
    let ((cw, ch), (pw, ph)) = (real(first.camera), real2(first.photo));
    let of = counted_views(&list, sizes.len());
    let numbers = json!({ "camera": [cw, ch], "photo": [pw, ph] });
    let (sx, sy) = (cw / pw, ch / ph);
    let (name, found, advice) = if (cw, ch) == (ph, pw) {
        (
            "swapped-sides",
            format!(
                "{of}: the camera is for {cw} x {ch} pixels, the photo has {pw} x {ph}: width and height are swapped"
            ),
            "exchange width and height in cameras.txt, or turn the photos back as COLMAP saw them",
        )
    } else if (sx / sy - 1.0).abs() < SAME_SHAPE {
        (
            "scaled-intrinsics",
            format!(
                "{of}: the cameras are for photos {sx:.3} times as large as these ({cw} x {ch} against {pw} x {ph})"
            ),
            "use the photos that the model was made with, or scale width, height, focal length and principal point \
             with the photos",
        )
    } else {
        (
            "other-shape",
            format!("{of}: the camera is for {cw} x {ch} pixels, the photo has {pw} x {ph}"),
            "the photos were cropped or exchanged: use those that the model was made with",
        )
    };
    let finding = Finding::new(Grade::Problem, "sizes", name, found, "cameras for the stored photos", advice);
    findings.push(finding.of_views(list).with(numbers));
}

fn real((width, height): (u64, u64)) -> (f64, f64) {
    (width as f64, height as f64)
}

fn real2((width, height): (usize, usize)) -> (f64, f64) {
    (width as f64, height as f64)
}

/// Layout, what was assumed on reading, and whether the photos are all alike.
pub fn check(scene: &Scene, findings: &mut Vec<Finding>) {
    let (_, layout) = scene.layout.names();
    findings.push(
        Finding::ok(
            "layout",
            "layout",
            format!(
                "{layout}: {}, {}",
                counted(scene.views.len(), "view"),
                counted(scene.points.len(), "sparse point")
            ),
        )
        .with(json!({ "layout": scene.layout, "views": scene.views.len(), "points": scene.points.len() })),
    );
    for note in &scene.notes {
        let finding = match note.contains("depth numbers") {
            // Two numbers may mean two things, three and four only one.
            true if note.contains("assumed") => Finding::new(
                Grade::Note,
                "cam.txt",
                "depth-numbers",
                note.clone(),
                "",
                "--depth-numbers max or interval says which it is",
            ),
            true => Finding::ok("cam.txt", "depth-numbers", note.clone()),
            false => Finding::new(Grade::Note, "layout", "assumed", note.clone(), "", ""),
        };
        findings.push(finding);
    }
    let mut sizes: Vec<(usize, usize)> = scene.views.iter().map(|v| v.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let list: Vec<String> = sizes.iter().map(|(w, h)| format!("{w} x {h}")).collect();
    findings.push(match &list[..] {
        [one] => Finding::ok("sizes", "sizes", format!("all photos are {one}")),
        _ => {
            let found = format!("photos of {} sizes: {}", sizes.len(), names(&list));
            Finding::new(Grade::Note, "sizes", "several-sizes", found, "", "")
        }
    });
    identical_photos(scene, findings);
}

/// Photos with the same bytes under different cameras: one of the cameras is wrong.
fn identical_photos(scene: &Scene, findings: &mut Vec<Finding>) {
    let mut by_length: std::collections::BTreeMap<u64, Vec<usize>> = Default::default();
    let mut files = std::collections::BTreeSet::new();
    // Faces of one photo share it rightly.
    for (i, view) in scene.views.iter().enumerate().filter(|(_, view)| files.insert(&view.image)) {
        if let Ok(data) = view.image.metadata() {
            by_length.entry(data.len()).or_default().push(i);
        }
    }
    for alike in by_length.into_values().filter(|alike| alike.len() > 1) {
        let read = |i: usize| input::read(&scene.views[i].image, "read the photo").ok();
        let Some(first) = read(alike[0]) else { continue };
        let same: Vec<usize> = alike[1..].iter().copied().filter(|&i| read(i).as_ref() == Some(&first)).collect();
        if same.is_empty() {
            continue;
        }
        let views: Vec<String> = alike[..1].iter().chain(&same).map(|&i| scene.views[i].name.clone()).collect();
        findings.push(
            Finding::new(
                Grade::Problem,
                "photos",
                "identical-photos",
                format!("views {} have the very same photo", names(&views)),
                "another photo for each camera",
                "remove the copies with their cameras, or put the right photos in their place",
            )
            .of_views(views),
        );
    }
}
