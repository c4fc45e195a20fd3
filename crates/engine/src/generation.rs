//! One answer in the making: what was asked, how far it is, when it ends.

use crate::sample::{self, Constraint, Rules, Sampler, Sampling};
use crate::stop::Stops;
use crate::{Error, SequenceId};
use model::runner::Lost;
use model::{Chooser, Choosing, Chosen};
use std::sync::Arc;
use std::time::Duration;
use text::{Stream, Tokenizer};

/// What to do when the context is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// End the generation.
    #[default]
    Stop,
    /// Forget tokens after the first `sinks`, keep the last half of the others and compute them anew at their
    /// new positions: what follows is what would follow the kept tokens alone.
    Slide {
        /// Tokens that stay at the beginning, as a system prompt should. Taken as at least 4 and at most three
        /// quarters of the context.
        sinks: usize,
    },
}

/// What to generate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Most tokens to choose; `None` until the context is full.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end the text; they are not delivered. Need a tokenizer.
    pub stop: Vec<String>,
    /// Tokens that end the text, besides the model's own; they are not delivered as text.
    pub stop_ids: Vec<u32>,
    /// Forbid the model's own end tokens instead of ending at them.
    pub ignore_eos: bool,
    /// Report each chosen token's log-probability.
    pub logprobs: bool,
    /// What the text must follow; it ends when it is whole.
    pub rules: Option<Rules>,
    /// What to do when the context is full.
    pub overflow: Overflow,
    /// Control tokens whose names are written in the text; others are left out of it.
    pub shown: Vec<u32>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop string, a stop id, the model's end token, or a text that is whole by its rules.
    Stop,
    /// As many tokens as asked for, or no room for more, be it that rules cannot be followed any further.
    Length,
    /// [`crate::Engine::cancel`].
    Cancelled,
}

/// What there was no more of when a generation ended with [`Finish::Length`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// As many tokens were chosen as were asked for.
    Tokens,
    /// The context is full.
    Context,
    /// Other sequences have the pages of the cache.
    Pages,
    /// Memory: a notice says how much.
    Memory,
    /// Its rules cannot be followed any further.
    Rules,
}

/// What a generation did and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Why it ended.
    pub finish: Finish,
    /// What there was no more of, for [`Finish::Length`] only.
    pub stopped: Option<Stopped>,
    /// Prompt tokens found in the cache.
    pub reused: usize,
    /// Prompt tokens computed.
    pub prompt: usize,
    /// From the request to the prompt's logits.
    pub prompt_time: Duration,
    /// From the request to the first token; `None` if none was chosen.
    pub first: Option<Duration>,
    /// Tokens chosen, the end token included.
    pub generated: usize,
    /// From the first token to the end.
    pub time: Duration,
}

impl Summary {
    /// Prompt tokens computed a second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt, self.prompt_time)
    }

    /// Tokens a second after the first, which belongs to the prompt's time.
    pub fn rate(&self) -> f64 {
        rate(self.generated.saturating_sub(1), self.time)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// What a step did for one sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A part of the prompt was computed.
    Prompt {
        /// Tokens computed so far.
        done: usize,
        /// Tokens to compute: those not found in the cache.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// ln of the model's probability of it, if asked for.
        logprob: Option<f32>,
    },
    /// Text that is certain, in whole characters, never empty; follows its token, often tokens later.
    Text(&'a str),
    /// The last event.
    Finished(Summary),
}

/// Who listens to the events of a step.
pub(crate) type Listener<'a> = &'a mut dyn FnMut(SequenceId, Event<'_>);

/// Text from tokens.
struct Words {
    tokenizer: Arc<Tokenizer>,
    stream: Stream,
    stops: Stops,
}

impl Words {
    /// Delivers what is certain; whether a stop string ended the text.
    fn deliver(&mut self, id: SequenceId, on: Listener) -> bool {
        let (ready, stopped) = self.stops.ready();
        if ready > 0 {
            on(id, Event::Text(&self.stops.held()[..ready]));
        }
        self.stops.delivered(ready);
        stopped
    }
}

/// What a device needs to choose as the sampler does.
struct Remote {
    choosing: Choosing,
    /// Room for the tokens that penalties count.
    recent: Vec<u32>,
    /// Whether the device's random numbers and penalties are where the sampler's are.
    in_step: bool,
}

/// A generation under way.
pub(crate) struct Generation {
    /// A request to end before the next step.
    pub(crate) cancelled: bool,
    /// What there is no more of.
    pub(crate) stopped: Option<Stopped>,
    /// What to do when the context is full.
    pub(crate) overflow: Overflow,
    /// Prompt tokens to compute.
    pub(crate) prompt: usize,
    id: SequenceId,
    words: Option<Words>,
    sampler: Sampler,
    /// Of a device that can choose for this one.
    remote: Option<Remote>,
    constraint: Option<Box<dyn Constraint>>,
    stop_ids: Vec<u32>,
    shown: Vec<u32>,
    max_tokens: usize,
    heed_ends: bool,
    logprobs: bool,
    reused: usize,
    started: Duration,
    prompt_end: Option<Duration>,
    first: Option<Duration>,
    generated: usize,
}

/// What a generation needs to know of its model and prompt.
pub(crate) struct Setting<'a> {
    pub(crate) id: SequenceId,
    /// With the most bytes one of its tokens can add to the text.
    pub(crate) tokenizer: Option<(Arc<Tokenizer>, usize)>,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) prompt: &'a [u32],
    pub(crate) now: Duration,
}

impl Generation {
    /// Checks the parameters and reserves everything later steps need.
    pub(crate) fn new(params: &Params, setting: Setting) -> Result<Generation, Error> {
        let mut sampling = params.sampling.clone();
        let words = match setting.tokenizer {
            Some((tokenizer, piece)) => {
                if params.ignore_eos {
                    let ends = tokenizer.ends().iter().filter(|&&token| (token as usize) < setting.vocab);
                    sampling.logit_bias.extend(ends.map(|&token| (token, f32::NEG_INFINITY)));
                }
                let stops = Stops::new(&params.stop, piece)?;
                Some(Words { tokenizer, stream: Stream::new(), stops })
            }
            None if params.stop.is_empty() => None,
            None => {
                let (value, want) = (params.stop.join(", "), "empty for a model without a tokenizer");
                return Err(Error::Setting { field: "stop", value, want });
            }
        };
        let mut sampler = Sampler::new(&sampling, setting.vocab, setting.context)?;
        let recent = setting.prompt.len().saturating_sub(sampling.repeat_last_n);
        setting.prompt[recent..].iter().for_each(|&token| sampler.accept(token));
        Ok(Generation {
            cancelled: false,
            stopped: None,
            overflow: params.overflow,
            prompt: setting.prompt.len(),
            id: setting.id,
            words,
            sampler,
            remote: None,
            constraint: params.rules.as_ref().map(|rules| rules.0.start()),
            stop_ids: params.stop_ids.clone(),
            shown: params.shown.clone(),
            max_tokens: params.max_tokens.unwrap_or(usize::MAX),
            // Rules let a text end only where it is whole.
            heed_ends: !params.ignore_eos || params.rules.is_some(),
            logprobs: params.logprobs,
            reused: 0,
            started: setting.now,
            prompt_end: None,
            first: None,
            generated: 0,
        })
    }

    /// The first tokens of the prompt need not be computed.
    pub(crate) fn reuse(&mut self, reused: usize) {
        self.prompt -= reused;
        self.reused = reused;
    }

    /// Whether logits are still of use: a request for no tokens only computes its prompt.
    pub(crate) fn wants_more(&self) -> bool {
        self.generated < self.max_tokens
    }

    /// Lets the device choose, if it can do it so. Log-probabilities are of logits that only the processor
    /// looks at, and it alone knows of rules.
    pub(crate) fn meet(&mut self, chooser: Option<&mut dyn Chooser>) {
        if let Some(chooser) = chooser.filter(|_| !self.logprobs && self.constraint.is_none()) {
            let choosing = self.sampler.choosing();
            self.remote = chooser.serves(&choosing).then(|| {
                let recent = Vec::with_capacity(choosing.window);
                Remote { choosing, recent, in_step: false }
            });
        }
    }

    /// Whether the device can choose the next token.
    pub(crate) fn choosable(&self) -> bool {
        self.remote.is_some() && self.wants_more()
    }

    /// Tells the device how to choose in `slot`, if it does not know.
    pub(crate) fn start(&mut self, chooser: &mut dyn Chooser, slot: usize) -> Result<(), Lost> {
        if let Some(remote) = self.remote.as_mut().filter(|remote| !remote.in_step) {
            remote.choosing.random = self.sampler.random();
            // Not the sequence's last tokens: penalties remember what a full context had to forget.
            remote.recent.clear();
            self.sampler.recent().iter().for_each(|part| remote.recent.extend_from_slice(part));
            chooser.start(slot, &remote.choosing, &remote.recent)?;
            remote.in_step = true;
        }
        Ok(())
    }

    /// Tokens that may still be chosen.
    pub(crate) fn left(&self) -> usize {
        self.max_tokens - self.generated
    }

    /// Whether the whole prompt is computed.
    pub(crate) fn prompt_known(&self) -> bool {
        self.prompt_end.is_some()
    }

    /// The prompt's last step ended at `now`, if it had not before.
    pub(crate) fn prompt_ended(&mut self, now: Duration) {
        self.prompt_end.get_or_insert(now);
    }

    /// Chooses a token, tells of it and of the text that becomes certain; why the generation ends, if it
    /// does.
    pub(crate) fn choose(&mut self, logits: &[f32], on: Listener) -> (u32, Option<Finish>) {
        let Some(constraint) = &mut self.constraint else {
            let token = self.sampler.sample(logits);
            return self.chosen(token, logits, on);
        };
        let Ok(token) = self.sampler.sample_within(logits, &mut **constraint) else {
            // Nothing was chosen, but every turn ends with a token: one that is no text.
            let end = self.words.as_ref().and_then(|words| words.tokenizer.ends().first().copied());
            self.stopped = Some(Stopped::Rules);
            return (end.unwrap_or(0), Some(Finish::Length));
        };
        // An end is no part of the text.
        let end = self.words.as_ref().is_some_and(|words| words.tokenizer.is_end(token));
        let moved = if end { Ok(()) } else { constraint.accept(token) };
        let whole = end || moved.is_ok() && constraint.finished();
        let (token, finish) = self.chosen(token, logits, on);
        if whole {
            return (token, Some(Finish::Stop));
        }
        if finish.is_none() && moved.is_err() {
            self.stopped = Some(Stopped::Rules);
            return (token, Some(Finish::Length));
        }
        (token, finish)
    }

    fn chosen(&mut self, token: u32, logits: &[f32], on: Listener) -> (u32, Option<Finish>) {
        self.sampler.accept(token);
        if let Some(remote) = &mut self.remote {
            remote.in_step = false;
        }
        let logprob = self.logprobs.then(|| sample::logprob(logits, token));
        (token, self.tell(token, logprob, on))
    }

    /// The same for a token that the device chose.
    pub(crate) fn follow(&mut self, chosen: Chosen, on: Listener) -> (u32, Option<Finish>) {
        self.sampler.follow(chosen);
        (chosen.token, self.tell(chosen.token, None, on))
    }

    fn tell(&mut self, token: u32, logprob: Option<f32>, on: Listener) -> Option<Finish> {
        self.generated += 1;
        on(self.id, Event::Token { id: token, logprob });
        let mut ended = self.stop_ids.contains(&token);
        if let Some(words) = &mut self.words {
            ended |= self.heed_ends && words.tokenizer.is_end(token);
            if !ended {
                words.stream.set_control(self.shown.contains(&token));
                words.stream.push(&words.tokenizer, token, words.stops.text());
                ended = words.deliver(self.id, on);
            }
        }
        if ended {
            return Some(Finish::Stop);
        }
        (!self.wants_more()).then(|| {
            self.stopped = Some(Stopped::Tokens);
            Finish::Length
        })
    }

    /// The first token was chosen at `now`, if none was before.
    pub(crate) fn token_chosen(&mut self, now: Duration) {
        self.first.get_or_insert(now);
    }

    /// Delivers what was held back, then the summary; `cached` tokens of the sequence are computed, which
    /// may be fewer than the prompt's.
    pub(crate) fn finish(mut self, finish: Finish, cached: usize, now: Duration, on: Listener) {
        if let Some(words) = &mut self.words {
            words.stream.finish(words.stops.text());
            words.deliver(self.id, on);
            let rest = words.stops.rest();
            if !rest.is_empty() {
                on(self.id, Event::Text(rest));
            }
        }
        let since = |time: Duration| time.saturating_sub(self.started);
        let summary = Summary {
            finish,
            stopped: self.stopped.filter(|_| finish == Finish::Length),
            reused: self.reused,
            prompt: if self.prompt_known() {
                self.prompt
            } else {
                self.prompt.min(cached.saturating_sub(self.reused))
            },
            prompt_time: since(self.prompt_end.unwrap_or(now)),
            first: self.first.map(since),
            generated: self.generated,
            time: self.first.map_or(Duration::ZERO, |first| now.saturating_sub(first)),
        };
        on(self.id, Event::Finished(summary));
    }
}
