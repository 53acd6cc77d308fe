//! Cameras of other programs.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use glam::{DMat3, DVec3};
use serde_json::json;

use crate::format_files::*;
use crate::format_opf::write_opf;
use crate::format_trees::*;
use crate::scene_files::TestScene;
use crate::spoilt_scenes::{edit, truncate};
use crate::table::{Case, Group, spoilt, told};

const INFER: &str = "infer scene -o out --levels 1 --resolution quarter --planes 8 --threads 1";

/// Cases that put one text in the place of another, each with what to do.
macro_rules! edits {
    ($file:literal; $($advice:literal: $from:literal => $to:literal;)*) => {
        vec![$(spoilt($advice, |root| edit(root, $file, $from, $to))),*]
    };
}

fn group(title: &'static str, write: fn(&Path), cases: Vec<Case>) -> Group {
    Group { title, advice: "export the cameras again", write, run: INFER, cases }
}

fn file(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    TestScene::new().write_photos(&root.join("scene"));
    put(&root.join("scene").join(name), bytes);
}

fn write_transforms(root: &Path) {
    let mut written = frames(&TestScene::new());
    written["applied_scale"] = json!(1.0);
    file(root, "transforms.json", written.to_string());
}

fn write_bundler(root: &Path) {
    file(root, "bundle.out", bundler(&centred(), &[Some(0), Some(1), Some(2), Some(3)], [0.0; 2]));
    let list: String = TestScene::new().views.iter().map(|v| format!("images/{}\n", v.file)).collect();
    put(&root.join("scene/list.txt"), list);
}

fn write_opensfm(root: &Path) {
    file(root, "reconstruction.json", opensfm(&TestScene::new(), json!({})).to_string());
    put(&root.join("scene/tracks.csv"), opensfm_tracks(&TestScene::new()));
}

fn write_alicevision(root: &Path) {
    file(root, "cameras.sfm", alicevision(&TestScene::new(), [1, 2, 5], json!({})).to_string());
}

fn write_opf_scene(root: &Path) {
    square().write_photos(&root.join("scene"));
    write_opf(&square(), &root.join("scene"), json!({}));
}

fn opf_cases() -> Vec<Case> {
    let mut cases = edits! { "scene/project.opf"; "": "opf-camera-list+json" => "opf-list+json"; };
    cases.extend(edits! { "scene/calibrated-cameras.json";
        "": "\"sensor_id\":7" => "\"sensor_id\":99";
        "": "\"id\":10000000007" => "\"id\":10000000003";
        "": "\"type\":\"perspective\"" => "\"type\":\"rolling\"";
        "": "\"type\":\"perspective\"" => "\"type\":\"fisheye\"";
        "undistort the photos first":
            "\"type\":\"perspective\"" => "\"affine\":[1,0,2,1],\"polynomial\":[0,1],\"type\":\"fisheye\"";
        "undistort the photos first":
            "\"type\":\"perspective\"" => "\"affine\":[1,0,0,1],\"polynomial\":[1,1],\"type\":\"fisheye\"";
        "": "\"focal_length_px\":" => "\"f\":";
    });
    cases.extend(edits! { "scene/tracks.gltf";
        "": "\"type\":\"VEC3\"" => "\"type\":\"VEC2\"";
        "": "\"count\":200" => "\"count\":201";
        "": "\"pointIndexRanges\":2" => "\"pointIndexRanges\":9";
        "": "\"bufferView\":0" => "\"bufferView\":7";
        "": "\"byteLength\":2400,\"byteOffset\":0" => "\"byteLength\":2400,\"byteStride\":8";
        "": "\"cameraUids\":[" => "\"cameraUids\":[],\"c\":[";
    });
    cases.push(spoilt("", |root| {
        let mut ranges = fs::read(root.join("scene/ranges.bin")).unwrap();
        ranges.chunks_exact_mut(8).for_each(|range| range.copy_from_slice(&[0, 0, 0, 0, 100, 0, 0, 0]));
        fs::write(root.join("scene/ranges.bin"), ranges).unwrap();
    }));
    cases
}

fn write_openmvg(root: &Path) {
    file(root, "sfm_data.json", openmvg(&square(), "pinhole", json!({})).to_string());
}

fn write_scenes(root: &Path) {
    let scene = TestScene::new();
    for v in &scene.views {
        file(root, &format!("frame-{:06}.pose.txt", v.id), pose_file(v));
    }
    let k = words(&rows(scene.views[0].k).concat(), " ");
    put(&root.join("scene/camera-intrinsics.txt"), k);
}

fn write_strecha(root: &Path) {
    let scene = TestScene::new();
    for v in &scene.views {
        file(root, &format!("{}.camera", v.file), camera_file(v, scene.size));
    }
}

fn json_groups() -> Vec<Group> {
    let mut transforms = edits! { "scene/transforms.json";
        "": "\"frames\"" => "\"pictures\"";
        "write focal lengths": "\"fl_x\":" => "\"fl_x\":-";
        "": "[0.0,0.0,0.0,1.0]" => "[0.0,0.0,1.0,1.0]";
        "": "[0.0,0.0,0.0,1.0]" => "[0.0,0.0,0.0,1.0],[0.0,0.0,0.0,1.0]";
        "name each photo once": "00000007.png" => "00000003.png";
        "": "\"w\":64" => "\"w\":64.5";
        "convert the photos to a pinhole camera": "\"w\":64" => "\"camera_model\":\"LATLONG\",\"w\":64";
        "name the model": "\"w\":64" => "\"k6\":0.5,\"w\":64";
        "name the model": "\"w\":64" => "\"s1\":0.1,\"k4\":0.5,\"w\":64";
        "": "\"w\":64" => "\"tau_x\":2.5,\"w\":64";
        "": "\"applied_scale\":1.0" => "\"applied_scale\":0";
        "name photos that are there": "00000007.png" => "a/00000003.png";
        "": "\"w\":64" => "\"k1\":\"inf\",\"w\":64";
        "": "\"applied_scale\":1.0" => "\"integer_depth_scale\":0";
    };
    transforms.push(spoilt("", |root| {
        edit(root, "scene/transforms.json", "\"fl_x\"", "\"f\"");
        edit(root, "scene/transforms.json", "\"fl_y\"", "\"g\"");
    }));
    transforms.push(spoilt("give --images", |root| fs::remove_dir_all(root.join("scene/images")).unwrap()));
    transforms.push(told("give the name of a folder", "infer scene -o out --images nowhere"));
    transforms.push(told("leave --format away", "infer scene -o out --format nvm"));
    let openmvg = edits! { "scene/sfm_data.json";
        "": "\"polymorphic_name\":\"pinhole\"" => "\"polymorphic_name\":\"toric\"";
        "": "\"width\":64" => "\"width\":65";
    };
    let opensfm = {
        let mut cases = edits! { "scene/reconstruction.json";
            "": "\"camera\":\"7\"" => "\"camera\":\"6\"";
            "": "\"focal_x\"" => "\"f\"";
            "": "\"projection_type\":\"brown\"" => "\"projection_type\":\"dual\"";
            "": "\"00000007.png\":" => "\"00000003.png\":";
        };
        cases.push(spoilt("", |root| fs::write(root.join("scene/reconstruction.json"), "[]").unwrap()));
        cases.push(spoilt("", |root| fs::write(root.join("scene/tracks.csv"), "x\n").unwrap()));
        cases.push(spoilt("correct the place, or remove the file", |root| {
            put(&root.join("scene/reference_lla.json"), r#"{"latitude": 91, "longitude": 7, "altitude": 0}"#);
        }));
        cases
    };
    let alicevision = edits! { "scene/cameras.sfm";
        "undistort the photos first (PrepareDenseScene)": "\"type\":\"pinhole\"" => "\"type\":\"3deanamorphic4\"";
        "undistort the photos first (PrepareDenseScene)":
            "\"type\":\"pinhole\"" => "\"undistortionType\":\"3deradial4\",\"type\":\"pinhole\"";
        "": "\"sensorWidth\":\"36\"" => "\"sensorWidth\":\"0\"";
    };
    let open3d = edits! { "scene/trajectory.json";
        "": "\"intrinsic_matrix\":[" => "\"intrinsic_matrix\":[1.0,0.5,0.0,0.0,1.0,0.0,0.0,0.0,1.0],\"k\":[";
    };
    vec![
        group("transforms.json", write_transforms, transforms),
        group("OpenMVG", write_openmvg, openmvg),
        group("OpenSfM", write_opensfm, opensfm),
        group("AliceVision", write_alicevision, alicevision),
        group("Pix4D's OPF", write_opf_scene, opf_cases()),
        group("Open3D", |root| file(root, "trajectory.json", trajectory(&TestScene::new()).to_string()), open3d),
    ]
}

fn xml_groups() -> Vec<Group> {
    let mut cases_of_metashape = edits! { "scene/cameras.xml";
        "": "<k1>0.1</k1>" => "<k1>nan</k1>";
        "": "<k1>0.1</k1>" => "<k1></k1>";
        "": "sensor_id=\"1\"" => "sensor_id=\"9\"";
        "": "width=\"64\" height=\"48\"/>\n<f>" => "width=\"wide\" height=\"48\"/>\n<f>";
        "": "<scale>2.5" => "<scale>0";
        "": " 0 0 0 1<" => " 0 0 1 1<";
        "convert the photos to a pinhole camera":
            "type=\"frame\" class=\"adjusted\"" => "type=\"cylindrical\" class=\"adjusted\"";
        "": "</chunk>" => "</chink>";
        "": "label=\"00000007\"" => "label=\"\"";
        "": "<R>" => "<R>1 ";
        "": "<R>" => "<R>7";
    };
    cases_of_metashape.push(spoilt("export the cameras with the places of sensors in their rig", |root| {
        edit(root, "scene/cameras.xml", "label=\"00000007\"><transform>", "label=\"00000007\" master_id=\"0\"><t>");
        let text = fs::read_to_string(root.join("scene/cameras.xml")).unwrap();
        let (before, after) = text.split_once("<t>").unwrap();
        let after = after.replacen("</transform>", "</t>", 1);
        fs::write(root.join("scene/cameras.xml"), format!("{before}<t>{after}")).unwrap();
    }));
    let in_xml = |spoil| spoilt("", spoil);
    cases_of_metashape.extend([
        in_xml(|root| {
            edit(root, "scene/cameras.xml", "<f>70", "<g>70");
            edit(root, "scene/cameras.xml", "</f><cx>", "</g><cx>");
        }),
        in_xml(|root| {
            edit(root, "scene/cameras.xml", "<calibration type=\"frame\" class=\"initial\">", "<before>");
            edit(root, "scene/cameras.xml", "</calibration>", "</before>");
            edit(root, "scene/cameras.xml", "<calibration type=\"frame\" class=\"adjusted\">", "<after>");
            edit(root, "scene/cameras.xml", "</calibration>", "</after>");
        }),
        in_xml(|root| {
            (0..3).for_each(|_| edit(root, "scene/cameras.xml", "<resolution width=\"64\" height=\"48\"/>", ""));
        }),
        in_xml(|root| {
            edit(root, "scene/cameras.xml", "<center>", "<middle>");
            edit(root, "scene/cameras.xml", "</center>", "</middle>");
        }),
        Case { run: Some("infer scene -o out --poses camera-to-world"), ..spoilt("leave --poses out", |_| ()) },
        Case {
            run: Some("infer scene -o out --roi scene/cameras.xml"),
            ..spoilt("draw the region in Metashape", |root| {
                edit(root, "scene/cameras.xml", "<region>", "<nothing>");
                edit(root, "scene/cameras.xml", "</region>", "</nothing>");
            })
        },
    ]);
    let mut realitycapture = edits! { "scene/images/00000007.xmp";
        "": "Skew=\"0\"" => "Skew=\"0.1\"";
        "": "FocalLength35mm=\"" => "FocalLength35mm=\"-";
        "undistort the photos first": "brown4t2" => "division";
        "": "rdf:Description " => "rdf:Nothing ";
    };
    realitycapture.push(spoilt("", |root| {
        edit(root, "scene/images/00000007.xmp", "rdf:Description ", "rdf:Nothing ");
        edit(root, "scene/images/00000007.xmp", "/rdf:Description", "/rdf:Nothing");
    }));
    const COLUMNS: &str = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2";
    realitycapture.push(spoilt("", |root| put(&root.join("scene/a.csv"), format!("{COLUMNS}\na.png,1,2\n"))));
    realitycapture.push(spoilt("", |root| put(&root.join("scene/a.csv"), format!("{COLUMNS},t3\n"))));
    vec![
        group(
            "Metashape",
            |root| {
                let text = metashape_with_region(&TestScene::new(), DVec3::ZERO, DMat3::IDENTITY, DVec3::ONE);
                file(root, "cameras.xml", text.replace("</b2>", "</b2><k1>0.1</k1>"));
            },
            cases_of_metashape,
        ),
        group(
            "RealityCapture",
            |root| {
                TestScene::new().write_photos(&root.join("scene"));
                write_xmp(&TestScene::new(), &root.join("scene"), &[0.1; 6]);
            },
            realitycapture,
        ),
    ]
}

fn text_groups() -> Vec<Group> {
    let bundler = edits! { "scene/bundle.out";
        "": "4 200" => "5 200";
        "": "4 200" => "4 201";
        "": "4 200" => "4 199";
        "": "70 0 0" => "70 inf 0";
        "": "2 0 3 0.5" => "2 7 3 0.5";
        "": "2 0 3 0.5" => "two 0 3 0.5";
    };
    let nvm = edits! { "scene/all.nvm";
        "": "NVM_V3" => "NVM_V2";
        "": "NVM_V3" => "NVM_V3 Tilted";
        "": " 0.1 0\n" => " 0.1\n";
        "": "NVM_V3\n\n2\n" => "NVM_V3\n\n0\n";
        "": "NVM_V3\n\n2\n" => "NVM_V3\n\ntwo\n";
        "": "\n\n0\n" => "\n\nnone\n";
        "": "-0.5\n\n0\n" => "-0.5 7\n\n0\n";
    };
    let strecha = edits! { "scene/00000007.png.camera";
        "": "0 0 0\n" => "0 0.1 0\n";
        "": "0 0 1\n" => "0 0 2\n";
    };
    let middlebury = edits! { "scene/scene_par.txt"; "": "4\n" => "3\n"; "": " 0 0 1 " => " 0 0 2 "; };
    let scenes = edits! { "scene/frame-000007.pose.txt"; "": "0 0 0 1" => "0 0 1 1"; };
    let log = edits! { "scene/a.log"; "": "1 1 2" => "x 1 2"; };
    let mut kapture = edits! { "scene/sensors/trajectories.txt";
        "": "2, rig, " => "2, rig, 0, 0, 0, 0, ";
        "": "2, rig, " => "2 rig ";
    };
    kapture.push(spoilt("", |root| edit(root, "scene/sensors/records_camera.txt", "cam1", "cam9")));
    kapture.push(spoilt("", |root| fs::write(root.join("scene/sensors/trajectories.txt"), "").unwrap()));
    kapture.push(spoilt("undistort with `colmap image_undistorter`", |root| {
        edit(root, "scene/sensors/sensors.txt", "PINHOLE", "UNKNOWN_CAMERA");
    }));
    vec![
        group("Bundler", write_bundler, bundler),
        group("VisualSFM", |root| file(root, "all.nvm", nvm_file()), nvm),
        group("Strecha's benchmark", write_strecha, strecha),
        group("Middlebury's multi-view data", |root| file(root, "scene_par.txt", par(&TestScene::new())), middlebury),
        group("7-Scenes", write_scenes, scenes),
        group("Open3D's log", |root| file(root, "a.log", log_file()), log),
        group(
            "kapture",
            |root| {
                TestScene::new().write_photos(&root.join("scene/sensors/records_data"));
                write_kapture(&TestScene::new(), &root.join("scene"));
            },
            kapture,
        ),
    ]
}

/// An archive of NumPy's with one matrix, stored as it is.
fn archive(name: &str, matrix: [f64; 16]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file(format!("{name}.npy"), options).unwrap();
    archive.write_all(&npy(&[4, 4], &matrix, true)).unwrap();
    archive.finish().unwrap().into_inner()
}

/// Lists of source views beside cameras.
fn listed() -> Group {
    fn write(root: &Path) {
        file(root, "scene.mvs", openmvs(&TestScene::new(), 5));
    }
    let list = |spoil| spoilt("correct the list, or take it away to have source views selected", spoil);
    let cases = vec![
        list(|root| put(&root.join("scene/pair.txt"), "1\n77\n1 0 2.5\n")),
        list(|root| put(&root.join("scene/stereo/patch-match.cfg"), "00000003.png\n")),
        list(|root| put(&root.join("scene/stereo/patch-match.cfg"), "00000003.png\n__auto__, many\n")),
    ];
    group("Lists of source views", write, cases)
}

fn nvm_file() -> String {
    nvm(&centred(), 0.1)
}

fn log_file() -> String {
    let views = uniform().views;
    views.iter().enumerate().map(|(i, v)| format!("{i} {i} {}\n{}\n", i + 1, pose_file(v))).collect()
}

fn binary_groups() -> Vec<Group> {
    vec![
        group(
            "OpenMVS",
            |root| file(root, "scene.mvs", openmvs(&TestScene::new(), 5)),
            vec![
                spoilt("", |root| truncate(root, "scene/scene.mvs", 300)),
                spoilt("", |root| fs::write(root.join("scene/scene.mvs"), b"MVS\0and more").unwrap()),
                spoilt("", |root| fs::write(root.join("scene/scene.mvs"), b"MVSI\x09\0\0\0\0\0\0\0").unwrap()),
                spoilt("", |root| {
                    // The pose of the first image stands after its platform and its camera.
                    let file = root.join("scene/scene.mvs");
                    let mut bytes = fs::read(&file).unwrap();
                    let name = b"images/00000003.png";
                    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 8 + 8;
                    bytes[at] = 99;
                    fs::write(file, bytes).unwrap();
                }),
                spoilt("", |root| file(root, "scene.mvs", openmvs_with(&TestScene::new(), 7, &[], &[&[(9, 1.0)]]))),
                spoilt("", |root| {
                    file(root, "scene.mvs", openmvs_with(&TestScene::new(), 7, &[], &[&[(1, f32::NAN)]]))
                }),
                spoilt("make the mask of the photo as it is stored", |root| {
                    file(root, "scene.mvs", openmvs_with(&TestScene::new(), 5, &["mask.png"], &[]));
                    image::GrayImage::new(40, 48).save(root.join("scene/mask.png")).unwrap();
                }),
            ],
        ),
        group(
            "LLFF",
            |root| file(root, "poses_bounds.npy", poses_bounds(&centred())),
            vec![
                spoilt("", |root| truncate(root, "scene/poses_bounds.npy", 300)),
                spoilt("", |root| {
                    fs::write(root.join("scene/poses_bounds.npy"), npy(&[2, 2], &[0.0; 4], true)).unwrap()
                }),
                spoilt("take the photo without a camera away", |root| {
                    let at = |name: &str| root.join("scene/images").join(name);
                    fs::copy(at("00000007.png"), at("00000009.png")).unwrap();
                }),
            ],
        ),
        group(
            "IDR and NeuS",
            |root| file(root, "cameras.npz", cameras_npz(&TestScene::new(), true)),
            vec![
                spoilt("", |root| truncate(root, "scene/cameras.npz", 300)),
                spoilt("", |root| put(&root.join("scene/cameras.npz"), archive("matrix", [1.0; 16]))),
                spoilt("", |root| put(&root.join("scene/cameras.npz"), archive("world_mat_0", [1.0; 16]))),
                spoilt("", |root| {
                    put(&root.join("scene/cameras.npz"), {
                        // The array's bytes, which the archive has a sum of.
                        let mut bytes = archive("world_mat_0", [1.5; 16]);
                        let at = bytes.windows(8).position(|w| w == 1.5f64.to_le_bytes()).unwrap();
                        bytes[at] ^= 1;
                        bytes
                    })
                }),
            ],
        ),
    ]
}

pub fn groups() -> Vec<Group> {
    [json_groups(), xml_groups(), text_groups(), binary_groups(), vec![listed()]].into_iter().flatten().collect()
}
