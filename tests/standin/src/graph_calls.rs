//! Entry points: graphs, which captures make.

use std::ffi::{c_ulonglong, c_void};

use super::codes::Code;
use super::entry::put;
use super::state::{Handle, Work};
use super::stream_calls::target;

entry! {
    /// Makes a graph ready to be launched.
    cuGraphInstantiateWithFlags(to: *mut *mut c_void, graph: *mut c_void, flags: c_ulonglong), |state, _| {
        let current = state.current()?;
        state.not_while_capturing("cuGraphInstantiate")?;
        let found = state.graphs.get(&(graph as Handle)).filter(|found| found.0 == current).cloned();
        let found = found.ok_or(Code::INVALID_VALUE)?;
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        let handle = state.handle();
        state.executables.insert(handle, found);
        put(to, handle as *mut c_void)
    }
}

entry! {
    /// Starts a graph.
    cuGraphLaunch(graph: *mut c_void, stream: *mut c_void), |state, fault| {
        let stream = target(state, stream, fault)?;
        let Some((_, works)) = state.executables.get(&(graph as Handle)).cloned() else {
            state.report.finding("launching a graph that is not (any more)".into());
            return Err(Code::INVALID_HANDLE);
        };
        state.enqueue(stream, Work::Graph(works))
    }
}

entry! {
    /// Lets a graph go; what was made of it stays.
    cuGraphDestroy(graph: *mut c_void), |state, _| {
        state.current()?;
        state.graphs.remove(&(graph as Handle)).map(|_| ()).ok_or(Code::INVALID_VALUE)
    }
}

entry! {
    /// Lets what was made of a graph go.
    cuGraphExecDestroy(graph: *mut c_void), |state, _| {
        state.current()?;
        state.executables.remove(&(graph as Handle)).map(|_| ()).ok_or(Code::INVALID_VALUE)
    }
}
