//! Reasoning and tool calls: from what a model writes, and to what it is made to write.
//!
//! ```
//! use text::calls::{Format, Options, Piece, Parser};
//!
//! let format = Format::of_source("… <tool_call>\n{\"name\": …}\n</tool_call> … tools …");
//! let tools = serde_json::json!([{"type": "function", "function": {"name": "now"}}]);
//! let mut parser = Parser::new(&format, Options { tools: Some(&tools), ..Options::default() });
//! let mut told = Vec::new();
//! let mut on = |piece: Piece<'_>| told.push(format!("{piece:?}"));
//! parser.push("Let me see.\n<tool_call>\n{\"name\": \"now\", \"argu", &mut on);
//! parser.push("ments\": {\"zone\": \"UTC\"}}\n</tool_call>", &mut on);
//! parser.finish(&mut on);
//! assert_eq!(told[0], "Text(\"Let me see.\")");
//! assert!(told[1].starts_with("Call { index: 0, id: ") && told[1].ends_with("name: \"now\" }"));
//! assert_eq!(told[2], r#"Arguments { index: 0, text: "{\"zone\": \"UTC\"}" }"#);
//! assert_eq!(told[3], "CallEnd { index: 0, complete: true }");
//! ```

mod collect;
mod forced;
mod format;
mod parser;
mod read;
mod scan;
mod shape;
mod tags;
mod tools;

pub use self::collect::{Call, Collected, collect};
pub use self::forced::{Choice, Error};
pub use self::format::Format;
pub use self::parser::{Listener, Options, Parser, Piece};
pub use self::shape::Shape;
