//! What tests of kernels use: a device, a stream, all kernels; the emulator and a GPU alike.
//!
//! Everything here panics with the cause, as tests do.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::driver::{Args, Block, Context, Driver, Error, Kernels, Launch, Plain, Stream};
use crate::emulator;

/// A device ready for launches.
pub struct Lab {
    /// Its context.
    pub context: Context,
    /// The stream everything here uses.
    pub stream: Stream,
    /// All kernels.
    pub kernels: Kernels,
}

/// The emulator's library; `None`, with a line that says so, when there is no C++ compiler.
pub fn emulated_library() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        match emulator::build(home, &emulator::cache(home)) {
            Ok(library) => library,
            Err(error) => panic!("the emulator does not build: {error}"),
        }
    });
    if built.is_none() {
        eprintln!("skipped: no C++ compiler for the emulator");
    }
    built.clone()
}

impl Lab {
    /// On the emulator.
    pub fn emulated() -> Option<Lab> {
        let driver = must(Driver::open(Some(&emulated_library()?)));
        Some(must(Lab::new(&driver)))
    }

    /// On the first GPU of this machine.
    pub fn real() -> Option<Lab> {
        let opened = Driver::open(None).and_then(|driver| Lab::new(&driver));
        match opened {
            Ok(lab) => Some(lab),
            Err(
                error @ (Error::NoDriver { .. }
                | Error::NoDevice { .. }
                | Error::OldDriver { .. }
                | Error::NoKernels
                | Error::NoCubin { .. }),
            ) => {
                eprintln!("skipped: no CUDA device ({error})");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// On all there are.
    pub fn all() -> Vec<Lab> {
        Lab::emulated().into_iter().chain(Lab::real()).collect()
    }

    fn new(driver: &Driver) -> Result<Lab, Error> {
        let devices = driver.devices()?;
        let device = devices.first().ok_or(Error::NoDevice { cause: "it lists none".to_owned() })?;
        let context = Context::new(device)?;
        let stream = Stream::new(&context)?;
        let kernels = Kernels::load(&context)?;
        Ok(Lab { context, stream, kernels })
    }

    /// The device's name, for messages.
    pub fn name(&self) -> &str {
        &self.context.device().name
    }

    /// Whether this is the emulator: tests make their cases smaller there.
    pub fn is_emulated(&self) -> bool {
        self.context.device().emulated()
    }

    /// A block with these values.
    pub fn upload<T: Plain>(&self, values: &[T]) -> Block {
        let block = must(Block::new(&self.context, size_of_val(values)));
        must(block.write(&self.stream, 0, values));
        block
    }

    /// A block for `n` values that are all ones: NaN for floats. A result that was not written shows.
    pub fn poisoned<T: Plain>(&self, n: usize) -> Block {
        let block = must(Block::new(&self.context, n * size_of::<T>()));
        must(block.fill_later(&self.stream, 0, block.bytes(), 0xFF));
        block
    }

    /// A block of `n` zeros.
    pub fn zeroed<T: Plain>(&self, n: usize) -> Block {
        let block = must(Block::new(&self.context, n * size_of::<T>()));
        must(block.fill_later(&self.stream, 0, block.bytes(), 0));
        block
    }

    /// A block's values, after everything launched before.
    pub fn download<T: Plain + Default>(&self, block: &Block) -> Vec<T> {
        let mut values = vec![T::default(); block.bytes() / size_of::<T>()];
        must(block.read(&self.stream, 0, &mut values));
        values
    }

    /// Launches a kernel; allows as much shared memory as asked for.
    pub fn launch<A: Args>(&self, kernel: &str, grid: [u32; 3], threads: u32, shared_bytes: u32, args: &A) {
        let function = must(self.kernels.function(kernel));
        must(function.allow_shared(shared_bytes as usize));
        must(self.stream.launch(&function, Launch { grid, threads, shared_bytes, overlap: false }, args));
    }

    /// Waits for everything launched and fails if something did.
    pub fn wait(&self) {
        must(self.stream.synchronize());
    }
}

fn must<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
