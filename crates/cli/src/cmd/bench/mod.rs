//! `bench`: speed of prompts and of generation, measured as llama-bench measures them.
//!
//! A test computes tokens after `depth` others: a prompt of `p` at once (pp) or `n` one by one (tg).
//! Tokenizing is not timed, and neither is sampling on the CPU: there the `n` tokens are random ones, as
//! llama-bench's are. On a device that chooses tokens by itself tg is what `run` does with temperature 0: a
//! random token, then the most likely one after each, chosen and fed back on the device, so the choice and
//! everything the host does a token are timed; llama-bench times neither. With `--peer`, a run here and a run of llama-bench on the same
//! file take turns, so that whatever else the machine does falls on both.

mod peer;
mod table;
mod trace;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use engine::{Engine, Event, Params, Sampling, SequenceId};
use gguf::Gguf;
use model::Plan;
use serde_json::json;

use crate::args::{Limiting, Machine, ModelFile, whole};
use crate::cmd::speed_test::Test;
use crate::config::Config;
use crate::failure::bad_input;
use crate::limits::{self, Guard, Watch};
use crate::screen::{Progress, Screen, printable};
use crate::status::{About as Told, Phase};
use crate::target::Target;
use crate::{json, load, model_file};
use peer::Peer;

const EXAMPLES: &str = "\
Examples:
  jetson-llm bench -m model.gguf
  jetson-llm bench -m model.gguf -p 128 -n 32 -d 0,4096 -t 4 --json
  jetson-llm bench -m model.gguf --peer ~/llama.cpp/build/bin/llama-bench";

/// Measure speed, alone or beside llama-bench
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    model: ModelFile,
    /// Prompt tokens; several tests with commas, 0 for none
    #[arg(short = 'p', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "512")]
    n_prompt: Vec<usize>,
    /// Tokens to generate; several tests with commas, 0 for none
    #[arg(short = 'n', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "128")]
    n_gen: Vec<usize>,
    /// Tokens that are there before; several tests with commas
    #[arg(short = 'd', long, value_name = "N,…", value_delimiter = ',', value_parser = whole, allow_negative_numbers = true, default_value = "0")]
    n_depth: Vec<usize>,
    /// Runs of each test
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = whole, allow_negative_numbers = true)]
    repetitions: usize,
    /// Take turns with this llama-bench
    #[arg(long, value_name = "PATH")]
    peer: Option<PathBuf>,
    /// Also print the time spent in each kind of operation
    #[arg(long)]
    trace: bool,
    /// Choose the tokens of a GPU on the CPU, which then waits for each step
    #[arg(long, hide = true)]
    no_feedback: bool,
    /// Print one JSON array with llama-bench's keys
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    limiting: Limiting,
}

/// A test and its runs.
struct Measured {
    test: Test,
    time: SystemTime,
    samples: Vec<Duration>,
    peer: Option<peer::Samples>,
    trace: Option<Vec<trace::Line>>,
    /// Energy of all runs, J, where a sensor tells.
    joules: Option<f64>,
}

impl Measured {
    /// Tokens a second of each run.
    fn rates(&self) -> Vec<f64> {
        let rate = |time: &Duration| self.test.tokens() as f64 / time.as_secs_f64();
        self.samples.iter().map(rate).collect()
    }

    /// Tokens of all runs over their energy.
    fn tokens_per_joule(&self) -> Option<f64> {
        Some((self.test.tokens() * self.samples.len()) as f64 / self.joules?)
    }

    /// Median rate here over median rate of the peer.
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?;
        Some(median(&self.rates()) / median(&peer.rates(self.test)))
    }
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, false);
    let mut target = Target::open(&command.machine, config, screen)?;
    let tests = tests(command)?;
    let watch = Watch::open(&command.machine, &command.limiting, &target, config, screen)?;
    let mode = watch.power_mode();
    let path = command.model.model.as_deref().or(config.model.as_deref());
    let file = model_file::open(path, config)?;
    let peer = match (&command.peer, path) {
        (None, _) => None,
        // Said before the model is loaded.
        (Some(program), Some(_)) if !program.is_file() => {
            let program = printable(&program.to_string_lossy());
            return Err(bad_input(format!("--peer {program} is no program; give the path of llama-bench")));
        }
        (Some(program), Some(model)) => Some((program, model)),
        (Some(_), None) => return Err(bad_input("--peer needs a file that both can read; give -m")),
    };
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
    let batch = command.machine.batch_size;
    let mut engine = load::engine(&file, &plan, &mut target, &options, None, machine, screen)?;
    let told = Told { command: "bench", model: file.name().to_owned(), device: target.name() };
    let guard = limits::guard(&mut engine, watch, &told);
    let gpu = target.is_gpu();
    let chooses = engine.feeds_back();
    engine.set_feedback(!command.no_feedback);
    let mut peer = peer.map(|(program, model)| Peer::new(program, model, options.threads, batch, gpu));

    let mut progress = screen.steps("measuring", (tests.len() * command.repetitions) as u64);
    let mut ids = Ids { state: 0x2545_f491, vocab: plan.shape.vocab as u32 };
    let mut results = Vec::new();
    for test in tests {
        let (engine, ids, guard) = (&mut engine, &mut ids, &guard);
        let mut bench = Bench { engine, ids, guard, trace: command.trace, chooses };
        results.push(bench.measure(test, command.repetitions, peer.as_mut(), &mut progress)?);
    }
    drop(progress);

    let about = About { mode, ..About::new(&file, path, &plan, target.name(), &options) };
    if command.json {
        let rows: Vec<_> = results.iter().map(|measured| about.row(measured)).collect();
        return json::print(&rows.into());
    }
    table::print(&about, &results)
}

fn tests(command: &Command) -> anyhow::Result<Vec<Test>> {
    if !(1..=10_000).contains(&command.repetitions) {
        return Err(bad_input("--repetitions must be a number from 1 to 10000"));
    }
    Test::all(&command.n_prompt, &command.n_gen, &command.n_depth)
}

/// Random tokens: which ones does not matter to the time, that they differ might.
struct Ids {
    state: u64,
    vocab: u32,
}

impl Ids {
    fn take(&mut self, count: usize) -> Vec<u32> {
        let next = |_| {
            // Knuth's MMIX constants.
            self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.state >> 33) as u32 % self.vocab
        };
        (0..count).map(next).collect()
    }
}

struct Bench<'a> {
    engine: &'a mut Engine,
    ids: &'a mut Ids,
    guard: &'a Guard,
    trace: bool,
    /// Whether tokens are generated, not given.
    chooses: bool,
}

impl Bench<'_> {
    /// The runs, each from the same depth, after one warm-up. Beside a peer each run has its own, because
    /// the peer warms up in every turn and clocks fall in the meantime.
    fn measure(
        &mut self,
        test: Test,
        repetitions: usize,
        mut peer: Option<&mut Peer>,
        progress: &mut Progress,
    ) -> anyhow::Result<Measured> {
        let time = SystemTime::now();
        let sequence = self.engine.open()?;
        let depth = self.ids.take(test.depth);
        self.engine.feed(sequence, &depth, 0..0, &mut |_, _| {})?;
        let warm_up = Test { generate: test.generate.min(1), ..test };
        self.once(sequence, warm_up)?;
        if self.trace {
            self.engine.trace(true);
        }
        let (mut samples, mut others) = (Vec::new(), Vec::new());
        let before = self.guard.joules();
        for turn in 0..repetitions {
            if turn > 0 && peer.is_some() && !self.trace {
                self.once(sequence, warm_up)?;
            }
            samples.push(self.once(sequence, test)?);
            if let Some(peer) = &mut peer {
                others.push(peer.run(test)?);
            }
            progress.add(1);
        }
        let joules = Some(self.guard.joules() - before).filter(|&joules| joules > 0.0 && peer.is_none());
        let trace = self.trace.then(|| trace::lines(self.engine.runner()));
        self.engine.close(sequence);
        let peer = peer.map(|_| peer::Samples(others));
        Ok(Measured { test, time, samples, peer, trace, joules })
    }

    /// Runs a test after the sequence's first `depth` tokens and takes it back.
    fn once(&mut self, sequence: SequenceId, test: Test) -> anyhow::Result<Duration> {
        if self.chooses && test.generate > 0 {
            return self.generate(sequence, test);
        }
        let ids = self.ids.take(test.tokens());
        let start = Instant::now();
        if test.prompt > 0 {
            self.guard.counters().phase(Phase::Prefill);
            let last = test.prompt - 1;
            self.engine.feed(sequence, &ids[..test.prompt], last..last + 1, &mut |_, _| {})?;
            self.guard.counters().read(test.prompt, test.prompt);
        }
        for id in ids[test.prompt..].chunks(1) {
            self.engine.feed(sequence, id, 0..1, &mut |_, _| {})?;
            self.guard.counters().chose(1);
        }
        let took = start.elapsed();
        self.guard.counters().phase(Phase::Idle);
        self.engine.truncate(sequence, test.depth)?;
        Ok(took)
    }

    /// The same for a test that generates, with tokens chosen on the way: as many steps as tokens.
    fn generate(&mut self, sequence: SequenceId, test: Test) -> anyhow::Result<Duration> {
        let mut prompt = self.engine.ids(sequence)?[..test.depth].to_vec();
        prompt.extend(self.ids.take(1));
        let sampling = Sampling::greedy();
        let params = Params { max_tokens: Some(test.generate), sampling, ..Params::default() };
        let start = Instant::now();
        self.engine.extend(sequence, &prompt, &params)?;
        self.guard.counters().phase(Phase::Decode);
        let counters = self.guard.counters();
        self.engine.run(sequence, &|| false, &mut |event| {
            if matches!(event, Event::Token { .. }) {
                counters.chose(1);
            }
        })?;
        let took = start.elapsed();
        self.guard.counters().phase(Phase::Idle);
        self.engine.truncate(sequence, test.depth)?;
        Ok(took)
    }
}

/// The facts that every row of results repeats.
struct About {
    file: String,
    /// Family, size and mix in words.
    model: String,
    /// Bytes of all tensors.
    bytes: u64,
    parameters: u64,
    backend: String,
    threads: usize,
    batch: usize,
    kv: &'static str,
    cpu: String,
    /// A board's power mode.
    mode: Option<String>,
}

impl About {
    fn new(
        file: &Gguf,
        path: Option<&Path>,
        plan: &Plan,
        backend: String,
        options: &model::LoadOptions,
    ) -> About {
        let parameters = file.tensors().iter().map(gguf::Tensor::elements).sum();
        let family = file.opt_str("general.architecture").ok().flatten().unwrap_or("?");
        let mix = crate::cmd::inspect::mix(file).unwrap_or_else(|| plan.weights[0].format.to_string());
        About {
            file: path.map_or_else(|| file.name().to_owned(), |path| path.to_string_lossy().into_owned()),
            model: format!("{family} {} {mix}", crate::screen::count(parameters)),
            bytes: file.tensors().iter().map(|tensor| tensor.bytes).sum(),
            parameters,
            backend,
            threads: options.threads,
            batch: options.rows,
            kv: options.kv.name(),
            cpu: cpu_name(),
            mode: None,
        }
    }

    /// A result with the keys of llama-bench that have a meaning here.
    fn row(&self, measured: &Measured) -> serde_json::Value {
        let nanos: Vec<u64> = measured.samples.iter().map(|time| time.as_nanos() as u64).collect();
        let floats: Vec<f64> = nanos.iter().map(|&nanos| nanos as f64).collect();
        let rates = measured.rates();
        let mut row = json!({
            "build_commit": option_env!("JETSON_LLM_COMMIT").unwrap_or("unknown"),
            "build_version": env!("CARGO_PKG_VERSION"),
            "cpu_info": self.cpu,
            "gpu_info": "",
            "backends": self.backend,
            "model_filename": self.file,
            "model_type": self.model,
            "model_size": self.bytes,
            "model_n_params": self.parameters,
            "n_batch": self.batch,
            "n_ubatch": self.batch,
            "n_threads": self.threads,
            "type_k": self.kv,
            "type_v": self.kv,
            "n_prompt": measured.test.prompt,
            "n_gen": measured.test.generate,
            "n_depth": measured.test.depth,
            "test_time": table::utc(measured.time),
            "avg_ns": mean(&floats) as u64,
            "stddev_ns": deviation(&floats) as u64,
            "avg_ts": mean(&rates),
            "stddev_ts": deviation(&rates),
            "samples_ns": nanos,
            "samples_ts": rates,
        });
        if let Some(peer) = &measured.peer {
            let rates = peer.rates(measured.test);
            row["peer"] = json!({
                "avg_ts": mean(&rates),
                "stddev_ts": deviation(&rates),
                "samples_ts": rates,
                "samples_ns": peer.0.iter().map(|time| time.as_nanos() as u64).collect::<Vec<_>>(),
            });
            row["ratio"] = measured.ratio().into();
        }
        if let Some(joules) = measured.joules {
            row["power_mode"] = self.mode.clone().into();
            row["joules"] = joules.into();
            row["tokens_per_joule"] = measured.tokens_per_joule().into();
        }
        if let Some(lines) = &measured.trace {
            row["trace"] = lines.iter().map(trace::Line::json).collect();
        }
        row
    }
}

fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of the sample: over n − 1.
fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::{deviation, median};

    #[test]
    fn spread_is_over_n_minus_one() {
        assert!((deviation(&[1.0, 2.0, 3.0]) - 1.0).abs() < 1e-12);
        assert!(deviation(&[5.0]).abs() < 1e-12);
    }

    #[test]
    fn the_median_ignores_one_slow_run() {
        assert!((median(&[10.0, 11.0, 1.0]) - 10.0).abs() < 1e-12);
        assert!((median(&[1.0, 3.0]) - 2.0).abs() < 1e-12);
    }
}
