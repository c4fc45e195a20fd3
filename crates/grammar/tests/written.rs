//! What is written by rules is valid, whatever the scores, the vocabulary and the chance.

mod common;

use common::{BUILT_IN, compile, follows, grammars, tokenizer, validate, write};
use engine::{Engine, Event, Finish, Params, Sampling};
use grammar::{Limits, Source};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::fake::{FakeRunner, fake_options, fake_plan};

/// Schemas of the kinds that people send.
fn schemas() -> Vec<Value> {
    vec![
        json!({}),
        json!(true),
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
               "required": ["name", "age"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}}, "additionalProperties": {"type": "number"}}),
        json!({"type": "array", "items": {"enum": ["red", "green", 7, null, true, 1.5, {"x": [1]}]}, "minItems": 2, "maxItems": 5}),
        json!({"type": "array", "prefixItems": [{"type": "string", "maxLength": 3}, {"const": 5}], "items": false, "minItems": 2}),
        json!({"type": "string", "minLength": 3, "maxLength": 6}),
        json!({"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"}),
        json!({"type": "string", "pattern": "b+"}),
        json!({"type": "integer", "minimum": -17, "maximum": 1234}),
        json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10, "multipleOf": 3}),
        json!({"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25}),
        json!({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 9}),
        json!({"type": "number"}),
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "string", "maxLength": 4}, {"type": "integer"}, {"type": "object", "required": ["k"]}]}),
        json!({"oneOf": [{"type": "string"}, {"type": "boolean"}]}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a", "b"], "properties": {"b": {"type": "string"}}}]}),
        json!({"const": {"a": [1, "two", {"three": null}]}}),
        json!({"type": "object", "patternProperties": {"^n_": {"type": "integer"}, "^s_": {"type": "string"}}, "additionalProperties": false}),
        json!({"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "properties": {"n_x": {"minimum": 4}}, "required": ["n_x"]}),
        json!({"type": "object", "minProperties": 1, "maxProperties": 2}),
        json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"},
               "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["value", "next"], "additionalProperties": false}}}),
        json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 3}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"__proto__": {"type": "integer"}, "": {"const": 1}, "q\"uo\\te\n": {"type": "null"}, "é日": true},
               "required": ["__proto__", "", "q\"uo\\te\n", "é日"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "id": {"format": "uuid", "type": "string"}, "ip": {"type": "string", "format": "ipv4"}},
               "required": ["when", "id", "ip"]}),
        json!({"enum": ["a", "ab", "abc", "b\u{7f}", "\u{1}", "\u{10ffff}"]}),
        json!({"components": {"schemas": {"P~/t": {"type": "integer", "minimum": 3}}}, "type": "array", "items": {"$ref": "#/components/schemas/P~0~1t"}, "minItems": 1}),
        json!({"title": "annotated", "description": "d", "x-guidance": {"lenient": true}, "type": "object", "nullable": true,
               "properties": {"n": {"type": "integer", "default": 5, "examples": [1], "deprecated": true, "uniqueItems": false, "format": "int32"}}, "required": ["n"]}),
        json!({"type": "object", "properties": {"a": {"minimum": 5}}, "required": ["a"], "maxProperties": 1}),
        json!({"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, "maxItems": 2}, "maxItems": 2}),
    ]
}

fn check(schema: &Value, text: &str) {
    let value: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"));
    assert!(validate::valid(schema, schema, &value), "{text} is not valid by {schema}");
}

#[test]
fn what_is_written_is_valid() {
    let mut ended = 0;
    for schema in schemas() {
        let rules =
            compile(&Source::Schema(schema.clone())).unwrap_or_else(|error| panic!("{schema}: {error}"));
        for seed in 0..6 {
            if let Some(text) = write(&BUILT_IN, &rules, seed, 40) {
                check(&schema, &text);
                ended += 1;
            }
        }
    }
    assert!(ended > 150, "only {ended} texts came to an end");
}

#[test]
fn every_vocabulary_can_follow_rules() {
    let wanted = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "degrees": {"type": "integer", "minimum": -50, "maximum": 60}},
                        "required": ["city", "degrees"], "additionalProperties": false});
    for name in ["llama-bpe", "llama-spm", "qwen2", "gemma-4", "phi-3", "gpt-2", "falcon"] {
        let Some(path) = testkit::shared(&format!("fixtures/tokenizers/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let tokenizer = tokenizer(&path);
        let grammars = grammars(&tokenizer);
        let rules = grammars.compile(&Source::Schema(wanted.clone())).expect("the schema is plain");
        for seed in 0..4 {
            let text = write(&tokenizer, &rules, seed, 25).unwrap_or_else(|| panic!("{name} does not end"));
            check(&wanted, &text);
        }
        for (text, good) in [
            (r#"{"city": "Zürich 日", "degrees": -4}"#, true),
            ("{\n  \"city\": \"\\\"x\\\"\",\n  \"degrees\": 60\n}", true),
            (r#"{"city": "x", "degrees": 61}"#, false),
            (r#"{"city": "x"}"#, false),
            (r#"{"city": "x", "degrees": 6} and"#, false),
        ] {
            assert_eq!(follows(&tokenizer, &rules, text), Some(good), "{name}: {text}");
        }
    }
}

#[test]
fn the_engine_writes_valid_json_with_any_model() {
    let vocab = BUILT_IN.len() + 3;
    for (i, schema) in schemas().into_iter().enumerate() {
        let rules = compile(&Source::Schema(schema.clone())).expect("the schema is supported");
        for temperature in [0.0, 1.5] {
            let runner = FakeRunner::new(fake_plan(vocab, 600, &[None]), fake_options(16, 1, 1, 20));
            let mut engine =
                Engine::new(Box::new(runner), Some(BUILT_IN.clone()), Box::new(|| Duration::ZERO));
            let sampling = Sampling { temperature, seed: i as u64, ..Sampling::default() };
            let params =
                Params { sampling, rules: Some(rules.clone()), max_tokens: Some(200), ..Params::default() };
            let id = engine.start(&[1, 5, i as u32], &params).expect("it fits");
            let mut text = String::new();
            let told = &mut |event: Event<'_>| {
                if let Event::Text(more) = event {
                    text.push_str(more);
                }
            };
            let summary = engine.run(id, &|| false, told).expect("the fake is not lost");
            match summary.finish {
                Finish::Stop => check(&schema, &text),
                // Cut in the middle: what there is must be able to go on.
                Finish::Length => assert!(serde_json::from_str::<Value>(&text).is_err() || !text.is_empty()),
                Finish::Cancelled => panic!("nobody cancelled"),
            }
        }
    }
}

/// Schemas by chance, of keywords that go together.
fn any_schema() -> impl Strategy<Value = Value> {
    let bounds = (-40i64..40, 0i64..60);
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        bounds
            .clone()
            .prop_map(|(low, span)| json!({"type": "integer", "minimum": low, "maximum": low + span})),
        bounds.prop_map(
            |(low, span)| json!({"type": "number", "exclusiveMinimum": low, "maximum": low + span + 1})
        ),
        (0u64..4, 0u64..9).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        prop::sample::select(vec!["^[a-c]+$", "x|y", "^\\d{2,4}$", "[^a-z]", "^(foo|bar)?$", "\\w\\w"])
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        prop::collection::vec(any::<i8>(), 1..5).prop_map(|values| json!({"enum": values})),
        ".{0,6}".prop_map(|text| json!({"const": text})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0u64..3, 0u64..3).prop_map(|(items, least, more)| json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|items| json!({"type": "array", "minItems": items.len(), "prefixItems": items, "items": false})),
            prop::collection::vec((".{0,5}", inner.clone(), any::<bool>()), 0..4).prop_map(|fields| {
                let required: Vec<_> = fields.iter().filter(|field| field.2).map(|field| field.0.clone()).collect();
                let properties: serde_json::Map<_, _> = fields.into_iter().map(|(name, schema, _)| (name, schema)).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
            prop::collection::vec(inner, 1..4).prop_map(|options| json!({"anyOf": options})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_the_schema_what_is_written_is_valid(schema in any_schema(), seed: u64) {
        let rules = compile(&Source::Schema(schema.clone())).unwrap_or_else(|error| panic!("{schema}: {error}"));
        if let Some(text) = write(&BUILT_IN, &rules, seed, 30) {
            check(&schema, &text);
        }
    }
}

#[test]
fn expressions_choices_and_grammars_are_followed() {
    let written = |source: &Source| {
        let rules = compile(source).unwrap_or_else(|error| panic!("{source:?}: {error}"));
        (0..8).filter_map(|seed| write(&BUILT_IN, &rules, seed, 30)).collect::<Vec<_>>()
    };
    let date = regex::Regex::new(r"^\d{4}-\d\d-\d\d(T\d\d:\d\d)?$").expect("the pattern is good");
    let dates = written(&Source::Regex(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?$".into()));
    assert!(dates.len() == 8 && dates.iter().all(|text| date.is_match(text)), "{dates:?}");

    let choices = ["yes", "no", "\"quoted\" \\ /x/", "日本\n"];
    let chosen = written(&Source::Choice(choices.map(String::from).to_vec()));
    assert!(chosen.len() == 8 && chosen.iter().all(|text| choices.contains(&text.as_str())), "{chosen:?}");

    let sum = regex::Regex::new(r"^(\(?[0-9]+\)?[+*-]?)+$").expect("the pattern is good");
    let lark = "start: expr\nexpr: term ((\"+\" | \"-\") term)*\nterm: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]+/\n";
    let gbnf = "root ::= expr # a sum\nexpr ::= term (op term)*\nop ::= [-+] | \"*\"\nterm ::= [0-9]+ |\n  \"(\" expr \")\"\n";
    for source in [Source::Lark(lark.into()), Source::Gbnf(gbnf.into())] {
        let sums = written(&source);
        assert!(!sums.is_empty() && sums.iter().all(|text| sum.is_match(text)), "{sums:?}");
        let rules = compile(&source).expect("it was compiled before");
        for (text, good) in
            [("1+(22-3)", true), ("7", true), ("1+", false), ("(1", false), ("", false), ("1 + 1", false)]
        {
            assert_eq!(follows(&BUILT_IN, &rules, text), Some(good), "{text} by {source:?}");
        }
    }
}

#[test]
fn every_kind_of_gbnf_is_understood() {
    let grammar = r#"
        # characters by number, classes, counts, nothing at all
        root  ::= "\x41" "\u00e9" [^\n\]a-c] list{1,2} [-_x] [a\-z] . nothing end?
        list  ::= ("[" item ("," item)* "]" | "{}")
        item  ::= [\U0001F600-\U0001F64F] | "q\"\\" | "tab\t"
        nothing ::= ""
        end   ::= "." | "!"{2}
    "#
    .lines()
    .map(str::trim)
    .collect::<Vec<_>>()
    .join("\n");
    let rules = compile(&Source::Gbnf(grammar)).expect("it is GBNF");
    for (text, good) in [
        ("Aéz[😀,q\"\\]-a日", true),
        ("Aé1{}[tab\t]_-\n.", true),
        ("Aé {}xzz!!", true),
        ("Aéa{}xzz", false),
        ("Aéz{}{}{}xzz", false),
        ("Aéz[]xzz", false),
        ("Aez{}xzz", false),
        ("Aéz{}xzz!", false),
    ] {
        assert_eq!(follows(&BUILT_IN, &rules, text), Some(good), "{text}");
    }
}

#[test]
fn what_is_kept_is_bounded_and_used_again() {
    let of = |i: u32| Source::Schema(json!({"const": i}));
    let grammars = grammars(&BUILT_IN);
    let compile = |i| grammars.compile(&of(i)).expect("it is plain");
    let first = compile(1);
    assert_eq!(compile(1), first, "it was compiled again");
    for i in 0..200 {
        compile(i);
        assert!(grammars.kept() <= Limits::default().kept);
    }
    assert_ne!(compile(1), first, "it was kept for too long");
    // What goes from the shelf goes on where it is used.
    assert_eq!(follows(&BUILT_IN, &first, "1"), Some(true));
}

#[test]
fn forced_tokens_are_what_must_come() {
    let Some(path) = testkit::shared("fixtures/tokenizers/ggml-vocab-qwen2.gguf") else { return };
    let tokenizer = tokenizer(&path);
    let source = Source::Lark("start: \"The answer, as everybody knows, is \" /[0-9]+/\n".into());
    let rules = grammars(&tokenizer).compile(&source).expect("it is plain");
    let mut constraint = rules.0.start();
    let mut forced = Vec::new();
    constraint.forced(&mut forced);
    let text: Vec<u8> = forced.iter().flat_map(|&id| tokenizer.bytes(id)).copied().collect();
    let text = String::from_utf8(text).expect("it is text");
    assert!("The answer, as everybody knows, is ".starts_with(&text) && text.len() > 20, "{text:?}");
    for id in forced {
        constraint.accept(id).expect("what is forced is accepted");
    }
    let mut scores = vec![0.0; tokenizer.len()];
    constraint.mask(&mut scores).expect("it goes on");
    assert!(scores.iter().filter(|&&score| score == 0.0).count() >= 1);
}
