//! Loaded cubins and the kernels in them.

use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::Arc;

use super::sys::{self, Handle};
use super::{Context, Error};

/// A structure that is a kernel's one by-value argument.
///
/// # Safety
/// The type is `#[repr(C)]` and equals the kernel's structure field by field, and a value that reaches a
/// launch holds only addresses the kernel may use as it does: of live memory, large enough, written by no
/// one else meanwhile.
pub unsafe trait Args: Copy {}

/// A loaded cubin; clones share it, the last one unloads it.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    handle: Handle,
}

// SAFETY: module handles may be used from every thread whose current context is theirs.
unsafe impl Send for Inner {}
// SAFETY: the same.
unsafe impl Sync for Inner {}

/// A kernel. Keeps its module loaded.
#[derive(Clone)]
pub struct Function {
    module: Module,
    handle: Handle,
    name: Arc<str>,
    args_bytes: Option<usize>,
}

// SAFETY: as for the module.
unsafe impl Send for Function {}
// SAFETY: as for the module.
unsafe impl Sync for Function {}

impl Module {
    /// Loads a cubin.
    ///
    /// # Errors
    /// [`Error::Call`] with the driver's reason; [`super::Kernels`] explains a refusal.
    pub fn load(context: &Context, cubin: &[u8]) -> Result<Module, Error> {
        // Embedded bytes lie anywhere; an ELF reader may count on the alignment of its headers. The
        // padding also ends an image that is text, which the driver reads up to a zero.
        let mut image = vec![0_u64; cubin.len() / 8 + 1];
        for (word, bytes) in image.iter_mut().zip(cubin.chunks(8)) {
            let mut full = [0; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(full);
        }
        let mut handle = ptr::null_mut();
        context.call("cuModuleLoadData", |api| {
            // SAFETY: an image with its length in its headers, copied by the driver.
            unsafe { (api.module_load_data)(&raw mut handle, image.as_ptr().cast()) }
        })?;
        Ok(Module { inner: Arc::new(Inner { context: context.clone(), handle }) })
    }

    /// A kernel by name; `None` if this module has none such.
    pub fn function(&self, name: &str) -> Result<Option<Function>, Error> {
        let Ok(c_name) = CString::new(name) else { return Ok(None) };
        let context = &self.inner.context;
        context.bind()?;
        let api = context.api();
        let mut handle = ptr::null_mut();
        // SAFETY: a loaded module and a string that ends in zero.
        let code = unsafe { (api.module_get_function)(&raw mut handle, self.inner.handle, c_name.as_ptr()) };
        if code == sys::NOT_FOUND {
            return Ok(None);
        }
        api.check("cuModuleGetFunction", code)?;
        let args_bytes = api.func_get_param_info.and_then(|ask| {
            let (mut offset, mut bytes) = (0, 0);
            // SAFETY: a function of the driver and places for two sizes.
            (unsafe { ask(handle, 0, &raw mut offset, &raw mut bytes) } == 0).then_some(bytes)
        });
        Ok(Some(Function { module: self.clone(), handle, name: name.into(), args_bytes }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A failure here has nobody to be told to: the context ends with the program.
        let _ = self.context.call("cuModuleUnload", |api| {
            // SAFETY: loaded once, and no function of it is left.
            unsafe { (api.module_unload)(self.handle) }
        });
    }
}

impl Function {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its argument, where the driver can tell (CUDA 12.4 and later).
    pub fn args_bytes(&self) -> Option<usize> {
        self.args_bytes
    }

    /// Most dynamic shared memory a launch may ask for, bytes. 48 KiB unless allowed here.
    pub fn allow_shared(&self, bytes: usize) -> Result<(), Error> {
        self.context().call("cuFuncSetAttribute", |api| {
            // SAFETY: a function of the driver.
            unsafe { (api.func_set_attribute)(self.handle, sys::FUNCTION_DYNAMIC_SHARED, bytes as c_int) }
        })
    }

    /// Asks for a division of the first-level cache: shared memory's part, per cent of the most it can be.
    ///
    /// A multiprocessor runs blocks of one division at a time: kernels that divide it alike can follow each
    /// other, and overlap, without waiting for it to be empty.
    pub fn prefer_shared(&self, percent: u8) -> Result<(), Error> {
        self.context().call("cuFuncSetAttribute", |api| {
            // SAFETY: a function of the driver.
            unsafe {
                (api.func_set_attribute)(self.handle, sys::FUNCTION_SHARED_CARVEOUT, c_int::from(percent))
            }
        })
    }

    /// Registers of a thread.
    pub fn registers(&self) -> Result<u32, Error> {
        self.attribute(sys::FUNCTION_REGISTERS)
    }

    /// Bytes of local memory of a thread: what is spilled, and arrays without registers.
    pub fn local_bytes(&self) -> Result<u32, Error> {
        self.attribute(sys::FUNCTION_LOCAL_BYTES)
    }

    /// Bytes of static shared memory of a block.
    pub fn static_shared(&self) -> Result<u32, Error> {
        self.attribute(sys::FUNCTION_STATIC_SHARED)
    }

    /// Most threads of a block.
    pub fn max_threads(&self) -> Result<u32, Error> {
        self.attribute(sys::FUNCTION_MAX_THREADS)
    }

    /// Blocks that run on one multiprocessor at a time.
    pub fn blocks_per_sm(&self, threads: u32, shared_bytes: usize) -> Result<u32, Error> {
        let mut blocks = 0;
        self.context().call("cuOccupancyMaxActiveBlocksPerMultiprocessor", |api| {
            // SAFETY: a place for the number and a function of the driver.
            unsafe { (api.occupancy)(&raw mut blocks, self.handle, threads as c_int, shared_bytes) }
        })?;
        Ok(blocks as u32)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    fn context(&self) -> &Context {
        &self.module.inner.context
    }

    fn attribute(&self, which: c_int) -> Result<u32, Error> {
        let mut value = 0;
        self.context().call("cuFuncGetAttribute", |api| {
            // SAFETY: a place for the value and a function of the driver.
            unsafe { (api.func_get_attribute)(&raw mut value, which, self.handle) }
        })?;
        Ok(value as u32)
    }
}
