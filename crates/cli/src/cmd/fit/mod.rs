//! `fit`: what a model takes by type of cache and context, what of that fits, and the best choice.

mod report;

use std::path::PathBuf;

use clap::Args;
use gguf::Gguf;
use model::Plan;
use model::runner::{KvType, LoadOptions};
use text::Tokenizer;

use crate::args::{DeviceName, Machine, ModelArgument};
use crate::budget::{Budget, Sum, TYPES, sized};
use crate::config::Config;
use crate::screen::Screen;
use crate::target::Target;
use crate::{load, model_file};

/// Contexts of the table, as far as the model was trained for them; its own is the last.
const CONTEXTS: [usize; 5] = [2048, 4096, 8192, 16_384, 32_768];

const EXAMPLES: &str = "\
Examples:
  jetson-llm fit model.gguf
  jetson-llm fit model.gguf --reserve 1G              with room for a robot's other programs
  jetson-llm fit model.gguf -c 65536 --kv int8        one question: does that fit?
  jetson-llm fit model.gguf --json | jq -r .best.command

The sum is of weights, cache, buffers and the program itself. It is compared with what can be taken without
swapping: what the machine has, what its control groups allow and what the shell's limits allow, less the
reserve. Memory that cores and GPU share is counted once. Exit code 0 if anything fits, 1 if nothing does.";

/// Show which contexts and types of cache fit into memory, and the best choice
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object, amounts in bytes
    #[arg(long)]
    json: bool,
}

/// One cell of the table.
struct Cell {
    context: usize,
    kv: KvType,
    /// `None` if the device does not run it.
    sum: Option<Sum>,
    fits: bool,
}

/// Everything that is told.
struct Fit<'a> {
    file: &'a Gguf,
    plan: &'a Plan,
    budget: &'a Budget<'a>,
    trained: usize,
    /// The device, and why it is not another.
    device: String,
    why: Option<&'static str>,
    /// Sizes of a run of the largest context.
    options: LoadOptions,
    cells: Vec<Cell>,
    best: Option<Best>,
}

/// The choice of `-c auto`.
struct Best {
    kv: KvType,
    positions: usize,
    sizes: LoadOptions,
    sum: Sum,
    /// A command line that takes it.
    command: String,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let machine = &command.machine;
    let mut target = Target::open(machine, config, Screen::new(config, command.json))?;
    let file = model_file::open(command.model.path(), config)?;
    let trained = model::arch::spec(&file)?.context;
    // A run holds the vocabulary while it loads, so that its bytes are seen here as well. A file without one
    // can be measured with.
    let vocabulary = Tokenizer::from_gguf(&file).ok();
    let asked = load::positions(machine.positions(), trained)?;
    let limit = asked.map_or_else(|| load::most(&file), Ok)?;
    let mut contexts: Vec<usize> = CONTEXTS.into_iter().filter(|&context| context < trained).collect();
    contexts.extend([trained, limit]);
    contexts.sort_unstable();
    contexts.dedup();

    let longest = contexts.iter().copied().max().unwrap_or(trained);
    let (_, plan) = Plan::read(&file, Some(longest))?;
    let options = load::options(&plan, machine, 1, config)?;
    let asked_kv = machine.kv_asked();
    let types = if asked_kv.is_some() { asked_kv.as_slice() } else { &TYPES };
    let has_cell = |target: &Target| -> anyhow::Result<bool> {
        let budget = Budget::new(&file, &plan, target, machine)?;
        let fits = |&kv: &KvType| budget.longest(&LoadOptions { kv, ..options }, limit).is_some();
        Ok(types.iter().any(fits))
    };
    if target.may_leave() && !has_cell(&target)? {
        // As a run would do.
        target = Target::cpu();
    }

    let budget = Budget::new(&file, &plan, &target, machine)?;
    let sizes = |context, kv| {
        let options = LoadOptions { rows: machine.batch_size, kv, ..options };
        sized(&options, options.rows, context)
    };
    let cell = |context, kv| {
        let sum = budget.sum(&sizes(context, kv)).ok();
        let fits = sum.as_ref().is_some_and(|sum| budget.has_room(sum));
        Cell { context, kv, sum, fits }
    };
    let cells = contexts.iter().flat_map(|&context| types.iter().map(move |&kv| cell(context, kv))).collect();
    let best = budget.best(&options, types, limit).and_then(|(kv, positions)| {
        let sizes = sizes(positions, kv);
        let command = ready(command, positions, kv, config);
        Some(Best { kv, positions, sizes, sum: budget.sum(&sizes).ok()?, command })
    });
    let foreign = machine.sysroot.is_some() && machine.device == DeviceName::Auto && !target.is_gpu();
    let fit = Fit {
        file: &file,
        plan: &plan,
        budget: &budget,
        trained,
        device: target.name(),
        why: foreign.then_some("--sysroot names a machine whose GPU is not here"),
        options,
        cells,
        best,
    };
    if command.json {
        crate::json::print(&report::json(&fit))?;
    } else {
        report::print(&fit)?;
    }
    drop(vocabulary);
    if fit.best.is_some() {
        return Ok(());
    }
    // The least there is, so that what is offered is all that is left.
    let least = LoadOptions { kv: types[types.len() - 1], ..options };
    match budget.refusal(&sized(&least, options.rows, limit)) {
        Some(refusal) => anyhow::bail!(refusal),
        None => budget.sum(&least).map(|_| ()).map_err(Into::into),
    }
}

/// The command line of a run with this context and cache, ready for a shell.
fn ready(command: &Command, positions: usize, kv: KvType, config: &Config) -> String {
    let machine = &command.machine;
    let mut words = vec!["jetson-llm".to_owned()];
    let path: Option<PathBuf> = command.model.path().map(PathBuf::from).or_else(|| config.model.clone());
    if let Some(path) = path {
        words.extend(["-m".to_owned(), quoted(&path.to_string_lossy())]);
    }
    words.extend(["-c".to_owned(), positions.to_string()]);
    if kv != KvType::F16 {
        words.extend(["--kv".to_owned(), kv.name().to_owned()]);
    }
    match machine.device {
        DeviceName::Auto => {}
        DeviceName::Cpu => words.push("--device cpu".to_owned()),
        DeviceName::Cuda => words.push("--device cuda".to_owned()),
    }
    if machine.batch_size != 512 {
        words.push(format!("--batch-size {}", machine.batch_size));
    }
    if let Some(reserve) = machine.reserve {
        words.push(format!("--reserve {reserve}"));
    }
    words.join(" ")
}

/// A word as shells read it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted("models/a-7b.Q4_K_M.gguf"), "models/a-7b.Q4_K_M.gguf");
        assert_eq!(quoted("my models/it's.gguf"), "'my models/it'\\''s.gguf'");
        assert_eq!(quoted("$HOME"), "'$HOME'");
    }
}
