//! `independent.json`: kid, chains, frames, a prekey record and key messages, made from the design's formulas by a program that
//! shares no code with this crate (HMAC, HKDF and HPKE written out, Ed25519 and ChaCha20-Poly1305 of another library).

use peerage::base::{DomainId, NodeId, Rng, Wall};
use peerage::crypto::{
    Class, Role,
    chain::{self, ChainKey, Kid, Owner},
    frame,
    seal::KemKey,
    sign::SigningKey,
};
use peerage::proto::session::{
    keymsg::{Entry, Header, KeyMessage},
    prekey::Prekey,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Frozen {
    inputs: Inputs,
    chains: Vec<Chain>,
    prekey: Record,
    key_messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Inputs {
    domain: String,
    identity_seed: String,
    message_seed: String,
    recipient_seed: String,
    prekey_ikm: String,
    chain_seeds: Vec<String>,
}

#[derive(Deserialize)]
struct Chain {
    class: u8,
    kid: String,
    chain_keys: Vec<String>,
    index: u32,
    salt: String,
    aead_key: String,
    nonce: String,
    topic: u16,
    plaintext: String,
    frame: String,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    spk: String,
    role: u8,
    seq: u64,
    created: u64,
    expires: u64,
    record: String,
}

#[derive(Deserialize)]
struct Message {
    seq: u64,
    view: String,
    entries: Vec<FrozenEntry>,
    message: String,
}

#[derive(Deserialize)]
struct FrozenEntry {
    class: u8,
    kid: String,
    index: u32,
    prev_kid: String,
    prev_final: u32,
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

fn frozen() -> Frozen {
    serde_json::from_str(include_str!("independent.json")).unwrap()
}

impl Inputs {
    fn domain(&self) -> DomainId {
        DomainId::from_bytes(array(&self.domain))
    }
    fn sender(&self) -> NodeId {
        key(&self.identity_seed).node_id()
    }
    fn prekey(&self) -> KemKey {
        KemKey::derive(&array(&self.prekey_ikm))
    }
    fn owner(&self, class: u8) -> Owner {
        Owner { domain: self.domain(), sender: self.sender(), class: Class::parse(class).unwrap() }
    }
}

fn key(seed: &str) -> SigningKey {
    SigningKey::from_seed(&array(seed))
}

#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn kid_and_chain() {
    let f = frozen();
    assert_eq!(f.chains.len(), 2);
    for (c, seed) in f.chains.iter().zip(&f.inputs.chain_seeds) {
        let (owner, seed) = (f.inputs.owner(c.class), array(seed));
        let kid = chain::kid(&owner, &key(&f.inputs.message_seed).public(), &seed);
        assert_eq!(kid, array::<16>(&c.kid));
        let mut ck = ChainKey::first(&owner, &kid, &seed);
        for (i, expected) in c.chain_keys.iter().enumerate() {
            assert_eq!(ck.as_bytes(), &array::<32>(expected));
            let (message, next) = ck.step();
            if i == c.index as usize {
                let (aead_key, nonce) = message.expand(&owner, &kid, c.index, &array(&c.salt));
                assert_eq!((*aead_key, nonce), (array(&c.aead_key), array(&c.nonce)));
            }
            ck = next;
        }
    }
}

#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn frames() {
    let f = frozen();
    let signer = key(&f.inputs.message_seed);
    for c in &f.chains {
        let (owner, kid): (Owner, Kid) = (f.inputs.owner(c.class), array(&c.kid));
        let (message, _) = ChainKey::from_bytes(array(&c.chain_keys[c.index as usize])).step();
        let place = frame::Place { kid, index: c.index, salt: array(&c.salt) };
        let sealed = frame::seal(&owner, &message, &signer, place, c.topic, &bytes(&c.plaintext));
        assert_eq!(sealed, bytes(&c.frame));
        let parsed = frame::parse(&sealed).unwrap();
        assert_eq!((parsed.class.wire(), parsed.kid, parsed.index), (c.class, kid, c.index));
        parsed.verify(&owner, &signer.public()).unwrap();
        assert_eq!(parsed.open(&owner, &message, c.topic).unwrap(), bytes(&c.plaintext));
    }
}

#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn prekey_record() {
    let f = frozen();
    let (p, signer) = (&f.prekey, key(&f.inputs.recipient_seed));
    assert_eq!(f.inputs.prekey().public(), &array::<32>(&p.spk));
    let record = Prekey {
        member: signer.node_id(),
        id: array(&p.id),
        spk: array(&p.spk),
        role: Role::parse(p.role).unwrap(),
        seq: p.seq,
        created: Wall(p.created),
        expires: Wall(p.expires),
    };
    assert_eq!(record.sign(&f.inputs.domain(), &signer), bytes(&p.record));
    assert_eq!(Prekey::verify(&f.inputs.domain(), &bytes(&p.record)).unwrap(), record);
}

#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn key_messages() {
    let f = frozen();
    assert_eq!(f.key_messages.iter().map(|m| m.entries.len()).collect::<Vec<_>>(), [2, 1], "for a participant, for a manager");
    for m in &f.key_messages {
        let header = Header {
            domain: f.inputs.domain(),
            sender: f.inputs.sender(),
            recipient: key(&f.inputs.recipient_seed).node_id(),
            prekey: array(&f.prekey.id),
            seq: m.seq,
            msg_vk: key(&f.inputs.message_seed).public(),
            view: array(&m.view),
            created: Wall(f.prekey.created),
            expires: Wall(f.prekey.expires),
            entries: m.entries.iter().map(FrozenEntry::entry).collect(),
        };
        let frozen = bytes(&m.message);
        let message = KeyMessage::verify(&frozen).unwrap();
        assert_eq!(message.header, header);
        let keys = message.open(&f.inputs.prekey()).unwrap();
        let expected: Vec<[u8; 32]> =
            m.entries.iter().map(|e| array(&f.chains[usize::from(e.class) - 1].chain_keys[e.index as usize])).collect();
        assert_eq!(keys.iter().map(|k| *k.as_bytes()).collect::<Vec<_>>(), expected);
        // The seal draws its own key pair; all before it is ours to the byte.
        let sealed = header.seal(&key(&f.inputs.identity_seed), &array(&f.prekey.spk), &keys, &mut Rng::from_seed([1; 32])).unwrap();
        let clear = frozen.len() - 64 - 16 - 32 * keys.len() - 32;
        assert_eq!((sealed.len(), &sealed[..clear]), (frozen.len(), &frozen[..clear]));
    }
}

impl FrozenEntry {
    fn entry(&self) -> Entry {
        let (kid, prev_kid) = (array(&self.kid), array(&self.prev_kid));
        Entry { class: Class::parse(self.class).unwrap(), kid, index: self.index, prev_kid, prev_final: self.prev_final }
    }
}
