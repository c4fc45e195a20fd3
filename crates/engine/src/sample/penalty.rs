//! Penalties on tokens of the recent past.
//!
//! Over a window of the last tokens, prompt included: the repetition penalty of CTRL (Keskar et al.
//! 2019) divides positive logits and multiplies others, then the presence and frequency penalties of
//! OpenAI's API are subtracted, once and once an occurrence.

/// The three factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Factors {
    /// 1 changes nothing.
    pub(super) repeat: f32,
    /// 0 changes nothing.
    pub(super) presence: f32,
    /// 0 changes nothing.
    pub(super) frequency: f32,
}

impl Factors {
    /// What changes nothing.
    pub(super) const OFF: Factors = Factors { repeat: 1.0, presence: 0.0, frequency: 0.0 };
}

/// The window and how often each token is in it.
#[derive(Debug)]
pub(super) struct Penalty {
    factors: Factors,
    /// Ring of the last tokens.
    ring: Vec<u32>,
    /// Where the next token goes once the ring is full.
    oldest: usize,
    /// Most tokens the ring holds.
    window: usize,
    /// Occurrences in the ring, by token.
    counts: Vec<u32>,
    /// Tokens that occur.
    distinct: Vec<u32>,
    /// Place in `distinct`, by token; of meaning only for those that occur.
    places: Vec<u32>,
}

impl Penalty {
    /// `window` ≥ 1.
    pub(super) fn new(factors: Factors, window: usize, vocab: usize) -> Penalty {
        Penalty {
            factors,
            ring: Vec::with_capacity(window),
            oldest: 0,
            window,
            counts: vec![0; vocab],
            distinct: Vec::with_capacity(window.min(vocab)),
            places: vec![0; vocab],
        }
    }

    /// Most tokens that count.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// The tokens that count, oldest first, in two parts.
    pub(super) fn recent(&self) -> [&[u32]; 2] {
        let (newer, older) = self.ring.split_at(self.oldest);
        [older, newer]
    }

    /// Moves the window on by a token; one outside the vocabulary is ignored.
    pub(super) fn accept(&mut self, id: u32) {
        if id as usize >= self.counts.len() {
            return;
        }
        if self.ring.len() < self.window {
            self.ring.push(id);
        } else {
            let gone = std::mem::replace(&mut self.ring[self.oldest], id);
            self.oldest = (self.oldest + 1) % self.window;
            self.forget(gone);
        }
        if self.counts[id as usize] == 0 {
            self.places[id as usize] = self.distinct.len() as u32;
            self.distinct.push(id);
        }
        self.counts[id as usize] += 1;
    }

    fn forget(&mut self, id: u32) {
        self.counts[id as usize] -= 1;
        if self.counts[id as usize] == 0 {
            let place = self.places[id as usize] as usize;
            self.distinct.swap_remove(place);
            if let Some(&moved) = self.distinct.get(place) {
                self.places[moved as usize] = place as u32;
            }
        }
    }

    /// Lowers the scores of tokens in the window.
    pub(super) fn apply(&self, scores: &mut [f32]) {
        let Factors { repeat, presence, frequency } = self.factors;
        for &id in &self.distinct {
            let count = self.counts[id as usize] as f32;
            if let Some(score) = scores.get_mut(id as usize) {
                let scaled = if *score > 0.0 { *score / repeat } else { *score * repeat };
                *score = super::clean(scaled - count * frequency - presence);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exact values are meant
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_factor_does_what_its_definition_says() {
        let factors = Factors { repeat: 2.0, presence: 0.25, frequency: 0.5 };
        let mut penalty = Penalty::new(factors, 8, 4);
        for id in [1, 2, 1, 99] {
            penalty.accept(id);
        }
        let mut scores = [4.0, 4.0, -4.0, f32::NEG_INFINITY];
        penalty.apply(&mut scores);
        assert_eq!(scores, [4.0, 2.0 - 1.0 - 0.25, -8.0 - 0.5 - 0.25, f32::NEG_INFINITY]);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_window(ids in prop::collection::vec(0u32..12, 0..80), window in 1usize..20) {
            let factors = Factors { repeat: 1.0, presence: 0.0, frequency: 1.0 };
            let mut penalty = Penalty::new(factors, window, 12);
            for (i, &id) in ids.iter().enumerate() {
                penalty.accept(id);
                let recent = &ids[(i + 1).saturating_sub(window)..=i];
                prop_assert_eq!(penalty.recent().concat(), recent);
                let mut scores = [0f32; 12];
                penalty.apply(&mut scores);
                for id in 0..12 {
                    let count = recent.iter().filter(|&&seen| seen == id).count();
                    prop_assert_eq!(scores[id as usize], -(count as f32));
                }
            }
        }
    }
}
