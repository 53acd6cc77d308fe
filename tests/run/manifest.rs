//! The manifest as later commands read it, and the records beside the maps.

use engine::fusion::settings::{FusionOptions, Guard, Method, Reprojection};
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

/// Where every field of a JSON value stands; of a list, those of its first element.
fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(all) => {
            for (name, value) in all {
                fields(value, &format!("{at}/{name}"), found);
                found.push(format!("{at}/{name}"));
            }
        }
        Value::Array(all) => all.iter().take(1).for_each(|first| fields(first, &format!("{at}/0"), found)),
        _ => {}
    }
}

/// Takes a field out and gives what it was.
fn take(value: &mut Value, field: &str) -> Option<Value> {
    let (folder, name) = field.rsplit_once('/').unwrap();
    value.pointer_mut(folder)?.as_object_mut()?.remove(name)
}

/// Whether nothing is said: `null`, 0, or a list or an object of nothing else.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Array(all) => all.iter().all(says_nothing),
        Value::Object(all) => all.values().all(says_nothing),
        Value::Number(number) => number.as_f64() == Some(0.0),
        value => [Value::Null, Value::Bool(false), "".into()].contains(value),
    }
}

#[test]
fn a_manifest_may_lack_any_field_that_the_first_version_did_not_have() {
    // What there was from the first version on, or since its object was there, and that nothing else tells.
    const FUNNEL: &str = "pixels in_range near_end far_end confident agreed kept duplicates fused";
    const ALWAYS: [(&str, &str); 10] = [
        ("", "command"),
        ("/machine/memory_planned", "stages"),
        ("/machine/memory_planned/stages/0", "stage parts"),
        ("/machine/memory_planned/stages/0/parts/0", "what bytes"),
        ("/views/0/depth", "range planes sampling"),
        ("/views/0/depth/range", "near far"),
        ("/views/0/depth/photo_seconds", "decoding features"),
        ("/views/0/funnel", FUNNEL),
        ("/funnel", FUNNEL),
        ("/cloud", "double offset"),
    ];
    let golden: Value = serde_json::from_str(include_str!("../data/manifest.json")).unwrap();
    let mut all = Vec::new();
    fields(&golden, "", &mut all);
    let names = ALWAYS.iter().flat_map(|(at, names)| names.split(' ').map(move |name| format!("{at}/{name}")));
    let always: Vec<String> = names.collect();
    assert!(all.len() > 90 && always.iter().all(|field| all.iter().any(|other| other == field)), "{}", all.len());
    for field in &all {
        let mut less = golden.clone();
        take(&mut less, field).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), less.to_string()).unwrap();
        let found = Manifest::read(folder.path());
        if always.contains(field) {
            let (message, name) = (found.unwrap_err().to_string(), field.rsplit('/').next().unwrap());
            assert!(message.contains(&format!("missing field `{name}`")) || name == "command", "{field}: {message}");
            continue;
        }
        let mut found = serde_json::to_value(found.unwrap().unwrap()).unwrap();
        let instead = take(&mut found, field);
        assert!(instead.as_ref().is_none_or(says_nothing), "{field}: {instead:?}");
        // Where it was all that its object had, that is gone, too.
        assert_eq!(found, less, "{field}");
    }
}

#[test]
fn parameters_of_earlier_versions_mean_what_these_did() {
    let golden: Manifest = serde_json::from_str(include_str!("../data/manifest.json")).unwrap();
    let now = FusionOptions::of_run(&golden.parameters).unwrap();
    let Method::Reprojection(Reprojection { thresholds, keep_duplicates: false, guard }) = now.method else {
        panic!("{now:?}");
    };
    assert_eq!(guard, Guard::default());
    let of =
        |guard: Guard| FusionOptions::reprojection(0.1, Reprojection { thresholds, keep_duplicates: false, guard });
    // A rule that the version did not have.
    let rules = [
        ("min_segment_px", Guard { min_segment_px: 0.0, ..guard }),
        ("min_angle_deg", Guard { min_angle_deg: 0.0, ..guard }),
        ("see_through_factor", Guard { see_through_factor: 0.0, ..guard }),
        ("max_depth_error_px", Guard { max_depth_error_px: 0.0, ..guard }),
        ("max_normal_deg", Guard { max_normal_deg: 180.0, ..guard }),
        ("mean_colour", Guard { mean_colour: false, ..guard }),
    ];
    let Value::Object(written) = serde_json::to_value(guard).unwrap() else { panic!() };
    assert_eq!(written.keys().collect::<Vec<_>>(), rules.each_ref().map(|(name, _)| *name), "a rule for each field");
    let mut oldest = golden.parameters.clone();
    for (name, without) in rules {
        let mut less = golden.parameters.clone();
        less.remove(name).unwrap();
        oldest.remove(name);
        assert_eq!(FusionOptions::of_run(&less).unwrap(), of(without), "{name}");
    }
    // Before there were several methods, none had a name.
    oldest.remove("method").unwrap();
    assert_eq!(FusionOptions::of_run(&oldest).unwrap(), of(Guard::OFF));
    for name in ["min_confidence", "max_reprojection_px", "max_depth_error_rel", "min_views", "keep_duplicates"] {
        let mut less = golden.parameters.clone();
        less.remove(name).unwrap();
        let message = FusionOptions::of_run(&less).unwrap_err().to_string();
        assert_eq!(message, format!("missing field `{name}`"));
    }
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
