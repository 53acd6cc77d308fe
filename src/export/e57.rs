//! `cloud.e57`: ASTM E2807, one scan.
//!
//! Coordinates are floats where these are fine enough, else doubles. Confidence is `intensity` (0..1), colours have 8
//! bits, normals are those of the extension for surface normals (`nor:normalX` ...), and the number of views is
//! `engine:views`, an extension of this program's own, which other readers pass over.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use e57::{E57Writer, Extension, Record, RecordDataType, RecordName, RecordValue};

use crate::error::{Error, Result};
use crate::export::job::{Job, put};
use crate::files::hash;
use crate::manifest::MANIFEST;

/// The extension for normals, by its name and where it is described.
const NORMALS: (&str, &str) = ("nor", "http://www.libe57.org/E57_NOR_surface_normals.txt");
/// The extension for the number of views.
const OWN: (&str, &str) = ("engine", "urn:engine:points");

/// Writes it.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write(job: &Job) -> Result<()> {
    let cloud = job.cloud()?;
    let double = cloud.needs_doubles();
    // Unique for the run, and the same for the same run.
    let hash = hash::of_file(&job.results.folder().join(MANIFEST))?;
    let guid = |kind: &str| format!("{kind}-{}", &hash[..32]);
    job.write("cloud.e57", |out| {
        let mut file = said(E57Writer::new(Both(out), &guid("file")))?;
        for (name, place) in [NORMALS, OWN] {
            said(file.register_extension(Extension::new(name, place)))?;
        }
        let mut scan = said(file.add_pointcloud(&guid("cloud"), prototype(double)))?;
        scan.set_name(Some("cloud".into()));
        cloud.each(|point| {
            let coordinate = |value: f64| match double {
                true => RecordValue::Double(value),
                false => RecordValue::Single(value as f32),
            };
            let place = point.position.map(coordinate).into_iter();
            let colour = point.colour.map(|v| RecordValue::Integer(v.into()));
            let normal = point.normal.map(RecordValue::Single);
            let rest = [RecordValue::Single(point.confidence), RecordValue::Integer(point.views.into())];
            said(scan.add_point(place.chain(colour).chain(normal).chain(rest).collect()))
        })?;
        said(scan.finalize())?;
        drop(scan);
        said(file.finalize())
    })
}

/// What is stored of a point.
fn prototype(double: bool) -> Vec<Record> {
    let coordinate = match double {
        true => RecordDataType::Double { min: None, max: None },
        false => RecordDataType::Single { min: None, max: None },
    };
    let single = |min: f32| RecordDataType::Single { min: Some(min), max: Some(1.0) };
    let byte = RecordDataType::Integer { min: 0, max: 255 };
    let other = |(namespace, _): (&str, &str), name: &str| RecordName::Unknown {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let record = |(name, data_type)| Record { name, data_type };
    [
        (RecordName::CartesianX, coordinate.clone()),
        (RecordName::CartesianY, coordinate.clone()),
        (RecordName::CartesianZ, coordinate),
        (RecordName::ColorRed, byte.clone()),
        (RecordName::ColorGreen, byte.clone()),
        (RecordName::ColorBlue, byte.clone()),
        (other(NORMALS, "normalX"), single(-1.0)),
        (other(NORMALS, "normalY"), single(-1.0)),
        (other(NORMALS, "normalZ"), single(-1.0)),
        (RecordName::Intensity, single(0.0)),
        (other(OWN, "views"), byte),
    ]
    .map(record)
    .into()
}

/// What the library says, with the system's reason where there is one.
fn said<T>(done: e57::Result<T>) -> Result<T> {
    done.or_else(|error| {
        let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let kind = system.map_or(io::ErrorKind::Other, io::Error::kind);
        let text = system.map_or_else(|| error.to_string(), |reason| format!("{error}: {reason}"));
        put(Err(io::Error::new(kind, text)))?;
        Err(Error::Bug { place: "writing E57", problem: error.to_string() })
    })
}

/// The file, which the library also reads: it fills in what it knows at the end, a page at a time.
struct Both<'a, 'b>(&'a mut BufWriter<&'b mut File>);

impl Read for Both<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.flush()?;
        self.0.get_mut().read(bytes)
    }
}

impl Write for Both<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Both<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        // Without a flush for each: the library asks often.
        self.0.stream_position()
    }
}
