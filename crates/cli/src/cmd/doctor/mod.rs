//! `doctor`: what is amiss with this machine, each with the command that mends it.

mod board;
mod check;
mod system;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use platform::{Readings, Root};
use serde_json::json;

use crate::config::Config;
use crate::failure::bad_input;
use crate::json;
use crate::screen::printable;
use check::{Check, Status};

const EXAMPLES: &str = "\
Examples:
  jetson-llm doctor
  jetson-llm doctor --json | jq '.checks[] | select(.status == \"warn\")'

OK: nothing to do; WARN: costs speed or stability; FAIL: keeps models from running as they should;
--: does not apply here. Exit code 0 unless something failed. Some readings are root's only.";

/// Check this machine: board, clocks, memory, heat, power, GPU
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Print one JSON object, readings included
    #[arg(long)]
    json: bool,
    /// A folder with the files of a machine, instead of this one's
    #[arg(long, value_name = "DIR", hide = true)]
    sysroot: Option<PathBuf>,
    /// The CUDA driver's library; without it $JETSON_LLM_CUDA_LIBRARY, else the system's
    #[arg(long, value_name = "FILE", hide = true)]
    cuda_library: Option<PathBuf>,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let root = match &command.sysroot {
        None => Root::real(),
        Some(folder) => Root::at(folder).map_err(|error| bad_input(error.to_string()))?,
    };
    let before = Readings::take(&root);
    let swapping = before.memory.swap_total > before.memory.swap_free;
    let (now, waited) = if root.is_real() && swapping {
        // How much comes back from swap shows only over time.
        const WAIT: Duration = Duration::from_millis(300);
        thread::sleep(WAIT);
        (Readings::take(&root), Some((&before, WAIT.as_millis() as u64)))
    } else {
        (before.clone(), None)
    };
    let library = command.cuda_library.as_deref().or(config.cuda_library.as_deref());
    let checks = all(&now, waited, &root, library, config);
    if command.json {
        json::print(&as_json(&now, &checks))?;
    } else {
        print(&checks)?;
    }
    let failed = checks.iter().filter(|check| check.status == Status::Fail).count();
    match failed {
        0 => Ok(()),
        1 => anyhow::bail!("1 check failed; its line says what to do"),
        _ => anyhow::bail!("{failed} checks failed; their lines say what to do"),
    }
}

/// Every check, in the order of the report.
fn all(
    now: &Readings,
    before: Option<(&Readings, u64)>,
    root: &Root,
    library: Option<&Path>,
    config: &Config,
) -> Vec<Check> {
    // A copied machine has neither driver nor disk.
    let cuda = if root.is_real() || library.is_some() {
        system::cuda(now, library)
    } else {
        Check::skip("cuda", "not this machine: --sysroot")
    };
    let has_gpu = now.board.is_jetson() || cuda.status != Status::Skip;
    let mut checks = vec![system::program(has_gpu), board::board(now)];
    checks.extend(board::checks(now));
    let (swap, limits) = (system::swap(now, before), system::limits(now));
    checks.extend([system::memory(now), swap, limits, system::desktop(now), cuda]);
    if root.is_real() {
        let folder = config.model.as_deref().and_then(Path::parent).filter(|folder| folder.is_dir());
        checks.push(system::room(folder.unwrap_or(Path::new("."))));
    } else {
        checks.push(Check::skip("disk", "not this machine: --sysroot"));
    }
    checks
}

fn print(checks: &[Check]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for Check { name, status, found, fix } in checks {
        writeln!(out, "{:<5} {name:<13} {}", status.word(), printable(found))?;
        if let Some(fix) = fix {
            let word = if *status >= Status::Warn { "fix" } else { "tip" };
            writeln!(out, "{:19} {word}: {}", "", printable(fix))?;
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    writeln!(
        out,
        "\n{} OK, {} WARN, {} FAIL, {} do not apply",
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail),
        count(Status::Skip)
    )?;
    Ok(())
}

fn as_json(now: &Readings, checks: &[Check]) -> serde_json::Value {
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Skip);
    let l4t = now.board.l4t.as_ref();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "status": worst.name(),
        "jetson": now.board.is_jetson(),
        "board": now.board.model,
        "jetpack": l4t.and_then(platform::board::L4t::jetpack),
        "l4t": l4t.map(ToString::to_string),
        "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        "readings": now,
    })
}
