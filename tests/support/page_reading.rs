//! A page as a browser's tokenizer sees it, and readers of what it holds, which share nothing with the writers.

#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use glam::DVec3;
use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::Value;

/// An element's name and attributes, and the text that directly follows its start.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub text: String,
}

impl Element {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// A page in its pieces.
pub struct Page {
    pub html: String,
    pub elements: Vec<Element>,
    /// What the tokenizer objects to, and tags that are not closed in order.
    pub errors: Vec<String>,
    /// The text that is read, without scripts and style.
    pub words: String,
}

/// Elements without an end.
const VOID: [&str; 5] = ["meta", "img", "input", "br", "link"];

impl Page {
    pub fn read(path: &Path) -> Self {
        Self::of(std::fs::read_to_string(path).unwrap())
    }

    pub fn of(html: String) -> Self {
        let mut emitter = DefaultEmitter::default();
        // Scripts and style are no tags.
        emitter.naively_switch_states(true);
        let (mut elements, mut errors, mut words): (Vec<Element>, _, _) = (Vec::new(), Vec::new(), String::new());
        let mut open: Vec<String> = Vec::new();
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for token in Tokenizer::new_with_emitter(&html, emitter) {
            match token.unwrap() {
                Token::StartTag(tag) => {
                    let name = string(&tag.name);
                    if !VOID.contains(&name.as_str()) && !tag.self_closing {
                        open.push(name.clone());
                    }
                    let attributes = tag.attributes.iter().map(|(name, value)| (string(name), string(value)));
                    elements.push(Element { name, attributes: attributes.collect(), text: String::new() });
                }
                Token::EndTag(tag) => {
                    let (name, expected) = (string(&tag.name), open.pop());
                    if expected.as_deref() != Some(&name) {
                        errors.push(format!("</{name}> where {expected:?} is open"));
                    }
                }
                Token::String(text) => {
                    let text = string(&text);
                    if let Some(element) = elements.last_mut() {
                        if !["script", "style"].contains(&element.name.as_str()) {
                            words += &text;
                            words.push('\n');
                        }
                        element.text += &text;
                    }
                }
                Token::Comment(text) => errors.push(format!("a comment: {}", string(&text))),
                Token::Error(error) => errors.push(format!("{error:?}")),
                Token::Doctype(_) => {}
            }
        }
        errors.extend(open.iter().map(|name| format!("<{name}> is not closed")));
        Self { html, elements, errors, words }
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements.iter().filter(move |element| element.name == name)
    }

    /// The element of an id.
    pub fn id(&self, id: &str) -> &Element {
        self.elements.iter().find(|element| element.attribute("id") == id).unwrap_or_else(|| panic!("no #{id}"))
    }

    /// What the scripts are told.
    pub fn data(&self) -> Value {
        serde_json::from_str(&self.id("data").text).unwrap()
    }

    /// The bytes that an element holds packed.
    pub fn unpacked(&self, id: &str) -> Vec<u8> {
        let packed = base64::engine::general_purpose::STANDARD.decode(&self.id(id).text).unwrap();
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }
}

/// A point of a page: its place on the grid, and the rest as it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GridPoint {
    pub place: [u32; 3],
    pub colour: [u8; 3],
    pub confidence: u8,
    pub views: u8,
    pub normal: [u8; 2],
}

/// All points of a page, tile after tile, by the description in `src/report/tiles.rs`.
pub fn points(page: &Page) -> Vec<GridPoint> {
    let data = page.data();
    let mut points = Vec::new();
    for tile in data["cloud"]["tiles"].as_array().unwrap() {
        let [part, start, count, x, y, z, shift] = [0, 1, 2, 3, 4, 5, 6].map(|i| tile[i].as_u64().unwrap() as usize);
        assert_eq!(shift, 0, "a page has whole quanta");
        let bytes = page.unpacked(&format!("part-{part}"));
        points.extend(tile_points(&bytes[start..], count, [x, y, z].map(|v| v as u32)));
    }
    points
}

/// The points of one tile, in steps of its own from its corner.
pub fn tile_points(bytes: &[u8], count: usize, corner: [u32; 3]) -> Vec<GridPoint> {
    let plane = |p: usize, i: usize| bytes[p * count + i];
    let (mut steps, mut sums) = ([0i64; 3], [0u32; 7]);
    let point = |i: usize| {
        for (axis, step) in steps.iter_mut().enumerate() {
            let zigzag = i64::from(plane(2 * axis, i)) + 256 * i64::from(plane(2 * axis + 1, i));
            let difference = if zigzag % 2 == 0 { zigzag / 2 } else { -(zigzag + 1) / 2 };
            *step = (*step + difference).rem_euclid(65_536);
        }
        for (p, sum) in sums.iter_mut().enumerate() {
            let byte = u32::from(plane(6 + p, i));
            *sum = if p == 4 { byte } else { (*sum + byte) % 256 };
        }
        let [green, red, blue, confidence, views, u, v] = sums;
        GridPoint {
            place: [0, 1, 2].map(|axis| corner[axis] + steps[axis] as u32),
            colour: [(red + green) as u8, green as u8, (blue + green) as u8],
            confidence: confidence as u8,
            views: views as u8,
            normal: [u as u8, v as u8],
        }
    };
    (0..count).map(point).collect()
}

pub fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    std::array::from_fn(|i| value[i].as_f64().unwrap())
}

/// The direction of two bytes, by the formula in `src/report/quantise.rs`; nothing for none.
pub fn direction(normal: [u8; 2]) -> Option<DVec3> {
    if normal == [0, 0] {
        return None;
    }
    let [u, v] = normal.map(|byte| (f64::from(byte) - 128.0) / 127.0);
    let z = 1.0 - u.abs() - v.abs();
    let away = |c: f64, by: f64| if c < 0.0 { c + by } else { c - by };
    let by = (-z).max(0.0);
    Some(DVec3::new(away(u, by), away(v, by), z).normalize())
}

/// That the points of a page are these, each once: by the place on the grid next to each.
pub fn expect_points(found: &[GridPoint], expected: &[PlyPoint], cloud: &Value) {
    let origin: [f64; 3] = numbers(&cloud["origin"]);
    let quantum = cloud["quantum"].as_f64().unwrap();
    assert_eq!(found.len(), expected.len());
    let mut of_place: BTreeMap<([u32; 3], [u8; 3], u8), Vec<GridPoint>> = BTreeMap::new();
    for point in found {
        of_place.entry((point.place, point.colour, point.views)).or_default().push(*point);
    }
    for point in expected {
        let place: [u32; 3] =
            std::array::from_fn(|axis| ((point.position[axis] - origin[axis]) / quantum).round() as u32);
        for axis in 0..3 {
            let off = (origin[axis] + quantum * f64::from(place[axis]) - point.position[axis]).abs();
            assert!(off <= 0.500_001 * quantum, "{off} of {quantum}");
        }
        let there = of_place.get_mut(&(place, point.colour, point.views));
        let there = there.unwrap_or_else(|| panic!("{point:?} is not at {place:?}"));
        let sure = (point.confidence * 255.0).round() as u8;
        let at = there.iter().position(|p| p.confidence == sure).unwrap_or_else(|| panic!("{point:?}: {there:?}"));
        let same = there.swap_remove(at);
        let normal = DVec3::from(point.normal.map(f64::from));
        match direction(same.normal) {
            // As in the unit test of `octahedral`.
            Some(direction) => assert!(direction.angle_between(normal).to_degrees() < 1.0, "{point:?} {direction}"),
            None => assert_eq!(normal, DVec3::ZERO),
        }
    }
    assert!(of_place.values().all(Vec::is_empty), "points that the cloud does not have");
}

/// A point of `fused.ply`.
#[derive(Clone, Copy, Debug)]
pub struct PlyPoint {
    pub position: [f64; 3],
    pub normal: [f32; 3],
    pub colour: [u8; 3],
    pub confidence: f32,
    pub views: u8,
}

/// The cloud of a run, whose coordinates are floats.
pub fn ply(path: &Path) -> Vec<PlyPoint> {
    let bytes = std::fs::read(path).unwrap();
    let end = b"end_header\n";
    let start = bytes.windows(end.len()).position(|window| window == end).unwrap() + end.len();
    assert!(String::from_utf8_lossy(&bytes[..start]).contains("property float x\n"));
    let point = |vertex: &[u8]| {
        let float = |at: usize| f32::from_le_bytes(vertex[at..at + 4].try_into().unwrap());
        PlyPoint {
            position: [0, 4, 8].map(|at| f64::from(float(at))),
            normal: [12, 16, 20].map(float),
            colour: [vertex[24], vertex[25], vertex[26]],
            confidence: float(27),
            views: vertex[31],
        }
    };
    bytes[start..].chunks_exact(32).map(point).collect()
}
