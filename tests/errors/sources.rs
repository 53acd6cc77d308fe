//! Messages in the sources that no case provokes.
//!
//! Of each place that makes an error for a user, the longest piece of its texts must be in a message of some case, or
//! stand below with the reason why it is in none. Places whose texts are short or come as arguments are passed over:
//! the cases are those of the callers.

use std::path::Path;

/// Pieces of messages that no command gives cheaply, and why.
const NOT_PROVOKED: [(&str, &str); 0] = [];

/// How a place begins that makes an error for a user.
const MAKERS: [&str; 4] = ["Error::input(", "Error::Nothing(", "Error::Memory(", "Error::Weights {"];

/// Below this a piece could be in any message.
const SHORT: usize = 12;

/// Every message that is not among `said`, with its place; and exceptions that are none any more.
pub fn unsaid(said: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut pieces, mut used) = (0, [false; NOT_PROVOKED.len()]);
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        for maker in MAKERS {
            for (at, _) in code.match_indices(maker) {
                let Some(piece) = longest_piece(span(&code[at..])).filter(|piece| piece.len() >= SHORT) else {
                    continue;
                };
                pieces += 1;
                if said.iter().any(|message| message.contains(&piece)) {
                    continue;
                }
                match NOT_PROVOKED.iter().position(|(known, _)| *known == piece) {
                    Some(known) => used[known] = true,
                    None => problems.push(format!("{}: {piece}", file.display())),
                }
            }
        }
    }
    assert!(pieces > 100, "the sources are where the test looks for them: {pieces} messages");
    let needless = NOT_PROVOKED.iter().zip(used).filter(|(_, used)| !used);
    problems.extend(needless.map(|((piece, _), _)| format!("an exception that is none: {piece}")));
    problems
}

/// All sources but those of the GPU, whose messages need one, and the ops', which only speak of shapes.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("src/cuda") && !path.ends_with("cpu/ops") {
                found.extend(files(&path));
            }
        } else if !path.ends_with("src/error.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// From the maker to the bracket that closes it.
fn span(code: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '(' | '{' if !in_text => depth += 1,
            ')' | '}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return &code[..at];
                }
            }
            _ => {}
        }
    }
    code
}

/// The longest piece of a text in some code that is said as it stands: between what is put in.
fn longest_piece(code: &str) -> Option<String> {
    let mut texts = Vec::new();
    let mut rest = code;
    while let Some((_, after)) = rest.split_once('"') {
        let mut text = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    // A text goes on in the next line, without the blanks before it.
                    Some((at, '\n')) => {
                        let blanks = after[at + 1..].len() - after[at + 1..].trim_start().len();
                        for _ in 0..blanks {
                            chars.next();
                        }
                    }
                    Some((_, c)) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        rest = &after[end..];
        texts.push(text);
    }
    let pieces = texts.iter().flat_map(|text| text.split(['{', '}']).step_by(2));
    pieces.map(str::to_owned).max_by_key(String::len)
}
