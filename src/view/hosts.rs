//! Whom the server answers: a page of somebody else may have its own name lead to this machine (DNS rebinding), and
//! would read what the server gives if that went by the name alone. So the name that a request was sent to must be one
//! that only this machine has: an address in numbers, or `localhost`.

use std::net::{IpAddr, SocketAddr};

/// The names that a server goes by.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    listens: IpAddr,
}

impl Hosts {
    /// Of a server that listens there.
    pub fn of(address: SocketAddr) -> Self {
        Self { listens: address.ip() }
    }

    /// Whether a request with this header `Host` is meant for the server. The port may be another: that of a tunnel.
    pub fn admit(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let numbers = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match numbers.parse::<IpAddr>() {
            // Whoever may reach it may name any address of this machine.
            Ok(address) => address.is_loopback() || !self.listens.is_loopback(),
            Err(_) => false,
        }
    }
}

/// The name of `name:port`; nothing where the port is none.
fn without_port(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_refused() {
        let local = Hosts::of(([127, 0, 0, 1], 8000).into());
        for host in ["127.0.0.1", "127.0.0.1:8000", "localhost:9000", "LocalHost", "[::1]:8000", "127.9.9.9:1"] {
            assert!(local.admit(host), "{host}");
        }
        let others = ["", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example:8000"];
        let broken = ["127.0.0.1:80:80", "[::1", "[::1]x", "localhost:", "localhost:80a", "2130706433", "[localhost]"];
        for host in others.into_iter().chain(broken).chain(["192.168.0.7:8000", "0.0.0.0"]) {
            assert!(!local.admit(host), "{host}");
        }
        let anyone = Hosts::of(([0, 0, 0, 0], 8000).into());
        for host in ["192.168.0.7:8000", "[fe80::1]:8000", "localhost:8000"] {
            assert!(anyone.admit(host), "{host}");
        }
        assert!(!anyone.admit("evil.example:8000"));
    }
}
