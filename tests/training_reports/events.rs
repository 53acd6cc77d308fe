//! A decoder of event files that shares nothing with the writer: CRC bit by bit, protobuf field by field.

use std::path::Path;

use engine::evaluation::depth_metrics::DepthMetrics;
use engine::train::events::EventWriter;

use super::journal::{open, report};
use super::row;

/// CRC-32C, one bit after the other (Castagnoli's polynomial, reflected).
fn crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn number<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().unwrap()
}

/// The records' data; every CRC must be right, and nothing may be left over.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let unmask = |masked: u32| masked.wrapping_sub(0xa282_ead8).rotate_left(15);
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(number(bytes)) as usize;
        assert_eq!(unmask(u32::from_le_bytes(number(&bytes[8..]))), crc(&bytes[..8]), "of the length");
        let data = &bytes[12..12 + length];
        assert_eq!(unmask(u32::from_le_bytes(number(&bytes[12 + length..]))), crc(data), "of the data");
        records.push(data);
        bytes = &bytes[16 + length..];
    }
    records
}

/// A field's content: numbers as their bits, everything else as bytes.
#[derive(Debug, PartialEq)]
enum Content<'a> {
    Varint(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Fields<'_> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let take;
        let content = match key & 7 {
            0 => {
                take = 0;
                Content::Varint(varint(&mut bytes))
            }
            1 => {
                take = 8;
                Content::Double(f64::from_le_bytes(number(bytes)))
            }
            5 => {
                take = 4;
                Content::Float(f32::from_le_bytes(number(bytes)))
            }
            2 => {
                take = varint(&mut bytes) as usize;
                Content::Bytes(&bytes[..take])
            }
            other => panic!("wire type {other}"),
        };
        bytes = &bytes[take..];
        fields.push((key >> 3, content));
    }
    fields
}

fn find<'a, 'b>(fields: &'b [(u64, Content<'a>)], wanted: u64) -> Option<&'b Content<'a>> {
    fields.iter().find(|f| f.0 == wanted).map(|f| &f.1)
}

fn bytes<'a>(content: Option<&Content<'a>>) -> &'a [u8] {
    match content {
        Some(Content::Bytes(bytes)) => bytes,
        other => panic!("{other:?} is not bytes"),
    }
}

/// Field numbers with contents.
type Fields<'a> = Vec<(u64, Content<'a>)>;

/// Step, tag and value of the events with a summary.
fn values(file: &[u8]) -> Vec<(u64, String, Fields<'_>)> {
    let mut values = Vec::new();
    for record in records(file) {
        let event = fields(record);
        assert!(matches!(find(&event, 1), Some(Content::Double(time)) if *time > 1.7e9), "a time of this century");
        let step = match find(&event, 2) {
            Some(Content::Varint(step)) => *step,
            _ => 0,
        };
        if find(&event, 5).is_some() {
            let summary = fields(bytes(find(&event, 5)));
            let value = fields(bytes(find(&summary, 1)));
            values.push((step, String::from_utf8(bytes(find(&value, 1)).to_vec()).unwrap(), value));
        }
    }
    values
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
    let mut paths: Vec<_> = entries.filter(|p| name(p).starts_with("events.out.tfevents.")).collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

#[test]
fn a_file_holds_the_version_then_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("new/folder");
    let mut writer = EventWriter::create(&folder).unwrap();
    writer.scalar(1, "train/loss", 0.75).unwrap();
    writer.scalar(u64::MAX / 2, "a", f64::NAN).unwrap();
    writer.image(300, "panels/b", b"\x89PNG and so on", 640, 480).unwrap();
    writer.flush().unwrap();
    let name = writer.path().file_name().unwrap().to_str().unwrap().to_owned();
    let parts: Vec<_> = name.split('.').collect();
    assert_eq!(parts[..3], ["events", "out", "tfevents"]);
    assert!(parts[3].len() == 10 && parts[3].parse::<u64>().unwrap() > 1_700_000_000, "{name}");
    assert!(!parts[4].is_empty(), "{name}");

    let file = std::fs::read(writer.path()).unwrap();
    let first = fields(records(&file)[0]);
    assert_eq!(bytes(find(&first, 3)), b"brain.Event:2");
    let values = values(&file);
    assert_eq!(values.len(), 3);
    assert_eq!((values[0].0, values[0].1.as_str()), (1, "train/loss"));
    assert_eq!(find(&values[0].2, 2), Some(&Content::Float(0.75)));
    assert_eq!(values[1].0, u64::MAX / 2);
    assert!(matches!(find(&values[1].2, 2), Some(Content::Float(v)) if v.is_nan()));
    assert_eq!((values[2].0, values[2].1.as_str()), (300, "panels/b"));
    let image = fields(bytes(find(&values[2].2, 4)));
    let expected = [
        (1, Content::Varint(480)),
        (2, Content::Varint(640)),
        (3, Content::Varint(3)),
        (4, Content::Bytes(b"\x89PNG and so on")),
    ];
    assert_eq!(image, expected);
}

#[test]
fn a_journal_writes_curves_and_a_run_that_goes_on_a_file_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(root.path(), None);
    for step in 1..=9 {
        journal.step(&report(step, 0.5)).unwrap();
    }
    let mut metrics = DepthMetrics::new();
    metrics.add(&row(&[10.0]), &row(&[0.5]), &row(&[9.0]), 1.0).unwrap();
    journal.validation(8, "synth", &metrics.summary()).unwrap();
    journal.panel(8, "view 1", b"png", (4, 3)).unwrap();
    // Without being closed: what was reported is on the disk even if the process is killed now.
    let before = files(root.path());
    assert_eq!(before.len(), 1);
    let first = values(&before[0]);
    let steps = |tag: &str| first.iter().filter(|v| v.1 == tag).map(|v| v.0).collect::<Vec<_>>();
    assert_eq!(steps("train/loss"), [4, 8]);
    assert_eq!(steps("synth/mean_error_intervals"), [8]);
    assert_eq!(steps("panels/view 1"), [8]);
    let mean = (5..=8).map(|s| report(s, 0.5).loss).sum::<f64>() / 4.0;
    let loss = first.iter().rfind(|v| v.1 == "train/loss").unwrap();
    assert_eq!(find(&loss.2, 2), Some(&Content::Float(mean as f32)));

    drop(journal);
    let mut journal = open(root.path(), Some(4));
    journal.step(&report(5, 0.5)).unwrap();
    drop(journal);
    let after = files(root.path());
    assert_eq!(after.len(), 2, "even within the same second");
    assert!(after.contains(&before[0]), "the earlier file is left as it was");
    let second = after.iter().find(|f| **f != before[0]).unwrap();
    let events: Vec<_> = records(second).into_iter().map(fields).collect();
    // SessionLog START at the next step: TensorBoard drops what the earlier file has from there on.
    assert_eq!(find(&events[1], 2), Some(&Content::Varint(5)));
    assert_eq!(fields(bytes(find(&events[1], 7))), [(1, Content::Varint(1))]);
}
