//! What the GPU kernels cost, seen without a GPU: registers, spills, and instructions per byte of weights.
//!
//! Reads what the build script of the crate `cuda` made: the very cubins that ship, and the log of the
//! compiler. Decode is bound by memory only while it spends few instructions on a byte, so the machine code
//! of every decode kernel's main loop is counted and held against a limit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::emulator;
use crate::sass::{Listing, Mark};
use crate::tree;

/// A kernel whose main loop is counted.
struct Limit {
    kernel: &'static str,
    /// Bytes of weights a warp reads in one iteration: a tile's, divided by the steps it is taken in.
    bytes: usize,
    /// Most instructions of the loop per byte, on [`GATED_ARCH`].
    most: f64,
}

const fn limit(kernel: &'static str, bytes: usize, most: f64) -> Limit {
    Limit { kernel, bytes, most }
}

/// The architecture the limits hold for: Orin.
const GATED_ARCH: u32 = 87;

/// 0.10 keeps an Orin's memory busy with room to spare; kernels far below it are held where they are.
/// Tiles are 16 rows by 256 columns; their bytes and steps are those of `kernels/matvec`.
const LIMITS: [Limit; 14] = [
    limit("matvec_q4_k", 2304, 0.10),
    limit("matvec_q5_k", 2816, 0.10),
    limit("matvec_q6_k", 3360, 0.10),
    limit("matvec_q8_0", 4352 / 2, 0.06),
    limit("matvec_q4_0", 2304, 0.10),
    limit("matvec_f16", 8192 / 4, 0.08),
    // Two loops; that of Q6_K reads more.
    limit("matvec_q4_k_q6_k", 3360, 0.10),
    limit("matvec_q5_k_q6_k", 3360, 0.10),
    limit("matvec_gated_q4_k", 2304, 0.10),
    limit("matvec_gated_q5_k", 2816, 0.10),
    limit("matvec_gated_q6_k", 3360, 0.10),
    limit("matvec_gated_q8_0", 4352 / 2, 0.06),
    limit("matvec_gated_q4_0", 2304, 0.10),
    limit("matvec_gated_f16", 8192 / 4, 0.08),
];

/// What the compiler's log says of one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    kernel: String,
    registers: u32,
    spilled: u32,
    stack: u32,
    shared: u32,
}

/// One line of the table.
struct Row {
    arch: u32,
    usage: Usage,
    /// Instructions of the main loop.
    instructions: Option<usize>,
}

impl Row {
    fn limit(&self) -> Option<&'static Limit> {
        LIMITS.iter().find(|limit| limit.kernel == self.usage.kernel)
    }

    /// Instructions of the main loop per byte of weights.
    fn per_byte(&self) -> Option<f64> {
        Some(self.instructions? as f64 / self.limit()?.bytes as f64)
    }

    /// What is wrong with it.
    fn breaches(&self) -> Vec<String> {
        let Usage { kernel, spilled, stack, .. } = &self.usage;
        let name = format!("{kernel} (sm_{})", self.arch);
        let mut breaches = Vec::new();
        if *spilled > 0 {
            breaches.push(format!("{name} spills {spilled} bytes of registers"));
        } else if *stack > 0 {
            breaches
                .push(format!("{name} has a stack frame of {stack} bytes: an array is indexed at run time"));
        }
        if let (GATED_ARCH, Some(limit), Some(per_byte)) = (self.arch, self.limit(), self.per_byte())
            && per_byte > limit.most
        {
            breaches
                .push(format!("{name} spends {per_byte:.3} instructions on a byte, at most {}", limit.most));
        }
        breaches
    }
}

/// Prints the table and fails on a spill, a stack frame or a loop above its limit.
pub(crate) fn run() -> Result<()> {
    let folder = built()?;
    let Ok(compiler) = std::fs::read_to_string(folder.join("compiler")) else {
        eprintln!("skipped: no CUDA compiler, so no kernels to look at; set NVRTC_LIB to a libnvrtc.so.12");
        return Ok(());
    };
    let dump = Disassembler::find();
    if dump.is_none() {
        eprintln!(
            "skipped: no cuobjdump, so no instructions are counted; set CUOBJDUMP to one beside nvdisasm"
        );
    }
    let mut rows = Vec::new();
    let mut logs: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        logs.push(entry?.path());
    }
    logs.retain(|path| path.extension().is_some_and(|e| e == "log"));
    logs.sort();
    for log in logs {
        let arch =
            arch_of(&log).with_context(|| format!("{}: no architecture in the name", log.display()))?;
        let text = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let listing = dump.as_ref().map(|dump| dump.listing(&log.with_extension("cubin"))).transpose()?;
        for usage in usages(&text) {
            let streams = LIMITS.iter().any(|limit| limit.kernel == usage.kernel);
            let mark = if streams { Mark::Stream } else { Mark::Products };
            let instructions = listing.as_ref().and_then(|listing| listing.main_loop(&usage.kernel, mark));
            rows.push(Row { arch, usage, instructions });
        }
    }
    rows.sort_by(|a, b| (&a.usage.kernel, a.arch).cmp(&(&b.usage.kernel, b.arch)));
    eprint!("kernels compiled by {}\n{}", compiler.trim(), table(&rows));

    let mut breaches: Vec<String> = rows.iter().flat_map(Row::breaches).collect();
    breaches.extend(missing(&rows, dump.is_some()));
    ensure!(breaches.is_empty(), "{}", breaches.join("\n"));
    Ok(())
}

/// Limits that hold nothing: a kernel was renamed, or its loop is no longer found.
fn missing(rows: &[Row], counted: bool) -> Vec<String> {
    // Only some kernels were asked for.
    if std::env::var_os("JETSON_LLM_UNITS").is_some_and(|units| !units.is_empty()) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for limit in &LIMITS {
        match rows.iter().find(|row| row.arch == GATED_ARCH && row.usage.kernel == limit.kernel) {
            None => missing.push(format!("{}: there is a limit but no such kernel", limit.kernel)),
            Some(row) if counted && row.instructions.is_none() => {
                missing.push(format!("{}: no loop that reads weights is found", limit.kernel));
            }
            Some(_) => {}
        }
    }
    missing
}

/// Builds the emulator and prints where it is.
pub(crate) fn emulator() -> Result<()> {
    let home = tree::root().join("crates/cuda");
    match emulator::build(&home, &emulator::cache(&home)).map_err(anyhow::Error::msg)? {
        Some(library) => eprintln!("{}", library.canonicalize()?.display()),
        None => eprintln!("skipped: no C++ compiler for the emulator"),
    }
    Ok(())
}

/// Has cargo run the build script and gives the folder of what it made.
fn built() -> Result<PathBuf> {
    // The crate itself need not compile for its kernels to be looked at: its failure is another step's.
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--package", "cuda", "--message-format", "json-render-diagnostics"])
        .current_dir(tree::root())
        .output()?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let of_cuda = message["package_id"].as_str().is_some_and(|id| id.contains("crates/cuda#"));
        if message["reason"] == "build-script-executed" && of_cuda {
            let out = message["out_dir"].as_str().context("cargo names no folder for the build script")?;
            return Ok(Path::new(out).join("cubins"));
        }
    }
    bail!("the kernels do not compile:\n{}", String::from_utf8_lossy(&output.stderr).trim());
}

/// The 87 of `matvec.sm_87.log`.
fn arch_of(path: &Path) -> Option<u32> {
    let (_, arch) = path.file_stem()?.to_str()?.rsplit_once(".sm_")?;
    arch.parse().ok()
}

/// Reads a log of `ptxas -v`.
fn usages(log: &str) -> Vec<Usage> {
    let mut all: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or(rest).to_owned();
            all.push(Usage { kernel, ..Usage::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            last.stack = before(line, " bytes stack frame");
            last.spilled = before(line, " bytes spill stores").max(before(line, " bytes spill loads"));
        }
        if line.contains("Used ") {
            last.registers = before(line, " registers");
            last.shared = before(line, " bytes smem");
        }
    }
    all
}

/// The number before some words; 0 if they are not there.
fn before(line: &str, words: &str) -> u32 {
    let number = line.split_once(words).and_then(|(left, _)| left.rsplit([' ', ',']).next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "kernel                        arch   registers  spilled  stack  shared  loop  per byte  limit\n"
            .to_owned();
    for row in rows {
        let Usage { kernel, registers, spilled, stack, shared } = &row.usage;
        let count = row.instructions.map_or(String::new(), |n| n.to_string());
        let (per_byte, most) = match (row.per_byte(), row.limit()) {
            (Some(per_byte), Some(limit)) => (format!("{per_byte:.3}"), format!("{:.3}", limit.most)),
            _ => Default::default(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{kernel:<28}  sm_{:<3} {registers:>10} {spilled:>8} {stack:>6} {shared:>7} {count:>5} {per_byte:>9} \
             {most:>6}",
            row.arch
        );
    }
    text
}

/// A working cuobjdump; it needs nvdisasm in its folder or on PATH.
struct Disassembler(PathBuf);

impl Disassembler {
    fn find() -> Option<Disassembler> {
        let path = std::env::var_os("CUOBJDUMP").filter(|p| !p.is_empty()).unwrap_or("cuobjdump".into());
        let answers =
            Command::new(&path).arg("--version").output().is_ok_and(|answer| answer.status.success());
        answers.then(|| Disassembler(path.into()))
    }

    fn listing(&self, cubin: &Path) -> Result<Listing> {
        // It starts nvdisasm by name.
        let beside = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(beside.into_iter().chain(std::env::split_paths(&path)))?;
        let output = Command::new(&self.0).arg("--dump-sass").arg(cubin).env("PATH", path).output()?;
        ensure!(
            output.status.success(),
            "{} {}: {}",
            self.0.display(),
            cubin.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Listing::parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'matvec_q4_k' for 'sm_87'
ptxas info    : Function properties for matvec_q4_k
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 80 registers, used 16 barriers, 8 bytes cumulative stack size, 608 bytes cmem[0]
ptxas info    : Compiling entry function 'begin' for 'sm_87'
ptxas info    : Function properties for begin
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, 1024 bytes smem, 400 bytes cmem[0]
";

    #[test]
    fn the_compilers_log_is_read() {
        let first =
            Usage { kernel: "matvec_q4_k".into(), registers: 80, spilled: 12, stack: 8, ..Usage::default() };
        let second = Usage { kernel: "begin".into(), registers: 24, shared: 1024, ..Usage::default() };
        assert_eq!(usages(LOG), [first, second]);
        assert_eq!(arch_of(Path::new("a/matvec.sm_87.log")), Some(87));
    }

    #[test]
    fn spills_stacks_and_long_loops_are_breaches() {
        let row = |stack, spilled, instructions, arch| Row {
            arch,
            usage: Usage { kernel: "matvec_q4_k".into(), stack, spilled, ..Usage::default() },
            instructions,
        };
        assert!(row(0, 0, Some(230), 87).breaches().is_empty());
        assert!(row(0, 0, None, 87).breaches().is_empty());
        assert!(row(0, 0, Some(300), 90).breaches().is_empty(), "the limit is Orin's");
        assert!(row(0, 0, Some(231), 87).breaches()[0].contains("0.100"));
        assert!(row(8, 4, Some(230), 87).breaches()[0].contains("spills 4 bytes"));
        assert!(row(8, 0, Some(230), 87).breaches()[0].contains("stack frame of 8 bytes"));
    }
}
