//! What is an address, and what is wanted there.

use std::path::Path;

/// How addresses begin.
const SCHEMES: [&str; 11] = ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "file", "http", "https"];

/// What is wanted of the objects below an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any of them.
    All,
    /// Records, states and parts, and their ages: what tells how far a job is.
    Records,
}

/// Whether a path is in truth an address.
pub fn is_address(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://"));
    scheme.is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for address in ["s3://bucket/town", "gs://b", "az://container/x", "file:///tmp/x", "https://host/bucket"] {
            assert!(is_address(Path::new(address)), "{address}");
        }
        for path in ["town", "/s3/town", "s3:/town", "s3", "C:\\town", "odd://name", "a/s3://b"] {
            assert!(!is_address(Path::new(path)), "{path}");
        }
    }
}
