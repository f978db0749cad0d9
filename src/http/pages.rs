//! The pages that the server brings: the playground, the demos of `examples/web/`, and the client library that they
//! import, as they are in the source tree.

/// A file that is served as it is.
#[derive(PartialEq, Eq, Debug)]
pub struct Page {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The whole file.
    pub bytes: &'static [u8],
    /// `Content-Security-Policy`, of what a browser opens as a document.
    pub policy: Option<&'static str>,
}

/// What the playground may do: run and style itself (it is one file), open WebSockets, and nothing else. `'self'` does
/// not cover `ws:` in every browser, and the page can be pointed at another server.
const PLAYGROUND_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a demo may do: run and style itself, import the client, and connect to this server. No text can become markup
/// or a script in it: the sinks that would do it throw (W3C Trusted Types).
const DEMO_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page at `path`, if there is one.
pub fn page(path: &str) -> Option<&'static Page> {
    DOCUMENTS.iter().chain(&MODULES).find(|(at, _)| *at == path).map(|(_, page)| page)
}

const fn document(policy: &'static str, bytes: &'static [u8]) -> Page {
    Page { content_type: HTML, bytes, policy: Some(policy) }
}

const fn part(content_type: &'static str, bytes: &'static [u8]) -> Page {
    Page { content_type, bytes, policy: None }
}

macro_rules! demo {
    ($file:literal) => {
        document(DEMO_POLICY, include_bytes!(concat!("../../examples/web/", $file)))
    };
}

/// The modules of the client, at the paths by which the pages and they themselves import them.
macro_rules! modules {
    ($($file:literal),* $(,)?) => {
        [$((concat!("/demo/client/", $file), part(JAVASCRIPT, include_bytes!(concat!("../../client/src/", $file))))),*]
    };
}

static DOCUMENTS: [(&str, Page); 8] = [
    ("/", document(PLAYGROUND_POLICY, include_bytes!("playground.html"))),
    ("/demo", demo!("index.html")),
    ("/demo/", demo!("index.html")),
    ("/demo/chat", demo!("chat.html")),
    ("/demo/ticker", demo!("ticker.html")),
    ("/demo/game", demo!("game.html")),
    ("/demo/stream", demo!("stream.html")),
    ("/demo/style.css", part(CSS, include_bytes!("../../examples/web/style.css"))),
];

static MODULES: [(&str, Page); 39] = modules![
    "access-token.js",
    "acks.js",
    "address.js",
    "attempts.js",
    "backoff.js",
    "client.js",
    "clock.js",
    "deferred.js",
    "denial.js",
    "dial.js",
    "emitter.js",
    "errors.js",
    "event-stream.js",
    "fields.js",
    "handshake.js",
    "heartbeat.js",
    "ids.js",
    "index.js",
    "link.js",
    "listeners.js",
    "messages.js",
    "names.js",
    "options.js",
    "outbox.js",
    "page.js",
    "parse.js",
    "pause.js",
    "position.js",
    "poster.js",
    "postponed.js",
    "presence.js",
    "queue.js",
    "renewal.js",
    "retry-after.js",
    "sentence.js",
    "sse.js",
    "subscription.js",
    "topics.js",
    "websocket.js",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn every_module_of_the_client_is_served() {
        let entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/client/src")).unwrap();
        let files: BTreeSet<String> = entries
            .map(|entry| format!("/demo/client/{}", entry.unwrap().file_name().into_string().unwrap()))
            .collect();
        let served: BTreeSet<String> = MODULES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(served, files);
        assert!(files.iter().all(|path| page(path).is_some_and(|page| page.content_type == JAVASCRIPT)));
    }

    /// What is in quotes behind the word, over all of a text.
    fn quoted<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
        text.split(word).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn what_a_page_links_to_is_served() {
        let mut links = 0;
        for (path, page_here) in &DOCUMENTS[1..] {
            let text = str::from_utf8(page_here.bytes).unwrap();
            for link in [quoted(text, "href=\""), quoted(text, " from \"")].concat() {
                let target = match link.trim_start_matches("./") {
                    link if link.starts_with("data:") => continue,
                    link if link.starts_with('/') => link.to_owned(),
                    link => format!("/demo/{link}"),
                };
                links += 1;
                assert!(page(&target).is_some(), "{path}: {link}");
            }
            assert!(!text.contains("://"), "{path} names an address elsewhere");
        }
        assert!(links > 20, "only {links} links were found");
    }

    #[test]
    fn a_document_has_a_policy_and_its_parts_need_none() {
        for (path, page) in DOCUMENTS.iter().chain(&MODULES) {
            assert_eq!(page.policy.is_some(), page.content_type == HTML, "{path}");
            assert!(!page.bytes.is_empty(), "{path}");
        }
        assert_eq!(page("/demo/chat.html"), None);
        assert_eq!(page("/demo/client/"), None);
    }
}
