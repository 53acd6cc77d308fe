//! The manifest as later commands read it, and the records beside the maps.

use engine::manifest::{MANIFEST, Manifest};

use super::*;

/// Reads the text as a manifest, and what it is when it is written again.
fn read(text: &str) -> (Manifest, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(MANIFEST);
    fs::write(&file, text).unwrap();
    let manifest = Manifest::read(folder.path()).unwrap().unwrap();
    manifest.write().unwrap();
    (manifest, fs::read_to_string(&file).unwrap())
}

#[test]
fn a_manifest_is_written_as_it_was_read() {
    let golden = include_str!("../data/manifest.json");
    let (manifest, again) = read(golden);
    assert_eq!(again, golden);
    assert_eq!((manifest.schema, manifest.views.len(), manifest.max_side()), (1, 2, Some(128)));

    // What a run of today writes has the same fields in the same order.
    let place = Place::new();
    place.infer("out", &["--levels", "1", "--view", NAMES[0], "--view", NAMES[1], "--quiet"]).done();
    let fields = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|l| l.trim_start().strip_prefix('"')?.split_once("\": "));
        let of_stages = ["stage", "what", "bytes"];
        names.map(|(name, _)| name.to_owned()).filter(|name| !of_stages.contains(&name.as_str())).collect()
    };
    let today = fs::read_to_string(place.path("out").join(MANIFEST)).unwrap();
    assert_eq!(read(&today).1, today);
    let (mut today, mut before) = (fields(&today), fields(golden));
    // The golden run took one view's map from an earlier run, and so loaded one photo less.
    for fields in [&mut today, &mut before] {
        fields.retain(|name| !["decoding", "features", "photo_seconds"].contains(&name.as_str()));
    }
    assert_eq!(today, before);
}

#[test]
fn manifests_of_other_versions_are_read() {
    let golden: Value = serde_json::from_str(include_str!("../data/manifest.json")).unwrap();
    let mut old = golden.clone();
    old.as_object_mut().unwrap().remove("schema");
    let mut expected = read(&golden.to_string()).0;
    let found = read(&old.to_string()).0;
    (expected.schema, expected.folder) = (0, found.folder.clone());
    assert_eq!(found, expected);

    let mut newer = golden.clone();
    newer["schema"] = 7.into();
    newer["weather"] = "rain".into();
    newer["views"][0]["depth"]["weather"] = "sun".into();
    let found = read(&newer.to_string()).0;
    (expected.schema, expected.folder) = (7, found.folder.clone());
    assert_eq!(found, expected);
}

#[test]
fn records_of_other_versions_are_not_taken_for_this_ones() {
    let place = Place::new();
    let options = ["--levels", "1", "--json"];
    place.infer("out", &options).done();
    let change = |name: &str, change: &dyn Fn(&mut Value)| {
        let file = place.path("out/levels/0").join(format!("{name}.json"));
        let mut record = json(&file);
        change(&mut record["made_by"]);
        fs::write(file, record.to_string()).unwrap();
    };
    change(NAMES[0], &|made_by| drop(made_by.as_object_mut().unwrap().remove("schema")));
    change(NAMES[1], &|made_by| made_by["schema"] = 1.into());
    change(NAMES[2], &|made_by| made_by["weather"] = "rain".into());
    change(NAMES[3], &|_| ());
    let mut again: Vec<String> = computed(&place.infer("out", &options).done()).into_iter().map(|c| c.0).collect();
    again.sort();
    assert_eq!(again, &NAMES[..3]);
}
