//! Options by the names that they have on the command line, given by something else: arguments of a function, a plan.

use clap::{Args, Command, FromArgMatches};
use engine::{Error, Result};

use super::layers::{self, Origin};

/// An option's name, as on the command line without dashes (`_` stands for `-`, too), and its value; of a switch `true`
/// or `false`.
pub type Given = (String, String);

/// A command's options from their names and values.
///
/// # Errors
/// Options that do not exist, or do not fit.
pub fn parsed<T: Args + FromArgMatches>(options: &[Given]) -> Result<T> {
    let mut command = T::augment_args(Command::new("options").no_binary_name(true));
    command.build();
    let options: Vec<Given> = options.iter().map(|(name, value)| (name.replace('_', "-"), value.clone())).collect();
    let mut words = Vec::new();
    for (name, value) in with_preset(options) {
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&name) && name != "help") else {
            return Err(layers::unknown_option(&command, &name));
        };
        let origin = Origin::Argument(name.replace('-', "_"));
        layers::check(arg, &name, std::slice::from_ref(&value), &origin)?;
        match (layers::is_flag(arg), value.as_str()) {
            (true, "true") => words.push(format!("--{name}")),
            (true, _) => {}
            (false, value) => words.push(format!("--{name}={value}")),
        }
    }
    // Each alone is right: what is left is that some do not go together.
    let refused = |error: clap::Error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::input("options", first, "options that go together")
    };
    let matches = command.try_get_matches_from(words).map_err(refused)?;
    T::from_arg_matches(&matches).map_err(refused)
}

/// With what `quality` stands for, where it is not given otherwise.
fn with_preset(mut options: Vec<Given>) -> Vec<Given> {
    let quality = options.iter().find(|(name, _)| name == "quality").map(|(_, value)| value.clone());
    for (name, value) in layers::preset_of(quality.as_deref()) {
        if !options.iter().any(|(given, _)| given == name) {
            options.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    options
}
