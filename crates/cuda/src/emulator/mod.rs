//! Builds the emulator: the kernels and `emulator/*.cpp` by a C++ compiler, as a library that stands in for
//! the CUDA driver. For tests and `cargo xtask emulator`, which includes this file.

mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sources::Hash;

/// Where sources and headers lie in the crate's folder.
const FOLDERS: [&str; 2] = ["kernels", "emulator"];

/// Names of units, separated by commas: only these kernels are built, so that work on one is not held up by
/// another that does not compile.
const UNITS_VARIABLE: &str = "JETSON_LLM_UNITS";

/// No contraction: an expression gives the same bits on every machine.
const OPTIONS: [&str; 7] =
    ["-std=c++17", "-O2", "-g1", "-fPIC", "-ffp-contract=off", "-DEMULATED", "-Wno-attributes"];

/// The library, built if a source has changed since; `None` when there is no C++ compiler.
///
/// `home` is the crate's folder, `cache` one for objects and libraries, shared by all builds.
///
/// # Errors
/// The compiler's words, or a file that cannot be read or written.
pub fn build(home: &Path, cache: &Path) -> Result<Option<PathBuf>, String> {
    let Some((compiler, version)) = compiler() else { return Ok(None) };
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    std::fs::create_dir_all(cache).map_err(at(cache))?;
    // Tests run at the same time would build the same objects.
    let lock = std::fs::File::create(cache.join("lock")).map_err(at(cache))?;
    lock.lock().map_err(at(cache))?;

    let folders = FOLDERS.map(|folder| home.join(folder));
    let mut objects = Vec::new();
    for folder in &folders {
        let mut sources = Vec::new();
        for entry in folder.read_dir().map_err(at(folder))? {
            sources.push(entry.map_err(at(folder))?.path());
        }
        sources.sort();
        sources.retain(|path| path.extension().is_some_and(|e| e == "cu" || e == "cpp"));
        for source in sources {
            let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if source.extension().is_some_and(|e| e == "cu") && !wanted(&stem) {
                continue;
            }
            let mut hash = Hash::NEW;
            hash.add(version.as_bytes());
            hash.add(OPTIONS.join(" ").as_bytes());
            hash.add_file(&source, &folders)?;
            objects.push((source, cache.join(format!("{stem}-{}.o", hash.digits()))));
        }
    }
    let mut all = Hash::NEW;
    for (_, object) in &objects {
        all.add(object.as_os_str().as_encoded_bytes());
    }
    let library = cache.join(format!("libcuda-{}.so", all.digits()));
    if library.exists() {
        return Ok(Some(library));
    }
    compile(compiler, home, &objects)?;
    let unfinished = library.with_extension("unfinished");
    let mut command = Command::new(compiler);
    command
        .args(["-shared", "-Wl,-z,defs", "-pthread", "-o"])
        .arg(&unfinished)
        .args(objects.iter().map(|(_, object)| object));
    finish(&command.output().map_err(at(Path::new(compiler)))?, "linking the emulator")?;
    std::fs::rename(&unfinished, &library).map_err(at(&library))?;
    Ok(Some(library))
}

/// The folder for what is built: `emulator` in cargo's target folder.
pub fn cache(home: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|t| !t.is_empty()).map(PathBuf::from);
    target.unwrap_or_else(|| home.join("../../target")).join("emulator")
}

/// Whether a unit is among those asked for, if some are.
fn wanted(unit: &str) -> bool {
    let units = std::env::var(UNITS_VARIABLE).unwrap_or_default();
    units.is_empty() || units.split(',').any(|name| name == unit)
}

/// The first C++ compiler that answers, and its version.
fn compiler() -> Option<(&'static str, String)> {
    ["g++", "c++", "clang++"].into_iter().find_map(|name| {
        let answer = Command::new(name).arg("--version").output().ok().filter(|a| a.status.success())?;
        Some((name, String::from_utf8_lossy(&answer.stdout).lines().next()?.to_owned()))
    })
}

/// Compiles the sources whose objects are missing, on all cores.
fn compile(compiler: &str, home: &Path, objects: &[(PathBuf, PathBuf)]) -> Result<(), String> {
    let missing: Vec<_> = objects.iter().filter(|(_, object)| !object.exists()).collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((source, object)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = compile_one(compiler, home, source, object);
                    if let (Err(error), Ok(mut failures)) = (done, failures.lock()) {
                        failures.push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().map_err(|_| "a compiling thread ended early".to_owned())?;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn compile_one(compiler: &str, home: &Path, source: &Path, object: &Path) -> Result<(), String> {
    let unfinished = object.with_extension("unfinished");
    let mut command = Command::new(compiler);
    command.args(OPTIONS);
    for folder in FOLDERS {
        command.arg("-I").arg(home.join(folder));
    }
    command.args(["-x", "c++", "-c", "-o"]).arg(&unfinished).arg(source);
    let output = command.output().map_err(|e| format!("{compiler}: {e}"))?;
    finish(&output, &source.display().to_string())?;
    std::fs::rename(&unfinished, object).map_err(|e| format!("{}: {e}", object.display()))
}

fn finish(output: &Output, what: &str) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
