//! What a view can be told.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Everything that [`crate::view::serving::view`] can be told.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    /// The address to listen at.
    pub host: IpAddr,
    /// Whether it may be one that others reach.
    pub anyone: bool,
    /// The port to listen at; 0: any that is free.
    pub port: u16,
    /// Whether a browser is opened.
    pub open: bool,
    /// The scene's folder, if it is not where the run has found it.
    pub scene: Option<PathBuf>,
    /// Points of the cloud to show; `None`: all.
    pub max_points: Option<usize>,
    /// Longest side of the pictures of views, in pixels; `None`: that of the maps, or less so that one has
    /// [`crate::report::options::VIEW_PIXELS`].
    pub picture_side: Option<usize>,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anyone: false,
            port: 0,
            open: true,
            scene: None,
            max_points: None,
            picture_side: None,
        }
    }
}
