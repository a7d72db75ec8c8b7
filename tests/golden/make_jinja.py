#!/usr/bin/env python3
"""Golden outputs of jinja2 for templates, written to jinja.json beside this script.

usage: make_jinja.py                                 writes jinja.json
       make_jinja.py PATH/TO/test_jinja COUNT [DIR]   compares COUNT random conversations instead,
                                                     also over the templates (*.jinja) in DIR
(needs: pip install jinja2)

The environment is the one transformers renders chat templates in. A case without "text" is one
that jinja2 refuses, too. The random conversations go through every built-in template and those
of DIR; TZ is UTC and strftime_now shows 2024-07-26 12:00.
"""
import datetime
import json
import pathlib
import random
import re
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 7, 26, 12)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller):
        return "\ue000" + caller() + "\ue001"


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENVIRONMENT = environment()
COMPILED = {}


def render(template, variables):
    """{"text", "generated"} or {} where jinja2 raises."""
    try:
        if template not in COMPILED:
            COMPILED[template] = ENVIRONMENT.from_string(template)
        marked = COMPILED[template].render(**variables)
    except Exception as e:  # whatever the sandboxed code raises is a refusal
        return {"why": str(e)}
    text, spans = b"", []
    for piece in marked.replace("\ue001", "\ue000/").split("\ue000"):
        if piece.startswith("/"):
            spans[-1][1] = len(text)
            text += piece[1:].encode()
        else:
            if text or spans or marked.startswith("\ue000"):
                spans.append([len(text), None])
            text += piece.encode()
    if "\ue000" not in marked:
        spans = []
    elif spans and not marked.startswith("\ue000") and spans[0][0] == 0:
        spans = spans[1:]
    return {"text": text.decode(), "generated": [s for s in spans if s[1] is not None]}


# ---- single features -------------------------------------------------------------------------

VALUES = {
    "s": "Hello, World", "u": "Grüße, 世界 😀", "e": "", "w": "  two  words \t\n", "i": 7, "z": 0,
    "neg": -3, "f": 2.5, "t": True, "n": None, "l": [3, 1, 2], "el": [], "names": ["b", "A", "c"],
    "d": {"a": 1, "b": [1, 2], "items": "own"}, "ed": {}, "multi": "one\ntwo\n\nthree",
    "q": "it's", "qq": 'both " and \'', "nested": {"x": {"y": [{"z": "deep"}]}},
    "rows": [{"k": "x", "v": 1, "ok": True}, {"k": "y", "v": 2, "ok": False}, {"k": "z", "v": 3}],
    "ctl": "tab\tnl\nnul\x01\x7f\u00a0\u200b", "big": 9007199254740993, "tiny": 1e-7, "huge": 1e22,
}

EXPRESSIONS = """
s | u | w | i | f | t | n | missing | l | d | rows | nested | q | qq | ctl | big | tiny | huge
1 + 2 * 3 | (1 + 2) * 3 | 7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 7 / 2 | 2 ** 10 | 2 ** -1 | 1 - -1
0.1 + 0.2 | 1e16 | 1e15 | 123456789.125 | 1.0 | 100000.0 | 0.0001 | 0.00001 | 7.5 // 2 | -7.5 % 2
-2 ** 2 | 2 ** 3 ** 2 | - i | + i | not t | not e | 'a' ~ 1 ~ none ~ true | 'a' + 'b' | 'ab' * 3
l + [4] | l * 2 | (1, 2) + (3,) | (1,) | () | [1, 'a', None, True, 2.5, ['x']] | {'k': 'v', 1: 2}
1 < 2 < 3 | 1 < 3 < 2 | 'a' < 'b' | l == [3, 1, 2] | 1 == 1.0 | true == 1 | 'a' != 'b' | n == none
'World' in s | 'x' not in s | 3 in l | 'a' in d | 'zz' in d | '' in e | s in [s] | missing == none
t and s | e and s | e or s | z or 'zero' | n or e or 'last' | t and not e or n | missing or 'alt'
s if t else u | s if e | (s if e) is defined | 'x' if 1 > 2 else 'y' if 0 else 'z' | i is odd
s[0] | s[-1] | u[-1] | s[99] | s[1:4] | s[::-1] | u[::-1] | u[3:] | s[:-3] | s[-3:] | l[::-1] | l[1:]
l[:1] | l[5:] | l[-2:] | l[::2] | l[2:0:-1] | l[:-1] | (1,2,3)[::-1] | s[i:] | l[0] | l[-1] | l.0
d.a | d['a'] | d.b[1] | d['items'] | d.missing | nested.x.y[0].z | nested['x']['y'][0]['z'] | l[9]
d.get('a') | d.get('zz') | d.get('zz', 5) | d.keys()|list | d.values()|list | d.items()|list
s|length | u|length | l|length | d|length | missing|length | s|upper | s|lower | s|title | s|capitalize
w|trim | s|trim('Hd') | w.strip() | w.lstrip() | w.rstrip() | s.strip('Hd') | u|trim | e|trim
s|replace('l', 'L') | s|replace('l', 'L', 1) | s.replace('o', '0') | s.replace('', '-') | u.replace('ü','ue')
l|join | l|join(', ') | names|join('-') | rows|join(',', attribute='k') | e|join | 'abc'|join('.')
l|sort | l|sort(reverse=true) | names|sort | names|sort(case_sensitive=true) | rows|sort(attribute='v', reverse=true)|map(attribute='k')|list
l|first | l|last | el|first | s|first | l|min | l|max | l|sum | rows|sum('v') | names|max | el|max
rows|map(attribute='k')|list | rows|map(attribute='ok', default='?')|list | names|map('upper')|list | names|map('replace', 'A', 'Z')|join
rows|selectattr('ok')|map(attribute='k')|list | rows|selectattr('v', 'gt', 1)|list|length | rows|rejectattr('k', 'equalto', 'x')|map(attribute='k')|join
rows|selectattr('ok', 'defined')|list|length | l|select('odd')|list | l|reject('odd')|list | l|select('>', 1)|list | [1,'a']|select('string')|list
rows|groupby('k') | l|batch(2)|list | s|urlencode | s|escape | ['a','a','b','A']|unique|list | d|dictsort | {'b':1,'A':2}|dictsort(by='value')
{'b':1,'A':2,'c':0}|dictsort(true) | {'b':1,'A':2}|dictsort(reverse=true) | d|items|list | 5|abs | neg|abs | -2.5|abs | 2.5|round | 3.5|round | 7|round
'12'|int | ' 12 '|int | 'x'|int | 'x'|int(9) | 3.9|int | '3.9'|int | -3.9|int | true|int | '2.5'|float | 'x'|float | 3|float | none|int
missing|default('d') | e|default('d') | e|default('d', true) | n|default('d') | missing|default | n|d('d', boolean=true)
d|tojson | s|tojson | u|tojson | ctl|tojson | rows|tojson | l|tojson(indent=2) | nested|tojson(indent=4) | ed|tojson(indent=2) | el|tojson(indent=2)
f|tojson | tiny|tojson | huge|tojson | big|tojson | n|tojson | t|tojson | qq|tojson | u|tojson(ensure_ascii=true) | {'b':1,'a':2}|tojson(sort_keys=true)
l|tojson(separators=(',',':')) | d|tojson(separators=[', ', ' : ']) | {1:2, none:3}|tojson | (1,2)|tojson | missing|tojson | '<&>'|tojson | nested|tojson(indent='--')
s|string | 5|string | l|string | n|string|length | l|reverse|list | s|reverse | s|list | u|list | d|list | missing|list | s|safe | multi|indent | multi|indent(2) | multi|indent(2, true) | multi|indent(2, true, true) | multi|indent('> ', blank=true)
'%s is %d'|format('x', 5) | '%s' % 5 | '%s-%s' % (1, 2) | '100%%'|format() | '%d' % 2.9 | '%s %s' % 1
s is string | 1 is string | d is mapping | l is mapping | l is sequence | s is sequence | d is sequence | 1 is sequence | l is iterable | 1 is iterable | missing is iterable
i is number | f is number | t is number | i is integer | t is integer | t is boolean | f is float | n is none | e is none | missing is none | missing is defined | missing is undefined | s is defined
t is true | 1 is true | t is false | false is false | i is even | i is divisibleby 7 | i is divisibleby(2) | 1 is eq 1 | 1 is ne(1) | 2 is gt 1 | 'a' is in 'abc' | 'a' is in(['a']) | 'abc' is lower | 'ABC' is upper | 'Abc' is lower
n is sameas none | l is sameas l | [1] is sameas [1] | namespace is callable | s is not string | missing is not defined | i is not none | not i is none | s is string and t
s.upper() | s.lower() | s.title() | s.capitalize() | s.startswith('He') | s.startswith(('x', 'He')) | s.endswith('ld') | s.endswith('') | s.split() | s.split(',') | s.split('l', 1) | w.split() | 'a  b c d'.split(none, 2) | s.rsplit('o', 1) | s.rsplit('o')
multi.splitlines() | multi.splitlines(true) | 'a\\r\\nb'.splitlines() | ', '.join(names) | ''.join(el) | s.find('o') | s.find('q') | u.find('世') | s.rfind('o') | s.index('W') | s.count('l') | s.count('') | 'x1'.isalnum() | 'x1'.isalpha() | '12'.isdigit() | ' '.isspace() | ''.isspace() | 'A'.isupper() | '1'.isupper() | 'abc'.removeprefix('a') | 'abc'.removesuffix('c')
l.index(1) | l.count(1) | l.index(9) | l.append(4) | d.update({'x': 1}) | d.pop('a') | range(3)|list | range(1, 4)|list | range(5, 0, -2)|list | range(3)|length | range(0)|list | 2 in range(3)
dict(a=1, b=2) | dict({'x': 1}, y=2) | namespace(a=1).a | namespace().missing | strftime_now('%d %b %Y') | strftime_now('%Y-%m-%d %H:%M') | raise_exception('no')
'a\\n\\t\\'\\"\\\\b' | "dq'" | 'oct\\101 \\x41 \\u00e9 \\U0001F600' | '\\q' | 'a' 'b' "c" | 1_000 | 1_0.5 | 1e3 | 1.5e-3 | 007 | 0 | 00 | True | False | None | none | true
1 + 'a' | 'a' - 'b' | [] + () | n + 1 | missing + 1 | missing.x | missing['x'] | missing() | n.x | n.x.y | i.x | s() | l.x | l['x'] | l['a':] | i[0] | d[missing] | 1 < 'a' | n < 1 | missing < 1 | l < [4] | (1,2) < (1,3)
1 in 2 | 1 in s | n in s | i|length | n|length | i|list | n|join | l|nofilter | i is notest | -s | -missing | not missing | +n | 1 if | (1 | [1 | {1 | 'x | 1 2 | a b | a..b | a.1b | 1.2.3 | |upper | a| | @ | a ! b | a === b
1 // 0 | 1 % 0 | 1 / 0 | 1.0 // 0 | 9223372036854775807 + 1 | loop | loop.index | self | caller | super() | 'a'.join([1]) | 'x'.split('') | l|map | l|map('nofilter') | l|select('notest') | d|map(attribute='x')|list | l|map(1)
d.items | d['nope'] is defined | (d.items()|list)[0][0] | nested.x.y|map(attribute='z')|first | rows|map(attribute='k')|join('|') | (rows|selectattr('ok')|list)[0].k | rows|selectattr('k','in',['x','y'])|list|length | (rows|map(attribute='v')) is iterable | (rows|selectattr('v','gt',99)) and 'yes'
l|map('string')|map('upper')|join('+') | (l|map('string'))|length | (l|map('string'))[0] | rows|map(attribute='k')|last | {'a': {'b': 1}}|tojson|length | d == {'b': [1, 2], 'a': 1, 'items': 'own'} | [1,2] in [[1,2]] | {'a':1}.a | [1,2,3][1:][0] | 'abc'[1] | ('a','b')[1] | 'x'.upper().lower() | s|lower|title|replace('h','j')|upper
1 , 2 | 1, | (1, 2) | [1,] | {'a':1,} | f | f|int | not not t | 1 == 2 or 3 == 3 and not 1 > 2 | 'a' in 'abc' in ['abc'] | 1 != 2 != 3 | i > 5 and i < 10 | 5 < i <= 7 | 'b' ~ 1 + 2 ~ 'c' | 1 ~ 2 * 3 | 2 * 'ab' | true + 1 | true ~ false | [] ~ {} | none ~ '' | (missing ~ 'x') | [missing] | {'a': missing}
"""

STATEMENTS = [
    # white space
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\n  {% if t %}  \n  b\n  {% endif %}\n  c",
    "a {%- if t -%} b {%- endif -%} c", "a\n{%+ if t %}\nb{% endif +%}\nc", "  {{ i }}  \n  {{ i }}\n",
    "a\n  {# note #}\nb", "a {#- note -#} b", "a\n   {{- i -}}   \nb", "{% if t %}\r\nx\r\n{% endif %}\r\ny\r\n",
    "x\n\n\n", "x\n", "\n", "", "{% raw %}{{ i }}{% endraw %}", "a {%- raw -%}  {{ i }} {%- endraw -%}  b",
    "{% raw %}\n{% if %}\n{% endraw %}\nb", "a\n  {% raw %} x {% endraw %}  \nb", "{{ '{{' }}{{ '}}' }}{{ '%}' }}",
    "{{ {'a': {'b': 1}}['a'] }}", "{{- i }}", "{{ i -}}  \n\t x", " \t{%- set x = 1 %}y", "{{+ i }}",
    "a\u00a0{%- if t %}b{% endif %}", "a\n\t {%- if t %} b{% endif %}", "{#+ c #} x", "x {# a +#}\ny",
    "{% if t %}a{% endif %}\n{% if t %}b{% endif %}\n", "{% if t -%}\n  a\n{%- endif %}", "{ { i } } {%", "{", "a{", "{ %", "}}", "%}",
    # set and scope
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = 1, 2 %}{{ x }}",
    "{% set x %}a{{ i }}b{% endset %}[{{ x }}]", "{% set x | upper | trim %} a {% endset %}[{{ x }}]",
    "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}", "{% set d.a = 2 %}", "{% set ns.x = 1 %}",
    "{% set x = 1 %}{% for a in l %}{% set x = a %}{% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for a in l %}{% set ns.x = ns.x + a %}{% endfor %}{{ ns.x }}",
    "{% for a in l %}{% if x is defined %}x{% endif %}{% set x = 1 %}{% endfor %}", "{% if t %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% if z %}{% set s = 5 %}{% endif %}{{ s }}", "{% set s = 'own' %}{{ s }}", "{% set (x, y) = (1, 2) %}{{ y }}", "{% set x, y = 1 %}", "{% set x, y = (1,2,3) %}", "{% set 5 = 1 %}", "{% set true = 1 %}", "{% set x %}{% set y = 1 %}{% endset %}{{ y }}",
    "{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{% set ns.a = ns.a + [2] %}{{ ns.a }}", "{% set ns = namespace(_a=1) %}{{ ns.b }}|", "{% with x = 1, y = 2 %}{{ x + y }}{% endwith %}{{ x }}", "{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}", "{% with %}{% set q = 1 %}{% endwith %}{{ q }}",
    # loops
    "{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% endfor %}",
    "{% for a in el %}x{% else %}none{% endfor %}", "{% for a in l %}x{% else %}none{% endfor %}", "{% for a in missing %}x{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for a in l if a > 1 %}{{ loop.index }}:{{ a }} {% endfor %}", "{% for a in l if a > 9 %}x{% else %}none{% endfor %}", "{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}",
    "{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% else %}never{% endfor %}", "{% for a in l %}{% for b in names %}{{ a }}{{ b }}{{ loop.index }}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for a in l %}{{ loop.cycle('x', 'y') }}{% endfor %}", "{% for a in l %}{{ loop.previtem }}|{{ loop.nextitem }};{% endfor %}", "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a in 5 %}{% endfor %}", "{% for a in none %}{% endfor %}",
    "{% for a in l %}{{ loop.depth }}{% for b in l %}{{ loop.depth0 }}{% endfor %}{% endfor %}", "{% for (a, b) in d.items() %}{{ a }}{% endfor %}", "{% for a in 1, 2 %}{{ a }}{% endfor %}", "{% for loop in l %}{{ loop }}{% endfor %}", "{% for a in l[::-1] %}{{ a }}{% endfor %}{{ a }}", "{% for x in (l if t else el) %}{{ x }}{% endfor %}", "{% break %}", "{% for a in l %}{% endfor", "{% for a in l %}", "{% for a l %}{% endfor %}", "{% for m in rows[1:] %}{{ loop.index0 }}{{ m.k }}{% endfor %}", "{% for x in rows %}{%- if not loop.first %}, {% endif -%}{{ x.k }}{%- endfor %}",
    "{% for i in range(3) %}{% for j in range(i) %}{{ j }}{% endfor %},{% endfor %}{{ i }}", "{% set g = l|map('string') %}{% for a in g %}{{ a }}{% endfor %}{% for a in g %}{{ a }}{% endfor %}!",
    # if
    "{% if z %}a{% elif t %}b{% else %}c{% endif %}", "{% if z %}a{% elif e %}b{% else %}c{% endif %}", "{% if z %}a{% elif e %}b{% endif %}", "{% if missing %}a{% endif %}b", "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{% else %}", "{% if t %}{% else %}{% else %}{% endif %}", "{% if s == 'Hello, World' and not z %}y{% endif %}", "{% if missing is defined and missing.x %}a{% else %}b{% endif %}", "{% if missing.x is defined %}a{% endif %}", "{% if d.nope is defined and d.nope is not none %}a{% else %}b{% endif %}",
    # macros
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=5) }} {{ m() }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(7) }}", "{% macro m() %}{{ i }}{% set i = 9 %}{{ i }}{% endmacro %}{{ m() }}{{ i }}", "{% macro m(n) %}{% if n > 0 %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{{ i }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}", "{% macro m() %} a {% endmacro %}[{{ m()|trim }}][{{ m() ~ 'x' }}]{{ m() is string }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m(x) %}{{ x }}{% endmacro %}{% for a in l %}{{ m(a) }}{% endfor %}", "{% macro m() %}{% for a in l %}{{ loop.index }}{% endfor %}{% endmacro %}{{ m() }}{{ m is callable }}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a,) %}{% endmacro %}", "{{ m(*[1, 2]) }}", "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'b': 3, 'a': 4}) }}{{ m(1, *[2]) }}", "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim | replace('a', 'b') %} aa {% endfilter %}!",
    # refused statements
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% frob %}", "{% %}", "{{ }}", "{{", "{%", "{#", "{{ i }", "{% raw %}", "{% do l.append(1) %}", "{% macro m %}{% endmacro %}",
    # generation
    "a{% generation %}b{{ i }}{% endgeneration %}c", "{% for a in names %}<{% generation %}{{ a }}{% endgeneration %}>{% endfor %}", "{% generation %}é{% endgeneration %}{% generation %}{% endgeneration %}", "{% generation %}\nx\n{%- endgeneration %}\ny", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q }}|",
]

# What this engine refuses although jinja2 renders it (or, `for loop`, the other way round).
LEFT_OUT = ("9223372036854775807", "for loop in","|groupby", "|batch", "|urlencode", "|escape", "super()", "self", "m(a,)")


def feature_cases():
    expressions = [e.strip() for line in EXPRESSIONS.strip().split("\n")
                   for e in line.split(" | ")]
    for template in ["{{ " + e + " }}" for e in expressions] + STATEMENTS:
        if any(word in template for word in LEFT_OUT) or template in ("{#", "{% raw %}"):
            continue
        case = {"template": template, "variables": VALUES}
        result = render(template, VALUES)
        if " at 0x" in result.get("text", ""):  # an object no template should print
            continue
        result.pop("why", None)
        if "generation" not in template:
            result.pop("generated", None)
        yield {**case, **result}


def used(case):
    """The case with only those variables whose name appears in the template."""
    words = set(re.findall(r"\w+", case["template"]))
    return {**case, "variables": {k: v for k, v in case["variables"].items() if k in words}}


# ---- random conversations --------------------------------------------------------------------

TEXTS = ["", "Hi", "What is 2+2?", "  padded \n", "Grüße 世界 😀", "a\nb\n\nc", "<|im_end|>", "it's \"q\"",
         "{{ not a template }}", "<think>hm</think>answer", "\ttab", "[INST] x [/INST]", "x" * 300,
         "\u00a0nbsp\u3000", "<tool_response>1</tool_response>", "0", "null"]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "It's <b>",
          "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["é"]},
                         "n": {"type": "number", "default": 1.5}}, "required": ["city"]}}},
         {"type": "function", "function": {"name": "now", "description": "", "parameters": {}}}]


def random_content(r):
    if r.random() < 0.04:
        return [{"type": "text", "text": r.choice(TEXTS)} for _ in range(r.randint(0, 2))]
    return r.choice(TEXTS)


def random_message(r, role):
    m = {"role": role, "content": random_content(r)}
    if role == "assistant" and r.random() < 0.2:
        arguments = {"city": r.choice(TEXTS), "n": r.choice([1, 2.5, None, [1, {"a": True}]])}
        call = {"id": "abcdefghi", "type": "function",
                "function": {"name": "weather", "arguments": arguments}}
        m["tool_calls"] = [call] * r.randint(1, 2)
        if r.random() < 0.5:
            m["content"] = r.choice(["", None])
    if role == "assistant" and r.random() < 0.1:
        m["reasoning_content"] = r.choice(TEXTS)
    if role == "tool":
        m["tool_call_id"] = "abcdefghi"
        m["name"] = "weather"
    if r.random() < 0.01:
        del m[r.choice(list(m))]
    return m


def random_conversation(r):
    roles = ["system"] if r.random() < 0.4 else []
    for _ in range(r.randint(0, 4)):
        roles += ["user", "assistant"]
        if r.random() < 0.15:
            roles += ["tool", "assistant"]
    if r.random() < 0.5:
        roles += ["user"]
    if r.random() < 0.1 and roles:
        roles.insert(r.randrange(len(roles)), r.choice(["user", "assistant", "system", "tool", "odd"]))
    v = {"messages": [random_message(r, role) for role in roles], "bos_token": "<s>",
         "eos_token": "</s>", "add_generation_prompt": r.random() < 0.5}
    if r.random() < 0.25:
        v["tools"] = TOOLS[:r.randint(0, 2)]
    elif r.random() < 0.5:
        v["tools"] = None
    for flag in ("enable_thinking", "preserve_thinking"):
        if r.random() < 0.3:
            v[flag] = r.random() < 0.5
    return v


def built_in_templates(program):
    found = subprocess.run([program, "--built-ins"], capture_output=True, text=True, check=False)
    return json.loads(found.stdout) if found.returncode == 0 and found.stdout else {}


def compare(program, count, directory):
    r = random.Random(1)
    templates = built_in_templates(program)
    if directory:
        templates.update({p.name: p.read_text() for p in sorted(directory.glob("*.jinja"))})
    cases = [{"template": t, "variables": random_conversation(r), "name": name}
             for _ in range(-(-count // len(templates))) for name, t in templates.items()]
    lines = "".join(json.dumps({"template": c["template"], "variables": c["variables"],
                                **({"spans": 1} if re.search(r"\bendgeneration\b", c["template"]) else {})},
                               ensure_ascii=False) + "\n" for c in cases)
    done = subprocess.run([program, "--render"], input=lines, capture_output=True, text=True,
                          check=True)
    counts, shown = {}, 0
    for case, line in zip(cases, done.stdout.splitlines(), strict=True):
        found, expected = json.loads(line), render(case["template"], case["variables"])
        same = (found.get("text") == expected.get("text")
                and found["generated"] == expected.get("generated", []))
        c = counts.setdefault(case["name"], [0, 0, 0])
        c[0] += same and "text" in found
        c[1] += same and "text" not in found
        c[2] += not same
        if not same and shown < 20:
            shown += 1
            print(case["name"], json.dumps(case["variables"]), found, expected, sep="\n  ")
    for name, c in counts.items():
        print(f"{name}: {c[0]} equal, {c[1]} errors in both, {c[2]} different")
    print("total:", *(sum(c[i] for c in counts.values()) for i in range(3)))
    return sum(c[2] for c in counts.values()) > 0


def main():
    if len(sys.argv) >= 3:
        directory = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
        sys.exit(compare(sys.argv[1], int(sys.argv[2]), directory))
    cases = [used(c) for c in feature_cases()]
    with open(HERE / "jinja.json", "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")


main()
