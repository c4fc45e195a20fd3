//! `logits`: writes the scores of every position, for comparing with other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use gguf::AtomicFile;
use model::Plan;

use crate::args::{Machine, ModelFile, token, whole};
use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::{Screen, printable};
use crate::target::Target;
use crate::{load, model_file};

const EXAMPLES: &str = "\
Examples:
  jetson-llm logits -m model.gguf --ids 1,450,4996 --out logits.npy
  jetson-llm logits -m model.gguf --ids 1,450,4996 --out slow.npy --reference";

/// Write the scores of the vocabulary at every position of a list of tokens
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    /// Token ids
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',', required = true, value_parser = token, allow_hyphen_values = true)]
    ids: Vec<u32>,
    /// File to write: numpy's format, float32, tokens × vocabulary
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Tokens computed in one step; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    chunk: Option<usize>,
    /// Compute with the slow reference interpreter
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, false);
    let mut target =
        if command.reference { Target::reference() } else { Target::open(&command.machine, config, screen)? };
    let file = model_file::open(command.model.model.as_deref(), config)?;
    let mut machine = load::settled(&file, &command.machine, &mut target, config, screen)?;
    if let Some(chunk) = command.chunk {
        machine.batch_size = chunk;
    }
    let tokens = command.ids.len();
    // Models whose rotation depends on the length get that of this run unless told otherwise.
    let context = load::context(&file, machine.positions().or(Some(tokens)), tokens)?;
    let (_, plan) = Plan::read(&file, Some(context))?;
    // Before anything is loaded, and before the file to write loses what it holds.
    let vocab = plan.shape.vocab;
    if let Some(id) = command.ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(bad_input(format!("--ids holds {id}; the model's tokens go from 0 to {}", vocab - 1)));
    }
    if tokens > context {
        let problem = format!("--ids holds {tokens} tokens and --ctx-size is {context}");
        return Err(bad_input(format!("{problem}; give fewer ids or more positions")));
    }
    let mut options = load::options(&plan, &machine, machine.rows()?, config)?;
    options.kv = machine.kv(target.exact_kv());
    let mut engine = load::engine(&file, &plan, &mut target, &options, None, &machine, screen)?;

    let mut out = Npy::create(&command.out, tokens, vocab)?;
    let mut progress = screen.steps("computing", tokens as u64);
    let mut written = Ok(());
    engine.logits(&command.ids, 0..tokens, &mut |position, row| {
        if written.is_ok() {
            written = out.row(row);
        }
        progress.set(position as u64 + 1, tokens as u64);
    })?;
    drop(progress);
    written.and_then(|()| out.finish()).map_err(|error| cannot_write(&command.out, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot write {}: {error}", printable(&path.to_string_lossy()))
}

/// A numpy file of float32 rows, version 1.0 of the format
/// (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
struct Npy {
    out: Out,
}

/// A file is there whole or not at all; a pipe or a terminal takes what comes.
enum Out {
    File(AtomicFile),
    Stream(BufWriter<File>),
}

impl Npy {
    fn create(path: &Path, rows: usize, cols: usize) -> anyhow::Result<Npy> {
        if path.is_dir() {
            let path = printable(&path.to_string_lossy());
            return Err(bad_input(format!("{path} is a directory; give the name of a file")));
        }
        let create = || -> io::Result<Npy> {
            let header = header(rows, cols);
            let out = if path.metadata().is_ok_and(|there| !there.is_file()) {
                Out::Stream(BufWriter::new(File::create(path)?))
            } else {
                Out::File(AtomicFile::create(path, (header.len() + rows * cols * 4) as u64)?)
            };
            let mut npy = Npy { out };
            npy.writer().write_all(&header)?;
            Ok(npy)
        };
        create().map_err(|error| cannot_write(path, &error))
    }

    fn row(&mut self, row: &[f32]) -> io::Result<()> {
        let out = self.writer();
        row.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.out {
            Out::File(out) => out,
            Out::Stream(out) => out,
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.out {
            Out::File(out) => out.commit(),
            Out::Stream(mut out) => out.flush(),
        }
    }
}

/// Magic, version, length, then a Python dictionary padded to a multiple of 64 bytes.
fn header(rows: usize, cols: usize) -> Vec<u8> {
    const FIXED: usize = 10;
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let padded = (FIXED + text.len() + 1).next_multiple_of(64) - FIXED;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn the_header_is_numpys() {
        let bytes = header(96, 512);
        assert_eq!(bytes.len() % 64, 0);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, "));
        assert_eq!(bytes.last(), Some(&b'\n'));
    }
}
