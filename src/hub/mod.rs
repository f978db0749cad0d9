//! Pure publish/subscribe: no sockets, no clock.

pub mod frame;
