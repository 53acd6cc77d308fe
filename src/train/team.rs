//! The processes that train together: how they agree that all go on, and how an error of one ends all.
//!
//! **Whoever has nothing to agree on has nothing to exchange.** Data go from process to process only right after
//! [`Team::agree`] has found no error anywhere, with nothing in between that can fail. So whatever goes wrong in one
//! process, its next word to the others is an [`Team::agree`], and so is theirs: nobody waits for data that never come.
//! [`Team::work`] says that word for errors that come back by `?`, from wherever.
//!
//! An error is told once, by the first process; the others end with the same exit code and say nothing.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::host::collective::{Alone, Collective};

/// All processes of a run, as seen by one.
pub struct Team {
    collective: Box<dyn Collective>,
    /// Whether the others have gone, with the same error.
    parted: Cell<bool>,
}

/// An error on its way to the other processes.
#[derive(Serialize, Deserialize)]
struct Told {
    kind: Kind,
    /// Of a sample that could not be made.
    sample: Option<u64>,
    text: String,
    exit_code: u8,
    host: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Interrupted,
    NotFinite,
    Other,
}

impl Told {
    fn new(error: &Error, host: String) -> Self {
        let (sample, inner) = match error {
            Error::Sample { index, problem } => (Some(*index), &**problem),
            other => (None, other),
        };
        let (kind, text) = match inner {
            Error::Interrupted => (Kind::Interrupted, String::new()),
            Error::NotFinite(text) => (Kind::NotFinite, text.clone()),
            other => (Kind::Other, other.to_string()),
        };
        Self { kind, sample, text, exit_code: inner.exit_code(), host }
    }

    /// The error as the first process tells it.
    fn error(self, rank: usize, ranks: usize) -> Error {
        let place = format!("rank {rank} of {ranks}, on {}", self.host);
        let inner = match self.kind {
            Kind::Interrupted => Error::Interrupted,
            Kind::NotFinite => Error::NotFinite(format!("{} ({place})", self.text)),
            Kind::Other => Error::InRank { message: self.text, rank: place, exit_code: self.exit_code },
        };
        match self.sample {
            Some(index) => Error::Sample { index, problem: Box::new(inner) },
            None => inner,
        }
    }
}

impl Team {
    /// Those that talk through this.
    pub fn new(collective: Box<dyn Collective>) -> Self {
        Self { collective, parted: Cell::new(false) }
    }

    /// One process by itself.
    pub fn alone() -> Self {
        Self::new(Box::new(Alone))
    }

    /// Whether this is the process that writes files and tells.
    pub fn is_first(&self) -> bool {
        self.collective.rank() == 0
    }

    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.collective.ranks() == 1
    }

    /// What they talk through. To be used right after [`Self::agree`].
    pub fn collective(&self) -> &dyn Collective {
        &*self.collective
    }

    /// All of the work. Where one process fails in it, all do, and where they end, they end together: launchers kill
    /// those that are left when one has ended with an error, so all wait until the first has saved what there is, and
    /// has told the error by `tell`.
    ///
    /// # Errors
    /// The work's, in the first process; [`Error::ToldByRank0`] in the others.
    pub fn work<T>(&self, work: impl FnOnce(&Self) -> Result<T>, tell: impl FnOnce(&Error)) -> Result<T> {
        let (found, own) = match work(self) {
            Ok(found) => (Some(found), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let agreed = if self.parted.get() { own } else { self.agree(own) };
        let Err(error) = agreed else {
            return found.ok_or_else(|| Error::Bug { place: "team", problem: "work without a result".into() });
        };
        if self.is_alone() {
            return Err(error);
        }
        if self.is_first() {
            tell(&error);
        }
        self.numbers(0)?;
        if self.is_first() { Err(error) } else { Err(Error::ToldByRank0 { exit_code: error.exit_code() }) }
    }

    /// Whether all go on: waits for everybody's result. If there are errors, all get that of the lowest rank (one that
    /// is no stop by the user before one that is), and must end: nobody answers any more.
    ///
    /// # Errors
    /// That one.
    pub fn agree(&self, own: Result<()>) -> Result<()> {
        if self.is_alone() {
            return own;
        }
        let told = own.as_ref().err().map(|error| Told::new(error, self.collective.host()));
        let texts = self.texts(&told.map_or_else(String::new, |told| serde_json::json!(told).to_string()))?;
        let parse = |(rank, text): (usize, &String)| Some((rank, serde_json::from_str::<Told>(text).ok()?));
        let mut errors: Vec<_> = texts.iter().enumerate().filter_map(parse).collect();
        errors.sort_by_key(|(rank, told)| (told.kind == Kind::Interrupted, *rank));
        let Some((rank, told)) = errors.into_iter().next() else { return Ok(()) };
        self.parted.set(true);
        match own {
            // With all that it knows.
            Err(own) if rank == 0 && self.is_first() => Err(own),
            _ => Err(told.error(rank, self.collective.ranks())),
        }
    }

    /// Everybody's text, in the order of ranks. To be used right after [`Self::agree`].
    ///
    /// # Errors
    /// The library's.
    pub fn texts(&self, own: &str) -> Result<Vec<String>> {
        let ranks = self.collective.ranks();
        let lengths = self.numbers(own.len() as u64)?;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        if longest == 0 {
            return Ok(vec![String::new(); ranks]);
        }
        let mut padded = own.as_bytes().to_vec();
        padded.resize(longest, 0);
        let mut all = vec![0; ranks * longest];
        self.collective.gather_everywhere(&padded, &mut all)?;
        let pieces = all.chunks_exact(longest).zip(lengths);
        Ok(pieces.map(|(piece, length)| String::from_utf8_lossy(&piece[..length as usize]).into_owned()).collect())
    }

    /// Everybody's number, in the order of ranks. To be used right after [`Self::agree`].
    ///
    /// # Errors
    /// The library's.
    pub fn numbers(&self, own: u64) -> Result<Vec<u64>> {
        let mut all = vec![0; 8 * self.collective.ranks()];
        self.collective.gather_everywhere(&own.to_le_bytes(), &mut all)?;
        let (numbers, _) = all.as_chunks::<8>();
        Ok(numbers.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect())
    }

    /// Fails unless all processes have the same fields as the first.
    ///
    /// # Errors
    /// [`Error::Input`] with the first field that differs, and both values.
    pub fn expect_same(&self, own: &Value) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        self.agree(Ok(()))?;
        let texts = self.texts(&own.to_string())?;
        // Both as they arrive.
        let [first, own] = [&texts[0], &texts[self.collective.rank()]].map(|t| serde_json::from_str(t));
        self.agree(same(&first.unwrap_or_default(), &own.unwrap_or_default()))
    }
}

/// See [`Team::expect_same`].
fn same(first: &Value, own: &Value) -> Result<()> {
    let keys = [first, own].into_iter().filter_map(Value::as_object).flat_map(|fields| fields.keys());
    let Some(key) = keys.into_iter().find(|&key| first.get(key) != own.get(key)) else { return Ok(()) };
    let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
    Err(Error::input(
        key.clone(),
        text(own.get(key)),
        format!(
            "{}, as rank 0 has it: start all ranks with one program, one set of options and the same data",
            text(first.get(key))
        ),
    ))
}
