//! When work runs: late, early or at random, but always in a stream's order and after what it waits for.

use std::time::Instant;

use super::codes::Code;
use super::settings::Order;
use super::state::{Branches, Capture, Handle, Source, State, Work};

impl State {
    /// Puts work behind what a stream has.
    ///
    /// # Errors
    /// Where the stream captures and may not have such work.
    pub fn enqueue(&mut self, stream: Handle, work: Work) -> Result<(), Code> {
        if let Some((capture, branch)) = self.capture(stream) {
            if capture.invalid {
                return Err(Code::STREAM_CAPTURE_INVALIDATED);
            }
            capture.branches[branch].1.push(work);
            return Ok(());
        }
        let Some(found) = self.streams.get_mut(&stream) else { return Err(Code::INVALID_HANDLE) };
        found.queue.push_back(work);
        match self.settings.order {
            Order::Late => {}
            Order::Early => self.drain(stream),
            Order::Random(seed) => self.some(seed),
            Order::UploadsFirst => self.eager(|work| matches!(work, Work::Upload { .. } | Work::Record { .. })),
            Order::FirstStream => {
                let legacy: Vec<Handle> = self.contexts.values().map(|context| context.legacy).collect();
                let of_context = self.streams.get(&stream).map(|stream| stream.context);
                let own = self.streams.iter().filter(|(_, stream)| Some(stream.context) == of_context);
                let first = own.map(|(&handle, _)| handle).find(|handle| !legacy.contains(handle));
                first.into_iter().for_each(|first| self.drain(first));
            }
            Order::ReadsLast => self.eager(|work| !matches!(work, Work::Download { .. })),
        }
        Ok(())
    }

    /// The capture that a stream takes part in, and which of its branches it is.
    pub fn capture(&mut self, stream: Handle) -> Option<(&mut Capture, usize)> {
        let origin = self.streams.get(&stream)?.joined.unwrap_or(stream);
        let capture = self.streams.get_mut(&origin)?.capture.as_mut()?;
        let branch = capture.branches.iter().position(|(of, _)| *of == stream)?;
        Some((capture, branch))
    }

    /// Whether a stream is being recorded.
    pub fn captures(&mut self, stream: Handle) -> bool {
        self.capture(stream).is_some()
    }

    /// The next number of those that follow from `seed`.
    fn drawn(&mut self, seed: u64) -> u64 {
        let mut x = self.random ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        x
    }

    /// Runs some of the work of some streams.
    fn some(&mut self, seed: u64) {
        let streams: Vec<Handle> = self.streams.keys().copied().collect();
        for stream in streams {
            (0..self.drawn(seed) >> 60).for_each(|_| {
                self.step(stream);
            });
        }
    }

    /// Runs what these streams have at their fronts, as long as it is of this kind or a wait that is over.
    fn eager(&mut self, kind: fn(&Work) -> bool) {
        let streams: Vec<Handle> = self.streams.keys().copied().collect();
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for &stream in &streams {
                while self.streams.get(&stream).and_then(|stream| stream.queue.front()).is_some_and(|work| match work {
                    Work::Wait { stream: other, position } => {
                        self.streams.get(other).is_none_or(|other| other.done >= *position)
                    }
                    work => kind(work),
                }) {
                    self.step(stream);
                    goes_on = true;
                }
            }
        }
    }

    /// Runs all that a stream has.
    pub fn drain(&mut self, stream: Handle) {
        let Some(issued) = self.streams.get(&stream).map(super::state::Stream::issued) else { return };
        self.advance(stream, issued);
    }

    /// Runs a stream's work up to a position.
    pub fn advance(&mut self, stream: Handle, position: u64) {
        while self.streams.get(&stream).is_some_and(|stream| stream.done < position) && self.step(stream) {}
    }

    /// Runs the next piece of a stream's work, and before it what it waits for; whether there was any.
    pub fn step(&mut self, stream: Handle) -> bool {
        let next = |state: &Self| state.streams.get(&stream).and_then(|stream| stream.queue.front().cloned());
        let Some(work) = next(self) else { return false };
        if let Work::Wait { stream: other, position } = work {
            self.advance(other, position);
        }
        let context = match self.streams.get_mut(&stream) {
            Some(found) => {
                found.queue.pop_front();
                found.done += 1;
                found.context
            }
            None => return false,
        };
        self.run(context, &work);
        true
    }

    /// Runs a graph: its branches in any order that their waits allow.
    fn replay(&mut self, context: Handle, branches: &Branches) {
        let mut done = vec![0; branches.len()];
        let is_done = |done: &[usize]| done.iter().zip(branches).all(|(done, (_, works))| *done == works.len());
        while !is_done(&done) {
            let branch = match self.settings.order {
                Order::Random(seed) => (self.drawn(seed) >> 32) as usize % branches.len(),
                // The others not before they are waited for, ...
                Order::Late | Order::UploadsFirst => 0,
                // ... or first.
                Order::Early | Order::ReadsLast | Order::FirstStream => branches.len() - 1,
            };
            let left = |branch: &usize| done[*branch] < branches[*branch].1.len();
            let Some(branch) = Some(branch).filter(left).or_else(|| (0..branches.len()).find(left)) else { return };
            self.replay_to(context, branches, (branch, done[branch] + 1), &mut done);
        }
    }

    /// Runs a branch up to a position, and before each piece what it waits for.
    fn replay_to(
        &mut self,
        context: Handle,
        branches: &Branches,
        (branch, position): (usize, usize),
        done: &mut [usize],
    ) {
        while done[branch] < position {
            let work = &branches[branch].1[done[branch]];
            if let Work::Wait { stream: other, position } = work {
                self.replay_to(context, branches, (*other as usize, *position as usize), done);
            }
            done[branch] += 1;
            self.run(context, work);
        }
    }

    /// Does a piece of work now, unless something went wrong before.
    fn run(&mut self, context: Handle, work: &Work) {
        let Some(found) = self.contexts.get_mut(&context) else { return };
        if let Work::Record { event, version } = work {
            if let Some(event) = self.events.get_mut(event) {
                event.ran = Some((*version, Instant::now()));
            }
            return;
        }
        if found.sticky.is_some() {
            return;
        }
        let silicon = &mut found.silicon;
        let done = match work {
            Work::Kernel(prepared) => {
                *self.report.kernels.entry(prepared.kernel.name.clone()).or_default() += 1;
                silicon.launch(&prepared.kernel, prepared.shape, &prepared.parameters)
            }
            Work::Upload { to, from: Source::Staged(bytes) } => silicon.put(*to, bytes),
            Work::Upload { to, from: Source::Locked(at, length) } => {
                if self.locked.range(..=*at).next_back().is_none_or(|(start, (bytes, _))| at + length > start + bytes) {
                    Err((Code::ILLEGAL_ADDRESS, "a copy from page-locked memory that was freed".into()))
                } else {
                    // SAFETY: the range lies in page-locked memory that is not freed; the program may be writing to
                    // it, which is the mistake that this late read is to show, and torn bytes are shown as well.
                    let bytes = unsafe { std::slice::from_raw_parts(*at as *const u8, *length) };
                    silicon.put(*to, bytes)
                }
            }
            Work::Download { to, from, bytes } => silicon.get(*from, *bytes).map(|(found, unwritten)| {
                // SAFETY: the caller of the copy promises so many bytes there until it is done; page-locked memory
                // that is freed before is kept by `cuMemFreeHost`.
                unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), *to as *mut u8, found.len()) };
                if let Some(first) = unwritten {
                    self.report.finding(format!("a copy of {bytes} bytes from the device: nobody wrote byte {first}"));
                }
            }),
            Work::Copy { to, from, bytes } => silicon.copy(*to, *from, *bytes),
            Work::Fill { to, byte, bytes } => silicon.put(*to, &vec![*byte; *bytes as usize]),
            Work::Graph(branches) => {
                self.replay(context, branches);
                Ok(())
            }
            Work::Host { work, .. } => work(silicon),
            Work::Fails(code) => Err((*code, format!("told to fail with {}", code.0))),
            Work::Record { .. } | Work::Wait { .. } => Ok(()),
        };
        if let Err(failure) = done {
            self.broke(context, failure);
        }
    }
}
