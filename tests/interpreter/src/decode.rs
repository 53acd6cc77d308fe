//! Makes a kernel ready: names become slots of the register file, opcodes rules and actions. What the interpreter does
//! not know is refused here, with the kernel, the line and the text.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::arithmetic::{compare, compute, convert, packed};
use super::code::{
    Action, Address, Exchange, FIRST_SPECIAL, Instruction, Kernel, SINK, SPECIAL, Slot, Space, Vector, ZERO,
};
use super::memory::change;
use super::text::{Array, KernelText, Module, Piece, array, bytes_of};

/// Shared arrays begin here: an offset without its array points to nothing.
const FIRST_SHARED: u64 = 1024;
/// Between shared arrays, so that an access past an array's end meets nothing; a multiple of the banks' width, so that
/// bank conflicts are those of arrays without gaps.
const SHARED_GAP: u64 = 128;

struct Decoder<'a> {
    module: &'a Module,
    text: &'a KernelText,
    /// Names of each open scope: registers with the place of the first, and how many where they are numbered.
    scopes: Vec<HashMap<String, (Slot, Option<u32>)>>,
    next: Slot,
    constants: HashMap<u64, Slot>,
    arrays: Vec<(Array, u64)>,
    labels: HashMap<&'a str, u32>,
    grain: [usize; 2],
}

impl<'a> Decoder<'a> {
    /// `.pred %p<30>` or `.f16 low,high`.
    fn declare(&mut self, list: &str) -> Option<()> {
        let (_, names) = list.split_once(' ')?;
        for name in names.split(',').map(str::trim) {
            let (name, count) = match name.strip_suffix('>').and_then(|name| name.split_once('<')) {
                Some((prefix, count)) => (prefix, Some(count.parse::<u32>().ok()?)),
                None => (name, None),
            };
            self.scopes.last_mut()?.insert(name.to_owned(), (self.next, count));
            self.next += count.unwrap_or(1);
        }
        Some(())
    }

    fn register(&self, name: &str) -> Option<Slot> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: Option<u32> = name[prefix.len()..].parse().ok();
        self.scopes.iter().rev().find_map(|names| match (names.get(name), names.get(prefix), number) {
            (Some(&(slot, None)), _, _) => Some(slot),
            (_, Some(&(slot, Some(count))), Some(number)) if number < count => Some(slot + number),
            _ => None,
        })
    }

    fn constant(&mut self, value: u64) -> Slot {
        let next = &mut self.next;
        *self.constants.entry(value).or_insert_with(|| {
            *next += 1;
            *next - 1
        })
    }

    /// The address of a shared array or a parameter.
    fn named(&self, name: &str) -> Option<u64> {
        let array = self.arrays.iter().find(|(array, _)| array.name == name).map(|(_, at)| *at);
        array.or_else(|| self.text.parameters.iter().find(|p| p.name == name).map(|p| p.offset as u64))
    }

    /// Gives each shared array that the kernel names its place, the dynamic one's last.
    fn place_arrays(&mut self) {
        let own = self.text.body.iter().filter_map(|(_, piece)| match piece {
            Piece::Statement(text) => array(text),
            _ => None,
        });
        let named = |array: &Array| {
            self.text.body.iter().any(|(_, piece)| matches!(piece, Piece::Statement(t) if t.contains(&array.name)))
        };
        let mut arrays: Vec<Array> = self.module.shared.iter().filter(|a| named(a)).cloned().collect();
        for array in own {
            if !arrays.contains(&array) {
                arrays.push(array);
            }
        }
        arrays.sort_by_key(|array| array.bytes.is_none());
        let mut end = FIRST_SHARED;
        for array in arrays {
            let at = end;
            end = (at + array.bytes.unwrap_or(0)).next_multiple_of(16) + SHARED_GAP;
            self.arrays.push((array, at));
        }
    }

    /// A source: a register, a number, or the address of a shared array or a parameter.
    fn source(&mut self, text: &str) -> Option<Slot> {
        if let Some(slot) = self.register(text) {
            return Some(slot);
        }
        if let Some(i) = SPECIAL.iter().position(|name| *name == text) {
            return Some(FIRST_SPECIAL + i as Slot);
        }
        let value = match text.get(..2) {
            Some("0f" | "0F") => u64::from_str_radix(&text[2..], 16).ok()?,
            Some("0d" | "0D") => u64::from_str_radix(&text[2..], 16).ok()?,
            Some("0x") => u64::from_str_radix(&text[2..], 16).ok()?,
            _ => match text.parse::<i64>() {
                Ok(value) => value as u64,
                Err(_) => text.parse::<u64>().ok().or_else(|| self.named(text))?,
            },
        };
        Some(self.constant(value))
    }

    /// A destination; `_` where the value is not wanted.
    fn target(&self, text: &str) -> Option<Slot> {
        if text == "_" { Some(SINK) } else { self.register(text) }
    }

    /// `[base+offset]` with a register, an array or nothing but a number.
    fn address(&mut self, text: &str) -> Option<Address> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        let (base, offset) = match inner.split_once('+') {
            Some((base, offset)) => (base, offset.parse().ok()?),
            None => (inner, 0),
        };
        Some(Address { base: self.source(base)?, offset })
    }

    /// The names between braces, or one without.
    fn list(text: &str) -> Vec<&str> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        inner.split(',').map(str::trim).collect()
    }

    fn sources<const N: usize>(&mut self, text: &str) -> Option<[Slot; N]> {
        let slots: Option<Vec<Slot>> = Self::list(text).into_iter().map(|name| self.source(name)).collect();
        slots?.try_into().ok()
    }

    fn targets<const N: usize>(&mut self, text: &str) -> Option<[Slot; N]> {
        let slots: Option<Vec<Slot>> = Self::list(text).into_iter().map(|name| self.target(name)).collect();
        slots?.try_into().ok()
    }

    /// The registers of a load or store, for its type and the `.v2` or `.v4` before it.
    fn vector(&mut self, text: &str, count: usize, kind: &str, load: bool) -> Option<Vector> {
        let names = Self::list(text);
        let mut slots = [ZERO; 4];
        for (slot, name) in slots.iter_mut().zip(&names) {
            *slot = if load { self.target(name)? } else { self.source(name)? };
        }
        (names.len() == count).then_some(Vector { slots, count, bytes: bytes_of(kind)? })
    }

    fn note_grain(&mut self, space: Space, bytes: usize) {
        let grain = &mut self.grain[space as usize];
        *grain = bytes.min(*grain);
    }

    /// What one instruction does; `None` where it is not known.
    fn action(&mut self, opcode: &str, operands: &[&str]) -> Option<Action> {
        let (op, modifiers) = opcode.split_once('.').unwrap_or((opcode, ""));
        let (before, kind) = opcode.rsplit_once('.').unwrap_or((opcode, ""));
        Some(match (op, operands) {
            ("bra", [label]) if matches!(modifiers, "" | "uni") => Action::Branch { to: *self.labels.get(label)? },
            ("ret", []) => Action::Exit,
            ("bar", ["0"]) if modifiers == "sync" => Action::Barrier { count: None },
            ("bar", [to, "0", from]) if modifiers == "red.popc.u32" => {
                Action::Barrier { count: Some((self.target(to)?, self.source(from)?)) }
            }
            ("bar", [members]) if modifiers == "warp.sync" => Action::WarpBarrier { members: self.source(members)? },
            ("ld", [to, at]) if modifiers.starts_with("param.") => {
                if before != "ld.param" {
                    return None;
                }
                Action::Parameter { to: self.target(to)?, at: self.address(at)?, bytes: bytes_of(kind)? }
            }
            ("ld" | "st", [first, second]) => {
                let (mut space, mut count, mut constant) = (Space::Global, 1, false);
                for word in before.split('.').skip(1) {
                    match word {
                        "global" | "cs" | "ca" | "cg" => {}
                        "shared" => space = Space::Shared,
                        "nc" => constant = true,
                        "v2" => count = 2,
                        "v4" => count = 4,
                        _ => return None,
                    }
                }
                self.note_grain(space, bytes_of(kind)?);
                if op == "ld" {
                    let (to, at) = (self.vector(first, count, kind, true)?, self.address(second)?);
                    Action::Load { space, to, at, constant }
                } else {
                    Action::Store { space, at: self.address(first)?, from: self.vector(second, count, kind, false)? }
                }
            }
            ("atom", [to, at, from]) => {
                let (space, what) = match before.strip_prefix("atom.")?.split_once('.') {
                    Some(("global", what)) => (Space::Global, what),
                    Some(("shared", what)) => (Space::Shared, what),
                    _ => (Space::Global, &before["atom.".len()..]),
                };
                let bytes = bytes_of(kind)?;
                self.note_grain(space, bytes);
                let (to, at, from) = (self.target(to)?, self.address(at)?, self.source(from)?);
                Action::Atomic { space, change: change(what, kind)?, bytes, to, at, from }
            }
            ("cp", [to, from, "16", bytes]) if modifiers == "async.cg.shared.global" => {
                self.note_grain(Space::Global, 4);
                self.note_grain(Space::Shared, 4);
                Action::CopyAsync { to: self.address(to)?, from: self.address(from)?, bytes: self.source(bytes)? }
            }
            ("cp", []) if modifiers == "async.commit_group" => Action::CommitCopies,
            ("cp", [groups]) if modifiers == "async.wait_group" => Action::WaitCopies { groups: groups.parse().ok()? },
            ("ldmatrix", [to, at]) if modifiers == "sync.aligned.m8n8.x4.shared.b16" => {
                self.note_grain(Space::Shared, 4);
                Action::LoadMatrix { to: self.targets(to)?, at: self.address(at)? }
            }
            ("mma", [d, a, b, c]) if modifiers == "sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => {
                let (d, a, b, c) = (self.targets(d)?, self.sources(a)?, self.sources(b)?, self.sources(c)?);
                Action::MultiplyAdd { d, a, b, c }
            }
            // With half the k: the other half of both fragments is zero.
            ("mma", [d, a, b, c]) if modifiers == "sync.aligned.m16n8k8.row.col.f32.f16.f16.f32" => {
                let (d, [low, high], [b], c) = (self.targets(d)?, self.sources(a)?, self.sources(b)?, self.sources(c)?);
                Action::MultiplyAdd { d, a: [low, high, ZERO, ZERO], b: [b, ZERO], c }
            }
            ("shfl", [to, from, by, limits, members]) => {
                let how = match modifiers {
                    "sync.idx.b32" => Exchange::Index,
                    "sync.bfly.b32" => Exchange::Butterfly,
                    "sync.up.b32" => Exchange::Up,
                    "sync.down.b32" => Exchange::Down,
                    _ => return None,
                };
                let (to, inside) = to.split_once('|').unwrap_or((to, "_"));
                let (to, inside) = (self.target(to)?, self.target(inside)?);
                let (from, by) = (self.source(from)?, self.source(by)?);
                let (limits, members) = (self.source(limits)?, self.source(members)?);
                Action::Shuffle { how, to, inside, from, by, limits, members }
            }
            ("vote", [to, from, members]) if modifiers == "sync.ballot.b32" => {
                let (to, from, members) = (self.target(to)?, self.source(from)?, self.source(members)?);
                Action::Ballot { to, from, members }
            }
            ("mov", [to, from]) if to.starts_with('{') => {
                let bits = 4 * bytes_of(kind)? as u32;
                Action::Unpack { to: self.targets(to)?, from: self.source(from)?, bits }
            }
            ("mov", [to, from]) if from.starts_with('{') => {
                let [low, high] = self.sources(from)?;
                Action::Compute { rule: packed(bytes_of(kind)?)?, to: self.target(to)?, from: [low, high, ZERO] }
            }
            (_, [to, from @ ..]) if !from.is_empty() && from.len() <= 3 => {
                let rule = match op {
                    "setp" => compare(before.strip_prefix("setp.")?, kind)?,
                    "cvt" => {
                        let (before, to) =
                            before.strip_prefix("cvt.").map_or(("", ""), |b| b.rsplit_once('.').unwrap_or(("", b)));
                        convert(to, kind, before)?
                    }
                    _ => compute(before, kind)?,
                };
                let mut slots = [ZERO; 3];
                for (slot, text) in slots.iter_mut().zip(from) {
                    *slot = self.source(text)?;
                }
                Action::Compute { rule, to: self.target(to)?, from: slots }
            }
            _ => return None,
        })
    }

    fn instruction(&mut self, line: u32, text: &str) -> Option<Instruction> {
        let (guard, rest) = match text.strip_prefix('@') {
            Some(guarded) => {
                let (name, rest) = guarded.split_once(' ')?;
                let positive = name.trim_start_matches('!');
                (Some((self.register(positive)?, positive.len() < name.len())), rest.trim_start())
            }
            None => (None, text),
        };
        let (opcode, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let operands = split(operands);
        let action = self.action(opcode, &operands)?;
        Some(Instruction { guard, action, line })
    }
}

/// Operands: commas within brackets do not part them.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut operands) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                operands.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    operands.push(text[start..].trim());
    operands.retain(|operand| !operand.is_empty());
    operands
}

impl Kernel {
    /// Makes a kernel ready.
    ///
    /// # Errors
    /// The first line that the interpreter does not know.
    pub fn decode(module: &Module, text: &KernelText) -> Result<Self, String> {
        let mut labels = HashMap::new();
        let mut count = 0;
        for (_, piece) in &text.body {
            match piece {
                Piece::Label(name) => drop(labels.insert(name.as_str(), count)),
                Piece::Statement(text) if !text.starts_with('.') => count += 1,
                _ => {}
            }
        }
        let mut decoder = Decoder {
            module,
            text,
            scopes: vec![HashMap::new()],
            next: FIRST_SPECIAL + SPECIAL.len() as Slot,
            constants: HashMap::new(),
            arrays: Vec::new(),
            labels,
            grain: [4; 2],
        };
        decoder.place_arrays();
        let (mut code, mut texts) = (Vec::new(), Vec::new());
        for (line, piece) in &text.body {
            let known = match piece {
                Piece::Open => {
                    decoder.scopes.push(HashMap::new());
                    Some(())
                }
                Piece::Close => decoder.scopes.pop().map(drop),
                Piece::Label(_) => Some(()),
                Piece::Statement(text) => match text.strip_prefix(".reg ") {
                    Some(list) => decoder.declare(list),
                    None if text.starts_with(".pragma") || array(text).is_some() => Some(()),
                    None => decoder.instruction(*line, text).map(|instruction| {
                        code.push(instruction);
                        texts.push(text.clone());
                    }),
                },
            };
            if known.is_none() {
                return Err(format!("`{}`, line {line}: the interpreter does not know {piece:?}", text.name));
            }
        }
        let known = |(array, at): &(Array, u64)| array.bytes.map(|bytes| (*at, bytes));
        let dynamic = decoder.arrays.iter().find(|(array, _)| array.bytes.is_none()).map(|(_, at)| *at);
        let mut constants: Vec<(Slot, u64)> = decoder.constants.iter().map(|(&value, &slot)| (slot, value)).collect();
        constants.sort_unstable();
        Ok(Self {
            name: text.name.clone(),
            parameters: text.parameters.iter().map(|p| (p.bytes, p.offset)).collect(),
            most_threads: text.most_threads,
            exact: !texts.iter().any(|text| text.contains(".approx") || text.starts_with("mma")),
            reached: code.iter().map(|_| AtomicBool::new(false)).collect(),
            code,
            texts,
            slots: decoder.next as usize,
            constants,
            arrays: decoder.arrays.iter().filter_map(known).collect(),
            dynamic: dynamic.unwrap_or(FIRST_SHARED),
            grain: decoder.grain,
        })
    }
}
