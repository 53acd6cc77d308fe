//! What every entry point does: it counts, logs, goes wrong as told, and lets no panic out.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::codes::Code;
use super::settings::Kind;
use super::state::{CURRENT, State, state};

/// Entry points that do something even where they fail: these take the fault themselves.
const FAIL_THEMSELVES: [&str; 1] = ["cuStreamEndCapture"];

/// A call, done or not. `told` are its arguments for the log.
pub fn call(
    entry: &'static str,
    told: impl Fn() -> String,
    mut work: impl FnMut(&mut State, Option<Kind>) -> Result<(), Code>,
) -> c_int {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut state = state();
        let number = state.report.count(entry);
        let fault = state.fault(entry, number);
        let result = match fault {
            Some(Kind::Fail(code)) if !FAIL_THEMSELVES.contains(&entry) => {
                let code = Code(code);
                let current = CURRENT.get();
                if let Some(context) = state.contexts.get_mut(&current).filter(|_| code.is_sticky()) {
                    context.sticky = Some(code);
                }
                Err(code)
            }
            Some(Kind::Skip) => Ok(()),
            Some(Kind::Twice) => work(&mut state, None).and_then(|()| work(&mut state, None)),
            fault => work(&mut state, fault),
        };
        let code = result.map_or_else(|code| code.0, |()| 0);
        let thread = std::thread::current().id();
        let at = state.report.microseconds();
        state.report.line(|| format!("{entry} #{number}({}) = {code} {thread:?} {at} us", told()));
        code
    }));
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
        state().report.finding(format!("{entry}: {text}"));
        Code::UNKNOWN.0
    })
}

/// Writes a result where the caller wants it.
///
/// # Errors
/// For a null pointer.
pub fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the driver's interface lets the caller pass a pointer to a value of this type.
    unsafe { to.write(value) };
    Ok(())
}
