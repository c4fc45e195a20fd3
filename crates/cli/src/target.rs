//! Where to compute: cores, a GPU, or the slow interpreter.

use std::path::PathBuf;

use cpu::Cpu;
use cuda::weights::Loader;
use cuda::{Cuda, CudaOptions, driver};
use gguf::Gguf;
use model::reference::ReferenceDevice;
use model::runner::{KvType, Memory};
use model::{Device, LoadOptions, Plan, Runner};

use crate::args::{DeviceName, Machine};
use crate::config::Config;
use crate::failure::{bad_input, explain};
use crate::free::Free;
use crate::screen::{Screen, printable, size};

/// What the options of a command name.
pub(crate) enum Target {
    /// Anything that is simply there.
    Plain(Plain),
    /// A GPU; if nobody asked for it, what it cannot take goes to the cores.
    Gpu {
        /// The GPU.
        cuda: Box<Cuda>,
        /// Whether the command names it.
        asked: bool,
        /// Whether to say what its memory is used for.
        verbose: bool,
    },
}

/// What needs no driver.
pub(crate) enum Plain {
    /// The cores.
    Cores(Cpu),
    /// The slow interpreter.
    Reference(ReferenceDevice),
}

/// What a run takes on a device, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of the memory that the model lies in.
    pub(crate) memory: Memory,
    /// Of the host's memory for talking with a GPU.
    pub(crate) pinned: u64,
    /// Of the host's memory while loading, beyond what stays.
    pub(crate) loading: u64,
    /// What a GPU's driver takes by itself.
    pub(crate) driver: u64,
    /// Threads of the host.
    pub(crate) threads: u64,
}

impl Target {
    /// The cores.
    pub(crate) fn cpu() -> Target {
        Target::Plain(Plain::Cores(Cpu::new()))
    }

    /// The slow interpreter.
    pub(crate) fn reference() -> Target {
        Target::Plain(Plain::Reference(ReferenceDevice))
    }

    /// What loading `plan` with these sizes takes.
    ///
    /// # Errors
    /// What a GPU cannot run, by name.
    pub(crate) fn cost(&self, plan: &Plan, options: &LoadOptions) -> Result<Cost, model::Error> {
        let threads = options.threads as u64;
        let plain = |memory| Cost { memory, pinned: 0, loading: 0, driver: 0, threads };
        match self {
            Target::Plain(Plain::Cores(cores)) => Ok(plain(cores.cost(plan, options))),
            Target::Plain(Plain::Reference(_)) => {
                // It keeps everything decoded.
                let matrices: usize = plan.weights.iter().map(|weight| weight.rows * weight.cols).sum();
                let vectors: usize = plan.vectors.iter().map(|vector| vector.len).sum();
                let memory = plan.memory(&LoadOptions { kv: KvType::F32, ..*options });
                Ok(plain(Memory { weights: 4 * (matrices + vectors) as u64, ..memory }))
            }
            Target::Gpu { cuda, .. } => Ok(Cost {
                memory: cuda.cost(plan, options)?,
                pinned: cuda.pinned(plan, options)?,
                loading: Loader::new(false).host_bytes() as u64,
                driver: cuda.options().reserve,
                threads: 1,
            }),
        }
    }

    /// The device of `--device`. Without a GPU, `auto` is the cores and says nothing; where there is one that
    /// cannot be used, it says why.
    pub(crate) fn open(machine: &Machine, config: &Config, screen: Screen) -> anyhow::Result<Target> {
        let asked = machine.device == DeviceName::Cuda;
        if machine.device == DeviceName::Cpu {
            return Ok(Target::cpu());
        }
        let library: Option<PathBuf> = machine.cuda_library.clone().or_else(|| config.cuda_library.clone());
        let named = library.is_some();
        let root = machine.root()?;
        if !root.is_real() && !asked && !named {
            // Another machine's files come without its GPU.
            return Ok(Target::cpu());
        }
        let options = CudaOptions {
            library,
            device: machine.gpu,
            fuse: !machine.no_fuse,
            graph: !machine.no_graph,
            host_free: Free::read(&root, true, machine.reserve).usable(),
            ..CudaOptions::default()
        };
        let absent = |error: &cuda::Error| {
            use driver::Error::{NoDevice, NoDriver};
            matches!(error, cuda::Error::Driver(NoDriver { .. } | NoDevice { .. })) && !named
        };
        match Cuda::open(options) {
            Ok(cuda) => Ok(Target::Gpu { cuda: Box::new(cuda), asked, verbose: machine.verbose }),
            Err(error) if asked => Err(unusable(&error)),
            Err(error) => {
                if !absent(&error) {
                    unused(screen, &error.to_string());
                }
                Ok(Target::cpu())
            }
        }
    }

    /// Whether this is a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        matches!(self, Target::Gpu { .. })
    }

    /// The device's name.
    pub(crate) fn name(&self) -> String {
        match self {
            Target::Plain(Plain::Cores(device)) => device.name(),
            Target::Plain(Plain::Reference(device)) => device.name(),
            Target::Gpu { cuda, .. } => cuda.name(),
        }
    }

    /// The usual type of the cache where results are compared with other programs: rounding keys and values
    /// to half floats would be most of the difference. GPUs have no other.
    pub(crate) fn exact_kv(&self) -> KvType {
        if self.is_gpu() { KvType::F16 } else { KvType::F32 }
    }

    /// Loads a plan on the GPU if this is one and it takes the plan; becomes the cores if it does not and
    /// nobody asked for it.
    pub(crate) fn load_on_gpu(
        &mut self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        screen: Screen,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Box<dyn Runner>>, model::Error> {
        let Target::Gpu { cuda, asked, verbose } = self else { return Ok(None) };
        for line in cuda::weights::conversions(plan) {
            screen.note(&format!("note: {line}"));
        }
        if *verbose {
            // What cannot be told is refused by name below.
            if let Ok(line) = gpu_memory(cuda, plan, options) {
                screen.note(&line);
            }
        }
        match cuda.load_in_pieces(file, plan, options, progress) {
            Ok((runner, pieces)) => {
                if *verbose {
                    screen.note(&loaded(cuda, &runner.memory(), pieces));
                }
                Ok(Some(runner))
            }
            // A file that cannot be read is no better on the cores.
            Err(error @ model::Error::File(_)) => Err(error),
            Err(error) if *asked => Err(error),
            Err(error) => {
                self.leave(&explain(&error), screen);
                Ok(None)
            }
        }
    }

    /// Bytes of a GPU's memory that its driver has left, whoever took the others.
    pub(crate) fn device_free(&self) -> Option<u64> {
        let Target::Gpu { cuda, .. } = self else { return None };
        // The same context as the GPU's own, once more.
        let context = driver::Context::new(cuda.device()).ok()?;
        context.memory().ok().map(|(free, _)| free as u64)
    }

    /// Whether this is a GPU that the command does not name: then the cores may take its place.
    pub(crate) fn may_leave(&self) -> bool {
        matches!(self, Target::Gpu { asked: false, .. })
    }

    /// Becomes the cores, and says why.
    pub(crate) fn leave(&mut self, why: &str, screen: Screen) {
        unused(screen, why);
        *self = Target::cpu();
    }

    /// What is not a GPU.
    pub(crate) fn plain(&self) -> Option<&dyn Device> {
        match self {
            Target::Plain(Plain::Cores(device)) => Some(device),
            Target::Plain(Plain::Reference(device)) => Some(device),
            Target::Gpu { .. } => None,
        }
    }
}

/// What loading `plan` takes of a GPU's memory, and how much is free, in one line.
pub(crate) fn gpu_memory(cuda: &Cuda, plan: &Plan, options: &LoadOptions) -> Result<String, model::Error> {
    let (memory, pinned) = (cuda.cost(plan, options)?, cuda.pinned(plan, options)?);
    let free = cuda.free().map_or_else(|_| "unknown".to_owned(), size);
    Ok(format!(
        "GPU memory: {} for {} positions (weights {}, cache {}, buffers {}), pinned {} of the host; free {free}",
        size(memory.total()),
        plan.context,
        size(memory.weights),
        size(memory.kv),
        size(memory.buffers),
        size(pinned)
    ))
}

/// What loading took, in one line.
fn loaded(cuda: &Cuda, memory: &Memory, pieces: usize) -> String {
    let free = cuda.free().map_or_else(|_| "unknown".to_owned(), size);
    let chunks = if pieces == 1 { "chunk" } else { "chunks" };
    format!(
        "GPU loaded: weights {} in {pieces} {chunks}, cache {}, buffers {}; free after {free}",
        size(memory.weights),
        size(memory.kv),
        size(memory.buffers)
    )
}

/// The GPU that was asked for: not there or not for this program, which is a mistake of the command line, or
/// there and failing.
fn unusable(error: &cuda::Error) -> anyhow::Error {
    use driver::Error::{Call, OutOfMemory};
    let text = printable(&error.to_string());
    match error {
        cuda::Error::Driver(Call { .. } | OutOfMemory { .. }) => anyhow::Error::msg(text),
        _ => bad_input(text),
    }
}

fn unused(screen: Screen, why: &str) {
    screen.note(&format!("note: the GPU is not used: {}", printable(why)));
}
