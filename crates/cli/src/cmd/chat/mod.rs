//! `chat`: a conversation, on a terminal or line by line from a pipe.

mod commands;
mod conversation;
mod lines;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use engine::{Stopped, Summary};
use model::Plan;
use text::Tokenizer;
use text::chat::Chat;

use crate::answer::Answer;
use crate::args::Answering;
use crate::cmd::run;
use crate::config::Config;
use crate::failure::Interrupted;
use crate::limits::{self, Watch};
use crate::screen::{Screen, count, printable};
use crate::status::About;
use crate::target::Target;
use crate::{interrupt, load, model_file, session};
use commands::Next;
use conversation::{Conversation, Evicted};
use lines::{Lines, Read};

const EXAMPLES: &str = "\
Examples:
  jetson-llm chat
  jetson-llm chat -m model.gguf -s \"Answer in one sentence.\"
  printf 'Hi!\\nWhat is 2+2?\\n' | jetson-llm chat -m model.gguf --temp 0

Ctrl-C stops an answer; again at the prompt, or Ctrl-D, leaves. /help lists the commands.";

/// Talk with a model
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    answering: Answering,
    /// Read and write no history of what was typed
    #[arg(long, help_heading = crate::args::OUTPUT)]
    no_history: bool,
}

pub(crate) fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let history = history(config).filter(|_| !command.no_history);
    converse(&command.answering, history.as_deref(), config)
}

/// Where what was typed is kept.
pub(crate) fn history(config: &Config) -> Option<PathBuf> {
    config.state.as_ref().map(|state| state.join("history"))
}

/// What a conversation runs on.
struct Talk<'a> {
    screen: Screen,
    conversation: Conversation<'a>,
    last: Option<Summary>,
}

pub(crate) fn converse(command: &Answering, history: Option<&Path>, config: &Config) -> anyhow::Result<()> {
    let screen = Screen::new(config, command.quiet);
    let mut target = Target::open(&command.machine, config, screen)?;
    let watch = Watch::open(&command.machine, &command.limiting, &target, config, screen)?;
    let file = model_file::open(command.model.model.as_deref(), config)?;
    model::arch::spec(&file)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
    let chat = Chat::from_gguf(&file, &tokenizer)?;
    let machine = &load::settled(&file, &command.machine, &mut target, config, screen)?;
    let context = load::context(&file, machine.positions(), 0)?;
    let (_, plan) = Plan::read(&file, Some(context))?;
    let options = load::options(&plan, machine, 1, config)?;
    let vocabulary = Some(Arc::clone(&tokenizer));
    let mut engine = load::engine(&file, &plan, &mut target, &options, vocabulary, machine, screen)?;

    let about = About { command: "chat", model: file.name().to_owned(), device: target.name() };
    let guard = limits::guard(&mut engine, watch, &about);
    let params = session::params(&command.sampling, command.max_tokens());
    let conversation =
        Conversation::new(engine, guard, &tokenizer, &chat, params, command.system.as_deref())?;
    let mut lines = Lines::open(history)?;
    if lines.is_terminal() {
        let parameters = file.tensors().iter().map(gguf::Tensor::elements).sum();
        screen.note(&format!(
            "{} · {} parameters · {context} positions · /help lists commands, Ctrl-D leaves",
            printable(file.name()),
            count(parameters)
        ));
        if !run::has_template(&file)? {
            screen.note(&format!("note: the file has no chat template; using the format {}", chat.name()));
        }
    }
    interrupt::listen();
    let mut talk = Talk { screen, conversation, last: None };
    let left = talk.run(&mut lines);
    lines.save();
    left
}

impl Talk<'_> {
    /// Turn by turn until the user leaves.
    fn run(&mut self, lines: &mut Lines) -> anyhow::Result<()> {
        // Whether the last thing that happened was Ctrl-C: the next one leaves.
        let mut interrupted = false;
        loop {
            interrupt::clear();
            let line = match lines.read()? {
                Read::Line(line) => line,
                Read::End => return Ok(()),
                Read::Interrupted if interrupted => return Err(Interrupted.into()),
                Read::Interrupted => {
                    self.screen.note("Ctrl-C again or Ctrl-D leaves");
                    interrupted = true;
                    continue;
                }
            };
            interrupted = false;
            if line.trim().is_empty() {
                continue;
            }
            let answered = match commands::parse(&line) {
                None => self.answer(Some(&line)),
                Some(order) => match commands::run(&order, &mut self.conversation, self.last.as_ref()) {
                    Ok(Next::Leave) => return Ok(()),
                    Ok(Next::Answer) => self.answer(None),
                    Ok(Next::Say(text)) => {
                        self.screen.note(&text);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            match answered {
                Ok(()) => {}
                // A mistake in one turn is no reason to lose the conversation, but a script must know.
                Err(error) if lines.is_terminal() && !is_fatal(&error) => {
                    self.screen.note(&format!("error: {error}"));
                }
                Err(error) => return Err(error),
            }
            if interrupt::requested() {
                if !lines.is_terminal() {
                    return Err(Interrupted.into());
                }
                interrupted = true;
            }
        }
    }

    /// Answers a message, or the last one again.
    fn answer(&mut self, message: Option<&str>) -> anyhow::Result<()> {
        let evicted = match message {
            Some(message) => self.conversation.ask(message)?,
            None => self.conversation.ask_again()?,
        };
        if evicted.messages > 0 {
            let Evicted { messages, tokens } = evicted;
            self.screen.note(&format!(
                "[kv] evicted the oldest {messages} messages ({tokens} tokens): the conversation is longer than \
                 its {} positions",
                self.conversation.context()
            ));
        }
        let mut answer = Answer::new(self.screen);
        let summary = self.conversation.answer(self.screen, &mut answer)?;
        answer.finish()?;
        if summary.stopped == Some(Stopped::Context) {
            self.screen.note("note: the context is full; /clear starts anew, --ctx-size makes it larger");
        }
        self.last = Some(summary);
        Ok(())
    }
}

/// The device or the reader is gone: going on is of no use.
fn is_fatal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(engine::Error::Lost(_)))
        || error.downcast_ref::<std::io::Error>().is_some()
}
