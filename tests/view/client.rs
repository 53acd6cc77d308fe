//! A server that runs, and a client that knows no more of HTTP than it must.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::command;

/// `engine view` at work; killed when dropped.
pub struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    /// `http://ADDRESS:PORT/`.
    pub url: String,
    /// The event that tells the address.
    pub told: Value,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Server {
    /// Starts it without a browser, and waits until it listens.
    pub fn start(words: &[&str]) -> Self {
        let words = ["view", "--no-open", "--json"].iter().chain(words);
        Self::of(command(words))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, out, url: String::new(), told: Value::Null };
        while server.told["event"] != "summary" {
            let mut line = String::new();
            if server.out.read_line(&mut line).unwrap() == 0 {
                let mut said = String::new();
                server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("the server ended: {said}");
            }
            server.told = serde_json::from_str(&line).unwrap();
        }
        server.url = server.told["url"].as_str().unwrap().to_owned();
        server
    }

    /// Address and port, as a header `Host` has them.
    pub fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap().trim_end_matches('/')
    }

    /// What the server answers to these bytes.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (first, rest) = head.split_once("\r\n").unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        let code = first.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { code, headers: rest.lines().map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    /// What it answers to a request for an address, by a method and for a host.
    pub fn asked(&self, method: &str, address: &str, host: &str) -> Answer {
        self.ask(&format!("{method} {address} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    }

    pub fn get(&self, address: &str) -> Answer {
        self.asked("GET", address, self.host())
    }

    /// The body of what must be there.
    #[track_caller]
    pub fn body(&self, address: &str) -> Vec<u8> {
        let answer = self.get(address);
        assert_eq!(answer.code, 200, "{address}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string(), "{address}");
        answer.body
    }

    /// The body, unpacked.
    #[track_caller]
    pub fn unpacked(&self, address: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&self.body(address)[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Stops it as Ctrl-C does, and gives its exit code and what it said on standard error.
    pub fn stop(mut self) -> (Option<i32>, String) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), said + &rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
