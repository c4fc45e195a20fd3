//! Options shared by several commands.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use model::Plan;
use model::runner::KvType;
use platform::Root;

use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::printable;

/// Heading of options about the model and the machine.
pub(crate) const MODEL: &str = "Model";
/// Heading of options about how tokens are chosen.
pub(crate) const SAMPLING: &str = "Sampling";
/// Heading of options about what is asked.
pub(crate) const PROMPT: &str = "Prompt";
/// Heading of options about what is printed.
pub(crate) const OUTPUT: &str = "Output";

/// The model of commands that take `-m`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ModelFile {
    /// GGUF file; without it $JETSON_LLM_MODEL, else the built-in model
    #[arg(short, long, value_name = "FILE", help_heading = MODEL)]
    pub(crate) model: Option<PathBuf>,
}

/// The model of commands about a file: `inspect FILE`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgument {
    /// GGUF file; without it $JETSON_LLM_MODEL, else the built-in model
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, as other commands take it
    #[arg(short, long = "model", value_name = "FILE", hide = true, conflicts_with = "file")]
    model: Option<PathBuf>,
}

impl ModelArgument {
    /// The path given, in either form.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_deref().or(self.model.as_deref())
    }
}

/// How a model is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Machine {
    /// Positions kept: prompt and answer together; 0 for all the model was trained on, auto for what fits best
    ///
    /// auto takes the longest context up to the trained one, at most 32768 positions, that fits into free memory
    /// without the reserve. The cache is kept in f16 if that whole context or 8192 positions of it fit, else in
    /// int8, else in int4; --kv decides that itself. Without -c: 4096 positions, or as many as the command needs.
    #[arg(short, long, value_name = "N|auto", help_heading = MODEL, value_parser = context, allow_negative_numbers = true)]
    ctx_size: Option<Context>,
    /// Memory left free for other programs, such as 1G, 300MiB or 0
    ///
    /// Without it 5 % of a board's memory that cores and GPU share, at most 512 MiB, and 64 MiB elsewhere.
    #[arg(long, value_name = "SIZE", help_heading = MODEL, value_parser = bytes, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) reserve: Option<u64>,
    /// A folder with the files of a machine, instead of this one's
    #[arg(long, value_name = "DIR", help_heading = MODEL, hide = true)]
    pub(crate) sysroot: Option<PathBuf>,
    /// Threads; without it $JETSON_LLM_THREADS, else one for each core that the model gives work to
    #[arg(short, long, value_name = "N", help_heading = MODEL, value_parser = whole, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t, help_heading = MODEL)]
    pub(crate) device: DeviceName,
    /// Which GPU, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = MODEL, value_parser = whole, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) gpu: usize,
    /// Run each operation by itself on the GPU, to find faults
    #[arg(long, help_heading = MODEL, hide_short_help = true)]
    pub(crate) no_fuse: bool,
    /// Launch each operation anew on the GPU instead of replaying a recording, to find faults
    #[arg(long, help_heading = MODEL, hide_short_help = true)]
    pub(crate) no_graph: bool,
    /// The CUDA driver's library; without it $JETSON_LLM_CUDA_LIBRARY, else the system's
    #[arg(long, value_name = "FILE", help_heading = MODEL, hide = true)]
    pub(crate) cuda_library: Option<PathBuf>,
    /// Type of the cache of keys and values; without it f16, and f32 for logits
    #[arg(long, value_enum, help_heading = MODEL, hide_short_help = true)]
    kv: Option<Kv>,
    /// Say on stderr what the GPU's memory is used for
    #[arg(short, long, help_heading = MODEL, hide_short_help = true)]
    pub(crate) verbose: bool,
    /// Most tokens computed in one step of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, help_heading = MODEL, value_parser = whole, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) batch_size: usize,
}

impl Machine {
    /// The threads to use, whatever the model.
    pub(crate) fn threads(&self, config: &Config) -> anyhow::Result<usize> {
        threads(self.threads, config)
    }

    /// The threads to use for `plan`: as asked, else no more than its size gives work to.
    pub(crate) fn threads_for(&self, plan: &Plan, config: &Config) -> anyhow::Result<usize> {
        let threads = self.threads(config)?;
        let asked = self.threads.is_some() || config.threads.is_some();
        Ok(if asked { threads } else { cpu::Cpu::threads_for(plan, threads) })
    }

    /// The positions asked for as a number; 0 for all the model was trained on.
    pub(crate) fn positions(&self) -> Option<usize> {
        match self.ctx_size {
            Some(Context::Positions(positions)) => Some(positions),
            Some(Context::Auto) | None => None,
        }
    }

    /// Whether the best context that fits is asked for.
    pub(crate) fn fits_itself(&self) -> bool {
        self.ctx_size == Some(Context::Auto)
    }

    /// The same machine with a context settled, and a type of cache if one is given.
    pub(crate) fn settled(&self, positions: usize, kv: Option<KvType>) -> Machine {
        let kv = kv.map(|kv| match kv {
            KvType::F16 => Kv::F16,
            KvType::F32 => Kv::F32,
            KvType::Int8 => Kv::Int8,
            KvType::Int4 => Kv::Int4,
        });
        Machine { ctx_size: Some(Context::Positions(positions)), kv: kv.or(self.kv), ..self.clone() }
    }

    /// Where the files of the machine are that memory is planned for.
    pub(crate) fn root(&self) -> anyhow::Result<Root> {
        match &self.sysroot {
            None => Ok(Root::real()),
            Some(folder) => Root::at(folder).map_err(|error| bad_input(error.to_string())),
        }
    }

    /// The cache's type, if one was asked for.
    pub(crate) fn kv_asked(&self) -> Option<KvType> {
        self.kv.map(|_| self.kv(KvType::F16))
    }

    /// The cache's type, `usual` unless one was asked for.
    pub(crate) fn kv(&self, usual: KvType) -> KvType {
        match self.kv {
            None => usual,
            Some(Kv::F16) => KvType::F16,
            Some(Kv::F32) => KvType::F32,
            Some(Kv::Int8) => KvType::Int8,
            Some(Kv::Int4) => KvType::Int4,
        }
    }

    /// Rows of a step, checked.
    pub(crate) fn rows(&self) -> anyhow::Result<usize> {
        match self.batch_size {
            1..=8192 => Ok(self.batch_size),
            other => Err(bad_input(format!("--batch-size is {other}; give a number from 1 to 8192"))),
        }
    }
}

/// The threads to use: the flag, the environment, else one for each core this process may use.
pub(crate) fn threads(flag: Option<usize>, config: &Config) -> anyhow::Result<usize> {
    const MOST: usize = 1024;
    let asked = match (flag, &config.threads) {
        (Some(threads), _) => Some(("--threads", threads.to_string())),
        (None, Some(value)) => Some(("JETSON_LLM_THREADS", value.clone())),
        (None, None) => None,
    };
    let Some((name, value)) = asked else {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from));
    };
    match value.parse() {
        Ok(threads @ 1..=MOST) => Ok(threads),
        _ => Err(bad_input(format!("{name} is {}; give a number from 1 to {MOST}", printable(&value)))),
    }
}

/// A context as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// The best that fits.
    Auto,
    /// So many; 0 for all the model was trained on.
    Positions(usize),
}

/// Where to compute.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// The best there is
    #[default]
    Auto,
    /// The processor's cores
    Cpu,
    /// An NVIDIA GPU
    Cuda,
}

/// Type of the cache.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kv {
    /// Half floats
    F16,
    /// Bytes: half the memory, nothing lost that can be seen
    Int8,
    /// Nibbles: a third of the memory, at some loss
    Int4,
    /// Single floats, for comparing with other programs
    F32,
}

/// What a run may take from the machine besides memory.
#[derive(Args, Clone, Debug)]
pub(crate) struct Limiting {
    /// Keep what is drawn below W watts by pausing between tokens, where a sensor tells
    #[arg(long, value_name = "W", help_heading = MODEL, value_parser = watts, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) power_budget: Option<f32>,
    /// Look at no sensor, to measure what looking costs
    #[arg(long, hide = true)]
    pub(crate) no_guard: bool,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sampling {
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, value_name = "X", default_value_t = 0.8, help_heading = SAMPLING, value_parser = temperature, allow_negative_numbers = true)]
    pub(crate) temp: f32,
    /// Choose among the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40, help_heading = SAMPLING, value_parser = whole, allow_negative_numbers = true)]
    pub(crate) top_k: usize,
    /// Choose among the likeliest tokens that together reach P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 0.95, help_heading = SAMPLING, value_parser = share, allow_negative_numbers = true)]
    pub(crate) top_p: f32,
    /// Drop tokens less likely than P times the likeliest; 0 for none
    #[arg(long, value_name = "P", default_value_t = 0.05, help_heading = SAMPLING, value_parser = fraction, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) min_p: f32,
    /// Divide the score of tokens seen lately; 1 for none
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = SAMPLING, value_parser = positive, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) repeat_penalty: f32,
    /// Lower the score of every token seen, once
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = SAMPLING, value_parser = finite, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) presence_penalty: f32,
    /// Lower the score of a token by X for each time it was seen
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = SAMPLING, value_parser = finite, allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) frequency_penalty: f32,
    /// Repeat a run exactly; without it every run differs
    #[arg(long, value_name = "N", help_heading = SAMPLING, value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", help_heading = SAMPLING, hide_short_help = true)]
    pub(crate) stop: Vec<String>,
    /// Add X to the score of token ID, as ID:X; -inf forbids it; may be given several times
    #[arg(long, value_name = "ID:X", help_heading = SAMPLING, value_parser = bias, hide_short_help = true)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Go on after the model's end of text
    #[arg(long, help_heading = SAMPLING, hide_short_help = true)]
    pub(crate) ignore_eos: bool,
}

/// Everything an answer depends on besides the question.
#[derive(Args, Clone, Debug)]
pub(crate) struct Answering {
    /// What the model is told to be
    #[arg(short, long, value_name = "TEXT", help_heading = PROMPT)]
    pub(crate) system: Option<String>,
    /// Most tokens of an answer; -1 until the model ends it or the context is full
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..), help_heading = PROMPT)]
    n_predict: i64,
    #[command(flatten)]
    pub(crate) model: ModelFile,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) limiting: Limiting,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Print the answer only
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
}

impl Answering {
    /// Most tokens of an answer, if there is a limit.
    pub(crate) fn max_tokens(&self) -> Option<usize> {
        usize::try_from(self.n_predict).ok()
    }
}

/// A number of something: words for what Rust calls an invalid digit.
pub(crate) fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "not a whole number from 0 up".to_owned())
}

/// A context: a number, or `auto`.
fn context(text: &str) -> Result<Context, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Context::Auto);
    }
    let positions = text.parse().map_err(|_| "not a whole number from 0 up, nor auto".to_owned())?;
    Ok(Context::Positions(positions))
}

/// An amount of memory: bytes, or a number with a unit. All units are powers of 1024, as for other programs'
/// memory limits.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "not an amount of memory such as 1G, 512M, 300MiB or 1000000".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(1 << shift).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    if shift > 0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A token's id.
pub(crate) fn token(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| "not a token id".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a whole number from 0 to {}; leave it out to vary", u64::MAX))
}

fn number(text: &str) -> Result<f32, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}

fn finite(text: &str) -> Result<f32, String> {
    let value = number(text)?;
    if value.is_finite() { Ok(value) } else { Err("not finite".to_owned()) }
}

fn temperature(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err("not between 0 and 100".to_owned()) }
}

fn fraction(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("not between 0 and 1".to_owned()) }
}

/// Of all probability: a share of nothing leaves nothing to choose.
fn share(text: &str) -> Result<f32, String> {
    let value = fraction(text)?;
    if value > 0.0 { Ok(value) } else { Err("not above 0".to_owned()) }
}

fn positive(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    if value > 0.0 { Ok(value) } else { Err("not above 0".to_owned()) }
}

/// A power that a budget may be.
fn watts(text: &str) -> Result<f32, String> {
    let value = number(text)?;
    if (0.1..=10_000.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0.1 and 10000 watts".to_owned())
    }
}

/// `ID:X`, or llama.cpp's `ID+X` and `ID-X`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let at = text.find([':', '=', '+', '-']).ok_or("write it as ID:X, such as 15:-2")?;
    let (id, rest) = text.split_at(at);
    let value = rest.strip_prefix([':', '=']).unwrap_or(rest);
    let id = id.trim().parse().map_err(|_| format!("\"{}\" is not a token id", id.escape_default()))?;
    let value = number(value)?;
    if value.is_nan() || value == f32::INFINITY {
        return Err("the bias is neither finite nor -inf".to_owned());
    }
    Ok((id, value))
}

#[cfg(test)]
mod tests {
    use super::{Context, bias, bytes, context};

    #[test]
    fn amounts_of_memory_have_units() {
        for (text, amount) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("1G", 1 << 30),
            ("512M", 512 << 20),
            ("300MiB", 300 << 20),
            ("64 kb", 64 << 10),
            ("1.5g", 3 << 29),
        ] {
            assert_eq!(bytes(text), Ok(amount), "{text}");
        }
        for text in ["", "G", "-1", "1.5", "1X", "1e3", "99999999999999999999", "20000000T", "1.2.3M"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn contexts_are_numbers_or_auto() {
        assert_eq!(context("auto"), Ok(Context::Auto));
        assert_eq!(context("4096"), Ok(Context::Positions(4096)));
        assert!(context("-1").is_err() && context("all").is_err());
    }

    #[test]
    fn biases_are_written_in_either_form() {
        assert_eq!(bias("15:-2.5"), Ok((15, -2.5)));
        assert_eq!(bias("15-2.5"), Ok((15, -2.5)));
        assert_eq!(bias("15+1"), Ok((15, 1.0)));
        assert_eq!(bias("7:-inf"), Ok((7, f32::NEG_INFINITY)));
        assert!(bias("x:1").is_err());
        assert!(bias("7:inf").is_err());
        assert!(bias("7:NaN").is_err());
        assert!(bias("7").is_err());
    }
}
