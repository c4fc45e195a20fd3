//! The functions of `libcuda.so.1` in use, all of them in drivers of CUDA 12.2 and later.
//!
//! Signatures and numbers are those of `cuda.h` (12.2); a symbol's suffix is the version of its ABI.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;

use libloading::Library;

use super::Error;

/// Result code of every call; 0 is success.
pub(crate) type Code = c_int;
/// An address on the device.
pub(crate) type Address = u64;
/// Handles: contexts, modules, functions, streams, events, graphs.
pub(crate) type Handle = *mut c_void;

pub(crate) const OUT_OF_MEMORY: Code = 2;
pub(crate) const NOT_FOUND: Code = 500;
pub(crate) const NOT_READY: Code = 600;
pub(crate) const NO_DEVICE: Code = 100;

pub(crate) const ATTRIBUTE_CLOCK_KHZ: c_int = 13;
pub(crate) const ATTRIBUTE_SMS: c_int = 16;
pub(crate) const ATTRIBUTE_INTEGRATED: c_int = 18;
pub(crate) const ATTRIBUTE_MEMORY_CLOCK_KHZ: c_int = 36;
pub(crate) const ATTRIBUTE_BUS_BITS: c_int = 37;
pub(crate) const ATTRIBUTE_L2_BYTES: c_int = 38;
pub(crate) const ATTRIBUTE_CC_MAJOR: c_int = 75;
pub(crate) const ATTRIBUTE_CC_MINOR: c_int = 76;
pub(crate) const ATTRIBUTE_SHARED_PER_SM: c_int = 81;
pub(crate) const ATTRIBUTE_SHARED_PER_BLOCK: c_int = 97;

pub(crate) const FUNCTION_MAX_THREADS: c_int = 0;
pub(crate) const FUNCTION_STATIC_SHARED: c_int = 1;
pub(crate) const FUNCTION_LOCAL_BYTES: c_int = 3;
pub(crate) const FUNCTION_REGISTERS: c_int = 4;
pub(crate) const FUNCTION_DYNAMIC_SHARED: c_int = 8;
pub(crate) const FUNCTION_SHARED_CARVEOUT: c_int = 9;

pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
pub(crate) const CAPTURE_THREAD_LOCAL: c_int = 1;
pub(crate) const HOST_PORTABLE_AND_MAPPED: c_uint = 3;
pub(crate) const LAUNCH_PROGRAMMATIC: c_int = 6;

/// `CUlaunchAttribute`: an id, padding to 8, a union of 64 bytes.
#[repr(C)]
pub(crate) struct LaunchAttribute {
    pub(crate) id: c_int,
    pub(crate) pad: c_int,
    pub(crate) value: [c_int; 16],
}

/// `CUlaunchConfig`.
#[repr(C)]
pub(crate) struct LaunchConfig {
    pub(crate) grid: [c_uint; 3],
    pub(crate) block: [c_uint; 3],
    pub(crate) shared_bytes: c_uint,
    pub(crate) stream: Handle,
    pub(crate) attributes: *mut LaunchAttribute,
    pub(crate) attribute_count: c_uint,
}

// What several functions look like.
type Make = unsafe extern "C" fn(*mut Handle, c_uint) -> Code;
type With = unsafe extern "C" fn(Handle) -> Code;
type WithBoth = unsafe extern "C" fn(Handle, Handle) -> Code;

/// `cuLaunchKernel`.
pub(crate) type LaunchKernel = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> Code;
/// `cuLaunchKernelEx`.
pub(crate) type LaunchKernelEx =
    unsafe extern "C" fn(*const LaunchConfig, Handle, *mut *mut c_void, *mut *mut c_void) -> Code;
/// `cuFuncGetParamInfo`, of CUDA 12.4.
pub(crate) type ParamInfo = unsafe extern "C" fn(Handle, usize, *mut usize, *mut usize) -> Code;

/// The functions, each under its own name without `cu`.
pub(crate) struct Api {
    pub(crate) init: unsafe extern "C" fn(c_uint) -> Code,
    pub(crate) get_error_name: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    pub(crate) get_error_string: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    pub(crate) device_get_count: unsafe extern "C" fn(*mut c_int) -> Code,
    pub(crate) device_get: unsafe extern "C" fn(*mut c_int, c_int) -> Code,
    pub(crate) device_get_name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Code,
    pub(crate) device_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code,
    pub(crate) device_total_mem: unsafe extern "C" fn(*mut usize, c_int) -> Code,
    pub(crate) primary_ctx_retain: unsafe extern "C" fn(*mut Handle, c_int) -> Code,
    pub(crate) primary_ctx_release: unsafe extern "C" fn(c_int) -> Code,
    pub(crate) ctx_set_current: With,
    pub(crate) ctx_synchronize: unsafe extern "C" fn() -> Code,
    pub(crate) module_load_data: unsafe extern "C" fn(*mut Handle, *const c_void) -> Code,
    pub(crate) module_unload: With,
    pub(crate) module_get_function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> Code,
    pub(crate) func_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, Handle) -> Code,
    pub(crate) func_set_attribute: unsafe extern "C" fn(Handle, c_int, c_int) -> Code,
    pub(crate) func_get_param_info: Option<ParamInfo>,
    pub(crate) occupancy: unsafe extern "C" fn(*mut c_int, Handle, c_int, usize) -> Code,
    pub(crate) stream_create: Make,
    pub(crate) stream_destroy: With,
    pub(crate) stream_synchronize: With,
    pub(crate) stream_query: With,
    pub(crate) stream_wait_event: unsafe extern "C" fn(Handle, Handle, c_uint) -> Code,
    pub(crate) stream_begin_capture: unsafe extern "C" fn(Handle, c_int) -> Code,
    pub(crate) stream_end_capture: unsafe extern "C" fn(Handle, *mut Handle) -> Code,
    pub(crate) event_create: Make,
    pub(crate) event_destroy: With,
    pub(crate) event_record: WithBoth,
    pub(crate) event_synchronize: With,
    pub(crate) event_elapsed_time: unsafe extern "C" fn(*mut f32, Handle, Handle) -> Code,
    pub(crate) launch_kernel: LaunchKernel,
    pub(crate) launch_kernel_ex: Option<LaunchKernelEx>,
    pub(crate) graph_instantiate: unsafe extern "C" fn(*mut Handle, Handle, u64) -> Code,
    pub(crate) graph_launch: WithBoth,
    pub(crate) graph_destroy: With,
    pub(crate) graph_exec_destroy: With,
    pub(crate) mem_get_info: unsafe extern "C" fn(*mut usize, *mut usize) -> Code,
    pub(crate) mem_alloc: unsafe extern "C" fn(*mut Address, usize) -> Code,
    pub(crate) mem_free: unsafe extern "C" fn(Address) -> Code,
    pub(crate) mem_host_alloc: unsafe extern "C" fn(*mut *mut c_void, usize, c_uint) -> Code,
    pub(crate) mem_free_host: With,
    pub(crate) mem_host_get_device_pointer: unsafe extern "C" fn(*mut Address, *mut c_void, c_uint) -> Code,
    pub(crate) memcpy_to_device: unsafe extern "C" fn(Address, *const c_void, usize, Handle) -> Code,
    pub(crate) memcpy_to_host: unsafe extern "C" fn(*mut c_void, Address, usize, Handle) -> Code,
    pub(crate) memcpy_on_device: unsafe extern "C" fn(Address, Address, usize, Handle) -> Code,
    pub(crate) memset: unsafe extern "C" fn(Address, u8, usize, Handle) -> Code,
    /// Whether this is the project's emulator: it knows every kernel without a cubin.
    pub(crate) emulated: bool,
    /// Keeps the functions above in memory.
    _library: Library,
}

/// The driver's library and its version (12020 for CUDA 12.2), before any other call.
pub(crate) struct Opened {
    library: Library,
    name: String,
    /// As `cuDriverGetVersion` tells it.
    pub(crate) version: c_int,
}

impl Opened {
    /// Opens the library at `path`.
    pub(crate) fn new(path: &Path) -> Result<Opened, Error> {
        let name = path.display().to_string();
        // SAFETY: the driver's initialisers have no preconditions.
        let library = unsafe { Library::new(path) }.map_err(|error| Error::NoDriver {
            library: name.clone(),
            // The loader's own words are the source.
            cause: error.source().map_or_else(|| error.to_string(), ToString::to_string),
        })?;
        let mut opened = Opened { library, name, version: 0 };
        // SAFETY: the type is that of cuda.h, and the call needs no initialisation.
        let code = unsafe {
            let get: unsafe extern "C" fn(*mut c_int) -> Code = opened.symbol(c"cuDriverGetVersion")?;
            get(&raw mut opened.version)
        };
        if code != 0 {
            return Err(Error::bare("cuDriverGetVersion", code));
        }
        Ok(opened)
    }

    /// Looks every function up.
    pub(crate) fn api(self) -> Result<Api, Error> {
        // SAFETY: the fields' types are those of cuda.h for these symbols; `_library` outlives the copies.
        unsafe {
            Ok(Api {
                init: self.symbol(c"cuInit")?,
                get_error_name: self.symbol(c"cuGetErrorName")?,
                get_error_string: self.symbol(c"cuGetErrorString")?,
                device_get_count: self.symbol(c"cuDeviceGetCount")?,
                device_get: self.symbol(c"cuDeviceGet")?,
                device_get_name: self.symbol(c"cuDeviceGetName")?,
                device_get_attribute: self.symbol(c"cuDeviceGetAttribute")?,
                device_total_mem: self.symbol(c"cuDeviceTotalMem_v2")?,
                primary_ctx_retain: self.symbol(c"cuDevicePrimaryCtxRetain")?,
                primary_ctx_release: self.symbol(c"cuDevicePrimaryCtxRelease_v2")?,
                ctx_set_current: self.symbol(c"cuCtxSetCurrent")?,
                ctx_synchronize: self.symbol(c"cuCtxSynchronize")?,
                module_load_data: self.symbol(c"cuModuleLoadData")?,
                module_unload: self.symbol(c"cuModuleUnload")?,
                module_get_function: self.symbol(c"cuModuleGetFunction")?,
                func_get_attribute: self.symbol(c"cuFuncGetAttribute")?,
                func_set_attribute: self.symbol(c"cuFuncSetAttribute")?,
                func_get_param_info: self.symbol(c"cuFuncGetParamInfo").ok(),
                occupancy: self.symbol(c"cuOccupancyMaxActiveBlocksPerMultiprocessor")?,
                stream_create: self.symbol(c"cuStreamCreate")?,
                stream_destroy: self.symbol(c"cuStreamDestroy_v2")?,
                stream_synchronize: self.symbol(c"cuStreamSynchronize")?,
                stream_query: self.symbol(c"cuStreamQuery")?,
                stream_wait_event: self.symbol(c"cuStreamWaitEvent")?,
                stream_begin_capture: self.symbol(c"cuStreamBeginCapture_v2")?,
                stream_end_capture: self.symbol(c"cuStreamEndCapture")?,
                event_create: self.symbol(c"cuEventCreate")?,
                event_destroy: self.symbol(c"cuEventDestroy_v2")?,
                event_record: self.symbol(c"cuEventRecord")?,
                event_synchronize: self.symbol(c"cuEventSynchronize")?,
                event_elapsed_time: self.symbol(c"cuEventElapsedTime")?,
                launch_kernel: self.symbol(c"cuLaunchKernel")?,
                launch_kernel_ex: self.symbol(c"cuLaunchKernelEx").ok(),
                graph_instantiate: self.symbol(c"cuGraphInstantiateWithFlags")?,
                graph_launch: self.symbol(c"cuGraphLaunch")?,
                graph_destroy: self.symbol(c"cuGraphDestroy")?,
                graph_exec_destroy: self.symbol(c"cuGraphExecDestroy")?,
                mem_get_info: self.symbol(c"cuMemGetInfo_v2")?,
                mem_alloc: self.symbol(c"cuMemAlloc_v2")?,
                mem_free: self.symbol(c"cuMemFree_v2")?,
                mem_host_alloc: self.symbol(c"cuMemHostAlloc")?,
                mem_free_host: self.symbol(c"cuMemFreeHost")?,
                mem_host_get_device_pointer: self.symbol(c"cuMemHostGetDevicePointer_v2")?,
                memcpy_to_device: self.symbol(c"cuMemcpyHtoDAsync_v2")?,
                memcpy_to_host: self.symbol(c"cuMemcpyDtoHAsync_v2")?,
                memcpy_on_device: self.symbol(c"cuMemcpyDtoDAsync_v2")?,
                memset: self.symbol(c"cuMemsetD8Async")?,
                emulated: self
                    .symbol::<unsafe extern "C" fn() -> c_int>(c"emulated_driver")
                    .is_ok_and(|tells| tells() != 0),
                _library: self.library,
            })
        }
    }

    /// A copy of a function pointer.
    ///
    /// # Safety
    /// `T` is the symbol's type, and the copy is not used after the library is closed.
    unsafe fn symbol<T: Copy>(&self, name: &CStr) -> Result<T, Error> {
        // SAFETY: the caller's.
        let found = unsafe { self.library.get::<T>(name.to_bytes_with_nul()) };
        found.map(|symbol| *symbol).map_err(|_| Error::MissingFunction {
            library: self.name.clone(),
            function: name.to_string_lossy().into_owned(),
        })
    }
}
