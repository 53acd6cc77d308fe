//! Photos that see too much for one pinhole image, as panoramas and wide fisheyes do, cut into faces of a cube around
//! their camera: views of their own, named NAME@front and so on.
//!
//! A face has as many pixels for a degree in its middle as the photo has in its own, goes some degrees beyond the
//! cube's, so that what lies on an edge is seen whole by one of them, and is cropped to what the photo shows of it.
//! Faces of one photo have one place: they never are each other's source views.

use std::collections::{HashMap, HashSet};

use glam::{DMat3, DVec2, DVec3};
use rayon::prelude::*;

use crate::Result;
use crate::error::counted;
use crate::files::map::Map;
use crate::scene::camera::Camera;
use crate::scene::lens::{Face, Lens};
use crate::scene::photo::alpha_at;
use crate::scene::{Scene, ScenePoint, SourceView, View, mask_files};

/// Of a scene with faces the ids are this many times those of its photos, and the face's number more.
pub const IDS: u32 = 8;
/// Half the angle that a face sees: 5 degrees beyond the cube's on each side. What lies there is seen by two faces,
/// and a surface that runs over an edge is matched by windows that do not end at it.
const HALF_ANGLE: f64 = 50.0;
/// Half the angle of the cube's face itself. These cover all directions without overlap.
const CORE: f64 = 45.0;
/// A face is left out where the photo, or its mask, shows less than this share of the cube's face itself.
const LEAST_SHARE: f64 = 0.01;
/// What a face shows is asked at so many places along its side.
const SAMPLES: usize = 256;
/// Sides of faces are multiples of this, as the network's feature maps want them.
const STEP: usize = 4;
/// A listed source photo serves a face by its faces that look less than this off the same way.
const SAME_WAY: f64 = 60.0;

/// A face as it is cut out of photos of a lens.
#[derive(Clone)]
struct Cut {
    lens: Lens,
    size: (usize, usize),
}

impl Scene {
    /// Makes views of the faces of every photo whose lens [`Lens::is_wide`], with a note. The points' tracks are given
    /// to the faces that see them, source views to faces that look the same way.
    ///
    /// # Errors
    /// A mask that cannot be read.
    pub(super) fn cut_into_faces(&mut self) -> Result<()> {
        let is_wide = |view: &View| view.lens.as_ref().is_some_and(Lens::is_wide);
        if !self.views.iter().any(is_wide) {
            return Ok(());
        }
        if self.views.iter().any(|view| view.id > u32::MAX / IDS - 1) {
            self.notes
                .push("the photos' ids are too large to number faces by them: photos are numbered from 0 on".into());
            self.views.iter_mut().enumerate().for_each(|(i, view)| view.id = i as u32);
        }
        let mut cuts: HashMap<String, Vec<Cut>> = HashMap::new();
        let key = |lens: &Lens| format!("{:?} {:?} {:?}", lens.distortion, lens.stored_k, lens.stored_size);
        for lens in self.views.iter().filter(|view| is_wide(view)).filter_map(|view| view.lens.as_ref()) {
            cuts.entry(key(lens)).or_insert_with(|| cuts_of(lens));
        }
        let of_view = |view: &View| -> Result<Vec<View>> {
            let Some(lens) = view.lens.as_ref().filter(|lens| lens.is_wide()) else {
                return Ok(vec![View { id: view.id * IDS, ..view.clone() }]);
            };
            let cuts = cuts.get(&key(lens)).map_or(&[][..], Vec::as_slice);
            let mask = view.mask.as_ref().map(|mask| mask_files::read(mask, lens.stored_size)).transpose()?;
            let shown = cuts.iter().filter(|cut| mask.as_ref().is_none_or(|mask| cut.is_shown(Some(mask))));
            Ok(shown.map(|cut| cut.view(view)).collect())
        };
        let parts: Vec<Result<Vec<View>>> = self.views.par_iter().map(of_view).collect();
        let parts: Vec<Vec<View>> = parts.into_iter().collect::<Result<_>>()?;
        self.note_faces(&parts);
        let mut places = Vec::with_capacity(parts.len());
        let mut count = 0;
        for part in &parts {
            places.push((count..count + part.len()).collect::<Vec<usize>>());
            count += part.len();
        }
        let sources: Vec<Vec<SourceView>> = self
            .views
            .iter()
            .zip(&parts)
            .flat_map(|(photo, faces)| faces.iter().map(|face| sources_of(face, &photo.sources, &parts, &places)))
            .collect();
        self.views = parts.into_iter().flatten().collect();
        for (view, sources) in self.views.iter_mut().zip(sources) {
            view.sources = sources;
        }
        self.name_faces();
        let views = &self.views;
        self.points.par_iter_mut().for_each(|point| give_to_faces(point, &places, views));
        self.points.retain(|point| !point.views.is_empty());
        Ok(())
    }

    /// Takes care that the names stay unique: a photo may be called as a face is.
    fn name_faces(&mut self) {
        let photos = self.views.iter().filter(|view| view.face().is_none());
        let mut taken: HashSet<String> = photos.map(|view| view.name.to_lowercase()).collect();
        for view in self.views.iter_mut().filter(|view| view.face().is_some()) {
            while !taken.insert(view.name.to_lowercase()) {
                view.name.push('_');
            }
        }
    }

    fn note_faces(&mut self, parts: &[Vec<View>]) {
        let cut: Vec<(&View, &Vec<View>)> =
            self.views.iter().zip(parts).filter(|(view, _)| view.lens.as_ref().is_some_and(Lens::is_wide)).collect();
        let faces: usize = cut.iter().map(|(_, faces)| faces.len()).sum();
        let largest = cut.iter().flat_map(|(_, faces)| faces.iter()).map(|face| face.size).max().unwrap_or_default();
        let masked: usize = cut.iter().filter(|(view, _)| view.mask.is_some()).map(|(_, faces)| 6 - faces.len()).sum();
        let mut notes = vec![format!(
            "{} that one pinhole image cannot hold (panoramas, wide fisheyes): cut into {} of up to {} x {} pixels and \
             {:.0} degrees, NAME@front and so on, each of which decodes the photo anew; faces of one photo are no \
             source views of each other, since they have no baseline",
            counted(cut.len(), "photo"),
            counted(faces, "view"),
            largest.0,
            largest.1,
            2.0 * HALF_ANGLE
        )];
        if masked > 0 {
            notes.push(format!("{} that lie outside of the photo or its mask left out", counted(masked, "face")));
        }
        if let Some((first, _)) = cut.iter().find(|(_, faces)| faces.is_empty()) {
            notes.push(format!("nothing of photo {} is left by its mask", first.name));
        }
        self.notes.append(&mut notes);
    }
}

/// The faces of a lens's photos, those that show nothing left out.
fn cuts_of(lens: &Lens) -> Vec<Cut> {
    Face::ALL.into_iter().filter_map(|face| Cut::new(lens, face)).collect()
}

impl Cut {
    /// `None` where the photo shows too little of it.
    fn new(lens: &Lens, face: Face) -> Option<Self> {
        let focal = lens.pixels_a_radian();
        let side = (2.0 * focal * HALF_ANGLE.to_radians().tan()).ceil() as usize;
        let side = side.max(STEP).next_multiple_of(STEP);
        let middle = 0.5 * (side as f64 - 1.0);
        let k = |x: usize, y: usize| {
            let principal = DVec3::new(middle - x as f64, middle - y as f64, 1.0);
            DMat3::from_cols(DVec3::X * focal, DVec3::Y * focal, principal)
        };
        let mut cut = Self { lens: lens.clone(), size: (side, side) };
        (cut.lens.pinhole_k, cut.lens.face) = (k(0, 0), Some(face));
        if !cut.is_shown(None) {
            return None;
        }
        if lens.sees_all() {
            return Some(cut);
        }
        // Cropped to what the photo shows, and a step of the samples more on each side.
        let mut shown: Option<[usize; 4]> = None;
        for (x, y) in cut.samples().filter(|&(x, y)| cut.stored(x, y).is_some()) {
            let [left, top, right, bottom] = shown.unwrap_or([x, y, x, y]);
            shown = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
        }
        let [left, top, right, bottom] = shown?;
        let more = side.div_ceil(SAMPLES);
        let low = |at: usize| at.saturating_sub(more) / STEP * STEP;
        let high = |at: usize| (at + more + 1).next_multiple_of(STEP).min(side);
        let (left, top, right, bottom) = (low(left), low(top), high(right), high(bottom));
        cut.lens.pinhole_k = k(left, top);
        cut.size = (right - left, bottom - top);
        Some(cut)
    }

    /// Some pixels, evenly spaced.
    fn samples(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (width, height) = self.size;
        let step = width.max(height).div_ceil(SAMPLES);
        let along = move |side: usize| (0..side).step_by(step).chain([side - 1]);
        along(height).flat_map(move |y| along(width).map(move |x| (x, y)))
    }

    fn stored(&self, x: usize, y: usize) -> Option<DVec2> {
        self.lens.stored_pixel(DVec2::new(x as f64, y as f64))
    }

    /// Whether the photo, and the mask on it, show enough of the cube's face itself.
    fn is_shown(&self, mask: Option<&Map>) -> bool {
        let k = &self.lens.pinhole_k;
        let half = k.x_axis.x * CORE.to_radians().tan();
        let is_core =
            |&(x, y): &(usize, usize)| (x as f64 - k.z_axis.x).abs() <= half && (y as f64 - k.z_axis.y).abs() <= half;
        let shows = |&(x, y): &(usize, usize)| {
            self.stored(x, y).is_some_and(|stored| mask.is_none_or(|mask| alpha_at(mask, stored) > 0.0))
        };
        let (mut all, mut shown) = (0usize, 0usize);
        for place in self.samples().filter(is_core) {
            all += 1;
            shown += usize::from(shows(&place));
        }
        shown as f64 >= LEAST_SHARE * all.max(1) as f64
    }

    /// The face of a photo. Depths that the photo's files give are along another axis, and are not the face's.
    fn view(&self, photo: &View) -> View {
        let Some(face) = self.lens.face else { return photo.clone() };
        let turn = face.turn().transpose();
        View {
            id: photo.id * IDS + 1 + face as u32,
            name: format!("{}@{}", photo.name, face.name()),
            size: self.size,
            camera: Camera { k: self.lens.pinhole_k, r: turn * photo.camera.r, t: turn * photo.camera.t },
            lens: Some(self.lens.clone()),
            range: None,
            sweep: None,
            ..photo.clone()
        }
    }
}

/// What a face, or a whole photo, has of the source views that its photo has: of photos the faces that look the same
/// way, as far as they do.
fn sources_of(view: &View, of_photo: &[SourceView], parts: &[Vec<View>], places: &[Vec<usize>]) -> Vec<SourceView> {
    let ahead = view.camera.r.row(2);
    let mut sources: Vec<SourceView> = Vec::new();
    for source in of_photo {
        for (other, &place) in parts[source.view].iter().zip(&places[source.view]) {
            let facing = ahead.dot(other.camera.r.row(2));
            if view.face().is_none() && other.face().is_none() {
                sources.push(SourceView { view: place, score: source.score });
            } else if facing > SAME_WAY.to_radians().cos() {
                sources.push(SourceView { view: place, score: source.score * facing });
            }
        }
    }
    sources.sort_by(|a, b| b.score.total_cmp(&a.score));
    sources
}

/// Replaces the photos that see a point by their faces that do.
fn give_to_faces(point: &mut ScenePoint, places: &[Vec<usize>], views: &[View]) {
    let of_photo = point.views.iter().flat_map(|&photo| {
        let shows = |&place: &usize| views[place].face().is_none() || views[place].shows(point.position);
        places[photo].iter().copied().filter(shows)
    });
    point.views = of_photo.collect();
}
