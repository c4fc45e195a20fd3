//! From logits to a token: a short fixed chain.
//!
//! Logit bias → repetition, presence and frequency penalties → top-k → top-p → min-p → temperature →
//! one of what is left. The order is the one llama.cpp uses by default, so settings found there mean the
//! same here. Everything a call needs is reserved when the [`Sampler`] is made.

mod choose;
mod constraint;
mod exp;
mod penalty;
mod truncate;

pub use choose::{Rng, argmax, logprob};
pub use constraint::{Constraint, Grammar, Rules, Stuck};

use crate::Error;
use model::{Choosing, Chosen};
use penalty::{Factors, Penalty};
use truncate::Candidates;

/// Settings of the chain; checked by [`Sampler::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides logits; 0 takes the most likely token always. Finite, ≥ 0.
    pub temperature: f32,
    /// Keep this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together have this probability; 1 keeps all. In (0, 1].
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the most likely; 0 keeps all. In \[0, 1\].
    pub min_p: f32,
    /// Divides positive and multiplies other logits of recent tokens; 1 is off. Finite, > 0.
    pub repeat_penalty: f32,
    /// Subtracted once from logits of recent tokens; 0 is off. Finite.
    pub presence_penalty: f32,
    /// Subtracted from logits of recent tokens once an occurrence; 0 is off. Finite.
    pub frequency_penalty: f32,
    /// How many last tokens, prompt included, count as recent; 0 turns penalties off, `usize::MAX` takes
    /// the whole context.
    pub repeat_last_n: usize,
    /// Added to logits: token id and amount; −∞ forbids a token. Not NaN, not +∞.
    pub logit_bias: Vec<(u32, f32)>,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for Sampling {
    /// llama.cpp's defaults: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalties.
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most likely token always.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// Whether every field is within its range, for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// Names the field, its value and what it must be.
    pub fn check(&self, vocab: usize) -> Result<(), Error> {
        let field = |ok: bool, field: &'static str, value: f32, want: &'static str| {
            if ok { Ok(()) } else { Err(Error::Setting { field, value: value.to_string(), want }) }
        };
        let t = self.temperature;
        field(t.is_finite() && t >= 0.0, "temperature", t, "a finite number of at least 0")?;
        let p = self.top_p;
        field(p > 0.0 && p <= 1.0, "top_p", p, "above 0 and at most 1")?;
        let p = self.min_p;
        field((0.0..=1.0).contains(&p), "min_p", p, "from 0 to 1")?;
        let r = self.repeat_penalty;
        field(r.is_finite() && r > 0.0, "repeat_penalty", r, "a finite number above 0")?;
        let presence = self.presence_penalty;
        field(presence.is_finite(), "presence_penalty", presence, "a finite number")?;
        let frequency = self.frequency_penalty;
        field(frequency.is_finite(), "frequency_penalty", frequency, "a finite number")?;
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocab {
                let want = "a token id of the model's vocabulary";
                return Err(Error::Setting { field: "logit_bias", value: id.to_string(), want });
            }
            let ok = !bias.is_nan() && bias != f32::INFINITY;
            field(ok, "logit_bias", bias, "a finite number, or -inf to forbid the token")?;
        }
        Ok(())
    }
}

/// NaN becomes −∞ and +∞ the largest number, so that differences of scores are never NaN unless all are −∞.
fn clean(score: f32) -> f32 {
    let number = if score > f32::NEG_INFINITY { score } else { f32::NEG_INFINITY };
    if number < f32::MAX { number } else { f32::MAX }
}

/// The chain with its buffers.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    /// ln of `min_p`; −∞ for 0.
    ln_min_p: f32,
    penalty: Option<Penalty>,
    /// Logits after bias and penalties, `vocab` long.
    scores: Vec<f32>,
    candidates: Candidates,
    rng: Rng,
}

impl Sampler {
    /// A chain for logits of `vocab` tokens in runs of up to `context` positions.
    ///
    /// # Errors
    /// Those of [`Sampling::check`].
    pub fn new(settings: &Sampling, vocab: usize, context: usize) -> Result<Sampler, Error> {
        settings.check(vocab)?;
        let settings = settings.clone();
        let factors = Factors {
            repeat: settings.repeat_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
        };
        let window = settings.repeat_last_n.min(context);
        Ok(Sampler {
            ln_min_p: (settings.min_p as f64).ln() as f32,
            penalty: (factors != Factors::OFF && window > 0).then(|| Penalty::new(factors, window, vocab)),
            scores: Vec::with_capacity(vocab),
            candidates: Candidates::with_room(settings.top_k, vocab),
            rng: Rng::new(settings.seed),
            settings,
        })
    }

    /// Tells the penalties of a token of the prompt or of one just chosen.
    pub fn accept(&mut self, id: u32) {
        if let Some(penalty) = &mut self.penalty {
            penalty.accept(id);
        }
    }

    /// Chooses a token. `logits` has one value a token of the vocabulary; NaN counts as −∞.
    ///
    /// Does not [`accept`](Sampler::accept) it. Allocates nothing.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let greedy = self.settings.temperature == 0.0;
        if greedy && self.penalty.is_none() && self.settings.logit_bias.is_empty() {
            return argmax(logits);
        }
        self.score(logits);
        self.pick()
    }

    /// Chooses a token among those that a constraint leaves, whatever bias and penalties say of them.
    ///
    /// Does not [`accept`](Sampler::accept) it, nor tells the constraint of it.
    ///
    /// # Errors
    /// The constraint's.
    pub fn sample_within(&mut self, logits: &[f32], constraint: &mut dyn Constraint) -> Result<u32, Stuck> {
        self.score(logits);
        // What the constraint leaves must stay apart from what it forbids: the last resort is a token that
        // nothing but the constraint speaks for.
        self.scores.iter_mut().for_each(|score| *score = score.max(f32::MIN));
        constraint.mask(&mut self.scores)?;
        Ok(self.pick())
    }

    /// Logits with bias and penalties, cleaned, to `scores`.
    fn score(&mut self, logits: &[f32]) {
        self.scores.clear();
        self.scores.extend(logits.iter().map(|&logit| clean(logit)));
        for &(id, bias) in &self.settings.logit_bias {
            if let Some(score) = self.scores.get_mut(id as usize) {
                *score = clean(*score + bias);
            }
        }
        if let Some(penalty) = &self.penalty {
            penalty.apply(&mut self.scores);
        }
    }

    /// A token by `scores`.
    fn pick(&mut self) -> u32 {
        if self.settings.temperature == 0.0 {
            return argmax(&self.scores);
        }
        self.candidates.top_k(&self.scores, self.settings.top_k);
        self.candidates.top_p(self.settings.top_p);
        self.candidates.min_p(self.ln_min_p);
        choose::draw(&self.candidates.list, self.settings.temperature, &mut self.rng)
    }

    /// Takes over a token that a device chose as [`sample`](Sampler::sample) would have, and accepts it: the
    /// random numbers stay in step.
    pub fn follow(&mut self, chosen: Chosen) {
        if self.settings.temperature != 0.0 && !chosen.nothing {
            self.rng.bits();
        }
        self.accept(chosen.token);
    }

    /// Tokens that penalties count, oldest first, in two parts.
    pub fn recent(&self) -> [&[u32]; 2] {
        self.penalty.as_ref().map_or([&[], &[]], Penalty::recent)
    }

    /// Where the random numbers are.
    pub fn random(&self) -> [u64; 4] {
        self.rng.state()
    }

    /// The settings as devices take them, with the random numbers where they are.
    pub fn choosing(&self) -> Choosing {
        let settings = &self.settings;
        let mut bias = settings.logit_bias.clone();
        bias.sort_by_key(|&(id, _)| id);
        Choosing {
            temperature: settings.temperature,
            top_k: settings.top_k,
            top_p: settings.top_p,
            min_p: settings.min_p,
            repeat_penalty: settings.repeat_penalty,
            presence_penalty: settings.presence_penalty,
            frequency_penalty: settings.frequency_penalty,
            window: self.penalty.as_ref().map_or(0, Penalty::window),
            bias,
            random: self.random(),
        }
    }

    /// The sampler of `choosing`, for logits of `vocab` tokens; it has accepted nothing.
    ///
    /// # Errors
    /// Those of [`Sampling::check`].
    pub fn resume(choosing: &Choosing, vocab: usize) -> Result<Sampler, Error> {
        let sampling = Sampling {
            temperature: choosing.temperature,
            top_k: choosing.top_k,
            top_p: choosing.top_p,
            min_p: choosing.min_p,
            repeat_penalty: choosing.repeat_penalty,
            presence_penalty: choosing.presence_penalty,
            frequency_penalty: choosing.frequency_penalty,
            repeat_last_n: choosing.window,
            logit_bias: choosing.bias.clone(),
            seed: 0,
        };
        let mut sampler = Sampler::new(&sampling, vocab, choosing.window)?;
        sampler.rng = Rng::at(choosing.random);
        Ok(sampler)
    }
}

#[cfg(test)]
mod tests;
