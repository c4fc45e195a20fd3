//! JSON for programs, also safe to look at on a terminal.

use std::io::{self, Write};

use serde_json::Value;

use crate::screen::is_unprintable;

/// Prints a value and a line feed.
pub(crate) fn print(value: &Value) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    io::stdout().write_all(escaped(&text).as_bytes())?;
    Ok(())
}

/// Escapes what serde_json leaves as it is and a terminal might obey; such characters occur only
/// inside strings, where JSON allows the escape.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unprintable(c) {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn escapes_stay_json() {
        let value = serde_json::json!({"a": "x\u{9b}31m\u{202e}y\u{7f}"});
        let text = escaped(&value.to_string());
        assert!(text.is_ascii());
        let back: serde_json::Value = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back, value);
    }
}
