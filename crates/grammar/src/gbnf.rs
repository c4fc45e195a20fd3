//! llama.cpp's grammar notation, translated to Lark.
//!
//! `name ::= alternatives`, texts in double quotes, classes of characters in brackets, `.`, groups, `*`, `+`,
//! `?`, `{m,n}`, comments after `#`. The first rule is `root`.

use std::collections::HashMap;

use crate::error::Error;
use crate::lark::{place, quote};
use crate::limits::Limits;

/// Largest count of a repetition.
const REPEAT: u64 = 10_000;

/// The same grammar in Lark.
pub(crate) fn lark(source: &str, limits: &Limits) -> Result<String, Error> {
    if source.len() > limits.grammar_bytes {
        let fault = format!("it is larger than {} bytes; make it smaller", limits.grammar_bytes);
        return Err(Error::Grammar { line: 1, column: 1, fault });
    }
    let mut reader = Reader { source, at: 0, limits, names: HashMap::new(), rules: Vec::new() };
    reader.blank(true);
    while reader.at < source.len() {
        reader.rule()?;
        reader.blank(true);
    }
    let Some(&root) = reader.names.get("root") else {
        return Err(place(source, source.len(), "there is no rule named root; the text begins with it"));
    };
    let mut out = format!("start: r{root}\n");
    for (i, (used, body)) in reader.rules.iter().enumerate() {
        let Some(body) = body else {
            let name = reader.names.iter().find(|&(_, &index)| index == i).map_or("", |(name, _)| name);
            return Err(place(source, *used, format!("the rule {name} is not defined")));
        };
        out.extend([&*format!("r{i}: "), body, "\n"]);
    }
    Ok(out)
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
    limits: &'a Limits,
    names: HashMap<&'a str, usize>,
    /// Where each rule was first met, and its expression once it was defined.
    rules: Vec<(usize, Option<String>)>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn fault(&self, fault: &str) -> Error {
        place(self.source, self.at, fault)
    }

    /// Past spaces and comments, and line ends if `lines`.
    fn blank(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let spaces = |c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'));
            self.at += rest.len() - rest.trim_start_matches(spaces).len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn take(&mut self, mark: &str) -> bool {
        let there = self.rest().starts_with(mark);
        self.at += if there { mark.len() } else { 0 };
        there
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    fn index(&mut self, name: &'a str, at: usize) -> usize {
        let next = self.names.len();
        let index = *self.names.entry(name).or_insert(next);
        if index == self.rules.len() {
            self.rules.push((at, None));
        }
        index
    }

    fn rule(&mut self) -> Result<(), Error> {
        let at = self.at;
        let name =
            self.name().ok_or_else(|| self.fault("a rule's name must be here, of letters, digits and -"))?;
        self.blank(false);
        if !self.take("::=") {
            return Err(self.fault("::= must follow a rule's name"));
        }
        let index = self.index(name, at);
        if self.rules[index].1.is_some() {
            return Err(place(self.source, at, format!("the rule {name} is defined twice")));
        }
        self.blank(true);
        let body = self.alternatives(0)?;
        self.rules[index].1 = Some(body);
        let end = self.rest();
        if !end.is_empty() && !end.starts_with(['\n', '\r']) {
            return Err(self.fault("a line must end here"));
        }
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<String, Error> {
        if depth > self.limits.depth {
            let fault = format!("it is nested more than {} deep; use rules of their own", self.limits.depth);
            return Err(self.fault(&fault));
        }
        let mut out = String::new();
        loop {
            out.push_str(&self.sequence(depth)?);
            // A line may go on with |.
            let before = self.at;
            self.blank(true);
            if !self.take("|") {
                if depth == 0 {
                    self.at = before;
                }
                return Ok(out);
            }
            self.blank(true);
            out.push_str(" | ");
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<String, Error> {
        let mut items: Vec<String> = Vec::new();
        loop {
            self.blank(depth > 0);
            let start = self.at;
            let Some(first) = self.rest().chars().next() else { break };
            let item = match first {
                '"' => quote(&self.text()?),
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    "/(?s:.)/".to_owned()
                }
                '(' => {
                    self.at += 1;
                    let inner = self.alternatives(depth + 1)?;
                    self.blank(true);
                    if !self.take(")") {
                        return Err(self.fault("the ) of a group is missing"));
                    }
                    format!("({inner})")
                }
                '*' | '+' | '?' | '{' => return Err(self.fault("there is nothing before it to repeat")),
                '<' | '!' => return Err(self.fault("tokens cannot be named here; write text in quotes")),
                c if c.is_ascii_alphanumeric() => {
                    let name = self.name().unwrap_or_default();
                    format!("r{}", self.index(name, start))
                }
                _ => break,
            };
            let repeat = self.repeat()?;
            items.push(item + &repeat);
        }
        Ok(if items.is_empty() { "\"\"".to_owned() } else { items.join(" ") })
    }

    fn repeat(&mut self) -> Result<String, Error> {
        for mark in ["*", "+", "?"] {
            if self.take(mark) {
                return Ok(mark.to_owned());
            }
        }
        if !self.take("{") {
            return Ok(String::new());
        }
        let end = self.rest().find('}').ok_or_else(|| self.fault("the } of a count is missing"))?;
        let counts = &self.rest()[..end];
        let (least, most) = counts.split_once(',').map_or((counts, Some(counts)), |(least, most)| {
            (least, Some(most).filter(|most| !most.trim().is_empty()))
        });
        let number = |count: &str| {
            let count = count.trim();
            if count.is_empty() { Some(0) } else { count.parse::<u64>().ok() }
        };
        let (Some(least), Some(most)) =
            (number(least), most.map_or(Some(None), |most| number(most).map(Some)))
        else {
            return Err(self.fault("counts are {3}, {3,} or {3,5}"));
        };
        if least.max(most.unwrap_or(0)) > REPEAT {
            return Err(self.fault(&format!("counts beyond {REPEAT} are not supported")));
        }
        if most.is_some_and(|most| most < least) {
            return Err(self.fault("the first count is above the second"));
        }
        self.at += end + 1;
        Ok(match most {
            Some(most) => format!("{{{least},{most}}}"),
            None => format!("{{{least},}}"),
        })
    }

    fn text(&mut self) -> Result<String, Error> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            match self.rest().chars().next() {
                Some('"') => {
                    self.at += 1;
                    return Ok(out);
                }
                None | Some('\n') => {
                    return Err(place(self.source, start, "the \" that ends this is missing"));
                }
                Some(_) => out.push(self.character()?),
            }
        }
    }

    /// One character, perhaps escaped.
    fn character(&mut self) -> Result<char, Error> {
        let mut chars = self.rest().chars();
        let c = chars.next().ok_or_else(|| self.fault("a character is missing"))?;
        if c != '\\' {
            self.at += c.len_utf8();
            return Ok(c);
        }
        let escaped = chars.next().ok_or_else(|| self.fault("a character is missing after \\"))?;
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let meant = if digits > 0 {
            let hex = self.rest().get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let meant = hex.and_then(char::from_u32);
            meant.ok_or_else(|| {
                self.fault(&format!("{digits} hexadecimal digits of a character must follow \\{escaped}"))
            })?
        } else {
            match escaped {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '"' | '[' | ']' | '\\' | '-' | '^' => escaped,
                _ => return Err(self.fault("this escape is not known; write \\\\ for a backslash")),
            }
        };
        self.at += 1 + escaped.len_utf8() + digits;
        Ok(meant)
    }

    /// A class of characters as a regular expression.
    fn class(&mut self) -> Result<String, Error> {
        use std::fmt::Write as _;
        let start = self.at;
        self.at += 1;
        let mut out = String::from(if self.take("^") { "/[^" } else { "/[" });
        let mut any = false;
        loop {
            let missing = || place(self.source, start, "the ] that ends this is missing");
            match self.rest().chars().next() {
                Some(']') => {
                    self.at += 1;
                    if !any {
                        return Err(place(self.source, start, "a class of no characters matches nothing"));
                    }
                    out.push_str("]/");
                    return Ok(out);
                }
                None | Some('\n') => return Err(missing()),
                Some(_) => {
                    let first = self.character()?;
                    let ranged = self.rest().starts_with('-') && !self.rest().starts_with("-]");
                    self.at += usize::from(ranged);
                    let last = if ranged { self.character()? } else { first };
                    if last < first {
                        return Err(self.fault("the range is the wrong way round"));
                    }
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{{{:x}}}-\\u{{{:x}}}", first as u32, last as u32);
                    any = true;
                }
            }
        }
    }
}
