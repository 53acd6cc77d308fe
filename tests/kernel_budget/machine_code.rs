//! Machine code as nvdisasm prints it: kernels, their loops, and how many instructions of which kind a warp issues.
//!
//! A kernel is divided into regions: all that is in no loop, and each loop's body without the loops in it. Branches
//! ahead are resolved once for each region: the longest way through it, but past calls (a division's slow path) and
//! stores of single f16 (for channels that are no whole packs) wherever there is a way past them. How often a loop runs
//! is not in the code; who asks says it.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Tensor,
    Single,
    Half,
    Conversion,
    Memory,
    Integer,
    Control,
}

pub const CLASSES: [Class; 7] =
    [Class::Tensor, Class::Single, Class::Half, Class::Conversion, Class::Memory, Class::Integer, Class::Control];

/// What a warp's instructions cost: how many of each class, and how long they keep each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub classes: [f64; 7],
    /// Cycles of a scheduler's own units: multiply-add (f32, f16 pairs and integer products), integer and logic,
    /// special functions, tensor core.
    pub multiply: f64,
    pub logic: f64,
    pub special: f64,
    pub tensor: f64,
    /// Cycles of what a multiprocessor's four schedulers share: the way to shared memory, L1 and other lanes.
    pub memory: f64,
}

impl Cost {
    pub fn issued(&self) -> f64 {
        self.classes.iter().sum()
    }

    pub fn times(&self, n: f64) -> Self {
        Self {
            classes: self.classes.map(|c| c * n),
            multiply: self.multiply * n,
            logic: self.logic * n,
            special: self.special * n,
            tensor: self.tensor * n,
            memory: self.memory * n,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, o: Self) {
        self.classes.iter_mut().zip(o.classes).for_each(|(a, b)| *a += b);
        self.multiply += o.multiply;
        self.logic += o.logic;
        self.special += o.special;
        self.tensor += o.tensor;
        self.memory += o.memory;
    }
}

/// m16n8k16 with f32 sums: 2048 multiply-adds, of which a tensor core of Hopper does 512 a cycle; `mma.sync` reaches
/// 62 % of that (Luo et al., "Benchmarking and dissecting the Nvidia Hopper GPU architecture", 2024).
const PRODUCT_CYCLES: f64 = 4.0 / 0.62;

/// The cost of one instruction, by the throughputs of compute capability 9.0 in CUDA's programming guide.
fn cost(opcode: &str) -> Cost {
    let mut parts = opcode.split('.');
    let (name, modifiers) = (parts.next().unwrap_or(""), parts.collect::<Vec<_>>());
    let has = |m: &str| modifiers.contains(&m);
    let mut cost = Cost::default();
    let class = match name {
        "HMMA" => {
            cost.tensor = if has("16816") { PRODUCT_CYCLES } else { PRODUCT_CYCLES / 2.0 };
            Class::Tensor
        }
        "FADD" | "FMUL" | "FFMA" => {
            cost.multiply = 1.0;
            Class::Single
        }
        // To f32, as an addition of zero.
        "HADD2" if has("F32") => {
            cost.multiply = 1.0;
            Class::Conversion
        }
        "HADD2" | "HMUL2" | "HFMA2" => {
            cost.multiply = 1.0;
            Class::Half
        }
        "HMNMX2" | "HSETP2" | "HSET2" => {
            cost.logic = 2.0;
            Class::Half
        }
        "F2FP" | "I2FP" => {
            cost.logic = 2.0;
            Class::Conversion
        }
        "F2I" | "I2F" | "F2F" | "FRND" => {
            cost.special = 8.0;
            Class::Conversion
        }
        "MUFU" => {
            cost.special = 8.0;
            Class::Single
        }
        "FMNMX" | "FSETP" | "FSEL" | "FCHK" | "FSET" => {
            cost.logic = 2.0;
            Class::Single
        }
        // 128 bytes a cycle.
        "LDG" | "STG" | "LDS" | "STS" | "LDGSTS" | "LD" | "ST" | "LDL" | "STL" => {
            cost.memory = if has("128") {
                4.0
            } else if has("64") {
                2.0
            } else {
                1.0
            };
            Class::Memory
        }
        "LDSM" => {
            cost.memory = if has("4") { 4.0 } else { 1.0 };
            Class::Memory
        }
        "SHFL" | "ATOMS" | "ATOMG" | "ATOM" | "RED" | "REDG" => {
            cost.memory = 1.0;
            Class::Memory
        }
        "LDC" | "LDGDEPBAR" | "DEPBAR" => Class::Memory,
        "IMAD" | "IDP" => {
            cost.multiply = 2.0;
            Class::Integer
        }
        // Double precision has as many units as f32's half.
        "DADD" | "DMUL" | "DFMA" | "DSETP" => {
            cost.multiply = 2.0;
            Class::Single
        }
        "BRA" | "BSSY" | "BSYNC" | "BAR" | "EXIT" | "NOP" | "CALL" | "RET" | "WARPSYNC" | "BREAK" | "YIELD"
        | "ERRBAR" | "MEMBAR" | "BMOV" | "CCTL" => Class::Control,
        // A warp's own unit for what all lanes share; it costs nothing but its issue.
        _ if name.starts_with('U') || matches!(name, "R2UR" | "S2UR" | "S2R" | "CS2R" | "VOTE" | "VOTEU") => {
            Class::Integer
        }
        _ => {
            cost.logic = 2.0;
            Class::Integer
        }
    };
    cost.classes[class as usize] = 1.0;
    cost
}

#[derive(Clone, Debug)]
struct Instruction {
    opcode: String,
    /// Whether it is done under a condition.
    conditional: bool,
    /// Where a branch goes.
    target: Option<usize>,
}

/// From the loop's first instruction to its last, and the loop around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    pub first: usize,
    pub last: usize,
    pub parent: Option<usize>,
}

/// How often a loop runs, and the share of those that go the longest way through it; the others go the shortest.
#[derive(Clone, Copy, Debug)]
pub struct Trips {
    pub times: f64,
    pub long: f64,
}

/// A kernel's code.
#[derive(Clone, Debug)]
pub struct Kernel {
    code: Vec<Instruction>,
    /// In the order of their first instructions, outer loops before those in them.
    pub loops: Vec<Loop>,
}

impl Kernel {
    fn new(code: Vec<Instruction>) -> Self {
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for (i, instruction) in code.iter().enumerate() {
            // A branch to itself pads the end of a kernel.
            if let Some(target) = instruction.target.filter(|&t| t < i) {
                let end = ends.entry(target).or_default();
                *end = i.max(*end);
            }
        }
        let mut loops: Vec<Loop> = Vec::new();
        for (first, last) in ends {
            let parent = loops.iter().rposition(|l| l.first <= first && last <= l.last);
            loops.push(Loop { first, last, parent });
        }
        Self { code, loops }
    }

    /// The innermost loop of an instruction.
    fn loop_of(&self, at: usize) -> Option<usize> {
        self.loops.iter().rposition(|l| l.first <= at && at <= l.last)
    }

    /// Whether the region `of` lies in the loop `outer` (any region lies in the outermost, `None`).
    fn within(&self, of: Option<usize>, outer: Option<usize>) -> bool {
        let mut at = of;
        while at != outer {
            match at {
                None => return false,
                Some(l) => at = self.loops[l].parent,
            }
        }
        true
    }

    /// Once through a region by the longest or the shortest way, without the loops in it.
    pub fn once(&self, region: Option<usize>, longest: bool) -> Cost {
        let (first, last) = match region {
            Some(l) => (self.loops[l].first, self.loops[l].last),
            None => (0, self.code.len() - 1),
        };
        // From each instruction to the region's end: how many that are to be avoided, how many are issued, where next.
        // None where no way leads to the end.
        let mut ways: Vec<Option<(usize, usize, Option<usize>)>> = vec![None; last + 1 - first];
        for i in (first..=last).rev() {
            let instruction = &self.code[i];
            if !self.within(self.loop_of(i), region) {
                continue;
            }
            let own = self.loop_of(i) == region;
            let cold = own && (instruction.opcode.starts_with("CALL") || instruction.opcode.starts_with("STG.E.U16"));
            let ends = match region {
                // What branches back to the beginning.
                Some(_) => instruction.target == Some(first),
                None => instruction.opcode.starts_with("EXIT") && !instruction.conditional,
            };
            let leaves = instruction.opcode.starts_with("BRA") || instruction.opcode.starts_with("EXIT");
            let follows = (!leaves || instruction.conditional).then_some(i + 1);
            let ahead = instruction.target.filter(|&t| t > i);
            let (mut best, mut ended) = (None, ends);
            for next in [follows, ahead].into_iter().flatten().filter(|&n| n <= last) {
                if let Some((colds, issued, _)) = ways[next - first] {
                    let better =
                        |b: (usize, usize, Option<usize>)| colds < b.0 || colds == b.0 && (issued > b.1) == longest;
                    if best.is_none_or(better) {
                        best = Some((colds, issued, Some(next)));
                        ended = false;
                    }
                }
            }
            let tail = best.or(ended.then_some((0, 0, None)));
            ways[i - first] = tail.map(|(c, n, next)| (c + usize::from(cold), n + usize::from(own), next));
        }
        let mut total = Cost::default();
        let mut at = Some(first);
        while let Some(i) = at {
            if self.loop_of(i) == region {
                total += cost(&self.code[i].opcode);
            }
            at = ways[i - first].and_then(|w| w.2);
        }
        total
    }

    /// All of it, by how often each loop runs when what is around it runs once.
    pub fn cost(&self, trips: &[Trips]) -> Cost {
        let mut total = self.once(None, true);
        for (i, l) in self.loops.iter().enumerate() {
            let (mut n, mut outer) = (trips[i].times, l.parent);
            while let Some(o) = outer {
                n *= trips[o].times;
                outer = self.loops[o].parent;
            }
            total += self.once(Some(i), true).times(n * trips[i].long);
            total += self.once(Some(i), false).times(n * (1.0 - trips[i].long));
        }
        total
    }
}

/// The kernels of nvdisasm's text.
pub fn parse(text: &str) -> BTreeMap<String, Kernel> {
    let mut kernels = BTreeMap::new();
    let mut name: Option<String> = None;
    let mut code: Vec<(Instruction, Option<String>)> = Vec::new();
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    let mut finish =
        |name: Option<String>, code: &mut Vec<(Instruction, Option<String>)>, labels: &mut BTreeMap<_, _>| {
            if let Some(name) = name {
                let resolve = |(mut i, label): (Instruction, Option<String>)| {
                    i.target = label.and_then(|l| labels.get(&l).copied());
                    i
                };
                kernels.insert(name, Kernel::new(code.drain(..).map(resolve).collect()));
            }
            code.clear();
            labels.clear();
        };
    for line in text.lines() {
        let line = line.trim();
        if let Some(label) = line.strip_suffix(':') {
            if let Some(kernel) = label.strip_prefix(".text.") {
                finish(name.replace(kernel.to_owned()), &mut code, &mut labels);
            } else {
                labels.insert(label.to_owned(), code.len());
            }
        } else if let Some((_, text)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            let mut words = text.trim().trim_end_matches(';').split_whitespace().peekable();
            let conditional = words.next_if(|w| w.starts_with('@')).is_some();
            let Some(opcode) = words.next() else { continue };
            let branch = opcode == "BRA" || opcode.starts_with("BRA.");
            let label = words.find_map(|w| w.split_once("`(").map(|(_, l)| l.trim_end_matches(')').to_owned()));
            let target = if branch { label } else { None };
            code.push((Instruction { opcode: opcode.to_owned(), conditional, target: None }, target));
        }
    }
    finish(name, &mut code, &mut labels);
    kernels
}

/// nvdisasm that tools/get_nvcc.sh installs, else one of the path; `None` after a line that says what is skipped, and
/// under ENGINE_REQUIRE_NVCC that is a failure.
pub fn disassembler() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cuda/nvdisasm");
    let runs = |p: &PathBuf| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = [own, "nvdisasm".into()].into_iter().find(runs);
    if found.is_none() {
        let required = std::env::var_os("ENGINE_REQUIRE_NVCC").is_some();
        assert!(!required, "no nvdisasm, and ENGINE_REQUIRE_NVCC is set; tools/get_nvcc.sh installs it");
        eprintln!("skipped: no nvdisasm (tools/get_nvcc.sh installs it)");
    }
    found
}

/// The kernels of an assembled file.
pub fn disassembled(nvdisasm: &Path, cubin: &Path) -> BTreeMap<String, Kernel> {
    let output = Command::new(nvdisasm).arg("-c").arg(cubin).output().unwrap();
    assert!(output.status.success(), "{}: {}", cubin.display(), String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Single => "f32",
            Self::Half => "f16 pairs",
            Self::Conversion => "conversion",
            Self::Memory => "memory",
            Self::Integer => "integer",
            Self::Control => "control",
        }
    }
}
