//! Records: what they carry, how small, and what is refused.

use alloc::{
    format,
    string::{String, ToString},
    vec,
};

use super::tests::{DOMAIN, key, record};
use super::{addresses, record::*};
use crate::base::{DomainId, Reject, limit};
use crate::wire::bytes::{Reader, Writer};

#[test]
fn a_record_round_trips_with_every_kind_of_attribute() {
    let mut c = Capability::new("map/reconstruct", 2);
    c.attributes.insert("b".into(), Value::Bool(true));
    c.attributes.insert("i".into(), Value::Int(-5));
    c.attributes.insert("n".into(), Value::Number(1.5));
    c.attributes.insert("t".into(), Value::Text("é".into()));
    let mut r = record(1, 4);
    r.profile = Profile { name: "Ann".into(), addresses: vec!["/ip4/1.2.3.4/tcp/1".into()], capabilities: vec![c] };
    let made = Signed::sign(r.clone(), &key(1), &DOMAIN).unwrap();
    let read = Signed::parse(made.bytes()).unwrap();
    assert_eq!((read.record(), read.version()), (&r, made.version()));
    read.verify(&DOMAIN).unwrap();
    assert_eq!(read.verify(&DomainId::from_bytes([4; 32])), Err(Reject::Forged));
    assert_eq!(Signed::sign(r, &key(2), &DOMAIN).unwrap_err(), Reject::Forbidden);
}

#[test]
fn addresses_are_written_once() {
    let (me, relay) = (key(1).node_id(), key(2).node_id());
    let through = |n: u8, way: &str| format!("/ip4/192.0.2.{n}/tcp/4001/ws/p2p/{relay}/p2p-circuit{way}/p2p/{me}");
    let mut r = record(1, 1);
    let size = |r: &Record| Signed::sign(r.clone(), &key(1), &DOMAIN).unwrap().bytes().len();
    let without = size(&r);
    for list in [
        vec![through(1, "/webrtc"), through(1, ""), through(2, ""), format!("/webrtc/p2p/{me}")],
        vec![through(1, ""), through(1, ""), String::new(), "é".into(), "è".into(), me.to_string()],
        vec!["x".repeat(limit::ADDRESS), "x".repeat(limit::ADDRESS), format!("/p2p/{relay}"), format!("/p2p/{me}/p2p/{me}")],
    ] {
        r.profile.addresses = list;
        let made = Signed::sign(r.clone(), &key(1), &DOMAIN).unwrap();
        assert_eq!(*Signed::parse(made.bytes()).unwrap().record(), r);
    }
    r.profile.addresses = vec![through(1, "/webrtc"), through(1, ""), format!("/webrtc/p2p/{me}")];
    assert!(size(&r) - without < 140, "{} bytes for three addresses", size(&r) - without);
    r.profile.addresses = vec!["/ip4/192.0.2.1/p2p/".into()];
    assert_eq!(Signed::sign(r, &key(1), &DOMAIN).unwrap_err(), Reject::Malformed);
}

#[test]
fn a_list_of_addresses_has_one_encoding() {
    let me = key(1).node_id();
    let read = |entries: &[(u8, &str)]| {
        let mut w = Writer::new();
        w.u8(entries.len() as u8);
        for (same, rest) in entries {
            w.u8(*same).var(rest.as_bytes());
        }
        addresses::get(&mut Reader::new(&w.finish()), &me)
    };
    assert_eq!(read(&[(0, "/a/p2p/"), (2, "")]).unwrap(), [format!("/a/p2p/{me}"), "/a".into()]);
    for bad in [&[(1, "/a")][..], &[(0, "/a"), (0, "/b")], &[(0, "é"), (1, "x")], &[(0, &format!("/p2p/{me}"))], &[(0, "/a"), (3, "b")]] {
        assert_eq!(read(bad), Err(Reject::Malformed), "{bad:?}");
    }
    assert_eq!(read(&[(0, &format!("/{}/p2p/", "x".repeat(limit::ADDRESS - 16)))]), Err(Reject::TooLarge), "with the id");
    assert_eq!(read(&[(0, ""); 9]), Err(Reject::TooLarge));
}

#[test]
fn what_is_over_a_bound_is_not_signed() {
    let with = |f: &dyn Fn(&mut Profile)| {
        let mut r = record(1, 1);
        f(&mut r.profile);
        Signed::sign(r, &key(1), &DOMAIN).unwrap_err()
    };
    assert_eq!(with(&|p| p.name = "x".repeat(65)), Reject::TooLarge);
    assert_eq!(with(&|p| p.addresses = vec![String::new(); 9]), Reject::TooLarge);
    assert_eq!(with(&|p| p.addresses = vec!["x".repeat(limit::ADDRESS + 1)]), Reject::TooLarge);
    assert_eq!(with(&|p| p.capabilities = vec![Capability::new("x", 1); 33]), Reject::TooLarge);
    assert_eq!(with(&|p| p.capabilities = vec![Capability::new("", 1)]), Reject::Malformed);
    let text = |p: &mut Profile| {
        let mut c = Capability::new("x", 1);
        c.attributes = (0..32).map(|i| (i.to_string(), Value::Text("y".repeat(256)))).collect();
        p.capabilities = vec![c];
    };
    assert_eq!(with(&text), Reject::TooLarge);
    let nan = |p: &mut Profile| {
        let mut c = Capability::new("x", 1);
        c.attributes.insert("n".into(), Value::Number(f64::NAN));
        p.capabilities = vec![c];
    };
    assert_eq!(with(&nan), Reject::Malformed);
}
