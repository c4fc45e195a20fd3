//! Reasoning and calls in answers: the forms of all templates, whole and in pieces.

use proptest::prelude::*;
use serde_json::{Value, json};
use text::calls::{Collected, Format, Options, Parser, Piece, collect};

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "code": {"type": "string"}}}}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

/// A template's words for each format, and its name.
const SOURCES: &[(&str, &str)] = &[
    ("hermes", "tools <tool_call>{\"name\": …}</tool_call> <think></think>"),
    ("qwen3-coder", "tools <tool_call><function=a><parameter=b> <think>"),
    ("seed", "tools <seed:tool_call><function=a><parameter=b> <seed:think>"),
    ("functionary", "tools <function=a>{}</function>"),
    ("mistral", "tools [TOOL_CALLS]name[ARGS]{} [THINK]"),
    ("mistral-list", "tools [TOOL_CALLS]"),
    ("llama3", "tools <|start_header_id|> \"parameters\" tool_calls"),
    ("functools", "tools functools["),
    ("phi4", "tools <|tool|> <|/tool|>"),
    ("granite", "tools <|tool_call|>"),
    ("nemotron", "tools <TOOLCALL>[]</TOOLCALL> <think>"),
    ("command", "tools <|START_ACTION|> <|START_THINKING|>"),
    ("tool-calls", "tools <tool_calls>[]</tool_calls>"),
    ("generic", "nothing"),
];

fn format(name: &str) -> Format {
    let (_, source) = SOURCES.iter().find(|(known, _)| *known == name).expect("it is in the list");
    let format = Format::of_source(source);
    assert_eq!(format.name(), name);
    format
}

fn parse(name: &str, text: &str) -> Collected {
    let tools = tools();
    let options = Options { tools: Some(&tools), ..Options::default() };
    let whole = collect(&format(name), options, text);
    assert_eq!(pieces(name, text.chars().map(String::from)), whole, "one by one: {text:?}");
    whole
}

fn pieces(name: &str, parts: impl Iterator<Item = String>) -> Collected {
    let tools = tools();
    let mut parser = Parser::new(&format(name), Options { tools: Some(&tools), ..Options::default() });
    let mut collected = Collected::default();
    let mut check = |piece: Piece<'_>| {
        match piece {
            Piece::Text(text) | Piece::Reasoning(text) | Piece::Arguments { text, .. } => {
                assert!(!text.is_empty());
            }
            Piece::Call { index, id, .. } => assert_eq!((index, id.len()), (collected.calls.len(), 9)),
            Piece::CallEnd { index, .. } => assert_eq!(index + 1, collected.calls.len()),
        }
        collected.add(piece);
    };
    for part in parts {
        parser.push(&part, &mut check);
    }
    parser.finish(&mut check);
    collected
}

/// Text, and each call's name, arguments and whether they are whole.
type Told<'a> = (&'a str, Vec<(&'a str, &'a str, bool)>);

fn told(collected: &Collected) -> Told<'_> {
    let calls = collected.calls.iter().map(|call| (&*call.name, &*call.arguments, call.complete));
    (&collected.text, calls.collect())
}

#[test]
fn calls_are_found_in_every_form() {
    let args = r#"{"city": "Zürich", "days": 3}"#;
    let call = ("weather", args, true);
    for (name, text, said, calls) in [
        ("hermes", format!("Hm.\n<tool_call>\n{{\"name\": \"weather\", \"arguments\": {args}}}\n</tool_call>"), "Hm.", vec![call]),
        ("hermes", format!("<tool_call>\n{{\"arguments\": {args}, \"name\": \"weather\"}}\n</tool_call>\n<tool_call>{{\"name\":\"now\"}}</tool_call>\n"), "", vec![call, ("now", "{}", true)]),
        ("hermes", format!("<tool_call>{{\"type\": \"function\", \"function\": {{\"name\": \"weather\", \"arguments\": {args}}}}}</tool_call>"), "", vec![call]),
        ("hermes", format!("<tool_call>{{\"name\": \"weather\", \"arguments\": {}}}</tool_call> done", json!(args)), "done", vec![call]),
        ("hermes", format!("<tool_call>[{{\"name\": \"weather\", \"arguments\": {args}}}, {{\"name\": \"now\", \"arguments\": null}}]"), "", vec![call, ("now", "{}", true)]),
        ("generic", format!("<tool_call>{{\"name\": \"weather\", \"arguments\": {args}}}"), "", vec![call]),
        ("llama3", format!("{{\"name\": \"weather\", \"parameters\": {args}}}"), "", vec![call]),
        ("llama3", format!("\n{{\"type\": \"function\", \"name\": \"weather\", \"parameters\": {args}}}; {{\"name\": \"now\", \"parameters\": {{}}}}"), "", vec![call, ("now", "{}", true)]),
        ("llama3", format!("<|python_tag|>{{\"name\": \"weather\", \"parameters\": {args}}}"), "", vec![call]),
        ("mistral-list", format!("[TOOL_CALLS][{{\"name\": \"weather\", \"arguments\": {args}, \"id\": \"abcdefghi\"}}, {{\"name\": \"now\", \"arguments\": {{}}}}]"), "", vec![call, ("now", "{}", true)]),
        ("mistral", format!("[TOOL_CALLS]weather[ARGS]{args}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{{}}"), "", vec![call, ("now", "{}", true)]),
        ("mistral", format!("[TOOL_CALLS][{{\"name\": \"weather\", \"arguments\": {args}}}]"), "", vec![call]),
        ("functools", format!(" functools[{{\"name\": \"weather\", \"arguments\": {args}}}]"), "", vec![call]),
        ("phi4", format!("<|tool_call|>[{{\"name\": \"weather\", \"arguments\": {args}}}]<|/tool_call|>"), "", vec![call]),
        ("granite", format!("<|tool_call|>[{{\"name\": \"weather\", \"arguments\": {args}}}]"), "", vec![call]),
        ("nemotron", format!("Well <TOOLCALL>[{{\"name\": \"weather\", \"arguments\": {args}}}]</TOOLCALL>"), "Well", vec![call]),
        ("command", format!("<|START_ACTION|>[\n    {{\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {args}}}\n]<|END_ACTION|>"), "", vec![call]),
        ("tool-calls", format!("<tool_calls>\n{{\"name\": \"weather\", \"arguments\": {args}}}\n{{\"name\": \"now\", \"arguments\": {{}}}}\n</tool_calls>"), "", vec![call, ("now", "{}", true)]),
        ("functionary", format!("<function=weather>{args}</function><function=now>{{}}</function>"), "", vec![call, ("now", "{}", true)]),
        ("qwen3-coder", "<tool_call>\n<function=weather>\n<parameter=city>\nZürich\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>".into(), "", vec![call]),
        ("qwen3-coder", format!("I see\n\n<tool_call>\n{{\"name\": \"weather\", \"arguments\": {args}}}\n</tool_call>"), "I see", vec![call]),
        ("qwen3-coder", "<function=weather>\n<parameter=code>\n17\n</parameter>\n<parameter=more>\n[1, {\"a\": 2}]\n</parameter></function>".into(), "", vec![("weather", r#"{"code": "17", "more": [1,{"a":2}]}"#, true)]),
        ("seed", "<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>".into(), "", vec![("now", "{}", true)]),
    ] {
        let collected = parse(name, &text);
        assert_eq!(told(&collected), (said, calls), "{name}: {text}");
    }
}

#[test]
fn what_is_no_call_is_text() {
    for (name, text) in [
        ("hermes", "plain <b>text</b>  \n"),
        ("hermes", "<tool_call>\nhello\n</tool_call>"),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": 7}</tool_call>"),
        ("hermes", "<tool_call>{\"nam\": \"weather\"}</tool_call>"),
        ("hermes", "<tool_call>{'name': 'weather'}</tool_call>"),
        ("hermes", "a <tool_call"),
        ("hermes", "<tool_call>"),
        ("hermes", " <tool_call>{\"name\": \"wea"),
        ("hermes", "<tool_call>{\"name\": \"\", \"arguments\": {}}"),
        ("hermes", "<tool_call>[]</tool_call>"),
        ("llama3", "{\"name\": \"nobody\", \"parameters\": {}}"),
        ("llama3", "{\"answer\": {\"name\": \"weather\"}, \"x\": [1]} and more"),
        ("llama3", "The JSON {\"name\": \"weather\", \"parameters\": {}}"),
        ("llama3", "<|python_tag|>weather.call(city=\"x\")"),
        ("llama3", "{"),
        ("mistral", "[TOOL_CALLS]no such thing"),
        ("mistral-list", "[TOOL_CALLS] weather"),
        ("functools", "functools are [useful]"),
        ("qwen3-coder", "<tool_call>\n<function=>\n</function>"),
        ("qwen3-coder", "<tool_call>\n<fun"),
        ("qwen3-coder", "x <function=we\nather>"),
        ("granite", "<|tool_call|>{[}]"),
    ] {
        let collected = parse(name, text);
        assert_eq!(told(&collected), (text, vec![]), "{name}");
    }
}

#[test]
fn what_follows_a_broken_call_is_text() {
    for (name, text, said, arguments, complete) in [
        (
            "hermes",
            "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": tru!}}</tool_call>",
            "!}}</tool_call>",
            "{\"city\": tru",
            false,
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Z",
            "",
            "{\"city\": \"Z",
            false,
        ),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": {}", "", "{}", true),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": {}} </tool_c", "", "{}", true),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": {}} </b>", "</b>", "{}", true),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": {}} so", "so", "{}", true),
        ("hermes", "<tool_call>{\"name\": \"weather\", \"arguments\": {}, so", "so", "{}", true),
        ("mistral", "[TOOL_CALLS]weather[ARGS]{} then", "then", "{}", true),
        (
            "qwen3-coder",
            "<function=weather>\n<parameter=city>\nx\n</parameter>oh",
            "oh",
            "{\"city\": \"x\"",
            false,
        ),
    ] {
        let collected = parse(name, text);
        assert_eq!(told(&collected), (said, vec![("weather", arguments, complete)]), "{name}: {text}");
    }
    // A call after one that was none.
    let collected = parse("hermes", "<tool_call> no <tool_call>{\"name\": \"now\"}</tool_call>");
    assert_eq!(told(&collected), ("<tool_call> no", vec![("now", "{}", true)]));
}

#[test]
fn reasoning_is_told_apart() {
    let tools = tools();
    let parsed = |name: &str, thinking, text: &str| {
        let collected = collect(&format(name), Options { tools: Some(&tools), thinking, seed: 1 }, text);
        (collected.reasoning, collected.text, collected.calls.len())
    };
    let expect = |reasoning: &str, text: &str, calls| (reasoning.to_owned(), text.to_owned(), calls);
    assert_eq!(
        parsed("hermes", false, "<think>\nWhy?\n\n</think>\n\nBecause."),
        expect("Why?", "Because.", 0)
    );
    assert_eq!(parsed("hermes", true, "Why?\n</think>\n\nBecause.\n"), expect("Why?", "Because.\n", 0));
    assert_eq!(parsed("hermes", false, "\n<think></think> x"), expect("", "x", 0));
    assert_eq!(parsed("hermes", true, "cut <off"), expect("cut <off", "", 0));
    assert_eq!(parsed("hermes", false, "I say <think> is a tag"), expect("", "I say <think> is a tag", 0));
    assert_eq!(parsed("llama3", true, "no marks"), expect("", "no marks", 0));
    let call = "<think>a</think>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    assert_eq!(parsed("hermes", false, call), expect("a", "", 1));
    assert_eq!(parsed("mistral", false, "[THINK]a[/THINK]b"), expect("a", "b", 0));
    assert_eq!(parsed("command", false, "<|START_THINKING|>a<|END_THINKING|>"), expect("a", "", 0));

    let hermes = format("hermes");
    for (prompt, thinking) in [
        ("<|im_start|>assistant\n<think>\n", true),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", false),
        ("é<think>", true),
        ("", false),
    ] {
        assert_eq!(hermes.starts_thinking(prompt), thinking, "{prompt}");
    }
    assert!(!format("llama3").starts_thinking("<think>"));
}

#[test]
fn without_tools_calls_are_text() {
    let text = "  <tool_call>{\"name\": \"now\"}</tool_call>\n";
    let collected = collect(&format("hermes"), Options::default(), text);
    assert_eq!(told(&collected), (text, vec![]));
    let collected = collect(&format("generic"), Options::default(), " {x} ");
    assert_eq!(told(&collected), (" {x} ", vec![]));
}

#[test]
fn ids_differ_between_calls_and_answers() {
    let tools = tools();
    let id = |seed, index: usize| {
        let text = "<tool_call>{\"name\": \"now\"}</tool_call>".repeat(2);
        let options = Options { tools: Some(&tools), thinking: false, seed };
        collect(&format("hermes"), options, &text).calls[index].id.clone()
    };
    let ids = [id(1, 0), id(1, 1), id(2, 0), id(2, 1)];
    for (i, one) in ids.iter().enumerate() {
        assert!(one.len() == 9 && one.chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(!ids[..i].contains(one));
    }
    assert_eq!(id(1, 0), ids[0]);
}

#[test]
fn long_texts_take_linear_time() {
    let n = 300_000;
    for (name, text) in [
        ("hermes", " ".repeat(n)),
        ("hermes", "<tool_call>".repeat(n / 11)),
        ("hermes", "<tool_cal".repeat(n / 9)),
        ("hermes", format!("<tool_call>{}", "[".repeat(n))),
        ("hermes", format!("<tool_call>{{\"name\": \"{}", "x".repeat(n))),
        ("hermes", format!("<tool_call>{{\"a\":{}", "[".repeat(n))),
        (
            "hermes",
            format!("<tool_call>{{\"name\":\"now\",\"arguments\":{{\"a\":\"{}", "<tool_call>".repeat(n / 11)),
        ),
        ("hermes", format!("<tool_call>{{\"name\":\"now\"}}{}", ",".repeat(n))),
        ("qwen3-coder", format!("<function=now>{}", "<parameter=a>x</parameter>".repeat(n / 26))),
        ("qwen3-coder", format!("<function=now><parameter=a>{}", "</parameter".repeat(n / 11))),
    ] {
        let began = std::time::Instant::now();
        let tools = tools();
        collect(&format(name), Options { tools: Some(&tools), ..Options::default() }, &text);
        assert!(began.elapsed().as_secs_f64() < 2.0, "{name}: {}", &text[..30]);
    }
}

#[test]
fn the_forms_of_known_templates() {
    let Some(folder) = testkit::shared("fixtures/templates") else { return };
    let of = |file: &str| {
        let source = std::fs::read_to_string(folder.join(file)).expect("the template is there");
        let format = Format::of_source(&source);
        (format.name(), format.thinks(), format.shows_tools())
    };
    for (file, name, thinks, shows) in [
        ("Qwen-Qwen2.5-7B-Instruct.jinja", "hermes", false, true),
        ("Qwen-Qwen3-0.6B.jinja", "hermes", true, true),
        ("more/qwen3.jinja", "hermes", true, true),
        ("more/smollm3.chat_template.jinja", "hermes", true, true),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "hermes", false, true),
        ("ibm-granite-granite-4.0.jinja", "hermes", false, true),
        ("Qwen3-Coder.jinja", "qwen3-coder", false, true),
        ("Qwen3.5-4B.jinja", "qwen3-coder", true, true),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja", "qwen3-coder", true, true),
        ("ByteDance-Seed-OSS.jinja", "seed", true, true),
        ("meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3", false, true),
        ("meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3", false, true),
        ("meta-llama-Llama-3.3-70B-Instruct.jinja", "llama3", false, true),
        ("mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral-list", false, true),
        ("Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral", false, true),
        ("mistralai-Ministral-3-14B-Reasoning-2512.jinja", "mistral", true, true),
        ("fireworks-ai-llama-3-firefunction-v2.jinja", "functools", false, true),
        ("more/phi-4-mini.jinja", "phi4", false, true),
        ("ibm-granite-granite-3.3-2B-Instruct.jinja", "granite", true, true),
        ("NVIDIA-Nemotron-Nano-v2.jinja", "nemotron", true, true),
        ("CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", "command", true, true),
        ("meetkai-functionary-medium-v3.1.jinja", "functionary", false, true),
        ("MiniMax-M1.jinja", "tool-calls", false, true),
        ("google-gemma-2-2b-it.jinja", "generic", false, false),
        ("more/gemma-3.jinja", "generic", false, false),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "generic", true, false),
    ] {
        assert_eq!(of(file), (name, thinks, shows), "{file}");
    }
}

/// Answers like those of models, whole and broken.
fn answers() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        "<think>",
        "</think>",
        "{\"name\": \"weather\", ",
        "\"arguments\": ",
        "{\"city\": \"Zü\\\"\"}",
        "}",
        "{",
        "[",
        "]",
        ",",
        ";",
        "\"name\"",
        ":",
        "\"now\"",
        "text",
        "<",
        "é日",
        "functools",
        "[TOOL_CALLS]",
        "[ARGS]",
        "weather",
        "<function=",
        "now>",
        "<parameter=",
        "city>",
        "</parameter>",
        "</function>",
        "{\"name\": \"now\", \"parameters\": {}}",
        "<|python_tag|>",
        "7",
        "\\",
        "\"",
        "null",
        "<|tool_call|>",
        "[CALL_ID]x",
    ]);
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn how_a_text_is_cut_changes_nothing(
        text in answers(),
        format in prop::sample::select(SOURCES.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
        cuts in prop::collection::vec(1usize..9, 1..20),
    ) {
        let whole = pieces(format, std::iter::once(text.clone()));
        let chars: Vec<char> = text.chars().collect();
        let mut rest = &chars[..];
        let parts: Vec<String> = cuts.iter().cycle().map_while(|&cut| {
            let (part, left) = rest.split_at(cut.min(rest.len()));
            rest = left;
            (!part.is_empty()).then(|| part.iter().collect())
        }).collect();
        prop_assert_eq!(&parts.concat(), &text);
        prop_assert_eq!(&pieces(format, parts.into_iter()), &whole);
        for call in &whole.calls {
            prop_assert!(!call.name.is_empty());
            prop_assert_eq!(call.complete, serde_json::from_str::<serde_json::Map<String, Value>>(&call.arguments).is_ok());
        }
        // Nothing is lost: without calls and marks of reasoning the text is all there.
        if whole.calls.is_empty() && whole.reasoning.is_empty() && !text.contains("think>") {
            prop_assert_eq!(&whole.text, &text);
        }
    }
}
