//! Connections of a link after their `LinkOpen`: refused, or control. (Channels become clients.)

use crate::task::Reports;
use bytes::Bytes;
use hawser_link::reversal::{CONTROL_FRAME_BYTES_MAX, ControlFrame};
use hawser_transport::{FrameReader, ServerConnection, Stream};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// How long a write may take: a member that does not read for that long is as good as dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long we wait for the peer's end after the last word, so that it can read it before a reset.
const PARTING: Duration = Duration::from_millis(300);

/// Sends a refusal, then waits a moment for the peer to close.
pub(crate) async fn refuse(mut connection: ServerConnection, answer: Bytes) {
    let _ = tokio::time::timeout(PARTING, async {
        connection.write(&[answer]).await?;
        let (mut from, mut to) = tokio::io::split(connection.into_stream());
        part(&mut from, &mut to).await
    })
    .await;
}

/// Answers a control `LinkOpen`, then passes frames both ways until the connection ends, or `outgoing` has ended and was
/// sent. Returns why, for the log. No session limit of the listener applies from here on: beats decide.
pub(crate) async fn converse(
    mut connection: ServerConnection,
    answer: Bytes,
    mut outgoing: mpsc::Receiver<ControlFrame>,
    reports: &Reports,
) -> String {
    if let Err(error) = connection.write(&[answer]).await {
        return error.to_string();
    }
    let (mut from, mut to) = tokio::io::split(connection.into_stream());
    let mut frames = FrameReader::accepted(CONTROL_FRAME_BYTES_MAX);
    loop {
        tokio::select! {
            biased;
            frame = outgoing.recv() => match frame {
                Some(frame) => {
                    if let Err(reason) = write(&mut to, &frame.encode()).await {
                        return reason;
                    }
                }
                None => {
                    let _ = tokio::time::timeout(PARTING, part(&mut from, &mut to)).await;
                    return "given up by this side".to_owned();
                }
            },
            frame = frames.frame(&mut from) => match frame {
                Ok(Some(frame)) => match ControlFrame::decode(&frame) {
                    Ok(frame) => reports.received(frame).await,
                    Err(error) => return format!("no control frame: {error}"),
                },
                Ok(None) => return "closed by the source half".to_owned(),
                Err(error) => return error.to_string(),
            },
        }
    }
}

async fn write(to: &mut WriteHalf<Stream>, frame: &[u8]) -> Result<(), String> {
    let written = async {
        to.write_all(frame).await?;
        to.flush().await
    };
    match tokio::time::timeout(WRITE_TIMEOUT, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing was read for {WRITE_TIMEOUT:?}")),
    }
}

/// Ends our side and reads what the peer still sends. Closing with unread bytes would reset the connection, and the peer
/// could lose our last word.
async fn part(from: &mut ReadHalf<Stream>, to: &mut WriteHalf<Stream>) -> io::Result<()> {
    to.shutdown().await?;
    let mut waste = [0; 512];
    while from.read(&mut waste).await? > 0 {}
    Ok(())
}
