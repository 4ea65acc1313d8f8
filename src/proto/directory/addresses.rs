//! A record's addresses: they end alike and, through one relay, begin alike, so what repeats is left out.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::record::ADDRESSES;
use crate::base::{NodeId, Reject, limit};
use crate::wire::bytes::{Reader, Writer};

/// What an address of a node ends in; its id follows, and is left out.
const OWN: &str = "/p2p/";

/// Writes them: a count, and for each how many bytes it has in common with the one before, and the rest.
///
/// # Errors
/// [`Reject::TooLarge`] for too many or too long ones, [`Reject::Malformed`] for one that ends in `/p2p/` without an id.
pub(super) fn put(w: &mut Writer, node: &NodeId, addresses: &[String]) -> Result<(), Reject> {
    if addresses.len() > ADDRESSES || addresses.iter().any(|a| a.len() > limit::ADDRESS) {
        return Err(Reject::TooLarge);
    }
    w.u8(addresses.len() as u8);
    let (id, mut before) = (node.to_string(), "");
    for address in addresses {
        if address.ends_with(OWN) {
            return Err(Reject::Malformed);
        }
        let short = without(address, &id);
        let common = common(before, short);
        w.u8(common as u8).var(&short.as_bytes()[common..]);
        before = short;
    }
    Ok(())
}

/// Reads them. One encoding per list: nothing is written that could have been left out.
///
/// # Errors
/// [`Reject::TooLarge`], [`Reject::Malformed`].
pub(super) fn get(r: &mut Reader<'_>, node: &NodeId) -> Result<Vec<String>, Reject> {
    let count = usize::from(r.u8()?);
    if count > ADDRESSES {
        return Err(Reject::TooLarge);
    }
    let (id, mut before, mut addresses) = (node.to_string(), String::new(), Vec::with_capacity(count));
    for _ in 0..count {
        let same = usize::from(r.u8()?);
        let start = before.get(..same).ok_or(Reject::Malformed)?;
        let short = [start, &r.text(limit::ADDRESS)?].concat();
        if common(&before, &short) != same || without(&short, &id).len() != short.len() {
            return Err(Reject::Malformed);
        }
        let address = if short.ends_with(OWN) { [&short[..], &id].concat() } else { short.clone() };
        if address.len() > limit::ADDRESS {
            return Err(Reject::TooLarge);
        }
        addresses.push(address);
        before = short;
    }
    Ok(addresses)
}

fn without<'a>(address: &'a str, id: &str) -> &'a str {
    address.strip_suffix(id).filter(|rest| rest.ends_with(OWN)).unwrap_or(address)
}

/// How many bytes two texts have in common at their beginning: whole characters, and no more than a byte can count.
fn common(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take(usize::from(u8::MAX)).take_while(|(a, b)| a == b).count();
    (0..=same).rev().find(|n| a.is_char_boundary(*n) && b.is_char_boundary(*n)).unwrap_or(0)
}
