//! Recorded launches, started as one.

use std::ptr;

use super::sys::Handle;
use super::{Context, Error, Stream};

/// What [`Stream::capture`] recorded, ready to run any number of times.
///
/// The blocks its kernels use must outlive it; argument structures are kept as they were.
pub struct Graph {
    context: Context,
    handle: Handle,
}

// SAFETY: handles of instantiated graphs may be used from every thread, one at a time (`&mut` or a lock);
// `launch` takes `&self`, and the driver orders launches of the same graph.
unsafe impl Send for Graph {}

impl Graph {
    pub(crate) fn instantiate(context: &Context, graph: Handle) -> Result<Graph, Error> {
        let mut handle = ptr::null_mut();
        context.call("cuGraphInstantiateWithFlags", |api| {
            // SAFETY: a graph the driver made and a place for what becomes of it.
            unsafe { (api.graph_instantiate)(&raw mut handle, graph, 0) }
        })?;
        Ok(Graph { context: context.clone(), handle })
    }

    /// Runs it on a stream.
    pub fn launch(&self, stream: &Stream) -> Result<(), Error> {
        self.context.call("cuGraphLaunch", |api| {
            // SAFETY: both are alive; the recorded addresses are what their launches promised.
            unsafe { (api.graph_launch)(self.handle, stream.handle()) }
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated once; the driver lets a launch under way end.
        let _ =
            self.context.call("cuGraphExecDestroy", |api| unsafe { (api.graph_exec_destroy)(self.handle) });
    }
}
