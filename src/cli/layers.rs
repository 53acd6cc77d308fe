//! Where the values of options come from: the command line, else the environment, else a file, else a preset of
//! quality, else the default.
//!
//! What is not typed is added to the command line as if it had been, right behind the command's name; so the rules of
//! the command line hold for all of it. A value that does not fit is refused here, since only here is known where it is
//! from. An option that excludes one of a higher layer is left out.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use engine::host::progress::{Progress, print_error_line};
use engine::{Error, Result};

use super::option_file::{FILE, OptionFile};
use super::option_names::{nearest, option_names, options_of};
use super::quality::Quality;

/// Variables that are not of options: of the GPU's libraries, of builds and of tests.
pub const OTHER_VARIABLES: [&str; 2] = ["ENGINE_CUDA_LIBS", "ENGINE_CUDA_ARCHS"];

/// Where a value is from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// It was typed.
    CommandLine,
    /// The plan in this file, which a shard goes by.
    Plan(String),
    /// A variable of this name.
    Environment(String),
    /// A file and a line of it.
    File(String),
    /// The preset of this name.
    Quality(String),
    /// An argument of a function, by its name.
    Argument(String),
    /// Nobody said anything; the text is what the help says of it.
    Default(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(name) | Self::Argument(name) => f.write_str(name),
            Self::File(place) | Self::Plan(place) => f.write_str(place),
            Self::Quality(name) => write!(f, "--quality {name}"),
            Self::Default(text) if text.is_empty() => f.write_str("default"),
            Self::Default(text) => write!(f, "default: {text}"),
        }
    }
}

/// One option of a command with its value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its long name, without dashes.
    pub name: String,
    /// One word for each time that it is given; none where it is not.
    pub words: Vec<String>,
    /// Where it is from.
    pub origin: Origin,
}

/// What a plan says of options.
pub struct Planned {
    /// The plan's file.
    pub file: String,
    /// Those that it has, by name.
    pub given: Vec<(String, String)>,
    /// All that it decides: what it does not have is as if nobody had said anything.
    pub names: Vec<String>,
}

/// Finds the plan that a command line goes by, from the command, its options, and the scene that it names.
pub type FindPlan = fn(&[String], &[Setting], Option<&Path>) -> Result<Option<Planned>>;

/// A command line with everything in it.
pub struct Resolved {
    /// The program's name, the command, and all options.
    pub words: Vec<OsString>,
    /// The command's name, and below it: `eval`, `depth`. Empty where none was typed.
    pub path: Vec<String>,
    /// All options of the command, in the order of its help.
    pub settings: Vec<Setting>,
    /// The file of options, if there is one.
    pub file: Option<PathBuf>,
}

/// Adds to what was typed what the environment and the file of options say. `program` describes all commands.
///
/// # Errors
/// A file that cannot be read or has an unknown key, and values that do not fit.
pub fn resolve(mut words: Vec<OsString>, program: fn() -> Command, find_plan: FindPlan) -> Result<Resolved> {
    let mut root = program();
    root.build();
    // What was typed, as far as it can be understood; mistakes in it are told when it is parsed in earnest. Where help
    // is asked for there is nothing to add.
    let Ok(typed) = program().ignore_errors(true).try_get_matches_from(&words) else {
        return Ok(Resolved { words, path: Vec::new(), settings: Vec::new(), file: None });
    };
    let (mut command, mut matches, mut path) = (&root, &typed, Vec::new());
    while let Some((name, below)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { break };
        (command, matches) = (found, below);
        path.push(found.get_name().to_owned());
    }
    let explains_itself = ["completions", "config", "man", "help"];
    if path.first().is_none_or(|name| explains_itself.contains(&name.as_str())) {
        return Ok(Resolved { words, path: Vec::new(), settings: Vec::new(), file: None });
    }
    let file = file_of_options(&typed, matches).map(|path| OptionFile::read(&path, &root)).transpose()?;
    let mut layered = settings(command, matches, &path, (file.as_ref(), None))?;
    let scene = matches.try_get_one::<PathBuf>("scene").ok().flatten();
    if let Some(plan) = find_plan(&path, &layered, scene.map(PathBuf::as_path))? {
        layered = settings(command, matches, &path, (file.as_ref(), Some(&plan)))?;
    }
    let settings = layered;
    if let Some(at) = place_behind(&words, &path) {
        words.splice(at..at, settings.iter().flat_map(|setting| as_typed(setting, command)));
    }
    Ok(Resolved { words, path, settings, file: file.map(|file| file.path) })
}

/// The value of every option. A shard goes by its plan before all but what was typed.
fn settings(
    command: &Command,
    typed: &ArgMatches,
    path: &[String],
    (file, plan): (Option<&OptionFile>, Option<&Planned>),
) -> Result<Vec<Setting>> {
    let mut given = Vec::new();
    for arg in options_of(command) {
        let name = arg.get_long().unwrap_or_default().to_owned();
        let typed = from_command_line(typed, arg).map(|words| (words, Origin::CommandLine));
        let planned = plan.filter(|plan| plan.names.contains(&name)).map(|plan| from_plan(plan, &name));
        let setting = match typed.map(Some).or(planned) {
            Some(setting) => setting,
            None => from_environment(path, &name).map_or_else(
                || {
                    let entry = file.map(|file| Ok(file.entry(path, &name)?.map(|entry| (entry, file)))).transpose()?;
                    Ok::<_, Error>(
                        entry.flatten().map(|(e, file)| (joined(arg, e.words), Origin::File(file.place(e.line)))),
                    )
                },
                |(variable, word)| Ok(Some((vec![word], Origin::Environment(variable)))),
            )?,
        };
        if let Some((words, origin)) = &setting
            && *origin != Origin::CommandLine
        {
            check(arg, &name, words, origin)?;
        }
        given.push((arg, name, setting));
    }
    let quality = given.iter().find(|(_, name, _)| name == "quality").and_then(|(_, _, setting)| setting.as_ref());
    let quality = quality.and_then(|(words, _)| words.first().cloned());
    let preset = preset_of(quality.as_deref());
    for (_, name, setting) in &mut given {
        if let (None, Some((_, word))) = (&setting, preset.iter().find(|(option, _)| option == name)) {
            *setting = Some((vec![(*word).to_owned()], Origin::Quality(quality.clone().unwrap_or_default())));
        }
    }
    let excluded: Vec<bool> = (0..given.len()).map(|at| is_excluded(command, &given, at)).collect();
    let of_arg = |((arg, name, setting), excluded): (Given, bool)| {
        let (words, origin) = match setting.filter(|_| !excluded) {
            Some(setting) => setting,
            None => default_of(arg),
        };
        Setting { name, words, origin }
    };
    Ok(given.into_iter().zip(excluded).map(of_arg).collect())
}

type Given<'a> = (&'a Arg, String, Option<(Vec<String>, Origin)>);

/// What a plan says of an option.
fn from_plan(plan: &Planned, name: &str) -> Option<(Vec<String>, Origin)> {
    let words: Vec<String> = plan.given.iter().filter(|(n, _)| n == name).map(|(_, word)| word.clone()).collect();
    (!words.is_empty()).then(|| (words, Origin::Plan(plan.file.clone())))
}

/// The options that a preset of this name stands for.
pub fn preset_of(quality: Option<&str>) -> &'static [(&'static str, &'static str)] {
    quality.and_then(Quality::named).map_or(&[][..], Quality::options)
}

/// An option that a command does not have, with the nearest that it has.
pub fn unknown_option(command: &Command, name: &str) -> Error {
    let names = option_names(command, true);
    let expected = match nearest(name, &names) {
        Some(near) => format!("an option; did you mean `{}`?", near.replace('-', "_")),
        None => format!("one of {}", names.join(", ").replace('-', "_")),
    };
    Error::input(name.replace('-', "_"), "no option of this name", expected)
}

/// Whether an option cannot stand beside one of a higher layer.
fn is_excluded(command: &Command, given: &[Given], at: usize) -> bool {
    let rank = |origin: &Origin| match origin {
        Origin::CommandLine | Origin::Argument(_) => 0,
        Origin::Plan(_) => 1,
        Origin::Environment(_) => 2,
        Origin::File(_) => 3,
        Origin::Quality(_) => 4,
        Origin::Default(_) => 5,
    };
    let conflict =
        |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id());
    let (arg, _, Some((words, origin))) = &given[at] else { return false };
    let is_off = |words: &[String], arg: &Arg| is_flag(arg) && words == ["false"];
    !is_off(words, arg)
        && given.iter().any(|(other, _, setting)| {
            setting.as_ref().is_some_and(|(words, of_other)| rank(of_other) < rank(origin) && !is_off(words, other))
                && (conflict(arg, other) || conflict(other, arg))
        })
}

/// What was typed of an option.
fn from_command_line(typed: &ArgMatches, arg: &Arg) -> Option<Vec<String>> {
    let id = arg.get_id().as_str();
    if typed.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    if is_flag(arg) {
        return Some(vec!["true".into()]);
    }
    let words = typed.get_raw(id)?.map(|word| word.to_string_lossy().into_owned()).collect();
    Some(joined(arg, words))
}

/// Several words for an option that takes a list are one: `near,far`.
fn joined(arg: &Arg, words: Vec<String>) -> Vec<String> {
    if words.len() > 1 && (!matches!(arg.get_action(), ArgAction::Append) || arg.get_value_delimiter().is_some()) {
        return vec![words.join(",")];
    }
    words
}

pub fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The variables of an option, those first that go before the others.
pub fn variables_of(path: &[String], option: &str) -> Vec<String> {
    let name = |parts: &[String]| {
        let parts = parts.iter().map(String::as_str).chain([option]);
        let words: Vec<String> = parts.map(|part| part.replace('-', "_").to_uppercase()).collect();
        format!("ENGINE_{}", words.join("_"))
    };
    (0..=path.len()).rev().map(|depth| name(&path[..depth])).collect()
}

/// The variable that is set, and its value. An empty one is as good as none.
fn from_environment(path: &[String], option: &str) -> Option<(String, String)> {
    variables_of(path, option).into_iter().find_map(|name| {
        let value = std::env::var_os(&name).filter(|value| !value.is_empty())?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// What the command does if nobody says anything.
fn default_of(arg: &Arg) -> (Vec<String>, Origin) {
    let words: Vec<String> = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    if is_flag(arg) {
        return (vec!["false".into()], Origin::Default(String::new()));
    }
    let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
    let told = help.rsplit_once("[default: ").and_then(|(_, told)| told.strip_suffix(']')).unwrap_or_default();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_nothing = told.is_empty() && words.is_empty();
    (words, Origin::Default(if is_nothing { "nothing".into() } else { told }))
}

/// Refuses a value that the option would refuse.
pub fn check(arg: &Arg, name: &str, words: &[String], origin: &Origin) -> Result<()> {
    let mut alone = Arg::new("value").long("value").allow_hyphen_values(true).require_equals(true);
    alone = match arg.get_action() {
        ArgAction::SetTrue => alone.value_parser(clap::value_parser!(bool)),
        action => alone.value_parser(arg.get_value_parser().clone()).action(action.clone()),
    };
    if let Some(delimiter) = arg.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    let command = Command::new("check").no_binary_name(true).arg(alone);
    let Err(refusal) = command.try_get_matches_from(words.iter().map(|word| format!("--value={word}"))) else {
        return Ok(());
    };
    let expected = match (std::error::Error::source(&refusal), valid_values(&refusal)) {
        (_, Some(values)) => format!("one of {values}"),
        (Some(reason), None) => reason.to_string().trim_start_matches("expected ").to_owned(),
        (None, None) => "a single value".to_owned(),
    };
    let place = match origin {
        Origin::Environment(name) | Origin::Argument(name) => name.clone(),
        origin => format!("{origin}: {name}"),
    };
    let expected = match origin {
        Origin::Argument(_) => expected,
        _ => format!("{expected} (as for --{name} on the command line)"),
    };
    Err(Error::input(place, words.join(","), expected))
}

/// The values that an option has, where they are listed.
fn valid_values(refusal: &clap::Error) -> Option<String> {
    match refusal.get(clap::error::ContextKind::ValidValue)? {
        clap::error::ContextValue::Strings(values) if !values.is_empty() => Some(values.join(", ")),
        _ => None,
    }
}

/// What is to be added to the command line.
fn as_typed(setting: &Setting, command: &Command) -> Vec<OsString> {
    let Setting { name, words, origin } = setting;
    if matches!(origin, Origin::CommandLine | Origin::Default(_)) {
        return Vec::new();
    }
    let flag = options_of(command).any(|arg| arg.get_long() == Some(name) && is_flag(arg));
    match words.first().map(String::as_str) {
        Some("true") if flag => vec![format!("--{name}").into()],
        _ if flag => Vec::new(),
        _ => words.iter().map(|word| format!("--{name}={word}").into()).collect(),
    }
}

/// The place right behind the command's name. Before it stand only the program's name and `--config`.
fn place_behind(words: &[OsString], path: &[String]) -> Option<usize> {
    let mut at = 1;
    for name in path {
        while let Some(word) = words.get(at) {
            if word == OsStr::new(name) {
                break;
            }
            at += 1;
        }
        at += 1;
    }
    (at <= words.len()).then_some(at)
}

/// The file of `--config`, else of `ENGINE_CONFIG`, else the one in the current folder.
fn file_of_options(typed: &ArgMatches, of_command: &ArgMatches) -> Option<PathBuf> {
    let named = |matches: &ArgMatches| matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let variable = || std::env::var_os("ENGINE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let here = || Path::new(FILE).is_file().then(|| PathBuf::from(FILE));
    named(of_command).or_else(|| named(typed)).or_else(variable).or_else(here)
}

/// Says what was not typed; where much is to be told, all options.
pub fn tell(settings: &[Setting], file: Option<&Path>, verbose: bool, progress: &Progress) {
    if verbose {
        for Setting { name, words, origin } in settings {
            print_error_line(&format!("option: {name} = {} ({origin})", words.join(" ")));
        }
        return;
    }
    let of = |wanted: fn(&Origin) -> bool| -> Vec<&str> {
        settings.iter().filter(|s| wanted(&s.origin)).map(|s| s.name.as_str()).collect()
    };
    let of_file = of(|origin| matches!(origin, Origin::File(_)));
    if let (Some(file), false) = (file, of_file.is_empty()) {
        progress.note(&format!("from {}: --{}", file.display(), of_file.join(", --")));
    }
    let of_plan = of(|origin| matches!(origin, Origin::Plan(_)));
    if !of_plan.is_empty() {
        progress.note(&format!("from the plan: --{}", of_plan.join(", --")));
    }
    let of_environment: Vec<String> = settings
        .iter()
        .filter_map(|s| match &s.origin {
            Origin::Environment(variable) => Some(format!("--{} ({variable})", s.name)),
            _ => None,
        })
        .collect();
    if !of_environment.is_empty() {
        progress.note(&format!("from the environment: {}", of_environment.join(", ")));
    }
}
