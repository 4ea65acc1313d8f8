//! `Participant`, `Capability` and the query over them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::crypto::Role;
use crate::peer::Profile;
use crate::proto::directory::{Capability, Participant, Predicate, Query, Status, Test, Value};

/// An attribute's value, as JavaScript has it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum JsValueOf {
    Bool(bool),
    Int(i64),
    Number(f64),
    Text(String),
}

/// Whole numbers beyond this are not exact in JavaScript.
const SAFE: i64 = (1 << 53) - 1;

impl From<Value> for JsValueOf {
    fn from(value: Value) -> JsValueOf {
        match value {
            Value::Bool(b) => JsValueOf::Bool(b),
            Value::Int(i) if (-SAFE..=SAFE).contains(&i) => JsValueOf::Int(i),
            Value::Int(i) => JsValueOf::Number(i as f64),
            Value::Number(n) => JsValueOf::Number(n),
            Value::Text(t) => JsValueOf::Text(t),
        }
    }
}

impl From<JsValueOf> for Value {
    fn from(value: JsValueOf) -> Value {
        match value {
            JsValueOf::Bool(b) => Value::Bool(b),
            JsValueOf::Int(i) => Value::Int(i),
            JsValueOf::Number(n) => Value::Number(n),
            JsValueOf::Text(t) => Value::Text(t),
        }
    }
}

const fn one() -> u32 {
    1
}

/// The JavaScript form of a [`Capability`]; only the name is required.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsCapability {
    name: String,
    #[serde(default = "one")]
    version: u32,
    #[serde(default)]
    attributes: BTreeMap<String, JsValueOf>,
    #[serde(default = "one")]
    capacity: u32,
    #[serde(default)]
    load: u8,
}

impl From<JsCapability> for Capability {
    fn from(c: JsCapability) -> Capability {
        let attributes = c.attributes.into_iter().map(|(key, value)| (key, value.into())).collect();
        Capability { name: c.name, version: c.version, attributes, capacity: c.capacity, load: c.load }
    }
}

impl From<Capability> for JsCapability {
    fn from(c: Capability) -> JsCapability {
        let attributes = c.attributes.into_iter().map(|(key, value)| (key, value.into())).collect();
        JsCapability { name: c.name, version: c.version, attributes, capacity: c.capacity, load: c.load }
    }
}

/// The JavaScript form of a [`Profile`].
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JsProfile {
    name: String,
    capabilities: Vec<JsCapability>,
}

impl From<JsProfile> for Profile {
    fn from(profile: JsProfile) -> Profile {
        Profile { name: profile.name, capabilities: profile.capabilities.into_iter().map(Into::into).collect() }
    }
}

/// The JavaScript form of a [`Participant`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JsParticipant {
    id: String,
    name: String,
    role: &'static str,
    presence: &'static str,
    capabilities: Vec<JsCapability>,
    is_self: bool,
}

impl From<Participant> for JsParticipant {
    fn from(p: Participant) -> JsParticipant {
        let role = match p.role {
            Role::Participant => "participant",
            Role::Manager => "manager",
        };
        let presence = match p.presence {
            Status::Online => "online",
            Status::Suspended => "suspended",
            Status::Down => "down",
            Status::Left => "left",
        };
        let capabilities = p.capabilities.into_iter().map(Into::into).collect();
        JsParticipant { id: p.node.to_string(), name: p.name, role, presence, capabilities, is_self: p.is_self }
    }
}

/// Whom to list.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JsQuery {
    capability: Option<String>,
    r#where: BTreeMap<String, JsTest>,
    online: Option<bool>,
}

/// A value (equality), or an object of comparisons that must all hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsTest {
    Is(JsValueOf),
    All(JsComparisons),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsComparisons {
    eq: Option<JsValueOf>,
    ne: Option<JsValueOf>,
    lt: Option<JsValueOf>,
    le: Option<JsValueOf>,
    gt: Option<JsValueOf>,
    ge: Option<JsValueOf>,
    r#in: Option<Vec<JsValueOf>>,
}

impl From<JsTest> for Vec<Test> {
    fn from(test: JsTest) -> Vec<Test> {
        match test {
            JsTest::Is(value) => vec![Test::Eq(value.into())],
            JsTest::All(c) => {
                let single = [
                    c.eq.map(|v| Test::Eq(v.into())),
                    c.ne.map(|v| Test::Ne(v.into())),
                    c.lt.map(|v| Test::Lt(v.into())),
                    c.le.map(|v| Test::Le(v.into())),
                    c.gt.map(|v| Test::Gt(v.into())),
                    c.ge.map(|v| Test::Ge(v.into())),
                ];
                let list = c.r#in.map(|list| Test::In(list.into_iter().map(Into::into).collect()));
                single.into_iter().flatten().chain(list).collect()
            }
        }
    }
}

impl From<JsQuery> for Query {
    fn from(query: JsQuery) -> Query {
        let tests = |(key, test): (String, JsTest)| Vec::from(test).into_iter().map(move |test| Predicate { key: key.clone(), test });
        Query { capability: query.capability, predicates: query.r#where.into_iter().flat_map(tests).collect(), online: query.online }
    }
}
