//! What was sent to others to bring them down: each is refused or followed, soon and in little memory.
//!
//! One process, one test: time and memory are the process's.

mod common;

use common::{BUILT_IN, GRAMMARS};
use grammar::{Grammars, Source};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest time for one entry, compiled and followed for a few tokens.
const TIME: Duration = Duration::from_secs(2);

/// Most memory that one entry may add, bytes.
const MEMORY: u64 = 64 << 20;

/// What must come of an entry.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Must {
    Refuse,
    Follow,
    /// Either: it is the time and the memory that count.
    End,
}
use Must::{End, Follow, Refuse};

/// Lists in lists; `json!` would copy what is inside at each level.
fn nested(depth: usize, inner: Value) -> Value {
    (0..depth).fold(inner, |schema, _| {
        let mut list = serde_json::Map::new();
        list.insert("items".to_owned(), schema);
        Value::Object(list)
    })
}

/// Dropping a deep value recurses; those that only a program can build are taken apart.
fn dismantle(value: Value) {
    let mut stack = vec![value];
    while let Some(mut value) = stack.pop() {
        match &mut value {
            Value::Array(items) => stack.append(items),
            Value::Object(fields) => stack.extend(std::mem::take(fields).into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

fn grammars() -> Vec<(&'static str, Must, Source)> {
    let gbnf = |text: &str| Source::Gbnf(text.to_owned());
    let lark = |text: &str| Source::Lark(text.to_owned());
    let many = |n: usize, of: &dyn Fn(usize) -> String| (0..n).map(of).collect::<String>();
    vec![
        ("nullable loop", End, gbnf("root ::= ( [x]* )*")),
        ("empty loop", End, gbnf("root ::= (\"\")*")),
        ("empty loop, lark", End, lark("start: (\"\")*")),
        ("left recursion", End, gbnf("root ::= root \"a\" | \"a\"")),
        ("indirect left recursion", End, gbnf("root ::= a\na ::= b \"x\" | \"y\"\nb ::= a \"z\"")),
        ("hidden left recursion", End, gbnf("root ::= n root \"a\" | \"b\"\nn ::= \"\" | \"c\"")),
        ("nothing but itself", Refuse, gbnf("root ::= root")),
        ("undefined rule", Refuse, gbnf("root ::= nobody")),
        ("undefined rule, lark", Refuse, lark("start: nobody")),
        ("missing root", Refuse, gbnf("a ::= \"b\"")),
        ("missing start", Refuse, lark("a: \"b\"")),
        ("duplicate rule", Refuse, gbnf("root ::= \"a\"\nroot ::= \"b\"")),
        ("duplicate rule, lark", Refuse, lark("start: \"a\"\nstart: \"b\"")),
        ("empty", Refuse, gbnf("")),
        ("empty, lark", Refuse, lark("")),
        ("only comments", Refuse, gbnf("# a\n# b")),
        ("only comments, lark", Refuse, lark("// a\n// b")),
        ("unterminated text", Refuse, gbnf("root ::= \"abc")),
        ("unterminated text, lark", Refuse, lark("start: \"abc")),
        ("unterminated class", Refuse, gbnf("root ::= [abc")),
        ("inverted range", Refuse, gbnf("root ::= [z-a]")),
        ("inverted range, lark", Refuse, lark("start: /[z-a]/")),
        ("reversed count", Refuse, gbnf("root ::= \"a\"{5,2}")),
        ("huge count", Refuse, gbnf("root ::= \"a\"{1,1000000000}")),
        ("huge count, lark", Refuse, lark("start: \"a\"{1,1000000000}")),
        ("huge count, lark's way", Refuse, lark("start: \"a\" ~ 1..1000000000")),
        ("counts of counts", End, gbnf("root ::= ((((((\"a\"{9}){9}){9}){9}){9}){9})")),
        ("counts of counts, lark", End, lark("start: ((((((\"a\"{9}){9}){9}){9}){9}){9})")),
        ("counts of counts of a class", End, gbnf("root ::= ((([a-z]{0,999}){0,999}){0,999})")),
        (
            "many parentheses",
            Refuse,
            gbnf(&format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))),
        ),
        (
            "many parentheses, lark",
            Refuse,
            lark(&format!("start: {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))),
        ),
        (
            "many parentheses in an expression",
            Refuse,
            lark(&format!("start: /{}a{}/", "(".repeat(9000), ")".repeat(9000))),
        ),
        ("many open brackets", Refuse, lark(&format!("start: {}", "[".repeat(20_000)))),
        (
            "many rules",
            End,
            gbnf(
                &(String::from("root ::= r0\n")
                    + &many(100_000, &|i| format!("r{i} ::= \"a\" r{}\n", i + 1))
                    + "r100000 ::= \"b\"\n"),
            ),
        ),
        (
            "rules by the thousand",
            End,
            gbnf(
                &(String::from("root ::= r0\n")
                    + &many(9000, &|i| format!("r{i} ::= \"a\" r{}\n", i + 1))
                    + "r9000 ::= \"b\"\n"),
            ),
        ),
        (
            "rules by the thousand, lark",
            End,
            lark(
                &(String::from("start: r0\n")
                    + &many(9000, &|i| format!("r{i}: \"a\" r{}\n", i + 1))
                    + "r9000: \"b\"\n"),
            ),
        ),
        (
            "one rule into the next",
            End,
            gbnf(
                &(String::from("root ::= r0\n")
                    + &many(9000, &|i| format!("r{i} ::= r{}\n", i + 1))
                    + "r9000 ::= \"b\"\n"),
            ),
        ),
        (
            "terminals in each other",
            End,
            lark(
                &(String::from("start: T0\n")
                    + &many(4000, &|i| format!("T{i}: T{}\n", i + 1))
                    + "T4000: \"b\"\n"),
            ),
        ),
        (
            "terminals that double",
            End,
            lark(
                &(String::from("start: T0\n")
                    + &many(40, &|i| format!("T{i}: T{} T{}\n", i + 1, i + 1))
                    + "T40: \"b\"\n"),
            ),
        ),
        (
            "rules that double",
            End,
            lark(
                &(String::from("start: r0\n")
                    + &many(40, &|i| format!("r{i}: r{} r{}\n", i + 1, i + 1))
                    + "r40: \"b\" | \"\"\n"),
            ),
        ),
        ("many alternatives", End, gbnf(&format!("root ::= \"a\"{}", " | \"b\"".repeat(40_000)))),
        (
            "many different alternatives",
            End,
            gbnf(&format!("root ::= \"a\"{}", many(12_000, &|i| format!(" | \"b{i}\"")))),
        ),
        ("beyond Unicode", Refuse, gbnf("root ::= \"\\U00110000\"")),
        ("half a character", Refuse, gbnf("root ::= [\\uD800]")),
        ("astral", Follow, gbnf("root ::= [\\U00010000-\\U0010FFFF]{2}")),
        ("control token", Refuse, gbnf("root ::= <|eot_id|>")),
        ("control token, lark", Refuse, lark("start: <|eot_id|>")),
        ("token by number", Refuse, lark("start: <[3]>")),
        ("another grammar", Refuse, lark("start: @other")),
        ("settings", Refuse, lark("%llguidance {\"allow_invalid_utf8\": true}\nstart: /(?s-u:.)/")),
        ("bytes that are no text", Refuse, lark("start: /(?-u:\\xFF)/")),
        ("nested settings", Refuse, lark("start: %lark { start: \"a\"\n%llguidance {} }")),
        ("unsupported schema inside", Refuse, lark("start: %json {\"not\": {}}")),
        ("schema inside", Follow, lark("start: \"x\" %json {\n \"type\": \"integer\"\n}\n")),
        (
            "settings in a schema inside",
            End,
            lark("start: %json {\"x-guidance\": {\"lenient\": true}, \"oneOf\": [{}, {}]}"),
        ),
        ("expressions that exclude all", End, lark("start: T\nT: /a+/ & /b+/")),
        ("everything but", End, lark("start: T\nT: ~/(?s:.*)/")),
        ("endless whitespace", Follow, lark("start: \"a\"\n%ignore /\\s+/")),
        ("matches nothing skipped", End, lark("start: \"a\"\n%ignore /x*/")),
    ]
}

fn schemas() -> Vec<(&'static str, Must, Source)> {
    let schema = Source::Schema;
    let parsed = |text: &str| Source::Schema(serde_json::from_str(text).expect("it is JSON"));
    let defs: serde_json::Map<String, Value> =
        (0..10_000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
    let wide: serde_json::Map<String, Value> =
        (0..3000).map(|i| (format!("p{i}"), json!({"type": "integer"}))).collect();
    let some: serde_json::Map<String, Value> =
        wide.iter().take(1000).map(|(name, schema)| (name.clone(), schema.clone())).collect();
    let mut list = vec![
        ("true", Follow, schema(json!(true))),
        ("false", Refuse, schema(json!(false))),
        ("a number", Refuse, schema(json!(7))),
        ("a list", Refuse, schema(json!([]))),
        ("null", Refuse, schema(json!(null))),
        ("type of a number", Refuse, schema(json!({"type": 123}))),
        ("unknown type", Refuse, schema(json!({"type": "wizard"}))),
        ("no types", Refuse, schema(json!({"type": []}))),
        ("itself", End, schema(json!({"$ref": "#"}))),
        ("itself by name", End, schema(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}))),
        (
            "a cycle",
            End,
            schema(
                json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            ),
        ),
        ("a cycle through allOf", End, schema(json!({"allOf": [{"$ref": "#"}], "type": "object"}))),
        ("a cycle through anyOf", End, schema(json!({"anyOf": [{"$ref": "#"}, {"type": "null"}]}))),
        (
            "a cycle of objects without end",
            End,
            schema(json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})),
        ),
        (
            "two trees at once",
            End,
            schema(json!({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
            "a": {"type": "object", "properties": {"c": {"$ref": "#/$defs/a"}}}, "b": {"type": "object", "properties": {"c": {"$ref": "#/$defs/b"}}}}})),
        ),
        ("missing target", Refuse, schema(json!({"$ref": "#/$defs/nobody"}))),
        ("remote", Refuse, schema(json!({"$ref": "https://example.com/schema.json"}))),
        ("a file", Refuse, schema(json!({"$ref": "file:///etc/passwd"}))),
        ("a bad pointer", Refuse, schema(json!({"$ref": "#/%zz"}))),
        ("a long chain", Refuse, schema(json!({"$ref": "#/$defs/d0", "$defs": defs}))),
        ("3,000 deep", Refuse, schema(nested(3000, json!({})))),
        ("100,000 deep", Refuse, schema(nested(100_000, json!({})))),
        ("as deep as may be", Follow, schema(nested(50, json!({"const": 1})))),
        (
            "as deep as may be, by anyOf",
            End,
            schema((0..60).fold(json!({"const": 1}), |schema, i| json!({"anyOf": [schema, {"const": i}]}))),
        ),
        (
            "anyOf 5,000",
            End,
            schema(
                json!({"anyOf": (0..5000).map(|i| json!({"const": format!("v{i}")})).collect::<Vec<_>>()}),
            ),
        ),
        (
            "anyOf 5,000 objects",
            End,
            schema(
                json!({"anyOf": (0..5000).map(|i| json!({"type": "object", "required": [format!("k{i}")]})).collect::<Vec<_>>()}),
            ),
        ),
        (
            "allOf of anyOf",
            End,
            schema(
                json!({"allOf": (0..12).map(|i| json!({"anyOf": [{"minimum": i}, {"maxLength": i + 1}, {"type": "null"}]})).collect::<Vec<_>>()}),
            ),
        ),
        ("enum 100,000", End, schema(json!({"enum": (0..100_000).collect::<Vec<_>>()}))),
        (
            "enum 5,000",
            Follow,
            schema(json!({"enum": (0..5000).map(|i| format!("v{i}")).collect::<Vec<_>>()})),
        ),
        ("enum of nothing", Refuse, schema(json!({"enum": []}))),
        ("const of 10 MiB", Refuse, schema(json!({"const": "x".repeat(10 << 20)}))),
        ("const of 100 KiB", End, schema(json!({"const": "x".repeat(100 << 10)}))),
        (
            "lengths exclude each other",
            Refuse,
            schema(json!({"type": "string", "minLength": 5, "maxLength": 2})),
        ),
        ("bounds exclude each other", Refuse, schema(json!({"type": "integer", "minimum": 5, "maximum": 2}))),
        (
            "nothing between",
            Refuse,
            schema(json!({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6})),
        ),
        (
            "required but not allowed",
            Refuse,
            schema(json!({"type": "object", "required": ["a"], "additionalProperties": false})),
        ),
        ("items exclude each other", Refuse, schema(json!({"type": "array", "minItems": 5, "maxItems": 2}))),
        ("maxItems 10^9", Refuse, schema(json!({"type": "array", "maxItems": 1_000_000_000}))),
        ("maxLength 10^9", Refuse, schema(json!({"type": "string", "maxLength": 1_000_000_000}))),
        ("minItems 10^9", Refuse, schema(json!({"type": "array", "minItems": 1_000_000_000}))),
        ("maxItems a million", End, schema(json!({"type": "array", "maxItems": 1_000_000}))),
        (
            "minItems a million",
            End,
            schema(json!({"type": "array", "minItems": 1_000_000, "items": {"const": 1}})),
        ),
        ("maxLength a million", End, schema(json!({"type": "string", "maxLength": 1_000_000}))),
        ("minLength a million", End, schema(json!({"type": "string", "minLength": 1_000_000}))),
        (
            "pattern and maxLength",
            End,
            schema(json!({"type": "string", "maxLength": 9000, "pattern": "^(a|b)*c"})),
        ),
        ("minProperties a thousand", Refuse, schema(json!({"type": "object", "minProperties": 1000}))),
        ("negative length", Refuse, schema(json!({"minLength": -1}))),
        ("bounds of 9e99", Refuse, schema(json!({"type": "integer", "minimum": -9e99, "maximum": 9e99}))),
        (
            "bounds of 2^63",
            Refuse,
            schema(json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX})),
        ),
        (
            "bounds of 2^53",
            Follow,
            schema(
                json!({"type": "integer", "minimum": -9_007_199_254_740_991i64, "maximum": 9_007_199_254_740_991i64}),
            ),
        ),
        ("tiny bounds", End, schema(json!({"type": "number", "minimum": 1e-300, "maximum": 2e-300}))),
        ("fractional multipleOf", End, schema(json!({"type": "number", "multipleOf": 0.1}))),
        (
            "multipleOf of many digits",
            End,
            schema(json!({"type": "number", "multipleOf": 0.123_456_789_012_3})),
        ),
        ("large multipleOf", End, schema(json!({"type": "integer", "multipleOf": 9_007_199_254_740_881i64}))),
        ("multipleOf a prime", End, schema(json!({"type": "integer", "multipleOf": 7_919}))),
        ("multipleOf 0", Refuse, schema(json!({"multipleOf": 0}))),
        ("no number for a bound", Refuse, schema(json!({"minimum": "5"}))),
        ("patternProperties that meet", Refuse, schema(json!({"patternProperties": {"a": {}, "b": {}}}))),
        ("1,000 properties", Follow, schema(json!({"type": "object", "properties": some.clone()}))),
        (
            "1,000 required",
            Follow,
            schema(
                json!({"type": "object", "properties": some.clone(), "required": some.keys().collect::<Vec<_>>()}),
            ),
        ),
        (
            "at most one of 1,000",
            End,
            schema(
                json!({"type": "object", "properties": some, "additionalProperties": false, "maxProperties": 1}),
            ),
        ),
        ("3,000 properties", Refuse, schema(json!({"type": "object", "properties": wide.clone()}))),
        (
            "3,000 required",
            End,
            schema(
                json!({"type": "object", "properties": wide.clone(), "required": wide.keys().collect::<Vec<_>>()}),
            ),
        ),
        (
            "at most one of 3,000",
            End,
            schema(
                json!({"type": "object", "properties": wide, "additionalProperties": false, "maxProperties": 1}),
            ),
        ),
        (
            "names with marks",
            Follow,
            schema(
                json!({"type": "object", "properties": {"a\"b": {}, "\u{0}": {}, "__proto__": {}, "": {}}, "required": ["", "a\"b"]}),
            ),
        ),
        (
            "the same name twice",
            Follow,
            parsed(
                r#"{"properties": {"a": {"type": "string"}, "a": {"type": "integer"}}, "required": ["a", "a"]}"#,
            ),
        ),
        ("an infinite number of dialects", Refuse, schema(json!({"$schema": "https://example.com/mine"}))),
        (
            "settings of the compiler",
            Follow,
            schema(json!({"x-guidance": {"whitespace_pattern": "(", "lenient": true}})),
        ),
        ("wrong settings of the compiler", Follow, schema(json!({"x-guidance": 7, "type": "null"}))),
    ];
    for keyword in [
        "not",
        "if",
        "then",
        "else",
        "contains",
        "uniqueItems",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
        "dependencies",
        "minContains",
    ] {
        list.push((keyword, Refuse, schema(json!({"type": "object", "properties": {"a": {keyword: {}}}}))));
    }
    for format in [
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
        "regex",
        "nobody's",
        "idn-email",
    ] {
        list.push((format, Follow, schema(json!({"type": "string", "format": format}))));
    }
    list
}

fn patterns() -> Vec<(&'static str, Must, String)> {
    let text = str::to_owned;
    vec![
        ("nested quantifiers", Follow, text("(a+)+$")),
        ("the same twice", Follow, text("(a|a)*b")),
        ("doubled star", End, text("^foo**")),
        ("inverted range", Refuse, text("[z-a]")),
        ("a lone backslash", Refuse, text("\\")),
        ("look-ahead", Refuse, text("a(?=b)b")),
        ("look-behind", Refuse, text("(?<=a)b")),
        ("back-reference", Refuse, text("(a)\\1")),
        ("a million times", Refuse, text("a{1,1000000}")),
        ("ten thousand times", End, text("(a|b){1,10000}c")),
        ("counts of counts", Refuse, text("((a{99}){99}){99}")),
        ("1 MiB", Refuse, "ab".repeat(512 << 10)),
        ("16 KiB of classes", End, "[a-z0-9]?".repeat(1800)),
        ("many options", End, (0..2500).map(|i| format!("w{i}")).collect::<Vec<_>>().join("|")),
        ("not anchored", Follow, text("middle")),
        ("parentheses", Refuse, "(".repeat(5000) + &")".repeat(5000)),
        ("unclosed", Refuse, text("(a")),
        ("unclosed class", Refuse, text("[a")),
        ("stars over stars", End, text("((((((a*)*)*)*)*)*)*b")),
        ("exponential automaton", End, text("(a|b)*a(a|b){500}")),
        ("many middles", End, ".*a".repeat(60)),
        ("word boundary", End, text("\\bword\\b")),
        ("Unicode classes", End, text("[\\p{L}\\p{N}]+")),
        ("flags", End, text("(?i)straße")),
        ("NUL", End, text("\\x00")),
    ]
}

/// Memory of the process, bytes: most so far.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Time the processor spent on the process so far: other processes do not count. The clock's, where the system
/// does not tell.
fn spent(began: Instant) -> Duration {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    ticks().map_or_else(|| began.elapsed(), |ticks| Duration::from_millis(10 * ticks))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn main() {
    let grammars: &Grammars = &GRAMMARS;
    let mut all = self::grammars();
    all.extend(schemas());
    for (name, must, pattern) in patterns() {
        all.push((name, must, Source::Regex(pattern.clone())));
        let must = if must == Refuse { Refuse } else { End };
        all.push((name, must, Source::Schema(json!({"type": "string", "pattern": pattern}))));
    }
    all.push(("no choices", Refuse, Source::Choice(vec![])));
    all.push(("an empty choice", Refuse, Source::Choice(vec![String::new()])));
    all.push(("5,000 choices", Follow, Source::Choice((0..5000).map(|i| format!("choice {i}")).collect())));

    let start = Instant::now();
    let mut faults = Vec::new();
    let (mut slowest, mut largest) = ((Duration::ZERO, ""), (0, ""));
    let count = all.len();
    for (name, must, source) in all {
        // Linux lets a process forget its peak.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let before = resident();
        let at = spent(start);
        let compiled = grammars.compile(&source);
        let compiling = spent(start).saturating_sub(at);
        if let (Ok(rules), true) = (&compiled, must != Refuse) {
            follow(rules);
        }
        let took = spent(start).saturating_sub(at);
        let grew = peak().unwrap_or(0).saturating_sub(before);
        if took > slowest.0 {
            slowest = (took, name);
        }
        if grew > largest.0 {
            largest = (grew, name);
        }
        let said = compiled.as_ref().err().map(ToString::to_string);
        if std::env::var_os("SHOW").is_some() {
            eprintln!(
                "{name}: {compiling:?}, {took:?}, {} KiB: {}",
                grew >> 10,
                said.as_deref().unwrap_or("compiled")
            );
        }
        match (must, &said) {
            (Refuse, None) => faults.push(format!("{name}: it was compiled")),
            (Follow, Some(said)) => faults.push(format!("{name}: it was refused: {said}")),
            (_, Some(said)) if said.len() > 500 || said.contains('\n') => {
                faults.push(format!("{name}: a long story: {said}"));
            }
            _ => {}
        }
        if took > TIME {
            faults.push(format!("{name}: it took {took:?}"));
        }
        if grew > MEMORY {
            faults.push(format!("{name}: it took {} MiB", grew >> 20));
        }
        if let Source::Schema(schema) = source {
            dismantle(schema);
        }
    }

    // Different schemas in a row: what is kept does not grow.
    let many = |range: std::ops::Range<u32>| {
        for i in range {
            let schema = json!({"type": "object", "properties": {format!("name{i}"): {"type": "string", "maxLength": i % 50}}});
            grammars.compile(&Source::Schema(schema)).expect("it is plain");
        }
    };
    many(0..300);
    let before = resident();
    many(300..1500);
    let grew = resident().saturating_sub(before);
    if grew > 8 << 20 {
        faults.push(format!("1,200 schemas in a row left {} MiB behind", grew >> 20));
    }

    eprintln!("{count} entries; slowest {slowest:?}; largest {} MiB ({})", largest.0 >> 20, largest.1);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn follow(rules: &engine::Rules) {
    let mut constraint = rules.0.start();
    let mut scores = vec![0.0f32; BUILT_IN.len()];
    for step in 0usize..25 {
        scores.fill(0.0);
        if constraint.finished() || constraint.mask(&mut scores).is_err() {
            return;
        }
        let allowed: Vec<u32> =
            (0..).zip(&scores).filter(|(_, score)| **score == 0.0).map(|(id, _)| id).collect();
        let token = allowed[(step * 7919) % allowed.len()];
        if BUILT_IN.is_end(token) || constraint.accept(token).is_err() {
            return;
        }
    }
}
