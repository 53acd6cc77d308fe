//! Every reader on damaged files: no panic, no allocation beyond a stated factor of the file's size, no reading over a
//! second for a megabyte.
//!
//! Files that are right are the corpus (`corpus.rs`). Each is damaged by chance in one to four places (`damage`): bits,
//! numbers at their extremes, pieces cut out, doubled or taken from another file. A failure prints the target and the
//! seed; ENGINE_FUZZ_SEED repeats it. ENGINE_FUZZ_SECONDS sets the time for all targets (6; CI takes longer, and hours
//! are well spent before a release).

mod corpus;
mod counting;
#[path = "../support/depth_files.rs"]
mod depth_files;
#[path = "../support/format_files.rs"]
mod format_files;
#[path = "../support/format_opf.rs"]
mod format_opf;
#[path = "../support/format_trees.rs"]
mod format_trees;
mod formats;
#[path = "../support/scene_files.rs"]
mod scene_files;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use corpus::{Target, targets};
use engine::host::random::Random;

/// Bytes that a reader may hold for each byte of its file: a text of one digit and a space becomes a number of eight
/// bytes, a point of such numbers is kept as read, in f64 and by its views, and vectors double when they grow.
const FACTOR: u64 = 64;
/// Bytes that any reader may hold: buffers, tables of names, messages.
const ALWAYS: u64 = 8 << 20;
/// For files of up to a megabyte. Thirty times what the slowest target takes on an idle core, since tests share theirs.
const LONGEST: Duration = Duration::from_secs(1);

/// Numbers that readers have stumbled on.
const TEXTS: [&str; 14] = [
    "18446744073709551615",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-320",
    "4294967296",
    "9223372036854775808",
    "",
    "\u{1b}[31m",
    "1e99999",
    "\n\n",
];

/// The bytes with one to four places damaged.
fn damage(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.between(1, 4) {
        if bytes.is_empty() {
            break;
        }
        // Headers come first and decide most.
        let at = if random.chance(0.5) { random.below(bytes.len().min(200)) } else { random.below(bytes.len()) };
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.bits() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.between(1, 64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.between(1, 256)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 if !other.is_empty() => {
                let from = random.below(other.len());
                let piece = &other[from..(from + random.between(1, 128)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            6 => {
                // A number of a text gives way to another.
                let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e');
                let begin = (0..at).rev().find(|&i| !is_part(&bytes[i])).map_or(0, |i| i + 1);
                let end = (at..bytes.len()).find(|&i| !is_part(&bytes[i])).unwrap_or(bytes.len());
                let text = TEXTS[random.below(TEXTS.len())];
                bytes.splice(begin..end.max(begin), text.bytes());
            }
            7 => {
                // A little-endian number of eight, four or two bytes.
                let size = [8, 4, 2][random.below(3)];
                let value = [u64::MAX, 1 << 63, 1 << 40, 1 << 31, (1 << 31) - 1, 1 << 24, 0, 1][random.below(8)];
                let end = (at + size).min(bytes.len());
                let value = value.to_le_bytes();
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            _ => bytes.push(random.bits() as u8),
        }
    }
    bytes
}

/// What went wrong with a reader on these files.
fn problem(target: &Target, folder: &Path, size: u64) -> Option<String> {
    let began = Instant::now();
    let (outcome, held) = counting::held(|| catch_unwind(AssertUnwindSafe(|| (target.read)(folder))));
    let took = began.elapsed();
    let allowed = ALWAYS + FACTOR * size;
    match outcome {
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(format!("panicked: {}", said.unwrap_or_default()))
        }
        Ok(Err(message)) if message.lines().count() > 1 => Some(format!("more than one line: {message}")),
        _ if held > allowed => Some(format!("held {held} bytes for a file of {size}; {allowed} are allowed")),
        _ if took > LONGEST && size < 1 << 20 => Some(format!("took {took:?} for a file of {size} bytes")),
        _ => None,
    }
}

#[test]
fn readers_survive_damaged_files() {
    let number =
        |name: &str, otherwise: f64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    let seconds = number("ENGINE_FUZZ_SECONDS", 6.0);
    let first = number("ENGINE_FUZZ_SEED", 0.0) as u64;
    std::panic::set_hook(Box::new(|_| ()));
    let targets = targets();
    let folder = tempfile::tempdir().unwrap();
    let (mut problems, mut told) = (Vec::new(), Vec::new());
    for target in &targets {
        let own = folder.path().join(target.name);
        fs::create_dir_all(&own).unwrap();
        let put = |files: &[(String, Vec<u8>)]| {
            for (name, bytes) in files {
                fs::create_dir_all(own.join(name).parent().unwrap()).unwrap();
                fs::write(own.join(name), bytes).unwrap();
            }
        };
        put(&target.files);
        // The corpus itself must be readable, or nothing behind the first check would ever be reached.
        if let Err(message) = (target.read)(&own) {
            problems.push(format!("{}: the corpus itself: {message}", target.name));
            continue;
        }
        let until = Instant::now() + Duration::from_secs_f64(seconds / targets.len() as f64);
        let mut seed = first;
        let mut refused = 0u64;
        while Instant::now() < until || seed == first {
            let mut random = Random::new(&[seed, target.name.len() as u64, 0x0066_757a]);
            let (damaged, other) = (random.below(target.files.len()), random.below(target.files.len()));
            let (name, right) = &target.files[damaged];
            let bytes = damage(right, &target.files[other].1, &mut random);
            fs::write(own.join(name), &bytes).unwrap();
            let size: u64 = target.files.iter().map(|(_, b)| b.len() as u64).sum::<u64>() + bytes.len() as u64;
            if let Some(what) = problem(target, &own, size) {
                problems.push(format!("{} ({name}), ENGINE_FUZZ_SEED={seed}: {what}", target.name));
                break;
            }
            refused += u64::from((target.read)(&own).is_err());
            fs::write(own.join(name), right).unwrap();
            seed += 1;
        }
        told.push(format!("{}: {} files, {refused} refused", target.name, seed - first));
    }
    drop(std::panic::take_hook());
    println!("{}", told.join("\n"));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
