//! `man`: prints the manual page.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::failure::bad_input;
use crate::screen::printable;

const EXAMPLES: &str = "\
Examples:
  jetson-llm man | man -l -
  jetson-llm man quantize > jetson-llm-quantize.1";

/// Print the manual page
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The command to print the page of; without it the program's own page
    command: Option<String>,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let mut program = crate::Cli::command();
    program.build();
    let page = match &command.command {
        None => Man::new(program),
        Some(name) => {
            let unknown = || {
                let known: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
                let (name, known) = (printable(name), known.join(", "));
                bad_input(format!("there is no command {name}; the commands are {known}"))
            };
            let found = program.find_subcommand(name).ok_or_else(unknown)?;
            Man::new(found.clone()).title(format!("jetson-llm-{name}"))
        }
    };
    let mut text = Vec::new();
    let source = concat!("jetson-llm ", env!("CARGO_PKG_VERSION"));
    page.source(source).render(&mut text)?;
    io::stdout().write_all(&text)?;
    Ok(())
}
