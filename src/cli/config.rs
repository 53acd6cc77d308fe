//! `engine config`: what holds for a command, and where each value is from.

use std::ffi::OsString;

use clap::{Args, Command};
use engine::host::progress::print_line;
use engine::{Error, Result};

use super::layers::{self, Origin, Resolved, Setting};
use super::option_names::{nearest, option_names};
use super::planned;

/// Print the value of every option of a command, and where it is from.
///
/// A value is taken from the command line, else from the environment (--max-side of any command: ENGINE_MAX_SIDE, of
/// infer alone: ENGINE_INFER_MAX_SIDE), else from the file of options, else from --quality, else it is the default.
/// The file is the one of --config, else of ENGINE_CONFIG, else engine.toml in the current folder. What is printed can
/// be saved as such a file.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine config infer
  engine config infer --quality high --max-side 1600 > engine.toml
  engine config eval depth")]
pub struct ConfigArgs {
    /// A command, and options of it as they would be typed
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND [OPTIONS]")]
    words: Vec<OsString>,
    /// The file of options, before the command
    #[arg(skip)]
    file: Option<OsString>,
}

impl ConfigArgs {
    /// With the file that was named before `config`.
    pub fn with_file(self, file: Option<OsString>) -> Self {
        Self { file, ..self }
    }
}

/// Prints it; `program` describes all commands.
pub fn run(args: ConfigArgs, program: fn() -> Command) -> Result<()> {
    let file = args.file.into_iter().flat_map(|file| ["--config".into(), file]);
    let words = std::iter::once("engine".into()).chain(file).chain(args.words).collect();
    let Resolved { settings, path, file, .. } = layers::resolve(words, program, planned::plan_of)?;
    if path.is_empty() {
        let commands = program().get_subcommands().map(|c| c.get_name().to_owned()).collect::<Vec<_>>().join(", ");
        return Err(Error::input("engine config", "no command of the program", format!("one of {commands}")));
    }
    let mut text = String::new();
    if let Some(file) = &file {
        text += &format!("# file of options: {}\n", file.display());
    }
    for name in unknown_variables(&program()) {
        text += &format!("# {name}\n");
    }
    text += &format!("[{}]\n", path.join("."));
    let width = settings.iter().map(|s| line(s).chars().count()).filter(|&w| w <= WIDEST).max().unwrap_or(0);
    for setting in &settings {
        let (line, origin) = (line(setting), setting.origin.to_string());
        text += &format!("{line}{}  # {origin}\n", " ".repeat(width.saturating_sub(line.chars().count())));
    }
    print_line(text.trim_end());
    Ok(())
}

/// Longer lines push their comments out rather than all others'.
const WIDEST: usize = 48;

/// `max-side = 800`; a comment where nobody has given a value.
fn line(setting: &Setting) -> String {
    let quoted = |word: &String| match word.parse::<f64>() {
        Ok(number) if number.is_finite() => word.clone(),
        _ if word == "true" || word == "false" => word.clone(),
        _ => toml_edit::Value::from(word.as_str()).to_string(),
    };
    let name = &setting.name;
    let line = match &setting.words[..] {
        [] => name.clone(),
        [word] => format!("{name} = {}", quoted(word)),
        words => format!("{name} = [{}]", words.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    };
    // A default that was saved would go before a preset.
    if matches!(setting.origin, Origin::Default(_)) { format!("# {line}") } else { line }
}

/// What is to be said of variables that begin like those of options but are none.
fn unknown_variables(root: &Command) -> Vec<String> {
    let mut known = Vec::new();
    variables(root, &mut Vec::new(), &mut known);
    let of_name = |name: OsString| {
        let name = name.to_str()?.to_owned();
        let is_other =
            name.starts_with("ENGINE_") && !known.contains(&name) && !layers::OTHER_VARIABLES.contains(&&*name);
        let near = is_other.then(|| nearest(&name, &known)).flatten()?;
        Some(format!("{name} is no variable of an option; did you mean {near}?"))
    };
    let mut said: Vec<String> = std::env::vars_os().filter_map(|(name, _)| of_name(name)).collect();
    said.sort();
    said
}

/// The names of all options' variables.
fn variables(command: &Command, path: &mut Vec<String>, known: &mut Vec<String>) {
    for option in option_names(command, false) {
        known.extend(layers::variables_of(path, &option));
    }
    for below in command.get_subcommands() {
        path.push(below.get_name().to_owned());
        variables(below, path, known);
        path.pop();
    }
}
