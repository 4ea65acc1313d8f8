//! The JSON lines of `peerage join`: one command per line on standard input, one event per line on standard output.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::base::{Code, Error, NodeId, limit};

/// The longest line taken, bytes: a message of the largest size in base64, and something around it.
pub const LINE: usize = limit::RELIABLE_MESSAGE / 3 * 4 + 64 * 1024;

/// One line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Given back with the answer, so that a program can tell answers apart.
    pub id: Option<u64>,
    /// What to do.
    pub command: Command,
}

/// How a channel delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Every message, in order.
    #[default]
    Reliable,
    /// The newest value of each key.
    Latest,
    /// What the network carries at once.
    Datagram,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Opens a channel; its messages come as events from now on.
    Open {
        /// Its name.
        channel: String,
        /// How it delivers.
        #[serde(default)]
        mode: Delivery,
    },
    /// Sends a message, opening the channel if need be. Answered once every recipient's window has taken it.
    Send {
        /// The channel's name.
        channel: String,
        /// How it delivers, if this opens it.
        #[serde(default)]
        mode: Delivery,
        /// The node ids it is for; everybody online if absent or null.
        #[serde(default)]
        to: Option<Vec<String>>,
        /// Its content as text …
        #[serde(default)]
        text: Option<String>,
        /// … or as base64 of any bytes.
        #[serde(default)]
        data: Option<String>,
        /// The key, on a `latest` channel.
        #[serde(default)]
        key: Option<String>,
    },
    /// Writes into the shared state; without a value deletes the key.
    Set {
        /// The key.
        key: String,
        /// Any JSON.
        #[serde(default)]
        value: Option<serde_json::Value>,
    },
    /// The shared state, as far as keys begin so.
    State {
        /// How; all if absent.
        #[serde(default)]
        prefix: String,
    },
    /// Who is here.
    Participants,
    /// How they are reached.
    Links,
    /// What was counted.
    Stats,
    /// Evicts a member for good. Needs the right to evict.
    Evict {
        /// Whom.
        node: String,
    },
    /// Lets in who waits. Needs the right to invite, as does turning away.
    Approve {
        /// Whom.
        node: String,
    },
    /// Turns away who waits.
    Deny {
        /// Whom.
        node: String,
    },
    /// Leaves the domain and ends.
    Leave {
        /// Deletes it from the data directory, too.
        #[serde(default)]
        forget: bool,
    },
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// [`Code::TooLarge`] for a longer line than [`LINE`], [`Code::BadArgument`] for one that is no command.
    pub fn parse(line: &str) -> Result<Request, Error> {
        if line.len() > LINE {
            return Err(Error::new(Code::TooLarge, "a line of more than 85 MiB"));
        }
        let wrong =
            |why: String| Error::new(Code::BadArgument, format!("no command: {why}")).hint("It looks like {\"cmd\":\"participants\"}");
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let id = match fields.remove("id") {
            None | Some(serde_json::Value::Null) => None,
            Some(id) => Some(id.as_u64().ok_or_else(|| wrong("id is no whole number".into()))?),
        };
        let command = serde_json::from_value(fields.into()).map_err(|e| wrong(e.to_string()))?;
        Ok(Request { id, command })
    }
}

/// The content of a message from its two possible fields.
///
/// # Errors
/// [`Code::BadArgument`] unless exactly one is there and the base64 is right.
pub fn content(text: Option<String>, data: Option<&str>) -> Result<Vec<u8>, Error> {
    match (text, data) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(data)) => {
            STANDARD.decode(data).map_err(|e| Error::new(Code::BadArgument, "data is no base64").caused_by(e.to_string()))
        }
        _ => Err(Error::new(Code::BadArgument, "give either text or data")),
    }
}

/// The recipients named, `None` for everybody.
///
/// # Errors
/// [`Code::BadId`].
pub fn recipients(to: Option<&[String]>) -> Result<Option<Vec<NodeId>>, Error> {
    to.map(|ids| ids.iter().map(|id| id.parse()).collect()).transpose()
}

/// A message's content as it is printed: text where it is text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Base64 of anything else.
    Data(String),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        String::from_utf8(bytes).map_or_else(|e| Content::Data(STANDARD.encode(e.as_bytes())), Content::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_strictly() {
        let request = Request::parse(r#"{"id":7,"cmd":"send","channel":"chat","to":null,"text":"hi"}"#).unwrap();
        assert_eq!(request.id, Some(7));
        let Command::Send { channel, mode, to, text, data, key } = request.command else { panic!("no send") };
        assert_eq!((channel.as_str(), mode, to, data.as_deref(), key), ("chat", Delivery::Reliable, None, None, None));
        assert_eq!(content(text, data.as_deref()).unwrap(), b"hi");
        for (text, forget) in [(r#"{"cmd":"leave"}"#, false), (r#"{"cmd":"leave","forget":true}"#, true)] {
            assert_eq!(Request::parse(text).unwrap(), Request { id: None, command: Command::Leave { forget } });
        }
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"cmd":"fly"}"#,
            r#"{"cmd":"open"}"#,
            r#"{"cmd":"open","channel":"a","mode":"fast"}"#,
            r#"{"cmd":"open","channel":"a","color":1}"#,
            r#"{"id":-1,"cmd":"leave"}"#,
        ] {
            assert_eq!(Request::parse(bad).unwrap_err().code(), Code::BadArgument, "{bad}");
        }
    }

    #[test]
    fn content_is_one_of_two() {
        assert_eq!(content(None, Some("AAE=")).unwrap(), [0, 1]);
        assert!(content(None, None).is_err() && content(Some("a".into()), Some("AAE=")).is_err() && content(None, Some("?")).is_err());
        assert_eq!(Content::from(b"hi".to_vec()), Content::Text("hi".into()));
        assert_eq!(Content::from(vec![0xff]), Content::Data("/w==".into()));
        assert!(recipients(Some(&["nobody".into()])).is_err());
        assert_eq!(recipients(None).unwrap(), None);
    }
}
