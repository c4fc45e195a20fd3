//! `quantize`: writes a smaller copy of a model.

mod convert;
pub(crate) mod mix;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use gguf::{Gguf, Tensor, Writer};
use quant::Format;

use crate::config::Config;
use crate::failure::bad_input;
use crate::model_file;
use crate::screen::{self, Screen};
use mix::{Choice, Mix, Stored};

const EXAMPLES: &str = "\
Examples:
  jetson-llm quantize model-f16.gguf model-Q4_K_M.gguf Q4_K_M
  jetson-llm quantize model-f16.gguf model-Q8_0.gguf Q8_0 --threads 4

The mixes are llama.cpp's: F32 F16 BF16 Q8_0 Q6_K Q5_1 Q5_K_M Q5_0 Q5_K_S Q4_1 Q4_K_M Q4_K_S Q4_0.";

/// Write a smaller copy of a model
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Model to read, best in F32, F16 or BF16
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write; it appears when it is complete
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Mix of formats, such as Q4_K_M
    #[arg(value_name = "TYPE", value_parser = parse)]
    mix: Mix,
    /// Threads; without it one for each core
    #[arg(short, long, value_name = "N", value_parser = crate::args::whole, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Read weights that are quantized already: what they lost is not found again
    #[arg(long)]
    allow_requantize: bool,
    /// Say only what went wrong
    #[arg(long)]
    quiet: bool,
}

fn parse(name: &str) -> Result<Mix, String> {
    Mix::from_name(name).ok_or_else(|| {
        let known: Vec<String> =
            Mix::ALL.iter().map(|mix| format!("  {:<7} {}", mix.name(), mix.about())).collect();
        format!("there is no such mix; these are written:\n{}", known.join("\n"))
    })
}

/// A tensor and what becomes of it.
pub(crate) struct Job<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) format: Format,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, command.quiet);
    let threads = crate::args::threads(command.threads, config)?;
    refuse_same_file(&command.input, &command.output)?;
    let file = model_file::open_path(&command.input)?;
    let spec = model::arch::spec(&file)?;
    let started = Instant::now();

    let mut tensors: Vec<&Tensor> = file.tensors().iter().collect();
    tensors.sort_by_key(|tensor| mix::order(&tensor.name));
    let facts: Vec<Stored<'_>> = tensors
        .iter()
        .map(|tensor| Stored { name: &tensor.name, shape: &tensor.shape, format: tensor.format })
        .collect();
    let choices = mix::choose(command.mix, mix::Model::new(&spec), &facts);
    check(&file, &tensors, &choices, command.allow_requantize)?;
    note_fallbacks(screen, &tensors, &choices);

    let mut writer = Writer::new();
    writer.copy_keys(&file)?;
    // At the end, where llama-quantize puts them: its files and ours are then the same, byte for byte.
    for (key, value) in [("general.quantization_version", 2), ("general.file_type", command.mix.file_type())]
    {
        writer.remove(key);
        writer.set(key, value)?;
    }
    for (tensor, choice) in tensors.iter().zip(&choices) {
        writer.tensor(&tensor.name, choice.format, &tensor.shape)?;
    }

    crate::interrupt::listen();
    let total = tensors.iter().map(|tensor| tensor.bytes).sum();
    let mut progress = screen.bytes("quantizing", total);
    let mut body = writer.create(&command.output)?;
    let mut converter = convert::Converter::new(&file, threads);
    for (&tensor, choice) in tensors.iter().zip(&choices) {
        let job = Job { tensor, format: choice.format };
        converter.convert(&job, &mut |bytes| Ok(body.write(bytes)?), &mut |read| progress.add(read))?;
        file.forget(tensor);
    }
    body.commit()?;
    drop(progress);

    screen.note(&format!(
        "{} ({}) → {} ({}, {}) in {:.1} s",
        screen::printable(&command.input.to_string_lossy()),
        screen::size(file.file_bytes()),
        screen::printable(&command.output.to_string_lossy()),
        command.mix.name(),
        screen::size(writer.file_bytes()?),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The output would be complete before the input is read to its end only by accident.
fn refuse_same_file(input: &Path, output: &Path) -> anyhow::Result<()> {
    let same = match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    };
    if same {
        let path = screen::printable(&output.to_string_lossy());
        return Err(bad_input(format!("OUT is the same file as IN ({path}); give OUT another name")));
    }
    Ok(())
}

/// Refuses before anything is written what could not be finished.
fn check(file: &Gguf, tensors: &[&Tensor], choices: &[Choice], allow_requantize: bool) -> anyhow::Result<()> {
    for (tensor, choice) in tensors.iter().zip(choices) {
        if tensor.format == choice.format {
            continue;
        }
        if tensor.format.is_quantized() && !allow_requantize {
            return Err(bad_input(format!(
                "{}: tensor {} is {} already, and quantizing it again loses more than quantizing once; \
                 start from an F16 or F32 file, or pass --allow-requantize",
                file.name(),
                tensor.name,
                tensor.format
            )));
        }
    }
    Ok(())
}

fn note_fallbacks(screen: Screen, tensors: &[&Tensor], choices: &[Choice]) {
    for (tensor, choice) in tensors.iter().zip(choices) {
        if let Some(wanted) = choice.wanted {
            screen.note(&format!(
                "note: {} becomes {}: its rows of {} are not whole blocks of {}",
                tensor.name,
                choice.format,
                tensor.cols(),
                wanted
            ));
        }
    }
}
