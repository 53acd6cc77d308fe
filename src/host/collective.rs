//! Processes of one job that work in step, on one machine or on many: what they need of a library that lets them talk.
//!
//! Four operations, all on bytes, each of which every process calls at the same place of the program. None of them adds
//! anything up: libraries promise no order of summation, so whoever needs a sum exchanges the summands and adds them
//! itself. A library becomes usable here by one more implementation of [`Collective`]; [`crate::host::mpi`] is one.

use crate::error::{Error, Result};

/// All processes of a job, as seen by one of them. Every operation waits until all have called it.
pub trait Collective {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn ranks(&self) -> usize;

    /// The machine that this process is on, as its system calls it.
    fn host(&self) -> String;

    /// What they talk through, and its version.
    fn library(&self) -> String;

    /// Everybody's bytes to everybody: `all` has those of rank 0, then of rank 1, and so on, each as long as `own`.
    ///
    /// # Errors
    /// Lengths that do not fit together; the library's.
    fn gather_everywhere(&self, own: &[u8], all: &mut [u8]) -> Result<()>;

    /// The same to rank 0 only. Elsewhere `all` is left as it is, and may be empty.
    ///
    /// # Errors
    /// As [`Self::gather_everywhere`].
    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()>;

    /// Both are cut into as many equal pieces as there are ranks: piece i of `own` goes to rank i, and piece i of
    /// `found` comes from there.
    ///
    /// # Errors
    /// As [`Self::gather_everywhere`].
    fn exchange(&self, own: &[u8], found: &mut [u8]) -> Result<()>;

    /// The bytes of rank 0 to all.
    ///
    /// # Errors
    /// As [`Self::gather_everywhere`].
    fn broadcast(&self, bytes: &mut [u8]) -> Result<()>;
}

/// One process by itself.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn host(&self) -> String {
        "this machine".into()
    }

    fn library(&self) -> String {
        "no library".into()
    }

    fn gather_everywhere(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_lengths(all.len(), own.len())?;
        all.copy_from_slice(own);
        Ok(())
    }

    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        self.gather_everywhere(own, all)
    }

    fn exchange(&self, own: &[u8], found: &mut [u8]) -> Result<()> {
        self.gather_everywhere(own, found)
    }

    fn broadcast(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

/// Fails unless a buffer has the length that an operation needs. Where one process had another length than the others,
/// libraries would write beyond its end.
///
/// # Errors
/// [`Error::Bug`].
pub fn expect_lengths(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Bug { place: "collective", problem: format!("a buffer of {found} bytes instead of {expected}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_gets_what_it_gives() {
        let mut found = [0; 3];
        Alone.exchange(&[1, 2, 3], &mut found).unwrap();
        assert_eq!(found, [1, 2, 3]);
        Alone.gather(&[4, 5, 6], &mut found).unwrap();
        assert_eq!(found, [4, 5, 6]);
        Alone.broadcast(&mut found).unwrap();
        assert_eq!((found, Alone.rank(), Alone.ranks()), ([4, 5, 6], 0, 1));
        let error = Alone.gather_everywhere(&[1], &mut found).unwrap_err();
        assert!(error.to_string().contains("a buffer of 3 bytes instead of 1"), "{error}");
    }
}
