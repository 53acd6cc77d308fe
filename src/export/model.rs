//! COLMAP's sparse model, binary and text: `cameras`, `images` and `points3D`.
//!
//! One PINHOLE camera a view, of its maps' size; COLMAP's pixel centres lie at halves. Image and camera numbers are the
//! view's place in the run, from 1. A point's observations are its projections into the views that see it ([`tracks`]);
//! its error is -1, which stands for unknown.
//!
//! [`tracks`]: crate::export::tracks

use std::io::Write;

use glam::{DQuat, DVec3};

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::export::tracks::Tracks;
use crate::files::ply::Point;
use crate::scene::camera::Camera;

/// COLMAP's number of the model PINHOLE.
const PINHOLE: i32 = 1;
/// No reprojection error is known.
const NO_ERROR: f64 = -1.0;
/// Cameras that lie further from the origin than so many times their own spread are moved near it.
const MOST_SPREADS: f64 = 100.0;
/// Beside the focal length, a skew of more is told.
const LEAST_SKEW: f64 = 1e-9;

/// The images of a model, near the origin.
pub struct Model {
    /// One a view.
    pub images: Vec<Image>,
    /// What was taken from the world's coordinates.
    pub origin: DVec3,
}

/// One of them.
pub struct Image {
    /// The photo's file name.
    pub name: String,
    /// Width and height.
    pub size: (usize, usize),
    /// Its camera, [`Model::origin`] being the world's origin; pixel centres are integers.
    pub camera: Camera,
}

impl Model {
    /// Of the run's views. Programs that load such models compute in floats: where the cameras lie far from the origin
    /// they are moved by whole numbers, which is told.
    pub fn new(job: &Job) -> Self {
        let views = &job.results.views;
        let centres: Vec<DVec3> = views.iter().map(|view| view.camera.centre()).collect();
        let mean = centres.iter().sum::<DVec3>() / centres.len() as f64;
        let spread = centres.iter().map(|centre| centre.distance(mean)).fold(0.0, f64::max);
        let origin = if mean.length() > MOST_SPREADS * spread { mean.round() } else { DVec3::ZERO };
        if origin != DVec3::ZERO {
            let DVec3 { x, y, z } = origin;
            job.note(format!(
                "cameras, points and clouds in COLMAP's files have coordinates less {x} {y} {z}, since programs that \
                 read them compute in floats: add it to get the scene's"
            ));
        }
        let extension = job.options.photos.extension();
        let image = |view: &crate::export::results::ResultView| {
            let Camera { k, r, t } = view.camera;
            if k.y_axis.x.abs() > LEAST_SKEW * k.x_axis.x.abs() {
                job.note(format!("view {}: its camera's skew is left out: PINHOLE has none", view.name));
            }
            let camera = Camera { k, r, t: t + r * origin };
            Image { name: format!("{}.{extension}", view.name), size: view.size, camera }
        };
        Self { images: views.iter().map(image).collect(), origin }
    }

    /// Where a point of the cloud lies in the model.
    pub fn place(&self, point: &Point) -> DVec3 {
        DVec3::from(point.position) - self.origin
    }

    /// Writes the six files into a folder.
    ///
    /// # Errors
    /// Those of the cloud and of writing.
    pub fn write(&self, job: &Job, folder: &str, tracks: Option<&Tracks>) -> Result<()> {
        self.write_cameras(job, folder)?;
        self.write_images_binary(job, folder, tracks)?;
        self.write_images_text(job, folder, tracks)?;
        self.write_points(job, folder, tracks)
    }

    fn write_cameras(&self, job: &Job, folder: &str) -> Result<()> {
        job.write(&format!("{folder}/cameras.bin"), |out| {
            put(out.write_all(&(self.images.len() as u64).to_le_bytes()))?;
            for (id, image) in (1u32..).zip(&self.images) {
                let (width, height) = image.size;
                put(out.write_all(&id.to_le_bytes()))?;
                put(out.write_all(&PINHOLE.to_le_bytes()))?;
                put(out.write_all(&(width as u64).to_le_bytes()))?;
                put(out.write_all(&(height as u64).to_le_bytes()))?;
                put(write_doubles(out, &image.parameters()))?;
            }
            Ok(())
        })?;
        job.write(&format!("{folder}/cameras.txt"), |out| {
            put(writeln!(out, "# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy"))?;
            for (id, image) in (1u32..).zip(&self.images) {
                let ((width, height), [fx, fy, cx, cy]) = (image.size, image.parameters());
                put(writeln!(out, "{id} PINHOLE {width} {height} {fx} {fy} {cx} {cy}"))?;
            }
            Ok(())
        })
    }

    fn write_images_binary(&self, job: &Job, folder: &str, tracks: Option<&Tracks>) -> Result<()> {
        job.write(&format!("{folder}/images.bin"), |out| {
            put(out.write_all(&(self.images.len() as u64).to_le_bytes()))?;
            for (at, image) in self.images.iter().enumerate() {
                let id = at as u32 + 1;
                put(out.write_all(&id.to_le_bytes()))?;
                put(write_doubles(out, &image.pose()))?;
                put(out.write_all(&id.to_le_bytes()))?;
                put(out.write_all(image.name.as_bytes()))?;
                let count = tracks.map_or(0, |tracks| tracks.seen[at].len()) as u64;
                put(out.write_all(&[0]))?;
                put(out.write_all(&count.to_le_bytes()))?;
                self.observations(job, at, tracks, |x, y, point| {
                    put(write_doubles(out, &[x, y]))?;
                    put(out.write_all(&point.to_le_bytes()))
                })?;
            }
            Ok(())
        })
    }

    fn write_images_text(&self, job: &Job, folder: &str, tracks: Option<&Tracks>) -> Result<()> {
        job.write(&format!("{folder}/images.txt"), |out| {
            put(writeln!(out, "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"))?;
            put(writeln!(out, "# POINTS2D[] as (X, Y, POINT3D_ID)"))?;
            for (at, image) in self.images.iter().enumerate() {
                let id = at + 1;
                let pose = image.pose().map(|v| v.to_string()).join(" ");
                put(writeln!(out, "{id} {pose} {id} {}", image.name))?;
                let mut before = "";
                self.observations(job, at, tracks, |x, y, point| {
                    let written = write!(out, "{before}{x} {y} {point}");
                    before = " ";
                    put(written)
                })?;
                put(writeln!(out))?;
            }
            Ok(())
        })
    }

    /// Gives place and point number of all that an image sees.
    fn observations(
        &self,
        job: &Job,
        at: usize,
        tracks: Option<&Tracks>,
        mut take: impl FnMut(f64, f64, u64) -> Result<()>,
    ) -> Result<()> {
        let Some(tracks) = tracks else { return Ok(()) };
        let (camera, mut seen) = (self.images[at].camera, tracks.seen[at].iter().peekable());
        let mut index = 0u32;
        job.cloud()?.each(|point| {
            if seen.next_if_eq(&&index).is_some() {
                let q = camera.project(self.place(point));
                take(q.x / q.z + 0.5, q.y / q.z + 0.5, u64::from(index) + 1)?;
            }
            index += 1;
            Ok(())
        })
    }

    fn write_points(&self, job: &Job, folder: &str, tracks: Option<&Tracks>) -> Result<()> {
        let count = tracks.map_or(0, Tracks::seen_points) as u64;
        job.write(&format!("{folder}/points3D.bin"), |out| {
            put(out.write_all(&count.to_le_bytes()))?;
            self.points(job, tracks, |id, point, track| {
                put(out.write_all(&id.to_le_bytes()))?;
                put(write_doubles(out, &self.place(point).to_array()))?;
                put(out.write_all(&point.colour))?;
                put(write_doubles(out, &[NO_ERROR]))?;
                put(out.write_all(&(track.len() as u64).to_le_bytes()))?;
                for (image, place) in track {
                    put(out.write_all(&(image + 1).to_le_bytes()))?;
                    put(out.write_all(&place.to_le_bytes()))?;
                }
                Ok(())
            })
        })?;
        job.write(&format!("{folder}/points3D.txt"), |out| {
            put(writeln!(out, "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"))?;
            self.points(job, tracks, |id, point, track| {
                let (DVec3 { x, y, z }, [r, g, b]) = (self.place(point), point.colour);
                put(write!(out, "{id} {x} {y} {z} {r} {g} {b} {NO_ERROR}"))?;
                for (image, place) in track {
                    put(write!(out, " {} {place}", image + 1))?;
                }
                put(writeln!(out))
            })
        })
    }

    /// Gives every point that some image sees, with its number and track; none without tracks.
    ///
    /// # Errors
    /// Those of the cloud; what `take` says.
    pub fn points(
        &self,
        job: &Job,
        tracks: Option<&Tracks>,
        mut take: impl FnMut(u64, &Point, &[(u32, u32)]) -> Result<()>,
    ) -> Result<()> {
        let Some(tracks) = tracks else { return Ok(()) };
        let mut index = 0;
        job.cloud()?.each(|point| {
            let track = tracks.of_point(index);
            index += 1;
            if track.is_empty() { Ok(()) } else { take(index as u64, point, track) }
        })
    }
}

impl Image {
    /// fx, fy, cx, cy as COLMAP has them.
    fn parameters(&self) -> [f64; 4] {
        let k = self.camera.k;
        [k.x_axis.x, k.y_axis.y, k.z_axis.x + 0.5, k.z_axis.y + 0.5]
    }

    /// The quaternion, w first, and the translation.
    fn pose(&self) -> [f64; 7] {
        let (q, t) = (DQuat::from_mat3(&self.camera.r).normalize(), self.camera.t);
        [q.w, q.x, q.y, q.z, t.x, t.y, t.z]
    }
}

fn write_doubles(out: &mut impl Write, values: &[f64]) -> std::io::Result<()> {
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
