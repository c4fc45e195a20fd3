//! `profile`: where the time of a prompt and of a token goes, and what it could be.
//!
//! Each test is measured twice: as users run it, and traced, with every operation timed by itself. What the
//! memory gives is measured too, on a GPU before the model takes it.

mod markdown;
mod power;
mod report;
mod roof;
mod svg;
mod work;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use engine::{Engine, Params, Sampling, SequenceId};
use gguf::Gguf;
use model::runner::{Memory, OpTime};
use model::{LoadOptions, Plan};
use serde_json::json;

use crate::args::{Machine, ModelFile, whole};
use crate::cmd::speed_test::Test;
use crate::config::Config;
use crate::failure::bad_input;
use crate::screen::{Screen, count, printable};
use crate::target::Target;
use crate::{free, json, load, model_file};
use power::{Energy, Sensor};
use report::Profile;
use roof::Roof;
use work::{Held, Step};

const EXAMPLES: &str = "\
Examples:
  jetson-llm profile -m model.gguf
  jetson-llm profile -m model.gguf -p 0 -n 64 -d 0,8192 --layers
  jetson-llm profile -m model.gguf -o profile.md --svg profile.svg --json > profile.json";

/// Show where the time of a token goes: operations, bandwidth, launches, energy
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    /// Prompt tokens; several tests with commas, 0 for none
    #[arg(short = 'p', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "512")]
    n_prompt: Vec<usize>,
    /// Tokens to generate; several tests with commas, 0 for none
    #[arg(short = 'n', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "64")]
    n_gen: Vec<usize>,
    /// Tokens that are there before; several tests with commas
    #[arg(short = 'd', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "0")]
    n_depth: Vec<usize>,
    /// Runs of each test, traced and untraced each
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = whole, allow_negative_numbers = true)]
    repetitions: usize,
    /// Also list the layers
    #[arg(long)]
    layers: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a picture too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the report to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// What all tests share.
struct About {
    model: String,
    file: String,
    device: String,
    gpu: bool,
    /// Of the cores, where they compute.
    threads: Option<usize>,
    memory: Memory,
    roof: Roof,
    /// What measures energy.
    power: Option<&'static str>,
}

impl About {
    /// What tracing does to what it measures, in words.
    fn tracing(&self) -> &'static str {
        if self.gpu {
            "untraced: graphs as recorded, tokens chosen on the device if it can; traced: no graphs, given tokens, \
             an event between any two launches, which then do not overlap, and the device waits for the host \
             before each step; times of operations are the device's"
        } else {
            "traced: the first thread looks at the clock between operations, waiting for the others included"
        }
    }
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let tests = tests(command)?;
    let screen = Screen::new(config, false);
    let mut target = Target::open(&command.machine, config, screen)?;
    let path = command.model.model.as_deref().or(config.model.as_deref());
    let file = model_file::open(path, config)?;
    let longest = tests.iter().map(|test| test.depth + test.tokens()).max().unwrap_or(1);
    let machine = &load::settled(&file, &command.machine, &mut target, config, screen)?;
    let context = load::context(&file, machine.positions().or(Some(longest)), longest)?;
    if context < longest {
        return Err(bad_input(format!(
            "the tests need {longest} positions; raise --ctx-size or leave it out"
        )));
    }
    let (_, plan) = Plan::read(&file, Some(context))?;
    let options = load::options(&plan, machine, 1, config)?;
    // Before the model takes the memory.
    let on_gpu = match &target {
        Target::Gpu { cuda, .. } => Some(cuda.read_roof().map(Roof::from)),
        Target::Plain(_) => None,
    };
    let mut engine = load::engine(&file, &plan, &mut target, &options, None, machine, screen)?;
    let roof = match on_gpu.filter(|_| target.is_gpu()) {
        Some(roof) => roof.map_err(|error| anyhow::anyhow!(printable(&error.to_string())))?,
        None => roof::of_cores(options.threads, free::available()),
    };
    let library = command.machine.cuda_library.as_deref().or(config.cuda_library.as_deref());
    let sensor = Sensor::of(&target, library);

    let chooses = engine.feeds_back();
    let mut progress = screen.steps("measuring", tests.len() as u64);
    let mut results = Vec::new();
    for test in tests {
        let mut bench = Bench { engine: &mut engine, test, state: 0x2545_f491, chooses };
        results.push(bench.measure(command.repetitions, sensor.as_ref(), &target)?);
        progress.add(1);
    }
    drop(progress);

    let about = About {
        model: model_name(&file, &plan),
        file: path.map_or_else(|| file.name().to_owned(), |path| path.to_string_lossy().into_owned()),
        device: target.name(),
        gpu: target.is_gpu(),
        threads: (!target.is_gpu()).then_some(options.threads),
        memory: engine.runner().memory(),
        roof,
        power: sensor.as_ref().map(Sensor::name),
    };
    print(command, &about, &results)
}

fn print(command: &Command, about: &About, results: &[Profile]) -> anyhow::Result<()> {
    let text = markdown::report(about, results, command.layers);
    if let Some(path) = &command.svg {
        write(path, &svg::picture(about, results))?;
    }
    if let Some(path) = &command.output {
        write(path, &text)?;
    }
    if command.json {
        let tests: Vec<_> = results.iter().map(|profile| profile.json(&about.roof, command.layers)).collect();
        return json::print(&json!({
            "model": about.model,
            "file": about.file,
            "device": about.device,
            "threads": about.threads,
            "memory": {
                "weights": about.memory.weights,
                "kv": about.memory.kv,
                "buffers": about.memory.buffers,
            },
            "roof": {
                "bytes_per_second": about.roof.best,
                "median_bytes_per_second": about.roof.median,
                "bytes": about.roof.bytes,
            },
            "power": about.power,
            "tracing": about.tracing(),
            "tests": tests,
        }));
    }
    if command.output.is_none() {
        io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).map_err(|error| {
        let name = path.to_string_lossy();
        anyhow::anyhow!("cannot write {}: {error}; give another path", printable(&name))
    })
}

/// Family, size and mix in words.
fn model_name(file: &Gguf, plan: &Plan) -> String {
    let parameters = file.tensors().iter().map(gguf::Tensor::elements).sum();
    let family = file.opt_str("general.architecture").ok().flatten().unwrap_or("?");
    let mix = crate::cmd::inspect::mix(file).unwrap_or_else(|| plan.weights[0].format.to_string());
    format!("{family} {} {mix}", count(parameters))
}

fn tests(command: &Command) -> anyhow::Result<Vec<Test>> {
    if !(1..=1000).contains(&command.repetitions) {
        return Err(bad_input("--repetitions must be a number from 1 to 1000"));
    }
    Test::all(&command.n_prompt, &command.n_gen, &command.n_depth)
}

struct Bench<'a> {
    engine: &'a mut Engine,
    test: Test,
    /// Of random tokens.
    state: u64,
    /// Whether tokens are chosen and fed back by the device, as in `run`, and not given.
    chooses: bool,
}

impl Bench<'_> {
    fn measure(
        &mut self,
        repetitions: usize,
        sensor: Option<&Sensor>,
        target: &Target,
    ) -> anyhow::Result<Profile> {
        let test = self.test;
        let sequence = self.engine.open()?;
        let depth = self.take(test.depth);
        self.engine.feed(sequence, &depth, 0..0, &mut |_, _| {})?;
        // Warm-up; a GPU records its graph.
        self.once(sequence)?;
        let mut untraced: Vec<Duration> =
            (0..repetitions).map(|_| self.once(sequence)).collect::<anyhow::Result<_>>()?;
        untraced.sort();
        self.engine.trace(true);
        // A GPU learns how far ahead of it the host has to be.
        self.given(sequence)?;
        let mut traced = Vec::new();
        for _ in 0..repetitions {
            // Forgets the times so far.
            self.engine.trace(true);
            traced.push((self.given(sequence)?, self.engine.runner().times().to_vec()));
        }
        traced.sort_by_key(|(took, _)| *took);
        // One run's times, so that they add up to no more than it took.
        let (traced, times) = traced.swap_remove(repetitions / 2);
        let units = test.units() as f64;
        let each = |time: &OpTime| (time.nanos as f64 / 1e9 / units, time.runs as f64 / units);
        let mut times: Vec<(f64, f64)> = times.iter().map(each).collect();
        self.engine.trace(false);
        let (plan, options) = (self.engine.runner().plan(), self.engine.runner().options());
        let steps = test.steps(options.rows);
        if let Target::Gpu { cuda, .. } = target {
            let launches = launches(cuda, plan, options, &steps)?;
            for (time, launches) in times.iter_mut().zip(launches) {
                time.1 = launches / units;
            }
        }
        let mut work = work::of(plan, &steps, &held(plan, options, target.is_gpu()));
        for work in &mut work {
            work.bytes /= units;
            work.operations /= units;
        }
        let mut profile = Profile::new(plan, test, &times, &work, target.is_gpu());
        profile.untraced = untraced[repetitions / 2].as_secs_f64() / units;
        profile.traced = traced.as_secs_f64() / units;
        profile.energy = match sensor {
            Some(sensor) => self.energy(sensor, sequence)?,
            None => None,
        };
        self.engine.close(sequence);
        Ok(profile)
    }

    fn energy(&mut self, sensor: &Sensor, sequence: SequenceId) -> anyhow::Result<Option<Energy>> {
        let tokens = self.test.tokens();
        sensor.measure(|| self.once(sequence).map(|_| tokens))
    }

    /// Runs the test after the sequence's first `depth` tokens, as users do, and takes it back.
    fn once(&mut self, sequence: SequenceId) -> anyhow::Result<Duration> {
        let test = self.test;
        if !self.chooses || test.generate == 0 {
            return self.given(sequence);
        }
        let mut prompt = self.engine.ids(sequence)?[..test.depth].to_vec();
        prompt.extend(self.take(1));
        let sampling = Sampling::greedy();
        let params = Params { max_tokens: Some(test.generate), sampling, ..Params::default() };
        let start = Instant::now();
        self.engine.extend(sequence, &prompt, &params)?;
        self.engine.run(sequence, &|| false, &mut |_| {})?;
        let took = start.elapsed();
        self.engine.truncate(sequence, test.depth)?;
        Ok(took)
    }

    /// The same with tokens that are given, after each of which the host waits.
    fn given(&mut self, sequence: SequenceId) -> anyhow::Result<Duration> {
        let test = self.test;
        let ids = self.take(test.tokens());
        let start = Instant::now();
        if test.prompt > 0 {
            let last = test.prompt - 1;
            self.engine.feed(sequence, &ids, last..last + 1, &mut |_, _| {})?;
        } else {
            for id in ids.chunks(1) {
                self.engine.feed(sequence, id, 0..1, &mut |_, _| {})?;
            }
        }
        let took = start.elapsed();
        self.engine.truncate(sequence, test.depth)?;
        Ok(took)
    }

    /// Random tokens: which ones does not matter to the time, that they differ might.
    fn take(&mut self, count: usize) -> Vec<u32> {
        let vocab = self.engine.runner().plan().shape.vocab as u32;
        let next = |_| {
            // Knuth's MMIX constants.
            self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.state >> 33) as u32 % vocab
        };
        (0..count).map(next).collect()
    }
}

/// How a device holds this plan. The cores' tiles hold what the file does; a GPU's are whole tiles of 16 × 256.
fn held(plan: &Plan, options: &LoadOptions, gpu: bool) -> Held {
    let head = plan.shape.head_dim;
    let padded = if gpu { cuda::args::rope::width(head).unwrap_or(head) } else { head };
    let weight = if gpu { cuda::weights::device_bytes } else { work::of_file };
    Held { weight, key: options.kv.head_bytes(padded) }
}

/// Launches of each operation in all steps. A token's do not depend on its position.
fn launches(
    cuda: &cuda::Cuda,
    plan: &Plan,
    options: &LoadOptions,
    steps: &[Step],
) -> anyhow::Result<Vec<f64>> {
    let mut sum = vec![0.0; plan.ops.len()];
    let mut alike: Vec<(usize, usize, f64)> = Vec::new();
    for step in steps {
        match alike.iter_mut().find(|(rows, wanted, _)| (*rows, *wanted) == (step.rows, step.wanted)) {
            Some((.., times)) => *times += 1.0,
            None => alike.push((step.rows, step.wanted, 1.0)),
        }
    }
    for (rows, wanted, times) in alike {
        for (sum, launches) in sum.iter_mut().zip(cuda.launches(plan, options, rows, wanted)?) {
            *sum += times * f64::from(launches);
        }
    }
    Ok(sum)
}
