#!/usr/bin/env python3
"""Writes cases.json, the conversations every template is rendered with."""

import json
import pathlib

weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place, \"now\" & <soon>",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 14},
                "where": {
                    "type": "object",
                    "description": "Coordinates",
                    "properties": {
                        "lat": {"type": "number"},
                        "lon": {"type": "number", "exclusiveMinimum": -180.5},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["lat", "lon"],
                },
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
clock = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}
plain = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "number", "description": "First"},
                "b": {"type": "number", "description": "Second"},
                "how": {"type": "object", "properties": {"exact": {"type": "boolean"}}, "additionalProperties": {"type": "string"}},
                "names": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["a", "b"],
        },
        "return": {"type": "number"},
    },
}
arguments = {"city": "Zürich", "days": 3, "where": {"lat": 47.37, "lon": 8.0, "tags": ["a", "b"]}, "exact": True, "none": None}


def call(args, index=0, name="get_weather"):
    return {"id": f"call{index:05}", "type": "function", "function": {"name": name, "arguments": args}}


user = {"role": "user", "content": "What is 2+2?"}
system = {"role": "system", "content": "You are brief."}
answer = {"role": "assistant", "content": "4"}
more = {"role": "user", "content": "And 3+3?"}
ask = {"role": "user", "content": "Weather in Zürich?"}
said = {"role": "tool", "name": "get_weather", "tool_call_id": "call00000", "content": "{\"temp\": 21.5}"}


def called(args, content=""):
    return {"role": "assistant", "content": content, "tool_calls": [call(args)]}


cases = {
    "user": {"messages": [user]},
    "user_no_prompt": {"messages": [user], "add_generation_prompt": False},
    "system_user": {"messages": [system, user]},
    "turns": {"messages": [system, user, answer, more]},
    "turns_no_prompt": {"messages": [user, answer], "add_generation_prompt": False},
    "turns_no_system": {"messages": [user, answer, more, {"role": "assistant", "content": "6 "}, user]},
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, user]},
    "unknown_role": {"messages": [user, {"role": "critic", "content": "no"}]},
    "assistant_first": {"messages": [answer, user]},
    "two_users": {"messages": [user, more]},
    "empty": {"messages": []},
    "system_only": {"messages": [system]},
    "spaces": {"messages": [{"role": "user", "content": "  padded\n\n"}, {"role": "assistant", "content": "\n x \n"}, {"role": "user", "content": ""}]},
    "unicode": {"messages": [{"role": "system", "content": "Ünïcödé — ok"}, {"role": "user", "content": "你好 🙂 \u00a0 e\u0301 '\"\\ <b>&amp;</b> {{ x }} {% if %}"}]},
    "null_content": {"messages": [user, {"role": "assistant", "content": None}, more]},
    "missing_content": {"messages": [user, {"role": "assistant"}, more]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}]},
    "system_parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "Sys."}]}, user]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]},
    "tools": {"messages": [system, ask], "tools": [weather]},
    "tools_no_system": {"messages": [ask], "tools": [weather, clock]},
    "call_dict": {"messages": [ask, called(arguments), said], "tools": [weather]},
    "call_text": {"messages": [ask, called(json.dumps(arguments)), said], "tools": [weather]},
    "call_null_content": {"messages": [ask, called(arguments, None), said], "tools": [weather]},
    "call_with_words": {"messages": [system, ask, called({"city": "Bern"}, "Let me look."), said, {"role": "assistant", "content": "21.5 °C."}, {"role": "user", "content": "Thanks"}], "tools": [weather, clock]},
    "call_empty": {"messages": [ask, called({}), said], "tools": [clock]},
    "two_calls": {"messages": [ask, {"role": "assistant", "content": "", "tool_calls": [call({"city": "A"}), call({"city": "B"}, 1)]}, said, {**said, "tool_call_id": "call00001", "content": "rain"}], "tools": [weather]},
    "call_no_prompt": {"messages": [ask, called(arguments)], "tools": [weather], "add_generation_prompt": False},
    "call_no_tools": {"messages": [ask, called(arguments), said]},
    "call_again": {"messages": [ask, called({"city": "A"}), said, called({"city": "B"}), said, {"role": "assistant", "content": "Done."}], "tools": [weather], "add_generation_prompt": False},
    "tool_result_dict": {"messages": [ask, called(arguments), {**said, "content": {"temp": 21.5, "x": [1, None, True]}}], "tools": [weather]},
    "tool_result_parts": {"messages": [ask, called(arguments), {**said, "content": [{"type": "text", "text": "rain"}]}], "tools": [weather]},
    "reasoning": {"messages": [user, {"role": "assistant", "content": "4", "reasoning_content": "2 and 2\nis 4."}, more]},
    "reasoning_no_prompt": {"messages": [user, {"role": "assistant", "content": "4", "reasoning_content": "is 4."}], "add_generation_prompt": False},
    "reasoning_call": {"messages": [ask, {**called(arguments), "reasoning_content": "I need it."}, said], "tools": [weather]},
    "think_in_content": {"messages": [user, {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}, more]},
    "thinking_on": {"messages": [system, user], "arguments": {"enable_thinking": True, "thinking": True}},
    "thinking_off": {"messages": [system, user], "arguments": {"enable_thinking": False, "thinking": False}},
    "thinking_off_turns": {"messages": [user, {"role": "assistant", "content": "4", "reasoning_content": "x"}, more], "arguments": {"enable_thinking": False, "thinking": False}},
    "effort": {"messages": [user], "arguments": {"reasoning_effort": "high", "builtin_tools": ["browser", "python"], "model_identity": "You are X."}},
    "arguments": {"messages": [system, user], "tools": [weather], "arguments": {"date_string": "01 Jan 2025", "tools_in_user_message": False, "custom_tools": None, "xml_tools": "x", "add_vision_id": True, "keep_all_reasoning": True, "clear_thinking": False, "preserve_thinking": True}},
    "tools_plain": {"messages": [system, user], "tools": [plain], "arguments": {"functions": "[]", "datetime": "today"}},
    "tools_plain_no_system": {"messages": [user, answer, more], "tools": [plain, plain]},
    "call_plain": {"messages": [user, {"role": "assistant", "content": "", "tool_calls": [call({"a": 2, "b": 2.0}, 0, "add")]}, {**said, "name": "add", "content": "4"}], "tools": [plain]},
    "call_plain_text": {"messages": [system, user, {"role": "assistant", "content": None, "tool_calls": [call("{\"a\": 2, \"b\": 2.0}", 0, "add")]}, {**said, "name": "add", "content": "4"}, answer, more], "tools": [plain]},
    "call_plain_function": {"messages": [user, {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {"a": 1e100, "b": -0.00001}}]}, {"role": "tool", "content": "x"}], "tools": [plain["function"]]},
    "tool_last_chat": {"messages": [user, {"role": "assistant", "content": "", "tool_calls": [call({"a": 2}, 0, "add")]}, {"role": "tool_response", "content": "4"}, {"role": "ipython", "content": {"output": 4}}], "tools": [plain], "arguments": {"functions": "[]", "datetime": "today"}},
    "big_numbers": {"messages": [{"role": "user", "content": "x", "name": "bob"}, {"role": "assistant", "content": "", "tool_calls": [call({"n": [0, -1, 9223372036854775807, 1e16, 123456789012345.6, 1e-5, 0.0001, 5e-324, 1e22, -0.0]})]}], "tools": [plain]},
    "documents": {"messages": [user], "documents": [{"title": "T", "text": "Body", "doc_id": 1}], "arguments": {"citations": True}},
}
path = pathlib.Path(__file__).with_name("cases.json")
path.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
print(len(cases), "cases")
