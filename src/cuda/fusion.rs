//! Finished depth maps to one coloured cloud on a device (`kernels/fusion.cu`): [`crate::fusion::fuse::fuse`] to the
//! bit, points in the same order.
//!
//! Maps stay where they are; what comes back are the points of one view after the other. Memory beside the maps: 5 1/8
//! bytes a pixel of all views, and 48 bytes for each kept pixel of the view that keeps most. (One thing is done in
//! another way: the processor leaves out blocks of points that lie beyond a side of a later view's frustum, here every
//! point is projected. That can only differ where rounding moves a point across a map's border.)
//!
//! The guard (`src/fusion/guard.rs`) runs on the processor, between a view's filter and what its points explain: the
//! device confirms and explains, which are most of the work, and the kept depths of one view at a time come and go.

use std::sync::Arc;

use glam::DMat3;

use super::buffer::{Buffer, Parameters};
use super::consistency::{DeviceView, Limits, Transform, pairs, upload};
use super::driver::{Driver, Stream};
use super::storage::Pointer;
use crate::error::{Error, Result};
use crate::files::ply::Point;
use crate::fusion::funnel::Funnel;
use crate::fusion::guard::{Judge, count_specks, without_specks};
use crate::fusion::origin::near_origin;
use crate::fusion::settings::{FusionOptions, Method, Reprojection};
use crate::fusion::shared;
use crate::fusion::store::InMemory;
use crate::fusion::view::{Fused, FusionView, check, without_invalid};
use crate::scene::camera::{Camera, DepthRange};

/// Pixels of a block (`kernels/fusion.cu`).
const PIXELS: usize = 256;
/// Lines of a funnel before those by number of agreeing sources.
const LINES: usize = 5;
/// Words of a point: normal, colour with the number of views, position (two words a coordinate), confidence, and one
/// that is not used.
const WORDS: usize = 12;

/// One view whose maps lie on the device.
#[derive(Clone, Debug)]
pub struct DeviceFusionView {
    /// Its maps.
    pub maps: DeviceView,
    /// Red, green, blue of the photo at each pixel: bytes [height, width, 3].
    pub colour: Pointer,
    /// Depths outside are not used.
    pub range: DepthRange,
    /// Indices of the views that confirm this one.
    pub sources: Vec<usize>,
}

/// Where in its range a depth lies; the same numbers as [`crate::fusion`] computes.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Range {
    least: f64,
    most: f64,
    near: f64,
    far: f64,
    span: f64,
    inverse_span: f64,
}

impl Range {
    fn new(DepthRange { near, far }: DepthRange) -> Self {
        Self {
            least: near * (1.0 - 1e-6),
            most: far * (1.0 + 1e-6),
            near,
            far,
            span: 0.02 * (far - near),
            inverse_span: 0.02 * (1.0 / near - 1.0 / far),
        }
    }
}

/// A view that comes later.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Later {
    pixel_from_world: Transform,
    confirmed: Pointer,
    explained: Pointer,
    width: i32,
    height: i32,
}

/// What is left of a view's maps after the filter.
struct Confirmed {
    /// f32: the mean depth of kept pixels, 0 elsewhere.
    depth: Buffer,
    /// Bytes: agreeing sources.
    count: Buffer,
    /// One bit a pixel: whether a point of an earlier view has explained it.
    explained: Buffer,
}

fn world_from_pixel(camera: &Camera) -> Transform {
    Transform::new(camera.r.transpose() * camera.k.inverse(), camera.centre())
}

/// Filters the views' maps by the method `reprojection`, above a least confidence, and makes the cloud. `judged` are
/// the same views in host memory with their judge, where the constants' guard asks for one.
///
/// # Errors
/// [`Error::Shape`] where a source is not another view; [`Error::Memory`]; the device's.
pub fn fuse_on_device(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    views: &[DeviceFusionView],
    (least, options): (f64, &Reprojection),
    judged: Option<(&[FusionView], &Judge)>,
) -> Result<Fused> {
    let mut confirmed = Vec::with_capacity(views.len());
    let mut funnels = Vec::with_capacity(views.len());
    for at in 0..views.len() {
        let (view, funnel) = confirm(driver, stream, views, at, (least, options))?;
        confirmed.push(Some(view));
        funnels.push(funnel);
    }
    // A judge takes them to the processor before they are points.
    let most_points = if judged.is_some() { 0 } else { funnels.iter().map(|f| f.kept).max().unwrap_or(0) };
    let most_blocks = views.iter().map(|v| v.maps.pixels().div_ceil(PIXELS)).max().unwrap_or(0);
    let on_device = Buffer::new(driver, 4 * WORDS * most_points, "the points of a view")?;
    let counts = Buffer::new(driver, 4 * most_blocks, "counts of blocks")?;
    let places = Buffer::new(driver, 4 * (most_blocks + 1), "places of points")?;
    let mut points = Vec::new();
    for at in 0..views.len() {
        let Some(own) = confirmed[at].take() else { continue };
        let funnel = &mut funnels[at];
        let emitted: Vec<Point> = match judged {
            Some((hosted, judge)) => hear(driver, stream, (hosted, at), &own, judge, funnel)?,
            None => {
                let emitted = place(driver, stream, &views[at], &own, &counts, &places)?;
                funnel.duplicates = funnel.kept - emitted;
                if emitted > 0 {
                    emit(driver, stream, &views[at], &own, (&places, &on_device))?;
                }
                on_device.download::<[u32; WORDS]>(stream, emitted)?.iter().map(point).collect()
            }
        };
        funnel.fused = emitted.len();
        if !emitted.is_empty() && !options.keep_duplicates {
            let later = views.iter().zip(&confirmed).skip(at + 1);
            let later: Vec<Later> = later.filter_map(|(view, left)| Some(later_view(view, left.as_ref()?))).collect();
            explain_away(driver, stream, &views[at], &own, &later, options)?;
        }
        points.extend(emitted);
    }
    Ok(Fused { points, funnels })
}

fn confirm(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    views: &[DeviceFusionView],
    at: usize,
    (least, options): (f64, &Reprojection),
) -> Result<(Confirmed, Funnel)> {
    let DeviceFusionView { maps, range, sources, .. } = &views[at];
    if let Some(source) = sources.iter().find(|&&s| s >= views.len() || s == at) {
        let problem = format!("view {at}: source {source} is not another of the {} views", views.len());
        return Err(Error::Shape { op: "fusion::fuse", problem });
    }
    let pixels = maps.pixels();
    let mask = 4 * pixels.div_ceil(32);
    let confirmed = Confirmed {
        depth: Buffer::new(driver, 4 * pixels, "confirmed depths")?,
        count: Buffer::new(driver, pixels, "counts of agreeing views")?,
        explained: Buffer::new(driver, mask, "explained pixels")?,
    };
    let mut funnel = Funnel { pixels, agreed: vec![0; sources.len()], ..Funnel::default() };
    if pixels == 0 {
        return Ok((confirmed, funnel));
    }
    driver.fill(confirmed.explained.pointer(), 0, mask as u64, stream)?;
    let columns = LINES + sources.len();
    let blocks = pixels.div_ceil(PIXELS);
    let by_block = Buffer::new(driver, 4 * blocks * columns, "counts of blocks")?;
    let sums = Buffer::new(driver, 4 * columns, "a funnel")?;
    let pairs = pairs(driver, stream, &maps.camera, sources.iter().map(|&s| views[s].maps))?;
    // A view without sources keeps nothing: no count is that large.
    let required = options.thresholds.required(sources.len()).map_or(i32::MAX, |n| n.min(255) as i32);
    Parameters::new()
        .with(maps.depth)
        .with(maps.confidence)
        .with(pairs.pointer())
        .with(confirmed.depth.pointer())
        .with(confirmed.count.pointer())
        .with(by_block.pointer())
        .with(maps.width as i32)
        .with(maps.height as i32)
        .with(sources.len() as i32)
        .with(required)
        .with(Range::new(*range))
        .with(Limits::new(&options.thresholds, least))
        .launch(driver, stream, "fusion_forward_confirm_f32", pixels, PIXELS as u32)?;
    Parameters::new().with(by_block.pointer()).with(sums.pointer()).with(blocks as i32).with(columns as i32).launch(
        driver,
        stream,
        "count_forward_sums_u32",
        columns * 256,
        256,
    )?;
    let sums = sums.download::<u32>(stream, columns)?;
    let lines: Vec<usize> = sums.iter().map(|&n| n as usize).collect();
    [funnel.in_range, funnel.near_end, funnel.far_end, funnel.confident, funnel.kept] =
        std::array::from_fn(|i| lines[i]);
    funnel.agreed.copy_from_slice(&lines[LINES..]);
    Ok((confirmed, funnel))
}

/// Finds the place of every block's points, and how many there are.
fn place(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    view: &DeviceFusionView,
    own: &Confirmed,
    counts: &Buffer,
    places: &Buffer,
) -> Result<usize> {
    let pixels = view.maps.pixels();
    let blocks = pixels.div_ceil(PIXELS);
    if blocks == 0 {
        return Ok(0);
    }
    Parameters::new()
        .with(own.depth.pointer())
        .with(own.explained.pointer())
        .with(counts.pointer())
        .with(pixels as i64)
        .launch(driver, stream, "fusion_forward_count_f32", pixels, PIXELS as u32)?;
    Parameters::new().with(counts.pointer()).with(places.pointer()).with(blocks as i32).launch(
        driver,
        stream,
        "fusion_forward_places_u32",
        1024,
        1024,
    )?;
    let mut all = [0u8; 4];
    driver.download(places.pointer() + 4 * blocks as u64, &mut all, stream)?;
    Ok(u32::from_le_bytes(all) as usize)
}

/// The points of a view that its judge lets pass; the others' depths are taken out on the device, so that they explain
/// nothing.
fn hear(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    (views, at): (&[FusionView], usize),
    own: &Confirmed,
    judge: &Judge,
    funnel: &mut Funnel,
) -> Result<Vec<Point>> {
    let view = &views[at];
    let pixels = view.depth.data.len();
    let marks = own.explained.download::<u32>(stream, pixels.div_ceil(32))?;
    let mut confirmed =
        shared::Confirmed { depth: own.depth.download(stream, pixels)?, count: own.count.download(stream, pixels)? };
    let maps = (&view.depth, &view.confidence, &view.colour[..]);
    let is_explained = |i: usize| marks[i / 32] >> (i % 32) & 1 == 1;
    let candidates = shared::emit(&view.facts(), maps, &confirmed, is_explained, 0..view.depth.height);
    funnel.duplicates = funnel.kept - candidates.len();
    let (heard, dropped) = judge.hear(at, candidates, funnel)?;
    if !dropped.is_empty() {
        dropped.into_iter().for_each(|pixel| confirmed.depth[pixel] = 0.0);
        driver.upload(own.depth.pointer(), bytemuck::cast_slice(&confirmed.depth), stream)?;
    }
    Ok(heard.into_iter().map(|candidate| candidate.point).collect())
}

fn emit(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    view: &DeviceFusionView,
    own: &Confirmed,
    (places, points): (&Buffer, &Buffer),
) -> Result<()> {
    let DeviceView { camera, width, height, depth, confidence } = view.maps;
    // Normals are those of the view's own map, which has no holes.
    let world_from_image: DMat3 = camera.r.transpose() * camera.k.transpose();
    Parameters::new()
        .with(depth)
        .with(confidence)
        .with(view.colour)
        .with(own.depth.pointer())
        .with(own.count.pointer())
        .with(own.explained.pointer())
        .with(places.pointer())
        .with(points.pointer())
        .with(width as i32)
        .with(height as i32)
        .with(world_from_pixel(&camera))
        .with(Transform::new(world_from_image, glam::DVec3::ZERO))
        .launch(driver, stream, "fusion_forward_emit_f32", width * height, PIXELS as u32)
}

fn later_view(view: &DeviceFusionView, left: &Confirmed) -> Later {
    let Camera { k, r, t } = view.maps.camera;
    Later {
        pixel_from_world: Transform::new(k * r, k * t),
        confirmed: left.depth.pointer(),
        explained: left.explained.pointer(),
        width: view.maps.width as i32,
        height: view.maps.height as i32,
    }
}

/// Marks what this view's points explain of later views.
fn explain_away(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    view: &DeviceFusionView,
    own: &Confirmed,
    later: &[Later],
    options: &Reprojection,
) -> Result<()> {
    if later.is_empty() {
        return Ok(());
    }
    let on_device = Buffer::holding(driver, stream, bytemuck::cast_slice(later), "later views")?;
    Parameters::new()
        .with(own.depth.pointer())
        .with(own.explained.pointer())
        .with(on_device.pointer())
        .with(later.len() as i32)
        .with(view.maps.width as i32)
        .with(view.maps.height as i32)
        .with(world_from_pixel(&view.maps.camera))
        .with(options.thresholds.max_depth_error_rel)
        .launch(driver, stream, "fusion_forward_explain_f32", view.maps.pixels(), PIXELS as u32)
}

fn point(words: &[u32; WORDS]) -> Point {
    let float = |i: usize| f32::from_bits(words[i]);
    let double = |i: usize| f64::from_bits(u64::from(words[i]) | u64::from(words[i + 1]) << 32);
    let [red, green, blue, views] = words[3].to_le_bytes();
    Point {
        position: [double(4), double(6), double(8)],
        normal: [float(0), float(1), float(2)],
        colour: [red, green, blue],
        confidence: float(10),
        views,
    }
}

/// [`crate::fusion::fuse::fuse`] on a device, from host memory.
///
/// # Errors
/// [`Error::Shape`], naming the view, where its maps differ in size or a source is not another view;
/// [`Error::Memory`]; the device's.
pub fn fuse(driver: &Arc<dyn Driver>, views: &[FusionView], options: &FusionOptions) -> Result<Fused> {
    check(views)?;
    let Method::Reprojection(constants) = &options.method else {
        let problem = "only the method `reprojection` runs on a device; the others run on the processor".into();
        return Err(Error::Shape { op: "device fusion", problem });
    };
    let views = &without_invalid(views)[..];
    near_origin(views, |views| fuse_near(driver, views, (options.min_confidence, constants)))
}

fn fuse_near(driver: &Arc<dyn Driver>, views: &[FusionView], options: (f64, &Reprojection)) -> Result<Fused> {
    let (_, constants) = options;
    let stream = Stream::FIRST;
    let mut memory = Vec::new();
    let mut on_device = Vec::new();
    let (views, specks) = without_specks(views, constants);
    for view in views.iter() {
        let depth = upload(driver, stream, &view.depth, "a depth map")?;
        let confidence = upload(driver, stream, &view.confidence, "a confidence map")?;
        let colour = Buffer::holding(driver, stream, view.colour.as_flattened(), "a photo's colours")?;
        on_device.push(DeviceFusionView {
            maps: DeviceView {
                camera: view.camera,
                width: view.depth.width,
                height: view.depth.height,
                depth: depth.pointer(),
                confidence: confidence.pointer(),
            },
            colour: colour.pointer(),
            range: view.range,
            sources: view.sources.clone(),
        });
        memory.push([depth, confidence, colour]);
    }
    let store = InMemory::new(&views, Vec::new());
    let judge = Judge::new(&store, constants);
    let judged = judge.as_ref().map(|judge| (&views[..], judge));
    let mut fused = fuse_on_device(driver, stream, &on_device, options, judged)?;
    fused.funnels.iter_mut().zip(specks).for_each(|(funnel, specks)| count_specks(funnel, specks));
    Ok(fused)
}
