//! What answers look like, whole and as streams, by interface.

pub(crate) mod anthropic;
pub(crate) mod chat;
pub(crate) mod completion;

use crate::error::Refusal;
use crate::submitted::{Answers, Finish, Told, Whole};
use serde_json::{Value, json};

/// One interface's way to write a stream.
pub(crate) trait Form: Send {
    /// What comes before everything.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// What was told of an answer; never its end.
    fn told(&mut self, index: usize, told: Told, out: &mut Vec<u8>);
    /// An answer ended after `generated` tokens.
    fn ended(&mut self, index: usize, finish: Finish, generated: usize, out: &mut Vec<u8>);
    /// All have ended.
    fn end(&mut self, out: &mut Vec<u8>);
    /// Something went wrong; nothing follows.
    fn failed(&mut self, refusal: &Refusal, out: &mut Vec<u8>);
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) generated: usize,
}

impl Usage {
    /// Before any answer.
    pub(crate) fn of(answers: &Answers) -> Usage {
        Usage { prompt: answers.prompts.iter().sum(), ..Usage::default() }
    }

    /// An answer found `cached` tokens of its prompt; the first answer to a prompt counts.
    pub(crate) fn started(&mut self, index: usize, n: usize, cached: usize) {
        if index.is_multiple_of(n) {
            self.cached += cached;
        }
    }

    /// With what came of all answers.
    pub(crate) fn whole(mut self, n: usize, wholes: &[Whole]) -> Usage {
        for (index, whole) in wholes.iter().enumerate() {
            self.started(index, n, whole.cached);
            self.generated += whole.generated;
        }
        self
    }

    /// OpenAI's form.
    pub(crate) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }
}
