//! Which sparse points each view tracks, found once for all views: what is asked of one view then costs its own points
//! and not all points of the scene.

use crate::scene::{Scene, ScenePoint};

/// A scene with the points of each of its views.
pub struct Tracks<'a> {
    /// The scene.
    pub scene: &'a Scene,
    /// For every view the indices of the points that it sees, in their order.
    of_views: Vec<Vec<usize>>,
}

impl Scene {
    /// The points by view.
    pub fn tracks(&self) -> Tracks<'_> {
        let mut of_views = vec![Vec::new(); self.views.len()];
        for (i, point) in self.points.iter().enumerate() {
            for &view in &point.views {
                of_views[view].push(i);
            }
        }
        Tracks { scene: self, of_views }
    }
}

impl<'a> Tracks<'a> {
    /// Indices of the points that a view sees, in their order; none for a view that is not there.
    pub fn indices(&self, view: usize) -> &[usize] {
        self.of_views.get(view).map_or(&[], Vec::as_slice)
    }

    /// The points that a view sees.
    pub fn points(&self, view: usize) -> impl Iterator<Item = &'a ScenePoint> {
        self.indices(view).iter().map(|&i| &self.scene.points[i])
    }

    /// The points that any of these views sees, each once.
    pub fn points_of_any(&self, views: impl Iterator<Item = usize>) -> Vec<&'a ScenePoint> {
        let mut indices: Vec<usize> = views.flat_map(|view| self.indices(view)).copied().collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|i| &self.scene.points[i]).collect()
    }
}
