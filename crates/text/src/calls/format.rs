//! The formats that models write reasoning and tool calls in, told by their chat templates.

use crate::chat::Chat;
use crate::{Kind, Tokenizer};

/// How one model writes reasoning and tool calls.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub(super) calls: &'static Calls,
    pub(super) thinking: Option<&'static Thinking>,
    /// Whether the template speaks of tools.
    shows: bool,
}

/// Marks around reasoning.
#[derive(Debug)]
pub(super) struct Thinking {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
}

/// A form of tool calls.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) name: &'static str,
    /// Texts that templates of this form all hold; any list of them.
    signs: &'static [&'static [&'static str]],
    /// What begins a call.
    pub(super) opens: &'static [&'static str],
    /// A message that is nothing but a JSON object is a call, if it names a tool.
    pub(super) bare: bool,
    pub(super) body: Body,
    /// What ends a call. Nothing but the end of the message if empty.
    pub(super) close: &'static str,
    /// What a model is made to write where a call is asked for: between the mark and the JSON, and after it.
    pub(super) around: (&'static str, &'static str),
    /// Names of the JSON object's fields, where a call is asked for.
    pub(super) fields: (&'static str, &'static str),
}

/// What is between the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A JSON object with the name and the arguments, several of them, or lists of them.
    Object,
    /// Lists only, where the model is made to call.
    List,
    /// The name, this, and the arguments as a JSON object.
    Named(&'static str),
    /// `<function=name>`, `<parameter=key>`, the value, `</parameter>`, …, `</function>`.
    Tagged,
}

const ARGUMENTS: (&str, &str) = ("name", "arguments");
const PARAMETERS: (&str, &str) = ("name", "parameters");

/// Everything known, the first that fits counts.
const CALLS: &[Calls] = &[
    Calls {
        name: "qwen3-coder",
        signs: &[&["<tool_call>", "<function=", "<parameter="]],
        opens: &["<tool_call>", "<function="],
        bare: false,
        body: Body::Tagged,
        close: "</tool_call>",
        around: ("\n", "\n"),
        fields: ARGUMENTS,
    },
    Calls {
        name: "seed",
        signs: &[&["<seed:tool_call>", "<function=", "<parameter="]],
        opens: &["<seed:tool_call>"],
        bare: false,
        body: Body::Tagged,
        close: "</seed:tool_call>",
        around: ("\n", "\n"),
        fields: ARGUMENTS,
    },
    Calls {
        name: "functionary",
        signs: &[&["<function=", "</function>"]],
        opens: &["<function="],
        bare: false,
        body: Body::Named(">"),
        close: "</function>",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "hermes",
        signs: &[
            &["<tool_call>", "</tool_call>", "\"name\""],
            &["<tool_call>", "</tool_call>", r#"\"name\""#],
        ],
        opens: &["<tool_call>"],
        bare: false,
        body: Body::Object,
        close: "</tool_call>",
        around: ("\n", "\n"),
        fields: ARGUMENTS,
    },
    Calls {
        name: "mistral",
        signs: &[&["[TOOL_CALLS]", "[ARGS]"]],
        opens: &["[TOOL_CALLS]"],
        bare: false,
        body: Body::Named("[ARGS]"),
        close: "",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "mistral-list",
        signs: &[&["[TOOL_CALLS]"]],
        opens: &["[TOOL_CALLS]"],
        bare: false,
        body: Body::List,
        close: "",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "functools",
        signs: &[&["functools["]],
        opens: &["functools"],
        bare: false,
        body: Body::List,
        close: "",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "llama3",
        signs: &[&["<|start_header_id|>", "\"parameters\"", "tool_calls"]],
        opens: &["<|python_tag|>"],
        bare: true,
        body: Body::Object,
        close: "",
        around: ("", ""),
        fields: PARAMETERS,
    },
    // Phi-4-mini's template shows the tools, not the calls.
    Calls {
        name: "phi4",
        signs: &[&["<|tool|>", "<|/tool|>"]],
        opens: &["<|tool_call|>", "functools"],
        bare: false,
        body: Body::List,
        close: "<|/tool_call|>",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "granite",
        signs: &[&["<|tool_call|>"]],
        opens: &["<|tool_call|>"],
        bare: false,
        body: Body::List,
        close: "",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "nemotron",
        signs: &[&["<TOOLCALL>"]],
        opens: &["<TOOLCALL>"],
        bare: false,
        body: Body::List,
        close: "</TOOLCALL>",
        around: ("", ""),
        fields: ARGUMENTS,
    },
    Calls {
        name: "command",
        signs: &[&["<|START_ACTION|>"]],
        opens: &["<|START_ACTION|>"],
        bare: false,
        body: Body::List,
        close: "<|END_ACTION|>",
        around: ("", ""),
        fields: ("tool_name", "parameters"),
    },
    Calls {
        name: "tool-calls",
        signs: &[&["<tool_calls>", "</tool_calls>"]],
        opens: &["<tool_calls>"],
        bare: false,
        body: Body::List,
        close: "</tool_calls>",
        around: ("", ""),
        fields: ARGUMENTS,
    },
];

/// For templates that know no tools: what [`Format::instructions`] tells the model to write.
const GENERIC: Calls = Calls {
    name: "generic",
    signs: &[],
    opens: &["<tool_call>"],
    bare: false,
    body: Body::Object,
    close: "</tool_call>",
    around: ("\n", "\n"),
    fields: ARGUMENTS,
};

const THINKING: &[Thinking] = &[
    Thinking { open: "<think>", close: "</think>" },
    Thinking { open: "[THINK]", close: "[/THINK]" },
    Thinking { open: "<seed:think>", close: "</seed:think>" },
    Thinking { open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
];

impl Format {
    /// The format of a model, by its template.
    pub fn detect(chat: &Chat) -> Format {
        let format = Format::of_source(chat.tool_source());
        Format { thinking: format.thinking.or(thinking_of(chat.source())), ..format }
    }

    /// The format that a template's source tells of.
    pub fn of_source(source: &str) -> Format {
        Format { calls: calls_of(source), thinking: thinking_of(source), shows: source.contains("tools") }
    }

    /// What the form of calls is called here.
    pub fn name(&self) -> &'static str {
        self.calls.name
    }

    /// Whether the template shows tools to the model. [`Format::instructions`] is for those that do not.
    pub fn shows_tools(&self) -> bool {
        self.shows
    }

    /// Whether the template looks for tools in the system message, under the key `tools`, as JSON text.
    pub fn tools_in_message(&self) -> bool {
        self.calls.name == "phi4"
    }

    /// Whether the model may reason before it answers, between marks.
    pub fn thinks(&self) -> bool {
        self.thinking.is_some()
    }

    /// Control tokens whose names the parser must see.
    pub fn shown(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let marks = self.calls.opens.iter().copied().chain([self.calls.close]);
        let marks = marks.chain(self.thinking.iter().flat_map(|thinking| [thinking.open, thinking.close]));
        let marks = marks.chain(match self.calls.body {
            Body::Named(mark) => [mark, "[CALL_ID]"].into_iter(),
            _ => ["", ""].into_iter(),
        });
        let mut ids: Vec<u32> = marks.filter_map(|mark| control(tokenizer, mark)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether a prompt ends within reasoning: its template opened it for the model.
    pub fn starts_thinking(&self, prompt: &str) -> bool {
        self.thinking.is_some_and(|thinking| {
            let end = &prompt[prompt.len() - tail(prompt, 200)..];
            end.trim_end().ends_with(thinking.open)
        })
    }
}

/// At most `most` bytes from the end, whole characters.
fn tail(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|&n| text.is_char_boundary(text.len() - n)).unwrap_or(0)
}

fn calls_of(source: &str) -> &'static Calls {
    let fits =
        |calls: &&Calls| calls.signs.iter().any(|signs| signs.iter().all(|sign| source.contains(sign)));
    CALLS.iter().find(fits).unwrap_or(&GENERIC)
}

fn thinking_of(source: &str) -> Option<&'static Thinking> {
    THINKING.iter().find(|thinking| source.contains(thinking.open) || source.contains(thinking.close))
}

/// The control token of a name.
pub(super) fn control(tokenizer: &Tokenizer, name: &str) -> Option<u32> {
    let named = |(text, id): (&[u8], u32)| (text == name.as_bytes()).then_some(id);
    let id = tokenizer.specials().find_map(named)?;
    (tokenizer.kind(id) == Kind::Control).then_some(id)
}
