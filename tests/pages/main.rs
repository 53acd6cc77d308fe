//! Every command in the pages is one that the program takes: its options exist, go together, and take such values.
//!
//! Words in capitals, and `{}`, stand for something (`--to LIST`), and what is in square brackets may be left out. In
//! running text a command may be shown in part (`engine fuse --min-confidence`); in blocks it must be whole.

use std::ffi::OsString;

use clap::error::ErrorKind;

mod commands;
#[path = "../support/format_files.rs"]
mod format_files;
#[path = "../support/format_opf.rs"]
mod format_opf;
#[path = "../support/format_trees.rs"]
mod format_trees;
#[path = "../support/program.rs"]
mod program;
mod run;
#[path = "../support/scene_files.rs"]
mod scene_files;

use commands::{Shown, calls, is_command, pages, shown};
use program::command;

/// Whether a word stands for something.
fn is_placeholder(word: &str) -> bool {
    let is_open = word.contains("{}");
    is_open || word.chars().any(|c| c.is_ascii_uppercase()) && !word.chars().any(|c| c.is_ascii_lowercase())
}

#[test]
fn every_command_in_the_pages_is_one_that_the_program_takes() {
    let (mut wrong, mut whole, mut part) = (Vec::new(), 0, 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for Shown { line, text, is_inline } in shown(&text) {
            for words in calls(&text) {
                if !is_command(&words[1]) {
                    continue;
                }
                *(if is_inline { &mut part } else { &mut whole }) += 1;
                let Some((kind, value, said)) = engine::refusal(words.iter().map(OsString::from)) else { continue };
                let is_fine = match kind {
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                    ErrorKind::InvalidValue | ErrorKind::ValueValidation if is_placeholder(&value) => true,
                    ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                        is_inline
                    }
                    ErrorKind::MissingSubcommand => is_inline,
                    ErrorKind::InvalidValue => is_inline && value.is_empty(),
                    _ => false,
                };
                if !is_fine {
                    let said = said.lines().next().unwrap_or_default();
                    wrong.push(format!("{}:{line}: {}: {said}", page.display(), words.join(" ")));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "commands that the program refuses");
    assert!(whole > 40 && part > 60, "the pages are read: {whole} and {part}");
}

#[test]
fn calls_are_found_as_a_shell_finds_them() {
    let found = calls("OUT=x time ./bin/engine fuse 'a b' [--thin 1] | tee log && engine view OUT # engine none");
    assert_eq!(found, [vec!["./bin/engine", "fuse", "a b", "--thin", "1"], vec!["engine", "view", "OUT"]]);
    assert!(calls("cargo run -- infer x").is_empty());
    let page = "Say `engine infer\nDIR` or\n\n    engine fuse \\\n      OUT\n";
    let texts: Vec<(usize, String)> = shown(page).into_iter().map(|shown| (shown.line, shown.text)).collect();
    assert_eq!(texts, [(1, "engine infer DIR".to_owned()), (4, "engine fuse OUT".to_owned())]);
}

/// The calls of the program in the blocks of `docs/FIRST.md`, in order.
fn first_calls() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(run::tree("docs/FIRST.md")).unwrap();
    shown(&text).into_iter().filter(|shown| !shown.is_inline).flat_map(|shown| calls(&shown.text)).collect()
}

#[test]
fn the_first_page_runs_as_it_is_written() {
    let root = tempfile::tempdir().unwrap();
    run::copy(&run::tree("examples/scene"), &root.path().join("examples/scene"));
    let calls = first_calls();
    assert!(calls.len() > 6, "{calls:?}");
    for words in &calls {
        let mut program = command(&words[1..]);
        // Its own words, but with smaller photos and fewer depths.
        program.current_dir(root.path()).env("ENGINE_MAX_SIDE", "128").env("ENGINE_PLANES", "48");
        let ran = program.output().unwrap();
        assert!(ran.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&ran.stderr));
    }
    for made in [
        "out/fused.ply",
        "out/report.html",
        "out/preview/00000003.png",
        "out/confidence/00000003.pfm",
        "strict/fused.ply",
        "quick/fused.ply",
        "out/export/cloud.las",
        "out/export/cloud.glb",
        "out/mesh/mesh.ply",
        "out/mesh/mesh.glb",
    ] {
        assert!(root.path().join(made).metadata().is_ok_and(|file| file.len() > 100), "{made}");
    }
}
