//! The server's side of a login: what may be asked before it, who may come in, and answers that do not tell a wrong name
//! from a wrong password (Kafka's `SaslServerAuthenticator`).

use super::scram::{self, Directory, Refusal, ScramCredential, ScramMechanism, ServerExchange};
use super::{Mechanism, ScramUsers, code};
use bytes::Bytes;
use hawser_wire::api::{self, RequestFrame};
use hawser_wire::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use hawser_wire::{DecodeError, Request, StrBytes};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Longest name and longest password of PLAIN, in bytes (RFC 4616 speaks of 255 octets; API secrets are longer).
const PLAIN_PART_MAX: usize = 4096;

/// Users as they are read from properties.
#[derive(Default)]
pub(crate) struct Users {
    plain: HashMap<String, String>,
    scram: HashMap<Mechanism, HashMap<String, ScramCredential>>,
}

impl Users {
    /// Adds a user with a password or, for SCRAM, Kafka's stored form of it.
    pub(crate) fn add(&mut self, mechanism: Mechanism, name: &str, secret: &str) -> Result<(), String> {
        if name.is_empty() || secret.is_empty() {
            return Err("name and secret must not be empty".to_owned());
        }
        let Some(hash) = hash(mechanism) else {
            self.plain.insert(name.to_owned(), secret.to_owned());
            return Ok(());
        };
        let keys = match ScramCredential::stored(hash, secret) {
            Some(keys) => keys?,
            None => ScramCredential::of_password(hash, secret)?,
        };
        self.scram.entry(mechanism).or_default().insert(name.to_owned(), keys);
        Ok(())
    }
}

fn hash(mechanism: Mechanism) -> Option<ScramMechanism> {
    match mechanism {
        Mechanism::Plain => None,
        Mechanism::ScramSha256 => Some(ScramMechanism::Sha256),
        Mechanism::ScramSha512 => Some(ScramMechanism::Sha512),
    }
}

/// Mechanisms and users of a listener; shared by its connections. No `Debug`.
pub(crate) struct SaslServer {
    enabled: Vec<Mechanism>,
    /// Names to keyed digests of passwords: all of one length, so that comparing tells nothing.
    plain: HashMap<String, Vec<u8>>,
    scram: HashMap<Mechanism, Directory>,
    secret: [u8; 32],
    lifetime: Option<Duration>,
}

impl SaslServer {
    pub(crate) fn new(enabled: Vec<Mechanism>, users: Users, lifetime: Option<Duration>) -> Result<Self, String> {
        let secret = scram::random::<32>()?;
        let digest = |password: &String| ScramMechanism::Sha256.hmac(&secret, password.as_bytes());
        let plain = users.plain.iter().map(|(name, password)| (name.clone(), digest(password))).collect();
        let mut stored = users.scram;
        let scram = enabled
            .iter()
            .filter_map(|m| Some((*m, Directory::new(hash(*m)?, stored.remove(m).unwrap_or_default(), secret))))
            .collect();
        Ok(Self { enabled, plain, scram, secret, lifetime })
    }

    /// Whether PLAIN would let this user in. Takes as long for an unknown one as for a wrong password.
    pub(super) fn is_plain_user(&self, name: &str, password: &str) -> bool {
        let given = ScramMechanism::Sha256.hmac(&self.secret, password.as_bytes());
        // An unknown user is compared too: with something that no password's digest equals but by chance of 2^-256.
        let nobody = ScramMechanism::Sha256.hmac(&given, &self.secret);
        given.ct_eq(self.plain.get(name).unwrap_or(&nobody)).into()
    }

    /// The users of its properties under each SCRAM mechanism that it enables.
    pub(super) fn scram(&self) -> impl Iterator<Item = (ScramMechanism, &Directory)> {
        self.scram.iter().filter_map(|(mechanism, directory)| Some((hash(*mechanism)?, directory)))
    }

    fn check_plain(&self, token: &[u8]) -> Result<String, Refusal> {
        let malformed = Refusal::Malformed("token is not [authzid]NUL name NUL password");
        let text = std::str::from_utf8(token).map_err(|_| malformed)?;
        let parts: Vec<&str> = text.splitn(4, '\0').collect();
        let [authorization, name, password] = parts[..] else { return Err(malformed) };
        if name.is_empty() || password.is_empty() || name.len().max(password.len()) > PLAIN_PART_MAX {
            return Err(malformed);
        }
        if !self.is_plain_user(name, password) {
            return Err(Refusal::Credentials);
        }
        if !authorization.is_empty() && authorization != name {
            return Err(Refusal::AuthorizationId);
        }
        Ok(name.to_owned())
    }
}

/// What to do with a connection after a frame.
pub(crate) enum Verdict {
    /// Send this and wait for the next.
    Reply(Bytes),
    /// Logged in.
    Accepted {
        /// To be sent first.
        reply: Bytes,
        /// The name, without `User:`.
        user: String,
        /// When the session ends, if it does.
        lifetime: Option<Duration>,
    },
    /// Close it.
    Refused {
        /// To be sent first, if anything.
        reply: Option<Bytes>,
        /// For our log.
        reason: String,
        /// Whether somebody may be guessing passwords, so that the answer is held back.
        guess: bool,
    },
}

/// One connection's login, or a repetition of it.
pub(crate) struct ServerLogin {
    server: Arc<SaslServer>,
    stored: Option<ScramUsers>,
    api_versions: Arc<ApiVersionsResponse>,
    state: State,
    /// Who logged in here before, and how: neither may change (KIP-368).
    before: Option<(Mechanism, String)>,
    mechanism: Option<Mechanism>,
}

enum State {
    Handshake,
    First(Mechanism),
    Final(Box<ServerExchange>),
    Over,
}

impl ServerLogin {
    pub(crate) fn new(
        server: Arc<SaslServer>,
        stored: Option<ScramUsers>,
        api_versions: Arc<ApiVersionsResponse>,
    ) -> Self {
        Self { server, stored, api_versions, state: State::Handshake, before: None, mechanism: None }
    }

    /// Whether the login is over and a handshake would begin it again.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes one request.
    pub(crate) fn on(&mut self, frame: &RequestFrame) -> Verdict {
        let outcome = match ApiKey::try_from(frame.api_key) {
            Ok(ApiKey::ApiVersions) if !matches!(self.state, State::Over) => self.versions(frame),
            Ok(ApiKey::SaslHandshake) => self.handshake(frame),
            Ok(ApiKey::SaslAuthenticate) => self.authenticate(frame),
            _ => Ok(refused(None, format!("request with api key {} before the login", frame.api_key))),
        };
        outcome.unwrap_or_else(|e| refused(None, e.to_string()))
    }

    fn versions(&self, frame: &RequestFrame) -> Result<Verdict, DecodeError> {
        answer_versions(&self.api_versions, frame).map(Verdict::Reply)
    }

    fn handshake(&mut self, frame: &RequestFrame) -> Result<Verdict, DecodeError> {
        if !matches!(self.state, State::Handshake | State::Over) {
            return Ok(refused(None, "a second SaslHandshake within one login".to_owned()));
        }
        if frame.api_version == 0 {
            // Version 0 is followed by tokens without Kafka's frame (before KIP-152).
            return Ok(refused(None, "SaslHandshake version 0 is not served: the client is older than 1.0".to_owned()));
        }
        let request = frame.decode::<SaslHandshakeRequest>()?;
        let mut response = SaslHandshakeResponse::default();
        response.mechanisms = self.server.enabled.iter().map(|m| StrBytes::from_static_str(m.as_str())).collect();
        let wanted = request.mechanism.parse::<Mechanism>().ok().filter(|m| self.server.enabled.contains(m));
        let changed = self.before.as_ref().is_some_and(|(before, _)| wanted.is_some_and(|m| m != *before));
        let Some(mechanism) = wanted.filter(|_| !changed) else {
            response.error_code = code::UNSUPPORTED_SASL_MECHANISM;
            let reply = reply::<SaslHandshakeRequest>(frame, &response)?;
            let name: String = request.mechanism.chars().take(40).filter(|c| !c.is_control()).collect();
            let why = if changed { "differs from the session's first" } else { "is not enabled" };
            return Ok(refused(Some(reply), format!("mechanism '{name}' {why}")));
        };
        self.state = State::First(mechanism);
        self.mechanism = Some(mechanism);
        reply::<SaslHandshakeRequest>(frame, &response).map(Verdict::Reply)
    }

    fn authenticate(&mut self, frame: &RequestFrame) -> Result<Verdict, DecodeError> {
        let request = frame.decode::<SaslAuthenticateRequest>()?;
        let token = &request.auth_bytes;
        let outcome = match std::mem::replace(&mut self.state, State::Over) {
            State::First(Mechanism::Plain) => self.server.check_plain(token).map(|user| (user, String::new())),
            State::First(mechanism) => {
                let Some(directory) = self.server.scram.get(&mechanism) else {
                    return Ok(refused(None, format!("{mechanism} has no users")));
                };
                let nonce = match scram::nonce() {
                    Ok(nonce) => nonce,
                    Err(e) => return Ok(refused(None, e)),
                };
                match ServerExchange::first(directory, self.stored.as_ref(), token, &nonce) {
                    Ok((exchange, challenge)) => {
                        self.state = State::Final(Box::new(exchange));
                        let mut response = SaslAuthenticateResponse::default();
                        response.auth_bytes = Bytes::from(challenge);
                        return reply::<SaslAuthenticateRequest>(frame, &response).map(Verdict::Reply);
                    }
                    Err(e) => Err(e),
                }
            }
            State::Final(exchange) => exchange.last(token),
            State::Handshake | State::Over => {
                return Ok(refused(None, "SaslAuthenticate without SaslHandshake".to_owned()));
            }
        };
        match outcome {
            Ok((user, token)) => self.accept(frame, user, token),
            Err(refusal) => self.refuse(frame, refusal),
        }
    }

    fn accept(&mut self, frame: &RequestFrame, user: String, token: String) -> Result<Verdict, DecodeError> {
        let Some(mechanism) = self.mechanism else {
            return Ok(refused(None, "login without a mechanism".to_owned()));
        };
        if let Some((_, before)) = &self.before
            && *before != user
        {
            let message = "Cannot change principals during re-authentication";
            let reply = self.failure(frame, message)?;
            return Ok(refused(Some(reply), format!("session of '{before}' logged in again as '{user}'")));
        }
        self.before = Some((mechanism, user.clone()));
        let lifetime = self.server.lifetime;
        let mut response = SaslAuthenticateResponse::default();
        response.auth_bytes = Bytes::from(token);
        if frame.api_version >= 1 {
            response.session_lifetime_ms = lifetime.map_or(0, |l| i64::try_from(l.as_millis()).unwrap_or(i64::MAX));
        }
        let reply = reply::<SaslAuthenticateRequest>(frame, &response)?;
        Ok(Verdict::Accepted { reply, user, lifetime })
    }

    fn refuse(&self, frame: &RequestFrame, refusal: Refusal) -> Result<Verdict, DecodeError> {
        let mechanism = self.mechanism.map_or("SASL", Mechanism::as_str);
        let (message, reason) = match refusal {
            // Kafka's words for PLAIN and SCRAM.
            Refusal::Credentials if mechanism == "PLAIN" => {
                ("Authentication failed: Invalid username or password".to_owned(), "wrong name or password".to_owned())
            }
            Refusal::Credentials => (
                format!(
                    "Authentication failed during authentication due to invalid credentials with SASL mechanism \
                     {mechanism}"
                ),
                "wrong name or password".to_owned(),
            ),
            Refusal::AuthorizationId => (
                "Authentication failed: Client requested an authorization id that is different from username"
                    .to_owned(),
                "authorization id differs from the name".to_owned(),
            ),
            Refusal::Malformed(what) => (
                format!("Authentication failed during authentication due to invalid {mechanism} message: {what}"),
                format!("bad {mechanism} message: {what}"),
            ),
        };
        let reply = self.failure(frame, &message)?;
        Ok(Verdict::Refused { reply: Some(reply), reason, guess: true })
    }

    fn failure(&self, frame: &RequestFrame, message: &str) -> Result<Bytes, DecodeError> {
        let mut response = SaslAuthenticateResponse::default();
        response.error_code = code::SASL_AUTHENTICATION_FAILED;
        response.error_message = Some(StrBytes::from_string(message.to_owned()));
        reply::<SaslAuthenticateRequest>(frame, &response)
    }
}

/// Answers ApiVersions with `table`; an unknown version gets the v0 error that tells what is spoken (KIP-511).
pub(crate) fn answer_versions(table: &ApiVersionsResponse, frame: &RequestFrame) -> Result<Bytes, DecodeError> {
    let (_, newest) = api::supported_versions::<ApiVersionsRequest>().unwrap_or((0, 0));
    if (0..=newest).contains(&frame.api_version) {
        return reply::<ApiVersionsRequest>(frame, table);
    }
    let mut response = ApiVersionsResponse::default();
    response.error_code = code::UNSUPPORTED_VERSION;
    response.api_keys = table.api_keys.iter().filter(|k| k.api_key == ApiVersionsRequest::KEY).cloned().collect();
    api::encode_response::<ApiVersionsRequest>(0, frame.correlation_id, &response)
}

fn reply<M: Request>(frame: &RequestFrame, response: &M::Response) -> Result<Bytes, DecodeError> {
    api::encode_response::<M>(frame.api_version, frame.correlation_id, response)
}

fn refused(reply: Option<Bytes>, reason: String) -> Verdict {
    Verdict::Refused { reply, reason, guess: false }
}

#[cfg(test)]
mod tests;
