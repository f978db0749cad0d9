//! HTTP/1.1 heads: parsing, responses, routes.
