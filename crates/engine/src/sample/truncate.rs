//! Stages that leave fewer candidates: top-k, top-p (Holtzman et al. 2019), min-p (Nguyen et al. 2024).
//!
//! Each is a function over the list of candidates; [`Candidates::sorted`] says whether it is in order of
//! score. Scores are clean: no NaN, no +∞.

use super::choose::block_max;
use super::exp::{exp, sum_exp};
use std::cmp::Ordering;

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Logit after the stages so far.
    pub(super) score: f32,
    /// Token id.
    pub(super) id: u32,
}

/// Best first; equals by rising id.
fn order(a: Candidate, b: Candidate) -> Ordering {
    b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Up to this many are kept in order while the scores are scanned once.
pub(super) const SCAN: usize = 256;

/// The tokens that may still be chosen.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) list: Vec<Candidate>,
    /// Whether `list` is in [`order`]; otherwise it is by rising id.
    pub(super) sorted: bool,
}

impl Candidates {
    /// Room for what `top_k` of a vocabulary needs; 0 stands for all.
    pub(super) fn with_room(top_k: usize, vocab: usize) -> Candidates {
        let room = if (1..=SCAN).contains(&top_k) { top_k.min(vocab) } else { vocab };
        Candidates { list: Vec::with_capacity(room), sorted: false }
    }

    /// Fills the list with the `k` best of `scores`, in order; `k` = 0 takes all, by id.
    pub(super) fn top_k(&mut self, scores: &[f32], k: usize) {
        self.list.clear();
        self.sorted = k > 0 && k < scores.len();
        if self.sorted && k <= SCAN {
            return self.scan(scores, k);
        }
        self.list.extend(scores.iter().zip(0..).map(|(&score, id)| Candidate { score, id }));
        if self.sorted {
            self.best(k);
            self.list.truncate(k);
        }
    }

    /// One pass that keeps the best `k` in order. Blocks without a better score are skipped whole, which
    /// is nearly all of them: of n random scores about k · ln(n / k) enter.
    fn scan(&mut self, scores: &[f32], k: usize) {
        const BLOCK: usize = 64;
        let mut bar = f32::NEG_INFINITY;
        for (i, block) in scores.chunks(BLOCK).enumerate() {
            if self.list.len() == k && block_max(block) <= bar {
                continue;
            }
            for (&score, id) in block.iter().zip((i * BLOCK) as u32..) {
                if self.list.len() == k {
                    if score <= bar {
                        continue;
                    }
                    self.list.pop();
                }
                // Ids rise, so behind all equals is the right place.
                let place = self.list.partition_point(|better| better.score >= score);
                self.list.insert(place, Candidate { score, id });
                bar = self.list.last().map_or(bar, |last| last.score);
            }
        }
    }

    /// Brings the best `n` to the front, in order.
    fn best(&mut self, n: usize) {
        if n < self.list.len() {
            self.list.select_nth_unstable_by(n, |a, b| order(*a, *b));
        }
        let n = n.min(self.list.len());
        self.list[..n].sort_unstable_by(|a, b| order(*a, *b));
    }

    fn max(&self) -> f32 {
        let higher = |max: f32, c: &Candidate| if c.score > max { c.score } else { max };
        match self.list.first() {
            Some(first) if self.sorted => first.score,
            _ => self.list.iter().fold(f32::NEG_INFINITY, higher),
        }
    }

    /// Keeps the fewest best candidates whose probabilities add up to at least `p`, at least one.
    pub(super) fn top_p(&mut self, p: f32) {
        let max = self.max();
        if p >= 1.0 || max == f32::NEG_INFINITY {
            return;
        }
        let wanted = p as f64 * sum_exp(&self.list, |candidate| candidate.score - max);
        // Without an order, only as much is sorted as is needed: mostly a few hundred of a vocabulary.
        let mut ready = if self.sorted { self.list.len() } else { 0 };
        let (mut sum, mut kept) = (0.0, 0);
        while sum < wanted && kept < self.list.len() {
            if kept == ready {
                ready = (ready * 8).max(512).min(self.list.len());
                self.best(ready);
            }
            sum += exp(self.list[kept].score - max) as f64;
            kept += 1;
        }
        self.list.truncate(kept.max(1));
        self.sorted = true;
    }

    /// Keeps candidates whose probability is at least e^`ln_p` of the best one's.
    pub(super) fn min_p(&mut self, ln_p: f32) {
        let bar = self.max() + ln_p;
        self.list.retain(|candidate| candidate.score >= bar);
    }
}
