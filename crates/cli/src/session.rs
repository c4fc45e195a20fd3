//! What `run` and `chat` share: settings, the answer as it comes, the summary line.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use engine::{Engine, Event, Finish, Params, SequenceId, Stopped, Summary};
use text::Tokenizer;
use text::chat::{Chat, Message, Request};

use crate::answer::Answer;
use crate::args::Sampling;
use crate::interrupt;
use crate::screen::{self, Screen};
use crate::status::{Counters, Phase};

/// The engine's settings from the command line; without `--seed` every call has another seed.
pub(crate) fn params(sampling: &Sampling, max_tokens: Option<usize>) -> Params {
    Params {
        max_tokens,
        sampling: engine::Sampling {
            temperature: sampling.temp,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: sampling.logit_bias.clone(),
            // 53 bits, so that every program that reads the JSON reads the seed exactly.
            seed: sampling.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 11),
            ..engine::Sampling::default()
        },
        stop: sampling.stop.clone(),
        ignore_eos: sampling.ignore_eos,
        ..Params::default()
    }
}

/// The tokens that ask for an answer to `messages`.
pub(crate) fn prompt(chat: &Chat, tokenizer: &Tokenizer, messages: &[Message]) -> anyhow::Result<Vec<u32>> {
    let mut request = Request::new(messages);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    request.now = now.ok().map(|since| since.as_secs() as i64);
    let mut ids = Vec::new();
    chat.render(&request)?.encode(tokenizer, &mut ids);
    Ok(ids)
}

/// How many tokens at a prompt's beginning stay when the context slides: those that do not depend on what the
/// user says, which are the system prompt's and the template's.
pub(crate) fn sinks(chat: &Chat, tokenizer: &Tokenizer, messages: &[Message]) -> anyhow::Result<usize> {
    let fixed: Vec<Message> =
        messages.iter().take_while(|message| message.role() == Some("system")).cloned().collect();
    let with = |text: &str| {
        let messages: Vec<Message> = fixed.iter().cloned().chain([Message::user(text)]).collect();
        prompt(chat, tokenizer, &messages)
    };
    let (one, other) = (with("One")?, with("Other, and longer")?);
    Ok(one.iter().zip(&other).take_while(|(one, other)| one == other).count())
}

/// What was generated.
pub(crate) struct Generated {
    /// Empty unless it was to be kept, like the tokens.
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) summary: Summary,
}

/// Runs the generation that was started on `sequence`, printing to `answer` if there is one. Ctrl-C and
/// a reader that went away end it early. Without `keep` nothing is kept of it, so that memory does not grow with
/// an answer that never ends.
pub(crate) fn generate(
    engine: &mut Engine,
    sequence: SequenceId,
    screen: Screen,
    mut answer: Option<&mut Answer>,
    keep: bool,
    counters: &Counters,
) -> anyhow::Result<Generated> {
    let _idle = Idle(counters);
    counters.phase(Phase::Prefill);
    let pages = engine.runner().options().pages;
    let mut progress = Some(screen.steps("reading", 0));
    let cut_off = Cell::new(false);
    let (mut text, mut ids) = (String::new(), Vec::new());
    let mut summary = None;
    while summary.is_none() {
        if interrupt::requested() || cut_off.get() {
            engine.cancel(sequence);
        }
        let running = engine.step(&mut |_, event| match event {
            Event::Prompt { done, total } => {
                counters.read(done, total);
                match &mut progress {
                    Some(progress) if done < total => progress.set(done as u64, total as u64),
                    _ => progress = None,
                }
            }
            Event::Token { id, .. } => {
                if keep {
                    ids.push(id);
                }
                counters.chose(1);
            }
            Event::Text(piece) => {
                if keep {
                    text.push_str(piece);
                }
                if let Some(answer) = &mut answer {
                    answer.push(piece);
                    cut_off.set(answer.is_cut_off());
                }
            }
            Event::Finished(end) => summary = Some(end),
        });
        counters.pages(pages.saturating_sub(engine.free_pages()));
        if !running.map_err(engine::Error::from)? && summary.is_none() {
            anyhow::bail!("nothing was started");
        }
    }
    drop(progress);
    let summary = summary.expect("the loop ends with one");
    Ok(Generated { text, ids, summary })
}

/// Says that nothing is done any more, however a generation ends.
struct Idle<'a>(&'a Counters);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.phase(Phase::Idle);
    }
}

/// `prompt 12 tokens, 340.1 tok/s · first token 48 ms · generated 32 tokens, 35.2 tok/s · …`
pub(crate) fn summary_line(summary: &Summary) -> String {
    let rate = |rate: f64| if rate > 0.0 { format!(", {rate:.1} tok/s") } else { String::new() };
    let cached =
        if summary.reused > 0 { format!(" ({} more were cached)", summary.reused) } else { String::new() };
    let tokens = |count: usize| format!("{count} token{}", if count == 1 { "" } else { "s" });
    let prompt = tokens(summary.prompt);
    let mut parts = vec![format!("prompt {prompt}{cached}{}", rate(summary.prompt_rate()))];
    parts.extend(summary.first.map(|first| format!("first token {:.0} ms", first.as_secs_f64() * 1e3)));
    parts.push(format!("generated {}{}", tokens(summary.generated), rate(summary.rate())));
    parts.extend(screen::peak_memory().map(|peak| format!("peak memory {}", screen::size(peak))));
    parts.join(" · ")
}

/// What there was no more of when a generation reached its length.
pub(crate) fn stopped_name(stopped: Stopped) -> &'static str {
    match stopped {
        Stopped::Tokens => "tokens",
        Stopped::Context => "context",
        Stopped::Pages => "pages",
        Stopped::Memory => "memory",
        Stopped::Rules => "rules",
    }
}

/// Why a generation ended, in the words of the APIs that users know.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Cancelled => "cancelled",
    }
}
