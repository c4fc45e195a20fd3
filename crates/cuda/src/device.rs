//! A GPU of this machine as a [`model::Device`].

use crate::design::Design;
use crate::driver::{self, Context, Driver, Kernels};
use crate::runner::CudaRunner;
use gguf::Gguf;
use model::runner::Memory;
use model::{Device, LoadOptions, Plan, Runner};
use std::path::PathBuf;

/// How the GPU is found and used.
#[derive(Clone, Debug)]
pub struct CudaOptions {
    /// The driver's library; `None` for this machine's.
    pub library: Option<PathBuf>,
    /// Which of the driver's devices.
    pub device: usize,
    /// Whether neighbouring operations share launches.
    pub fuse: bool,
    /// Whether steps of few rows are recorded once and replayed.
    pub graph: bool,
    /// Bytes the system says this process may still take. On integrated GPUs, whose memory is the machine's,
    /// this is what a model must fit into: the driver counts cached files as taken.
    pub host_free: Option<u64>,
    /// Bytes left free for what the driver takes by itself: recorded graphs, printing, local memory.
    pub reserve: u64,
}

impl Default for CudaOptions {
    fn default() -> Self {
        CudaOptions { library: None, device: 0, fuse: true, graph: true, host_free: None, reserve: 64 << 20 }
    }
}

/// Why there is no GPU to use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the driver says, with a remedy.
    #[error(transparent)]
    Driver(#[from] driver::Error),
    /// Fewer devices than the number asked for.
    #[error("there is no GPU {asked}: the driver finds {count}, counted from 0; give a smaller number")]
    NoSuchDevice {
        /// The number asked for.
        asked: usize,
        /// Devices found.
        count: usize,
    },
}

/// A GPU with its kernels loaded.
pub struct Cuda {
    context: Context,
    kernels: Kernels,
    options: CudaOptions,
}

impl Cuda {
    /// Opens the driver, a device, and the kernels made for it.
    ///
    /// # Errors
    /// The driver's, in words for users; see [`driver::Error`].
    pub fn open(options: CudaOptions) -> Result<Cuda, Error> {
        let driver = Driver::open(options.library.as_deref())?;
        let devices = driver.devices()?;
        let device = devices
            .get(options.device)
            .ok_or(Error::NoSuchDevice { asked: options.device, count: devices.len() })?;
        let context = Context::new(device)?;
        let kernels = Kernels::load(&context)?;
        Ok(Cuda { context, kernels, options })
    }

    /// What the device is.
    pub fn device(&self) -> &driver::Device {
        self.context.device()
    }

    /// How it is used.
    pub fn options(&self) -> &CudaOptions {
        &self.options
    }

    /// Bytes of device memory that loading `plan` takes, exactly.
    ///
    /// # Errors
    /// What the device cannot run, by name.
    pub fn cost(&self, plan: &Plan, options: &LoadOptions) -> Result<Memory, model::Error> {
        Design::new(plan, options, self.device(), &self.options).map(|design| design.memory())
    }

    /// Bytes of the host's pinned memory that a loaded plan takes beside that: on integrated GPUs it is the
    /// same memory.
    ///
    /// # Errors
    /// What the device cannot run, by name.
    pub fn pinned(&self, plan: &Plan, options: &LoadOptions) -> Result<u64, model::Error> {
        Design::new(plan, options, self.device(), &self.options).map(|design| design.pinned_bytes())
    }

    /// Bytes a model may take.
    ///
    /// # Errors
    /// The driver's.
    pub fn free(&self) -> Result<u64, driver::Error> {
        let (free, total) = self.context.memory()?;
        let free = match self.options.host_free {
            Some(host) if self.device().integrated => host.min(total as u64),
            _ => free as u64,
        };
        // Small boards are those of tests.
        Ok(free.saturating_sub(self.options.reserve.min(total as u64 / 64)))
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }
}

impl Device for Cuda {
    fn name(&self) -> String {
        let device = self.device();
        let (major, minor) = device.capability;
        format!("cuda ({}, {} SMs, sm_{major}{minor})", device.name, device.sms)
    }

    fn load(
        &self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Runner>, model::Error> {
        Ok(Box::new(CudaRunner::load(self, file, plan, options, progress)?))
    }
}
