//! What can go wrong at start-up, and why connections end.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::config::ConfigError;

/// Why a connection ended, as the metric label has it and with the close code that the peer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed, with a close frame.
    Peer,
    /// The peer's TCP connection ended or broke without a close frame.
    Lost,
    /// A plain HTTP exchange was over.
    Http,
    /// The handshake was not complete in time.
    HeadTimeout,
    /// The request was refused.
    Refused,
    /// The server shuts down.
    Shutdown,
    /// The server is drained: it sends its clients away one after the other.
    Drain,
    /// The peer broke RFC 6455.
    Protocol,
    /// A text message or close reason was not UTF-8, or a compressed message did not inflate.
    Payload,
    /// A message was larger than allowed.
    TooBig,
    /// The application refused what the client did.
    Policy,
    /// The application asked for it.
    Application,
    /// It went on sending faster than a client may.
    TooFast,
    /// An embedder's handler panicked.
    Panic,
    /// The backlog's bound was passed and the policy is to close.
    Backlog,
    /// Memory was short, and its backlog or its incomplete message among the largest.
    Memory,
    /// There were too many incomplete messages, and its among those that were large and the oldest.
    Incomplete,
    /// A message was not complete in time.
    MessageTimeout,
    /// A ping was not answered in time.
    PingTimeout,
    /// The connection's maximum lifetime was over.
    Lifetime,
    /// The time of its token was over.
    Expired,
    /// The client has connected anew, under the same name.
    Replaced,
}

impl CloseReason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [CloseReason; 22] = [
        CloseReason::Peer,
        CloseReason::Lost,
        CloseReason::Http,
        CloseReason::HeadTimeout,
        CloseReason::Refused,
        CloseReason::Shutdown,
        CloseReason::Drain,
        CloseReason::Protocol,
        CloseReason::Payload,
        CloseReason::TooBig,
        CloseReason::Policy,
        CloseReason::Application,
        CloseReason::TooFast,
        CloseReason::Panic,
        CloseReason::Backlog,
        CloseReason::Memory,
        CloseReason::Incomplete,
        CloseReason::MessageTimeout,
        CloseReason::PingTimeout,
        CloseReason::Lifetime,
        CloseReason::Expired,
        CloseReason::Replaced,
    ];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::Peer => "peer",
            CloseReason::Lost => "lost",
            CloseReason::Http => "http",
            CloseReason::HeadTimeout => "head_timeout",
            CloseReason::Refused => "refused",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Drain => "drain",
            CloseReason::Protocol => "protocol",
            CloseReason::Payload => "payload",
            CloseReason::TooBig => "too_big",
            CloseReason::Policy => "policy",
            CloseReason::Application => "application",
            CloseReason::TooFast => "too_fast",
            CloseReason::Panic => "panic",
            CloseReason::Backlog => "backlog",
            CloseReason::Memory => "memory",
            CloseReason::Incomplete => "incomplete",
            CloseReason::MessageTimeout => "message_timeout",
            CloseReason::PingTimeout => "ping_timeout",
            CloseReason::Lifetime => "lifetime",
            CloseReason::Expired => "expired",
            CloseReason::Replaced => "replaced",
        }
    }
}

/// Why the server did not start, or ended.
#[derive(Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not valid.
    #[error("the configuration is not valid:\n{0}")]
    Config(#[from] ConfigError),
    /// A listener could not be bound.
    #[error("cannot listen on {address}, the value of {knob}: {source}{}", bind_hint(.source.kind()))]
    Bind {
        /// The configuration's name of the listener.
        knob: &'static str,
        /// Its address, as the configuration has it.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel is too old, or forbids io_uring; in words that name what to change.
    #[error("{0}")]
    Kernel(String),
    /// A shard has failed while it served, which is a bug or a kernel out of memory.
    #[error("shard {0} has failed")]
    ShardFailed(u16),
    /// Anything else.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done: `cannot start a thread`.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// As [`fmt::Display`] has it: a `main` that returns the error prints it so.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StartError {
    /// The exit code of the process: 3 configuration, 4 a listener, 5 the kernel, 1 anything else. (2 is bad usage.)
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) => 3,
            StartError::Bind { .. } => 4,
            StartError::Kernel(_) => 5,
            StartError::Io { .. } | StartError::ShardFailed(_) => 1,
        }
    }
}

fn bind_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; another process listens there",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, a socket's path a writable directory"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_the_reasons_in_order_and_labels_are_distinct() {
        for (i, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            assert!(CloseReason::ALL[..i].iter().all(|other| other.label() != reason.label()));
        }
    }

    #[test]
    fn start_errors_name_the_knob_and_what_to_do() {
        let bind = |kind: io::ErrorKind| StartError::Bind {
            knob: "listen",
            address: "127.0.0.1:80".into(),
            source: kind.into(),
        };
        for (error, code, words) in [
            (bind(io::ErrorKind::AddrInUse), 4, ["listen on 127.0.0.1:80, the value of listen", "another process"]),
            (bind(io::ErrorKind::PermissionDenied), 4, ["the value of listen", "CAP_NET_BIND_SERVICE"]),
            (StartError::Kernel("Linux 6.1 or newer is needed".into()), 5, ["6.1", "needed"]),
            (ConfigError::new("backlog: no".into()).into(), 3, ["not valid", "\nbacklog: no"]),
        ] {
            let message = error.to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
            assert_eq!(error.exit_code(), code, "{message}");
        }
    }
}
