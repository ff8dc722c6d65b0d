//! AlterUserScramCredentials and DescribeUserScramCredentials (`ScramControlManager`, `ScramImage`): users that the stock
//! `kafka-configs --entity-type users` makes. Kept salted only; listeners let them in from the next login on.

use crate::dispatch::Caller;
use crate::{ApiError, Broker, Operation};
use hawser_state::{ScramKey, State, StoredCredential};
use hawser_transport::{ScramCredential, ScramMechanism, ScramUsers};
use hawser_wire::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use hawser_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use hawser_wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use hawser_wire::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use hawser_wire::{ResponseError, StrBytes};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use tracing::{error, info};

/// `ScramControlManager.MAX_ITERATIONS`, and the least of RFC 7677.
const ITERATIONS: std::ops::RangeInclusive<i32> = 4096..=16384;
/// Credentials that are kept at most: about 400 bytes each in memory.
const CREDENTIALS_MAX: usize = 100_000;
/// A user's name and salt, in bytes: both come back in every login.
const NAME_BYTES_MAX: usize = 1024;
const SALT_BYTES: std::ops::RangeInclusive<usize> = 1..=256;

/// The stored SCRAM users, on the disk and as listeners ask for them; one a daemon.
pub struct StoredUsers {
    state: State,
    scram: ScramUsers,
    /// Held over a whole change, so that listeners follow the disk in the same order.
    changing: std::sync::Mutex<()>,
}

type Change = (ScramKey, Option<(ScramMechanism, ScramCredential)>);

impl StoredUsers {
    /// Reads the users.
    ///
    /// # Errors
    /// Which user is unreadable, and why.
    pub fn load(state: &State) -> Result<Self, String> {
        let scram = ScramUsers::new(*state.secret());
        for ((user, name), StoredCredential(text)) in state.scram_credentials() {
            let mechanism = mechanism_named(&name).ok_or_else(|| format!("user {user}: mechanism {name}"))?;
            let credential =
                ScramCredential::stored(mechanism, &text).unwrap_or_else(|| Err("not a credential".into()));
            scram.put(mechanism, &user, credential.map_err(|reason| format!("user {user}: {name}: {reason}"))?);
        }
        Ok(Self { state: state.clone(), scram, changing: std::sync::Mutex::default() })
    }

    /// For [`ServerSecurity::with_scram_users`](hawser_transport::ServerSecurity::with_scram_users).
    pub fn scram(&self) -> ScramUsers {
        self.scram.clone()
    }

    /// Blocks on fsync.
    fn change(&self, changes: Vec<Change>) -> Result<(), hawser_state::Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = changes.iter().map(|(key, to)| (key.clone(), to.as_ref().map(|(_, c)| stored(c)))).collect();
        self.state.change_scram_credentials(&rows)?;
        for ((user, name), to) in changes {
            match (to, mechanism_named(&name)) {
                (Some((mechanism, credential)), _) => self.scram.put(mechanism, &user, credential),
                (None, Some(mechanism)) => self.scram.remove(mechanism, &user),
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl Broker {
    pub(crate) async fn alter_user_scram_credentials(
        &self,
        caller: &Caller,
        request: AlterUserScramCredentialsRequest,
    ) -> AlterUserScramCredentialsResponse {
        let names = request.deletions.iter().map(|deletion| &deletion.name);
        let names: Vec<StrBytes> = names.chain(request.upsertions.iter().map(|to| &to.name)).cloned().collect();
        if let Err(error) = self.check_cluster(caller, Operation::Alter) {
            let refused = names.into_iter().map(|user| result(user, Err::<(), _>(error.clone())));
            return AlterUserScramCredentialsResponse::default().with_results(refused.collect());
        }
        let mut outcomes: BTreeMap<StrBytes, Result<Change, ApiError>> = BTreeMap::new();
        let mut add = |user: StrBytes, outcome: Result<Change, ApiError>| {
            let outcome = if outcomes.get(&user).is_some_and(Result::is_err) {
                return;
            } else if outcomes.contains_key(&user) {
                let message = "A user credential cannot be altered twice in the same request";
                Err(ApiError::new(ResponseError::DuplicateResource, message))
            } else {
                outcome
            };
            outcomes.insert(user, outcome);
        };
        for deletion in request.deletions {
            add(deletion.name.clone(), self.deletion(&deletion.name, deletion.mechanism));
        }
        for upsertion in request.upsertions {
            add(upsertion.name.clone(), self.upsertion(&upsertion));
        }
        let changes: Vec<Change> = outcomes.values().filter_map(|change| change.clone().ok()).collect();
        let written = self.write_users(caller, changes).await;
        let results = outcomes.into_iter().map(|(user, outcome)| result(user, outcome.and(written.clone())));
        AlterUserScramCredentialsResponse::default().with_results(results.collect())
    }

    fn deletion(&self, user: &str, mechanism: i8) -> Result<Change, ApiError> {
        let key = key(user, mechanism)?.0;
        if self.state.scram_credential(&key.0, &key.1).is_none() {
            let message = "Attempt to delete a user credential that does not exist";
            return Err(ApiError::new(ResponseError::ResourceNotFound, message));
        }
        Ok((key, None))
    }

    fn upsertion(&self, to: &ScramCredentialUpsertion) -> Result<Change, ApiError> {
        let unacceptable = |message: &str| ApiError::new(ResponseError::UnacceptableCredential, message);
        let (key, mechanism) = key(&to.name, to.mechanism)?;
        if to.iterations < *ITERATIONS.start() {
            return Err(unacceptable("Too few iterations"));
        }
        if !ITERATIONS.contains(&to.iterations) {
            return Err(unacceptable("Too many iterations"));
        }
        if !SALT_BYTES.contains(&to.salt.len()) || to.salted_password.is_empty() {
            return Err(unacceptable("The salt or the salted password is empty or too long"));
        }
        if self.state.scram_credentials_len() >= CREDENTIALS_MAX
            && self.state.scram_credential(&key.0, &key.1).is_none()
        {
            let message = format!("No room for more than {CREDENTIALS_MAX} credentials: delete some");
            return Err(ApiError::new(ResponseError::PolicyViolation, message));
        }
        let iterations = to.iterations.unsigned_abs();
        let credential =
            ScramCredential::of_salted_password(mechanism, &to.salted_password, to.salt.to_vec(), iterations);
        Ok((key, Some((mechanism, credential))))
    }

    async fn write_users(&self, caller: &Caller, changes: Vec<Change>) -> Result<(), ApiError> {
        let users = std::sync::Arc::clone(&self.users);
        let keys: Vec<ScramKey> = changes.iter().map(|(key, _)| key.clone()).collect();
        match tokio::task::spawn_blocking(move || users.change(changes)).await {
            Ok(Ok(())) => {
                info!(principal = caller.principal.as_str(), users = ?keys, "SCRAM credentials changed");
                Ok(())
            }
            Ok(Err(error)) => {
                error!(%error, "SCRAM credentials not written");
                Err(ApiError::new(ResponseError::KafkaStorageError, "the credentials could not be kept"))
            }
            Err(_) => Err(ApiError::new(ResponseError::UnknownServerError, "the write was not finished")),
        }
    }

    pub(crate) fn describe_user_scram_credentials(
        &self,
        caller: &Caller,
        request: DescribeUserScramCredentialsRequest,
    ) -> DescribeUserScramCredentialsResponse {
        let response = DescribeUserScramCredentialsResponse::default();
        if let Err(error) = self.check_cluster(caller, Operation::Describe) {
            let message = Some(StrBytes::from_string(error.message));
            return response.with_error_code(error.code.code()).with_error_message(message);
        }
        let mut known: BTreeMap<String, Vec<CredentialInfo>> = BTreeMap::new();
        for ((user, name), StoredCredential(text)) in self.state.scram_credentials() {
            let Some(mechanism) = mechanism_named(&name) else { continue };
            let Some(Ok(credential)) = ScramCredential::stored(mechanism, &text) else { continue };
            let info = CredentialInfo::default()
                .with_mechanism(code(mechanism))
                .with_iterations(i32::try_from(credential.iterations()).unwrap_or(i32::MAX));
            known.entry(user).or_default().push(info);
        }
        // User, and whether it was asked for more than once.
        let mut asked: BTreeMap<String, bool> = BTreeMap::new();
        match request.users.filter(|users| !users.is_empty()) {
            None => asked.extend(known.keys().map(|user| (user.clone(), false))),
            Some(users) => users.into_iter().for_each(|user| {
                asked.entry(user.name.to_string()).and_modify(|is_twice| *is_twice = true).or_insert(false);
            }),
        }
        let results = asked.into_iter().map(|(user, is_twice)| {
            let refused = |error: ResponseError, message: String| {
                DescribeUserScramCredentialsResult::default()
                    .with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from_string(message)))
            };
            let described = match known.remove(&user) {
                _ if is_twice => refused(
                    ResponseError::DuplicateResource,
                    format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}"),
                ),
                Some(infos) => DescribeUserScramCredentialsResult::default().with_credential_infos(infos),
                None => refused(
                    ResponseError::ResourceNotFound,
                    format!("Attempt to describe a user credential that does not exist: {user}"),
                ),
            };
            described.with_user(StrBytes::from_string(user))
        });
        response.with_results(results.collect())
    }

    /// There are no quotas here; `kafka-configs --describe --entity-type users` asks for them all the same.
    pub(crate) fn describe_client_quotas(
        &self,
        caller: &Caller,
        _request: &DescribeClientQuotasRequest,
    ) -> DescribeClientQuotasResponse {
        let response = DescribeClientQuotasResponse::default();
        match self.check_cluster(caller, Operation::DescribeConfigs) {
            Ok(()) => response.with_entries(Some(Vec::new())),
            Err(error) => response
                .with_error_code(error.code.code())
                .with_error_message(Some(StrBytes::from_string(error.message)))
                .with_entries(None),
        }
    }
}

fn result(user: StrBytes, outcome: Result<impl Sized, ApiError>) -> AlterUserScramCredentialsResult {
    let result = AlterUserScramCredentialsResult::default().with_user(user);
    match outcome {
        Ok(_) => result.with_error_message(None),
        Err(error) => {
            result.with_error_code(error.code.code()).with_error_message(Some(StrBytes::from_string(error.message)))
        }
    }
}

fn key(user: &str, mechanism: i8) -> Result<(ScramKey, ScramMechanism), ApiError> {
    if user.is_empty() || user.len() > NAME_BYTES_MAX {
        let message = if user.is_empty() { "Username must not be empty" } else { "Username is too long" };
        return Err(ApiError::new(ResponseError::UnacceptableCredential, message));
    }
    let known = [ScramMechanism::Sha256, ScramMechanism::Sha512].into_iter().find(|known| code(*known) == mechanism);
    let unknown = || ApiError::new(ResponseError::UnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    let known = known.ok_or_else(unknown)?;
    Ok(((user.to_owned(), name(known).to_owned()), known))
}

fn stored(credential: &ScramCredential) -> StoredCredential {
    StoredCredential(credential.to_stored())
}

/// `ScramMechanism.type`.
fn code(mechanism: ScramMechanism) -> i8 {
    match mechanism {
        ScramMechanism::Sha256 => 1,
        ScramMechanism::Sha512 => 2,
    }
}

fn name(mechanism: ScramMechanism) -> &'static str {
    match mechanism {
        ScramMechanism::Sha256 => "SCRAM-SHA-256",
        ScramMechanism::Sha512 => "SCRAM-SHA-512",
    }
}

fn mechanism_named(text: &str) -> Option<ScramMechanism> {
    [ScramMechanism::Sha256, ScramMechanism::Sha512].into_iter().find(|known| name(*known) == text)
}
