//! The page as HTML.

use std::collections::HashSet;
use std::fs;

use base64::Engine;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::page_reading::Page;
use crate::plane_run::Run;
use crate::plane_scene::{self, NAMES};
use crate::program::{engine, json as read_json, text};

/// What is wrong with a page for a browser, for who cannot see it, and for who has no net.
fn problems(page: &Page) -> Vec<String> {
    let mut problems = page.errors.clone();
    let mut ids = HashSet::new();
    for id in page.elements.iter().map(|e| e.attribute("id")).filter(|id| !id.is_empty()) {
        if !ids.insert(id) {
            problems.push(format!("#{id} is there twice"));
        }
    }
    for element in &page.elements {
        let mut named: Vec<&str> = Vec::new();
        for attribute in ["aria-labelledby", "aria-describedby", "for"] {
            named.extend(element.attribute(attribute).split_whitespace());
        }
        named.extend(element.attribute("href").strip_prefix('#'));
        problems.extend(named.into_iter().filter(|id| !ids.contains(id)).map(|id| format!("#{id} is not there")));
        for attribute in ["src", "href"] {
            let value = element.attribute(attribute);
            if !value.is_empty() && !value.starts_with("data:") && !value.starts_with('#') {
                problems.push(format!("{attribute}={value} leads out of the page"));
            }
        }
        if let Some(handler) = element.attributes.keys().find(|name| name.starts_with("on")) {
            problems.push(format!("a handler {handler} in the text"));
        }
        if element.name == "img" && !element.attributes.contains_key("alt") {
            problems.push("a picture without words".into());
        }
        if element.name == "button" && element.text.trim().is_empty() && element.attribute("aria-label").is_empty() {
            problems.push("a button without words".into());
        }
    }
    // Style may import, too.
    if page.all("style").any(|style| style.text.contains("@import") || style.text.contains("url(")) {
        problems.push("style from elsewhere".into());
    }
    problems
}

#[test]
fn a_page_is_whole_and_by_itself() {
    let run = Run::new();
    let page = run.page(&[]);
    assert_eq!(problems(&page), Vec::<String>::new());
    for id in ["cloud", "views", "pixels", "findings", "run", "scene", "confidence", "strip"] {
        page.id(id);
    }
    // Every view, every filter, every stage and note is in the text.
    let manifest = read_json(&run.path("out/manifest.json"));
    for name in NAMES {
        assert!(page.words.contains(name), "{name}");
    }
    let notes = manifest["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap());
    let stages = manifest["seconds"].as_object().unwrap().keys().map(String::as_str).filter(|name| *name != "total");
    for word in notes.chain(stages).chain(["With a depth in the range", "Confirmed by enough views", "min confidence"])
    {
        assert!(page.words.contains(word), "{word}");
    }
    let points = format!("\n{}\n", manifest["points"]);
    assert!(page.words.replace('\u{202f}', "").contains(&points), "points");
    assert_eq!(page.all("img").filter(|img| img.attribute("src").starts_with("data:image/jpeg")).count(), 5);

    // The one script is the one that the policy names.
    let script = page.elements.iter().find(|element| element.attribute("type") == "module").unwrap();
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&script.text));
    let policy = page.elements.iter().find(|e| e.attribute("http-equiv") == "Content-Security-Policy").unwrap();
    let policy = policy.attribute("content");
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains(&format!("script-src 'sha256-{hash}';")));
    assert!(!policy.contains("connect-src") && !policy.contains("http"));
    let others = page.all("script").filter(|script| script.attribute("type") != "module");
    assert!(others.into_iter().all(|s| ["application/json", "text/plain"].contains(&s.attribute("type"))));
    // The scene is 96 x 64; scripts and style are most of it.
    assert!(page.html.len() < 1_000_000, "{} bytes", page.html.len());
}

#[test]
fn names_from_files_stay_names() {
    let run = Run::new();
    let plain = run.page(&["--no-doctor"]);
    let hostile = [r#""><img src=x onerror=alert(1)>"#, "<!--<script>alert(2)<", "'`&lt;&#0;]]>"];
    for (from, to) in NAMES.iter().zip(hostile) {
        for kind in ["depth", "confidence"] {
            let at = |name: &str| run.path(&format!("maps/{kind}/{name}.pfm"));
            fs::rename(at(from), at(to)).unwrap();
        }
    }
    run.edit(|manifest| {
        for (at, name) in hostile.iter().enumerate() {
            manifest["views"][at]["name"] = json!(name);
        }
        manifest["notes"] = json!(["</script><script>alert(3)</script>", "a\u{2028}b"]);
        manifest["machine"]["device"] = json!("<b onclick=alert(4)>");
        manifest["parameters"]["note"] = json!("<style>*{display:none}</style>");
        manifest["seconds"]["</table>"] = json!(1.0);
        manifest["scene"]["path"] = json!("/nowhere/<i>scene</i>");
    });
    let page = run.page(&[]);
    assert_eq!(problems(&page), Vec::<String>::new());
    let data = page.data();
    for (at, name) in hostile.iter().enumerate() {
        assert_eq!(data["views"][at]["name"], json!(name));
        assert!(page.words.contains(name), "{name}");
    }
    for word in ["</script><script>alert(3)</script>", "<b onclick=alert(4)>", "<style>*", "<i>scene"] {
        assert!(page.words.contains(word), "{word}");
    }
    let count = |page: &Page, name: &str| page.all(name).count();
    // The scene is no longer where it was: there are no photos.
    assert_eq!(count(&page, "img") + 5, count(&plain, "img"));
    assert!(page.words.contains("no photos: /nowhere/<i>scene</i> is no longer there"));
    for name in ["script", "style", "b", "i"] {
        assert_eq!(count(&page, name), count(&plain, name), "<{name}>");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let run = Run::new();
    let first = run.page(&["--threads", "1"]).html;
    assert!(first == run.page(&["--threads", "3"]).html);
    // A report that was moved replaces itself, too.
    let other = run.path("moved.html");
    for _ in 0..2 {
        run.report(&["-o", text(&other), "--quiet"]).done();
        assert!(first == fs::read_to_string(&other).unwrap());
    }
}

#[test]
fn runs_without_a_cloud_or_with_infer_have_a_page_too() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("out"));
    plane_scene::write(&scene);
    let infer = |more: &[&str]| {
        let words = ["infer", text(&scene), "-o", text(&out), "--levels", "1", "--quiet", "--report"];
        engine(words.iter().chain(more)).done();
    };
    infer(&["--depth-only", "--view", "00000003"]);
    let page = Page::read(&out.join("report.html"));
    assert_eq!(problems(&page), Vec::<String>::new());
    assert!(page.data()["cloud"].is_null() && page.elements.iter().all(|e| e.attribute("id") != "cloud"));
    assert!(page.words.contains("the run has no cloud"));
    // The next run takes a report of earlier results away.
    engine(["infer", text(&scene), "-o", text(&out), "--levels", "1", "--quiet"]).done();
    assert!(!out.join("report.html").exists());
}
