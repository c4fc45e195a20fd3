//! The project's own automation: `cargo xtask ci` does everything CI does on one machine.
#![forbid(unsafe_code)]

mod ci;
#[path = "../../crates/cuda/src/emulator/mod.rs"]
#[allow(unreachable_pub, reason = "a file of the crate cuda, which shows it to its tests")]
mod emulator;
mod house;
mod kernels;
mod lines;
mod sass;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [--without STEP]...   all checks; STEP is one of: house kernels fmt clippy test doc
  house                    the rules no tool checks: memory safety by crate, sizes of files
  kernels                  registers, spills and instructions per byte of the GPU kernels; needs NVRTC_LIB
                           (a libnvrtc.so.12) and, to count instructions, CUOBJDUMP beside nvdisasm
  emulator                 builds the stand-in for the CUDA driver and prints its path
  lines [BASE]             lines per crate, and the change since the commit BASE
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ci", options @ ..] => match ci::without(options) {
            Ok(without) => ci::run(&without),
            Err(error) => Err(error),
        },
        ["house"] => house::run(),
        ["kernels"] => kernels::run(),
        ["emulator"] => kernels::emulator(),
        ["lines"] => lines::run(None),
        ["lines", base] => lines::run(Some(base)),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
