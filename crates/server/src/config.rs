//! What the server is told before it starts.

use std::sync::Arc;
use std::time::Duration;

/// Takes a line of the log.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Where to listen, whom to serve, how long to wait.
#[derive(Clone)]
pub struct Config {
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes any that is free.
    pub port: u16,
    /// Keys of which a client must give one; none for no keys.
    pub keys: Vec<String>,
    /// Origins of web pages that may use the server besides those of this machine; `*` for all.
    pub origins: Vec<String>,
    /// Names under which clients may address the server besides addresses and this machine's own.
    pub hosts: Vec<String>,
    /// Most bytes of a request's body.
    pub body_bytes: usize,
    /// Most bytes of bodies being read or worked on at a time.
    pub bodies_bytes: usize,
    /// Most connections.
    pub connections: usize,
    /// How long a client may take from one request's end to the end of the next one's headers.
    pub header_time: Duration,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long a client may leave what it was sent unread.
    pub stall_time: Duration,
    /// How long answers may go on after the server was told to end.
    pub drain_time: Duration,
    /// How long a stream may be silent before a comment says that it lives.
    pub ping_time: Duration,
    /// Takes a line for each request; never what was asked or answered.
    pub log: Option<Log>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            keys: vec![],
            origins: vec![],
            hosts: vec![],
            body_bytes: 8 << 20,
            bodies_bytes: 64 << 20,
            connections: 4096,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
            ping_time: Duration::from_secs(15),
            log: None,
        }
    }
}
