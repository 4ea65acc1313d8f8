//! Our own formats, frozen: the bytes in `frozen.json` were made once, and must come out again for ever.
//! A change of a format changes its version and adds to the file; it never edits what is there.

use peerage::base::{DomainId, Mono, NodeId, Now, Rng, Wall};
use peerage::crypto::chain::{self, ChainKey, Owner};
use peerage::crypto::{Class, Role, frame, invite, sign::SigningKey, tag};
use peerage::proto::membership::{self, Body, Dates, InvitationSpec, Keep, Rights, Target};
use peerage::proto::session::keymsg::{Entry, Header};
use peerage::proto::session::prekey::Prekey;
use peerage::wire::link::InviteLink;

const NOW: Now = Now { mono: Mono(0), wall: Wall(1_800_000_000_000) };

/// Every format, by name, from fixed inputs.
fn made() -> Vec<(&'static str, String)> {
    let domain = DomainId::from_bytes([1; 32]);
    let key = SigningKey::from_seed(&[2; 32]);
    let other = SigningKey::from_seed(&[3; 32]);
    let owner = Owner { domain, sender: key.node_id(), class: Class::Data };
    let kid = chain::kid(&owner, &other.public(), &[4; 32]);
    let first = ChainKey::first(&owner, &kid, &[4; 32]);
    let (message_key, second) = first.step();
    let sealed = frame::seal(&owner, &message_key, &other, frame::Place { kid, index: 0, salt: [5; 8] }, 2, b"frozen");
    let dates = Dates { not_before: Wall(1), expires: Wall(2) };
    let prekey =
        Prekey { member: key.node_id(), id: [6; 8], spk: [7; 32], role: Role::Participant, seq: 8, created: Wall(9), expires: Wall(10) };
    let kem = peerage::crypto::seal::KemKey::derive(&[11; 32]);
    let entry = |class| Entry { class, kid, index: 12, prev_kid: [13; 16], prev_final: 14 };
    let header = Header {
        domain,
        sender: key.node_id(),
        recipient: other.node_id(),
        prekey: [6; 8],
        seq: 15,
        msg_vk: other.public(),
        view: [16; 32],
        created: Wall(17),
        expires: Wall(18),
        entries: Class::BOTH.map(entry).to_vec(),
    };
    let keys = [first.clone(), second.clone()];
    let message = header.seal(&key, kem.public(), &keys, &mut Rng::from_seed([19; 32])).unwrap();
    let founding = membership::found(&mut Rng::from_seed([20; 32]), NOW, "frozen", &["a/b".into()], [21; 32]).unwrap();
    let spec =
        InvitationSpec { sign_pk: key.public(), kem_pk: [22; 32], max_uses: 23, approve: false, not_before: Wall(24), expires: Wall(25) };
    let credential = Body::Credential { member: key.node_id(), role: Role::Manager, rank: 0, dates };
    let standby = membership::manager_credential(&domain, &key, &other.node_id(), 5, dates.not_before, dates.expires);
    let whole = Body::Revocation { target: Target::Key([29; 32]), keep: Keep::Whole(vec![membership::StatementId([30; 32])]) };
    let invited = invite::derive(&domain, &[26; 32]);
    let link = InviteLink {
        domain,
        secret: zeroize::Zeroizing::new([26; 32]),
        generation: 27,
        manager: Some(NodeId::from_public_key(key.public())),
        rendezvous: [28; 32],
        relays: vec!["/ip4/127.0.0.1/tcp/9611/ws".into()],
    };
    vec![
        ("kid", hex::encode(kid)),
        ("chain key 0", hex::encode(first.as_bytes())),
        ("chain key 1", hex::encode(second.as_bytes())),
        ("frame", hex::encode(sealed)),
        ("prekey record", hex::encode(prekey.sign(&domain, &key))),
        ("key message", hex::encode(message)),
        ("genesis", hex::encode(founding.genesis)),
        ("domain id", founding.domain.to_string()),
        ("delegation", hex::encode(membership::delegate(&domain, &key, other.public(), Rights::INVITE, dates))),
        ("invitation", hex::encode(membership::issue_invitation(&domain, &key, &spec))),
        ("credential", hex::encode(credential.sign(&domain, &key))),
        ("credential, ranked", hex::encode(standby)),
        ("revocation", hex::encode(whole.sign(&domain, &key))),
        ("revocation, short", hex::encode(membership::revoke(&domain, &key, Target::Key([29; 32]), &[membership::StatementId([30; 32])]))),
        ("invitation signing key", hex::encode(invited.sign.public())),
        ("invitation sealing key", hex::encode(invited.kem.public())),
        ("link", link.to_fragment()),
        ("place tag", hex::encode(tag::place_tag(&domain, 31, 0))),
        ("node tag", hex::encode(tag::node_tag(&domain, &key.node_id(), 31))),
        ("pair tag", hex::encode(tag::pair_tag(&domain, &key.node_id(), &other.node_id()))),
        ("rendezvous key", hex::encode(tag::rendezvous_key(&[32; 32]).public())),
    ]
}

#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn formats_are_what_they_were() {
    let frozen: std::collections::BTreeMap<String, String> = serde_json::from_str(include_str!("frozen.json")).unwrap();
    let made = made();
    for (name, value) in &made {
        assert_eq!(frozen.get(*name), Some(value), "{name}");
    }
    assert_eq!(made.len(), frozen.len());
}
