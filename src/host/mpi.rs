//! Processes that an MPI launcher has started (mpirun, srun): through the machine's own MPI library, by the crate `mpi`
//! (rsmpi). Only a build with the feature `mpi` has it; any build recognises that it was started so.
//!
//! MPI ends all processes of a job where one of them ends without a word, so a process that is killed ends the job. The
//! library waits by asking again and again, which would take a processor from those who work: `Mpi` waits asleep.

use std::env;

use super::collective::{Alone, Collective};
use crate::error::Result;

/// Variables by which launchers tell a process how many there are: Open MPI, MPICH and its kin (Intel MPI, srun with
/// PMI-2), MVAPICH.
const COUNTS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];
/// What Slurm and PRRTE set where they speak PMIx: the process's number.
#[cfg(feature = "mpi")]
const PMIX: &str = "PMIX_RANK";

/// How many processes a launcher says to have started, of which this is one.
fn announced() -> Option<usize> {
    COUNTS.iter().find_map(|name| env::var(name).ok()?.parse().ok())
}

/// The processes that this one was started with, or itself alone; and what is worth telling.
///
/// # Errors
/// A launcher of another MPI than the library's.
#[cfg(feature = "mpi")]
pub fn join() -> Result<(Box<dyn Collective>, Option<String>)> {
    // Not without a launcher: a library may take a second to find out that there is none, and say so.
    if announced().is_none() && env::var_os(PMIX).is_none() {
        return Ok((Box::new(Alone), None));
    }
    Ok((Box::new(through_library::Mpi::start(announced())?), None))
}

/// This process alone, with a note if it was started as one of many.
///
/// # Errors
/// None.
#[cfg(not(feature = "mpi"))]
pub fn join() -> Result<(Box<dyn Collective>, Option<String>)> {
    let note = announced().filter(|&count| count > 1).map(|count| {
        format!(
            "started as one of {count} processes, but this build knows no MPI and works by itself; build it with \
             --features mpi for processes that train together"
        )
    });
    Ok((Box::new(Alone), note))
}

#[cfg(feature = "mpi")]
mod through_library {
    use std::time::Duration;

    use mpi::environment::{Universe, library_version, processor_name};
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::*;
    use mpi::{Count, Rank, Threading, initialize_with_threading};

    use crate::error::{Error, Result};
    use crate::host::collective::{Collective, expect_lengths};

    /// The rank that [`Collective::gather`] and [`Collective::broadcast`] are about.
    const FIRST: Rank = 0;
    /// Looks before a process that waits for others falls asleep, and how long it sleeps between two.
    const EAGER: usize = 200;
    const ASLEEP: Duration = Duration::from_micros(500);

    /// All processes of the launcher's job.
    pub struct Mpi {
        world: SimpleCommunicator,
        /// Ends the library when dropped.
        _universe: Universe,
    }

    impl Mpi {
        /// Starts the library; `announced` is how many processes the launcher says there are. Whoever does is the only
        /// thread that calls it.
        pub fn start(announced: Option<usize>) -> Result<Self> {
            // Whatever level the library has: one thread calls it.
            let Some((universe, _)) = initialize_with_threading(Threading::Funneled) else {
                return Err(Error::Bug { place: "mpi", problem: "the library was started before".into() });
            };
            let own = Self { world: universe.world(), _universe: universe };
            // Each would train all by itself.
            if let Some(announced) = announced.filter(|&count| count > 1 && own.ranks() == 1) {
                return Err(Error::input(
                    "MPI",
                    format!("{announced} processes by the launcher, and one by the library ({})", own.library()),
                    "the launcher of the MPI library that the program was built with (`which mpirun`; MPICC=... names \
                     another library's compiler to `cargo build`)",
                ));
            }
            Ok(own)
        }

        /// Waits for all others without taking a processor from them.
        fn wait(&self) {
            let mut looks = 0;
            let mut request = self.world.immediate_barrier();
            while let Err(waiting) = request.test() {
                request = waiting;
                looks += 1;
                if looks < EAGER {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(ASLEEP);
                }
            }
        }
    }

    /// MPI counts in i32.
    fn expect_countable(length: usize) -> Result<()> {
        if Count::try_from(length).is_ok() {
            return Ok(());
        }
        Err(Error::Bug { place: "mpi", problem: format!("{length} bytes in one message") })
    }

    impl Collective for Mpi {
        fn rank(&self) -> usize {
            self.world.rank() as usize
        }

        fn ranks(&self) -> usize {
            self.world.size() as usize
        }

        fn host(&self) -> String {
            processor_name().unwrap_or_else(|_| "a machine without a name".into())
        }

        fn library(&self) -> String {
            let text = library_version().unwrap_or_else(|_| "MPI".into());
            // Others write a page.
            let first = text.split(['\n', ',', '\0']).next().unwrap_or_default();
            first.split_whitespace().collect::<Vec<_>>().join(" ")
        }

        fn gather_everywhere(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
            expect_lengths(all.len(), self.ranks() * own.len())?;
            expect_countable(own.len())?;
            self.wait();
            self.world.all_gather_into(own, all);
            Ok(())
        }

        fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
            expect_countable(own.len())?;
            let root = self.world.process_at_rank(FIRST);
            if self.world.rank() != FIRST {
                self.wait();
                root.gather_into(own);
                return Ok(());
            }
            expect_lengths(all.len(), self.ranks() * own.len())?;
            self.wait();
            root.gather_into_root(own, all);
            Ok(())
        }

        fn exchange(&self, own: &[u8], found: &mut [u8]) -> Result<()> {
            expect_lengths(found.len(), own.len())?;
            expect_lengths(own.len() % self.ranks(), 0)?;
            expect_countable(own.len())?;
            self.wait();
            self.world.all_to_all_into(own, found);
            Ok(())
        }

        fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
            expect_countable(bytes.len())?;
            self.wait();
            self.world.process_at_rank(FIRST).broadcast_into(bytes);
            Ok(())
        }
    }

    impl Drop for Mpi {
        /// The library's end waits for all processes. One that panics must not wait for those that wait for it.
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.world.abort(i32::from(Error::Bug { place: "", problem: String::new() }.exit_code()));
            }
        }
    }
}
