//! Listeners that a supervisor opened for the server (socket activation, sd_listen_fds(3)): connections wait in their queues
//! while the server is not there, and a port below 1024 needs no capability of the server's.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use socket2::{Socket, Type};

use crate::config::{AdminListen, Config, ConfigError};
use crate::control::{Admin, Inherited};

/// The names that say what a socket is for (`FileDescriptorName=`).
const NAMES: [&str; 3] = ["public", "tls", "admin"];
/// Who may write to a Unix socket may connect to it.
const OTHERS_WRITE: u32 = 0o002;

/// The listeners that were handed over, by what they are for.
#[derive(Default)]
pub(super) struct Sockets {
    /// In place of what `listen` says.
    pub plain: Option<TcpListener>,
    /// In place of what `tls_listen` says.
    pub tls: Option<TcpListener>,
    /// In place of what `admin_listen` says.
    pub admin: Option<Admin>,
}

impl Sockets {
    /// Sorts descriptors by their names. One that comes alone, without a name of ours, is the public listener.
    ///
    /// # Errors
    /// One that is no listening stream socket of the right kind; a name that is unknown, or there twice.
    pub fn sort(descriptors: Vec<(String, OwnedFd)>) -> Result<Sockets, ConfigError> {
        let mut sockets = Sockets::default();
        let is_alone = descriptors.len() == 1;
        for (name, descriptor) in descriptors {
            let name = if is_alone && !NAMES.contains(&&*name) { "public" } else { &*name };
            sockets.add(name, descriptor).map_err(|why| ConfigError::new(format!("the socket {name:?} {why}")))?;
        }
        Ok(sockets)
    }

    fn add(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), String> {
        let unfit = |error: io::Error| format!("that was handed over cannot be used: {error}");
        let socket = listening(descriptor).map_err(unfit)?;
        let is_second = match name {
            "public" => self.plain.replace(tcp(socket).map_err(unfit)?).is_some(),
            "tls" => self.tls.replace(tcp(socket).map_err(unfit)?).is_some(),
            "admin" => self.admin.replace(Admin::adopt(socket).map_err(unfit)?).is_some(),
            _ => return Err("is for nothing here: FileDescriptorName= may be public, tls or admin".into()),
        };
        if is_second { Err("was handed over twice: one of a name is what can be used".into()) } else { Ok(()) }
    }

    /// Which there are.
    pub fn inherited(&self) -> Inherited {
        Inherited { plain: self.plain.is_some(), tls: self.tls.is_some(), admin: self.admin.is_some() }
    }

    /// Writes into the configuration where the server listens really, so that what it refuses is refused here too.
    ///
    /// # Errors
    /// A Unix socket that everybody on this machine may use, without a key: that is not what an admin listener may be.
    pub fn tell(&self, config: &mut Config) -> Result<(), ConfigError> {
        let unknown = |error: io::Error| ConfigError::new(format!("the address of a socket cannot be read: {error}"));
        if let Some(plain) = &self.plain {
            config.listen = plain.local_addr().map_err(unknown)?;
        }
        if let Some(tls) = &self.tls {
            config.tls_listen = Some(tls.local_addr().map_err(unknown)?);
        }
        if let Some(admin) = &self.admin {
            config.admin_listen = admin.configured().map_err(unknown)?;
        }
        match &config.admin_listen {
            AdminListen::Unix(path) if self.admin.is_some() && !config.insecure_open && is_open_to_all(path) => {
                Err(ConfigError::new(format!(
                    "the socket \"admin\" ({}) may be used by everybody on this machine: set SocketMode=0600, or 0660 and SocketGroup=",
                    path.display()
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Whether everybody on this machine may connect; a socket that cannot be looked at is out of this server's sight only.
fn is_open_to_all(path: &std::path::Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.mode() & OTHERS_WRITE != 0)
}

fn listening(descriptor: OwnedFd) -> io::Result<Socket> {
    let socket = Socket::from(descriptor);
    let kind = socket.r#type().map_err(|_| io::Error::other("it is no socket"))?;
    if kind != Type::STREAM {
        return Err(io::Error::other("it is no stream socket (ListenStream=)"));
    }
    if !socket.is_listener()? {
        return Err(io::Error::other("it does not listen: set Accept=no"));
    }
    Ok(socket)
}

fn tcp(socket: Socket) -> io::Result<TcpListener> {
    match socket.local_addr()?.as_socket() {
        Some(_) => Ok(socket.into()),
        None => Err(io::Error::other("it is not of TCP")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("a port")
    }

    fn problem(descriptors: Vec<(&str, OwnedFd)>) -> String {
        let named = descriptors.into_iter().map(|(name, descriptor)| (name.into(), descriptor)).collect();
        Sockets::sort(named).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn sockets_are_sorted_and_the_configuration_is_told() {
        let [public, tls, admin] = [bound(), bound(), bound()];
        let addresses = [&public, &tls, &admin].map(|listener| listener.local_addr().expect("bound"));
        let named = [("admin", admin), ("tls", tls), ("public", public)];
        let sockets =
            Sockets::sort(named.map(|(name, listener)| (name.into(), listener.into())).into()).expect("three");
        let mut config = Config::default();
        sockets.tell(&mut config).expect("addresses");
        assert_eq!((config.listen, config.tls_listen), (addresses[0], Some(addresses[1])));
        assert_eq!(config.admin_listen, AdminListen::Tcp(addresses[2]));
        let alone = Sockets::sort(vec![("uproar.socket".into(), bound().into())]).expect("one");
        assert!(alone.plain.is_some() && alone.tls.is_none() && alone.admin.is_none());
        let mut config = Config::default();
        Sockets::sort(Vec::new()).expect("none").tell(&mut config).expect("nothing");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let file: OwnedFd = fs::File::create(dir.path().join("file")).expect("a file").into();
        let unix = UnixListener::bind(dir.path().join("unix")).expect("a socket");
        let silent = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).expect("a socket");
        for (name, descriptor, words) in [
            ("public", file, "no socket"),
            ("public", UdpSocket::bind("127.0.0.1:0").expect("a port").into(), "no stream socket"),
            ("admin", UnixDatagram::unbound().expect("a socket").into(), "no stream socket"),
            ("tls", silent.into(), "does not listen"),
            ("admin", UnixStream::pair().expect("a pair").0.into(), "does not listen"),
            ("public", unix.into(), "not of TCP"),
        ] {
            let problem = problem(vec![(name, descriptor)]);
            assert!(problem.contains(words) && problem.contains(name), "{problem}");
        }
        assert!(problem(vec![("public", bound().into()), ("public", bound().into())]).contains("twice"));
        assert!(problem(vec![("public", bound().into()), ("web", bound().into())]).contains("public, tls or admin"));
    }

    #[test]
    fn an_admin_socket_that_everybody_may_use_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin");
        let listener: OwnedFd = UnixListener::bind(&path).expect("a socket").into();
        let sockets = Sockets::sort(vec![("admin".into(), listener)]).expect("one");
        for (mode, insecure_open, good) in [(0o666, false, false), (0o666, true, true), (0o660, false, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            let mut config = Config { insecure_open, ..Config::default() };
            assert_eq!(sockets.tell(&mut config).is_ok(), good, "{mode:o}");
            assert_eq!(config.admin_listen, AdminListen::Unix(path.clone()));
        }
    }
}
