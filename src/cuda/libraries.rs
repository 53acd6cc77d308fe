//! Where NVIDIA's libraries are looked for beside the system's own places.

/// Loads libraries from [`library_folders`] where they are there. A library that is loaded is found by its name
/// afterwards.
pub(super) fn load_from_folders(names: &[&str]) {
    for name in names {
        for path in library_folders().into_iter().map(|folder| folder.join(name)).filter(|path| path.exists()) {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            // SAFETY: NVIDIA's libraries, whose initialisers have no requirements.
            if let Ok(library) = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                // It stays loaded to the end of the program.
                std::mem::forget(library);
            }
        }
    }
}

/// Where libraries are looked for beside the system's places: `ENGINE_CUDA_LIBS`, a list of folders like PATH.
fn library_folders() -> Vec<std::path::PathBuf> {
    std::env::var_os("ENGINE_CUDA_LIBS").iter().flat_map(std::env::split_paths).collect()
}
