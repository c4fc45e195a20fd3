//! The tokens of a file: what text each stands for and what kind it is.

use hashbrown::HashMap;

use crate::error::Error;

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A piece of text.
    Normal,
    /// Stands for text without a token.
    Unknown,
    /// Steers the model; never comes out of a user's text.
    Control,
    /// A piece of text found before all others, as it is written.
    UserDefined,
    /// Of no use.
    Unused,
    /// One byte of a character without a token.
    Byte,
}

/// How token names in the file stand for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// GPT-2's: a printable character for every byte.
    ByteLevel,
    /// SentencePiece's: `▁` for a space, `<0x0A>` for a byte.
    Spaced,
}

/// Longest token, bytes. Known vocabularies end near 500.
pub(crate) const LONGEST: usize = 4096;

/// The mark that stands for a space in [`Form::Spaced`].
pub(crate) const SPACE_MARK: &str = "▁";

/// The vocabulary without its algorithm.
pub(crate) struct Vocab {
    /// Texts of all tokens end to end.
    texts: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

impl Vocab {
    /// Reads `tokenizer.ggml.token_type` and checks the tokens.
    pub(crate) fn new(file: &gguf::Gguf, raw: gguf::Strings<'_>, form: Form) -> Result<Vocab, Error> {
        let wrong = |id, fault| Error::Token { file: file.name().into(), id, fault };
        if raw.is_empty() {
            return Err(file.wrong("tokenizer.ggml.tokens", "an array of at least 1 token").into());
        }
        let types = file.opt_i32s("tokenizer.ggml.token_type")?;
        if let Some(types) = &types {
            check_len(file, "tokenizer.ggml.token_type", types.len(), raw.len())?;
        }

        let mut vocab = Vocab {
            texts: Vec::with_capacity(raw.total_bytes()),
            ends: Vec::with_capacity(raw.len()),
            kinds: Vec::with_capacity(raw.len()),
        };
        let mut seen = HashMap::with_capacity(raw.len());
        for (id, token) in raw.iter().enumerate() {
            if token.len() > LONGEST {
                return Err(wrong(id, format!("is {} bytes long, over the limit of {LONGEST}", token.len())));
            }
            let kind = match types.as_ref().map_or(1, |types| types[id]) {
                0 | 1 => Kind::Normal,
                2 => Kind::Unknown,
                3 => Kind::Control,
                4 => Kind::UserDefined,
                5 => Kind::Unused,
                6 => Kind::Byte,
                other => return Err(wrong(id, format!("has type {other}, which is not one of 0 to 6"))),
            };
            // Empty tokens do occur and are never reached, whatever they are marked as; a control token
            // may still be named by its id. Any other text must name one token.
            if token.is_empty() {
                let kind = match kind {
                    Kind::Control | Kind::Unknown => kind,
                    Kind::Normal | Kind::UserDefined | Kind::Unused | Kind::Byte => Kind::Unused,
                };
                vocab.push(b"", kind);
                continue;
            }
            if let Some(first) = seen.insert(token, id) {
                return Err(wrong(id, format!("repeats token {first}, \"{}\"", token.escape_ascii())));
            }
            match kind {
                Kind::Byte => {
                    let byte = byte_of_name(token).ok_or_else(|| {
                        wrong(
                            id,
                            format!("is a byte named \"{}\", not <0x00> to <0xFF>", token.escape_ascii()),
                        )
                    })?;
                    vocab.push(&[byte], kind);
                }
                Kind::Normal | Kind::Unused => {
                    form.text(token, &mut vocab.texts);
                    vocab.end(kind);
                }
                Kind::Unknown | Kind::Control | Kind::UserDefined => vocab.push(token, kind),
            }
        }
        Ok(vocab)
    }

    fn push(&mut self, text: &[u8], kind: Kind) {
        self.texts.extend_from_slice(text);
        self.end(kind);
    }

    fn end(&mut self, kind: Kind) {
        self.ends.push(u32::try_from(self.texts.len()).expect("the strings of a header stay below 4 GiB"));
        self.kinds.push(kind);
    }

    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The text of a token, empty past the end of the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        let start = (id as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start as usize..end as usize]
    }

    /// The kind of a token; [`Kind::Unused`] past the end of the vocabulary.
    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: Kind) {
        self.kinds[id as usize] = kind;
    }

    /// Ids of all tokens of some kinds, in order.
    pub(crate) fn of_kinds(&self, kinds: &[Kind]) -> impl Iterator<Item = u32> {
        (0..self.len() as u32).filter(|&id| kinds.contains(&self.kind(id)))
    }

    /// The tokens named `<0x00>` to `<0xFF>`, `u32::MAX` where there is none.
    pub(crate) fn byte_tokens(&self) -> [u32; 256] {
        let mut tokens = [u32::MAX; 256];
        for id in self.of_kinds(&[Kind::Byte]) {
            if let &[byte] = self.bytes(id) {
                tokens[usize::from(byte)] = id;
            }
        }
        tokens
    }
}

/// Refuses a vocabulary that cannot write some character; bytes that UTF-8 never uses may lack.
pub(crate) fn check_bytes(file: &gguf::Gguf, tokens: &[u32; 256]) -> Result<(), Error> {
    let used = |byte: u8| !matches!(byte, 0xC0 | 0xC1 | 0xF5..);
    match (0..=255).find(|&byte| used(byte) && tokens[usize::from(byte)] == u32::MAX) {
        Some(byte) => Err(Error::MissingByte { file: file.name().into(), byte }),
        None => Ok(()),
    }
}

/// Refuses an array that does not have one value per token.
pub(crate) fn check_len(
    file: &gguf::Gguf,
    key: &'static str,
    found: usize,
    tokens: usize,
) -> Result<(), Error> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::Length { file: file.name().into(), key, found, tokens })
}

impl Form {
    /// Appends the text of a token that stands for text.
    fn text(self, token: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::ByteLevel => {
                let start = out.len();
                if !undo(token, out) {
                    // Not in GPT-2's alphabet: added by hand, and meant as it is written.
                    out.truncate(start);
                    out.extend_from_slice(token);
                }
            }
            Form::Spaced => {
                let mut rest = token;
                while let Some(at) = find(rest, SPACE_MARK.as_bytes()) {
                    out.extend_from_slice(&rest[..at]);
                    out.push(b' ');
                    rest = &rest[at + SPACE_MARK.len()..];
                }
                out.extend_from_slice(rest);
            }
        }
    }

    /// The string that merging sees for a token's name, in place of what `out` held; `false` if no text
    /// becomes it.
    pub(crate) fn symbol(self, token: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        match self {
            Form::ByteLevel => undo(token, out),
            Form::Spaced => {
                out.extend_from_slice(token);
                true
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Undoes GPT-2's naming of bytes: printable Latin-1 stands for itself, the other bytes in order for
/// the characters from U+0100 on.
fn undo(token: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(token) = std::str::from_utf8(token) else { return false };
    for c in token.chars() {
        let byte = match c {
            '!'..='~' | '¡'..='¬' | '®'..='ÿ' => c as u32,
            '\u{100}'..='\u{120}' => c as u32 - 0x100,
            '\u{121}'..='\u{142}' => c as u32 - 0x121 + 0x7F,
            '\u{143}' => 0xAD,
            _ => return false,
        };
        out.push(byte as u8);
    }
    true
}

/// `<0x0A>` → 10.
fn byte_of_name(name: &[u8]) -> Option<u8> {
    let digits = name.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let whole = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| whole)?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_names_of_bytes() {
        // The construction of GPT-2: printable bytes are themselves, the rest count up from 256.
        let mut next = 256;
        for byte in 0..=255u8 {
            let name = if matches!(byte, 33..=126 | 161..=172 | 174..=255) {
                byte as char
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            };
            let mut out = Vec::new();
            assert!(undo(name.to_string().as_bytes(), &mut out));
            assert_eq!(out, [byte]);
        }
        assert!(!undo("\u{144}".as_bytes(), &mut Vec::new()));
        assert!(!undo(b" ", &mut Vec::new()));
    }

    #[test]
    fn names_of_byte_tokens() {
        assert_eq!(byte_of_name(b"<0x0A>"), Some(10));
        assert_eq!(byte_of_name(b"<0xff>"), Some(255));
        for bad in ["<0x0>", "<0x0AA>", "<0xG0>", "0x0A", "<0x+1>", "<0x\u{e9}>"] {
            assert_eq!(byte_of_name(bad.as_bytes()), None, "{bad}");
        }
    }
}
