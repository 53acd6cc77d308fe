//! What the server must not give.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::client::{Answer, Server};
use crate::plane_run::Run;
use crate::program::text;

#[track_caller]
fn refused(answer: &Answer, code: u16) {
    assert_eq!(answer.code, code, "{}", String::from_utf8_lossy(&answer.body));
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
}

#[test]
fn nothing_outside_of_the_folder_is_given() {
    let run = Run::new();
    fs::write(run.path("secret.txt"), "a secret").unwrap();
    fs::create_dir(run.path("secrets")).unwrap();
    fs::write(run.path("secrets/secret.txt"), "a secret").unwrap();
    let out = run.path("out");
    fs::write(out.join(".hidden"), "a secret").unwrap();
    fs::create_dir(out.join("sub")).unwrap();
    fs::write(out.join("sub/a b.txt"), "inside").unwrap();
    symlink("../secret.txt", out.join("link.txt")).unwrap();
    symlink(run.path("secret.txt"), out.join("absolute.txt")).unwrap();
    symlink("../secrets", out.join("folder")).unwrap();
    symlink("sub/a b.txt", out.join("inside.txt")).unwrap();
    assert!(Command::new("mkfifo").arg(out.join("pipe")).status().unwrap().success());
    let server = Server::start(&[text(&out)]);
    for address in [
        "/files/../secret.txt",
        "/files/..%2fsecret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/sub/../../secret.txt",
        "/files/sub/%2e%2e/%2e%2e/secret.txt",
        "/files/..\\secret.txt",
        "/../secret.txt",
        "/secret.txt",
        "/files/link.txt",
        "/files/absolute.txt",
        "/files/folder/secret.txt",
        "/files/folder",
        "/files/sub",
        "/files/pipe",
        "/files/.hidden",
        "/files/.engine.lock",
        "/files/",
        "/files",
        "/files/none",
        "/files/%00",
        "/files/a%00b",
        "/files/%zz",
        "/tile/999999",
        "/tile/-1",
        "/tile/0/0",
        "/tile/",
        "/maps/5",
        "/photo/5",
        "/photo/0x0",
        "//",
        "/favicon.ico",
    ] {
        refused(&server.get(address), 404);
    }
    let absolute = format!("/files/{}", text(&run.path("secret.txt")));
    refused(&server.get(&absolute), 404);
    refused(&server.get(&absolute.replace('/', "%2F").replacen("%2Ffiles%2F", "/files/", 1)), 404);
    // An address with a host in it is one for proxies.
    refused(&server.get(&format!("{}files/fused.ply", server.url)), 404);
    // What lies inside is given, also through a link and below a folder.
    for address in ["/files/sub/a%20b.txt", "/files/inside.txt"] {
        let answer = server.get(address);
        assert_eq!((answer.code, answer.body.as_slice()), (200, &b"inside"[..]), "{address}");
        assert_eq!(answer.headers["content-disposition"], "attachment");
    }
}

#[test]
fn only_reading_is_answered() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "GETS"] {
        let answer = server.asked(method, "/", server.host());
        refused(&answer, 405);
        assert_eq!(answer.headers["allow"], "GET, HEAD", "{method}");
    }
    let (get, head) = (server.get("/files/fused.ply"), server.asked("HEAD", "/files/fused.ply", server.host()));
    assert_eq!((head.code, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], get.body.len().to_string());
}

#[test]
fn only_this_machine_s_own_names_are_answered_to() {
    let run = Run::new();
    let server = Server::start(&[text(&run.path("out"))]);
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    for host in [server.host(), "localhost", &format!("localhost:{port}"), "127.0.0.1:1", &format!("[::1]:{port}")] {
        assert_eq!(server.asked("GET", "/", host).code, 200, "{host}");
    }
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "", "192.168.0.9"] {
        for address in ["/", "/tile/0", "/files/fused.ply"] {
            refused(&server.asked("GET", address, host), 421);
        }
    }
    refused(&server.ask("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), 400);
    let two = format!("GET / HTTP/1.1\r\nHost: {0}\r\nHost: evil.example\r\nConnection: close\r\n\r\n", server.host());
    refused(&server.ask(&two), 400);
    // No page of somebody else may read or embed anything, whatever it is.
    for address in ["/", "/tile/0", "/maps/0", "/photo/0", "/files/fused.ply", "/none"] {
        let headers = server.get(address).headers;
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{address}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{address}");
        assert!(headers["content-security-policy"].contains("frame-ancestors 'none'"), "{address}");
        assert!(!headers.contains_key("access-control-allow-origin"), "{address}");
    }
}
