#!/usr/bin/env python3
"""Renders chat templates the way transformers does, as JSON on stdout.

usage: render.py CASES.json TEMPLATE...

Prints {"TEMPLATE": {"CASE": {"ok": TEXT} or {"error": MESSAGE}}}. Needs jinja2 only; the environment is
set up as transformers.utils.chat_template_utils sets up its own (facts: trim_blocks, lstrip_blocks,
loop controls, the generation tag, tojson without HTML escapes, an immutable sandbox).
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2024, 7, 27, 12, 34, 56)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    env.globals["namespace"] = Namespace
    return env


def alias(message):
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((message[n] for n in names if message.get(n) is not None), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def main():
    cases = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = {}
    for path in sys.argv[2:]:
        source = pathlib.Path(path).read_text(encoding="utf-8")
        results = out.setdefault(path, {})
        template = environment().from_string(source)
        for name, case in cases.items():
            try:
                text = template.render(
                    messages=[alias(m) for m in case["messages"]],
                    tools=case.get("tools"),
                    documents=case.get("documents"),
                    add_generation_prompt=case.get("add_generation_prompt", True),
                    bos_token="<s>",
                    eos_token="</s>",
                    **case.get("arguments", {}),
                )
                results[name] = {"ok": text}
            except Exception as err:  # whatever a template does
                results[name] = {"error": f"{type(err).__name__}: {err}"}
    json.dump(out, sys.stdout, ensure_ascii=False)


main()
