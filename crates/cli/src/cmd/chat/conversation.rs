//! Messages, and the sequence that has computed them.

use engine::{Engine, Params, SequenceId, Summary};
use text::Tokenizer;
use text::chat::{Chat, Message};

use crate::answer::Answer;
use crate::failure::bad_input;
use crate::screen::Screen;
use crate::session;

/// A conversation. What an earlier turn computed is kept and used again.
pub(super) struct Conversation<'a> {
    engine: Engine,
    sequence: SequenceId,
    tokenizer: &'a Tokenizer,
    chat: &'a Chat,
    params: Params,
    messages: Vec<Message>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        mut engine: Engine,
        tokenizer: &'a Tokenizer,
        chat: &'a Chat,
        params: Params,
        system: Option<&str>,
    ) -> anyhow::Result<Conversation<'a>> {
        let sequence = engine.open()?;
        let messages = system.map(Message::system).into_iter().collect();
        Ok(Conversation { engine, sequence, tokenizer, chat, params, messages })
    }

    /// Positions there are.
    pub(super) fn context(&self) -> usize {
        self.engine.context()
    }

    /// Positions in use.
    pub(super) fn used(&self) -> usize {
        self.engine.ids(self.sequence).map_or(0, <[u32]>::len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.context()
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

    /// Starts an answer to a message; returns how many old messages had to be forgotten for it.
    pub(super) fn ask(&mut self, text: &str) -> anyhow::Result<usize> {
        self.messages.push(Message::user(text));
        let started = self.start();
        if started.is_err() {
            self.messages.pop();
        }
        started
    }

    /// Starts another answer to the last message.
    pub(super) fn ask_again(&mut self) -> anyhow::Result<usize> {
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
    fn start(&mut self) -> anyhow::Result<usize> {
        let room = self.context() / 4;
        let answer = self.params.max_tokens.map_or(room, |most| most.min(room));
        let mut kept = self.messages.clone();
        let mut prompt = session::prompt(self.chat, self.tokenizer, &kept)?;
        while prompt.len() + answer > self.context() {
            let fixed = self.fixed();
            // A question and its answer go together: templates insist on turns.
            let next = kept[fixed..].iter().skip(1).position(|message| message.role() == Some("user"));
            let Some(next) = next else { break };
            kept.drain(fixed..=fixed + next);
            prompt = session::prompt(self.chat, self.tokenizer, &kept)?;
        }
        self.engine.extend(self.sequence, &prompt, &self.params)?;
        let forgotten = self.messages.len() - kept.len();
        self.messages = kept;
        Ok(forgotten)
    }

    /// Prints the answer that was started and keeps it, as far as it came.
    pub(super) fn answer(&mut self, screen: Screen, answer: &mut Answer) -> anyhow::Result<Summary> {
        let generated = session::generate(&mut self.engine, self.sequence, screen, Some(answer))?;
        self.messages.push(Message::assistant(generated.text));
        Ok(generated.summary)
    }
}
