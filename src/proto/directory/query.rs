//! Questions to the local copy of the directory, and their answers.

use alloc::{string::String, vec::Vec};
use core::cmp::Ordering;

use super::record::{self, Capability, KEY, Presence, Value};
use crate::base::{NodeId, Reject};
use crate::crypto::class::Role;
use crate::wire::bytes::{Reader, Writer};

/// Predicates that can be told to somebody else.
pub const PREDICATES: usize = 32;
/// Values of one [`Test::In`] that can be.
pub const VALUES: usize = 32;
/// Bytes that they may take together.
pub const PREDICATE_BYTES: usize = 4 * 1024;

/// Whom to list. The default lists everybody known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Only those with a capability of this name.
    pub capability: Option<String>,
    /// Only those with one capability (of that name, if one is given) for which all of these hold.
    pub predicates: Vec<Predicate>,
    /// `Some(true)`: only those online. `Some(false)`: only the others.
    pub online: Option<bool>,
}

/// A condition on one attribute. An attribute that is absent, or of a kind that cannot be compared, satisfies none.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// The attribute's key. `version`, `capacity` and `load` mean the capability's own, unless an attribute has that key.
    pub key: String,
    /// The condition.
    pub test: Test,
}

/// How an attribute is compared. Whole and other numbers compare with each other by value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Equal.
    Eq(Value),
    /// There, and not equal.
    Ne(Value),
    /// Less than.
    Lt(Value),
    /// Less than or equal.
    Le(Value),
    /// Greater than.
    Gt(Value),
    /// Greater than or equal.
    Ge(Value),
    /// Equal to one of these.
    In(Vec<Value>),
}

/// A participant's state as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Awake and reachable, by its own word.
    Online,
    /// Asleep, by its own word.
    Suspended,
    /// Silent: its lease ran out, or it was looked for and did not answer.
    Down,
    /// Left of its own will.
    Left,
}

impl From<Presence> for Status {
    fn from(presence: Presence) -> Status {
        match presence {
            Presence::Online => Status::Online,
            Presence::Suspended => Status::Suspended,
            Presence::Left => Status::Left,
        }
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    /// Who.
    pub node: NodeId,
    /// A name for people, chosen by the participant.
    pub name: String,
    /// What its credential makes it.
    pub role: Role,
    /// Its state as seen from here.
    pub presence: Status,
    /// The incarnation of its record: rises with every start of its process, and when it was wrongly taken for down.
    pub incarnation: u64,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Whether it is this node.
    pub is_self: bool,
}

impl Query {
    /// Whether a participant in this state, with these capabilities, belongs in the answer.
    #[must_use]
    pub fn matches(&self, status: Status, capabilities: &[Capability]) -> bool {
        if self.online.is_some_and(|wanted| wanted != (status == Status::Online)) {
            return false;
        }
        (self.capability.is_none() && self.predicates.is_empty())
            || capabilities
                .iter()
                .any(|c| self.capability.as_ref().is_none_or(|name| *name == c.name) && self.predicates.iter().all(|p| p.holds(c)))
    }
}

impl Predicate {
    /// Whether the condition holds for a capability.
    #[must_use]
    pub fn holds(&self, capability: &Capability) -> bool {
        let own;
        let value = match (capability.attributes.get(&self.key), self.key.as_str()) {
            (Some(value), _) => value,
            (None, "version") => {
                own = Value::Int(i64::from(capability.version));
                &own
            }
            (None, "capacity") => {
                own = Value::Int(i64::from(capability.capacity));
                &own
            }
            (None, "load") => {
                own = Value::Int(i64::from(capability.load));
                &own
            }
            (None, _) => return false,
        };
        match &self.test {
            Test::Eq(v) => compare(value, v) == Some(Ordering::Equal),
            Test::Ne(v) => compare(value, v) != Some(Ordering::Equal),
            Test::Lt(v) => compare(value, v) == Some(Ordering::Less),
            Test::Le(v) => matches!(compare(value, v), Some(Ordering::Less | Ordering::Equal)),
            Test::Gt(v) => compare(value, v) == Some(Ordering::Greater),
            Test::Ge(v) => matches!(compare(value, v), Some(Ordering::Greater | Ordering::Equal)),
            Test::In(list) => list.iter().any(|v| compare(value, v) == Some(Ordering::Equal)),
        }
    }
}

/// Conditions for somebody else to look at: `count u8`, then of each `key var | test u8 | value`, or `count u8` and as many values.
///
/// # Errors
/// [`Reject::TooLarge`] if there are too many or one is too long, [`Reject::Malformed`] for a number that is not finite.
pub fn encode_predicates(predicates: &[Predicate]) -> Result<Vec<u8>, Reject> {
    let mut w = Writer::new();
    record::put_count(&mut w, predicates.len(), PREDICATES)?;
    for Predicate { key, test } in predicates {
        record::put_text(&mut w, key, KEY)?;
        let (tag, value) = match test {
            Test::Eq(v) => (0, v),
            Test::Ne(v) => (1, v),
            Test::Lt(v) => (2, v),
            Test::Le(v) => (3, v),
            Test::Gt(v) => (4, v),
            Test::Ge(v) => (5, v),
            Test::In(list) => {
                w.u8(6);
                record::put_count(&mut w, list.len(), VALUES)?;
                list.iter().try_for_each(|v| record::put_value(&mut w, v))?;
                continue;
            }
        };
        w.u8(tag);
        record::put_value(&mut w, value)?;
    }
    let bytes = w.finish();
    if bytes.len() > PREDICATE_BYTES { Err(Reject::TooLarge) } else { Ok(bytes) }
}

/// Reads what [`encode_predicates`] wrote.
///
/// # Errors
/// [`Reject::TooLarge`], [`Reject::Malformed`].
pub fn decode_predicates(bytes: &[u8]) -> Result<Vec<Predicate>, Reject> {
    if bytes.len() > PREDICATE_BYTES {
        return Err(Reject::TooLarge);
    }
    let mut r = Reader::new(bytes);
    let mut all = Vec::new();
    for _ in 0..record::count(&mut r, PREDICATES)? {
        let key = r.text(KEY)?;
        let tag = r.u8()?;
        let test = match tag {
            0 => Test::Eq(record::value(&mut r)?),
            1 => Test::Ne(record::value(&mut r)?),
            2 => Test::Lt(record::value(&mut r)?),
            3 => Test::Le(record::value(&mut r)?),
            4 => Test::Gt(record::value(&mut r)?),
            5 => Test::Ge(record::value(&mut r)?),
            6 => Test::In((0..record::count(&mut r, VALUES)?).map(|_| record::value(&mut r)).collect::<Result<_, _>>()?),
            _ => return Err(Reject::Malformed),
        };
        all.push(Predicate { key, test });
    }
    r.end()?;
    Ok(all)
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Number(b)) => (*a as f64).partial_cmp(b),
        (Value::Number(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_compare_by_value_and_absence_satisfies_nothing() {
        let mut c = Capability::new("map/reconstruct", 3);
        c.attributes.insert("gpu".into(), Value::Bool(true));
        c.attributes.insert("memory".into(), Value::Int(16));
        c.attributes.insert("region".into(), Value::Text("eu".into()));
        let holds = |key: &str, test: Test| Predicate { key: key.into(), test }.holds(&c);
        assert!(holds("memory", Test::Ge(Value::Number(15.5))) && !holds("memory", Test::Gt(Value::Int(16))));
        assert!(holds("memory", Test::Le(Value::Int(16))) && holds("memory", Test::Lt(Value::Int(17))));
        assert!(holds("gpu", Test::Eq(Value::Bool(true))) && holds("gpu", Test::Ne(Value::Bool(false))));
        assert!(holds("region", Test::In(alloc::vec![Value::Text("us".into()), Value::Text("eu".into())])));
        assert!(holds("version", Test::Eq(Value::Int(3))) && holds("load", Test::Lt(Value::Int(1))));
        assert!(!holds("memory", Test::Lt(Value::Text("zzz".into()))), "kinds that do not compare");
        assert!(!holds("absent", Test::Ne(Value::Int(1))) && !holds("memory", Test::Eq(Value::Number(f64::NAN))));
    }

    #[test]
    fn predicates_come_back_and_what_is_cut_or_too_much_does_not() {
        let (one, text) = (Value::Int(-1), Value::Text("x".repeat(record::TEXT)));
        let tests = [
            Test::Eq(Value::Bool(true)),
            Test::Ne(text.clone()),
            Test::Lt(one.clone()),
            Test::Le(Value::Number(-0.5)),
            Test::Gt(one.clone()),
            Test::Ge(one.clone()),
            Test::In(alloc::vec![one.clone(), text.clone()]),
            Test::In(Vec::new()),
        ];
        let all: Vec<Predicate> = tests.into_iter().map(|test| Predicate { key: "k".repeat(KEY), test }).collect();
        let bytes = encode_predicates(&all).unwrap();
        assert_eq!(decode_predicates(&bytes), Ok(all));
        for length in 0..bytes.len() {
            assert!(decode_predicates(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert_eq!(decode_predicates(&[&bytes[..], &[0]].concat()), Err(Reject::Malformed));
        let with = |key: &str, test: Test| Predicate { key: key.into(), test };
        let eq = |v: &Value| with("a", Test::Eq(v.clone()));
        for wrong in [
            alloc::vec![eq(&one); PREDICATES + 1],
            alloc::vec![eq(&text); PREDICATES],
            alloc::vec![with(&"k".repeat(KEY + 1), Test::Eq(one.clone()))],
            alloc::vec![with("a", Test::In(alloc::vec![one.clone(); VALUES + 1]))],
        ] {
            assert_eq!(encode_predicates(&wrong), Err(Reject::TooLarge));
        }
        assert_eq!(encode_predicates(&[eq(&Value::Number(f64::NAN))]), Err(Reject::Malformed));
        // Of a test that there is not, of a truth that is neither.
        for wrong in [&[1, 0, 1, b'a', 7, 0, 1][..], &[1, 0, 1, b'a', 0, 0, 2], &[1, 0, 1, b'a', 0, 4]] {
            assert_eq!(decode_predicates(wrong), Err(Reject::Malformed));
        }
        assert_eq!(decode_predicates(&[PREDICATES as u8 + 1]), Err(Reject::TooLarge));
    }

    #[test]
    fn all_predicates_must_hold_for_one_capability() {
        let mut small = Capability::new("a", 1);
        small.attributes.insert("n".into(), Value::Int(1));
        let mut big = Capability::new("b", 1);
        big.attributes.insert("n".into(), Value::Int(9));
        let caps = [small, big];
        let big_n = Predicate { key: "n".into(), test: Test::Gt(Value::Int(5)) };
        let q = |name: Option<&str>, online| Query { capability: name.map(Into::into), predicates: alloc::vec![big_n.clone()], online };
        assert!(!q(Some("a"), None).matches(Status::Online, &caps));
        assert!(q(Some("b"), None).matches(Status::Online, &caps) && q(None, None).matches(Status::Down, &caps));
        assert!(!q(None, Some(true)).matches(Status::Down, &caps) && q(None, Some(false)).matches(Status::Down, &caps));
        assert!(Query::default().matches(Status::Left, &[]));
    }
}
