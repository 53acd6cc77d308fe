//! Each kind of mistake in a kernel that has nothing else, and a correct kernel beside it.

use std::sync::Arc;

use engine::cuda::driver::{Driver, Launch, Stream};

use crate::interpreter::{Interpreter, Library};
use crate::small::{kernel, run, run_text};

/// Writes the own word to shared memory a second time, reads the word of thread 63 - i, with `between` in between.
fn reversed(between: &str) -> String {
    format!(
        "st.shared.u32 [%r4], %r1;
         bar.sync 0;
         st.shared.u32 [%r4], %r5;
         xor.b32 %r6, %r2, 252;
         add.s32 %r6, %r3, %r6;
         {between}
         ld.shared.u32 %r7, [%r6];
         st.global.u32 [%rd5], %r7;"
    )
}

/// The same with thread i ^ 31 of the own warp.
fn exchanged(between: &str) -> String {
    reversed(between).replace("252", "124")
}

/// Copies 16 bytes for each of the first 16 threads into shared memory; each thread reads a word of it.
fn copied(wait: &str) -> String {
    format!(
        "setp.gt.u32 %p1, %r1, 15;
         @%p1 bra $after;
         shl.b32 %r6, %r1, 4;
         add.s32 %r7, %r3, %r6;
         cvt.u64.u32 %rd6, %r6;
         add.s64 %rd7, %rd1, %rd6;
         mov.u32 %r8, 16;
         cp.async.cg.shared.global [%r7], [%rd7], 16, %r8;
         cp.async.commit_group;
         {wait}
         $after:
         bar.sync 0;
         ld.shared.u32 %r9, [%r4];
         st.global.u32 [%rd5], %r9;"
    )
}

fn refused(body: &str, blocks: u32, expected: &str) {
    let error = run(body, blocks).expect_err(body);
    assert!(error.contains(expected), "{body}\n{error}");
    // The message says where.
    assert!(error.contains("`small`, line ") && error.contains("thread ["), "{error}");
}

#[test]
fn races_are_found() {
    refused(&reversed(""), 1, "RACE: writes over what thread");
    let expected: Vec<u32> = (0..64).rev().collect();
    assert_eq!(run(&reversed("bar.sync 0;"), 1).unwrap(), expected);
    // Within a warp its own barrier is enough; a shuffle orders no memory.
    refused(&exchanged(""), 1, "RACE: reads what thread");
    let shuffle = "shfl.sync.bfly.b32 %r8|%p1, %r5, 1, 31, -1;";
    refused(&exchanged(shuffle), 1, "RACE: reads what thread");
    assert_eq!(run(&exchanged("bar.warp.sync -1;"), 1).unwrap()[30..34], [1, 0, 63, 62]);
    refused(&reversed("bar.warp.sync -1;"), 1, "RACE: writes over what thread");
    // What others still read is written over.
    let again = format!("{} st.shared.u32 [%r4], %r7;", reversed("bar.sync 0;"));
    refused(&again, 1, "RACE: ");
    let all_read = "st.shared.u32 [%r4], %r5; bar.sync 0; ld.shared.u32 %r6, [%r3]; st.shared.u32 [%r3], %r6;";
    refused(all_read, 1, "RACE: writes over what");
}

#[test]
fn races_between_blocks_are_found() {
    refused("st.global.u32 [%rd2], %r30;", 2, "RACE: writes over what thread");
    let reads = "ld.global.u32 %r6, [%rd2]; setp.ne.u32 %p1, %r29, 100; @%p1 ret; st.global.u32 [%rd2], %r6;";
    refused(reads, 2, "RACE: writes over what threads of several blocks read");
    let sum = run("atom.global.add.u32 %r6, [%rd2], %r5;", 3).unwrap();
    assert_eq!(sum[0], (0..192).sum::<u32>());
    refused("atom.global.add.u32 %r6, [%rd2], %r5; ld.global.u32 %r7, [%rd2];", 1, "RACE: reads what thread");
}

#[test]
fn accesses_out_of_bounds_are_found() {
    refused("ld.global.u32 %r6, [%rd4+4];", 1, "reads device memory out of bounds: bytes 256 to 260 of 256");
    refused("st.global.u32 [%rd5+4], %r5;", 1, "writes device memory out of bounds: bytes 256 to 260 of 256");
    refused("st.global.u32 [%rd5+-4], %r5;", 1, "writes device memory out of bounds");
    refused("mov.u64 %rd6, 0; ld.global.u32 %r6, [%rd6];", 1, "out of bounds: address 0x0, 4 bytes");
    refused("st.shared.u32 [%r4+4], %r5;", 1, "writes shared memory out of bounds: bytes 256 to 260 of 256");
    refused("ld.param.u64 %rd6, [small_param_1+8];", 1, "reads a parameter out of bounds");
}

#[test]
fn reads_of_what_nobody_wrote_are_found() {
    let all_but_one = "setp.eq.u32 %p1, %r1, 63; @%p1 bra $skip; st.shared.u32 [%r4], %r5; $skip: bar.sync 0;";
    refused(&format!("{all_but_one} ld.shared.u32 %r6, [%r4];"), 1, "reads shared memory that nobody wrote: byte 252");
    // Shared memory does not outlive its block.
    let first_writes = "setp.ne.u32 %p1, %r30, 0; @%p1 bra $read; st.shared.u32 [%r4], %r5; $read:";
    refused(&format!("{first_writes} ld.shared.u32 %r6, [%r4];"), 2, "block [1, 0, 0], thread [0, 0, 0] reads shared");
}

#[test]
fn misaligned_accesses_are_found() {
    refused("ld.global.u64 %rd6, [%rd4];", 1, "which is no multiple of 8");
    refused("ld.shared.u16 %r6, [%r3+1];", 1, "which is no multiple of 2");
}

#[test]
fn reads_through_the_read_only_cache_of_what_is_written_are_found() {
    let reads = "ld.global.nc.u32 %r6, [%rd5];";
    refused(&format!("st.global.u32 [%rd5], %r5; {reads}"), 1, "reads through the read-only cache what this launch");
    refused(&format!("{reads} st.global.u32 [%rd5], %r5;"), 1, "writes what this launch reads through the read-only");
}

#[test]
fn barriers_that_not_all_reach_are_found() {
    let half = "and.b32 %r6, %r1, 1; setp.eq.u32 %p1, %r6, 0;";
    refused(&format!("{half} @%p1 bra $no; bar.sync 0; $no:"), 1, "DIVERGENCE: waits for lanes that never come");
    refused(&format!("{half} @%p1 bar.sync 0;"), 1, "DIVERGENCE: waits for lanes that never come");
    refused(&format!("{half} @%p1 ret; bar.sync 0;"), 1, "lanes 0x55555555 have left");
    let warp = "setp.gt.u32 %p1, %r1, 31;";
    refused(&format!("{warp} @%p1 ret; bar.sync 0;"), 1, "never comes to the barrier at line");
    refused(&format!("{warp} @%p1 bra $other; bar.sync 0; ret; $other: bar.sync 0;"), 1, "but others at the barrier");
    // The same barrier for all, and how many lanes are odd.
    let counted = "and.b32 %r6, %r1, 1; setp.eq.u32 %p1, %r6, 1; bar.red.popc.u32 %r7, 0, %p1;";
    assert_eq!(run(&format!("{counted} st.global.u32 [%rd5], %r7;"), 1).unwrap(), [32; 64]);
}

#[test]
fn shuffles_without_their_lanes_are_found() {
    let shuffle = "shfl.sync.idx.b32 %r7|%p2, %r5, 0, 31, -1;";
    let odd = "and.b32 %r6, %r1, 1; setp.eq.u32 %p1, %r6, 1;";
    refused(&format!("{odd} @%p1 bra $no; {shuffle} $no:"), 1, "DIVERGENCE: waits for lanes that never come");
    let of_four = shuffle.replace("-1", "15");
    refused(&of_four, 1, "of which it is none");
    let few = format!("setp.gt.u32 %p1, %r1, 3; @%p1 bra $no; {} $no:", of_four.replace("%r5, 0,", "%r5, 4,"));
    refused(&few, 1, "takes a value from lane 4, which takes no part");
    // Lanes that come by different ways meet at the shuffle.
    let two_ways =
        format!("{odd} @%p1 bra $odd; add.s32 %r5, %r5, 10; bra.uni $meet; $odd: add.s32 %r5, %r5, 20; $meet:");
    let found = run(
        &format!(
            "{two_ways} {} st.global.u32 [%rd5], %r7;",
            shuffle.replace("idx.b32", "bfly.b32").replace("%r5, 0", "%r5, 1")
        ),
        1,
    );
    assert_eq!(found.unwrap()[..4], [21, 10, 23, 12]);
}

#[test]
fn copies_that_nobody_waits_for_are_found() {
    let expected: Vec<u32> = (0..64).collect();
    assert_eq!(run(&copied("cp.async.wait_group 0;"), 1).unwrap(), expected);
    let early = "reads shared memory to which an asynchronous copy is under way";
    refused(&copied(""), 1, early);
    refused(&copied("cp.async.wait_group 1;"), 1, early);
    let no_barrier = copied("cp.async.wait_group 0;").replace("bar.sync 0;", "");
    refused(&no_barrier, 1, "RACE: reads what thread");
    let unread = copied("").replace("ld.shared.u32 %r9, [%r4];", "mov.u32 %r9, %r1;");
    refused(&unread, 1, "leaves while an asynchronous copy of its own is under way");
    let short = copied("cp.async.wait_group 0;").replace("mov.u32 %r8, 16", "mov.u32 %r8, 8");
    refused(&short, 1, "copies 8 bytes, which is neither 0 nor 16");
    // Nothing is read where nothing is copied; shared memory becomes zero.
    let none = copied("cp.async.wait_group 0;").replace("mov.u32 %r8, 16", "mov.u32 %r8, 0");
    assert_eq!(run(&none.replace("add.s64 %rd7, %rd1, %rd6", "mov.u64 %rd7, 0"), 1).unwrap(), [0; 64]);
}

#[test]
fn kernels_that_do_not_end_are_stopped() {
    refused("$again: bra.uni $again;", 1, "the launch does not end");
}

#[test]
fn what_the_interpreter_does_not_know_is_refused_with_its_line() {
    for (body, text) in [
        ("sin.approx.f32 %f1, %f2;", "sin.approx.f32 %f1, %f2"),
        ("add.rz.f32 %f1, %f2, %f2;", "add.rz.f32"),
        ("ld.volatile.global.u32 %r6, [%rd4];", "ld.volatile.global.u32"),
        ("bar.sync 1;", "bar.sync 1"),
        ("add.s32 %r6, %r99, %r1;", "add.s32 %r6, %r99, %r1"),
        ("bra $nowhere;", "bra $nowhere"),
    ] {
        let error = run(body, 1).expect_err(body);
        assert!(error.contains("`small`, line 30: the interpreter does not know") && error.contains(text), "{error}");
    }
}

#[test]
fn launches_that_a_device_would_refuse_are_refused() {
    let text = kernel("");
    assert!(run_text(&text, 1, 1056).unwrap_err().contains("a device would refuse grid [1, 1, 1] of [1056, 1, 1]"));
    let bounded = text.replace(")\n{", ")\n.maxntid 32, 1, 1\n{");
    assert!(run_text(&bounded, 1, 33).unwrap_err().contains("threads (at most 32)"));
    assert!(run_text(&bounded, 1, 32).is_ok());
    let large = text.replace("tile[256]", "tile[49168]");
    assert!(run_text(&large, 1, 32).unwrap_err().contains("49168 and 0 bytes of shared memory"));
    let device = Interpreter::new(Arc::new(Library::parse([text.as_str()]).unwrap()));
    let mut number = 0u32;
    let mut parameters = [std::ptr::from_mut(&mut number).cast()];
    let mut launch =
        Launch { kernel: "small", grid: [1; 3], block: [1; 3], shared: 0, parameters: &mut parameters, sizes: &[4] };
    let error = device.launch(Stream::FIRST, &mut launch).unwrap_err().to_string();
    assert!(error.contains("takes parameters of [8, 8] bytes, not [4]"), "{error}");
    launch.kernel = "no_such";
    let error = device.launch(Stream::FIRST, &mut launch).unwrap_err().to_string();
    assert!(error.contains("there is no kernel `no_such`"), "{error}");
}

/// Sectors, bytes, rounds and least rounds of a body's own accesses.
fn costs(body: &str) -> [u64; 4] {
    let text = kernel(body).replace("ld.global.u32 	%r5, [%rd4];", "mov.u32 %r5, 7;");
    let library = Arc::new(Library::parse([text.as_str()]).unwrap());
    let device = Interpreter::new(library.clone());
    let mut words = [0, 1].map(|_| device.allocate(4096).unwrap());
    device.fill(words[0], 0, 4096, Stream::FIRST).unwrap();
    let mut parameters = words.each_mut().map(|word| std::ptr::from_mut(word).cast());
    let mut launch = Launch {
        kernel: "small",
        grid: [1; 3],
        block: [32, 1, 1],
        shared: 0,
        parameters: &mut parameters,
        sizes: &[8, 8],
    };
    device.launch(Stream::FIRST, &mut launch).unwrap();
    let figures = library.figures()["small"];
    [figures.sectors, figures.wanted_bytes, figures.rounds, figures.least_rounds]
}

#[test]
fn bank_conflicts_and_sectors_are_counted() {
    // A warp's 32 words side by side: four sectors. Four bytes of every 32: one each.
    assert_eq!(costs("ld.global.u32 %r6, [%rd4];"), [4, 128, 0, 0]);
    let apart = "shl.b64 %rd6, %rd3, 3; add.s64 %rd6, %rd1, %rd6;";
    assert_eq!(costs(&format!("{apart} ld.global.u32 %r6, [%rd6];")), [32, 128, 0, 0]);
    assert_eq!(costs("ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%rd1];"), [1, 512, 0, 0]);
    // Backwards is no worse.
    let back = "xor.b32 %r6, %r2, 124; cvt.u64.u32 %rd6, %r6; add.s64 %rd6, %rd1, %rd6;";
    assert_eq!(costs(&format!("{back} ld.global.u32 %r6, [%rd6];")), [4, 128, 0, 0]);
    // One word a lane; every second word of 32 lanes in 256 bytes; one word for all.
    assert_eq!(costs("st.shared.u32 [%r4], %r5;"), [0, 0, 1, 1]);
    let strided = "shl.b32 %r6, %r1, 3; add.s32 %r6, %r3, %r6;";
    assert_eq!(costs(&format!("{strided} st.shared.u32 [%r6], %r5;")), [0, 0, 2, 1]);
    let one = "setp.ne.u32 %p1, %r1, 0; @%p1 bra $no; st.shared.u32 [%r3], %r5; $no: bar.sync 0;";
    assert_eq!(costs(&format!("{one} ld.shared.u32 %r6, [%r3];")), [0, 0, 2, 2]);
    // 8 bytes a lane: half a warp at a time.
    assert_eq!(costs(&format!("{strided} st.shared.v2.u32 [%r6], {{%r5, %r5}};")), [0, 0, 2, 2]);
}
