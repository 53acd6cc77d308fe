//! TensorBoard's event files: curves and pictures of a run, to be looked at with `tensorboard --logdir RUN`.
//!
//! A file is a row of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data), each of
//! which holds one protobuf message `Event`. Written by hand rather than with a crate: of the two that do it,
//! `tensorboard-rs` (0.5.9, 2022) brings a second, old `image` and `protobuf` 2, and `tfrecord` (0.15) brings `prost`,
//! `num`, `itertools` and an old `thiserror`, for the dozen fields that are needed here. The fields' numbers are those
//! of TensorFlow's `event.proto` and `summary.proto`:
//!
//! | message | fields |
//! | --- | --- |
//! | Event | wall_time 1 (double), step 2 (int64), file_version 3 (string), summary 5, session_log 7 |
//! | Summary | value 1 (repeated) |
//! | Value | tag 1 (string), simple_value 2 (float), image 4 |
//! | Image | height 1, width 2, colorspace 3 (int32; 3 is RGB), encoded_image_string 4 (bytes) |
//! | SessionLog | status 1 (enum; 1 is START) |

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::error::{Error, Result};

/// ISCSI is the name under which catalogues have CRC-32C.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

const ACTION: &str = "write the TensorBoard events";
/// How the names of event files begin.
pub const EVENT_FILE: &str = "events.out.tfevents.";

/// Writes one event file. Others of the same folder, of earlier runs, are left as they are.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Opens a new file in the folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`]: the folder cannot be made or written into.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let host = sysinfo::System::host_name().unwrap_or_default();
        let tame = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let host: String = host.chars().map(tame).collect();
        // TensorBoard knows its files by `tfevents` and reads them in the order of their names.
        let name = format!("{EVENT_FILE}{:010}.{}", now() as u64, if host.is_empty() { "host" } else { &host });
        let mut path = folder.join(&name);
        let mut file = File::create_new(&path);
        // Two runs within one second; the next second is not worth waiting for.
        for again in 1..1000 {
            if !file.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists) {
                break;
            }
            path = folder.join(format!("{name}.{again:03}"));
            file = File::create_new(&path);
        }
        let file = BufWriter::new(file.map_err(Error::io(ACTION, &path))?);
        let mut writer = Self { path, file };
        writer.write(&event(now(), 0, &bytes_field(3, b"brain.Event:2")))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that this run goes on from a checkpoint whose next step is `step`: what earlier files have of this and
    /// later steps is no longer shown.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written.
    pub fn restart(&mut self, step: u64) -> Result<()> {
        self.write(&event(now(), step, &bytes_field(7, &varint_field(1, 1))))
    }

    /// Adds a point to a curve. Tags with a common beginning up to `/` are shown together.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        self.write(&event(now(), step, &scalar_value(tag, value)))
    }

    /// Adds a picture; `png` is a whole PNG file of `width` x `height` RGB pixels.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written.
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8], width: usize, height: usize) -> Result<()> {
        self.write(&event(now(), step, &image_value(tag, png, width, height)))
    }

    /// Hands everything to the system, so that TensorBoard sees it.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io(ACTION, &self.path))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(Error::io(ACTION, &self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// A TFRecord around the data.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

/// Rotated and shifted, because a CRC over data that holds its own CRC says little.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn event(wall_time: f64, step: u64, what: &[u8]) -> Vec<u8> {
    let mut fields = key(1, EIGHT_BYTES);
    fields.extend(wall_time.to_le_bytes());
    // Protobuf leaves zeros out.
    if step > 0 {
        fields.extend(varint_field(2, step));
    }
    fields.extend(what);
    fields
}

/// What an event says about a curve.
fn scalar_value(tag: &str, value: f64) -> Vec<u8> {
    let mut fields = bytes_field(1, tag.as_bytes());
    fields.extend(key(2, FOUR_BYTES));
    // The format has f32 only.
    fields.extend((value as f32).to_le_bytes());
    summary(&fields)
}

/// What an event says about a picture.
fn image_value(tag: &str, png: &[u8], width: usize, height: usize) -> Vec<u8> {
    const RGB: u64 = 3;
    let size = [varint_field(1, height as u64), varint_field(2, width as u64)].concat();
    let image = [size, varint_field(3, RGB), bytes_field(4, png)].concat();
    summary(&[bytes_field(1, tag.as_bytes()), bytes_field(4, &image)].concat())
}

/// Field `summary` of an event with one value.
fn summary(value: &[u8]) -> Vec<u8> {
    bytes_field(5, &bytes_field(1, value))
}

// Protobuf's wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

fn key(field: u64, wire_type: u64) -> Vec<u8> {
    varint(field << 3 | wire_type)
}

/// Seven bits a byte, lowest first; the eighth says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn varint_field(field: u64, value: u64) -> Vec<u8> {
    [key(field, VARINT), varint(value)].concat()
}

fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [key(field, BYTES), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that TensorBoard's own `RecordWriter` and `event_pb2` (2.21) make.
    #[test]
    fn records_are_those_of_tensorboard_to_the_byte() {
        const WHEN: f64 = 1_700_000_000.5;
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let version = event(WHEN, 0, &bytes_field(3, b"brain.Event:2"));
        assert_eq!(
            hex(record(&version)),
            "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110"
        );
        let loss = event(WHEN, 300, &scalar_value("train/loss", 0.75));
        assert_eq!(
            hex(record(&loss)),
            "2100000000000000017becf60900002040fc54d94110ac022a130a110a0a747261696e2f6c6f7373150000403f2246d4b6"
        );
        let picture = event(WHEN, 7, &image_value("a", b"\x89PNG", 300, 2));
        assert_eq!(
            hex(record(&picture)),
            "2100000000000000017becf60900002040fc54d94110072a140a120a0161220d080210ac021803220489504e4740443072"
        );
    }

    #[test]
    fn the_check_value_of_crc_32c_comes_out() {
        // The catalogue's check value, and the example of RFC 3720 B.4: 32 bytes of zero.
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
    }
}
