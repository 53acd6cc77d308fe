//! Old drivers can read the embedded PTX: it names the version that CUDA 11.0 brought, and assemblers of CUDA 11.8 and
//! 12.0 agree that it needs no more.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nvcc::{Sums, nvcc, on_all_processors, ptx, sources, version};

/// Older assemblers (`tools/get_nvcc.sh old-assemblers`) and a GPU for each: Ampere's two kinds and Hopper.
const ASSEMBLERS: [(&str, &str); 3] = [("11.8", "sm_80"), ("11.8", "sm_90"), ("12.0", "sm_86")];

fn assembler(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".cuda/ptxas-{release}"))
}

/// What an assembler says of a text; only whether it takes it matters, so it does not optimise.
fn assembled(release: &str, target: &str, text: &Path) -> Result<(), String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}-{release}-{target}.cubin", text.file_stem().unwrap_or_default().display()));
    let mut command = Command::new(assembler(release));
    command.args(["-O0", &format!("-arch={target}")]).arg(text).arg("-o").arg(out);
    let output = command.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(told)
}

fn there_are_assemblers() -> bool {
    let there = ASSEMBLERS.iter().all(|(release, _)| assembler(release).exists());
    let required = std::env::var_os("ENGINE_REQUIRE_OLD_PTXAS").is_some();
    assert!(there || !required, "no old assemblers, and ENGINE_REQUIRE_OLD_PTXAS is set; see tools/get_nvcc.sh");
    if !there {
        eprintln!("skipped: no assemblers of older releases (tools/get_nvcc.sh old-assemblers installs them)");
    }
    there
}

#[test]
fn older_assemblers_take_the_kernels() {
    if !there_are_assemblers() {
        return;
    }
    let Some(nvcc) = nvcc() else { return };
    let texts = on_all_processors(&sources(), |source| ptx(&nvcc, source, Sums::Fused).unwrap());
    let work: Vec<_> =
        texts.iter().flat_map(|text| ASSEMBLERS.map(|(release, target)| (text, release, target))).collect();
    let results = on_all_processors(&work, |(text, release, target)| assembled(release, target, text));
    let refused = work.iter().zip(results).filter_map(|((text, release, target), result)| {
        Some(format!("{} for {target} by ptxas {release}: {}", text.display(), result.err()?))
    });
    assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new());
    // They would say so if it needed more than it names.
    let text = format!(
        ".version {}\n.target sm_80\n.address_size 64\n.visible .entry k()\n{{\nSTATEMENT\nret;\n}}\n",
        version::VERSION
    );
    let newer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newer.ptx");
    std::fs::write(&newer, text.replace("STATEMENT", "")).unwrap();
    assembled("11.8", "sm_80", &newer).unwrap();
    std::fs::write(
        &newer,
        text.replace("STATEMENT", ".reg .b32 %r<2>; movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0;"),
    )
    .unwrap();
    let told = assembled("11.8", "sm_80", &newer).unwrap_err();
    assert!(told.contains("requires PTX ISA .version 7.8 or later"), "{told}");
}

#[test]
fn the_lowest_version_is_named() {
    let Some(nvcc) = nvcc() else { return };
    for source in sources() {
        let text = std::fs::read_to_string(ptx(&nvcc, &source, Sums::Fused).unwrap()).unwrap();
        let named: Vec<&str> = text.lines().filter(|line| line.starts_with(".version")).collect();
        assert_eq!(named, [".version 7.0"], "{}", source.display());
    }
    // Other targets keep what nvcc wrote, and what is no PTX is refused.
    let newer = ".version 9.0\n.target sm_90\n";
    assert_eq!(version::lowered(newer).unwrap(), newer);
    assert_eq!(
        version::lowered(".version 9.0\n.target sm_80, debug\n").unwrap(),
        ".version 7.0\n.target sm_80, debug\n"
    );
    let hint = ".version 9.0\n.target sm_80\n\t.pragma \"used_bytes_mask 255\";\n\t.pragma \"nounroll\";\n";
    assert_eq!(version::lowered(hint).unwrap(), ".version 7.0\n.target sm_80\n\t.pragma \"nounroll\";\n");
    assert_eq!(version::lowered("cubin").unwrap_err(), "nvcc's PTX has no `.version`");
}

/// What a build with the feature embeds is what the interpreter ran.
#[cfg(feature = "cuda")]
#[test]
fn the_embedded_ptx_is_the_tested_one() {
    let Some(nvcc) = nvcc() else { return };
    let lowest = engine::cuda::device::MODULES.iter().filter(|(_, arch, _)| *arch == "compute_80");
    for (stem, _, bytes) in lowest {
        let source = sources().into_iter().find(|source| source.file_stem().is_some_and(|s| s == *stem)).unwrap();
        let tested = std::fs::read(ptx(&nvcc, &source, Sums::Fused).unwrap()).unwrap();
        assert!(*bytes == tested, "{stem}: build.rs and tests/support/nvcc.rs compile it in different ways");
    }
}
