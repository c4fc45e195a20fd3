//! What `bench` and `profile` measure: prompts and generations, at depths.

use crate::failure::bad_input;

/// A prompt at once, or tokens one by one, behind `depth` others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) prompt: usize,
    pub(crate) generate: usize,
    pub(crate) depth: usize,
}

impl Test {
    pub(crate) fn tokens(self) -> usize {
        self.prompt + self.generate
    }

    /// llama-bench's name of it.
    pub(crate) fn name(self) -> String {
        let (kind, tokens) = if self.prompt > 0 { ("pp", self.prompt) } else { ("tg", self.generate) };
        if self.depth > 0 { format!("{kind}{tokens} @ d{}", self.depth) } else { format!("{kind}{tokens}") }
    }

    /// Every prompt length, then every number of tokens, at each depth; numbers of 0 are left out.
    ///
    /// # Errors
    /// Bad input: nothing is left, or a number is beyond every model.
    pub(crate) fn all(
        prompts: &[usize],
        generations: &[usize],
        depths: &[usize],
    ) -> anyhow::Result<Vec<Test>> {
        const MOST: usize = 1 << 24;
        let mut tests = Vec::new();
        for &depth in depths {
            let prompts = prompts.iter().map(|&prompt| Test { prompt, generate: 0, depth });
            let generations = generations.iter().map(|&generate| Test { prompt: 0, generate, depth });
            tests.extend(prompts.chain(generations).filter(|test| test.tokens() > 0));
        }
        if tests.iter().any(|test| test.tokens().max(test.depth) > MOST) {
            return Err(bad_input(format!("a test may have up to {MOST} tokens")));
        }
        if tests.is_empty() {
            return Err(bad_input("there is nothing to measure; give -p or -n above 0"));
        }
        Ok(tests)
    }
}
