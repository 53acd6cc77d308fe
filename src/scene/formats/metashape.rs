//! Cameras exported by Agisoft Metashape (PhotoScan before) as XML.
//!
//! A camera's `transform` leads from the camera (x right, y down, z forward) to the chunk; the chunk's own transform
//! leads on to the world. With `x = X / Z`, `y = Y / Z` (for fisheye sensors scaled to the radius atan(r)), appendix
//! "Camera models" of the manual has
//! `x' = x (1 + K1 r^2 + K2 r^4 + K3 r^6 + K4 r^8) + (P1 (r^2 + 2 x^2) + 2 P2 x y)`, `y'` likewise with P1 and P2
//! exchanged, `u = w / 2 + cx + x' f + x' B1 + y' B2`, `v = h / 2 + cy + y' f`: P1 and P2 stand in the other order than
//! OpenCV's, and cx, cy begin at the photo's middle. The first pixel's centre is (0.5, 0.5).
//!
//! The chunk's `region` is a box in the chunk's coordinates: `center`, `size` (whole sides), and `R`, whose columns are
//! the directions of the sides. Where its `reference` is a coordinate system of the earth, the chunk's transform leads
//! to geocentric coordinates of WGS 84.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use roxmltree::Node;

use crate::error::counted;
use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Origin, Shot, lens, with_centre};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::xml::{Source, child, parse};
use crate::scene::georeference::{Georeference, epsg_of_words};
use crate::scene::lens::Distortion;
use crate::scene::region::Region;
use crate::{Error, Result};

const EXPECTED: &str = "an XML file of cameras as Metashape exports it (document, chunk, sensors, cameras)";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends(".xml") && file.says("<document") && file.says("<chunk"))
}

/// A rotation, a scale and a translation to the world.
struct ToWorld {
    r: DMat3,
    scale: f64,
    t: DVec3,
}

/// What the cameras of a sensor share.
struct Sensor {
    size: (usize, usize),
    intrinsics: Intrinsics,
    distortion: Option<Distortion>,
    has_rolling_shutter: bool,
    /// Of a rig's further sensor: from its camera to that of the first sensor.
    to_master: Option<(DMat3, DVec3)>,
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let text = input::read_text(file, "read the cameras")?;
    let document = parse(file, &text, EXPECTED)?;
    let source = Source::new(file, &text);
    let mut notes = Vec::new();
    let chunk = choose_chunk(file, document.root(), &mut notes)?;
    let cameras: Vec<Node> = chunk.descendants().filter(|node| node.has_tag_name("camera")).collect();
    let component = largest_component(&cameras, &mut notes);
    let to_world = to_world(&source, chunk, component.as_deref(), &mut notes)?;
    let sensors: HashMap<&str, Node> = chunk
        .descendants()
        .filter(|node| node.has_tag_name("sensor"))
        .filter_map(|node| Some((node.attribute("id")?, node)))
        .collect();
    let mut known: BTreeMap<&str, Sensor> = BTreeMap::new();
    let masters: HashMap<&str, Node> = cameras.iter().filter_map(|node| Some((node.attribute("id")?, *node))).collect();
    let (mut disabled, mut unaligned, mut slaves) = (0, 0, 0);
    let mut shots = Vec::new();
    for camera in cameras {
        // A camera of a rig's further sensor has the pose of the first one's, and its place beside it.
        let master = camera.attribute("master_id").and_then(|id| masters.get(id).copied());
        let own = child(camera, "transform");
        let Some(transform) = own.or_else(|| child(master?, "transform")) else {
            unaligned += 1;
            continue;
        };
        if matches!(camera.attribute("enabled"), Some("false" | "0")) {
            disabled += 1;
            continue;
        }
        let of_component = camera.attribute("component_id").or_else(|| master?.attribute("component_id"));
        if component.is_some() && of_component != component.as_deref() {
            continue;
        }
        let label = camera.attribute("label").unwrap_or_default();
        let place = format!("{} ({label})", source.place(camera));
        let id = camera.attribute("sensor_id").unwrap_or_default();
        if !known.contains_key(id) {
            let Some(node) = sensors.get(id) else {
                return Err(Error::input(place, format!("sensor_id `{id}`"), "the id of a sensor of the chunk"));
            };
            known.insert(id, sensor(&source, *node)?);
        }
        let sensor = &known[id];
        if label.is_empty() {
            return Err(Error::input(place, "a camera without a label", "the photo's name as label"));
        }
        let m: [f64; 16] = source.numbers(transform, "the camera's transform, row by row")?;
        if m[12..15].iter().any(|v| v.abs() > 1e-6) || (m[15] - 1.0).abs() > 1e-6 {
            let found = format!("a transform with the last row {} {} {} {}", m[12], m[13], m[14], m[15]);
            return Err(Error::input(place, found, "0 0 0 1"));
        }
        let rows = DMat3::from_cols_array(&[m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]]);
        // The transpose of the rows' transpose: world (or chunk) to camera.
        let mut r = checked_rotation(&place, rows)?;
        let mut centre = DVec3::new(m[3], m[7], m[11]);
        if own.is_none() {
            let Some((turn, beside)) = sensor.to_master else {
                let found = "a camera with master_id, whose sensor has no rotation and location in its rig";
                return Err(Error::input(place, found, "a transform, or a sensor with rotation and location"));
            };
            centre += r.transpose() * beside;
            r = turn.transpose() * r;
            slaves += 1;
        }
        let (r, centre) = match &to_world {
            Some(to) => (r * to.r.transpose(), to.scale * (to.r * centre) + to.t),
            None => (r, centre),
        };
        let (r, t) = with_centre(&place, r, centre)?;
        shots.push(Shot {
            photo: Some(label.to_owned()),
            size: Some(sensor.size),
            intrinsics: sensor.intrinsics,
            distortion: sensor.distortion,
            r,
            t,
            range: None,
            place,
        });
    }
    let told = [
        (disabled, "disabled cameras left out"),
        (unaligned, "cameras without a transform (not aligned) left out"),
        (slaves, "cameras of rigs' further sensors, placed by rotation and location of their sensor beside the first"),
    ];
    notes.extend(told.into_iter().filter(|t| t.0 > 0).map(|(n, what)| format!("{what}: {n}")));
    let rolling = known.values().filter(|sensor| sensor.has_rolling_shutter).count();
    if rolling > 0 {
        notes.push(format!(
            "{} with rolling shutter compensation: a photo is taken as made at one moment, with the camera's pose",
            counted(rolling, "sensor")
        ));
    }
    let folder = folder_of(file);
    let region = region(&source, chunk, component.as_deref(), to_world.as_ref())?;
    let georeference = to_world.and_then(|_| georeference(chunk));
    let whole = Calibration::new(file.to_owned(), folder, shots, Vec::new(), notes);
    Ok(Calibration { region, georeference, ..whole })
}

/// By the chunk's coordinate system in words, if that is one of the earth.
fn georeference(chunk: Node) -> Option<Georeference> {
    let words = child(chunk, "reference")?.text()?.trim();
    const OF_EARTH: [&str; 9] =
        ["GEOGCS", "GEOGCRS", "GEODCRS", "PROJCS", "PROJCRS", "GEOCCS", "COMPD_CS", "COMPOUNDCRS", "BOUNDCRS"];
    let kind = words.split('[').next()?.trim();
    OF_EARTH.contains(&kind).then(|| Georeference::Geocentric { epsg: epsg_of_words(words) })
}

/// The region of the chunk that [`read`] would read, in the world.
///
/// # Errors
/// A file that cannot be read or holds something else, or no region; the message names the line.
pub fn read_region(file: &Path) -> Result<Region> {
    let text = input::read_text(file, "read the region of interest")?;
    let document = parse(file, &text, EXPECTED)?;
    let source = Source::new(file, &text);
    // Choices are told where cameras are read.
    let notes = &mut Vec::new();
    let chunk = choose_chunk(file, document.root(), notes)?;
    let cameras: Vec<Node> = chunk.descendants().filter(|node| node.has_tag_name("camera")).collect();
    let component = largest_component(&cameras, notes);
    let to_world = to_world(&source, chunk, component.as_deref(), notes)?;
    region(&source, chunk, component.as_deref(), to_world.as_ref())?.ok_or_else(|| {
        let found = "no region, or one without extent";
        Error::input(source.place(chunk), found, "a chunk with a region (center, size, R), as Metashape exports it")
    })
}

/// The region of the chunk, or of the component, in the world; `None` where there is none or it is empty.
fn region(source: &Source, chunk: Node, component: Option<&str>, to_world: Option<&ToWorld>) -> Result<Option<Region>> {
    let of_component = || child(chosen_component(chunk, component)?, "region");
    let Some(node) = child(chunk, "region").or_else(of_component) else { return Ok(None) };
    let part = |name: &str| {
        let missing = || Error::input(source.place(node), format!("a region without {name}"), "center, size and R");
        child(node, name).ok_or_else(missing)
    };
    let centre = DVec3::from_array(source.numbers(part("center")?, "the region's centre")?);
    let half = 0.5 * DVec3::from_array(source.numbers(part("size")?, "the region's size")?);
    let rows: [f64; 9] = source.numbers(part("R")?, "the region's rotation, row by row")?;
    let sides = checked_rotation(&source.place(node), DMat3::from_cols_array(&rows).transpose())?;
    Ok(match to_world {
        Some(to) => Region::turned(to.scale * (to.r * centre) + to.t, (to.r * sides).transpose(), to.scale * half),
        None => Region::turned(centre, sides.transpose(), half),
    })
}

/// The component that cameras name.
fn chosen_component<'a, 'b>(chunk: Node<'a, 'b>, component: Option<&str>) -> Option<Node<'a, 'b>> {
    let is_it = |node: &Node| node.has_tag_name("component") && node.attribute("id") == component;
    child(chunk, "components")?.children().find(is_it)
}

/// Of several chunks the one with the most aligned cameras.
fn choose_chunk<'a, 'b>(file: &Path, root: Node<'a, 'b>, notes: &mut Vec<String>) -> Result<Node<'a, 'b>> {
    let aligned = |chunk: &Node| {
        let cameras = chunk.descendants().filter(|node| node.has_tag_name("camera"));
        cameras.filter(|camera| child(*camera, "transform").is_some()).count()
    };
    let chunks: Vec<(Node, usize)> =
        root.descendants().filter(|node| node.has_tag_name("chunk")).map(|chunk| (chunk, aligned(&chunk))).collect();
    let best = chunks.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let Some((chunk, count)) = best else {
        return Err(Error::input(file.display().to_string(), "no chunk", EXPECTED));
    };
    if chunks.len() > 1 {
        notes.push(format!(
            "{} chunks: `{}` is used, which has the most aligned cameras ({count})",
            chunks.len(),
            chunk.attribute("label").unwrap_or_default()
        ));
    }
    Ok(chunk)
}

/// The component with the most cameras, where cameras name one; those of others have other coordinates.
fn largest_component(cameras: &[Node], notes: &mut Vec<String>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for camera in cameras.iter().filter(|camera| child(**camera, "transform").is_some()) {
        if let Some(component) = camera.attribute("component_id") {
            *counts.entry(component).or_default() += 1;
        }
    }
    let (&best, &count) = counts.iter().max_by_key(|(_, count)| **count)?;
    if counts.len() > 1 {
        notes.push(format!(
            "{} components: the largest is used, {best}, with {}",
            counts.len(),
            counted(count, "camera")
        ));
    }
    Some(best.to_owned())
}

/// The transform of the chunk, or of the component that its cameras belong to.
fn to_world(source: &Source, chunk: Node, component: Option<&str>, notes: &mut Vec<String>) -> Result<Option<ToWorld>> {
    let of_component = || child(chosen_component(chunk, component)?, "transform");
    let Some(node) = child(chunk, "transform").or_else(of_component) else {
        notes.push("the chunk has no transform: the world is the chunk's own, whose unit is arbitrary".into());
        return Ok(None);
    };
    let place = source.place(node);
    let r = match child(node, "rotation") {
        Some(node) => {
            let rows: [f64; 9] = source.numbers(node, "the chunk's rotation, row by row")?;
            checked_rotation(&place, DMat3::from_cols_array(&rows).transpose())?
        }
        None => DMat3::IDENTITY,
    };
    let t = match child(node, "translation") {
        Some(node) => DVec3::from_array(source.numbers(node, "the chunk's translation")?),
        None => DVec3::ZERO,
    };
    let scale = source.number(node, "scale")?.unwrap_or(1.0);
    if scale <= 0.0 {
        return Err(Error::input(place, format!("scale {scale}"), "a scale > 0"));
    }
    notes.push(format!("the chunk's transform is applied (scale {scale}): its world is the scene's"));
    Ok(Some(ToWorld { r, scale, t }))
}

/// Whether a node states somewhere that the shutter rolls.
fn rolls(node: Node) -> bool {
    let is_on = |value: Option<&str>| !matches!(value, None | Some("" | "0" | "false" | "disabled" | "global"));
    node.descendants().any(|part| {
        let of_attribute = part.attributes().any(|a| a.name() == "rolling_shutter" && is_on(Some(a.value())));
        let of_property = part.attribute("name") == Some("rolling_shutter") && is_on(part.attribute("value"));
        let of_element = part.has_tag_name("rolling_shutter") && is_on(part.text().or(Some("true")));
        of_attribute || of_property || of_element
    })
}

fn sensor(source: &Source, node: Node) -> Result<Sensor> {
    let place = format!("{}: sensor {}", source.place(node), node.attribute("id").unwrap_or_default());
    let calibrations = || node.children().filter(|child| child.has_tag_name("calibration"));
    let adjusted = calibrations().find(|c| c.attribute("class") == Some("adjusted"));
    let is_panorama = node.attribute("type") == Some("spherical");
    // Panoramas need none.
    let Some(calibration) = adjusted.or_else(|| calibrations().next()).or(is_panorama.then_some(node)) else {
        return Err(Error::input(place, "no calibration", "a calibration of every sensor with aligned cameras"));
    };
    let kind = calibration.attribute("type").or(node.attribute("type")).unwrap_or("frame");
    let equidistant = match kind {
        "frame" | "spherical" => false,
        "fisheye" | "equidistant_fisheye" => true,
        other => {
            return Err(Error::input(place, format!("a sensor of type {other}"), "frame, fisheye or spherical"));
        }
    };
    let Some(resolution) = child(calibration, "resolution").or_else(|| child(node, "resolution")) else {
        return Err(Error::input(place, "no resolution", "the photos' width and height"));
    };
    let size = (source.pixels(resolution, "width")?, source.pixels(resolution, "height")?);
    let to_master = place_in_rig(source, node, &place)?;
    let has_rolling_shutter = rolls(node);
    if kind == "spherical" {
        let (intrinsics, distortion) = (Intrinsics::of_panorama(Origin::Middle), Some(Distortion::Equirectangular));
        return Ok(Sensor { size, intrinsics, distortion, has_rolling_shutter, to_master });
    }
    let value = |name: &str| source.number(calibration, name);
    let or_zero = |name: &str| Ok::<f64, Error>(value(name)?.unwrap_or(0.0));
    let (cx, cy) = (or_zero("cx")?, or_zero("cy")?);
    // Before version 1.3 there were fx and fy, and cx and cy began at the corner.
    let (focal, skew, principal, origin) = match (value("f")?, value("fx")?, value("fy")?) {
        (Some(f), _, _) => ([f + or_zero("b1")?, f], or_zero("b2")?, [cx, cy], Origin::Middle),
        (None, Some(fx), Some(fy)) => ([fx, fy], or_zero("skew")?, [cx, cy], Origin::Corner),
        _ => return Err(Error::input(place, "no focal length f", "f in pixels")),
    };
    let intrinsics =
        Intrinsics { focal: focal.map(Length::Pixels), skew, principal: principal.map(Length::Pixels), origin };
    let k = [or_zero("k1")?, or_zero("k2")?, or_zero("k3")?, or_zero("k4")?];
    let [p1, p2, p3, p4] = [or_zero("p1")?, or_zero("p2")?, or_zero("p3")?, or_zero("p4")?];
    let distortion = Distortion::Brown { equidistant, k, p: [p2, p1, p3, p4], s: [0.0; 2] };
    Ok(Sensor { size, intrinsics, distortion: lens(&place, distortion, &[])?, has_rolling_shutter, to_master })
}

/// Rotation and place of a rig's further sensor in the axes of the first one; `None` where the file has neither.
fn place_in_rig(source: &Source, node: Node, place: &str) -> Result<Option<(DMat3, DVec3)>> {
    let (rotation, location) = (child(node, "rotation"), child(node, "location").or(child(node, "translation")));
    if rotation.is_none() && location.is_none() {
        return Ok(None);
    }
    let turn = match rotation {
        Some(node) => {
            let rows: [f64; 9] = source.numbers(node, "the sensor's rotation in its rig, row by row")?;
            checked_rotation(place, DMat3::from_cols_array(&rows).transpose())?
        }
        None => DMat3::IDENTITY,
    };
    let beside = match location {
        Some(node) => DVec3::from_array(source.numbers(node, "the sensor's place in its rig")?),
        None => DVec3::ZERO,
    };
    Ok(Some((turn, beside)))
}
