//! Formats in JSON: reading a file into a type, and numbers that some programs write as texts.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::files::input;
use crate::{Error, Result};

/// Reads a file into `T`; `expected` says what the file should hold.
///
/// # Errors
/// A file that cannot be read or does not hold it; the message names line and column.
pub fn read<T: DeserializeOwned>(file: &Path, expected: &str) -> Result<T> {
    let text = input::read_text(file, "read the cameras")?;
    serde_json::from_str(&text).map_err(|error| {
        let whole = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let said = whole.strip_suffix(&place).unwrap_or(&whole);
        Error::input(format!("{}:{place}", file.display()).replace(": at ", ": "), said, expected)
    })
}

/// A number, which may stand there as text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Number;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<E>(self, value: f64) -> std::result::Result<Number, E> {
                Ok(Number(value))
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<Number, E> {
                Ok(Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Number, E> {
                Ok(Number(value as f64))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Number, E> {
                text.trim().parse().map(Number).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A number of something, as text: some programs write it as a number, some as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Id, E> {
                Ok(Id(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The fields of an object in their order, of which none may stand there twice.
#[derive(Clone, Debug)]
pub struct Pairs<T>(pub Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs<T>, A::Error> {
                let (mut pairs, mut names) = (Vec::new(), std::collections::HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("`{name}` for the second time")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

/// Width and height as written; `None` where either is missing.
///
/// # Errors
/// Numbers that are no number of pixels.
pub fn size(place: &str, width: Option<Number>, height: Option<Number>) -> Result<Option<(usize, usize)>> {
    // More than any photo has; beyond it the number is a mistake.
    const MOST: f64 = 1e6;
    let (Some(Number(width)), Some(Number(height))) = (width, height) else { return Ok(None) };
    let side = |length: f64| (length.fract() == 0.0 && (1.0..=MOST).contains(&length)).then_some(length as usize);
    match (side(width), side(height)) {
        (Some(width), Some(height)) => Ok(Some((width, height))),
        _ => Err(Error::input(place, format!("a size of {width} x {height}"), "whole numbers of pixels")),
    }
}
