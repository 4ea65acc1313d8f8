//! The bytes: a payload is a run of items, each with a fixed header (big-endian), so that small messages share one seal.

use alloc::vec::Vec;

use super::Mode;
use crate::base::{Reject, Wall, limit};
use crate::wire::bytes::{Reader, Writer};

/// No item's header is longer: a first piece under the longest key.
pub const HEADER: usize = 1 + 8 + 8 + 8 + 4 + 8 + 2 + limit::MESSAGE_KEY + 2;
/// What one piece of a stream counts for beside its bytes, so that empty messages are bounded too.
pub const COST: u64 = 64;

const FIRST: u8 = 1;
const MORE: u8 = 2;
const ASK: u8 = 3;
const ACK: u8 = 4;
const LATEST: u8 = 5;
const CAST_FIRST: u8 = 6;
const CAST_MORE: u8 = 7;
const DATAGRAM: u8 = 8;

/// A channel as the wire names it: a hash of mode and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub [u8; 8]);

impl Tag {
    pub fn of(mode: Mode, name: &str) -> Tag {
        let mut hasher = blake3::Hasher::new_derive_key("peerage/1/channel");
        hasher.update(&[match mode {
            Mode::Reliable => 0,
            Mode::Latest => 1,
            Mode::Datagram => 2,
        }]);
        hasher.update(name.as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Tag(tag)
    }
}

/// What the first piece of a message says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Length of the whole message in bytes.
    pub total: u32,
    pub sent_at: Wall,
    /// Empty for none.
    pub key: &'a str,
}

/// What a receiver tells the sender of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub tag: Tag,
    /// The sender's run of the stream this is about.
    pub epoch: u64,
    /// Another number says that the receiver lost its state.
    pub receiver: u32,
    /// All before this position arrived.
    pub next: u64,
    /// Positions below this may be sent.
    pub credit: u64,
    /// The last question seen, 0 for none.
    pub echo: u32,
    /// Something beyond `next` arrived.
    pub gap: bool,
}

/// One item of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A piece of a stream; the first one of a message has a head.
    Piece {
        tag: Tag,
        epoch: u64,
        pos: u64,
        head: Option<Head<'a>>,
        bytes: &'a [u8],
    },
    /// What has arrived? Takes the same lane as the pieces, so the answer covers all that was sent before on that link.
    Ask {
        tag: Tag,
        epoch: u64,
        nonce: u32,
    },
    Ack(Ack),
    /// A value; `seq` grows with everything this sender puts on `latest` channels.
    Latest {
        tag: Tag,
        seq: u64,
        sent_at: Wall,
        key: &'a str,
        bytes: &'a [u8],
    },
    /// A message of a `datagram` channel; `seq` is of the same count as those of values.
    Datagram {
        tag: Tag,
        seq: u64,
        sent_at: Wall,
        key: &'a str,
        bytes: &'a [u8],
    },
    /// A piece of what is sent to everybody at once; `pos` counts pieces, not bytes.
    Cast {
        tag: Tag,
        epoch: u64,
        pos: u64,
        head: Option<Head<'a>>,
        bytes: &'a [u8],
    },
}

impl<'a> Item<'a> {
    pub fn write(&self, w: &mut Writer) {
        match *self {
            Item::Piece { tag, epoch, pos, head, bytes } => {
                w.u8(if head.is_some() { FIRST } else { MORE }).raw(&tag.0).u64(epoch).u64(pos);
                write_content(w, head, bytes);
            }
            Item::Cast { tag, epoch, pos, head, bytes } => {
                w.u8(if head.is_some() { CAST_FIRST } else { CAST_MORE }).raw(&tag.0).u64(epoch).u64(pos);
                write_content(w, head, bytes);
            }
            Item::Ask { tag, epoch, nonce } => {
                w.u8(ASK).raw(&tag.0).u64(epoch).u32(nonce);
            }
            Item::Ack(a) => {
                w.u8(ACK).raw(&a.tag.0).u64(a.epoch).u32(a.receiver).u64(a.next).u64(a.credit).u32(a.echo).u8(u8::from(a.gap));
            }
            Item::Latest { tag, seq, sent_at, key, bytes } => {
                w.u8(LATEST).raw(&tag.0).u64(seq).u64(sent_at.0).var(key.as_bytes()).var(bytes);
            }
            Item::Datagram { tag, seq, sent_at, key, bytes } => {
                w.u8(DATAGRAM).raw(&tag.0).u64(seq).u64(sent_at.0).var(key.as_bytes()).var(bytes);
            }
        }
    }

    fn read(r: &mut Reader<'a>) -> Result<Item<'a>, Reject> {
        let kind = r.u8()?;
        let tag = Tag(r.array()?);
        Ok(match kind {
            FIRST => Item::Piece {
                tag,
                epoch: r.u64()?,
                pos: r.u64()?,
                head: Some(head(r, limit::RELIABLE_MESSAGE)?),
                bytes: r.var(limit::CHUNK)?,
            },
            CAST_FIRST => {
                Item::Cast { tag, epoch: r.u64()?, pos: r.u64()?, head: Some(head(r, limit::CAST_MESSAGE)?), bytes: r.var(limit::CHUNK)? }
            }
            CAST_MORE => Item::Cast { tag, epoch: r.u64()?, pos: r.u64()?, head: None, bytes: r.var(limit::CHUNK)? },
            MORE => Item::Piece { tag, epoch: r.u64()?, pos: r.u64()?, head: None, bytes: r.var(limit::CHUNK)? },
            ASK => Item::Ask { tag, epoch: r.u64()?, nonce: r.u32()? },
            ACK => Item::Ack(Ack {
                tag,
                epoch: r.u64()?,
                receiver: r.u32()?,
                next: r.u64()?,
                credit: r.u64()?,
                echo: r.u32()?,
                gap: match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Reject::Malformed),
                },
            }),
            LATEST => Item::Latest { tag, seq: r.u64()?, sent_at: Wall(r.u64()?), key: key(r)?, bytes: r.var(limit::LATEST_VALUE)? },
            DATAGRAM => Item::Datagram { tag, seq: r.u64()?, sent_at: Wall(r.u64()?), key: key(r)?, bytes: r.var(limit::DATAGRAM)? },
            _ => return Err(Reject::UnknownKind),
        })
    }
}

fn write_content(w: &mut Writer, head: Option<Head<'_>>, bytes: &[u8]) {
    if let Some(head) = head {
        w.u32(head.total).u64(head.sent_at.0).var(head.key.as_bytes());
    }
    w.var(bytes);
}

fn head<'a>(r: &mut Reader<'a>, most: usize) -> Result<Head<'a>, Reject> {
    let head = Head { total: r.u32()?, sent_at: Wall(r.u64()?), key: key(r)? };
    if head.total as usize > most { Err(Reject::TooLarge) } else { Ok(head) }
}

fn key<'a>(r: &mut Reader<'a>) -> Result<&'a str, Reject> {
    core::str::from_utf8(r.var(limit::MESSAGE_KEY)?).map_err(|_| Reject::Malformed)
}

/// Takes a payload apart, all of it before anything is acted on. At least one item.
pub fn decode(payload: &[u8]) -> Result<Vec<Item<'_>>, Reject> {
    if payload.len() > super::MAX_PAYLOAD {
        return Err(Reject::TooLarge);
    }
    let mut reader = Reader::new(payload);
    let mut items = Vec::new();
    loop {
        items.push(Item::read(&mut reader)?);
        if reader.remaining() == 0 {
            return Ok(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip_and_every_cut_is_refused() {
        let tag = Tag::of(Mode::Reliable, "chat");
        assert_ne!(tag, Tag::of(Mode::Latest, "chat"));
        let items = [
            Item::Piece { tag, epoch: 5, pos: 9, head: Some(Head { total: 3, sent_at: Wall(7), key: "k" }), bytes: b"abc" },
            Item::Piece { tag, epoch: 5, pos: 76, head: None, bytes: b"" },
            Item::Ask { tag, epoch: 5, nonce: 1 },
            Item::Ack(Ack { tag, epoch: 5, receiver: 4, next: 3, credit: u64::MAX, echo: 1, gap: true }),
            Item::Latest { tag, seq: 1, sent_at: Wall(2), key: "", bytes: b"v" },
            Item::Datagram { tag, seq: 1, sent_at: Wall(2), key: "k", bytes: b"v" },
            Item::Cast { tag, epoch: 5, pos: 1, head: Some(Head { total: 3, sent_at: Wall(7), key: "k" }), bytes: b"abc" },
            Item::Cast { tag, epoch: 5, pos: 2, head: None, bytes: b"abc" },
        ];
        for item in items {
            let mut w = Writer::new();
            item.write(&mut w);
            let bytes = w.finish();
            assert_eq!(decode(&bytes), Ok(alloc::vec![item]));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err());
            }
            assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert_eq!(decode(&[]), Err(Reject::Malformed));
    }

    /// `docs/protocol.md` section 9 in bytes: these never change within a version.
    #[test]
    fn golden_bytes() {
        let tag = Tag([0xaa; 8]);
        let golden = [
            (
                Item::Piece { tag, epoch: 1, pos: 2, head: Some(Head { total: 3, sent_at: Wall(4), key: "k" }), bytes: b"abc" },
                "01aaaaaaaaaaaaaaaa0000000000000001000000000000000200000003000000000000000400016b0003616263",
            ),
            (Item::Piece { tag, epoch: 1, pos: 2, head: None, bytes: b"a" }, "02aaaaaaaaaaaaaaaa00000000000000010000000000000002000161"),
            (Item::Ask { tag, epoch: 1, nonce: 2 }, "03aaaaaaaaaaaaaaaa000000000000000100000002"),
            (
                Item::Ack(Ack { tag, epoch: 1, receiver: 2, next: 3, credit: 4, echo: 5, gap: true }),
                "04aaaaaaaaaaaaaaaa000000000000000100000002000000000000000300000000000000040000000501",
            ),
            (
                Item::Latest { tag, seq: 1, sent_at: Wall(2), key: "", bytes: b"v" },
                "05aaaaaaaaaaaaaaaa000000000000000100000000000000020000000176",
            ),
            (
                Item::Cast { tag, epoch: 1, pos: 2, head: Some(Head { total: 3, sent_at: Wall(4), key: "k" }), bytes: b"abc" },
                "06aaaaaaaaaaaaaaaa0000000000000001000000000000000200000003000000000000000400016b0003616263",
            ),
            (
                Item::Datagram { tag, seq: 1, sent_at: Wall(2), key: "", bytes: b"v" },
                "08aaaaaaaaaaaaaaaa000000000000000100000000000000020000000176",
            ),
            (Item::Cast { tag, epoch: 1, pos: 2, head: None, bytes: b"a" }, "07aaaaaaaaaaaaaaaa00000000000000010000000000000002000161"),
        ];
        for (item, bytes) in golden {
            let mut w = Writer::new();
            item.write(&mut w);
            assert_eq!(hex::encode(w.finish()), bytes);
        }
        assert_eq!(hex::encode(Tag::of(Mode::Reliable, "chat").0), "1f86bcd0c8b7cd59");
        assert_eq!(hex::encode(Tag::of(Mode::Latest, "chat").0), "b0bc966553418d7e");
    }
}
