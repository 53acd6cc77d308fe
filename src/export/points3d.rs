//! `points3D/`: what programs that begin from a COLMAP model load, with the dense cloud as its points: `images/` and
//! `sparse/0/` with `cameras`, `images` and `points3D`, binary and text.

use crate::error::Result;
use crate::export::job::Job;
use crate::export::model::Model;
use crate::export::photos::Photos;
use crate::export::tracks::Tracks;

/// Its folder.
const FOLDER: &str = "points3D";

/// Writes it.
///
/// # Errors
/// Photos, maps or a cloud that cannot be read; files that cannot be written.
pub fn write(job: &Job) -> Result<()> {
    job.cloud()?;
    let photos = Photos::open(job)?;
    let model = Model::new(job);
    let tracks = Tracks::find(job)?;
    model.write(job, &format!("{FOLDER}/sparse/0"), Some(&tracks))?;
    job.each_view(FOLDER, |view| photos.write(job, view, (FOLDER, &model.images[view].name)))
}
