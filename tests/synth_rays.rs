//! Rays against every shape of synthetic scenes: analytic answers, inside-outside functions, and plain loops.

use std::sync::Arc;

use engine::host::random::Random;
use engine::synth::bounds::{Bounds, Tree};
use engine::synth::height_field::HeightField;
use engine::synth::mesh::Mesh;
use engine::synth::ray::Ray;
use engine::synth::shapes::Shape;
use glam::DVec3;

/// Coordinates are about 1 and every formula has some ten roundings of 1e-16; grazing rays lose some digits more.
const TOLERANCE: f64 = 1e-9;

fn v(x: f64, y: f64, z: f64) -> DVec3 {
    DVec3::new(x, y, z)
}

/// t and unit normal of the first hit.
fn first(shape: &Shape, origin: DVec3, direction: DVec3) -> Option<(f64, DVec3)> {
    let hit = shape.hit(&Ray::new(origin, direction), 0.0, f64::INFINITY)?;
    Some((hit.t, hit.normal.normalize()))
}

#[track_caller]
fn hits(shape: &Shape, origin: DVec3, direction: DVec3, t: f64, normal: DVec3) {
    let (found, n) = first(shape, origin, direction).expect("a hit");
    assert!((found - t).abs() < TOLERANCE, "{found} is not {t}");
    // Normals may point to either side.
    assert!((n.dot(normal).abs() - 1.0).abs() < TOLERANCE, "{n} is not {normal}");
}

#[test]
fn analytic_answers() {
    let plane = Shape::Plane { half: [1.0, 2.0] };
    hits(&plane, v(0.5, 1.5, 3.0), v(0.0, 0.0, -2.0), 1.5, DVec3::Z);
    hits(&plane, v(-1.0, 0.0, -1.0), v(1.0, 0.0, 1.0), 1.0, DVec3::Z);
    assert!(first(&plane, v(1.1, 0.0, 1.0), -DVec3::Z).is_none());
    assert!(first(&plane, v(0.0, 2.1, 1.0), -DVec3::Z).is_none());
    assert!(first(&plane, v(0.0, 0.0, 1.0), DVec3::Z).is_none(), "behind");
    assert!(first(&plane, v(0.0, 0.0, 1.0), DVec3::X).is_none(), "parallel");

    let cuboid = Shape::Box { half: v(1.0, 2.0, 3.0) };
    hits(&cuboid, v(-5.0, 0.5, 0.5), DVec3::X, 4.0, DVec3::X);
    hits(&cuboid, v(0.5, 7.0, 0.5), v(0.0, -2.0, 0.0), 2.5, DVec3::Y);
    hits(&cuboid, v(0.0, 0.0, 0.0), DVec3::Z, 3.0, DVec3::Z); // from inside
    // Along (1, 1, 1) from (-3, -3, -3): enters x at t 2, y at 1, z at 0.
    hits(&cuboid, v(-3.0, -3.0, -3.0), DVec3::ONE, 2.0, DVec3::X);
    assert!(first(&cuboid, v(-5.0, 2.1, 0.0), DVec3::X).is_none());

    let ball = Shape::Ellipsoid { radii: DVec3::splat(2.0) };
    hits(&ball, v(-5.0, 0.0, 0.0), DVec3::X, 3.0, DVec3::X);
    hits(&ball, v(-5.0, 1.2, 0.0), v(0.5, 0.0, 0.0), 2.0 * (5.0 - 1.6), v(-0.8, 0.6, 0.0)); // 3-4-5
    hits(&ball, DVec3::ZERO, v(0.0, 4.0, 0.0), 0.5, DVec3::Y);
    assert!(first(&ball, v(-5.0, 2.01, 0.0), DVec3::X).is_none());
    let egg = Shape::Ellipsoid { radii: v(1.0, 2.0, 3.0) };
    hits(&egg, v(0.0, 0.0, 9.0), v(0.0, 0.0, -1.0), 6.0, DVec3::Z);
    // At x = 0.6, y = 0 the surface has z = 3 * 0.8; its normal is (x / 1, y / 4, z / 9).
    hits(&egg, v(0.6, 0.0, 9.0), v(0.0, 0.0, -1.0), 9.0 - 2.4, v(0.6, 0.0, 2.4 / 9.0).normalize());

    let rod = Shape::Cylinder { radius: 0.5, half_length: 2.0 };
    hits(&rod, v(-3.0, 0.3, 1.0), DVec3::X, 3.0 - 0.4, v(-0.8, 0.6, 0.0)); // 3-4-5 again
    hits(&rod, v(0.1, 0.1, 5.0), -DVec3::Z, 3.0, DVec3::Z);
    hits(&rod, v(0.0, 0.0, 0.0), v(1.0, 0.0, 0.0), 0.5, DVec3::X);
    hits(&rod, v(0.0, 0.0, 0.0), v(0.0, 0.0, -1.0), 2.0, DVec3::Z);
    assert!(first(&rod, v(-3.0, 0.0, 2.1), DVec3::X).is_none());
    assert!(first(&rod, v(0.6, 0.0, 5.0), -DVec3::Z).is_none());
}

/// Random rays from outside at a solid: the hit lies on the surface, and nothing before it is inside.
fn against_function(shape: &Shape, inside: impl Fn(DVec3) -> f64) {
    let mut random = Random::new(&[11]);
    let mut found = 0;
    for _ in 0..4000 {
        let origin = random.direction() * 6.0;
        let target = random.direction() * random.range(0.0, 3.0);
        let direction = (target - origin) * random.range(0.1, 2.0);
        let ray = Ray::new(origin, direction);
        let hit = first(shape, origin, direction);
        let end = hit.map_or(12.0 / direction.length(), |h| h.0);
        if let Some((t, normal)) = hit {
            found += 1;
            let p = ray.at(t);
            assert!(inside(p).abs() < 1e-8, "{}", inside(p));
            // The function grows along the normal, on one side or the other.
            let slope = inside(p + normal * 1e-6) - inside(p - normal * 1e-6);
            assert!(slope.abs() > 1e-7);
        }
        for k in 0..400 {
            let t = end * (f64::from(k) / 400.0);
            assert!(inside(ray.at(t)) > -1e-8, "inside before the hit");
        }
    }
    assert!(found > 400, "{found}");
}

#[test]
fn hits_lie_on_the_surface_and_nothing_lies_before_them() {
    let half = v(0.7, 1.5, 1.1);
    against_function(&Shape::Box { half }, |p| (p.abs() - half).max_element());
    let radii = v(0.7, 1.5, 1.1);
    against_function(&Shape::Ellipsoid { radii }, |p| (p / radii).length() - 1.0);
    let (radius, half_length) = (0.8, 1.3);
    let rod = |p: DVec3| (p.x.hypot(p.y) - radius).max(p.z.abs() - half_length);
    against_function(&Shape::Cylinder { radius, half_length }, rod);
}

/// First hit of a triangle by its plane and the three edges' sides: no formula of the crate's.
fn plain_triangle(ray: &Ray, [a, b, c]: [DVec3; 3]) -> Option<f64> {
    let normal = (b - a).cross(c - a);
    let t = (a - ray.origin).dot(normal) / ray.direction.dot(normal);
    let p = ray.at(t);
    let side = |a: DVec3, b: DVec3| (b - a).cross(p - a).dot(normal);
    (t > 0.0 && side(a, b) >= 0.0 && side(b, c) >= 0.0 && side(c, a) >= 0.0).then_some(t)
}

#[test]
fn height_fields_are_their_triangles() {
    // A plane: analytic, whatever the cells.
    let (a, b, c) = (0.3, -0.2, 0.1);
    let field = HeightField::new(7, 5, [1.0, 2.0], |x, y| a * x + b * y + c);
    let shape = Shape::HeightField(Arc::new(field));
    let mut random = Random::new(&[5]);
    let mut found = 0;
    for _ in 0..5000 {
        let origin = v(random.range(-3.0, 3.0), random.range(-3.0, 3.0), random.range(1.0, 4.0));
        let target = v(random.range(-1.3, 1.3), random.range(-2.3, 2.3), 0.0);
        let direction = target - origin;
        let t = (a * origin.x + b * origin.y + c - origin.z) / (direction.z - a * direction.x - b * direction.y);
        let p = origin + direction * t;
        let border = (1.0 - p.x.abs()).min(2.0 - p.y.abs());
        if border.abs() < 1e-9 {
            continue;
        }
        match first(&shape, origin, direction) {
            Some((hit, normal)) => {
                assert!(border > 0.0 && (hit - t).abs() < TOLERANCE, "{hit} {t}");
                assert!((normal.dot(v(-a, -b, 1.0).normalize()).abs() - 1.0).abs() < TOLERANCE);
                found += 1;
            }
            None => assert!(border < 0.0, "missed at {p}"),
        }
    }
    assert!(found > 1000);

    // Rough ground: every triangle in a plain loop, also for rays that run level between the hills.
    let (columns, rows, half) = (13, 9, [1.5, 1.0]);
    let ground = |x: f64, y: f64| 0.3 * (5.0 * x).sin() * (4.0 * y + 1.0).cos() + 0.1 * (17.0 * x * y).sin();
    let shape = Shape::HeightField(Arc::new(HeightField::new(columns, rows, half, ground)));
    let place = |i: usize, count: usize, half: f64| half * (2.0 * i as f64 / count as f64 - 1.0);
    let corner = |i: usize, j: usize| {
        let (x, y) = (place(i, columns, half[0]), place(j, rows, half[1]));
        v(x, y, ground(x, y))
    };
    let mut triangles = Vec::new();
    for j in 0..rows {
        for i in 0..columns {
            let [p, q, r, s] = [corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)];
            triangles.extend([[p, q, r], [p, r, s]]);
        }
    }
    let mut found = 0;
    for k in 0..4000 {
        let steep = if k % 2 == 0 { 3.0 } else { 0.3 };
        let origin = random.direction() * v(4.0, 4.0, steep);
        let target = v(random.range(-1.6, 1.6), random.range(-1.1, 1.1), random.range(-0.2, 0.2));
        let ray = Ray::new(origin, target - origin);
        let plain = triangles.iter().filter_map(|t| plain_triangle(&ray, *t)).fold(f64::INFINITY, f64::min);
        let hit = first(&shape, origin, target - origin).map_or(f64::INFINITY, |h| h.0);
        assert!(hit == plain || (hit - plain).abs() < 1e-8, "{hit} is not {plain}");
        found += usize::from(plain.is_finite());
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn meshes_are_their_triangles_and_fit_the_unit_ball() {
    let mut random = Random::new(&[21]);
    let points: Vec<DVec3> = (0..300).map(|_| random.direction() * random.range(0.2, 1.0) + v(5.0, 0.0, 0.0)).collect();
    let faces: Vec<[usize; 3]> = (0..200).map(|_| [0; 3].map(|_| random.below(300))).collect();
    let mesh = Mesh::new(&points, &faces).unwrap();
    let used = Bounds::of(faces.iter().flatten().map(|&i| points[i]));
    let middle = used.middle();
    let radius = faces.iter().flatten().map(|&i| points[i].distance(middle)).fold(0.0, f64::max);
    assert!(mesh.bounds().low.length().max(mesh.bounds().high.length()) <= 3f64.sqrt() + 1e-12);
    let shape = Shape::Mesh(Arc::new(mesh));
    let mut found = 0;
    for _ in 0..3000 {
        let origin = random.direction() * 2.0;
        let direction = random.direction() * 0.8 - origin;
        let ray = Ray::new(origin, direction);
        let placed = |f: &[usize; 3]| f.map(|i| (points[i] - middle) / radius);
        let plain = faces.iter().filter_map(|f| plain_triangle(&ray, placed(f))).fold(f64::INFINITY, f64::min);
        let hit = first(&shape, origin, direction).map_or(f64::INFINITY, |h| h.0);
        assert!(hit == plain || (hit - plain).abs() < 1e-8, "{hit} is not {plain}");
        found += usize::from(plain.is_finite());
    }
    assert!(found > 1000, "{found}");
    for (points, faces, problem) in [
        (vec![DVec3::ZERO; 3], vec![], "no faces"),
        (vec![DVec3::X, DVec3::Y, DVec3::Z], vec![[0, 1, 3]], "vertex index 3"),
        (vec![DVec3::X, DVec3::NAN, DVec3::Z], vec![[0, 1, 2]], "vertex 2 with a coordinate that is not finite"),
        (vec![DVec3::X; 3], vec![[0, 1, 2]], "at one place"),
    ] {
        let message = Mesh::new(&points, &faces).unwrap_err();
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn the_tree_gives_every_item_that_a_plain_loop_finds() {
    let mut random = Random::new(&[2]);
    let boxes: Vec<Bounds> = (0..150)
        .map(|_| {
            let middle = random.direction() * random.range(0.0, 4.0);
            let half = v(random.range(0.0, 0.3), random.range(0.0, 0.3), random.range(0.01, 0.3));
            Bounds { low: middle - half, high: middle + half }
        })
        .collect();
    let tree = Tree::new(&boxes);
    for _ in 0..2000 {
        let origin = random.direction() * 6.0;
        let ray = Ray::new(origin, random.direction() * 3.0 - origin);
        let crosses = |b: &Bounds| b.crossing(&ray, 0.0, f64::INFINITY).is_some();
        let plain: Vec<usize> = (0..boxes.len()).filter(|&i| crosses(&boxes[i])).collect();
        let mut found = Vec::new();
        tree.walk(&ray, 0.0, f64::INFINITY, |i, end| {
            if crosses(&boxes[i]) {
                found.push(i);
            }
            end
        });
        found.sort_unstable();
        assert_eq!(found, plain);
    }
    Tree::new(&[]).walk(&Ray::new(DVec3::ZERO, DVec3::X), 0.0, 1.0, |_, _| panic!("there is nothing"));
}

/// Normals and texture places are not used, but must be there where a face numbers one: else the file is damaged. Faces
/// may come before their vertices.
#[test]
fn only_vertices_and_faces_of_an_obj_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.obj");
    for (text, triangles) in [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 1\nvt 0 0\nf 1/1/1 2//-1 3/1\n", 1),
        ("f 1/1/1 2/1/1 3//1\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 1\nvt 0 0\n", 1),
        ("f 1 2 3 4\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\ng other\nf -1 -2 -3\nl 1 2\nf 1 2\n", 3),
        ("v 448262 5411932 320\nv 448263.5 5411932 320\nv 448262 5411932.5 320\nf 1 2 3\n", 1),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(Mesh::read(&file).unwrap().triangles(), triangles, "{text}");
    }
    for (corner, told) in [
        ("1//6148914691236517206", "line 4: a face with normal 6148914691236517206, out of bounds: there are 0"),
        ("1/18446744073709551615", "a face with a texture place that is out of bounds or no number"),
        ("1/-7", "a face with a texture place that is out of bounds or no number"),
        ("1//x", "a face with a normal that is out of bounds or no number"),
        ("1//0", "a face with a normal that is out of bounds or no number"),
    ] {
        std::fs::write(&file, format!("v 0 0 0\nv 1 0 0\nv 0 1 0\nf {corner} 2 3\n")).unwrap();
        let said = Mesh::read(&file).unwrap_err().to_string();
        assert!(said.contains(told), "{said}");
    }
}

/// Damaged meshes are refused or read, but nothing panics, hangs or asks for more memory than the file could need.
#[test]
fn damaged_mesh_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let obj = "# a\nmtllib a.mtl\no thing\nv 0 0 0\nv 1 0 0 1.0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvn 0 0 1\nusemtl m\ns 1\n\
        f 1/1/1 2/1/1 3/1/1\nf -1 -2 -3\nf 1//1 2//1 3//1 4//1\n";
    let ascii = "ply\nformat ascii 1.0\ncomment c\nelement vertex 3\nproperty float x\nproperty float y\nproperty \
                 float z\n\
        element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n";
    let mut binary = ascii.split("0 0 0").next().unwrap().replace("ascii", "binary_little_endian").into_bytes();
    for value in [0f32, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0] {
        binary.extend(value.to_le_bytes());
    }
    binary.push(3);
    [0i32, 1, 2].iter().for_each(|i| binary.extend(i.to_le_bytes()));
    let mut random = Random::new(&[77]);
    for (name, whole) in [("a.obj", obj.as_bytes()), ("a.ply", ascii.as_bytes()), ("b.ply", &binary)] {
        let file = folder.path().join(name);
        std::fs::write(&file, whole).unwrap();
        Mesh::read(&file).unwrap();
        for _ in 0..1500 {
            let mut bytes = whole.to_vec();
            match random.below(3) {
                0 => bytes.truncate(random.below(whole.len())),
                1 => {
                    let at = random.below(bytes.len());
                    bytes.remove(at);
                }
                _ => {
                    for _ in 0..random.between(1, 3) {
                        let at = random.below(whole.len());
                        bytes[at] = if random.chance(0.5) {
                            b"0123456789-/ .\n"[random.below(15)]
                        } else {
                            random.bits() as u8
                        };
                    }
                }
            }
            std::fs::write(&file, &bytes).unwrap();
            if let Err(error) = Mesh::read(&file) {
                let message = error.to_string();
                assert!(!message.contains('\n') && message.contains(name), "{message}");
            }
        }
    }
}
