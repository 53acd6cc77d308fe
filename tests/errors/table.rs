//! What a case is: broken files in an empty folder, and a command that is run there.

use std::io::{BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Stdio;

use crate::program::{self, Ran};

/// Cases that begin with the same files, or run the same command.
pub struct Group {
    pub title: &'static str,
    /// What to do in cases that do not say otherwise.
    pub advice: &'static str,
    /// Writes the files that are right, into an empty folder.
    pub write: fn(&Path),
    /// What follows `engine`; the folder is the current one.
    pub run: &'static str,
    pub cases: Vec<Case>,
}

/// One error.
pub struct Case {
    /// What to do; empty: what the group says.
    pub advice: &'static str,
    /// What the group does otherwise.
    pub write: Option<fn(&Path)>,
    /// Spoils the files.
    pub spoil: fn(&Path),
    pub run: Option<&'static str>,
    pub how: How,
}

/// What becomes of a run.
#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// It ends by itself.
    Alone,
    /// Standard output is a full disk.
    FullOutput,
    /// It is interrupted once it has said something.
    Interrupted,
}

pub const NOTHING: fn(&Path) = |_| {};

/// Files that are spoilt.
pub fn spoilt(advice: &'static str, spoil: fn(&Path)) -> Case {
    Case { advice, write: None, spoil, run: None, how: How::Alone }
}

/// Another command.
pub fn told(advice: &'static str, run: &'static str) -> Case {
    Case { run: Some(run), ..spoilt(advice, NOTHING) }
}

/// An error as the page has it.
#[derive(Debug)]
pub struct Row {
    pub title: &'static str,
    pub code: i32,
    /// With neutral paths and numbers.
    pub message: String,
    pub advice: &'static str,
}

/// Runs a case and gives what it said.
///
/// # Errors
/// What was not as it should be: the program did not fail, or said more than a line.
pub fn row(group: &Group, case: &Case) -> Result<Row, String> {
    let made = catch_unwind(AssertUnwindSafe(|| unchecked_row(group, case)));
    made.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

fn unchecked_row(group: &Group, case: &Case) -> Row {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    case.write.unwrap_or(group.write)(root);
    (case.spoil)(root);
    let words = case.run.unwrap_or(group.run);
    let mut command = program::command(words.split_whitespace());
    // Other programs, such as Python with or without what it needs, are not found.
    command.current_dir(root).env("PATH", root);
    let ran = match case.how {
        How::Alone => Ran::from(command.output().unwrap()),
        How::FullOutput => {
            let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
            Ran::from(command.stdout(full).output().unwrap())
        }
        How::Interrupted => {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let (mut stderr, mut said) = (BufReader::new(child.stderr.take().unwrap()), String::new());
            stderr.read_line(&mut said).unwrap();
            // SAFETY: sends a signal to the child, which has not been waited for: its number is still its own.
            assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
            stderr.read_to_string(&mut said).unwrap();
            Ran { code: child.wait().unwrap().code(), stdout: String::new(), stderr: said }
        }
    };
    let code = ran.code.unwrap_or_else(|| panic!("engine {words}: ended by a signal\n{}", ran.stderr));
    assert_ne!(code, 0, "engine {words}: no error\n{}", ran.stderr);
    // The parser of arguments has more lines: usage, and where help is. Other errors are one line, the last.
    let mut errors = ran.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
    let message = errors.next().unwrap_or_else(|| panic!("engine {words}: no line `error: `\n{}", ran.stderr));
    if code != 2 {
        assert!(errors.next().is_none(), "engine {words}: more than one error\n{}", ran.stderr);
        assert!(ran.stderr.ends_with(&format!("error: {message}\n")), "engine {words}\n{}", ran.stderr);
    }
    let whole = dunce::canonicalize(root).unwrap();
    let message = message.replace(whole.to_str().unwrap(), "DIR").replace(root.to_str().unwrap(), "DIR");
    let message = without_hash(message);
    // How many points a tile has hangs on the maps' last bits, too.
    let has_points = message.contains("bytes, which do not hold the");
    let message = if has_points || matches!(code, 5 | 7) { without_numbers(&message) } else { message };
    let message = without_time(message);
    let advice = if case.advice.is_empty() { group.advice } else { case.advice };
    assert!(!advice.is_empty(), "engine {words}: {message}\nand what to do?");
    Row { title: group.title, code, message, advice }
}

/// TensorBoard's files bear the time and the machine in their names.
fn without_time(message: String) -> String {
    const FILE: &str = "events.out.tfevents.";
    let Some((before, after)) = message.split_once(FILE) else { return message };
    let end = after.find(',').unwrap_or(after.len());
    format!("{before}{FILE}TIME.HOST{}", &after[end..])
}

/// The folder of a plan of tiles bears the plan's hash, which hangs on the maps' last bits.
fn without_hash(message: String) -> String {
    const TILES: &str = "tiles/";
    const DIGITS: usize = 16;
    let Some((before, after)) = message.split_once(TILES) else { return message };
    match after.get(..DIGITS) {
        Some(hash) if hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}{TILES}HASH{}", &after[DIGITS..])
        }
        _ => message,
    }
}

/// Numbers that differ from machine to machine give way to N.
fn without_numbers(message: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for c in message.chars() {
        let continues = c.is_ascii_digit() || in_number && c == '.';
        if continues && !in_number {
            out.push('N');
        } else if !continues {
            out.push(c);
        }
        in_number = continues;
    }
    out
}
