//! Errors, of two kinds: [`Error`] is what a caller of ours gets, with a stable code and a hint; [`Reject`] is what a remote
//! did wrong, for counting and for the coded refusal it is sent. A bug is neither: it panics with the broken invariant.

use alloc::{borrow::Cow, boxed::Box, string::String};
use core::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, retryable $retry:literal;)+) => {
        /// What went wrong, in a form that never changes its meaning. The text form is `err.code` in JavaScript.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// The code with this text; none where a later program knows more of them than this one.
            #[must_use]
            pub fn named(text: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|c| c.as_str() == text)
            }

            /// The stable text, such as `invite-expired`.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => $text),+ } }

            /// Whether the same call may succeed later without being changed.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Code::$name => $retry),+ } }
        }
    };
}

codes! {
    /// Text that is not an id of the kind asked for.
    BadId = "bad-id", retryable false;
    /// An argument outside its documented range.
    BadArgument = "bad-argument", retryable false;
    /// An invitation link that is cut short, mistyped or of another version.
    InviteGarbled = "invite-garbled", retryable false;
    /// An invitation past its date.
    InviteExpired = "invite-expired", retryable false;
    /// An invitation that its issuer closed.
    InviteRevoked = "invite-revoked", retryable false;
    /// An invitation nobody in the domain knows.
    InviteUnknown = "invite-unknown", retryable false;
    /// An invitation that was used as often as it allows.
    InviteUsed = "invite-used", retryable false;
    /// An invitation whose bearer an issuer turned away.
    InviteDenied = "invite-denied", retryable false;
    /// An invitation on which no issuer has decided yet.
    InvitePending = "invite-pending", retryable true;
    /// The answering side belongs to another domain than the link names.
    WrongDomain = "wrong-domain", retryable false;
    /// No member of the domain answered.
    NoMember = "no-member", retryable true;
    /// No relay could be reached.
    NoRelay = "no-relay", retryable true;
    /// The other side speaks another protocol version.
    Version = "version", retryable false;
    /// The participant named is not in the directory, or not online.
    NoParticipant = "no-participant", retryable true;
    /// A frame or message longer than its bound.
    TooLarge = "too-large", retryable false;
    /// No object or version of this name is stored.
    NoObject = "no-object", retryable false;
    /// The object has another version by now than the one that was to be replaced.
    Conflict = "conflict", retryable false;
    /// The domain or the member has stored as much as it may.
    Quota = "quota", retryable false;
    /// A manager that stands by, or has not caught up yet: another one leads, or will.
    NotLeading = "not-leading", retryable true;
    /// A queue is full; wait and call again.
    Busy = "busy", retryable true;
    /// A supplier could not do a task; another may.
    SupplierFailed = "supplier-failed", retryable true;
    /// A task was tried and cannot be done: so says who was to do it.
    TaskFailed = "task-failed", retryable false;
    /// A result that a task was to begin with is gone from where it was kept.
    InputLost = "input-lost", retryable false;
    /// The operation was cancelled by its caller.
    Aborted = "aborted", retryable false;
    /// The node, domain or channel was closed.
    Closed = "closed", retryable false;
    /// It took longer than its deadline.
    Timeout = "timeout", retryable true;
    /// The direct path could not be built (ICE found no pair); the relayed path stays in use.
    IceFailed = "ice-failed", retryable true;
    /// A connection could not be made.
    Unreachable = "unreachable", retryable true;
    /// This member has no right to do that.
    Forbidden = "forbidden", retryable false;
    /// A signature, seal or checksum does not hold.
    Forged = "forged", retryable false;
    /// Bytes that do not parse.
    Malformed = "malformed", retryable false;
    /// A file or store could not be read or written.
    Storage = "storage", retryable false;
    /// A port or address is taken by another program.
    AddressInUse = "address-in-use", retryable false;
    /// The environment lacks something that is needed (WebRTC, WebAssembly, a secure context).
    Unsupported = "unsupported", retryable false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller gets: a stable code, one sentence, a hint on what to do next, and the cause.
pub struct Error {
    code: Code,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn core::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with its code and one sentence, without a full stop.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Error {
        Error { code, message: message.into(), hint: None, source: None }
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence, without code and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, where there is something to say.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Message, cause and hint in one line, for a terminal.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = String::from(self.message.as_ref());
        if let Some(source) = &self.source {
            line.push_str(&alloc::format!(" ({source})"));
        }
        if let Some(hint) = &self.hint {
            line.push_str(&alloc::format!(". {hint}"));
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.one_line(), self.code)
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

/// What a remote did wrong. The state of the machine that says so is unchanged, unless the variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reject {
    /// Bytes that do not parse, or trailing bytes.
    Malformed,
    /// Another protocol version.
    Version,
    /// A kind of message this version does not know.
    UnknownKind,
    /// Longer than its bound.
    TooLarge,
    /// A signature or seal that does not hold, or one by the wrong key.
    Forged,
    /// From or about somebody who is no valid member, or lacks the role or right.
    Forbidden,
    /// Seen before, or older than what is held.
    Stale,
    /// Past its date, or too far in the future.
    Expired,
    /// Sealed under a key this node does not hold (yet): the caller asks for it.
    UnknownKey,
    /// A bound on memory or rate is reached.
    Limit,
    /// For another recipient or another domain.
    Misdirected,
    /// A revoked statement or key.
    Revoked,
}

impl Reject {
    /// The code the remote is told.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Reject::Malformed | Reject::UnknownKind => Code::Malformed,
            Reject::Version => Code::Version,
            Reject::TooLarge => Code::TooLarge,
            Reject::Forged | Reject::Stale | Reject::UnknownKey => Code::Forged,
            Reject::Forbidden | Reject::Revoked => Code::Forbidden,
            Reject::Expired => Code::Timeout,
            Reject::Limit => Code::Busy,
            Reject::Misdirected => Code::WrongDomain,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl core::error::Error for Reject {}
