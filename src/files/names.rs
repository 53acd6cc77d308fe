//! Names and paths that need not be text: on Unix they may hold any bytes but 0.
//!
//! In JSON, which holds text only, a path is a string ([`in_json`]): as it is where it is UTF-8, else `bytes:` and all
//! of its bytes, of which letters, digits and `-._~/` stand as they are and each other one as `%` and two hexadecimal
//! digits. A path that itself begins with `bytes:` is written in this way, too, so that every string means one path.
//! On other systems than Unix, what is not Unicode in a path is lost.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serializer};

use crate::host::copies;

/// How a path begins in JSON that is written byte by byte.
const BYTES: &str = "bytes:";

/// The path as files and events in JSON hold it; of a copy, the name of the original.
pub fn in_json(path: &Path) -> String {
    if let Some(name) = copies::name_of(path) {
        return name;
    }
    match path.to_str() {
        Some(text) if !text.starts_with(BYTES) => text.to_owned(),
        _ => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
            BYTES.to_owned() + &escaped(&bytes(path), |byte| !is_plain(byte))
        }
    }
}

/// The path that [`in_json`] has written so. (A text that it never writes is the path of that name.)
pub fn from_json(text: &str) -> PathBuf {
    if let Some(place) = copies::place_of(text) {
        return place;
    }
    let bytes = text.strip_prefix(BYTES).and_then(unescaped);
    bytes.map_or_else(|| text.into(), from_bytes)
}

/// For `#[serde(with)]`: see [`in_json`].
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&in_json(path))
}

/// For `#[serde(with)]`: see [`from_json`].
///
/// # Errors
/// Something else than a string.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(from_json(&Cow::<str>::deserialize(deserializer)?))
}

/// The name as text that tells it from others: bytes that are no UTF-8 as `%` and two hexadecimal digits. Results have
/// such names.
pub fn readable(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in bytes(name.as_ref()).utf8_chunks() {
        text += chunk.valid();
        text += &escaped(chunk.invalid(), |_| true);
    }
    text
}

/// The bytes of a path.
pub fn bytes(path: &Path) -> Cow<'_, [u8]> {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).into();
    #[cfg(not(unix))]
    return path.to_string_lossy().into_owned().into_bytes().into();
}

/// The path of these bytes.
pub fn from_bytes(bytes: Vec<u8>) -> PathBuf {
    #[cfg(unix)]
    return PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes));
    #[cfg(not(unix))]
    return String::from_utf8_lossy(&bytes).into_owned().into();
}

/// A path with `/` between its parts, as files in JSON name what lies in their folder: on every system the same.
pub fn slashed(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    if std::path::MAIN_SEPARATOR == '/' { text } else { text.replace(std::path::MAIN_SEPARATOR, "/").into() }
}

fn escaped(bytes: &[u8], is_escaped: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_escaped(byte) {
            // A string takes all that is written into it.
            let _ = write!(text, "%{byte:02X}");
        } else {
            text.push(char::from(byte));
        }
    }
    text
}

/// The bytes of a text with escapes; `None` where an escape is not whole.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            bytes.push((digit(0)? * 16 + digit(1)?) as u8);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_and_what_begins_like_an_escape_is_escaped() {
        for plain in ["", "/a/b c.png", "\u{e4}/%FF", "a\n\"b", "byte:", "/bytes:"] {
            assert_eq!((in_json(Path::new(plain)).as_str(), from_json(plain)), (plain, plain.into()));
        }
        assert_eq!(in_json(Path::new("bytes:a%")), "bytes:bytes%3Aa%25");
        assert_eq!(from_json("bytes:bytes%3Aa%25"), Path::new("bytes:a%"));
        // Never written: whoever wrote it meant the name.
        for odd in ["bytes:%", "bytes:%F", "bytes:%G0", "bytes:%-1"] {
            assert_eq!(from_json(odd), Path::new(odd));
        }
    }

    #[test]
    fn files_in_a_folder_have_one_name_on_all_systems() {
        for path in [Path::new("depth").join("a.pfm"), "depth/a.pfm".into()] {
            assert_eq!(slashed(&path), "depth/a.pfm");
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_are_told_apart() {
        let path = from_bytes(b"/sc\xffene/\xe2\x82".to_vec());
        assert_eq!(in_json(&path), "bytes:/sc%FFene/%E2%82");
        assert_eq!(readable(path.as_os_str()), "/sc%FFene/%E2%82");
        assert_eq!(from_json("bytes:/sc%ffene/%E2%82"), path);
    }
}
