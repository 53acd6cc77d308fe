//! The readers and files that they read rightly, small: what is not in the tree is made here.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use engine::files::depth_maps::DepthMaps;
use engine::files::known_hashes::KnownHashes;
use engine::files::map::Map;
use engine::files::ply::{self as cloud, Point};
use engine::files::ply_cloud::CloudFile;
use engine::files::ply_storage::Storage;
use engine::files::subfolders::Spread;
use engine::files::{cloud_points, depth_file, mat, pfm, ply_points};
use engine::manifest::Manifest;
use engine::manifest::made::{self, Made};
use engine::net::weights::Checkpoint;
use engine::run::resume::{LevelFiles, MadeBy};
use engine::scene::{OpenOptions, Scene};
use engine::synth::mesh::Mesh;
use glam::DVec3;

use crate::depth_files::{e57, exr, las, laz, png};
use crate::format_files::npy;

/// A reader, told the folder of its files; an error is its message.
pub type Read = fn(&Path) -> Result<(), String>;

pub struct Target {
    pub name: &'static str,
    /// Names below the target's folder, and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    pub read: Read,
}

fn tree(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn done<T>(result: engine::Result<T>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}

/// A photo that the models' cameras fit.
fn photo() -> &'static [u8] {
    static PHOTO: OnceLock<Vec<u8>> = OnceLock::new();
    PHOTO.get_or_init(|| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(512, 384).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    })
}

/// A model of three cameras of 512 x 384 that look at a few points, as text.
fn colmap_text() -> Vec<(String, Vec<u8>)> {
    let cameras = "# cameras\n1 PINHOLE 512 384 500 500 256 192\n2 SIMPLE_RADIAL 512 384 500 256 192 0.01\n";
    let (mut images, mut points) = (String::from("# images\n"), String::from("# points\n"));
    for i in 1..=3 {
        let camera = 1 + i % 2;
        images += &format!("{i} 1 0 0 0 {} 0 0 {camera} {i}.png\n", 0.1 * f64::from(i));
        for p in 1..=8 {
            images += &format!("{}.5 {}.25 {p} ", 40 * p, 30 * p);
        }
        images += "\n";
    }
    for p in 1..=8 {
        points += &format!("{p} 0.{p} 0.1 {}.5 200 100 {p} 0.5 1 {} 2 {} 3 {}\n", 2 + p, p - 1, p - 1, p - 1);
    }
    let file = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    vec![file("cameras.txt", cameras.into()), file("images.txt", images), file("points3D.txt", points)]
}

/// The first of the tree's binary model's tracks only: small files are damaged more thoroughly.
fn colmap_binary() -> Vec<(String, Vec<u8>)> {
    let mut images = 3u64.to_le_bytes().to_vec();
    let mut points = 6u64.to_le_bytes().to_vec();
    for i in 1..=3u32 {
        images.extend(i.to_le_bytes());
        for v in [1.0, 0.0, 0.0, 0.0, 0.1 * f64::from(i), 0.0, 0.0] {
            images.extend(v.to_le_bytes());
        }
        images.extend(1u32.to_le_bytes());
        images.extend(format!("{i}.png\0").bytes());
        images.extend(6u64.to_le_bytes());
        for p in 1..=6u64 {
            images.extend((40.0 * p as f64).to_le_bytes());
            images.extend((30.0 * p as f64).to_le_bytes());
            images.extend(p.to_le_bytes());
        }
    }
    for p in 1..=6u64 {
        points.extend(p.to_le_bytes());
        for v in [0.1 * p as f64, 0.1, 3.0 + p as f64] {
            points.extend(v.to_le_bytes());
        }
        points.extend([200, 100, p as u8]);
        points.extend(0.5f64.to_le_bytes());
        points.extend(3u64.to_le_bytes());
        for i in 1..=3u32 {
            points.extend(i.to_le_bytes());
            points.extend((p as u32 - 1).to_le_bytes());
        }
    }
    let mut cameras = 1u64.to_le_bytes().to_vec();
    cameras.extend(1u32.to_le_bytes());
    cameras.extend(1i32.to_le_bytes());
    cameras.extend(512u64.to_le_bytes());
    cameras.extend(384u64.to_le_bytes());
    for v in [500.0f64, 500.0, 256.0, 192.0] {
        cameras.extend(v.to_le_bytes());
    }
    let file = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    vec![file("cameras.bin", cameras), file("images.bin", images), file("points3D.bin", points)]
}

/// Opens the model with its photos in place.
fn open_colmap(folder: &Path) -> Result<(), String> {
    let root = folder.join("scene");
    for place in ["images", "sparse/0"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    (1..=3).for_each(|i| fs::write(root.join(format!("images/{i}.png")), photo()).unwrap());
    for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), root.join("sparse/0").join(entry.file_name())).unwrap();
    }
    done(Scene::open(&root, &OpenOptions::default()))
}

fn open_mvsnet(folder: &Path) -> Result<(), String> {
    let root = folder.join("scene");
    for place in ["images", "cams"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    (0..3).for_each(|i| fs::write(root.join(format!("images/{i:08}.png")), photo()).unwrap());
    for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name();
        let place = if name == "pair.txt" { root.clone() } else { root.join("cams") };
        fs::copy(entry.path(), place.join(name)).unwrap();
    }
    done(Scene::open(&root, &OpenOptions::default()))
}

fn ply(binary: bool) -> Vec<u8> {
    let format = if binary { "binary_little_endian" } else { "ascii" };
    let mut bytes = format!(
        "ply\nformat {format} 1.0\ncomment made for a test\nelement vertex 4\nproperty float x\nproperty double y\n\
         property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nelement face 2\n\
         property list uchar int vertex_indices\nend_header\n"
    )
    .into_bytes();
    for i in 0..4u8 {
        let (x, y, z) = (f32::from(i % 2), f64::from(i / 2), 0.5f32);
        if binary {
            bytes.extend(x.to_le_bytes());
            bytes.extend(y.to_le_bytes());
            bytes.extend(z.to_le_bytes());
            bytes.extend([i, 2 * i, 255]);
        } else {
            bytes.extend(format!("{x} {y} {z} {i} {} 255\n", 2 * i).bytes());
        }
    }
    for corners in [[0i32, 1, 2], [1, 3, 2]] {
        if binary {
            bytes.push(3);
            corners.iter().for_each(|c| bytes.extend(c.to_le_bytes()));
        } else {
            bytes.extend(format!("3 {} {} {}\n", corners[0], corners[1], corners[2]).bytes());
        }
    }
    bytes
}

fn safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"aggregation":"voxel","resolution":"full","confidence":"{\"quarter\":[[1]]}"},
"features.a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
"gate.b.bias":{"dtype":"F32","shape":[3],"data_offsets":[16,28]}}"#;
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 28]].concat()
}

/// The one view of [`sidecars`].
const VIEW: &str = "00000000";

/// What a run leaves beside a view's maps, as one has left it: the record of its files, and those of its one level.
fn sidecars() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scene");
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(["infer", scene, "--view", VIEW, "--levels", "1", "--resolution", "quarter", "--max-side", "64"])
        .args(["--depth-only", "-o"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let names = ["levels/ID.json", "levels/0/ID.json", "levels/0/depth/ID.pfm", "levels/0/confidence/ID.pfm"];
    let names = names.map(|name| name.replace("ID", VIEW));
    names.map(|name| (name.clone(), fs::read(folder.path().join(name)).unwrap())).to_vec()
}

/// Asks all that is asked of the records, also after one of them or a map is damaged.
fn read_sidecars(folder: &Path) -> Result<(), String> {
    // What the level's maps were made by, from the record before it was ever damaged.
    static MADE_BY: OnceLock<MadeBy> = OnceLock::new();
    let made_by = MADE_BY.get_or_init(|| {
        let record = fs::read(folder.join(format!("levels/0/{VIEW}.json"))).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        serde_json::from_value(record["made_by"].clone()).unwrap()
    });
    for said in made::mixture(folder, [VIEW].into_iter()) {
        assert!(!said.is_empty());
    }
    made::max_side(folder, [VIEW].into_iter());
    let files = LevelFiles::new(folder, 0, (VIEW, Spread::Flat));
    let Some((_, hashes)) = files.finished(made_by, &KnownHashes::of_folder(folder, true)) else {
        return Err("no record of finished maps".into());
    };
    files.read(&hashes).map_err(|error| error.to_string())?;
    let made = Made::read(folder, VIEW).ok_or("no record of what made the maps")?;
    // The names in it are whatever the file says.
    made.changed(folder);
    if made.is_whole() { Ok(()) } else { Err("a run that was stopped".into()) }
}

/// Clouds as this program writes them.
fn own_clouds() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let point = |i: u8| Point {
        position: [0.5 * f64::from(i), 1.0, -2.0],
        normal: [0.0, 0.0, 1.0],
        colour: [i; 3],
        confidence: 0.9,
        views: i,
    };
    let points: Vec<Point> = (0..5).map(point).collect();
    let storages = [("float.ply", false, 0.0), ("double.ply", true, 4e6)];
    let write = |(name, double, x): (&str, bool, f64)| {
        let path = folder.path().join(name);
        cloud::write(&path, &points, Storage { double, offset: [x, 0.0, 0.0] }, &["made for a test".into()]).unwrap();
        (name.to_owned(), fs::read(path).unwrap())
    };
    storages.map(write).to_vec()
}

/// Points of a small cloud.
fn few() -> Vec<DVec3> {
    (0..100).map(|i| DVec3::new(0.01 * f64::from(i), 0.5, -0.02 * f64::from(i))).collect()
}

fn e57_bytes() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    e57(&folder.path().join("a.e57"), &few());
    fs::read(folder.path().join("a.e57")).unwrap()
}

fn read_part(file: &Path) -> Result<(), String> {
    done(cloud_points::read_part(file, 40))
}

fn read_depth(file: &Path) -> Result<(), String> {
    done(depth_file::read(file, None))
}

fn colmap_map(map: &Map) -> Vec<(String, Vec<u8>)> {
    let head = format!("{}&{}&1&", map.width, map.height).into_bytes();
    let values = map.data.iter().flat_map(|v| v.to_le_bytes());
    one("stereo/depth_maps/a.png.geometric.bin", head.into_iter().chain(values).collect())
}

fn read_colmap_map(folder: &Path) -> Result<(), String> {
    let maps = DepthMaps::find(folder).map_err(|error| error.to_string())?;
    let (_, file) = maps.of_view("a", Path::new("images/a.png")).ok_or("no map")?;
    done(maps.read(file))
}

fn one(name: &str, bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    vec![(name.to_owned(), bytes)]
}

/// All of them.
pub fn targets() -> Vec<Target> {
    let map = Map { width: 9, height: 7, data: (0..63).map(|i| 1.0 + i as f32).collect() };
    let folder = tempfile::tempdir().unwrap();
    pfm::write(&folder.path().join("a.pfm"), &map).unwrap();
    let made = fs::read(folder.path().join("a.pfm")).unwrap();
    let camera = |i: usize| (format!("{i:08}_cam.txt"), tree(&format!("examples/scene/cams/{i:08}_cam.txt")));
    let pairs = b"3\n0\n2 1 10.5 2 3.25\n1\n2 0 10.5 2 8\n2\n2 1 8 0 3.25\n".to_vec();
    let mvsnet = vec![camera(0), camera(1), camera(2), ("pair.txt".into(), pairs)];
    let mats = ["compressed", "plain"].map(|n| (format!("{n}.mat"), tree(&format!("tests/data/mat/{n}.mat"))));
    let cube =
        b"# a mesh\nmtllib none.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvn 0 0 1\nvt 0 0\nf 1/1/1 2/1/1 3/1/1\n\
        f 1 2 4\nf -1 -2 -3\n";
    let both = [("a.ply".to_owned(), ply(false)), ("b.ply".to_owned(), ply(true))].to_vec();
    let (plys, meshes) = (both.clone(), both);
    let mut targets = vec![
        Target { name: "colmap text", files: colmap_text(), read: open_colmap },
        Target { name: "colmap binary", files: colmap_binary(), read: open_colmap },
        Target { name: "mvsnet", files: mvsnet, read: open_mvsnet },
        Target { name: "pfm", files: one("a.pfm", made), read: |f| done(pfm::read(&f.join("a.pfm"))) },
        Target {
            name: "ply",
            files: plys,
            read: |f| done(ply_points::read(&f.join("a.ply"))).and(done(ply_points::read(&f.join("b.ply")))),
        },
        Target {
            name: "cloud",
            files: own_clouds(),
            read: |f| {
                let read = |name: &str| done(CloudFile::open(&f.join(name)).and_then(|cloud| cloud.each(|_| Ok(()))));
                read("float.ply").and(read("double.ply"))
            },
        },
        Target {
            name: "ply mesh",
            files: meshes,
            read: |f| done(Mesh::read(&f.join("a.ply"))).and(done(Mesh::read(&f.join("b.ply")))),
        },
        Target { name: "obj", files: one("a.obj", cube.to_vec()), read: |f| done(Mesh::read(&f.join("a.obj"))) },
        Target {
            name: "mat",
            files: mats.to_vec(),
            read: |f| {
                let read = |name: &str| done(mat::MatFile::read(&f.join(name)));
                read("compressed.mat").and(read("plain.mat"))
            },
        },
        Target {
            name: "safetensors",
            files: one("a.safetensors", safetensors()),
            // Without all of its tensors it is refused; what is damaged may not be read any further.
            read: |f| match Checkpoint::read(&f.join("a.safetensors")) {
                Err(engine::Error::Weights { problem, .. }) if problem.contains("is missing") => Ok(()),
                read => done(read),
            },
        },
        Target {
            name: "manifest",
            files: one("manifest.json", tree("tests/data/manifest.json")),
            read: |f| done(Manifest::read(f)),
        },
        Target { name: "sidecars", files: sidecars(), read: read_sidecars },
        Target { name: "las", files: one("a.las", las(&few(), 4, 7, 36)), read: |f| read_part(&f.join("a.las")) },
        Target { name: "laz", files: one("a.laz", laz(&few(), 2, 0, 20)), read: |f| read_part(&f.join("a.laz")) },
        Target { name: "laz 1.4", files: one("a.laz", laz(&few(), 4, 7, 36)), read: |f| read_part(&f.join("a.laz")) },
        Target { name: "e57", files: one("a.e57", e57_bytes()), read: |f| read_part(&f.join("a.e57")) },
        Target { name: "exr", files: one("a.exr", exr(&map, &["A", "Z"])), read: |f| read_depth(&f.join("a.exr")) },
        Target {
            name: "png of depths",
            files: one("a.png", png(&map, 500.0, Some("500"))),
            read: |f| read_depth(&f.join("a.png")),
        },
        Target {
            name: "npy of depths",
            files: one("a.npy", npy(&[7, 9], &[2.5; 63], false)),
            read: |f| read_depth(&f.join("a.npy")),
        },
        Target { name: "colmap map", files: colmap_map(&map), read: read_colmap_map },
    ];
    targets.extend(crate::formats::targets());
    targets
}
