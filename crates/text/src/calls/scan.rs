//! JSON, character by character.

/// Deepest nesting.
const DEPTH: usize = 128;

/// Where a value is, and whether it can be one.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// Open objects (`true`) and lists.
    open: Vec<bool>,
    at: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a value.
    #[default]
    Value,
    /// After `[`: a value or `]`.
    First,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After `,` in an object.
    Key,
    /// After a key.
    Colon,
    /// After a value within something.
    After,
    /// In a text; whether it is a key.
    Text(bool),
    /// After a backslash.
    Escape(bool),
    /// In the digits of `\u`, so many left.
    Unicode(bool, u8),
    /// In `true`, `false` or `null`: what is left of it.
    Word(&'static str),
    Number(Number),
    Done,
}

/// Where a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Sign,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What a character did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on.
    More,
    /// The value ended with this character.
    Ended,
    /// The value, a number, ended before this character.
    Before,
    /// It is no JSON.
    Bad,
}

impl Scan {
    /// Takes the next character of a value. Whitespace before it is fine.
    pub(super) fn push(&mut self, c: char) -> Step {
        let space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match self.at {
            At::Value | At::First | At::FirstKey | At::Key | At::Colon | At::After if space => Step::More,
            At::First if c == ']' => self.close(false),
            At::Value | At::First => self.begin(c),
            At::FirstKey if c == '}' => self.close(true),
            At::FirstKey | At::Key if c == '"' => self.go(At::Text(true)),
            At::Colon if c == ':' => self.go(At::Value),
            At::After => match (c, self.open.last()) {
                (',', Some(true)) => self.go(At::Key),
                (',', Some(false)) => self.go(At::Value),
                ('}', Some(true)) | (']', Some(false)) => self.close(c == '}'),
                _ => Step::Bad,
            },
            At::Text(key) => match c {
                '"' if key => self.go(At::Colon),
                '"' => self.ended(),
                '\\' => self.go(At::Escape(key)),
                c if c < ' ' => Step::Bad,
                _ => Step::More,
            },
            At::Escape(key) => match c {
                'u' => self.go(At::Unicode(key, 4)),
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => self.go(At::Text(key)),
                _ => Step::Bad,
            },
            At::Unicode(key, left) if c.is_ascii_hexdigit() => {
                self.go(if left == 1 { At::Text(key) } else { At::Unicode(key, left - 1) })
            }
            At::Word(rest) if rest.starts_with(c) => match &rest[1..] {
                "" => self.ended(),
                rest => self.go(At::Word(rest)),
            },
            At::Number(number) => self.number(number, c),
            _ => Step::Bad,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn begin(&mut self, c: char) -> Step {
        match c {
            '{' | '[' if self.open.len() == DEPTH => Step::Bad,
            '{' | '[' => {
                self.open.push(c == '{');
                self.go(if c == '{' { At::FirstKey } else { At::First })
            }
            '"' => self.go(At::Text(false)),
            't' => self.go(At::Word("rue")),
            'f' => self.go(At::Word("alse")),
            'n' => self.go(At::Word("ull")),
            '-' => self.go(At::Number(Number::Sign)),
            '0' => self.go(At::Number(Number::Zero)),
            '1'..='9' => self.go(At::Number(Number::Whole)),
            _ => Step::Bad,
        }
    }

    fn close(&mut self, object: bool) -> Step {
        if self.open.pop() == Some(object) { self.ended() } else { Step::Bad }
    }

    /// A value ended: the whole one, or one within.
    fn ended(&mut self) -> Step {
        self.at = if self.open.is_empty() { At::Done } else { At::After };
        if self.open.is_empty() { Step::Ended } else { Step::More }
    }

    fn number(&mut self, number: Number, c: char) -> Step {
        use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Point, Sign, Whole, Zero};
        let next = match (number, c) {
            (Sign, '0') => Zero,
            (Sign, '1'..='9') | (Whole, '0'..='9') => Whole,
            (Zero | Whole, '.') => Point,
            (Point | Fraction, '0'..='9') => Fraction,
            (Zero | Whole | Fraction, 'e' | 'E') => Exponent,
            (Exponent, '+' | '-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, '0'..='9') => ExponentDigits,
            (Zero | Whole | Fraction | ExponentDigits, _) => {
                if self.ended() == Step::Ended {
                    return Step::Before;
                }
                return self.push(c);
            }
            _ => return Step::Bad,
        };
        self.go(At::Number(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a text is one value, by the scanner.
    fn scans(text: &str) -> bool {
        let mut scan = Scan::default();
        let mut done = false;
        for c in text.chars() {
            if done {
                if !matches!(c, ' ' | '\n' | '\r' | '\t') {
                    return false;
                }
                continue;
            }
            match scan.push(c) {
                Step::More => {}
                Step::Ended => done = true,
                Step::Before if c.is_ascii_whitespace() && c != '\x0c' => done = true,
                Step::Before | Step::Bad => return false,
            }
        }
        // A number ends with the text.
        done || scan.push(' ') == Step::Before
    }

    fn known(text: &str) -> bool {
        // A number may be too large for a float, and half of a surrogate pair may stand alone.
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(_) => true,
            Err(error) => {
                let said = error.to_string();
                said.contains("out of range") || said.contains("surrogate") || said.contains("hex escape")
            }
        }
    }

    #[test]
    fn examples() {
        for text in ["{}", "[]", "0", "-0.5e+7", "\"\\u00e9\\n\"", " [1, {\"a\" : [ ] }, null , true] ", "1 "]
        {
            assert!(scans(text), "{text}");
        }
        for text in [
            "", "{", "01", "1.", "[1,]", "{,}", "{\"a\"}", "{\"a\":}", "tru", "'a'", "\"\n\"", "1 2", "-",
            "[}", "\"\\x\"",
        ] {
            assert!(!scans(text), "{text}");
        }
        assert!(!scans(&"[".repeat(DEPTH + 1)));
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_serde(text in r#"[\[\]{}:, "\\a0-9.eEtruflsn+-]{0,12}"#) {
            prop_assert_eq!(scans(&text), known(&text), "{}", text);
        }
    }
}
