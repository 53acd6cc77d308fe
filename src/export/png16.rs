//! `png16/depth/NAME.png`, `png16/confidence/NAME.png`, `png16/normal/NAME.png`: whole numbers of 16 bits.
//!
//! Depth is the value divided by a scale, the same for all views: 1, 2 or 5 times a power of ten, the greatest by which
//! the farthest depth fits. 0 is no depth. The scale stands in each file's text chunk `depth_scale` and in
//! `png16/png16.json`. Confidence is the value / 65535; a normal's coordinate (value - 32768) / 32767, all three 0
//! where there is none.

use std::io::Write;

use png::{BitDepth, ColorType, Compression, Encoder};
use serde_json::json;

use crate::error::Result;
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};

/// Writes them.
///
/// # Errors
/// Those of the maps and of writing.
pub fn write(job: &Job) -> Result<()> {
    let mut farthest = 0f32;
    for view in 0..job.results.views.len() {
        farthest = job.results.maps(view)?.depth.data.iter().copied().fold(farthest, f32::max);
    }
    let scale = scale_of(f64::from(farthest));
    let about = json!({
        "depth": {
            "scale": scale, "read": "depth = value / scale", "none": 0, "step": 1.0 / scale, "farthest": farthest,
        },
        "confidence": { "scale": 65535, "read": "confidence = value / scale" },
        "normal": { "read": "n = (value - 32768) / 32767, red green blue are x y z in the world", "none": [0, 0, 0] },
    });
    let text = format!("{about:#}\n");
    job.write("png16/png16.json", |out| put(out.write_all(text.as_bytes())))?;
    job.each_view("png16", |view| {
        let name = &job.results.views[view].name;
        let ExportedMaps { depth, confidence, normals } = maps(job, view)?;
        let size = (depth.width, depth.height);
        let depth = depth.data.iter().map(|&d| match d > 0.0 {
            true => (f64::from(d) * scale).round().clamp(1.0, 65535.0) as u16,
            false => 0,
        });
        let confidence = confidence.data.iter().map(|&c| (c * 65535.0).round() as u16);
        let coordinate = |n: f32| (f64::from(n) * 32767.0).round() as i32 + 32768;
        let normal = normals.iter().flat_map(|&n| match n == [0.0; 3] {
            true => [0; 3],
            false => n.map(|n| coordinate(n) as u16),
        });
        let (scale, grey) = (scale.to_string(), ColorType::Grayscale);
        let file = |kind: &str| format!("png16/{kind}/{name}.png");
        image(job, &file("depth"), size, grey, &[("depth_scale", &scale)], depth)?;
        image(job, &file("confidence"), size, grey, &[("confidence_scale", "65535")], confidence)?;
        image(job, &file("normal"), size, ColorType::Rgb, &[], normal)
    })
}

/// 1, 2 or 5 times a power of ten, the greatest by which a depth stays below 2^16.
fn scale_of(farthest: f64) -> f64 {
    if farthest <= 0.0 {
        return 1.0;
    }
    let most = 65535.0 / farthest;
    let exponent = most.log10().floor() as i32;
    let scales = [(1, exponent), (2, exponent), (5, exponent), (1, exponent + 1)];
    let read = |(digit, exponent): (i32, i32)| format!("{digit}e{exponent}").parse().unwrap_or(1.0);
    // The first is the fallback where the logarithm was rounded up.
    let fitting = scales.map(read).into_iter().filter(|scale: &f64| *scale <= most).fold(0.0, f64::max);
    if fitting > 0.0 { fitting } else { read((5, exponent - 1)) }
}

fn image(
    job: &Job,
    name: &str,
    (width, height): (usize, usize),
    colour: ColorType,
    texts: &[(&str, &str)],
    values: impl Iterator<Item = u16>,
) -> Result<()> {
    let bytes: Vec<u8> = values.flat_map(u16::to_be_bytes).collect();
    job.write(name, |out| {
        let mut encoder = Encoder::new(out, width as u32, height as u32);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Sixteen);
        // Maps are nearly noise: the usual effort takes forty times as long for 12 % less.
        encoder.set_compression(Compression::Fast);
        let encode = || {
            for (key, text) in texts {
                encoder.add_text_chunk((*key).to_owned(), (*text).to_owned())?;
            }
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&bytes)?;
            writer.finish()
        };
        put(encode().map_err(|e| match e {
            png::EncodingError::IoError(e) => e,
            other => std::io::Error::other(other.to_string()),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_fit() {
        for (farthest, scale) in [(10.0, 5000.0), (13.2, 2000.0), (65.535, 1000.0), (65.54, 500.0), (0.7, 50_000.0)] {
            assert_eq!(scale_of(farthest), scale, "{farthest}");
        }
        for farthest in [1e-6, 3e4, 7e8, 0.0] {
            assert!(farthest * scale_of(farthest) <= 65535.0 && scale_of(farthest) > 0.0);
        }
    }
}
