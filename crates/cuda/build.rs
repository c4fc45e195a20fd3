//! Compiles `kernels/*.cu` for every architecture and writes the table of cubins the crate embeds.
//!
//! Compilers in the order they are tried: `JETSON_LLM_CUBINS` (a folder of finished cubins),
//! `NVRTC_LIB` or an installed NVRTC 12, nvcc 12, either of CUDA 13. Without any, the table is empty
//! and the program says that it was built without GPU code. A kernel that does not compile fails the
//! build with the compiler's words.
#![allow(unsafe_code, reason = "NVRTC is a C library; every block says why it may")]

mod compile;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use compile::{ARCHS, Compiler, Sources, write};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows what a failed build script wrote.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    for path in ["kernels", "compile.rs", "compile", "src/emulator/sources.rs", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let variables = [
        compile::CUBINS_VARIABLE,
        compile::NVRTC_VARIABLE,
        compile::HOME_VARIABLE,
        compile::UNITS_VARIABLE,
        compile::LINES_VARIABLE,
    ];
    for name in variables {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this with cargo")?);
    let folder = out.join("cubins");
    let cache = out.join("cache");
    for folder in [&folder, &cache] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }

    let sources = Sources::read(Path::new("kernels"))?;
    let Some(compiler) = Compiler::find()? else {
        println!(
            "cargo::warning=no CUDA compiler here, so this build runs on CPUs only; README.md says under \
             \"On a GPU\" what makes it one for GPUs too"
        );
        keep_only(&folder, &[])?;
        return write(&out.join("cubins.rs"), table(None, &[]));
    };
    if !compiler.fits_cuda_12() {
        println!(
            "cargo::warning=the only CUDA compiler found is of CUDA 13: these GPU kernels do not load on \
             drivers of CUDA 12 (JetPack 6); set NVRTC_LIB to a libnvrtc.so.12"
        );
    }
    if let Compiler::Prebuilt(given) = &compiler {
        println!("cargo::rerun-if-changed={}", given.display());
        check_fingerprint(given, &sources)?;
    }
    if let Some(units) = std::env::var(compile::UNITS_VARIABLE).ok().filter(|units| !units.is_empty()) {
        println!("cargo::warning={} is set: GPU kernels of {units} alone", compile::UNITS_VARIABLE);
    }
    let name = compiler.name()?;
    let files = compile_all(&compiler, &sources, &folder, &cache)?;
    let units = sources.units.iter().flat_map(|unit| ARCHS.map(|arch| (unit, arch)));
    let made =
        units.flat_map(|(unit, arch)| [compile::cubin_name(unit, arch), compile::log_name(unit, arch)]);
    keep_only(&folder, &made.collect::<Vec<_>>())?;
    write(&folder.join(compile::COMPILER_FILE), &name)?;
    write(&folder.join(compile::SOURCES_FILE), sources.fingerprint())?;
    write(&out.join("cubins.rs"), table(Some(&name), &files))
}

/// Removes what earlier builds left, such as a unit since renamed.
fn keep_only(folder: &Path, names: &[String]) -> Result<(), String> {
    let fail = |error| format!("{}: {error}", folder.display());
    for entry in folder.read_dir().map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if !names.iter().any(|name| path.ends_with(name)) {
            std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// Refuses finished cubins made from other kernels than these.
fn check_fingerprint(given: &Path, sources: &Sources) -> Result<(), String> {
    let path = given.join(compile::SOURCES_FILE);
    let theirs = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if theirs.trim() == sources.fingerprint() {
        return Ok(());
    }
    Err(format!(
        "{}={}: these cubins were made from other kernels than this source tree's; build them again",
        compile::CUBINS_VARIABLE,
        given.display()
    ))
}

/// An embedded cubin: architecture, unit, file name.
type Embedded = (u32, String, String);

/// Compiles every unit for every architecture on all cores; all failures are told together.
fn compile_all(
    compiler: &Compiler,
    sources: &Sources,
    folder: &Path,
    cache: &Path,
) -> Result<Vec<Embedded>, String> {
    let jobs: Vec<_> = ARCHS.iter().flat_map(|&arch| sources.units.iter().map(move |u| (arch, u))).collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(arch, unit)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = compiler.compile(sources, unit, arch, folder, cache);
                    if let (Err(error), Ok(mut failures)) = (done, failures.lock()) {
                        failures.push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().map_err(|_| "a compiling thread ended early".to_owned())?;
    if !failures.is_empty() {
        return Err(failures.join("\n"));
    }
    let embedded = |&(arch, unit): &(u32, &compile::Source)| {
        (arch, unit.unit().to_owned(), compile::cubin_name(unit, arch))
    };
    Ok(jobs.iter().map(embedded).collect())
}

/// The Rust text of the table; paths are relative to it.
fn table(compiler: Option<&str>, files: &[Embedded]) -> String {
    let mut text = format!(
        "const COMPILER: Option<&str> = {compiler:?};\nconst ARCHS: &[u32] = &{ARCHS:?};\nstatic CUBINS: &[Cubin] = &[\n"
    );
    for (arch, unit, file) in files {
        let line = format!(
            "    Cubin {{ arch: {arch}, unit: {unit:?}, bytes: include_bytes!(\"cubins/{file}\") }},"
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text + "];\n"
}
