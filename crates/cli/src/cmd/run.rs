//! `run`: one answer to one prompt.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use engine::{Overflow, Stopped};
use gguf::Gguf;
use model::Plan;
use serde_json::json;
use text::chat::{Chat, Message};
use text::{EncodeOptions, Tokenizer};

use crate::answer::Answer;
use crate::args::{Answering, OUTPUT, PROMPT};
use crate::config::Config;
use crate::failure::{Interrupted, bad_input};
use crate::limits::{self, Watch};
use crate::screen::Screen;
use crate::status::About;
use crate::target::Target;
use crate::{cmd, input, interrupt, json, load, model_file, session};

const EXAMPLES: &str = "\
Examples:
  jetson-llm run -p \"What is 2+2?\"
  jetson-llm run -m model.gguf -f question.txt -n 200 --temp 0
  jetson-llm run -m stories.gguf --raw -p \"Once upon a time\" --seed 7
  git diff | jetson-llm run -m model.gguf -s \"Write a commit message for this change.\"";

/// Answer one prompt
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Prompt; without it and -f, stdin
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", help_heading = PROMPT)]
    prompt: Option<String>,
    /// File with the prompt
    #[arg(short, long, value_name = "FILE", help_heading = PROMPT)]
    file: Option<PathBuf>,
    /// Complete the text as it stands, without the model's chat template
    #[arg(long, help_heading = PROMPT)]
    raw: bool,
    /// With --raw: let the names of control tokens in the prompt become those tokens
    #[arg(long, requires = "raw", help_heading = PROMPT, hide_short_help = true)]
    special: bool,
    #[command(flatten)]
    answering: Answering,
    /// Print one JSON object when all is done
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

impl Command {
    fn wants_chat(&self) -> bool {
        self.prompt.is_none() && self.file.is_none() && !self.json && !self.raw && io::stdin().is_terminal()
    }

    fn text(&self) -> anyhow::Result<String> {
        let text = match (&self.prompt, &self.file) {
            (Some(text), _) => return Ok(text.clone()),
            (None, Some(path)) => input::read_text(path)?,
            (None, None) if io::stdin().is_terminal() => {
                return Err(bad_input("there is no prompt; give -p TEXT or -f FILE, or pipe it in"));
            }
            (None, None) => input::read_stdin()?,
        };
        let text = input::without_last_line_feed(text);
        if text.is_empty() {
            return Err(bad_input("the prompt is empty; give -p TEXT or -f FILE, or pipe it in"));
        }
        Ok(text)
    }
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    if command.wants_chat() {
        return cmd::chat::converse(&command.answering, cmd::chat::history(config).as_deref(), config);
    }
    let screen = Screen::new(config, command.answering.quiet || command.json);
    let mut target = Target::open(&command.answering.machine, config, screen)?;
    let device_free = target.device_free();
    let answering = &command.answering;
    let watch = Watch::open(&answering.machine, &answering.limiting, &target, config, screen)?;
    let started = Instant::now();
    let file = model_file::open(command.answering.model.model.as_deref(), config)?;
    // What does not run is refused before its prompt is read.
    model::arch::spec(&file)?;
    let text = command.text()?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
    let (ids, sinks) = prompt(command, &file, &tokenizer, text)?;

    let max_tokens = command.answering.max_tokens();
    let wanted = ids.len().saturating_add(max_tokens.unwrap_or(1024)).saturating_add(1);
    let machine = &load::settled(&file, &command.answering.machine, &mut target, config, screen)?;
    let context = load::context(&file, machine.positions(), wanted)?;
    if ids.len() > context {
        let problem = format!("the prompt has {} tokens and the context {context} positions", ids.len());
        return Err(bad_input(format!("{problem}; shorten it or raise --ctx-size")));
    }
    let (_, plan) = Plan::read(&file, Some(context))?;
    // What the engine would refuse too, but only once the model is loaded.
    for &(id, _) in &command.answering.sampling.logit_bias {
        if id as usize >= plan.shape.vocab {
            let last = plan.shape.vocab - 1;
            return Err(bad_input(format!("--logit-bias names token {id}; the model's go from 0 to {last}")));
        }
    }
    let options = load::options(&plan, machine, 1, config)?;
    let mut engine = load::engine(&file, &plan, &mut target, &options, Some(tokenizer), machine, screen)?;
    let about = About { command: "run", model: file.name().to_owned(), device: target.name() };
    let guard = limits::guard(&mut engine, watch, &about);
    let loaded = started.elapsed();

    interrupt::listen();
    let mut params = session::params(&command.answering.sampling, max_tokens);
    // Who names a number wants that many.
    params.overflow = max_tokens.map_or(Overflow::Stop, |_| Overflow::Slide { sinks });
    let sequence = engine.start(&ids, &params)?;
    let mut answer = Answer::new(screen);
    let shown = (!command.json).then_some(&mut answer);
    let generated = session::generate(&mut engine, sequence, screen, shown, command.json, guard.counters())?;
    answer.finish()?;

    let summary = &generated.summary;
    if command.json {
        json::print(&json!({
            "model": file.name(),
            "text": generated.text,
            "finish": session::finish_name(summary.finish),
            "stopped": summary.stopped.map(session::stopped_name),
            "prompt_tokens": ids.len(),
            "generated_tokens": summary.generated,
            "prompt_ids": ids,
            "ids": generated.ids,
            "seed": params.sampling.seed,
            "load_ms": loaded.as_secs_f64() * 1e3,
            "first_token_ms": summary.first.map(|first| first.as_secs_f64() * 1e3),
            "prompt_tokens_per_second": summary.prompt_rate(),
            "generated_tokens_per_second": summary.rate(),
            "peak_memory_bytes": crate::screen::peak_memory(),
            // Taken since the program's code was loaded there.
            "device_memory_bytes": device_free.zip(target.device_free()).map(|(was, is)| was.saturating_sub(is)),
            "kv": options.kv.name(),
            "threads": options.threads,
            "n_ctx": context,
        }))?;
    } else {
        if summary.stopped == Some(Stopped::Context) {
            screen.note(&format!("note: the context of {context} positions is full; see --ctx-size"));
        }
        screen.note(&session::summary_line(summary));
    }
    if interrupt::requested() { Err(Interrupted.into()) } else { Ok(()) }
}

/// The tokens of the prompt, through the chat template or as it stands, and how many of them stay when the
/// context slides.
fn prompt(
    command: &Command,
    file: &Gguf,
    tokenizer: &Tokenizer,
    text: String,
) -> anyhow::Result<(Vec<u32>, usize)> {
    if !command.raw && has_template(file)? {
        let system = command.answering.system.as_deref().map(Message::system);
        let messages: Vec<Message> = system.into_iter().chain([Message::user(text)]).collect();
        let asked = Chat::from_gguf(file, tokenizer).map_err(anyhow::Error::from).and_then(|chat| {
            let ids = session::prompt(&chat, tokenizer, &messages)?;
            Ok((ids, session::sinks(&chat, tokenizer, &messages)?))
        });
        return asked.map_err(|error| bad_input(format!("{error}; --raw does without the chat template")));
    }
    if command.answering.system.is_some() {
        let why = if command.raw { "--raw uses no chat template" } else { "the model has no chat template" };
        return Err(bad_input(format!("--system has no place: {why}; put it into the prompt")));
    }
    let options = EncodeOptions { bos: tokenizer.add_bos(), special: command.special };
    // The engine keeps a few in any case.
    Ok((tokenizer.encode_vec(&text, options), 0))
}

/// Whether the file says how to chat with its model.
pub(crate) fn has_template(file: &Gguf) -> anyhow::Result<bool> {
    Ok(file.opt_str("tokenizer.chat_template")?.is_some_and(|source| !source.trim().is_empty()))
}
