//! The data channel for datagrams: no order, nothing sent again. Both ends make it under the same number without a word on the wire, so
//! that nobody sees it who does not know of it: nothing is sent on it but to a node whose lanes are open.

use std::cell::RefCell;

use js_sys::{ArrayBuffer, Uint8Array};
use libp2p::PeerId;
use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{MessageEvent, RtcDataChannel, RtcDataChannelInit, RtcDataChannelState, RtcDataChannelType, RtcPeerConnection};

use crate::base::limit;
use crate::platform::links::datagrams::{Datagrams, Port};

/// Its number: the highest that Chromium takes, as far as can be from those that the browsers give to streams.
const NUMBER: u16 = 1_023;

type Handler = Closure<dyn FnMut(MessageEvent)>;

/// One end; closed when dropped, as it is with its connection.
pub(super) struct Unreliable {
    channel: RtcDataChannel,
    message: RefCell<Option<Handler>>,
}

impl Unreliable {
    /// On a connection that both ends know to be Peerage's when they use it.
    pub(super) fn new(raw: &RtcPeerConnection) -> Unreliable {
        let options = RtcDataChannelInit::new();
        options.set_negotiated(true);
        options.set_id(NUMBER);
        options.set_ordered(false);
        options.set_max_retransmits(0);
        let channel = raw.create_data_channel_with_data_channel_dict("", &options);
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        Unreliable { channel, message: RefCell::default() }
    }

    /// The connection is up and leads to this node. What came before is lost, as datagrams may be; so is what is no frame.
    pub(super) fn join(&self, peer: PeerId, datagrams: &Datagrams) {
        let all = datagrams.clone();
        let message = Handler::new(move |event: MessageEvent| {
            if let Ok(buffer) = event.data().dyn_into::<ArrayBuffer>() {
                all.came(peer, Uint8Array::new(&buffer).to_vec());
            }
        });
        self.channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        *self.message.borrow_mut() = Some(message);
        datagrams.add(peer, Box::new(Outgoing(SendWrapper::new(self.channel.clone()))));
    }
}

impl Drop for Unreliable {
    fn drop(&mut self) {
        self.channel.set_onmessage(None);
        self.channel.close();
    }
}

struct Outgoing(SendWrapper<RtcDataChannel>);

impl Port for Outgoing {
    fn send(&self, bytes: &[u8]) -> bool {
        // Behind much that waits it would come late.
        self.0.ready_state() == RtcDataChannelState::Open
            && (self.0.buffered_amount() as usize > limit::DATAGRAM_BACKLOG || self.0.send_with_u8_array(bytes).is_ok())
    }

    fn is_open(&self) -> bool {
        matches!(self.0.ready_state(), RtcDataChannelState::Open | RtcDataChannelState::Connecting)
    }
}
