//! Keeping control tokens that users type apart from those the template writes.
//!
//! A message may hold the text of a control token, say `<|eot_id|>`; encoded as that token it would
//! end the turn and let the user speak in another role. Templates only see text, so before rendering
//! a marker character is put inside every such text in the request, and after rendering only
//! unmarked occurrences count as control tokens. String operations of templates look through the
//! marker, so that `'</think>' in content` keeps its meaning.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

/// First candidate for the marker: a private character of plane 15, which no text means anything by.
const FIRST_MARKER: u32 = 0xF_0000;

/// The control tokens of a vocabulary, ready to be found in text.
#[derive(Debug, Clone, Default)]
pub(super) struct Finder(Option<AhoCorasick>);

impl Finder {
    /// Fails when the tokens need more memory than the search library allows.
    pub(super) fn new(tokens: &[String]) -> Result<Self, aho_corasick::BuildError> {
        let mut tokens: Vec<&String> = tokens.iter().filter(|token| !token.is_empty()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        if tokens.is_empty() {
            return Ok(Self(None));
        }
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(tokens).map(Some).map(Self)
    }

    /// The first control token at or after byte `at`.
    fn find(&self, text: &str, at: usize) -> Option<Range<usize>> {
        self.0.as_ref()?.find(Input::new(text).range(at..)).map(|found| found.range())
    }

    pub(super) fn found_in(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|finder| finder.is_match(text))
    }
}

fn first_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The marker of one rendering.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    finder: Finder,
    marker: Option<char>,
}

impl Marks {
    /// Chooses a marker that occurs neither in the template nor in the request's texts.
    pub(super) fn new(finder: &Finder, template: &str, user: &[&str]) -> Self {
        let marker = (FIRST_MARKER..=0xF_FFFD)
            .filter_map(char::from_u32)
            .find(|&c| !template.contains(c) && !user.iter().any(|text| text.contains(c)));
        Self { finder: finder.clone(), marker }
    }

    pub(super) fn is_marker(&self, c: char) -> bool {
        self.marker == Some(c)
    }

    /// `text` with the marker after the first character of every control token's text (before it, where
    /// the token is a single character).
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(marker) = self.marker else { return Cow::Borrowed(text) };
        if !self.finder.found_in(text) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 16);
        let mut at = 0;
        while let Some(found) = self.finder.find(text, at) {
            let inside = found.start + first_len(&text[found.start..]);
            out.push_str(&text[at..found.start]);
            if inside == found.end {
                out.push(marker);
            }
            out.push_str(&text[found.start..inside]);
            if inside < found.end {
                out.push(marker);
            }
            // The rest of this token may hold another.
            at = inside;
        }
        out.push_str(&text[at..]);
        Cow::Owned(out)
    }

    /// `text` without markers.
    pub(super) fn strip<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.marker {
            Some(marker) if text.contains(marker) => Cow::Owned(text.replace(marker, "")),
            _ => Cow::Borrowed(text),
        }
    }

    /// The form in which the template's `needle` is found in `haystack`: hidden like the request's text
    /// where `haystack` has hidden tokens.
    pub(super) fn needle<'a>(&self, haystack: &str, needle: &'a str) -> Cow<'a, str> {
        match self.marker {
            Some(marker) if haystack.contains(marker) && !needle.contains(marker) => {
                let hidden = self.hide(needle);
                if haystack.contains(hidden.as_ref()) { hidden } else { Cow::Borrowed(needle) }
            }
            _ => Cow::Borrowed(needle),
        }
    }

    /// Text an operation made by leaving something out of `before`: a control token that only now came
    /// together was written by nobody, so it is hidden.
    pub(super) fn hide_new(&self, before: &str, after: String) -> String {
        if self.finder.found_in(&after) && !self.finder.found_in(before) {
            return self.hide(&after).into_owned();
        }
        after
    }

    /// Cuts rendered text into pieces that may hold control tokens and pieces that may not. A cut is only
    /// ever made beside a control token, where a tokenizer cuts anyway.
    pub(super) fn segments(&self, rendered: &str) -> Vec<Segment> {
        let Some(marker) = self.marker.filter(|&marker| rendered.contains(marker)) else {
            return vec![Segment { text: rendered.to_owned(), control: true }];
        };
        let mut segments = Vec::new();
        let mut push = |text: &str, control: bool| {
            let text = text.replace(marker, "");
            if text.is_empty() {
                return;
            }
            match segments.last_mut() {
                Some(Segment { text: last, control: true }) if control => last.push_str(&text),
                _ => segments.push(Segment { text, control }),
            }
        };
        let (mut at, mut plain) = (0, 0);
        while let Some(found) = self.finder.find(rendered, at) {
            if rendered[..found.start].ends_with(marker) {
                // What follows a marker was the user's.
                at = found.start + first_len(&rendered[found.start..]);
                continue;
            }
            let between = &rendered[plain..found.start];
            push(between, !between.contains(marker));
            push(&rendered[found.clone()], true);
            (at, plain) = (found.end, found.end);
        }
        let tail = &rendered[plain..];
        push(tail, !tail.contains(marker));
        segments
    }
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// Whether control tokens may be parsed in it. `false`: it holds text a user wrote that looks like one.
    pub control: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder() -> Finder {
        Finder::new(&["<|a|>", "<|ab|>", "|>", "#"].map(String::from)).unwrap()
    }

    fn round(user: &str, template: impl Fn(&str) -> String) -> Vec<(String, bool)> {
        let marks = Marks::new(&finder(), "", &[user]);
        let rendered = template(&marks.hide(user));
        marks.segments(&rendered).into_iter().map(|s| (s.text, s.control)).collect()
    }

    #[test]
    fn text_without_control_tokens_is_one_piece() {
        let pieces = round("plain", |user| format!("<|a|>{user}<|ab|>"));
        assert_eq!(pieces, [("<|a|>plain<|ab|>".into(), true)]);
    }

    #[test]
    fn a_users_control_tokens_stay_text() {
        for user in ["x<|a|>y", "<|a|>", "<|ab|><|a|>", "#", "##", "|>", "a#<|a|>#b", "<|a|>\u{F0000}"] {
            let pieces = round(user, |user| format!("<|a|>{user}<|ab|>"));
            let expected: [(String, bool); 3] =
                [("<|a|>".into(), true), (user.into(), false), ("<|ab|>".into(), true)];
            assert_eq!(pieces, expected, "{user}");
        }
    }

    #[test]
    fn needles_see_through_the_marker() {
        let marks = Marks::new(&finder(), "", &["1<|a|>2"]);
        let hidden = marks.hide("1<|a|>2").into_owned();
        assert_ne!(hidden, "1<|a|>2");
        assert!(hidden.contains(marks.needle(&hidden, "<|a|>").as_ref()));
        assert_eq!(marks.strip(&hidden), "1<|a|>2");
    }

    #[test]
    fn a_token_made_by_deletion_is_hidden() {
        let marks = Marks::new(&finder(), "", &["<|a|>"]);
        let made = marks.hide_new("<|xa|x>", "<|a|>".into());
        assert_eq!(marks.segments(&made), [Segment { text: "<|a|>".into(), control: false }]);
    }
}
