//! The client's side of a login, and how to repeat it.
//!
//! The mechanisms are the `sasl` crate's. What it leaves open is closed here: user names are escaped, the server's first
//! message is checked before it is used (see [`scram::check_server_first`]), and the server's signature always is.

use super::scram::{self, ScramMechanism};
use super::{Mechanism, code};
use crate::dial::DialError;
use crate::frames::FrameReader;
use bytes::Bytes;
use hawser_wire::api;
use hawser_wire::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use hawser_wire::{DecodeError, Request, StrBytes};
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::scram::{DeriveError, ScramProvider, Sha256};
use sasl::common::{ChannelBinding, Password};
use sasl::secret::Secret;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Versions that are sent: framed tokens (KIP-152), and session lifetimes (KIP-368). Every broker since 2.2 has them.
const HANDSHAKE: i16 = 1;
const AUTHENTICATE: i16 = 1;
/// Part of a session's life after which a client logs in again, and what is added at random, in percent
/// (Kafka's `SaslClientAuthenticator`).
const RENEW_AFTER: (u32, u32) = (85, 10);

/// A name, its secret and how to prove it. `Debug` shows no secret.
pub(crate) struct Credentials {
    mechanism: Mechanism,
    username: String,
    password: Zeroizing<String>,
}

impl Credentials {
    pub(crate) fn new(mechanism: Mechanism, username: &str, password: &str) -> Self {
        Self { mechanism, username: username.to_owned(), password: Zeroizing::new(password.to_owned()) }
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    fn start(&self) -> Result<Box<dyn sasl::client::Mechanism + Send>, DialError> {
        let (user, password) = (scram::escape(&self.username), self.password.as_str());
        let random = |e: sasl::Error| DialError::Protocol(format!("no random nonce: {e:?}"));
        Ok(match self.mechanism {
            Mechanism::Plain => Box::new(Plain::new(self.username.as_str(), password)),
            Mechanism::ScramSha256 => {
                Box::new(Scram::<Sha256>::new(user, password, ChannelBinding::None).map_err(random)?)
            }
            Mechanism::ScramSha512 => {
                Box::new(Scram::<Sha512>::new(user, password, ChannelBinding::None).map_err(random)?)
            }
        })
    }
}

/// SCRAM-SHA-512 for the `sasl` crate, which brings only the smaller hashes.
struct Sha512;

/// Marks what [`Sha512`] derives from; the crate asks for a type, not for a value.
struct Sha512Secret;

impl Secret for Sha512Secret {}

impl ScramProvider for Sha512 {
    type Secret = Sha512Secret;

    fn name() -> &'static str {
        "SHA-512"
    }

    fn hash(data: &[u8]) -> Vec<u8> {
        ScramMechanism::Sha512.digest(data)
    }

    fn hmac(data: &[u8], key: &[u8]) -> Result<Vec<u8>, hmac::digest::InvalidLength> {
        Ok(ScramMechanism::Sha512.hmac(key, data))
    }

    fn derive(password: &Password, salt: &[u8], iterations: u32) -> Result<Vec<u8>, DeriveError> {
        match password {
            Password::Plain(plain) => Ok(ScramMechanism::Sha512.salted_password(plain.as_bytes(), salt, iterations)),
            // Never made here.
            Password::Pbkdf2 { method, .. } => {
                Err(DeriveError::IncompatibleHashingMethod(method.clone(), "SHA-512".to_owned()))
            }
        }
    }
}

/// A login under way: requests out, responses in.
///
/// ```text
/// Handshake ──► First ──(PLAIN)──────► done
///                 └──(SCRAM)──► Final ──► done
/// ```
pub(crate) struct Login {
    mechanism: Mechanism,
    client_id: Arc<str>,
    sasl: Box<dyn sasl::client::Mechanism + Send>,
    state: State,
}

enum State {
    /// `SaslHandshake` was sent.
    Handshake,
    /// The first token was sent; the client's SCRAM nonce in it.
    First { nonce: String },
    /// SCRAM's proof was sent.
    Final,
}

/// What comes after a response.
pub(crate) enum Next {
    /// Send this frame.
    Send(Bytes),
    /// Logged in; the session ends after the time given, if any.
    Done(Option<Duration>),
}

impl Login {
    /// Begins: the machine and its first frame.
    pub(crate) fn begin(
        credentials: &Credentials,
        client_id: Arc<str>,
        correlation_id: i32,
    ) -> Result<(Self, Bytes), DialError> {
        let mechanism = credentials.mechanism;
        let login = Self { mechanism, client_id, sasl: credentials.start()?, state: State::Handshake };
        let mut message = SaslHandshakeRequest::default();
        message.mechanism = StrBytes::from_static_str(mechanism.as_str());
        let frame = api::encode_request(HANDSHAKE, correlation_id, &login.client_id, &message).map_err(bad)?;
        Ok((login, frame))
    }

    /// Takes the answer to the last frame; the next frame, if any, carries `correlation_id`.
    pub(crate) fn on_response(&mut self, frame: Bytes, correlation_id: i32) -> Result<Next, DialError> {
        match &self.state {
            State::Handshake => {
                let response = decode::<SaslHandshakeRequest>(HANDSHAKE, frame)?;
                match response.error_code {
                    0 => {}
                    code::UNSUPPORTED_SASL_MECHANISM => {
                        let enabled = response.mechanisms.iter().map(|m| printable(m)).collect();
                        return Err(DialError::Mechanism { wanted: self.mechanism.to_string(), enabled });
                    }
                    code::ILLEGAL_SASL_STATE => return Err(DialError::NoLoginHere),
                    code => return Err(DialError::Protocol(format!("SaslHandshake failed with error {code}"))),
                }
                let token = self.sasl.initial();
                // "n,,n=user,r=NONCE": the crate keeps its nonce to itself.
                let nonce = match self.mechanism {
                    Mechanism::Plain => String::new(),
                    _ => String::from_utf8_lossy(&token).rsplit(",r=").next().unwrap_or_default().to_owned(),
                };
                self.state = State::First { nonce };
                self.send(token, correlation_id)
            }
            State::First { nonce } => {
                let (token, lifetime) = self.token(frame)?;
                if self.mechanism == Mechanism::Plain {
                    return Ok(Next::Done(lifetime));
                }
                scram::check_server_first(&token, nonce).map_err(DialError::Protocol)?;
                let proof = self.sasl.response(&token).map_err(|e| DialError::Protocol(e.to_string()))?;
                self.state = State::Final;
                self.send(proof, correlation_id)
            }
            State::Final => {
                let (token, lifetime) = self.token(frame)?;
                if let Some(error) = token.strip_prefix(b"e=") {
                    return Err(self.refused(&String::from_utf8_lossy(error)));
                }
                self.sasl.success(&token).map_err(|_| DialError::ServerUnproven)?;
                Ok(Next::Done(lifetime))
            }
        }
    }

    fn send(&self, token: Vec<u8>, correlation_id: i32) -> Result<Next, DialError> {
        let mut message = SaslAuthenticateRequest::default();
        message.auth_bytes = Bytes::from(token);
        api::encode_request(AUTHENTICATE, correlation_id, &self.client_id, &message).map(Next::Send).map_err(bad)
    }

    fn token(&self, frame: Bytes) -> Result<(Bytes, Option<Duration>), DialError> {
        let response = decode::<SaslAuthenticateRequest>(AUTHENTICATE, frame)?;
        match response.error_code {
            0 => {
                let lifetime = u64::try_from(response.session_lifetime_ms).ok().filter(|ms| *ms > 0);
                Ok((response.auth_bytes, lifetime.map(Duration::from_millis)))
            }
            code::SASL_AUTHENTICATION_FAILED => Err(self.refused(response.error_message.as_deref().unwrap_or(""))),
            code => Err(DialError::Protocol(format!("SaslAuthenticate failed with error {code}"))),
        }
    }

    fn refused(&self, message: &str) -> DialError {
        DialError::Authentication { mechanism: self.mechanism.to_string(), message: printable(message) }
    }
}

fn decode<M: Request>(version: i16, frame: Bytes) -> Result<M::Response, DialError> {
    let (_, body) = api::split_response(M::KEY, version, frame).map_err(bad)?;
    api::decode_response::<M>(version, body).map_err(bad)
}

fn bad(error: DecodeError) -> DialError {
    DialError::Protocol(error.to_string())
}

/// A stranger's text in our messages: one line of bounded length.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How and when to log in again on a stream whose session the peer limits (KIP-368).
pub struct Reauthentication {
    credentials: Arc<Credentials>,
    client_id: Arc<str>,
    due: Instant,
}

impl Reauthentication {
    pub(crate) fn new(credentials: Arc<Credentials>, client_id: Arc<str>, lifetime: Duration) -> Self {
        let mut this = Self { credentials, client_id, due: Instant::now() };
        this.renew(lifetime);
        this
    }

    /// From here on it should be done before the next request; there is still time, about 5 to 15 % of the session's
    /// life.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Logs in again. Only between two frames, with no answer outstanding. Not cancel-safe: give the stream up if it
    /// does not end.
    ///
    /// # Errors
    /// As a first login; the stream is of no further use.
    pub async fn perform<R, W>(&mut self, frames: &mut FrameReader, from: &mut R, to: &mut W) -> Result<(), DialError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match log_in(&self.credentials, &self.client_id, frames, from, to).await? {
            Some(lifetime) => self.renew(lifetime),
            None => self.due = Instant::now() + Duration::from_secs(u64::from(u32::MAX)),
        }
        Ok(())
    }

    pub(crate) fn begin(&self, correlation_id: i32) -> Result<(Login, Bytes), DialError> {
        Login::begin(&self.credentials, Arc::clone(&self.client_id), correlation_id)
    }

    pub(crate) fn renew(&mut self, lifetime: Duration) {
        let (after, jitter) = RENEW_AFTER;
        let jitter = scram::random::<1>().map_or(0, |[b]| u32::from(b) % jitter);
        self.due = Instant::now() + lifetime.saturating_mul(after + jitter) / 100;
    }
}

impl fmt::Debug for Reauthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reauthentication").field("due", &self.due).finish_non_exhaustive()
    }
}

/// A whole login over a stream. Returns the session's lifetime, if it has one.
pub(crate) async fn log_in<R, W>(
    credentials: &Credentials,
    client_id: &Arc<str>,
    frames: &mut FrameReader,
    from: &mut R,
    to: &mut W,
) -> Result<Option<Duration>, DialError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut correlation_id = 0;
    let (mut login, mut frame) = Login::begin(credentials, Arc::clone(client_id), correlation_id)?;
    loop {
        to.write_all(&frame).await.map_err(DialError::of_login)?;
        to.flush().await.map_err(DialError::of_login)?;
        let Some(answer) = frames.frame(from).await.map_err(DialError::of_frame)? else {
            return Err(DialError::ClosedInLogin);
        };
        correlation_id += 1;
        match login.on_response(answer, correlation_id)? {
            Next::Send(next) => frame = next,
            Next::Done(lifetime) => return Ok(lifetime),
        }
    }
}
