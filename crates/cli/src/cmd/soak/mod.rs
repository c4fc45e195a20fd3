//! `soak`: whether this machine runs a model for as long as it is asked to, and a report that shows it.
//!
//! Phases: one long answer; answers one after another for most of the time; an answer whose window slides
//! in a small context; this program started cold again and again. A thread looks at memory, heat, power and
//! clocks all the while. Long phases are cut to shares of the time, so that a short run sees all of them.

mod graphs;
mod judge;
mod phases;
mod report;
mod starts;
mod waits;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use cuda::nvml::Nvml;
use engine::{Engine, Notice, Params};
use gguf::Gguf;
use model::Plan;
use platform::{Readings, governor};
use serde_json::Value;
use text::chat::{Chat, Message};
use text::{EncodeOptions, Tokenizer};

use crate::args::{Limiting, Machine, ModelFile, OUTPUT, Sampling};
use crate::cmd::run::has_template;
use crate::config::Config;
use crate::failure::{Interrupted, bad_input};
use crate::limits::{self, Guard};
use crate::screen::{Progress, Screen, printable};
use crate::target::Target;
use crate::{answer, interrupt, json, load, model_file, session, status};
use judge::{Check, Stretch};
use phases::{LONG, Phase, SMALL, Until};
use report::{About, Report};
use starts::STARTS;
use watch::Watch;

const EXAMPLES: &str = "\
Examples:
  jetson-llm soak --for 30s --out report              all phases, shortened
  jetson-llm soak -m model.gguf --for 30m --out report
  jetson-llm soak -m model.gguf --for 8h --out report --json | jq .status

The report is report.md, report.json and pictures. Exit code 1 if a phase failed. Ctrl-C writes the report
of what has run.";

/// Run a model for a long time and report memory, heat, power and speed
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// How long: 30s, 10m, 8h, 1h30m
    #[arg(long = "for", value_name = "TIME", default_value = "30m", value_parser = length)]
    length: Duration,
    /// Folder of the report; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    limiting: Limiting,
    #[command(flatten)]
    sampling: Sampling,
    /// Print the report as one JSON object
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Show no progress
    #[arg(long, help_heading = OUTPUT)]
    quiet: bool,
}

/// Options of this command that a single answer does not have; the flag says whether a value follows.
const OWN: [(&str, bool); 4] = [("--for", true), ("--out", true), ("--json", false), ("--quiet", false)];

/// Shares of the time that phases take at most, and one of them at least.
const LONG_SHARE: f64 = 0.15;
const SLIDING_SHARE: f64 = 0.15;
const SLIDING_LEAST: f64 = 0.05;
const STARTS_SHARE: f64 = 0.25;
/// Starts of the shortest run.
const FEWEST_STARTS: usize = 3;

/// What is asked for a long time, in turns.
const QUESTIONS: [&str; 6] = [
    "Tell me a long story about a robot that learns to garden.",
    "Explain why the sky is blue, step by step.",
    "Write a letter to a friend who moved to another city.",
    "What should I pack for a week in the mountains?",
    "Describe how bread is made, from the field to the table.",
    "List things that people did before there were computers.",
];

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, command.quiet || command.json);
    let folder = &command.out;
    std::fs::create_dir_all(folder).map_err(|error| {
        bad_input(format!("cannot make the folder {}: {error}; give another --out", shown(folder)))
    })?;
    interrupt::listen();
    let opened = Instant::now();
    let mut lab = Lab::open(command, config, screen)?;
    let mut ready = lab.engine(None)?;
    let loading = opened.elapsed();
    let about = lab.about(&ready.engine)?;

    let start = Instant::now();
    let library = command.machine.cuda_library.as_deref().or(config.cuda_library.as_deref());
    let power = power(&lab.target, library);
    let watch = Watch::begin(command.machine.root()?, power, start, command.length);
    let mut suite = Suite {
        watch,
        start,
        length: command.length,
        loading,
        usual: session::params(&command.sampling, None),
        progress: screen.steps("soaking", command.length.as_secs()),
        phases: Vec::new(),
        stretches: Vec::new(),
    };
    let mut ran = suite.long(&mut ready, &lab);
    if ran.is_ok() && !interrupt::requested() {
        ran = suite.steady(&mut ready, &lab);
    }
    drop(ready);
    if ran.is_ok() && !interrupt::requested() {
        ran = suite.sliding(&mut lab);
    }
    if ran.is_ok() && !interrupt::requested() {
        ran = suite.starts(&lab);
    }
    let Suite { watch, mut phases, stretches, progress, .. } = suite;
    drop(progress);
    let samples = watch.end();
    let settings = governor::Settings {
        throttle: about.readings.throttle(),
        power_budget: command.limiting.power_budget,
    };
    for phase in &mut phases {
        if phase.name == "steady" {
            let why = judge::why(&samples, phase.number, settings);
            phase.checks.push(judge::speed(&stretches, why.as_deref()));
        }
        phase.look_at(&samples);
    }
    let error = ran.err().map(|error| error.to_string());
    let report = Report {
        about: &about,
        phases: &phases,
        samples: &samples,
        ran: start.elapsed().as_secs_f64(),
        interrupted: interrupt::requested(),
        error: error.as_deref(),
    };
    report.write(folder)?;
    if command.json {
        json::print(&report.json())?;
    } else {
        answer::line(report.lines().trim_end())?;
        answer::line(&format!("report: {}", shown(&folder.join("report.md"))))?;
    }
    match report.failed() {
        0 if report.interrupted => Err(Interrupted.into()),
        0 => Ok(()),
        1 => anyhow::bail!("1 phase failed; see {}", shown(&folder.join("report.md"))),
        failed => anyhow::bail!("{failed} phases failed; see {}", shown(&folder.join("report.md"))),
    }
}

/// A loaded model under the machine's limits.
struct Ready {
    engine: Engine,
    /// Ends with it.
    _guard: Guard,
    heard: Arc<Heard>,
}

/// What happened to sequences without being asked for.
#[derive(Default)]
struct Heard {
    slides: AtomicUsize,
    /// Why the last generation ended early.
    stopped: Mutex<Option<String>>,
}

impl Heard {
    fn hear(&self, notice: Notice) {
        match notice {
            Notice::Slid { .. } => {
                self.slides.fetch_add(1, Ordering::Relaxed);
            }
            Notice::OutOfMemory { .. } => {
                let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
                *stopped = Some(notice.to_string());
            }
            _ => {}
        }
    }

    /// A check of what stopped generations, if anything did.
    fn check(&self) -> Option<Check> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.as_ref().map(|line| Check::new("memory is enough", false, line.clone()))
    }
}

/// A model, and what it needs to be loaded as often as it takes.
struct Lab<'a> {
    command: &'a Command,
    config: &'a Config,
    screen: Screen,
    file: Gguf,
    tokenizer: Arc<Tokenizer>,
    chat: Option<Chat>,
    target: Target,
    /// With the context settled.
    machine: Machine,
}

impl Lab<'_> {
    fn open<'a>(command: &'a Command, config: &'a Config, screen: Screen) -> anyhow::Result<Lab<'a>> {
        let mut target = Target::open(&command.machine, config, screen)?;
        let file = model_file::open(command.model.model.as_deref(), config)?;
        model::arch::spec(&file)?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
        let chat = if has_template(&file)? { Some(Chat::from_gguf(&file, &tokenizer)?) } else { None };
        let machine = load::settled(&file, &command.machine, &mut target, config, screen)?;
        Ok(Lab { command, config, screen, file, tokenizer, chat, target, machine })
    }

    /// The model loaded with `context` positions, or what the command asks for; else what a long answer needs.
    fn engine(&mut self, context: Option<usize>) -> anyhow::Result<Ready> {
        let Lab { command, config, screen, .. } = *self;
        let limits = limits::Watch::open(&command.machine, &command.limiting, &self.target, config, screen)?;
        let asked = match (context, self.machine.positions()) {
            (Some(context), Some(asked)) if asked > 0 => Some(context.min(asked)),
            (Some(context), _) => Some(context),
            (None, asked) => asked,
        };
        let context = load::context(&self.file, asked, LONG + 256)?;
        let (_, plan) = Plan::read(&self.file, Some(context))?;
        let options = load::options(&plan, &self.machine, 1, self.config)?;
        let tokenizer = Some(self.tokenizer.clone());
        let mut engine =
            load::engine(&self.file, &plan, &mut self.target, &options, tokenizer, &self.machine, screen)?;
        let told =
            status::About { command: "soak", model: self.file.name().to_owned(), device: self.target.name() };
        let guard = limits::guard(&mut engine, limits, &told);
        // Windows slide thousands of times: that is counted, not printed.
        let heard = Arc::new(Heard::default());
        let hears = heard.clone();
        engine.on_notice(Box::new(move |notice| hears.hear(notice)));
        Ok(Ready { engine, _guard: guard, heard })
    }

    fn prompt(&self, question: &str) -> anyhow::Result<Vec<u32>> {
        if let Some(chat) = &self.chat {
            return session::prompt(chat, &self.tokenizer, &[Message::user(question.to_owned())]);
        }
        let options = EncodeOptions { bos: self.tokenizer.add_bos(), special: false };
        Ok(self.tokenizer.encode_vec(question, options))
    }

    fn about(&self, engine: &Engine) -> anyhow::Result<About> {
        let options = engine.runner().options();
        let path = self.command.model.model.as_deref().or(self.config.model.as_deref());
        Ok(About {
            model: path
                .map_or_else(|| self.file.name().to_owned(), |path| path.to_string_lossy().into_owned()),
            device: self.target.name(),
            threads: (!self.target.is_gpu()).then_some(options.threads),
            context: engine.context(),
            kv: options.kv.name(),
            asked: self.command.length,
            readings: Readings::take(&self.command.machine.root()?),
        })
    }
}

/// What a phase found.
#[derive(Default)]
struct Done {
    tokens: usize,
    checks: Vec<Check>,
    facts: Value,
    /// From when on memory must be flat, if ever.
    flat: Option<Instant>,
}

/// The phases under way.
struct Suite {
    watch: Watch,
    start: Instant,
    length: Duration,
    /// What loading the model took.
    loading: Duration,
    usual: Params,
    progress: Progress,
    phases: Vec<Phase>,
    /// Of the steady phase.
    stretches: Vec<Stretch>,
}

impl Suite {
    /// A share of the whole time, from now on.
    fn share(&self, share: f64) -> Instant {
        Instant::now() + self.length.mul_f64(share)
    }

    /// Runs a phase and keeps what it found.
    fn phase(
        &mut self,
        name: &'static str,
        what: String,
        work: impl FnOnce(&mut Suite) -> anyhow::Result<Done>,
    ) -> anyhow::Result<()> {
        let number = self.phases.len();
        self.watch.phase(number);
        self.progress.say(name.to_owned());
        let began = self.start.elapsed().as_secs_f64();
        let done = work(self);
        let ended = self.start.elapsed().as_secs_f64();
        let (done, failed) = match done {
            Ok(done) => (done, None),
            Err(error) => {
                let text = error.downcast_ref::<model::Error>().map(crate::failure::explain);
                let text = text.unwrap_or_else(|| error.to_string());
                let checks = vec![Check::new("no error", false, text.clone())];
                (Done { checks, ..Done::default() }, Some(anyhow::anyhow!("{name}: {text}")))
            }
        };
        let flat = done.flat.map(|at| at.duration_since(self.start).as_secs_f64());
        let Done { tokens, checks, facts, .. } = done;
        self.phases.push(Phase { name, what, number, began, ended, flat, tokens, checks, facts });
        failed.map_or(Ok(()), Err)
    }

    fn long(&mut self, ready: &mut Ready, lab: &Lab) -> anyhow::Result<()> {
        let what = format!("one answer of {LONG} tokens");
        let prompt = lab.prompt(QUESTIONS[0])?;
        self.phase("long", what, |suite| suite.answer(ready, &prompt, Some(LONG), LONG_SHARE))
    }

    fn sliding(&mut self, lab: &mut Lab) -> anyhow::Result<()> {
        let what = format!("{LONG} tokens in a context of {SMALL}");
        let prompt = lab.prompt(QUESTIONS[0])?;
        self.phase("sliding", what, |suite| {
            let mut ready = lab.engine(Some(SMALL))?;
            let mut done = suite.answer(&mut ready, &prompt, None, SLIDING_SHARE)?;
            let slides = ready.heard.slides.load(Ordering::Relaxed);
            if done.flat.is_some() {
                done.checks.push(Check::new("the window slides", slides > 0, format!("{slides} times")));
            }
            Ok(done)
        })
    }

    /// One answer of `tokens`, or of [`LONG`] and as many as [`SLIDING_LEAST`] gives time for.
    fn answer(
        &mut self,
        ready: &mut Ready,
        prompt: &[u32],
        tokens: Option<usize>,
        share: f64,
    ) -> anyhow::Result<Done> {
        let enough = tokens.is_none().then(|| (LONG, self.share(SLIDING_LEAST)));
        let until = Until { latest: self.share(share), enough };
        let params = phases::params(&self.usual, tokens, 0);
        let Suite { watch, progress, start, length, .. } = self;
        let mut tick = || progress.set(start.elapsed().as_secs(), length.as_secs());
        let said = phases::answer(&mut ready.engine, prompt, &params, until, watch, &mut tick)?;
        let (mut checks, facts) = (phases::whole(&said, LONG), phases::facts(&said));
        checks.extend(ready.heard.check());
        Ok(Done {
            tokens: said.summary.generated,
            checks,
            facts,
            flat: said.slid.filter(|_| tokens.is_none()),
        })
    }

    fn steady(&mut self, ready: &mut Ready, lab: &Lab) -> anyhow::Result<()> {
        let until = self.start + self.length.saturating_sub(self.needed_after());
        let tokens = phases::steady_tokens(
            QUESTIONS.len(),
            until.saturating_duration_since(Instant::now()),
            self.phases
                .last()
                .map_or(0.0, |phase| phase.tokens as f64 / (phase.ended - phase.began).max(1e-9)),
        );
        let ask = |(question, seed): (&&str, u64)| {
            Ok((lab.prompt(question)?, phases::params(&self.usual, Some(tokens), seed)))
        };
        let questions = QUESTIONS.iter().zip(1..).map(ask).collect::<anyhow::Result<Vec<_>>>()?;
        self.phase("steady", format!("answers of {tokens} tokens, one after another"), |suite| {
            let Suite { watch, progress, start, length, .. } = suite;
            let mut tick = || progress.set(start.elapsed().as_secs(), length.as_secs());
            let began = Instant::now();
            let done = phases::steady(&mut ready.engine, &questions, until, watch, &mut tick)?;
            let mut checks = done.checks;
            checks.extend(ready.heard.check());
            suite.stretches = done.stretches;
            Ok(Done { tokens: done.tokens, checks, facts: done.facts, flat: Some(began) })
        })
    }

    /// What the phases after the steady one will take, with some to spare: the window that slides reads its
    /// tokens again now and then, and a start is little more than loading.
    fn needed_after(&self) -> Duration {
        let long = self.phases.last().map_or(0.0, |phase| phase.ended - phase.began);
        let sliding =
            self.loading + Duration::from_secs_f64(2.0 * long).max(self.length.mul_f64(SLIDING_LEAST));
        let starts = (self.loading + Duration::from_millis(20)).mul_f64(1.3 * STARTS as f64);
        sliding.min(self.length.mul_f64(SLIDING_SHARE)) + starts.min(self.length.mul_f64(STARTS_SHARE))
    }

    fn starts(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let options = passed_on(std::env::args_os().skip(1));
        let deadline = self.start + self.length;
        self.phase("starts", format!("{STARTS} cold starts, a few tokens each"), |suite| {
            let Suite { progress, start, length, .. } = suite;
            let mut tick = |_| progress.set(start.elapsed().as_secs(), length.as_secs());
            let done = starts::run(&options, &lab.target, deadline, FEWEST_STARTS, &mut tick)?;
            Ok(Done { tokens: done.tokens, checks: done.checks, facts: done.facts, flat: None })
        })
    }
}

/// This command's options that a single answer has too: everything but the command's name and its own.
fn passed_on(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut passed = Vec::new();
    let mut args = args.filter({
        let mut named = false;
        move |arg| {
            named || {
                named = arg == "soak";
                !named
            }
        }
    });
    while let Some(arg) = args.next() {
        let own = OWN.iter().find(|(name, valued)| {
            arg == *name || *valued && arg.as_encoded_bytes().starts_with(format!("{name}=").as_bytes())
        });
        match own {
            Some((name, true)) if arg == *name => drop(args.next()),
            Some(_) => {}
            None => passed.push(arg),
        }
    }
    passed
}

/// What measures the power of a GPU that is no board's own.
fn power(target: &Target, emulator: Option<&Path>) -> Option<Nvml> {
    let Target::Gpu { cuda, .. } = target else { return None };
    let index = cuda.options().device;
    match emulator.filter(|_| cuda.device().emulated()) {
        Some(library) => Nvml::open_at(library, library, index),
        None if cuda.device().emulated() => None,
        None => Nvml::open(index),
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// `90s`, `10m`, `1h30m`; from two seconds to a hundred days.
fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "write it as 30s, 10m, 8h or 1h30m".to_owned();
    let (mut seconds, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    match seconds {
        2..=8_640_000 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{}; from 2s to 100d", wrong())),
    }
}

#[cfg(test)]
mod tests {
    use super::{length, passed_on};
    use std::ffi::OsString;
    use std::time::Duration;

    #[test]
    fn times_are_read() {
        let seconds = |text| length(text).map(|length| length.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(length("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in
            ["", "30", "m", "-5s", "1.5h", "10 m", "1s1", "0s", "1000d", "99999999999999999999s", "5µ"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_start_gets_the_options_of_an_answer() {
        let args = [
            "soak", "--for", "10m", "-m", "soak", "--out=x", "-c", "512", "--json", "--quiet", "--out",
            "--for",
        ];
        let passed = passed_on(args.iter().map(OsString::from));
        assert_eq!(passed, ["-m", "soak", "-c", "512"].map(OsString::from));
    }
}
