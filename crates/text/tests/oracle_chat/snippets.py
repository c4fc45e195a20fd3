#!/usr/bin/env python3
"""Writes snippets.json: small templates and what Python's Jinja makes of them (null: an error).

Needs jinja2. Each exercises one method, filter, test or operator; the variables are in VARIABLES.
"""

import importlib.util
import json
import pathlib
import sys

folder = pathlib.Path(__file__).parent
sys.argv = ["render.py", str(folder / "cases.json")]
spec = importlib.util.spec_from_file_location("render", folder / "render.py")
render = importlib.util.module_from_spec(spec)
stdout, sys.stdout = sys.stdout, open("/dev/null", "w")
spec.loader.exec_module(render)
sys.stdout = stdout

VARIABLES = {
    "s": "  Hello, World! ",
    "t": "a,b,,c",
    "u": "straße ÄÖ\u00a0x",
    "lines": "one\ntwo\r\nthree\n\nfive\n",
    "n": 7,
    "f": 2.5,
    "z": None,
    "yes": True,
    "l": [3, 1, 2],
    "w": ["b", "A", "c", "a"],
    "e": [],
    "d": {"b": 1, "a": {"x": [1, "two", None, True, 1.0]}, "items": "trap"},
    "people": [{"n": "Bo", "a": 3, "t": {"k": 1}}, {"n": "al", "a": 1}, {"n": "Cy", "a": 3, "t": {"k": 0}}],
    "q": "it's \"quoted\"\t\\ \u0001 \u2028",
}

EXPRESSIONS = """
s.strip() | s.lstrip() | s.rstrip() | s.strip(' H') | s.strip('! dl') | s.upper() | s.lower() | s.title() | s.capitalize()
'x'.strip(none) | 'aXbX'.rstrip('X') | 'xxabxx'.lstrip('x') | u.upper() | u.title() | u.swapcase() | 'ß'.casefold()
t.split(',') | t.split(',', 1) | t.rsplit(',', 1) | s.split() | s.split(None, 1) | s.rsplit(None, 1) | ''.split() | ''.split(',') | t.split('') | t.split(',')[-1] | t.split(maxsplit=1) | t.split(sep=',')
t.partition(',') | t.rpartition(',') | t.partition('z') | t.rpartition('z') | lines.splitlines() | lines.splitlines(True) | ''.splitlines()
s.startswith('  H') | s.startswith(('x', '  ')) | s.endswith('! ') | s.endswith(['x']) | s.startswith(1)
s.replace('l', 'L') | s.replace('l', 'L', 1) | s.replace('', '-') | s.find('o') | s.rfind('o') | s.find('zz') | s.index('zz') | s.count('l') | s.count('')
','.join(w) | ','.join(l) | ''.join('abc') | t.removeprefix('a,') | t.removesuffix(',c') | 'x'.center(4, '-') | 'x'.center(5) | 'ab'.ljust(4, '.') | 'ab'.rjust(4) | '-7'.zfill(4) | '7'.zfill(3)
'abc'.isalpha() | 'a1'.isalnum() | '12'.isdigit() | ' '.isspace() | ''.isspace() | 'aB'.islower() | 'ab'.islower() | 'AB'.isupper() | 'é'.isascii()
'{} {}'.format(1, 'a') | '{1} {0}'.format('a', 'b') | '{x}'.format(x=n) | '{:.2f}'.format(f) | '{:>5}|'.format('ab') | '{:05d}'.format(n) | '{{}}'.format() | '{} {}'.format(z, yes) | '{}'.format(l)
'%s and %s' % (1, 'x') | '%d' % n | '%.1f' % f | '%s' % z | '%05d' % n | '%s' % 'a' | '%x' % 255 | '%%' % ()
d.get('b') | d.get('q') | d.get('q', 'no') | d.get('a').x | d.keys() | d.keys()|list | d.values()|list | d.items()|list | d.copy() | d['items'] | d.missing | d['missing'] | d.b | d.pop('b') | d.update({}) | d.a.x[-1] | d.a.x[9] | d.a.x[-9]
l.count(1) | l.index(2) | l.index(9) | l.append(4) | l.pop() | l + [4] | l + (4,) | (1,) + (2,) | l * 2 | 2 * 'ab' | 'ab' * -1 | l[::-1] | l[1:] | l[:-1] | l[-2:] | l[5:] | l[::2] | l[2:0:-1] | s[2:7] | s[::-1] | s[-3] | s[99] | s[0:0] | l[0:3:0] | (1,2,3)[1:] | l[-100:100] | l[100:-100:-1]
n + 1 | n - 9 | n * f | n / 2 | n // 2 | -n // 2 | n % 4 | -n % 4 | n ** 2 | 2 ** -1 | n / 0 | n % 0 | n // 0 | 7.5 // 2 | -7.5 % 2 | 1e16 | 1e15 * 10 | 1.0 | 0.1 + 0.2 | 1e-5 | 100000000000000000000 | 1 / 3 | -0.0 | 5 // 0.3 | yes + 1 | 'a' + 1 | 'a' + z | 1 + 'a'
n ~ f | 'a' ~ z ~ yes ~ l | 'a' ~ missing ~ 'b' | d ~ '' | q ~ '' | [q] | [u] | ['a\\nb', "it's", '"'] | (1,) | () | {} | {'a': none, 1: 2.0} | [missing] | [1.5, true, none] | -f | -n | - 3
1 < 2 < 3 | 1 < 3 < 2 | 3 > 2 >= 2 | 'a' < 'b' | [1, 2] < [1, 3] | 1 < 'a' | z < 1 | missing < 1 | 1 == 1.0 | true == 1 | 'a' == 'a' | [1] == [1.0] | (1,) == [1] | {'a': 1} == {'a': 1} | z == none | missing == none | missing == missing2 | 1 != 2 | missing != 1
'ell' in s | 'x' in t | 1 in l | '1' in l | 'b' in d | 'x' in missing | 1 in 'abc' | 'a' in z | 'a' not in t | none in [none] | 1 in 5 | true in [1] | 'a' in ('a', 'b') | [1] in d
yes and n | z or 'x' | not z | not missing | z and 1 | e or l | '' or none | 1 if z else 2 | ('x' if z) ~ 'y' | 'x' if z is none | ('a' if false) is defined
n is odd | n is even | n is divisibleby 7 | n is divisibleby(2) | n is number | yes is number | f is float | n is integer | yes is integer | s is string | l is string | l is sequence | s is sequence | d is sequence | n is sequence | missing is sequence | l is iterable | s is iterable | n is iterable | z is iterable | missing is iterable | d is mapping | l is mapping | z is none | missing is none | missing is defined | missing is undefined | z is defined | yes is true | n is true | false is false | yes is boolean | n is boolean | n is eq 7 | n is gt 3 | n is sameas 7 | 'ab' is lower | 'AB' is upper | 2 is in [1, 2] | 'upper' is filter | 'nope' is filter | 'odd' is test | range is callable | s is callable | 3 is not even | n is ge(7)
s|trim | s|trim('! ') | s|upper | s|lower | 'hello big-world (x'|title | s|capitalize | 'hello WORLD'|capitalize | s|length | l|length | d|length | n|length | z|length | missing|length | e|length | s|reverse | l|reverse|list | w|sort | w|sort(case_sensitive=true) | l|sort(reverse=true) | ['a', 1]|sort | people|sort(attribute='a')|map(attribute='n')|list | people|sort(attribute='n')|map(attribute='n')|join(' ')
w|unique|list | [1, 1.0, 2]|unique|list | w|first | w|last | e|first | e|last | s|first | 'x'|last | l|min | l|max | e|min | l|sum | e|sum | people|sum(attribute='a') | w|join | w|join('-') | people|join(', ', attribute='n') | l|join('+') | t|join('.') | [1, none, 'a']|join(',')
people|map(attribute='n')|list | people|map(attribute='t.k')|list | people|map(attribute='t', default=0)|list | w|map('upper')|list | w|map('replace', 'a', 'z')|list | l|map('string')|list | people|selectattr('a', 'equalto', 3)|map(attribute='n')|list | people|selectattr('t')|list|length | people|rejectattr('t', 'defined')|map(attribute='n')|list | l|select('odd')|list | l|reject('odd')|list | l|select|list | [0, 1, none]|select|list | z|map('upper')|list | people|selectattr('t', 'defined')|list|length | people|selectattr('n', 'in', ['Bo'])|list|length | l|select('>', 1)|list | people|groupby('a')|list|length | people|groupby('a')|map('first')|list
d|dictsort|map('first')|list | {'B': 1, 'a': 2}|dictsort | {'B': 1, 'a': 2}|dictsort(case_sensitive=true) | {'b': 1, 'a': 2}|dictsort(by='value') | {'b': 1, 'a': 2}|dictsort(reverse=true) | d|items|list|length | missing|items|list | z|items|list | d|list | s|list|length | l|batch(2)|list | l|batch(2, 0)|list | l|slice(2)|list | l|slice(2, 'x')|list
missing|default('x') | z|default('x') | z|default('x', true) | ''|d('x', boolean=true) | missing|default | f|int | '12'|int | ' 12.9 '|int | 'x'|int | 'x'|int(5) | z|int | '0x1f'|int(base=16) | '1f'|int(0, 16) | yes|int | '2.5'|float | 'x'|float | n|float | z|float(1.0) | n|string | f|string | l|string | z|string | f|round | 2.675|round(2) | 3.5|round | 2.5|round|int | 1234.5|round(-2) | 2.1|round(method='ceil') | 2.9|round(0, 'floor') | n|round | n|abs | -f|abs | -n|abs
lines|indent | lines|indent(2) | lines|indent(2, true) | lines|indent(2, blank=true) | lines|indent('>> ', first=true) | 'x'|indent(4, true) | ''|indent(2, true) | s|replace('l', 'L') | s|replace('l', 'L', 1) | n|replace('7', '8') | s|wordcount | '<a href="x">\\'&'|escape | '<b>'|e|string | '<b>'|safe | '<b>'|safe + '<i>' | '<b>'|safe ~ '<i>' | s|center(30) | '%s-%s'|format(1, 'b') | n|pprint | 'a'|attr('upper') is defined | d|attr('b') is defined
d|tojson | d|tojson(indent=2) | l|tojson(indent=4) | e|tojson(indent=2) | {}|tojson(indent=2) | q|tojson | u|tojson | u|tojson(ensure_ascii=true) | '🙂'|tojson(true) | {'b': 1, 'a': 2}|tojson(sort_keys=true) | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | l|tojson(separators=(',', ':')) | d|tojson(separators=(',', ': '), indent=1) | missing|tojson | '</script>&\\''|tojson | 1e16|tojson | 1.0|tojson | (1, 2)|tojson | yes|tojson | z|tojson | 1e400|tojson | d|tojson|length | 1e22|tojson | [0.00001]|tojson | 12345678901234567890|tojson
range(3)|list | range(1, 4)|list | range(5, 0, -2)|list | range(0)|list | range(3, 1)|list | dict(a=1) | dict({'x': 2}, a=1) | dict([('k', 'v')]) | namespace(a=1).a | namespace(a=1).b is defined | lipsum is defined | cycler is defined | strftime_now('%Y-%m-%d %B %b %d') | strftime_now('%-d/%m/%y %H:%M:%S %A %a %j %I %p') | raise_exception('no') | missing() | missing.x | missing['x'] | z.x is defined | z['x'] is defined | n.x is defined | s.foo is defined | s.foo | s.foo() | l.foo is defined | missing.x is defined | n['a'] is defined | d.a.b.c is defined
'a' 'b' | 'tab\\tnl\\n|' | '\\u00e9\\x41' | 'it\\'s' | "\\"" | '\\d\\w' | 'a\\\\b' | 1_000 | 0x1f | 0b11 | 0o17 | 1.5e3 | true | True | none | None | "a" if "a" == 'a' | s|upper|lower|trim|length | (s|trim)[0] | s.strip()[0].lower() | [1,2,][0] | {'a':1,}.a | d.a['x'][1] | d['a'].x[1].upper() | l[n - 6] | l[-1] | l[yes] | l['a'] is defined | l['0'] is defined | l.0 | people[0].n | people[-1]['n'] | (people|first).n
"""

TEMPLATES = """
{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}
{% for x in e %}x{% else %}none{% endfor %}
{% for x in l if x > 1 %}{{ loop.index0 }}{{ x }}{{ loop.first }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }};{% endfor %}
{% for c in 'héy' %}{{ c }}.{% endfor %}
{% for x in missing %}x{% endfor %}|
{% for x in z %}x{% endfor %}
{% for x in 5 %}x{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{{ loop.previtem|default('-') }}{{ x }}{{ loop.nextitem|default('-') }} {% endfor %}
{% for x in l %}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}
{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}
{% set ns = namespace(x=1, y=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }}
{% set ns = namespace(_x=1) %}{{ ns }}
{% set d.b = 3 %}{{ d.b }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a = 1, 2 %}{{ a }}
{% set x %}  captured {{ n }} {% endset %}[{{ x }}]{{ x|trim|length }}
{% set x | upper | trim %} captured {% endset %}[{{ x }}]
{% filter upper %}abc {{ s }}{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% macro m(a, b='x', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2, c=3) }}{{ m(b=1) }}{{ m(1)|length }}
{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}body{% endcall %}
{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(5) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}
{% macro outer(x) %}{% macro inner() %}{{ x }}{% endmacro %}{{ inner() }}{% endmacro %}{{ outer(3) }}
{% macro m() %}{{ n }}{{ y }}{% endmacro %}{% set y = 2 %}{{ m() }}
{% if z %}a{% elif n > 5 %}b{% else %}c{% endif %}
{% raw %}{{ not }} {% this %}{% endraw %}
{# comment {{ n }} #}x
  {%- if yes -%}   a   {%- endif -%}   b
  {% if yes %}
    text
  {% endif %}
end
  {%+ if yes %}x{% endif +%}
y
a {{- n -}} b
{{ n }}
{{ n }}

{% generation %}  inner {{ n }}{% set k = 1 %}{% endgeneration %}{{ k is defined }}
{%- generation -%}  x  {%- endgeneration -%}  y
{% do l.append(1) %}
{{ '{{' }}{{ '%}' }}
{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{{ ''.__class__ }}
{{ ''.__class__.__mro__ }}
{{ l.__len__() }}
{{ d.__class__ is defined }}
{{ n.real is defined }}
{{ 'a'.join.__globals__ }}
{{ self }}
{% if %}
{{ }}
{{ n
{% for x in l %}
{% endfor %}
{{ 'a' | nope }}
{{ 'a' is nope }}
{{ nope('a') }}
{% nope %}
{{ {'a': [1, {'b': (2,)}]} }}
{{ "a" ~ 1 + 2 }}
{{ 1 + 2 ~ "a" }}
{{ 2 * 3 ~ 4 }}
{{ not 1 == 2 }}
{{ -2 ** 2 }}
{{ 2 ** 3 ** 2 }}
{{ 'a' in 'abc' and 'x' not in 'abc' }}
{{ 1 if true else 2 if false else 3 }}
{{ not n is odd }}
{{ n is odd and z is none }}
{{ [1, 2]|length > 1 and true }}
{{ -3|abs }}
{{ 'x'|upper ~ 'y' }}
{{ d.a.x | length - 1 }}
{{ (1, 2) | join('-') }}
{{ people[0]['t']['k'] + 1 }}
{{ 'a'.upper().lower() ~ 'b'.upper() }}
{{ {'k': n}['k'] }}
{{ [l, w][1][0] }}
{{ l[:2] + l[2:] }}
{{ loop is defined }}
{{ messages is defined }}{{ tools is none }}{{ add_generation_prompt }}{{ bos_token }}
{%- set a = 'x' %}{{- a }}
{{- '\\n' }}  {{ '\\n' -}}
x{% if yes %}

y{% endif %}
"""

blocks, current = [], []
for line in TEMPLATES.strip("\n").split("\n"):
    blocks.append(line)
extra = [
    "  {% if yes %}\n    text\n  {% endif %}\nend",
    "  {%+ if yes %}x{% endif +%}\ny",
    "{{ n }}\n\n",
    "a\n{# c #}\nb",
    "{% for x in l %}\n  {{ x }}\n{% endfor %}\n",
    "{%- for x in l %}\n  {{- x }}\n{%- endfor %}\n!",
    "{% set x = 1 -%}\n\n  y",
    "{{\n n\n+\n1 }}",
    "\n\nlead",
    "trail\n",
    "{% raw %}\n  {{ x }}\n{% endraw %}\nz",
    "{% raw -%}\n  {{ x }}\n{%- endraw %}\nz",
    "a\r\nb{% if yes %}\r\nc{% endif %}",
    "{{ 'a\nb' }}",
    "{% set x -%}\n a \n{%- endset %}[{{ x }}]",
]
templates = blocks + extra
for line in EXPRESSIONS.strip().split("\n"):
    # " | " separates expressions; filters are written without spaces around the bar.
    templates += ["{{ " + expression.strip() + " }}" for expression in line.split(" | ")]

env = render.environment()
out = []
for source in dict.fromkeys(templates):
    try:
        text = render.environment().from_string(source).render(
            messages=[], tools=None, documents=None, add_generation_prompt=True, bos_token="<s>", eos_token="</s>", **VARIABLES
        )
    except Exception:  # whatever a template does
        text = None
    out.append([source, text])
path = folder / "snippets.json"
path.write_text(json.dumps({"variables": VARIABLES, "snippets": out}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
print(len(out), "snippets,", sum(text is None for _, text in out), "errors")
