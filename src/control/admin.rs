//! The admin listener: metrics and the HTTP API, never public.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::api::{self, Api, Endpoint};
use super::metrics;
use super::serve::{Bounds, serve};
use crate::config::AdminListen;
use crate::error::StartError;
use crate::shard::handle::{Shards, Unavailable};

/// The admin listener, bound.
pub enum Admin {
    /// There is none.
    Off,
    /// On a TCP address.
    Tcp(std::net::TcpListener),
    /// On a socket in the file system, which only the server's user may use.
    Unix(UnixListener, PathBuf),
}

impl Admin {
    /// Binds the listener.
    ///
    /// # Errors
    /// The address is taken or cannot be bound.
    pub fn bind(address: &AdminListen) -> Result<Admin, StartError> {
        let bound = match address {
            AdminListen::Off => Ok(Admin::Off),
            AdminListen::Tcp(tcp) => std::net::TcpListener::bind(tcp)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| Admin::Tcp(listener))),
            AdminListen::Unix(path) => bind_unix(path).map(|listener| Admin::Unix(listener, path.clone())),
        };
        let knob = "admin_listen";
        bound.map_err(|source| StartError::Bind { knob, address: address.to_string(), source })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<String> {
        match self {
            Admin::Off => None,
            Admin::Tcp(listener) => listener.local_addr().ok().map(|address| address.to_string()),
            Admin::Unix(_, path) => Some(format!("unix:{}", path.display())),
        }
    }

    /// Serves for as long as the runtime runs. A message that is published may have so many bytes.
    pub async fn serve(self, shards: Shards, max_message: u32) {
        let api = Arc::new(Api::new(shards, max_message, matches!(self, Admin::Tcp(_))));
        let (router, bounds) = (router(api.clone()), Bounds::default());
        let refused = || api.tally().refuse();
        let failed = match self {
            Admin::Off => return,
            Admin::Tcp(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => return serve(listener, router, bounds, refused).await,
                Err(error) => error,
            },
            Admin::Unix(listener, path) => {
                let _remove = RemoveFile(path);
                match tokio::net::UnixListener::from_std(listener) {
                    Ok(listener) => return serve(listener, router, bounds, refused).await,
                    Err(error) => error,
                }
            }
        };
        tracing::error!("the admin listener has failed: {failed}");
    }
}

fn router(api: Arc<Api>) -> Router {
    let own = Router::new()
        .route("/", get(show_contents))
        .route("/health", get(show_health))
        .route("/metrics", get(show_metrics))
        .method_not_allowed_fallback(api::wrong_method)
        .with_state(api.clone());
    own.merge(api::router(api))
}

async fn show_contents() -> String {
    let own =
        [("/", "this"), ("/health", "whether the server serves"), ("/metrics", "OpenMetrics text for Prometheus")];
    let own = own.into_iter().map(|(path, what)| format!("GET  {path:<14}{what}\n"));
    let line = |endpoint: &Endpoint| format!("{:<5}{:<14}{}\n", endpoint.method, endpoint.path, endpoint.what);
    let lines: String = own.chain(api::ENDPOINTS.iter().map(line)).collect();
    format!("uproar {}, admin listener\n\n{lines}", env!("CARGO_PKG_VERSION"))
}

async fn show_health(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let serves = api.shards().available() != Err(Unavailable::Stopped);
    let (code, status) = if serves { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "stopping") };
    let connections = api.shards().shared().connections();
    let text = format!(r#"{{"status":"{status}","connections":{connections}}}"#);
    (code, [(CONTENT_TYPE, "application/json")], text)
}

async fn show_metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&api))
}

/// Binds a socket that nobody else may connect to. One that a server left behind is replaced, one that a server listens
/// on is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let stale = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket's file when the listener goes.
struct RemoveFile(PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
