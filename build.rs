//! With the feature `cuda`: compiles `kernels/*.cu` with nvcc and writes the table of modules that the program embeds.
//! Without it: nothing.
//!
//! `ENGINE_CUDA_ARCHS` names what to compile for, comma-separated: `compute_80` (the default) embeds PTX, which the
//! driver of any GPU since Ampere translates when it is first used; `sm_90` adds machine code for an H100, and so on.
//! That PTX names the lowest version of its language that will do (`kernels/version.rs`), and nvcc's own assembler has
//! to agree that it needs no more. There is no fall-back: a build with the feature has the kernels or fails with one
//! line.

#[path = "kernels/version.rs"]
mod version;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::{env, fs};

/// nvcc's versions whose PTX needs no more than that.
const VERSIONS: std::ops::RangeInclusive<(u32, u32)> = (12, 0)..=(13, 0);
const SETTINGS: [&str; 5] = ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "ENGINE_CUDA_ARCHS"];

fn fail(line: &str) -> ! {
    println!("cargo::error={line}");
    exit(1)
}

/// Release of an nvcc, if it is one.
fn release(nvcc: &Path) -> Option<(u32, u32)> {
    let output = Command::new(nvcc).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.split("release ").nth(1)?.split(',').next()?.to_owned();
    let mut numbers = release.split('.').map(|n| n.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The first usable nvcc: `$NVCC`, the one that tools/get_nvcc.sh installs, `$CUDA_HOME`, `$CUDA_PATH`, PATH,
/// /usr/local/cuda.
fn find_nvcc(root: &Path) -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        let named = PathBuf::from(named);
        match release(&named) {
            Some(_) => return named,
            None => fail(&format!("NVCC={}: cannot be run as nvcc; name CUDA's compiler or unset it", named.display())),
        }
    }
    let mut places = vec![root.join(".cuda/nvidia/cu13/bin")];
    places.extend(["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(|d| Path::new(&d).join("bin")));
    places.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    places.push("/usr/local/cuda/bin".into());
    let mut other = String::new();
    for nvcc in places.into_iter().map(|place| place.join("nvcc")) {
        match release(&nvcc) {
            Some(version) if VERSIONS.contains(&version) => return nvcc,
            Some((major, minor)) => other = format!(" ({} is {major}.{minor})", nvcc.display()),
            None => {}
        }
    }
    fail(&format!(
        "the feature `cuda` needs nvcc 12.0 to 13.0{other}: run tools/get_nvcc.sh, which installs it from PyPI into \
         .cuda, or set NVCC or CUDA_HOME"
    ))
}

fn compile(nvcc: &Path, kernels: &Path, source: &Path, arch: &str, out: &Path) -> Child {
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-O3", "-Werror", "all-warnings", "-I"]).arg(kernels);
    match arch.strip_prefix("sm_") {
        None => command.args(["-ptx", &format!("-arch={arch}")]),
        Some(_) => command.args(["-cubin", &format!("-arch={arch}")]),
    };
    command.arg(source).arg("-o").arg(out).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| fail(&format!("{}: {error}", nvcc.display())))
}

/// Rewrites PTX with the lowest version and starts the assembler on it; only to see whether it agrees, so without
/// optimising. `None` for PTX that keeps nvcc's version.
fn lower(nvcc: &Path, ptx: &Path) -> Option<Child> {
    let text = fs::read_to_string(ptx).unwrap_or_else(|error| fail(&format!("{}: {error}", ptx.display())));
    let lowered = version::lowered(&text).unwrap_or_else(|problem| fail(&format!("{}: {problem}", ptx.display())));
    if lowered == text && !text.contains(&format!(".target {}", version::TARGET)) {
        return None;
    }
    fs::write(ptx, lowered).unwrap_or_else(|error| fail(&format!("{}: {error}", ptx.display())));
    let mut command = Command::new(nvcc);
    command.args(["-cubin", "-Xptxas", "-O0", &format!("-arch={}", version::TARGET)]);
    command.arg(ptx).arg("-o").arg(ptx.with_extension("assembled"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command.spawn().unwrap_or_else(|error| fail(&format!("{}: {error}", nvcc.display()))))
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let variable =
        |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| fail(&format!("cargo did not set {name}"))));
    let (root, out) = (variable("CARGO_MANIFEST_DIR"), variable("OUT_DIR"));
    let kernels = root.join("kernels");
    println!("cargo::rerun-if-changed=kernels");
    SETTINGS.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
    let nvcc = find_nvcc(&root);
    println!("cargo::rerun-if-changed={}", nvcc.display());
    let archs = env::var("ENGINE_CUDA_ARCHS").unwrap_or_else(|_| "compute_80".into());
    let listing = fs::read_dir(&kernels).unwrap_or_else(|error| fail(&format!("{}: {error}", kernels.display())));
    let mut sources: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    sources.sort();
    let mut running = Vec::new();
    for source in &sources {
        for arch in archs.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let kind = if arch.starts_with("sm_") { "cubin" } else { "ptx" };
            let name = format!("{}.{arch}.{kind}", source.file_stem().unwrap_or_default().display());
            running.push((
                source,
                arch.to_owned(),
                name.clone(),
                compile(&nvcc, &kernels, source, arch, &out.join(&name)),
            ));
        }
    }
    let mut assembled = Vec::new();
    let mut table =
        String::from("/// File stem, architecture, contents.\npub static MODULES: &[(&str, &str, &[u8])] = &[\n");
    for (source, arch, name, child) in running {
        let output = child.wait_with_output().unwrap_or_else(|error| fail(&format!("nvcc: {error}")));
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            text.lines().for_each(|line| println!("cargo::warning={line}"));
            fail(&format!("nvcc refuses {} for {arch}; its messages are above", source.display()));
        }
        if name.ends_with(".ptx") {
            assembled.push((name.clone(), lower(&nvcc, &out.join(&name))));
        }
        let stem = source.file_stem().unwrap_or_default().display();
        table += &format!(
            "    ({:?}, {arch:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), {:?}))),\n",
            stem.to_string(),
            format!("/{name}")
        );
    }
    for (name, child) in assembled.into_iter().filter_map(|(name, child)| Some((name, child?))) {
        let output = child.wait_with_output().unwrap_or_else(|error| fail(&format!("nvcc: {error}")));
        if !output.status.success() {
            String::from_utf8_lossy(&output.stderr).lines().for_each(|line| println!("cargo::warning={line}"));
            let version = version::VERSION;
            fail(&format!(
                "{name} needs more than PTX {version}, or nvcc's parts are of different releases; see above"
            ));
        }
    }
    fs::write(out.join("modules.rs"), table + "];\n").unwrap_or_else(|error| fail(&format!("modules.rs: {error}")));
}
