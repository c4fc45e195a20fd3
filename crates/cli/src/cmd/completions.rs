//! `completions`: prints a shell's completion script.

use std::io::{self, Write};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

const EXAMPLES: &str = "\
Examples:
  jetson-llm completions bash > ~/.local/share/bash-completion/completions/jetson-llm
  jetson-llm completions zsh > ~/.zfunc/_jetson-llm
  jetson-llm completions fish > ~/.config/fish/completions/jetson-llm.fish";

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The shell
    #[arg(value_enum)]
    shell: Name,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Name {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let shell = match command.shell {
        Name::Bash => Shell::Bash,
        Name::Zsh => Shell::Zsh,
        Name::Fish => Shell::Fish,
    };
    // Into memory first: the generator panics where a pipe is closed early.
    let mut script = Vec::new();
    generate(shell, &mut crate::Cli::command(), "jetson-llm", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}
