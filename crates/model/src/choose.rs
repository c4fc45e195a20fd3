//! Choosing tokens where the logits are: a step feeds the next one, and the host only listens.
//!
//! A [`Chooser`] is a runner's other way to step. Steps are enqueued ahead of their results: the tokens a
//! step chooses are the next one's rows without the host's help. What is chosen is what the sampler on the
//! processor would choose from the same logits, settings and random numbers.

use crate::runner::{Batch, Lost};

/// How a sequence's tokens are chosen: bias, penalties, top-k, top-p, min-p, temperature, one of what is left.
#[derive(Clone, Debug, PartialEq)]
pub struct Choosing {
    /// Divides scores; 0 takes the most likely token always.
    pub temperature: f32,
    /// Keep this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together have this probability. In (0, 1].
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the most likely. In \[0, 1\].
    pub min_p: f32,
    /// Divides positive and multiplies other scores of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted once from scores of recent tokens; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from scores of recent tokens once an occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// How many last tokens are recent; 0 where penalties are off.
    pub window: usize,
    /// Added to logits: token id and amount, ids rising; entries of one id are added in order.
    pub bias: Vec<(u32, f32)>,
    /// State of xoshiro256++: one number is drawn a token unless the temperature is 0 or nothing was left.
    pub random: [u64; 4],
}

/// A token that was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Its id.
    pub token: u32,
    /// No score was above −∞: the token means nothing, and no random number was drawn.
    pub nothing: bool,
    /// Some logit was NaN.
    pub not_a_number: bool,
}

/// Steps whose tokens are chosen, and fed to the next, by the device.
///
/// All rows of such a step want a token and are of different slots. Its logits are nobody's:
/// [`Runner::logits`](crate::Runner::logits) means nothing after it. Any [`Runner::step`](crate::Runner::step)
/// in between ends what [`Chooser::again`] can go on from; steps under way stay so.
pub trait Chooser {
    /// Most rows of a step.
    fn rows(&self) -> usize;

    /// How many steps should be under way for the device to be busy always; at least 1. May change with what
    /// the runner sees of the host's haste.
    fn ahead(&self) -> usize;

    /// Whether it can choose so.
    fn serves(&self, choosing: &Choosing) -> bool;

    /// From its next step on, `slot` chooses as `choosing` says, which is served; of `recent`, oldest first
    /// and at most `choosing.window`, the penalties know. No step is under way.
    fn start(&mut self, slot: usize, choosing: &Choosing, recent: &[u32]) -> Result<(), Lost>;

    /// Enqueues a step over rows whose slots were started. No step is under way; positions are mapped.
    fn begin(&mut self, batch: &Batch) -> Result<(), Lost>;

    /// Enqueues the step after the last: the same slots, one position on, with the tokens just chosen. Their
    /// positions are mapped.
    fn again(&mut self) -> Result<(), Lost>;

    /// Waits for the oldest step under way: a token for each of its rows, in order.
    fn take(&mut self, chosen: &mut [Chosen]) -> Result<(), Lost>;

    /// Forgets all steps under way. They may still run, before anything that is asked for later; each of
    /// their slots has to be started anew.
    fn forget(&mut self);
}
