//! Scenes to spoil, ways to spoil them, and the comparison with the line that must come of it.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::path::Path;

use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

use super::scene_files::TestScene;

pub fn mvsnet(root: &Path) {
    TestScene::new().write_mvsnet(root, "2 6");
}

pub fn binary(root: &Path) {
    TestScene::new().write_colmap_binary(root, "sparse/0");
}

pub fn text(root: &Path) {
    TestScene::new().write_colmap_text(root, "sparse/0");
}

pub fn with_camera(model: i32, name: &'static str, parameters: &[f64]) -> TestScene {
    TestScene { model: Some((model, name, parameters.to_vec())), ..TestScene::new() }
}

/// Replaces the first `from` in a text file.
pub fn edit(root: &Path, file: &str, from: &str, to: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`:\n{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Replaces line `line` (from 1) of a text file.
pub fn edit_line(root: &Path, file: &str, line: usize, to: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[line - 1] = to;
    fs::write(path, lines.join("\n")).unwrap();
}

pub fn truncate(root: &Path, file: &str, length: usize) {
    let path = root.join(file);
    let bytes = fs::read(&path).unwrap();
    assert!(length < bytes.len(), "{file} has only {} bytes", bytes.len());
    fs::write(path, &bytes[..length]).unwrap();
}

/// Overwrites bytes of a binary file.
pub fn patch(root: &Path, file: &str, at: usize, bytes: &[u8]) {
    let path = root.join(file);
    let mut all = fs::read(&path).unwrap();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, all).unwrap();
}

/// Opens the scene and loads every photo, as a run would.
pub fn use_scene(root: &Path) -> engine::Result<()> {
    let mut scene = Scene::open(root, &OpenOptions::default())?;
    scene.select_sources();
    for (i, view) in scene.views.iter().enumerate() {
        scene.tracks().point_depth_range(i, 0.1);
        Photo::load(view, Some(32))?;
    }
    Ok(())
}

/// A name, what breaks a scene, and the line that says so, without where.
pub type Case = (&'static str, fn(&Path), &'static str);

/// Breaks the scene that `write` writes in one way after the other; all lines begin with `place`.
pub fn check(write: fn(&Path), place: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, spoil, expected) in cases {
        let folder = TempDir::new().unwrap();
        write(folder.path());
        spoil(folder.path());
        let message = match use_scene(folder.path()) {
            Ok(()) => "no error".to_owned(),
            Err(error) => error.to_string().replace(&folder.path().display().to_string(), "SCENE"),
        };
        assert!(!message.contains('\n'), "{name}: more than one line: {message}");
        let expected = format!("{place}{expected}");
        if message != expected {
            wrong.push(format!("{name}\n  says     {message}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub const NOTHING: fn(&Path) = |_| {};
