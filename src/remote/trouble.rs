//! What goes wrong with a store, in the words of one line.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use object_store::Error as StoreError;

use crate::error::Error;

/// The longest reason that a line has room for.
const LONGEST: usize = 300;

/// Why something could not be done with an object. Unlike an [`Error`] it can be told twice.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The object's address.
    pub name: String,
    /// Completes "cannot ...": `fetch the object`.
    pub action: &'static str,
    /// The store's reason.
    reason: String,
    /// What is expected instead, where it is the user's affair.
    expected: Option<&'static str>,
}

const BUCKET: &str = "a bucket that is there: make it, or correct the address";
const CREDENTIALS: &str = "credentials in the environment that the store knows (AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)";
const RIGHTS: &str = "credentials with the right to list, read, write and delete there";
const ALLOW_HTTP: &str = "an endpoint of https://, or AWS_ALLOW_HTTP=true";

impl Trouble {
    /// What a store says of an object.
    pub fn new(name: &str, action: &'static str, error: &StoreError) -> Self {
        let all = chain(error);
        let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
        let unknown =
            ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthenticationFailed"];
        let expected = match error {
            _ if has(&["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]) => Some(BUCKET),
            StoreError::Unauthenticated { .. } => Some(CREDENTIALS),
            _ if has(&unknown) => Some(CREDENTIALS),
            StoreError::PermissionDenied { .. } => Some(RIGHTS),
            // Where nothing is in the environment, the machine itself is asked for its credentials.
            _ if has(&["169.254.169.254", "/latest/api/token", "metadata.google.internal"]) => Some(CREDENTIALS),
            _ if has(&["URL scheme is not allowed"]) => Some(ALLOW_HTTP),
            _ => None,
        };
        let reason = match expected {
            Some(BUCKET) => "no such bucket".to_owned(),
            Some(CREDENTIALS) if !has(&unknown) && !matches!(error, StoreError::Unauthenticated { .. }) => {
                "no credentials, and the machine gives none".to_owned()
            }
            _ => reason(error, &all),
        };
        Self { name: name.to_owned(), action, reason, expected }
    }

    /// With a reason of our own.
    pub fn told(name: &str, action: &'static str, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), action, reason: reason.into(), expected: None }
    }

    /// As an error.
    pub fn error(&self) -> Error {
        let Self { name, action, reason, expected } = self;
        match expected {
            Some(expected) => Error::input(name, format!("cannot {action}: {reason}"), *expected),
            None => Error::Io { action, path: PathBuf::from(name), source: io::Error::other(reason.clone()) },
        }
    }
}

/// An error and all that caused it.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The text between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

/// What the server said, or what the last cause is.
fn reason(error: &StoreError, all: &str) -> String {
    let tries = between(all, "after ", " retries").map(|tries| format!(", tried {tries} times more"));
    let said = match (between(all, "<Code>", "</Code>"), between(all, "<Message>", "</Message>")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(code), None) => Some(code.to_owned()),
        _ => between(all, "status code: ", ": ").map(|status| format!("the server answers {status}")),
    };
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let said = said.unwrap_or_else(|| last.to_string());
    let one_line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().take(LONGEST).collect::<String>() + &tries.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &StoreError) -> (String, u8) {
        let error = Trouble::new("s3://b/x", "fetch the object", error).error();
        (error.to_string(), error.exit_code())
    }

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn each_reason_has_its_words() {
        let body = "<?xml?><Error><Code>NoSuchBucket</Code><Message>The bucket\nis not there</Message></Error>";
        let (text, code) = told(&StoreError::NotFound { path: "x".into(), source: body.into() });
        assert!(text.contains("s3://b/x: cannot fetch the object: no such bucket; expected a bucket"), "{text}");
        assert_eq!(code, 3);
        let denied = "<Error><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error>";
        let (text, code) = told(&StoreError::PermissionDenied { path: "x".into(), source: denied.into() });
        assert!(text.contains("AccessDenied: Access Denied; expected credentials with the right"), "{text}");
        assert_eq!(code, 3);
        let (text, _) = told(&generic("Error performing PUT http://169.254.169.254/latest/api/token in 1s"));
        assert!(text.contains("no credentials, and the machine gives none; expected credentials in the"), "{text}");
        let down = "Error performing GET http://x/ in 9s, after 7 retries, max_retries: 7, retry_timeout: 180s  - \
             Server returned non-2xx status code: 503 Service Unavailable: ";
        let (text, code) = told(&generic(down));
        let end = "the server answers 503 Service Unavailable, tried 7 times more";
        assert!(text.ends_with(&format!("s3://b/x: cannot fetch the object: {end}")), "{text}");
        assert_eq!(code, 4);
        assert!(!told(&generic("two\nlines")).0.contains('\n'));
    }
}
