//! Every message of an error that can be provoked: docs/ERRORS.md is made of what the program really says.
//!
//! Each case (`table.rs`) writes files that are right, spoils them in one place and runs the real program on them.
//! Cases stand in the files `scenes`, `colmap`, `formats`, `depths`, `maps`, `exports`, `programs` and `shards`;
//! `sources.rs` looks in the sources for messages that no case provokes. A page that differs fails;
//! ENGINE_WRITE_DOCS=1 writes it anew.

// What a build for a GPU says of devices differs; so do the system's own reasons elsewhere.
#![cfg(all(target_os = "linux", not(feature = "cuda")))]

use std::fmt::Write;
use std::path::Path;

use rayon::prelude::*;

mod colmap;
#[path = "../support/depth_files.rs"]
mod depth_files;
mod depths;
#[path = "../support/dtu_files.rs"]
mod dtu_files;
mod exports;
#[path = "../support/format_files.rs"]
mod format_files;
#[path = "../support/format_opf.rs"]
mod format_opf;
#[path = "../support/format_trees.rs"]
mod format_trees;
mod formats;
mod maps;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
mod programs;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod scenes;
mod shards;
mod sources;
#[path = "../support/spoilt_scenes.rs"]
mod spoilt_scenes;
mod table;

use table::{Group, Row};

/// Number, meaning, and what it is about: the head of a section.
const CODES: [(i32, &str, &str); 11] = [
    (0, "done", ""),
    (
        1,
        "a mistake in the engine",
        "These messages end with the request to report them. No command is known that gives one.",
    ),
    (
        2,
        "wrong words on the command line",
        "The first line that the parser of arguments says; usage follows. Nothing was begun.",
    ),
    (3, "an input that does not hold what it should", "A file, a folder, or an option that does not fit the files."),
    (
        4,
        "files that the system refuses to read or write",
        "After the last colon stands the system's reason. Where the disk is full, the message says so and what to do; \
         the same command goes on once there is room. Nothing is left half-written.",
    ),
    (
        5,
        "not enough memory",
        "N stands for numbers. A run is planned before it begins, so nothing was begun. A file that would unpack to \
         more than half of the memory is refused in the same way.",
    ),
    (6, "done, but nothing came out", "All other results are written."),
    (7, "a value in training that is not finite", "N stands for numbers. The state before it is kept."),
    (8, "a GPU or its driver refuses", "What a device itself says is shown as it is."),
    (9, "not done yet", "What `engine status` says while something is left to do."),
    (130, "stopped by Ctrl-C or a signal", "The same command goes on with what is left."),
];

fn rows() -> Vec<Result<Row, String>> {
    let groups: Vec<Group> = [
        scenes::groups(),
        colmap::groups(),
        formats::groups(),
        depths::groups(),
        maps::groups(),
        exports::groups(),
        programs::groups(),
        shards::groups(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let cases: Vec<_> = groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case))).collect();
    cases.into_par_iter().map(|(group, case)| table::row(group, case)).collect()
}

/// The page.
fn page(rows: &[Row]) -> String {
    let mut page = "\
# Errors

An error is one line on standard error: `error: PLACE: WHAT WAS FOUND; expected WHAT WAS EXPECTED`, and what to do where
that is not obvious. With `--json` the same is an event `error` with `message` and `exit_code`. No error leaves a file
half-written.

Exit codes are stable: programs may rely on them. Messages are for people and may change.

This page is made by `cargo test --test errors`, which provokes each error with the real program. DIR stands for the
folder where the command ran.

| exit code | meaning |
| --- | --- |
"
    .to_owned();
    for (code, meaning, _) in CODES {
        writeln!(page, "| {code} | {meaning} |").unwrap();
    }
    for (code, meaning, about) in &CODES[1..] {
        write!(page, "\n## {code}: {meaning}\n\n{}\n", wrapped(about)).unwrap();
        let mut title = "";
        for row in rows.iter().filter(|row| row.code == *code) {
            if row.title != title {
                title = row.title;
                write!(page, "\n### {title}\n\n| what is said | what to do |\n| --- | --- |\n").unwrap();
            }
            writeln!(page, "| {} | {} |", code_span(&row.message), row.advice.replace('|', "\\|")).unwrap();
        }
    }
    page
}

/// Lines of at most 120 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if line.len() + 1 + word.len() > 120 {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines.join("\n")
}

/// The message as code in a table of Markdown.
fn code_span(message: &str) -> String {
    let message = message.replace('|', "\\|");
    if message.contains('`') { format!("`` {message} ``") } else { format!("`{message}`") }
}

/// What a message lacks: the place and what was found, what was expected, and that it is one line of printable text.
fn lacks(row: &Row) -> Option<&'static str> {
    let Row { message, code, .. } = row;
    let (found, rest) = message.split_once(": ").unwrap_or(("", message));
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(word));
    match code {
        _ if message.chars().any(char::is_control) => Some("one line"),
        // The parser's own words for what is missing or unknown stand for themselves.
        2 => None,
        130 => (!message.contains("; run the same command again")).then_some("what to do"),
        _ if found.is_empty() || rest.is_empty() => Some("a place and what was found"),
        3 => (!has(&["; expected ", "expected"])).then_some("what was expected"),
        // Of a training sample, its file's place stands between.
        4 => (!has(&["cannot "]) || !rest.contains(": ")).then_some("what was tried and the reason"),
        5..=8 => (!has(&["; ", "expected ", ", so ", "try ", "check "])).then_some("what to do"),
        9 => (!has(&["(engine "])).then_some("what to do"),
        _ => Some("an exit code of the table"),
    }
}

#[test]
fn the_page_of_errors_is_what_the_program_says() {
    let (rows, broken): (Vec<_>, Vec<_>) = rows().into_iter().partition(Result::is_ok);
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let broken: Vec<String> = broken.into_iter().filter_map(Result::err).collect();
    let poor: Vec<String> = rows.iter().filter_map(|row| Some(format!("{}: {}", lacks(row)?, row.message))).collect();
    let (file, page) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ERRORS.md"), page(&rows));
    if std::env::var_os("ENGINE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let unsaid = sources::unsaid(&rows.iter().map(|row| row.message.as_str()).collect::<Vec<_>>());
    assert!(
        broken.is_empty() && poor.is_empty() && unsaid.is_empty(),
        "cases that give no error:\n{}\n\nmessages that lack something:\n{}\n\nmessages in the sources that no case \
         provokes:\n{}",
        broken.join("\n"),
        poor.join("\n"),
        unsaid.join("\n")
    );

    let there = std::fs::read_to_string(&file).unwrap();
    let only = |a: &str, b: &str, mark: &str| -> String {
        let known: std::collections::HashSet<&str> = b.lines().collect();
        a.lines().filter(|line| !known.contains(line)).map(|line| format!("{mark} {line}\n")).collect()
    };
    let difference = only(&there, &page, "-") + &only(&page, &there, "+");
    assert!(
        there == page,
        "docs/ERRORS.md is not what the program says; ENGINE_WRITE_DOCS=1 cargo test --test errors writes it:\n\
         {difference}"
    );
}
