//! The shape of the crate: rooms import only what stands below them, no files import each other in a circle, files stay
//! readable, and the Markdown files name paths that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms from the roof down. A file may import from its own room and from those that stand after it.
const ROOMS: &[&str] = &[
    "main",
    "cli",
    "view",
    "report",
    "shards",
    "doctor",
    "bench",
    "train",
    "ortho",
    "mesh",
    "export",
    "run",
    "matching",
    "draw",
    "evaluation",
    "synth",
    "manifest",
    "cuda",
    "cpu",
    "net",
    "fusion",
    "maps",
    "scene",
    "remote",
    "files",
    "host",
    "error",
];

/// A module's path in the crate: `["cpu", "ops", "conv"]`.
type Module = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder whose name ends in one of `extensions`.
fn files_below(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
}

/// `src/cpu/ops/conv.rs` -> cpu::ops::conv, `src/net/mod.rs` -> net.
fn module_of(file: &Path) -> Module {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Module = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    parts.pop_if(|last| last == "mod");
    parts
}

/// The code of a file without comments and without its unit tests, which may look wherever they like.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The leaves of a `use` tree: `a::{b::C, d}` -> a::b::C, a::d.
fn leaves(prefix: &[String], tree: &str, found: &mut Vec<Module>) {
    let (mut depth, mut start) = (0, 0);
    let mut branches = Vec::new();
    for (i, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&tree[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    branches.push(&tree[start..]);
    for branch in branches.into_iter().map(str::trim).filter(|b| !b.is_empty()) {
        let (path, group) = match branch.split_once('{') {
            Some((path, group)) => (path, Some(group.rsplit_once('}').unwrap().0)),
            None => (branch.split(" as ").next().unwrap(), None),
        };
        let segments = path.split("::").map(str::trim).filter(|s| !s.is_empty() && *s != "self" || prefix.is_empty());
        let mut full = prefix.to_vec();
        full.extend(segments.filter(|s| !s.is_empty()).map(str::to_owned));
        match group {
            Some(group) => leaves(&full, group, found),
            None => found.push(full),
        }
    }
}

/// All paths of the crate that a file's code names, in `use` declarations and elsewhere, from the crate's root.
fn paths_in(module: &Module, code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut rest = String::new();
    // `use` declarations may stretch over lines; what is left are paths in expressions and types.
    let mut declaration: Option<String> = None;
    for line in code.lines() {
        let trimmed = line.trim_start();
        let trimmed = trimmed.strip_prefix("pub(crate) ").or(trimmed.strip_prefix("pub ")).unwrap_or(trimmed);
        if declaration.is_none() && trimmed.starts_with("use ") {
            declaration = Some(String::new());
        }
        let Some(text) = &mut declaration else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        text.push_str(trimmed);
        if let Some((tree, _)) = text.trim_start_matches("use ").split_once(';') {
            leaves(&[], tree, &mut found);
            declaration = None;
        }
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for path in rest.split(|c: char| !word(c)).filter(|p| p.contains("::")) {
        found.push(path.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect());
    }
    // Text may hold a bare `::` (an IPv6 address, a parted generic), which names nothing.
    found.into_iter().filter(|path| !path.is_empty()).filter_map(|path| from_root(module, path)).collect()
}

/// A path as its file writes it, from the crate's root; `None` where it leads out of the crate.
fn from_root(module: &Module, path: Module) -> Option<Module> {
    let mut base = match path[0].as_str() {
        "crate" | "engine" => Vec::new(),
        "self" | "super" => module.clone(),
        _ => {
            // A child that its parent names without a prefix.
            let file = root().join("src").join(module.join("/")).join(&path[0]);
            let child = !module.is_empty() && (file.with_extension("rs").exists() || file.is_dir());
            return child.then(|| [module.clone(), path].concat());
        }
    };
    for segment in path {
        match segment.as_str() {
            "crate" | "engine" | "self" => {}
            "super" => drop(base.pop()),
            _ => base.push(segment),
        }
    }
    Some(base)
}

/// Which file imports which, as modules.
fn arrows() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = Vec::new();
    files_below(&root().join("src"), &["rs"], &mut files);
    let modules: BTreeSet<Module> = files.iter().map(|f| module_of(f)).collect();
    assert!(modules.len() > 150, "the sources are where the test looks for them");
    let file_of = |path: &Module| {
        let prefixes = (1..=path.len()).rev().map(|n| path[..n].to_vec());
        prefixes.into_iter().find(|m| modules.contains(m))
    };
    let mut arrows = BTreeMap::new();
    for file in files {
        let module = module_of(&file);
        if module == ["lib"] {
            continue;
        }
        let paths = paths_in(&module, &code_of(&file));
        let to: BTreeSet<Module> = paths.iter().filter_map(file_of).filter(|m| *m != module).collect();
        arrows.insert(module, to);
    }
    arrows
}

#[test]
fn rooms_import_only_what_stands_below_them() {
    let floor = |module: &Module| {
        let room = ROOMS.iter().position(|r| *r == module[0]);
        room.unwrap_or_else(|| panic!("`{}` is no room of the table", module[0]))
    };
    let mut wrong = Vec::new();
    for (from, to) in arrows() {
        let up = to.iter().filter(|to| floor(to) < floor(&from));
        wrong.extend(up.map(|to| format!("{} -> {}", from.join("::"), to.join("::"))));
    }
    assert_eq!(wrong, Vec::<String>::new(), "imports that run up");
}

/// All that a file imports, directly or through others.
fn reached<'a>(arrows: &'a BTreeMap<Module, BTreeSet<Module>>, from: &'a Module) -> BTreeSet<&'a Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(arrows.get(module).into_iter().flatten().filter(|to| seen.insert(*to)));
    }
    seen
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let arrows = arrows();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = arrows.keys().map(|m| (m, reached(&arrows, m))).collect();
    let mut circles = Vec::new();
    for (from, to) in &arrows {
        let back = to.iter().filter(|to| reach.get(to).is_some_and(|r| r.contains(from)));
        circles.extend(back.map(|to| format!("{} -> {}", from.join("::"), to.join("::"))));
    }
    assert_eq!(circles, Vec::<String>::new(), "files on circles");
}

#[test]
fn only_the_crate_itself_lies_loose() {
    let entries = std::fs::read_dir(root().join("src")).unwrap().map(|e| e.unwrap());
    let loose = entries.filter(|e| e.path().is_file()).map(|e| e.file_name().into_string().unwrap());
    assert_eq!(loose.collect::<BTreeSet<_>>(), ["error.rs", "lib.rs", "main.rs"].map(str::to_owned).into());
}

/// A file's path from the crate's folder.
fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "python"] {
        files_below(&root().join(folder), &["rs"], &mut files);
    }
    for path in files.iter().map(|f| relative(f)) {
        let lines = std::fs::read_to_string(root().join(&path)).unwrap().lines().count();
        assert!(lines <= 500, "{path} has {lines} lines; split it where its subject splits");
    }
}

/// Folders whose paths the Markdown files may name from the tree's root.
const FOLDERS: [&str; 11] =
    [".ci", "benches", "docs", "examples", "kernels", "packaging", "python", "src", "tests", "tools", "weights"];

/// Whether a word is a pattern or a placeholder: `panels/*.png`, `src/cpu/ops/x.rs`, `truth/ID.pfm`.
fn is_pattern(word: &str) -> bool {
    let stem = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
    word.contains(['*', '<', '{', '$', '('])
        || word.split('/').map(stem).any(|s| s == "x" || s.starts_with("x_") || s == "ID" || s == "NAME")
}

/// Why a word in backticks does not name what it seems to name; `None` where it does, or seems to name nothing here.
/// `files` are those of the tree, from its root.
fn wrong_path(word: &str, files: &[String]) -> Option<String> {
    let word = word.trim_end_matches([',', '.', ';', ':', '/']);
    let source = [".rs", ".cu", ".cuh", ".py", ".sh"].iter().any(|end| word.ends_with(end));
    let from_root = word.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
    let there = if from_root {
        // A module may be a file or a folder.
        root().join(word).exists() || root().join(format!("{word}.rs")).exists()
    } else {
        let name = format!("/{}", word.trim_start_matches("./"));
        !source || word.starts_with('.') || files.iter().any(|file| format!("/{file}").ends_with(&name))
    };
    (!there && !is_pattern(word)).then(|| format!("`{word}` is not in the tree"))
}

#[test]
fn markdown_files_name_paths_that_exist() {
    let (mut pages, mut paths) = (Vec::new(), Vec::new());
    for folder in FOLDERS {
        files_below(&root().join(folder), &["md"], &mut pages);
        files_below(&root().join(folder), &["rs", "cu", "cuh", "py", "sh"], &mut paths);
    }
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root().join(page)));
    paths.push(root().join("build.rs"));
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let files: Vec<String> = paths.iter().map(relative).collect();
    let mut wrong = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        // Every other piece between backticks is code.
        let words = text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
        let of_page: Vec<String> = words.filter_map(|word| wrong_path(word, &files)).collect();
        wrong.extend(of_page.into_iter().map(|problem| format!("{}: {problem}", relative(page))));
    }
    assert!(pages.len() > 10, "the pages are where the test looks for them");
    assert_eq!(wrong, Vec::<String>::new(), "paths that Markdown files name");
}

/// What links and pictures of a page lead to, with the number of the line: `[text](target)`, outside of code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut is_fenced) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        is_fenced ^= line.trim_start().starts_with("```");
        if is_fenced || line.starts_with("    ") {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.map(|target| (number, target)));
    }
    found
}

/// The anchors of a page's headings, as GitHub and mdBook make them: lower case, `-` for spaces, no other signs.
fn anchors(text: &str) -> Vec<String> {
    let (mut found, mut is_fenced) = (Vec::<String>::new(), false);
    for line in text.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        let Some((_, heading)) = line.split_once("# ").filter(|(marks, _)| marks.chars().all(|c| c == '#')) else {
            continue;
        };
        if !is_fenced {
            let letters = heading.trim().to_lowercase().replace(' ', "-");
            let anchor: String = letters.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            // The second of two equal headings is told apart by a number.
            let before = found.iter().filter(|other| **other == anchor).count();
            found.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
        }
    }
    found
}

#[test]
fn every_link_in_the_pages_leads_somewhere() {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        files_below(&root().join(folder), &["md"], &mut pages);
    }
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root().join(page)));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for (line, target) in links(&text).into_iter().filter(|(_, target)| !target.contains("://")) {
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = path.exists()
                && (anchor.is_empty() || anchors(&std::fs::read_to_string(&path).unwrap()).iter().any(|a| a == anchor));
            // What lies outside is not on the site.
            let leaves_site = page.parent() == Some(&root().join("docs")) && target.starts_with("..");
            if !is_there || leaves_site {
                let why = if leaves_site { "leaves docs, and is not on the site" } else { "leads nowhere" };
                wrong.push(format!("{}:{line}: the link to {target} {why}", relative(page)));
            }
        }
    }
    assert!(count > 100, "{count} links are found");
    assert_eq!(wrong, Vec::<String>::new(), "links");
    assert_eq!(anchors("# A\n## K (`x`), its_y - z\n```\n# no\n```\n# A\n"), ["a", "k-x-its_y---z", "a-1"]);
}

#[test]
fn the_site_has_every_page_once() {
    let mut pages = Vec::new();
    files_below(&root().join("docs"), &["md"], &mut pages);
    let mut pages: Vec<String> = pages.iter().map(|page| relative(page).replace("docs/", "")).collect();
    pages.retain(|page| page != "SUMMARY.md");
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    // Its entries are links in a list, none of which is a link elsewhere.
    let mut listed: Vec<String> = links(&summary).into_iter().map(|(_, target)| target.to_owned()).collect();
    pages.sort();
    listed.sort();
    assert_eq!(listed, pages, "docs/SUMMARY.md against the files in docs");
}

/// Tables, links and pictures of Markdown cannot be broken.
fn must_stay_whole(path: &str, line: &str) -> bool {
    path.ends_with(".md") && (line.trim_start().starts_with('|') || line.contains("](") || line.contains("<img"))
}

#[test]
fn lines_end_at_column_120() {
    let mut files = vec![root().join("build.rs"), root().join("Cargo.toml"), root().join("rustfmt.toml")];
    for folder in ["src", "tests", "benches", "examples", "kernels", "packaging", "python", "tools", "docs"] {
        files_below(&root().join(folder), &["rs", "cu", "cuh", "cpp", "h", "py", "sh", "toml", "md"], &mut files);
    }
    for name in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        files.push(root().join(name));
    }
    let mut wide = Vec::new();
    for path in files.iter().map(|f| relative(f)) {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.chars().count() > 120);
        let lines = lines.filter(|(_, line)| !must_stay_whole(&path, line));
        wide.extend(lines.map(|(number, _)| format!("{path}:{number}")));
    }
    assert_eq!(wide, Vec::<String>::new(), "lines over 120 columns");
}

#[test]
fn one_version_stands_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("python/Cargo.toml", format!("version = \"{version}\"")),
        ("CITATION.cff", format!("version: {version}")),
        ("packaging/conda/meta.yaml", format!("{{% set version = \"{version}\" %}}")),
        ("packaging/homebrew/engine-mvs.rb", format!("/v{version}.tar.gz\"")),
        ("packaging/nix/default.nix", format!("version = \"{version}\";")),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.lines().any(|l| l.trim().ends_with(&line)), "{file}: no {line}");
    }
}
