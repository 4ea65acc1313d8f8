//! Questions to the local copy of the directory, and their answers.

use alloc::{string::String, vec::Vec};
use core::cmp::Ordering;

use super::record::{Capability, Presence, Value};
use crate::base::NodeId;
use crate::crypto::class::Role;

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
