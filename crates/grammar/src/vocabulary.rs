//! The model's tokens as a tree of bytes.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenizerEnv};
use text::{EncodeOptions, Kind, Tokenizer};

/// Tokens by their bytes, and how text becomes tokens.
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
    /// Whether the tokenizer's tokens of a piece of text are those of the piece within a text.
    canonical: bool,
}

impl Vocabulary {
    /// Control tokens, and tokens without a use, are no text and have no place in the tree.
    ///
    /// There is one token more than the tokenizer has: an end for vocabularies without one, which no model
    /// has a score for.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Vocabulary {
        let none = tokenizer.len() as u32;
        let text = |id: u32| matches!(tokenizer.kind(id), Kind::Normal | Kind::UserDefined | Kind::Byte);
        let words: Vec<Vec<u8>> = (0..=none)
            .map(|id| if id < none && text(id) { tokenizer.bytes(id).to_vec() } else { Vec::new() })
            .collect();
        let ends: Vec<u32> = if tokenizer.ends().is_empty() { vec![none] } else { tokenizer.ends().to_vec() };
        let trie = TokTrie::from(&TokRxInfo::new(none + 1, ends[0]), &words).with_eos_tokens(&ends);
        // A tokenizer that puts a space in front of every text says nothing about text that goes on.
        let probe = tokenizer.encode_vec("a", EncodeOptions::default());
        let canonical = probe.iter().flat_map(|&id| tokenizer.bytes(id)).eq(b"a");
        Vocabulary { tokenizer, trie, canonical }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let ids = self.tokenizer.encode_vec(text, EncodeOptions::default());
            let same = ids.iter().flat_map(|&id| self.trie.token(id)).eq(bytes);
            if same {
                return ids;
            }
        }
        self.trie.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
