//! The text of a PTX module: its kernels, their parameters, their shared arrays and their statements. Nothing here
//! knows what an instruction does.

/// An array in shared memory. One without a size is as long as the launch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Its name.
    pub name: String,
    /// Its bytes; `None` for the dynamic one.
    pub bytes: Option<u64>,
}

/// A parameter in the order of the kernel's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in PTX.
    pub name: String,
    /// Where it lies among the parameters' bytes.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// What stands between two semicolons, or a brace or a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `{`: names declared from here on end at the next `}`.
    Open,
    /// `}`.
    Close,
    /// `$L__BB0_1:`, without the colon.
    Label(String),
    /// Anything else.
    Statement(String),
}

/// A kernel as text.
#[derive(Clone, Debug)]
pub struct KernelText {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub parameters: Vec<Parameter>,
    /// The most threads of a block that it was compiled for.
    pub most_threads: Option<u32>,
    /// Its body, each piece with the line of the file on which it ends.
    pub body: Vec<(u32, Piece)>,
}

/// A module as text.
#[derive(Clone, Debug)]
pub struct Module {
    /// The version of PTX that it says it is written in: `7.0`.
    pub version: String,
    /// The least device that it is for: `sm_80`.
    pub target: String,
    /// Arrays that several kernels may use.
    pub shared: Vec<Array>,
    /// Its kernels.
    pub kernels: Vec<KernelText>,
}

/// Bytes of a type: `u32`, `f64`, `b16`, `f16x2`.
pub fn bytes_of(kind: &str) -> Option<usize> {
    Some(match kind {
        "f16x2" => 4,
        _ => match kind.get(1..)? {
            "8" => 1,
            "16" => 2,
            "32" => 4,
            "64" => 8,
            _ => return None,
        },
    })
}

/// `.shared .align 16 .b8 name[256]`, also with `.extern` before it and nothing between the brackets.
pub fn array(statement: &str) -> Option<Array> {
    let rest = statement.strip_prefix(".extern ").unwrap_or(statement).strip_prefix(".shared ")?;
    let (before, size) = rest.strip_suffix(']')?.rsplit_once('[')?;
    let name = before.split_whitespace().last()?.to_owned();
    Some(Array { name, bytes: if size.is_empty() { None } else { Some(size.parse().ok()?) } })
}

/// `.param .u64 name` or `.param .align 8 .b8 name[24]`, to be laid out after `end`.
fn parameter(text: &str, end: usize) -> Option<Parameter> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, bytes, align) = match words[..] {
        [".param", kind, name] => {
            let bytes = bytes_of(kind.strip_prefix('.')?)?;
            (name.to_owned(), bytes, bytes)
        }
        [".param", ".align", align, ".b8", name] => {
            let (name, size) = name.strip_suffix(']')?.split_once('[')?;
            (name.to_owned(), size.parse().ok()?, align.parse().ok()?)
        }
        _ => return None,
    };
    Some(Parameter { name, offset: end.next_multiple_of(align), bytes })
}

/// A body's pieces. A brace at the beginning of a statement opens or closes a scope; any other belongs to operands.
fn pieces(first_line: u32, text: &str) -> Vec<(u32, Piece)> {
    let mut pieces = Vec::new();
    let mut statement = String::new();
    for (line, text) in (first_line..).zip(text.lines()) {
        let code = text.split("//").next().unwrap_or_default();
        for c in code.chars() {
            let begins = statement.trim().is_empty();
            match c {
                '{' if begins => pieces.push((line, Piece::Open)),
                '}' if begins => pieces.push((line, Piece::Close)),
                ';' => {
                    let words: Vec<&str> = statement.split_whitespace().collect();
                    if !words.is_empty() {
                        pieces.push((line, Piece::Statement(words.join(" "))));
                    }
                    statement.clear();
                }
                ':' if statement.trim_start().starts_with('$') => {
                    pieces.push((line, Piece::Label(statement.trim().to_owned())));
                    statement.clear();
                }
                _ => statement.push(c),
            }
        }
        statement.push(' ');
    }
    pieces
}

impl Module {
    /// Takes a module's text apart.
    ///
    /// # Errors
    /// What is missing, or the line that is not as nvcc writes it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let directive = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
            line.map(|rest| rest.trim().to_owned()).ok_or_else(|| format!("the PTX has no `{name}`"))
        };
        let (version, target) = (directive(".version")?, directive(".target")?);
        let (mut shared, mut kernels) = (Vec::new(), Vec::new());
        let mut lines = (1u32..).zip(text.lines());
        while let Some((number, line)) = lines.next() {
            let statement = line.trim().trim_end_matches(';');
            shared.extend(array(statement));
            let Some(rest) = statement.strip_prefix(".visible .entry ") else { continue };
            let (name, mut list) = rest.split_once('(').ok_or_else(|| format!("line {number}: `{line}`"))?;
            let mut header = String::new();
            // The parameters end with a line `)`; directives follow until the body's `{`.
            let mut body_at = None;
            for (number, line) in lines.by_ref() {
                if line.trim() == "{" {
                    body_at = Some(number + 1);
                    break;
                }
                header.push_str(line.trim());
                header.push('\n');
            }
            let body_at = body_at.ok_or_else(|| format!("`{name}` has no body"))?;
            if !list.contains(')') {
                list = header.split_once(')').map_or("", |(list, _)| list);
            }
            let list = list.trim().trim_end_matches(')');
            let mut parameters: Vec<Parameter> = Vec::new();
            for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                let end = parameters.last().map_or(0, |last| last.offset + last.bytes);
                parameters.push(parameter(text, end).ok_or_else(|| format!("`{name}`: the parameter `{text}`"))?);
            }
            let threads = header.lines().find_map(|line| line.strip_prefix(".maxntid "));
            let most_threads = threads
                .map(|list| list.split(',').map(|n| n.trim().parse::<u32>()).product::<Result<u32, _>>())
                .transpose()
                .map_err(|_| format!("`{name}`: .maxntid {}", threads.unwrap_or_default()))?;
            // The brace that closes the body; those of inline assembly may begin a line, too.
            let (mut body, mut open) = (String::new(), 1);
            for (_, line) in lines.by_ref() {
                let code = line.split("//").next().unwrap_or_default();
                open += code.matches('{').count();
                open -= code.matches('}').count();
                if open == 0 {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            let body = pieces(body_at, &body);
            kernels.push(KernelText { name: name.to_owned(), parameters, most_threads, body });
        }
        Ok(Self { version, target, shared, kernels })
    }

    /// One of its kernels.
    pub fn kernel(&self, name: &str) -> Option<&KernelText> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }
}
