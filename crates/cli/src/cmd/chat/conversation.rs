//! Messages, and the sequence that has computed them.

use engine::{Engine, Overflow, Params, SequenceId, Summary};
use text::Tokenizer;
use text::chat::{Chat, Message};

use crate::answer::Answer;
use crate::failure::bad_input;
use crate::limits::Guard;
use crate::screen::Screen;
use crate::session;

/// What was forgotten so that an answer has room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evicted {
    pub(super) messages: usize,
    pub(super) tokens: usize,
}

/// A conversation. What an earlier turn computed is kept and used again.
pub(super) struct Conversation<'a> {
    engine: Engine,
    guard: Guard,
    sequence: SequenceId,
    tokenizer: &'a Tokenizer,
    chat: &'a Chat,
    params: Params,
    messages: Vec<Message>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        mut engine: Engine,
        guard: Guard,
        tokenizer: &'a Tokenizer,
        chat: &'a Chat,
        params: Params,
        system: Option<&str>,
    ) -> anyhow::Result<Conversation<'a>> {
        let sequence = engine.open()?;
        let messages = system.map(Message::system).into_iter().collect();
        Ok(Conversation { engine, guard, sequence, tokenizer, chat, params, messages })
    }

    /// Positions there are.
    pub(super) fn context(&self) -> usize {
        self.engine.context()
    }

    /// Positions in use.
    pub(super) fn used(&self) -> usize {
        self.engine.ids(self.sequence).map_or(0, <[u32]>::len)
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Puts other messages in place of all.
    pub(super) fn replace(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Forgets all but the system message.
    pub(super) fn clear(&mut self) {
        self.messages.truncate(self.fixed());
    }

    /// Changes what the model is told to be; an empty text takes it away.
    pub(super) fn set_system(&mut self, text: &str) {
        self.messages.drain(..self.fixed());
        if !text.is_empty() {
            self.messages.insert(0, Message::system(text));
        }
    }

    /// Messages that are never forgotten.
    fn fixed(&self) -> usize {
        usize::from(self.messages.first().is_some_and(|message| message.role() == Some("system")))
    }

    /// Starts an answer to a message; returns what had to be forgotten for it.
    pub(super) fn ask(&mut self, text: &str) -> anyhow::Result<Evicted> {
        self.messages.push(Message::user(text));
        let started = self.start();
        if started.is_err() {
            self.messages.pop();
        }
        started
    }

    /// Starts another answer to the last message.
    pub(super) fn ask_again(&mut self) -> anyhow::Result<Evicted> {
        let answered = self.messages.last().is_some_and(|message| message.role() == Some("assistant"));
        let asked = self.messages.len().checked_sub(1 + usize::from(answered));
        let Some(last) = asked.filter(|&last| self.messages[last].role() == Some("user")) else {
            return Err(bad_input("there is no answer to give again yet"));
        };
        self.messages.truncate(last + 1);
        // The same seed would give the same answer.
        self.params.sampling.seed = self.params.sampling.seed.wrapping_add(1);
        self.start()
    }

    /// Renders the messages, drops the oldest as long as there is no room for an answer, and starts.
    fn start(&mut self) -> anyhow::Result<Evicted> {
        let room = self.context() / 4;
        let answer = self.params.max_tokens.map_or(room, |most| most.min(room));
        let mut kept = self.messages.clone();
        let mut prompt = session::prompt(self.chat, self.tokenizer, &kept)?;
        let whole = prompt.len();
        while prompt.len() + answer > self.context() {
            let fixed = self.fixed();
            // A question and its answer go together: templates insist on turns.
            let next = kept[fixed..].iter().skip(1).position(|message| message.role() == Some("user"));
            let Some(next) = next else { break };
            kept.drain(fixed..=fixed + next);
            prompt = session::prompt(self.chat, self.tokenizer, &kept)?;
        }
        // Who names a number of tokens wants that many, of this answer too.
        if self.params.max_tokens.is_some() {
            let sinks = session::sinks(self.chat, self.tokenizer, &kept)?;
            self.params.overflow = Overflow::Slide { sinks };
        }
        self.engine.extend(self.sequence, &prompt, &self.params)?;
        let evicted = Evicted {
            messages: self.messages.len() - kept.len(),
            tokens: whole.saturating_sub(prompt.len()),
        };
        self.messages = kept;
        Ok(evicted)
    }

    /// Prints the answer that was started and keeps it, as far as it came.
    pub(super) fn answer(&mut self, screen: Screen, answer: &mut Answer) -> anyhow::Result<Summary> {
        let generated = session::generate(
            &mut self.engine,
            self.sequence,
            screen,
            Some(answer),
            true,
            self.guard.counters(),
        )?;
        self.messages.push(Message::assistant(generated.text));
        Ok(generated.summary)
    }
}
