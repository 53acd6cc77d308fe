//! Every format's file damaged in more than thirty ways: each is refused in one line that names the file, or read as a
//! scene of finite numbers.

use std::fs;

use engine::scene::formats::table::FOREIGN;
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

use crate::damaged::written;

/// So many of the ways must be refused, of every format.
const REFUSED: usize = 20;

/// What a file may have become, and how that came.
fn variants(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    const PLACES: usize = 12;
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let mut variants: Vec<(String, Vec<u8>)> =
        (0..PLACES).map(|i| (format!("cut at {i} of {PLACES}"), bytes[..bytes.len() * i / PLACES].to_vec())).collect();
    let places: Vec<(usize, usize)> = match text {
        Some(text) => numbers(text.as_bytes()),
        None => (0..bytes.len() / 4).map(|i| (4 * i, 4 * i + 4)).collect(),
    };
    for i in 0..PLACES {
        // The first and the last, and evenly between them.
        let (begin, end) = places[i * (places.len() - 1) / (PLACES - 1)];
        let other: &[u8] = match text {
            Some(_) => [&b"nan"[..], b"x", b"", b"1e999", b"--1", b"\"<>"][i % 6],
            None => &[0xff; 4],
        };
        let changed = [&bytes[..begin], other, &bytes[end..]].concat();
        variants.push((format!("byte {begin} to {end} as {:?}", String::from_utf8_lossy(other)), changed));
    }
    let wide = |b: &u8| [*b, 0];
    variants.extend([
        ("in UTF-16".to_owned(), [&[0xff, 0xfe][..], &bytes.iter().flat_map(wide).collect::<Vec<u8>>()].concat()),
        ("a page of the web".to_owned(), b"<!DOCTYPE html><html><body>404</body></html>\n".to_vec()),
        ("backwards".to_owned(), bytes.iter().rev().copied().collect()),
        ("twice".to_owned(), bytes.repeat(2)),
        ("inverted".to_owned(), bytes.iter().map(|b| !b).collect()),
        ("zeros".to_owned(), vec![0; bytes.len()]),
        ("spaces".to_owned(), vec![b' '; bytes.len()]),
        ("a byte that is no text".to_owned(), [&bytes[..bytes.len() / 2], &[0xff], &bytes[bytes.len() / 2..]].concat()),
    ]);
    variants
}

/// Where numbers begin and end in a text.
fn numbers(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut numbers, mut i) = (Vec::new(), 0);
    while i < text.len() {
        let is_begin = text[i].is_ascii_digit() && (i == 0 || !text[i - 1].is_ascii_alphanumeric());
        let is_part = |b: &&u8| b.is_ascii_digit() || matches!(b, b'.' | b'e');
        let length = if is_begin { text[i..].iter().take_while(is_part).count() } else { 1 };
        if is_begin {
            numbers.push((i, i + length));
        }
        i += length;
    }
    numbers
}

#[test]
fn twenty_damaged_files_of_every_format_are_told() {
    for &layout in FOREIGN {
        let folder = TempDir::new().unwrap();
        let file = written(layout, folder.path());
        let name = file.file_name().unwrap().to_str().unwrap();
        let open = || Scene::open(folder.path(), &OpenOptions::default());
        open().unwrap_or_else(|e| panic!("{layout:?}: {e}"));
        let whole = fs::read(&file).unwrap();
        let (mut refused, mut read) = (0, Vec::new());
        for (how, bytes) in variants(&whole) {
            fs::write(&file, bytes).unwrap();
            match open() {
                Err(error) => {
                    let text = error.to_string();
                    // A file in a folder of its own that is recognised as nothing is not looked for.
                    let is_named = text.contains(name) || text.contains("photos and no cameras");
                    let is_told = text.lines().count() == 1 && is_named && text.contains("; expected ");
                    assert!(is_told, "{layout:?}, {how}: {text}");
                    refused += 1;
                }
                Ok(scene) => {
                    for view in &scene.views {
                        let numbers = [view.camera.k, view.camera.r].map(|m| m.is_finite());
                        assert!(numbers == [true; 2] && view.camera.t.is_finite(), "{layout:?}, {how}: {view:?}");
                    }
                    assert!(scene.points.iter().all(|p| p.position.is_finite()), "{layout:?}, {how}: a point");
                    read.push(how);
                }
            }
        }
        println!("{layout:?}: {refused} refused, read: {read:?}");
        assert!(refused >= REFUSED, "{layout:?}: {refused} refused, these not: {read:?}");
    }
}
