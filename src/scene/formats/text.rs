//! Formats in plain text: words with their lines, and numbers out of them.

use std::path::Path;

use crate::{Error, Result};

/// The words of a text, one after the other.
pub struct Words<'a> {
    file: &'a Path,
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    words: std::str::SplitWhitespace<'a>,
    /// The line of the word that was given last, from 1.
    line: usize,
}

impl<'a> Words<'a> {
    /// Of a file's text.
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, lines: text.lines().enumerate(), words: "".split_whitespace(), line: 0 }
    }

    /// File and line, for messages.
    pub fn place(&self) -> String {
        format!("{}: line {}", self.file.display(), self.line.max(1))
    }

    /// The next word; `None` at the end.
    pub fn try_next(&mut self) -> Option<&'a str> {
        loop {
            if let Some(word) = self.words.next() {
                return Some(word);
            }
            let (i, line) = self.lines.next()?;
            self.line = i + 1;
            self.words = line.split_whitespace();
        }
    }

    /// The next line that is not empty, without its ends; what is left of the present line is skipped.
    pub fn next_line(&mut self) -> Option<&'a str> {
        loop {
            let (i, line) = self.lines.next()?;
            self.line = i + 1;
            self.words = "".split_whitespace();
            if !line.trim().is_empty() {
                return Some(line.trim());
            }
        }
    }

    /// The rest of the present line, word by word.
    pub fn rest_of_line(&mut self) -> Vec<&'a str> {
        std::mem::replace(&mut self.words, "".split_whitespace()).collect()
    }

    /// The next word.
    ///
    /// # Errors
    /// The end of the file.
    pub fn next(&mut self, what: &str) -> Result<&'a str> {
        match self.try_next() {
            Some(word) => Ok(word),
            None => Err(Error::input(self.place(), "the file ends", what)),
        }
    }

    /// The next word as a finite number.
    ///
    /// # Errors
    /// The end of the file, another word.
    pub fn number(&mut self, what: &str) -> Result<f64> {
        let word = self.next(what)?;
        number(&self.place(), word, what)
    }

    /// The next words as finite numbers.
    ///
    /// # Errors
    /// As [`Words::number`].
    pub fn numbers<const N: usize>(&mut self, what: &str) -> Result<[f64; N]> {
        let mut numbers = [0.0; N];
        for value in &mut numbers {
            *value = self.number(what)?;
        }
        Ok(numbers)
    }

    /// The next word as a count or an index.
    ///
    /// # Errors
    /// The end of the file, another word.
    pub fn count(&mut self, what: &str) -> Result<usize> {
        let word = self.next(what)?;
        word.parse().map_err(|_| Error::input(self.place(), format!("`{word}`"), format!("a whole number ({what})")))
    }
}

/// A word as a finite number.
///
/// # Errors
/// Another word.
pub fn number(place: &str, word: &str, what: &str) -> Result<f64> {
    match word.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Error::input(place, format!("`{}`", word.trim()), format!("a finite number ({what})"))),
    }
}

/// `N` words of one text as finite numbers, and nothing after them.
///
/// # Errors
/// More or fewer words, or others.
pub fn numbers<const N: usize>(place: &str, text: &str, what: &str) -> Result<[f64; N]> {
    let mut found = [0.0; N];
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() != N {
        return Err(Error::input(place, format!("{} numbers", words.len()), format!("{N} numbers ({what})")));
    }
    for (value, word) in found.iter_mut().zip(words) {
        *value = number(place, word, what)?;
    }
    Ok(found)
}
