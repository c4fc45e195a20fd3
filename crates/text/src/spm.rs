//! SentencePiece's BPE as llama.cpp runs it: of all neighbours whose join is a token the one with the
//! highest score is joined first; characters that are no token become byte tokens.

use crate::error::Error;
use crate::glue::Glue;
use crate::merge::{NONE, Work};
use crate::table::Table;
use crate::vocab::{Kind, Vocab, check_bytes};

pub(crate) struct Spm {
    /// Texts of the tokens that may come out of text, with `▁` for spaces. Control tokens are not
    /// among them: text never becomes one.
    symbols: Table,
    /// Token of each symbol.
    tokens: Vec<u32>,
    /// Rank of each symbol: 0 for the highest score, the same for equal scores.
    ranks: Vec<u32>,
    /// Length of the longest symbol, bytes.
    longest: usize,
    byte_tokens: [u32; 256],
    glue: Glue,
}

impl Spm {
    /// `scores` has one finite value per token.
    pub(crate) fn new(
        file: &gguf::Gguf,
        raw: gguf::Strings<'_>,
        vocab: &Vocab,
        scores: &[f32],
    ) -> Result<Spm, Error> {
        let mut symbols = Table::with_capacity(vocab.len());
        let mut tokens = Vec::with_capacity(vocab.len());
        let mut glue = Glue::new();
        let mut longest = 0;
        for (id, raw) in raw.iter().enumerate() {
            let reachable = matches!(vocab.kind(id as u32), Kind::Normal | Kind::UserDefined | Kind::Unused);
            if reachable && !raw.is_empty() {
                symbols.insert(raw);
                tokens.push(id as u32);
                glue.add(raw);
                longest = longest.max(raw.len());
            }
        }

        let mut by_score: Vec<u32> = (0..tokens.len() as u32).collect();
        let score = |symbol: u32| scores[tokens[symbol as usize] as usize];
        by_score.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut ranks = vec![0; tokens.len()];
        let mut rank = 0;
        for pair in by_score.windows(2) {
            rank += u32::from(score(pair[0]) > score(pair[1]));
            ranks[pair[1] as usize] = rank;
        }

        let byte_tokens = vocab.byte_tokens();
        check_bytes(file, &byte_tokens)?;
        Ok(Spm { symbols, tokens, ranks, longest, byte_tokens, glue })
    }

    /// Appends the tokens of a text whose spaces are `▁`.
    pub(crate) fn encode(&self, text: &str, work: &mut Work, out: &mut Vec<u32>) {
        for part in self.glue.parts(text) {
            self.part(part, work, out);
        }
    }

    fn part(&self, part: &str, work: &mut Work, out: &mut Vec<u32>) {
        let bytes = part.as_bytes();
        work.clear();
        for (at, c) in part.char_indices() {
            work.push(at as u32, self.symbols.find(&bytes[at..at + c.len_utf8()]).unwrap_or(NONE));
        }
        let len = bytes.len() as u32;
        work.merge(len, |left, _, end| {
            let text = &bytes[left.start as usize..end as usize];
            if text.len() > self.longest {
                return None;
            }
            let symbol = self.symbols.find(text)?;
            Some((self.ranks[symbol as usize], symbol))
        });
        for (symbol, range) in work.symbols(len) {
            if symbol == NONE {
                out.extend(bytes[range].iter().map(|&byte| self.byte_tokens[usize::from(byte)]));
            } else {
                out.push(self.tokens[symbol as usize]);
            }
        }
    }
}
