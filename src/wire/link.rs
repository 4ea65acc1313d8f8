//! The invitation link: `https://APP/j#1.<domain id>.<secret>.<hints>`, each part base64url. The secret sits in the
//! fragment, which browsers send to no server. `docs/protocol.md` section 5.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use core::fmt;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::bytes::{Reader, Writer};
use crate::base::{Code, DomainId, Error, NodeId, Reject};

/// The version in front of every link.
const VERSION: &str = "1";
/// Relay addresses in one link.
pub const RELAYS: usize = 4;
/// One relay address.
pub const RELAY_ADDRESS: usize = 256;
/// The longest URL that is looked at.
const URL: usize = 4_096;

/// An invitation link, taken apart. Never shows its secret but in [`InviteLink::to_fragment`] and [`InviteLink::to_url`].
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    /// The domain it leads to.
    pub domain: DomainId,
    /// 32 random bytes; both private keys of the invitation derive from them.
    pub secret: Zeroizing<[u8; 32]>,
    /// The lowest lockbox generation a joiner may accept.
    pub generation: u32,
    /// The manager's node id, if the domain has one.
    pub manager: Option<NodeId>,
    /// The public half of the domain's rendezvous key, to which join requests are sealed.
    pub rendezvous: [u8; 32],
    /// Where a member can be found: addresses of relays, at most [`RELAYS`].
    pub relays: Vec<String>,
}

impl InviteLink {
    /// Reads a whole URL, or its fragment with or without `#`.
    ///
    /// # Errors
    /// [`Code::InviteGarbled`], saying whether it is cut short or mistyped; [`Code::Version`] for a link of another version.
    pub fn parse(text: &str) -> Result<InviteLink, Error> {
        if text.len() > URL {
            return Err(garbled("is too long"));
        }
        let text = text.trim();
        let fragment = text.rsplit_once('#').map_or(text, |(_, fragment)| fragment);
        let mut parts = fragment.split('.');
        let version = parts.next().unwrap_or_default();
        if version != VERSION {
            if !version.is_empty() && version.len() <= 3 && version.bytes().all(|b| b.is_ascii_digit()) {
                let message = format!("this invitation is of version {version}; this program reads version {VERSION}");
                return Err(Error::new(Code::Version, message).hint("Update the page or the program."));
            }
            return Err(garbled("is no invitation link"));
        }
        let (Some(domain), Some(secret), Some(hints), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(garbled("is cut short"));
        };
        let domain: DomainId = domain.parse().map_err(|_| garbled("is mistyped"))?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| garbled("is mistyped"))?);
        let secret = Zeroizing::new(<[u8; 32]>::try_from(&secret[..]).map_err(|_| garbled("is cut short"))?);
        let hints = URL_SAFE_NO_PAD.decode(hints).map_err(|_| garbled("is cut short or mistyped"))?;
        let Some((hints, checksum)) = hints.split_last_chunk::<4>() else { return Err(garbled("is cut short")) };
        if *checksum != sum(&domain, &secret, hints) {
            return Err(garbled("is cut short or mistyped"));
        }
        read_hints(domain, secret, hints).map_err(|_| garbled("does not parse"))
    }

    /// `1.<domain id>.<secret>.<hints>`.
    #[must_use]
    pub fn to_fragment(&self) -> String {
        let mut hints = Writer::new();
        hints.u32(self.generation).u8(u8::from(self.manager.is_some()));
        if let Some(manager) = &self.manager {
            hints.raw(manager.as_bytes());
        }
        let relays: Vec<&String> = self.relays.iter().filter(|r| r.len() <= RELAY_ADDRESS).take(RELAYS).collect();
        hints.raw(&self.rendezvous).u8(relays.len() as u8);
        for relay in relays {
            hints.var(relay.as_bytes());
        }
        let mut hints = hints.finish();
        hints.extend_from_slice(&sum(&self.domain, &self.secret, &hints));
        format!("{VERSION}.{}.{}.{}", self.domain, URL_SAFE_NO_PAD.encode(&self.secret[..]), URL_SAFE_NO_PAD.encode(hints))
    }

    /// The link for a page: `base#fragment`. What follows a `#` in `base` is replaced.
    #[must_use]
    pub fn to_url(&self, base: &str) -> String {
        let base = base.split('#').next().unwrap_or_default();
        format!("{base}#{}", self.to_fragment())
    }
}

impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteLink").field("domain", &self.domain).field("relays", &self.relays).finish_non_exhaustive()
    }
}

fn read_hints(domain: DomainId, secret: Zeroizing<[u8; 32]>, hints: &[u8]) -> Result<InviteLink, Reject> {
    let mut reader = Reader::new(hints);
    let generation = reader.u32()?;
    let manager = match reader.u8()? {
        0 => None,
        1 => Some(NodeId::from_public_key(reader.array()?)),
        _ => return Err(Reject::Malformed),
    };
    let rendezvous = reader.array()?;
    let count = usize::from(reader.u8()?);
    if count > RELAYS {
        return Err(Reject::TooLarge);
    }
    let relays = (0..count).map(|_| reader.text(RELAY_ADDRESS)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(InviteLink { domain, secret, generation, manager, rendezvous, relays })
}

/// Tells a mistyped link from a good one; it protects against nobody.
fn sum(domain: &DomainId, secret: &[u8; 32], hints: &[u8]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(b"peerage/1/link\0").chain_update(domain.as_bytes()).chain_update(secret).chain_update(hints).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn garbled(how: &str) -> Error {
    Error::new(Code::InviteGarbled, format!("the invitation link {how}")).hint("Copy the whole link, or scan the QR code again.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn link() -> InviteLink {
        InviteLink {
            domain: DomainId::from_bytes([1; 32]),
            secret: Zeroizing::new([2; 32]),
            generation: 0,
            manager: Some(NodeId::from_public_key([3; 32])),
            rendezvous: [4; 32],
            relays: Vec::from(["/ip4/127.0.0.1/tcp/9000/ws/p2p/12D3KooW".to_string()]),
        }
    }

    #[test]
    fn links_round_trip_as_url_and_as_fragment() {
        let link = link();
        for text in [link.to_fragment(), link.to_url("https://app.example/j"), format!("  #{}\n", link.to_fragment())] {
            assert_eq!(InviteLink::parse(&text).unwrap(), link);
        }
        assert!(!format!("{link:?}").contains("AgICAg"), "the secret is not shown");
    }

    #[test]
    fn every_truncation_and_every_changed_character_is_refused() {
        let text = link().to_fragment();
        for cut in 0..text.len() {
            assert!(InviteLink::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..text.len() {
            for with in ['A', 'b', '7', '.', '~'] {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] == with as u8 {
                    continue;
                }
                bytes[at] = with as u8;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(InviteLink::parse(&changed).is_err(), "{with} at {at}");
            }
        }
    }

    #[test]
    fn other_versions_and_long_text_are_named() {
        let other = link().to_fragment().replacen('1', "2", 1);
        assert_eq!(InviteLink::parse(&other).unwrap_err().code(), Code::Version);
        assert_eq!(InviteLink::parse(&"x".repeat(5_000)).unwrap_err().code(), Code::InviteGarbled);
        assert_eq!(InviteLink::parse("").unwrap_err().code(), Code::InviteGarbled);
    }
}
