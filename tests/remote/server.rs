//! A real S3 server: moto's, on a port of this machine, with what lies in it in memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;

/// Whose objects the program's are, so that they can be read.
const OWNER: &str = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
    Signature=0";

/// The server, which ends with this.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it with these variables; `None` where moto is not installed.
pub fn start(variables: &[(&str, &str)]) -> Option<Server> {
    // Whoever listens next may be given the port, too; then the server ends at once, and another is tried.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut moto = Command::new("moto_server");
        moto.args(["-H", "127.0.0.1", "-p", &port.to_string()]).envs(variables.iter().copied());
        let Ok(mut child) = moto.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            assert!(std::env::var_os("ENGINE_REQUIRE_S3").is_none(), "no moto_server on PATH");
            eprintln!("skipped: no moto_server on PATH (pip install 'moto[server]')");
            return None;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
            if TcpStream::connect(address).is_ok() {
                return Some(Server { child, address });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    panic!("moto_server does not start");
}

impl Server {
    /// One request, with a signature that is none: moto does not look at it unless it is told to.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {OWNER}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_in_pieces = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        assert!(!is_in_pieces, "{head}");
        (status, answer.split_off(end + 4))
    }

    /// A bucket with the files of a folder below a prefix.
    pub fn fill(&self, bucket: &str, prefix: &str, folder: &Path) {
        let (status, body) = self.ask("PUT", &format!("/{bucket}"), b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        for (path, bytes) in files(folder) {
            let (status, body) = self.ask("PUT", &format!("/{bucket}/{prefix}/{}", text(&path)), &bytes);
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        }
    }

    /// All objects of a bucket below a prefix, by the names there.
    pub fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut found, mut after) = (BTreeMap::new(), String::new());
        loop {
            let query = format!("/{bucket}?list-type=2&prefix={prefix}/&start-after={after}");
            let (status, body) = self.ask("GET", &query, b"");
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 200, "{body}");
            let keys: Vec<&str> =
                body.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap()).collect();
            let Some(last) = keys.last() else { return found };
            after = (*last).to_owned();
            for key in keys {
                let (status, bytes) = self.ask("GET", &format!("/{bucket}/{key}"), b"");
                assert_eq!(status, 200);
                found.insert(Path::new(key).strip_prefix(prefix).unwrap().to_owned(), bytes);
            }
        }
    }
}

/// Variables by which the program reaches a server.
pub fn variables(address: SocketAddr) -> Vec<(String, String)> {
    let all = [
        ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
