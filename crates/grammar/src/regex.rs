//! Regular expressions, looked over before they are compiled.

use regex_syntax::ast::parse::ParserBuilder;

use crate::limits::Limits;

/// Largest count of a repetition.
const REPEAT: u64 = 10_000;

/// Most characters that repetitions within repetitions ask for together.
const PRODUCT: u64 = 100_000;

/// Whether a pattern is small enough and shallow enough to be compiled; the reason if not.
pub(crate) fn check(pattern: &str, limits: &Limits) -> Result<(), String> {
    if pattern.len() > limits.regex_bytes {
        return Err(format!("a pattern is longer than {} bytes; shorten it", limits.regex_bytes));
    }
    repetitions(pattern, limits)?;
    let parsed = ParserBuilder::new().nest_limit(4 * limits.depth as u32).build().parse(pattern);
    parsed.map(drop).map_err(|error| {
        format!("{} at character {} of the pattern", error.kind(), error.span().start.column)
    })
}

/// Bounds what repetitions multiply to; what is no pattern is for the parser to say.
fn repetitions(pattern: &str, limits: &Limits) -> Result<(), String> {
    let mut groups: Vec<u64> = vec![1];
    let mut largest = 1u64;
    let mut class = false;
    let bytes = pattern.as_bytes();
    let mut at = 0;
    // The count that the last closed group holds.
    let mut closed = 1;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        match byte {
            b'\\' => {
                at += 1;
                closed = 1;
            }
            b']' if class => class = false,
            _ if class => {}
            b'[' => {
                class = true;
                closed = 1;
                // A bracket that comes first is a character.
                if bytes.get(at) == Some(&b'^') {
                    at += 1;
                }
                if bytes.get(at) == Some(&b']') {
                    at += 1;
                }
            }
            b'(' => {
                groups.push(1);
                if groups.len() > limits.depth {
                    return Err(format!("parentheses are nested more than {} deep", limits.depth));
                }
            }
            b')' => {
                closed = if groups.len() > 1 { groups.pop().unwrap_or(1) } else { 1 };
                if let Some(outer) = groups.last_mut() {
                    *outer = (*outer).max(closed);
                }
            }
            b'{' => {
                let end =
                    bytes[at..].iter().position(|&byte| byte == b'}').map_or(bytes.len(), |end| at + end);
                let counts = pattern.get(at..end).unwrap_or_default();
                for count in counts.split(',').map(str::trim).filter(|count| !count.is_empty()) {
                    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
                        break;
                    }
                    let count = count.parse::<u64>().unwrap_or(u64::MAX);
                    if count > REPEAT {
                        return Err(format!("a repetition counts beyond {REPEAT}; use a smaller count"));
                    }
                    let product = closed.saturating_mul(count.max(1));
                    largest = largest.max(product);
                    if let Some(group) = groups.last_mut() {
                        *group = (*group).max(product);
                    }
                }
                if largest > PRODUCT {
                    return Err(format!("repetitions within each other count beyond {PRODUCT} together"));
                }
            }
            b'*' | b'+' | b'?' => {}
            _ => closed = 1,
        }
    }
    Ok(())
}

/// A pattern for text from beginning to end: anchors that say so again go.
pub(crate) fn whole(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    match pattern.strip_suffix('$') {
        // An odd number of backslashes makes it a dollar.
        Some(rest) if (rest.len() - rest.trim_end_matches('\\').len()) % 2 == 0 => rest,
        _ => pattern,
    }
}
