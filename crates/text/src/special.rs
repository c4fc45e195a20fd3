//! Tokens that are found in text as they are written, before any splitting.
//!
//! Of overlapping ones the leftmost counts, then the longest, as Hugging Face's tokenizers and
//! SentencePiece choose. The search is linear in the text however many tokens there are.

use aho_corasick::{AhoCorasick, Input, MatchKind};

use crate::error::Error;
use crate::vocab::{Kind, Vocab};

/// The searches for tokens in text.
pub(crate) struct Specials {
    /// Tokens that count in every text.
    user: Search,
    /// Those and the control tokens.
    all: Search,
    /// Control tokens that have a name, in the order of their bytes.
    control: Vec<u32>,
}

struct Search {
    searcher: AhoCorasick,
    /// Token of each pattern.
    ids: Vec<u32>,
    /// Whether the spaces after the token belong to it, by pattern.
    strips: Vec<bool>,
}

/// A token found in text.
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) start: usize,
    /// Where the text goes on.
    pub(crate) end: usize,
}

impl Specials {
    pub(crate) fn new(file: &gguf::Gguf, vocab: &Vocab) -> Result<Specials, Error> {
        // Phi-3's tokens swallow the spaces behind them; the file only says so by its name.
        let name = file.opt_str("general.name")?.unwrap_or_default().to_lowercase();
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let strips = |id| phi3 && !matches!(vocab.bytes(id), b"<unk>" | b"<s>" | b"<|endoftext|>");
        let search = |kinds: &[Kind]| {
            let ids: Vec<u32> = vocab
                .of_kinds(kinds)
                .filter(|&id| !vocab.bytes(id).is_empty() && std::str::from_utf8(vocab.bytes(id)).is_ok())
                .collect();
            let searcher = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(ids.iter().map(|&id| vocab.bytes(id)))
                .map_err(|reason| Error::Specials { file: file.name().into(), reason: reason.to_string() })?;
            let strips = ids.iter().map(|&id| strips(id)).collect();
            Ok::<_, Error>(Search { searcher, ids, strips })
        };
        let mut control: Vec<u32> =
            vocab.of_kinds(&[Kind::Control]).filter(|&id| !vocab.bytes(id).is_empty()).collect();
        control.sort_by_key(|&id| vocab.bytes(id));
        Ok(Specials {
            user: search(&[Kind::UserDefined])?,
            all: search(&[Kind::UserDefined, Kind::Control, Kind::Unknown])?,
            control,
        })
    }

    /// The first token in `text` from byte `at` on; control tokens count if `control`.
    pub(crate) fn find(&self, text: &str, at: usize, control: bool) -> Option<Found> {
        let Search { searcher, ids, strips } = if control { &self.all } else { &self.user };
        if ids.is_empty() {
            return None;
        }
        let found = searcher.find(Input::new(text).range(at..))?;
        let mut end = found.end();
        if strips[found.pattern()] {
            let spaces = |byte: &&u8| matches!(byte, b' ' | b'\t'..=b'\r');
            end += text.as_bytes()[end..].iter().take_while(spaces).count();
        }
        Some(Found { id: ids[found.pattern()], start: found.start(), end })
    }

    /// Control tokens in the order of their bytes.
    pub(crate) fn control(&self) -> &[u32] {
        &self.control
    }

    /// The control token of a name.
    pub(crate) fn id(&self, vocab: &Vocab, name: &[u8]) -> Option<u32> {
        let at = self.control.binary_search_by_key(&name, |&id| vocab.bytes(id)).ok()?;
        Some(self.control[at])
    }
}

/// Names of tokens that end an answer or a turn, in the families that use them. A user-defined token of
/// such a name counts as a control token: some converters mark them wrongly.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<eos>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// The tokens named in [`ENDS`], in order of id; they become control tokens.
pub(crate) fn ends(vocab: &mut Vocab) -> Vec<u32> {
    let mut ends: Vec<u32> = vocab
        .of_kinds(&[Kind::Control, Kind::UserDefined])
        .filter(|&id| ENDS.iter().any(|name| name.as_bytes() == vocab.bytes(id)))
        .collect();
    let has = |vocab: &Vocab, name: &str| ends.iter().any(|&id| vocab.bytes(id) == name.as_bytes());
    // In the Harmony format a message ends with <|end|> and the answer goes on.
    let calls = has(vocab, "<|call|>") || has(vocab, "<|calls|>");
    let harmony = calls && (has(vocab, "<|return|>") || has(vocab, "<|flush|>"));
    // Gemma 4 has </s> as a tag of HTML.
    let gemma4 = has(vocab, "<|tool_response>");
    ends.retain(|&id| match vocab.bytes(id) {
        b"<|end|>" => !harmony,
        b"</s>" => !gemma4,
        _ => true,
    });
    for &id in &ends {
        vocab.set_kind(id, Kind::Control);
    }
    ends
}
