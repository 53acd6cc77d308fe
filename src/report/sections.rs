//! The parts of a page that are text and tables.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::doctor::finding::{Finding, Grade};
use crate::error::counted;
use crate::host::memory::readable;
use crate::host::progress::duration;
use crate::manifest::Manifest;
use crate::report::charts::bar;
use crate::report::facts::{self, four_digits, grouped, percent};

/// What is said first: the numbers that count.
pub fn figures(manifest: &Manifest) -> Markup {
    let figure = |value: String, what: &str| html! { div { dt { (what) } dd { (value) } } };
    let (_, total) = facts::seconds(manifest);
    html! {
        dl.figures {
            (figure(grouped(manifest.points as u64), "points"))
            (figure(grouped(manifest.views.len() as u64), "depth maps"))
            @if let Some(funnel) = &manifest.funnel {
                (figure(percent(funnel.confident, funnel.pixels), "confident pixels"))
                (figure(percent(funnel.kept, funnel.pixels), "confirmed pixels"))
            }
            @if total > 0.0 { (figure(duration(total), "in all")) }
            @if let Some(peak) = manifest.machine.memory_peak { (figure(readable(peak), "peak memory")) }
        }
    }
}

/// `2 warnings and 1 note`, or that all is well.
pub fn verdict(findings: &[Finding]) -> String {
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let grades = [(Grade::Problem, "problem"), (Grade::Warning, "warning"), (Grade::Note, "note")];
    let said = grades.map(|(grade, word)| (count(grade), word));
    let said: Vec<String> = said.iter().filter(|(n, _)| *n > 0).map(|(n, word)| counted(*n, word)).collect();
    if said.is_empty() { "nothing to object to".into() } else { said.join(", ") }
}

/// What the doctor has found; what is well is folded away.
pub fn findings(findings: &[Finding]) -> Markup {
    let (well, other): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.grade == Grade::Ok);
    let row = |finding: &Finding| {
        html! {
            li {
                span class={ "grade " (finding.grade.word()) } { (finding.grade.word()) }
                div {
                    p { b { (finding.check) } ": " (finding.found) }
                    @if !finding.expected.is_empty() { p.quiet { "Expected: " (finding.expected) } }
                    @if !finding.advice.is_empty() { p.quiet { "What to do: " (finding.advice) } }
                }
            }
        }
    };
    html! {
        @if !other.is_empty() { ul.findings { @for finding in other { (row(finding)) } } }
        @if !well.is_empty() {
            details {
                summary { (counted(well.len(), "check")) " found everything as it should be" }
                ul.findings { @for finding in well { (row(finding)) } }
            }
        }
    }
}

/// Sentences, one below the other.
pub fn notes(notes: &[String]) -> Markup {
    html! { ul.notes { @for note in notes { li { (note) } } } }
}

/// Files that can be had of the page's server, with their sizes.
pub fn files(files: &[(String, u64)]) -> Markup {
    let address = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    html! {
        ul.notes {
            @for (name, bytes) in files {
                li { a href={ "files/" (address(name)) } { (name) } " (" (readable(*bytes)) ")" }
            }
        }
    }
}

/// Every view with its part of the funnel.
pub fn views(manifest: &Manifest) -> Markup {
    html! {
        div.scroll {
            table {
                caption.sr { "Views, and what became of their pixels" }
                thead { tr {
                    th scope="col" { "View" }
                    th.n scope="col" { "Map" }
                    th.n scope="col" { "Depth range" }
                    th.n scope="col" { "Planes" }
                    th.n scope="col" { "Confident" }
                    th.n scope="col" { "Confirmed" }
                    th.wide scope="col" { span.sr { "Bar of confirmed pixels" } }
                    th.n scope="col" { "Points" }
                } }
                tbody {
                    @for view in &manifest.views {
                        tr {
                            th scope="row" { (view.name) }
                            td.n { (view.map_size.0) " × " (view.map_size.1) }
                            @match &view.depth {
                                Some(depth) => {
                                    td.n { (four_digits(depth.range.near)) " – " (four_digits(depth.range.far)) }
                                    td.n { (depth.planes) }
                                }
                                None => { td.n { "–" } td.n { "–" } }
                            }
                            @match &view.funnel {
                                Some(funnel) => {
                                    td.n { (percent(funnel.confident, funnel.pixels)) }
                                    td.n { (percent(funnel.kept, funnel.pixels)) }
                                    td.wide { (bar(funnel.kept, funnel.pixels)) }
                                    td.n { (grouped(funnel.fused as u64)) }
                                }
                                None => { td.n { "–" } td.n { "–" } td.wide {} td.n { "–" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How long each stage took.
pub fn timings(manifest: &Manifest) -> Markup {
    let (stages, total) = facts::seconds(manifest);
    let thousandths = |seconds: f64| (1000.0 * seconds.max(0.0)) as usize;
    html! {
        table.timings {
            caption.sr { "Time by stage" }
            thead { tr {
                th scope="col" { "Stage" } th.wide scope="col" { span.sr { "Bar" } } th.n scope="col" { "Seconds" }
            } }
            tbody {
                @for (stage, seconds) in &stages {
                    tr {
                        th scope="row" { (stage) }
                        td.wide { (bar(thousandths(*seconds), thousandths(total))) }
                        td.n { (format!("{seconds:.2}")) }
                    }
                }
                tr.sum { th scope="row" { "all together" } td.wide {} td.n { (format!("{total:.2}")) } }
            }
        }
    }
}

/// What the run was made with.
pub fn machine(manifest: &Manifest) -> Markup {
    let machine = &manifest.machine;
    let mut rows = vec![("program", format!("engine {}", manifest.version)), ("command", manifest.command.clone())];
    if let Some(network) = &manifest.network {
        rows.push(("weights", network.weights.clone()));
        rows.push(("SHA-256 of the weights", network.weights_sha256.clone()));
        rows.push(("precision", network.precision.clone()));
    }
    rows.push(("device", machine.device.clone()));
    rows.push(("threads", machine.threads.to_string()));
    rows.push(("instructions", machine.simd.clone()));
    if let Some(planned) = &machine.memory_planned {
        rows.push(("memory, as planned", readable(planned.peak())));
    }
    if let Some(peak) = machine.memory_peak {
        rows.push(("memory, at most", readable(peak)));
    }
    pairs(rows.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

/// Names and values, two columns that flow.
pub fn pairs(rows: impl Iterator<Item = (String, String)>) -> Markup {
    html! { dl.pairs { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } } }
}
