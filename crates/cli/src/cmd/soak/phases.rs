//! What is run: a long answer, answers for a long time, a window that slides.

use std::cell::Cell;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::time::{Duration, Instant};

use engine::{Engine, Event, Finish, Overflow, Params, Summary};
use serde_json::{Value, json};

use super::judge::{self, Check, Status, Stretch};
use super::waits::Waits;
use super::watch::{Sample, Watch};
use crate::interrupt;

/// Tokens of the long answer, and of the one whose window slides.
pub(super) const LONG: usize = 1024;
/// Positions of the small context.
pub(super) const SMALL: usize = 512;
/// Tokens that stay at the beginning when a window slides.
const SINKS: usize = 4;
/// Most and fewest tokens of each answer for a long time.
const STEADY: (usize, usize) = (256, 8);
/// Times that each question should be asked at least.
const ROUNDS: usize = 4;
/// Answers are counted together until they took this long.
const STRETCH: f64 = 0.25;

/// A phase that ran.
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// What it does, in words.
    pub(super) what: String,
    /// Its number in the samples.
    pub(super) number: usize,
    /// Seconds since the beginning.
    pub(super) began: f64,
    pub(super) ended: f64,
    /// From when on its memory must be flat, if ever: where a cache fills, it grows.
    pub(super) flat: Option<f64>,
    pub(super) tokens: usize,
    pub(super) checks: Vec<Check>,
    pub(super) facts: Value,
}

impl Phase {
    /// The worst of its checks.
    pub(super) fn status(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Short)
    }

    /// Adds what can be told only from the samples, once all are there.
    pub(super) fn look_at(&mut self, samples: &[Sample]) {
        self.checks.extend(self.flat.map(|from| judge::memory(samples, self.number, from)));
    }
}

/// An answer that ended.
pub(super) struct Answer {
    pub(super) summary: Summary,
    /// Bytes of text.
    text: usize,
    /// Of its tokens.
    hash: u64,
    /// When a window of [`SMALL`] had slid for the first time.
    pub(super) slid: Option<Instant>,
}

/// When an answer ends, unless it does so by itself.
#[derive(Clone, Copy)]
pub(super) struct Until {
    /// In any case.
    pub(super) latest: Instant,
    /// Once it has this many tokens and it is this late.
    pub(super) enough: Option<(usize, Instant)>,
}

impl Until {
    fn reached(&self, tokens: usize) -> bool {
        let now = Instant::now();
        now >= self.latest || self.enough.is_some_and(|(enough, at)| tokens >= enough && now >= at)
    }
}

/// Generates after `prompt` until the answer or the time ends.
pub(super) fn answer(
    engine: &mut Engine,
    prompt: &[u32],
    params: &Params,
    until: Until,
    watch: &Watch,
    tick: &mut dyn FnMut(),
) -> anyhow::Result<Answer> {
    let sequence = engine.start(prompt, params)?;
    let mut text = 0;
    let (tokens, mut slid) = (Cell::new(0), None);
    let mut hash = DefaultHasher::new();
    let ends = || interrupt::requested() || until.reached(tokens.get());
    let summary = engine.run(sequence, &ends, &mut |event| match event {
        Event::Token { id, .. } => {
            hash.write_u32(id);
            watch.token();
            tokens.set(tokens.get() + 1);
            if tokens.get() > SMALL {
                slid.get_or_insert_with(Instant::now);
            }
            if tokens.get().is_multiple_of(16) {
                tick();
            }
        }
        Event::Text(piece) => text += piece.len(),
        _ => {}
    });
    engine.close(sequence);
    tick();
    Ok(Answer { summary: summary?, text, hash: hash.finish(), slid })
}

/// The checks of one answer of `wanted` tokens.
pub(super) fn whole(answer: &Answer, wanted: usize) -> Vec<Check> {
    let Summary { generated, finish, .. } = answer.summary;
    let criterion = format!("{wanted} tokens");
    let found = format!("{generated}, {:.1} tok/s", answer.summary.rate());
    let enough = match finish {
        _ if generated >= wanted => Check::new(criterion, true, found),
        Finish::Cancelled => Check::short(criterion, format!("{found}; its time was over")),
        _ => Check::new(criterion, false, format!("{found}; it ended by itself")),
    };
    let text = Check::new("there is text", answer.text > 0, format!("{} bytes", answer.text));
    vec![enough, text]
}

/// The facts of one answer.
pub(super) fn facts(answer: &Answer) -> Value {
    let summary = &answer.summary;
    json!({
        "generated_tokens": summary.generated,
        "tokens_per_second": summary.rate(),
        "first_token_ms": summary.first.map(|first| first.as_secs_f64() * 1e3),
        "text_bytes": answer.text,
    })
}

/// Answers one after another.
pub(super) struct Steady {
    pub(super) checks: Vec<Check>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) facts: Value,
    pub(super) tokens: usize,
}

/// Asks `questions` in turns until `until`: an answer must be the same every time, so that a bit which falls
/// over in a hot machine is found.
pub(super) fn steady(
    engine: &mut Engine,
    questions: &[(Vec<u32>, Params)],
    until: Instant,
    watch: &Watch,
    tick: &mut dyn FnMut(),
) -> anyhow::Result<Steady> {
    // An answer under way may end, unless the machine has become very slow.
    let left = until.saturating_duration_since(Instant::now());
    let each = Until { latest: until + left / 4, enough: None };
    let mut firsts: Vec<Option<u64>> = vec![None; questions.len()];
    let mut stretches = Vec::with_capacity(1 << 15);
    let (mut stretch, mut waits) = (Stretch::default(), Waits::now());
    let (mut answers, mut tokens, mut differed, mut empty, mut cut) = (0, 0, 0, 0, 0);
    while answers == 0 || Instant::now() < until {
        if interrupt::requested() {
            break;
        }
        let which = answers % questions.len();
        let (prompt, params) = &questions[which];
        let said = answer(engine, prompt, params, each, watch, tick)?;
        if said.summary.finish == Finish::Cancelled {
            break;
        }
        answers += 1;
        tokens += said.summary.generated;
        empty += usize::from(said.text == 0);
        cut += usize::from(params.max_tokens.is_some_and(|most| said.summary.generated < most));
        differed += usize::from(*firsts[which].get_or_insert(said.hash) != said.hash);
        stretch.tokens += said.summary.generated.saturating_sub(1) as u64;
        stretch.seconds += said.summary.time.as_secs_f64();
        if stretch.seconds >= STRETCH {
            stretch.waited = waits.share();
            if stretches.len() < stretches.capacity() {
                stretches.push(stretch);
            } else {
                // Months: the middle is thinned, the ends are what is compared.
                halve(&mut stretches);
            }
            stretch = Stretch::default();
        }
    }
    let again =
        format!("{answers} answers to {} questions, {differed} differed from the first", questions.len());
    let same = "the same question is answered the same every time";
    let checks = vec![
        if answers >= 2 * questions.len() {
            Check::new(same, differed == 0, again)
        } else {
            Check::short(same, again)
        },
        Check::new(
            "no answer breaks off or is empty",
            empty + cut == 0,
            format!("{cut} broke off, {empty} were empty"),
        ),
    ];
    let rates: Vec<f64> = stretches.iter().map(Stretch::rate).collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let facts = json!({ "answers": answers, "differed": differed, "tokens_per_second": mean });
    Ok(Steady { checks, stretches, facts, tokens })
}

/// Every other of the elements.
fn halve(stretches: &mut Vec<Stretch>) {
    let mut place = 0;
    stretches.retain(|_| {
        place += 1;
        place % 2 == 1
    });
}

/// The settings of an answer of `tokens` tokens.
pub(super) fn params(usual: &Params, tokens: Option<usize>, seed: u64) -> Params {
    let overflow = Overflow::Slide { sinks: SINKS };
    let mut params = Params { max_tokens: tokens, ignore_eos: true, overflow, ..usual.clone() };
    params.sampling.seed = seed;
    params
}

/// Tokens of each answer for a long time: fewer on a slow machine, so that each of `questions` is asked a few
/// times within `time` at `rate` tokens a second.
pub(super) fn steady_tokens(questions: usize, time: Duration, rate: f64) -> usize {
    let (most, fewest) = STEADY;
    ((rate * time.as_secs_f64() / (ROUNDS * questions).max(1) as f64) as usize).clamp(fewest, most)
}
