//! Everything that can go wrong between the program and the GPU.

use super::sys::{self, Api, Code};
use std::ffi::{CStr, c_char};
use std::ptr;

/// Oldest driver the program runs on: JetPack 6.0's.
pub const OLDEST_DRIVER: (u32, u32) = (12, 2);

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No library to open.
    #[error(
        "no CUDA driver: {library} cannot be opened ({cause}); install the NVIDIA driver (JetPack 6 on a \
         Jetson), mount it into the container (`--runtime nvidia`), or use `--device cpu`"
    )]
    NoDriver {
        /// Name or path tried.
        library: String,
        /// The loader's words.
        cause: String,
    },
    /// The library is no driver of the version it claims.
    #[error("{library} lacks the function {function}: it is no complete CUDA driver; reinstall the driver")]
    MissingFunction {
        /// The library.
        library: String,
        /// The symbol.
        function: String,
    },
    /// Older than [`OLDEST_DRIVER`].
    #[error(
        "the CUDA driver is of version {}.{}, at least {}.{} is needed: update to JetPack 6 or driver 535, or \
         use `--device cpu`", found.0, found.1, OLDEST_DRIVER.0, OLDEST_DRIVER.1
    )]
    OldDriver {
        /// CUDA version the driver supports.
        found: (u32, u32),
    },
    /// A driver, but nothing to drive.
    #[error(
        "the CUDA driver finds no GPU ({cause}); check that the container or CUDA_VISIBLE_DEVICES passes one \
         on, or use `--device cpu`"
    )]
    NoDevice {
        /// The driver's words.
        cause: String,
    },
    /// The program was built on a machine without a compiler for kernels.
    #[error(
        "this program was built without GPU kernels; build it again with NVRTC_LIB naming a libnvrtc.so.12, \
         or use `--device cpu`"
    )]
    NoKernels,
    /// No code for this GPU.
    #[error(
        "no kernels for {device} (compute capability {}.{}): this program contains {}; build it with that \
         architecture in the list of crates/cuda/compile.rs, or use `--device cpu`",
        capability.0, capability.1, arch_names(built)
    )]
    NoCubin {
        /// The device's name.
        device: String,
        /// Major and minor.
        capability: (u32, u32),
        /// Architectures the program has cubins of, as 87 for sm_87.
        built: Vec<u32>,
    },
    /// The driver does not take a cubin.
    #[error(
        "the CUDA driver refuses the kernels of {unit} (sm_{arch}, built with {compiler}): {name}, {text}; \
         build with NVRTC of the driver's own major version or older (12.x for JetPack 6), or update the driver"
    )]
    Refused {
        /// Translation unit.
        unit: Box<str>,
        /// As 87.
        arch: u32,
        /// Name and version of the compiler.
        compiler: Box<str>,
        /// The code's name.
        name: Box<str>,
        /// The code's text.
        text: Box<str>,
    },
    /// A kernel that no loaded cubin has.
    #[error("no kernel is called {name}: the cubins are of another version; build the program again")]
    NoKernel {
        /// The kernel.
        name: String,
    },
    /// Arguments of another size than the kernel's.
    #[error(
        "the kernel {kernel} takes {expected} bytes of arguments, {given} were given: the cubins are of \
         another version; build the program again"
    )]
    Arguments {
        /// The kernel.
        kernel: String,
        /// Bytes it takes.
        expected: usize,
        /// Bytes of the structure.
        given: usize,
    },
    /// An allocation that does not fit, or that the driver refuses in one piece.
    #[error(
        "the GPU has no room for {bytes} bytes in one piece ({free} of {total} bytes are free); close other \
         programs, use a shorter context (`-c`) or a smaller model"
    )]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Free at that moment.
        free: usize,
        /// In all.
        total: usize,
    },
    /// A copy beyond a block's end.
    #[error("{bytes} bytes at {offset} do not lie in a block of {length} bytes: a fault of the program")]
    Range {
        /// Where the copy starts.
        offset: usize,
        /// Its length.
        bytes: usize,
        /// The block's length.
        length: usize,
    },
    /// Any other failed call.
    #[error("{call} failed: {name} ({code}), {text}; {remedy}")]
    Call {
        /// The driver's function.
        call: &'static str,
        /// Its result.
        code: i32,
        /// The result's name.
        name: Box<str>,
        /// The result's text.
        text: Box<str>,
        /// What to do.
        remedy: &'static str,
    },
}

impl Error {
    /// A failure before the driver can be asked for names.
    pub(crate) fn bare(call: &'static str, code: Code) -> Error {
        let (name, text) = ("unknown".into(), "no text".into());
        Error::Call { call, code, name, text, remedy: remedy(code) }
    }

    /// Whether a smaller allocation may succeed.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::OutOfMemory { .. })
    }

    /// Whether the context is unusable from now on: every further call fails alike.
    pub fn is_lost(&self) -> bool {
        // Sticky errors of cuda.h: ECC, illegal address, timeouts, traps, unknown.
        matches!(self, Error::Call { code: 214 | 220 | 700 | 702 | 709 | 710 | 714..=719 | 999, .. })
    }
}

/// What usually helps against a code.
fn remedy(code: Code) -> &'static str {
    match code {
        2 => "close other programs on the GPU, use a shorter context or a smaller model",
        34 => "this is the toolkit's stub library; install the driver itself",
        46 => "another program holds the GPU exclusively; end it, or set the compute mode to default",
        100 => "check that the container or CUDA_VISIBLE_DEVICES passes a GPU on",
        214 | 220 => "the GPU reports a fault of its memory; restart the machine",
        700 | 710 | 714..=719 => {
            "a kernel failed, a fault of the program: run again with `--no-graph` and report the line that appears"
        }
        702 => "a kernel took too long for the display's watchdog; run without a display on this GPU",
        801 => "this driver or GPU lacks the function; update the driver, or run with `--no-graph`",
        802..=804 => "the kernel module and the library differ; restart the machine, or reinstall the driver",
        900..=908 => "a fault of the program while recording a graph; run with `--no-graph`",
        999 => "the driver does not say why; look into `dmesg`, restart the machine",
        _ => "a fault of the program or the driver; run with `--device cpu` and report this line",
    }
}

fn arch_names(archs: &[u32]) -> String {
    archs.iter().map(|arch| format!("sm_{arch}")).collect::<Vec<_>>().join(" and ")
}

impl Api {
    /// Success or the failed call, named by the driver.
    pub(crate) fn check(&self, call: &'static str, code: Code) -> Result<(), Error> {
        if code == 0 {
            return Ok(());
        }
        let (name, text) = self.describe(code);
        if code == sys::NO_DEVICE {
            return Err(Error::NoDevice { cause: format!("{call}: {text}") });
        }
        Err(Error::Call { call, code, name, text, remedy: remedy(code) })
    }

    /// Name and text of a code.
    pub(crate) fn describe(&self, code: Code) -> (Box<str>, Box<str>) {
        let ask = |get: unsafe extern "C" fn(Code, *mut *const c_char) -> Code, other: &str| {
            let mut at = ptr::null();
            // SAFETY: the driver gives a string that is never freed, or null for codes it does not know.
            unsafe {
                if get(code, &raw mut at) != 0 || at.is_null() {
                    return other.into();
                }
                CStr::from_ptr(at).to_string_lossy().into()
            }
        };
        (ask(self.get_error_name, "an unnamed error"), ask(self.get_error_string, "no text"))
    }
}
