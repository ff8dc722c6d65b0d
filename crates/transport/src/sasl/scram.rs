//! SCRAM (RFC 5802, RFC 7677): keys as Kafka stores them, the server's two steps, and what a client must check about
//! the server's first message before it spends work on it.

use super::ScramUsers;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha256, Sha512};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// Fewest PBKDF2 rounds that either side accepts (Kafka's `ScramMechanism.minIterations`).
pub(super) const ITERATIONS_MIN: u32 = 4096;
/// Most rounds that a client does for a server: about 0.1 s. Kafka stores at most 16,384.
pub(super) const ITERATIONS_MAX: u32 = 131_072;
/// Salt that is made here, in bytes.
const SALT: usize = 24;
/// Random part of a nonce before base64, in bytes.
const NONCE: usize = 24;

/// A SCRAM mechanism, by its hash. Stronger ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
}

impl ScramMechanism {
    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length: this cannot fail.
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
            <M as Mac>::new_from_slice(key)
                .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
                .unwrap_or_default()
        }
        match self {
            Self::Sha256 => mac::<Hmac<Sha256>>(key, data),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, data),
        }
    }

    /// `Hi` of RFC 5802. Kafka takes passwords as UTF-8, without SASLprep (`ScramFormatter.normalize`).
    pub(super) fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                let mut out = vec![0; 32];
                pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
            Self::Sha512 => {
                let mut out = vec![0; 64];
                pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// What a server keeps of a password (Kafka's `ScramCredential`). No `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    iterations: u32,
}

impl ScramCredential {
    pub(super) fn derive(hash: ScramMechanism, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted_password(password.as_bytes(), &salt, iterations);
        Self::of_salted_password(hash, &salted, salt, iterations)
    }

    /// Keys of a password that its owner has salted already, as `AlterUserScramCredentials` carries it.
    pub fn of_salted_password(hash: ScramMechanism, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let stored_key = hash.digest(&hash.hmac(salted, b"Client Key"));
        Self { salt, stored_key, server_key: hash.hmac(salted, b"Server Key"), iterations }
    }

    /// Keys of a password, with a new random salt.
    pub(super) fn of_password(hash: ScramMechanism, password: &str) -> Result<Self, String> {
        Ok(Self::derive(hash, password, random::<SALT>()?.to_vec(), ITERATIONS_MIN))
    }

    /// Reads Kafka's stored form (`ScramCredentialUtils`): `salt=…,stored_key=…,server_key=…,iterations=…`.
    /// `None` if `text` is a password instead.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn stored(hash: ScramMechanism, text: &str) -> Option<Result<Self, String>> {
        let fields: HashMap<&str, &str> = text.split(',').filter_map(|f| f.split_once('=')).collect();
        let [salt, stored, server, iterations] =
            ["salt", "stored_key", "server_key", "iterations"].map(|name| fields.get(name).copied());
        if fields.len() != 4 {
            return None;
        }
        let (salt, stored, server, iterations) = (salt?, stored?, server?, iterations?);
        let read = |what, text: &str, length: Option<usize>| match STANDARD.decode(text) {
            Ok(bytes) if length.map_or(!bytes.is_empty(), |l| l == bytes.len()) => Ok(bytes),
            _ => Err(format!("{what} is not base64 of the right length")),
        };
        let keys = || {
            Ok(Self {
                salt: read("salt", salt, None)?,
                stored_key: read("stored_key", stored, Some(hash.length()))?,
                server_key: read("server_key", server, Some(hash.length()))?,
                iterations: match iterations.parse() {
                    Ok(n) if (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&n) => n,
                    _ => return Err(format!("iterations is not {ITERATIONS_MIN} to {ITERATIONS_MAX}")),
                },
            })
        };
        Some(keys())
    }

    /// Kafka's stored form, which [`stored`](Self::stored) reads: as secret as a password for whoever can guess many.
    pub fn to_stored(&self) -> String {
        let Self { salt, stored_key, server_key, iterations } = self;
        let [salt, stored_key, server_key] = [salt, stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
        format!("salt={salt},stored_key={stored_key},server_key={server_key},iterations={iterations}")
    }

    /// PBKDF2 rounds.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Length of the salt in bytes, and rounds: what a stranger can see of a credential.
    pub(super) fn shape(&self) -> Shape {
        (self.salt.len(), self.iterations)
    }

    /// Whether this is the credential of `password`; takes as long for a wrong one as for the right one.
    pub(super) fn is_of(&self, hash: ScramMechanism, password: &str) -> bool {
        let given = Self::derive(hash, password, self.salt.clone(), self.iterations);
        given.stored_key.ct_eq(&self.stored_key).into()
    }
}

/// Length of a salt in bytes, and rounds.
pub(super) type Shape = (usize, u32);

/// The users of one SCRAM mechanism that stand in the listener's properties.
pub(super) struct Directory {
    hash: ScramMechanism,
    users: HashMap<String, ScramCredential>,
    /// Shapes that occur, so that an invented user looks like a real one.
    shapes: BTreeSet<Shape>,
    /// Makes invented salts that stay the same from one attempt to the next.
    secret: [u8; 32],
}

impl Directory {
    pub(super) fn new(hash: ScramMechanism, users: HashMap<String, ScramCredential>, secret: [u8; 32]) -> Self {
        let shapes = users.values().map(ScramCredential::shape).collect();
        Self { hash, users, shapes, secret }
    }

    /// The user's keys: those in `stored` before those of the properties, as they were set later. Nobody's are invented,
    /// and no password opens them: one path for all.
    pub(super) fn keys(&self, stored: Option<&ScramUsers>, user: &str) -> ScramCredential {
        let invented = self.invent(stored, user);
        self.known(stored, user).unwrap_or(invented)
    }

    /// The user's keys, if it is one.
    pub(super) fn known(&self, stored: Option<&ScramUsers>, user: &str) -> Option<ScramCredential> {
        let stored = stored.and_then(|stored| stored.credential(self.hash, user));
        stored.or_else(|| self.users.get(user).cloned())
    }

    fn invent(&self, stored: Option<&ScramUsers>, user: &str) -> ScramCredential {
        let mut shapes = self.shapes.clone();
        shapes.extend(stored.into_iter().flat_map(|stored| stored.shapes(self.hash)));
        // The stored users look alike on every listener and after every restart; so must those that do not exist.
        let secret = stored.map_or(&self.secret, ScramUsers::secret);
        let seed = ScramMechanism::Sha512.hmac(secret, user.as_bytes());
        let pick = seed.first().map_or(0, |b| usize::from(*b)) % shapes.len().max(1);
        let (length, iterations) = shapes.into_iter().nth(pick).unwrap_or((SALT, ITERATIONS_MIN));
        let salt = seed.iter().copied().cycle().take(length).collect();
        // Random keys: a proof for them would be a preimage.
        let stored_key = self.hash.hmac(&self.secret, &seed);
        ScramCredential { salt, server_key: self.hash.hmac(&self.secret, &stored_key), stored_key, iterations }
    }
}

/// Why a SCRAM message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not a SCRAM message, or not in its place.
    Malformed(&'static str),
    /// Name or password is wrong: which one is not said.
    Credentials,
    /// An authorisation id that is not the user.
    AuthorizationId,
}

/// A server between its two messages.
pub(super) struct ServerExchange {
    hash: ScramMechanism,
    keys: ScramCredential,
    user: String,
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl ServerExchange {
    /// Takes `n,a=…,n=user,r=nonce` and answers with nonce, salt and iterations. `server_nonce` is printable and random.
    pub(super) fn first(
        directory: &Directory,
        stored: Option<&ScramUsers>,
        message: &[u8],
        server_nonce: &str,
    ) -> Result<(Self, String), Refusal> {
        let text = std::str::from_utf8(message).map_err(|_| Refusal::Malformed("first message is not UTF-8"))?;
        let malformed = Refusal::Malformed("first message is not n,[a=…],n=USER,r=NONCE");
        let mut parts = text.splitn(3, ',');
        let (Some("n" | "y"), Some(authorization), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed);
        };
        // Extensions may follow the nonce; one in front (m=…) would have to be understood.
        let mut fields = bare.split(',');
        let name = fields.next().and_then(|f| f.strip_prefix("n=")).ok_or(malformed)?;
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).filter(|n| printable(n)).ok_or(malformed)?;
        if fields.any(|f| f.starts_with("m=") || !f.contains('=')) {
            return Err(malformed);
        }
        let user = unescape(name).filter(|u| !u.is_empty()).ok_or(malformed)?;
        match authorization.strip_prefix("a=").map(unescape) {
            None if authorization.is_empty() => {}
            Some(Some(id)) if id == user => {}
            Some(Some(_)) => return Err(Refusal::AuthorizationId),
            _ => return Err(malformed),
        }
        let keys = directory.keys(stored, &user);
        let nonce = format!("{nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let gs2_header = text.get(..text.len() - bare.len()).unwrap_or_default().to_owned();
        let exchange = Self {
            hash: directory.hash,
            keys,
            user,
            gs2_header,
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        };
        Ok((exchange, server_first))
    }

    /// Takes `c=…,r=nonce,p=proof`; returns the user and the server's own proof, `v=…`.
    pub(super) fn last(self, message: &[u8]) -> Result<(String, String), Refusal> {
        let text = std::str::from_utf8(message).map_err(|_| Refusal::Malformed("final message is not UTF-8"))?;
        let malformed = Refusal::Malformed("final message is not c=…,r=NONCE,p=PROOF");
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|f| f.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).ok_or(malformed)?;
        if STANDARD.decode(binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err(Refusal::Malformed("channel binding differs from the first message"));
        }
        // Exactly, as Kafka 4.0 does: clients that append their nonce twice fail here.
        if nonce != self.nonce {
            return Err(Refusal::Malformed("nonce of the final message differs from the server's"));
        }
        let proof = STANDARD.decode(proof).map_err(|_| malformed)?;
        let auth_message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let client_signature = self.hash.hmac(&self.keys.stored_key, auth_message.as_bytes());
        let client_key: Vec<u8> = client_signature.iter().zip(&proof).map(|(a, b)| a ^ b).collect();
        let whole = proof.len() == client_signature.len();
        let matches = self.hash.digest(&client_key).ct_eq(&self.keys.stored_key);
        let server_signature = self.hash.hmac(&self.keys.server_key, auth_message.as_bytes());
        if whole && bool::from(matches) {
            Ok((self.user, format!("v={}", STANDARD.encode(server_signature))))
        } else {
            Err(Refusal::Credentials)
        }
    }
}

/// What a client checks about `r=…,s=…,i=…` before it derives anything: the nonce continues ours (else the exchange
/// could be replayed), and the rounds are neither too few to protect the password nor a way to keep us busy.
pub(super) fn check_server_first(message: &[u8], client_nonce: &str) -> Result<(), String> {
    let text = std::str::from_utf8(message).map_err(|_| "the server's first SCRAM message is not UTF-8")?;
    let mut fields = text.split(',');
    let mut field = |name| fields.next().and_then(|f| f.strip_prefix(name));
    let (Some(nonce), Some(salt), Some(iterations)) = (field("r="), field("s="), field("i=")) else {
        return Err("the server's first SCRAM message is not r=NONCE,s=SALT,i=ROUNDS".to_owned());
    };
    if nonce.strip_prefix(client_nonce).is_none_or(str::is_empty) {
        return Err("the server's SCRAM nonce does not continue ours".to_owned());
    }
    if STANDARD.decode(salt).map_or(true, |salt| salt.is_empty()) {
        return Err("the server's SCRAM salt is not base64".to_owned());
    }
    match iterations.parse::<u32>() {
        Ok(n) if (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&n) => {}
        _ => return Err(format!("the server's SCRAM rounds are not {ITERATIONS_MIN} to {ITERATIONS_MAX}")),
    }
    // A later r=, s= or i= would mean something else to the next parser.
    if fields.any(|f| ["r=", "s=", "i=", "m="].iter().any(|known| f.starts_with(known))) {
        return Err("the server's first SCRAM message repeats a field".to_owned());
    }
    Ok(())
}

/// Random bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no random bytes: {e}"))?;
    Ok(bytes)
}

/// A fresh nonce.
pub(super) fn nonce() -> Result<String, String> {
    Ok(STANDARD.encode(random::<NONCE>()?))
}

/// A user name inside a SCRAM message: `=2C` for a comma, `=3D` for an equals sign.
pub(super) fn escape(user: &str) -> String {
    let mut out = String::new();
    for c in user.chars() {
        let _ = match c {
            ',' => out.write_str("=2C"),
            '=' => out.write_str("=3D"),
            c => out.write_char(c),
        };
    }
    out
}

fn unescape(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        let (c, after) = match after.split_at_checked(2)? {
            ("2C", after) => (',', after),
            ("3D", after) => ('=', after),
            _ => return None,
        };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|b| matches!(b, 0x21..=0x2b | 0x2d..=0x7e))
}

#[cfg(test)]
mod tests;
