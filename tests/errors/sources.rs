//! Messages in the sources that no case provokes.
//!
//! Of each place that makes an error for a user, the longest piece of its texts must be in a message of some case, or
//! stand below with the reason why it is in none. Places whose texts are short or come as arguments are passed over:
//! the cases are those of the callers.

use std::path::Path;

/// Pieces of messages that no command gives cheaply, and why.
const NOT_PROVOKED: &[(&str, &str)] = &[
    (
        "a whole number, as the scheduler sets it",
        "needs a scheduler's task, or two plans at one moment: tests/shards has them",
    ),
    (
        "tasks that are numbered without a gap",
        "needs a scheduler's task, or two plans at one moment: tests/shards has them",
    ),
    (
        "no plan in OUT, and no variable that says how many tasks there are",
        "needs a scheduler's task, or two plans at one moment: tests/shards has them",
    ),
    (
        "one plan for all shards; start the shards of the new one",
        "needs a scheduler's task, or two plans at one moment: tests/shards has them",
    ),
    (
        "options of how a scene's files are read",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    (
        "none of these with photos in memory",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    (
        "one number for the whole process, told before its first work",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    ("options that go together", "needs a program that calls the library: tests/callers and python/tests have them"),
    ("no option of this name", "needs a program that calls the library: tests/callers and python/tests have them"),
    (
        "one, since photos in memory have no place of their own",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    (
        "a name of its own for each photo",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    (
        "a name for files, without slashes, up to 200 bytes",
        "needs a program that calls the library: tests/callers and python/tests have them",
    ),
    ("three finite numbers", "needs a program that calls the library: tests/callers and python/tests have them"),
    ("three finite coordinates", "needs a program that calls the library: tests/callers and python/tests have them"),
    ("one track for each point", "needs a program that calls the library: tests/callers and python/tests have them"),
    (
        "a smaller one in a .glb file, which ends at 4 GiB: --triangles or --simplify reduces it",
        "takes more memory than the tests have",
    ),
    (
        ": no surface: Poisson meshing has trimmed all of it away; try a smaller --poisson=TRIM",
        "needs pycolmap: tests/mesh has it with a stand-in",
    ),
    ("it to make a mesh", "needs pycolmap: tests/mesh has it with a stand-in"),
    (
        "; expected a larger --voxel, or a smaller --memory, by which they are cut into slabs",
        "takes more memory than the tests have",
    ),
    (
        "a smaller one: smaller photos (`engine infer --max-side`), or no --texture",
        "takes more memory than the tests have",
    ),
    ("the path of COLMAP's program `colmap`", "needs a program in COLMAP's place: tests/calibration.rs has one"),
    (
        ": `apt install colmap`, `brew install colmap`, or `pip install pycolmap`",
        "needs a machine without COLMAP: tests/calibration.rs hides it",
    ),
    (
        "photos with texture that overlap by more than half, from different places; ",
        "needs a program in COLMAP's place: tests/calibration.rs has one",
    ),
    ("no benches/peers/reference_torch.py here", "depends on where the program was built"),
    ("depth differs from the engine's: ", "needs a peer that answers wrongly, or a damaged run beside the benchmark"),
    ("an f32 tensor `depth`", "needs a peer that answers wrongly, or a damaged run beside the benchmark"),
    ("a manifest of `engine infer`", "needs a peer that answers wrongly, or a damaged run beside the benchmark"),
    ("a value that is not finite", "needs a peer that answers wrongly, or a damaged run beside the benchmark"),
    (
        " processes, which share the samples of a step",
        "needs several processes: tests/training_data has threads in their place, tests/mpi has real ones",
    ),
    (
        ", as rank 0 has it: start all ranks with one program, one set of options and the same data",
        "needs several processes: tests/training_data has threads in their place, tests/mpi has real ones",
    ),
    (
        "the launcher of the MPI library that the program was built with (`which mpirun`; MPICC=... names another \
         library's compiler to `cargo build`)",
        "needs two MPI libraries, and a build with the feature `mpi`",
    ),
    (
        "a place for the results: -o OUT, a folder or an address",
        "needs a build with object stores: tests/remote has it",
    ),
    ("other names of photos", "needs a build with object stores, and a photo whose name is not text"),
    ("no scene was made", "a mistake of whoever calls the library: the commands check it before"),
    ("` is missing; the configuration ", "a mistake of whoever calls the library: the commands check it before"),
    ("the same command again, or another folder", "two processes at the same moment: tests/run has them"),
    ("a place for the results: -o OUT", "the file system's root as the place of results"),
    ("values that JSON can hold", "a mistake of whoever calls the library: the commands check it before"),
    ("; expected a smaller file, or more memory", "takes more memory than the tests have"),
    (" points of a report do not fit: ", "takes more memory than the tests have"),
    (
        "the file that marks a folder in use; remove it",
        "two processes at the same moment, or a folder in the lock's place: tests/run has them",
    ),
    (
        "another folder, or the same command again when that run is done",
        "two processes at the same moment, or a folder in the lock's place: tests/run has them",
    ),
    (
        " (type 5 or 6); the file is damaged, get it again",
        "damaged by single bytes: tests/fuzz and tests/evaluation_files have them",
    ),
    (
        "whole numbers of one of MATLAB's types (1 to 7, 9, 12, 13); the file is damaged, get it again",
        "damaged by single bytes: tests/fuzz and tests/evaluation_files have them",
    ),
    ("all of them; it is truncated, or its header lies", "damaged by single bytes: tests/fuzz has them"),
    ("; expected a smaller cloud (--thin of `engine fuse`), or more memory", "takes more memory than the tests have"),
    (
        "the results of a finished run: the same command again when it is done",
        "two processes at the same moment: tests/run has them",
    ),
    (
        "at most 97611000 points in a .glb file, which ends at 4 GiB: --max-points or --spacing takes less",
        "takes more memory than the tests have",
    ),
    (
        " are left for them; expected a larger --thin, or more --memory",
        "maps that do not fit into memory: tests/run has some",
    ),
    ("a constant of its method", "a mistake of whoever calls the library: the commands check it before"),
    ("a system that delivers SIGINT", "a system without SIGINT"),
    ("; expected a smaller file, or a machine with more memory", "takes more memory than the tests have"),
    ("; fewer --threads would help (", "limits of the system: tests/memory_limits.rs sets them"),
    (
        "; fewer --threads would help, or a larger limit (ulimit -u, ulimit -v, the control group's pids.max)",
        "limits of the system: tests/memory_limits.rs sets them",
    ),
    ("values that safetensors can hold", "a mistake of whoever calls the library: the commands check it before"),
    ("a header in JSON", "a mistake of whoever calls the library: the commands check it before"),
    ("; try a smaller --max-side, fewer --views or more --vram", "needs a GPU"),
    (
        "another photo than when the run began: it was replaced while the run was at work",
        "a file that is replaced at the right moment: tests/run has them",
    ),
    (
        "another map than the one that this run has made or found: something else has written it",
        "a file that is replaced at the right moment: tests/run has them",
    ),
    ("at least two overlapping views", "a mistake of whoever calls the library: opening a scene checks it before"),
    (
        " has no source view); check the cameras, or list source views in pair.txt",
        "views without listed sources get some by the cameras' geometry, unless all stand at one place",
    ),
    (
        "views that share what they see, with their true depth",
        "views without listed sources get some by the cameras' geometry, unless all stand at one place",
    ),
    ("at least one view a scene", "a mistake of whoever calls the library: the commands check it before"),
    (
        "an empty or new folder, or to go on with that run",
        "a mistake of whoever calls the library: the commands check it before",
    ),
    ("a JSON object; take the line away to go on without it", "needs a training run that was stopped in the middle"),
    ("the maps that `engine fuse` has read", "needs maps that are taken away after they were fused"),
    ("a channel of fewer values than pixels", "damaged by single bytes: tests/fuzz has them"),
    (
        "both right and wrong ones; take more scenes (--scenes)",
        "needs a network without a single wrong depth, or right one",
    ),
    ("training data", "a mistake of whoever calls the library: the commands check it before"),
    ("at least two views a scene to train on", "a mistake of whoever calls the library: the commands check it before"),
    ("sides of multiples of 4, for example ", "a mistake of whoever calls the library: the commands check it before"),
    ("at least one sample a scene", "a mistake of whoever calls the library: the commands check it before"),
    ("`# Bundle file v0.3`", "a file that does not begin so is not taken for one"),
    (
        "at least one scene, or none stated for an endless row",
        "a mistake of whoever calls the library: the commands check it before",
    ),
];

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
