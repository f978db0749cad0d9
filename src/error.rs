//! What can go wrong at start-up, and why connections end.

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
    /// An embedder's handler panicked.
    Panic,
    /// The backlog's bound was passed and the policy is to close.
    Backlog,
    /// A ping was not answered in time.
    PingTimeout,
    /// The connection's maximum lifetime was over.
    Lifetime,
}

impl CloseReason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [CloseReason; 15] = [
        CloseReason::Peer,
        CloseReason::Lost,
        CloseReason::Http,
        CloseReason::HeadTimeout,
        CloseReason::Refused,
        CloseReason::Shutdown,
        CloseReason::Protocol,
        CloseReason::Payload,
        CloseReason::TooBig,
        CloseReason::Policy,
        CloseReason::Application,
        CloseReason::Panic,
        CloseReason::Backlog,
        CloseReason::PingTimeout,
        CloseReason::Lifetime,
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
            CloseReason::Protocol => "protocol",
            CloseReason::Payload => "payload",
            CloseReason::TooBig => "too_big",
            CloseReason::Policy => "policy",
            CloseReason::Application => "application",
            CloseReason::Panic => "panic",
            CloseReason::Backlog => "backlog",
            CloseReason::PingTimeout => "ping_timeout",
            CloseReason::Lifetime => "lifetime",
        }
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
}
