//! Small templates and what Python's Jinja makes of them, from `oracle_chat/snippets.py`.

use serde_json::Value;
use text::chat::{Chat, Request, Specials};

/// 2024-07-27 12:34:56 UTC, as in `render.py`.
const NOW: i64 = 1_722_083_696;

/// Snippets that differ from Python on purpose, and what they give here (`None`: an error).
const DIFFERENT: &[(&str, Option<&str>)] = &[
    // Python's own objects, which mean nothing in a prompt.
    ("{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}", Some("1")),
    ("{{ n.real is defined }}", Some("False")),
    ("{{ 'a'.join.__globals__ }}", None),
    ("{{ self }}", Some("")),
    ("{{ 'a'|attr('upper') is defined }}", Some("False")),
    ("{{ lipsum is defined }}", Some("False")),
    ("{{ cycler is defined }}", Some("False")),
    // Views of a dict are lists.
    ("{{ d.keys() }}", Some("['b', 'a', 'items']")),
    // `1` and `true` are one key to Python.
    ("{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}", Some(r#"{"1": 2, "null": 3, "true": 4, "1.5": 5}"#)),
    // Jinja does not count `raw` among the blocks after which it drops a line end.
    ("{% raw %}\n  {{ x }}\n{% endraw %}\nz", Some("  {{ x }}\nz")),
];

fn render(source: &str, variables: &Value) -> Result<String, String> {
    let specials = Specials { bos: Some("<s>".into()), eos: Some("</s>".into()), ..Specials::default() };
    let request = Request {
        arguments: variables.as_object().expect("variables are an object").clone(),
        now: Some(NOW),
        ..Request::new(&[])
    };
    let chat = Chat::from_source("snippet", source, specials).map_err(|err| err.to_string())?;
    chat.render(&request).map(|prompt| prompt.text()).map_err(|err| err.to_string())
}

#[test]
fn snippets_give_what_python_gives() {
    let file: Value =
        serde_json::from_str(include_str!("oracle_chat/snippets.json")).expect("snippets.json is JSON");
    let mut wrong = Vec::new();
    let snippets = file["snippets"].as_array().expect("snippets are an array");
    for snippet in snippets {
        let source = snippet[0].as_str().expect("a snippet is text");
        let ours = render(source, &file["variables"]);
        let expected = match DIFFERENT.iter().find(|(different, _)| *different == source) {
            Some((_, expected)) => *expected,
            None => snippet[1].as_str(),
        };
        if ours.as_deref().ok() != expected {
            wrong.push(format!("{source}\n  ours   {ours:?}\n  python {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}
