//! `peerage join`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use peerage::base::{Code, DomainId, Error, NodeId};
use peerage::node::children::stop_signal;
use peerage::node::lines::{Command, Content, Delivery, LINE, Request, content, recipients};
use peerage::node::occupancy;
use peerage::node::shelf;
use peerage::node::work::Program;
use peerage::peer::{Event, Path, Profile, To, invitation_of};
use peerage::platform::native::NativeConfig;
use peerage::proto::channel::{ChannelId, Mode};
use peerage::proto::directory::{self, Capability, Query};
use peerage::proto::state::Entry;
use peerage::proto::task::CAPABILITY;
use peerage::runtime::handle::Node;
use peerage::runtime::task::{FOR, Supplier, Work};
use peerage::wire::link::InviteLink;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;

use super::participant::{Participant, enter, evicted};
use super::{Common, say};

/// Take part in a domain without a screen: events as JSON lines on standard output, commands on standard input
///
/// Ends when it was told to leave, on Ctrl-C or SIGTERM, when standard input closes, or with an error when it was evicted. What it
/// joined is kept in the data directory: without a link it is opened from there, under the same identity.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage join 'http://127.0.0.1:9600/#…'
  peerage join                                the domain joined before
  peerage join LINK --serve map/occupancy --capacity 2
  peerage join LINK --serve open-door=./open.sh --for evict      only for members who may evict
  peerage join LINK --serve 'count=wc -c' --serve 'thumbnail=convert - -resize 256 png:-'
  echo '{\"cmd\":\"send\",\"channel\":\"chat\",\"text\":\"hi\"}' | peerage join LINK --name robot

Commands, one per line (\"id\" is given back with the answer):
  {\"cmd\":\"open\",\"channel\":\"chat\",\"mode\":\"reliable\"}      its messages come as events from now on
  {\"cmd\":\"send\",\"channel\":\"chat\",\"to\":null,\"text\":\"hi\"}  to: null or a list of node ids; text, or data in base64
  {\"cmd\":\"send\",\"channel\":\"pose\",\"mode\":\"latest\",\"key\":\"me\",\"text\":\"…\"}
  {\"cmd\":\"set\",\"key\":\"door\",\"value\":{\"open\":true}}   {\"cmd\":\"set\",\"key\":\"door\"}   {\"cmd\":\"state\",\"prefix\":\"\"}
  {\"cmd\":\"participants\"}   {\"cmd\":\"links\"}   {\"cmd\":\"stats\"}   {\"cmd\":\"leave\"}   {\"cmd\":\"leave\",\"forget\":true}
  {\"cmd\":\"evict\",\"node\":…}   {\"cmd\":\"approve\",\"node\":…}   {\"cmd\":\"deny\",\"node\":…}   with the right to it

Events, one per line:
  {\"event\":\"joined\",\"node\":…,\"domain\":…,\"name\":…}
  {\"event\":\"participant\",\"node\":…,\"change\":\"joined|updated|down|left\"}
  {\"event\":\"link\",\"node\":…,\"path\":\"direct|relayed|none\"}
  {\"event\":\"message\",\"channel\":…,\"from\":…,\"sent_at\":MILLISECONDS,\"text\":… or \"data\":…,\"key\":…}
  {\"event\":\"degraded|restored\",\"capability\":…}
  {\"event\":\"state\",\"key\":…}                    a key of the shared state was written or deleted
  {\"event\":\"approval\",\"node\":…,\"name\":…}      somebody waits to be let in
  {\"event\":\"answer\",\"id\":…, …}   {\"event\":\"error\",\"id\":…,\"code\":…,\"message\":…}")]
pub struct Join {
    /// The invitation link [default: none; a domain joined before is opened again]
    link: Option<String>,
    /// Which of the domains joined before, if there are several
    #[arg(long, value_name = "ID", conflicts_with = "link")]
    domain: Option<DomainId>,
    /// A name for people
    #[arg(long, default_value = "peerage", env = "PEERAGE_NAME")]
    name: String,
    /// A multiaddr to listen on; may be given several times [default: free ports of this machine]
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// Do this for others: a capability, and the command that does it, with the input on its standard input and the output on its
    /// standard output; each line on standard error tells how far it is. Without a command: map/occupancy, which this program does
    /// itself. May be given several times
    #[arg(long, value_name = "CAPABILITY[=COMMAND]", value_parser = served)]
    serve: Vec<Served>,
    /// Do it only for members that show one of these: a node id, the id or link of the invitation they came with, or a right: invite,
    /// evict, store
    #[arg(long, value_name = "WHO", requires = "serve", value_delimiter = ',')]
    r#for: Vec<String>,
    /// How many of each at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "serve")]
    capacity: u32,
}

#[derive(Clone)]
struct Served {
    capability: String,
    work: Arc<dyn Work>,
}

fn served(text: &str) -> Result<Served, Error> {
    if text == occupancy::NAME {
        return Ok(Served { capability: text.to_owned(), work: Arc::new(occupancy::Grids) });
    }
    let wrong = || {
        let hint = format!("Such as count=wc -c. Only {} needs no command", occupancy::NAME);
        Error::new(Code::BadArgument, "a capability, =, and a command are wanted").hint(hint)
    };
    let (capability, command) = text.split_once('=').ok_or_else(wrong)?;
    if capability.is_empty() || capability.len() > CAPABILITY {
        return Err(Error::new(Code::BadArgument, format!("a capability's name has 1 to {CAPABILITY} bytes")));
    }
    Ok(Served { capability: capability.to_owned(), work: Arc::new(Program::parse(command)?) })
}

const LISTEN: [&str; 5] = [
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/tcp/0/ws",
    "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
    "/ip4/127.0.0.1/udp/0/webrtc-direct",
];

struct Session {
    node: Node,
    domain: DomainId,
    channels: BTreeMap<String, (ChannelId, Delivery)>,
    /// It was left for good.
    forget: bool,
    /// Messages and answers of tasks, to be printed in one place. Bounded: readers wait when nobody reads our output.
    out: mpsc::Sender<Value>,
}

impl Join {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(false)?;
        let settings = common.settings()?;
        let data = common.data(&settings)?.folder("participant")?;
        let listen = if self.listen.is_empty() { LISTEN.map(String::from).to_vec() } else { self.listen };
        let config = NativeConfig { listen, reserve: true, certificate: Some(data.certificate()?), ..NativeConfig::default() };
        let Participant { node, keeper, driving, streams, .. } = Participant::start(&data, &config).await?;
        let profile = Profile { name: self.name, capabilities: Vec::new() };
        tokio::pin!(stop);
        let domain = tokio::select! {
            entered = enter(&keeper, self.link, self.domain, profile) => entered?,
            () = &mut stop => return Ok(()),
        };
        let supplier = Supplier::new(node.clone(), Arc::new(streams.tasks()), shelf::open(&data.folder("kept")?)?);
        // Everybody reads what is offered: of a link only what names the invitation.
        let word = |who: &String| InviteLink::parse(who).map_or_else(|_| who.clone(), |link| invitation_of(&link).to_string());
        let audience = (!self.r#for.is_empty()).then(|| self.r#for.iter().map(word).collect::<Vec<_>>().join(" "));
        for Served { capability, work } in self.serve {
            let attributes = audience.iter().map(|who| (FOR.to_owned(), directory::Value::Text(who.clone()))).collect();
            supplier.offer(domain, Capability { capacity: self.capacity, attributes, ..Capability::new(capability, 1) }, work)?;
        }
        tokio::spawn(supplier.serve(streams.tasks().incoming()?));
        say(&json!({"event": "joined", "node": node.id().to_string(), "domain": domain.to_string(), "name": node.domain_name(domain)?}))?;
        let (out, mut printed) = mpsc::channel(64);
        let mut session = Session { node: node.clone(), domain, channels: BTreeMap::new(), forget: false, out };
        let (mut input, mut thrown_out) = (lines(), false);
        loop {
            tokio::select! {
                () = &mut stop => break,
                event = node.next_event() => match event {
                    Some(event) => {
                        if let Some(line) = event_line(&event) {
                            say(&line)?;
                        }
                        if matches!(event, Event::Closed { .. }) {
                            thrown_out = true;
                            break;
                        }
                    }
                    None => break,
                },
                Some(line) = printed.recv() => say(&line)?,
                line = input.recv() => match line.transpose()? {
                    Some(line) if line.trim().is_empty() => {}
                    Some(line) => if session.line(&line)? { break },
                    None => break,
                },
            }
        }
        let kept = if session.forget { keeper.forget(domain).await } else { keeper.flush().await };
        node.close();
        // Bounded by the peer's own goodbye.
        let _ = driving.await;
        if thrown_out {
            return Err(evicted());
        }
        kept
    }
}

/// Standard input, line by line. A task of its own reads, so that nothing half read is lost when something else happens first.
fn lines() -> mpsc::Receiver<Result<String, Error>> {
    let (tell, told) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        while let Some(line) = read_line(&mut input).await.transpose() {
            let last = line.is_err();
            if tell.send(line).await.is_err() || last {
                return;
            }
        }
    });
    told
}

/// A line of at most [`LINE`] bytes; a longer one is an error, as what follows cannot be told apart.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>, Error> {
    let mut bytes = Vec::new();
    let failed = |e| Error::new(Code::Storage, "standard input cannot be read").caused_by(e);
    let n = input.take(LINE as u64 + 1).read_until(b'\n', &mut bytes).await.map_err(failed)?;
    if n > LINE {
        return Err(Error::new(Code::TooLarge, "a command line of more than 85 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::new(Code::BadArgument, "standard input is no UTF-8"))?;
    Ok((n > 0).then_some(text))
}

impl Session {
    /// Carries out a line; true to end.
    fn line(&mut self, line: &str) -> Result<bool, Error> {
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(error) => return say(&error_line(None, &error)).map(|()| false),
        };
        let id = request.id;
        let result = match request.command {
            Command::Leave { forget } => {
                self.forget = forget;
                return Ok(true);
            }
            Command::Open { channel, mode } => self.open(&channel, mode).map(|_| json!({})),
            Command::Set { key, value } => {
                self.node.write_state(self.domain, &key, value.map(|v| v.to_string().into_bytes())).map(|()| json!({}))
            }
            Command::State { prefix } => {
                self.node.state_entries(self.domain, &prefix).map(|all| json!({"state": all.iter().map(entry).collect::<Vec<_>>()}))
            }
            Command::Evict { node } => self.member(&node, |node, domain, who| node.evict(domain, who)),
            Command::Approve { node } => self.member(&node, |node, domain, who| node.approve(domain, who)),
            Command::Deny { node } => self.member(&node, |node, domain, who| node.deny(domain, who)),
            Command::Participants => self.participants(),
            Command::Links => Ok(self.links()),
            Command::Stats => self.node.stats(self.domain).map(|s| {
                json!({"sealed": s.sealed, "opened": s.opened, "members": s.members,
                "linked": s.linked, "datagrams": s.datagrams, "statements": s.statements,
                "rejected": s.rejected.iter().map(|(r, n)| (r.to_string(), json!(n))).collect::<serde_json::Map<_, _>>()})
            }),
            Command::Send { channel, mode, to, text, data, key } => {
                let prepared = self
                    .open(&channel, mode)
                    .and_then(|c| Ok((c, recipients(to.as_deref())?.map_or(To::All, To::Some), content(text, data.as_deref())?)));
                match prepared {
                    Ok((channel, to, payload)) => {
                        let (node, domain, out) = (self.node.clone(), self.domain, self.out.clone());
                        tokio::spawn(async move {
                            let line = match node.send(domain, channel, to, payload, key).await {
                                Ok(()) => json!({"event": "answer", "id": id}),
                                Err(error) => error_line(id, &error),
                            };
                            // Nobody prints any more once the program ends.
                            let _ = out.send(line).await;
                        });
                        return Ok(false);
                    }
                    Err(error) => Err(error),
                }
            }
        };
        say(&match result {
            Ok(mut answer) => {
                answer["event"] = "answer".into();
                answer["id"] = json!(id);
                answer
            }
            Err(error) => error_line(id, &error),
        })?;
        Ok(false)
    }

    fn open(&mut self, name: &str, delivery: Delivery) -> Result<ChannelId, Error> {
        if let Some((id, _)) = self.channels.get(name) {
            return Ok(*id);
        }
        let mode = match delivery {
            Delivery::Reliable => Mode::Reliable,
            Delivery::Latest => Mode::Latest,
            Delivery::Datagram => Mode::Datagram,
        };
        let id = self.node.channel(self.domain, name, mode)?;
        self.channels.insert(name.to_owned(), (id, delivery));
        let (node, domain, out, name) = (self.node.clone(), self.domain, self.out.clone(), name.to_owned());
        tokio::spawn(async move {
            while let Some(message) = node.receive(domain, id).await {
                let mut line = json!({"event": "message", "channel": name, "from": message.from.to_string(), "sent_at": message.sent_at.0,
                    "key": message.key});
                match Content::from(message.payload) {
                    Content::Text(text) => line["text"] = text.into(),
                    Content::Data(data) => line["data"] = data.into(),
                }
                if out.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(id)
    }

    fn member(&self, who: &str, act: impl FnOnce(&Node, DomainId, NodeId) -> Result<(), Error>) -> Result<Value, Error> {
        act(&self.node, self.domain, who.parse()?).map(|()| json!({}))
    }

    fn participants(&self) -> Result<Value, Error> {
        let all = self.node.participants(self.domain, &Query::default())?;
        let one = |p: &peerage::proto::directory::Participant| {
            json!({"node": p.node.to_string(), "name": p.name, "role": format!("{:?}", p.role).to_lowercase(),
                "presence": format!("{:?}", p.presence).to_lowercase(), "self": p.is_self,
                "capabilities": p.capabilities.iter().map(|c| json!({"name": c.name, "version": c.version})).collect::<Vec<_>>()})
        };
        Ok(json!({"participants": all.iter().map(one).collect::<Vec<_>>()}))
    }

    fn links(&self) -> Value {
        let one = |l: &peerage::peer::LinkInfo| {
            json!({"node": l.node.to_string(), "path": path(l.path), "rtt_ms": l.rtt.map(|r| r.as_secs_f64() * 1_000.0),
                "sent": l.sent, "received": l.received, "datagrams": l.datagrams})
        };
        json!({"links": self.node.links(Some(self.domain)).iter().map(one).collect::<Vec<_>>()})
    }
}

fn entry(entry: &Entry) -> Value {
    // What is no JSON comes as text: other writers may keep to other rules.
    let value = |v: &[u8]| serde_json::from_slice::<Value>(v).unwrap_or_else(|_| String::from_utf8_lossy(v).into());
    let value = entry.value.as_deref().map(value);
    json!({"key": entry.key, "value": value, "by": entry.writer.to_string(), "at": entry.stamp.wall().0})
}

fn path(path: Option<Path>) -> &'static str {
    match path {
        Some(Path::Direct) => "direct",
        Some(Path::Relayed) => "relayed",
        None => "none",
    }
}

fn error_line(id: Option<u64>, error: &Error) -> Value {
    json!({"event": "error", "id": id, "code": error.code().as_str(), "message": error.one_line()})
}

fn event_line(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Addresses => return None,
        Event::Participant { node, change, .. } => {
            json!({"event": "participant", "node": node.to_string(), "change": format!("{change:?}").to_lowercase()})
        }
        Event::Link { node, path: p } => json!({"event": "link", "node": node.to_string(), "path": path(*p)}),
        Event::Degraded { capability, .. } => json!({"event": "degraded", "capability": capability}),
        Event::Restored { capability, .. } => json!({"event": "restored", "capability": capability}),
        Event::State { key, .. } => json!({"event": "state", "key": key}),
        Event::Relay { address, up } => json!({"event": "relay", "address": address, "up": up}),
        Event::Refused { node, code, by_us } => {
            json!({"event": "refused", "node": node.to_string(), "code": code.as_str(), "by_us": by_us})
        }
        Event::DirectFailed { node, code } => json!({"event": "direct-failed", "node": node.to_string(), "code": code.as_str()}),
        Event::Unsaved { reason } => json!({"event": "unsaved", "reason": reason}),
        Event::Approval { node, name, .. } => json!({"event": "approval", "node": node.to_string(), "name": name}),
        Event::Waiting { .. } => json!({"event": "waiting"}),
        Event::Flagged { node, why, .. } => json!({"event": "flagged", "node": node.to_string(), "why": why.as_str()}),
        Event::Closed { .. } => json!({"event": "closed"}),
    })
}
