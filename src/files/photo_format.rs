//! Formats of photos: which are read, and which are not: what cameras write of their sensors, and, without the features
//! that read them, HEIC, AVIF and JPEG XL. Those are told by how the file begins, with the command that makes a photo
//! of it that is read.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::files::input;
use crate::{Error, Result};

/// The formats that this build reads, in words.
pub const READ: &str = match (cfg!(feature = "heif"), cfg!(feature = "jxl")) {
    (false, false) => "JPEG, PNG, TIFF or WebP",
    (true, false) => "JPEG, PNG, TIFF, WebP, HEIC or AVIF",
    (false, true) => "JPEG, PNG, TIFF, WebP or JPEG XL",
    (true, true) => "JPEG, PNG, TIFF, WebP, HEIC, AVIF or JPEG XL",
};

/// The same with the version of the library that reads some of them, for the description of a build.
pub fn described() -> String {
    #[cfg(feature = "heif")]
    {
        format!("{READ}; libheif {}", crate::files::heif::version())
    }
    #[cfg(not(feature = "heif"))]
    {
        READ.to_owned()
    }
}

/// Endings of photos in those, in small letters.
const EXTENSIONS: [&[&str]; 3] = [
    &["jpg", "jpeg", "png", "tif", "tiff", "webp"],
    if cfg!(feature = "heif") { &HEIF_EXTENSIONS } else { &[] },
    if cfg!(feature = "jxl") { &[JXL_EXTENSION] } else { &[] },
];

const HEIF_EXTENSIONS: [&str; 4] = ["heic", "heif", "hif", "avif"];
const JXL_EXTENSION: &str = "jxl";
const RAW_EXTENSIONS: [&str; 8] = ["cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2"];

/// As much of a file as tells: the first directory of a TIFF lies there in what cameras write.
const LOOKED_AT: u64 = 4096;

/// A format that not every build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// HEIF with HEVC in it.
    Heic,
    /// HEIF with AV1 in it.
    Avif,
    /// Bare or in a container.
    JpegXl,
    /// What a camera's sensor has seen, with its name.
    Raw(&'static str),
}

impl Format {
    /// The feature that reads it, and whether this build has that.
    fn feature(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Heic | Self::Avif => Some(("heif", cfg!(feature = "heif"))),
            Self::JpegXl => Some(("jxl", cfg!(feature = "jxl"))),
            Self::Raw(_) => None,
        }
    }

    /// Of a file's name. Names are believed only where no file need be opened.
    pub fn of_name(path: &Path) -> Option<Self> {
        match extension(path).as_str() {
            "avif" => Some(Self::Avif),
            JXL_EXTENSION => Some(Self::JpegXl),
            ending if HEIF_EXTENSIONS.contains(&ending) => Some(Self::Heic),
            _ => None,
        }
    }
}

/// Whether a file's name ends like a photo's that this build reads.
pub fn has_photo_extension(path: &Path) -> bool {
    EXTENSIONS.iter().any(|endings| endings.contains(&extension(path).as_str()))
}

/// Leaves out photos that only features read where the same was made a photo that every build reads: what is beside it
/// is where it came from.
pub fn leave_out_originals(photos: &mut Vec<PathBuf>) {
    let is_plain = |photo: &PathBuf| Format::of_name(photo).is_none();
    let plain: BTreeSet<PathBuf> =
        photos.iter().filter(|photo| is_plain(photo)).map(|p| p.with_extension("")).collect();
    if plain.len() < photos.len() {
        photos.retain(|photo| is_plain(photo) || !plain.contains(&photo.with_extension("")));
    }
}

/// Whether a file's name ends like a photo's that some other program or build reads.
pub fn has_unread_extension(path: &Path) -> bool {
    !has_photo_extension(path)
        && (Format::of_name(path).is_some() || RAW_EXTENSIONS.contains(&extension(path).as_str()))
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// Refuses the first of these files that is a photo which is not read. For places where no photo was found that is:
/// beside photos, such files are only where these come from.
///
/// # Errors
/// As [`of_start`].
pub fn refuse_first<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    files.into_iter().filter(|file| has_unread_extension(file)).try_for_each(refuse)
}

/// The format of a file that begins so (some kilobytes are enough), where it is one that a feature of this build reads;
/// `None` is left to the decoders that every build has.
///
/// # Errors
/// A format that this build does not read.
pub fn of_start(path: &Path, start: &[u8]) -> Result<Option<Format>> {
    let Some(format) = recognised(start, path) else { return Ok(None) };
    match format.feature() {
        Some((_, true)) => Ok(Some(format)),
        _ => Err(refusal(path, format)),
    }
}

/// As [`of_start`], reading the beginning.
fn refuse(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    // A file that cannot be read is told by whoever wants its photo.
    if let Ok((file, _)) = input::open(path, "look into the photo") {
        let _ = file.take(LOOKED_AT).read_to_end(&mut start);
    }
    of_start(path, &start).map(|_| ())
}

fn refusal(path: &Path, format: Format) -> Error {
    let (from, to) = (path.display(), path.with_extension("png").display().to_string());
    let (what, command) = match format {
        Format::Heic => ("a HEIC photo", format!("`heif-convert -q 100 {from} {to}` (libheif)")),
        Format::Avif => ("an AVIF photo", format!("`avifdec {from} {to}` (libavif)")),
        Format::JpegXl => ("a JPEG XL photo", format!("`djxl {from} {to}` (libjxl)")),
        // Neither turned nor cropped: cameras are for the pixels as they are stored. Writes NAME.EXT.tiff.
        Format::Raw(name) => (name, format!("`dcraw_emu -w -T -t 0 {from}` (LibRaw)")),
    };
    let or = format.feature().map(|(feature, _)| format!("; a build with the feature `{feature}` reads it"));
    let expected = format!("a {READ} photo: {command} converts it{}", or.unwrap_or_default());
    Error::input(from.to_string(), what, expected)
}

/// By the first bytes; a file that is a TIFF at first sight also by its directory or its name.
fn recognised(start: &[u8], path: &Path) -> Option<Format> {
    const BOX: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";
    match start {
        [_, _, _, _, b'f', b't', b'y', b'p', rest @ ..] => of_brands(start, rest),
        [0xff, 0x0a, ..] => Some(Format::JpegXl),
        _ if start.starts_with(BOX) => Some(Format::JpegXl),
        _ if start.starts_with(b"FUJIFILMCCD-RAW") => Some(Format::Raw("a RAF file (Fujifilm raw)")),
        [b'I', b'I', b'R', b'O' | b'S', ..] | [b'M', b'M', b'O', b'R', ..] => {
            Some(Format::Raw("an ORF file (Olympus raw)"))
        }
        [b'I', b'I', b'U', 0, ..] => Some(Format::Raw("an RW2 file (Panasonic raw)")),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => of_tiff(start, path),
        _ => None,
    }
}

/// ISO base media files: the brand, then a version, then brands that readers may take it for.
fn of_brands(start: &[u8], rest: &[u8]) -> Option<Format> {
    let length = u32::from_be_bytes(*start.first_chunk()?) as usize;
    let brands = rest.get(..length.saturating_sub(8).min(rest.len()))?.chunks_exact(4);
    brands.enumerate().filter(|(i, _)| *i != 1).find_map(|(_, brand)| match brand {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(Format::Heic),
        b"crx " => Some(Format::Raw("a CR3 file (Canon raw)")),
        _ => None,
    })
}

/// Raw files that are TIFF at first sight. CR2 says so after the head, DNG by a tag of its own; NEF and ARW differ from
/// other TIFF files in where their pixels lie, and are believed by their names.
fn of_tiff(start: &[u8], path: &Path) -> Option<Format> {
    const DNG_VERSION: u16 = 50706;
    if start.get(8..10) == Some(b"CR") {
        return Some(Format::Raw("a CR2 file (Canon raw)"));
    }
    if tags(start).is_some_and(|tags| tags.contains(&DNG_VERSION)) {
        return Some(Format::Raw("a DNG file (raw)"));
    }
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "nef" => Some(Format::Raw("a NEF file (Nikon raw)")),
        "arw" => Some(Format::Raw("an ARW file (Sony raw)")),
        "dng" => Some(Format::Raw("a DNG file (raw)")),
        _ => None,
    }
}

/// Tags of the first directory, as far as it lies in what was looked at.
fn tags(start: &[u8]) -> Option<Vec<u16>> {
    let is_little = start.first() == Some(&b'I');
    let two = |at: usize| {
        let bytes = *start.get(at..)?.first_chunk::<2>()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let place = *start.get(4..)?.first_chunk::<4>()?;
    let place = if is_little { u32::from_le_bytes(place) } else { u32::from_be_bytes(place) } as usize;
    let count = two(place)?;
    Some((0..usize::from(count)).map_while(|i| two(place + 2 + 12 * i)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiff(tags: &[u16]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((tags.len() as u16).to_le_bytes());
        tags.iter().for_each(|tag| bytes.extend([&tag.to_le_bytes()[..], &[0; 10]].concat()));
        bytes
    }

    #[test]
    fn formats_are_told_by_how_they_begin() {
        let iso = |brands: &[&[u8; 4]]| {
            let brands: Vec<u8> = brands.iter().flat_map(|b| **b).collect();
            [&(8 + brands.len() as u32).to_be_bytes()[..], b"ftyp", &brands].concat()
        };
        let raw = |name| Some(Format::Raw(name));
        for (start, name, expected) in [
            (iso(&[b"heic", b"\0\0\0\0", b"mif1"]), "a.jpg", Some(Format::Heic)),
            (iso(&[b"mif1", b"\0\0\0\0", b"mif1", b"heic"]), "a.jpg", Some(Format::Heic)),
            (iso(&[b"mif1", b"\0\0\0\0", b"mif1", b"avif"]), "a.jpg", Some(Format::Avif)),
            (iso(&[b"avif", b"\0\0\0\0"]), "a.jpg", Some(Format::Avif)),
            (iso(&[b"crx ", b"\0\0\0\x01"]), "a", raw("a CR3 file (Canon raw)")),
            (iso(&[b"isom", b"heic", b"mp41"]), "a.heic", None),
            (b"\xff\x0a\x01".to_vec(), "a", Some(Format::JpegXl)),
            (b"\0\0\0\x0cJXL \r\n\x87\n\0".to_vec(), "a", Some(Format::JpegXl)),
            (b"II*\0\x10\0\0\0CR\x02\0".to_vec(), "a", raw("a CR2 file (Canon raw)")),
            (b"FUJIFILMCCD-RAW 0201".to_vec(), "a", raw("a RAF file (Fujifilm raw)")),
            (b"IIRO\x08\0".to_vec(), "a", raw("an ORF file (Olympus raw)")),
            (b"MMOR\0\x08".to_vec(), "a", raw("an ORF file (Olympus raw)")),
            (b"IIU\0\x18\0".to_vec(), "a", raw("an RW2 file (Panasonic raw)")),
            (tiff(&[256, 50706]), "a.tif", raw("a DNG file (raw)")),
            (tiff(&[256, 257]), "a.tif", None),
            (tiff(&[256, 257]), "a.NEF", raw("a NEF file (Nikon raw)")),
            (tiff(&[256]), "a.arw", raw("an ARW file (Sony raw)")),
            (b"MM\0*".to_vec(), "a.dng", raw("a DNG file (raw)")),
            (b"\xff\xd8\xff\xe0".to_vec(), "a.heic", None),
            (Vec::new(), "a.heic", None),
        ] {
            assert_eq!(recognised(&start, Path::new(name)), expected, "{name} {}", start.escape_ascii());
        }
    }
}
