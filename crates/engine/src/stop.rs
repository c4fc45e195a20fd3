//! Stop strings, found across the borders of tokens.
//!
//! A stop string ends the text where it is first complete; of several complete at one place the longest
//! counts. Text that may still become a stop string is held back, so nothing of one is ever delivered,
//! and where the borders of tokens lie changes nothing.

use crate::Error;

/// Looks for stop strings in text that arrives in pieces.
#[derive(Debug, Default)]
pub struct Stops {
    strings: Vec<String>,
    /// Text not yet delivered.
    held: String,
    /// Bytes at the start of `held` that were searched for ends of stop strings.
    searched: usize,
    /// Whether one was found.
    found: bool,
}

impl Stops {
    /// Looks for `strings` in text whose pieces have at most `piece` bytes.
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty string.
    pub fn new(strings: &[String], piece: usize) -> Result<Stops, Error> {
        if strings.iter().any(String::is_empty) {
            let want = "strings of at least one character";
            return Err(Error::Setting { field: "stop", value: "\"\"".to_owned(), want });
        }
        let longest = strings.iter().map(String::len).max().unwrap_or(0);
        let held = String::with_capacity(longest + piece);
        Ok(Stops { strings: strings.to_vec(), held, searched: 0, found: false })
    }

    /// Where the next piece of text is to be appended.
    ///
    /// Call [`Stops::ready`] after every piece and [`Stops::delivered`] with what it gave.
    pub fn text(&mut self) -> &mut String {
        &mut self.held
    }

    /// How many bytes of the text may be delivered, and whether a stop string ended it.
    pub fn ready(&mut self) -> (usize, bool) {
        if self.found {
            return (0, true);
        }
        let bytes = self.held.as_bytes();
        for end in self.searched + 1..=bytes.len() {
            let ending = self.strings.iter().filter(|stop| bytes[..end].ends_with(stop.as_bytes()));
            if let Some(longest) = ending.map(String::len).max() {
                self.found = true;
                return (end - longest, true);
            }
        }
        self.searched = bytes.len();
        (bytes.len() - self.partial(), false)
    }

    /// The longest end of the text that a stop string begins with.
    fn partial(&self) -> usize {
        let bytes = self.held.as_bytes();
        let longest = |stop: &String| {
            let most = (stop.len() - 1).min(bytes.len());
            (1..=most).rev().find(|&len| bytes.ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
        };
        self.strings.iter().map(longest).max().unwrap_or(0)
    }

    /// The text held now.
    pub fn held(&self) -> &str {
        &self.held
    }

    /// Drops the first `bytes` of the text.
    pub fn delivered(&mut self, bytes: usize) {
        self.held.drain(..bytes);
        self.searched -= bytes.min(self.searched);
    }

    /// The text still held back at the end: all of it, or nothing once a stop string was found.
    pub fn rest(&self) -> &str {
        if self.found { "" } else { &self.held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All of `pieces` through the matcher: the text delivered and whether it stopped.
    fn run(strings: &[String], pieces: &[String]) -> (String, bool) {
        let mut stops = Stops::new(strings, 16).expect("no string is empty");
        let mut out = String::new();
        for piece in pieces {
            stops.text().push_str(piece);
            let (ready, stopped) = stops.ready();
            out.push_str(&stops.held()[..ready]);
            stops.delivered(ready);
            if stopped {
                return (out, true);
            }
        }
        out.push_str(stops.rest());
        (out, false)
    }

    /// The definition, on the whole text.
    fn naive(strings: &[String], text: &str) -> (String, bool) {
        let ends = (0..=text.len()).filter(|&end| text.is_char_boundary(end));
        for end in ends {
            let ending = strings.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    #[test]
    fn text_before_a_stop_is_delivered_and_failed_matches_too() {
        let stops = ["\nUser:".to_owned()];
        let pieces = |pieces: &[&str]| pieces.iter().map(|&piece| piece.to_owned()).collect::<Vec<_>>();
        assert_eq!(run(&stops, &pieces(&["four", "\nUs", "er", ": hi"])), ("four".to_owned(), true));
        assert_eq!(run(&stops, &pieces(&["a\nUs", "a\n", "\nUse"])), ("a\nUsa\n\nUse".to_owned(), false));
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let error = Stops::new(&[String::new()], 4).expect_err("it would stop everything");
        assert_eq!(error.to_string(), "stop is \"\", but must be strings of at least one character");
    }

    proptest! {
        #[test]
        fn matches_the_definition(
            strings in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abcé]{0,4}", 0..12),
        ) {
            let text: String = pieces.concat();
            prop_assert_eq!(run(&strings, &pieces), naive(&strings, &text));
        }

        #[test]
        fn nothing_is_held_longer_than_needed(
            strings in prop::collection::vec("[ab]{1,4}", 0..4),
            pieces in prop::collection::vec("[abc]{0,4}", 0..12),
        ) {
            let mut stops = Stops::new(&strings, 16).expect("no string is empty");
            for piece in &pieces {
                stops.text().push_str(piece);
                let (ready, stopped) = stops.ready();
                stops.delivered(ready);
                if stopped {
                    break;
                }
                let held = stops.held();
                prop_assert!(held.is_empty() || strings.iter().any(|stop| stop.starts_with(held)));
            }
        }
    }
}
