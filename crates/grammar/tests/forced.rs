//! Calls that are asked for: written in the model's own format, and read back as calls.

mod common;

use common::{BUILT_IN, compile, follows, validate, write};
use grammar::Source;
use serde_json::{Value, json};
use text::calls::{Choice, Format, Options, Shape, collect};

const SOURCES: &[&str] = &[
    "tools <tool_call>{\"name\": …}</tool_call> <think></think>",
    "tools <function=a>{}</function>",
    "tools [TOOL_CALLS]name[ARGS]{}",
    "tools [TOOL_CALLS]",
    "tools <|start_header_id|> \"parameters\" tool_calls",
    "tools functools[",
    "tools <|tool|> <|/tool|>",
    "tools <TOOLCALL>[]</TOOLCALL>",
    "tools <|START_ACTION|>",
    "tools <tool_calls>[]</tool_calls>",
    "no t**ls",
];

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"$ref": "#/$defs/days"}},
            "required": ["city", "days"], "additionalProperties": false, "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 14}}}}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

fn forced(source: &str, choice: &Choice, parallel: bool, thinking: bool) -> Shape {
    let format = Format::of_source(source);
    format.forced(&BUILT_IN, &tools(), choice, parallel, thinking).expect("the tools are good")
}

#[test]
fn what_is_written_is_the_call_that_was_asked_for() {
    let tools = tools();
    let mut written = 0;
    for source in SOURCES {
        for (choice, parallel) in [
            (Choice::Required, true),
            (Choice::Required, false),
            (Choice::Named("weather".to_owned()), false),
        ] {
            let rules = compile(&Source::Shape(forced(source, &choice, parallel, false)))
                .unwrap_or_else(|error| panic!("{source}: {error}"));
            for seed in 0..3 {
                let Some(text) = write(&BUILT_IN, &rules, seed, 50) else { continue };
                written += 1;
                let options = Options { tools: Some(&tools), ..Options::default() };
                let answer = collect(&Format::of_source(source), options, &text);
                assert_eq!(answer.text, "", "{source}: {text}");
                assert!(
                    !answer.calls.is_empty() && (parallel || answer.calls.len() == 1),
                    "{source}: {text}"
                );
                for call in &answer.calls {
                    let arguments: Value =
                        serde_json::from_str(&call.arguments).expect("the arguments are JSON");
                    let tool = tools
                        .as_array()
                        .expect("a list")
                        .iter()
                        .find(|tool| tool["function"]["name"] == call.name);
                    let schema = tool.expect("the tool is known")["function"].get("parameters");
                    assert!(
                        schema.is_none_or(|schema| validate::valid(schema, schema, &arguments)),
                        "{text}"
                    );
                    assert!(choice == Choice::Required || call.name == "weather", "{text}");
                }
            }
        }
    }
    assert!(written > 80, "only {written} answers came to an end");
}

#[test]
fn reasoning_comes_first_and_tags_hold_texts() {
    let hermes = SOURCES[0];
    let rules = compile(&Source::Shape(forced(hermes, &Choice::Required, false, true))).expect("it is plain");
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    for (text, good) in [
        (format!("Let me see. <b> </thin\n</think>\n\n{call}"), true),
        (format!("</think>\n\n{call}"), true),
        (call.to_owned(), false),
        ("no</think>\n\nHello".to_owned(), false),
    ] {
        assert_eq!(follows(&BUILT_IN, &rules, &text), Some(good), "{text}");
    }

    let coder = "tools <tool_call><function=a><parameter=b>";
    let rules = compile(&Source::Shape(forced(coder, &Choice::Named("weather".to_owned()), false, false)));
    let rules = rules.expect("it is plain");
    let call = |days: &str| {
        format!(
            "<tool_call>\n<function=weather>\n<parameter=city>\nSão <b>\nPaulo\n</parameter>\n<parameter=days>\n{days}\n</parameter>\n</function>\n</tool_call>"
        )
    };
    for (days, good) in [("3", true), ("15", false), ("x", false)] {
        assert_eq!(follows(&BUILT_IN, &rules, &call(days)), Some(good), "{days}");
    }
    let tools = tools();
    let answer =
        collect(&Format::of_source(coder), Options { tools: Some(&tools), ..Options::default() }, &call("3"));
    assert_eq!(answer.calls[0].arguments, "{\"city\": \"São <b>\\nPaulo\", \"days\": 3}");
}

#[test]
fn control_tokens_come_only_where_a_shape_names_them() {
    let (_, control) = BUILT_IN
        .specials()
        .find(|(name, id)| name.starts_with(b"<|start_header") && !BUILT_IN.is_end(*id))
        .expect("the vocabulary has it");
    let shape = Shape::Sequence(vec![
        Shape::UntilToken(control),
        Shape::Token(control),
        Shape::Text("ok".to_owned()),
    ]);
    let rules = compile(&Source::Shape(shape)).expect("it is plain");
    let mut constraint = rules.0.start();
    let mut allowed = |then: Option<u32>| {
        if let Some(token) = then {
            constraint.accept(token).expect("it was allowed");
        }
        let mut scores = vec![0.0f32; BUILT_IN.len()];
        constraint.mask(&mut scores).expect("it goes on");
        let controls = BUILT_IN
            .specials()
            .map(|(_, id)| id)
            .filter(|&id| scores[id as usize] == 0.0)
            .collect::<Vec<_>>();
        (controls, scores.iter().filter(|&&score| score == 0.0).count())
    };
    let a = BUILT_IN.id("a").expect("it is a token");
    let (controls, count) = allowed(None);
    assert!(controls == [control] && count > 1000);
    assert_eq!(allowed(Some(a)).0, [control]);
    assert_eq!(allowed(Some(control)), (vec![control], 1));
    let (controls, count) = allowed(Some(control));
    assert!(controls.is_empty() && (1..=3).contains(&count), "only ok, in one token or two");
}

#[test]
fn bad_tools_and_choices_are_refused() {
    let format = Format::of_source(SOURCES[0]);
    let refused = |tools: Value, choice: Choice| {
        format.forced(&BUILT_IN, &tools, &choice, true, false).expect_err("it is refused").to_string()
    };
    let nobody = Choice::Named("nobody\n".to_owned());
    assert_eq!(
        refused(tools(), nobody),
        "tool_choice names nobody\\n, which is not one of tools; add it or name another"
    );
    for bad in [json!([]), json!(null), json!([{"type": "function"}]), json!([{"function": {"name": 7}}])] {
        assert!(refused(bad, Choice::Required).contains("no function"));
    }
    for bad in ["a b", "", "a\"b", "<tool_call>", "a\u{0}"] {
        let tools = json!([{"type": "function", "function": {"name": bad}}]);
        assert!(refused(tools, Choice::Required).contains("the tool's name"), "{bad}");
    }
    let long = json!([{"type": "function", "function": {"name": "x".repeat(10 << 10)}}]);
    assert!(refused(long, Choice::Required).len() < 300);

    // What is wrong with parameters is found when the shape is compiled.
    for parameters in
        [json!({"not": {}}), json!({"type": "array", "minItems": -1}), json!({"$ref": "#/$defs/x"})]
    {
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": parameters}}]);
        let shape =
            format.forced(&BUILT_IN, &tools, &Choice::Required, true, false).expect("the names are good");
        let error = compile(&Source::Shape(shape)).expect_err("it is refused");
        assert!(error.path().is_some_and(|path| path.starts_with("/properties/arguments")), "{error}");
    }
    // A thousand tools, and names that come twice.
    let many: Vec<Value> = (0..1000).map(|i| json!({"function": {"name": format!("tool{}", i % 999), "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}})).collect();
    let shape =
        format.forced(&BUILT_IN, &json!(many), &Choice::Required, true, false).expect("the names are good");
    let began = std::time::Instant::now();
    let compiled = compile(&Source::Shape(shape));
    assert!(began.elapsed().as_secs_f64() < 3.0, "{:?}: {:?}", began.elapsed(), compiled.err());
}
