//! Compiles the kernels to cubins; used by the build script.
//!
//! Kernels are free of headers, so NVRTC alone is enough: no toolkit, no include path. Cubins made by
//! CUDA 12.x load on every driver from 12.0 on; those made by 13.x have another ABI version and do not
//! load on JetPack 6, so a compiler of CUDA 13 is the last choice.

mod nvcc;
mod nvrtc;
#[path = "src/emulator/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};

use self::nvcc::Nvcc;
use self::nvrtc::Nvrtc;
use self::sources::Hash;

/// Compute capabilities a build holds code for: Orin and Hopper.
pub(crate) const ARCHS: [u32; 2] = [87, 90];

/// A folder of cubins made by another build: its `OUT_DIR/cubins`.
pub(crate) const CUBINS_VARIABLE: &str = "JETSON_LLM_CUBINS";
/// The NVRTC library to use instead of the one found.
pub(crate) const NVRTC_VARIABLE: &str = "NVRTC_LIB";
/// A CUDA toolkit whose `bin/nvcc` is used when none is on PATH.
pub(crate) const HOME_VARIABLE: &str = "CUDA_HOME";

/// Names of units, separated by commas: only these are compiled, so that work on one is not held up by
/// another that does not compile. The program lacks the others.
pub(crate) const UNITS_VARIABLE: &str = "JETSON_LLM_UNITS";
/// Set: release builds too tell profilers and sanitizers the kernels' lines. That makes cubins ten times
/// larger, names this machine's folders in them, and changes no instruction.
pub(crate) const LINES_VARIABLE: &str = "JETSON_LLM_KERNEL_LINES";

/// The file of a folder of cubins that names the compiler.
pub(crate) const COMPILER_FILE: &str = "compiler";
/// The file of a folder of cubins that holds the fingerprint of the kernels' text.
pub(crate) const SOURCES_FILE: &str = "sources";

/// A source file.
pub(crate) struct Source {
    /// File name with its ending.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) text: String,
}

impl Source {
    /// The file's name without `.cu`.
    pub(crate) fn unit(&self) -> &str {
        self.name.trim_end_matches(".cu")
    }

    /// Compiler options asked for by a line `// options: --use_fast_math` of the file's head.
    fn options(&self) -> Vec<&str> {
        let head = self.text.lines().take(30);
        let asked = head.filter_map(|line| line.trim().strip_prefix("// options:"));
        asked.flat_map(str::split_whitespace).collect()
    }
}

/// The kernels' folder, read.
pub(crate) struct Sources {
    folder: PathBuf,
    /// The translation units, `*.cu`, by name.
    pub(crate) units: Vec<Source>,
    /// What they include, `*.cuh` of the folder and its folders, by path.
    headers: Vec<Source>,
}

impl Sources {
    /// Reads the units of a folder, and the headers there and in its folders.
    pub(crate) fn read(folder: &Path) -> Result<Sources, String> {
        let mut sources = Sources { folder: folder.to_owned(), units: Vec::new(), headers: Vec::new() };
        sources.add(Path::new(""))?;
        if let Ok(wanted) = std::env::var(UNITS_VARIABLE) {
            sources
                .units
                .retain(|unit| wanted.is_empty() || wanted.split(',').any(|name| name == unit.unit()));
        }
        Ok(sources)
    }

    /// Adds the files of a folder given relative to the first.
    fn add(&mut self, inner: &Path) -> Result<(), String> {
        let folder = self.folder.join(inner);
        let fail = |error| format!("{}: {error}", folder.display());
        let mut names = Vec::new();
        for entry in folder.read_dir().map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name());
        }
        names.sort();
        for name in names {
            let path = inner.join(name);
            let full = self.folder.join(&path);
            if full.is_dir() {
                self.add(&path)?;
                continue;
            }
            let list = match path.extension().and_then(|e| e.to_str()) {
                Some("cu") if inner == Path::new("") => &mut self.units,
                Some("cuh") => &mut self.headers,
                _ => continue,
            };
            list.push(Source { name: path.display().to_string(), text: read(&full)? });
        }
        Ok(())
    }

    /// Tells whether cubins were made from these sources.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Hash::NEW;
        for source in self.units.iter().chain(&self.headers) {
            hash.add(source.name.as_bytes());
            hash.add(source.text.as_bytes());
        }
        hash.digits()
    }
}

/// What turns a unit into a cubin.
pub(crate) enum Compiler {
    /// Cubins another build made.
    Prebuilt(PathBuf),
    /// The library.
    Nvrtc(Nvrtc),
    /// The program.
    Nvcc(Nvcc),
}

impl Compiler {
    /// The best compiler of this machine, `None` if there is none.
    ///
    /// # Errors
    /// One named by an environment variable that cannot be used.
    pub(crate) fn find() -> Result<Option<Compiler>, String> {
        if let Some(folder) = variable(CUBINS_VARIABLE) {
            return Ok(Some(Compiler::Prebuilt(folder)));
        }
        if let Some(path) = variable(NVRTC_VARIABLE) {
            let nvrtc =
                Nvrtc::open(&path).map_err(|e| format!("{NVRTC_VARIABLE}={}: {e}", path.display()))?;
            return Ok(Some(Compiler::Nvrtc(nvrtc)));
        }
        if let Some(nvrtc) = Nvrtc::find(&["libnvrtc.so.12"]).filter(|n| n.version.0 == 12) {
            return Ok(Some(Compiler::Nvrtc(nvrtc)));
        }
        let nvcc = Nvcc::find(variable(HOME_VARIABLE));
        if nvcc.as_ref().is_some_and(|n| n.version.0 == 12) {
            return Ok(nvcc.map(Compiler::Nvcc));
        }
        let nvrtc = Nvrtc::find(&["libnvrtc.so.13", "libnvrtc.so"]).filter(|n| n.version.0 >= 12);
        Ok(nvrtc.map(Compiler::Nvrtc).or(nvcc.map(Compiler::Nvcc)))
    }

    /// Its name and version for people.
    pub(crate) fn name(&self) -> Result<String, String> {
        match self {
            Compiler::Prebuilt(folder) => read(&folder.join(COMPILER_FILE)).map(|s| s.trim().to_owned()),
            Compiler::Nvrtc(Nvrtc { version: (major, minor), .. }) => Ok(format!("NVRTC {major}.{minor}")),
            Compiler::Nvcc(Nvcc { version: (major, minor), .. }) => Ok(format!("nvcc {major}.{minor}")),
        }
    }

    /// Whether its cubins load on drivers of CUDA 12.
    pub(crate) fn fits_cuda_12(&self) -> bool {
        match self {
            Compiler::Prebuilt(_) => true,
            Compiler::Nvrtc(Nvrtc { version, .. }) | Compiler::Nvcc(Nvcc { version, .. }) => version.0 < 13,
        }
    }

    /// Puts the cubin of a unit and the compiler's log (registers and spills of every kernel) into `folder`.
    ///
    /// What is in `cache` from an earlier build of the same text is not made again.
    ///
    /// # Errors
    /// The compiler's own words.
    pub(crate) fn compile(
        &self,
        sources: &Sources,
        unit: &Source,
        arch: u32,
        folder: &Path,
        cache: &Path,
    ) -> Result<(), String> {
        let (cubin_name, log_name) = (cubin_name(unit, arch), log_name(unit, arch));
        if let Compiler::Prebuilt(given) = self {
            copy(&given.join(&cubin_name), &folder.join(&cubin_name))?;
            // Cubins without their logs run as well.
            let _ = copy(&given.join(&log_name), &folder.join(&log_name));
            return Ok(());
        }
        let mut hash = Hash::NEW;
        hash.add(self.name()?.as_bytes());
        hash.add(options(unit, arch).join(" ").as_bytes());
        hash.add_file(&sources.folder.join(&unit.name), std::slice::from_ref(&sources.folder))?;
        let kept = cache.join(format!("{}-{}", cubin_name, hash.digits()));
        let kept_log = cache.join(format!("{}-{}", log_name, hash.digits()));
        if !kept.exists() || !kept_log.exists() {
            let made = match self {
                Compiler::Nvrtc(nvrtc) => nvrtc.compile(&sources.folder, unit, arch),
                Compiler::Nvcc(nvcc) => nvcc.compile(&sources.folder, unit, arch, &cache.join(&cubin_name)),
                Compiler::Prebuilt(_) => Err("finished cubins are copied, not made".to_owned()),
            };
            let (cubin, log) = made.map_err(|e| format!("{} for sm_{arch}: {e}", unit.name))?;
            forget(cache, &cubin_name);
            forget(cache, &log_name);
            write(&kept_log, log)?;
            write(&kept, cubin)?;
        }
        copy(&kept, &folder.join(cubin_name))?;
        copy(&kept_log, &folder.join(log_name))
    }
}

/// File name of a unit's cubin.
pub(crate) fn cubin_name(unit: &Source, arch: u32) -> String {
    format!("{}.sm_{arch}.cubin", unit.unit())
}

/// File name of the compiler's log.
pub(crate) fn log_name(unit: &Source, arch: u32) -> String {
    format!("{}.sm_{arch}.log", unit.unit())
}

/// Options for every compiler. Fast mathematics are a unit's own decision.
fn options(unit: &Source, arch: u32) -> Vec<String> {
    let mut options = vec![format!("-arch=sm_{arch}"), "-std=c++17".to_owned()];
    if std::env::var_os(LINES_VARIABLE).is_some() || std::env::var("PROFILE").is_ok_and(|p| p == "debug") {
        options.push("-lineinfo".to_owned());
    }
    options.extend(unit.options().into_iter().map(str::to_owned));
    options
}

/// An environment variable that names a path.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Removes what a cache has of a file from other texts. What stays only takes room.
fn forget(cache: &Path, name: &str) {
    for entry in cache.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|e| format!("{}: {e}", from.display()))
}

/// Writes a file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    std::fs::write(path, content).map_err(|e| format!("{}: {e}", path.display()))
}
