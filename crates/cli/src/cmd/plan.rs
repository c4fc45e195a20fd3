//! `plan`: prints the forward pass of a model, one operation a line.

use std::io::{self, Write};

use clap::Args;
use model::Plan;

use crate::args::{ModelArgument, whole};
use crate::config::Config;
use crate::{load, model_file, screen};

const EXAMPLES: &str = "\
Examples:
  jetson-llm plan model.gguf
  jetson-llm plan model.gguf -c 32768";

/// Print a model's forward pass, one operation a line
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelArgument,
    /// Positions; without it the length the model was trained on
    #[arg(short, long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    ctx_size: Option<usize>,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let file = model_file::open(command.model.path(), config)?;
    let context = load::positions(command.ctx_size, 0)?.filter(|&context| context > 0);
    let (_, plan) = Plan::read(&file, context)?;
    let mut out = io::stdout().lock();
    for line in plan.to_string().lines() {
        writeln!(out, "{}", screen::printable(line))?;
    }
    Ok(())
}
