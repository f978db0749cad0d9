//! The admin listener: metrics, never public.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::metrics;
use crate::config::AdminListen;
use crate::error::StartError;
use crate::shard::shared::Shared;

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

    /// Serves for as long as the runtime runs.
    pub async fn serve(self, shared: Arc<Shared>) {
        let router = Router::new().route("/metrics", get(show_metrics)).with_state(shared);
        let served = match self {
            Admin::Off => return,
            Admin::Tcp(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, router).await,
                Err(error) => Err(error),
            },
            Admin::Unix(listener, path) => {
                let _remove = RemoveFile(path);
                match tokio::net::UnixListener::from_std(listener) {
                    Ok(listener) => axum::serve(listener, router).await,
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = served {
            tracing::error!("the admin listener has failed: {error}");
        }
    }
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&shared))
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
