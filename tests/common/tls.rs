//! A blocking TLS client, and certificates that are made for a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use uproar::config::TlsKernel;

use super::PATIENCE;
use super::client::Frame;

/// Whether the kernel seals, where it can: unless `UPROAR_TEST_TLS_KERNEL` says `off`.
pub fn kernel() -> TlsKernel {
    match std::env::var("UPROAR_TEST_TLS_KERNEL").as_deref() {
        Ok("off") => TlsKernel::Off,
        _ => TlsKernel::Auto,
    }
}

/// A certificate that signs itself, in files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub der: CertificateDer<'static>,
}

/// Makes one for these hosts, in files of that name.
pub fn certificate(dir: &Path, name: &str, hosts: &[&str]) -> Certificate {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).expect("a certificate");
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    Certificate { certificate, key, der: made.cert.der().clone() }
}

/// A client's configuration that trusts these certificates.
pub fn trusting(certificates: &[&Certificate], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.der.clone()).expect("a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    pub fn connect(addr: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::over(TcpStream::connect(addr).expect("the server accepts"), host, config)
    }

    /// On a connection that is there.
    pub fn over(socket: TcpStream, host: &str, config: &Arc<ClientConfig>) -> TlsClient {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let session = ClientConnection::new(config.clone(), name).expect("a session");
        TlsClient { stream: StreamOwned::new(session, socket) }
    }

    /// Opens a WebSocket.
    pub fn upgrade(mut self, path: &str) -> TlsClient {
        self.send(super::client::handshake(path, "").as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes bytes");
        self.stream.flush().expect("the server takes bytes");
    }

    #[track_caller]
    pub fn text(&mut self, text: &str) {
        self.send(&super::client::frame(super::client::TEXT, text.as_bytes()));
    }

    #[track_caller]
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the server sends bytes");
        bytes
    }

    /// The next head.
    #[track_caller]
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.bytes(1));
        }
        String::from_utf8(head).expect("a head is text")
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        let start = self.bytes(2);
        let len = match start[1] {
            126 => u64::from(u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))),
            127 => u64::from_be_bytes(self.bytes(8).try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        Frame { first: start[0], payload: self.bytes(len as usize) }
    }

    /// The server must have ended the session in good order (`close_notify`), after nothing more.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("an end that is told");
        assert!(rest.is_empty(), "{rest:?} instead of the end");
    }
}
