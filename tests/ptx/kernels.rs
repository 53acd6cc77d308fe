//! The engine's kernels as text: the interpreter knows every line of them.

use crate::interpreter::library;
use crate::nvcc::Sums;

#[test]
fn every_line_of_every_kernel_is_known() {
    let Some(library) = library(Sums::Fused) else { return };
    let names: Vec<String> = library.names().map(str::to_owned).collect();
    let unknown: Vec<String> = names.iter().filter_map(|name| library.kernel(name).err()).collect();
    assert_eq!(unknown, Vec::<String>::new());
    // As many as the assembler finds.
    let budget = include_str!("../../kernels/BUDGET.txt").lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(names.len(), budget);
}
