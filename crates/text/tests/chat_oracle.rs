//! Published chat templates, rendered as Python's Jinja renders them.
//!
//! The templates are third parties' and stay outside the repository, so the expected texts are made when
//! the test runs: by the Python in `JETSON_LLM_PYTHON` (it needs jinja2), with `oracle_chat/render.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};
use text::chat::{Chat, Message, Request, Specials};

/// 2024-07-27 12:34:56 UTC, as in `render.py`.
const NOW: i64 = 1_722_083_696;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle_chat")
}

fn specials() -> Specials {
    Specials { bos: Some("<s>".into()), eos: Some("</s>".into()), ..Specials::default() }
}

fn render(chat: &Chat, case: &Value) -> Result<String, String> {
    let messages: Vec<Message> = case["messages"]
        .as_array()
        .expect("a case has messages")
        .iter()
        .map(|message| Message::from(message.as_object().expect("a message is an object").clone()))
        .collect();
    let request = Request {
        tools: case.get("tools"),
        documents: case.get("documents"),
        add_generation_prompt: case.get("add_generation_prompt").is_none_or(|flag| flag == true),
        arguments: case.get("arguments").and_then(Value::as_object).cloned().unwrap_or_else(Map::new),
        now: Some(NOW),
        ..Request::new(&messages)
    };
    chat.render(&request).map(|prompt| prompt.text()).map_err(|err| err.to_string())
}

fn templates(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of templates can be read") {
        let path = entry.expect("the folder of templates can be read").path();
        if path.is_dir() {
            found.extend(templates(&path));
        } else if path.extension().is_some_and(|extension| extension == "jinja") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn published_templates_render_as_in_python() {
    let Some(shared) = testkit::shared("fixtures/templates") else {
        eprintln!("skipped: shared fixtures not found");
        return;
    };
    let Ok(python) = std::env::var("JETSON_LLM_PYTHON") else {
        eprintln!("skipped: JETSON_LLM_PYTHON names no Python with jinja2");
        return;
    };
    let paths = templates(&shared);
    let cases = folder().join("cases.json");
    let output = Command::new(python)
        .arg(folder().join("render.py"))
        .arg(&cases)
        .args(&paths)
        .output()
        .expect("JETSON_LLM_PYTHON can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_slice(&output.stdout).expect("render.py prints JSON");
    let cases: Map<String, Value> =
        serde_json::from_slice(&std::fs::read(cases).expect("cases.json is committed"))
            .expect("cases.json is JSON");

    let (mut agreed, mut total, mut lists) = (0, 0, 0);
    let mut wrong = Vec::new();
    for (path, results) in &expected {
        let source = std::fs::read_to_string(path).expect("the template can be read");
        let name = Path::new(path).file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        let chat = Chat::from_source(&name, &source, specials()).expect("published templates are valid");
        for (case, result) in results {
            total += 1;
            let ours = render(&chat, &cases[case]);
            let theirs = result.get("ok").and_then(Value::as_str);
            match (&ours, theirs) {
                (Ok(ours), Some(theirs)) if ours == theirs => agreed += 1,
                (Err(_), None) => agreed += 1,
                // Python's `map` makes a generator, which its JSON refuses; ours makes a list.
                (Ok(_), None)
                    if result["error"]
                        .as_str()
                        .is_some_and(|err| err.contains("type generator is not JSON")) =>
                {
                    lists += 1;
                }
                _ => {
                    wrong.push(format!(
                        "{name} / {case}\n  ours   {ours:?}\n  theirs {theirs:?} {:?}",
                        result.get("error")
                    ));
                }
            }
        }
    }
    eprintln!(
        "{agreed} of {total} renderings agree, {lists} are lists to us only, {} templates",
        expected.len()
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}
