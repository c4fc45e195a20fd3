//! The CUDA driver, opened at run time: one binary runs with and without it.
//!
//! Only functions of drivers of CUDA 12.2 are used, none of the run-time library. Nothing panics; every
//! failed call is an [`Error`] with the driver's own name for it and a remedy.
//!
//! Safety: kernels take addresses, so [`Stream::launch`] rests on the promise of [`Args`]. Memory is freed
//! when its owner is dropped, which waits for the device; owners keep the context alive.

mod context;
mod error;
mod graph;
mod kernels;
mod memory;
mod module;
mod stream;
mod sys;

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::sync::Arc;

pub use context::Context;
pub use error::{Error, OLDEST_DRIVER};
pub use graph::Graph;
pub use kernels::{Cubin, Kernels, archs, compiler, cubins_for};
pub use memory::{Block, Pinned, Plain};
pub use module::{Args, Function, Module};
pub use stream::{Event, Launch, Stream};

use sys::{Api, Opened};

/// The library every driver installs.
const LIBRARY: &str = "libcuda.so.1";

/// An open, initialised driver with at least one device.
#[derive(Clone)]
pub struct Driver {
    api: Arc<Api>,
    version: (u32, u32),
}

/// What a GPU is. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    api: Arc<Api>,
    ordinal: c_int,
    /// Its name for people.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Bytes of memory; on an integrated GPU the machine's own.
    pub memory: usize,
    /// Whether it shares the processor's memory (every Jetson).
    pub integrated: bool,
    /// Bytes of second-level cache.
    pub l2: usize,
    /// Most dynamic shared memory a block may ask for, bytes.
    pub shared_per_block: usize,
    /// Shared memory of one multiprocessor, bytes.
    pub shared_per_sm: usize,
    /// Highest clock of the multiprocessors, kHz.
    pub clock_khz: u32,
    /// Highest clock of the memory, kHz; 0 where the driver does not say.
    pub memory_clock_khz: u32,
    /// Width of the memory's bus, bits; 0 where the driver does not say.
    pub bus_bits: u32,
}

impl Driver {
    /// Opens and initialises the driver at `path`, by default the one of this machine.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::OldDriver`], [`Error::NoDevice`], or the driver's own.
    pub fn open(path: Option<&Path>) -> Result<Driver, Error> {
        let opened = Opened::new(path.unwrap_or(Path::new(LIBRARY)))?;
        let version = (opened.version as u32 / 1000, opened.version as u32 % 1000 / 10);
        if version < OLDEST_DRIVER {
            return Err(Error::OldDriver { found: version });
        }
        let api = Arc::new(opened.api()?);
        // SAFETY: cuInit takes 0.
        api.check("cuInit", unsafe { (api.init)(0) })?;
        let driver = Driver { api, version };
        if driver.count()? == 0 {
            return Err(Error::NoDevice { cause: "it counts 0".to_owned() });
        }
        Ok(driver)
    }

    /// The CUDA version the driver supports.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Whether this is the project's emulator.
    pub fn emulated(&self) -> bool {
        self.api.emulated
    }

    /// All devices, in the driver's order (which `CUDA_VISIBLE_DEVICES` changes).
    pub fn devices(&self) -> Result<Vec<Device>, Error> {
        (0..self.count()?).map(|index| Device::new(&self.api, index)).collect()
    }

    fn count(&self) -> Result<c_int, Error> {
        let mut count = 0;
        // SAFETY: a place for the number.
        self.api.check("cuDeviceGetCount", unsafe { (self.api.device_get_count)(&raw mut count) })?;
        Ok(count)
    }
}

impl Device {
    fn new(api: &Arc<Api>, index: c_int) -> Result<Device, Error> {
        let mut ordinal = 0;
        let mut name = [0 as c_char; 256];
        let mut memory = 0;
        // SAFETY: places for a device, a name of the length given, and a size.
        unsafe {
            api.check("cuDeviceGet", (api.device_get)(&raw mut ordinal, index))?;
            let code = (api.device_get_name)(name.as_mut_ptr(), name.len() as c_int - 1, ordinal);
            api.check("cuDeviceGetName", code)?;
            api.check("cuDeviceTotalMem", (api.device_total_mem)(&raw mut memory, ordinal))?;
        }
        // SAFETY: the array's last byte is zero, whatever the driver wrote.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let attribute = |which: c_int| {
            let mut value = 0;
            // SAFETY: a place for the value.
            let code = unsafe { (api.device_get_attribute)(&raw mut value, which, ordinal) };
            api.check("cuDeviceGetAttribute", code).map(|()| value as u32)
        };
        Ok(Device {
            api: Arc::clone(api),
            ordinal,
            name,
            capability: (attribute(sys::ATTRIBUTE_CC_MAJOR)?, attribute(sys::ATTRIBUTE_CC_MINOR)?),
            sms: attribute(sys::ATTRIBUTE_SMS)?,
            memory,
            integrated: attribute(sys::ATTRIBUTE_INTEGRATED)? != 0,
            l2: attribute(sys::ATTRIBUTE_L2_BYTES)? as usize,
            shared_per_block: attribute(sys::ATTRIBUTE_SHARED_PER_BLOCK)? as usize,
            shared_per_sm: attribute(sys::ATTRIBUTE_SHARED_PER_SM)? as usize,
            clock_khz: attribute(sys::ATTRIBUTE_CLOCK_KHZ)?,
            // Reported as 0 or refused by newer drivers.
            memory_clock_khz: attribute(sys::ATTRIBUTE_MEMORY_CLOCK_KHZ).unwrap_or(0),
            bus_bits: attribute(sys::ATTRIBUTE_BUS_BITS).unwrap_or(0),
        })
    }

    /// Whether this is the project's emulator.
    pub fn emulated(&self) -> bool {
        self.api.emulated
    }
}
