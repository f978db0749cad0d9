//! The admin listener: metrics and the HTTP API, never public.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use socket2::{Domain, SockAddr, Socket, Type};

use super::access::{self, Caller};
use super::api::{self, Api, Endpoint};
use super::metrics::{self, Format};
use super::page;
use super::serve::{Bounds, serve};
use crate::config::AdminListen;
use crate::error::StartError;
use crate::shard::handle::Unavailable;
use crate::shard::probe;
use crate::shard::shared::Standing;

/// Connections to a Unix socket that may wait to be accepted.
const BACKLOG: i32 = 128;
const JSON: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

/// The admin listener, bound.
pub enum Admin {
    /// There is none.
    Off,
    /// On a TCP address.
    Tcp(std::net::TcpListener),
    /// On a socket in the file system, which only the server's user may use.
    Unix(UnixListener, PathBuf),
    /// On a socket in the file system that somebody else made, and removes.
    Inherited(UnixListener, PathBuf),
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

    /// Of a listening stream socket that was made elsewhere.
    ///
    /// # Errors
    /// It is neither of TCP nor of the file system.
    pub fn adopt(listener: Socket) -> io::Result<Admin> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        match address.as_pathname().map(Path::to_owned) {
            Some(path) => Ok(Admin::Inherited(OwnedFd::from(listener).into(), path)),
            None if address.as_socket().is_some() => Ok(Admin::Tcp(listener.into())),
            None => Err(io::Error::other("it is neither of TCP nor of the file system")),
        }
    }

    /// What a configuration would have to say for it.
    pub fn configured(&self) -> io::Result<AdminListen> {
        Ok(match self {
            Admin::Off => AdminListen::Off,
            Admin::Tcp(listener) => AdminListen::Tcp(listener.local_addr()?),
            Admin::Unix(_, path) | Admin::Inherited(_, path) => AdminListen::Unix(path.clone()),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<String> {
        match self {
            Admin::Off => None,
            Admin::Tcp(listener) => listener.local_addr().ok().map(|address| address.to_string()),
            Admin::Unix(_, path) | Admin::Inherited(_, path) => Some(format!("unix:{}", path.display())),
        }
    }

    /// Whether it listens on TCP.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Admin::Tcp(_))
    }

    /// Serves for as long as the runtime runs.
    pub async fn serve(self, api: Arc<Api>) {
        let (router, bounds) = (router(api.clone()), Bounds::default());
        let refused = || api.tally().refuse();
        let failed = match self {
            Admin::Off => return,
            Admin::Tcp(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => return serve(listener, router, bounds, caller, refused).await,
                Err(error) => error,
            },
            Admin::Unix(listener, path) => {
                let _remove = RemoveFile(path);
                match tokio::net::UnixListener::from_std(listener) {
                    Ok(listener) => return serve(listener, router, bounds, |_| Caller::Here, refused).await,
                    Err(error) => error,
                }
            }
            Admin::Inherited(listener, _) => match tokio::net::UnixListener::from_std(listener) {
                Ok(listener) => return serve(listener, router, bounds, |_| Caller::Here, refused).await,
                Err(error) => error,
            },
        };
        tracing::error!("the admin listener has failed: {failed}");
    }
}

fn caller(address: &SocketAddr) -> Caller {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() { Caller::Here } else { Caller::Elsewhere(ip) }
}

fn router(api: Arc<Api>) -> Router {
    let own = Router::new()
        .route("/", get(show_root))
        .route(page::PARTS[0], get(page::style))
        .route(page::PARTS[1], get(page::script))
        .route("/health", get(show_health))
        .route("/live", get(show_live))
        .route("/ready", get(show_ready))
        .method_not_allowed_fallback(api::wrong_method);
    let metrics = Router::new()
        .route("/metrics", get(show_metrics))
        .method_not_allowed_fallback(api::wrong_method)
        .route_layer(from_fn_with_state(api.clone(), api::show_to_no_page));
    let own = own.merge(metrics).with_state(api.clone());
    // Around everything, also what is nowhere: a path that is added needs the key, unless it is said that it does not.
    own.merge(api::router(api.clone())).layer(from_fn_with_state(api, access::admit))
}

async fn show_root(headers: HeaderMap) -> Response {
    if page::is_wanted(&headers) { page::document() } else { ([(VARY, "Accept")], contents()).into_response() }
}

fn contents() -> String {
    let own = [
        ("/", "this; to a browser, the admin page"),
        ("/health", "how the server is"),
        ("/live", "whether the process runs"),
        ("/ready", "whether newcomers are taken"),
        ("/metrics", "what Prometheus reads"),
    ];
    let own = own.into_iter().map(|(path, what)| format!("GET  {path:<14}{what}\n"));
    let line = |endpoint: &Endpoint| format!("{:<5}{:<14}{}\n", endpoint.method, endpoint.path, endpoint.what);
    let lines: String = own.chain(api::ENDPOINTS.iter().map(line)).collect();
    format!("uproar {}, admin listener\n\n{lines}", env!("CARGO_PKG_VERSION"))
}

async fn show_health(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let shared = api.shards().shared();
    let is_ending = has_ended(&api) || shared.standing() == Standing::Stopping;
    let status = if is_ending { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, JSON, probe::health(shared))
}

async fn show_live() -> impl IntoResponse {
    (JSON, probe::LIVE)
}

async fn show_ready(State(api): State<Arc<Api>>) -> Response {
    let shared = api.shards().shared();
    let full = || shared.is_full().then_some("full");
    let unready = shared.unready().or_else(|| has_ended(&api).then_some("stopping")).or_else(full);
    let body = probe::readiness(unready);
    match unready {
        None => (JSON, body).into_response(),
        Some(_) => {
            let later = [(RETRY_AFTER, HeaderValue::from(probe::LOOK_AGAIN))];
            (StatusCode::SERVICE_UNAVAILABLE, JSON, later, body).into_response()
        }
    }
}

/// Whether a shard has.
fn has_ended(api: &Api) -> bool {
    api.shards().available() == Err(Unavailable::Stopped)
}

async fn show_metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::wanted(&headers);
    ([(CONTENT_TYPE, format.media_type()), (VARY, "Accept")], metrics::text(&api, format))
}

/// Binds a socket that nobody else may connect to, not even for a moment: on Linux, a socket's file has the mode that the socket
/// had when it was bound, less the umask. One that a server left behind is replaced, one that a server listens on is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let stale = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        fs::remove_file(path)?;
    }
    let socket = fs::File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    socket.set_permissions(fs::Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

/// Removes the socket's file when the listener goes.
struct RemoveFile(PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing changes the mode after the bind: so it was that from the first moment on.
    #[test]
    fn a_unix_socket_is_born_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let first = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind_unix(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(second.accept().is_ok(), "what was left behind was replaced");
    }
}
