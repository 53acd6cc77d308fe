//! The test scene in the foreign formats of JSON and XML, written as these are defined.

#![allow(dead_code)] // each test file uses its own part

use std::path::Path;

use glam::{DMat3, DVec3};
use serde_json::{Value, json};

use crate::format_files::{put, rows, words};
use crate::scene_files::{TestScene, TestView};

/// A matrix from the camera with OpenGL's axes to the world, after the world has been turned.
pub fn opengl(view: &TestView, turn: DMat3, shift: DVec3) -> Value {
    let to_world = turn * view.r.transpose();
    let c = turn * -(view.r.transpose() * view.t) + shift;
    let [x, y, z] = [to_world.x_axis, -to_world.y_axis, -to_world.z_axis];
    json!([[x.x, y.x, z.x, c.x], [x.y, y.y, z.y, c.y], [x.z, y.z, z.z, c.z], [0.0, 0.0, 0.0, 1.0]])
}

pub fn frames(scene: &TestScene) -> Value {
    let frame = |v: &TestView| {
        json!({ "file_path": format!("images/{}", v.file), "fl_x": v.k.x_axis.x, "fl_y": v.k.y_axis.y,
                "cx": v.k.z_axis.x + 0.5, "cy": v.k.z_axis.y + 0.5, "w": scene.size.0, "h": scene.size.1,
                "transform_matrix": opengl(v, DMat3::IDENTITY, DVec3::ZERO) })
    };
    json!({ "frames": scene.views.iter().map(frame).collect::<Vec<_>>() })
}

/// A camera of a Metashape chunk whose own transform is `turn`, `scale` and `shift`.
pub fn metashape_camera(i: usize, view: &TestView, turn: DMat3, scale: f64, shift: DVec3) -> String {
    let to_chunk = turn.transpose() * view.r.transpose();
    let c = turn.transpose() * (-(view.r.transpose() * view.t) - shift) / scale;
    let r = rows(to_chunk);
    let matrix: Vec<f64> = (0..3).flat_map(|i| [r[i][0], r[i][1], r[i][2], c[i]]).chain([0.0, 0.0, 0.0, 1.0]).collect();
    let label = Path::new(&view.file).with_extension("");
    let label = label.display();
    format!(
        "<camera id=\"{i}\" sensor_id=\"{i}\" label=\"{label}\"><transform>{}</transform></camera>\n",
        words(&matrix, " ")
    )
}

pub fn metashape(scene: &TestScene, lens: &str) -> String {
    let turn = DMat3::from_rotation_x(0.3) * DMat3::from_rotation_z(-1.1);
    let (scale, shift) = (2.5, DVec3::new(10.0, -4.0, 7.0));
    let mut sensors = String::new();
    let mut cameras = String::new();
    for (i, view) in scene.views.iter().enumerate() {
        let (fx, fy, skew) = (view.k.x_axis.x, view.k.y_axis.y, view.k.y_axis.x);
        // u = w / 2 + cx + ..., where the first pixel's centre is u = 0.5.
        let (width, height) = scene.size;
        let cx = view.k.z_axis.x + 0.5 - f64::from(width) / 2.0;
        let cy = view.k.z_axis.y + 0.5 - f64::from(height) / 2.0;
        sensors += &format!(
            "<sensor id=\"{i}\" label=\"a\" type=\"frame\"><resolution width=\"{width}\" height=\"{height}\"/>\n\
             <calibration type=\"frame\" class=\"initial\"><resolution width=\"{width}\" height=\"{height}\"/>\
             <f>1</f></calibration>\n\
             <calibration type=\"frame\" class=\"adjusted\"><resolution width=\"{width}\" height=\"{height}\"/>\n\
             <f>{fy}</f><cx>{cx}</cx><cy>{cy}</cy><b1>{}</b1><b2>{skew}</b2>{lens}</calibration></sensor>\n",
            fx - fy
        );
        cameras += &metashape_camera(i, view, turn, scale, shift);
    }
    let r: Vec<f64> = rows(turn).concat();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<document version=\"2.0.0\"><chunk label=\"a\" enabled=\"true\">\n\
         <sensors>\n{sensors}</sensors>\n<cameras>\n{cameras}\
         <group id=\"0\"><camera id=\"77\" sensor_id=\"0\" label=\"not aligned\"/></group>\n\
         <camera id=\"78\" sensor_id=\"0\" label=\"off\" enabled=\"false\"><transform>1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\
         </transform></camera>\n</cameras>\n<transform><rotation>{}</rotation><translation>{}</translation>\
         <scale>{scale}</scale></transform>\n</chunk></document>\n",
        words(&r, " "),
        words(&shift.to_array(), " ")
    )
}

/// The same with a region: a box of the world, given by its centre, the directions of its sides as columns, and these.
pub fn metashape_with_region(scene: &TestScene, centre: DVec3, sides: DMat3, size: DVec3) -> String {
    // The inverse of the chunk's transform.
    let turn = DMat3::from_rotation_x(0.3) * DMat3::from_rotation_z(-1.1);
    let (scale, shift) = (2.5, DVec3::new(10.0, -4.0, 7.0));
    let in_chunk = (turn.transpose() * (centre - shift) / scale).to_array();
    let region = format!(
        "<region><center>{}</center><size>{}</size><R>{}</R></region>\n</chunk>",
        words(&in_chunk, " "),
        words(&(size / scale).to_array(), " "),
        words(&rows(turn.transpose() * sides).concat(), " ")
    );
    metashape(scene, "").replace("</chunk>", &region)
}

pub fn openmvg(scene: &TestScene, kind: &str, lens: Value) -> Value {
    let view = |(i, v): (usize, &TestView)| {
        json!({ "key": i, "value": { "polymorphic_id": 1073741824, "ptr_wrapper": { "id": 2147483649u32 + i as u32,
                "data": { "local_path": "", "filename": v.file, "width": scene.size.0, "height": scene.size.1,
                          "id_view": i, "id_intrinsic": i, "id_pose": 10 + i } } } })
    };
    let intrinsic = |(i, v): (usize, &TestView)| {
        let mut data = json!({ "width": scene.size.0, "height": scene.size.1, "focal_length": v.k.x_axis.x,
                               "principal_point": [v.k.z_axis.x, v.k.z_axis.y] });
        data.as_object_mut().unwrap().extend(lens.as_object().unwrap().clone());
        // The name stands with the first object of a type only.
        let mut value = json!({ "polymorphic_id": if i == 0 { 2147483649u32 } else { 1 },
                                "ptr_wrapper": { "id": 2147483700u32 + i as u32, "data": data } });
        if i == 0 {
            value["polymorphic_name"] = json!(kind);
        }
        json!({ "key": i, "value": value })
    };
    let pose = |(i, v): (usize, &TestView)| {
        let centre = -(v.r.transpose() * v.t);
        json!({ "key": 10 + i, "value": { "rotation": rows(v.r), "center": centre.to_array() } })
    };
    let ids: Vec<u32> = scene.views.iter().map(|v| v.id).collect();
    let key = |id: &u32| ids.iter().position(|i| i == id).unwrap();
    let point = |(i, (x, seen)): (usize, &(DVec3, Vec<u32>))| {
        let seen: Vec<Value> =
            seen.iter().map(|id| json!({ "key": key(id), "value": { "id_feat": 1, "x": [1.5, 2.5] } })).collect();
        json!({ "key": i, "value": { "X": x.to_array(), "observations": seen } })
    };
    let all = |f: &dyn Fn((usize, &TestView)) -> Value| scene.views.iter().enumerate().map(f).collect::<Vec<_>>();
    json!({ "sfm_data_version": "0.3", "root_path": "/nowhere/images", "views": all(&view),
            "intrinsics": all(&intrinsic), "extrinsics": all(&pose),
            "structure": scene.points.iter().enumerate().map(point).collect::<Vec<_>>(), "control_points": [] })
}

pub fn opensfm(scene: &TestScene, lens: Value) -> Value {
    let (width, height) = (f64::from(scene.size.0), f64::from(scene.size.1));
    let camera = |v: &TestView| {
        let [x, y] = [v.k.z_axis.x - (width - 1.0) / 2.0, v.k.z_axis.y - (height - 1.0) / 2.0];
        let mut camera = json!({ "projection_type": "brown", "width": scene.size.0, "height": scene.size.1,
            "focal_x": v.k.x_axis.x / width, "focal_y": v.k.y_axis.y / width, "c_x": x / width, "c_y": y / width });
        camera.as_object_mut().unwrap().extend(lens.as_object().unwrap().clone());
        (v.id.to_string(), camera)
    };
    let shot = |v: &TestView| {
        let (axis, angle) = glam::DQuat::from_mat3(&v.r).to_axis_angle();
        let shot = json!({ "rotation": (axis * angle).to_array(), "translation": v.t.to_array(),
                           "camera": v.id.to_string(), "orientation": 1 });
        (v.file.clone(), shot)
    };
    let point = |(i, (x, _)): (usize, &(DVec3, Vec<u32>))| {
        (i.to_string(), json!({ "color": [1.0, 2.0, 3.0], "coordinates": x.to_array() }))
    };
    json!([{ "cameras": {}, "shots": {}, "points": {} },
           { "cameras": scene.views.iter().map(camera).collect::<serde_json::Map<_, _>>(),
             "shots": scene.views.iter().map(shot).collect::<serde_json::Map<_, _>>(),
             "points": scene.points.iter().enumerate().map(point).collect::<serde_json::Map<_, _>>() }])
}

pub fn opensfm_tracks(scene: &TestScene) -> String {
    let mut text = "OPENSFM_TRACKS_VERSION_v2\n".to_owned();
    for (i, (_, seen)) in scene.points.iter().enumerate() {
        for view in scene.views.iter().filter(|view| seen.contains(&view.id)) {
            text += &format!("{}\t{i}\t5\t0.1\t0.2\t0.004\t9\t8\t7\n", view.file);
        }
    }
    text
}

/// In the words of a version, numbers being texts.
pub fn alicevision(scene: &TestScene, version: [u32; 3], lens: Value) -> Value {
    let text = |value: f64| Value::String(value.to_string());
    let (width, height) = (f64::from(scene.size.0), f64::from(scene.size.1));
    let intrinsic = |v: &TestView| {
        let (fx, fy, cx, cy) = (v.k.x_axis.x, v.k.y_axis.y, v.k.z_axis.x, v.k.z_axis.y);
        let mut intrinsic = json!({ "intrinsicId": v.id.to_string(), "width": text(width), "height": text(height),
            "sensorWidth": "36", "sensorHeight": "27", "type": "pinhole", "distortionParams": "", "locked": "0" });
        let fields = match version {
            [1, 0, 0] => json!({ "pxFocalLength": text(fx), "principalPoint": [text(cx), text(cy)] }),
            [1, 2, 0] => json!({ "pxFocalLength": [text(fx), text(fy)], "principalPoint": [text(cx), text(cy)] }),
            [1, 2, 2] => json!({ "focalLength": text(fx * 36.0 / width), "pixelRatio": text(fx / fy),
                                 "principalPoint": [text(cx - width / 2.0), text(cy - height / 2.0)] }),
            _ => json!({ "focalLength": text(fx * 36.0 / width), "pixelRatio": text(fy / fx),
                         "principalPoint": [text(cx - width / 2.0), text(cy - height / 2.0)] }),
        };
        intrinsic.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        intrinsic.as_object_mut().unwrap().extend(lens.as_object().unwrap().clone());
        intrinsic
    };
    let pose = |v: &TestView| {
        let centre = -(v.r.transpose() * v.t);
        // Column by column.
        let r: Vec<Value> = v.r.to_cols_array().map(text).to_vec();
        json!({ "poseId": v.id.to_string(), "pose": { "transform": { "rotation": r,
                "center": centre.to_array().map(text) }, "locked": "0" } })
    };
    let view = |v: &TestView| {
        json!({ "viewId": v.id.to_string(), "poseId": v.id.to_string(), "intrinsicId": v.id.to_string(),
                "path": format!("C:\\photos\\images\\{}", v.file), "width": text(width), "height": text(height),
                "metadata": {} })
    };
    let point = |(i, (x, seen)): (usize, &(DVec3, Vec<u32>))| {
        let seen: Vec<Value> = seen
            .iter()
            .map(|id| json!({ "observationId": id.to_string(), "featureId": "1", "x": ["1.5", "2"], "scale": "1" }))
            .collect();
        json!({ "landmarkId": i.to_string(), "descType": "sift", "color": ["1", "2", "3"],
                "X": x.to_array().map(text), "observations": seen })
    };
    let mut views: Vec<Value> = scene.views.iter().map(view).collect();
    views.push(json!({ "viewId": "99", "poseId": "99", "intrinsicId": "3", "path": "unregistered.png" }));
    json!({ "version": version.map(|n| n.to_string()), "views": views,
            "intrinsics": scene.views.iter().map(intrinsic).collect::<Vec<_>>(),
            "poses": scene.views.iter().map(pose).collect::<Vec<_>>(),
            "structure": scene.points.iter().enumerate().map(point).collect::<Vec<_>>() })
}

/// Below `images/`, as RealityCapture writes them beside the photos.
pub fn write_xmp(scene: &TestScene, root: &Path, coefficients: &[f64; 6]) {
    let (width, height) = (f64::from(scene.size.0), f64::from(scene.size.1));
    for v in &scene.views {
        let centre = -(v.r.transpose() * v.t);
        let text = format!(
            "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
             <rdf:Description xmlns:xcr=\"http://www.capturingreality.com/ns/xcr/1.1#\" xcr:Version=\"3\"\n\
             xcr:PosePrior=\"locked\" xcr:DistortionModel=\"brown4t2\" xcr:FocalLength35mm=\"{}\" xcr:Skew=\"0\"\n\
             xcr:AspectRatio=\"{}\" xcr:PrincipalPointU=\"{}\" xcr:PrincipalPointV=\"{}\">\n\
             <xcr:Rotation>{}</xcr:Rotation><xcr:Position>{}</xcr:Position>\n\
             <xcr:DistortionCoeficients>{}</xcr:DistortionCoeficients>\n</rdf:Description></rdf:RDF></x:xmpmeta>\n",
            v.k.x_axis.x * 36.0 / width,
            v.k.y_axis.y / v.k.x_axis.x,
            (v.k.z_axis.x - (width - 1.0) / 2.0) / width,
            (v.k.z_axis.y - (height - 1.0) / 2.0) / width,
            words(&rows(v.r).concat(), " "),
            words(&centre.to_array(), " "),
            words(coefficients, " "),
        );
        put(&root.join("images").join(Path::new(&v.file).with_extension("xmp")), text);
    }
}
