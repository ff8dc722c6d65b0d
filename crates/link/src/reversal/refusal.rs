//! Why one end will not have the other, by name. The same codes stand in a refused `LinkOpen`, in a `Goodbye` and
//! in a `DialFailed`; `docs/protocol.md` §6 lists them for operators.

use std::fmt;

/// A refusal as it crosses the link: a code for the machine, a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason's name.
    pub code: RefusalCode,
    /// What an operator reads: who must do what. Never a secret.
    pub text: String,
}

/// How the source half goes on after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// Passes by itself: dial again after the usual backoff.
    Retry,
    /// Somebody must act: dial again slowly and show the reason.
    Operator,
    /// Another life of this member has taken over: stay away for a while, so that the two do not fight.
    Fenced,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $class:ident;)*) => {
        /// The reasons.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalCode {
            $($(#[$doc])* $name,)*
            /// A code of a newer peer.
            Other(i16),
        }

        impl RefusalCode {
            /// Every named code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub fn code(self) -> i16 {
                match self { $(Self::$name => $code,)* Self::Other(code) => code }
            }

            /// The reason of a number; 0 is no reason.
            pub fn from_code(code: i16) -> Option<Self> {
                match code { 0 => None, $($code => Some(Self::$name),)* other => Some(Self::Other(other)) }
            }

            /// The name in logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* Self::Other(_) => "Other" }
            }

            /// The sentence in general; a [`Refusal`] may say more.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Other(_) => "refused for a reason that this version does not know" }
            }

            /// What follows from it.
            pub fn class(self) -> RefusalClass {
                match self { $(Self::$name => RefusalClass::$class,)* Self::Other(_) => RefusalClass::Operator }
            }
        }
    };
}

codes! {
    /// The protocol version of the request is not spoken here.
    UnsupportedVersion = 1, "this version of the link protocol is not spoken here: upgrade the older daemon", Operator;
    /// The request is not a `LinkOpen` of that version.
    Malformed = 2, "the request could not be read", Operator;
    /// The principal lacks ALTER on the cluster.
    NotAuthorised = 3, "the login lacks ALTER on the cluster resource of the destination", Operator;
    /// No link of that name.
    NoSuchLink = 4, "the destination has no link of that name: create the destination half first, with the same name", Operator;
    /// The link is bound to another source cluster.
    WrongSourceCluster = 5, "the link belongs to another source cluster", Operator;
    /// The source half expects another destination cluster.
    WrongDestinationCluster = 6, "this is not the destination cluster that the source half was made for", Operator;
    /// The link of that name does not wait for a source half.
    ModeMismatch = 7, "the link of that name is not a DESTINATION half with connection.mode=INBOUND", Operator;
    /// A newer life of the member is known.
    StaleMember = 8, "a newer life of this member is known: an old process or a copied state directory", Fenced;
    /// A newer life of the member has connected.
    Superseded = 9, "a newer life of this member has connected", Fenced;
    /// Never issued here.
    UnknownTicket = 11, "the channel ticket was never issued here", Retry;
    /// Too late, or revoked.
    ExpiredTicket = 12, "the channel ticket has expired", Retry;
    /// Used before.
    ReplayedTicket = 13, "the channel ticket was used before", Retry;
    /// Issued to another member or for another broker.
    TicketMismatch = 14, "the channel ticket was issued to another member or for another broker", Retry;
    /// The link was deleted at the destination.
    LinkDeleted = 15, "the link was deleted at the destination", Operator;
    /// A bound of the destination is reached.
    TooMany = 17, "the destination has as many members or connections as it takes", Retry;
    /// The daemon stops.
    Stopping = 18, "the daemon is stopping", Retry;
    /// The source's broker cannot be reached or is not known.
    LocalUnreachable = 19, "the source half cannot reach that broker", Retry;
    /// The source's broker refused the `local.*` login.
    LocalAuthentication = 20, "the source broker refused the local.* login of the source half", Operator;
    /// The source half was deleted.
    SourceHalfDeleted = 21, "the source half of the link was deleted", Operator;
    /// The frame makes no sense in this place.
    ProtocolViolation = 22, "a frame came that has no place there", Retry;
    /// Nothing was heard for too long.
    Silent = 24, "nothing was heard for too long", Retry;
    /// The dial back to the destination failed.
    DialFailed = 25, "the source half could not dial the destination", Retry;
}

impl Refusal {
    /// The general sentence of `code`.
    pub fn new(code: RefusalCode) -> Self {
        Self { code, text: code.text().to_owned() }
    }

    /// The general sentence and what is special about this case.
    pub fn with(code: RefusalCode, detail: impl fmt::Display) -> Self {
        Self { code, text: format!("{} ({detail})", code.text()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.text)
    }
}
