//! What pictures share: one style for light and dark readers, text that cannot leave its place.
//!
//! Plain SVG without scripts. Text and rules take the colours of the reader's light or dark theme; the
//! palette stands out from both, and black text can be read on it.

use std::fmt::Write as _;

/// Colours of bars and lines.
const PALETTE: [&str; 8] =
    ["#56b4e9", "#e69f00", "#2fb58d", "#d98ab5", "#e8743b", "#b8a900", "#9d8df1", "#9a9a9a"];

const STYLE: &str = "\
svg { color-scheme: light dark; background: #ffffff; font: 13px system-ui, sans-serif }\n\
text { fill: #1f2328 } .soft { fill: #59636e } .rule { stroke: #59636e } .back { fill: #59636e; opacity: .15 }\n\
.title { font-size: 17px; font-weight: 600 } .head { font-size: 14px; font-weight: 600 } .in { fill: #111111 }\n\
@media (prefers-color-scheme: dark) {\n\
svg { background: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 } .rule { stroke: #9198a1 }\n\
.back { fill: #9198a1 } .in { fill: #111111 } }";

/// A picture: `label` says in words what it shows, `body` is its elements.
pub(crate) fn document(width: f64, height: f64, label: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n{body}</svg>\n",
        escaped(label)
    )
}

/// The colour of the `i`th thing; the last is that of all others.
pub(crate) fn colour(i: usize) -> &'static str {
    PALETTE[i.min(PALETTE.len() - 1)]
}

/// Words that begin at a place.
pub(crate) fn text(body: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(words));
}

/// As XML wants it; names come from files.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escaped("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    }
}
