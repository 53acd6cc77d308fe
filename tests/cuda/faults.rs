//! Mistakes put into the kernels' PTX, one at a time: the tests of the kernel's op, run on the interpreter, must fail,
//! by what the interpreter finds or by the numbers that come out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use engine::cuda::storage::Element;

use crate::test_device::interpreter::library;
use crate::test_device::nvcc::{Sums, ptx_of_all};
use crate::test_device::{on_gpu, on_interpreter, with_kernels};
use crate::{consistency, conv, depthwise, fusion, head, joint, loss, narrow, narrow_gradient};
use crate::{optimizer, pointwise, reduce, refine, resample, sweep};

/// What is done to a line.
#[derive(Clone, Copy)]
enum Edit {
    /// It goes.
    Without,
    /// A part of it becomes another.
    Swap(&'static str, &'static str),
    /// Something comes before it.
    After(&'static str),
}
use Edit::{After, Swap, Without};

struct Fault {
    what: &'static str,
    kernel: &'static str,
    /// The line: the one of this number, counted from 0, among those of the kernel with this text.
    line: (&'static str, usize),
    edit: Edit,
    /// What must fail.
    test: fn(),
    /// With these words.
    found: &'static str,
}

/// Only for every second thread.
const HALF: &str = ".reg .pred %odd; .reg .b32 %low; mov.u32 %low, %tid.x; and.b32 %low, %low, 1; \
                    setp.eq.u32 %odd, %low, 1; @%odd";

fn one_plane() {
    conv::check(conv::plane(3, 1, (8, 8)), [2, 5, 37], conv::PLAIN, Element::F16);
}

fn one_volume() {
    conv::check(conv::volume(3, 1, (16, 8)), [5, 3, 19], conv::PLAIN, Element::F16);
}

fn one_plane_in_f32() {
    conv::check(conv::plane(3, 1, (8, 8)), [2, 5, 37], conv::PLAIN, Element::F32);
}

/// A race in shared memory, or a read of what a thread has not written yet: which of them depends on who comes first.
const SHARED: &str = "shared memory";
const RACE: &str = "RACE: ";
const UNWRITTEN: &str = "memory that nobody wrote";
const OUTSIDE: &str = "memory out of bounds";
const MISALIGNED: &str = "which is no multiple of";
const DIVERGENT: &str = "DIVERGENCE: ";
/// The numbers are wrong.
const NUMBERS: &str = "expected";
/// Bits differ from the processor's.
const BITS: &str = "left == right";

const fn fault(
    what: &'static str,
    kernel: &'static str,
    line: (&'static str, usize),
    edit: Edit,
    test: fn(),
    found: &'static str,
) -> Fault {
    Fault { what, kernel, line, edit, test, found }
}

const FAULTS: &[Fault] = &[
    // Sums of channels: a tree in shared memory.
    fault("a missing barrier", "channel_sums_f32", ("bar.sync", 1), Without, reduce::means_match_f64, SHARED),
    fault(
        "a barrier for half of the threads",
        "channel_sums_f32",
        ("bar.sync", 0),
        After(HALF),
        reduce::means_match_f64,
        DIVERGENT,
    ),
    fault(
        "a wrong shared offset",
        "channel_sums_f32",
        ("st.shared.f64", 0),
        Swap("]", "+8]"),
        reduce::means_match_f64,
        OUTSIDE,
    ),
    fault(
        "all blocks write one result",
        "channel_sums_f32",
        ("%ctaid.x", 0),
        Swap("%ctaid.x", "0"),
        reduce::means_match_f64,
        RACE,
    ),
    fault("a sum that is left out", "channel_sums_f32", ("add.f64", 13), Without, reduce::means_match_f64, "Value {"),
    // Refinement: two buffers in turn, so that one barrier does.
    fault(
        "a missing barrier",
        "refine_forward_f32",
        ("bar.sync", 1),
        Without,
        refine::refined_depths_are_what_plain_loops_and_the_processor_say,
        SHARED,
    ),
    // Maps that hear each other: the tolerance of the last round.
    fault(
        "twice the tolerance",
        "joint_forward_hear_f32",
        ("0d3FF8000000000000", 1),
        Swap("0d3FF8000000000000", "0d4008000000000000"),
        joint::views_hear_what_they_hear_on_the_processor,
        BITS,
    ),
    // Convolutions on tensor cores: asynchronous copies, ldmatrix, mma.
    fault(
        "a missing wait for copies",
        "conv_forward_133s1_c8n8_f16",
        ("cp.async.wait_group", 0),
        Without,
        one_plane,
        "asynchronous copy",
    ),
    fault("a missing barrier after copies", "conv_forward_133s1_c8n8_f16", ("bar.sync", 0), Without, one_plane, SHARED),
    fault(
        "copies of what is outside",
        "conv_forward_133s1_c8n8_f16",
        ("cp.async.cg", 0),
        Swap("16, %r", "16, 16; // "),
        one_plane,
        OUTSIDE,
    ),
    fault(
        "a misaligned row of a matrix",
        "conv_forward_133s1_c8n8_f16",
        ("ldmatrix", 0),
        Swap("];", "+8];"),
        one_plane,
        MISALIGNED,
    ),
    fault("a product that is left out", "conv_forward_133s1_c8n8_f16", ("mma.sync", 0), Without, one_plane, NUMBERS),
    fault(
        "a row of a neighbour's tile",
        "conv_forward_133s1_c8n8_f16",
        ("ldmatrix", 1),
        Swap("];", "+16];"),
        one_plane,
        NUMBERS,
    ),
    fault(
        "one wait too few in a pipeline",
        "conv_forward_333s1_c16n8_f16",
        ("cp.async.wait_group", 0),
        Swap("wait_group 0", "wait_group 1"),
        one_volume,
        "asynchronous copy",
    ),
    fault(
        "a missing barrier in a pipeline",
        "conv_forward_333s1_c16n8_f16",
        ("bar.sync", 0),
        Without,
        one_volume,
        SHARED,
    ),
    // Direct convolutions: weights in shared memory.
    fault("a missing barrier", "conv_forward_direct8_f32", ("bar.sync", 0), Without, one_plane_in_f32, SHARED),
    fault(
        "a product that is left out",
        "conv_forward_direct8_f32",
        ("fma.rn.f32", 5),
        Without,
        one_plane_in_f32,
        NUMBERS,
    ),
    // Depthwise convolutions.
    fault(
        "a missing barrier",
        "depthwise_forward_s1_f32",
        ("bar.sync", 0),
        Without,
        depthwise::forward_is_the_reference,
        SHARED,
    ),
    fault(
        "a dropped bounds check",
        "depthwise_forward_s1_f32",
        ("@%p32", 0),
        Without,
        depthwise::forward_is_the_reference,
        OUTSIDE,
    ),
    // The head: tiles in shared memory.
    fault(
        "shared memory that is not filled",
        "head_forward_logits_f32",
        ("st.shared.v4", 0),
        Without,
        head::skip_decoder,
        UNWRITTEN,
    ),
    fault("a missing barrier", "head_forward_logits_f32", ("bar.sync", 0), Without, head::skip_decoder, SHARED),
    // Upsampling: vectors of channels.
    fault(
        "a misaligned vector",
        "head_forward_logits_f32",
        ("ld.global.v4.f32", 0),
        Swap("]", "+4]"),
        head::skip_decoder,
        MISALIGNED,
    ),
    fault(
        "a wrong index",
        "upsample_forward_f32",
        ("ld.global.f32", 0),
        Swap("]", "+4]"),
        resample::forward_matches_f64,
        OUTSIDE,
    ),
    fault(
        "a dropped bounds check",
        "upsample_forward_f32",
        ("@%p2", 0),
        Without,
        resample::forward_matches_f64,
        OUTSIDE,
    ),
    // The sweep: lanes that share a voxel exchange values.
    fault(
        "a shuffle from a wrong lane",
        "sweep_forward_voxel_f32",
        ("shfl.sync.bfly", 0),
        Swap("bfly", "up"),
        sweep::cost_volumes_in_f32,
        "+-",
    ),
    fault("a missing barrier", "sweep_forward_voxel_f32", ("bar.sync", 0), Without, sweep::cost_volumes_in_f32, SHARED),
    // The losses.
    fault(
        "a missing barrier",
        "depth_loss_forward_sum_f32",
        ("bar.sync", 1),
        Without,
        loss::losses_and_gradients,
        SHARED,
    ),
    // Narrow stages.
    fault(
        "a neighbour that counts for nothing",
        "convex_forward_f32",
        ("add.f32", 10),
        Without,
        narrow::convex_upsampling_matches_f64,
        NUMBERS,
    ),
    fault(
        "a hypothesis whose bound is another",
        "narrow_cost_forward_c8_f32",
        ("max.f32", 1),
        Swap("max.f32", "min.f32"),
        narrow::costs_match_f64,
        NUMBERS,
    ),
    fault(
        "a sum that is left out",
        "narrow_differences_backward_sources_c8_f32",
        ("atom.global.add.u64", 0),
        Without,
        narrow_gradient::costs_and_their_gradients_are_the_processors,
        NUMBERS,
    ),
    // What must be the processor's bits.
    fault(
        "a wrong sign",
        "adam_step_f32",
        ("add.rn.f32", 0),
        Swap("add.rn", "sub.rn"),
        optimizer::steps_are_the_cpus_to_the_bit,
        BITS,
    ),
    fault(
        "a wrong sign",
        "consistency_forward_f32",
        ("add.rn.f64", 0),
        Swap("add.rn", "sub.rn"),
        consistency::agreement_is_the_cpus_to_the_bit,
        BITS,
    ),
    fault(
        "a missing barrier",
        "fusion_forward_places_u32",
        ("bar.sync", 1),
        Without,
        fusion::places_are_the_sums_of_the_counts_before,
        SHARED,
    ),
    fault(
        "a wrong channel",
        "concat_forward_f32",
        ("ld.global.f32", 0),
        Swap("]", "+-4]"),
        pointwise::concat_copies_bits,
        OUTSIDE,
    ),
];

/// The module with the fault in it.
fn spoilt(texts: &[String], fault: &Fault) -> String {
    let entry = format!(".entry {}(", fault.kernel);
    let text = texts.iter().find(|text| text.contains(&entry)).unwrap_or_else(|| panic!("no {}", fault.kernel));
    let (before, rest) = text.split_at(text.find(&entry).unwrap());
    let (kernel, after) = rest.split_at(rest.find("\n}").unwrap());
    let (needle, which) = fault.line;
    let mut seen = 0;
    let mut lines: Vec<String> = Vec::new();
    for line in kernel.lines() {
        let hit = line.contains(needle);
        seen += usize::from(hit);
        if !hit || seen != which + 1 {
            lines.push(line.to_owned());
            continue;
        }
        match fault.edit {
            Without => {}
            Swap(from, to) => {
                assert!(line.contains(from), "{}: {line}", fault.what);
                lines.push(line.replacen(from, to, 1));
            }
            After(what) => lines.push(format!("{what} {line}")),
        }
    }
    assert!(seen > which, "{}: `{}` has {seen} lines with `{needle}`", fault.what, fault.kernel);
    format!("{before}{}{after}", lines.join("\n"))
}

#[test]
fn mistakes_in_kernels_do_not_get_past_the_tests() {
    if on_gpu() || on_interpreter().is_some() {
        return;
    }
    let Some((sound, texts)) = library(Sums::Fused).zip(ptx_of_all(Sums::Fused)) else { return };
    let mut missed = Vec::new();
    for fault in FAULTS {
        let kernels = Arc::new(sound.with(&spoilt(&texts, fault)).unwrap());
        let outcome = catch_unwind(AssertUnwindSafe(|| with_kernels(kernels, fault.test)));
        let told = match outcome {
            Ok(()) => "nothing".to_owned(),
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => panic.downcast::<&str>().map_or_else(|_| "no text".to_owned(), |text| (*text).to_owned()),
            },
        };
        if !told.contains(fault.found) {
            missed.push(format!("{} in {}: found {told}; expected `{}`", fault.what, fault.kernel, fault.found));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
