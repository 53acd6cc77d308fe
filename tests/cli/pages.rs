//! Every command in the pages is one that the program takes: its options exist, go together, and take such values.
//!
//! Words in capitals, and `{}`, stand for something (`--to LIST`), and what is in square brackets may be left out. In
//! running text a command may be shown in part (`engine fuse --min-confidence`); in blocks it must be whole.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

use crate::program::command;

/// All pages.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "packaging", "python", "weights"] {
        let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    // It lists commands that the program refuses, and `tests/errors` runs them all.
    pages.retain(|page| !page.ends_with("docs/ERRORS.md"));
    pages
}

/// A command as a page shows it.
struct Shown {
    line: usize,
    text: String,
    /// Whether it may be shown in part.
    is_inline: bool,
}

/// Commands in blocks, indented by four or between fences, and in running text between backticks.
fn shown(page: &str) -> Vec<Shown> {
    let (mut all, mut is_fenced, mut running, mut begins) = (Vec::new(), false, String::new(), 1);
    let mut lines = page.lines().enumerate().peekable();
    let end = |running: &mut String, begins: usize, all: &mut Vec<Shown>| {
        let inline = running.split('`').skip(1).step_by(2).filter(|text| text.starts_with("engine "));
        all.extend(inline.map(|text| Shown { line: begins, text: text.into(), is_inline: true }));
        running.clear();
    };
    while let Some((at, line)) = lines.next() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            let mut text = line.trim().to_owned();
            while text.ends_with('\\') {
                text.pop();
                text += lines.next().map_or("", |(_, next)| next.trim());
            }
            all.push(Shown { line: at + 1, text, is_inline: false });
        } else {
            // Text between backticks may go on in the next line, but not beyond a paragraph.
            if line.trim().is_empty() || line.starts_with('|') || line.starts_with("- ") {
                end(&mut running, begins, &mut all);
                begins = at + 1;
            }
            running += line;
            running.push(' ');
        }
    }
    end(&mut running, begins, &mut all);
    all
}

/// The words of each call of the program in a line as a shell takes it.
fn calls(text: &str) -> Vec<Vec<String>> {
    let (mut calls, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
    // What stands apart in the same line explains it.
    let text = text.split("   ").next().unwrap_or_default();
    for letter in text.chars().chain([' ', ';']) {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '[' | ']') => {}
            // The rest is a comment.
            (None, '#') if word.is_none() => {
                calls.push(std::mem::take(&mut words));
                break;
            }
            (None, ';' | '|' | '&' | '>' | '<') => {
                words.extend(word.take());
                calls.push(std::mem::take(&mut words));
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    // What stands before the program's name: variables, `time`, a scheduler.
    let from_name = |words: Vec<String>| {
        let at = words.iter().position(|word| word == "engine" || word.ends_with("/engine"))?;
        (words.len() > at + 1).then(|| words[at..].to_vec())
    };
    calls.into_iter().filter_map(from_name).collect()
}

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
                let is_command = |word: &str| word.starts_with('-') || word.chars().all(|c| c.is_ascii_lowercase());
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
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FIRST.md");
    let text = std::fs::read_to_string(page).unwrap();
    shown(&text).into_iter().filter(|shown| !shown.is_inline).flat_map(|shown| calls(&shown.text)).collect()
}

#[test]
fn the_first_page_runs_as_it_is_written() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["images", "cams", "truth", "."] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene").join(folder);
        let to = root.path().join("examples/scene").join(folder);
        std::fs::create_dir_all(&to).unwrap();
        let files = std::fs::read_dir(from).unwrap().map(Result::unwrap);
        for file in files.filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
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
