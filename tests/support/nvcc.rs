//! CUDA's compiler, and the PTX that it makes of the kernels. It is compiled by the first test that wants it into the
//! tests' folder, once for one state of the sources.
#![allow(dead_code)] // every test binary takes its own part

#[path = "../../kernels/version.rs"]
pub mod version;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

/// What build.rs embeds by default, and how it compiles it.
const LOWEST: &str = "compute_80";
const FLAGS: [&str; 4] = ["-std=c++17", "-O3", "-Werror", "all-warnings"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An nvcc that runs; `None` after a line that says what is skipped, and under ENGINE_REQUIRE_NVCC that is a failure.
pub fn nvcc() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("NVCC").map(PathBuf::from).into_iter().collect();
    places.push(root().join(".cuda/nvidia/cu13/bin/nvcc"));
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    places.extend(homes.map(|home| Path::new(&home).join("bin/nvcc")));
    places.push("nvcc".into());
    let runs = |nvcc: &PathBuf| Command::new(nvcc).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = places.into_iter().find(runs);
    if found.is_none() {
        let required = std::env::var_os("ENGINE_REQUIRE_NVCC").is_some();
        assert!(!required, "no nvcc, and ENGINE_REQUIRE_NVCC is set; tools/get_nvcc.sh installs it");
        eprintln!("skipped: no nvcc (tools/get_nvcc.sh installs it)");
    }
    found
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = listing.map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

/// The kernel files.
pub fn sources() -> Vec<PathBuf> {
    files(&root().join("kernels"), "cu")
}

/// How multiply-adds are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// As build.rs does: `a * b + c` may become one operation with one rounding.
    Fused,
    /// Each operation rounds, as the emulator's do, so that their bits can be compared.
    Apart,
}

/// The PTX of a kernel file for the lowest target.
///
/// # Errors
/// What nvcc says.
pub fn ptx(nvcc: &Path, source: &Path, sums: Sums) -> Result<PathBuf, String> {
    let mut hash = Sha256::new();
    hash.update(format!("{sums:?}"));
    hash.update(Command::new(nvcc).arg("--version").output().map_err(|error| error.to_string())?.stdout);
    FLAGS.iter().for_each(|flag| hash.update(flag));
    // What becomes of nvcc's output is a part of how it is made.
    hash.update(include_str!("../../kernels/version.rs"));
    for path in files(&root().join("kernels"), "cuh").iter().map(PathBuf::as_path).chain([source]) {
        hash.update(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    let hash: String = hash.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ptx");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let stem = format!("{}-{sums:?}", source.file_stem().unwrap_or_default().display());
    let made = folder.join(format!("{stem}-{hash}.ptx"));
    // Tests of other binaries may want the same file.
    let lock = std::fs::File::create(folder.join(format!("{stem}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if made.exists() {
        return Ok(made);
    }
    let part = folder.join(format!("{stem}.part.ptx"));
    let mut command = Command::new(nvcc);
    command.args(FLAGS).arg("-ptx").arg(format!("-arch={LOWEST}")).arg("-I").arg(root().join("kernels"));
    if sums == Sums::Apart {
        command.arg("-fmad=false");
    }
    let output = command.arg(source).arg("-o").arg(&part).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr)));
    }
    let text = std::fs::read_to_string(&part).map_err(|error| error.to_string())?;
    std::fs::write(&part, version::lowered(&text)?).map_err(|error| error.to_string())?;
    std::fs::rename(&part, &made).map_err(|error| error.to_string())?;
    Ok(made)
}

/// Does something for each of a list on all processors, the results in the list's order.
pub fn on_all_processors<T: Sync, R: Send>(list: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = list.get(i) else { break };
                    let result = work(item);
                    results.lock().unwrap().push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The PTX of every kernel file; `None` without nvcc.
pub fn ptx_of_all(sums: Sums) -> Option<Vec<String>> {
    let nvcc = nvcc()?;
    let made = on_all_processors(&sources(), |source| {
        let made = ptx(&nvcc, source, sums).unwrap_or_else(|problem| panic!("{problem}"));
        std::fs::read_to_string(made).unwrap()
    });
    Some(made)
}
