//! `inspect`: what a file holds, and whether this program runs it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use gguf::{Gguf, Value};
use model::runner::LoadOptions;
use model::{Plan, Spec};
use serde_json::json;

use crate::args::{DeviceName, Machine, ModelArgument};
use crate::cmd::inspect_check;
use crate::cmd::quantize::mix::Mix;
use crate::config::Config;
use crate::screen::{Screen, count, printable, size};
use crate::target::{Target, gpu_memory};
use crate::{free, json, load, model_file};

const EXAMPLES: &str = "\
Examples:
  jetson-llm inspect model.gguf
  jetson-llm inspect model.gguf -c 32768 --tensors
  jetson-llm inspect model.gguf --json | jq .memory.total";

/// Show what a file holds, what it needs and whether it runs
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    machine: Machine,
    /// Read every weight too, and fail at the first that is not finite
    #[arg(long)]
    check: bool,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object, tensors included
    #[arg(long)]
    json: bool,
}

/// What a run needs, for a file that runs.
struct Needs {
    spec: Spec,
    plan: Plan,
    memory: model::runner::Memory,
    step_bytes: u64,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let file = model_file::open(command.model.path(), config)?;
    // What cannot be planned for is refused, not reckoned: the sums would overflow.
    let context = load::positions(command.machine.positions(), 0)?.filter(|&context| context > 0);
    if command.check {
        inspect_check::check(&file)?;
    }
    let needs = needs(&file, context);
    if command.json {
        return json::print(&as_json(&file, &needs));
    }
    let gpu = match &needs {
        Ok(needs) => gpu(&command.machine, &needs.plan, config)?,
        Err(_) => None,
    };
    print(&file, &needs, gpu.as_deref(), command.tensors)
}

/// What the model takes of a GPU's memory, if that is asked for and there is one.
fn gpu(machine: &Machine, plan: &Plan, config: &Config) -> anyhow::Result<Option<String>> {
    if machine.device != DeviceName::Cuda && !machine.verbose {
        return Ok(None);
    }
    let Target::Gpu { cuda, .. } = Target::open(machine, config, Screen::new(config, false))? else {
        return Ok(None);
    };
    Ok(Some(gpu_memory(&cuda, plan, &load::options(plan, machine, 1, config)?)?))
}

fn needs(file: &Gguf, context: Option<usize>) -> Result<Needs, model::Error> {
    let trained = model::arch::spec(file)?.context;
    let context = context.unwrap_or(trained.min(4096));
    let (spec, plan) = Plan::read(file, Some(context))?;
    let options = LoadOptions::single(context, 1);
    let (memory, step_bytes) = (plan.memory(&options), plan.step_bytes(0, &options));
    Ok(Needs { spec, plan, memory, step_bytes })
}

/// Number and bytes of the tensors of each format.
fn formats(file: &Gguf) -> BTreeMap<&'static str, (u64, u64)> {
    let mut formats = BTreeMap::new();
    for tensor in file.tensors() {
        let (number, bytes): &mut (u64, u64) = formats.entry(tensor.format.name()).or_default();
        *number += 1;
        *bytes += tensor.bytes;
    }
    formats
}

fn parameters(file: &Gguf) -> u64 {
    file.tensors().iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements()))
}

/// What the file says it is, whether or not that is known here.
fn text_key<'a>(file: &'a Gguf, key: &str) -> Option<&'a str> {
    file.opt_str(key).ok().flatten()
}

/// The name of the mix that the file says it is.
pub(crate) fn mix(file: &Gguf) -> Option<String> {
    let id = file.opt_u32("general.file_type").ok().flatten()?;
    Some(Mix::from_file_type(id).map_or_else(|| format!("number {id}"), |mix| mix.name().to_owned()))
}

fn as_json(file: &Gguf, needs: &Result<Needs, model::Error>) -> serde_json::Value {
    let keys: serde_json::Map<_, _> =
        file.keys().map(|(key, value)| (key.to_owned(), value_json(value))).collect();
    let tensor = |tensor: &gguf::Tensor| {
        json!({
            "name": tensor.name, "format": tensor.format.name(), "shape": tensor.shape, "bytes": tensor.bytes,
        })
    };
    let formats: serde_json::Map<_, _> = formats(file)
        .into_iter()
        .map(|(name, (number, bytes))| (name.to_owned(), json!({"tensors": number, "bytes": bytes})))
        .collect();
    let mut object = json!({
        "file": file.name(),
        "version": file.version(),
        "bytes": file.file_bytes(),
        "shards": file.shards(),
        "family": text_key(file, "general.architecture"),
        "name": text_key(file, "general.name"),
        "mix": mix(file),
        "parameters": parameters(file),
        "formats": formats,
        "chat_template": text_key(file, "tokenizer.chat_template").is_some(),
        "supported": needs.is_ok(),
        "reason": needs.as_ref().err().map(ToString::to_string),
    });
    if let Ok(needs) = needs {
        object["trained_context"] = needs.spec.context.into();
        object["memory"] = json!({
            "context": needs.plan.context,
            "weights": needs.memory.weights,
            "kv": needs.memory.kv,
            "buffers": needs.memory.buffers,
            "total": needs.memory.total(),
            "free": free::available(),
        });
        object["bytes_per_token"] = needs.step_bytes.into();
        object["products_per_token"] = needs.plan.step_products().into();
    }
    object["keys"] = keys.into();
    object["tensors"] = file.tensors().iter().map(tensor).collect();
    object
}

/// A key's value; of an array its type, its length and its first elements.
fn value_json(value: &Value) -> serde_json::Value {
    const SHOWN: usize = 8;
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::Str(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::Array(array) => {
            let first = (0..array.len().min(SHOWN)).filter_map(|i| array.element(i));
            let first: Vec<_> = first.map(|element| value_json(&element)).collect();
            json!({"array_of": array.element_name(), "length": array.len(), "first": first})
        }
    }
}

fn print(
    file: &Gguf,
    needs: &Result<Needs, model::Error>,
    gpu: Option<&str>,
    tensors: bool,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<12} {}", printable(value));
    line("file", file.name())?;
    let shards = if file.shards() > 1 { format!(" in {} files", file.shards()) } else { String::new() };
    line("size", &format!("{}{shards}, GGUF version {}", size(file.file_bytes()), file.version()))?;
    if let Some(name) = text_key(file, "general.name") {
        line("name", name)?;
    }
    line("family", text_key(file, "general.architecture").unwrap_or("not given"))?;
    if let Some(mix) = mix(file) {
        line("mix", &mix)?;
    }
    line("parameters", &count(parameters(file)))?;
    let formats: Vec<String> = formats(file)
        .iter()
        .map(|(name, (number, bytes))| format!("{name} × {number} ({})", size(*bytes)))
        .collect();
    line("tensors", &format!("{}: {}", file.tensors().len(), formats.join(", ")))?;
    let template = text_key(file, "tokenizer.chat_template").is_some();
    line("template", if template { "has a chat template" } else { "none: completes text" })?;
    match needs {
        Ok(needs) => {
            line("context", &format!("trained on {} positions", needs.spec.context))?;
            let memory = &needs.memory;
            line(
                "memory",
                &format!(
                    "{} for {} positions: weights {}, cache {}, buffers {}",
                    size(memory.total()),
                    needs.plan.context,
                    size(memory.weights),
                    size(memory.kv),
                    size(memory.buffers)
                ),
            )?;
            if let Some(free) = free::available() {
                let fits = memory.total() <= free;
                let answer = if fits { "yes" } else { "no, see --ctx-size or take a smaller file" };
                line("fits", &format!("{answer}: {} is free", size(free)))?;
            }
            if let Some(gpu) = gpu {
                line("GPU", gpu.trim_start_matches("GPU memory: "))?;
            }
            line("supported", "yes")?;
        }
        Err(error) => line("supported", &format!("no: {error}"))?,
    }
    writeln!(out, "\nkeys")?;
    for (key, value) in file.keys() {
        writeln!(out, "  {} = {value}", printable(key))?;
    }
    if tensors {
        writeln!(out, "\ntensors")?;
        for tensor in file.tensors() {
            let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
            let (shape, bytes) = (shape.join(" × "), size(tensor.bytes));
            writeln!(out, "  {:<40} {:<6} {shape:<24} {bytes}", printable(&tensor.name), tensor.format)?;
        }
    } else if !file.tensors().is_empty() {
        writeln!(out, "\n--tensors lists the tensors")?;
    }
    Ok(())
}
