//! A device's primary context.

use std::ptr;
use std::sync::Arc;

use super::sys::{Api, Handle};
use super::{Device, Error};

/// A retained primary context; clones share it, the last one releases it.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    device: Device,
    handle: Handle,
}

// SAFETY: a context handle may be used from every thread; `bind` makes it current first.
unsafe impl Send for Inner {}
// SAFETY: the same; the driver locks for itself.
unsafe impl Sync for Inner {}

impl Context {
    /// Retains the device's primary context and makes it current.
    pub fn new(device: &Device) -> Result<Context, Error> {
        let api = &device.api;
        let mut handle = ptr::null_mut();
        // SAFETY: a place for the handle and a device the driver gave.
        let code = unsafe { (api.primary_ctx_retain)(&raw mut handle, device.ordinal) };
        api.check("cuDevicePrimaryCtxRetain", code)?;
        let context = Context { inner: Arc::new(Inner { device: device.clone(), handle }) };
        context.bind()?;
        Ok(context)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Bytes free and in all. On integrated GPUs the driver counts the page cache as taken.
    pub fn memory(&self) -> Result<(usize, usize), Error> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: places for two sizes, and a current context.
        self.call("cuMemGetInfo", |api| unsafe { (api.mem_get_info)(&raw mut free, &raw mut total) })?;
        Ok((free, total))
    }

    /// Waits for everything under way.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the context is current.
        self.call("cuCtxSynchronize", |api| unsafe { (api.ctx_synchronize)() })
    }

    pub(crate) fn api(&self) -> &Api {
        &self.inner.device.api
    }

    /// Makes the context current on this thread. The driver keeps one a thread; setting the same again
    /// costs nothing to speak of, and runners move between threads.
    pub(crate) fn bind(&self) -> Result<(), Error> {
        // SAFETY: the handle is retained until the last clone is dropped.
        let code = unsafe { (self.api().ctx_set_current)(self.inner.handle) };
        self.api().check("cuCtxSetCurrent", code)
    }

    /// Makes a call with the context current.
    pub(crate) fn call(&self, name: &'static str, call: impl FnOnce(&Api) -> i32) -> Result<(), Error> {
        self.bind()?;
        self.api().check(name, call(self.api()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: retained once by `Context::new`; everything that used it held a clone.
        unsafe { (self.device.api.primary_ctx_release)(self.device.ordinal) };
    }
}
