//! Depth maps of other programs, one file a photo: PFM, OpenEXR, NumPy's `.npy` and `.npz`, PNG of 16 bits.
//!
//! Where a pixel has no depth there is 0, a negative number, NaN or infinity, as in PFM maps. A PNG holds whole
//! numbers: depth is the number divided by a scale, which a caller gives, or the file's own text chunk `depth_scale`,
//! as this program writes it.

use std::io::Cursor;
use std::path::Path;

use exr::meta::MetaData;
use exr::prelude::{FlatSamples, ReadChannels, ReadLayers};

use crate::files::map::Map;
use crate::files::{input, npy, pfm};
use crate::host::memory::expect_room;
use crate::{Error, Result};

/// Endings of such files, in the order in which they are looked for.
pub const EXTENSIONS: [&str; 5] = ["pfm", "exr", "npy", "npz", "png"];

/// Names of a channel of depths, the more usual first.
const CHANNELS: [&str; 8] = ["Z", "depth.Z", "depth", "Depth", "depth.V", "V", "Y", "R"];

/// How many times smaller than its pixels a compressed file can be: deflate's most, 1032, and some.
const MOST_PACKED: u64 = 1100;

/// Reads a map; `scale` is that of a PNG without one of its own.
///
/// # Errors
/// A file that cannot be read or holds no map of one depth a pixel, a PNG without a scale; too little memory.
pub fn read(path: &Path, scale: Option<f64>) -> Result<Map> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "exr" => exr(path),
        "npy" => of_array(path, npy::read(path)?),
        "npz" => {
            let mut arrays = npy::read_archive(path)?;
            let Some(array) = arrays.remove("depth") else {
                return Err(Error::input(
                    path.display().to_string(),
                    "no array `depth`",
                    "one of floats, rows by columns",
                ));
            };
            of_array(path, array)
        }
        "png" => png(path, scale),
        _ => pfm::read(path),
    }
}

fn of_array(path: &Path, array: npy::Array) -> Result<Map> {
    // One channel more or less is the same map.
    let shape: Vec<usize> = array.shape.iter().copied().filter(|&length| length != 1).collect();
    let (&[height, width], data) = (&shape[..], array.data) else {
        let found = format!("an array of shape {:?}", array.shape);
        return Err(Error::input(path.display().to_string(), found, "rows by columns, one depth a pixel"));
    };
    Ok(Map { width, height, data: data.into_iter().map(|v| v as f32).collect() })
}

fn exr(path: &Path) -> Result<Map> {
    let bytes = input::read(path, "read the map")?;
    let place = || path.display().to_string();
    let damaged = |error: exr::error::Error| {
        let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::input(place(), format!("no OpenEXR that can be read ({said})"), "a whole OpenEXR file")
    };
    // The library takes memory for what a header states.
    let meta = MetaData::read_from_buffered(Cursor::new(&bytes), false).map_err(damaged)?;
    let pixels = meta.headers.iter().map(|header| {
        let (width, height) = (header.layer_size.x() as u64, header.layer_size.y() as u64);
        width.saturating_mul(height).saturating_mul(4 * header.channels.list.len() as u64)
    });
    let stated = pixels.max().unwrap_or(0);
    if stated > (bytes.len() as u64).saturating_mul(MOST_PACKED) {
        let found = format!("{} bytes for {stated} of its header", bytes.len());
        return Err(Error::input(place(), found, "a whole OpenEXR file"));
    }
    expect_room(path, stated)?;
    let reader = exr::prelude::read().no_deep_data().largest_resolution_level().all_channels().first_valid_layer();
    let image = reader.all_attributes().from_buffered(Cursor::new(&bytes)).map_err(damaged)?;
    let (channels, size) = (image.layer_data.channel_data.list, image.layer_data.size);
    let named = |wanted: &&str| channels.iter().position(|channel| channel.name == **wanted);
    let chosen = CHANNELS.iter().find_map(named).or((channels.len() == 1).then_some(0));
    let Some(channel) = chosen.map(|at| &channels[at]) else {
        let names: Vec<String> = channels.iter().map(|channel| channel.name.to_string()).collect();
        return Err(Error::input(place(), format!("the channels {}", names.join(", ")), "one that is called Z"));
    };
    let data = match &channel.sample_data {
        FlatSamples::F32(values) => values.clone(),
        FlatSamples::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
        FlatSamples::U32(values) => values.iter().map(|&v| v as f32).collect(),
    };
    if data.len() != size.area() || data.is_empty() {
        return Err(Error::input(place(), "a channel of fewer values than pixels", "one depth a pixel"));
    }
    Ok(Map { width: size.x(), height: size.y(), data })
}

fn png(path: &Path, scale: Option<f64>) -> Result<Map> {
    let bytes = input::read(path, "read the map")?;
    let place = || path.display().to_string();
    let damaged = |error: png::DecodingError| {
        let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::input(place(), format!("no PNG that can be read ({said})"), "a whole PNG of 16 bits, grey")
    };
    let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().map_err(damaged)?;
    let (kind, depth) = reader.output_color_type();
    if (kind, depth) != (png::ColorType::Grayscale, png::BitDepth::Sixteen) {
        let found = format!("a PNG of {} bits, {kind:?}", depth as u8);
        return Err(Error::input(place(), found, "a PNG of 16 bits, grey"));
    }
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let values = 2 * width as u64 * height as u64;
    if values > (bytes.len() as u64).saturating_mul(MOST_PACKED) {
        let found = format!("{} bytes for {width} x {height} pixels", bytes.len());
        return Err(Error::input(place(), found, "a whole PNG of 16 bits, grey"));
    }
    expect_room(path, 3 * values)?;
    let mut data = vec![0; values as usize];
    reader.next_frame(&mut data).map_err(damaged)?;
    let texts = &reader.info().uncompressed_latin1_text;
    let own = texts.iter().find(|text| text.keyword == "depth_scale").and_then(|text| text.text.trim().parse().ok());
    let Some(scale) = scale.or(own).filter(|scale: &f64| *scale > 0.0 && scale.is_finite()) else {
        let expected = "--prior-scale N, depth being the number / N (1000 for millimetres in a scene of metres)";
        return Err(Error::input(place(), "a PNG without a text chunk `depth_scale`", expected));
    };
    let value = |two: &[u8; 2]| (f64::from(u16::from_be_bytes(*two)) / scale) as f32;
    Ok(Map { width, height, data: data.as_chunks().0.iter().map(value).collect() })
}
