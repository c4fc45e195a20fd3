//! Sequences nobody is generating in: kept, because a later prompt may begin as they do.

use crate::{Engine, SequenceId};

/// Common tokens from which on copying a sequence is worth a slot: a page, the least that can be shared.
const WORTH: usize = model::runner::PAGE;

/// An idle sequence.
struct Idle {
    id: SequenceId,
    /// Whose it is, if somebody's.
    conversation: Option<String>,
    /// Kept for all.
    permanent: bool,
}

/// The idle sequences, those used longest ago first.
#[derive(Default)]
pub(super) struct Shelf {
    idle: Vec<Idle>,
}

impl Shelf {
    pub(super) fn len(&self) -> usize {
        self.idle.len()
    }

    /// Ids of all.
    pub(super) fn ids(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.idle.iter().map(|idle| idle.id)
    }

    /// Keeps a sequence that is never given up.
    pub(super) fn keep_for_all(&mut self, id: SequenceId) {
        self.idle.push(Idle { id, conversation: None, permanent: true });
    }

    /// Keeps a sequence. What its conversation had before belongs to nobody now.
    pub(super) fn keep(&mut self, id: SequenceId, conversation: Option<String>) {
        if conversation.is_some() {
            self.idle
                .iter_mut()
                .filter(|idle| idle.conversation == conversation)
                .for_each(|idle| idle.conversation = None);
        }
        self.idle.push(Idle { id, conversation, permanent: false });
    }

    /// A sequence for `prompt`, off the shelf or new: the conversation's own; else one that begins alike and
    /// is nobody's; else a copy of the one that begins most alike; else an empty one. Where slots are short,
    /// because `others` have the rest, one is given up. `None` if there is no slot at all.
    pub(super) fn place(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        conversation: Option<&str>,
        others: usize,
        evicted: &mut u64,
    ) -> Option<SequenceId> {
        if conversation.is_some()
            && let Some(at) = self.idle.iter().position(|idle| idle.conversation.as_deref() == conversation)
        {
            return Some(self.idle.remove(at).id);
        }
        // Of equals the last, which was used last.
        let alike = self.idle.iter().enumerate().map(|(at, idle)| (common(engine, idle.id, prompt), at));
        let mut from = None;
        if let Some((common, at)) = alike.max() {
            let best = &self.idle[at];
            let len = engine.ids(best.id).map_or(0, <[u32]>::len);
            if best.conversation.is_none() && !best.permanent && common > 0 && 2 * common >= len {
                return Some(self.idle.remove(at).id);
            }
            from = Some(best.id).filter(|_| common >= WORTH);
        }
        if others + self.idle.len() >= engine.runner().options().slots {
            if self.evict(engine, from) {
                *evicted += 1;
            } else {
                // The one to copy is the last there is: it has to do itself.
                let at = self.idle.iter().position(|idle| !idle.permanent)?;
                return Some(self.idle.remove(at).id);
            }
        }
        match from {
            Some(from) => engine.fork(from).ok(),
            None => engine.open().ok(),
        }
    }

    /// Gives up one sequence, that used longest ago but not `except`; nobody's before a conversation's.
    /// Whether there was one.
    pub(super) fn evict(&mut self, engine: &mut Engine, except: Option<SequenceId>) -> bool {
        let may = |idle: &Idle| !idle.permanent && Some(idle.id) != except;
        let nobodys = self.idle.iter().position(|idle| may(idle) && idle.conversation.is_none());
        let Some(at) = nobodys.or_else(|| self.idle.iter().position(may)) else { return false };
        engine.close(self.idle.remove(at).id);
        true
    }
}

/// Tokens at the beginning that a sequence and a prompt have in common.
fn common(engine: &Engine, id: SequenceId, prompt: &[u32]) -> usize {
    let ids = engine.ids(id).unwrap_or_default();
    ids.iter().zip(prompt).take_while(|(a, b)| a == b).count()
}
