//! Commands as the pages show them.

use std::path::{Path, PathBuf};

/// All pages.
pub fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "packaging", "python", "weights"] {
        let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    // It lists commands that the program refuses, and `tests/errors` runs them all.
    pages.retain(|page| !page.ends_with("docs/ERRORS.md"));
    pages.sort();
    pages
}

/// A command as a page shows it.
pub struct Shown {
    pub line: usize,
    pub text: String,
    /// Whether it may be shown in part.
    pub is_inline: bool,
}

/// Commands in blocks, indented by four or between fences, and in running text between backticks.
pub fn shown(page: &str) -> Vec<Shown> {
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
pub fn calls(text: &str) -> Vec<Vec<String>> {
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

/// Whether a call's first word is one: `make_root.sh target/release/engine /tmp/image` copies the program.
pub fn is_command(word: &str) -> bool {
    word.starts_with('-') || word.chars().all(|c| c.is_ascii_lowercase())
}
