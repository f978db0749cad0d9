//! Bodies and queries of requests.

use std::error::Error;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::{self, Problem};
use crate::dialect::json::MAX_ID_BYTES;

/// Time for a body to come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A body, whole.
pub struct Body {
    bytes: Bytes,
    /// What the header `Idempotency-Key` says.
    pub key: Option<String>,
}

impl Body {
    /// Reads a body of at most so many bytes.
    ///
    /// # Errors
    /// It is not said to be JSON, its length is not said or too much, or it did not come.
    pub async fn read(request: Request, most: usize) -> Result<Body, Problem> {
        check_type(request.headers())?;
        check_length(request.headers(), most)?;
        let key = key(request.headers())?;
        let mut request = request;
        DefaultBodyLimit::max(most).apply(&mut request);
        let read = tokio::time::timeout(TIMEOUT, Bytes::from_request(request, &()));
        let bytes = read.await.map_err(|_| problem::SLOW)?.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large("the body", most),
            _ => problem::CUT,
        })?;
        Ok(Body { bytes, key })
    }

    /// What it says.
    ///
    /// # Errors
    /// It is not JSON, or not what was expected.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        object(&self.bytes).map_err(|wrong| Problem::bad("invalid_json", wrong))
    }
}

/// What an object says: derived types would take the values of a list in the order of their fields, too.
///
/// # Errors
/// What is wrong with it, in words.
pub fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("expected an object, {…}".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// What a query says.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let parsed = Query::<T>::try_from_uri(uri);
    // Behind the library's words is what is wrong.
    let words =
        |rejection: QueryRejection| rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
    parsed.map(|Query(query)| query).map_err(|rejection| Problem::bad("bad_query", words(rejection)))
}

/// A page cannot have a browser send this type to another origin without asking that first, and nobody says yes here.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(problem::MEDIA_TYPE) }
}

/// Refuses what is too long before it is sent, if it says how long it is.
fn check_length(headers: &HeaderMap, most: usize) -> Result<(), Problem> {
    match headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap_or_default().parse::<u64>()) {
        Some(Ok(length)) if length <= most as u64 => Ok(()),
        Some(_) => Err(Problem::too_large("the body", most)),
        None if headers.contains_key(TRANSFER_ENCODING) => Ok(()),
        None => Err(problem::NO_LENGTH),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("Idempotency-Key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().map_err(|_| problem::BAD_KEY)?;
    let fits = (1..=MAX_ID_BYTES).contains(&key.len()) && keys.next().is_none();
    if fits { Ok(Some(key.to_owned())) } else { Err(problem::BAD_KEY) }
}
