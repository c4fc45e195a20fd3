//! `tokenize`: text to token ids.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use text::{EncodeOptions, Tokenizer};

use crate::args::ModelFile;
use crate::config::Config;
use crate::screen::printable;
use crate::{input, model_file};

const EXAMPLES: &str = "\
Examples:
  jetson-llm tokenize -m model.gguf -p \"Hello world\"
  jetson-llm tokenize -m vocabulary.gguf --file text.txt --json
  echo \"Hello\" | jetson-llm tokenize -m model.gguf --bos";

/// Print the tokens of a text
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    /// Text; without it and --file, stdin
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    prompt: Option<String>,
    /// File with the text, taken whole
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Put the beginning-of-sequence token in front
    #[arg(long)]
    bos: bool,
    /// Let the names of control tokens in the text become those tokens
    #[arg(long)]
    special: bool,
    /// Print one JSON array of ids
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let file = model_file::open(command.model.model.as_deref(), config)?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let text = match (&command.prompt, &command.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => input::read_text(path)?,
        (None, None) => input::read_stdin()?,
    };
    let options = EncodeOptions { bos: command.bos, special: command.special };
    let ids = tokenizer.encode_vec(&text, options);

    let mut out = BufWriter::new(io::stdout().lock());
    if command.json {
        write!(out, "[")?;
        for (i, id) in ids.iter().enumerate() {
            write!(out, "{}{id}", if i == 0 { "" } else { "," })?;
        }
        writeln!(out, "]")?;
    } else {
        for &id in &ids {
            writeln!(out, "{id}\t{}", printable(&tokenizer.name(id)))?;
        }
    }
    out.flush()?;
    Ok(())
}
