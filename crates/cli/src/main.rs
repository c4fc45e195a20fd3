//! The `jetson-llm` program.
//!
//! `main` reads the command line and the environment, runs one command of `cmd/` and turns its
//! result into an exit code: 0 done, 1 failed while running, 2 unusable input, 130 interrupted.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod budget;
mod cmd;
mod config;
mod failure;
mod free;
mod input;
mod interrupt;
mod json;
mod limits;
mod load;
mod model_file;
mod screen;
mod session;
mod status;
mod svg;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::Config;

const EXAMPLES: &str = "\
Examples:
  jetson-llm                                          chat with the built-in model
  jetson-llm -p \"What is 2+2?\"                        one answer from it
  jetson-llm -m tinyllama.gguf -p \"What is 2+2?\" -n 32
  cat notes.txt | jetson-llm -m model.gguf -s \"Summarize in one sentence.\"
  jetson-llm serve -m model.gguf                      the model over HTTP, at 127.0.0.1:8080
  jetson-llm inspect model.gguf                       what a file holds, and whether it fits
  jetson-llm fit model.gguf                           which contexts fit, and the best choice
  jetson-llm doctor                                   what is amiss with this machine
  jetson-llm monitor                                  memory, heat, power and running models, live

Environment: JETSON_LLM_MODEL and JETSON_LLM_THREADS stand in for -m and -t; NO_COLOR turns off
colour and progress. Exit codes: 0 done, 1 failed while running, 2 unusable input, 130 interrupted.";

/// Run language models (GGUF files) on this machine
#[derive(Parser, Debug)]
#[command(
    name = "jetson-llm",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    after_help = EXAMPLES,
    override_usage = "jetson-llm [OPTIONS]             answer a prompt, or chat on a terminal\n       jetson-llm COMMAND [OPTIONS]",
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: cmd::run::Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<cmd::run::Command>),
    Chat(Box<cmd::chat::Command>),
    Serve(Box<cmd::serve::Command>),
    Inspect(cmd::inspect::Command),
    Plan(cmd::plan::Command),
    Tokenize(cmd::tokenize::Command),
    Logits(cmd::logits::Command),
    Perplexity(cmd::perplexity::Command),
    Bench(cmd::bench::Command),
    Profile(cmd::profile::Command),
    Quantize(cmd::quantize::Command),
    Fit(cmd::fit::Command),
    Doctor(cmd::doctor::Command),
    Monitor(cmd::monitor::Command),
    Soak(Box<cmd::soak::Command>),
    Completions(cmd::completions::Command),
    Man(cmd::man::Command),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return failure::command_line(said),
    };
    let config = Config::from_environment();
    let done = match &cli.command {
        None => cmd::run::run(&cli.run, &config),
        Some(Command::Run(command)) => cmd::run::run(command, &config),
        Some(Command::Chat(command)) => cmd::chat::run(command, &config),
        Some(Command::Serve(command)) => cmd::serve::run(command, &config),
        Some(Command::Inspect(command)) => cmd::inspect::run(command, &config),
        Some(Command::Plan(command)) => cmd::plan::run(command, &config),
        Some(Command::Tokenize(command)) => cmd::tokenize::run(command, &config),
        Some(Command::Logits(command)) => cmd::logits::run(command, &config),
        Some(Command::Perplexity(command)) => cmd::perplexity::run(command, &config),
        Some(Command::Bench(command)) => cmd::bench::run(command, &config),
        Some(Command::Profile(command)) => cmd::profile::run(command, &config),
        Some(Command::Quantize(command)) => cmd::quantize::run(command, &config),
        Some(Command::Fit(command)) => cmd::fit::run(command, &config),
        Some(Command::Doctor(command)) => cmd::doctor::run(command, &config),
        Some(Command::Monitor(command)) => cmd::monitor::run(command, &config),
        Some(Command::Soak(command)) => cmd::soak::run(command, &config),
        Some(Command::Completions(command)) => cmd::completions::run(command),
        Some(Command::Man(command)) => cmd::man::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
