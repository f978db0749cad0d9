//! The admin listener's page for browsers. It is the same for everybody and says nothing of the server: what it shows it asks of the
//! HTTP API, with the key where one is needed.

use axum::http::HeaderMap;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

/// The paths of its parts. With `/` for who takes HTML, they are open to all: a browser that opens a page sends no key.
pub const PARTS: [&str; 2] = ["/page.css", "/page.js"];

/// What it may do: run its script, style itself, and ask this server. No text can become markup or a script in it: the sinks that
/// would do it throw (W3C Trusted Types). No page has it in a frame, where clicks could be stolen.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether a request at `/` is a browser's, that opens a page.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepts.any(|accept| accept.split(',').any(|range| range.trim_start().starts_with("text/html")))
}

/// The page itself.
pub fn document() -> Response {
    let policy = [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer"), (VARY, "Accept")];
    (policy, part("text/html; charset=utf-8", include_str!("page/index.html"))).into_response()
}

/// How it looks.
pub async fn style() -> Response {
    part("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// What it does.
pub async fn script() -> Response {
    part("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

/// A part, of this version: the next one is another.
fn part(content_type: &'static str, text: &'static str) -> Response {
    let fields = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (fields, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_takes_html_and_other_programs_text() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            is_wanted(&headers)
        };
        assert!(wanted("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(wanted("text/plain, text/html;q=0.5"));
        assert!(!wanted("*/*") && !wanted("text/plain") && !wanted("application/json, text/*"));
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn it_names_its_parts_and_nothing_elsewhere() {
        let (html, script) = (include_str!("page/index.html"), include_str!("page/page.js"));
        for part in PARTS {
            assert!(html.contains(&format!("\"{part}\"")), "{part}");
        }
        for text in [html, script, include_str!("page/page.css")] {
            let elsewhere = text.split("://").count() - 1 - text.matches("http://www.w3.org/").count();
            let hint = text.matches("http://localhost").count();
            assert_eq!(elsewhere, hint, "an address elsewhere");
        }
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "cookie", "localStorage"]
        {
            assert!(!script.contains(sink), "{sink}");
        }
        let inline = [" style=", " onclick=", "<style", "javascript:"];
        assert!(inline.iter().all(|inline| !html.contains(inline)), "the policy refuses what is inline");
    }

    /// What the script looks for in the document is there.
    #[test]
    fn the_script_and_the_document_agree() {
        let (html, script) = (include_str!("page/index.html"), include_str!("page/page.js"));
        let ids: Vec<_> = script.split("$(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(ids.len() > 30, "only {}", ids.len());
        for id in ids {
            assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
}
