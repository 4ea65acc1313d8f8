//! Every bound on what a remote can make this node hold or do. Bytes unless the name says otherwise.

use core::time::Duration;

/// One frame on a link, after the length prefix. Also what fits a sealed 16 KiB chunk with room to spare.
pub const FRAME: usize = 64 * 1024;
/// Payload of one sealed frame of a channel: with all overheads a WebRTC message stays under 16 KiB.
pub const CHUNK: usize = 15 * 1024;
/// One message on a `reliable` channel.
pub const RELIABLE_MESSAGE: usize = 64 * 1024 * 1024;
/// One value on a `latest` channel: one frame.
pub const LATEST_VALUE: usize = CHUNK;
/// Unacknowledged bytes per `reliable` stream (one channel, one recipient).
pub const STREAM_WINDOW: usize = 1024 * 1024;
/// Bytes queued by `send` and not yet in any window, per domain.
pub const SEND_QUEUE: usize = 256 * 1024 * 1024;
/// Bytes handed to one link's bulk lane and not yet written.
pub const LINK_BACKLOG: usize = 512 * 1024;
/// Channels a domain may have open, local and remote.
pub const CHANNELS: usize = 256;
/// A channel's name.
pub const CHANNEL_NAME: usize = 128;
/// Members that are stored with their addresses, to be dialled after a restart.
pub const CONTACTS: usize = 64;
/// A node's address, as multiaddr text.
pub const ADDRESS: usize = 512;
/// One directory record, signed.
pub const RECORD: usize = 8 * 1024;
/// Directory records per domain.
pub const RECORDS: usize = 2_048;
/// One signed membership statement.
pub const STATEMENT: usize = 4 * 1024;
/// Membership statements per domain.
pub const STATEMENTS: usize = 16_384;
/// Links of one node.
pub const LINKS: usize = 1_024;
/// How far two honest wall clocks may disagree.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// What a sender may put on a `reliable` stream before its receiver has granted credit, and all that is kept of a stream on
/// a channel nobody opened here.
pub const INITIAL_CREDIT: usize = 32 * 1024;
/// What all `reliable` streams of a domain may hold for an application that does not read; more streams get smaller windows.
pub const RECEIVE_QUEUE: usize = 256 * 1024 * 1024;
/// Incoming `reliable` streams per domain (one channel, one sender each).
pub const RECEIVE_STREAMS: usize = 2_048;
/// Channels nobody opened here on which one sender's data is kept.
pub const UNOPENED: usize = 16;
/// One message on a `datagram` channel: with all overheads it fits a datagram of QUIC on any path.
pub const DATAGRAM: usize = 900;
/// Unread messages kept of all `datagram` channels of a domain, and those that wait to be sent there …
pub const DATAGRAMS: usize = 1_024;
/// … and the unread ones of one sender on one channel.
pub const DATAGRAMS_OF_ONE: usize = 64;
/// Bytes of datagrams handed to a link and not yet written.
pub const DATAGRAM_BACKLOG: usize = 16 * 1024;
/// Keys remembered of one sender's `latest` values, all channels together.
pub const LATEST_KEYS: usize = 512;
/// (Channel, key, recipient) triples whose newest own `latest` value is held.
pub const LATEST_PENDING: usize = 16_384;
/// Bytes of own `latest` values kept after they were sent, to be sent again over a new link.
pub const LATEST_KEPT: usize = 4 * 1024 * 1024;
/// The key of a message.
pub const MESSAGE_KEY: usize = 128;
/// Others with whom a participant seeks links, where there are more than these: up to here everybody is linked with everybody.
pub const DEGREE: usize = 12;
/// Participants with whom links are sought for a message, beyond the neighbours.
pub const WANTED: usize = 64;
/// Bytes of casts a node keeps for neighbours that lack them.
pub const CASTS: usize = 8 * 1024 * 1024;
/// Ids of casts remembered after their bytes were dropped, or that were refused.
pub const CASTS_KNOWN: usize = 65_536;
/// Casts a node has heard of and does not have: 4,096, and a few of each neighbour's own.
pub const CASTS_MISSING: usize = 4_096 + 8 * LINKS;
/// One message on a `reliable` channel to everybody in a domain with more than [`DEGREE`] others; also what is held of one
/// origin's pieces that came early.
pub const CAST_MESSAGE: usize = 1024 * 1024;
/// Bytes of own messages to everybody that wait for their turn.
pub const CAST_QUEUE: usize = 4 * 1024 * 1024;
