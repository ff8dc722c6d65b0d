//! Names and passwords that come in outside of SASL (HTTP Basic): the same users as on the Kafka listeners.

use super::scram::{self, ScramCredential, ScramMechanism};
use super::{SaslServer, ScramUsers};
use crate::listener::Principal;
use crate::security::ServerSecurity;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Derivations at a time, each a few milliseconds of one core: whoever guesses leaves the other cores alone.
const DERIVATIONS_MAX: usize = 2;
/// Logins that are remembered, so that a client which sends its password with every request costs one derivation; about
/// 200 bytes each. Beyond it all are forgotten, which costs derivations only.
const REMEMBERED_MAX: usize = 1024;

/// Checks names and passwords against the users of SASL listeners: who may log in on one of them is let in here. One
/// for a daemon; it takes as long for an unknown name as for a wrong password.
pub struct Passwords {
    listeners: Vec<(Arc<SaslServer>, Option<ScramUsers>)>,
    /// `connection.failed.authentication.delay.ms`, the longest of any listener.
    failed_login_delay: Duration,
    derivations: Semaphore,
    secret: [u8; 32],
    /// Keyed digest of name and password → the stored key that it opened.
    remembered: Mutex<HashMap<Vec<u8>, ScramCredential>>,
}

/// Whose credential a password is held against.
struct Held {
    mechanism: ScramMechanism,
    credential: ScramCredential,
}

impl Passwords {
    /// Over the users of `listeners`; those without SASL have none.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new<'a>(listeners: impl IntoIterator<Item = &'a ServerSecurity>) -> Result<Self, String> {
        let mut passwords = Self {
            listeners: Vec::new(),
            failed_login_delay: Duration::ZERO,
            derivations: Semaphore::new(DERIVATIONS_MAX),
            secret: scram::random()?,
            remembered: Mutex::default(),
        };
        for listener in listeners {
            let delay = listener.parts().limits.failed_login_delay;
            passwords.failed_login_delay = passwords.failed_login_delay.max(delay);
            let server = listener.parts().sasl.clone();
            passwords.listeners.extend(server.map(|server| (server, listener.scram_users().cloned())));
        }
        Ok(passwords)
    }

    /// Who this is, if the password is right; `peer` is where the request came from. A user with several SCRAM
    /// credentials needs the password of the strongest. A wrong name or password is answered late. Cancel-safe.
    pub async fn authenticate(&self, user: &str, password: &str, peer: IpAddr) -> Option<Principal> {
        let principal = || Principal::of_login(user, peer);
        if user.is_empty() || password.is_empty() {
            return None;
        }
        // Every listener is asked, whatever the others said.
        let is_plain = self.listeners.iter().fold(false, |is, (server, _)| is | server.is_plain_user(user, password));
        if is_plain || self.opens_scram(user, password).await {
            return Some(principal());
        }
        sleep(self.failed_login_delay).await;
        None
    }

    async fn opens_scram(&self, user: &str, password: &str) -> bool {
        let Some((Held { mechanism, credential }, is_user)) = self.held(user) else { return false };
        let digest = ScramMechanism::Sha256.hmac(&self.secret, format!("{user}\0{password}").as_bytes());
        if is_user && self.remembered(|all| all.get(&digest) == Some(&credential)) {
            return true;
        }
        // Never closed, hence never an error.
        let Ok(_turn) = self.derivations.acquire().await else { return false };
        let (password, held) = (password.to_owned(), credential.clone());
        let matches = tokio::task::spawn_blocking(move || held.is_of(mechanism, &password)).await.unwrap_or(false);
        if !(is_user && matches) {
            return false;
        }
        self.remembered(|all| {
            if all.len() >= REMEMBERED_MAX {
                all.clear();
            }
            all.insert(digest, credential);
        });
        true
    }

    /// The user's strongest credential, or an invented one, and which of both it is; `None` if no listener enables SCRAM.
    fn held(&self, user: &str) -> Option<(Held, bool)> {
        let directories = || {
            let all = self.listeners.iter();
            all.flat_map(|(server, stored)| server.scram().map(move |(mechanism, of)| (mechanism, of, stored.as_ref())))
        };
        let known = directories().filter_map(|(mechanism, directory, stored)| {
            Some(Held { mechanism, credential: directory.known(stored, user)? })
        });
        let known = known.max_by_key(|held| held.mechanism);
        let (mechanism, directory, stored) = directories().min_by_key(|(mechanism, ..)| Reverse(*mechanism))?;
        let invented = Held { mechanism, credential: directory.keys(stored, user) };
        let is_user = known.is_some();
        Some((known.unwrap_or(invented), is_user))
    }

    fn remembered<T>(&self, with: impl FnOnce(&mut HashMap<Vec<u8>, ScramCredential>) -> T) -> T {
        with(&mut self.remembered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecurityProtocol;
    use hawser_link::Properties;
    use std::net::Ipv4Addr;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn listener(text: &str, stored: &ScramUsers) -> ServerSecurity {
        let text = format!("connection.failed.authentication.delay.ms=0\n{text}");
        let properties = Properties::parse("test", &text);
        let security = ServerSecurity::from_properties(&properties, "front", SecurityProtocol::SaslPlaintext).unwrap();
        security.with_scram_users(stored.clone())
    }

    #[tokio::test]
    async fn users_of_every_listener_come_in_with_their_own_password_only() {
        let stored = ScramUsers::new([3; 32]);
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let listeners = [
            listener(
                &format!(
                    "sasl.enabled.mechanisms=PLAIN\n\
                     listener.name.front.plain.sasl.jaas.config={plain} required user_ann=\"plain\";\n"
                ),
                &stored,
            ),
            listener(
                &format!(
                    "sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
                     listener.name.front.scram-sha-256.sasl.jaas.config={scram} required user_bob=\"file\";\n"
                ),
                &stored,
            ),
        ];
        let passwords = Passwords::new(&listeners).unwrap();
        let credential = |password| ScramCredential::derive(ScramMechanism::Sha512, password, vec![1; 26], 4096);
        stored.put(ScramMechanism::Sha512, "eve", credential("kept"));
        let table = [
            ("ann", "plain", true),
            ("ann", "file", false),
            ("ann", "", false),
            ("bob", "file", true),
            ("bob", "plain", false),
            ("eve", "kept", true),
            ("eve", "kep", false),
            ("nobody", "kept", false),
            ("", "", false),
        ];
        // Twice: the second time what was right is remembered.
        for (user, password, is_right) in table.iter().chain(&table) {
            let principal = passwords.authenticate(user, password, PEER).await;
            assert_eq!(principal.is_some(), *is_right, "{user} {password}");
            let Some(principal) = principal else { continue };
            assert_eq!((principal.as_str(), principal.host()), (format!("User:{user}").as_str(), PEER));
        }
        // A changed password counts at once, and so does a removal, whatever is remembered.
        stored.put(ScramMechanism::Sha512, "eve", credential("new"));
        assert!(passwords.authenticate("eve", "kept", PEER).await.is_none());
        assert!(passwords.authenticate("eve", "new", PEER).await.is_some());
        stored.remove(ScramMechanism::Sha512, "eve");
        assert!(passwords.authenticate("eve", "new", PEER).await.is_none());
        // The stored credential is the stronger one, so it counts from now on.
        stored.put(ScramMechanism::Sha512, "bob", credential("kept"));
        assert!(passwords.authenticate("bob", "file", PEER).await.is_none());
        assert!(passwords.authenticate("bob", "kept", PEER).await.is_some());
    }

    #[tokio::test]
    async fn without_users_nobody_comes_in() {
        let passwords = Passwords::new(&[ServerSecurity::plaintext()]).unwrap();
        assert!(passwords.authenticate("ann", "plain", PEER).await.is_none());
    }
}
