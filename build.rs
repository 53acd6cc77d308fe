//! With the feature `cuda`: compiles `kernels/*.cu` with nvcc and writes the table of modules that the program embeds.
//! Without it: nothing.
//!
//! `ENGINE_CUDA_ARCHS` names what to compile for, comma-separated: `compute_80` (the default) embeds PTX, which the
//! driver of any GPU since Ampere translates when it is first used; `sm_90` adds machine code for an H100, and so on.
//! There is no fall-back: a build with the feature has the kernels or fails with one line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::{env, fs};

/// nvcc's versions that are known to write PTX that the drivers of CUDA 13.0 (580) read.
const VERSIONS: std::ops::RangeInclusive<(u32, u32)> = (12, 0)..=(13, 0);
const SETTINGS: [&str; 5] = ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "ENGINE_CUDA_ARCHS"];

fn fail(line: &str) -> ! {
    println!("cargo::error={line}");
    exit(1)
}

/// Release of an nvcc, if it is one.
fn version(nvcc: &Path) -> Option<(u32, u32)> {
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
        match version(&named) {
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
        match version(&nvcc) {
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
            // A compiler put together from packages of different releases writes PTX that no driver of its release
            // reads, without a word.
            let ptx = fs::read_to_string(out.join(&name)).unwrap_or_default();
            let written = ptx.lines().find_map(|line| line.strip_prefix(".version ")).unwrap_or("none").to_owned();
            if written.split('.').next().and_then(|v| v.parse::<u32>().ok()).is_none_or(|v| v > 9) || written == "9.5" {
                fail(&format!(
                    "{} writes PTX {written}; expected 9.0 or older: its parts are of different releases",
                    nvcc.display()
                ));
            }
        }
        let stem = source.file_stem().unwrap_or_default().display();
        table += &format!(
            "    ({:?}, {arch:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), {:?}))),\n",
            stem.to_string(),
            format!("/{name}")
        );
    }
    fs::write(out.join("modules.rs"), table + "];\n").unwrap_or_else(|error| fail(&format!("modules.rs: {error}")));
}
