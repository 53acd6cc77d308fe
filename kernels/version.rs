//! The version of PTX in which the kernels are embedded. nvcc names its own (9.0 of CUDA 13), and a driver refuses
//! what is newer than itself, whatever it contains. The kernels need no more than 7.0, the first version that knows
//! sm_80: drivers of CUDA 11.0 and newer read it.

/// The version that is named, and the target that it goes with.
pub const VERSION: &str = "7.0";
/// The least GPU: `compute_80` on nvcc's command line.
pub const TARGET: &str = "sm_80";

/// Hints to the assembler that are newer than that, and change nothing but the time that loads take: which bytes of a
/// vector load are used (8.3).
const NEWER_HINTS: [&str; 1] = [".pragma \"used_bytes_mask"];

/// nvcc's PTX with the lowest version in place of its own, and without newer hints. PTX for newer targets stays as it
/// is. Whether it really needs no more is for an assembler to say: each refuses what is newer than the version that the
/// text names.
///
/// # Errors
/// Text that does not begin as nvcc's PTX does.
pub fn lowered(ptx: &str) -> Result<String, String> {
    let directive = |name: &str| {
        let line = ptx.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(str::trim).ok_or_else(|| format!("nvcc's PTX has no `{name}`"))
    };
    let (version, target) = (directive(".version")?, directive(".target")?);
    if target.split(',').next() != Some(TARGET) {
        return Ok(ptx.to_owned());
    }
    let newer = |line: &&str| NEWER_HINTS.iter().any(|hint| line.trim_start().starts_with(hint));
    let lines = ptx.split_inclusive('\n').filter(|line| !newer(line));
    Ok(lines.collect::<String>().replacen(&format!(".version {version}"), &format!(".version {VERSION}"), 1))
}
