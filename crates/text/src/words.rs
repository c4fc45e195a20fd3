//! The expressions of the pre-tokenizers, matched by hand. See `split.rs` for why and for who uses them.

use crate::split::{Step, Text};
use crate::unicode::{LETTER, LOWER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL, UPPER};

/// ```text
/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// ```
pub(crate) fn gpt2(text: Text<'_>, at: usize) -> Step {
    if let Some(end) = contraction(text, at, false) {
        return Step::Match(end);
    }
    let body = after_space(text, at);
    if let Some((_, class, _)) = text.at(body) {
        for same in [LETTER, NUMBER] {
            if class & same != 0 {
                return Step::Match(text.run(body, |_, class| class & same != 0));
            }
        }
        if class & SPACE == 0 {
            return Step::Match(text.run(body, |_, class| class & (SPACE | LETTER | NUMBER) == 0));
        }
    }
    Step::Match(spaces(text, at))
}

/// ```text
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// ```
pub(crate) fn llama3(text: Text<'_>, at: usize) -> Step {
    words(text, at, LETTER, 3)
}

/// Llama 3's expression with `\p{N}`: one digit at a time.
pub(crate) fn qwen2(text: Text<'_>, at: usize) -> Step {
    words(text, at, LETTER, 1)
}

/// Qwen 2's expression with `[\p{L}\p{M}]` for `\p{L}`: marks belong to words.
pub(crate) fn qwen35(text: Text<'_>, at: usize) -> Step {
    words(text, at, LETTER | MARK, 1)
}

fn words(text: Text<'_>, at: usize, letters: u8, digits: usize) -> Step {
    if let Some(end) = contraction(text, at, true) {
        return Step::Match(end);
    }
    let Some((c, class, next)) = text.at(at) else { return Step::Gap(at) };
    let is_letter = |_, class| class & letters != 0;
    if !line_end_char(c)
        && class & (LETTER | NUMBER) == 0
        && text.at(next).is_some_and(|(_, class, _)| is_letter(c, class))
    {
        return Step::Match(text.run(next, is_letter));
    }
    if is_letter(c, class) {
        return Step::Match(text.run(next, is_letter));
    }
    if class & NUMBER != 0 {
        return Step::Match(up_to(text, at, digits, |_, class| class & NUMBER != 0).1);
    }
    let is_other = |_, class| class & (SPACE | letters | NUMBER) == 0;
    if let Some(end) = after_optional_space(text, at, is_other) {
        return Step::Match(text.run(end, |c, _| line_end_char(c)));
    }
    Step::Match(lines_or_spaces(text, at))
}

/// ```text
/// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
/// |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
/// |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// ```
pub(crate) fn o200k(text: Text<'_>, at: usize) -> Step {
    cased(text, at, true, 3)
}

/// The o200k expression without contractions, one digit at a time.
pub(crate) fn tekken(text: Text<'_>, at: usize) -> Step {
    cased(text, at, false, 1)
}

fn cased(text: Text<'_>, at: usize, contractions: bool, digits: usize) -> Step {
    let Some((c, class, next)) = text.at(at) else { return Step::Gap(at) };
    let prefixed = (!line_end_char(c) && class & (LETTER | NUMBER) == 0).then_some(next);
    // An optional prefix is tried before none, and the first alternative before the second.
    let word = prefixed
        .and_then(|start| lower_ended(text, start))
        .or_else(|| lower_ended(text, at))
        .or_else(|| prefixed.and_then(|start| upper_started(text, start)))
        .or_else(|| upper_started(text, at));
    if let Some(end) = word {
        let suffix = if contractions { contraction(text, end, true) } else { None };
        return Step::Match(suffix.unwrap_or(end));
    }
    if class & NUMBER != 0 {
        return Step::Match(up_to(text, at, digits, |_, class| class & NUMBER != 0).1);
    }
    if let Some(end) = after_optional_space(text, at, |_, class| class & (SPACE | LETTER | NUMBER) == 0) {
        return Step::Match(text.run(end, |c, _| line_end_char(c) || c == '/'));
    }
    Step::Match(lines_or_spaces(text, at))
}

/// `[\p{Lm}\p{Lo}\p{M}]`: letters without case, and marks.
fn caseless(class: u8) -> bool {
    class & MARK != 0 || class & (LETTER | UPPER | LOWER) == LETTER
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
fn lower_ended(text: Text<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    let mut last_caseless = None;
    while let Some((_, class, next)) = text.at(at) {
        if caseless(class) {
            last_caseless = Some(next);
        } else if class & UPPER == 0 {
            break;
        }
        at = next;
    }
    let end = text.run(at, |_, class| caseless(class) || class & LOWER != 0);
    // Without a lower-case letter the first part gives back characters until one is caseless.
    if end > at { Some(end) } else { last_caseless }
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
fn upper_started(text: Text<'_>, start: usize) -> Option<usize> {
    let at = text.run(start, |_, class| caseless(class) || class & UPPER != 0);
    (at > start).then(|| text.run(at, |_, class| caseless(class) || class & LOWER != 0))
}

/// ```text
/// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// ```
/// Other characters, such as joiners and controls, match nothing and stay together.
pub(crate) fn deepseek3(text: Text<'_>, at: usize) -> Step {
    let Some((c, class, next)) = text.at(at) else { return Step::Gap(at) };
    if c.is_ascii_punctuation() {
        let end = text.run(next, |c, _| c.is_ascii_alphabetic());
        if end > next {
            return Step::Match(end);
        }
    }
    let is_letter = |_, class| class & (LETTER | MARK) != 0;
    if !line_end_char(c) && class & (LETTER | PUNCTUATION | SYMBOL) == 0 {
        let end = text.run(next, is_letter);
        if end > next {
            return Step::Match(end);
        }
    }
    if is_letter(c, class) {
        return Step::Match(text.run(next, is_letter));
    }
    if let Some(end) = after_optional_space(text, at, |_, class| class & (PUNCTUATION | SYMBOL) != 0) {
        return Step::Match(text.run(end, |c, _| line_end_char(c)));
    }
    if class & SPACE != 0 { Step::Match(lines_or_spaces(text, at)) } else { Step::Gap(next) }
}

/// `\p{N}`
pub(crate) fn number(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, 1, |_, class| class & NUMBER != 0)
}

/// `\p{N}+`
pub(crate) fn numbers(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, usize::MAX, |_, class| class & NUMBER != 0)
}

/// `\p{N}{1,3}`
pub(crate) fn up_to_three_numbers(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, 3, |_, class| class & NUMBER != 0)
}

/// `[0-9][0-9][0-9]`
pub(crate) fn three_digits(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 3, 3, |c, _| c.is_ascii_digit())
}

/// ``[\p{P}\$\+<=>\^~\|`]+``: Unicode's punctuation and ASCII's.
pub(crate) fn falcon_punctuation(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, usize::MAX, |c, class| class & PUNCTUATION != 0 || c.is_ascii_punctuation())
}

/// `[\p{P}\$\+<=>\^~\|]+`: the same without the grave accent.
pub(crate) fn punctuation(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, usize::MAX, |c, class| {
        class & PUNCTUATION != 0 || (c.is_ascii_punctuation() && c != '`')
    })
}

/// `[\r\n]`
pub(crate) fn line_end(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, 1, |c, _| line_end_char(c))
}

/// `[^\n]+|[\n]+`
pub(crate) fn lines(text: Text<'_>, at: usize) -> Step {
    let newline = text.text.as_bytes()[at] == b'\n';
    Step::Match(text.run(at, |c, _| (c == '\n') == newline))
}

/// `\s?\p{L}+`
pub(crate) fn spaced_letters(text: Text<'_>, at: usize) -> Step {
    spaced(text, at, |_, class| class & LETTER != 0)
}

/// `\s?\p{P}+`
pub(crate) fn spaced_punctuation(text: Text<'_>, at: usize) -> Step {
    spaced(text, at, |_, class| class & PUNCTUATION != 0)
}

/// `\s?[A-Za-zµÀ-Ö…]+`: the letters with case of Unicode 13, see [`CASED`].
pub(crate) fn spaced_cased_letters(text: Text<'_>, at: usize) -> Step {
    spaced(text, at, |c, _| c.is_ascii_alphabetic() || (!c.is_ascii() && within(CASED, c)))
}

/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`
pub(crate) fn spaced_wide_punctuation(text: Text<'_>, at: usize) -> Step {
    spaced(
        text,
        at,
        |c, _| matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3000}'..='。'),
    )
}

/// `\s+$`
pub(crate) fn trailing_spaces(text: Text<'_>, at: usize) -> Step {
    let end = text.run(at, |_, class| class & SPACE != 0);
    if end == at {
        return Step::Gap(text.run(at, |_, class| class & SPACE == 0));
    }
    if end == text.text.len() { Step::Match(end) } else { Step::Gap(end) }
}

/// `[一-龥ࠀ-一가-퟿]+`
pub(crate) fn east_asian(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, usize::MAX, |c, _| matches!(c, '\u{800}'..='龥' | '가'..='\u{d7ff}'))
}

/// `[一-龥぀-ゟ゠-ヿ]+`
pub(crate) fn han_and_kana(text: Text<'_>, at: usize) -> Step {
    repeated(text, at, 1, usize::MAX, |c, _| matches!(c, '一'..='龥' | '\u{3040}'..='ヿ'))
}

fn line_end_char(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// ` ?`, to be followed by something.
fn after_space(text: Text<'_>, at: usize) -> usize {
    if text.text.as_bytes()[at] == b' ' { at + 1 } else { at }
}

/// ` ?[wanted]+` for a set without spaces.
fn after_optional_space(text: Text<'_>, at: usize, wanted: impl Fn(char, u8) -> bool) -> Option<usize> {
    let body = after_space(text, at);
    let end = text.run(body, wanted);
    (end > body).then_some(end)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`. Without regard to case, ſ is an s.
fn contraction(text: Text<'_>, at: usize, any_case: bool) -> Option<usize> {
    let (first, rest) = text.text.as_bytes()[at..].split_first()?;
    if *first != b'\'' {
        return None;
    }
    let letter = |i: usize| {
        let byte = rest.get(i).copied().unwrap_or(0);
        if any_case { byte.to_ascii_lowercase() } else { byte }
    };
    match (letter(0), letter(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(at + 3),
        _ if any_case && rest.starts_with("ſ".as_bytes()) => Some(at + 3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: a run of spaces without the last one if a word follows and others are left.
fn spaces(text: Text<'_>, at: usize) -> usize {
    let (mut end, mut last) = (at, at);
    while let Some((_, class, next)) = text.at(end) {
        if class & SPACE == 0 {
            return if last > at { last } else { end };
        }
        last = end;
        end = next;
    }
    end
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
fn lines_or_spaces(text: Text<'_>, at: usize) -> usize {
    let (mut end, mut lines) = (at, at);
    while let Some((c, class, next)) = text.at(end) {
        if class & SPACE == 0 {
            break;
        }
        if line_end_char(c) {
            lines = next;
        }
        end = next;
    }
    if lines > at { lines } else { spaces(text, at) }
}

/// How many characters from `at` on are wanted, `most` at most, and where they end.
fn up_to(text: Text<'_>, mut at: usize, most: usize, wanted: impl Fn(char, u8) -> bool) -> (usize, usize) {
    let mut count = 0;
    while count < most {
        match text.at(at) {
            Some((c, class, next)) if wanted(c, class) => at = next,
            _ => break,
        }
        count += 1;
    }
    (count, at)
}

/// `[wanted]{least,most}`
fn repeated(text: Text<'_>, at: usize, least: usize, most: usize, wanted: impl Fn(char, u8) -> bool) -> Step {
    let (count, end) = up_to(text, at, most, &wanted);
    match count {
        0 => Step::Gap(text.run(at, |c, class| !wanted(c, class))),
        _ if count < least => Step::Gap(end),
        _ => Step::Match(end),
    }
}

/// `\s?[wanted]+`, where `wanted` may hold spaces.
fn spaced(text: Text<'_>, at: usize, wanted: impl Fn(char, u8) -> bool) -> Step {
    let Some((c, class, next)) = text.at(at) else { return Step::Gap(at) };
    let start = if class & SPACE != 0 && text.at(next).is_some_and(|(c, class, _)| wanted(c, class)) {
        next
    } else if wanted(c, class) {
        at
    } else {
        return Step::Gap(next);
    };
    Step::Match(text.run(start, wanted))
}

fn within(ranges: &[(char, char)], c: char) -> bool {
    let after = ranges.partition_point(|range| range.0 <= c);
    after > 0 && c <= ranges[after - 1].1
}

/// The non-ASCII part of DeepSeek LLM's list of letters with case.
#[rustfmt::skip]
const CASED: &[(char, char)] = &[
    ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'), ('\u{d8}', '\u{f6}'), ('\u{f8}', '\u{1ba}'),
    ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'), ('\u{295}', '\u{2af}'), ('\u{370}', '\u{373}'),
    ('\u{376}', '\u{376}'), ('\u{377}', '\u{377}'), ('\u{37b}', '\u{37d}'), ('\u{37f}', '\u{37f}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'), ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'), ('\u{48a}', '\u{52f}'), ('\u{531}', '\u{556}'),
    ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'),
    ('\u{1c90}', '\u{1cba}'), ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'),
    ('\u{1d6b}', '\u{1d77}'), ('\u{1d79}', '\u{1d9a}'), ('\u{1e00}', '\u{1f15}'),
    ('\u{1f18}', '\u{1f1d}'), ('\u{1f20}', '\u{1f45}'), ('\u{1f48}', '\u{1f4d}'),
    ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'),
    ('\u{1f5d}', '\u{1f5d}'), ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'),
    ('\u{1fb6}', '\u{1fbc}'), ('\u{1fbe}', '\u{1fbe}'), ('\u{1fc2}', '\u{1fc4}'),
    ('\u{1fc6}', '\u{1fcc}'), ('\u{1fd0}', '\u{1fd3}'), ('\u{1fd6}', '\u{1fdb}'),
    ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'),
    ('\u{2102}', '\u{2102}'), ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'),
    ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211d}'), ('\u{2124}', '\u{2124}'),
    ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'), ('\u{212a}', '\u{212d}'),
    ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'),
    ('\u{2145}', '\u{2149}'), ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2183}'),
    ('\u{2184}', '\u{2184}'), ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'),
    ('\u{2ceb}', '\u{2cee}'), ('\u{2cf2}', '\u{2cf2}'), ('\u{2cf3}', '\u{2cf3}'),
    ('\u{a640}', '\u{a66d}'), ('\u{a680}', '\u{a69b}'), ('\u{a722}', '\u{a76f}'),
    ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'),
    ('\u{fb00}', '\u{fb06}'), ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'),
    ('\u{ff41}', '\u{ff5a}'), ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'),
    ('\u{104d8}', '\u{104fb}'), ('\u{10c80}', '\u{10cb2}'), ('\u{10cc0}', '\u{10cf2}'),
    ('\u{118a0}', '\u{118df}'), ('\u{1e900}', '\u{1e943}'),
];
