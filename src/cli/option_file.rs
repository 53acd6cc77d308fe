//! `engine.toml`: values for options, for all commands at the top, for one in a table of its name.
//!
//! ```toml
//! threads = 4            # every command that has it
//!
//! [infer]
//! max-side = 1600
//! range = [0.5, 12]      # as --range 0.5,12
//!
//! [eval.depth]
//! plot = "depth.svg"
//! ```

use std::path::{Path, PathBuf};

use clap::Command;
use engine::files::input;
use engine::{Error, Result};
use toml_edit::{Document, Item, Table, Value};

use super::option_names::{has_option, nearest, option_names};

/// The name of the file that is looked for in the current folder.
pub const FILE: &str = "engine.toml";

/// A file of values: every key is that of an option.
pub struct OptionFile {
    /// Where it lies.
    pub path: PathBuf,
    text: Document<String>,
}

/// What a file says of one option.
pub struct Entry {
    /// One word for each time that the option would be typed.
    pub words: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

impl OptionFile {
    /// Reads it, and refuses keys that are no options of `root`'s commands.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, or has a key or a value of a kind that no option has.
    pub fn read(path: &Path, root: &Command) -> Result<Self> {
        let bytes = input::read(path, "read the file of options")?;
        let place = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|e| {
            Error::input(
                &place,
                format!("a byte that is no UTF-8 at {}", e.utf8_error().valid_up_to()),
                "text in UTF-8",
            )
        })?;
        let text = Document::parse(text.clone()).map_err(|e| {
            let line = line_of(&text, e.span().map_or(0, |span| span.start));
            Error::input(
                format!("{place}: line {line}"),
                e.message().replace('\n', "; "),
                "TOML, such as max-side = 800",
            )
        })?;
        let file = Self { path: path.to_owned(), text };
        file.check(file.text.as_table(), root, &[])?;
        Ok(file)
    }

    /// The value of an option of the command at `path` ("eval", "depth"): of its own table, else of those above.
    ///
    /// # Errors
    /// A value that is no number, text, truth or list of such.
    pub fn entry(&self, path: &[String], option: &str) -> Result<Option<Entry>> {
        for depth in (0..=path.len()).rev() {
            let mut table = Some(self.text.as_table());
            for name in &path[..depth] {
                table = table.and_then(|t| t.get(name)).and_then(Item::as_table);
            }
            if let Some(item) = table.and_then(|t| t.get(option)).filter(|item| !item.is_table()) {
                let line = self.line(item.span().map_or(0, |span| span.start));
                let words = item.as_value().and_then(|value| words(value, self.text.raw())).ok_or_else(|| {
                    let found = format!("{option} is neither a number nor text nor true or false, nor a list of such");
                    Error::input(self.place(line), found, "a value as on the command line")
                })?;
                return Ok(Some(Entry { words, line }));
            }
        }
        Ok(None)
    }

    /// A line of the file, for messages.
    pub fn place(&self, line: usize) -> String {
        format!("{}: line {line}", self.path.display())
    }

    fn line(&self, byte: usize) -> usize {
        line_of(self.text.raw(), byte)
    }

    /// Refuses what is not known.
    fn check(&self, table: &Table, command: &Command, path: &[&str]) -> Result<()> {
        for (key, item) in table {
            let of_key = table.key(key).and_then(toml_edit::Key::span);
            let line = self.line(of_key.or(item.span()).map_or(0, |span| span.start));
            match (item.as_table(), command.find_subcommand(key)) {
                (Some(table), Some(below)) => self.check(table, below, &[path, &[key]].concat())?,
                (None, _) if has_option(command, key, true) => {}
                (is_table, _) => {
                    let what = if is_table.is_some() { "table" } else { "key" };
                    return Err(Error::input(
                        self.place(line),
                        format!("the {what} `{key}`"),
                        expected(command, key, path),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What was expected instead of a key, with the nearest name that there is.
fn expected(command: &Command, key: &str, path: &[&str]) -> String {
    let commands = command.get_subcommands().map(|c| c.get_name().to_owned());
    let mut known: Vec<String> = option_names(command, true).into_iter().chain(commands).collect();
    known.sort();
    known.dedup();
    let whose = match path {
        [] => "an option of any command, or a command in brackets".to_owned(),
        path => format!("an option of `engine {}`", path.join(" ")),
    };
    match nearest(key, &known) {
        Some(near) => format!("{whose}: did you mean `{near}`?"),
        None => format!("{whose}; `engine config COMMAND` lists them"),
    }
}

/// As the words of a command line; a list gives several.
fn words(value: &Value, text: &str) -> Option<Vec<String>> {
    match value {
        Value::Array(list) => list.iter().map(|value| word(value, text)).collect(),
        value => word(value, text).map(|word| vec![word]),
    }
}

fn word(value: &Value, text: &str) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Boolean(truth) => Some(truth.value().to_string()),
        // As it stands there: a number may have more digits than a double.
        Value::Integer(_) | Value::Float(_) => Some(text.get(value.span()?)?.replace('_', "")),
        _ => None,
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|&&b| b == b'\n').count() + 1
}
