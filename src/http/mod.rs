//! HTTP/1.1 (RFC 9110, RFC 9112) as far as a WebSocket server needs it, sans-IO: heads, responses, routes.
//!
//! Bytes in, values out: [`request::parse`] reads a head, [`route::route`] says what it asks for,
//! [`response::Response`] writes the answer, [`forwarded`] knows whom a proxy speaks for, [`pages`] has what a browser can open. No request has a body but a `POST` to
//! [`request::PUBLISH`].

pub mod forwarded;
pub mod pages;
pub mod request;
pub mod response;
pub mod route;
