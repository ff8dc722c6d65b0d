//! The two modes of a link record and the half that they make.

use std::fmt;
use std::str::FromStr;

/// `link.mode`: the role of this half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkMode {
    /// Holds mirror topics.
    Destination,
    /// Holds the originals.
    Source,
    /// Both at once.
    Bidirectional,
}

/// `connection.mode`: whether this half dials or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionMode {
    /// Dials.
    Outbound,
    /// Waits to be dialled.
    Inbound,
}

/// What a link record is, from its two modes. Of the six pairs one makes no sense and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// `DESTINATION`, `OUTBOUND`: the only half of a destination-initiated link.
    DestinationOutbound,
    /// `DESTINATION`, `INBOUND`: the destination half of a source-initiated link.
    DestinationInbound,
    /// `SOURCE`, `OUTBOUND`: the source half of a source-initiated link.
    SourceOutbound,
    /// `BIDIRECTIONAL`, `OUTBOUND`: the half that dials.
    BidirectionalOutbound,
    /// `BIDIRECTIONAL`, `INBOUND`: the half that waits.
    BidirectionalInbound,
}

impl Half {
    /// The half that the two modes make; `None` for `SOURCE` with `INBOUND`.
    pub fn new(link: LinkMode, connection: ConnectionMode) -> Option<Self> {
        match (link, connection) {
            (LinkMode::Destination, ConnectionMode::Outbound) => Some(Self::DestinationOutbound),
            (LinkMode::Destination, ConnectionMode::Inbound) => Some(Self::DestinationInbound),
            (LinkMode::Source, ConnectionMode::Outbound) => Some(Self::SourceOutbound),
            (LinkMode::Source, ConnectionMode::Inbound) => None,
            (LinkMode::Bidirectional, ConnectionMode::Outbound) => Some(Self::BidirectionalOutbound),
            (LinkMode::Bidirectional, ConnectionMode::Inbound) => Some(Self::BidirectionalInbound),
        }
    }

    /// `link.mode` of this half.
    pub fn link_mode(self) -> LinkMode {
        match self {
            Self::DestinationOutbound | Self::DestinationInbound => LinkMode::Destination,
            Self::SourceOutbound => LinkMode::Source,
            Self::BidirectionalOutbound | Self::BidirectionalInbound => LinkMode::Bidirectional,
        }
    }

    /// `connection.mode` of this half.
    pub fn connection_mode(self) -> ConnectionMode {
        match self {
            Self::DestinationOutbound | Self::SourceOutbound | Self::BidirectionalOutbound => ConnectionMode::Outbound,
            Self::DestinationInbound | Self::BidirectionalInbound => ConnectionMode::Inbound,
        }
    }

    /// Whether this half dials the other cluster.
    pub fn dials(self) -> bool {
        self.connection_mode() == ConnectionMode::Outbound
    }

    /// Whether mirror topics hang on this half.
    pub fn holds_mirrors(self) -> bool {
        self.link_mode() != LinkMode::Source
    }

    /// Whether this half lends the local cluster to the other side over the connections that it dials.
    pub fn lends_local(self) -> bool {
        matches!(self, Self::SourceOutbound | Self::BidirectionalOutbound)
    }
}

/// Not a `link.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode;

/// As a configuration spells it: in any case, with blanks around.
impl FromStr for LinkMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text.trim().to_ascii_uppercase().as_str() {
            "DESTINATION" => Ok(Self::Destination),
            "SOURCE" => Ok(Self::Source),
            "BIDIRECTIONAL" => Ok(Self::Bidirectional),
            _ => Err(UnknownMode),
        }
    }
}

impl fmt::Display for LinkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Destination => "DESTINATION",
            Self::Source => "SOURCE",
            Self::Bidirectional => "BIDIRECTIONAL",
        })
    }
}

impl fmt::Display for ConnectionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbound => "OUTBOUND",
            Self::Inbound => "INBOUND",
        })
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.link_mode(), self.connection_mode())
    }
}
