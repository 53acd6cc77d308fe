//! Where NVIDIA's libraries are looked for: first the folders of `ENGINE_CUDA_LIBS`, then where pip and conda put them,
//! then where CUDA's toolkit does, last the system's own places.

use std::path::{Path, PathBuf};

use libloading::Library;

/// A library with its versions, as its files are called: `cudnn`, 9. The first version that is there will do.
#[derive(Clone, Copy)]
pub(super) struct Name {
    stem: &'static str,
    versions: &'static [u32],
}

/// cuDNN.
pub(super) const CUDNN: Name = Name { stem: "cudnn", versions: &[9] };
/// cuBLAS.
pub(super) const CUBLAS: Name = Name { stem: "cublas", versions: &[13, 12] };
/// nvJPEG.
pub(super) const NVJPEG: Name = Name { stem: "nvjpeg", versions: &[13, 12] };
/// What cuBLAS and cuDNN load themselves.
pub(super) const CUBLAS_LT: Name = Name { stem: "cublasLt", versions: &[13, 12] };

impl Name {
    /// The files' names on this system.
    fn files(self) -> impl Iterator<Item = String> {
        let Self { stem, versions } = self;
        versions.iter().map(move |version| match cfg!(windows) {
            true => format!("{stem}64_{version}.dll"),
            false => format!("lib{stem}.so.{version}"),
        })
    }
}

/// Loads libraries, each from the first folder that has it, and where none has from the system's places. A library that
/// is loaded is found by its name afterwards, by cudarc and by the other libraries.
///
/// # Errors
/// Where the last is not there or cannot be loaded: all that were not, and where they were looked for.
pub(super) fn load(names: &[Name]) -> Result<(), String> {
    let folders = folders();
    let mut missing = Vec::new();
    for name in names {
        // It stays loaded to the end of the program.
        let problem = find(*name, &folders).map(std::mem::forget);
        missing.push(problem.err());
    }
    if missing.last().is_none_or(Option::is_none) {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().flatten().collect();
    Err(format!("{} (looked for in {})", missing.join("; "), places(&folders)))
}

/// A library whose entry points are looked up by name.
///
/// # Errors
/// Where it is not there or cannot be loaded: where it was looked for.
pub(super) fn library(name: Name) -> Result<Library, String> {
    let folders = folders();
    find(name, &folders).map_err(|problem| format!("{problem} (looked for in {})", places(&folders)))
}

/// The library from the first folder that has it, or from the system's places.
fn find(name: Name, folders: &[PathBuf]) -> Result<Library, String> {
    let mut paths = name.files().flat_map(|file| folders.iter().map(move |folder| folder.join(&file)));
    match paths.find(|path| path.is_file()) {
        Some(path) => open(&path).map_err(|problem| format!("{}: {problem}", path.display())),
        None => {
            let there = name.files().find_map(|file| open(Path::new(&file)).ok());
            there.ok_or_else(|| name.files().collect::<Vec<_>>().join(" or ") + " was not found")
        }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> Result<Library, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: NVIDIA's libraries, whose initialisers have no requirements.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    library.map(Into::into).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: as above.
    unsafe { Library::new(path) }.map_err(|error| error.to_string())
}

/// For messages: the folders, shortened, and the system.
fn places(folders: &[PathBuf]) -> String {
    const MOST: usize = 6;
    let mut shown: Vec<String> = folders.iter().take(MOST).map(|folder| folder.display().to_string()).collect();
    if folders.len() > MOST {
        shown.push(format!("{} more folders", folders.len() - MOST));
    }
    shown.push("the system's folders".into());
    shown.join(", ")
}

/// The folders that are there, in the order in which they count, each once.
fn folders() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut all: Vec<PathBuf> = std::env::var_os("ENGINE_CUDA_LIBS").iter().flat_map(std::env::split_paths).collect();
    // pip: one folder for each package below `nvidia`.
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable);
    let home = variable("HOME").map(|home| home.join(".local"));
    let prefixes = environments.chain(home).chain(["/usr/local".into(), "/usr".into()]);
    prefixes.for_each(|prefix| of_packages(&prefix, &mut all));
    all.extend(variable("CONDA_PREFIX").map(|conda| conda.join("lib")));
    // The toolkit.
    for toolkit in ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).chain(["/usr/local/cuda".into()]) {
        all.extend(["lib64", "lib", "targets/x86_64-linux/lib", "bin"].map(|folder| toolkit.join(folder)));
    }
    let mut seen = Vec::new();
    all.retain(|folder| {
        folder.is_dir() && !seen.contains(folder) && {
            seen.push(folder.clone());
            true
        }
    });
    all
}

/// `PREFIX/lib/python3.*/site-packages/nvidia/*/lib`, sorted, and the same for Debian's name and for Windows.
fn of_packages(prefix: &Path, all: &mut Vec<PathBuf>) {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let list = std::fs::read_dir(folder).into_iter().flatten();
        let mut list: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
        list.sort();
        list
    };
    let is_python = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"));
    let mut pythons: Vec<PathBuf> = entries(&prefix.join("lib")).into_iter().filter(is_python).collect();
    pythons.push(prefix.join("Lib"));
    for packages in pythons.iter().flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name))) {
        for package in entries(&packages.join("nvidia")) {
            all.extend([package.join("lib"), package.join("bin")]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_pip_is_found_and_a_missing_library_is_named_with_the_places() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("lib/python3.12/site-packages/nvidia/cudnn/lib");
        std::fs::create_dir_all(&lib).unwrap();
        let mut all = Vec::new();
        of_packages(folder.path(), &mut all);
        all.retain(|folder| folder.is_dir());
        assert_eq!(all, [lib]);
        let [first, second] = ["no-such-library", "nor-this"].map(|stem| Name { stem, versions: &[3] });
        let problem = load(&[first, second]).unwrap_err();
        let [first, second] = [first, second].map(|name| name.files().next().unwrap());
        assert!(
            problem.starts_with(&format!("{first} was not found; {second} was not found (looked for in ")),
            "{problem}"
        );
        assert!(problem.ends_with("the system's folders)"), "{problem}");
    }
}
