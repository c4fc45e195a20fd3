//! The cubins this program contains, and which of them a device runs.

use super::{Context, Device, Error, Function, Module};

/// Code of one translation unit for one architecture.
pub struct Cubin {
    /// As 87 for sm_87.
    pub arch: u32,
    /// The unit's name, without `.cu`.
    pub unit: &'static str,
    /// The ELF file.
    pub bytes: &'static [u8],
}

// `COMPILER`, `ARCHS` (what a build with a compiler contains) and `CUBINS`, written by the build script.
include!(concat!(env!("OUT_DIR"), "/cubins.rs"));

/// What the emulator takes for a cubin of all kernels.
const EMULATED: &[Cubin] = &[Cubin { arch: 87, unit: "emulated", bytes: b"EMULATED" }];

/// Codes that say a cubin does not fit: invalid image, no binary for GPU, invalid PTX, unsupported PTX
/// version, no JIT compiler, JIT disabled, invalid source.
const REFUSALS: [i32; 7] = [200, 209, 218, 221, 222, 223, 300];

/// Name and version of the compiler of this program's kernels; `None` if it contains none.
pub fn compiler() -> Option<&'static str> {
    COMPILER
}

/// Architectures this program contains, as 87 for sm_87.
pub fn archs() -> Vec<u32> {
    let mut archs: Vec<u32> = CUBINS.iter().map(|cubin| cubin.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

/// The cubins for a device, one a unit.
///
/// # Errors
/// [`Error::NoKernels`], [`Error::NoCubin`].
pub fn cubins_for(device: &Device) -> Result<Vec<&'static Cubin>, Error> {
    let built = if device.emulated() { ARCHS.to_vec() } else { archs() };
    let arch = choose(&built, &device.name, device.capability)?;
    if device.emulated() {
        return Ok(EMULATED.iter().collect());
    }
    Ok(CUBINS.iter().filter(|cubin| cubin.arch == arch).collect())
}

/// The architecture whose code a device runs: its own, else the nearest older one of its generation, whose
/// code its instructions include.
fn choose(built: &[u32], device: &str, capability: (u32, u32)) -> Result<u32, Error> {
    if built.is_empty() {
        return Err(Error::NoKernels);
    }
    let fits = |arch: &u32| arch / 10 == capability.0 && arch % 10 <= capability.1;
    let best = built.iter().copied().filter(fits).max();
    best.ok_or_else(|| Error::NoCubin { device: device.to_owned(), capability, built: built.to_vec() })
}

/// All kernels, loaded for one device.
pub struct Kernels {
    modules: Vec<Module>,
}

impl Kernels {
    /// Loads the cubins for the context's device.
    ///
    /// # Errors
    /// Those of [`cubins_for`], and [`Error::Refused`] with the driver's reason.
    pub fn load(context: &Context) -> Result<Kernels, Error> {
        let cubins = cubins_for(context.device())?;
        let modules: Result<_, _> = cubins.iter().map(|cubin| load(context, cubin)).collect();
        Ok(Kernels { modules: modules? })
    }

    /// A kernel by name.
    ///
    /// # Errors
    /// [`Error::NoKernel`].
    pub fn function(&self, name: &str) -> Result<Function, Error> {
        for module in &self.modules {
            if let Some(function) = module.function(name)? {
                function.prefer_shared(shared_percent(name))?;
                return Ok(function);
            }
        }
        Err(Error::NoKernel { name: name.to_owned() })
    }
}

/// How a kernel divides the first-level cache, see [`Function::prefer_shared`].
///
/// A prompt's products want room for two blocks (a quarter faster on eight multiprocessors than with half).
/// Steps of few rows want cache: it holds loads under way, with none of it decode was 15 % slower, and products
/// of 2 to 8 rows find their input there (5 %). Kernels that follow each other in one of the two agree.
fn shared_percent(name: &str) -> u8 {
    let prompts = ["matmul_", "prefill_", "stage_f16"];
    if prompts.iter().any(|start| name.starts_with(start)) { 75 } else { 50 }
}

/// Loads one cubin and explains a refusal.
fn load(context: &Context, cubin: &Cubin) -> Result<Module, Error> {
    Module::load(context, cubin.bytes).map_err(|error| match error {
        Error::Call { code, name, text, .. } if REFUSALS.contains(&code) => Error::Refused {
            unit: cubin.unit.into(),
            arch: cubin.arch,
            compiler: COMPILER.unwrap_or("a C++ compiler").into(),
            name,
            text,
        },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_runs_its_own_code_or_the_nearest_older_of_its_generation() {
        let built = [80, 87, 90];
        let chosen = |capability| choose(&built, "board", capability).ok();
        assert_eq!(chosen((8, 7)), Some(87));
        assert_eq!(chosen((8, 9)), Some(87));
        assert_eq!(chosen((8, 6)), Some(80));
        assert_eq!(chosen((9, 0)), Some(90));
        assert_eq!(chosen((7, 5)), None);
        assert_eq!(chosen((10, 0)), None);
    }

    #[test]
    fn a_device_without_code_is_told_what_there_is() {
        let error = choose(&[87, 90], "Xavier", (7, 2)).unwrap_err().to_string();
        assert!(error.contains("Xavier (compute capability 7.2)"), "{error}");
        assert!(error.contains("sm_87 and sm_90"), "{error}");
        let error = choose(&[], "Orin", (8, 7)).unwrap_err().to_string();
        assert!(error.contains("NVRTC_LIB"), "{error}");
    }
}
