//! The page: what stands where, and the policy by which a browser keeps it from asking for anything.
//!
//! Whatever comes from a file is escaped by `maud`; the scripts get their data as JSON in which no tag can begin.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::doctor::finding::Finding;
use crate::manifest::Manifest;
use crate::report::data::Data;
use crate::report::facts::{date, four_digits, grouped, parameters};
use crate::report::pack::letters;
use crate::report::{assets, charts, sections};
use crate::run::products::REPORT_MADE_BY;

/// Where tiles and pictures are.
pub enum Bytes<'a> {
    /// In the page itself.
    InPage {
        /// The cloud's tiles.
        parts: &'a [String],
        /// Photo and maps of each view, in base64.
        pictures: &'a [(Option<String>, String)],
    },
    /// At the server that the page is from (`engine view`).
    Served {
        /// The run's files that can be had, with their bytes.
        files: &'a [(String, u64)],
    },
}

/// What is known of a cloud's points beside their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All that this program's clouds have.
    All,
    /// Colours.
    Colours,
    /// Nothing.
    Nothing,
}

/// What a page is made of.
pub struct Page<'a> {
    /// What it is called.
    pub title: String,
    /// The run's manifest; the page of a cloud alone has none.
    pub manifest: Option<&'a Manifest>,
    /// What the scripts are told.
    pub data: &'a Data,
    /// What its points have.
    pub known: Known,
    /// Where tiles and pictures are.
    pub bytes: Bytes<'a>,
    /// Charts of the cloud.
    pub charts: Option<Markup>,
    /// What the doctor has found, where it was asked.
    pub findings: Option<&'a [Finding]>,
    /// What there is to say of the report itself.
    pub notes: &'a [String],
}

impl Page<'_> {
    /// The whole document.
    pub fn html(&self) -> String {
        let is_served = self.is_served();
        let script = assets::script(if is_served { &assets::SERVED } else { &assets::REPORT });
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    (PreEscaped(REPORT_MADE_BY))
                    meta http-equiv="Content-Security-Policy" content=(policy(&script, is_served));
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    // Browsers ask servers for a picture of their own accord.
                    @if is_served { link rel="icon" href="data:,"; }
                    title { (self.title) " – engine" }
                    style { (PreEscaped(assets::STYLE)) }
                }
                body {
                    a.skip href="#main" { "To the content" }
                    (self.bar())
                    main id="main" { (self.content()) }
                    (self.footer())
                    (self.packed())
                    script type="module" { (PreEscaped(&script)) }
                }
            }
        };
        page.into_string()
    }

    fn is_served(&self) -> bool {
        matches!(self.bytes, Bytes::Served { .. })
    }

    fn bar(&self) -> Markup {
        html! {
            header.top {
                a.brand href="#main" { "engine" }
                nav aria-label="Parts of the report" {
                    @if self.data.cloud.is_some() { a href="#cloud" { "Cloud" } }
                    @if self.manifest.is_some() {
                        a href="#views" { "Views" }
                        a href="#pixels" { "Pixels" }
                        @if self.findings.is_some() { a href="#findings" { "Findings" } }
                        a href="#run" { "Run" }
                    }
                }
                button.plain id="theme" type="button" aria-label="Dark or light" title="Dark or light" hidden {
                    svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" {
                        circle cx="10" cy="10" r="7.25" fill="none" stroke="currentColor" stroke-width="1.5" {}
                        path d="M10 2.75a7.25 7.25 0 0 1 0 14.5z" fill="currentColor" {}
                    }
                }
            }
        }
    }

    fn content(&self) -> Markup {
        let Some(manifest) = self.manifest else {
            return html! {
                section.hero { h1 { (self.title) } }
                (self.cloud())
                section id="run" aria-label="This page" { (sections::notes(self.notes)) }
            };
        };
        html! {
            section.hero {
                h1 { (self.title) }
                p.quiet {
                    @if manifest.ended_unix_s > 0 { (date(manifest.ended_unix_s)) " · " }
                    (manifest.machine.device) " · "
                    (grouped(manifest.scene.views as u64)) " photos"
                    @if let Some(findings) = self.findings {
                        " · doctor: " a href="#findings" { (sections::verdict(findings)) }
                    }
                }
                (sections::figures(manifest))
            }
            (self.cloud())
            (self.views())
            section id="pixels" aria-labelledby="pixels-title" {
                h2 id="pixels-title" { "Where pixels went" }
                @match &manifest.funnel {
                    Some(funnel) => {
                        p.lead { "From every pixel of every map to the points of the cloud, filter after filter." }
                        div.scroll { (charts::funnel(funnel)) }
                    }
                    None => { p.lead { "Nothing was fused, so that no pixels are counted." } }
                }
                @if let Some(charts) = &self.charts { (charts) }
                h3 { "View by view" }
                (sections::views(manifest))
            }
            @if let Some(findings) = self.findings {
                section id="findings" aria-labelledby="findings-title" {
                    h2 id="findings-title" { "Findings" }
                    p.lead { "What " code { "engine doctor" } " says of the scene and the run." }
                    (sections::findings(findings))
                }
            }
            section id="run" aria-labelledby="run-title" {
                h2 id="run-title" { "The run" }
                div.columns {
                    div { h3 { "Time" } (sections::timings(manifest)) }
                    div { h3 { "Machine" } (sections::machine(manifest)) }
                }
                @if !manifest.notes.is_empty() { h3 { "Assumed and chosen" } (sections::notes(&manifest.notes)) }
                h3 { "Parameters" }
                (sections::pairs(parameters(manifest).into_iter()))
                @match &self.bytes {
                    Bytes::InPage { .. } => { h3 { "This report" } (sections::notes(self.notes)) }
                    Bytes::Served { files } => {
                        h3 { "Files" }
                        (sections::files(files))
                        h3 { "This page" }
                        (sections::notes(self.notes))
                    }
                }
            }
        }
    }

    fn cloud(&self) -> Markup {
        let Some(cloud) = &self.data.cloud else { return html! {} };
        let modes: &[(&str, &str)] = match self.known {
            Known::All => &[
                ("photo", "Photo"),
                ("confidence", "Confidence"),
                ("views", "Number of views"),
                ("normal", "Normal"),
                ("height", "Height"),
            ],
            Known::Colours => &[("photo", "Its own"), ("height", "Height")],
            Known::Nothing => &[("height", "Height")],
        };
        html! {
            section id="cloud" aria-labelledby="cloud-title" {
                h2 id="cloud-title" { "Cloud" }
                div.viewer id="viewer" {
                    div.stage {
                        canvas id="scene" tabindex="0" role="application" aria-describedby="keys"
                            aria-label="The point cloud. Arrow keys turn it." {}
                        p.status id="status" role="status" { "The cloud needs JavaScript and WebGL 2." }
                        div.legend id="legend" hidden {}
                        figure.card id="card" hidden {
                            button.plain.close type="button" aria-label="Close the photo" { "×" }
                            img alt="";
                            figcaption {}
                        }
                    }
                    form.controls id="controls" aria-label="How the cloud is shown" {
                        fieldset {
                            legend { "Colour" }
                            @for (at, (value, name)) in modes.iter().enumerate() {
                                label {
                                    input type="radio" name="colour" value=(value) checked[at == 0];
                                    span { (name) }
                                }
                            }
                        }
                        label.slider hidden[self.known != Known::All] {
                            span { "Least confidence" } output id="confidence-said" { "0.00" }
                            input id="confidence" type="range" min="0" max="1" step="0.01" value="0";
                        }
                        p.count id="count" role="status" {
                            (grouped(cloud.shown as u64)) " points"
                        }
                        label.slider {
                            span { "Point size" } output id="size-said" { "1.0" }
                            input id="size" type="range" min="0.3" max="4" step="0.1" value="1";
                        }
                        label.check hidden[self.manifest.is_none()] {
                            input id="cameras" type="checkbox" checked; span { "Cameras" }
                        }
                        label.check { input id="shading" type="checkbox" checked; span { "Shaded edges" } }
                        button id="reset" type="button" { "Whole cloud" }
                        details.keys {
                            summary { "Mouse, touch, keys" }
                            div id="keys" {
                                dl {
                                    dt { "Turn" } dd { "drag; one finger; arrows" }
                                    dt { "Move" } dd { "right button or Shift; two fingers; Shift and arrows" }
                                    dt { "Nearer" } dd { "wheel; pinch; + and −" }
                                    dt { "Cameras" } dd { "click one for its photo; C hides them" }
                                    dt { "Back" } dd { "Home" }
                                }
                            }
                        }
                    }
                }
                p.quiet.small {
                    @if (cloud.shown as u64) < cloud.total {
                        (grouped(cloud.shown as u64)) " of " (grouped(cloud.total))
                        " points, taken evenly in the cloud's order. "
                    }
                    "Positions are rounded to a grid of " (four_digits(cloud.quantum)) " scene units."
                }
            }
        }
    }

    fn views(&self) -> Markup {
        let is_served = self.is_served();
        let modes = [("all", "Side by side"), ("depth", "Photo | depth"), ("confidence", "Photo | confidence")];
        html! {
            section id="views" aria-labelledby="views-title" {
                h2 id="views-title" { "Views" }
                div.browser id="browser" hidden {
                    div.toolbar {
                        div.step {
                            button id="previous" type="button" aria-label="Previous view" { "‹" }
                            output id="view-name" {}
                            button id="next" type="button" aria-label="Next view" { "›" }
                        }
                        fieldset.segments {
                            legend.sr { "What is shown" }
                            @for (at, (value, name)) in modes.iter().enumerate() {
                                label {
                                    input type="radio" name="compare" value=(value) checked[at == 0];
                                    span { (name) }
                                }
                            }
                        }
                        button id="look" type="button" { "Show in the cloud" }
                    }
                    div.panes id="panes" data-mode="all" tabindex="0" role="group" aria-describedby="readout"
                        aria-label="Photo, depth and confidence. Arrow keys move the cross." {
                        figure { div.pane { canvas id="photo-pane" {} } figcaption { "Photo" } }
                        figure { div.pane { canvas id="depth-pane" {} } figcaption id="depth-scale" { "Depth" } }
                        figure {
                            div.pane { canvas id="confidence-pane" {} }
                            figcaption id="confidence-scale" { "Confidence" }
                        }
                    }
                    label.divider id="divider-row" hidden {
                        span.sr { "Where the photo ends" }
                        input id="divider" type="range" min="0" max="100" step="0.5" value="50";
                    }
                    p.readout id="readout" role="status" {}
                }
                ol.strip id="strip" {
                    @for (at, view) in self.data.views.iter().enumerate() {
                        li {
                            button type="button" data-view=(at) aria-label={ "View " (view.name) } {
                                @if let Some(photo) = self.photo(at) {
                                    img id={ "photo-" (at) } alt={ "Photo of view " (view.name) }
                                        loading=[is_served.then_some("lazy")]
                                        width=(view.size.0) height=(view.size.1) src=(PreEscaped(photo));
                                }
                                span { (view.name) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The address of a view's photo, if it is there.
    fn photo(&self, view: usize) -> Option<String> {
        match &self.bytes {
            Bytes::InPage { pictures, .. } => {
                pictures[view].0.as_ref().map(|photo| format!("data:image/jpeg;base64,{photo}"))
            }
            Bytes::Served { .. } => self.data.views[view].photo.then(|| format!("photo/{view}")),
        }
    }

    fn footer(&self) -> Markup {
        let of_bytes = match self.bytes {
            Bytes::InPage { .. } => "This file needs no net and asks for nothing.",
            Bytes::Served { .. } => "This page asks the program for what it shows, and nobody else.",
        };
        html! { footer { p.quiet.small { "Made by engine " (env!("CARGO_PKG_VERSION")) ". " (of_bytes) } } }
    }

    /// What the scripts read.
    fn packed(&self) -> Markup {
        // No tag begins in it, and it is the same JSON.
        let data = serde_json::to_string(self.data).unwrap_or_default().replace('<', "\\u003c");
        html! {
            script type="application/json" id="data" { (PreEscaped(data)) }
            @if let Bytes::InPage { parts, pictures } = self.bytes {
                @for (at, part) in parts.iter().enumerate() {
                    script type="text/plain" id={ "part-" (at) } { (PreEscaped(part)) }
                }
                @for (at, (_, maps)) in pictures.iter().enumerate() {
                    script type="text/plain" id={ "maps-" (at) } { (PreEscaped(maps)) }
                }
            }
        }
    }
}

/// A run's page is called as its scene.
pub fn title(manifest: &Manifest) -> String {
    let path = &manifest.scene.path;
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Runs this script and no other, takes pictures from the page alone, and asks for nothing; a page that is served asks
/// its server.
fn policy(script: &str, is_served: bool) -> String {
    let asks = if is_served { "img-src 'self' data: blob:; connect-src 'self'" } else { "img-src data: blob:" };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; {asks}; base-uri 'none'; \
         form-action 'none'",
        letters(&Sha256::digest(script.as_bytes()))
    )
}
