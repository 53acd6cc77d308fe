//! `cloud.ply`: as fused.ply, but thinned as it was asked, never with an offset, and with names of confidence and views
//! that other programs know.

use std::io::Write;

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::export::options::PlyNames;

/// Writes it.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write(job: &Job) -> Result<()> {
    let cloud = job.cloud()?;
    let double = cloud.needs_doubles();
    let coordinate = if double { "double" } else { "float" };
    let scalars = match job.options.ply_names {
        PlyNames::Engine => "property float confidence\nproperty uchar views",
        PlyNames::Cloudcompare => "property float scalar_confidence\nproperty float scalar_views",
    };
    job.write("cloud.ply", |out| {
        put(write!(
            out,
            "ply\nformat binary_little_endian 1.0\ncomment made by engine {}\nelement vertex {}\n\
             property {coordinate} x\nproperty {coordinate} y\nproperty {coordinate} z\n\
             property float nx\nproperty float ny\nproperty float nz\n\
             property uchar red\nproperty uchar green\nproperty uchar blue\n{scalars}\nend_header\n",
            env!("CARGO_PKG_VERSION"),
            cloud.count
        ))?;
        let mut vertex = Vec::with_capacity(48);
        cloud.each(|point| {
            vertex.clear();
            for value in point.position {
                match double {
                    true => vertex.extend(value.to_le_bytes()),
                    false => vertex.extend((value as f32).to_le_bytes()),
                }
            }
            vertex.extend(point.normal.iter().flat_map(|value| value.to_le_bytes()));
            vertex.extend(point.colour);
            vertex.extend(point.confidence.to_le_bytes());
            match job.options.ply_names {
                PlyNames::Engine => vertex.push(point.views),
                PlyNames::Cloudcompare => vertex.extend(f32::from(point.views).to_le_bytes()),
            }
            put(out.write_all(&vertex))
        })
    })
}
