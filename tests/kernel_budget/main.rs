//! Every kernel compiles without a warning and assembles for Hopper (with ENGINE_KERNELS_ALL=1 for Turing and Ampere,
//! too), spills nothing, and stays within the registers and shared memory that `kernels/BUDGET.txt` allows it.
//!
//! What the machine code for Hopper says of the Table III view's time stands in `docs/KERNELS.md` (`time.rs`).
//!
//! Needs nvcc (tools/get_nvcc.sh installs it; no GPU is needed); without it the test says that it was skipped, and
//! fails under ENGINE_REQUIRE_NVCC. `ENGINE_UPDATE_BUDGET=1 cargo test --test kernel_budget` writes both tables anew.

mod machine_code;
#[path = "../support/nvcc.rs"]
mod nvcc;
mod time;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use nvcc::{Sums, nvcc, on_all_processors, ptx, sources, version};

/// Around the table in docs/KERNELS.md.
const BEGIN: &str = "<!-- Written by `make kernels` -->";
const END: &str = "<!-- The end of what `make kernels` writes -->";

const ARCHITECTURES: [&str; 3] = ["sm_75", "sm_80", "sm_90"];

/// Of these, those that are assembled: by day the one whose time is told; older assemblers take the kernels for the
/// lowest one in `tests/ptx`.
fn architectures() -> &'static [&'static str] {
    let all = ["ENGINE_KERNELS_ALL", "ENGINE_UPDATE_BUDGET"].map(std::env::var_os).iter().any(Option::is_some);
    if all { &ARCHITECTURES } else { &ARCHITECTURES[2..] }
}

/// What ptxas says of one kernel on one architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    registers: u32,
    shared: u32,
    spills: u32,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The number before a word: `40` of "Used 40 registers".
fn before(line: &str, word: &str) -> u32 {
    let Some(at) = line.find(word) else { return 0 };
    line[..at].trim_end().rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// ptxas's report: "Compiling entry function 'name'", then a line with spills, then one with registers.
fn parse(report: &str) -> BTreeMap<String, Usage> {
    let mut found = BTreeMap::new();
    let mut kernel = String::new();
    let mut usage = Usage::default();
    for line in report.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or("").to_owned();
            usage = Usage::default();
        } else if line.contains("spill stores") {
            usage.spills = before(line, " bytes spill stores") + before(line, " bytes spill loads");
        } else if line.contains("registers") {
            usage.registers = before(line, " registers");
            usage.shared = before(line, " bytes smem");
            found.insert(kernel.clone(), usage);
        }
    }
    found
}

type Compiled = Result<BTreeMap<String, Usage>, String>;

/// Each file once for each architecture, whichever test wants it first.
fn compile(nvcc: &Path, source: &Path, architecture: &str) -> Compiled {
    type Cell = Arc<OnceLock<Compiled>>;
    static MADE: Mutex<BTreeMap<(PathBuf, String), Cell>> = Mutex::new(BTreeMap::new());
    let key = (source.to_owned(), architecture.to_owned());
    let cell = MADE.lock().unwrap().entry(key).or_default().clone();
    cell.get_or_init(|| assemble(nvcc, source, architecture)).clone()
}

fn cubin(source: &Path, architecture: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}.{architecture}.cubin", source.file_stem().unwrap().display()))
}

fn assemble(nvcc: &Path, source: &Path, architecture: &str) -> Compiled {
    let out = cubin(source, architecture);
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas=-v", "-cubin"]);
    command.arg(format!("-arch={architecture}")).arg("-I").arg(root().join("kernels"));
    // For the lowest target as it is embedded, so that its PTX is seen to need no newer version than it names.
    let embedded = architecture == version::TARGET;
    let input = if embedded { ptx(nvcc, source, Sums::Fused)? } else { source.to_owned() };
    let output = command.arg(input).arg("-o").arg(&out).output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{} for {architecture}:\n{report}", source.display()));
    }
    Ok(parse(&report))
}

type Table = BTreeMap<String, BTreeMap<&'static str, Usage>>;

/// What kernels/BUDGET.txt says of them.
fn as_text(table: &Table) -> String {
    let mut text = String::from(
        "# Registers a thread on sm_75, sm_80 and sm_90, and static shared memory in bytes: no kernel may use more, \
         none spills.\n\
         # Written by ENGINE_UPDATE_BUDGET=1 cargo test --test kernel_budget, with nvcc 13.0.88.\n",
    );
    for (kernel, usage) in table {
        let registers: Vec<String> = ARCHITECTURES.iter().map(|a| usage[a].registers.to_string()).collect();
        let shared = usage.values().map(|u| u.shared).max().unwrap_or(0);
        writeln!(text, "{kernel} {} {shared}", registers.join(" ")).unwrap();
    }
    text
}

#[test]
fn kernels_assemble_and_stay_within_their_budget() {
    let Some(nvcc) = nvcc() else { return };
    let sources = sources();
    let work: Vec<(&PathBuf, &'static str)> =
        sources.iter().flat_map(|source| architectures().iter().map(move |a| (source, *a))).collect();
    let results = on_all_processors(&work, |(source, architecture)| compile(&nvcc, source, architecture));
    let mut failures = String::new();
    let mut table = Table::new();
    for ((_, architecture), found) in work.iter().zip(results) {
        match found {
            Err(problem) => writeln!(failures, "{problem}").unwrap(),
            Ok(kernels) => {
                for (kernel, usage) in kernels {
                    if usage.spills > 0 {
                        writeln!(failures, "{kernel} spills {} bytes on {architecture}", usage.spills).unwrap();
                    }
                    table.entry(kernel).or_default().insert(architecture, usage);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    let path = root().join("kernels/BUDGET.txt");
    if std::env::var_os("ENGINE_UPDATE_BUDGET").is_some() {
        std::fs::write(&path, as_text(&table)).unwrap();
        return;
    }
    let budget = std::fs::read_to_string(&path).unwrap();
    let allowed: BTreeMap<&str, Vec<u32>> = budget
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| {
            let mut words = l.split_whitespace();
            Some((words.next()?, words.map(|w| w.parse().unwrap()).collect()))
        })
        .collect();
    for (kernel, usage) in &table {
        let Some(limits) = allowed.get(kernel.as_str()) else {
            writeln!(failures, "{kernel} is not in kernels/BUDGET.txt").unwrap();
            continue;
        };
        for (architecture, limit) in ARCHITECTURES.iter().zip(limits) {
            let Some(used) = usage.get(architecture) else { continue };
            if used.registers > *limit || used.shared > limits[3] {
                writeln!(
                    failures,
                    "{kernel} on {architecture}: {used:?}, allowed {limit} registers, {} bytes",
                    limits[3]
                )
                .unwrap();
            }
        }
    }
    for kernel in allowed.keys().filter(|k| !table.contains_key(**k)) {
        writeln!(failures, "{kernel} is in kernels/BUDGET.txt, but in no kernel file").unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn the_estimate_from_machine_code_is_told() {
    let (Some(nvcc), Some(nvdisasm)) = (nvcc(), machine_code::disassembler()) else { return };
    let sources = sources();
    let made = on_all_processors(&sources, |source| {
        let usage = compile(&nvcc, source, "sm_90").unwrap();
        (usage, machine_code::disassembled(&nvdisasm, &cubin(source, "sm_90")))
    });
    let (mut usage, mut kernels) = (BTreeMap::new(), BTreeMap::new());
    for (of_file, code) in made {
        usage.extend(of_file);
        kernels.extend(code);
    }
    let table = time::table(&kernels, &usage);
    let path = root().join("docs/KERNELS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("docs/KERNELS.md has the table of machine code");
    let (told, after) = rest.split_once(END).expect("the table of machine code has an end");
    if std::env::var_os("ENGINE_UPDATE_BUDGET").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}\n\n{table}\n{END}{after}")).unwrap();
    } else {
        assert_eq!(told.trim(), table.trim(), "docs/KERNELS.md tells of other machine code; `make kernels` writes it");
    }
}

#[test]
fn a_report_is_read() {
    let report = "ptxas info    : Compiling entry function 'add_f32' for 'sm_90'\n\
                  ptxas info    : Function properties for add_f32\n\
                  \u{20}   0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n\
                  ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem, 400 bytes cmem[0]\n";
    let usage = Usage { registers: 40, shared: 512, spills: 12 };
    assert_eq!(parse(report), BTreeMap::from([("add_f32".to_owned(), usage)]));
}
