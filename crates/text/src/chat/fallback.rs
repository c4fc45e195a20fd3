//! Formats for models whose file has no chat template, recognised by the control tokens of the
//! vocabulary. They are templates like any other.

/// A named format.
pub(super) struct Fallback {
    pub(super) name: &'static str,
    /// Control tokens that a vocabulary for this format has, all of them.
    tokens: &'static [&'static str],
    pub(super) source: &'static str,
}

/// A message's text: its content, or the text parts of its content.
pub(super) const TEXT: &str = concat!(
    "{% macro text(message) %}",
    "{% if message.content is string %}{{ message.content }}",
    "{% elif message.content %}{% for part in message.content %}{{ part.text }}{% endfor %}",
    "{% endif %}",
    "{% endmacro %}",
);

/// All formats, the most particular first; the last needs no tokens.
pub(super) const FALLBACKS: &[Fallback] = &[
    Fallback {
        name: "llama3",
        tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        source: concat!(
            "{{ bos_token }}",
            "{% for message in messages %}",
            "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ text(message) | trim }}<|eot_id|>",
            "{% endfor %}",
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ),
    },
    Fallback {
        name: "chatml",
        tokens: &["<|im_start|>", "<|im_end|>"],
        source: concat!(
            "{% for message in messages %}",
            "<|im_start|>{{ message.role }}\n{{ text(message) }}<|im_end|>\n",
            "{% endfor %}",
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ),
    },
    Fallback {
        name: "gemma",
        tokens: &["<start_of_turn>", "<end_of_turn>"],
        // Gemma has no system role: its text opens the first turn of the user.
        source: concat!(
            "{{ bos_token }}",
            "{% set ns = namespace(system='') %}",
            "{% for message in messages %}",
            "{% if message.role == 'system' %}",
            "{% set ns.system = ns.system ~ (text(message) | trim) ~ '\n\n' %}",
            "{% else %}",
            "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n",
            "{% if message.role == 'user' %}{{ ns.system }}{% set ns.system = '' %}{% endif %}",
            "{{ text(message) | trim }}<end_of_turn>\n",
            "{% endif %}",
            "{% endfor %}",
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ),
    },
    Fallback {
        name: "phi3",
        tokens: &["<|user|>", "<|assistant|>", "<|end|>"],
        source: concat!(
            "{% for message in messages %}",
            "{{ '<|' ~ message.role ~ '|>' }}\n{{ text(message) }}<|end|>\n",
            "{% endfor %}",
            "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ),
    },
    Fallback {
        name: "generic",
        tokens: &[],
        source: concat!(
            "{% for message in messages %}",
            "{{ '<|' ~ message.role ~ '|>' }}\n{{ text(message) }}{{ eos_token }}\n",
            "{% endfor %}",
            "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ),
    },
];

/// The format for a vocabulary with these control tokens.
pub(super) fn choose(has: impl Fn(&str) -> bool) -> &'static Fallback {
    FALLBACKS
        .iter()
        .find(|fallback| fallback.tokens.iter().all(|token| has(token)))
        .unwrap_or(&FALLBACKS[FALLBACKS.len() - 1])
}
