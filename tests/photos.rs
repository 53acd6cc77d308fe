//! Photos on their way from the file to the network: decoding, lenses, reduction, pyramid levels.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use engine::scene::camera::Camera;
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene, View};
use glam::{DMat2, DMat3, DVec2, DVec3};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;

fn open(root: &Path) -> Scene {
    Scene::open(root, &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// A view without a scene.
fn view(image: &Path, size: (usize, usize)) -> View {
    let k = DMat3::from_cols(DVec3::new(50.0, 0.0, 0.0), DVec3::new(0.0, 60.0, 0.0), DVec3::new(20.0, 10.0, 1.0));
    View {
        id: 0,
        name: "photo".into(),
        image: image.to_owned(),
        size,
        camera: Camera { k, r: DMat3::IDENTITY, t: DVec3::ZERO },
        lens: None,
        mask: None,
        in_memory: None,
        known: None,
        range: None,
        sweep: None,
        planes: None,
        sources: Vec::new(),
    }
}

/// A smooth photo: each channel a product of waves over normalised coordinates, between 0.1 and 0.9.
fn pattern(p: DVec2) -> [f64; 3] {
    let wave = |x: f64, y: f64| 0.5 + 0.4 * (7.0 * p.x + x).sin() * (6.0 * p.y + y).cos();
    [wave(0.0, 0.0), wave(1.0, 2.0), wave(2.5, 0.7)]
}

/// Rows of COLMAP's camera model table, and where COLMAP 4.2 itself (`img_from_cam`) puts the rays
/// (0, 0), (0.3, -0.2), (-0.55, 0.4), (0.62, 0.47) and (1e-9, 2e-9).
#[allow(clippy::type_complexity)]
fn camera_models() -> Vec<(i32, &'static str, Vec<f64>, [(f64, f64); 5])> {
    vec![
        (
            0,
            "SIMPLE_PINHOLE",
            vec![500.0, 320.0, 240.0],
            [(320.0, 240.0), (470.0, 140.0), (45.0, 440.0), (630.0, 475.0), (320.0000005, 240.000001)],
        ),
        (
            1,
            "PINHOLE",
            vec![500.0, 510.0, 320.0, 240.0],
            [(320.0, 240.0), (470.0, 138.0), (45.0, 444.0), (630.0, 479.7), (320.0000005, 240.00000102)],
        ),
        (
            2,
            "SIMPLE_RADIAL",
            vec![500.0, 320.0, 240.0, -0.12],
            [
                (320.0, 240.0),
                (467.65999999999997, 141.56),
                (60.26249999999999, 428.9),
                (607.48284, 457.93053999999995),
                (320.0000005, 240.000001),
            ],
        ),
        (
            3,
            "RADIAL",
            vec![500.0, 321.0, 239.0, -0.12, 0.03],
            [
                (321.0, 239.0),
                (468.73605, 140.5093),
                (59.49777343750003, 429.18343749999997),
                (611.890249237, 459.51357603450003),
                (321.0000005, 239.000001),
            ],
        ),
        (
            4,
            "OPENCV",
            vec![500.0, 510.0, 321.0, 239.0, -0.12, 0.03, 0.002, -0.003],
            [
                (321.0, 239.0),
                (468.15105, 138.937286),
                (57.45652343749998, 434.45845625),
                (610.411899237, 464.10020555519),
                (321.0000005, 239.00000102),
            ],
        ),
        (
            6,
            "FULL_OPENCV",
            vec![500.0, 510.0, 321.0, 239.0, 0.2, 0.05, 0.002, -0.003, 0.01, 0.3, 0.04, 0.005],
            [
                (321.0, 239.0),
                (468.56540269067136, 138.65552617034345),
                (54.408712812294596, 436.719377586516),
                (615.0858687808227, 467.7142394250426),
                (321.0000005, 239.00000102),
            ],
        ),
        (
            5,
            "OPENCV_FISHEYE",
            vec![400.0, 410.0, 321.0, 239.0, 0.03, -0.01, 0.004, -0.001],
            [
                (321.0, 239.0),
                (436.5693803655149, 160.0275900835648),
                (125.94694774106782, 384.403184411204),
                (534.1856123337665, 404.64865926095484),
                (321.0000004, 239.00000082),
            ],
        ),
        (
            8,
            "SIMPLE_RADIAL_FISHEYE",
            vec![400.0, 320.0, 240.0, 0.05],
            [
                (320.0, 240.0),
                (435.86096015749956, 162.75935989500027),
                (123.3548897436819, 383.0146256409586),
                (535.3684457312843, 403.2631766027477),
                (320.0000004, 240.0000008),
            ],
        ),
    ]
}

/// The engine's map from undistorted to stored pixels, through the pinhole camera that it chose, against COLMAP.
#[test]
fn every_camera_model_puts_rays_where_colmap_puts_them() {
    let rays = [(0.0, 0.0), (0.3, -0.2), (-0.55, 0.4), (0.62, 0.47), (1e-9, 2e-9)];
    for (id, name, parameters, pixels) in camera_models() {
        for binary in [false, true] {
            let folder = TempDir::new().unwrap();
            let mut scene = scene_files::TestScene::new();
            scene.size = (640, 480);
            scene.model = Some((id, name, parameters.clone()));
            match binary {
                true => scene.write_colmap_binary(folder.path(), "sparse/0"),
                false => scene.write_colmap_text(folder.path(), "sparse/0"),
            }
            let view = open(folder.path()).views.remove(0);
            assert_eq!(view.lens.is_some(), !name.ends_with("PINHOLE"), "{name}");
            for (ray, pixel) in rays.into_iter().zip(pixels) {
                let pinhole = (view.camera.k * DVec3::new(ray.0, ray.1, 1.0)).truncate();
                let stored = match &view.lens {
                    Some(lens) => {
                        assert_eq!(lens.pinhole_k, view.camera.k);
                        lens.stored_pixel(pinhole).expect("inside the photo")
                    }
                    None => pinhole,
                };
                // COLMAP counts from the corner pixel's corner, the engine from its centre.
                let difference = (stored + 0.5 - DVec2::new(pixel.0, pixel.1)).length();
                assert!(difference < 1e-9, "{name}: {ray:?} is off by {difference} px");
            }
        }
    }
}

/// The models again, from COLMAP's documentation and not from the engine: parameters f (fx fy) cx cy, then the rest.
fn distorted(name: &str, p: &[f64], ray: DVec2) -> DVec2 {
    let (x, y) = (ray.x, ray.y);
    let r = x.hypot(y);
    let tangential = |p1: f64, p2: f64| {
        DVec2::new(2.0 * p1 * x * y + p2 * (r * r + 2.0 * x * x), 2.0 * p2 * x * y + p1 * (r * r + 2.0 * y * y))
    };
    let fisheye = |k: &[f64]| {
        let a = r.atan();
        let bent = a + (0..k.len()).map(|i| k[i] * a.powi(3 + 2 * i as i32)).sum::<f64>();
        if r == 0.0 { ray } else { ray / r * bent }
    };
    match name {
        "SIMPLE_RADIAL" => ray * (1.0 + p[3] * r.powi(2)),
        "RADIAL" => ray * (1.0 + p[3] * r.powi(2) + p[4] * r.powi(4)),
        "OPENCV" => ray * (1.0 + p[4] * r.powi(2) + p[5] * r.powi(4)) + tangential(p[6], p[7]),
        "FULL_OPENCV" => {
            let above = 1.0 + p[4] * r.powi(2) + p[5] * r.powi(4) + p[8] * r.powi(6);
            let below = 1.0 + p[9] * r.powi(2) + p[10] * r.powi(4) + p[11] * r.powi(6);
            ray * above / below + tangential(p[6], p[7])
        }
        "OPENCV_FISHEYE" => fisheye(&p[4..8]),
        "SIMPLE_RADIAL_FISHEYE" => fisheye(&p[3..4]),
        other => panic!("{other}"),
    }
}

/// The ray whose distorted coordinates are `bent`, by Newton's method with a numerical Jacobian.
fn undistorted(name: &str, p: &[f64], bent: DVec2) -> DVec2 {
    let mut ray = bent;
    for _ in 0..50 {
        let at = |ray| distorted(name, p, ray);
        let step = |e: DVec2| (at(ray + e * 1e-6) - at(ray - e * 1e-6)) / 2e-6;
        let jacobian = DMat2::from_cols(step(DVec2::X), step(DVec2::Y));
        ray -= jacobian.inverse() * (at(ray) - bent);
    }
    assert!((distorted(name, p, ray) - bent).length() < 1e-12, "{name}: no ray for {bent}");
    ray
}

/// A scene of 160 x 120 pixels whose photos one of the camera models took.
struct Lens {
    folder: TempDir,
    scene: scene_files::TestScene,
    /// Of that size.
    parameters: Vec<f64>,
    /// Focal lengths and principal point.
    f: [f64; 2],
    c: [f64; 2],
}

impl Lens {
    /// `parameters` are those of four times the size.
    fn new(id: i32, name: &'static str, parameters: Vec<f64>) -> Self {
        let mut p = parameters;
        let intrinsics = if name.contains("OPENCV") || name == "PINHOLE" { 4 } else { 3 };
        p[..intrinsics].iter_mut().for_each(|v| *v /= 4.0);
        let (f, c) = if intrinsics == 4 { ([p[0], p[1]], [p[2], p[3]]) } else { ([p[0], p[0]], [p[1], p[2]]) };
        let folder = TempDir::new().unwrap();
        let mut scene = scene_files::TestScene::new();
        scene.size = (160, 120);
        scene.model = Some((id, name, p.clone()));
        scene.write_colmap_binary(folder.path(), "sparse/0");
        Self { folder, scene, parameters: p, f, c }
    }
}

/// The bent ray of a pixel. COLMAP's pixel centres lie at a half.
fn bent([x, y]: [u32; 2], f: [f64; 2], c: [f64; 2]) -> DVec2 {
    DVec2::new((f64::from(x) + 0.5 - c[0]) / f[0], (f64::from(y) + 0.5 - c[1]) / f[1])
}

/// A pattern on the rays is drawn through each lens; undistorted it must be the pattern seen by the pinhole camera.
#[test]
fn undistorted_photos_show_what_the_pinhole_camera_sees() {
    for (id, name, parameters, _) in camera_models().into_iter().filter(|m| !m.1.ends_with("PINHOLE")) {
        let Lens { folder, scene, parameters: p, f, c } = Lens::new(id, name, parameters);
        let picture = ImageBuffer::from_fn(160, 120, |x, y| {
            let bent = bent([x, y], f, c);
            Rgb(pattern(undistorted(name, &p, bent)).map(|v| (v * 65535.0).round() as u16))
        });
        picture.save(folder.path().join("images").join(&scene.views[0].file)).unwrap();

        let view = open(folder.path()).views.remove(0);
        let loaded = Photo::load(&view, None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((loaded.camera, loaded.notes), (view.camera, vec![]), "{name}: nothing is left black");
        let mut worst = 0f64;
        for (i, pixel) in loaded.photo.rgb.chunks_exact(3).enumerate() {
            let ray = view.camera.k.inverse() * DVec3::new((i % 160) as f64, (i / 160) as f64, 1.0);
            for (value, truth) in pixel.iter().zip(pattern(ray.truncate())) {
                worst = worst.max((f64::from(*value) - truth).abs());
            }
        }
        // The waves are at least 80 px long. Inside, cubic interpolation of them errs by under 1e-4; within half a
        // pixel of the border, where the edge is repeated, by up to half a pixel's slope: 0.4 * 2 pi / 80 / 2 = 0.016.
        assert!(worst < 0.016, "{name}: off by {worst}");
        let inside = loaded.photo.rgb.chunks_exact(3).enumerate().filter(|(i, _)| {
            let (x, y) = (i % 160, i / 160);
            (4..156).contains(&x) && (4..116).contains(&y)
        });
        let worst = inside.fold(0f64, |worst, (i, pixel)| {
            let ray = view.camera.k.inverse() * DVec3::new((i % 160) as f64, (i / 160) as f64, 1.0);
            let off = pixel.iter().zip(pattern(ray.truncate())).map(|(v, t)| (f64::from(*v) - t).abs());
            off.fold(worst, f64::max)
        });
        assert!(worst < 1e-4, "{name}: off by {worst} inside");

        // As much as possible is kept: a focal length 2 % shorter would leave the stored photo somewhere.
        let mut wider = view.lens.clone().unwrap();
        wider.pinhole_k.x_axis *= 0.98;
        wider.pinhole_k.y_axis *= 0.98;
        let corners = [
            (0.0, 0.0),
            (159.0, 0.0),
            (0.0, 119.0),
            (159.0, 119.0),
            (80.0, 0.0),
            (80.0, 119.0),
            (0.0, 60.0),
            (159.0, 60.0),
        ];
        let outside = corners.iter().filter(|&&(x, y)| wider.stored_pixel(DVec2::new(x, y)).is_none());
        assert!(outside.count() > 0, "{name}: not as wide as it could be");
    }
}

/// Alpha goes with the colours through lens and reduction: what is transparent of a half-plane of rays still is.
#[test]
fn alpha_goes_through_lens_and_reduction_with_the_photo() {
    // The border lies at this x of a ray.
    const BORDER: f64 = 0.05;
    for (id, name, parameters, _) in camera_models() {
        let Lens { folder, scene, parameters: p, f, c } = Lens::new(id, name, parameters);
        let picture = ImageBuffer::from_fn(160, 120, |x, y| {
            let bent = bent([x, y], f, c);
            let ray = if name.ends_with("PINHOLE") { bent } else { undistorted(name, &p, bent) };
            Rgba([9u8, 9, 9, if ray.x > BORDER { 0 } else { 255 }])
        });
        picture.save(folder.path().join("images").join(&scene.views[0].file)).unwrap();
        let view = open(folder.path()).views.remove(0);
        for max_side in [None, Some(80), Some(57)] {
            let mut loaded = Photo::load(&view, max_side).unwrap();
            let mask = loaded.take_mask(&view).unwrap().unwrap_or_else(|| panic!("{name}: no mask"));
            assert_eq!(mask.size(), (loaded.photo.width, loaded.photo.height));
            let border = loaded.camera.k.x_axis.x * BORDER + loaded.camera.k.z_axis.x;
            for (x, y) in (0..mask.size().1).flat_map(|y| (0..mask.size().0).map(move |x| (x, y))) {
                // The nearest stored pixel's middle is up to half a pixel away, and enlarged at most twice.
                if (x as f64 - border).abs() > 1.5 {
                    assert_eq!(mask.is_outside(x, y), x as f64 > border, "{name} {max_side:?} {x} {y}");
                }
            }
        }
    }
}

/// Beyond the radius where the polynomial turns back, a lens would show the photo a second time.
#[test]
fn folded_content_is_not_shown() {
    let folder = TempDir::new().unwrap();
    let mut scene = scene_files::TestScene::new();
    // r (1 - 0.9 r^2) grows up to r = 0.6086, where it is 0.406, or 20.3 px: within the photo.
    scene.model = Some((2, "SIMPLE_RADIAL", vec![50.0, 32.0, 24.0, -0.9]));
    scene.write_colmap_binary(folder.path(), "sparse/0");
    let scene = open(folder.path());
    let lens = scene.views[0].lens.clone().unwrap();
    // The pinhole image stays within that radius, its corner lies on it (to the step of 5e-4 that it is looked for
    // with).
    let corner = 31.5f64.hypot(23.5) / lens.pinhole_k.x_axis.x;
    assert!(corner < 0.6091 && corner > 0.607, "{corner}");
    assert_eq!(Photo::load(&scene.views[0], None).unwrap().notes, Vec::<String>::new());
    let mut wide = lens;
    wide.pinhole_k.x_axis.x = 20.0;
    let beyond = DVec2::new(31.5 + 0.7 * 20.0, wide.pinhole_k.z_axis.y);
    assert_eq!(wide.stored_pixel(beyond), None);
}

/// The area mean of a ramp is the ramp at the area's middle, so that both the mean and the camera show. That is exact
/// for whole factors; an area that cuts pixels sees steps instead of the ramp and errs by up to 1/8 pixel.
#[test]
fn reduction_averages_areas_and_moves_the_camera_along() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ramp.png");
    let (width, height) = (90usize, 70usize);
    let ramp = |u: f64, v: f64| [u / 100.0, v / 80.0, (u + v) / 200.0];
    ImageBuffer::from_fn(width as u32, height as u32, |x, y| {
        Rgb(ramp(f64::from(x), f64::from(y)).map(|v| (v * 65535.0).round() as u16))
    })
    .save(&path)
    .unwrap();
    for (max_side, size) in [(90, (90, 70)), (1000, (90, 70)), (45, (45, 35)), (64, (64, 50)), (7, (7, 5)), (1, (1, 1))]
    {
        let view = view(&path, (width, height));
        let loaded = Photo::load(&view, Some(max_side)).unwrap();
        let photo = &loaded.photo;
        assert_eq!((photo.width, photo.height), size);
        for (i, pixel) in photo.rgb.chunks_exact(3).enumerate() {
            let (x, y) = ((i % photo.width) as f64, (i / photo.width) as f64);
            // The ray of the reduced pixel hits the full photo here.
            let full = view.camera.k * loaded.camera.k.inverse() * DVec3::new(x, y, 1.0);
            for (value, truth) in pixel.iter().zip(ramp(full.x, full.y)) {
                // 2e-5: 16 bits and f32 sums; 1/80 is the steepest ramp's slope.
                let cuts = !width.is_multiple_of(photo.width) || !height.is_multiple_of(photo.height);
                let tolerance = if cuts { 0.125 / 80.0 + 2e-5 } else { 2e-5 };
                assert!((f64::from(*value) - truth).abs() < tolerance, "{max_side}: pixel {x} {y}: {value} {truth}");
            }
        }
    }
    // One half is the mean of 2 x 2 exactly, also where that is not smooth.
    let noise = Photo { width: 8, height: 6, rgb: (0..144).map(|i| (i * 37 % 101) as f32 / 100.0).collect() };
    let half = noise.area_averaged(4, 3);
    for (i, value) in half.rgb.iter().enumerate() {
        let (x, y, c) = (i / 3 % 4, i / 12, i % 3);
        let at = |x: usize, y: usize| noise.rgb[(y * 8 + x) * 3 + c];
        let mean = (at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1)) / 4.0;
        assert!((value - mean).abs() < 1e-6);
    }
}

/// Against a plain f64 loop over the 5 x 5 binomial with mirrored borders, at odd and tiny sizes.
#[test]
fn pyramid_levels_are_binomial() {
    let mirrored = |mut i: i64, n: i64| {
        while n > 1 && !(0..n).contains(&i) {
            i = if i < 0 { -i } else { 2 * (n - 1) - i };
        }
        if n == 1 { 0 } else { i as usize }
    };
    for (width, height) in [(8, 6), (7, 5), (2, 3), (1, 4), (1, 1), (33, 2)] {
        let rgb = (0..width * height * 3).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
        let photo = Photo { width, height, rgb };
        let level = photo.pyramid_level();
        assert_eq!((level.width, level.height), (width.div_ceil(2), height.div_ceil(2)));
        for (i, value) in level.rgb.iter().enumerate() {
            let (x, y, c) = (i / 3 % level.width, i / 3 / level.width, i % 3);
            let mut sum = 0.0;
            for (dy, wy) in [1.0, 4.0, 6.0, 4.0, 1.0].into_iter().enumerate() {
                for (dx, wx) in [1.0, 4.0, 6.0, 4.0, 1.0].into_iter().enumerate() {
                    let u = mirrored((2 * x + dx) as i64 - 2, width as i64);
                    let v = mirrored((2 * y + dy) as i64 - 2, height as i64);
                    sum += wx * wy / 256.0 * f64::from(photo.rgb[(v * width + u) * 3 + c]);
                }
            }
            assert!((f64::from(*value) - sum).abs() < 1e-6, "{width} x {height}: {x} {y}");
        }
    }
}

#[test]
fn padding_repeats_the_edge() {
    let photo = Photo { width: 2, height: 3, rgb: (0..18).map(|i| i as f32).collect() };
    let padded = photo.padded_to_multiple_of_4();
    assert_eq!((padded.width, padded.height), (4, 4));
    let pixel = |x: usize, y: usize| padded.rgb[(y * 4 + x) * 3];
    assert_eq!([pixel(0, 0), pixel(1, 0), pixel(2, 0), pixel(3, 0)], [0.0, 3.0, 3.0, 3.0]);
    assert_eq!([pixel(0, 2), pixel(0, 3), pixel(3, 3)], [12.0, 12.0, 15.0]);
    assert_eq!(padded.padded_to_multiple_of_4(), padded);
}

#[test]
fn photos_of_every_kind_are_decoded() {
    let grey = |x: u32, y: u32| (x * 20 + y * 9) as u16 * 257;
    let (width, height) = (6, 5);
    let g8 = |x, y| (grey(x, y) / 257) as u8;
    let pictures: Vec<(&str, DynamicImage)> = vec![
        ("grey 8", ImageBuffer::from_fn(width, height, |x, y| Luma([g8(x, y)])).into()),
        ("grey 16", ImageBuffer::from_fn(width, height, |x, y| Luma([grey(x, y)])).into()),
        ("grey alpha 8", ImageBuffer::from_fn(width, height, |x, y| LumaA([g8(x, y), 9])).into()),
        ("grey alpha 16", ImageBuffer::from_fn(width, height, |x, y| LumaA([grey(x, y), 9])).into()),
        ("rgb 8", ImageBuffer::from_fn(width, height, |x, y| Rgb([g8(x, y), g8(y, x), 3])).into()),
        ("rgb 16", ImageBuffer::from_fn(width, height, |x, y| Rgb([grey(x, y), grey(y, x), 771])).into()),
        ("rgba 8", ImageBuffer::from_fn(width, height, |x, y| Rgba([g8(x, y), g8(y, x), 3, 9])).into()),
        ("rgba 16", ImageBuffer::from_fn(width, height, |x, y| Rgba([grey(x, y), grey(y, x), 771, 9])).into()),
    ];
    let folder = TempDir::new().unwrap();
    let mut read = 0;
    for (name, picture) in &pictures {
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Jpeg] {
            let mut bytes = Cursor::new(Vec::new());
            // Not every format has every kind of pixel (JPEG and WebP: 8 bits; TIFF's writer: no grey with alpha).
            if picture.write_to(&mut bytes, format).is_err() {
                continue;
            }
            // The extension does not decide: the content does.
            let path = folder.path().join("photo.jpg");
            fs::write(&path, bytes.into_inner()).unwrap();
            let view = view(&path, (6, 5));
            let mut loaded = Photo::load(&view, None).unwrap_or_else(|e| panic!("{name} {format:?}: {e}"));
            // 9 of 255, or of 65535, is transparent.
            let has_alpha = name.contains('a') && format != ImageFormat::Jpeg;
            let mask = loaded.take_mask(&view).unwrap();
            assert_eq!(mask.map(|mask| mask.count()), has_alpha.then_some(30), "{name} {format:?}");
            let photo = loaded.photo;
            // JPEG is lossy; the others keep 8 bits exactly, and these 16-bit values are multiples of 257.
            let tolerance = if format == ImageFormat::Jpeg { 0.15 } else { 1e-6 };
            for (i, pixel) in photo.rgb.chunks_exact(3).enumerate() {
                let (x, y) = (i as u32 % width, i as u32 / width);
                let value = |v: u16| f32::from(v) / 65535.0;
                let grey_value = value(grey(x, y));
                let colour = [grey_value, value(grey(y, x)), value(771)];
                let truth = if name.starts_with("grey") { [grey_value; 3] } else { colour };
                for (a, b) in pixel.iter().zip(truth) {
                    assert!((a - b).abs() <= tolerance, "{name} {format:?} pixel {x} {y}: {pixel:?} {truth:?}");
                }
            }
            read += 1;
        }
    }
    assert!(read >= 18, "only {read} combinations of pixel kind and format could be written");
}

#[test]
fn an_exif_rotation_is_said_and_not_done() {
    let folder = TempDir::new().unwrap();
    let mut scene = scene_files::TestScene::new();
    scene.views.iter_mut().for_each(|v| v.file = format!("{:08}.jpg", v.id));
    scene.write_mvsnet(folder.path(), "2 6");
    let path = folder.path().join("images/00000007.jpg");
    let jpeg = fs::read(&path).unwrap();
    // An APP1 segment with one EXIF entry: orientation (0x0112) = 6, turn by 90 degrees.
    let tiff = [&b"II*\0\x08\0\0\0"[..], &[1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]].concat();
    let length = (2 + 6 + tiff.len()) as u16;
    let with_exif = [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", &tiff, &jpeg[2..]].concat();
    let plain = Photo::load(&open(folder.path()).views[1], None).unwrap().photo;
    fs::write(&path, with_exif).unwrap();
    let scene = open(folder.path());
    let expected = "EXIF asks to rotate 1 of 4 photos: not done, since cameras are for the stored pixels";
    assert!(scene.notes.iter().any(|n| n == expected), "{:?}", scene.notes);
    assert_eq!((scene.views[1].size, Photo::load(&scene.views[1], None).unwrap().photo), ((64, 48), plain));
}
