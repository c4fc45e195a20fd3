//! Templates and requests that mean harm: each ends soon, with an answer or an error, in little memory.

use std::time::Duration;

use serde_json::{Value, json};
use text::chat::{Chat, Error, Message, Request, Specials};

/// Without optimisation.
const SOON: Duration = Duration::from_secs(2);

/// Time this thread has had on a core, so that a busy machine fails no test.
fn busy() -> Duration {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .expect("Linux counts the time of threads");
    Duration::from_nanos(nanoseconds)
}

fn specials() -> Specials {
    Specials {
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        control: ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "</think>"].map(String::from).into(),
        ..Specials::default()
    }
}

fn render_with(source: &str, request: &Request) -> Result<String, Error> {
    let start = busy();
    let result = Chat::from_source("hostile", source, specials())
        .and_then(|chat| chat.render(request))
        .map(|prompt| prompt.text());
    let took = busy().saturating_sub(start);
    let shown = &source[..source.len().min(80)];
    assert!(took < SOON, "{shown} took {took:?}");
    if let Err(err) = &result {
        let message = err.to_string();
        assert!(message.len() < 500, "{shown}: {message}");
        assert!(message.starts_with("hostile"), "{shown}: the template is not named: {message}");
    }
    result
}

fn render(source: &str) -> Result<String, Error> {
    let messages = [Message::user("hello")];
    render_with(source, &Request::new(&messages))
}

fn is_limit(source: &str) {
    let result = render(source);
    let shown = &source[..source.len().min(120)];
    assert!(matches!(result, Err(Error::Limit { .. })), "{shown}: {:?}", result.map(|text| text.len()));
}

fn fails(source: &str) -> String {
    let shown = &source[..source.len().min(120)];
    render(source).expect_err(shown).to_string()
}

/// Runs on a stack as small as those of threads by default.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(test)
        .expect("a thread can be started")
        .join()
        .expect("the test passes");
}

#[test]
fn t1_nesting() {
    on_small_stack(|| {
        for depth in [6_000, 50_000] {
            fails(&format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth)));
            fails(&format!("{{{{ {}1{} }}}}", "[".repeat(depth), "]".repeat(depth)));
            fails(&format!("{{{{ {}1{} }}}}", "{'a':".repeat(depth), "}".repeat(depth)));
            fails(&"{{ ".repeat(depth));
            fails(&format!("{}{}", "{% if 1 %}".repeat(depth), "{% endif %}".repeat(depth)));
            fails(&format!("{}{}", "{% for x in y %}".repeat(depth), "{% endfor %}".repeat(depth)));
            fails(&format!("{}{}", "{% set x %}".repeat(depth), "{% endset %}".repeat(depth)));
            fails(&format!("{}{}", "{% generation %}".repeat(depth), "{% endgeneration %}".repeat(depth)));
            is_limit(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(depth)));
            for operator in
                ["+1", "~1", "|trim", ".a", "[0]", " and 1", " is odd", "<2", "()", " if 1", "**1"]
            {
                is_limit(&format!("{{{{ 1{} }}}}", operator.repeat(depth)));
            }
            for prefix in ["-", "not "] {
                is_limit(&format!("{{{{ {}1 }}}}", prefix.repeat(depth)));
            }
        }
        is_limit(&format!("{{{{ 'a'{} }}}}", "|upper".repeat(100_000)));
        // As deep as is allowed.
        for operator in ["+1", "~1", "|int", "|trim|int", " and 1", "<2", "**1"] {
            let source = format!("{{{{ 1{} }}}}", operator.repeat(1020 / operator.len().max(2)));
            render(&source).expect("a long expression is allowed");
        }
        for prefix in ["- ", "not "] {
            let _ = render(&format!("{{{{ {}1 }}}}", prefix.repeat(1000)));
        }
        let _ = render(&format!("{{{{ {}1{} }}}}", "(".repeat(70), ")".repeat(70)));
        let _ = render(&format!("{}x{}", "{% if 1 %}".repeat(140), "{% endif %}".repeat(140)));
        let _ = render(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(500)));
        let _ = render(&format!("{{{{ {}1{} }}}}", "[".repeat(70), "]".repeat(70)));
    });
}

#[test]
fn t2_recursion() {
    on_small_stack(|| {
        is_limit("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}");
        is_limit("{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('a') }}");
        is_limit(
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% for x in [1] %}{{ a() }}{% endfor %}{% endmacro %}{{ a() }}",
        );
        is_limit(
            "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}",
        );
        is_limit("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}");
        is_limit("{% macro m() %}{% set x %}{{ m() }}{% endset %}{% endmacro %}{{ m() }}");
        is_limit("{% macro m(x) %}{{ [1]|map('string')|join ~ m([x]) }}{% endmacro %}{{ m(1) }}");
        fails("{% block a %}{{ self.a() }}{% endblock %}");
    });
}

#[test]
fn t3_loops_and_text() {
    is_limit("{{ range(1000000000000) }}");
    is_limit("{% for i in range(1000000000000) %}{% endfor %}");
    is_limit(
        "{% for i in range(1000) %}{% for j in range(1000) %}{% for k in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
    );
    is_limit("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}");
    is_limit("{{ 'a' * 1000000000 }}");
    is_limit("{{ 'a' * 100000000 }}");
    is_limit("{{ ('a' * 1000 * 1000 * 1000)|length }}");
    is_limit("{{ [0] * 1000000000 }}");
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}",
    );
    is_limit("{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}");
    is_limit(
        "{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = ns.x|batch(1)|list %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = ns.x|groupby(0) %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='\"') %}{% for i in range(60) %}{% set ns.x = ns.x|tojson %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='\\\\') %}{% for i in range(60) %}{% set ns.x = [ns.x]|string %}{% endfor %}",
    );
    is_limit(
        "{% set ns = namespace(x='a\n') %}{% for i in range(60) %}{% set ns.x = ns.x|indent(ns.x, true) %}{% endfor %}",
    );
    is_limit("{{ ''.center(1000000000) }}");
    is_limit("{{ 'a'.ljust(1000000000, 'x') }}");
    is_limit("{{ '1'.zfill(1000000000) }}");
    is_limit("{{ 'x'|indent(1000000000) }}");
    is_limit("{{ 'x'|center(1000000000) }}");
    is_limit("{{ [1]|tojson(indent=1000000000) }}");
    is_limit("{{ [1]|slice(1000000000)|list }}");
    is_limit("{{ [1]|batch(1000000000, 0)|list }}");
    fails("{{ '%1000000000d' % 1 }}");
    fails("{{ '%.*f' % (1000000000, 1.0) }}");
    fails("{{ '{:>1000000000}'.format(1) }}");
    fails("{{ '{:{}}'.format(1, 1000000000) }}");
    is_limit("{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x }}{% endfor %}");
    is_limit(
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% if x == x ~ '' %}{% endif %}{% endfor %}",
    );
    is_limit(
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in x %}{% endif %}{% endfor %}",
    );
    is_limit(
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% if x.endswith('b') %}{% endif %}{% endfor %}",
    );
    is_limit(
        "{% set x = range(100000) %}{% for i in range(100000) %}{% if 'b' in x %}{% endif %}{% endfor %}",
    );
    is_limit("{% set x = range(100000) %}{{ x|unique|list|length }}");
    for work in [
        "{% if x|length %}{% endif %}",
        "{% if x|int %}{% endif %}",
        "{% if x|float %}{% endif %}",
        "{% if x.split('b') %}{% endif %}",
        "{% if x.find('b') %}{% endif %}",
        "{% if x[0] %}{% endif %}",
        "{% if x is lower %}{% endif %}",
        "{% if x|wordcount %}{% endif %}",
        "{% if x < y %}{% endif %}",
        "{% if d == e %}{% endif %}",
        "{% if l == l2 %}{% endif %}",
        "{% if l|length > 5 and l|list %}{% endif %}",
        "{% for k in d %}{% break %}{% endfor %}",
        "{% for k in x %}{% break %}{% endfor %}",
        "{% for k in d.items() %}{% break %}{% endfor %}",
        "{% if d[x] %}{% endif %}",
        "{% if dict(*[l|batch(2)]) %}{% endif %}",
        "{% for q in [1] %}{{ loop.cycle(*l) }}{% endfor %}",
        "{% if dict(**d) %}{% endif %}",
        "{% if l[-1] and l[::-1] %}{% endif %}",
        "{% if l|first or l|last or l|max %}{% endif %}",
    ] {
        is_limit(&format!(
            "{{% set x = 'a' * 1000000 %}}{{% set y = x ~ '' %}}{{% set l = range(90000) %}}{{% set l2 = l + [] %}}\
             {{% set d = dict(l|map('string')|batch(2)) %}}{{% set e = dict(d) %}}\
             {{% for i in range(100000) %}}{work}{{% endfor %}}"
        ));
    }
    // Of no cost to speak of, however large the values are.
    let cheap = "{% set l = range(90000) %}{% set d = dict(l|map('string')|batch(2)) %}{% set e = dict(d, a=1) %}\
                 {% for i in range(100000) %}{% if d == e or l == [] or 5 in d %}x{% endif %}{% endfor %}";
    assert_eq!(render(cheap).expect("comparing lengths is cheap"), "");
    is_limit("{% set x = ('a,' * 1000000).split(',') %}{{ x|join(x|join) }}");
    is_limit(&format!(
        "{{% set x %}}{{% for i in range(100000) %}}{}{{% endfor %}}{{% endset %}}",
        "x".repeat(1_000_000)
    ));
    is_limit(&format!("{{{{ 'a' * 8000000 {} }}}}", "~ 'a' * 8000000".repeat(200)));
    is_limit(
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = m(ns.x) %}{% endfor %}",
    );
    is_limit(
        "{% set x = [range(100000)] * 1000 %}{% for i in range(100000) %}{% if loop.changed(x) %}{% endif %}{% endfor %}",
    );
}

#[test]
fn operators_are_no_filters() {
    for name in ["~", "+", "[]", "[:]", "in", "a<b<c", "[...]", "-x", "for-in"] {
        let _ = render(&format!("{{{{ [1]|select('{name}')|list }}}}"));
        fails(&format!("{{{{ [1]|map('{name}')|list }}}}"));
    }
}

#[test]
fn filters_take_any_arguments() {
    let filters = "abs attr batch capitalize center count d default dictsort e escape first float forceescape format \
                   groupby indent int items join last length list lower map max min pprint reject rejectattr replace \
                   reverse round safe select selectattr slice sort string sum title tojson trim unique upper wordcount";
    for filter in filters.split_whitespace() {
        for value in [
            "'a'",
            "1",
            "-1.5",
            "none",
            "[[1, 2], ['a', none]]",
            "{'a': 1}",
            "missing",
            "range",
            "namespace()",
        ] {
            for args in [
                "",
                "none",
                "'a'",
                "0",
                "-9223372036854775808",
                "9223372036854775807",
                "a=1",
                "attribute='a.0'",
                "1, 2, 3, 4, 5",
                "[], {}",
                "*[1, 2]",
            ] {
                let _ = render(&format!("{{{{ {value}|{filter}({args}) }}}}"));
            }
        }
        let _ = render(&format!("{{{{ [1, none, 'a', {{}}, []]|map('{filter}')|list }}}}"));
    }
}

#[test]
fn tests_and_methods_take_any_arguments() {
    let tests = "defined undefined none boolean true false string number integer float mapping sequence iterable \
                 callable sameas escaped even odd divisibleby lower upper in eq ne lt le gt ge filter test";
    for test in tests.split_whitespace() {
        for value in ["1", "'a'", "none", "[1]", "{}", "missing", "1.5", "range"] {
            let _ = render(&format!("{{{{ {value} is {test} }}}}"));
            let _ = render(&format!("{{{{ {value} is {test}({value}) }}}}"));
            let _ = render(&format!("{{{{ {value} is {test}(0) }}}}"));
        }
    }
    let methods = "upper lower casefold title capitalize swapcase strip lstrip rstrip split rsplit partition rpartition \
                   splitlines startswith endswith removeprefix removesuffix replace find index rfind rindex count join \
                   format isspace isdigit isalnum isalpha isascii islower isupper ljust rjust center zfill get keys \
                   values items copy pop append nope __class__";
    for method in methods.split_whitespace() {
        for value in [
            "'héllo wörld'",
            "''",
            "[1, 'a']",
            "{'a': 1}",
            "none",
            "5",
            "missing",
            "namespace(a=1)",
            "range",
            "loop",
        ] {
            for args in [
                "",
                "none",
                "''",
                "'ö'",
                "'a', 'b'",
                "1",
                "-9223372036854775808",
                "9223372036854775807",
                "[], {}",
                "1, 2, 3, 4",
                "x=1",
                "*[1, 2]",
            ] {
                let _ = render(&format!("{{{{ {value}.{method}({args}) }}}}"));
            }
        }
    }
}

#[test]
fn t4_mistakes_say_where() {
    for (source, line, words) in [
        ("a\n{{ missing.x }}", 2, "undefined"),
        ("\n\n{{ nope() }}", 3, "nope"),
        ("{{ raise_exception('told so') }}", 1, "told so"),
        ("{{ 1|nope }}", 1, "nope"),
        ("{{ 1 is nope }}", 1, "nope"),
        ("\n{% if %}", 2, "unexpected"),
        ("{% if 1 %}", 1, "unexpected end"),
        ("{{ 'abc }}", 1, "string"),
        ("{{ 1 / 0 }}", 1, "division by zero"),
        ("\n{% for x in 5 %}{% endfor %}", 2, "not iterable"),
        ("{{ 'a' + 1 }}", 1, "'str' and 'int'"),
    ] {
        let message = fails(source);
        assert!(message.contains(&format!("hostile, line {line}: ")), "{source}: {message}");
        assert!(message.contains(words), "{source}: {message}");
    }
    let long = "x".repeat(1 << 20);
    is_limit(&format!("{{{{ '{long}' }}}}"));
    is_limit(&long.repeat(2));
    let long = &long[..(1 << 20) - 20];
    assert_eq!(render(&format!("{{{{ '{long}' }}}}")).expect("a megabyte is allowed").len(), long.len());
    for source in [
        "{{ '\\x' }}",
        "{{ '\\ud800' }}",
        "{{ '\0' }}\0",
        "{{ \u{feff} }}",
        "{% raw %}",
        "{#",
        "{{",
        "{%",
        "}}",
    ] {
        let _ = render(source);
    }
}

#[test]
fn t5_nothing_outside_is_reached() {
    for statement in
        ["include 'x'", "import 'x' as x", "extends 'x'", "from 'x' import y", "include '/etc/passwd'"]
    {
        let message = fails(&format!("{{% {statement} %}}"));
        assert!(message.contains("not allowed in a chat template"), "{message}");
    }
    for probe in [
        "''.__class__",
        "messages.__class__",
        "range.__globals__",
        "namespace().__init__",
        "x._y",
        "messages[0]['__class__']",
    ] {
        let result = render(&format!("{{% set x = {{}} %}}{{{{ {probe} }}}}"));
        assert!(!matches!(&result, Ok(text) if !text.is_empty()), "{probe}: {result:?}");
    }
    for probe in [
        "''.__class__.__mro__",
        "().__class__.__base__.__subclasses__()",
        "cycler.__init__.__globals__",
        "debug()",
        "self.x()",
    ] {
        fails(&format!("{{{{ {probe} }}}}"));
    }
    // Changing a value is not possible, so a request cannot be changed under the caller.
    for change in [
        "messages.append(1)",
        "messages.pop()",
        "messages[0].update({})",
        "messages[0].pop('role')",
        "messages.clear()",
    ] {
        let message = fails(&format!("{{% do {change} %}}"));
        assert!(message.contains("would change its object"), "{message}");
    }
    // A namespace inside itself would never be freed.
    for cycle in
        ["ns.x = ns", "ns.x = [ns]", "ns.x = {'a': ns}", "ns.x = dict(a=ns)", "ns.x = namespace(a=ns)"]
    {
        fails(&format!("{{% set ns = namespace() %}}{{% set {cycle} %}}{{{{ ns }}}}"));
    }
}

#[test]
fn t6_numbers_and_slices() {
    for source in [
        "{{ 9223372036854775807 + 1 }}",
        "{{ 170141183460469231731687303715884105727 + 1 }}",
        "{{ -9223372036854775808 // -1 }}",
        "{{ (-170141183460469231731687303715884105727 - 1) // -1 }}",
        "{{ (-170141183460469231731687303715884105727 - 1) % -1 }}",
        "{{ (-170141183460469231731687303715884105727 - 1)|abs }}",
        "{{ 2 ** 1000 }}",
        "{{ 2 ** 100000000000 }}",
        "{{ 10 ** -400 }}",
        "{{ 1 % 0 }}",
        "{{ 1.0 % 0 }}",
        "{{ 1 // 0 }}",
        "{{ [1, 2][::0] }}",
        "{{ [1, 2][::-9223372036854775808] }}",
        "{{ [1, 2][-9223372036854775808:9223372036854775807:9223372036854775807] }}",
        "{{ [1, 2][9223372036854775807] }}",
        "{{ [1, 2][-9223372036854775808] }}",
        "{{ 'ab'[9223372036854775808] }}",
        "{{ 1e308 * 1e308 }}",
        "{{ (1e308 * 1e308)|int }}",
        "{{ 1e300|int }}",
        "{{ '1e999'|int }}",
        "{{ 1e308|round(300) }}",
        "{{ 1|round(1000000000) }}",
        "{{ (0.0 * (1e308 * 1e308))|tojson }}",
        "{{ [1e308 * 1e308, 1]|sort }}",
        "{{ [0.0 * (1e308 * 1e308), 1]|sort }}",
        "{{ range(-9223372036854775808, 9223372036854775807, 9223372036854775807)|list }}",
        "{{ range(9223372036854775807, -9223372036854775808, -9223372036854775808)|list }}",
        "{{ [1, 2] < [1, 2, 3] }}{{ {'a': 1} == {'a': 1, 'b': 2} }}{{ (1,) < () }}",
        "{{ strftime_now('%Y') }}",
        "{{ 1 is divisibleby 0 }}",
        "{{ (-9223372036854775808) is divisibleby(-1) }}",
        "{{ 'a' * -5 }}{{ [1] * -5 }}",
        "{{ -9223372036854775808 }}{{ - -9223372036854775808 }}",
    ] {
        let _ = render(source);
    }
    for now in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
        let messages = [];
        let request = Request { now: Some(now), ..Request::new(&messages) };
        let _ = render_with("{{ strftime_now('%c %j %U %s') }}{{ strftime_now('%Q') }}", &request);
        render_with("{{ strftime_now('%c %j %s') }}", &request).expect("any time can be written");
    }
}

#[test]
fn t8_requests() {
    let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let object = |value: Value| Message::from(value.as_object().expect("an object").clone());
    let odd = [
        object(json!({})),
        object(json!({"role": "user"})),
        object(json!({"role": null, "content": null})),
        object(json!({"role": 7, "content": {"a": [1]}})),
        object(json!({"role": "assistant", "tool_calls": [{}]})),
        object(json!({"role": "assistant", "tool_calls": null})),
    ];
    render_with(chatml, &Request::new(&odd)).expect("odd messages are shown as they are");

    let many: Vec<Message> = (0..100_000).map(|n| Message::user(format!("message {n}"))).collect();
    let text = render_with(chatml, &Request::new(&many)).expect("many messages are only much work");
    assert!(text.ends_with("message 99999<|im_end|>\n"));
    // A template may well look at all messages for each message, but not for ever.
    let quadratic =
        "{% for m in messages %}{% for n in messages %}{% if m == n %}x{% endif %}{% endfor %}{% endfor %}";
    assert!(matches!(render_with(quadratic, &Request::new(&many)), Err(Error::Limit { .. })));

    for name in [
        "messages",
        "tools",
        "add_generation_prompt",
        "tokenize",
        "documents",
        "bos_token",
        "raise_exception",
    ] {
        let mut request = Request::new(&odd);
        request.arguments.insert(name.into(), json!(true));
        let chat = Chat::from_source("t", chatml, specials()).expect("the template is fine");
        let err = chat.render(&request).expect_err(name);
        assert!(err.to_string().contains(name), "{err}");
    }

    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let messages = [Message::user("x").with("deep", deep)];
    let chat = Chat::from_source("t", chatml, specials()).expect("the template is fine");
    assert!(matches!(chat.render(&Request::new(&messages)), Err(Error::Depth { .. })));

    // A megabyte of text, handled piece by piece, is no attack.
    let long = "word ".repeat(200_000);
    let messages: Vec<Message> = (0..20).map(|_| Message::user(long.clone())).collect();
    let text = render_with(chatml, &Request::new(&messages)).expect("long messages are allowed");
    assert!(text.len() > 20 * long.len());
}
