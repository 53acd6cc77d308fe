//! One error type for the whole engine: the ground that every other room stands on. Every variant prints as one line
//! that tells where, what was found, what was expected and what to do about it, and maps to an exit code.
//!
//! Messages are written where they arise; here are only their forms. What the engine itself did wrong is a
//! [`Error::Bug`], never a panic.

use std::path::{Path, PathBuf};

/// What every fallible function of the engine returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong for a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input (file, line, field, option value) that does not hold what it should.
    #[error("{place}: {found}; expected {expected}")]
    Input {
        /// File, and line, byte or field in it where that is known: `cams/00000003_cam.txt: line 4`.
        place: String,
        /// What was found there.
        found: String,
        /// What was expected, and what to do where that is not obvious.
        expected: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}{}", path.display(), what_helps(source))]
    Io {
        /// Verb and object: `open the image`, `write the depth map`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A checkpoint that is not one of this network.
    #[error("weights {file}: {problem}")]
    Weights {
        /// The checkpoint's path, or `built-in`.
        file: String,
        /// The tensor's name, what it is and what it should be.
        problem: String,
    },
    /// An operation was called with shapes that do not fit together.
    #[error("{op}: {problem}")]
    Shape {
        /// The operation's name.
        op: &'static str,
        /// Named shapes: what came and what was expected.
        problem: String,
    },
    /// The run would not fit in memory.
    #[error("memory: {0}")]
    Memory(String),
    /// The work was done, but gave nothing: no pixel survived, no view could be used.
    #[error("{0}")]
    Nothing(String),
    /// A value that is not finite where training needs finite ones: which, and where it appeared first.
    #[error("not finite: {0}")]
    NotFinite(String),
    /// A GPU, its driver or a library on it refused: what was asked of it, and why it could not.
    #[error("device: {0}")]
    Device(String),
    /// A training sample could not be made.
    #[error("training sample {index}: {problem}")]
    Sample {
        /// Its index in the row of all samples.
        index: u64,
        /// Why: the error of the file that it comes from.
        problem: Box<Error>,
    },
    /// Something that cannot be the user's fault: a mistake in the engine.
    #[error("{place}: {problem}; this is a mistake in the engine, please report it with the command that you ran")]
    Bug {
        /// Which part of the engine.
        place: &'static str,
        /// What it said.
        problem: String,
    },
    /// What was asked about is not done yet: how far it is.
    #[error("not done yet: {0}")]
    Pending(String),
    /// What went wrong in another process of the same job, and in which.
    #[error("{message} ({rank})")]
    InRank {
        /// The other error's text.
        message: String,
        /// `rank 1 of 2, on node7`.
        rank: String,
        /// The other error's exit code.
        exit_code: u8,
    },
    /// The job has failed, and its rank 0 says why: this one says nothing.
    #[error("rank 0 of this job says why it ended")]
    ToldByRank0 {
        /// The exit code of all.
        exit_code: u8,
    },
    /// The user stopped the run.
    #[error("stopped by the user; run the same command again to go on with what is left")]
    Interrupted,
}

impl Error {
    /// The same error with where it happened before its text, if it is the device's or a lack of memory.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Device(problem) => Self::Device(format!("{place}: {problem}")),
            Self::Memory(problem) => Self::Memory(format!("{place}: {problem}")),
            other => other,
        }
    }

    /// An [`Error::Input`].
    pub fn input(place: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (place, found) = (one_line(place.into()), one_line(shortened(found.into())));
        Self::Input { place, found, expected: expected.into() }
    }

    /// An [`Error::Io`] on `path`, for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The process's exit code; 2 is left to the argument parser.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Shape { .. } | Self::Bug { .. } => 1,
            Self::Sample { problem, .. } => problem.exit_code(),
            Self::InRank { exit_code, .. } | Self::ToldByRank0 { exit_code } => *exit_code,
            Self::Input { .. } | Self::Weights { .. } => 3,
            Self::Io { .. } => 4,
            Self::Memory(_) => 5,
            Self::Nothing(_) => 6,
            Self::NotFinite(_) => 7,
            Self::Device(_) => 8,
            Self::Pending(_) => 9,
            Self::Interrupted => 130,
        }
    }
}

/// For messages: `1 photo`, `3 photos`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Garbage in a file can be one word of megabytes; its beginning tells enough.
fn shortened(mut found: String) -> String {
    const LONGEST: usize = 300;
    if let Some((at, _)) = found.char_indices().nth(LONGEST) {
        found.truncate(at);
        found.push_str(" ...");
    }
    found
}

/// Names and words of files may hold line breaks and worse.
fn one_line(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// What to do about the system's reason, where that is not obvious.
fn what_helps(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; make room there and run the same command again, or choose another folder with -o"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!((counted(1, "photo"), counted(0, "photo")), ("1 photo".into(), "0 photos".into()));
    }

    #[test]
    fn long_garbage_is_cut_and_a_full_disk_says_what_to_do() {
        let message = Error::input("a", "\u{e4}".repeat(1000), "b").to_string();
        assert_eq!(message, format!("a: {} ...; expected b", "\u{e4}".repeat(300)));
        let broken = Error::input("a\nb", "c\u{1b}d", "e").to_string();
        assert_eq!(broken, "a\\nb: c\\u{1b}d; expected e");
        let full = Error::io("write the map", Path::new("a.pfm"))(std::io::ErrorKind::StorageFull.into());
        assert!(
            full.to_string()
                .ends_with("make room there and run the same command again, or choose another folder with -o")
        );
    }
}
