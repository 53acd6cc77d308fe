//! `engine view`: listens, tells where, and answers until it is stopped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tiny_http::Server;

use crate::error::{Error, Result};
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::memory_limits::{expect_room_for_threads, no_thread};
use crate::host::progress::Progress;
use crate::report::facts::grouped;
use crate::report::reading::Notes;
use crate::view::answers::answer;
use crate::view::hosts::Hosts;
use crate::view::options::ViewOptions;
use crate::view::shown::Shown;

/// Requests that are worked on at a time: as many as a browser sends to one server.
const WORKERS: usize = 6;
/// Threads of the listener itself: one that waits, and those that read requests and write answers.
const LISTENERS: usize = 9;
/// How often a worker looks whether the server shall end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the run in a folder, or a PLY file, until the user asks to stop.
///
/// # Errors
/// An address that others reach without leave to, or that cannot be listened at; those of [`Shown::open`];
/// [`Error::Interrupted`] at the end.
pub fn view(path: &Path, options: &ViewOptions, progress: &Progress) -> Result<()> {
    if !options.host.is_loopback() && !options.anyone {
        return Err(Error::input(
            "--host",
            format!("{}, which others may reach", options.host),
            "an address of this machine alone (127.0.0.1 or ::1), or --anyone as well: whoever reaches it can look \
             then",
        ));
    }
    progress.event("start", json!({ "command": "view", "version": env!("CARGO_PKG_VERSION"), "shown": in_json(path) }));
    let mut notes = Notes::new(progress);
    let shown = Shown::open(path, options, &mut notes)?;
    interrupt::check()?;
    expect_room_for_threads(WORKERS + LISTENERS)?;
    let asked = SocketAddr::new(options.host, options.port);
    let server = Server::http(asked).map_err(|e| {
        let expected = "an address of this machine and a port that is free: without --port any is taken";
        Error::input(format!("--host {} --port {}", asked.ip(), asked.port()), e.to_string(), expected)
    })?;
    let Some(address) = server.server_addr().to_ip() else {
        return Err(Error::Bug { place: "the server of a view", problem: "it has no address".into() });
    };
    let url = format!("http://{}/", SocketAddr::new(reached_from_here(address.ip()), address.port()));
    let points = grouped(shown.points() as u64);
    let text = format!("showing {} ({points} points) at {url} until Ctrl-C", path.display());
    progress.summary(&text, json!({ "url": url, "points": shown.points(), "notes": notes.said }));
    if options.open
        && let Err(error) = open::that_detached(&url)
    {
        progress.note(&format!("no browser could be opened ({error}): open {url} yourself"));
    }
    serve(&server, &shown, Hosts::of(address), progress)?;
    Err(Error::Interrupted)
}

/// By which address of this machine a server is reached that listens at all of them.
fn reached_from_here(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Answers until the user asks to stop.
fn serve(server: &Server, shown: &Shown, hosts: Hosts, progress: &Progress) -> Result<()> {
    let work = || {
        while !interrupt::is_asked_to_stop() {
            match server.recv_timeout(PATIENCE) {
                Ok(Some(request)) => {
                    let (response, problem) = answer(&request, shown, &hosts);
                    problem.iter().for_each(|problem| progress.note(problem));
                    // Whoever asked may be gone.
                    let _ = request.respond(response);
                }
                Ok(None) => {}
                Err(error) => progress.note(&format!("a request could not be received: {error}")),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..WORKERS {
            let worker = std::thread::Builder::new().name("view".into()).spawn_scoped(scope, work);
            if let Err(error) = worker {
                interrupt::ask_to_stop();
                return Err(no_thread("a thread that answers", &error));
            }
        }
        work();
        Ok(())
    })
}
