//! Pre-tokenizers: how text is cut into pieces that BPE never joins, by `tokenizer.ggml.pre`.
//!
//! Published tokenizers give one or several regular expressions, applied one after the other; each cuts
//! the pieces of the one before into its matches and what lies between. Here every expression is a
//! matcher written by hand over character classes. They are about twenty lines each, need no
//! back-tracking (the look-ahead `\s+(?!\S)` is "all but the last space of a run"), so the time is
//! linear in the text whatever it holds, and they are several times faster than a regex engine with
//! look-around. The expressions are quoted where they are matched.
//!
//! Names and expressions are those of the published `tokenizer.json` files, to which llama.cpp's
//! converter gave the names. For o200k and Tekken llama.cpp approximates upper and lower case by ASCII;
//! we follow the published expression.

use crate::unicode::Classes;
use crate::vocab::Form;
use crate::words;

/// One expression of a pre-tokenizer.
pub(crate) type Stage = fn(Text<'_>, usize) -> Step;

/// What a stage finds at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A match up to here.
    Match(usize),
    /// No match starts before here.
    Gap(usize),
}

/// The text of one piece, with the classes of its characters. End of the piece is end of text for
/// every stage.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    pub(crate) classes: &'static Classes,
}

/// A character: itself, its class bits, where the next one starts.
pub(crate) type At = (char, u8, usize);

impl Text<'_> {
    /// The character at byte `at`, `None` at the end.
    #[inline]
    pub(crate) fn at(self, at: usize) -> Option<At> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte < 128 {
            let c = byte as char;
            return Some((c, self.classes.of(c), at + 1));
        }
        let c = self.text[at..].chars().next()?;
        Some((c, self.classes.of(c), at + c.len_utf8()))
    }

    /// Where the characters from `at` on stop satisfying `wanted`.
    #[inline]
    pub(crate) fn run(self, mut at: usize, wanted: impl Fn(char, u8) -> bool) -> usize {
        while let Some((c, class, next)) = self.at(at) {
            if !wanted(c, class) {
                break;
            }
            at = next;
        }
        at
    }
}

/// How a BPE vocabulary splits text, and what else its name implies.
pub(crate) struct Pre {
    /// Values of `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Expressions in order.
    pub(crate) stages: &'static [Stage],
    /// A piece that is a token is that token, whatever the merges would make of it.
    pub(crate) whole: bool,
    /// Whether a prompt starts with the beginning-of-sequence token where the file does not say.
    pub(crate) add_bos: bool,
    /// What merging works on.
    pub(crate) form: Form,
    /// Digits are set apart after bytes got GPT-2's names, so halves of characters count as digits.
    pub(crate) digit_names: bool,
}

/// Every pre-tokenizer. A new name goes here; a new expression goes to `words.rs`.
const TABLE: &[Pre] = &[
    pre(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[words::llama3],
    )
    .whole()
    .bos(),
    pre(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[words::llama3]),
    pre(&["glm4"], &[words::llama3]).whole(),
    pre(
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "kormo", "solar-open", "grok-2"],
        &[words::qwen2],
    ),
    pre(&["qwen35"], &[words::qwen35]),
    pre(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[words::o200k]),
    pre(&["tekken"], &[words::tekken]).whole().bos(),
    pre(
        &["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "a.x-4.0", "mellum", "trillion"],
        &[words::gpt2],
    ),
    pre(
        &["starcoder", "smollm", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[words::number, words::gpt2],
    ),
    pre(&["falcon"], &[words::falcon_punctuation, words::gpt2, words::three_digits]).digit_names(),
    pre(&["default"], &[words::punctuation, words::gpt2, words::numbers, words::three_digits]),
    pre(
        &["deepseek-llm"],
        &[
            words::line_end,
            words::spaced_cased_letters,
            words::spaced_wide_punctuation,
            words::trailing_spaces,
            words::east_asian,
            words::numbers,
        ],
    ),
    pre(
        &["deepseek-coder"],
        &[
            words::line_end,
            words::spaced_letters,
            words::spaced_punctuation,
            words::east_asian,
            words::number,
        ],
    ),
    pre(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[words::up_to_three_numbers, words::han_and_kana, words::deepseek3],
    ),
    pre(&["gemma4"], &[words::lines]).bos().spaced(),
];

const fn pre(names: &'static [&'static str], stages: &'static [Stage]) -> Pre {
    Pre { names, stages, whole: false, add_bos: false, form: Form::ByteLevel, digit_names: false }
}

impl Pre {
    const fn whole(mut self) -> Pre {
        self.whole = true;
        self
    }

    const fn bos(mut self) -> Pre {
        self.add_bos = true;
        self
    }

    const fn spaced(mut self) -> Pre {
        self.form = Form::Spaced;
        self
    }

    const fn digit_names(mut self) -> Pre {
        self.digit_names = true;
        self
    }

    /// The pre-tokenizer of a name.
    pub(crate) fn find(name: &str) -> Option<&'static Pre> {
        TABLE.iter().find(|pre| pre.names.contains(&name))
    }

    /// All names, for messages.
    pub(crate) fn known() -> String {
        TABLE.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", ")
    }

    /// Cuts `text` into pieces, in order and without loss.
    pub(crate) fn split<'a>(&self, text: &'a str, mut emit: impl FnMut(&'a str)) {
        pieces(self.stages, text, Classes::get(), &mut emit);
    }
}

/// Recursion is as deep as there are stages, six at most.
fn pieces<'a>(stages: &[Stage], text: &'a str, classes: &'static Classes, emit: &mut impl FnMut(&'a str)) {
    let Some((stage, rest)) = stages.split_first() else {
        emit(text);
        return;
    };
    let (mut at, mut gap) = (0, 0);
    while at < text.len() {
        match stage(Text { text, classes }, at) {
            Step::Gap(next) => at = next,
            Step::Match(end) => {
                if gap < at {
                    pieces(rest, &text[gap..at], classes, emit);
                }
                pieces(rest, &text[at..end], classes, emit);
                at = end;
                gap = end;
            }
        }
    }
    if gap < text.len() {
        pieces(rest, &text[gap..], classes, emit);
    }
}
