//! What only the two ends of a request can read: the request's kind and body, and the answer with its proof of membership.

use alloc::vec::Vec;
use zeroize::Zeroizing;

use super::msg::{DomainRequest, DomainResponse, RequestId, Status};
use crate::base::{DomainId, NodeId, Reject, Rng};
use crate::crypto::{
    seal::{self, KemKey},
    sign::{self, SIGNATURE, SigningKey, labelled},
    tag::TAG,
};
use crate::wire::bytes::{Reader, Writer};

const REQUEST: &str = "peerage/1/request";
const RESPONSE: &str = "peerage/1/response";
const ANSWER: &str = "peerage/1/answer";
/// The lengths plaintexts are padded to.
const SIZES: [usize; 3] = [256, 1_024, 4_096];
/// The longest body of a request, in bytes.
pub const REQUEST_BODY: usize = SIZES[2] - 3;
/// The longest body of an answer, in bytes.
pub const ANSWER_BODY: usize = SIZES[2] - 2 - 32 - SIGNATURE;

/// What a request asks for; hidden from the relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// To be admitted.
    Join,
    /// A piece of public domain data.
    Data,
    /// Where a member is; asked by another one.
    Find,
}

/// An answer, its proof checked: the holder of `member`'s identity made it for this request. Whether `member` is one is for the
/// caller to check, with the credential in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answered.
    pub member: NodeId,
    /// What.
    pub body: Vec<u8>,
}

/// Whether a sealed body has one of the lengths there are.
pub(super) fn is_padded(len: usize) -> bool {
    SIZES.iter().any(|s| s + seal::TAG == len)
}

fn pad(mut plain: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, Reject> {
    let size = SIZES.into_iter().find(|s| *s >= plain.len()).ok_or(Reject::TooLarge)?;
    plain.resize(size, 0);
    Ok(Zeroizing::new(plain))
}

/// The body at the front of `r`; what follows must be zeros.
fn unpad(r: &mut Reader<'_>) -> Result<Vec<u8>, Reject> {
    let body = r.var(SIZES[2])?.to_vec();
    if r.rest().iter().all(|b| *b == 0) { Ok(body) } else { Err(Reject::Malformed) }
}

fn request_aad(id: &RequestId, tag: &[u8; TAG], reply_key: &[u8; 32]) -> Vec<u8> {
    [&id[..], tag, reply_key].concat()
}

/// Member contacts as they stand in a record: padded and sealed to the rendezvous key.
pub(super) fn contacts(domain: &DomainId, rendezvous: &KemKey, plain: &[u8], rng: &mut Rng) -> Result<Vec<u8>, Reject> {
    let mut w = Writer::new();
    w.var(plain.get(..SIZES[1] - 2).unwrap_or(plain));
    let (enc, ct) = seal::seal(rendezvous.public(), &labelled("peerage/1/contacts", domain, &[]), &[], &pad(w.finish())?, rng)?;
    Ok([&enc[..], &ct].concat())
}

/// Makes a request. `reply` is a key for this request alone.
///
/// # Errors
/// [`Reject::TooLarge`] over [`REQUEST_BODY`]; [`Reject::Forged`] for a weak rendezvous key.
#[expect(clippy::too_many_arguments, reason = "one per field of the request")]
pub fn request(
    domain: &DomainId,
    rendezvous: &[u8; 32],
    tag: [u8; TAG],
    attempt: u8,
    reply: &KemKey,
    kind: RequestKind,
    body: &[u8],
    rng: &mut Rng,
) -> Result<DomainRequest, Reject> {
    if body.len() > REQUEST_BODY {
        return Err(Reject::TooLarge);
    }
    let (id, reply_key) = (rng.bytes(), *reply.public());
    let mut w = Writer::new();
    w.u8(kind as u8).var(body);
    let info = labelled(REQUEST, domain, &[]);
    let (enc, body) = seal::seal(rendezvous, &info, &request_aad(&id, &tag, &reply_key), &pad(w.finish())?, rng)?;
    Ok(DomainRequest { id, tag, attempt, ttl: super::msg::TTL, reply_key, enc, body })
}

/// Opens a request at a member.
///
/// # Errors
/// [`Reject::Forged`] if it was not sealed for this domain or was altered; [`Reject::Malformed`], [`Reject::UnknownKind`].
pub fn open_request(domain: &DomainId, rendezvous: &KemKey, r: &DomainRequest) -> Result<(RequestKind, Vec<u8>), Reject> {
    let plain = rendezvous.open(&labelled(REQUEST, domain, &[]), &request_aad(&r.id, &r.tag, &r.reply_key), &r.enc, &r.body)?;
    let mut reader = Reader::new(&plain);
    let kind = match reader.u8()? {
        0 => RequestKind::Join,
        1 => RequestKind::Data,
        2 => RequestKind::Find,
        _ => return Err(Reject::UnknownKind),
    };
    Ok((kind, unpad(&mut reader)?))
}

/// Answers a request as the member whose identity is `key`: signed over request id, reply key and body, sealed to the reply key.
///
/// # Errors
/// [`Reject::TooLarge`] over [`ANSWER_BODY`]; [`Reject::Forged`] for a weak reply key.
pub fn answer(
    domain: &DomainId,
    id: &RequestId,
    reply_key: &[u8; 32],
    key: &SigningKey,
    body: &[u8],
    rng: &mut Rng,
) -> Result<DomainResponse, Reject> {
    if body.len() > ANSWER_BODY {
        return Err(Reject::TooLarge);
    }
    let mut w = Writer::new();
    w.raw(&key.public()).raw(&key.sign(ANSWER, domain, &[&id[..], reply_key, body].concat())).var(body);
    let (enc, body) = seal::seal(reply_key, &labelled(RESPONSE, domain, &[]), id, &pad(w.finish())?, rng)?;
    Ok(DomainResponse { id: *id, status: Status::Ok, enc, body })
}

/// Opens an answer at the seeker and checks its signature.
///
/// # Errors
/// [`Reject::Forged`] if it was altered, or made for another request or domain; [`Reject::Malformed`].
pub fn open_answer(domain: &DomainId, reply: &KemKey, r: &DomainResponse) -> Result<Answer, Reject> {
    let plain = reply.open(&labelled(RESPONSE, domain, &[]), &r.id, &r.enc, &r.body)?;
    let mut reader = Reader::new(&plain);
    let (member, signature) = (reader.array::<32>()?, reader.array::<SIGNATURE>()?);
    let body = unpad(&mut reader)?;
    sign::verify(&member, ANSWER, domain, &[&r.id[..], reply.public(), &body].concat(), &signature)?;
    Ok(Answer { member: NodeId::from_public_key(member), body })
}
