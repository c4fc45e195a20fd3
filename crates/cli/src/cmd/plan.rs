//! `plan`: prints the forward pass of a model, one operation a line.

use std::io::{self, Write};

use clap::Args;
use model::Plan;

use crate::args::{DeviceName, Machine, ModelArgument};
use crate::config::Config;
use crate::screen::{Screen, printable};
use crate::target::{Target, gpu_memory};
use crate::{load, model_file};

const EXAMPLES: &str = "\
Examples:
  jetson-llm plan model.gguf
  jetson-llm plan model.gguf -c 32768
  jetson-llm plan model.gguf -c 8192 --device cuda    and the GPU memory it takes";

/// Print a model's forward pass, one operation a line
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let file = model_file::open(command.model.path(), config)?;
    // Without it the length the model was trained on.
    let context = load::positions(command.machine.positions(), 0)?.filter(|&context| context > 0);
    let (_, plan) = Plan::read(&file, context)?;
    let memory = if command.machine.device == DeviceName::Cuda {
        let target = Target::open(&command.machine, config, Screen::new(config, false))?;
        let options = load::options(&plan, &command.machine, 1, config)?;
        match &target {
            Target::Gpu { cuda, .. } => Some(gpu_memory(cuda, &plan, &options)?),
            Target::Plain(_) => None,
        }
    } else {
        None
    };
    let mut out = io::stdout().lock();
    for line in plan.to_string().lines() {
        writeln!(out, "{}", printable(line))?;
    }
    if let Some(memory) = memory {
        writeln!(out, "{}", printable(&memory))?;
    }
    Ok(())
}
