//! Going on when the context is full: a window that slides over the text, with its beginning kept.
//!
//! Models lean on the first tokens of a text whatever they say (the attention sinks of Xiao et al. 2023, arXiv
//! 2309.17453). The paper keeps cached keys and turns them to new positions; here the kept tokens are computed
//! anew, in chunks like any prompt, because the values of cached tokens still speak of those that went. What
//! comes out is what the kept tokens alone would give, and half of the window is computed once for as many
//! tokens as that half has: about one row of a prompt for each token of text.

use super::Engine;
use crate::Notice;
use crate::generation::Overflow;

/// Fewest first tokens that stay.
const SINKS: usize = 4;

/// What stays of `len` tokens: so many at the beginning, and so many at the end.
fn kept(len: usize, sinks: usize, context: usize) -> (usize, usize) {
    let sinks = sinks.max(SINKS).min(context - context / 4).min(len.saturating_sub(2));
    (sinks, (len - sinks) / 2)
}

impl Engine {
    /// Makes room in a full context, if that is what the slot's generation wants; whether it did.
    pub(super) fn slide(&mut self, slot: usize) -> bool {
        let Some(sequence) = &mut self.slots[slot] else { return false };
        let overflow = sequence.generation.as_ref().map(|generation| generation.overflow);
        let Some(Overflow::Slide { sinks }) = overflow else { return false };
        let len = sequence.ids.len();
        let (sinks, last) = kept(len, sinks, self.context);
        sequence.ids.copy_within(len - last.., sinks);
        sequence.ids.truncate(sinks + last);
        // All but the token just chosen were computed once.
        sequence.known = sinks + last - 1;
        sequence.uncache(sinks, &self.windows, &mut self.pools);
        let id = sequence.id;
        // What the device would go on from is at the old position.
        self.ahead.interrupt();
        self.notify(Notice::Slid { id, dropped: len - sinks - last, sinks, kept: sinks + last });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn something_goes_and_the_last_token_stays() {
        for context in 1..200 {
            for asked in [0, 4, 5, 20, 100, usize::MAX] {
                let (sinks, last) = kept(context + 1, asked, context);
                assert!(last >= 1 && sinks + last <= context, "{context}, {asked}: {sinks} and {last}");
                assert!(sinks >= asked.clamp(4, 100).min(context / 2), "{context}, {asked}: {sinks}");
                assert!(context < 16 || last >= context / 8, "{context}, {asked}: {last}");
            }
        }
        assert_eq!(kept(101, 11, 100), (11, 45));
    }
}
