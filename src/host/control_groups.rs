//! What the control groups leave that this process is in: containers, Slurm steps, systemd slices; of version 2, of the
//! memory controller of version 1, and of both at once.
//!
//! A control group limits itself and all groups in it, so every ancestor counts, as far up as the mounted tree shows
//! them. What a group has used is not all lost: pages of files that nobody has used lately go as soon as memory is
//! wanted, and count as free. Files that are missing, unreadable or hold no number say nothing.

use std::path::{Component, Path, PathBuf};

/// Limits of version 1 that mean none: it rounds "unlimited" down to whole pages.
const UNLIMITED: u64 = 1 << 62;

/// Bytes that a group leaves, and the file with the limit.
pub type Left = (u64, PathBuf);

/// A mounted tree of control groups that can limit memory.
struct Tree {
    /// Of version 2, or the memory controller of version 1.
    is_v2: bool,
    /// The group that is mounted.
    group: PathBuf,
    /// Where.
    at: PathBuf,
}

/// What each control group that the process is in leaves, from its own up. `root` is the file system's.
pub fn left(root: &Path) -> Vec<Left> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let (own, mounted) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut all = Vec::new();
    for tree in mounted.lines().filter_map(tree) {
        let Some(path) = own.lines().find_map(|line| own_group(line, tree.is_v2)) else { continue };
        let Some(below) = below(Path::new(path), &tree.group) else { continue };
        // The mount points are absolute, also below another root.
        let top = root.join(tree.at.strip_prefix("/").unwrap_or(&tree.at));
        let mut folder = top.join(below);
        loop {
            if tree.is_v2 {
                v2(&folder, &mut all)
            } else {
                v1(&folder, &mut all)
            }
            let is_alone = !tree.is_v2 && number(&folder.join("memory.use_hierarchy")) == Some(0);
            if folder == top || is_alone || !folder.pop() {
                break;
            }
        }
    }
    all
}

/// A line of mountinfo, `ID PARENT DEVICE GROUP POINT OPTIONS ... - TYPE SOURCE OPTIONS` (proc_pid_mountinfo).
fn tree(line: &str) -> Option<Tree> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let is_v2 = match kind.next()? {
        "cgroup2" => true,
        "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => false,
        _ => return None,
    };
    let mut mount = mount.split(' ').skip(3);
    Some(Tree { is_v2, group: unescaped(mount.next()?), at: unescaped(mount.next()?) })
}

/// Spaces and the like stand in mountinfo as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain.into()
}

/// The path of the process's group, from a line `0::/path` (version 2) or `4:memory,cpu:/path` (version 1).
fn own_group(line: &str, is_v2: bool) -> Option<&str> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let is_meant = match is_v2 {
        true => number == "0" && controllers.is_empty(),
        false => controllers.split(',').any(|controller| controller == "memory"),
    };
    is_meant.then_some(path)
}

/// Where the process's group lies below the one that is mounted; `None` where it is another one's tree.
fn below(own: &Path, mounted: &Path) -> Option<PathBuf> {
    if let Ok(below) = own.strip_prefix(mounted) {
        // Nothing leads out of the tree.
        return below.components().all(|c| matches!(c, Component::Normal(_))).then(|| below.to_owned());
    }
    // In a namespace of groups, a mount from outside begins at an ancestor (`/../..`). What lies between has no name
    // here, but the ancestor's limit holds.
    let is_above = mounted.components().skip(1).all(|c| c == Component::ParentDir);
    is_above.then(PathBuf::new)
}

fn v2(folder: &Path, all: &mut Vec<Left>) {
    let Some(current) = number(&folder.join("memory.current")) else { return };
    let used = current.saturating_sub(statistic(folder, "inactive_file"));
    for name in ["memory.max", "memory.high"] {
        // "max" is no number: no limit.
        let file = folder.join(name);
        all.extend(number(&file).map(|limit| (limit.saturating_sub(used), file)));
    }
}

fn v1(folder: &Path, all: &mut Vec<Left>) {
    let Some(usage) = number(&folder.join("memory.usage_in_bytes")) else { return };
    let used = usage.saturating_sub(statistic(folder, "total_inactive_file"));
    let file = folder.join("memory.limit_in_bytes");
    if let Some(limit) = number(&file).filter(|&limit| limit < UNLIMITED) {
        all.push((limit.saturating_sub(used), file));
    }
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A line `NAME NUMBER` of memory.stat; 0 where there is none.
fn statistic(folder: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "36 32 0:33 / /sys/fs/cgroup/memory rw shared:15 - cgroup cgroup rw,memory";

    /// A root with these files.
    pub fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        root
    }

    /// What the groups leave: bytes, and the file below the root.
    fn leaves(files: &[(&str, &str)]) -> Vec<(u64, String)> {
        let root = root(files);
        let below = |file: PathBuf| file.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned();
        left(root.path()).into_iter().map(|(bytes, file)| (bytes, below(file))).collect()
    }

    #[test]
    fn every_ancestor_of_a_group_of_version_2_counts_and_idle_pages_of_files_are_free() {
        let found = leaves(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/a/b/memory.current", "300\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.high", "1000\n"),
            ("sys/fs/cgroup/a/b/memory.stat", "anon 7\ninactive_file 100\nactive_file 9\n"),
            ("sys/fs/cgroup/a/memory.current", "500\n"),
            ("sys/fs/cgroup/a/memory.max", "600\n"),
            ("sys/fs/cgroup/memory.stat", "inactive_file 100\n"),
        ]);
        let expected = [(800, "sys/fs/cgroup/a/b/memory.high"), (100, "sys/fs/cgroup/a/memory.max")];
        assert_eq!(found, expected.map(|(bytes, file)| (bytes, file.to_owned())));
    }

    #[test]
    fn version_1_is_looked_up_as_the_memory_controller_and_its_unlimited_is_none() {
        let files = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/slurm/job\n1:name=systemd:/x\n0::/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/slurm/job/memory.usage_in_bytes", "70\n"),
            ("sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/slurm/memory.usage_in_bytes", "90\n"),
            ("sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", "200\n"),
            ("sys/fs/cgroup/memory/slurm/memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"),
        ];
        let slurm = (150, "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes".to_owned());
        assert_eq!(leaves(&files), std::slice::from_ref(&slurm));
        // Without a hierarchy an ancestor limits only itself.
        let alone = [&files[..], &[("sys/fs/cgroup/memory/slurm/job/memory.use_hierarchy", "0\n")]].concat();
        assert_eq!(leaves(&alone), []);
        let together = [&files[..], &[("sys/fs/cgroup/memory/slurm/job/memory.use_hierarchy", "1\n")]].concat();
        assert_eq!(leaves(&together), [slurm]);
    }

    #[test]
    fn of_both_versions_at_once_the_one_that_has_the_controller_counts() {
        let unified = "42 32 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let found = leaves(&[
            ("proc/self/cgroup", "9:memory:/a\n0::/user.slice\n"),
            ("proc/self/mountinfo", &format!("{unified}\n{V1}\n")),
            ("sys/fs/cgroup/unified/user.slice/cgroup.procs", "1\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "10\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "30\n"),
        ]);
        assert_eq!(found, [(20, "sys/fs/cgroup/memory/a/memory.limit_in_bytes".to_owned())]);
    }

    #[test]
    fn in_a_container_the_mount_begins_at_its_own_group() {
        let mount = "36 32 0:33 /docker/12ab /sys/fs/cgroup/me\\040mory ro - cgroup cgroup rw,memory";
        let at = |group: &str| {
            leaves(&[
                ("proc/self/cgroup", &format!("4:memory:{group}\n")),
                ("proc/self/mountinfo", mount),
                ("sys/fs/cgroup/me mory/memory.usage_in_bytes", "10\n"),
                ("sys/fs/cgroup/me mory/memory.limit_in_bytes", "60\n"),
                ("sys/fs/cgroup/me mory/step/memory.usage_in_bytes", "10\n"),
                ("sys/fs/cgroup/me mory/step/memory.limit_in_bytes", "30\n"),
            ])
            .into_iter()
            .map(|(bytes, _)| bytes)
            .collect::<Vec<_>>()
        };
        assert_eq!(at("/docker/12ab"), [50]);
        assert_eq!(at("/docker/12ab/step"), [20, 50]);
        // Another container's tree, and names that only look as if they led somewhere.
        assert!(at("/docker/34cd").is_empty());
        assert!(at("/docker/12ab/../34cd").is_empty());
        // The mount is from outside the namespace that the process's path begins at.
        let outside = leaves(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw"),
            ("sys/fs/cgroup/memory.current", "10\n"),
            ("sys/fs/cgroup/memory.max", "25\n"),
        ]);
        assert_eq!(outside, [(15, "sys/fs/cgroup/memory.max".to_owned())]);
    }

    #[test]
    fn what_cannot_be_read_or_is_no_number_says_nothing() {
        assert_eq!(leaves(&[]), []);
        for (cgroup, mountinfo) in
            [("", ""), ("x", "y"), ("0:", "- cgroup2"), ("0::/a", "1 2 3 - cgroup2"), ("::::", V2)]
        {
            assert_eq!(leaves(&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mountinfo)]), []);
        }
        let odd = |current: &str, max: &str| {
            leaves(&[
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/memory.current", current),
                ("sys/fs/cgroup/memory.max", max),
                ("sys/fs/cgroup/memory.stat", "inactive_file\ninactive_file_x 8\n"),
            ])
        };
        for (current, max) in [("-1", "5"), ("5", ""), ("5", "5 G"), ("", "5"), ("99999999999999999999999", "5")] {
            assert_eq!(odd(current, max), [], "{current} {max}");
        }
        // More in use than allowed: nothing is left.
        assert_eq!(odd("9", "5")[0].0, 0);
    }
}
