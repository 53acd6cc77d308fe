//! What a scene's poses are, where its files do not say: the photos decide.
//!
//! Files of plain matrices (`transforms.json`, trajectories) have a usual meaning, and programs that write something
//! else. Corners matched between photos fit one of the four readings; another one than the usual is taken where it
//! fits far better.

use super::tracks::{FEWEST, LARGER, NO_CHANCE, Tracks, share};
use crate::Result;
use crate::scene::Scene;
use crate::scene::camera::Camera;
use crate::scene::pose_form::PoseForm;

/// What was found out about poses that were read as `own`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What they are.
    pub form: PoseForm,
    /// The words for it.
    pub note: String,
}

/// Decides what the poses of a scene are whose files leave it open; `own` is what they were read as.
///
/// # Errors
/// Photos that cannot be read; an interrupt.
pub fn decide(scene: &Scene, own: PoseForm) -> Result<Decision> {
    let found = Tracks::find(scene)?;
    let (tracks, what) = (found.tracks.iter().collect::<Vec<_>>(), scene.layout.names().1);
    let kept = |why: String| {
        let note = format!("{what} does not say what its poses are: taken as {}, as is usual; {why}", own.name());
        Decision { form: own, note }
    };
    let remedy = "--poses says otherwise if they are something else";
    if tracks.len() < FEWEST {
        let why =
            format!("the photos, with {} matches between them, are too few or too bare to check it", tracks.len());
        return Ok(kept(format!("{why}; {remedy}")));
    }
    let read_as = |form: PoseForm| {
        let camera = |camera: &Camera| {
            let (r, t) = own.read_as(form, (camera.r, camera.t));
            Camera { r, t, ..*camera }
        };
        (form, share(&tracks, &found.cameras.iter().map(camera).collect::<Vec<_>>()))
    };
    let usual = read_as(own).1;
    let others = PoseForm::ALL.into_iter().filter(|&form| form != own).map(read_as);
    let Some((best, most)) = others.reduce(|best, next| if next.1 > best.1 { next } else { best }) else {
        return Ok(kept(remedy.into()));
    };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    if most >= NO_CHANCE && most >= LARGER * usual {
        let note = format!(
            "{what} does not say what its poses are: taken as {}, which {} of {} matches between photos fit; as is \
             usual, {}, {} would",
            best.name(),
            percent(most),
            tracks.len(),
            own.name(),
            percent(usual)
        );
        return Ok(Decision { form: best, note });
    }
    if usual >= NO_CHANCE && usual >= LARGER * most {
        let (fits, all) = (percent(usual), tracks.len());
        return Ok(kept(format!("{fits} of {all} matches between photos fit, {} otherwise", percent(most))));
    }
    Ok(kept(format!(
        "the photos do not decide ({} of {} matches between them fit, {} as {}); {remedy}",
        percent(usual),
        tracks.len(),
        percent(most),
        best.name()
    )))
}
