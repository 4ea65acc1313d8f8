//! Answers STUN binding requests (RFC 8489) on the UDP port of a QUIC endpoint, so that no third party is asked for a browser's address
//! as others see it. The two are told apart by their first bits (RFC 9443). Nothing is kept of a request, and an answer is about as long as it.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use stun::attributes::AttrType;
use stun::error_code::CODE_UNKNOWN_ATTRIBUTE;
use stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;
use wtransport::quinn::udp::{RecvMeta, Transmit};
use wtransport::quinn::{AsyncUdpSocket, UdpPoller};

/// A socket whose STUN requests are answered; everything else passes.
#[derive(Debug)]
struct Answering(Arc<dyn AsyncUdpSocket>);

/// Lets this socket answer.
pub(super) fn answering(socket: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
    Arc::new(Answering(socket))
}

impl AsyncUdpSocket for Answering {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let count = ready!(self.0.poll_recv(cx, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(meta).take(count) {
            let Some(received) = buffer.get(..meta.len).filter(|bytes| is_stun(bytes)) else { continue };
            for request in received.chunks(meta.stride.max(1)) {
                if let Some(answer) = answer(request, meta.addr) {
                    let sent = Transmit { destination: meta.addr, ecn: None, contents: &answer, segment_size: None, src_ip: meta.dst_ip };
                    // A socket that is full: who asked asks again.
                    let _ = self.0.try_send(&sent);
                }
            }
            // QUIC passes over what is empty.
            meta.len = 0;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

/// The first two bits of STUN are clear; of the first byte of QUIC one is always set.
fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 6 == 0) && stun::message::is_message(bytes)
}

/// The answer to a binding request from this address; `None` to all else, with which there is nothing to do (RFC 8489, section 6.3).
fn answer(bytes: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(bytes).ok().filter(|()| request.typ == BINDING_REQUEST)?;
    // Nothing that has to be understood is: no credentials are asked for, and no other service is given.
    let unknown: Vec<AttrType> = request.attributes.0.iter().map(|a| a.typ).filter(AttrType::required).take(8).collect();
    let id: Box<dyn Setter> = Box::new(request.transaction_id);
    let mut answer = Message::new();
    let built = if unknown.is_empty() {
        let seen = XorMappedAddress { ip: from.ip().to_canonical(), port: from.port() };
        answer.build(&[id, Box::new(BINDING_SUCCESS), Box::new(seen)])
    } else {
        answer.build(&[id, Box::new(BINDING_ERROR), Box::new(CODE_UNKNOWN_ATTRIBUTE), Box::new(UnknownAttributes(unknown))])
    };
    built.ok().map(|()| answer.raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun::agent::TransactionId;
    use stun::attributes::{ATTR_CHANGE_REQUEST, ATTR_ERROR_CODE, ATTR_SOFTWARE, RawAttribute};
    use stun::message::Getter;

    use super::*;

    fn from() -> SocketAddr {
        "192.0.2.7:4711".parse().unwrap()
    }

    fn request(attribute: Option<AttrType>) -> Message {
        let mut request = Message::new();
        request.build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)]).unwrap();
        if let Some(typ) = attribute {
            RawAttribute { typ, length: 4, value: vec![0; 4] }.add_to(&mut request).unwrap();
        }
        request
    }

    fn answered(request: &Message) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(&answer(&request.raw, from()).unwrap()).unwrap();
        assert_eq!(message.transaction_id, request.transaction_id);
        message
    }

    #[test]
    fn a_request_is_answered_with_where_it_came_from() {
        for attribute in [None, Some(ATTR_SOFTWARE)] {
            let message = answered(&request(attribute));
            assert_eq!(message.typ, BINDING_SUCCESS);
            let mut seen = XorMappedAddress::default();
            seen.get_from(&message).unwrap();
            assert_eq!(SocketAddr::new(seen.ip, seen.port), from());
        }
    }

    #[test]
    fn what_would_have_to_be_understood_is_refused() {
        let message = answered(&request(Some(ATTR_CHANGE_REQUEST)));
        assert_eq!(message.typ, BINDING_ERROR);
        assert!(message.contains(ATTR_ERROR_CODE));
        let mut unknown = UnknownAttributes(Vec::new());
        unknown.get_from(&message).unwrap();
        assert_eq!(unknown.0, [ATTR_CHANGE_REQUEST]);
    }

    #[test]
    fn answers_are_not_answered() {
        let message = answered(&request(None));
        assert_eq!(answer(&message.raw, from()), None);
        assert!(is_stun(&message.raw) && !is_stun(&[0x40; 40]) && !is_stun(&[0xc0; 40]) && !is_stun(&[]));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_reason_to_fail(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            if head && bytes.len() >= 8 {
                bytes[..2].copy_from_slice(&[0, 1]);
                let length = bytes.len().saturating_sub(20) as u16;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&stun::message::MAGIC_COOKIE.to_be_bytes());
            }
            if let Some(answer) = answer(&bytes, from()) {
                prop_assert!(answer.len() <= bytes.len().max(20) + 60);
            }
        }
    }
}
