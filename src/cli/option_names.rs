//! What options there are, by their long names, and which of them a misspelt one may have been meant to be.

use clap::{Arg, Command};

/// The options that have values of their own.
pub fn options_of(command: &Command) -> impl Iterator<Item = &Arg> {
    let others = ["help", "version", "config", "list-presets"];
    command.get_arguments().filter(move |arg| arg.get_long().is_some_and(|long| !others.contains(&long)))
}

/// The options of a command, and with `all` of the commands below it.
pub fn option_names(command: &Command, all: bool) -> Vec<String> {
    let mut names: Vec<String> = options_of(command).filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    if all {
        names.extend(command.get_subcommands().flat_map(|below| option_names(below, true)));
    }
    names
}

/// Whether a command, or with `all` one below it, has an option of this name.
pub fn has_option(command: &Command, name: &str, all: bool) -> bool {
    options_of(command).any(|arg| arg.get_long() == Some(name))
        || all && command.get_subcommands().any(|below| has_option(below, name, true))
}

/// The name that is most like a word, if one is.
pub fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    // Below this, names are those of other things; it is what clap uses for the command line.
    const ALIKE: f64 = 0.7;
    let word = word.replace('_', "-");
    let scored = known.iter().map(|name| (strsim::jaro(&word, name), name.as_str()));
    scored.filter(|(score, _)| *score > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
