//! Formats in XML: reading a file, and numbers out of its elements.

use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use crate::scene::formats::text;
use crate::{Error, Result};

/// An XML file.
///
/// # Errors
/// Text that is none; the message names the line.
pub fn parse<'a>(file: &Path, text: &'a str, expected: &str) -> Result<Document<'a>> {
    // Entities of a file's own may grow without end; none of these formats has any.
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| {
        let at = error.pos();
        let place = format!("{}: line {} column {}", file.display(), at.row, at.col);
        let said = error.to_string();
        let said = said.split(" at ").next().unwrap_or_default().replace('\n', " ");
        Error::input(place, format!("no well-formed XML ({said})"), expected)
    })
}

/// The first child of this name.
pub fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// A file with the beginnings of its lines: the parser itself would count them anew for every place that is asked for.
pub struct Source<'a> {
    file: &'a Path,
    newlines: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Of a file's text.
    pub fn new(file: &'a Path, text: &str) -> Self {
        Self { file, newlines: text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect() }
    }

    /// File and line of a node, for messages.
    pub fn place(&self, node: Node) -> String {
        let line = 1 + self.newlines.partition_point(|&at| at < node.range().start);
        format!("{}: line {line}", self.file.display())
    }

    /// The numbers in a node's text.
    ///
    /// # Errors
    /// More or fewer of them, or other words.
    pub fn numbers<const N: usize>(&self, node: Node, what: &str) -> Result<[f64; N]> {
        text::numbers(&self.place(node), node.text().unwrap_or_default(), what)
    }

    /// The number in the child of this name; `None` without such a child.
    ///
    /// # Errors
    /// Another text.
    pub fn number(&self, node: Node, name: &str) -> Result<Option<f64>> {
        child(node, name).map(|child| self.numbers::<1>(child, name).map(|[value]| value)).transpose()
    }

    /// An attribute as a number of pixels.
    ///
    /// # Errors
    /// A missing one, another text.
    pub fn pixels(&self, node: Node, name: &str) -> Result<usize> {
        let text = node.attribute(name).unwrap_or_default();
        // More than any photo has.
        let value = text.parse().ok().filter(|&value| (1..=1_000_000).contains(&value));
        value.ok_or_else(|| Error::input(self.place(node), format!("{name} `{text}`"), "a whole number of pixels"))
    }
}
