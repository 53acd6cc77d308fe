//! Arrays of NumPy: `.npy`, and `.npz` (a ZIP archive of them).

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use crate::files::input;
use crate::{Error, Result};

/// An array of floats, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its lengths, the outermost first.
    pub shape: Vec<usize>,
    /// As many values as the product of these.
    pub data: Vec<f64>,
}

/// Reads a `.npy`.
///
/// # Errors
/// A file that cannot be read or is no array of floats.
pub fn read(file: &Path) -> Result<Array> {
    parse(&input::read(file, "read the array")?, &file.display().to_string())
}

/// Reads the arrays of a `.npz` by their names. Arrays of other types than floats are left out.
///
/// # Errors
/// A file that cannot be read or is no such archive.
pub fn read_archive(file: &Path) -> Result<BTreeMap<String, Array>> {
    let place = file.display().to_string();
    let bytes = input::read(file, "read the arrays")?;
    let refused = |error: zip::result::ZipError| {
        Error::input(&place, format!("no ZIP archive ({error})").replace('\n', " "), "a .npz, as numpy.savez writes it")
    };
    let whole = bytes.len() as u64;
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(refused)?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(refused)?;
        let name = entry.name().to_owned();
        let Some(stem) = name.strip_suffix(".npy") else { continue };
        let at = format!("{place}: {name}");
        // Matrices of floats hardly shrink; what grows a hundredfold is not one.
        let most = 100 * whole;
        let mut content = Vec::new();
        let read = entry.by_ref().take(most + 1).read_to_end(&mut content);
        read.map_err(|e| Error::input(&at, format!("a damaged entry ({e})"), "an array as numpy.savez writes it"))?;
        if content.len() as u64 > most {
            return Err(Error::input(at, format!("more than {most} bytes"), "an array as numpy.savez writes it"));
        }
        if is_of_floats(&content) {
            arrays.insert(stem.to_owned(), parse(&content, &at)?);
        }
    }
    Ok(arrays)
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// The header's text and what follows it; `None` where the bytes begin otherwise.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest))?,
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest))?,
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// What stands after a key of the header's dictionary.
fn after<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{key}'"))?;
    Some(header[at..].split_once(':')?.1.trim_start())
}

/// `<f8` and the like.
fn kind(header: &str) -> Option<&str> {
    after(header, "descr")?.strip_prefix('\'')?.split('\'').next()
}

fn is_of_floats(bytes: &[u8]) -> bool {
    split(bytes).and_then(|(header, _)| kind(header)).is_some_and(|kind| kind.contains('f'))
}

fn parse(bytes: &[u8], place: &str) -> Result<Array> {
    let expected = "an array of floats (f2, f4 or f8), as numpy.save writes it";
    let refused = |found: String| Error::input(place, found, expected);
    let Some((header, data)) = split(bytes) else { return Err(refused("no header of an array".into())) };
    let kind = kind(header).unwrap_or_default();
    let is_by_columns = match after(header, "fortran_order") {
        Some(value) if value.starts_with("False") => false,
        Some(value) if value.starts_with("True") => true,
        _ => return Err(refused("a header without the order of the values".into())),
    };
    let shape: Option<Vec<usize>> = after(header, "shape").and_then(|text| {
        let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
        inside.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
    });
    let Some(shape) = shape else { return Err(refused("a header without a shape".into())) };
    let size = match kind {
        "<f4" | ">f4" => 4,
        "<f8" | ">f8" => 8,
        "<f2" | ">f2" => 2,
        other => return Err(refused(format!("values of type {other}"))),
    };
    let count = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    if count.and_then(|count| count.checked_mul(size)) != Some(data.len()) {
        return Err(refused(format!("{} bytes of data for an array of shape {shape:?}", data.len())));
    }
    let is_big = kind.starts_with('>');
    let value = |chunk: &[u8]| {
        let mut eight = [0; 8];
        eight[..size].copy_from_slice(chunk);
        if is_big {
            eight[..size].reverse();
        }
        let [a, b, c, d, ..] = eight;
        match size {
            2 => half::f16::from_le_bytes([a, b]).to_f64(),
            4 => f64::from(f32::from_le_bytes([a, b, c, d])),
            _ => f64::from_le_bytes(eight),
        }
    };
    let data: Vec<f64> = data.chunks_exact(size).map(value).collect();
    match shape[..] {
        [_] | [] => Ok(Array { shape, data }),
        [rows, columns] if is_by_columns => {
            let at = |i: usize| data[(i % columns) * rows + i / columns];
            Ok(Array { data: (0..rows * columns).map(at).collect(), shape })
        }
        _ if is_by_columns => Err(refused("an array of more than two dimensions, column by column".into())),
        _ => Ok(Array { shape, data }),
    }
}
