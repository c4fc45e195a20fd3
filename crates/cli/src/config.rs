//! The only place that reads environment variables.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the environment asks for; flags win over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// `JETSON_LLM_MODEL`: the model used without `-m`, instead of the built-in one.
    pub(crate) model: Option<PathBuf>,
    /// `JETSON_LLM_THREADS`: threads used without `-t`, as written; it is parsed where it is used so
    /// that commands which compute nothing do not stumble over it.
    pub(crate) threads: Option<String>,
    /// `JETSON_LLM_CUDA_LIBRARY`: the CUDA driver's library, instead of the system's.
    pub(crate) cuda_library: Option<PathBuf>,
    /// `NO_COLOR` (<https://no-color.org>) is set and not empty, or `TERM` is `dumb`.
    pub(crate) plain: bool,
    /// `XDG_RUNTIME_DIR`: where running programs tell how they stand.
    pub(crate) runtime: Option<PathBuf>,
    /// `TERM` is `dumb` or not set: no cursor can be moved.
    pub(crate) dumb: bool,
    /// Where chat history is kept: `$XDG_STATE_HOME/jetson-llm`, else `~/.local/state/jetson-llm`.
    pub(crate) state: Option<PathBuf>,
}

impl Config {
    /// Reads the environment once, at start.
    pub(crate) fn from_environment() -> Config {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
        let state = set("XDG_STATE_HOME")
            .and_then(absolute)
            .or_else(|| set("HOME").and_then(absolute).map(|home| home.join(".local/state")));
        Config {
            model: set("JETSON_LLM_MODEL").map(PathBuf::from),
            threads: set("JETSON_LLM_THREADS").map(|value| value.to_string_lossy().into_owned()),
            cuda_library: set("JETSON_LLM_CUDA_LIBRARY").map(PathBuf::from),
            plain: set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb"),
            runtime: set("XDG_RUNTIME_DIR").and_then(absolute),
            dumb: set("TERM").is_none_or(|term| term == "dumb"),
            state: state.map(|path| path.join("jetson-llm")),
        }
    }
}
