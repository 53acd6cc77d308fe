//! Small readers of meshes: no more than what the program writes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use glam::DVec3;
use serde_json::Value;

/// A mesh as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct TestMesh {
    pub positions: Vec<DVec3>,
    pub normals: Vec<DVec3>,
    pub colours: Vec<[f64; 3]>,
    pub faces: Vec<[usize; 3]>,
    /// The PLY header.
    pub header: Vec<String>,
}

impl TestMesh {
    /// By each undirected edge: how often it runs up and down.
    pub fn edges(&self) -> HashMap<(usize, usize), (usize, usize)> {
        let mut edges: HashMap<(usize, usize), (usize, usize)> = HashMap::new();
        for face in &self.faces {
            for (a, b) in [(face[0], face[1]), (face[1], face[2]), (face[2], face[0])] {
                let uses = edges.entry((a.min(b), a.max(b))).or_default();
                if a < b { uses.0 += 1 } else { uses.1 += 1 }
            }
        }
        edges
    }

    /// Edges with one triangle. Fails where an edge has more than two, or two that disagree, and where the triangles
    /// around a vertex are not one fan.
    #[track_caller]
    pub fn expect_manifold(&self) -> usize {
        let edges = self.edges();
        assert!(edges.keys().all(|(a, b)| a != b), "an edge of one vertex");
        let wrong = edges.values().filter(|uses| uses.0 > 1 || uses.1 > 1).count();
        assert_eq!(wrong, 0, "edges of more than two triangles, or of two that disagree");
        // Around a vertex: from each triangle to the one that shares the edge which leaves the vertex there.
        let mut around: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        for face in &self.faces {
            for i in 0..3 {
                around.entry(face[i]).or_default().push((face[(i + 1) % 3], face[(i + 2) % 3]));
            }
        }
        for (vertex, sides) in &around {
            let next: HashMap<usize, usize> = sides.iter().copied().collect();
            let starts: Vec<usize> =
                sides.iter().map(|side| side.0).filter(|from| sides.iter().all(|side| side.1 != *from)).collect();
            assert!(starts.len() <= 1, "vertex {vertex} has {} fans", starts.len());
            let start = starts.first().copied().unwrap_or(sides[0].0);
            let (mut at, mut steps) = (start, 0);
            while let Some(&to) = next.get(&at) {
                (at, steps) = (to, steps + 1);
                if at == start {
                    break;
                }
            }
            assert_eq!(steps, sides.len(), "vertex {vertex} has more than one fan");
        }
        assert_eq!(around.len(), self.positions.len(), "vertices without triangles");
        edges.values().filter(|uses| uses.0 + uses.1 == 1).count()
    }
}

/// Binary, little endian, as its header says.
pub fn ply(path: &Path) -> TestMesh {
    let bytes = fs::read(path).unwrap();
    let end = b"end_header\n";
    let start = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let header: Vec<String> = String::from_utf8(bytes[..start].to_vec()).unwrap().lines().map(str::to_owned).collect();
    let count = |element: &str| -> usize {
        let prefix = format!("element {element} ");
        header.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
    };
    let kinds: Vec<(&str, &str)> = header
        .iter()
        .filter_map(|line| line.strip_prefix("property "))
        .filter(|line| !line.starts_with("list"))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    assert!(header.contains(&"property list uchar int vertex_indices".to_owned()));
    let (mut at, mut mesh) = (
        start,
        TestMesh {
            positions: Vec::new(),
            normals: Vec::new(),
            colours: Vec::new(),
            faces: Vec::new(),
            header: header.clone(),
        },
    );
    let mut take = |size: usize| {
        at += size;
        &bytes[at - size..at]
    };
    for _ in 0..count("vertex") {
        let mut values = HashMap::new();
        for (kind, name) in &kinds {
            let value = match *kind {
                "float" => f64::from(f32::from_le_bytes(take(4).try_into().unwrap())),
                "double" => f64::from_le_bytes(take(8).try_into().unwrap()),
                "uchar" => f64::from(take(1)[0]),
                other => panic!("{other}"),
            };
            values.insert(*name, value);
        }
        mesh.positions.push(DVec3::new(values["x"], values["y"], values["z"]));
        mesh.normals.push(DVec3::new(values["nx"], values["ny"], values["nz"]));
        if values.contains_key("red") {
            mesh.colours.push(["red", "green", "blue"].map(|c| values[c] / 255.0));
        }
    }
    for _ in 0..count("face") {
        assert_eq!(take(1), [3]);
        mesh.faces.push([0; 3].map(|_| i32::from_le_bytes(take(4).try_into().unwrap()) as usize));
    }
    assert_eq!(at, bytes.len());
    mesh
}

/// Text.
pub fn obj(path: &Path) -> TestMesh {
    let text = fs::read_to_string(path).unwrap();
    let mut mesh = TestMesh {
        positions: Vec::new(),
        normals: Vec::new(),
        colours: Vec::new(),
        faces: Vec::new(),
        header: Vec::new(),
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers = || words[1..].iter().map(|word| word.parse::<f64>().unwrap()).collect::<Vec<_>>();
        match words[0] {
            "v" => {
                let numbers = numbers();
                mesh.positions.push(DVec3::from_slice(&numbers));
                if let [_, _, _, r, g, b] = numbers[..] {
                    mesh.colours.push([r, g, b]);
                }
            }
            "vn" => mesh.normals.push(DVec3::from_slice(&numbers())),
            "f" => {
                let corner = |word: &str| {
                    let (vertex, normal) = word.split_once("//").unwrap();
                    assert_eq!(vertex, normal);
                    vertex.parse::<usize>().unwrap() - 1
                };
                mesh.faces.push([1, 2, 3].map(|i| corner(words[i])));
            }
            "#" => {}
            other => panic!("{other}"),
        }
    }
    mesh
}

/// The JSON part, and the mesh with its node's translation added and its colours as sRGB.
pub fn glb(path: &Path) -> (Value, TestMesh) {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((&bytes[..4], word(4), word(8)), (&b"glTF"[..], 2, bytes.len()));
    let length = word(12);
    assert_eq!(&bytes[16..20], b"JSON");
    let json: Value = serde_json::from_slice(&bytes[20..20 + length]).unwrap();
    let binary = &bytes[20 + length + 8..];
    assert_eq!((word(20 + length), &bytes[24 + length..28 + length]), (binary.len(), &b"BIN\0"[..]));
    let primitive = &json["meshes"][0]["primitives"][0];
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let data = |accessor: &Value| {
        let accessor = &json["accessors"][number(accessor)];
        let view = &json["bufferViews"][number(&accessor["bufferView"])];
        let start = view["byteOffset"].as_u64().unwrap_or(0) as usize;
        (
            number(&accessor["count"]),
            number(&accessor["componentType"]),
            &binary[start..start + number(&view["byteLength"])],
        )
    };
    let vectors = |name: &str| -> Vec<DVec3> {
        let (count, kind, bytes) = data(&primitive["attributes"][name]);
        assert_eq!((kind, bytes.len()), (5126, 12 * count));
        let float = |i: usize| f64::from(f32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()));
        (0..count).map(|i| DVec3::new(float(3 * i), float(3 * i + 1), float(3 * i + 2))).collect()
    };
    let moved = DVec3::from([0, 1, 2].map(|axis| json["nodes"][0]["translation"][axis].as_f64().unwrap_or(0.0)));
    let mut colours = Vec::new();
    if !primitive["attributes"]["COLOR_0"].is_null() {
        let (count, kind, bytes) = data(&primitive["attributes"]["COLOR_0"]);
        assert_eq!((kind, bytes.len()), (5126, 12 * count));
        let srgb = |light: f64| {
            if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
        };
        let value = |i: usize| f64::from(f32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()));
        colours = (0..count).map(|i| [0, 1, 2].map(|c| srgb(value(3 * i + c)))).collect();
    }
    let (count, kind, bytes) = data(&primitive["indices"]);
    assert_eq!((kind, bytes.len()), (5125, 4 * count));
    let index = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()) as usize;
    let mesh = TestMesh {
        positions: vectors("POSITION").into_iter().map(|p| p + moved).collect(),
        normals: vectors("NORMAL"),
        colours,
        faces: (0..count / 3).map(|i| [0, 1, 2].map(|c| index(3 * i + c))).collect(),
        header: Vec::new(),
    };
    (json, mesh)
}
