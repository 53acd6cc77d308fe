//! Style and scripts of a page, as part of the program.
//!
//! The scripts are ES modules that import each other. A page from a file cannot import, so that they are put one after
//! the other into one: each is plain once its `import` lines and the word `export` are gone. Names are unique over all
//! of them; the tests see to that.

/// The style sheet.
pub const STYLE: &str = concat!(include_str!("assets/base.css"), include_str!("assets/parts.css"));

/// File names and texts of the modules of every page, those first that others import.
pub const MODULES: [(&str, &str); 9] = [
    ("unpack.js", include_str!("assets/unpack.js")),
    ("theme.js", include_str!("assets/theme.js")),
    ("pose.js", include_str!("assets/pose.js")),
    ("shaders.js", include_str!("assets/shaders.js")),
    ("renderer.js", include_str!("assets/renderer.js")),
    ("gestures.js", include_str!("assets/gestures.js")),
    ("cloud.js", include_str!("assets/cloud.js")),
    ("views.js", include_str!("assets/views.js")),
    ("main.js", include_str!("assets/main.js")),
];
/// The last module of a page that has everything in it.
pub const REPORT: [(&str, &str); 1] = [("report.js", include_str!("assets/report.js"))];
/// The last modules of a page that asks its server.
pub const SERVED: [(&str, &str); 2] =
    [("stream.js", include_str!("assets/stream.js")), ("served.js", include_str!("assets/served.js"))];

/// All modules as one; `last` is [`REPORT`] or [`SERVED`].
pub fn script(last: &[(&str, &str)]) -> String {
    let mut script = String::new();
    for (_, text) in MODULES.iter().chain(last) {
        for line in text.lines().filter(|line| !line.starts_with("import ")) {
            script += line.strip_prefix("export ").unwrap_or(line);
            script.push('\n');
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The name that a line at the left margin declares.
    fn declared(line: &str) -> Option<&str> {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = ["const ", "let ", "function ", "class "].iter().find_map(|word| line.strip_prefix(word))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').next()
    }

    #[test]
    fn modules_can_stand_one_after_the_other() {
        stand_together(&REPORT);
        stand_together(&SERVED);
    }

    fn stand_together(last: &[(&str, &str)]) {
        let mut names = HashSet::new();
        let mut exported = HashSet::new();
        let modules: Vec<_> = MODULES.iter().chain(last).collect();
        for (file, text) in &modules {
            for line in text.lines() {
                assert!(line.len() <= 120, "{file}: {line}");
                if let Some(name) = declared(line) {
                    assert!(names.insert(name), "{file} declares {name} again");
                    if line.starts_with("export ") {
                        exported.insert(name);
                    }
                }
                // Imports are lines of their own, of what stands before.
                if let Some(import) = line.strip_prefix("import ") {
                    let (imported, from) = import.split_once(" from ").unwrap();
                    assert!(modules.iter().any(|(file, _)| from.contains(file)), "{file}: {line}");
                    for name in imported.trim_matches(['{', '}', ' ']).split(',').map(str::trim) {
                        assert!(exported.contains(name), "{file}: {name} is exported by no module before");
                    }
                }
            }
        }
        let script = script(last);
        assert!(!script.contains("\nimport ") && !script.contains("\nexport "));
        // A closing tag would end the script in the middle.
        assert!(!script.contains("</") && !script.contains("<!--") && !STYLE.contains("</"));
    }
}
