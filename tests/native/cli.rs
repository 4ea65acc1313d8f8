//! The real binary: it starts, tells, stops, and says in one line what is wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use peerage::node::children::Ready;
use peerage::peer::LinkEvent;
use peerage::platform::native::RelayLimits;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Node, PATIENCE, connect};

/// A directory that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// One of its own, whoever else likes the name.
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("peerage-cli-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn peerage(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerage"));
    command.arg("--data").arg(data).args(arguments).env_remove("PEERAGE_RELAY_HTTP").env_remove("PEERAGE_RELAY_LISTEN");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a command that must fail says, and its exit code.
pub async fn failing(mut command: Command) -> (String, i32) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    assert!(output.stdout.is_empty(), "nothing but errors: {}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

const FREE: [&str; 5] = ["relay", "--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"];

pub async fn start(data: &Path, more: &[&str]) -> (Child, Ready) {
    let arguments: Vec<&str> = FREE.iter().chain(more).copied().collect();
    let mut child = peerage(data, &arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line");
    (child, serde_json::from_str(&line).unwrap())
}

async fn get(http: &str, path: &str) -> String {
    let address = http.strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A counter's value in `/metrics`.
async fn counter(http: &str, name: &str) -> u64 {
    let text = get(http, "/metrics").await;
    let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_relay_tells_where_it_is_counts_what_it_carries_and_stops_with_its_parent() {
    let scratch = Scratch::new("relay");
    let record = scratch.0.join("heard.bin");
    let (mut child, ready) = start(&scratch.0, &["--follow-stdin", "--record", record.to_str().unwrap()]).await;
    assert!(ready.addresses.iter().all(|a| a.ends_with(&format!("/p2p/{}", ready.id))));
    assert!(get(&ready.http, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&ready.http, "/readyz").await.starts_with("HTTP/1.1 200"));

    let (mut a, mut b) = (Node::listening(&[]), Node::behind_relay());
    let circuits = b.reserve(&ready.addresses[0]).await;
    connect(&mut a, &mut b, &circuits).await;
    assert_eq!(counter(&ready.http, "peerage_relay_circuits").await, 1);
    assert_eq!(counter(&ready.http, "peerage_relay_reservations").await, 1);
    assert!(counter(&ready.http, "peerage_stream_sent_bytes_total").await > 0);
    // The recording has all that was counted, in the clear as the relay got it.
    let received = counter(&ready.http, "peerage_stream_received_bytes_total").await;
    let heard = std::fs::read(&record).unwrap();
    assert!(heard.len() as u64 > received, "{} bytes recorded, {received} received", heard.len());
    assert!(heard.windows(19).any(|w| w == b"/libp2p/circuit/rel"), "the request for a circuit");
    assert_eq!(std::fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);

    drop(child.stdin.take());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it stops").unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_child_is_started_named_and_stopped() {
    let scratch = Scratch::new("child");
    let data = format!("--data={}", scratch.0.display());
    let arguments: Vec<String> = FREE.iter().copied().chain([data.as_str()]).map(String::from).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_peerage"));
    let child = peerage::node::children::Child::start(program, &arguments).await.unwrap();
    assert_eq!(child.ready.role, "relay");
    let process = format!("/proc/{}", child.pid().unwrap());
    assert!(Path::new(&process).exists());
    tokio::time::timeout(PATIENCE, child.stop()).await.expect("it stops");
    assert!(!Path::new(&process).exists());

    let bad: Vec<String> = ["relay", "--listen", "nowhere", &data].map(String::from).to_vec();
    let error = peerage::node::children::Child::start(program, &bad).await.unwrap_err();
    assert_eq!(error.message(), "the relay did not start");
}

#[tokio::test]
async fn the_page_is_served_uncached_with_its_types_and_without_referrer() {
    let scratch = Scratch::new("page");
    std::fs::write(scratch.0.join("index.html"), "<!doctype html>").unwrap();
    std::fs::write(scratch.0.join("peerage_bg.wasm"), b"\0asm").unwrap();
    let listener = peerage::node::web::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let http = format!("http://{}", listener.local_addr().unwrap());
    let (halt, halted) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(peerage::node::web::serve(listener, peerage::node::web::page(scratch.0.clone()), async {
        // Dropping the sender is the signal.
        drop(halted.await);
    }));
    let index = get(&http, "/").await;
    assert!(index.starts_with("HTTP/1.1 200") && index.ends_with("<!doctype html>"), "{index}");
    for header in ["content-type: text/html; charset=utf-8", "cache-control: no-store", "referrer-policy: no-referrer"] {
        assert!(index.contains(header), "{header} in {index}");
    }
    assert!(get(&http, "/peerage_bg.wasm?x=1").await.contains("content-type: application/wasm"));
    assert!(get(&http, "/../etc/passwd").await.starts_with("HTTP/1.1 404"));
    drop(halt);
    tokio::time::timeout(PATIENCE, serving).await.expect("it stops").unwrap().unwrap();
}

#[tokio::test]
async fn a_relay_keeps_its_identity_in_a_file_for_its_owner_alone() {
    let scratch = Scratch::new("identity");
    let (mut first, before) = start(&scratch.0, &[]).await;
    first.kill().await.unwrap();
    let (mut second, after) = start(&scratch.0, &[]).await;
    second.kill().await.unwrap();
    assert_eq!(before.id, after.id);
    for name in ["relay/node.key", "relay/webrtc.pem"] {
        let mode = std::fs::metadata(scratch.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// A killed relay that comes back under its address and identity is found again, and the reservation renewed.
#[tokio::test]
async fn a_killed_relay_is_used_again_once_it_is_back() {
    let scratch = Scratch::new("killed");
    let (mut first, ready) = start(&scratch.0, &[]).await;
    let mut node = Node::behind_relay();
    let address = ready.addresses[0].clone();
    node.reserve(&address).await;
    first.kill().await.unwrap();
    let relay = |up: bool| move |event| matches!(event, LinkEvent::Relay { up: now, .. } if now == up).then_some(());
    node.wait("the relay is gone", relay(false)).await;
    let (listen, _) = address.split_once("/p2p/").unwrap();
    let mut second = peerage(&scratch.0, &["relay", "--http", "127.0.0.1:0", "--listen", listen]).spawn().unwrap();
    node.wait("the relay is back", relay(true)).await;
    second.kill().await.unwrap();
}

#[tokio::test]
async fn troubles_are_told_in_one_line() {
    let scratch = Scratch::new("trouble");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for arguments in [
        vec!["relay".to_owned(), "--http".into(), format!("127.0.0.1:{port}")],
        vec!["relay".into(), "--http".into(), "127.0.0.1:0".into(), "--listen".into(), format!("/ip4/127.0.0.1/tcp/{port}")],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (said, code) = failing(peerage(&scratch.0, &arguments)).await;
        assert!(said.contains("taken by another program") && said.contains(&port.to_string()), "{said}");
        assert_eq!((said.lines().count(), code), (1, 1), "{said}");
    }

    std::fs::write(scratch.0.join("relay/node.key"), "no key").unwrap();
    std::fs::set_permissions(scratch.0.join("relay/node.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (said, code) = failing(peerage(&scratch.0, &FREE)).await;
    assert!(said.contains("node.key is no key file"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    // A file where the directory should be: nobody, root included, can make a directory there.
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    let (said, code) = failing(peerage(&file, &FREE)).await;
    assert!(said.contains("cannot be"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    let mut command = peerage(&scratch.0, &["relay", "--http", "127.0.0.1:0", "--record"]);
    std::fs::remove_file(scratch.0.join("relay/node.key")).unwrap();
    command.arg(&file);
    let (said, code) = failing(command).await;
    assert!(said.contains("exists already"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    let settings = scratch.0.join("settings.toml");
    std::fs::write(&settings, "[relay]\nlisen = []\n").unwrap();
    let mut command = peerage(&scratch.0, &FREE);
    command.arg("--config").arg(&settings);
    let (said, code) = failing(command).await;
    assert!(said.contains("line 2") && said.contains("lisen"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    let (said, code) = failing(peerage(&scratch.0, &["relay", "--no-such-flag"])).await;
    assert!(said.contains("--no-such-flag"), "{said}");
    assert_eq!(code, 2);
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let scratch = Scratch::new("order");
    let settings = scratch.0.join("settings.toml");
    std::fs::write(&settings, "[relay]\nhttp = \"127.0.0.1:0\"\nlisten = [\"/ip4/127.0.0.1/tcp/0/ws\"]\n").unwrap();
    let config = settings.to_str().unwrap();
    for (flag, environment, wanted) in [
        (Some("/ip4/127.0.0.1/udp/0/quic-v1"), Some("/ip4/127.0.0.1/tcp/0"), "/quic-v1/"),
        (None, Some("/ip4/127.0.0.1/tcp/0"), "/tcp/"),
        (None, None, "/ws/"),
    ] {
        let mut command = peerage(&scratch.0, &["relay", "--config", config]);
        command.args(flag.iter().flat_map(|f| ["--listen", f])).envs(environment.map(|e| ("PEERAGE_RELAY_LISTEN", e)));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap();
        assert!(ready.addresses[0].contains(wanted), "{}", ready.addresses[0]);
        assert_eq!(ready.addresses[0].contains("/ws/"), wanted == "/ws/");
        child.kill().await.unwrap();
    }
    assert_eq!(RelayLimits::default().circuit_bytes, 4 << 30);
}

/// With what it is to read on standard input.
pub async fn told(mut command: Command, input: &str) -> (bool, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn an_owner_backs_up_and_restores() {
    let scratch = Scratch::new("backup");
    let (owner, other) = (scratch.0.join("owner"), scratch.0.join("other"));
    let file = scratch.0.join("yard.peerage");
    let named = file.to_str().unwrap();
    let (_, made, _) = told(peerage(&owner, &["domain", "create", "yard"]), "").await;
    let (ok, words, _) = told(peerage(&owner, &["domain", "words"]), "").await;
    assert!(ok && words.split_whitespace().count() == 24, "{words}");

    let (ok, _, said) = told(peerage(&owner, &["domain", "backup", named]), "short\n").await;
    assert!(!ok && said.ends_with("[bad-argument]\n"), "{said}");
    let (ok, _, said) = told(peerage(&owner, &["domain", "backup", named]), "correct horse battery\n").await;
    assert!(ok, "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
    let (ok, _, said) = told(peerage(&owner, &["domain", "backup", named]), "correct horse battery\n").await;
    assert!(!ok && said.ends_with("[storage]\n"), "what exists is not replaced: {said}");

    let (ok, _, said) = told(peerage(&other, &["domain", "restore", named]), "correct horse\n").await;
    assert!(!ok && said.ends_with("[forbidden]\n"), "{said}");
    let (ok, restored, said) = told(peerage(&other, &["domain", "restore", named]), "correct horse battery\n").await;
    assert!(ok && restored.lines().eq(made.lines()), "{said} {restored} {made}");
    let (ok, _, said) = told(peerage(&other, &["domain", "restore", named]), "correct horse battery\n").await;
    assert!(!ok && said.ends_with("[storage]\n"), "a domain that is there is not replaced: {said}");

    // Without its root key the directory is anybody's; the words make it the owner's again.
    std::fs::remove_file(other.join("domain/root.key")).unwrap();
    let nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let (ok, _, said) = told(peerage(&other, &["invite", "--relay", nobody]), "").await;
    assert!(!ok && said.ends_with("[forbidden]\n"), "{said}");
    let foreign = format!("{}art\n", "abandon ".repeat(23));
    let (ok, _, said) = told(peerage(&other, &["domain", "restore", "--words"]), &foreign).await;
    assert!(!ok && said.ends_with("[bad-argument]\n"), "another domain's: {said}");
    let (ok, _, said) = told(peerage(&other, &["domain", "restore", "--words"]), &words).await;
    assert!(ok, "{said}");
    let (ok, link, said) = told(peerage(&other, &["invite", "--relay", nobody]), "").await;
    assert!(ok && link.contains('#'), "{said}");
}

/// One TCP port takes libp2p's own streams, WebSocket, and WebSocket in TLS under a name; who believes the certificate gets in.
#[tokio::test]
async fn one_tcp_port_takes_all_and_tls_takes_a_certificate() {
    let scratch = Scratch::new("tls");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [plain, ws, wss] = ["", "/ws", "/tls/ws"].map(|rest| format!("/ip4/127.0.0.1/tcp/{port}{rest}"));
    let named = format!("/dns4/localhost/tcp/{port}/tls/ws");
    let listen = ["relay", "--http", "127.0.0.1:0", "--listen", &plain, "--listen", &ws, "--listen", &wss, "--announce", &named];

    let (error, _) = failing(peerage(&scratch.0, &listen)).await;
    assert!(error.contains("takes a certificate") && error.contains("--tls-certificate"), "{error}");

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key, settings] = ["fullchain.pem", "privkey.pem", "settings.toml"].map(|name| scratch.0.join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&settings, format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")).unwrap();
    let with = [&["--config", settings.to_str().unwrap()], &listen[..]].concat();
    let (error, _) = failing(peerage(&scratch.0, &with)).await;
    assert!(error.contains("privkey.pem cannot be read"), "{error}");

    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut child = peerage(&scratch.0, &with).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line");
    let told: Ready = serde_json::from_str(&line).unwrap();
    // In TLS the name is told, and not the address, which the certificate is not for.
    let ends = |a: &String| a.split("/p2p/").next().unwrap().to_owned();
    let mut heads: Vec<String> = told.addresses.iter().map(ends).collect();
    heads.sort();
    assert_eq!(heads, [named.clone(), plain.clone(), ws.clone()]);

    let doctor = |believes: bool| {
        let addresses = told.addresses.iter().map(String::as_str);
        let mut command = peerage(&scratch.0, &["doctor"].into_iter().chain(addresses).collect::<Vec<_>>());
        if believes {
            command.env("SSL_CERT_FILE", &certificate);
        }
        command
    };
    let works = |out: std::process::Output| {
        let text = String::from_utf8(out.stdout).unwrap();
        let mut works: Vec<String> =
            text.lines().filter(|l| l.starts_with("works")).map(|l| ends(&l.rsplit(' ').next().unwrap().to_owned())).collect();
        works.sort();
        (works, text)
    };
    let (all, text) = works(doctor(true).output().await.unwrap());
    assert_eq!(all, heads, "{text}");
    let (some, text) = works(doctor(false).output().await.unwrap());
    assert_eq!(some, [plain, ws], "{text}");
    child.kill().await.unwrap();
}
