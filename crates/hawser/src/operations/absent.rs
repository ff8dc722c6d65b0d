//! Commands of the reference that Hawser knows by name only: every face refuses them with the same sentence, which says
//! what the command is, why it is not here, and what to do instead. No daemon need be asked.

use super::{Refusal, RefusalCode};

/// A command that takes a bidirectional link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// `reverse-and-start`
    ReverseAndStart,
    /// `reverse-and-pause`
    ReverseAndPause,
    /// `truncate-and-restore`
    TruncateAndRestore,
}

impl Absent {
    /// Why it is not done, under its name in the reference.
    pub(crate) fn refusal(self) -> Refusal {
        let message = match self {
            Self::ReverseAndStart => {
                "reverse-and-start promotes a mirror and makes its source topic mirror it in turn, over a bidirectional link; \
                 Hawser's links have one direction. Promote the mirror, then create a link and a mirror the other way."
            }
            Self::ReverseAndPause => {
                "reverse-and-pause promotes a mirror and makes its source topic a paused mirror of it, over a bidirectional link; \
                 Hawser's links have one direction. Promote the mirror, then create a link and a mirror the other way, and pause that."
            }
            Self::TruncateAndRestore => {
                "truncate-and-restore cuts what a failover left behind at the old source and makes it a mirror again, over a \
                 bidirectional link; Hawser's links have one direction. Delete the topic at the old source, then create a link and a \
                 mirror the other way, which copies it anew."
            }
        };
        Refusal::new(RefusalCode::Unsupported, message)
    }
}
