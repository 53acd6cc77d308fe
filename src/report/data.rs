//! What the page's scripts are told, beside what is packed: as JSON.

use glam::{DMat3, DVec3};
use serde::Serialize;

use crate::draw::colours;
use crate::error::Result;
use crate::export::results::{ResultView, Results};
use crate::report::grid;
use crate::report::levels::Node;
use crate::report::pack::{deflated, letters};
use crate::report::quantise::QuantisedCloud;
use crate::report::tiles::{self, Tile};
use crate::report::views::{self, Picture};

/// Points that the first look is aimed at.
const SAMPLE: usize = 400;

/// All of it.
#[derive(Serialize)]
pub struct Data {
    /// The cloud, where there is one.
    pub cloud: Option<CloudData>,
    /// The views, in the run's order.
    pub views: Vec<ViewData>,
    /// Colours of depth (near to far) and confidence: 256 times six hexadecimal digits.
    pub palettes: [String; 2],
}

/// How the cloud's tiles are read.
#[derive(Serialize)]
pub struct CloudData {
    /// The place [0, 0, 0] of the grid, in scene units.
    pub origin: [f64; 3],
    /// The grid's step, in scene units.
    pub quantum: f64,
    /// Points in all tiles.
    pub shown: usize,
    /// Points of the cloud.
    pub total: u64,
    /// The box of all but the outermost points.
    pub inner: [[f64; 3]; 2],
    /// The distance of neighbours.
    pub spacing: f64,
    /// Upwards.
    pub up: [f64; 3],
    /// Places on the grid of a few points, evenly in their order: what the first look is aimed at.
    pub sample: Vec<[u32; 3]>,
    /// Each tile: its part, its first byte there, its points, its corner, its shift.
    pub tiles: Vec<[usize; 7]>,
    /// Where tiles are fetched instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<ServedCloud>,
}

/// Where a view's camera stands, and how its maps are read.
#[derive(Serialize)]
pub struct ViewData {
    /// Its name.
    pub name: String,
    /// Width and height of the pictures.
    pub size: (usize, usize),
    /// Width and height of the maps.
    pub map_size: (usize, usize),
    /// The camera's place.
    pub centre: [f64; 3],
    /// Rotation, world to camera, row by row.
    pub rotation: [f64; 9],
    /// fx, fy, cx, cy of the maps.
    pub k: [f64; 4],
    /// Least depth, and step of the logarithm.
    pub depth: [f64; 2],
    /// Whether the page has its photo.
    pub photo: bool,
}

impl ViewData {
    /// Of a view.
    pub fn new(view: &ResultView, picture: &Picture) -> Self {
        Self { depth: [picture.near, picture.step], ..Self::served(view, picture.size, picture.photo.is_some()) }
    }

    /// Of a view whose pictures, of this size, are fetched; they say the depth.
    pub fn served(view: &ResultView, size: (usize, usize), photo: bool) -> Self {
        let camera = &view.camera;
        let k = camera.k;
        Self {
            name: view.name.clone(),
            size,
            map_size: view.size,
            centre: camera.centre().to_array(),
            rotation: camera.r.transpose().to_cols_array(),
            k: [k.x_axis.x, k.y_axis.y, k.z_axis.x, k.z_axis.y],
            depth: [1.0, views::STEP],
            photo,
        }
    }
}

/// What a page must know of a cloud whose tiles it fetches.
#[derive(Serialize)]
pub struct ServedCloud {
    /// Each node of the tree: its points, its corner, its level, the first of the nodes below it, how many these are,
    /// and of how many points it has one.
    pub nodes: Vec<[usize; 8]>,
    /// How many points have a confidence of 0/255, 1/255, ...
    pub histogram: Vec<u64>,
    /// Fewest and most views that agree on a point.
    pub views: [u8; 2],
}

/// A cloud whose tiles are fetched.
pub fn served(cloud: &QuantisedCloud, nodes: &[Node], up: DVec3) -> CloudData {
    let row = |node: &Node| {
        let [x, y, z] = node.tile.corner.map(|v| v as usize);
        let level = node.tile.level as usize;
        [node.count(), x, y, z, level, node.below.start, node.below.len(), node.every]
    };
    let mut histogram = vec![0; 256];
    cloud.points.iter().for_each(|point| histogram[usize::from(point.confidence)] += 1);
    let views = cloud.points.iter().map(|point| point.views);
    let views = [views.clone().min().unwrap_or(0), views.max().unwrap_or(0)];
    let served = ServedCloud { nodes: nodes.iter().map(row).collect(), histogram, views };
    CloudData { served: Some(served), ..of_cloud(cloud, up) }
}

/// The cloud's tiles in parts of about a tile's points, each deflated and in base64.
///
/// # Errors
/// None in practice: nothing is written but memory.
pub fn pack(cloud: &QuantisedCloud, up: DVec3) -> Result<(CloudData, Vec<String>)> {
    let (mut parts, mut rows, mut bytes, mut points) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let leaves = tiles::leaves(&cloud.points);
    for (at, tile) in leaves.iter().enumerate() {
        let Tile { corner, .. } = tile;
        let start = bytes.len();
        let count = tiles::encode(tile, &cloud.points, 1, &mut bytes);
        let [x, y, z] = corner.map(|v| v as usize);
        rows.push([parts.len(), start, count, x, y, z, tile.shift() as usize]);
        points += count;
        let next = leaves.get(at + 1).map_or(usize::MAX, |next| next.points.len());
        if points.saturating_add(next) > tiles::MOST {
            parts.push(letters(&deflated(&bytes)?));
            (bytes, points) = (Vec::new(), 0);
        }
    }
    Ok((CloudData { tiles: rows, ..of_cloud(cloud, up) }, parts))
}

/// What does not depend on how the points come to the page.
fn of_cloud(cloud: &QuantisedCloud, up: DVec3) -> CloudData {
    let few = cloud.points.len().min(SAMPLE);
    let sample = (0..few).map(|i| grid::place(cloud.points[i * cloud.points.len() / few].key)).collect();
    CloudData {
        origin: cloud.grid.origin.to_array(),
        quantum: cloud.grid.quantum,
        shown: cloud.points.len(),
        total: cloud.total,
        inner: cloud.inner.map(|corner| corner.to_array()),
        spacing: cloud.spacing,
        up: up.to_array(),
        sample,
        tiles: Vec::new(),
        served: None,
    }
}

/// The direction that is probably up: the mean of the cameras' own, or against their mean view where they look down
/// from all sides.
pub fn up(results: &Results) -> DVec3 {
    let mean = |axis: fn(DMat3) -> DVec3| {
        results.views.iter().map(|view| axis(view.camera.r)).sum::<DVec3>() / results.views.len().max(1) as f64
    };
    let (ups, back) = (mean(|r| -r.row(1)), mean(|r| -r.row(2)));
    // Cameras that are held upright agree by more than half.
    let best = if ups.length() < 0.5 && back.length() > ups.length() { back } else { ups };
    best.try_normalize().unwrap_or(DVec3::Z)
}

/// The colours of the maps.
pub fn palettes() -> [String; 2] {
    [colours::depth, colours::confidence].map(|colour| {
        let digits = |i: u32| {
            let [r, g, b] = colour(f64::from(i) / 255.0);
            format!("{r:02x}{g:02x}{b:02x}")
        };
        (0..256).map(digits).collect()
    })
}
