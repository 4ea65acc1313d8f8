//! Real sockets, real TLS.

use std::fs;
use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use futures_rustls::TlsConnector;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream as Socket;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;
use crate::base::Code;
use crate::platform::native::install_crypto;

/// A certificate for localhost in two files; the authority that it comes from is itself.
fn issue(files: &TlsFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn files(folder: &std::path::Path) -> TlsFiles {
    TlsFiles { certificate: folder.join("fullchain.pem"), key: folder.join("privkey.pem") }
}

async fn connect(port: u16) -> Socket {
    Socket::connect(("127.0.0.1", port)).await.unwrap()
}

/// Connects over TLS, believing these certificates; the one that the server shows.
async fn secured(
    port: u16,
    trusted: &[CertificateDer<'static>],
) -> io::Result<(futures_rustls::client::TlsStream<Compat<Socket>>, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|c| roots.add(c.clone()).unwrap());
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let stream = TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), connect(port).await.compat()).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    Ok((stream, shown))
}

/// Faces that all listen on one port, which sends back what comes, after the name of the face that took it.
async fn serve(ports: &Ports, faces: &[Speaks]) -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for speaks in faces {
        let mut face = ports.face(*speaks).boxed();
        face.listen_on(ListenerId::next(), format!("/ip4/127.0.0.1/tcp/{free}").parse().unwrap()).unwrap();
        assert!(matches!(face.select_next_some().await, TransportEvent::NewAddress { .. }));
        let name = format!("{speaks:?} ");
        tokio::spawn(async move {
            while let Some(event) = face.next().await {
                let TransportEvent::Incoming { upgrade, .. } = event else { continue };
                let name = name.clone();
                tokio::spawn(async move {
                    let (read, mut write) = upgrade.await.unwrap().split();
                    write.write_all(name.as_bytes()).await.unwrap();
                    let _ = futures::io::copy(read, &mut write).await;
                });
            }
        });
    }
    free
}

async fn say(mut stream: impl futures::AsyncRead + futures::AsyncWrite + Unpin, what: &[u8], answer: &str) {
    stream.write_all(what).await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = vec![0; answer.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), answer);
}

#[tokio::test]
async fn three_protocols_share_a_port_and_each_connection_comes_to_its_own() {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let trusted = issue(&files);
    let ports = Ports::new(Some(acceptor(&files).unwrap()));
    let port = serve(&ports, &[Speaks::Libp2p, Speaks::WebSocket, Speaks::Tls]).await;
    say(connect(port).await.compat(), b"\x13/multistream/1.0.0\n", "Libp2p \x13/multistream").await;
    say(connect(port).await.compat(), b"GET / HTTP/1.1\r\n\r\n", "WebSocket GET / HTTP").await;
    say(secured(port, &[trusted]).await.unwrap().0, b"GET / HTTP/1.1\r\n\r\n", "Tls GET / HTTP").await;
}

#[tokio::test]
async fn what_nobody_listens_for_is_closed_and_a_face_that_stops_takes_nothing_with_it() {
    install_crypto();
    let ports = Ports::new(None);
    let port = serve(&ports, &[Speaks::WebSocket]).await;
    for first in [b"\x13", b"\x16"] {
        let mut stream = connect(port).await.compat();
        stream.write_all(first).await.unwrap();
        assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)), "{first:?}");
    }
    // One more face on the same socket comes and goes.
    let mut face = ports.face(Speaks::Libp2p).boxed();
    let id = ListenerId::next();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    face.listen_on(id, address.clone()).unwrap();
    let twice = face.listen_on(ListenerId::next(), address);
    assert!(matches!(twice, Err(TransportError::Other(_))), "the same again");
    assert!(matches!(face.select_next_some().await, TransportEvent::NewAddress { .. }));
    assert!(face.remove_listener(id) && !face.remove_listener(id));
    assert!(matches!(face.select_next_some().await, TransportEvent::ListenerClosed { reason: Ok(()), .. }));
    say(connect(port).await.compat(), b"GET", "WebSocket GET").await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_a_wrong_one_is_not() {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let first = issue(&files);
    let ports = Ports::new(Some(acceptor(&files).unwrap()));
    let port = serve(&ports, &[Speaks::Tls]).await;
    let (before, shown) = secured(port, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(shown, first);

    // Half of it written, and then something else.
    let (certificate, key) = (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = self::files(elsewhere.path());
    let second = issue(&other);
    for wrong in [b"".to_vec(), b"-----BEGIN CERTIFICATE-----\n!!!".to_vec(), fs::read(&other.certificate).unwrap()] {
        fs::write(&files.certificate, wrong).unwrap();
        assert_eq!(secured(port, std::slice::from_ref(&first)).await.unwrap().1, first);
    }
    fs::copy(&other.key, &files.key).unwrap();
    assert!(secured(port, std::slice::from_ref(&first)).await.is_err(), "the first one is no more in use");
    assert_eq!(secured(port, std::slice::from_ref(&second)).await.unwrap().1, second);
    say(before, b"still here", "Tls still here").await;

    // At the start it has to be right.
    let code = |certificate: &[u8], key: &[u8]| {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        acceptor(&files).err().map(|e| e.code())
    };
    assert_eq!(code(&certificate, &key), None);
    assert_eq!(code(&certificate, &fs::read(&other.key).unwrap()), Some(Code::BadArgument), "of another certificate");
    assert_eq!(code(b"no certificate", &key), Some(Code::BadArgument));
    assert_eq!(code(&certificate, b"no key"), Some(Code::BadArgument));
    let nowhere = TlsFiles { key: folder.path().join("missing"), ..files };
    assert_eq!(acceptor(&nowhere).err().map(|e| e.code()), Some(Code::Storage));
}

#[tokio::test]
async fn who_says_nothing_makes_way_and_is_waited_for_a_while_only() {
    install_crypto();
    let ports = Ports::new(None);
    ports.lock().silent.most = 3;
    ports.lock().silent.patience = Duration::from_secs(3_600);
    let port = serve(&ports, &[Speaks::WebSocket]).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect(port).await.compat());
    }
    // The fourth is the one too many: the oldest is closed.
    say(connect(port).await.compat(), b"GET", "WebSocket GET").await;
    assert!(matches!(silent.remove(0).read(&mut [0; 8]).await, Ok(0) | Err(_)));
    say(silent.remove(1), b"GET", "WebSocket GET").await;

    ports.lock().silent.patience = Duration::from_millis(20);
    let mut late = connect(port).await.compat();
    let ended = tokio::time::timeout(Duration::from_secs(5), late.read(&mut [0; 8])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "it was waited for");
}
