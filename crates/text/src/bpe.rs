//! Byte pair encoding by the ranked merges of `tokenizer.ggml.merges`.
//!
//! Two forms. The usual one works on bytes: the file names them by GPT-2's printable characters, which
//! is undone at load, so texts, tokens and merges are plain bytes here. Gemma 4's works on characters,
//! with `▁` for spaces, and falls back to byte tokens.

use hashbrown::HashMap;

use crate::error::Error;
use crate::glue::Glue;
use crate::merge::{NONE, Work};
use crate::split::Pre;
use crate::table::Table;
use crate::vocab::{Form, Kind, Vocab, check_bytes};

pub(crate) struct Bpe {
    pre: &'static Pre,
    /// Every string merging can reach: tokens, then results of merges that are no token.
    symbols: Table,
    /// Token of each symbol; [`NONE`] for the rest, which becomes byte tokens.
    tokens: Vec<u32>,
    /// Rank of a pair of symbols, left in the high half.
    ranks: HashMap<u64, u32>,
    /// Symbol that a rank's pair becomes.
    joined: Vec<u32>,
    /// Token of each byte.
    byte_tokens: [u32; 256],
    /// Symbol of each byte, for the form on bytes.
    byte_symbols: [u32; 256],
    glue: Glue,
}

impl Bpe {
    /// Reads the merges of a file.
    pub(crate) fn new(
        file: &gguf::Gguf,
        raw: gguf::Strings<'_>,
        vocab: &Vocab,
        pre: &'static Pre,
    ) -> Result<Bpe, Error> {
        let form = pre.form;
        let mut symbols = Table::with_capacity(vocab.len());
        let mut tokens = Vec::with_capacity(vocab.len());
        let mut text = Vec::new();
        for (id, raw) in raw.iter().enumerate() {
            let reachable = matches!(vocab.kind(id as u32), Kind::Normal | Kind::UserDefined | Kind::Unused);
            if reachable && !raw.is_empty() && form.symbol(raw, &mut text) && symbols.insert(&text).1 {
                tokens.push(id as u32);
            }
        }

        let rules = file.strings("tokenizer.ggml.merges")?;
        let mut ranks = HashMap::with_capacity(rules.len());
        let mut joined = Vec::with_capacity(rules.len());
        let mut right_text = Vec::new();
        for (rank, rule) in rules.iter().enumerate() {
            // The first character of a rule is never the separator.
            let space = rule.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1);
            let Some(space) = space.filter(|&at| at + 1 < rule.len()) else {
                return Err(Error::Merge {
                    file: file.name().into(),
                    index: rank,
                    rule: rule[..rule.len().min(40)].escape_ascii().to_string(),
                });
            };
            // A part that no text can become never applies, so the rule may go.
            let possible =
                form.symbol(&rule[..space], &mut text) && form.symbol(&rule[space + 1..], &mut right_text);
            if !possible {
                joined.push(NONE);
                continue;
            }
            let left = symbols.insert(&text).0;
            let right = symbols.insert(&right_text).0;
            text.extend_from_slice(&right_text);
            joined.push(symbols.insert(&text).0);
            // Of a rule given twice the first counts.
            ranks.entry(key(left, right)).or_insert(rank as u32);
        }
        tokens.resize(symbols.len(), NONE);

        let mut glue = Glue::new();
        if form == Form::Spaced {
            for symbol in 0..symbols.len() as u32 {
                glue.add(symbols.get(symbol));
            }
        }
        let byte_symbols = std::array::from_fn(|byte| symbols.find(&[byte as u8]).unwrap_or(NONE));
        let byte_tokens = match form {
            Form::Spaced => vocab.byte_tokens(),
            Form::ByteLevel => {
                byte_symbols.map(|symbol| tokens.get(symbol as usize).copied().unwrap_or(NONE))
            }
        };
        // Bytes without a token are left out of texts, as in Hugging Face's tokenizers: Falcon has no
        // tokens for control characters.
        if form == Form::Spaced {
            check_bytes(file, &byte_tokens)?;
        }
        Ok(Bpe { pre, symbols, tokens, ranks, joined, byte_tokens, byte_symbols, glue })
    }

    /// Whether the texts to encode have `▁` for spaces.
    pub(crate) fn spaced(&self) -> bool {
        self.pre.form == Form::Spaced
    }

    /// Appends the tokens of a text. For [`Form::Spaced`] its spaces are `▁`.
    pub(crate) fn encode(&self, text: &str, work: &mut Work, out: &mut Vec<u32>) {
        self.pre.split(text, |piece| match self.pre.form {
            Form::ByteLevel if self.pre.digit_names => {
                for part in piece.as_bytes().chunk_by(|&a, &b| has_digit_name(a) == has_digit_name(b)) {
                    self.bytes(part, work, out);
                }
            }
            Form::ByteLevel => self.bytes(piece.as_bytes(), work, out),
            Form::Spaced => self.characters(piece, work, out),
        });
    }

    fn bytes(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        if self.pre.whole && self.whole(piece, out) {
            return;
        }
        work.clear();
        for (at, &byte) in piece.iter().enumerate() {
            let symbol = self.byte_symbols[usize::from(byte)];
            if symbol != NONE {
                work.push(at as u32, symbol);
            }
        }
        self.finish(piece, work, out);
    }

    fn characters(&self, piece: &str, work: &mut Work, out: &mut Vec<u32>) {
        // Line ends have tokens of every length that merging would not always find.
        if piece.starts_with('\n') && self.whole(piece.as_bytes(), out) {
            return;
        }
        for part in self.glue.parts(piece) {
            work.clear();
            for (at, c) in part.char_indices() {
                let symbol = self.symbols.find(&part.as_bytes()[at..at + c.len_utf8()]);
                work.push(at as u32, symbol.unwrap_or(NONE));
            }
            self.finish(part.as_bytes(), work, out);
        }
    }

    /// Whether the piece is one token, which is then appended.
    fn whole(&self, piece: &[u8], out: &mut Vec<u32>) -> bool {
        let token = self.symbols.find(piece).map_or(NONE, |symbol| self.tokens[symbol as usize]);
        if token != NONE {
            out.push(token);
        }
        token != NONE
    }

    fn finish(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        let len = piece.len() as u32;
        work.merge(len, |left, right, _| {
            let rank = *self.ranks.get(&key(left.symbol, right.symbol))?;
            Some((rank, self.joined[rank as usize]))
        });
        for (symbol, bytes) in work.symbols(len) {
            match self.tokens.get(symbol as usize) {
                Some(&token) if token != NONE => out.push(token),
                _ => {
                    let tokens = piece[bytes].iter().map(|&byte| self.byte_tokens[usize::from(byte)]);
                    out.extend(tokens.filter(|&token| token != NONE));
                }
            }
        }
    }
}

/// Whether GPT-2's character for a byte is a number: the digits and `²³¹¼½¾`.
fn has_digit_name(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | 0xB2 | 0xB3 | 0xB9 | 0xBC..=0xBE)
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
