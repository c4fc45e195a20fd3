//! Streams: what is launched in order; events mark points in them.

use std::ffi::{c_uint, c_void};
use std::mem::size_of;
use std::ptr;

use super::sys::{self, Handle, LaunchAttribute, LaunchConfig};
use super::{Args, Context, Error, Function, Graph};

/// Work in order. Not tied to the null stream.
pub struct Stream {
    context: Context,
    handle: Handle,
}

// SAFETY: stream handles may be used from every thread whose current context is theirs.
unsafe impl Send for Stream {}
// SAFETY: the same; the driver locks for itself.
unsafe impl Sync for Stream {}

/// Shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, bytes.
    pub shared_bytes: u32,
    /// Whether the kernel may start before the one ahead of it in the stream has ended; it then waits
    /// for it by itself (`pdl_wait`). Has an effect from compute capability 9.0 on.
    pub overlap: bool,
}

impl Stream {
    /// A stream of the context.
    pub fn new(context: &Context) -> Result<Stream, Error> {
        let mut handle = ptr::null_mut();
        context.call("cuStreamCreate", |api| {
            // SAFETY: a place for the handle.
            unsafe { (api.stream_create)(&raw mut handle, sys::STREAM_NON_BLOCKING) }
        })?;
        Ok(Stream { context: context.clone(), handle })
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits until everything before has ended.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the stream is alive.
        self.context.call("cuStreamSynchronize", |api| unsafe { (api.stream_synchronize)(self.handle) })
    }

    /// Whether everything before has ended.
    ///
    /// # Errors
    /// The driver's; the device is lost then.
    pub fn is_idle(&self) -> Result<bool, Error> {
        self.context.bind()?;
        let api = self.context.api();
        // SAFETY: the stream is alive.
        let code = unsafe { (api.stream_query)(self.handle) };
        if code == sys::NOT_READY {
            return Ok(false);
        }
        api.check("cuStreamQuery", code).map(|()| true)
    }

    /// Everything launched from now on starts after the event.
    pub fn wait(&self, event: &Event) -> Result<(), Error> {
        self.context.call("cuStreamWaitEvent", |api| {
            // SAFETY: both are alive.
            unsafe { (api.stream_wait_event)(self.handle, event.handle, 0) }
        })
    }

    /// Launches a kernel with its one argument.
    ///
    /// # Errors
    /// [`Error::Arguments`] where the driver knows the kernel's size and it differs.
    pub fn launch<A: Args>(&self, function: &Function, launch: Launch, args: &A) -> Result<(), Error> {
        if let Some(expected) = function.args_bytes().filter(|&bytes| bytes != size_of::<A>()) {
            let kernel = function.name().to_owned();
            return Err(Error::Arguments { kernel, expected, given: size_of::<A>() });
        }
        self.context.bind()?;
        let api = self.context.api();
        let mut parameters: [*mut c_void; 1] = [ptr::from_ref(args).cast_mut().cast()];
        let [x, y, z] = launch.grid;
        let overlap = launch.overlap && self.context.device().capability.0 >= 9;
        let (call, code) = if let Some(launch_kernel_ex) = api.launch_kernel_ex.filter(|_| overlap) {
            let mut value = [0; 16];
            value[0] = 1;
            let mut attribute = LaunchAttribute { id: sys::LAUNCH_PROGRAMMATIC, pad: 0, value };
            let config = LaunchConfig {
                grid: launch.grid as [c_uint; 3],
                block: [launch.threads, 1, 1],
                shared_bytes: launch.shared_bytes,
                stream: self.handle,
                attributes: &raw mut attribute,
                attribute_count: 1,
            };
            // SAFETY: the driver copies the argument, whose size the kernel knows, before it returns;
            // the addresses in it are what `Args` promises.
            let code = unsafe {
                launch_kernel_ex(
                    &raw const config,
                    function.handle(),
                    parameters.as_mut_ptr(),
                    ptr::null_mut(),
                )
            };
            ("cuLaunchKernelEx", code)
        } else {
            // SAFETY: as above.
            let code = unsafe {
                (api.launch_kernel)(
                    function.handle(),
                    x,
                    y,
                    z,
                    launch.threads,
                    1,
                    1,
                    launch.shared_bytes,
                    self.handle,
                    parameters.as_mut_ptr(),
                    ptr::null_mut(),
                )
            };
            ("cuLaunchKernel", code)
        };
        api.check(call, code)
    }

    /// Records what `work` launches on this stream instead of running it.
    ///
    /// Allocations are not allowed meanwhile on this thread; other threads are not concerned.
    pub fn capture<E: From<Error>>(&self, work: impl FnOnce(&Stream) -> Result<(), E>) -> Result<Graph, E> {
        self.context.call("cuStreamBeginCapture", |api| {
            // SAFETY: the stream is alive.
            unsafe { (api.stream_begin_capture)(self.handle, sys::CAPTURE_THREAD_LOCAL) }
        })?;
        let worked = work(self);
        let mut graph = ptr::null_mut();
        let ended = self.context.call("cuStreamEndCapture", |api| {
            // SAFETY: the stream is alive, and there is a place for the graph.
            unsafe { (api.stream_end_capture)(self.handle, &raw mut graph) }
        });
        let made = match (&worked, ended) {
            (Ok(()), Ok(())) => Graph::instantiate(&self.context, graph),
            (_, ended) => ended.and(Err(Error::bare("cuStreamEndCapture", 901))),
        };
        if !graph.is_null() {
            // SAFETY: made above and used by nobody else; what was instantiated is a copy.
            let _ = self.context.call("cuGraphDestroy", |api| unsafe { (api.graph_destroy)(graph) });
        }
        // The work's own failure is the cause of any other.
        worked?;
        Ok(made?)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created once; the driver lets work under way end.
        let _ = self.context.call("cuStreamDestroy", |api| unsafe { (api.stream_destroy)(self.handle) });
    }
}

/// A point in a stream, with a time.
pub struct Event {
    context: Context,
    handle: Handle,
}

// SAFETY: as for streams.
unsafe impl Send for Event {}
// SAFETY: as for streams.
unsafe impl Sync for Event {}

impl Event {
    /// An event that has not happened.
    pub fn new(context: &Context) -> Result<Event, Error> {
        let mut handle = ptr::null_mut();
        // SAFETY: a place for the handle.
        context.call("cuEventCreate", |api| unsafe { (api.event_create)(&raw mut handle, 0) })?;
        Ok(Event { context: context.clone(), handle })
    }

    /// Marks the present end of the stream.
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        self.context.call("cuEventRecord", |api| {
            // SAFETY: both are alive.
            unsafe { (api.event_record)(self.handle, stream.handle) }
        })
    }

    /// Waits until it has happened.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the event is alive.
        self.context.call("cuEventSynchronize", |api| unsafe { (api.event_synchronize)(self.handle) })
    }

    /// Milliseconds from `earlier` to this event; both have happened. Resolution about half a microsecond.
    pub fn since(&self, earlier: &Event) -> Result<f32, Error> {
        let mut milliseconds = 0.0;
        self.context.call("cuEventElapsedTime", |api| {
            // SAFETY: both are alive, and there is a place for the time.
            unsafe { (api.event_elapsed_time)(&raw mut milliseconds, earlier.handle, self.handle) }
        })?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once.
        let _ = self.context.call("cuEventDestroy", |api| unsafe { (api.event_destroy)(self.handle) });
    }
}
