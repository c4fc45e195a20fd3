//! Text to tokens and back.

use std::borrow::Cow;

use crate::bpe::Bpe;
use crate::error::Error;
use crate::merge::{self, Work};
use crate::special::{self, Specials};
use crate::split::Pre;
use crate::spm::Spm;
use crate::stream::Stream;
use crate::vocab::{Form, Kind, SPACE_MARK, Vocab, check_len};

/// A vocabulary and its algorithm, from the keys `tokenizer.ggml.*` of a file.
///
/// Immutable, so it may be shared between threads.
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    specials: Specials,
    /// SentencePiece: a text starts with a space, and so does text after a control token.
    space_prefix: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    /// Tokens that end an answer, in order.
    ends: Vec<u32>,
}

enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
}

/// How to encode a text. The default is plain text, as a user writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the beginning-of-sequence token in front, if there is one. Whether the model wants it is
    /// [`Tokenizer::add_bos`].
    pub bos: bool,
    /// Let the names of control tokens in the text become those tokens. Only for text from a template,
    /// never for text from a user.
    pub special: bool,
}

impl Tokenizer {
    /// Reads and checks a vocabulary.
    pub fn from_gguf(file: &gguf::Gguf) -> Result<Tokenizer, Error> {
        let name = || file.name().to_owned();
        let model = file.str("tokenizer.ggml.model")?;
        let pre = match model {
            "llama" => None,
            "gemma4" => Some("gemma4"),
            "gpt2" => match file.opt_str("tokenizer.ggml.pre")? {
                Some(pre) => Some(pre),
                None => return Err(Error::MissingPre { file: name() }),
            },
            other => {
                return Err(Error::UnknownModel { file: name(), model: other.escape_debug().to_string() });
            }
        };
        let pre = pre
            .map(|pre| {
                Pre::find(pre).ok_or_else(|| Error::UnknownPre {
                    file: name(),
                    pre: pre.escape_debug().to_string(),
                    known: Pre::known(),
                })
            })
            .transpose()?;
        let form = pre.map_or(Form::Spaced, |pre| pre.form);

        let raw = file.strings("tokenizer.ggml.tokens")?;
        let mut vocab = Vocab::new(file, raw, form)?;
        let mut ends = special::ends(&mut vocab);
        let algorithm = match pre {
            Some(pre) => Algorithm::Bpe(Box::new(Bpe::new(file, raw, &vocab, pre)?)),
            None => Algorithm::Spm(Box::new(Spm::new(file, raw, &vocab, &scores(file, raw.len())?)?)),
        };

        let token = |key: &str| match file.opt_u32(key)? {
            Some(id) if id as usize >= raw.len() => {
                Err(Error::from(file.wrong(key, &format!("a token below {}", raw.len()))))
            }
            id => Ok(id),
        };
        // SentencePiece models have these two at 1 and 2 where the file does not say.
        let usual = |id: u32| (pre.is_none() && vocab.kind(id) == Kind::Control).then_some(id);
        let bos = token("tokenizer.ggml.bos_token_id")?.or(usual(1));
        let eos = token("tokenizer.ggml.eos_token_id")?.or(usual(2));
        ends.extend(eos);
        ends.extend(token("tokenizer.ggml.eot_token_id")?);
        ends.extend(token("tokenizer.ggml.eom_token_id")?);
        ends.sort_unstable();
        ends.dedup();

        Ok(Tokenizer {
            specials: Specials::new(file, &vocab)?,
            space_prefix: file.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) && pre.is_none(),
            bos,
            eos,
            // Gemma 4's files may say false and mean true.
            add_bos: model == "gemma4"
                || file
                    .opt_bool("tokenizer.ggml.add_bos_token")?
                    .unwrap_or(pre.is_none_or(|pre| pre.add_bos)),
            add_eos: file.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            ends,
            vocab,
            algorithm,
        })
    }

    /// Appends the tokens of a text. Time is n log n in its length at most, for any text.
    ///
    /// The tokens' bytes are the text again, but for bytes without a token (Falcon has none for control
    /// characters) and SentencePiece's leading space.
    pub fn encode(&self, text: &str, options: EncodeOptions, out: &mut Vec<u32>) {
        if options.bos {
            out.extend(self.bos);
        }
        let mut buffers = Buffers::default();
        let mut at = 0;
        while at < text.len() {
            let found = self.specials.find(text, at, options.special);
            let plain = &text[at..found.as_ref().map_or(text.len(), |found| found.start)];
            if !plain.is_empty() {
                self.plain(plain, &mut buffers, out);
            }
            let Some(found) = found else { break };
            out.push(found.id);
            at = found.end;
        }
    }

    /// The tokens of a text.
    pub fn encode_vec(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        self.encode(text, options, &mut out);
        out
    }

    /// Text between control tokens, or all of it.
    fn plain(&self, text: &str, buffers: &mut Buffers, out: &mut Vec<u32>) {
        let Buffers { work, spaced } = buffers;
        for (i, part) in merge::parts(text).enumerate() {
            match &self.algorithm {
                Algorithm::Bpe(bpe) if bpe.spaced() => {
                    mark_spaces(false, part, spaced);
                    bpe.encode(spaced, work, out);
                }
                Algorithm::Bpe(bpe) => bpe.encode(part, work, out),
                Algorithm::Spm(spm) => {
                    mark_spaces(self.space_prefix && i == 0, part, spaced);
                    spm.encode(spaced, work, out);
                }
            }
        }
    }

    /// The text of tokens that start a text, without control tokens. Invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut stream = Stream::at_start(self);
        for &id in ids {
            stream.push(self, id, &mut text);
        }
        stream.finish(&mut text);
        text
    }

    /// The bytes that a token stands for in text. Control, unknown and user-defined tokens give their
    /// names. Empty for an id outside the vocabulary.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// The token's text for people: control characters escaped, invalid UTF-8 as U+FFFD.
    pub fn name(&self, id: u32) -> Cow<'_, str> {
        let text = String::from_utf8_lossy(self.bytes(id));
        if text.chars().any(char::is_control) {
            return text
                .chars()
                .flat_map(|c| {
                    if c.is_control() { Shown::Escaped(c.escape_default()) } else { Shown::Plain(Some(c)) }
                })
                .collect::<String>()
                .into();
        }
        text
    }

    /// The control token of this name, else the first other token of exactly this text, byte tokens last.
    ///
    /// Looks through the whole vocabulary unless it is a control token: for set-up, not for every token.
    pub fn id(&self, name: &str) -> Option<u32> {
        let name = name.as_bytes();
        let find = |byte: bool| {
            let mut all = 0..self.len() as u32;
            all.find(|&id| (self.kind(id) == Kind::Byte) == byte && self.bytes(id) == name)
        };
        self.specials.id(&self.vocab, name).or_else(|| find(false)).or_else(|| find(true))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.vocab.len()
    }

    /// Always false: a vocabulary without tokens is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a sequence. Others may end an answer too: [`Tokenizer::is_end`].
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether the model was trained with [`Tokenizer::bos`] in front of every text.
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Whether the model was trained with [`Tokenizer::eos`] after every text. Prompts do not want it.
    pub fn add_eos(&self) -> bool {
        self.add_eos && self.eos.is_some()
    }

    /// Whether a generated token ends the answer: end of sequence, turn or message.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// All tokens that end an answer, in order.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// What a token is for. [`Kind::Unused`] outside the vocabulary.
    pub fn kind(&self, id: u32) -> Kind {
        self.vocab.kind(id)
    }

    /// Whether a token steers the model and is no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.kind(id) == Kind::Control
    }

    /// Names and ids of the control tokens, in the order of the names' bytes.
    pub fn specials(&self) -> impl ExactSizeIterator<Item = (&[u8], u32)> {
        self.specials.control().iter().map(|&id| (self.bytes(id), id))
    }

    /// Whether texts start with a space that is not theirs.
    pub(crate) fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}

#[derive(Default)]
struct Buffers {
    work: Work,
    spaced: String,
}

/// A character as it is or escaped.
enum Shown {
    Plain(Option<char>),
    Escaped(std::char::EscapeDefault),
}

impl Iterator for Shown {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Shown::Plain(c) => c.take(),
            Shown::Escaped(escape) => escape.next(),
        }
    }
}

/// Puts `text` into `out` with `▁` for every space, one more in front if `prefix`.
fn mark_spaces(prefix: bool, text: &str, out: &mut String) {
    out.clear();
    if prefix {
        out.push_str(SPACE_MARK);
    }
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            out.push_str(SPACE_MARK);
        }
        out.push_str(word);
    }
}

/// `tokenizer.ggml.scores`: one finite value per token.
fn scores(file: &gguf::Gguf, tokens: usize) -> Result<Cow<'_, [f32]>, Error> {
    let key = "tokenizer.ggml.scores";
    let scores = file.f32s(key)?;
    check_len(file, key, scores.len(), tokens)?;
    if let Some(id) = scores.iter().position(|score| !score.is_finite()) {
        let fault = format!("has the score {}", scores[id]);
        return Err(Error::Token { file: file.name().into(), id, fault });
    }
    Ok(scores)
}
