//! A proxy before a server that fails as servers and nets do: it answers 503 in the server's place, cuts answers off,
//! or hangs up. And it counts requests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Passes,
    /// It answers "503 Slow Down" in the server's place.
    Busy,
    /// Each answer ends after so many bytes.
    Cuts(usize),
    /// It hangs up before it answers.
    HangsUp,
    /// It hangs up once so many objects were put.
    TakesPuts(u64),
}

/// What its threads share.
struct Shared {
    mode: Mutex<Mode>,
    /// Requests that came, by their method.
    requests: [AtomicU64; METHODS.len()],
    /// Failures so far.
    failures: AtomicUsize,
}

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const PUT: usize = 1;

/// The proxy; its threads end with the process.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Before a server.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Passes),
            requests: Default::default(),
            failures: AtomicUsize::new(0),
        });
        let of_threads = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&of_threads);
                std::thread::spawn(move || serve(&shared, client, server));
            }
        });
        Self { address, shared }
    }

    /// From now on, also for connections that are open.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// How often it has failed.
    pub fn failures(&self) -> usize {
        self.shared.failures.load(Ordering::SeqCst)
    }

    /// Requests by method since this was asked last.
    pub fn take_requests(&self) -> Vec<(&'static str, u64)> {
        let counts = self.shared.requests.iter().map(|count| count.swap(0, Ordering::SeqCst));
        METHODS.into_iter().zip(counts).collect()
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    fn count(&self, bytes: &[u8]) {
        let is_of = |method: &&str| bytes.starts_with(method.as_bytes()) && bytes.get(method.len()) == Some(&b' ');
        if let Some(at) = METHODS.iter().position(is_of) {
            self.requests[at].fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// One connection: a thread for each direction.
fn serve(shared: &Arc<Shared>, mut client: TcpStream, server: SocketAddr) {
    let Ok(mut there) = TcpStream::connect(server) else { return };
    let (mut back, mut from_there) = (client.try_clone().unwrap(), there.try_clone().unwrap());
    let of_answers = Arc::clone(shared);
    let answers = std::thread::spawn(move || {
        let (mut buffer, mut passed) = (vec![0; 1 << 14], 0);
        while let Ok(count @ 1..) = from_there.read(&mut buffer) {
            let most = match of_answers.mode() {
                Mode::Cuts(most) => most,
                _ => usize::MAX,
            };
            let now = count.min(most.saturating_sub(passed));
            passed += now;
            if back.write_all(&buffer[..now]).is_err() {
                break;
            }
            if now < count {
                of_answers.failures.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
        let _ = from_there.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..count];
        shared.count(bytes);
        let is_full = |most: u64| shared.requests[PUT].load(Ordering::SeqCst) > most;
        match shared.mode() {
            Mode::Busy => {
                shared.failures.fetch_add(1, Ordering::SeqCst);
                // The whole request, or the client finds a broken connection instead of the answer.
                client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                while let Ok(1..) = client.read(&mut vec![0; 1 << 16]) {}
                let busy = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = client.write_all(busy.as_bytes());
                break;
            }
            Mode::TakesPuts(most) if !is_full(most) => {}
            Mode::HangsUp | Mode::TakesPuts(_) => {
                shared.failures.fetch_add(1, Ordering::SeqCst);
                break;
            }
            Mode::Passes | Mode::Cuts(_) => {}
        }
        if there.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.shutdown(Shutdown::Both);
    let _ = answers.join();
}
