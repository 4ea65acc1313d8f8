//! What sealing, opening and giving keys cost, each beside the plain primitives it is made of: `benches/seal.rs` measures these
//! natively, `benches/wasm.rs` in wasm.

use std::{cell::RefCell, rc::Rc};

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};
use peerage::base::{DomainId, Mono, NodeId, Now, Reject, Rng, Wall};
use peerage::crypto::chain::{self, ChainKey, Owner};
use peerage::crypto::seal::{self, KemKey};
use peerage::crypto::sign::{self, SigningKey};
use peerage::crypto::{Class, Role, frame};
use peerage::proto::session::keymsg::{Entry, Header};
use peerage::proto::session::{AHEAD, Session, prekey::Prekey};

const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);
const TOPIC: u16 = 2;
const MANY: usize = 30;
const SIZES: [(&str, usize); 2] = [("64 B", 64), ("16 KiB", 16 * 1024)];

type Input = Vec<Vec<u8>>;

/// One thing to be measured.
pub struct Op {
    pub name: String,
    /// The operations measured in the same run whose sum this one is compared with: the wasm bench passes it on.
    #[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "criterion has no use for it"))]
    pub against: Vec<String>,
    /// Makes the input of one run; not measured.
    pub setup: Box<dyn FnMut() -> Input>,
    /// What is measured.
    pub run: Box<dyn FnMut(Input) -> usize>,
}

fn op(name: String, against: &[String], setup: impl FnMut() -> Input + 'static, run: impl FnMut(Input) -> usize + 'static) -> Op {
    Op { name, against: against.to_vec(), setup: Box::new(setup), run: Box::new(run) }
}

fn at(mono: u64) -> Now {
    Now { mono: Mono(mono), wall: Wall(1_800_000_000_000) }
}

fn key(n: usize) -> SigningKey {
    SigningKey::from_seed(&[n as u8 + 1; 32])
}

fn id(n: usize) -> NodeId {
    key(n).node_id()
}

/// Sessions of `n` participants who know the first one's prekey, and it theirs.
fn cluster(n: usize) -> Vec<Session> {
    let session = |i| Session::new(DOMAIN, key(i), Role::Participant, Rng::from_seed([i as u8; 32]), at(0));
    let mut all: Vec<Session> = (0..n).map(session).collect();
    let records: Vec<Vec<u8>> = all.iter().map(|s| s.prekey_record().to_vec()).collect();
    for (i, session) in all.iter_mut().enumerate() {
        let others = if i == 0 { 1..n } else { 0..1 };
        for j in others {
            session.set_role(at(0), id(j), Some(Role::Participant));
            session.learn_prekey(at(0), &records[j]).unwrap();
        }
    }
    all
}

/// A sender and a receiver that gets its keys.
struct Pair {
    a: Session,
    b: Session,
}

impl Pair {
    fn new() -> Pair {
        let mut all = cluster(2);
        let (b, a) = (all.remove(1), all.remove(0));
        Pair { a, b }
    }
    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let frame = self.a.seal(at(0), Class::Data, TOPIC, plain).unwrap();
        for (_, message) in self.a.take_key_messages(at(0)) {
            self.b.accept_key_message(at(0), id(0), &message).unwrap();
        }
        frame
    }
}

/// One sender with many receivers, or the other way round; `time` lets keys be asked for again and again.
struct Star {
    all: Vec<Session>,
    time: u64,
}

impl Star {
    fn new(receivers: usize) -> Rc<RefCell<Star>> {
        Rc::new(RefCell::new(Star { all: cluster(receivers + 1), time: 0 }))
    }
    /// The first one's keys for all others.
    fn give(&mut self) -> Input {
        self.time += 1_000;
        for i in 1..self.all.len() {
            self.all[0].resend_keys(at(self.time), id(i)).unwrap();
        }
        self.all[0].take_key_messages(at(self.time)).into_iter().map(|(_, message)| message).collect()
    }
    /// All others' keys for the first one.
    fn gather(&mut self) -> Input {
        self.time += 1_000;
        let now = at(self.time);
        let one = |s: &mut Session| {
            s.resend_keys(now, id(0)).unwrap();
            s.take_key_messages(now).remove(0).1
        };
        self.all[1..].iter_mut().map(one).collect()
    }
    fn take(&mut self, messages: &Input) -> usize {
        let now = at(self.time);
        for (i, message) in messages.iter().enumerate() {
            self.all[0].accept_key_message(now, id(i + 1), message).unwrap();
        }
        messages.len()
    }
}

fn primitives(label: &str, size: usize, out: &mut Vec<Op>) {
    let plain = vec![7; size];
    let cipher = ChaCha20Poly1305::new(&[1; 32].into());
    let sealed = cipher.encrypt(&[2; 12].into(), &plain[..]).unwrap();
    let signer = key(0);
    let signature = signer.sign("bench", &DOMAIN, &plain);
    let (p, c) = (plain.clone(), cipher.clone());
    out.push(op(format!("ChaCha20-Poly1305 seal {label}"), &[], Vec::new, move |_| c.encrypt(&[2; 12].into(), &p[..]).unwrap().len()));
    out.push(op(format!("ChaCha20-Poly1305 open {label}"), &[], Vec::new, move |_| {
        cipher.decrypt(&[2; 12].into(), &sealed[..]).unwrap().len()
    }));
    let (p, s) = (plain.clone(), signer.clone());
    out.push(op(format!("Ed25519 sign {label}"), &[], Vec::new, move |_| s.sign("bench", &DOMAIN, &p).len()));
    out.push(op(format!("Ed25519 verify {label}"), &[], Vec::new, move |_| {
        sign::verify(&signer.public(), "bench", &DOMAIN, &plain, &signature).map(|()| 1).unwrap()
    }));
}

fn frames(label: &str, size: usize, out: &mut Vec<Op>) {
    let plain = vec![7; size];
    let (pair, p) = (Rc::new(RefCell::new(Pair::new())), plain.clone());
    let against = |a: &str, s: &str| [format!("ChaCha20-Poly1305 {a} {label}"), format!("Ed25519 {s} {label}")];
    out.push(op(format!("frame seal {label}"), &against("seal", "sign"), Vec::new, move |_| pair.borrow_mut().seal(&p).len()));
    let pair = Rc::new(RefCell::new(Pair::new()));
    let sender = pair.clone();
    out.push(op(
        format!("frame open {label}"),
        &against("open", "verify"),
        move || vec![sender.borrow_mut().seal(&plain)],
        move |frames| pair.borrow_mut().b.open(at(0), TOPIC, &frames[0]).unwrap().plaintext.len(),
    ));
}

fn keys(out: &mut Vec<Op>) {
    let kem = KemKey::derive(&[3; 32]);
    let mut rng = Rng::from_seed([4; 32]);
    let (enc, ct) = seal::seal(kem.public(), b"info", b"aad", &[5; 64], &mut rng).unwrap();
    let public = *kem.public();
    out.push(op("HPKE seal 64 B".into(), &[], Vec::new, move |_| {
        seal::seal(&public, b"info", b"aad", &[5; 64], &mut rng).unwrap().1.len()
    }));
    out.push(op("HPKE open 64 B".into(), &[], Vec::new, move |_| kem.open(b"info", b"aad", &enc, &ct).unwrap().len()));
    for n in [1, MANY] {
        let repeat = |one: [&str; 2]| one.map(String::from).into_iter().cycle().take(2 * n).collect::<Vec<_>>();
        let star = Star::new(n);
        let make = move |_| star.borrow_mut().give().len();
        out.push(op(format!("key message, make {n}"), &repeat(["HPKE seal 64 B", "Ed25519 sign 64 B"]), Vec::new, make));
        let star = Star::new(n);
        let from = star.clone();
        out.push(op(
            format!("key message, open {n}"),
            &repeat(["HPKE open 64 B", "Ed25519 verify 64 B"]),
            move || from.borrow_mut().gather(),
            move |messages| star.borrow_mut().take(&messages),
        ));
    }
}

/// The most work that one frame can ask of a receiver: a member signs one at the greatest leap, under a key that does not fit.
fn leap() -> Op {
    let mut all = cluster(2);
    let Prekey { id: prekey, spk, .. } = Prekey::verify(&DOMAIN, all[0].prekey_record()).unwrap();
    let (signer, owner) = (SigningKey::from_seed(&[9; 32]), Owner { domain: DOMAIN, sender: id(1), class: Class::Data });
    let kid = chain::kid(&owner, &signer.public(), &[8; 32]);
    let first = ChainKey::first(&owner, &kid, &[8; 32]);
    let header = Header {
        domain: DOMAIN,
        sender: id(1),
        recipient: id(0),
        prekey,
        seq: 1,
        msg_vk: signer.public(),
        view: [0; 32],
        created: at(0).wall,
        expires: Wall(at(0).wall.0 + 1_000_000),
        entries: vec![Entry { class: Class::Data, kid, index: 0, prev_kid: [0; 16], prev_final: 0 }],
    };
    let message = header.seal(&key(1), &spk, std::slice::from_ref(&first), &mut Rng::from_seed([6; 32])).unwrap();
    all[0].accept_key_message(at(0), id(1), &message).unwrap();
    let place = frame::Place { kid, index: AHEAD, salt: [0; 8] };
    let frame = frame::seal(&owner, &first.step().0, &signer, place, TOPIC, b"far");
    op(format!("refuse a leap of {AHEAD}"), &["Ed25519 verify 64 B".into()], Vec::new, move |_| {
        let refused = all[0].open(at(0), TOPIC, &frame).unwrap_err();
        assert_eq!(refused, Reject::Forged);
        1
    })
}

/// All of them.
pub fn ops() -> Vec<Op> {
    let mut out = Vec::new();
    for (label, size) in SIZES {
        primitives(label, size, &mut out);
        frames(label, size, &mut out);
    }
    keys(&mut out);
    out.push(leap());
    out
}
