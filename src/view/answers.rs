//! What the server answers, by address:
//!
//! | address | answer |
//! | --- | --- |
//! | `/` | the page |
//! | `/tile/N` | a tile of the cloud, deflated ([`crate::report::levels`]) |
//! | `/maps/N` | the maps of a view, deflated ([`Shown::maps`]) |
//! | `/photo/N` | the photo of a view, a JPEG |
//! | `/files/NAME` | a file of the run |
//!
//! Only GET and HEAD are answered, and only those who have asked for this machine by its own name ([`Hosts`]). No page
//! of somebody else may read, frame or embed what is answered.

use std::ffi::OsString;
use std::io::{Cursor, Read};

use percent_encoding::percent_decode_str;
use tiny_http::{Header, Method, Request, Response, ResponseBox, StatusCode};

use crate::error::Result;
use crate::view::hosts::Hosts;
use crate::view::shown::Shown;

/// Of every answer.
const ALWAYS: [(&str, &str); 4] = [
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
];
/// What is no page is none, whatever it holds; and no page shows another in a frame.
const SANDBOX: &str = "sandbox; frame-ancestors 'none'";

/// The answer to a request, and what went wrong on the way, for whoever runs the server.
pub fn answer(request: &Request, shown: &Shown, hosts: &Hosts) -> (ResponseBox, Option<String>) {
    if !matches!(request.method(), Method::Get | Method::Head) {
        let refused = refusal(405, "only GET and HEAD are answered");
        return (with(refused, "Allow", "GET, HEAD"), None);
    }
    let mut named = request.headers().iter().filter(|header| header.field.equiv("Host"));
    let (Some(host), None) = (named.next(), named.next()) else {
        return (refusal(400, "one header Host is expected"), None);
    };
    if !hosts.admit(host.value.as_str()) {
        let text = "this server goes by its address in numbers, or localhost, and by no other name";
        return (refusal(421, text), None);
    }
    let path = request.url().split(['?', '#']).next().unwrap_or_default();
    let number = |text: &str| text.parse::<usize>().ok();
    let made = match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        _ if path == "/" => Some(Ok((shown.page.clone().into_bytes(), "text/html; charset=utf-8"))),
        Some(("tile", at)) => made(number(at).and_then(|at| shown.tile(at)), "application/octet-stream"),
        Some(("maps", at)) => made(number(at).and_then(|at| shown.maps(at)), "application/octet-stream"),
        Some(("photo", at)) => made(number(at).and_then(|at| shown.photo(at)), "image/jpeg"),
        Some(("files", name)) => return (file(name, shown).unwrap_or_else(not_there), None),
        _ => None,
    };
    match made {
        None => (not_there(), None),
        Some(Ok((bytes, kind))) => {
            let length = bytes.len();
            let policy = if path == "/" { "frame-ancestors 'none'" } else { SANDBOX };
            (response(200, Box::new(Cursor::new(bytes)), length, &[("Content-Type", kind)], policy), None)
        }
        Some(Err(error)) => (refusal(500, &error.to_string()), Some(format!("{path}: {error}"))),
    }
}

/// Bytes and what they are.
fn made(bytes: Option<Result<Vec<u8>>>, kind: &'static str) -> Option<Result<(Vec<u8>, &'static str)>> {
    bytes.map(|bytes| bytes.map(|bytes| (bytes, kind)))
}

/// Pictures are shown, all else is kept.
fn file(address: &str, shown: &Shown) -> Option<ResponseBox> {
    let name = of_bytes(percent_decode_str(address).collect())?;
    let (file, bytes) = shown.file(&name)?;
    let kind = match std::path::Path::new(&name).extension().and_then(|ending| ending.to_str()) {
        Some("png") => Some("image/png"),
        Some("jpg") => Some("image/jpeg"),
        _ => None,
    };
    let headers: &[(&str, &str)] = match kind {
        Some(kind) => &[("Content-Type", kind)],
        None => &[("Content-Type", "application/octet-stream"), ("Content-Disposition", "attachment")],
    };
    let length = usize::try_from(bytes).ok()?;
    // A file that grows meanwhile must not be longer than was said.
    Some(response(200, Box::new(file.into_std().take(bytes)), length, headers, SANDBOX))
}

#[cfg(unix)]
fn of_bytes(bytes: Vec<u8>) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    Some(OsString::from_vec(bytes))
}

#[cfg(not(unix))]
fn of_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

fn not_there() -> ResponseBox {
    refusal(404, "nothing is here")
}

fn refusal(code: u16, text: &str) -> ResponseBox {
    let bytes = format!("{text}\n").into_bytes();
    let length = bytes.len();
    response(code, Box::new(Cursor::new(bytes)), length, &[("Content-Type", "text/plain; charset=utf-8")], SANDBOX)
}

fn response(
    code: u16,
    body: Box<dyn Read + Send>,
    length: usize,
    headers: &[(&str, &str)],
    policy: &str,
) -> ResponseBox {
    let response = Response::new(StatusCode(code), Vec::new(), body, Some(length), None);
    // The length is said, also of what is long.
    let response = response.with_chunked_threshold(usize::MAX).boxed();
    let policy = ("Content-Security-Policy", policy);
    let all = headers.iter().chain(&ALWAYS).chain([&policy]);
    all.fold(response, |response, (name, value)| with(response, name, value))
}

fn with(response: ResponseBox, name: &str, value: &str) -> ResponseBox {
    match Header::from_bytes(name, value) {
        Ok(header) => response.with_header(header),
        // Both are ASCII.
        Err(()) => response,
    }
}
