//! What `run` and `chat` share: settings, the answer as it comes, the summary line.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use engine::{Engine, Event, Finish, Params, SequenceId, Summary};
use text::Tokenizer;
use text::chat::{Chat, Message, Request};

use crate::answer::Answer;
use crate::args::Sampling;
use crate::interrupt;
use crate::screen::{self, Screen};

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

/// What was generated.
pub(crate) struct Generated {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) summary: Summary,
}

/// Runs the generation that was started on `sequence`, printing to `answer` if there is one. Ctrl-C and
/// a reader that went away end it early.
pub(crate) fn generate(
    engine: &mut Engine,
    sequence: SequenceId,
    screen: Screen,
    mut answer: Option<&mut Answer>,
) -> anyhow::Result<Generated> {
    let mut progress = Some(screen.steps("reading", 0));
    let cut_off = Cell::new(false);
    let (mut text, mut ids) = (String::new(), Vec::new());
    let summary =
        engine.run(sequence, &|| interrupt::requested() || cut_off.get(), &mut |event| match event {
            Event::Prompt { done, total } if done < total => {
                if let Some(progress) = &mut progress {
                    progress.set(done as u64, total as u64);
                }
            }
            Event::Prompt { .. } => progress = None,
            Event::Token { id, .. } => ids.push(id),
            Event::Text(piece) => {
                text.push_str(piece);
                if let Some(answer) = &mut answer {
                    answer.push(piece);
                    cut_off.set(answer.is_cut_off());
                }
            }
            Event::Finished(_) => {}
        });
    drop(progress);
    Ok(Generated { text, ids, summary: summary? })
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

/// Why a generation ended, in the words of the APIs that users know.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Cancelled => "cancelled",
    }
}
